"""One component's link to its server: attach, write the outbox's stanzas, reconnect by S11.

The link outlives its streams, and keeps trying while the server refuses the component: a server may
still be starting, or a secret on its way. With `exit_on_refusal`, it ends if the server refuses the
component before it has ever accepted it. It is cancelled when the daemon stops.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from attrs import frozen
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import Component
from bridge.telemetry.meter import Meter, StreamEndKind, StreamFault
from bridge.xmpp.backoff import Reaction, ReconnectDelay, reaction_to
from bridge.xmpp.outbox import Outbox
from xmppstream import (
    UNANSWERED,
    ComponentStream,
    Event,
    StreamClosed,
    StreamCondition,
    StreamEnd,
    StreamFailed,
    StreamFaulted,
    StreamOptions,
    connect,
)

CONFIRM_EVERY_S: Final = 1.0
CONFIRM_EVERY_COUNT: Final = 1000
UNCONFIRMED_WAIT_S: Final = 20.0
CLOSE_CONFIRM_S: Final = 0.8
UNSENT_LIMIT_BYTES: Final = 64 * 1024
UNSENT_ANSWERS_BYTES: Final = 1024 * 1024
REMIND_EVERY_S: Final = 60.0
LEFTOVER_S: Final = 5.0
"""How long after attaching barriers may come that a predecessor sent before it ended."""
SHARED_FOR_S: Final = 900.0
"""How long a domain counts as shared after a foreign barrier: an idle instance sends one every two
minutes, and the server may deal it to either."""

_SHARED_EFFECT: Final = "the server deals stanzas, answers and barriers to both"
SHARED: Final = f"another instance is attached as this component: {_SHARED_EFFECT}"
SHARED_REMEDY: Final = "stop one of them"
_MAYBE_SHARED: Final = (
    "the server may not return them, or may deal them to another instance of this component"
)

HINTS: Final = {
    StreamCondition.NOT_AUTHORIZED: (
        "the secret is not the one that the server has for the component"
    ),
    StreamCondition.HOST_UNKNOWN: "the server does not know this component",
    StreamCondition.IMPROPER_ADDRESSING: "the server does not serve this domain here",
    StreamCondition.CONFLICT: "another connection is attached as this component",
    StreamCondition.INVALID_NAMESPACE: "this port is not for components",
}
REMEDIES: Final = {
    StreamCondition.NOT_AUTHORIZED: (
        "make the secrets equal; ejabberd says the same of a domain that it does not know"
    ),
    StreamCondition.HOST_UNKNOWN: "add it to the server's configuration, or correct the domain",
    StreamCondition.IMPROPER_ADDRESSING: (
        "add it to the server's configuration, or correct the domain"
    ),
    StreamCondition.INVALID_NAMESPACE: (
        "correct the port: 5222 is for clients, 5269 for other servers; components use 5347"
    ),
}
"""How an operator mends each kind of refusal."""


@frozen
class LinkState:
    """Whether a link is attached, and since when; if it is not, why, and when the next attempt is.

    Times are by trio's clock. During the first attempt, `why` is empty, and `next_attempt_at` is in
    the past. `refused` is whether the last attempt ended with a refusal by the server.
    """

    attached: bool
    since: float
    why: str = ""
    next_attempt_at: float = -math.inf
    refused: bool = False


class Refused(Exception):
    """The server refuses this component; the operator must act."""

    def __init__(self, end: StreamEnd) -> None:
        super().__init__(str(end))
        self.end = end


class Link:
    """Keeps one component attached."""

    def __init__(
        self,
        component: Component,
        options: StreamOptions,
        outbox: Outbox,
        handle: Callable[[Event], Awaitable[None]],
        log: FilteringBoundLogger,
        meter: Meter | None = None,
        *,
        exit_on_refusal: bool = False,
        open_stream: Callable[[], Awaitable[ComponentStream]] | None = None,
        backoff: ReconnectDelay | None = None,
        changed: Callable[[bool], None] = lambda attached: None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """`open_stream` replaces the connection to the component's server. `changed` is called when
        a stream has begun, with True, and when it has ended, with False. Nothing is written any
        more once `may_write` has returned False: then the link is about to be cancelled.
        """
        self.stream: ComponentStream | None = None
        self._meter = meter or Meter()
        self.state = LinkState(attached=False, since=-math.inf)
        self._component = component
        self._options = options
        self._outbox = outbox
        self._handle = handle
        self._log = log.bind(server=str(component.server))
        self._open_stream = open_stream or self._connect
        self._backoff = backoff or ReconnectDelay()
        self._changed = changed
        self._may_write = may_write
        self._may_exit = exit_on_refusal
        self._warned_unconfirmed = False
        self._tested: bytes | None = None  # the suspect that is written and not proved yet
        self._shared_at = -math.inf  # when the last foreign barrier came
        self._has_confirmed = False  # whether the current stream has confirmed a stanza
        self._told = (True, "")  # the last line: whether the stream had been attached, and why
        self._told_at = -math.inf
        self._away = trio.Event()  # set while the log has said that the server is away

    @property
    def shared_at(self) -> float | None:
        """When a barrier of another instance last came, by trio's clock; None if there was none in
        the last `SHARED_FOR_S`. The server deals stanzas to both.
        """
        recent = trio.current_time() - self._shared_at < SHARED_FOR_S
        return self._shared_at if recent else None

    async def run(self) -> None:
        """Attach and stay attached.

        Raises:
            Refused: with `exit_on_refusal`, if the server refused the component before it had ever
                accepted it.

        Cancellation drops the connection; `close` ends it properly.
        """
        self.state = LinkState(attached=False, since=trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._remind)
            end = await self._keep_attached()
            nursery.cancel_scope.cancel()
        raise Refused(end)

    async def _keep_attached(self) -> StreamEnd:
        """Return the refusal that is final."""
        while True:
            end, attached, settled = await self._attach_once()
            self._measure(end, attached)
            reaction = reaction_to(end, attached=attached)
            if attached and (self._has_confirmed or (settled and self._outbox.is_confirmed)):
                self._backoff.reset()
            if attached:
                self._requeue(end, blamed=reaction is Reaction.BLAMED)
            refused = reaction is Reaction.REFUSED
            final = refused and self._may_exit
            wait_s = math.inf if final else self._backoff.wait_s(reaction, was_settled=settled)
            self._note_end(end, attached, wait_s, refused=refused)
            self._log_end(end, attached=attached, refused=refused, wait_s=wait_s)
            if final:
                return end
            await trio.sleep(wait_s)

    async def close(self) -> None:
        """Wait until everything that is ready is written and confirmed, then close the stream.

        Call it with a time-out, because a server that does not read blocks it.
        """
        stream = self.stream
        if stream is None:
            return
        try:
            await self._outbox.wait_written()
            position = self._outbox.position
            await stream.flush()
            with trio.move_on_after(CLOSE_CONFIRM_S) as scope:
                await stream.barrier()
            if not scope.cancelled_caught or not stream.barrier_seen:
                self._outbox.confirm(position)
            await stream.aclose()
        except StreamFailed:
            return

    async def _attach_once(self) -> tuple[StreamEnd, bool, bool]:
        """Return the end of one attempt, whether it attached, and whether its stream was good."""
        try:
            stream = await self._open_stream()
        except StreamFailed as failure:
            return failure.end, False, False
        self._may_exit = False
        self._tested, self._has_confirmed = None, False
        self._meter.streams += 1
        self.state = LinkState(attached=True, since=trio.current_time())
        self._told = (True, "")
        if self._away.is_set():  # `_remind` waits for the one that is not
            self._away = trio.Event()
        self._log.info("attached")
        self.stream = stream
        self._changed(True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._confirm, stream)
                nursery.start_soon(self._watch, stream)
                end = await stream.serve(self._receive)
                nursery.cancel_scope.cancel()
        finally:
            self.stream = None
            self._outbox.count_written(tested=self._is_tested)
            self._changed(False)
            self._meter.read_bytes += stream.read_bytes
            self._meter.written_bytes += stream.written_bytes
        return end, True, stream.barrier_seen

    def _requeue(self, end: StreamEnd, *, blamed: bool) -> None:
        """Keep what the stream has not confirmed for the next one, but for a stanza that broke it.

        A suspect is written to a stream that has just been proved alive, and nothing with it. So if
        the server does not blame it, two such streams in a row are evidence enough.
        """
        tested = self._is_tested
        broken = self._outbox.stream_lost(blamed=blamed, tested=tested)
        if broken and tested:
            event = "a stanza broke the stream twice and is given up"
            uid = self._outbox.suspect_uid
            self._log.error(event, why=str(end), **({} if uid is None else {"uid": uid}))
            self._outbox.abandon_suspect(f"it broke the stream: {end}")

    @property
    def _is_tested(self) -> bool:
        """Whether the oldest suspect was written, and is not proved yet."""
        return self._tested is not None and self._tested is self._outbox.suspect

    async def _connect(self) -> ComponentStream:
        one = self._component
        return await connect(one.server, one.domain, one.secret.value, self._options)

    async def _receive(self, event: Event) -> None:
        """Pass on an event. While more than 1 MiB of answers is unsent, wait: more would follow.

        Nothing else is waited for. What the writer waits for may be a barrier, which comes on the
        stream that is not read meanwhile: the answers go before the suspects that it tests.
        """
        await self._handle(event)
        stream = self.stream
        is_much = self._outbox.unsent_answer_bytes > UNSENT_ANSWERS_BYTES
        if is_much and stream is not None and self._may_write():
            with suppress(StreamFailed):  # they wait for the next stream
                self._send_pending(stream, answers_only=self._outbox.suspect is not None)
                await stream.flush()

    def _send_pending(self, stream: ComponentStream, *, answers_only: bool = False) -> None:
        """Append what the outbox has to the stream.

        Raises:
            StreamFailed: if the stream is over; nothing is taken.
        """
        stream.raise_if_over()
        taken, written = self._outbox.take(answers_only=answers_only), self._meter.written
        stream.send_encoded(*taken)
        for data in taken:
            written[data[1:2]] += 1

    async def _write(self, stream: ComponentStream) -> None:
        try:
            while True:
                await self._test_suspects(stream)
                await self._outbox.wait_pending()
                if not self._may_write():
                    return
                if self._outbox.suspect is not None:  # read from the journal meanwhile
                    continue
                self._send_pending(stream)
                if stream.unsent_bytes > UNSENT_LIMIT_BYTES:
                    await stream.flush()
        except StreamFailed:
            return  # `serve` returns the reason

    async def _test_suspects(self, stream: ComponentStream) -> None:
        while self._outbox.suspect is not None:
            while not await self._proved(stream):
                pass  # the server is slow, and may still blame the stanza before
            if not self._may_write():
                return
            suspect = self._outbox.suspect
            if suspect is not None and suspect is self._tested:
                self._outbox.confirm_suspect()
                self._has_confirmed = True
                suspect = self._outbox.suspect
            self._tested = suspect
            if suspect is not None:
                stream.send_encoded(suspect)
                self._meter.written[suspect[1:2]] += 1

    async def _confirm(self, stream: ComponentStream) -> None:
        try:
            while True:
                await self._outbox.wait_unconfirmed(1)
                with trio.move_on_after(CONFIRM_EVERY_S):
                    await self._outbox.wait_unconfirmed(CONFIRM_EVERY_COUNT)
                position = self._outbox.position
                if await self._proved(stream):
                    self._outbox.confirm(position)
                    self._has_confirmed = True
        except StreamFailed:
            return  # `serve` returns the reason

    async def _watch(self, stream: ComponentStream) -> None:
        """Log once, until it is over, that another instance is attached."""
        while True:
            await stream.wait_foreign_barrier()
            now = trio.current_time()
            if now - self.state.since < LEFTOVER_S:
                continue
            is_new = self.shared_at is None
            self._shared_at = now
            if is_new:
                event = "another instance is attached as this component"
                self._log.warning(event, hint=f"{_SHARED_EFFECT}; {SHARED_REMEDY}")

    async def _proved(self, stream: ComponentStream) -> bool:
        """Return whether everything written counts as arrived (S35).

        A server that has never returned a barrier cannot confirm: then writing is enough. Of one
        that has, and says nothing at all, the connection may be half open: it is asked once more.
        One that shares the domain with another instance does return barriers, but not all to us.
        """
        asked_at = trio.current_time()
        with trio.move_on_after(UNCONFIRMED_WAIT_S) as scope:
            await stream.barrier()
        if not scope.cancelled_caught:
            return True
        if stream.barrier_seen and stream.heard_at < asked_at:
            await stream.probe()
        if stream.barrier_seen or self.shared_at is not None:
            return False
        if not self._warned_unconfirmed:
            self._warned_unconfirmed = True
            event = "the server returns no barrier; what is written counts as arrived"
            self._log.warning(event, hint=_MAYBE_SHARED)
        return True

    def _measure(self, end: StreamEnd, attached: bool) -> None:
        stop: StreamEndKind = "lost"
        if isinstance(end, StreamFaulted):
            stop = "fault"
            self._meter.fault(StreamFault(end.by_peer, str(end.condition)))
        elif isinstance(end, StreamClosed):
            stop = "closed"
        if attached:
            self._meter.stops[stop] += 1
        else:
            self._meter.attempts_failed += 1

    def _note_end(self, end: StreamEnd, attached: bool, wait_s: float, *, refused: bool) -> None:
        now, (hint, _) = trio.current_time(), self._advice(end)
        since = now if attached else self.state.since
        why = f"{end}: {hint}" if hint else str(end)
        self.state = LinkState(False, since, why, now + wait_s, refused)

    def _log_end(self, end: StreamEnd, *, attached: bool, refused: bool, wait_s: float) -> None:
        """Log each change; `_remind` does the rest."""
        why = str(end)
        if (attached, why) == self._told:
            return
        self._told, self._told_at = (attached, why), trio.current_time()
        about: dict[str, object] = {"why": why}
        hint, remedy = self._advice(end)
        if hint:
            about["hint"] = f"{hint}; {remedy}" if remedy else hint
        if wait_s != math.inf:
            about["retry_in_s"] = round(wait_s, 1)
        if refused and not attached:
            self._log.error("the server refuses this component", **about)
        else:
            self._log.warning("detached" if attached else "cannot attach", **about)
        self._away.set()

    async def _remind(self) -> None:
        """Write a line a minute while the server is away, however long an attempt takes."""
        while True:
            await self._away.wait()
            await trio.sleep_until(self._told_at + REMIND_EVERY_S)
            now = trio.current_time()
            if not self._away.is_set() or now < self._told_at + REMIND_EVERY_S:
                continue
            self._told_at = now
            state = self.state
            self._log.warning(
                "still not attached",
                why=state.why,
                away_s=round(now - state.since),
                waiting=len(self._outbox),
            )

    def _advice(self, end: StreamEnd) -> tuple[str, str | None]:
        """Return the hint and the remedy; a barrier that another instance got is no dead server."""
        if end == UNANSWERED and self.shared_at is not None:
            return SHARED, SHARED_REMEDY
        remedy = REMEDIES.get(end.condition) if isinstance(end, StreamFaulted) else None
        return hint_of(end), remedy


def hint_of(end: StreamEnd) -> str:
    """Return advice for the operator about the server's error; empty if there is none."""
    if isinstance(end, StreamFaulted) and end.by_peer:
        return HINTS.get(end.condition, "")
    return ""
