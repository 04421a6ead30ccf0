"""Capture files: plain or compressed by suffix (`.gz`, `.zst`), and read line by line.

Records that were flushed survive a crash. A compressed file that a crash has truncated yields all
its complete lines, and is then reported as cut off. No file is read into memory as a whole: memory
is bounded by the longest line. Every failure is a `CaptureFileError`.
"""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from bridge.capture.compression import DamagedFile, Unpacked, make_packer, packing_found, packing_of
from bridge.capture.format import (
    MAX_LINE_BYTES,
    CaptureError,
    Header,
    Record,
    encode_header,
    encode_record,
    is_capture,
    read,
)

STDIN: Final = Path("-")
_BLOCK_BYTES: Final = 256 * 1024


class CaptureFileError(Exception):
    """A file cannot be read or written as a capture; `line` is the line at fault, if any."""

    def __init__(self, path: Path, why: str, line: int | None = None) -> None:
        super().__init__(f"{shown(path)}: {why}")
        self.path = path
        self.why = why
        self.line = line


def shown(path: Path) -> str:
    """Return the name of a file for people."""
    return "standard input" if path == STDIN else str(path)


class Source:
    """A file open for reading, capture or not, decompressed by suffix; see `open_source`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.size_bytes = _size_of(file)
        """Size of the file on disk; None for a pipe."""
        packing = packing_of(path)
        self._unpacked = None if packing == "none" else Unpacked(file, packing)
        self._buffered = _peekable(file if self._unpacked is None else self._unpacked)

    @property
    def position_bytes(self) -> int:
        """Position in the file on disk, comparable with `size_bytes`; 0 for a pipe."""
        return self._file.tell() if self.size_bytes is not None else 0

    @property
    def is_whole(self) -> bool:
        """Whether the compressed data was complete; valid at the end."""
        return self._unpacked is None or self._unpacked.is_whole

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; empty at the end.

        Raises:
            CaptureFileError: if they cannot be read or decompressed.
        """
        try:
            return self._buffered.read(size)
        except (DamagedFile, OSError) as error:
            self._fail(error)

    def begins(self) -> bytes:
        """Return the first bytes without consuming them. Errors as `read`."""
        try:
            return self._buffered.peek(64)[:64]
        except (DamagedFile, OSError) as error:
            self._fail(error)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines; one over the limit comes in pieces that exceed it. Errors as `read`."""
        readline = self._buffered.readline
        while True:
            try:
                line = readline(MAX_LINE_BYTES + 1)
            except (DamagedFile, OSError) as error:
                self._fail(error)
            if not line:
                return
            yield line

    def _fail(self, error: DamagedFile | OSError) -> NoReturn:
        why = str(error) if isinstance(error, DamagedFile) else _unreadable(error)
        raise CaptureFileError(self.path, why) from None


class CaptureReader:
    """A capture open for reading. Iterate over it once for the records, then check `cut`."""

    def __init__(self, source: Source) -> None:
        """Read the header.

        Raises:
            CaptureFileError: if this is not a capture, or one of another version.
        """
        self._source = source
        found = packing_found(source.begins())
        if found != "none":
            raise CaptureFileError(source.path, f"it is compressed: its name must end in .{found}")
        try:
            self._capture = read(source.lines())
        except CaptureError as error:
            self._fail(error)
        self.header = self._capture.header

    @property
    def path(self) -> Path:
        return self._source.path

    @property
    def size_bytes(self) -> int | None:
        """Size of the file on disk; None for a pipe."""
        return self._source.size_bytes

    @property
    def position_bytes(self) -> int:
        """Position in the file on disk; 0 for a pipe."""
        return self._source.position_bytes

    @property
    def cut(self) -> str | None:
        """Description of a truncated end, valid once all records were read; None if complete."""
        if self._capture.cut is not None:
            return f"line {self._capture.cut} is incomplete: the file was cut off there"
        return (
            None if self._source.is_whole else "the file was cut off after its last complete line"
        )

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in order.

        Raises:
            CaptureFileError: if a line is not a record, or cannot be read.
        """
        try:
            yield from self._capture
        except CaptureError as error:
            self._fail(error)

    def _fail(self, error: CaptureError) -> NoReturn:
        raise CaptureFileError(self._source.path, str(error), error.line) from None


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file for reading, decompressed by suffix; `-` is standard input (never decompressed).

    Raises:
        CaptureFileError: if it does not exist, is a directory, or may not be read.
    """
    if path == STDIN:
        yield Source(path, sys.stdin.buffer)
        return
    try:
        file = path.open("rb", buffering=_BLOCK_BYTES)
    except OSError as error:
        raise CaptureFileError(path, _unreadable(error)) from None
    with file:
        yield Source(path, file)


@contextmanager
def open_capture(path: Path) -> Iterator[CaptureReader]:
    """Open a capture for reading. Errors as `open_source` and `CaptureReader`."""
    with open_source(path) as source:
        yield CaptureReader(source)


def looks_like_capture(source: Source) -> bool:
    """Return whether a file begins like a capture, without consuming it. Errors as `read`."""
    return is_capture(source.begins())


class CaptureWriter:
    """A new file of mode 0600, compressed by suffix. Existing files are never overwritten.

    Records are buffered until `flush`, or until the buffer is full. Call `close` at the end, or
    `abandon` to give up. Every method raises `CaptureFileError` with the system's reason; the file
    then holds everything that was written before.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self._put_bytes = 0
        self._packing = packing_of(path)
        self._packer = make_packer(self._packing)
        self._held = bytearray(encode_header(header))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CaptureFileError(path, _unwritable(error)) from None
        self._file: io.RawIOBase | None = io.FileIO(descriptor, "w")

    @property
    def size_bytes(self) -> int:
        """Size of the file, including the buffer if the file is not compressed."""
        return self._put_bytes + (len(self._held) if self._packing == "none" else 0)

    def write(self, record: Record) -> None:
        """Write a record."""
        self.write_encoded(encode_record(record))

    def write_encoded(self, lines: bytes | bytearray) -> None:
        """Write records that are encoded already."""
        self._held += lines
        if len(self._held) > _BLOCK_BYTES:
            self._put(self._packer.pack(self._take()))

    def flush(self) -> None:
        """Pass everything to the operating system, so that the last record can be read."""
        self._put(self._packer.pack(self._take()) + self._packer.flush())

    def close(self) -> None:
        """Flush and finish the file."""
        try:
            self._put(self._packer.pack(self._take()) + self._packer.end())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file without writing the buffer."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise CaptureFileError(self.path, _unwritable(error)) from None

    def _take(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest) or 0
                self._put_bytes += written
                rest = rest[written:]
        except OSError as error:
            raise CaptureFileError(self.path, _unwritable(error)) from None


def _size_of(file: BinaryIO) -> int | None:
    try:
        status = os.fstat(file.fileno())
    except io.UnsupportedOperation:  # in memory
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _peekable(file: BinaryIO | io.RawIOBase) -> io.BufferedReader:
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[arg-type]  # BytesIO reads into a buffer too


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror})"


def _unwritable(error: OSError) -> str:
    return f"it cannot be written ({error.strerror})"
