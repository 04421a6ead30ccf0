"""Streaming compression and decompression with gzip and zstd, chosen by a file's suffix.

Knows nothing about the content. A truncated file yields everything that can be decompressed, and
then ends; `Unpacked.is_whole` is then false. zstd is imported only when it is needed.
"""

import io
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Packing = Literal["none", "gz", "zst"]
_MAGIC: Final[dict[bytes, Packing]] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
_READ_BYTES: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 1  # on captures, gzip's level 6 takes three times as long and saves a seventh


class DamagedFile(Exception):
    """The content of a file is damaged, or not compressed as its suffix says."""


class Packer(Protocol):
    """Compresses. Everything packed before a `flush` can be unpacked without the rest."""

    def pack(self, data: bytes) -> bytes:
        """Compress bytes and return the output that is ready, perhaps none."""
        ...

    def flush(self) -> bytes:
        """Return everything that is held back."""
        ...

    def end(self) -> bytes:
        """Return everything that is held back, and the end of the file."""
        ...


class _Unpacker(Protocol):
    """Decompresses one member of a file."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def packing_of(path: Path) -> Packing:
    """Return the compression that the suffix of `path` stands for."""
    match path.suffix:
        case ".gz":
            return "gz"
        case ".zst":
            return "zst"
    return "none"


def packing_found(beginning: bytes) -> Packing:
    """Return the compression of a file, detected from its first bytes."""
    return next((name for magic, name in _MAGIC.items() if beginning.startswith(magic)), "none")


def make_packer(packing: Packing) -> Packer:
    """Return a packer for one file."""
    match packing:
        case "gz":
            return _Gzip()
        case "zst":
            return _Zstd()
    return _Plain()


class Unpacked(io.RawIOBase):
    """The decompressed content of a file, of one or more members. `readinto` raises `DamagedFile`
    if it cannot be decompressed.
    """

    def __init__(self, file: BinaryIO, packing: Packing) -> None:
        self._file = file
        self._packing = packing
        self._unpacker = _unpacker(packing)
        self._begun = False  # whether any byte of the member has been read
        self._members = 0
        self.is_whole = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        while True:
            packed = b""
            if self._unpacker.eof:
                packed = self._unpacker.unused_data
                self._unpacker, self._begun = _unpacker(self._packing), False
                self._members += 1
            if not packed and self._unpacker.needs_input:
                packed = self._file.read(_READ_BYTES)
                if not packed:
                    self.is_whole = not self._begun
                    return b""
            if not self._begun and not self._members and packing_found(packed) != self._packing:
                raise DamagedFile(
                    f"its name ends in .{self._packing}, but its content does not match"
                )
            self._begun = True
            if data := self._unpacker.decompress(packed, size):
                return data


def _unpacker(packing: Packing) -> _Unpacker:
    return _Gunzip() if packing == "gz" else _Unzstd()


class _Gunzip:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        inflater = self._inflater
        try:
            out = inflater.decompress(inflater.unconsumed_tail + data, max_length)
        except zlib.error:
            raise DamagedFile("the gzip data is damaged") from None
        self.needs_input = len(out) < max_length and not inflater.unconsumed_tail
        return out


class _Unzstd:
    def __init__(self) -> None:
        self._module = _zstd()
        self._inner = self._module.ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    @property
    def needs_input(self) -> bool:
        return bool(self._inner.needs_input)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return bytes(self._inner.decompress(data, max_length))
        except self._module.ZstdError:
            raise DamagedFile("the zstd data is damaged") from None


class _Plain:
    def pack(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""


class _Gzip:
    def __init__(self) -> None:
        self._deflater = zlib.compressobj(_LEVEL, wbits=_GZIP)

    def pack(self, data: bytes) -> bytes:
        return self._deflater.compress(data)

    def flush(self) -> bytes:
        return self._deflater.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._deflater.flush()


class _Zstd:
    def __init__(self) -> None:
        module = _zstd()
        parameter = module.CompressionParameter
        options = {parameter.compression_level: _LEVEL, parameter.checksum_flag: 1}
        self._inner = module.ZstdCompressor(options=options)

    def pack(self, data: bytes) -> bytes:
        return bytes(self._inner.compress(data))

    def flush(self) -> bytes:
        return bytes(self._inner.flush(self._inner.FLUSH_BLOCK))

    def end(self) -> bytes:
        return bytes(self._inner.flush())


def _zstd() -> Any:
    """Return the zstd module of Python 3.14, or its backport."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
