"""The log of a journal: a file beside the tables to which batches are appended.

A batch in the log is one system call, and gives the interpreter's lock away once; as a transaction
of SQLite it is about ten of each. The tables say where in the file the batches begin that they do
not have (`Position`): folding the log into them (`store`) is one transaction, which moves that
place to the end of the file. At `LIMIT_BYTES` it moves back to the beginning.

A frame is its length, a checksum and its content. The checksum begins with the generation, which
each fold increases, so whatever was written to the same place in an earlier one is not valid.
The first frame that is not valid is the end: it was being written when the process was killed.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from bridge.journal.sqlite.file import explain_os
from bridge.journal.store import JournalError

LIMIT_BYTES: Final = 16 * 1024 * 1024
_MAGIC: Final = b"XMPBLOG1"
_ID_BYTES: Final = 16
BEGIN: Final = len(_MAGIC) + _ID_BYTES
"""Where the first frame begins."""
_FRAME: Final = struct.Struct("<II")
_GENERATION: Final = struct.Struct("<Q")
_STEP: Final = 5 * 1024
"""The checksum of more bytes would give the interpreter's lock away."""


@frozen
class Position:
    """Where the batches begin that the tables do not have."""

    generation: int = 1
    begin: int = BEGIN


class BatchLog:
    """An open log. After an error nothing of the batch counts, and the next one takes its place."""

    def __init__(self, file: Path, id: bytes, position: Position, *, is_synced: bool) -> None:
        """Open the log of the journal `id`, or create one. `is_synced`: a batch that was appended
        survives the loss of power.

        Raises:
            JournalError: if that fails, or it is another journal's.
        """
        self.file = file
        self._is_synced = is_synced
        self.is_new = False
        """Whether there was none."""
        try:
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                self._identify(id)
            except (OSError, JournalError):
                os.close(self._fd)
                raise
        except OSError as error:
            raise explain_os(error, file) from error
        self.move(position)

    def _identify(self, id: bytes) -> None:
        if os.fstat(self._fd).st_mode & 0o077:
            os.fchmod(self._fd, 0o600)
        head = os.pread(self._fd, BEGIN, 0)
        if head != _MAGIC + id:
            if len(head) == BEGIN and head.startswith(_MAGIC):
                raise JournalError(
                    f"{self.file} belongs to another journal", "put the one of this journal back"
                )
            if len(head) == BEGIN:
                raise JournalError(f"{self.file} is not a journal's log", "move it away")
            self.is_new = True
            os.pwrite(self._fd, _MAGIC + id, 0)
            if self._is_synced:
                os.fsync(self._fd)
                _sync_directory(self.file.parent)

    @property
    def is_full(self) -> bool:
        """Whether the next batch should begin at the beginning of the file."""
        return self.end >= LIMIT_BYTES

    def after(self) -> Position:
        """Return the position behind all batches, or at the beginning if the file `is_full`."""
        begin = BEGIN if self.is_full else self.end
        return Position(self._generation + 1, begin)

    def move(self, position: Position) -> None:
        """Append at a position from now on, which the tables have."""
        self._generation, self.end = position.generation, position.begin
        self._seed = zlib.crc32(_GENERATION.pack(position.generation))

    def append(self, content: bytes) -> None:
        """Append a batch.

        Raises:
            JournalError: if it could not be written.
        """
        frame = _FRAME.pack(len(content), self._checksum(content)) + content
        try:
            written = os.pwrite(self._fd, frame, self.end)
            while written < len(frame):  # almost no room is left, or a signal
                written += os.pwrite(self._fd, frame[written:], self.end + written)
            if self._is_synced:
                os.fdatasync(self._fd)
        except OSError as error:
            self._invalidate()
            raise explain_os(error, self.file) from error
        self.end += len(frame)

    def _invalidate(self) -> None:
        """Overwrite the head of a frame that may be whole, though it counts as not written."""
        try:
            os.pwrite(self._fd, bytes(_FRAME.size), self.end)
        except OSError:
            # Nothing can be written: it is overwritten by the next batch, if there is one.
            return

    def read(self) -> Iterator[bytes]:
        """Read all batches from the position on, and append behind them from now on.

        Raises:
            JournalError: if the file cannot be read.
        """
        try:
            size = os.fstat(self._fd).st_size
            while self.end + _FRAME.size <= size:
                head = os.pread(self._fd, _FRAME.size, self.end)
                length, checksum = _FRAME.unpack(head)
                if not 0 < length <= size - self.end - _FRAME.size:
                    return
                content = os.pread(self._fd, length, self.end + _FRAME.size)
                if self._checksum(content) != checksum:
                    return
                self.end += _FRAME.size + length
                yield content
        except OSError as error:
            raise explain_os(error, self.file) from error

    def _checksum(self, content: bytes) -> int:
        checksum, view = self._seed, memoryview(content)
        for begin in range(0, len(content), _STEP):
            checksum = zlib.crc32(view[begin : begin + _STEP], checksum)
        return checksum

    def close(self, *, remove: bool) -> None:
        """Close the file. `remove`: the tables have all of it."""
        os.close(self._fd)
        if remove:
            self.file.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
