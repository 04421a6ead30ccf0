"""One POST: an HTTP exchange in, an `Outcome` out. httpx's exceptions are mapped here only.

Everything that POSTs have in common is built once. Requests go directly to the transport, because
httpx's client would add cookies, redirects and auth flows.
"""

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, Literal

import httpx
import msgspec
import trio
from attrs import frozen

from bridge.config.settings import HttpSettings
from bridge.config.value import PostUrl
from bridge.httpclient.response import Response, decoded
from bridge.payload.body import BLANK
from bridge.payload.error import UnusableReply
from bridge.telemetry.tracing import Spans, fresh_span, traceparent
from bridge.webhook.client import HttpClient, make_client
from bridge.webhook.observer import HEADERS, PostAnswer, PostFailure, PostObserver, PostReport
from bridge.webhook.outcome import (
    CUT,
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.signature import Signer
from bridge.webhook.streaming import StreamedBody, Streams

_Media = Literal["json", "xml", "text", "ndjson", "sse"]
_MEDIA: Final[dict[str, _Media]] = {
    "application/x-ndjson": "ndjson",
    "text/event-stream": "sse",
    "application/json": "json",
    "application/xmpp+xml": "xml",
    "text/plain": "text",
}
_QUOTED: Final = re.compile(r":? (?:bytearray\(|b['\"]).*", re.DOTALL)  # h11 quotes what it read
_GIVEN_UP: Final = PostFailure("given_up")
_RETRY_AFTER_CAP_S: Final = 86_400.0
_SEEN: Final = {name.encode(): name for name in HEADERS}


@frozen
class OptionsAnswer:
    """An answer to OPTIONS: its status, the methods of `Allow` (None: no such header), and the
    `Location` without what may be secret.
    """

    status: int
    allow: frozenset[str] | None = None
    location: str | None = None


class Endpoint:
    """The HTTP service behind one component."""

    def __init__(
        self,
        url: PostUrl,
        http: HttpSettings,
        exchange: HttpClient | None = None,
        signer: Signer | None = None,
        now: Callable[[], float] = time.time,
        observer: PostObserver | None = None,
        spans: Spans | None = None,
        *,
        text_replies: bool = False,
    ) -> None:
        """With `text_replies`, a `text/plain` body is a reply.

        Raises: OSError, ssl.SSLError: if the certificates of `http` cannot be used."""
        self.shown = str(url)
        self._exchange = exchange or make_client(url, http)
        self._http = http
        self._timeout_s = http.timeout_s
        self._max_reply_bytes = http.max_reply_bytes
        self._signer = signer or Signer()
        self._now = now
        self._observer = observer
        self._spans = spans
        self._text_replies = text_replies
        self._streams: Streams | None = None
        self._opener: Endpoint | None = None  # itself, if replies may be streamed
        self._bodies: dict[str, StreamedBody] = {}
        self._posting = 0
        self._idle: trio.Event | None = None  # set by `post` while `retire` waits

    def use_streams(self, streams: Streams) -> None:
        """Pass replies that come as streams to `streams`, as they come."""
        self._streams, self._opener = streams, self

    def open(self, key: str, head: Response) -> StreamedBody | None:
        """Return what takes the body of a streamed reply to the POST of the stanza `key`."""
        media = _media_of(head.fields.get(b"content-type", b""))[1]
        if self._streams is None or media not in ("ndjson", "sse"):
            return None
        keeps, now = self._observer is not None, trio.current_time
        stream = self._streams.open(key, media, self._max_reply_bytes)
        if stream is None:
            return None
        body = self._bodies[key] = StreamedBody(stream, head, self._http, now, keeps=keeps)
        return body

    async def post(
        self,
        body: bytes,
        uid: str,
        attempt: int = 1,
        began: float | None = None,
        deadline: float = math.inf,
    ) -> Outcome:
        """POST one stanza's JSON and return the outcome: `TimedOut` after `timeout_s`, or at
        `deadline`. `began` is now, which the caller has read already; both are trio's clock.

        Failures of the endpoint are outcomes, never exceptions. Cancellation closes the connection
        in use.
        """
        span = fresh_span()
        traced = self._spans is not None and self._spans.samples(uid)
        trace = traceparent(uid, span, sampled=traced)
        signed = self._signer.headers(uid, attempt, self._now(), body)
        lines = f"Content-Type: application/json\r\n{trace}{signed}".encode()
        began_ns = time.time_ns() if traced else 0
        seen_at = self._observer.now() if self._observer is not None else 0.0
        result: PostReport | Response = _GIVEN_UP
        ended: int | str = "cancelled"
        until = (trio.current_time() if began is None else began) + self._timeout_s
        was_cut = deadline <= until
        if was_cut:
            until = deadline
        self._posting += 1
        try:
            result = answer = await self._exchange.request(
                "POST", lines, body, until, self._opener, uid
            )
            ended = answer.status
        except httpx.TransportError as error:
            streamed = self._bodies.get(uid)
            if streamed is not None:
                until, was_cut = streamed.deadline, streamed.was_cut
            late = isinstance(error, httpx.TimeoutException) and trio.current_time() >= until
            ended = type(error).__name__
            result = PostFailure("timed_out") if late else PostFailure("unreachable", _why(error))
            if not late:
                return Unreachable(result.why)
            if streamed is not None:
                return TimedOut(streamed.why_late, was_cut)
            if was_cut:
                return TimedOut(CUT, was_cut=True)
            return TimedOut(f"no answer within {self._timeout_s:g} s")
        except (UnusableReply, httpx.DecodingError) as error:  # of a streamed reply
            ended = type(error).__name__
            return BadReply(str(error))
        finally:
            self._posting -= 1
            if self._bodies and uid in self._bodies:
                result = self._streamed(self._bodies.pop(uid), result)
            if self._idle is not None:
                self._idle.set()
            if self._observer is not None:
                seen = self._seen(result) if isinstance(result, Response) else result
                self._observer.exchanged(uid, attempt, seen_at, body, seen)
            if traced and self._spans is not None:
                self._spans.post_ended(uid, span, attempt, began_ns, self.shown, ended)
        return self._outcome_of(answer)

    async def options(self) -> OptionsAnswer:
        """Send an OPTIONS request, which has no side effects, and return the answer.

        Raises:
            httpx.TransportError: if the other end does not answer in HTTP.
        """
        answer = await self._exchange.request("OPTIONS", b"", b"", math.inf)
        allow = answer.header(b"allow")
        methods = None if allow is None else frozenset(re.findall(r"[^\s,]+", allow.upper()))
        return OptionsAnswer(answer.status, methods, _place_of(answer.header(b"location")))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._exchange.aclose()

    async def retire(self) -> None:
        """Close all connections once no POST is running. Do not call `post` again."""
        while self._posting:
            self._idle = trio.Event()
            await self._idle.wait()
        await self.aclose()

    def _streamed(self, body: StreamedBody, result: PostReport | Response) -> PostReport | Response:
        """Return the observer's report of a streamed reply: all of it that has come."""
        if not body.body and isinstance(result, PostFailure):
            return result
        if isinstance(result, Response) and result.body is None:
            return result
        plain = tuple(one for one in body.head.headers if one[0].lower() != b"content-encoding")
        return Response(body.head.status, plain, body.body)

    def _seen(self, answer: Response) -> PostAnswer:
        """Return the observer's report of an answer, with its content codings undone."""
        body, fields = answer.body, answer.fields
        headers = {
            name: fields[key].decode("latin-1") for key, name in _SEEN.items() if key in fields
        }
        if "content-encoding" in headers:
            with suppress(httpx.DecodingError):  # then report it as received
                body = decoded(answer, self._max_reply_bytes)
                del headers["content-encoding"]
        return PostAnswer(answer.status, headers, body)

    def _outcome_of(self, answer: Response) -> Outcome:
        status = answer.status
        if not 200 <= status < 300:
            location = _place_of(answer.header(b"location")) if 300 <= status < 400 else None
            retry_after_s = _seconds(answer.header(b"retry-after"), self._now())
            return Rejected(status, retry_after_s, location)
        content, fields = answer.body, answer.fields
        if content is not None and not content.strip(BLANK):
            return NoReply()
        media, kind = _media_of(fields.get(b"content-type", b""))
        if status != 200:
            if status == 202 and kind == "json":
                return self._accepted(answer)
            return NoReply(media, status) if kind in ("json", "xml") else NoReply()
        if kind is None or (kind == "text" and not self._text_replies):
            return NoReply(ignored=media)
        if b"content-encoding" in fields:
            try:
                content = decoded(answer, self._max_reply_bytes)
            except httpx.DecodingError as error:
                return BadReply(str(error))
            if content is not None and not content.strip(BLANK):
                return NoReply()
        if content is None:
            return BadReply(f"over max_reply_bytes ({self._max_reply_bytes})")
        return Replied(kind, content)

    def _accepted(self, answer: Response) -> Outcome:
        """Return the outcome of a 202 with JSON, which may be the promise of a later reply."""
        is_promise, rest = False, True
        with suppress(httpx.DecodingError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            content = decoded(answer, self._max_reply_bytes)
            said = msgspec.json.decode(b"" if content is None else content.strip(BLANK))
            if isinstance(said, dict) and isinstance(said.get("deferred"), bool):
                is_promise, rest = said.pop("deferred"), bool(said)
        return NoReply("application/json" if rest else None, 202, is_promise)


@lru_cache(maxsize=64)
def _media_of(content_type: bytes) -> tuple[str, _Media | None]:
    """Return a Content-Type in lower case without parameters, and the format of its stanzas."""
    media = content_type.decode("latin-1").partition(";")[0].strip().lower()
    return media or "none", _MEDIA.get(media)


def _place_of(location: str | None) -> str | None:
    """Return a Location header without what may be secret: credentials, query and fragment."""
    if location is None:
        return None
    place = re.split(r"[?#]", location, maxsplit=1)[0]
    shown = re.sub(r"^([^/]*//)[^/]*@", r"\1", place)
    return shown if place == location else f"{shown}?…"


def _seconds(retry_after: str | None, now: float) -> float | None:
    """Return the delay in a Retry-After header (RFC 9110 §10.2.3), in s; None if malformed."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:9]), _RETRY_AFTER_CAP_S)
    try:
        moment = parsedate_to_datetime(retry_after)
        if moment.tzinfo is None:  # asctime's form has no zone and means UTC (RFC 9110 §5.6.7)
            moment = moment.replace(tzinfo=UTC)
        wait_s = moment.timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), _RETRY_AFTER_CAP_S)


def _why(error: httpx.TransportError) -> str:
    text = _QUOTED.sub("", str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
