"""One SQL statement for many rows.

Python's sqlite3 releases the interpreter's lock, and waits for it again, for each row that
`executemany` writes, and twice for each statement. Beside a busy trio thread, `executemany` took
240 µs a stanza, and statements of up to 64 rows 45 µs; alone, they took 23 and 16 µs.
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
"""Statements of each `Bulk`: few enough to be kept prepared, at 2 KB a row."""


class Bulk:
    """A statement for a list of rows: the text before them, for each of them, and after them."""

    def __init__(self, head: str, row: str, tail: str = "") -> None:
        # By the number of rows: any below a step, then multiples of a step. So two statements
        # are enough for the usual lists.
        self._texts = {
            size: head + ",".join([row] * size) + tail
            for size in (*range(1, _STEP), *range(_STEP, _MOST + 1, _STEP))
        }

    def run(self, database: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Execute the statement for all rows, in order."""
        begin, rest = 0, len(rows)
        while rest:
            size = rest if rest < _STEP else min(rest - rest % _STEP, _MOST)
            values = list(chain.from_iterable(rows[begin : begin + size]))
            database.execute(self._texts[size], values)
            begin += size
            rest -= size


def encode_attempts(attempts: Iterable[Attempt]) -> str:
    """Encode attempts as JSON without the outer brackets."""
    return ",".join(json.dumps([one.at, one.result]) for one in attempts)


def decode_attempts(text: str) -> Iterator[Attempt]:
    """Decode a text of `encode_attempts`, or several of them joined by commas."""
    return (Attempt(at, result) for at, result in json.loads(f"[{text}]"))
