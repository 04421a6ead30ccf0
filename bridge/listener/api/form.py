"""A multipart form (RFC 7578), read part by part as it comes, and files too large for memory.

Fields of a form have no length of their own, and an upload service must know a size before. So a
file is kept until its end has come: in memory if it is small, else in a temporary file without a
name, which is gone with the request.
"""

import tempfile
from collections import deque
from collections.abc import AsyncIterator
from typing import IO, Final

import trio
from attrs import define, field
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from bridge.listener.problem import Problem

SPOOL_BYTES: Final = 1024 * 1024
"""How much of a file is kept in memory."""
PIECE_BYTES: Final = 64 * 1024
HEAD_LIMIT_BYTES: Final = 8 * 1024
BOUNDARY_LIMIT: Final = 70  # RFC 2046 §5.1.1
_NOT_A_FORM: Final = "The body is not a valid multipart form."


@define
class Part:
    """A part of a form. Its content must be read before the next part is."""

    name: str
    file_name: str
    media_type: str
    _form: "Form" = field(repr=False)

    def __aiter__(self) -> "Part":
        return self

    async def __anext__(self) -> bytes:
        data = await self._form.next_data()
        if data is None:
            raise StopAsyncIteration
        return data

    async def read(self, limit_bytes: int, too_long: Problem) -> bytes:
        """Return the content. Raises `too_long` if it is longer than `limit_bytes`."""
        content = bytearray()
        async for data in self:
            content += data
            if len(content) > limit_bytes:
                raise too_long
        return bytes(content)


class Form:
    """Reads a form. Pieces of the body are parsed only when something is missing."""

    def __init__(self, content_type: str, pieces: AsyncIterator[bytes]) -> None:
        """Raises `Problem` 400 if the content type has no valid boundary."""
        self._pieces = pieces
        self._events: deque[Part | bytes | None] = deque()
        self._is_over = False
        self._head: dict[str, bytes] = {}
        self._name = self._value = b""
        self._head_bytes = 0
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        try:
            if not 0 < len(boundary) <= BOUNDARY_LIMIT:
                raise FormParserError
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_name,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_head,
                    "on_part_data": self._on_data,
                    "on_part_end": lambda: self._events.append(None),
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise Problem(400, detail="The Content-Type has no valid boundary.") from None

    async def next_part(self) -> Part | None:
        """Return the next part; None after the last one.

        Raises:
            Problem: 400 if the form is malformed or cut off; or by the pieces.
        """
        while True:
            event = await self._next()
            if event is None and self._is_over and not self._events:
                return None
            if isinstance(event, Part):
                return event

    async def next_data(self) -> bytes | None:
        """Return what comes next of the part that is being read; None at its end.

        Raises:
            Problem: 400 if the form is malformed or cut off; or by the pieces.
        """
        event = await self._next()
        assert not isinstance(event, Part)
        return event

    async def _next(self) -> Part | bytes | None:
        while not self._events:
            if self._is_over:
                return None
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                raise Problem(400, detail="The multipart form is cut off.") from None
            try:
                self._parser.write(piece)
            except FormParserError:
                raise Problem(400, detail=_NOT_A_FORM) from None
        return self._events.popleft()

    # --- what the parser calls

    def _on_part(self) -> None:
        self._head, self._name, self._value, self._head_bytes = {}, b"", b"", 0

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._count(end - start)

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._count(end - start)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT_BYTES:
            raise FormParserError

    def _on_header(self) -> None:
        self._head[self._name.decode("latin-1").lower()] = self._value
        self._name = self._value = b""

    def _on_head(self) -> None:
        kind, options = parse_options_header(self._head.get("content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise FormParserError
        name, file_name = (
            options.get(key, b"").decode(errors="replace") for key in (b"name", b"filename")
        )
        media = self._head.get("content-type", b"").decode("latin-1")
        self._events.append(Part(name, file_name, media, self))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_end(self) -> None:
        self._is_over = True


class Spool:
    """A file that is written once, then read once. Use it as a context."""

    def __init__(self) -> None:
        self.size = 0
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    async def write(self, data: bytes) -> None:
        """Add to the file. Raises `Problem` 507 if the disk takes no more."""
        self.size += len(data)
        self._buffer += data
        if len(self._buffer) >= SPOOL_BYTES:
            await self._flush()

    async def rewind(self) -> None:
        """Read from the beginning from now on. Raises `Problem` 507 as `write` does."""
        if self._file is not None:
            await self._flush()
            await trio.to_thread.run_sync(self._file.seek, 0)

    def __aiter__(self) -> "Spool":
        return self

    async def __anext__(self) -> bytes:
        if self._file is not None:
            piece = await trio.to_thread.run_sync(self._file.read, PIECE_BYTES)
        else:
            piece = bytes(self._buffer[:PIECE_BYTES])
            del self._buffer[:PIECE_BYTES]
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = await trio.to_thread.run_sync(tempfile.TemporaryFile)
            await trio.to_thread.run_sync(self._file.write, bytes(self._buffer))
        except OSError as error:
            detail = f"The file cannot be kept until its end has come: {error.strerror}."
            raise Problem(507, detail=detail) from None
        self._buffer.clear()
