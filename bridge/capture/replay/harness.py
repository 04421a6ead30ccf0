"""The bridge around one story: the parts of a daemon's service without the journal, and a player in
place of the server.

With captured responses, times are those of the story and everything happens as it did then. With a
live endpoint, running deliveries are awaited before a connection ends.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import trio
from attrs import evolve, frozen
from structlog.typing import FilteringBoundLogger

from bridge.capture.file import CaptureFileError
from bridge.capture.replay.captured import (
    CapturedBreaker,
    CapturedEndpoint,
    CapturedPolicy,
    ReplayQueue,
)
from bridge.capture.replay.clock import wait_idle
from bridge.capture.replay.expectation import Expectation
from bridge.capture.replay.player import Pace, Player, Stage, Timed, Unpaced
from bridge.capture.replay.recorded import Recorded, Told
from bridge.capture.replay.selection import Selection
from bridge.capture.replay.story import Story, StoryReader
from bridge.capture.replay.tally import Tally
from bridge.config.settings import Component, Settings, http_of, limits_of, retry_of
from bridge.dispatch.pipeline import Pipeline, Surroundings
from bridge.journal.queue import Quota
from bridge.payload.attachment import NOWHERE, Attachment, with_urls
from bridge.payload.body import ReplyObject
from bridge.payload.shape import File
from bridge.webhook.endpoint import Endpoint
from bridge.webhook.outcome import Outcome
from bridge.webhook.retry import CircuitBreaker, RetryPolicy
from bridge.webhook.signature import Signer
from bridge.webhook.streaming import Streams
from bridge.xmpp.backoff import Reaction, ReconnectDelay
from bridge.xmpp.iq import WAIT_LIMIT_S, DuplicateId, TooManyPending
from bridge.xmpp.link import Link
from xmppstream import (
    ElementParserThread,
    Event,
    Stanza,
    StanzaReceived,
    StanzaRefused,
    StreamFailed,
    StreamOptions,
)
from xmppstream.thread import InlineThread

_POLL_S: Final = 0.005
_EXPIRE_EVERY: Final = 1000
_CLOSE_S: Final = 1.5


@frozen
class Plan:
    """How stories are replayed. A `speed` of None means as fast as possible; without `captured`,
    POSTs go to the component's endpoint.
    """

    settings: Settings
    component: Component
    captured: bool
    selection: Selection
    speed: float | None = 1.0
    expects: bool = False
    max_differences: int = 20


class _AtOnce(ReconnectDelay):
    """Reconnects at once: the story says when the next connection begins."""

    def wait_s(self, reaction: Reaction, *, was_settled: bool = False) -> float:
        return 0.0


class _Timing:
    """An endpoint that counts its outcomes and durations in the tally."""

    def __init__(self, endpoint: Endpoint, captured: CapturedEndpoint | None, tally: Tally) -> None:
        self.shown = endpoint.shown
        self._endpoint = endpoint
        self._captured = captured
        self._tally = tally

    def use_streams(self, streams: Streams) -> None:
        """Pass replies that come as streams to `streams`, as they come."""
        self._endpoint.use_streams(streams)

    async def post(
        self, body: bytes, uid: str, attempt: int, began: float, deadline: float
    ) -> Outcome:
        outcome = await self._endpoint.post(body, uid, attempt, began, deadline)
        duration_s = trio.current_time() - began
        if self._captured is not None:  # without the wait for its time in the story
            duration_s = self._captured.duration_s
        self._tally.outcome(outcome, duration_s)
        return outcome


class _Unsent:
    """Uploads nothing: a file within a reply gets a URL that leads nowhere."""

    async def with_urls(self, objects: Sequence[ReplyObject], _: str) -> Sequence[ReplyObject]:
        async def upload(one: Attachment, _: str | None) -> File:
            return File(NOWHERE + quote(one.name), one.name, one.media_type, len(one.content))

        return await with_urls(objects, upload)


class ReplayHarness:
    """Replays one story on one component. Call `run` once; then look at `failure`."""

    def __init__(
        self,
        story: Story,
        plan: Plan,
        tally: Tally,
        log: FilteringBoundLogger,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`progress` is called with the number of bytes read from the story's files."""
        self.failure: CaptureFileError | None = None
        self._plan = plan
        self._tally = tally
        self._log = log
        self._progress = progress
        self._handled = 0
        start = story.header.date
        since = plan.selection.since
        begins_at = since.after(start) if since is not None else 0.0
        self._origin = start.timestamp()
        self.recorded = Recorded(start, plan.selection, self._unclaimed)
        self.reader = StoryReader(story, self.recorded.hear)
        self.recorded.bind(self.reader)
        self.expectation = self._make_expectation()
        self._pace = self._make_pace(begins_at)
        self._stopped = False
        self._dispatched = trio.Event()
        self._dispatching = trio.CancelScope()
        self._assemble()
        domain, options = plan.component.domain, self._options
        stage = Stage(
            domain,
            options,
            self._pace,
            tally,
            self.expectation,
            self._before_end,
            self._stop,
            self._submitted,
        )
        self.player = Player(self.reader, stage, plan.selection, begins_at)
        self._link = self._make_link()

    # --- construction

    def _make_expectation(self) -> Expectation | None:
        plan = self._plan
        if not plan.expects:
            return None
        return Expectation(
            plan.component.domain,
            plan.selection,
            plan.max_differences,
            self.recorded,
        )

    def _make_pace(self, begins_at: float) -> Pace:
        if self._plan.captured:
            return Timed(1.0, begins_at)
        if self._plan.speed is None:
            return Unpaced(begins_at, self._backlog)
        return Timed(self._plan.speed, begins_at)

    def _assemble(self) -> None:
        plan, log = self._plan, self._log
        component, settings, stream = plan.component, plan.settings, plan.settings.stream
        limits = limits_of(settings)
        self._options = StreamOptions(
            instance="",  # the captured barriers are those of the instance that was recorded
            limits=limits,
            keepalive_s=stream.keepalive_s,
            close_timeout_s=0.5,
        )
        self._elements = ElementParserThread(
            evolve(limits, max_stanza_bytes=stream.max_send_bytes), InlineThread
        )
        self._captured = CapturedEndpoint(self.recorded, self._pace.now) if plan.captured else None
        self._endpoint = Endpoint(
            component.post_url,
            http_of(component, settings),
            self._captured,
            Signer(component.webhook_secrets),
            now=self._wall,
            text_replies=component.text_replies,
        )
        journal = settings.journal
        queue = ReplayQueue(
            Quota(journal.max_stanzas, journal.max_bytes),
            self.recorded,
            self.expectation,
            self._tally,
            self._pace.now,
        )
        self._pipeline = Pipeline.build(
            component,
            settings,
            queue,
            _Timing(self._endpoint, self._captured, self._tally),
            self._elements.parse,
            log,
            Surroundings(
                policy=self._make_policy(),
                breaker=CircuitBreaker() if self._captured is None else CapturedBreaker(),
                max_in_flight=None if self._captured is None else journal.max_stanzas,
                is_replay=self._captured is not None,
                now=self._wall,
                iq_now=self._pace.now,
                reply_uploads=_Unsent(),
            ),
        )
        self._dispatcher, self._outbox = self._pipeline.dispatcher, self._pipeline.outbox

    def _make_policy(self) -> RetryPolicy:
        policy = RetryPolicy.of(retry_of(self._plan.component, self._plan.settings))
        if self._captured is None:
            return policy
        return CapturedPolicy.replaying(policy, self._captured)

    def _make_link(self) -> Link:
        return Link(
            self._plan.component,
            self._options,
            self._outbox,
            self._handle,
            self._log,
            open_stream=self.player.open_stream,
            backoff=_AtOnce(),
        )

    def _submitted(self, stanza: Stanza) -> None:
        """Record a stanza that the HTTP API sent; as then, only its caller gets the reply."""
        if self.expectation is not None:
            self.expectation.submitted(stanza)
        if stanza.is_request:
            with suppress(DuplicateId, TooManyPending):
                self._pipeline.pending_iqs.open(stanza, self._pace.now() + WAIT_LIMIT_S)

    def now(self) -> float:
        """Return the story's time, in s."""
        return self._pace.now()

    # --- running

    async def run(self) -> None:
        """Replay the story to its end, or as far as it can be read. Cancellation stops at once."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._link.run)
                nursery.start_soon(self._dispatch)
                try:
                    await self.player.run()
                except CaptureFileError as error:
                    self.failure = error
                await self._stop()
                with trio.move_on_after(_CLOSE_S):
                    await self._link.close()
                nursery.cancel_scope.cancel()
        finally:
            self._elements.close()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.2):
                await self._endpoint.aclose()
        self._end()

    def _end(self) -> None:
        self.recorded.expire()
        if self.expectation is not None:
            in_order = self.failure is None and not self.player.is_connected
            self.expectation.end(self.player.at, in_order=in_order)

    def _unclaimed(self, told: Told) -> None:
        if self.expectation is not None:
            self.expectation.unclaimed(told)

    async def _dispatch(self) -> None:
        with self._dispatching:
            await self._dispatcher.run()
        self._dispatched.set()

    async def _handle(self, event: Event) -> None:
        if isinstance(event, StanzaReceived | StanzaRefused):
            self._tally.stanzas[event.stanza.kind] += 1
        self._handled += 1
        if self._handled % _EXPIRE_EVERY == 0:
            self.recorded.expire(self._pace.now())
        self._progress(self.reader.position_bytes)
        await self._dispatcher.handle(event)

    def _backlog(self) -> int:
        return self._dispatcher.in_flight + self._dispatcher.waiting + self.player.queued

    async def _before_end(self) -> None:
        """With a live endpoint, wait until nothing is in progress."""
        if self._captured is not None:
            return
        # The backlog has many parts: being notified of each change costs more than polling.
        while self._backlog():  # noqa: ASYNC110
            await trio.sleep(_POLL_S)
        stream = self._link.stream
        if stream is not None:
            with trio.move_on_after(_CLOSE_S), suppress(StreamFailed):
                await self._outbox.wait_written()
                await stream.flush()

    async def _stop(self) -> None:
        """Stop as a daemon does."""
        if self._stopped:
            return
        self._stopped = True
        await self._before_end()
        if self._captured is not None:
            await self._answered(self._captured)
        if self.expectation is not None:
            self.expectation.stopped(self._pace.now())
        with trio.move_on_after(0):
            await self._dispatcher.drain()
        self._dispatching.cancel()
        await self._dispatched.wait()
        await self._dispatcher.give_up()

    async def _answered(self, endpoint: CapturedEndpoint) -> None:
        """Wait until every captured response has been returned."""
        await wait_idle()
        while (rest_s := endpoint.latest - self._pace.now()) > 0:
            await trio.sleep(rest_s)
            await wait_idle()

    def _wall(self) -> float:
        """Return Unix time in s: the story's if the endpoint is the captured one."""
        return self._origin + self._pace.now() if self._plan.captured else time.time()
