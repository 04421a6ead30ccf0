"""`GET /v1/events` gives out what pulled components offer; `POST /v1/events/{uid}` answers it.

A poller is one request that waits, or one stream. An event is leased to it once it was written to
its connection; if the client has left by then, the event is offered again at once. A stream takes
no more than `max` events that are not answered yet, so one that is not read holds few leases.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec
import trio
from attrs import frozen
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from bridge.config.token import Token
from bridge.config.value import PULL
from bridge.listener.api.handler import SubmissionHandler, json_response, not_json
from bridge.listener.api.request import media_type
from bridge.listener.api.stanza import JSON, TEXT, XML
from bridge.listener.auth import PollerLimit
from bridge.listener.problem import Problem
from bridge.listener.server.exchange import HAS_LEFT
from bridge.payload.body import BLANK, NotJson, decode_json, read_reply
from bridge.payload.error import UnusableReply
from bridge.payload.stream import read_whole
from bridge.telemetry.text import printable
from bridge.webhook.outcome import BadReply, NoReply, Outcome, Rejected, Replied
from bridge.webhook.pull import NotLeased, Offer, Poller, PulledEvents, Reach
from xmppstream.jid import same_domain

WAIT_S: Final = 25
WAIT_LIMIT_S: Final = 120
MAX: Final = 10
MAX_LIMIT: Final = 100
COMMENT_EVERY_S: Final = 15.0
STREAM: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
RETRY_LIMIT_S: Final = 86_400
GIVEN_BACK: Final = 429
"""The status that stands for an event that is given back: it says nothing about the endpoint, so
other senders go on.
"""
_STOPPING_S: Final = 1
_OTHER_BYTES: Final = 2_000
_WHY_LENGTH: Final = 300
_NO_STORE: Final = {"Cache-Control": "no-store"}
_OTHER_KEYS: Final = frozenset({"status", "retry_after_s", "bad_reply", "deferred"})
_MAYBE_OTHER: Final = re.compile(rb'"(?:status|retry_after_s|bad_reply|deferred)"')
_FORMATS: Final[dict[str, Literal["json", "xml", "text", "ndjson", "sse"]]] = {
    JSON: "json",
    XML: "xml",
    TEXT: "text",
    NDJSON: "ndjson",
    STREAM: "sse",
}


class _Event(msgspec.Struct):
    """An event as it is given out."""

    uid: str
    attempt: int
    lease_s: float
    request: msgspec.Raw


@frozen
class _Asked:
    """What a request for events asks for."""

    reach: Reach
    limit: int
    wait_s: int
    is_stream: bool


@frozen
class EventRoutes:
    """The routes of `/v1/events`."""

    handler: SubmissionHandler
    events: PulledEvents
    pollers: PollerLimit

    @property
    def routes(self) -> list[Route]:
        event = "/v1/events/{uid}"
        return [
            Route("/v1/events", self.poll, methods=["GET"]),
            Route(event, self.answer, methods=["POST"]),
            Route(f"{event}/extend", self.extend, methods=["POST"]),
        ]

    async def poll(self, request: Request) -> "Response | _Polled":
        """Return events, or wait for some."""
        token = self.handler.access.check(request, "receive")
        asked = self._asked(request, token)
        if request.method == "HEAD":  # nothing may be taken that is not written
            return json_response({"events": []}, headers=_NO_STORE)
        if self.events.is_stopping:
            headers = {"Retry-After": str(_STOPPING_S)}
            raise Problem(503, detail="The daemon is stopping.", headers=headers)
        return _Polled(asked, self.events, self.pollers)

    def _asked(self, request: Request, token: Token) -> _Asked:
        pulled = self.events.domains
        domains = frozenset(one for one in pulled if one in token.components)
        name = request.query_params.get("component")
        if name:
            own = [one for one in token.components if same_domain(one, name)]
            if not own:
                detail = f"{name[:60]!r} is not a component of this token."
                raise Problem(404, detail=detail)
            domains = domains.intersection(own)
        if not domains:
            which = f"{name} is not" if name else "No component of this token is"
            detail = f'{which} pulled: set component_post_url = "{PULL}".'
            raise Problem(409, detail=detail)
        return _Asked(
            Reach(token, domains),
            _number(request, "max", MAX, 1, MAX_LIMIT),
            _number(request, "wait", WAIT_S, 0, WAIT_LIMIT_S),
            _wants_stream(request),
        )

    async def answer(self, request: Request) -> Response:
        """Take the answer to an event: a reply, nothing, or a failure."""
        async with self.handler.authorized(request, "receive") as grant:
            body = await self.handler.body(request, grant)
            reply = _reply_of(request, body)
            offer = self._leased(request, grant.token)
            if isinstance(reply, Replied) and reply.media == "text" and not offer.takes_text:
                detail = f"Set Content-Type to {JSON}, or component_text_replies = true."
                raise Problem(415, detail=detail, headers={"Accept": f"{JSON}, {XML}"})
            self.events.answer(offer, reply)
            return Response(status_code=204)

    async def extend(self, request: Request) -> Response:
        """Let a lease last for its whole time from now."""
        async with self.handler.authorized(request, "receive") as grant:
            offer = self._leased(request, grant.token)
            return json_response({"lease_s": _shown(self.events.extend(offer))}, headers=_NO_STORE)

    def _leased(self, request: Request, token: Token) -> Offer:
        """Return the event that the path names.

        Raises:
            Problem: 404 if there is none for this token, 409 if it is answered, 410 if its lease
                has ended; 422 if the attempt is not a number.
        """
        given = request.query_params.get("attempt")
        attempt = _number(request, "attempt", 0, 1, 2**31) if given is not None else None
        try:
            return self.events.leased(token, request.path_params["uid"], attempt)
        except NotLeased as error:
            match error.ending:
                case "answered":
                    raise Problem(409, detail="This event is answered already.") from None
                case "ended":
                    detail = "The lease of this event has ended; if need be, it comes again."
                    raise Problem(410, detail=detail) from None
            raise Problem(404, detail="There is no such event for this token.") from None


@frozen
class _Polled:
    """The response to a poller, which begins once there is something to give out."""

    asked: _Asked
    events: PulledEvents
    pollers: PollerLimit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and write the response.

        Raises:
            Problem: 429 or 503 if too many wait.
            starlette.requests.ClientDisconnect: if the client leaves before anything is written.
        """
        refused: Problem | None = None
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        async with trio.open_nursery() as nursery:
            has_left = scope.get("extensions", {}).get(HAS_LEFT)
            nursery.start_soon(_watch, receive, nursery.cancel_scope, has_left or (lambda: True))
            try:
                asked = self.asked
                with (
                    self.pollers.one(asked.reach.token.name),
                    self.events.polling(asked.reach, asked.limit) as poller,
                ):
                    writer = _Writer(self.events, poller, sending, has_left or bool)
                    await (writer.stream() if asked.is_stream else writer.once(asked.wait_s))
            except Problem as problem:  # raised below: here it would end up in a group
                refused = problem
            nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        if not has_begun:
            raise ClientDisconnect


@frozen
class _Writer:
    """Writes events to one poller. `has_left` tells whether its client is gone."""

    events: PulledEvents
    poller: Poller
    send: Send
    has_left: Callable[[], bool]

    async def once(self, wait_s: float) -> None:
        """Wait for events, and write one response."""
        offers = await self.poller.take(wait_s)
        now = trio.current_time()
        content = msgspec.json.encode({"events": [_event(one, now) for one in offers]})
        headers = {**_NO_STORE, "Content-Type": JSON, "Content-Length": str(len(content))}
        await self._write(offers, content, headers, is_last=True)

    async def stream(self) -> None:
        """Write events as they come, until the client leaves or the daemon stops."""
        headers = {**_NO_STORE, "Content-Type": STREAM, "X-Accel-Buffering": "no"}
        await self._write([], b": events follow\n\n", headers)
        while not (self.has_left() or self.events.is_stopping):
            offers = await self.poller.take(COMMENT_EVERY_S)
            if not offers and not self.events.is_stopping:
                await self._write([], b": nothing new\n\n")
            now = trio.current_time()
            unwritten = deque(offers)
            try:
                while unwritten:
                    one = unwritten.popleft()
                    data = msgspec.json.encode(_event(one, now))
                    lines = b"event: stanza\nid: %s\ndata: %s\n\n" % (one.uid.encode(), data)
                    await self._write([one], lines)
            finally:
                self.events.put_back(list(unwritten))
        await self._write([], b"", is_last=True)

    async def _write(
        self,
        offers: list[Offer],
        content: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        is_last: bool = False,
    ) -> None:
        """Write a piece, with `headers` before the first. The leases of `offers` begin then, or
        they are put back if the client does not get it: if it left before, or during the write.
        """
        is_written, is_there = False, not self.has_left()
        try:
            if headers is not None:
                lines = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
                await self.send({"type": "http.response.start", "status": 200, "headers": lines})
            body = {"type": "http.response.body", "body": content, "more_body": not is_last}
            await self.send(body)
            is_written = is_there and not self.has_left()
        finally:
            (self.events.start if is_written else self.events.put_back)(offers)


def _event(offer: Offer, now: float) -> _Event:
    return _Event(offer.uid, offer.attempt, _shown(offer.lease_s(now)), msgspec.Raw(offer.body))


def _shown(seconds: float) -> float:
    """Return a time to the tenth, never longer than it is."""
    return math.floor(10 * seconds) / 10


async def _watch(receive: Receive, scope: trio.CancelScope, has_left: Callable[[], bool]) -> None:
    """Cancel a scope when the client disconnects; not when the response is complete, which ASGI
    tells by the same message, while it is still being written.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    if has_left():
        scope.cancel()


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Return a number of the query.

    Raises:
        Problem: 422 if it is not a whole number in its range.
    """
    given = request.query_params.get(name)
    if given is None or given == "":
        return default
    if not (given.isascii() and given.isdigit()) or not least <= int(given[:12]) <= most:
        raise Problem(422, detail=f"{name} must be a whole number from {least} to {most}.")
    return int(given)


def _wants_stream(request: Request) -> bool:
    """Return whether Accept names the stream."""
    given = (one for line in request.headers.getlist("accept") for one in line.split(","))
    return any(one.partition(";")[0].strip().lower() == STREAM for one in given)


def _reply_of(request: Request, body: bytes) -> Outcome:
    """Return the outcome that an answer stands for.

    Raises:
        Problem: 415 for another media type, 400 if it is not JSON, 422 if it is not a reply.
    """
    if not body.strip(BLANK):
        return NoReply()
    media = _FORMATS[media_type(request, *_FORMATS)]
    if media == "json":
        other = _other_than_reply(body)
        if other is not None:
            return other
    reply = Replied(media, body)
    try:
        if media == "ndjson" or media == "sse":
            read_whole(reply.content, media)
        else:
            read_reply(reply)
    except NotJson as error:
        raise not_json(error) from None
    except UnusableReply as error:
        raise Problem(422, detail=f"This is not a reply: {error}.") from None
    return reply


def _other_than_reply(body: bytes) -> Outcome | None:
    """Return the failure that a JSON body stands for, or the promise of a later reply; None if it
    is a reply.

    Raises:
        Problem: 400 if it is not JSON, 422 if one of its values is not valid.
    """
    if len(body) > _OTHER_BYTES or not _MAYBE_OTHER.search(body):
        return None
    try:
        value = decode_json(body, as_spelled=False)
    except NotJson as error:
        raise not_json(error) from None
    if not isinstance(value, dict) or not value.keys() <= _OTHER_KEYS:
        return None
    if "deferred" in value:
        if len(value) > 1 or value["deferred"] is not True:
            raise Problem(422, detail='"deferred" must be true, and the only key.')
        return NoReply(status=202, deferred=True)
    if "bad_reply" in value:
        why = value["bad_reply"]
        if len(value) > 1 or not isinstance(why, str):
            raise Problem(422, detail='"bad_reply" must be a string, and the only key.')
        return BadReply(printable(why[:_WHY_LENGTH]))
    status = value.get("status", GIVEN_BACK)
    if isinstance(status, str):  # of a presence
        return None
    if type(status) is not int or not 300 <= status <= 599:
        raise Problem(422, detail='"status" must be a whole number from 300 to 599.')
    wait_s = value.get("retry_after_s")
    if wait_s is None and "retry_after_s" not in value:
        return Rejected(status)
    if (
        not isinstance(wait_s, int | float)
        or isinstance(wait_s, bool)
        or not 0 <= wait_s <= RETRY_LIMIT_S
    ):
        detail = f'"retry_after_s" must be a number from 0 to {RETRY_LIMIT_S}.'
        raise Problem(422, detail=detail)
    return Rejected(status, float(wait_s))
