"""The write-ahead log of a journal, and its bound.

SQLite empties the log only while nobody reads what is in it. A reader that stays, such as `sqlite3`
with an open transaction, has it grow by some 25 MB/s under load, until the disk is full.
"""

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bridge.journal.sqlite.file import explained, holders
from bridge.journal.store import JournalError

CHECK_EVERY_S: Final = 0.1


class WriteAheadLog:
    """The log of an open database."""

    def __init__(
        self,
        database: sqlite3.Connection,
        file: Path,
        limit_bytes: int,
        now: Callable[[], float],
    ) -> None:
        """`now` is a clock in s."""
        self._database = database
        self._file = file
        self._log = file.with_name(f"{file.name}-wal")
        self._limit_bytes = limit_bytes
        self._now = now
        self._checked_at = -math.inf

    def check(self) -> None:
        """Empty the log if it is over its limit. Do nothing if that was checked just now.

        Raises:
            JournalError: if a reader prevents it.
        """
        now = self._now()
        if now - self._checked_at < CHECK_EVERY_S:
            return
        self._checked_at = -math.inf
        if self._over_limit() and not self.empty():
            readers = ", ".join(holders(self._file)) or "another process"
            raise JournalError(
                f"the log of {self._file} has grown to {self._limit_bytes // 2**20} MiB, because"
                f" it is being read by {readers}",
                "end that read: the log cannot be emptied meanwhile",
            )
        self._checked_at = now

    def empty(self) -> bool:
        """Write the log back into the database, and return whether it is empty now. Does not wait
        for readers.

        Raises:
            JournalError: if the disk or the file is at fault.
        """
        with explained(self._file):
            [[timeout_ms]] = self._database.execute("PRAGMA busy_timeout")
            self._database.execute("PRAGMA busy_timeout = 0")
            try:
                [[busy, *_]] = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._database.execute(f"PRAGMA busy_timeout = {timeout_ms}")
        return not busy

    def _over_limit(self) -> bool:
        try:
            return self._log.stat().st_size > self._limit_bytes
        except OSError:  # `OpenedFiles` tells of that
            return False
