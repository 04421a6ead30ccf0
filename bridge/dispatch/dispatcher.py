"""From a stanza that came in to the stanzas that go out: the queue, its order, slots, retries.

It is given a courier, a keeper and an outbox, and knows no stream. What `admission` lets in is
kept, then joins its conversation; each attempt to POST a head is one task. A slot is held while a
task POSTs, and until the outbox has room for what came of it.

Invariants: `_running` counts the slots in use. A stanza is in `_in_flight` from its delivery until
its end is decided; whoever closes it there, and nobody else, sends its replies or its error.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import WRITTEN_FACTOR
from bridge.dispatch.admission import Admission
from bridge.dispatch.conversation import Conversation, Conversations
from bridge.dispatch.inflight import InFlight
from bridge.dispatch.worker import AttemptResult, DeliveryWorker
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.queue import DeliveryQueue
from bridge.payload.error import INTERNAL, OVERLOADED, STOPPING, UNKEPT
from bridge.telemetry.meter import End
from bridge.telemetry.tracing import Spans
from bridge.webhook.outcome import NoReply, Outcome, Replied, TimedOut, error_of, reason_of
from bridge.webhook.retry import CircuitBreaker, RetryPolicy, says_down
from bridge.xmpp.bounce import Bouncer
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.outbox import Outbox
from xmppstream import Event, Stanza, StanzaReceived
from xmppstream.jid import bare

FULL_WAIT_S: Final = 10.0
CALM_BELOW: Final = 0.75  # of the keeper's limits: it is not full any more


class Dispatcher:
    """The stanzas of one component. `handle` is called by the reader, `run` owns the tasks."""

    def __init__(
        self,
        admission: Admission,
        worker: DeliveryWorker,
        queue: DeliveryQueue,
        outbox: Outbox,
        bouncer: Bouncer,
        rooms: MucOccupancy,
        log: FilteringBoundLogger,
        *,
        conversations: Conversations,
        policy: RetryPolicy,
        breaker: CircuitBreaker | None = None,
        max_in_flight: int = 256,
        max_xml_length: int = WRITTEN_FACTOR * 512 * 1024,
        now: Callable[[], float] = time.time,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._admission = admission
        self._worker = worker
        self._queue = queue
        self._outbox = outbox
        self._bouncer = bouncer
        self._meter = bouncer.meter
        self._rooms = rooms
        self._log = log
        self._conversations = conversations
        self._policy = policy
        self._breaker = breaker or CircuitBreaker()
        self._max_in_flight = max_in_flight
        self._max_xml_length = max_xml_length
        self._now = now
        self._trio_now: Callable[[], float] = trio.current_time
        self._in_flight = InFlight()
        self._running = 0
        self._ending = 0  # stanzas whose end is being kept
        self._expiry_due = math.inf
        self._nursery: trio.Nursery | None = None  # while `run` runs
        self._wake = trio.Event()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._patience_ends: float | None = None
        self._shedding = 0  # how many were refused since the queue was full
        self._stopping = False
        queue.bind(self._deliver, self._refuse, self._note_room)

    @property
    def in_flight(self) -> int:
        """How many are being POSTed."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many are in memory for their turn, or for another attempt."""
        return max(len(self._in_flight) - self._running, 0)

    @property
    def oldest(self) -> float | None:
        """When the first of what is in memory was received, Unix time, s."""
        return self._in_flight.oldest

    @property
    def conversations(self) -> Conversations:
        """What waits for what; to be read only."""
        return self._conversations

    @property
    def breaker(self) -> CircuitBreaker:
        """What is known of the endpoint; to be read only."""
        return self._breaker

    def change(self, policy: RetryPolicy, max_in_flight: int, *, moved: bool) -> None:
        """Go by other limits from now on; what is accepted already keeps its budget. An endpoint
        that has `moved` is not known to be down, and what waits to try again tries at once. By
        a policy that is not patient none is known to be down: nothing would end that.
        """
        self._policy, self._max_in_flight = policy, max_in_flight
        if moved or not policy.is_patient:
            self._breaker.reset()
        if moved:
            self._conversations.release_all()
        self._wake.set()

    # --- room two: what becomes of a stanza that came in

    async def handle(self, event: Event) -> None:
        """Take what the stream reports. Waits at most `FULL_WAIT_S`, while the queue is full."""
        stanza = self._admission.admit(event)
        if stanza is None:
            return
        is_full = self._queue.is_full
        if is_full:
            await self._wait_for_room()
            is_full = self._queue.is_full
        if self._stopping and (stanza.is_request or not self._queue.durable):
            self._meter.end(stanza.kind, "stopped")
            self._bouncer.tell(stanza, STOPPING)
        elif is_full:
            self._shed(stanza)
        else:
            if self._patience_ends is not None:
                self._end_shedding()
            weight = event.weight_bytes if isinstance(event, StanzaReceived) else 0
            delivery = Delivery(stanza, self._now(), weight, component=self._admission.domain)
            if len(delivery.xml) > self._max_xml_length:
                self._admission.refuse(stanza, "max_stanza_bytes, written out")
            else:
                self._admission.limiter.accepted(delivery)
                self._log.debug("accepted", uid=delivery.uid, id=stanza.id)
                self._queue.accept(delivery)

    async def _wait_for_room(self) -> None:
        """Wait for room, `FULL_WAIT_S` from the first stanza that found none.

        Not for each: at an endpoint that is a little too slow, every stanza waits for the place of
        one other, and a reader that waits all the time is cut off (S16).
        """
        if self._patience_ends is None:
            self._patience_ends = self._trio_now() + FULL_WAIT_S
        with trio.move_on_at(self._patience_ends):
            while self._queue.is_full and not self._stopping:
                await self._room.wait()

    def _note_room(self) -> None:
        if self._patience_ends is not None:
            self._room.set()
            self._room = trio.Event()

    def _shed(self, stanza: Stanza) -> None:
        if not self._shedding:
            self._log.error("queue full, refusing stanzas", waiting=len(self._in_flight))
        self._shedding += 1
        self._meter.end(stanza.kind, "overloaded")
        self._bouncer.tell(stanza, OVERLOADED)

    def _end_shedding(self) -> None:
        if self._queue.fullness > CALM_BELOW:
            return
        self._patience_ends = None
        if self._shedding:
            self._log.warning("queue has room again", refused=self._shedding)
            self._shedding = 0

    def _refuse(self, delivery: Delivery) -> None:
        """Tell the sender of a stanza that could not be kept."""
        self._admission.limiter.ended(delivery)
        self._meter.end(delivery.stanza.kind, "unkept")
        self._bouncer.tell(delivery.stanza, UNKEPT)

    def _deliver(self, delivery: Delivery) -> None:
        """Take a stanza that is kept."""
        if self._stopping and self._is_for_later(delivery):
            return
        now = self._trio_now()
        budget_s = self._policy.budget_s(delivery.stanza)
        if budget_s:
            age_s = self._now() - delivery.received
            delivery.deadline = now + budget_s - (age_s if age_s > 0 else 0)
            if delivery.stanza.is_request or self._breaker.is_down:
                self._expiry_due = min(self._expiry_due, delivery.deadline)
                self._wake.set()
        self._in_flight.open(delivery)
        self._conversations.add(delivery)
        # What finds no slot is begun by who leaves one, what is before `run` by `run`, what waits
        # for a probe by the wake above.
        if self._nursery is not None:
            self._start(now, self._nursery)  # by way of `run` it would be a turn of trio's later

    def _is_for_later(self, delivery: Delivery) -> bool:
        """Whether a stanza stays, once we stop, in the journal for the next process."""
        return self._queue.durable and not delivery.stanza.is_request

    # --- whose turn it is

    async def run(self) -> None:
        """Process what is delivered. Ends only by cancellation, which cancels what runs."""
        # The clock itself, since it is asked several times for each stanza: 0.25 us less each.
        self._trio_now = trio.lowlevel.current_clock().current_time
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._take_turns(nursery)
            finally:
                self._nursery = None

    async def _take_turns(self, nursery: trio.Nursery) -> None:
        while True:
            now = self._trio_now()
            self._conversations.release(now)
            if now >= self._expiry_due:
                self._expire(now, nursery)
            self._start(now, nursery)
            self._wake = trio.Event()
            due = self._next_due()
            if due == math.inf:  # the usual case, without the cost of a scope
                await self._wake.wait()
            else:
                with trio.move_on_at(due):
                    await self._wake.wait()

    def _start(self, now: float, nursery: trio.Nursery) -> None:
        breaker, conversations = self._breaker, self._conversations
        while conversations.ready and self._running < self._max_in_flight:
            if breaker.is_down and not breaker.allows(now):
                return
            conversation = conversations.take()
            if conversation is None:
                return
            head = conversation.head
            if self._stopping and self._is_for_later(head):
                continue
            # What is beyond its budget may be owed an attempt all the same.
            if head.deadline <= now and (head.stanza.is_request or head.is_tried):
                nursery.start_soon(self._give_up, conversation)
                continue
            self._running += 1
            probe = breaker.is_down and breaker.try_acquire()
            nursery.start_soon(self._process, conversation, probe, name="attempt")

    def _next_due(self) -> float:
        due = min(self._conversations.next_due, self._expiry_due)
        if self._conversations.any_ready and self._running < self._max_in_flight:
            due = min(due, self._breaker.next_probe_at)
        return due

    def _expire(self, now: float, nursery: trio.Nursery) -> None:
        """Give up what waits beyond its budget: requests always, since their senders have given
        up too; others while the endpoint is down, else each has the one attempt that it is owed.
        """
        requests_only = not self._breaker.is_down
        for delivery in self._in_flight.expired(now, requests_only=requests_only):
            conversation = self._conversations.take_idle(delivery)
            if conversation is not None:
                nursery.start_soon(self._give_up, conversation)
        self._expiry_due = self._in_flight.next_deadline(now, requests_only=requests_only)

    async def _give_up(self, conversation: Conversation) -> None:
        """End a head whose budget has ended, and those behind it that are as late."""
        while True:
            delivery = conversation.head
            why = "its time was up before it could be delivered"
            errors = self._errors(delivery, TimedOut())
            await self._settle(delivery, "expired", errors, why)
            if not self._done(conversation) or not self._breaker.is_down:
                return
            if conversation.head.deadline > self._trio_now():
                return
            if self._conversations.take_idle(conversation.head) is None:
                return

    # --- rooms three and four: the POST and what came of it

    async def _process(self, conversation: Conversation, probe: bool) -> None:
        """The task of one attempt at a conversation's head."""
        delivery = conversation.head
        now, deadline = self._trio_now(), delivery.deadline
        if deadline <= now and not delivery.stanza.is_request:
            deadline = math.inf  # late already, and here all the same: it is owed a whole attempt
        self._bouncer.counts.posted += 1
        result = None
        began = self._now()
        try:
            try:
                result = await self._worker.attempt(delivery, deadline, now)
            except Exception:  # the bridge itself has failed: the one broad `except` of its core
                self._note_bug(delivery)
            else:
                if not (result.is_success and self._breaker.is_fine):
                    due = self._due_again(delivery, result, began, probe)
                    if due is not None:
                        self._conversations.wait(conversation, due)
                        self._wake.set()
                        self._idle.set()
                        return
            if self._outbox.is_full and (result is None or result.stanzas or not result.is_success):
                await self._outbox.wait_room()
        finally:
            if result is None:
                self._breaker.release(probe=probe)
            self._running -= 1
            if self._conversations.ready:
                self._wake.set()
        end, stanzas, reason = self._end_of(delivery, result)
        await self._settle(delivery, end, stanzas, reason)
        self._done(conversation)

    def _note_bug(self, delivery: Delivery) -> None:
        event = "stanza failed in the bridge"
        self._log.exception(event, id=delivery.stanza.id, uid=delivery.uid)

    def _due_again(
        self, delivery: Delivery, result: AttemptResult, began: float, probe: bool
    ) -> float | None:
        """Take note of an attempt, and give when the stanza is tried again, if it is."""
        if probe or not result.was_cut:
            self._note_health(result.outcome, delivery, probe)
        if result.is_success:
            return None
        self._note_attempt(delivery, began, result.outcome)
        return self._next_attempt(delivery, result.outcome)

    def _note_health(self, outcome: Outcome, delivery: Delivery, probe: bool) -> None:
        if not self._policy.is_patient or (self._breaker.is_fine and not says_down(outcome)):
            return
        was_down = self._breaker.is_down
        sender = bare(delivery.stanza.from_ or "")
        self._breaker.record(outcome, sender, self._trio_now(), probe=probe)
        self._wake.set()
        if self._breaker.is_down and not was_down:
            self._log.error("endpoint is down, asking it by one POST at a time")
            self._expiry_due = self._trio_now()  # also those that are no requests, from now on
        elif was_down and not self._breaker.is_down:
            self._log.warning("endpoint is back", waiting=len(self._in_flight))

    def _note_attempt(self, delivery: Delivery, began: float, outcome: Outcome) -> None:
        delivery.attempts = (*delivery.attempts, Attempt(began, reason_of(outcome)))
        delivery.is_tried = True
        self._queue.attempted(delivery)

    def _next_attempt(self, delivery: Delivery, outcome: Outcome) -> float | None:
        """Give when a stanza is tried again; None where it is not, by now or by then."""
        if delivery.deadline == math.inf:  # it was accepted without a budget
            return None
        wait_s = self._policy.wait_s(outcome, len(delivery.attempts))
        if wait_s is None or self._trio_now() + wait_s >= delivery.deadline:
            return None
        return self._trio_now() + wait_s

    def _end_of(
        self, delivery: Delivery, result: AttemptResult | None
    ) -> tuple[End, list[Stanza], str | None]:
        """Give how a stanza ends, what is sent for it, and for a dead letter its reason."""
        if result is None:
            return "failed", self._bouncer.error(delivery.stanza, INTERNAL, delivery.uid), "a bug"
        if result.is_success:
            self._bouncer.counts.replied += len(result.stanzas)
            return result.posted, result.stanzas, None
        errors = self._errors(delivery, result.outcome)
        return result.posted, errors, reason_of(result.outcome)

    def _errors(self, delivery: Delivery, outcome: Outcome) -> list[Stanza]:
        assert not isinstance(outcome, Replied | NoReply)
        return self._bouncer.error(delivery.stanza, error_of(outcome), delivery.uid)

    async def _settle(
        self, delivery: Delivery, end: End, stanzas: list[Stanza], reason: str | None
    ) -> None:
        """End a stanza, once: its replies are kept, then sent."""
        if not self._in_flight.close(delivery):
            self._log.error("a stanza was to be ended twice", uid=delivery.uid)
            return
        self._meter.end(delivery.stanza.kind, end)
        self._admission.limiter.ended(delivery)
        if self._spans is not None and self._spans.samples(delivery.uid):
            self._export(self._spans, delivery, end, reason)
        encoded = list(map(Stanza.encode, stanzas))
        self._ending += 1
        try:
            replies = await self._queue.settle(delivery, encoded, self._now(), reason)
        finally:
            self._ending -= 1
        self._log.debug("ended", uid=delivery.uid, end=end, replies=len(stanzas))
        self._outbox.put(replies)
        for stanza in stanzas:
            if stanza.type == "groupchat":
                self._rooms.observe_sent(stanza)

    def _export(self, spans: Spans, delivery: Delivery, end: End, reason: str | None) -> None:
        spans.stanza_ended(
            delivery.uid,
            delivery.stanza.kind,
            self._admission.domain,
            delivery.received,
            len(delivery.attempts),
            "" if reason is None else end,
        )

    def _done(self, conversation: Conversation) -> bool:
        """Let the next of a conversation have its turn, and tell whether there is one."""
        is_more = self._conversations.done(conversation)
        if is_more:
            if self._breaker.is_down:  # it could not expire behind another
                self._expiry_due = min(self._expiry_due, conversation.head.deadline)
            self._wake.set()
        if self._stopping:
            self._idle.set()
        return is_more

    # --- stopping

    async def drain(self) -> None:
        """Admit nothing more, and wait until all that is to end in this process has ended."""
        self._stopping = True
        self._room.set()
        while self._unfinished:
            self._idle = trio.Event()
            await self._idle.wait()

    @property
    def _unfinished(self) -> int:
        if self._queue.durable:
            return self._running + self._ending + len(self._in_flight.requests)
        return len(self._in_flight)

    async def give_up(self) -> int:
        """End what is not done, after `run` was cancelled: answer it by errors, but for what the
        journal keeps for the next process. Give how many were answered.
        """
        rest = self._in_flight.requests if self._queue.durable else self._in_flight.all
        async with trio.open_nursery() as nursery:  # so that the journal commits them together
            for delivery in rest:
                errors = self._bouncer.error(delivery.stanza, STOPPING, delivery.uid)
                nursery.start_soon(self._settle, delivery, "stopped", errors, "the daemon stopped")
        return len(rest)
