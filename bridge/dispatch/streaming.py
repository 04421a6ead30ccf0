"""Replies that come as streams: sent as they come, and settled like any other at their end.

A stream is followed by the task of its attempt, which passes each piece on (`RunningStream.feed`);
one task for all of them (`Streams.run`) sends what is due in between. That is:

- The first text of a message, and each message that is complete while others follow. These are kept
  by the journal before they are written, like what the HTTP API sends. In the same batch, and so
  never without it, `Begun` is kept: if the POST is repeated, because the bridge was killed in
  mid-stream, its reply corrects what was said. So nobody sees two answers.
- Corrections on the way. These are kept nowhere: losing one is harmless. One that is not written
  yet is replaced by the next, so none pile up while there is no stream to the server.

The rest is sent when the stanza is settled, as its reply. `Begun` is forgotten then; what a crash
between the two leaves behind is swept at the next start.

A stream does not hold the slot of an ordinary POST, which is meant for milliseconds to seconds: 256
language models at work would stop everything else. So the dispatcher frees the slot once the head
has come, and up to `max_streams` streams have connections of their own. Beyond that number, streams
keep their slots, so `max_in_flight` bounds them as any POST. Their conversation waits for their end
in any case, since what comes next must be said after it.

On SIGTERM a stream has the grace period. Then it is cut, what was said stays, and its stanza is
pending in the journal.
"""

import math
import time
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import Component
from bridge.journal.delivery import Delivery
from bridge.journal.queue import DeliveryQueue
from bridge.payload.body import ReplyBody, decode_json, without_bom
from bridge.payload.error import UnusableReply
from bridge.payload.reply import ReplyComposer
from bridge.payload.stream import StreamDecoder, StreamMedia
from bridge.payload.streamed import Begun, Part, StreamedReply
from bridge.telemetry.meter import Meter
from bridge.xmpp.bounce import is_final
from bridge.xmpp.offer import Offers
from bridge.xmpp.outbox import Outbox, Outgoing
from bridge.xmpp.room.rooms import Rooms
from bridge.xmpp.state import StateStore
from bridge.xmpp.typing import Typing
from xmppstream import Stanza, encode

KIND: Final = "stream"
"""The kind of the state's entries: what was sent of a reply, by the uid of its stanza."""
STREAMED: Final = frozenset({"ndjson", "sse"})
"""The media of replies that may be streams."""
_BEGUN: Final = msgspec.json.Decoder(Begun)


class RunningStream:
    """One reply while it comes. The endpoint calls `feed`; `deadline` is for it, too."""

    def __init__(
        self,
        streams: "Streams",
        delivery: Delivery,
        reply: StreamedReply,
        decoder: StreamDecoder | None,
    ) -> None:
        self.delivery = delivery
        self.reply = reply
        self.deadline = delivery.deadline if delivery.stanza.is_request else math.inf
        self.latest: Outgoing | None = None
        """The correction that was put into the outbox last."""
        self.pending = 0
        """The parts that are being committed."""
        self.committed = trio.Event()
        self.size_bytes = 0
        self._streams = streams
        self._decoder = decoder
        self._fault: UnusableReply | None = None

    @property
    def due(self) -> float:
        """When its next part is to be sent."""
        return math.inf if self.pending or self._fault else self.reply.due

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body.

        Raises:
            UnusableReply: if the reply cannot be used, now or because of what came before.
        """
        self.size_bytes += len(piece)
        if self._decoder is not None:
            for one in self._decoder.feed(piece):
                self.take(one)

    def end(self) -> None:
        """Take the end of the body. Raises `UnusableReply`, as `feed` does."""
        if self._decoder is not None:
            for one in self._decoder.end():
                self.take(one)

    def take_whole(self, whole: ReplyBody) -> None:
        """Take a reply that came in one piece. Raises `UnusableReply`, as `feed` does."""
        if self._decoder is not None:
            self.feed(whole.content)
        else:
            for one in _objects_of(whole):
                self.take({"new": True, **one})

    def take(self, one: dict[str, Any]) -> None:
        """Take an object of the reply. Raises `UnusableReply`, as `feed` does."""
        if self._fault is not None:
            raise self._fault
        if self.reply.take(one, self._streams.trio_now()):
            self._streams.show_typing(self.delivery)
        self._streams.note_due(self)
        if self._fault is not None:
            raise self._fault

    def parts(self, now: float) -> list[Part]:
        """Return what is due; if it cannot be sent, the next `feed` says so."""
        try:
            return self.reply.parts(now)
        except UnusableReply as error:
            self._fault = error
            return []


class Streams:
    """The streamed replies of one component. `run` is its task."""

    def __init__(
        self,
        component: Component,
        composer: ReplyComposer,
        queue: DeliveryQueue,
        outbox: Outbox,
        state: StateStore,
        rooms: Rooms,
        typing: Typing,
        log: FilteringBoundLogger,
        meter: Meter,
        now: Callable[[], float] = time.time,
        offers: Offers | None = None,
    ) -> None:
        """`now` is Unix time in s. Without `offers`, no answer names a choice. The dispatcher sets
        `find` and `began`.
        """
        self.running: dict[str, RunningStream] = {}
        """By the uid of their stanza; read-only."""
        self.begun: dict[str, Begun] = {}
        """What was sent of replies whose stanza is pending; read-only."""
        self.find: Callable[[str], Delivery | None] = lambda uid: None
        """Returns the stanza of a uid, if it is being POSTed."""
        self.began: Callable[[Delivery], None] = lambda delivery: None
        """Called when the head of a stream has come."""
        self.trio_now: Callable[[], float] = trio.current_time
        self._component = component
        self._composer = composer
        self._queue = queue
        self._outbox = outbox
        self._state = state
        self._rooms = rooms
        self._typing = typing
        self._log = log
        self._meter = meter
        self._now = now
        self._offers = offers
        self._next = math.inf  # when `run` wakes by itself
        self._wake = trio.Event()

    def change(self, component: Component) -> None:
        """Use another configuration for streams that begin from now on."""
        self._component = component

    # --- one stream

    def open(self, uid: str, media: StreamMedia, limit_bytes: int) -> RunningStream | None:
        """Begin to follow the reply to a stanza that is being POSTed; None if there is no such
        stanza, or if the bridge itself has made its event: then the reply is read whole.
        """
        delivery = self.find(uid)
        if delivery is None or is_final(delivery.stanza) or delivery.event is not None:
            return None
        stream = self._make(delivery, StreamDecoder(media, limit_bytes))
        self.running[uid] = stream
        self.began(delivery)
        return stream

    def _make(self, delivery: Delivery, decoder: StreamDecoder | None) -> RunningStream:
        stanza, uid = delivery.stanza, delivery.uid
        reply = StreamedReply(
            *(self._composer, stanza, uid, len(delivery.attempts) + 1),
            in_room=self._rooms.occupancy.has_occupant(stanza.from_ or ""),
            edits=self._component.stream == "edits",
            before=self.begun.get(uid),
        )
        return RunningStream(self, delivery, reply, decoder)

    async def end(
        self, delivery: Delivery, fault: str | None, whole: ReplyBody | None
    ) -> tuple[list[Stanza], StreamedReply]:
        """End a reply, and return the stanzas that complete it. `fault` says why the stream broke,
        if it did. `whole` is a reply that came in one piece.

        Raises:
            UnusableReply: if nothing was said, and nothing can be.
        """
        stream = self.running.pop(delivery.uid, None)
        is_whole = stream is None
        if stream is not None:
            self._meter.replied_bytes += stream.size_bytes
        else:
            stream = self._make(delivery, _decoder_of(whole))
            stream.reply.hold()
        try:
            if is_whole and whole is not None:
                stream.take_whole(whole)
            if fault is None:
                stream.end()
        except UnusableReply as error:
            fault = str(error)
        if fault is not None and not stream.reply.has_text and not stream.reply.has_begun:
            raise UnusableReply(fault)
        while stream.pending:
            stream.committed = trio.Event()
            await stream.committed.wait()
        if stream.latest is not None:
            self._outbox.withdraw(stream.latest)
        return await stream.reply.end(fault, self._component.stream_broken), stream.reply

    def settled(self, uid: str) -> None:
        """Forget a stanza whose end is being kept."""
        self.running.pop(uid, None)
        if self.begun.pop(uid, None) is not None:
            self._state.delete(KIND, uid)

    def show_typing(self, delivery: Delivery) -> None:
        """Show the sender of a stanza that the bot is typing."""
        self._typing.show(delivery.uid, delivery.stanza)

    # --- what is due

    def note_due(self, stream: RunningStream) -> None:
        """Record that the next part of a stream may be due now, or sooner than before."""
        due = stream.due
        if due <= self.trio_now():
            self._send_due(stream)
        elif due < self._next:
            self._wake.set()

    async def run(self) -> None:
        """Send what is due. Ends only by cancellation."""
        while True:
            now = self.trio_now()
            for stream in list(self.running.values()):
                if stream.due <= now:
                    self._send_due(stream)
            self._next = min((one.due for one in self.running.values()), default=math.inf)
            self._wake = trio.Event()
            with trio.move_on_at(self._next):
                await self._wake.wait()

    def _send_due(self, stream: RunningStream) -> None:
        if self._outbox.is_full:
            stream.reply.hold()  # the end waits for room
        for part in stream.parts(self.trio_now()):
            if part.is_kept:
                self._keep(stream, part.stanza)
            else:
                self._correct(stream, part.stanza)

    def _keep(self, stream: RunningStream, stanza: Stanza) -> None:
        """Send a part that must not be lost, once it is kept."""
        uid = stream.delivery.uid
        self.begun[uid] = stream.reply.begun
        self._state.put(KIND, uid, msgspec.json.encode(self.begun[uid]))
        [stanza] = self._typing.end(uid, [stanza])
        stream.pending += 1

        def kept(outgoing: list[Outgoing] | None) -> None:
            stream.pending -= 1
            stream.committed.set()
            if outgoing is None:
                self._log.error("a part of a streamed reply could not be kept", uid=uid)
                stream.reply.hold()
                return
            self._meter.counts.replied += 1
            self._outbox.put(outgoing)
            if self._offers is not None:
                self._offers.observe_sent(stanza)
            self._wake.set()

        self._queue.send({uid: stanza}, self._now(), None, kept)

    def _correct(self, stream: RunningStream, stanza: Stanza) -> None:
        """Send a correction on the way, in place of the last one if that was not written yet."""
        if stream.latest is not None:
            self._outbox.withdraw(stream.latest)
        data = encode(stanza)
        if self._outbox.reserve(len(data)):
            self._outbox.release(len(data))
            stream.latest = Outgoing(data, self._now())
            self._outbox.put([stream.latest])

    # --- across restarts

    @property
    def kept(self) -> list[str]:
        """The uids of which the state has something."""
        return list(self._state.entries(KIND))

    def load(self, pending: Collection[str]) -> None:
        """Read what was sent before, of the stanzas that are pending, and forget the rest."""
        for uid, value in self._state.entries(KIND).items():
            if uid not in pending:
                self._state.delete(KIND, uid)
                continue
            try:
                self.begun[uid] = _BEGUN.decode(value)
            except msgspec.MsgspecError as error:
                self._log.error("kept state cannot be read", kind=KIND, key=uid, why=str(error))


def _decoder_of(whole: ReplyBody | None) -> StreamDecoder | None:
    if whole is None or (whole.media != "ndjson" and whole.media != "sse"):
        return None
    return StreamDecoder(whole.media, len(whole.content))


def _objects_of(whole: ReplyBody) -> list[dict[str, Any]]:
    """Return the objects of a reply that is not a stream."""
    if whole.media == "json":
        value = decode_json(whole.content)
        given = value if isinstance(value, list) else [value]
        return [one for one in given if isinstance(one, dict)]
    text = without_bom(whole.content).decode(errors="replace")
    return [{"stanza": text} if whole.media == "xml" else {"body": text}]
