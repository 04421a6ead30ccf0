"""Settles stanzas: replies or an error are kept, then sent, exactly once per stanza."""

import time
from collections.abc import Callable, Sequence

import trio
from structlog.typing import FilteringBoundLogger

from bridge.dispatch.inflight import InFlight
from bridge.dispatch.outage import OutageLog
from bridge.dispatch.ratelimit import SenderLimiter
from bridge.dispatch.streaming import Streams
from bridge.dispatch.worker import AttemptResult
from bridge.journal.delivery import Delivery
from bridge.journal.queue import DeliveryQueue
from bridge.payload.error import INTERNAL
from bridge.telemetry.meter import End
from bridge.telemetry.tracing import Spans
from bridge.webhook.outcome import NoReply, Outcome, Replied, TimedOut, error_of, reason_of
from bridge.xmpp.bounce import Bouncer
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.contact import Contacts
from bridge.xmpp.offer import Offers
from bridge.xmpp.outbox import Outbox, Outgoing
from bridge.xmpp.room.rooms import Rooms
from bridge.xmpp.typing import Typing
from xmppstream import Stanza, StanzaError


class Settlement:
    """Settles the stanzas of one component. `pending` of them are being committed now."""

    def __init__(
        self,
        in_flight: InFlight,
        queue: DeliveryQueue,
        outbox: Outbox,
        bouncer: Bouncer,
        limiter: SenderLimiter,
        rooms: Rooms,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
        spans: Spans | None = None,
        contacts: Contacts | None = None,
        outages: OutageLog | None = None,
        typing: Typing | None = None,
        offers: Offers | None = None,
        commands: Commands | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._offers = offers
        self._streams = streams
        self._typing = typing
        self._commands = commands
        self._contacts = contacts
        self.pending = 0
        self._in_flight = in_flight
        self._queue = queue
        self._outbox = outbox
        self._bouncer = bouncer
        self._meter = bouncer.meter
        self._limiter = limiter
        self._rooms = rooms
        self._log = log
        self._now = now
        self._spans = spans
        self._outages = outages

    def end_of(
        self, delivery: Delivery, result: AttemptResult | None
    ) -> tuple[End, list[Stanza], str | None]:
        """Return how the last attempt ends a stanza: in a word, by which stanzas, and the reason of
        the dead letter. None as the result means that the bridge itself has failed.
        """
        if result is None:
            return "failed", self._refusal(delivery, INTERNAL), "a bug"
        if result.is_success:
            self._bouncer.counts.replied += len(result.stanzas)
            return result.posted, result.stanzas, None
        return result.posted, self._errors(delivery, result.outcome), reason_of(result.outcome)

    async def expire(
        self, delivery: Delivery, reason: str = "it expired before it could be delivered"
    ) -> None:
        """End a stanza whose budget has ended; it becomes a dead letter. Return once it is kept."""
        await self.end(delivery, "expired", self._errors(delivery, TimedOut()), reason)

    async def end(
        self, delivery: Delivery, end: End, stanzas: list[Stanza], reason: str | None
    ) -> None:
        """Settle a stanza, and return once its end is kept."""
        kept = trio.Event()
        self.settle(delivery, end, stanzas, reason, kept.set)
        await kept.wait()

    def _errors(self, delivery: Delivery, outcome: Outcome) -> list[Stanza]:
        assert not isinstance(outcome, Replied | NoReply)
        return self._refusal(delivery, error_of(outcome))

    def _refusal(self, delivery: Delivery, error: StanzaError) -> list[Stanza]:
        """Return the error for the sender; a command ends, and its answer says so."""
        if self._commands is not None and delivery.event == "command":
            answer = self._commands.fail(delivery.stanza, delivery.event, error)
            if answer is not None:
                return [answer]
        return self._bouncer.error(delivery.stanza, error, delivery.uid)

    def settle(
        self,
        delivery: Delivery,
        end: End,
        stanzas: list[Stanza],
        reason: str | None,
        then: Callable[[], None],
    ) -> None:
        """Settle a stanza, once: `stanzas` are kept, then sent; then `then` is called. With a
        `reason` it becomes a dead letter.
        """
        if not self._in_flight.close(delivery):
            self._log.error("a stanza was to be ended twice", uid=delivery.uid)
            then()
            return
        self._meter.end(delivery.stanza.kind, end)
        self._limiter.ended(delivery)
        if reason is not None and self._outages is not None:
            self._outages.note_given_up(reason)
        if self._spans is not None and self._spans.samples(delivery.uid):
            self._export(self._spans, delivery, end, reason)
        if self._typing is not None:
            stanzas = self._typing.settle(delivery.uid, stanzas)
        encoded = list(map(Stanza.encode, stanzas))
        self.pending += 1

        def kept(replies: Sequence[Outgoing]) -> None:
            self.pending -= 1
            self._send(delivery, end, stanzas, reason, replies)
            then()

        self._queue.settle(delivery, encoded, self._now(), reason, kept)

    def _send(
        self,
        delivery: Delivery,
        end: End,
        stanzas: list[Stanza],
        reason: str | None,
        replies: Sequence[Outgoing],
    ) -> None:
        """Send what is kept, and tell those who follow what is sent."""
        if self._streams is not None and (self._streams.begun or self._streams.running):
            self._streams.settled(delivery.uid)
        self._log.debug("ended", uid=delivery.uid, end=end, replies=len(stanzas))
        self._outbox.put(replies)
        offers = self._offers
        for stanza in stanzas:
            if stanza.type == "groupchat" or stanza.kind == "presence":
                self._rooms.observe_sent(stanza)
            if stanza.kind == "presence" and self._contacts is not None:
                self._contacts.observe_sent(stanza)
            if offers is not None and (offers.made or len(stanza.element.children) > 1):
                offers.observe_sent(stanza)
        if offers is not None and offers.chosen and reason is None:
            offers.forget(delivery.uid)

    def _export(self, spans: Spans, delivery: Delivery, end: End, reason: str | None) -> None:
        spans.stanza_ended(
            delivery.uid,
            delivery.stanza.kind,
            delivery.component,
            delivery.received,
            len(delivery.attempts),
            "" if reason is None else end,
        )
