"""gzip and zstd by a file's ending: bytes out of a packed file, and into one.

Nothing here knows what the bytes are. A packed file that has been cut gives what is in it, as far
as it goes, and then just ends: `Unpacked.is_whole` tells. zstd is imported where it is asked for.
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
_LEVEL: Final = 1  # of captures, gzip's 6 takes thrice the time and saves a seventh


class DamagedFile(Exception):
    """What is in a file cannot have been packed as its name says."""


class Packer(Protocol):
    """Packs; what was given before a `flush` can be unpacked without what comes after."""

    def pack(self, data: bytes) -> bytes:
        """Take bytes and give packed ones, perhaps later."""
        ...

    def flush(self) -> bytes:
        """Give all that is held back."""
        ...

    def end(self) -> bytes:
        """Give all that is held back, and the end of the file."""
        ...


class _Unpacker(Protocol):
    """One member of a packed file."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def packing_of(path: Path) -> Packing:
    """Tell by its name how a file is packed."""
    match path.suffix:
        case ".gz":
            return "gz"
        case ".zst":
            return "zst"
    return "none"


def packing_found(beginning: bytes) -> Packing:
    """Tell by its first bytes how a file is packed."""
    return next((name for magic, name in _MAGIC.items() if beginning.startswith(magic)), "none")


def make_packer(packing: Packing) -> Packer:
    """Make what packs one file."""
    match packing:
        case "gz":
            return _Gzip()
        case "zst":
            return _Zstd()
    return _Plain()


class Unpacked(io.RawIOBase):
    """What is in a packed file, in one member or several. `readinto` raises `DamagedFile`."""

    def __init__(self, file: BinaryIO, packing: Packing) -> None:
        self._file = file
        self._packing = packing
        self._unpacker = _unpacker(packing)
        self._begun = False  # whether the member has any byte yet
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
                raise DamagedFile(f"its name ends in .{self._packing}, but it is not packed so")
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
            raise DamagedFile("it is damaged: this is no gzip") from None
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
            raise DamagedFile("it is damaged: this is no zstd") from None


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
    """Give the module of Python 3.14, or its backport."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
