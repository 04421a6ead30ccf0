"""From an incoming stanza to its replies: order, slots, retries, expiry.

The dispatcher has a worker, a queue and an outbox, and knows nothing of the stream. The queue keeps
a stanza that `admission` lets through; then the stanza joins its conversation. Each attempt to POST
a head is one task. It holds a slot while it POSTs, and until the outbox has room for the replies.

Invariants: `_slots` knows who holds a slot. A stanza is in `_in_flight` from its delivery until
its end is decided; only the task that closes it there sends its replies or its error.
"""

import math
import time
from collections.abc import Callable
from functools import partial

import trio
from structlog.typing import FilteringBoundLogger

from bridge.cluster.ownership import Alone, Ownership
from bridge.config.event import MADE_EVENTS, EventName
from bridge.config.settings import WRITTEN_FACTOR
from bridge.dispatch.admission import Admission
from bridge.dispatch.conversation import Conversation, Conversations
from bridge.dispatch.inflight import InFlight
from bridge.dispatch.overload import Overload
from bridge.dispatch.promise import Promises
from bridge.dispatch.retry import Retrier
from bridge.dispatch.settlement import Settlement
from bridge.dispatch.slot import Slots
from bridge.dispatch.streaming import Streams
from bridge.dispatch.worker import DeliveryWorker
from bridge.journal.delivery import Delivery, fresh_uid, is_of_this_process
from bridge.journal.queue import DeliveryQueue
from bridge.payload.check import is_answer_to
from bridge.payload.error import STOPPING, UNKEPT
from bridge.telemetry.tracing import Spans
from bridge.webhook.outcome import TimedOut
from bridge.webhook.retry import CircuitBreaker, RetryPolicy, says_down
from bridge.xmpp.bounce import Bouncer
from bridge.xmpp.contact import Contacts
from bridge.xmpp.iq import WRITTEN_LIMIT
from bridge.xmpp.offer import Offers
from bridge.xmpp.outbox import Outbox, Outgoing
from bridge.xmpp.receipt import Receipts
from bridge.xmpp.room.rooms import Rooms
from bridge.xmpp.typing import Typing
from xmppstream import Event, Stanza, StanzaReceived, TooLong, write
from xmppstream.jid import bare
from xmppstream.names import COMPONENT


class Dispatcher:
    """Dispatches the stanzas of one component. The reader calls `handle`; `run` owns the tasks."""

    def __init__(
        self,
        admission: Admission,
        worker: DeliveryWorker,
        queue: DeliveryQueue,
        outbox: Outbox,
        bouncer: Bouncer,
        rooms: Rooms,
        log: FilteringBoundLogger,
        *,
        conversations: Conversations,
        policy: RetryPolicy,
        breaker: CircuitBreaker | None = None,
        max_in_flight: int = 256,
        max_xml_length: int = WRITTEN_FACTOR * 512 * 1024,
        now: Callable[[], float] = time.time,
        spans: Spans | None = None,
        receipts: Receipts | None = None,
        contacts: Contacts | None = None,
        typing: Typing | None = None,
        promises: Promises | None = None,
        offers: Offers | None = None,
        streams: Streams | None = None,
        max_streams: int = 256,
        ownership: Ownership | None = None,
    ) -> None:
        """Without `receipts`, nothing is acknowledged; without `typing`, nobody sees that a stanza
        is being worked on; without `promises`, no reply comes later; without `offers`, no answer
        names a choice; without `streams`, none is streamed; without `ownership`, all that the queue
        delivers is this process's.
        """
        self._ownership: Ownership = ownership or Alone()
        self._is_shared = ownership is not None
        self._promises = promises
        self._offers = offers
        self._streams = streams
        self._streaming: set[Conversation] = set()  # without slots
        self._max_streams = max_streams
        self._receipts = receipts
        self._typing = typing
        self._admission = admission
        self._worker = worker
        self._queue = queue
        self._outbox = outbox
        self._bouncer = bouncer
        self._meter = bouncer.meter
        self._log = log
        self._conversations = conversations
        self._breaker = breaker or CircuitBreaker()
        self._rooms = rooms
        self._slots = Slots(conversations, max_in_flight)
        self._max_xml_length = max_xml_length
        self._now = now
        self._trio_now: Callable[[], float] = trio.current_time
        # `run` replaces the clock, so it is looked up at each call.
        self._retrier = Retrier(policy, self._breaker, queue, log, lambda: self._trio_now(), now)
        self._in_flight = InFlight()
        self._expiry_due = math.inf
        self._nursery: trio.Nursery | None = None  # while `run` runs
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._overload = Overload(queue, bouncer, log)
        self._settlement = Settlement(
            *(self._in_flight, queue, outbox, bouncer, admission.limiter, rooms, log, now, spans),
            contacts,
            worker.outages,
            typing,
            offers,
            worker.commands,
            streams,
        )
        self._stopping = False
        if streams is not None:
            streams.find = self._in_flight.find
            streams.began = self._stream_began

    @property
    def in_flight(self) -> int:
        """The number of stanzas being POSTed, including those whose reply is a stream."""
        return len(self._slots.running) + len(self._streaming)

    @property
    def streaming(self) -> int:
        """The number of replies that are coming as streams."""
        return 0 if self._streams is None else len(self._streams.running)

    @property
    def waiting(self) -> int:
        """The number of stanzas in memory that wait for their turn or for a retry."""
        return max(len(self._in_flight) - self.in_flight, 0)

    @property
    def oldest(self) -> float | None:
        """When the oldest stanza in memory was received (Unix time, s)."""
        return self._in_flight.oldest

    @property
    def conversations(self) -> Conversations:
        """The conversations; read-only."""
        return self._conversations

    @property
    def breaker(self) -> CircuitBreaker:
        """The circuit breaker of the endpoint; read-only."""
        return self._breaker

    def change(
        self, policy: RetryPolicy, max_in_flight: int, max_streams: int = 256, *, moved: bool
    ) -> None:
        """Use other limits from now on. Stanzas that are already accepted keep their budget.

        If the endpoint has `moved`, the breaker is reset and all waiting retries are due at once.
        A policy that is not patient resets the breaker too: nothing else would.
        """
        self._slots.change(max_in_flight)
        self._max_streams = max_streams
        self._retrier.change(policy, moved=moved)
        if moved:
            self._conversations.release_all()
        self._wake.set()

    def endpoint_returned(self) -> None:
        """Try all that waits for the endpoint at once: it is known to be there again."""
        if self._breaker.is_down:
            self._log.warning("endpoint is back", waiting=len(self._in_flight))
        self._breaker.reset()
        self._conversations.release_stalled()
        self._wake.set()

    # --- incoming stanzas

    async def handle(self, event: Event) -> None:
        """Handle a stream event. While the queue is full, wait at most `FULL_WAIT_S`."""
        stanza = self._admission.admit(event)
        if self._rooms.inbound:
            await self.handle_inbound()
        if stanza is not None:
            weight = event.weight_bytes if isinstance(event, StanzaReceived) else 0
            made, self._admission.made = self._admission.made, None
            await self._accept(stanza, weight, made)

    async def handle_inbound(self) -> None:
        """Accept what the rooms have released or made themselves."""
        inbound = self._rooms.inbound
        while inbound:
            one = inbound.pop(0)
            if self._stopping and not self._queue.durable:
                self._meter.end(one.stanza.kind, "stopped")
            elif self._admission.admits(one):
                event = one.event if one.event in MADE_EVENTS else None
                await self._accept(one.stanza, one.weight_bytes, event)

    async def _accept(
        self, stanza: Stanza, weight_bytes: int, event: EventName | None = None
    ) -> None:
        is_full = self._queue.is_full
        if is_full:
            await self._overload.wait_room()
            is_full = self._queue.is_full
        if self._stopping and (stanza.is_request or not self._queue.durable):
            self._meter.end(stanza.kind, "stopped")
            self._bouncer.tell(stanza, STOPPING)
            return
        if is_full:
            self._overload.refuse(stanza, len(self._in_flight))
            return
        if self._overload.is_felt:
            self._overload.note_room()
        try:
            xml = write(stanza.element, COMPONENT, self._max_xml_length)
        except TooLong:
            self._admission.refuse(stanza, WRITTEN_LIMIT)
            return
        domain, offers = self._admission.domain, self._offers
        choice = offers.take(stanza) if offers is not None and offers.made else None
        if choice is not None and choice.key == "action" and self._admission.posts("action"):
            event = "action"
        delivery = Delivery(
            stanza, self._now(), weight_bytes, xml=xml, component=domain, event=event
        )
        if choice is not None and offers is not None:
            offers.keep(delivery.uid, choice)
        if self._rooms.occupancy.is_anywhere:
            self._set_sender(delivery)
        self._admission.limiter.accepted(delivery)
        self._log.debug("accepted", uid=delivery.uid, id=stanza.id)
        self._queue.accept(delivery, self)
        if self._receipts is not None:
            for receipt in self._receipts.for_accepted(stanza):
                self._acknowledge(receipt)

    def _acknowledge(self, receipt: Stanza) -> None:
        """Keep a receipt, in one batch with what it acknowledges, and send it; not if the outbox
        has no room, since the reader must not wait for that.
        """
        size = len(receipt.encode())
        if not self._outbox.reserve(size):
            return

        def kept(outgoing: list[Outgoing] | None) -> None:
            self._outbox.release(size)
            if outgoing is not None:
                self._meter.receipts += 1
                self._outbox.put(outgoing)

        self._queue.send({fresh_uid(): receipt}, self._now(), None, kept)

    def refuse(self, delivery: Delivery) -> None:
        """Send the sender an error: the stanza could not be kept."""
        self._admission.limiter.ended(delivery)
        if self._offers is not None:
            self._offers.forget(delivery.uid)
        self._meter.end(delivery.stanza.kind, "unkept")
        self._bouncer.tell(delivery.stanza, UNKEPT)

    def begin(self, delivery: Delivery) -> bool:
        """Take a stanza that the queue is keeping, if its POST can begin at once."""
        if self._nursery is None or self._stopping or self._breaker.is_down:
            return False
        if not self._conversations.is_first(delivery):
            return False
        if not self._slots.has_room_for(delivery.parties[0]):
            return False
        self.deliver(delivery)
        return True

    def deliver(self, delivery: Delivery) -> None:
        """Add a stanza that the queue has kept to its conversation."""
        if self._stopping and self._is_for_later(delivery):
            return
        if self._is_shared and not self._owns(delivery):
            self._queue.leave([delivery])
            return
        if self._rooms.occupancy.is_anywhere and not is_of_this_process(delivery.uid):
            self._set_sender(delivery)
        now = self._trio_now()
        budget_s = self._retrier.policy.budget_s(delivery.stanza)
        if budget_s:
            age_s = delivery.age_s
            if age_s is None:
                age_s = self._now() - delivery.received
            delivery.deadline = now + budget_s - (age_s if age_s > 0 else 0)
            if delivery.stanza.is_request or self._breaker.is_down:
                self._expiry_due = min(self._expiry_due, delivery.deadline)
                self._wake.set()
        self._in_flight.open(delivery)
        self._conversations.add(delivery)
        # If no slot is free, the task that frees one starts it; before `run`, `run` does; if it
        # waits for a probe, the wake above does.
        if self._nursery is not None:
            self._start(now, self._nursery)  # through `run` it would be a pass of trio's loop later

    def _set_sender(self, delivery: Delivery) -> None:
        """In a room, have the occupant be the sender, not the whole room."""
        sender = delivery.stanza.from_ or ""
        if self._rooms.occupancy.has_occupant(sender):
            to = bare(delivery.stanza.to or "")
            delivery.parties = self._rooms.sender_of(delivery.stanza), to

    def _is_for_later(self, delivery: Delivery) -> bool:
        """Whether a stanza stays in the journal for the next process if we are stopping."""
        return self._queue.durable and not delivery.stanza.is_request

    # --- partitions

    @property
    def busy_parts(self) -> frozenset[int]:
        """The partitions in which something is running: a POST, or the commit of its end."""
        return frozenset(one.head.part for one in self._conversations.at_work())

    def leave_parts(self) -> None:
        """Leave the stanzas of partitions that are no longer this node's to those that own them
        now. What is running ends here (rule 9 of a cluster): `busy_parts` names it until then.
        """
        left = self._conversations.leave(lambda one: not self._owns(one))
        for delivery in left:
            self._in_flight.close(delivery)
            self._admission.limiter.ended(delivery)
        self._queue.leave(left)
        self._wake.set()
        if self._stopping:
            self._idle.set()

    @property
    def _has_lapsed(self) -> bool:
        """Whether other nodes may have taken over what is here."""
        return self._is_shared and not self._ownership.is_alive

    def _owns(self, delivery: Delivery) -> bool:
        return self._ownership.owns(delivery.component, delivery.part)

    # --- whose turn it is

    async def run(self) -> None:
        """Process delivered stanzas. Ends only by cancellation, which cancels running attempts."""
        # The clock itself: it is read several times per stanza, and each read saves 0.25 us.
        self._trio_now = self._worker.trio_now = trio.lowlevel.current_clock().current_time
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._worker.outages.run, lambda: self.waiting)
            if self._typing is not None:
                nursery.start_soon(self._typing.run)
            if self._streams is not None:
                nursery.start_soon(self._streams.run)
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
        if self._has_lapsed:
            return  # `leave_parts` comes soon
        breaker, slots, conversations = self._breaker, self._slots, self._conversations
        running, ready = slots.running, conversations.ready
        while (ready or slots.turns) and len(running) < slots.limit:
            if breaker.is_down and not breaker.allows(now):
                return
            is_open = len(running) < slots.open_below
            conversation = conversations.take() if is_open else slots.take()
            if conversation is None:
                return
            head = conversation.head
            if self._stopping and self._is_for_later(head):
                continue
            # After its budget, a stanza that is no request still gets its first attempt.
            if head.deadline <= now and (head.stanza.is_request or head.is_tried):
                nursery.start_soon(self._give_up, conversation)
                continue
            running.add(conversation)
            if slots.is_counting:
                slots.count(conversation)
            probe = breaker.is_down and breaker.try_acquire()
            nursery.start_soon(self._process, conversation, probe, name="attempt")

    def _next_due(self) -> float:
        due = min(self._conversations.next_due, self._expiry_due)
        if self._slots.may_start:
            due = min(due, self._breaker.next_probe_at)
        return due

    def _expire(self, now: float, nursery: trio.Nursery) -> None:
        """Expire waiting stanzas whose budget has ended: requests always, since their senders have
        given up too; others only while the endpoint is down, as else each gets one attempt.
        """
        if self._has_lapsed:
            self._expiry_due = math.inf  # whoever has taken over expires them
            return
        requests_only = not self._breaker.is_down
        for delivery in self._in_flight.expired(now, requests_only=requests_only):
            conversation = self._conversations.take_idle(delivery)
            if conversation is not None:
                nursery.start_soon(self._give_up, conversation)
        self._expiry_due = self._in_flight.next_deadline(now, requests_only=requests_only)

    async def _give_up(self, conversation: Conversation) -> None:
        """Settle an expired head and, while the endpoint is down, expired stanzas behind it."""
        while not self._has_lapsed:
            delivery = conversation.head
            await self._settlement.expire(delivery)
            if not self._done(conversation) or not self._breaker.is_down:
                return
            if conversation.head.deadline > self._trio_now():
                return
            if self._conversations.take_idle(conversation.head) is None:
                return

    # --- attempts

    async def _process(self, conversation: Conversation, probe: bool) -> None:
        """Make one attempt to deliver a conversation's head."""
        delivery = conversation.head
        now, deadline = self._trio_now(), delivery.deadline
        if deadline <= now and not delivery.stanza.is_request:
            deadline = math.inf  # late already, but it gets one whole attempt
        self._bouncer.counts.posted += 1
        result = None
        began = self._now()
        try:
            try:
                result = await self._worker.attempt(delivery, deadline, now)
                if delivery.is_being_kept and not result.is_success:
                    await self._kept(delivery)
            except Exception:  # a bug in the bridge: the one broad `except` of its core
                event = "stanza failed in the bridge"
                self._log.exception(event, id=delivery.stanza.id, uid=delivery.uid)
            else:
                if not (result.is_success and self._breaker.is_fine):
                    was_down = self._breaker.is_down
                    due = self._retrier.due_again(
                        delivery, result, began, len(self._in_flight), probe=probe
                    )
                    if self._breaker.is_down and not was_down:
                        self._expiry_due = self._trio_now()  # from now on, not only requests expire
                    elif was_down and not self._breaker.is_down:
                        self._conversations.release_stalled()
                    self._wake.set()
                    if due is not None and not self._is_answered(delivery):
                        stalled = says_down(result.outcome)
                        self._conversations.wait(conversation, due, stalled=stalled)
                        self._idle.set()
                        if self._promises is not None:
                            self._promises.settled(delivery)
                        if self._is_shared and not self._owns(delivery):
                            self.leave_parts()
                            self._ownership.changed()
                        return
            if self._outbox.is_full and (result is None or result.stanzas or not result.is_success):
                await self._outbox.wait_room()
        finally:
            if result is None:
                self._breaker.release(probe=probe)
            if self._streaming and conversation in self._streaming:
                self._streaming.discard(conversation)
            else:
                timed_out = result is not None and isinstance(result.outcome, TimedOut)
                if delivery.is_being_kept:
                    release = partial(self._release_slot, conversation, timed_out=timed_out)
                    self._queue.when_kept(delivery, release)
                else:
                    self._release_slot(conversation, timed_out=timed_out)
        promises = self._promises
        if promises is not None and delivery.stanza.is_request:
            if result is not None and result.is_deferred:
                await promises.wait_answer(delivery, now + promises.ttl_s)
                if not self._is_answered(delivery):
                    await self._settlement.expire(delivery, "no deferred reply came in time")
            if self._is_answered(delivery):
                self._done(conversation)
                return
        end, stanzas, reason = self._settlement.end_of(delivery, result)
        self._settlement.settle(
            delivery, end, stanzas, reason, partial(self._settled, delivery, conversation)
        )

    def _settled(self, delivery: Delivery, conversation: Conversation) -> None:
        if self._promises is not None:
            self._promises.settled(delivery)
        self._done(conversation)

    async def _kept(self, delivery: Delivery) -> None:
        """Wait until a stanza is kept, or cannot be. Until then it has its slot: a disk that hangs
        must not let more stanzas be POSTed than there are slots.
        """
        kept = trio.Event()
        self._queue.when_kept(delivery, kept.set)
        await kept.wait()

    def _release_slot(self, conversation: Conversation, *, timed_out: bool) -> None:
        slots = self._slots
        slots.running.discard(conversation)
        if slots.is_counting:
            slots.uncount(conversation, timed_out=timed_out)
        if self._conversations.ready or slots.turns:
            self._wake.set()

    def _stream_began(self, delivery: Delivery) -> None:
        """Free the slot of a stanza whose reply is a stream; see `streaming`. Its head shows that
        the endpoint is not down.
        """
        if not self._breaker.is_fine:
            was_down = self._breaker.is_down
            self._retrier.note_answer(delivery, len(self._in_flight))
            if was_down:
                self._conversations.release_stalled()
            self._wake.set()
        self._queue.when_kept(delivery, partial(self._free_slot, delivery))

    def _free_slot(self, delivery: Delivery) -> None:
        running = self._slots.running
        conversation = next((one for one in running if one.head is delivery), None)
        if conversation is not None and len(self._streaming) < self._max_streams:
            self._streaming.add(conversation)
            self._release_slot(conversation, timed_out=False)

    # --- deferred replies

    def _is_answered(self, delivery: Delivery) -> bool:
        """Whether a deferred reply has answered an iq while a POST of it was running."""
        return self._promises is not None and delivery.uid not in self._in_flight

    def open_request(self, uid: str) -> Delivery | None:
        """Return an iq that has no answer yet."""
        return self._in_flight.request(uid)

    def answer(
        self,
        request: Delivery,
        stanzas: list[Stanza],
        begin: Callable[[], None],
        then: Callable[[bool], None],
    ) -> None:
        """Answer an open iq by the stanzas of a deferred reply, with the default answer if none of
        them answers it. `begin` is called first, to keep something together with them; `then` when
        they are kept and sent, or with False if something else has ended the iq before.
        """
        if self._nursery is None or self._promises is None:
            then(False)
            return
        if not is_answer_to(stanzas, request.stanza):
            stanzas = [*stanzas, self._worker.default_answer(request.stanza)]
        self._nursery.start_soon(self._answer, request, stanzas, begin, then)

    async def _answer(
        self,
        request: Delivery,
        stanzas: list[Stanza],
        begin: Callable[[], None],
        then: Callable[[bool], None],
    ) -> None:
        assert self._promises is not None
        idle = self._conversations.take_idle(request)  # it waits for a retry, or for a slot
        is_open = request.uid in self._in_flight
        try:
            if is_open:
                begin()
                self._bouncer.counts.replied += len(stanzas)
                await self._settlement.end(request, "replied", stanzas, None)
                self._promises.end_wait(request.uid)
            if idle is not None:
                self._done(idle)
        finally:
            then(is_open)

    def _done(self, conversation: Conversation) -> bool:
        """Make the next stanza of a conversation its head; return whether there is one."""
        is_more = self._conversations.done(conversation)
        if self._is_shared and not self._owns(conversation.head):
            self._ownership.changed()  # its partition may be given away now
        if is_more:
            if self._breaker.is_down:  # behind another stanza it could not expire
                self._expiry_due = min(self._expiry_due, conversation.head.deadline)
            self._wake.set()
        if self._stopping:
            self._idle.set()
        return is_more

    # --- stopping

    async def drain(self) -> None:
        """Stop admitting stanzas; wait for the end of all that must end in this process."""
        self._stopping = True
        self._overload.stop()
        while self._unfinished:
            self._idle = trio.Event()
            await self._idle.wait()

    @property
    def _unfinished(self) -> int:
        if self._queue.durable:
            return self.in_flight + self._settlement.pending + len(self._in_flight.requests)
        return len(self._in_flight)

    async def give_up(self) -> int:
        """Answer unfinished stanzas by errors, after `run` was cancelled; return their number. With
        a journal these are only requests: it keeps the others for the next process.
        """
        if self._typing is not None:
            self._typing.end_all()
        rest = self._in_flight.requests if self._queue.durable else self._in_flight.all
        for delivery in rest:
            errors = self._bouncer.error(delivery.stanza, STOPPING, delivery.uid)
            why = "the daemon stopped"
            self._settlement.settle(delivery, "stopped", errors, why, lambda: self._idle.set())
        while self._settlement.pending:
            self._idle = trio.Event()
            await self._idle.wait()
        return len(rest)
