"""Attempts as a column: JSON without its outer brackets, which makes appending a concatenation."""

import json
from collections.abc import Iterable, Iterator

from bridge.journal.store import Attempt


def encode_attempts(attempts: Iterable[Attempt]) -> str:
    """Write attempts as JSON, without the outer brackets."""
    return ",".join(json.dumps([one.at, one.result]) for one in attempts)


def decode_attempts(text: str) -> Iterator[Attempt]:
    """Read what `encode_attempts` wrote, or several of it with commas between."""
    return (Attempt(at, result) for at, result in json.loads(f"[{text}]"))
