"""Parses HTTP/1.1 responses with httptools (llhttp in C), and adds the limits that it lacks.

No socket and no await. One `ResponseReader` serves one connection, one response after the other.
Violations raise httpx's exceptions, whose messages quote nothing of the peer.

Invariant: whatever the peer sends, at most `max_head_bytes` and eight times `max_body_bytes` of a
response are read (framing included: a chunk of one byte takes six). A trailer, or the extensions of
one chunk, may take at most `max_head_bytes` after the last of the body.
"""

import zlib
from collections.abc import Mapping
from typing import Final

import httptools
import httpx
import msgspec
from attrs import frozen
from msgspec.structs import force_setattr

FRAMING_FACTOR: Final = 8
_CODINGS_LIMIT: Final = 3
_GZIP: Final = 16 + zlib.MAX_WBITS
_MEMBERS_LIMIT: Final = 100
_BODILESS: Final = frozenset({204, 304})
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_FRAMING_LENGTHS: Final = frozenset(map(len, _FRAMING))
_ENCODING: Final = b"content-encoding"
_HEAD_END: Final = b"\r\n\r\n"
_HEAD_END_BYTES: Final = len(_HEAD_END)
_HEADS_LIMIT: Final = 64
_HEAD_BYTES: Final = 2048
_CONTROL: Final = frozenset({*range(0x20), 0x7F} - {0x09})


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

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header, by its name in lower case."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1").strip()


_Parsed = tuple[int, int, tuple[tuple[bytes, bytes], ...], bytes, str, Mapping[bytes, bytes]]
Heads = dict[bytes, _Parsed]
"""Heads that llhttp has parsed. Each maps to the length of the response, body included, and to the
fields of the `Response` except its body. At most `_HEADS_LIMIT` of `_HEAD_BYTES`: 3 MB at worst.
"""


class ResponseReader:
    """Reads the responses of one connection; call `begin` before each request.

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
        if not self._in_head and len(self._body) > self._seen_bytes:
            self._seen_bytes = len(self._body)
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
                if key == b"transfer-encoding":
                    if self._framed or value.lower() != b"chunked":
                        raise _fault("has a Transfer-Encoding other than chunked")
                    self._chunked = True
                self._framed = True

    def on_body(self, data: bytes) -> None:
        if self._complete or self._body is None:
            return
        self._body += data
        if len(self._body) > self._limits.max_body_bytes:
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


def decoded(answer: Response, limit_bytes: int) -> bytes | None:
    """Return the body without its content codings, gzip and deflate; None if it is longer than
    `limit_bytes`.

    Raises:
        httpx.DecodingError: if there is another coding, or the body does not match its header.
    """
    body = answer.body
    if _ENCODING not in answer.fields:
        return body
    named = ",".join(
        value.decode("latin-1") for name, value in answer.headers if name.lower() == _ENCODING
    )
    codings = [one.strip().lower() for one in named.split(",")]
    codings = [one for one in codings if one not in ("", "identity")]
    if len(codings) > _CODINGS_LIMIT:
        raise httpx.DecodingError(f"more than {_CODINGS_LIMIT} content codings")
    if not body or answer.status in _BODILESS:
        return body
    for coding in reversed(codings):
        if coding in ("gzip", "x-gzip"):
            body = _inflate(body, _GZIP, limit_bytes)
        elif coding == "deflate":
            body = _inflate(body, _deflate_bits(body), limit_bytes)
        else:
            raise httpx.DecodingError(f"Content-Encoding {coding[:30]!r} was not requested")
        if body is None:
            return None
    return body


def _deflate_bits(body: bytes) -> int:
    """Return zlib's window bits: `deflate` is zlib's format, but some servers send raw deflate (RFC
    9110 §8.4.1.2).
    """
    has_zlib_header = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_zlib_header else -zlib.MAX_WBITS


def _inflate(body: bytes, bits: int, limit_bytes: int) -> bytes | None:
    parts: list[bytes] = []
    room = limit_bytes
    try:
        while body:  # gzip may have several members; each copies the rest
            if len(parts) == _MEMBERS_LIMIT:
                raise httpx.DecodingError(f"more than {_MEMBERS_LIMIT} members in a gzip body")
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
        raise httpx.DecodingError("the body is not compressed as its header says") from None
    return b"".join(parts)


def _words(error: Exception) -> str:
    """Return llhttp's message; it quotes nothing of the peer."""
    return str(error) or type(error).__name__


def _fault(how: str) -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError(f"the response {how}")
