"""Where captures are put: the directory, and how much of its disk one run may take.

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
    """The directory cannot be used; the message says which, why, and what helps."""


@frozen
class CaptureOptions:
    """What is recorded, and where to. A file has about `rotate_bytes`, all files of this run
    together have at most `max_bytes`, both as they lie on the disk.
    """

    directory: Path
    rotate_bytes: int = ROTATE_BYTES
    max_bytes: int = MAX_BYTES
    packing: Packing = "none"
    redacted: bool = False

    def prepare(self) -> str | None:
        """Make the directory, of mode 0700, if it is missing; give a warning for the operator
        where others can read it.

        Raises:
            CaptureDirectoryError: it cannot be made, or is no directory. Whether files can be made
                in it shows with the first one.
        """
        path = self.directory
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return _check(path)
        except FileNotFoundError:
            raise CaptureDirectoryError(f"{path.parent} is not there; make it first") from None
        except OSError as error:
            raise CaptureDirectoryError(f"{path} cannot be made ({error.strerror})") from None
        return None


def _check(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError as error:  # a link to nowhere
        raise CaptureDirectoryError(f"{path} cannot be used ({error.strerror})") from None
    if not stat.S_ISDIR(mode):
        raise CaptureDirectoryError(f"{path} is no directory")
    if mode & _OTHERS:
        return f"others can look into {path} (the files are for their owner alone): chmod 700"
    return None


@frozen
class _Kept:
    path: Path
    size_bytes: int


@frozen
class Retention:
    """The files of one run, all components together: the oldest make room for new ones.

    For several threads. A file that is being written counts in full, as `rotate_bytes`.
    """

    max_bytes: int
    rotate_bytes: int
    _kept: list[_Kept] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _open: list[Path] = field(factory=list, init=False)

    @classmethod
    def of(cls, options: CaptureOptions, components: int) -> "Retention":
        """Make one; where the bound leaves less for each component, its files are smaller."""
        share = options.max_bytes // (2 * components)
        return cls(options.max_bytes, min(options.rotate_bytes, share))

    def opened(self, path: Path) -> list[Path]:
        """Take note of a new file, and give those that are to be deleted for it."""
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
        """Take note that a file is done."""
        with self._lock:
            self._open.remove(path)
            self._kept.append(_Kept(path, size_bytes))
