"""Whether a journal's files are still those that were opened.

SQLite writes into the files that it has opened, also after they were deleted or replaced, or their
disk was unmounted. Everything would seem well, and nothing would be left after a crash.
"""

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bridge.journal.store import JournalError

CHECK_EVERY_S: Final = 1.0


class OpenedFiles:
    """The files of an open journal, by device and inode, as they are when this is made.

    An inode is not used again while it is open, so a file that was recreated has another one.
    """

    def __init__(self, files: Iterable[Path], now: Callable[[], float]) -> None:
        """`now` is a clock in s. Files that do not exist are left out."""
        self._now = now
        found = ((str(file.absolute()), _identity(str(file))) for file in files)
        self._identities = {file: identity for file, identity in found if identity is not None}
        self._checked_at = now()

    def check(self, *, is_probe: bool) -> None:
        """Compare the files with those that were opened, unless this is not a probe, and they were
        found to be the same within the last `CHECK_EVERY_S`: it takes up to 20 µs.

        Raises:
            JournalError: if one is missing or another.
        """
        now = self._now()
        if now - self._checked_at < CHECK_EVERY_S and not is_probe:
            return
        self._checked_at = -math.inf
        for file, identity in self._identities.items():
            if _identity(file) != identity:
                raise JournalError(
                    f"{file} is not the file that was opened: it was deleted, moved or replaced, or"
                    " its disk was unmounted",
                    "put it back, or restart the bridge: it then begins with what is there",
                )
        self._checked_at = now


def _identity(file: str) -> tuple[int, int] | None:
    """Return the device and inode of a file; None if it is missing, or has no link any more."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_nlink else None
