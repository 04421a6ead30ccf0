"""The loop of `forward`: an event is taken, POSTed to the service, and its outcome is the answer.

The service is asked as a daemon asks an endpoint: by the same code, so statuses and media types
decide alike. Meanwhile the lease is extended. An event that the service did not get is given back;
so is everything that is under way when the command ends.
"""

from typing import Final, Protocol, assert_never

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from bridge.cli.forward.client import AnswerRefused, BridgeBusy, BridgeClient, Event
from bridge.dispatch.outage import OutageLog
from bridge.telemetry.text import duration
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.xmpp.backoff import Backoff

GIVE_BACK_S: Final = 5.0
"""How long the bridge is asked to wait if the service is down."""
LAST_S: Final = 2.0
"""How long giving back may take at the end."""
_FIRST_S: Final = 0.5
_LAST_S: Final = 15.0
_ANSWER_TRIES: Final = 5
_LATE: Final = frozenset({404, 409, 410})
_JSON: Final = "application/json"
_MEDIA: Final = {
    "json": _JSON,
    "xml": "application/xmpp+xml",
    "text": "text/plain",
    "ndjson": "application/x-ndjson",
    "sse": "text/event-stream",
}
Answer = tuple[bytes, str | None]
NOTHING: Final[Answer] = (b"", None)


class Target(Protocol):
    """The service as the forwarder uses it."""

    async def post(
        self, body: bytes, uid: str, attempt: int, began: float, deadline: float
    ) -> Outcome:
        """POST an event; see `bridge.dispatch.worker.Poster`."""
        ...


class Forwarder:
    """Forwards the events of a bridge, up to `at_once` at a time."""

    def __init__(
        self, client: BridgeClient, target: Target, at_once: int, log: FilteringBoundLogger
    ) -> None:
        self._client = client
        self._target = target
        self._at_once = at_once
        self._log = log
        self._outages = OutageLog(log)
        self._running = 0
        self._freed = trio.Event()

    async def run(self) -> None:
        """Forward until cancelled. Cancellation gives back what is under way.

        Raises:
            BridgeRefuses: if the bridge refuses for good.
        """
        backoff, failed = Backoff(_FIRST_S, _LAST_S), 0
        async with trio.open_nursery() as nursery:
            while True:
                while self._running >= self._at_once:
                    self._freed = trio.Event()
                    await self._freed.wait()
                try:
                    events = await self._client.poll(self._at_once - self._running)
                except BridgeBusy as error:
                    failed += 1
                    if failed == 1:
                        self._log.error("bridge cannot be asked", why=str(error))
                    await trio.sleep(max(backoff.wait_s(failed), error.wait_s))
                    continue
                if failed:
                    self._log.info("bridge answers again", failed=failed)
                    failed = 0
                for event in events:
                    self._running += 1
                    nursery.start_soon(self._forward, event)

    async def _forward(self, event: Event) -> None:
        """POST one event, and answer it."""
        began = trio.current_time()
        answered = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, event)
                outcome = await self._target.post(
                    bytes(event.request), event.uid, event.attempt, began, float("inf")
                )
                answered = await self._answer(event, outcome)
                nursery.cancel_scope.cancel()
            took = duration(trio.current_time() - began)
            self._log.info("forwarded", uid=event.uid, outcome=outcome.name, took=took)
        finally:
            self._running -= 1
            self._freed.set()
            if not answered:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_S):
                    await self._give_back(event)

    async def _keep(self, event: Event) -> None:
        """Extend the lease for as long as it takes, or as the bridge lets us."""
        lease_s = event.lease_s
        while True:
            await trio.sleep(lease_s / 2)
            try:
                extended_s = await self._client.extend(event)
            except BridgeBusy:
                lease_s /= 2  # then sooner
            except AnswerRefused:
                return  # `_answer` will tell
            else:
                if extended_s <= 1:
                    return
                lease_s = extended_s

    async def _give_back(self, event: Event) -> None:
        content, media = _encoded(retry_after_s=0)
        try:
            await self._client.answer(event, content, media)
        except (AnswerRefused, BridgeBusy) as error:
            self._log.warning("event not given back", uid=event.uid, why=str(error))

    async def _answer(self, event: Event, outcome: Outcome) -> bool:
        """Answer an event by an outcome; return whether nothing more can be done for it."""
        self._note(event, outcome)
        try:
            return await self._deliver(event, answer_of(outcome))
        except AnswerRefused as error:
            if error.status == 415:
                hint = "set component_text_replies = true, or reply in JSON"
                self._log.warning("reply ignored", media_type="text/plain", hint=hint)
                instead = NOTHING
            else:
                self._log.warning("bad reply", uid=event.uid, why=str(error))
                instead = _encoded(bad_reply=str(error))
        try:
            return await self._deliver(event, instead)
        except AnswerRefused as error:
            self._log.error("answer refused", uid=event.uid, why=str(error))
            return True

    async def _deliver(self, event: Event, answer: Answer) -> bool:
        """Send an answer, again and again if need be.

        Raises:
            AnswerRefused: if another answer may be accepted.
        """
        backoff = Backoff(_FIRST_S, _LAST_S)
        why = ""
        for number in range(1, _ANSWER_TRIES + 1):
            try:
                await self._client.answer(event, *answer)
                return True
            except AnswerRefused as error:
                if error.status not in _LATE:
                    raise
                self._log.warning("answer came too late", uid=event.uid, why=str(error))
                return True
            except BridgeBusy as error:
                why = str(error)
                await trio.sleep(max(backoff.wait_s(number), error.wait_s))
        self._log.error("answer could not be delivered", uid=event.uid, why=why)
        return True

    def _note(self, event: Event, outcome: Outcome) -> None:
        """Log what the developer of the service should know."""
        match outcome:
            case Unreachable(why=why) | TimedOut(why=why):
                self._outages.note_failure(why, event.uid)
                return
            case BadReply(why=why):
                self._log.warning("bad reply", uid=event.uid, why=why)
            case NoReply(ignored=str(media), status=status):
                hint = "use status 200 and Content-Type: application/json on replies"
                self._log.warning("reply ignored", media_type=media, status=status, hint=hint)
            case Rejected(status=status):
                self._log.warning("endpoint rejected a stanza", uid=event.uid, status=status)
            case Replied() | NoReply():
                pass
        self._outages.note_answer()


def answer_of(outcome: Outcome) -> Answer:
    """Return the body and the media type by which an event is answered for an outcome."""
    match outcome:
        case Replied(media=media, content=content):
            return content, _MEDIA[media]
        case NoReply(deferred=True):
            return _encoded(deferred=True)
        case NoReply():
            return NOTHING
        case Rejected(status=status, retry_after_s=None):
            return _encoded(status=min(status, 599))
        case Rejected(status=status, retry_after_s=wait_s):
            return _encoded(status=min(status, 599), retry_after_s=wait_s)
        case Unreachable():
            return _encoded(retry_after_s=GIVE_BACK_S)
        case TimedOut():
            return _encoded(status=504)
        case BadReply(why=why):
            return _encoded(bad_reply=why)
    assert_never(outcome)


def _encoded(**failure: object) -> Answer:
    return msgspec.json.encode(failure), _JSON
