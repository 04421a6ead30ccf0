"""Parses HTTP/1.1 responses with httptools (llhttp in C), and adds the limits that it lacks.

No socket and no await. One `ResponseReader` serves one connection, one response after the other.
Violations raise httpx's exceptions, whose messages quote nothing of the peer.

Invariant: whatever the peer sends, at most `max_head_bytes` and eight times `max_body_bytes` of a
response are read (framing included: a chunk of one byte takes six). A trailer, or the extensions of
one chunk, may take at most `max_head_bytes` after the last of the body.
"""

import zlib
from collections.abc import Mapping
from typing import Final, Protocol

import httptools
import httpx
import msgspec
from attrs import frozen
from msgspec.structs import force_setattr, replace

FRAMING_FACTOR: Final = 8
_CODINGS_LIMIT: Final = 3
_GZIP: Final = 16 + zlib.MAX_WBITS
_MEMBERS_LIMIT: Final = 100
_MANY_MEMBERS: Final = f"more than {_MEMBERS_LIMIT} members in a gzip body"
_NOT_COMPRESSED: Final = "the body is not compressed as its header says"
_BODILESS: Final = frozenset({204, 304})
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_MEDIA: Final = b"content-type"
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", _MEDIA})
_FRAMING_LENGTHS: Final = frozenset(map(len, _FRAMING))
_ENCODING: Final = b"content-encoding"
_HEAD_END: Final = b"\r\n\r\n"
_HEAD_END_BYTES: Final = len(_HEAD_END)
_HEADS_LIMIT: Final = 64
_HEAD_BYTES: Final = 2048
_CONTROL: Final = frozenset({*range(0x20), 0x7F} - {0x09})
STREAMED: Final = frozenset({b"application/x-ndjson", b"text/event-stream"})
"""The media types whose bodies are read as they come, if they come with a 200."""


@frozen
class ResponseLimits:
    """The maximum size of a response, in bytes; for the body, both as received and decoded."""

    max_head_bytes: int = 64 * 1024
    max_body_bytes: int = 1024 * 1024


class Response(msgspec.Struct, frozen=True, gc=False):  # one for each POST, never in a cycle
    """A complete response, with header names as received; `body` is None if over the limit."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    reason: bytes = b""
    version: str = "1.1"
    fields: Mapping[bytes, bytes] = {}
    """The first value of each header, by its name in lower case; made from `headers` by default."""

    def __post_init__(self) -> None:
        if not self.fields:
            fields = {name.lower(): value for name, value in reversed(self.headers)}
            force_setattr(self, "fields", fields)

    def __repr__(self) -> str:  # without the body, which may be confidential
        return f"Response(status={self.status}, headers={self.headers})"

    def without_body(self) -> "Response":
        """Return the response with an empty body, if it has one."""
        return replace(self, body=b"") if self.body else self

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header, by its name in lower case."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1").strip()


_Parsed = tuple[int, int, tuple[tuple[bytes, bytes], ...], bytes, str, Mapping[bytes, bytes]]
Heads = dict[bytes, _Parsed]
"""Heads that llhttp has parsed. Each maps to the length of the response, body included, and to the
fields of the `Response` except its body. At most `_HEADS_LIMIT` of `_HEAD_BYTES`: 3 MB at worst.
"""


class BodySink(Protocol):
    """Takes the body of a response as it comes. What `feed` raises ends the exchange."""

    deadline: float
    """When the exchange is given up, by trio's clock; it may change at each `feed`."""

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body, as received."""
        ...


class BodyOpener(Protocol):
    """Decides on the body of a streamed response, once its head has come."""

    def open(self, key: str, head: "Response") -> BodySink | None:
        """Return what takes the body; None if it is to be read whole. `key` names the request."""
        ...


class ResponseReader:
    """Reads the responses of one connection; call `begin` before each request.

    If the response `is_streamed`, `take_head` and `take_body` return what has come of it; the
    `Response` then has the rest of the body.

    The heads of a server often stay the same until their date changes, once a second. So a response
    that arrives in one piece, with a known head, is split without llhttp: in a fourth of the time.
    """

    def __init__(self, limits: ResponseLimits, heads: Heads | None = None) -> None:
        """`heads`, if given, is shared with other readers that have the same limits."""
        self._limits = limits
        self._heads = {} if heads is None else heads
        self._parser = httptools.HttpResponseParser(self)
        # RFC 9112 §2.2: a line may end in LF alone, and httpx's own transport accepts it. Gap: if a
        # chunk is one byte short, the CR behind it is taken as data.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self._total_limit = limits.max_head_bytes + FRAMING_FACTOR * limits.max_body_bytes
        self.begin("POST")
        self._start()

    def begin(self, method: str) -> None:
        """Prepare for the response to a request with that method."""
        self.begun = False  # whether a byte of the response has arrived
        self.reusable = False  # whether the connection can take another request
        self._bodiless = method == "HEAD"

    def _start(self) -> None:
        self._total_bytes = 0
        self._limit = self._limits.max_head_bytes  # on `_total_bytes`, until there is progress
        self._complete = False
        self._reset()

    def _reset(self) -> None:
        self._in_head = True
        self.is_streamed = False  # whether it is a 200 whose media type is one of `STREAMED`
        self._taken_bytes = 0  # of the body
        self._status = 0
        self._version = ""
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._framed = self._chunked = False
        self._body: bytearray | None = bytearray()  # None once it is over the limit
        self._seen_bytes = -1  # of the body, when `_limit` was raised

    def feed(self, data: bytes) -> Response | None:
        """Process received data. Return the response once it is complete or its body over the
        limit, and None before that.

        Raises:
            httpx.RemoteProtocolError: if this is not a valid response, or over the limits.
        """
        if self.begun:
            return self._feed(data)
        self.begun = True
        end = data.find(_HEAD_END, 0, _HEAD_BYTES) + _HEAD_END_BYTES
        head = data[:end]
        known = self._heads.get(head)
        if known is not None and known[0] == len(data) and not self._bodiless:
            _, status, headers, reason, version, fields = known
            self.reusable = True
            return Response(status, headers, data[end:], reason, version, fields)
        self._start()
        answer = self._feed(data)
        if self.reusable and answer is not None:
            self._remember(head, len(data), answer)
        return answer

    def _remember(self, head: bytes, length: int, answer: Response) -> None:
        """Store this head for the next time, if it is one and nothing follows the body."""
        if answer.body is None or len(head) + len(answer.body) != length:
            return
        if head.count(b"\n") != len(answer.headers) + 2:  # a line may end in LF alone: it is more
            return
        if len(self._heads) == _HEADS_LIMIT:
            self._heads.clear()
        self._heads[head] = (
            length,
            answer.status,
            answer.headers,
            answer.reason,
            answer.version,
            answer.fields,
        )

    def _feed(self, data: bytes) -> Response | None:
        room = self._limit - self._total_bytes
        if len(data) <= room:
            return self._take(data)
        answer = self._take(data[:room])
        if answer is not None:
            self.reusable = False  # more than one response
            return answer
        if self._limit > self._total_bytes:
            return self._feed(data[room:])
        if self._in_head:
            raise _fault(f"has a head over {self._limit} bytes")
        raise _fault("has too much framing for its body")

    def end(self) -> Response:
        """Process the end of the connection: it completes a response without length.

        Raises:
            httpx.RemoteProtocolError: if the response is incomplete, or there is none.
        """
        if not self.begun:
            raise httpx.RemoteProtocolError("the connection was closed without a response")
        if self._in_head or self._framed:
            raise httpx.RemoteProtocolError(
                "the connection was closed in the middle of the response"
            )
        return self._answer()

    def take_head(self) -> Response:
        """Return the response without its body, which has not come to its end."""
        return Response(self._status, tuple(self._headers), b"", self._reason, self._version)

    def take_body(self) -> bytes:
        """Return what has come of the body since the last call."""
        taken = bytes(self._body or b"")
        if self._body:
            self._taken_bytes += len(self._body)
            self._body.clear()
        return taken

    def _take(self, data: bytes) -> Response | None:
        self._total_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.reusable = False
            if not self._complete and self._body is not None:
                if isinstance(error.__context__, httpx.RemoteProtocolError):  # our own
                    raise error.__context__ from None
                raise _fault(f"is not valid HTTP: {_words(error)}") from None
        if self._complete or self._body is None:
            return self._answer()
        size = self._taken_bytes + len(self._body)
        if not self._in_head and size > self._seen_bytes:
            self._seen_bytes = size
            allowed = self._total_bytes + self._limits.max_head_bytes
            self._limit = min(allowed, self._total_limit)
        return None

    def _answer(self) -> Response:
        return Response(
            self._status,
            tuple(self._headers),
            None if self._body is None else bytes(self._body),
            self._reason,
            self._version,
        )

    # --- called by httptools, also for unexpected data after the response

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False

    def on_status(self, reason: bytes) -> None:
        if not self._complete:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # not in the trailer
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        self._in_head = False
        self._status = status = self._parser.get_status_code()
        self._version = version = self._parser.get_http_version()
        if version not in _VERSIONS or status < 100:
            raise _fault("has a status line that is not of HTTP/1.0 or 1.1")
        if status == 101:
            raise _fault("switches to a protocol that was not requested")
        if self._reason != b"OK" and not _CONTROL.isdisjoint(self._reason):
            raise _fault("has a control character in its status line")
        self._read_framing()
        if self._bodiless and status >= 200:
            self._complete = True

    def _read_framing(self) -> None:
        # llhttp refuses two lengths, and a length with a coding; it accepts any list of codings.
        for name, value in self._headers:
            if len(name) in _FRAMING_LENGTHS and (key := name.lower()) in _FRAMING:
                if key == _MEDIA:
                    self.is_streamed = self._status == 200 and _is_streamed(value)
                    continue
                if key == b"transfer-encoding":
                    if self._framed or value.lower() != b"chunked":
                        raise _fault("has a Transfer-Encoding other than chunked")
                    self._chunked = True
                self._framed = True

    def on_body(self, data: bytes) -> None:
        if self._complete or self._body is None:
            return
        self._body += data
        if self._taken_bytes + len(self._body) > self._limits.max_body_bytes:
            self._body = None

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self._status < 200:  # 1xx: the final response is yet to come
            self._reset()
            return
        self._complete = True
        self.reusable = self._parser.should_keep_alive()
        if self._chunked and self._version == "1.0":  # RFC 9112 §6.1: process it, and close
            self.reusable = False


def is_streamed(head: Response) -> bool:
    """Return whether a response is a 200 whose media type is one of `STREAMED`."""
    return head.status == 200 and _is_streamed(head.fields.get(_MEDIA, b""))


def _is_streamed(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() in STREAMED


def decoded(answer: Response, limit_bytes: int) -> bytes | None:
    """Return the body without its content codings, gzip and deflate; None if it is longer than
    `limit_bytes`.

    Raises:
        httpx.DecodingError: if there is another coding, or the body does not match its header.
    """
    body = answer.body
    if _ENCODING not in answer.fields:
        return body
    codings = _codings(answer)
    if not body or answer.status in _BODILESS:
        return body
    for coding in reversed(codings):
        body = _inflate(body, _bits_of(coding, body), limit_bytes)
        if body is None:
            return None
    return body


class BodyInflater:
    """Undoes the content coding of a body that comes in pieces: gzip or deflate."""

    def __init__(self, head: Response, limit_bytes: int) -> None:
        """Raises:
        httpx.DecodingError: if there is another coding, or more than one.
        """
        codings = _codings(head) if _ENCODING in head.fields else []
        if len(codings) > 1:
            raise httpx.DecodingError("more than one content coding in a stream")
        self._coding = codings[0] if codings else ""
        if self._coding:
            _bits_of(self._coding, b"x")  # raises
        self._room = self._room_received = limit_bytes
        self._inflater: _Inflater | None = None
        self._members = 0

    def feed(self, piece: bytes) -> bytes | None:
        """Return the bytes that a piece contains; None if the body is longer than `limit_bytes`, as
        received or decoded.

        Raises:
            httpx.DecodingError: if the body is not compressed as its header says.
        """
        self._room_received -= len(piece)
        if self._room_received < 0:
            return None
        if not self._coding:
            return piece
        parts: list[bytes] = []
        try:
            while piece:
                if self._inflater is None:
                    self._members += 1
                    if self._members > _MEMBERS_LIMIT:
                        raise httpx.DecodingError(_MANY_MEMBERS)
                    self._inflater = zlib.decompressobj(_bits_of(self._coding, piece))
                part = self._inflater.decompress(piece, self._room + 1)
                self._room -= len(part)
                if self._room < 0:
                    return None
                parts.append(part)
                piece = self._inflater.unused_data
                if self._inflater.eof:
                    self._inflater = None
        except zlib.error:
            raise httpx.DecodingError(_NOT_COMPRESSED) from None
        return b"".join(parts)


class _Inflater(Protocol):
    """A `zlib.decompressobj`, whose type has no public name."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _codings(answer: Response) -> list[str]:
    named = ",".join(
        value.decode("latin-1") for name, value in answer.headers if name.lower() == _ENCODING
    )
    codings = [one.strip().lower() for one in named.split(",")]
    codings = [one for one in codings if one not in ("", "identity")]
    if len(codings) > _CODINGS_LIMIT:
        raise httpx.DecodingError(f"more than {_CODINGS_LIMIT} content codings")
    return codings


def _bits_of(coding: str, body: bytes) -> int:
    """Return zlib's window bits for a coding."""
    if coding in ("gzip", "x-gzip"):
        return _GZIP
    if coding == "deflate":
        return _deflate_bits(body)
    raise httpx.DecodingError(f"Content-Encoding {coding[:30]!r} was not requested")


def _deflate_bits(body: bytes) -> int:
    """Return zlib's window bits: `deflate` is zlib's format, but some servers send raw deflate (RFC
    9110 §8.4.1.2).
    """
    has_zlib_header = body[0] & 0x0F == 8 and (len(body) < 2 or int.from_bytes(body[:2]) % 31 == 0)
    return zlib.MAX_WBITS if has_zlib_header else -zlib.MAX_WBITS


def _inflate(body: bytes, bits: int, limit_bytes: int) -> bytes | None:
    parts: list[bytes] = []
    room = limit_bytes
    try:
        while body:  # gzip may have several members; each copies the rest
            if len(parts) == _MEMBERS_LIMIT:
                raise httpx.DecodingError(_MANY_MEMBERS)
            inflater = zlib.decompressobj(bits)
            part = inflater.decompress(body, room + 1)
            room -= len(part)
            if room < 0:
                return None
            parts.append(part)
            if not inflater.eof:
                raise httpx.DecodingError("the compressed body is incomplete")
            body = inflater.unused_data
    except zlib.error:
        raise httpx.DecodingError(_NOT_COMPRESSED) from None
    return b"".join(parts)


def _words(error: Exception) -> str:
    """Return llhttp's message; it quotes nothing of the peer."""
    return str(error) or type(error).__name__


def _fault(how: str) -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError(f"the response {how}")
