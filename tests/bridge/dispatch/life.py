"""A component's life: all of a daemon that is in memory, but for the stream and HTTP.

It is put together as `daemon` does it, on a journal that outlives it, or without one. The clocks
and the disk are the test's; nothing is in a thread, so that a mock clock need not wait for one.
"""

import json
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar
from unittest.mock import patch

import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from bridge.cluster.ownership import Ownership
from bridge.config.event import ALL_EVENTS
from bridge.config.settings import Component, HttpSettings, ListenSettings, Seconds, Settings
from bridge.config.value import Secret, parse_post_url
from bridge.dispatch.iq_relay import IqRelay
from bridge.dispatch.pipeline import Pipeline, Surroundings
from bridge.dispatch.remote_iq import RemoteIqs
from bridge.dispatch.submission import Submission
from bridge.journal import committer
from bridge.journal.durable import JournalQueue
from bridge.journal.idempotency import (
    IdempotencyStore,
    JournalIdempotencyStore,
    MemoryIdempotencyStore,
)
from bridge.journal.mailbox import Mailbox
from bridge.journal.queue import DeliveryQueue, MemoryQueue, Quota
from bridge.journal.shared import SharedQueue
from bridge.journal.state import JournalState
from bridge.journal.store import JournalStore, Totals
from bridge.listener.submission.sender import Sender
from bridge.webhook.outcome import NoReply, Outcome, Replied, TimedOut
from bridge.webhook.retry import CircuitBreaker, RetryPolicy
from bridge.webhook.streaming import Stream, Streams
from bridge.xmpp.state import MemoryState, StateStore
from tests.bridge.journal.memory_journal import Severable
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from xmppstream import Element, Server, Stanza, StanzaReceived, parse_element

T = TypeVar("T")

DOMAIN: Final = "bot.example"
BOT: Final = f"echo@{DOMAIN}"
START: Final = 1_700_000_000.0
TIMEOUT_S: Final = 30.0
COMPONENT: Final = Component(
    domain=DOMAIN,
    secret=Secret("s3cret"),
    post_url=parse_post_url("http://endpoint.example/api"),
    server=Server("127.0.0.1", 5347),
    post_stanzas=frozenset({"message", "presence", "iq"}),
    post_events=ALL_EVENTS,
    name="Echo",
)
DONE: Final = NoReply()


def at_once(_: float) -> float:
    """A jitter that waits for nothing."""
    return 0.0


def whole(bound_s: float) -> float:
    """A jitter that waits as long as it may."""
    return bound_s


def said(value: Any) -> Replied:
    """A reply of the endpoint in JSON."""
    return Replied("json", json.dumps(value).encode())


class Wall:
    """The wall clock: it goes with trio's, until somebody sets it."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def __call__(self) -> float:
        return START + trio.current_time() + self.shift_s


class Disk:
    """In the place of the journal's thread: calls in trio's own, and waits when it is told."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._open.set()
        self._acts_first = False

    def hold(self, *, acts_first: bool = False) -> None:
        """Let the next calls hang, before they do anything or (`acts_first`) thereafter."""
        if self._open.is_set():
            self._open = trio.Event()
            self._acts_first = acts_first

    def release(self) -> None:
        self._open.set()

    async def run(self, call: Callable[[], T], *, abandon: bool = False) -> T:
        await trio.lowlevel.checkpoint()
        if self._acts_first:
            result = call()
            await self._open.wait()
            return result
        await self._open.wait()
        return call()

    def close(self) -> None:
        pass


@define(eq=False)
class Post:
    """One POST: what was asked, and how it is to end."""

    json: dict[str, Any]
    uid: str
    attempt: int
    at: float  # trio's clock
    wall: float
    _outcome: Outcome | Exception | None = None
    _answered: trio.Event = field(factory=trio.Event)

    @property
    def id(self) -> str:
        return str(self.json.get("id"))

    def answer(self, outcome: Outcome | Exception = DONE) -> None:
        """Let it end."""
        self._outcome = outcome
        self._answered.set()

    async def wait(self) -> Outcome:
        await self._answered.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


Rule = Callable[[Post], Outcome | Exception | None]


class Postbox:
    """An endpoint that keeps what it got. It answers by `rule`, or, where that gives None or there
    is none, when it is told.
    """

    shown = "http://endpoint.example/api"

    def __init__(self, wall: Wall, rule: Rule | None = None) -> None:
        self.rule = rule
        self.streams: Streams | None = None
        self._scopes: dict[str, trio.CancelScope] = {}
        self.posts: list[Post] = []
        self.running: list[Post] = []
        self._wall = wall

    @property
    def ids(self) -> list[str]:
        """The ids of all POSTs, in order."""
        return [post.id for post in self.posts]

    def stream(self, id: str, limit_bytes: int = 1_000_000) -> Stream:
        """Begin to answer the POST of a stanza with a stream of NDJSON."""
        [post] = [post for post in self.running if post.id == id]
        assert self.streams is not None
        stream = self.streams.open(post.uid, "ndjson", limit_bytes)
        assert stream is not None
        self._scopes[post.uid].deadline = math.inf
        return stream

    def of(self, id: str) -> list[Post]:
        return [post for post in self.posts if post.id == id]

    def use_streams(self, streams: Streams) -> None:
        self.streams = streams

    async def post(
        self, body: bytes, uid: str, attempt: int, began: float, deadline: float
    ) -> Outcome:
        with trio.move_on_at(min(began + TIMEOUT_S, deadline)) as scope:
            self._scopes[uid] = scope
            return await self._post(body, uid, attempt)
        return TimedOut(was_cut=deadline <= began + TIMEOUT_S)

    async def _post(self, body: bytes, uid: str, attempt: int) -> Outcome:
        post = Post(json.loads(body), uid, attempt, trio.current_time(), self._wall())
        self.posts.append(post)
        self.running.append(post)
        try:
            outcome = None if self.rule is None else self.rule(post)
            if outcome is not None:
                post.answer(outcome)
                await trio.lowlevel.checkpoint()
            return await post.wait()
        finally:
            self.running.remove(post)


async def parse(data: bytes) -> Element:
    await trio.lowlevel.checkpoint()
    return parse_element(data)


class Life:
    """One life. `run` it; then `give`, and look at `endpoint` and `sent`."""

    def __init__(
        self,
        journal: JournalStore | None = None,
        *,
        wall: Wall | None = None,
        endpoint: Postbox | None = None,
        policy: RetryPolicy | None = None,
        volume: Quota | None = None,
        memory: Quota | None = None,
        component: Component = COMPONENT,
        max_in_flight: int = 256,
        listen: ListenSettings | None = None,
        overlaps: bool = False,
        ownership: Ownership | None = None,
    ) -> None:
        """With an `ownership`, it is a node that shares the journal with others."""
        self.wall = wall or Wall()
        self.endpoint = endpoint or Postbox(self.wall)
        self.log = Recorder()
        self.disk = Disk()
        self._scope = trio.CancelScope()
        self._dispatching = trio.CancelScope()
        self._dispatched = trio.Event()
        self.ended = trio.Event()
        log = self.log.logger()
        self._severable: Severable | None = None
        self._committer: committer.Committer | None = None
        self.journal_keeper: JournalQueue | None = None
        self.queue: DeliveryQueue = MemoryQueue()
        self.journal_fails: Callable[[], bool] = lambda: False
        self.state: StateStore = MemoryState()
        self.mailbox: Mailbox | None = None
        self.remote_iqs: RemoteIqs | None = None
        self.takes: Callable[[Submission], bool] = lambda submission: True
        if journal is not None:
            self._severable = journal if isinstance(journal, Severable) else Severable(journal)
            with patch.object(committer, "Thread", lambda _: self.disk):
                self._committer = committer.Committer(self._severable, log)
            keeper = self._committer
            self.journal_fails = lambda: keeper.failing
            found = journal.totals().get(DOMAIN, Totals())
            volume = volume or Quota()
            volume.count, volume.bytes = found.pending, found.pending_bytes
            about = (DOMAIN, self._committer, volume, parse, log, self.wall)
            if ownership is not None:
                self.journal_keeper = SharedQueue(*about, ownership, memory)
                self.mailbox = Mailbox(self._committer, log)
                self.remote_iqs = RemoteIqs(DOMAIN, self.mailbox, ownership, parse, log)
                attached = ownership.is_gateway
                self.takes = lambda submission: submission != "query" or attached(DOMAIN)
            else:
                self.journal_keeper = JournalQueue(*about, memory, overlaps=overlaps)
            self.queue = self.journal_keeper
            self.journal_keeper.recover(found)
            self.state = JournalState(DOMAIN, self._committer)
        self.pipeline = Pipeline.build(
            component,
            Settings((component,), HttpSettings(timeout_s=Seconds(TIMEOUT_S)), listen=listen),
            self.queue,
            self.endpoint,
            parse,
            log,
            Surroundings(
                policy=policy or RetryPolicy(jitter=whole),
                breaker=CircuitBreaker(jitter=whole),
                max_in_flight=max_in_flight,
                now=self.wall,
                state=self.state,
                ownership=ownership,
                remote_iqs=self.remote_iqs,
                takes=self.takes,
            ),
        )
        if self.mailbox is not None:
            IqRelay(DOMAIN, self.mailbox, self.pipeline.submitter, parse, log, self.wall)
        if isinstance(self.journal_keeper, SharedQueue):
            left = self.pipeline.dispatcher.leave_parts
            self.journal_keeper.serve(self.pipeline.outbox, left)
        self.outbox, self.pending_iqs = self.pipeline.outbox, self.pipeline.pending_iqs
        self.counts, self.meter = self.pipeline.bouncer.counts, self.pipeline.bouncer.meter
        self.dispatcher = self.pipeline.dispatcher
        self.submitters = {DOMAIN: self.pipeline.submitter}
        self.claims: IdempotencyStore = MemoryIdempotencyStore(now=self.wall)
        if self._committer is not None:
            self.claims = JournalIdempotencyStore(self._committer)
        self.deferrals = {DOMAIN: self.pipeline.deferred}
        self.sender = Sender(
            lambda: self.submitters, self.claims, parse, self.wall, lambda: self.deferrals
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live, until killed, stopped or cancelled."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                if self._committer is not None and self.journal_keeper is not None:
                    await nursery.start(self._committer.run)
                    if isinstance(self.state, JournalState):
                        await self.state.load()
                        streams = self.pipeline.streams
                        streams.load(await self.journal_keeper.still_pending(streams.kept))
                    self.outbox.put_missing(await self.journal_keeper.recovered_replies())
                await self.pipeline.promises.load()
                if self.journal_keeper is not None:
                    nursery.start_soon(self.journal_keeper.run, self.dispatcher)
                if self.mailbox is not None:
                    nursery.start_soon(self.mailbox.run)
                self.pipeline.contacts.load()
                self.pipeline.offers.load()
                self.pipeline.commands.load(self.log.logger())
                nursery.start_soon(self._dispatch)
                task_status.started()
                await trio.sleep_forever()
        self.ended.set()

    async def _dispatch(self) -> None:
        with self._dispatching:
            await self.dispatcher.run()
        self._dispatched.set()

    async def kill(self) -> None:
        """End at once: what is not committed is gone."""
        if self._severable is not None:
            self._severable.sever()
        self._scope.cancel()
        self.disk.release()
        await self.ended.wait()

    async def stop(self, grace_s: float = 5.0) -> None:
        """End as on SIGTERM; what is in the outbox at the end is written."""
        with trio.move_on_after(grace_s):
            await self.dispatcher.drain()
        self._dispatching.cancel()
        await self._dispatched.wait()
        await self.dispatcher.give_up()
        await wait_all_tasks_blocked()

    async def end(self) -> None:
        """After `stop`: close the journal."""
        self._scope.cancel()
        await self.ended.wait()

    async def give(self, *stanzas: Stanza, weight_bytes: int = 100) -> None:
        """Have stanzas come in, and wait until nothing moves."""
        for one in stanzas:
            await self.dispatcher.handle(StanzaReceived(one, weight_bytes))
        await wait_all_tasks_blocked()

    @property
    def running(self) -> list[str]:
        """The ids of the POSTs that run, sorted."""
        return sorted(post.id for post in self.endpoint.running)

    async def answer(self, id: str, outcome: Outcome | Exception = DONE) -> None:
        """Let a POST end, and wait until nothing moves."""
        [post] = [post for post in self.endpoint.running if post.id == id]
        post.answer(outcome)
        await wait_all_tasks_blocked()

    def sent(self) -> list[Stanza]:
        """Take what was put into the outbox since the last time, and have it confirmed."""
        taken = [stanza(data.decode()) for data in self.outbox.take()]
        self.outbox.confirm(self.outbox.position)
        return taken


async def pass_time(seconds: float) -> None:
    """Let time pass, and all that is due then happen."""
    await trio.sleep(seconds)
    await wait_all_tasks_blocked()
