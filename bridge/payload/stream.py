"""Reads a streamed reply as it comes: bytes in, JSON objects out. No clock and no await.

Two media types are known: NDJSON, one JSON object per line, and the events of server-sent events
(the HTML standard §9.2.6), whose `data` is one JSON object. Lines are cut at the level of bytes, so
a character may be split between two pieces. Everything is bounded by `limit_bytes`, so an endless
line ends, too; each byte is looked at once, however small the pieces are.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

from bridge.payload.body import BLANK, NotJson, decode_json, without_bom
from bridge.payload.error import UnusableReply

StreamMedia = Literal["ndjson", "sse"]
DONE: Final = b"[DONE]"
"""How the APIs of language models end their events; it is no JSON, and says nothing."""


def read_whole(content: bytes, media: StreamMedia) -> list[dict[str, Any]]:
    """Return the objects of a streamed reply that has come to its end.

    Raises:
        UnusableReply: if a line is not a JSON object.
    """
    decoder = StreamDecoder(media, len(content))
    return [*decoder.feed(content), *decoder.end()]


class StreamDecoder:
    """Decodes the body of one streamed reply. `feed` and `end` yield objects in order; use each
    before the next, since an error comes after the objects before it.
    """

    def __init__(self, media: StreamMedia, limit_bytes: int) -> None:
        self._lines = _LineReader(split_at_cr=media == "sse")
        self._data: list[bytes] | None = [] if media == "sse" else None
        self._limit_bytes = limit_bytes
        self._total_bytes = 0
        self._number = 0  # of lines

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that a piece completes.

        Raises:
            UnusableReply: if a line is not a JSON object, or the body is too long.
        """
        self._total_bytes += len(piece)
        if self._total_bytes > self._limit_bytes:
            raise UnusableReply(f"over max_reply_bytes ({self._limit_bytes})")
        for line in self._lines.feed(piece):
            yield from self._take(line)

    def end(self) -> Iterator[dict[str, Any]]:
        """Yield the objects that the end of the body completes.

        Raises:
            UnusableReply: if the last line is not a JSON object.
        """
        rest = self._lines.take_rest()
        if rest:
            yield from self._take(rest)
        if self._data:
            yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[dict[str, Any]]:
        self._number += 1
        if self._number == 1:
            line = without_bom(line)
        if self._data is None:
            yield from self._decode(line)
        elif not line:
            data, self._data = b"\n".join(self._data), []
            yield from self._decode(data)
        else:
            name, _, value = line.partition(b":")  # a comment has no name
            if name == b"data":
                self._data.append(value.removeprefix(b" "))

    def _decode(self, text: bytes) -> Iterator[dict[str, Any]]:
        text = text.strip(BLANK)
        if not text or text == DONE:
            return
        try:
            value = decode_json(text)
        except NotJson as error:
            why = str(error).replace("the body", f"line {self._number}", 1)
            raise UnusableReply(why) from None
        if not isinstance(value, dict):
            raise UnusableReply(f"line {self._number} is not a JSON object")
        yield value


class _LineReader:
    """Cuts bytes into lines that end in LF or CR LF and, if asked, in CR alone."""

    def __init__(self, *, split_at_cr: bool) -> None:
        self._rest = bytearray()  # what has come of the next line
        self._split_at_cr = split_at_cr
        self._after_cr = False  # an LF would belong to it

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that a piece completes, without their ends."""
        if self._split_at_cr:
            piece = self._with_lf(piece)
        first, *others = piece.split(b"\n")
        if not others:
            self._rest += first
            return []
        lines = [bytes(self._rest + first), *others[:-1]]
        self._rest = bytearray(others[-1])
        return lines

    def take_rest(self) -> bytes:
        """Return the line that has no end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def _with_lf(self, piece: bytes) -> bytes:
        """Return a piece whose lines end in LF."""
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" not in piece:
            return piece
        self._after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
