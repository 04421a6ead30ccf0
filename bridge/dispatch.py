"""From a stanza that came in to the stanzas that go out: admission, order, slots, one task each.

It is given an endpoint and an outbox, and knows no stream. What comes in is, in this order: learnt
from (rooms), refused where the protocol says so (S29, S34, `allow_from`), answered by the bridge
itself (H6), left alone (own groupchat messages, S36), or admitted.

A conversation has at most one POST running; conversations take slots in turn (`conversation`), and
a slot is held only while a task runs: `_running` counts them, between checkpoints.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import trio
from attrs import define
from structlog.typing import FilteringBoundLogger

from bridge.auto import UNAVAILABLE, Automaton
from bridge.config import Component
from bridge.conversation import Admitted, Conversation, Conversations
from bridge.envelope import (
    Composer,
    UnusableReply,
    body_of,
    is_answer_to,
    read_reply,
    request_body,
)
from bridge.outbox import Outbox
from bridge.outcome import (
    INTERNAL,
    OVERLOADED,
    REFUSES_US,
    STOPPING,
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
    error_for,
    error_of,
)
from bridge.rooms import Rooms
from xmppstream import (
    ElementIgnored,
    ErrorType,
    Event,
    Stanza,
    StanzaCondition,
    StanzaError,
    StanzaReceived,
    StanzaRefused,
    encode,
)
from xmppstream.jid import bare, domain_of, same_domain
from xmppstream.stanza import TYPES

QUEUE_LIMIT_COUNT: Final = 10_000
QUEUE_LIMIT_BYTES: Final = 64 * 1024 * 1024
FULL_WAIT_S: Final = 10.0
CALM_BELOW: Final = 0.75  # of the queue's limits: it is not full any more

_BAD_REQUEST: Final = StanzaError(StanzaCondition.BAD_REQUEST, ErrorType.MODIFY)
_NOT_HERE: Final = StanzaError(StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL)
_FORBIDDEN: Final = StanzaError(StanzaCondition.FORBIDDEN, ErrorType.AUTH)


class Poster(Protocol):
    """What dispatch asks of an endpoint."""

    shown: str

    async def post(self, body: bytes) -> Outcome: ...


@define
class Counts:
    """What was done so far, for the log and the demo's summary."""

    received: int = 0
    posted: int = 0
    replied: int = 0
    answered_by_bridge: int = 0
    errors_sent: int = 0
    untold: int = 0


class Dispatcher:
    """The stanzas of one component. `handle` is called by the reader, `run` owns the tasks."""

    def __init__(
        self,
        component: Component,
        endpoint: Poster,
        outbox: Outbox,
        composer: Composer,
        log: FilteringBoundLogger,
        *,
        max_in_flight: int = 256,
        timeout_s: float = 30,
        limit_count: int = QUEUE_LIMIT_COUNT,
        limit_bytes: int = QUEUE_LIMIT_BYTES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counts = Counts()
        self._component = component
        self._endpoint = endpoint
        self._outbox = outbox
        self._composer = composer
        self._log = log
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._now = now
        self._automaton = Automaton(component.name)
        self._rooms = Rooms()
        self._warned: set[str] = set()
        self._failing: str | None = None
        self._failed = 0
        self._conversations = Conversations(component.order, limit_count, limit_bytes)
        self._running = 0
        self._wake = trio.Event()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._patience_ends: float | None = None
        self._shedding = 0  # how many were refused since the queue was full
        self._stopping = False

    # --- room two: what becomes of a stanza that came in

    async def handle(self, event: Event) -> None:
        """Take what the stream reports. Waits at most `FULL_WAIT_S`, while the queue is full."""
        match event:
            case StanzaReceived(stanza=stanza, weight_bytes=weight):
                self.counts.received += 1
                self._log.debug("stanza in", stanza=stanza.element)
                ours = self._if_for_us(stanza)
                if ours is not None:
                    await self._handle_stanza(ours, weight)
            case StanzaRefused(stanza=stanza, limit=limit):
                self.counts.received += 1
                self._log.warning("stanza refused", limit=limit, sender=stanza.from_, id=stanza.id)
                ours = self._if_for_us(stanza)
                if ours is not None:
                    text = f"This is over the limit of {limit}."
                    condition = StanzaCondition.POLICY_VIOLATION
                    self._tell(ours, StanzaError(condition, ErrorType.MODIFY, text))
            case ElementIgnored(name=name):
                self._log.warning("unknown element ignored", name=name)

    def _if_for_us(self, stanza: Stanza) -> Stanza | None:
        """Give a stanza for our domain, spelt as configured, since answers come from there (S28);
        None for one that has no addresses, or that is for another domain (S34).
        """
        if not stanza.from_ or not stanza.to:
            self._log.warning("stanza without address dropped", kind=stanza.kind, id=stanza.id)
            return None
        ours, domain = self._component.domain, domain_of(stanza.to)
        if domain == ours:
            return stanza
        if same_domain(domain, ours):
            local, at, _ = bare(stanza.to).rpartition("@")
            _, slash, resource = stanza.to.partition("/")
            spelt = f"{local}{at}{ours}{slash}{resource}"
            return Stanza(stanza.element.with_attributes(to=spelt), stanza.lang)
        self._warn_once(
            "stanza for another domain",
            hint="on ejabberd, set global_routes: false for this listener",
            to_domain=domain,
        )
        if stanza.is_request:
            # The answer cannot come from the address that was asked: that is not ours to use.
            self._tell(Stanza(stanza.element.with_attributes(to=ours)), _NOT_HERE)
        return None

    async def _handle_stanza(self, stanza: Stanza, weight_bytes: int) -> None:
        component = self._component
        self._rooms.observe(stanza)
        if stanza.kind == "iq" and not self._is_valid_iq(stanza):
            return
        if component.allow_from and not self._is_allowed(stanza):
            self._tell(stanza, _FORBIDDEN)
        elif stanza.kind not in component.post_stanzas:
            self._answer(stanza)
        elif self._rooms.is_own(stanza) and not component.post_own:
            self._log.debug("own message from a room", id=stanza.id)
        elif (
            component.post_messages == "body"
            and stanza.kind == "message"
            and body_of(stanza) is None
        ):
            self._log.debug("message without body", id=stanza.id)
        else:
            await self._admit(Admitted(stanza, self._now(), weight_bytes))

    def _is_valid_iq(self, stanza: Stanza) -> bool:
        """Check what S29 asks of an iq, and answer where it may be answered."""
        if not stanza.id:
            self._log.warning("iq without id dropped", sender=stanza.from_)
            return False
        if stanza.type in ("result", "error"):
            return True
        if stanza.type in TYPES["iq"] and len(stanza.element.elements) == 1:
            return True
        # An iq of unknown type is no request by its own; it is answered like one.
        self._send_now([stanza.error_reply(_BAD_REQUEST)])
        return False

    def _is_allowed(self, stanza: Stanza) -> bool:
        sender = (stanza.from_ or "").casefold()
        names = (sender, bare(sender), domain_of(sender))
        return any(name in self._component.allow_from for name in names)

    def _answer(self, stanza: Stanza) -> None:
        """Answer what is not POSTed (H6)."""
        if stanza.kind != "message":
            self._send_now(self._automaton.answer(stanza))
        elif stanza.type in (None, "chat", "normal"):
            self._tell(stanza, UNAVAILABLE)

    # --- the queue

    async def _admit(self, admitted: Admitted) -> None:
        if self._is_full:
            await self._wait_for_room()
        if self._stopping:
            self._tell(admitted.stanza, STOPPING)
            return
        if self._is_full:
            self._shed(admitted.stanza)
            return
        self._end_shedding()
        self._conversations.add(admitted)
        self._wake.set()

    @property
    def _is_full(self) -> bool:
        return self._conversations.fullness >= 1

    async def _wait_for_room(self) -> None:
        """Wait for room, `FULL_WAIT_S` from the first stanza that found none.

        Not for each: at an endpoint that is a little too slow, every stanza waits for the place of
        one other, and a reader that waits all the time is cut off (S16).
        """
        if self._patience_ends is None:
            self._patience_ends = trio.current_time() + FULL_WAIT_S
        with trio.move_on_at(self._patience_ends):
            while self._is_full and not self._stopping:
                await self._room.wait()

    def _shed(self, stanza: Stanza) -> None:
        if not self._shedding:
            self._log.error(
                "queue full, refusing stanzas",
                waiting=self._conversations.count,
                bytes=self._conversations.weight_bytes,
                endpoint=self._endpoint.shown,
            )
        self._shedding += 1
        self._tell(stanza, OVERLOADED)

    def _end_shedding(self) -> None:
        if self._conversations.fullness > CALM_BELOW:
            return
        self._patience_ends = None
        if self._shedding:
            self._log.warning("queue has room again", refused=self._shedding)
            self._shedding = 0

    async def run(self) -> None:
        """Process what is admitted, for ever. Cancellation leaves the rest for `give_up`."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._running < self._max_in_flight:
                    conversation = self._conversations.take()
                    if conversation is None:
                        break
                    self._running += 1
                    nursery.start_soon(self._process, conversation)
                self._wake = trio.Event()
                await self._wake.wait()

    async def _process(self, conversation: Conversation) -> None:
        """The task of one stanza, its conversation's head, until its reply is in the outbox."""
        admitted = conversation.head
        try:
            stanzas = await self._replies(admitted)
        except Exception:
            self._log.exception("stanza failed in the bridge", id=admitted.stanza.id)
            stanzas = self._error(admitted.stanza, INTERNAL)
        try:
            await self._outbox.put([encode(stanza) for stanza in stanzas])
            for stanza in stanzas:
                self._rooms.observe_sent(stanza)
            self._done(conversation)
        finally:
            self._running -= 1
            self._wake.set()

    def _done(self, conversation: Conversation) -> None:
        self._conversations.done(conversation)
        self._room.set()
        self._room = trio.Event()
        if not self._conversations.count:
            self._idle.set()

    # --- rooms three and four: the POST and what came of it

    async def _replies(self, admitted: Admitted) -> list[Stanza]:
        stanza = admitted.stanza
        outcome: Outcome = TimedOut()
        self.counts.posted += 1
        with trio.move_on_after(self._timeout_s):
            outcome = await self._endpoint.post(request_body(stanza, admitted.received))
        stanzas: list[Stanza] = []
        if isinstance(outcome, Replied) and not _is_final(stanza):
            try:
                objects = read_reply(outcome)
                in_room = self._rooms.has_occupant(stanza.from_ or "")
                stanzas = await self._composer.compose(
                    objects, stanza, uid=admitted.uid, in_room=in_room
                )
            except UnusableReply as error:
                outcome = BadReply(str(error))
        self._note(outcome, stanza)
        if isinstance(outcome, Replied | NoReply):
            if stanza.is_request and not is_answer_to(stanzas, stanza):
                stanzas.append(self._default_answer(stanza))
            self.counts.replied += len(stanzas)
            return stanzas
        return self._error(stanza, error_of(outcome))

    def _default_answer(self, request: Stanza) -> Stanza:
        """H3: a set is done; a get is answered by us, since an empty result would be a lie."""
        return request.reply() if request.type == "set" else self._automaton.answer_request(request)

    def _note(self, outcome: Outcome, stanza: Stanza) -> None:
        """Log what an operator should know of an outcome."""
        log = self._log.bind(endpoint=self._endpoint.shown, id=stanza.id)
        match outcome:
            case NoReply(ignored=media) if media is not None:
                hint = "set Content-Type: application/json on replies"
                self._warn_once("reply ignored", media_type=media, hint=hint)
            case BadReply(why=why):
                log.warning("bad reply", why=why)
            case Rejected(status=status) if status in REFUSES_US:
                log.warning("your endpoint refuses the bridge", status=status)
            case Rejected(status=status):
                log.info("endpoint rejected a stanza", status=status)
        self._note_health(outcome)

    def _note_health(self, outcome: Outcome) -> None:
        """One line when the endpoint goes, one when it is back."""
        match outcome:
            case Unreachable(why=why):
                trouble = why
            case TimedOut():
                trouble = f"no answer within {self._timeout_s:g} s"
            case _:
                if self._failing is not None:
                    self._log.info("endpoint answers again", failed=self._failed)
                    self._failing, self._failed = None, 0
                return
        self._failed += 1
        if self._failing is None:
            self._failing = trouble
            self._log.error("endpoint fails", endpoint=self._endpoint.shown, why=trouble)

    # --- telling senders

    def _error(self, stanza: Stanza, error: StanzaError) -> list[Stanza]:
        """Make the error for the sender; where none may be sent, count and log that."""
        in_room = self._rooms.has_occupant(stanza.from_ or "")
        told = error_for(stanza, error, in_room=in_room)
        if told is None:
            if not _is_final(stanza):
                self.counts.untold += 1
                self._log.warning(
                    "sender not told",
                    condition=str(error.condition),
                    kind=stanza.kind,
                    id=stanza.id,
                )
            return []
        self.counts.errors_sent += 1
        return [told]

    def _tell(self, stanza: Stanza, error: StanzaError) -> None:
        self._send_now(self._error(stanza, error))

    def _send_now(self, stanzas: list[Stanza]) -> None:
        """Send what the bridge itself says; it is not worth waiting for."""
        self.counts.answered_by_bridge += len(stanzas)
        if not self._outbox.put_nowait([encode(stanza) for stanza in stanzas]):
            self.counts.untold += len(stanzas)
            self._log.error("answers dropped, the server does not read", count=len(stanzas))

    def _warn_once(self, event: str, **context: str) -> None:
        key = f"{event} {context.get('media_type', '')}"
        if key not in self._warned and len(self._warned) < 100:
            self._warned.add(key)
            self._log.warning(event, endpoint=self._endpoint.shown, **context)

    # --- stopping

    async def drain(self) -> None:
        """Admit nothing more, and wait until all that was admitted is done."""
        self._stopping = True
        self._room.set()
        while self._conversations.count:
            self._idle = trio.Event()
            await self._idle.wait()

    def give_up(self) -> int:
        """Answer what is not done, after `run` was cancelled; give how many there were."""
        rest = self._conversations.rest()
        for admitted in rest:
            self._tell(admitted.stanza, STOPPING)
        return len(rest)


def _is_final(stanza: Stanza) -> bool:
    """Whether nothing may be said to this: an error, or the answer to an iq (H5)."""
    return stanza.type == "error" or (stanza.kind == "iq" and not stanza.is_request)
