"""One SQL statement for many rows.

Python's sqlite3 gives up the interpreter's lock for each row that `executemany` writes, and waits
for it again, twice for each statement. Beside a busy trio thread that took 240 µs a stanza;
statements of up to 64 rows took 45, and 16 instead of 23 with nobody beside it.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from bridge.journal.delivery import Attempt

_MOST: Final = 64
_STEP: Final = 16
STATEMENTS: Final = _STEP - 1 + _MOST // _STEP
"""How many there are of each `Bulk`: few enough to be kept prepared, at 2 KB a row."""


class Bulk:
    """A statement that takes a list of rows: its text before them, of each of them, and after."""

    def __init__(self, head: str, row: str, tail: str = "") -> None:
        # By how many rows it takes: any number up to a step, then whole steps, so that two
        # statements do for what is usual.
        self._texts = {
            size: head + ",".join([row] * size) + tail
            for size in (*range(1, _STEP), *range(_STEP, _MOST + 1, _STEP))
        }

    def run(self, database: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Do it for all rows, in order."""
        begin, rest = 0, len(rows)
        while rest:
            size = rest if rest < _STEP else min(rest - rest % _STEP, _MOST)
            values = list(chain.from_iterable(rows[begin : begin + size]))
            database.execute(self._texts[size], values)
            begin += size
            rest -= size


def encode_attempts(attempts: Iterable[Attempt]) -> str:
    """Write attempts as JSON, without the outer brackets."""
    return ",".join(json.dumps([one.at, one.result]) for one in attempts)


def decode_attempts(text: str) -> Iterator[Attempt]:
    """Read what `encode_attempts` wrote, or several of it with commas between."""
    return (Attempt(at, result) for at, result in json.loads(f"[{text}]"))
