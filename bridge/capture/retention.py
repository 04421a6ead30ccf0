"""The directory of captures, and the disk space that one run may use.

Files of other runs are never touched.
"""

import stat
import threading
from pathlib import Path
from typing import Final

from attrs import field, frozen

from bridge.capture.compression import Packing

MIB: Final = 1024 * 1024
MIN_BYTES: Final = 64 * 1024
ROTATE_BYTES: Final = 64 * MIB
MAX_BYTES: Final = 1024 * MIB
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class CaptureDirectoryError(Exception):
    """The directory cannot be used; the message names it, the reason, and the remedy."""


@frozen
class CaptureOptions:
    """Settings for capturing. A file has about `rotate_bytes`, and all files of this run together
    have at most `max_bytes`, both counted on disk, after compression.
    """

    directory: Path
    rotate_bytes: int = ROTATE_BYTES
    max_bytes: int = MAX_BYTES
    packing: Packing = "none"
    redacted: bool = False

    def prepare(self) -> str | None:
        """Create the directory with mode 0700 if it is missing. Return a warning for the operator
        if other users have access to it.

        Raises:
            CaptureDirectoryError: if it cannot be created, or is not a directory. Whether files can
                be created in it is not checked.
        """
        path = self.directory
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return _check(path)
        except FileNotFoundError:
            raise CaptureDirectoryError(f"{path.parent} does not exist; create it first") from None
        except OSError as error:
            raise CaptureDirectoryError(f"{path} cannot be created ({error.strerror})") from None
        return None


def _check(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError as error:  # a dangling link
        raise CaptureDirectoryError(f"{path} cannot be used ({error.strerror})") from None
    if not stat.S_ISDIR(mode):
        raise CaptureDirectoryError(f"{path} is not a directory")
    if mode & _OTHERS:
        return f"other users have access to {path} (not to the files in it): run chmod 700 on it"
    return None


@frozen
class _Kept:
    path: Path
    size_bytes: int


@frozen
class Retention:
    """The files of one run, of all components. The oldest are deleted to make room for new ones.

    Thread-safe. A file that is being written counts in full, as `rotate_bytes`.
    """

    max_bytes: int
    rotate_bytes: int
    _kept: list[_Kept] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _open: list[Path] = field(factory=list, init=False)

    @classmethod
    def of(cls, options: CaptureOptions, components: int) -> "Retention":
        """Return a retention for so many components; files are smaller if they have to share."""
        share = options.max_bytes // (2 * components)
        return cls(options.max_bytes, min(options.rotate_bytes, share))

    def opened(self, path: Path) -> list[Path]:
        """Register a new file, and return the files to delete for it."""
        with self._lock:
            self._open.append(path)
            room = self.max_bytes - self.rotate_bytes * len(self._open)
            total = sum(one.size_bytes for one in self._kept)
            gone = []
            while self._kept and total > room:
                oldest = self._kept.pop(0)
                total -= oldest.size_bytes
                gone.append(oldest.path)
            return gone

    def closed(self, path: Path, size_bytes: int) -> None:
        """Register the final size of a file."""
        with self._lock:
            self._open.remove(path)
            self._kept.append(_Kept(path, size_bytes))
