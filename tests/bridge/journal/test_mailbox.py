"""The posts between nodes: received once, by whoever wants their kind, or dropped."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal import committer as committer_module
from bridge.journal.committer import Committer
from bridge.journal.mailbox import PAGE, Mailbox
from bridge.journal.shared import POLL_S
from tests.bridge.dispatch.life import Disk
from tests.bridge.journal.memory_cluster import MemoryCluster
from tests.bridge.recorder import Recorder

Received = list[tuple[bytes, int | None]]


class Node:
    """A node with a mailbox that runs."""

    def __init__(self, cluster: MemoryCluster, number: int) -> None:
        self.log = Recorder()
        self.disk = Disk()
        with patch.object(committer_module, "Thread", lambda _: self.disk):
            self.committer = Committer(cluster.store(number), self.log.logger())
        self.mailbox = Mailbox(self.committer, self.log.logger())
        self.received: Received = []

    def take(self, body: bytes, sender: int | None) -> None:
        self.received.append((body, sender))


@asynccontextmanager
async def nodes(cluster: MemoryCluster) -> AsyncIterator[tuple[Node, Node]]:
    made = Node(cluster, 1), Node(cluster, 2)
    async with trio.open_nursery() as nursery:
        for one in made:
            await nursery.start(one.committer.run)
            nursery.start_soon(one.mailbox.run)
        yield made
        nursery.cancel_scope.cancel()


async def pass_by() -> None:
    await trio.sleep(2 * POLL_S)
    await wait_all_tasks_blocked()


async def test_a_post_is_received_once_with_its_sender(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    async with nodes(cluster) as (one, two):
        two.mailbox.receive("greeting", two.take)
        sent: list[bool] = []
        one.mailbox.send(2, "greeting", b"hello", sent.append)
        await pass_by()
        await pass_by()
        assert sent == [True]
        assert two.received == [(b"hello", 1)]
        assert cluster.left == []


async def test_a_post_of_a_dead_node_has_no_sender(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    cluster.store(1).post(2, "greeting", b"hello")
    cluster.ended.add(1)
    async with nodes(cluster) as (_, two):
        two.mailbox.receive("greeting", two.take)
        await pass_by()
        assert two.received == [(b"hello", None)]


async def test_more_than_a_page_is_received_in_order(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    count = 2 * PAGE + 1
    for number in range(count):
        cluster.store(1).post(2, "greeting", b"%d" % number)
    looks: list[int] = []

    def watch() -> Callable[[], None]:
        return lambda: looks.append(len(two.received))

    async with nodes(cluster) as (_, two):
        two.mailbox.receive("greeting", two.take)
        two.mailbox.watch(watch)
        await pass_by()
        assert [int(body) for body, _ in two.received] == list(range(count))
        assert set(looks) == {count}, "told before all was received"


async def test_a_kind_that_nobody_receives_is_dropped(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    async with nodes(cluster) as (one, two):
        end = two.mailbox.receive("greeting", two.take)
        end()
        one.mailbox.send(2, "greeting", b"hello")
        await pass_by()
        assert [line["kind"] for line in two.log.of("post dropped")] == ["greeting"]
        assert cluster.left == []


async def test_the_end_of_a_receiver_leaves_its_successor(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    async with nodes(cluster) as (one, two):
        end = two.mailbox.receive("greeting", lambda body, _: pytest.fail(f"got {body!r}"))
        two.mailbox.receive("greeting", two.take)
        end()
        one.mailbox.send(2, "greeting", b"hello")
        await pass_by()
        assert two.received == [(b"hello", 1)]


async def test_a_post_that_is_not_kept_is_told(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    cluster.mute.add(1)
    async with nodes(cluster) as (one, _):
        sent: list[bool] = []
        one.mailbox.send(2, "greeting", b"hello", sent.append)
        await pass_by()
        assert sent == [False]


async def test_whoever_is_woken_does_not_wait_for_the_next_look(autojump_clock: MockClock) -> None:
    cluster = MemoryCluster()
    async with nodes(cluster) as (one, two):
        await pass_by()
        two.mailbox.receive("greeting", two.take)
        one.mailbox.wake = two.mailbox.look
        before = trio.current_time()
        one.mailbox.send(2, "greeting", b"hello")
        for _ in range(5):
            await wait_all_tasks_blocked()
        assert two.received == [(b"hello", 1)]
        assert trio.current_time() == before
