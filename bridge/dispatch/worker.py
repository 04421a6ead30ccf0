"""One attempt: POST a stanza as JSON, read the reply, and make stanzas from it that may be sent.

Events that an operator should know of are logged here, once.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from bridge.dispatch.outage import OutageLog
from bridge.dispatch.promise import Promises
from bridge.dispatch.streaming import STREAMED, Streams
from bridge.journal.delivery import Delivery
from bridge.payload.attachment import has_data
from bridge.payload.body import IGNORED, Reading, ReplyObject, hint_for, read_reply
from bridge.payload.check import is_answer_to
from bridge.payload.derived import OUTSIDE, Place
from bridge.payload.error import UnusableReply
from bridge.payload.reply import ReplyComposer
from bridge.payload.request import request_body
from bridge.telemetry.meter import Meter, PostResult
from bridge.telemetry.text import printable
from bridge.webhook.outcome import (
    REFUSES_US,
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
    reason_of,
)
from bridge.xmpp.autoresponder import Autoresponder
from bridge.xmpp.bounce import is_final
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.command.step import Turn
from bridge.xmpp.offer import Offers
from bridge.xmpp.receipt import Receipts
from bridge.xmpp.room.outcome import leave_reason_of
from bridge.xmpp.room.rooms import Rooms
from bridge.xmpp.typing import Typing
from xmppstream import Stanza

_WARNED_LIMIT: Final = 100
_SHOWN: Final = 60
_ASKED: Final = frozenset({"command", "register"})
"""The events of dialogs that the bridge leads. They are answered at once: without `reply_url`."""


class Poster(Protocol):
    """An endpoint as the worker uses it."""

    shown: str

    async def post(
        self, body: bytes, uid: str, attempt: int, began: float, deadline: float
    ) -> Outcome:
        """POST `body`. The outcome is `TimedOut` after the endpoint's own time-out, which runs from
        `began` (now), or at `deadline`, the end of the stanza's budget, or just after; both are
        times of trio's clock.
        """
        ...


class FileUploads(Protocol):
    """Uploads the files within replies."""

    async def with_urls(
        self, objects: Sequence[ReplyObject], from_: str, /
    ) -> Sequence[ReplyObject]:
        """Return the objects of a reply from `from_` with a URL in the place of each content.

        Raises:
            UnusableReply: if a file cannot be uploaded.
        """
        ...


@runtime_checkable
class StreamingPoster(Protocol):
    """An endpoint whose replies may be streams."""

    def use_streams(self, streams: Streams) -> None:
        """Pass such replies to `streams`, as they come."""
        ...


class AttemptResult(msgspec.Struct, frozen=True, gc=False):  # a Struct, like `Outcome`
    """The outcome of an attempt, and the stanzas to send if it is a success."""

    outcome: Outcome
    posted: PostResult
    """The name of the outcome."""
    is_success: bool
    stanzas: list[Stanza]
    is_deferred: bool = False
    """Whether the endpoint has promised to reply later."""

    @property
    def was_cut(self) -> bool:
        """Whether the stanza's own budget cut it, so it says nothing about the endpoint."""
        return isinstance(self.outcome, TimedOut) and self.outcome.was_cut


class DeliveryWorker:
    """Makes attempts at one component's endpoint."""

    def __init__(
        self,
        endpoint: Poster,
        composer: ReplyComposer,
        autoresponder: Autoresponder,
        rooms: Rooms,
        log: FilteringBoundLogger,
        meter: Meter | None = None,
        receipts: Receipts | None = None,
        typing: Typing | None = None,
        promises: Promises | None = None,
        uploads: FileUploads | None = None,
        offers: Offers | None = None,
        commands: Commands | None = None,
        streams: Streams | None = None,
        *,
        is_replay: bool = False,
    ) -> None:
        """Without `receipts`, nothing is acknowledged; without `typing`, nobody sees that a stanza
        is being worked on; without `promises`, no POST has a `reply_url`; without `uploads`, a
        reply with the content of a file is a bad reply; without `offers`, no answer names a choice;
        without `commands`, none are handled; without `streams`, no reply is streamed. `is_replay`:
        the deferred replies are those of the capture, so an iq that waits for one is not answered
        here.
        """
        # `Dispatcher.run` replaces it by the clock itself, which costs a third to read.
        self.trio_now: Callable[[], float] = trio.current_time
        self._is_replay = is_replay
        self._promises = promises
        self._uploads = uploads
        self._offers = offers
        self.commands = commands
        self._receipts = receipts
        self._streams = streams
        self._typing = typing
        self._composer = composer
        self._rooms = rooms
        self._unbound_log = log
        self._meter = meter or Meter()
        self.outages = OutageLog(log)
        self._autoresponder = autoresponder
        self.change(endpoint)

    def change(self, endpoint: Poster) -> None:
        """Use another endpoint from the next attempt on; running attempts are not affected."""
        self._endpoint = endpoint
        if self._streams is not None and isinstance(endpoint, StreamingPoster):
            endpoint.use_streams(self._streams)
        self._warned: set[tuple[str, ...]] = set()
        self._log = self._unbound_log.bind(endpoint=endpoint.shown)
        self.outages.change(self._log)

    async def attempt(self, delivery: Delivery, deadline: float, began: float) -> AttemptResult:
        """POST once, cut at `deadline` or by the time-out of the endpoint; see `Poster.post`."""
        stanza, meter = delivery.stanza, self._meter
        number = len(delivery.attempts) + 1
        url, promises, offers = None, self._promises, self._offers
        is_asked = delivery.event is not None and delivery.event in _ASKED
        if promises is not None and not is_asked and not is_final(stanza):
            url = promises.url_for(delivery)
        occupancy, event = self._rooms.occupancy, delivery.event
        body = request_body(
            *(stanza, delivery.xml, delivery.received, delivery.uid, number),
            self._place_of(delivery) if occupancy.is_anywhere or event == "room_left" else OUTSIDE,
            event,
            url,
            offers.choice_of(delivery.uid) if offers is not None and offers.chosen else None,
        )
        if self._typing is not None:
            self._typing.begin(delivery.uid, stanza, began)
        outcome = await self._endpoint.post(body, delivery.uid, number, began, deadline)
        if promises is not None:
            promises.answered(delivery)
        meter.latency.add(self.trio_now() - began)
        meter.posted_bytes += len(body)
        if number > 1:
            meter.retries += 1
        stanzas: list[Stanza] = []
        turn = None
        streams, uid = self._streams, delivery.uid
        if streams is not None and streams.running and uid in streams.running:
            outcome, stanzas = await self._end_stream(streams, delivery, outcome)
        elif isinstance(outcome, Replied):
            meter.replied_bytes += len(outcome.content)
            if is_final(stanza):  # a reply to it is ignored (H5)
                pass
            elif (
                streams is not None
                and not is_asked
                and (outcome.media in STREAMED or uid in streams.begun)
            ):
                outcome, stanzas = await self._end_stream(streams, delivery, outcome)
            else:
                in_room = occupancy.is_anywhere and occupancy.has_occupant(stanza.from_ or "")
                try:
                    if outcome.media in STREAMED:
                        raise UnusableReply("a command is answered by one object, not by a stream")
                    reading = read_reply(outcome, "iq" if stanza.is_request else "message")
                    if reading.unknown or reading.whys:
                        self._note_reading(reading)
                    objects: Sequence[ReplyObject] = reading.objects
                    if is_asked:
                        turn = self._turn_of(delivery, reading.objects)
                        objects = turn.objects
                    if self._uploads is not None and has_data(objects):
                        objects = await self._uploads.with_urls(objects, stanza.to or "")
                    stanzas = await self._composer.compose(
                        objects, stanza, uid=delivery.uid, in_room=in_room
                    )
                except UnusableReply as error:
                    outcome = BadReply(str(error))
        elif is_asked and outcome.is_success:
            turn = self._turn_of(delivery, [])
            stanzas = await self._composer.compose(
                turn.objects, stanza, uid=delivery.uid, in_room=False
            )
        posted = outcome.name
        meter.posts[posted] += 1
        self._log.debug("posted", uid=delivery.uid, id=stanza.id, outcome=posted)
        if self.outages.failed or posted != "replied":
            self._note(outcome, delivery)
        is_success, is_deferred = outcome.is_success, False
        if is_success and turn is not None:
            turn.apply()
        if self._typing is not None and not is_success:
            self._typing.interrupt(delivery.uid)
        if isinstance(outcome, NoReply) and outcome.deferred:
            is_deferred = self._defer(delivery, url, began)
        is_owed = is_success and stanza.is_request and not is_deferred
        if is_owed and not is_answer_to(stanzas, stanza):
            stanzas.append(self.default_answer(stanza))
        if is_success and self._receipts is not None:
            receipts = self._receipts.for_handled(stanza, stanzas)
            if receipts:
                meter.receipts += len(receipts)
                stanzas = [*receipts, *stanzas]
        return AttemptResult(outcome, posted, is_success, stanzas, is_deferred)

    def _defer(self, delivery: Delivery, url: str | None, began: float) -> bool:
        """Note a promise to reply at `url`; return whether it can be kept."""
        if self._promises is None or url is None:
            if self._is_replay:
                return True
            if self._is_new("deferred"):
                hint = "set public_url in [listen]"
                if self._promises is not None:
                    hint = "this stanza cannot be replied to later; reply at once"
                event = "endpoint defers its reply, but has no reply_url"
                self._log.warning(event, hint=hint, uid=delivery.uid)
            return False
        self._meter.deferred += 1
        if self._typing is not None:
            self._typing.promise(delivery.uid, began + self._promises.ttl_s)
        return True

    def _turn_of(self, delivery: Delivery, objects: list[ReplyObject]) -> Turn:
        """Return a reply as it is composed: that to a command of the bridge's takes a turn.

        Raises:
            UnusableReply: if the reply to a command cannot be used.
        """
        if self.commands is None or delivery.event is None:
            return Turn(objects)
        return self.commands.turn(delivery.stanza, delivery.event, objects)

    async def _end_stream(
        self, streams: Streams, delivery: Delivery, outcome: Outcome
    ) -> tuple[Outcome, list[Stanza]]:
        """Return the outcome of a streamed reply, and the stanzas that complete it. What was said
        stays, so one that breaks after its first text is a success; before, it is a failure.
        """
        fault = None if outcome.is_success else reason_of(outcome)
        rest = outcome if isinstance(outcome, Replied) else None
        try:
            stanzas, reply = await streams.end(delivery, fault, rest)
        except UnusableReply as error:
            self._meter.streamed["failed"] += 1
            return (BadReply(str(error)) if outcome.is_success else outcome), []
        self._meter.streamed["whole" if reply.fault is None else "broken"] += 1
        self._note_reading(Reading([], tuple(reply.unknown)))
        if reply.fault is not None:
            event = "streamed reply broke"
            self._log.error(event, why=reply.fault, id=delivery.stanza.id, uid=delivery.uid)
        says_something = bool(stanzas) or reply.has_begun
        return (Replied("ndjson", b"") if says_something else NoReply()), stanzas

    def _place_of(self, delivery: Delivery) -> Place:
        """Return what is known of the room that a stanza comes from."""
        rooms, stanza = self._rooms.occupancy, delivery.stanza
        if delivery.event == "room_left":
            return Place(True, reason=leave_reason_of(stanza))
        if not rooms.has_occupant(stanza.from_ or ""):
            return OUTSIDE
        address = rooms.occupant(stanza.from_ or "", stanza.to or "")
        nick = address and address.partition("/")[2]
        return Place(True, nick, address, lacks=self._rooms.lacks(stanza))

    def default_answer(self, request: Stanza) -> Stanza:
        """Return the answer to a request that the endpoint did not answer (H3).

        An empty result says that a set is done. For a get it would be false: we answer it.
        """
        return (
            request.reply()
            if request.type == "set"
            else self._autoresponder.answer_request(request)
        )

    def _note(self, outcome: Outcome, delivery: Delivery) -> None:
        uid, id = delivery.uid, delivery.stanza.id
        match outcome:
            case Replied():
                pass
            case Unreachable(why=why, is_down=False):
                if self._is_new("nobody", why):
                    self._log.warning("nobody polls for an address", why=why, id=id, uid=uid)
            case TimedOut(is_down=False):
                self._log.warning("lease ended", id=id, uid=uid)
            case Unreachable(why=why):
                self.outages.note_failure(why, uid)
                return
            case TimedOut(why=why):
                self.outages.note_failure(why, uid)
                return
            case NoReply(ignored=media, status=status) if media is not None:
                self._note_ignored(media, status)
            case BadReply(why=why):
                self._log.warning("bad reply", why=why, id=id, uid=uid)
            case Rejected(status=status) if status in REFUSES_US:
                event = "your endpoint refuses the bridge"
                self._log.warning(event, status=status, id=id, uid=uid)
            case Rejected(status=status, location=location):
                event = "endpoint rejected a stanza"
                if status >= 500:
                    self._log.warning(event, status=status, id=id, uid=uid)
                else:
                    self._log.info(event, status=status, id=id, uid=uid)
                if 300 <= status < 400 and self._is_new("redirect"):
                    hint = "set component_post_url to the new address: redirects are not followed"
                    event = "endpoint redirects"
                    self._log.warning(event, status=status, location=location, hint=hint)
        self.outages.note_answer()

    def _note_ignored(self, media: str, status: int) -> None:
        subject = media if status == 200 else str(status)
        if not self._is_new("ignored", subject):
            return
        event = "reply ignored"
        if status != 200:
            hint = "use status 200 for replies"
            self._log.warning(event, status=status, hint=hint)
            return
        hint = "set Content-Type: application/json on replies"
        if media == "text/plain":
            hint += ", or component_text_replies = true"
        self._log.warning(event, media_type=media, hint=hint)

    def _note_reading(self, reading: Reading) -> None:
        for key in reading.unknown:
            shown = printable(key[:_SHOWN])
            # A service may send back what it got; `text` without `uid` was meant to be `body`.
            is_echo = key in IGNORED and ("uid" in reading.unknown or key == "received")
            if not is_echo and self._is_new("key", shown):
                self._log.warning("unknown key in a reply", key=shown, hint=hint_for(key))
        for why in reading.nothing:
            if self._is_new("nothing", why):
                hint = 'return an object with "body"'
                self._log.warning("reply says nothing", why=why, hint=hint)

    def _is_new(self, *subject: str) -> bool:
        """Return whether a subject has not been warned about, and record that it is now."""
        is_new = subject not in self._warned and len(self._warned) < _WARNED_LIMIT
        if is_new:
            self._warned.add(subject)
        return is_new
