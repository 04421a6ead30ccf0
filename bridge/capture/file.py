"""Captures as files: opened by their ending (plain, `.gz`, `.zst`), read line by line, written so
that what is flushed survives a crash. What cannot be read or written is a `CaptureFileError`.

A compressed file that a crash has cut gives all its whole lines, and then counts as cut. Nothing is
read whole: memory is bounded by the longest line.
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
    """A file cannot be read or written as a capture: which, and why; `line` where it is a line's
    fault.
    """

    def __init__(self, path: Path, why: str, line: int | None = None) -> None:
        super().__init__(f"{shown(path)}: {why}")
        self.path = path
        self.why = why
        self.line = line


def shown(path: Path) -> str:
    """Name a file for people."""
    return "standard input" if path == STDIN else str(path)


class Source:
    """A file that is read, capture or not, unpacked by its ending; see `open_source`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.size_bytes = _size_of(file)
        """How large the file is, as it lies there; None for a pipe."""
        packing = packing_of(path)
        self._unpacked = None if packing == "none" else Unpacked(file, packing)
        self._buffered = _peekable(file if self._unpacked is None else self._unpacked)

    @property
    def position_bytes(self) -> int:
        """How much of the file has been read, to compare with `size_bytes`; 0 for a pipe."""
        return self._file.tell() if self.size_bytes is not None else 0

    @property
    def is_whole(self) -> bool:
        """Whether, at the end, what is packed was all there."""
        return self._unpacked is None or self._unpacked.is_whole

    def read(self, size: int) -> bytes:
        """Give at most that many bytes; none at the end.

        Raises:
            CaptureFileError: they cannot be read, or not be unpacked.
        """
        try:
            return self._buffered.read(size)
        except (DamagedFile, OSError) as error:
            self._fail(error)

    def begins(self) -> bytes:
        """Give the first bytes without reading on; errors as `read`."""
        try:
            return self._buffered.peek(64)[:64]
        except (DamagedFile, OSError) as error:
            self._fail(error)

    def lines(self) -> Iterator[bytes]:
        """Give the lines; of one over the limit, as much as shows that. Errors as `read`."""
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
    """A capture that is being read. Iterate over it once, for the records; then look at `cut`."""

    def __init__(self, source: Source) -> None:
        """Raises: CaptureFileError: it is no capture, or one of another version."""
        self._source = source
        found = packing_found(source.begins())
        if found != "none":
            raise CaptureFileError(source.path, f"it is packed: let its name end in .{found}")
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
        """How large the file is; None for a pipe."""
        return self._source.size_bytes

    @property
    def position_bytes(self) -> int:
        """How much of the file has been read."""
        return self._source.position_bytes

    @property
    def cut(self) -> str | None:
        """What is missing at the end, for people, once all records were read; None for nothing."""
        if self._capture.cut is not None:
            return f"line {self._capture.cut} is not whole: the file was cut there"
        return None if self._source.is_whole else "the file was cut behind its last whole line"

    def __iter__(self) -> Iterator[Record]:
        """Give the records in order.

        Raises:
            CaptureFileError: a line is none, or cannot be read.
        """
        try:
            yield from self._capture
        except CaptureError as error:
            self._fail(error)

    def _fail(self, error: CaptureError) -> NoReturn:
        raise CaptureFileError(self._source.path, str(error), error.line) from None


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file for reading, unpacked by its ending; `-` is standard input (never unpacked).

    Raises:
        CaptureFileError: there is none, it is a directory, or must not be read.
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
    """Open a capture for reading; errors as `open_source` and `CaptureReader`."""
    with open_source(path) as source:
        yield CaptureReader(source)


def looks_like_capture(source: Source) -> bool:
    """Tell whether a file begins as a capture does; nothing is read of it. Errors as `read`."""
    return is_capture(source.begins())


class CaptureWriter:
    """A new file of mode 0600, packed by its ending; a file that is there already stays as it is.

    What is written is held back until `flush`, or until there is much of it. `close` it, and, where
    it is given up, `abandon` it. Everything raises `CaptureFileError`, which says what the disk
    says; the file is then as far as it went.
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
        """How large the file is, or will be, without what is held back and not yet packed."""
        return self._put_bytes + (len(self._held) if self._packing == "none" else 0)

    def write(self, record: Record) -> None:
        """Write a record."""
        self.write_encoded(encode_record(record))

    def write_encoded(self, lines: bytes | bytearray) -> None:
        """Write records that are lines already."""
        self._held += lines
        if len(self._held) > _BLOCK_BYTES:
            self._put(self._packer.pack(self._take()))

    def flush(self) -> None:
        """Hand all that was written to the operating system, readable to the last record."""
        self._put(self._packer.pack(self._take()) + self._packer.flush())

    def close(self) -> None:
        """Flush, and end the file."""
        try:
            self._put(self._packer.pack(self._take()) + self._packer.end())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file without writing what is held back."""
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
