"""Wake-ups between nodes: how often, by which connection, and what the loss of one costs."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Final, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bridge.cluster.partition import ALL_PARTS
from bridge.config.settings import JournalSettings, NodeSettings
from bridge.config.value import DatabaseUrl
from bridge.journal import mailbox as mailbox_module
from bridge.journal import shared as shared_module
from bridge.journal.cluster import NODES, POSTS, ClusterStore
from bridge.journal.directory import StateDirectory
from bridge.journal.postgres import connection as connection_module
from bridge.journal.postgres import wake as wake_module
from bridge.journal.postgres.wake import PACE_S, Pacing, PostgresWakeUps
from bridge.journal.shared import SharedQueue
from bridge.journal.storage import Storage, open_storage
from bridge.xmpp.outbox import Outbox
from tests.bridge.dispatch.life import parse
from tests.bridge.journal.memory_cluster import Held
from tests.bridge.journal.postgres.database import Database
from tests.bridge.journal.postgres.proxy import Proxy
from tests.bridge.journal.sqlite.test_store import entry
from tests.bridge.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bridge.journal.delivery import Delivery
    from bridge.xmpp.outbox import Outgoing
    from tests.servers.postgres import Postgres

DEADLINE_S: Final = 30.0
FAILS: Final = "no wake-ups between the nodes"
WORKS: Final = "wake-ups between the nodes work again"


# --- pacing


def test_the_first_wake_up_goes_at_once_and_those_after_it_together() -> None:
    pacing = Pacing()
    pacing.want("bot", 1.0)
    assert pacing.next_due == 1.0
    assert pacing.take(1.0) == ["bot"]
    for now in (1.001, 1.002, 1.004):
        pacing.want("bot", now)
        assert pacing.take(now) == []
    assert pacing.next_due == 1.0 + PACE_S
    assert pacing.take(1.0 + PACE_S) == ["bot"]
    assert pacing.next_due == inf
    assert pacing.take(9.0) == []


def test_targets_do_not_wait_for_each_other() -> None:
    pacing = Pacing()
    pacing.want("bot", 1.0)
    assert pacing.take(1.0) == ["bot"]
    pacing.want("bot", 1.001)
    pacing.want(NODES, 1.002)
    assert pacing.take(1.002) == [NODES]
    assert pacing.take(1.0 + PACE_S) == ["bot"]


def test_a_pause_is_counted_from_the_last_wake_up() -> None:
    """At most one per pause, however many are wanted."""
    pacing, sent = Pacing(), []
    for step in range(1000):
        now = step / 10_000
        pacing.want("bot", now)
        sent += [now] * len(pacing.take(now))
    pauses = [after - before for before, after in pairwise(sent)]
    assert len(sent) == 20
    assert min(pauses) >= PACE_S - 1e-9


# --- PostgreSQL


class Node:
    """Counts the wake-ups of one node, by target."""

    def __init__(self, database: Database, url: DatabaseUrl | None = None) -> None:
        self.log = Recorder()
        self.wakes = PostgresWakeUps(url or database.url, database.schema, self.log.logger())
        self.counts = {"bot": 0, NODES: 0}
        self._changed = trio.Event()
        for target in self.counts:
            self._subscribe(target)

    def _subscribe(self, target: str) -> None:
        def woken() -> None:
            self.counts[target] += 1
            self._changed.set()
            self._changed = trio.Event()

        self.wakes.subscribe(target, woken)

    async def wait(self, target: str, count: int) -> None:
        while self.counts[target] < count:
            await self._changed.wait()

    async def start(self, nursery: trio.Nursery) -> None:
        """Return when it listens; everything has been woken once then."""
        nursery.start_soon(self.wakes.run)
        await self.wait(NODES, 1)


def backends(database: Database) -> list[int]:
    """Return the backends of the connections of all nodes."""
    rows = database.execute(
        f"SELECT pid FROM pg_stat_activity WHERE application_name = 'xmpp-bridge {database.schema}'"
    )
    return [pid for [pid] in rows]


@pytest.mark.postgres
async def test_other_nodes_are_woken_and_the_node_itself_is_not(
    database: Database, nursery: trio.Nursery
) -> None:
    one, two, three = (Node(database) for _ in range(3))
    with trio.fail_after(DEADLINE_S):
        for node in (one, two, three):
            await node.start(nursery)
        one.wakes.wake("bot")
        await two.wait("bot", 2)
        await three.wait("bot", 2)
        two.wakes.wake(NODES)
        await one.wait(NODES, 2)
    assert one.counts == {"bot": 1, NODES: 2}
    assert two.counts == {"bot": 2, NODES: 1}
    one.wakes.unsubscribe("bot")
    with trio.fail_after(DEADLINE_S):
        two.wakes.wake("bot")
        await three.wait("bot", 3)
        two.wakes.wake(NODES)
        await one.wait(NODES, 3)
    assert one.counts["bot"] == 1


@pytest.mark.postgres
async def test_what_is_wanted_at_the_end_is_sent(database: Database, nursery: trio.Nursery) -> None:
    one, two = Node(database), Node(database)
    with trio.fail_after(DEADLINE_S):
        await two.start(nursery)
        async with trio.open_nursery() as ending:
            await one.start(ending)
            one.wakes.wake("bot")
            ending.cancel_scope.cancel()
        await two.wait("bot", 2)


@pytest.mark.postgres
async def test_another_cluster_in_the_database_is_not_woken(
    server: Postgres, database: Database, nursery: trio.Nursery
) -> None:
    with closing(Database(server.url)) as apart:
        one, other, sibling = Node(database), Node(apart), Node(apart)
        with trio.fail_after(DEADLINE_S):
            for node in (one, other, sibling):
                await node.start(nursery)
            for _ in range(2):
                one.wakes.wake("bot")
                sibling.wakes.wake(NODES)
                await other.wait(NODES, other.counts[NODES] + 1)
        assert other.counts["bot"] == 1


@pytest.mark.postgres
async def test_a_lost_connection_is_told_once_and_everything_is_looked_at_after_it(
    database: Database, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake_module, "RETRY_S", 0.01)
    proxy = Proxy(database.url.value)
    secret = proxy.url.replace("@", ":not-to-be-shown@")
    one = Node(database)
    two = Node(database, DatabaseUrl(secret, "postgresql://db/bridge"))
    with closing(proxy), trio.fail_after(DEADLINE_S):
        await one.start(nursery)
        await two.start(nursery)
        proxy.cut_before_request(refuse=True)
        two.wakes.wake(NODES)
        await two.log.wait(FAILS)
        one.wakes.wake("bot")  # lost
        while proxy.refusals < 3:  # noqa: ASYNC110  # a thread counts them
            await trio.sleep(0.01)
        proxy.accept()
        await two.wait("bot", 2)
        await two.log.wait(WORKS)
        one.wakes.wake("bot")
        await two.wait("bot", 3)
        two.wakes.wake("bot")
        await one.wait("bot", 2)
    [failed] = two.log.of(FAILS)
    assert "postgresql://db/bridge" in failed["why"]
    assert failed["hint"]
    assert "not-to-be-shown" not in str(two.log.lines)
    assert not one.log.lines


@pytest.mark.postgres
async def test_a_server_that_does_not_answer_is_given_up(
    database: Database, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake_module, "RETRY_S", 0.01)
    monkeypatch.setattr(wake_module, "WATCH_S", 0.01)
    monkeypatch.setattr(connection_module, "HANG_S", 0.05)
    proxy = Proxy(database.url.value)
    one = Node(database)
    two = Node(database, DatabaseUrl(proxy.url, "postgresql://db/bridge"))
    with closing(proxy), trio.fail_after(DEADLINE_S):
        await one.start(nursery)
        await two.start(nursery)
        proxy.stall_after_bytes(3)
        two.wakes.wake("bot")
        failed = await two.log.wait(FAILS)
        await two.log.wait(WORKS)
        two.wakes.wake("bot")
        await one.wait("bot", 2)
    assert failed["why"] == "the database postgresql://db/bridge does not answer"


# --- a component's stanzas


class Worker:
    """One node with the queue of `bot`, which keeps what is delivered to it."""

    def __init__(self, storage: Storage, held: Held) -> None:
        self.storage = storage
        self.held = held
        storage.ownership = held
        storage.spreads = True
        self.log = Recorder()
        made = storage.queue("bot", parse, self.log.logger())
        assert isinstance(made, SharedQueue)
        self.queue = made
        self.outbox = Outbox("bot", store=made)
        self.queue.serve(self.outbox, lambda: None)
        self._send, self.delivered = trio.open_memory_channel["Delivery"](10)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.storage.committer.run)
            assert self.storage.wake_ups is not None
            nursery.start_soon(self.storage.wake_ups.run)
            nursery.start_soon(self.queue.run, self)
            task_status.started()

    def begin(self, delivery: Delivery) -> bool:
        return False

    def deliver(self, delivery: Delivery) -> None:
        self._send.send_nowait(delivery)

    def refuse(self, delivery: Delivery) -> None:
        raise AssertionError(delivery)

    def settle(self, delivery: Delivery) -> None:
        def then(kept: Sequence[Outgoing]) -> None:
            self.outbox.put(kept)

        self.queue.settle(delivery, [b"<pong/>"], 1.0, None, then)


@pytest.fixture
def nodes(database: Database, tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    """A gateway without partitions, and a node that has all of them."""
    settings = JournalSettings("power", url=database.url)
    with ExitStack() as stack:
        opened = []
        for label in ("gateway", "worker"):
            directory = StateDirectory(tmp_path / label)
            node = NodeSettings(database.schema, label)
            opened.append(stack.enter_context(open_storage(directory, settings, node)))
        gateway, worker = opened
        yield Worker(gateway, Held(gateway=True)), Worker(worker, Held(held=ALL_PARTS))


async def pass_one(gateway: Worker, worker: Worker, uid: str) -> None:
    """The gateway accepts a stanza, and the worker answers it."""
    gateway.queue.accept(entry(uid, xml="<message/>"), gateway)
    delivery = await worker.delivered.receive()
    assert delivery.uid == uid
    worker.settle(delivery)
    await gateway.outbox.wait_pending()
    assert gateway.outbox.take() == [b"<pong/>"]
    gateway.outbox.confirm(gateway.outbox.position)


@pytest.mark.postgres
async def test_a_stanza_and_its_reply_need_no_polling(
    database: Database,
    nodes: tuple[Worker, Worker],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_module, "POLL_S", inf)
    with trio.fail_after(DEADLINE_S):
        for one in nodes:
            await nursery.start(one.run)
        for number in range(5):
            await pass_one(*nodes, f"m-{number}")
        assert len(backends(database)) == 6  # the manual says three for each
        gateway, _ = nodes
        gateway.storage.release(gateway.queue)
        assert gateway.storage.wake_ups is not None
        assert set(gateway.storage.wake_ups._callbacks) == {POSTS}  # type: ignore[attr-defined]


@pytest.mark.postgres
async def test_a_post_needs_no_polling(
    nodes: tuple[Worker, Worker], nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "POLL_S", inf)
    came = trio.Event()

    def receive(body: bytes, node: int | None) -> None:
        if body == b"hello" and node is not None:
            came.set()

    with trio.fail_after(DEADLINE_S):
        for one in nodes:
            await nursery.start(one.run)
            nursery.start_soon(one.storage.mailbox.run)
        first, second = (one.storage for one in nodes)
        second.mailbox.receive("greeting", receive)
        number = await second.committer.ask(lambda store: cast("ClusterStore", store).node)
        await wait_all_tasks_blocked(0.05)
        first.mailbox.send(number, "greeting", b"hello")
        await came.wait()


@pytest.mark.postgres
async def test_polling_takes_over_if_wake_ups_are_lost(
    server: Postgres,
    database: Database,
    nodes: tuple[Worker, Worker],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker cannot listen any more, and its own wake-ups do not go out."""
    monkeypatch.setattr(wake_module, "RETRY_S", inf)
    gateway, worker = nodes
    with trio.fail_after(DEADLINE_S):
        await nursery.start(gateway.run)
        await nursery.start(worker.run)
        await pass_one(gateway, worker, "m-1")
        for pid in backends(database):
            database.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid}"
                " AND query ~ 'LISTEN|pg_notify'"
            )
        for number in range(2, 5):
            await pass_one(gateway, worker, f"m-{number}")
        assert len(backends(database)) == 4
