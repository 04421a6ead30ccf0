"""Several nodes that share a journal: who POSTs, who writes, and what a hand-over keeps."""

from collections.abc import Iterable
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.cluster.partition import ALL_PARTS, partition_of
from bridge.journal.queue import Quota
from bridge.journal.shared import PAGE, POLL_S, SharedQueue
from bridge.webhook.outcome import Replied, Unreachable
from bridge.webhook.retry import RetryPolicy
from tests.bridge.dispatch.life import BOT, DOMAIN, Life, Post, Postbox, Wall, said
from tests.bridge.journal.memory_cluster import Held, MemoryCluster
from tests.bridge.sample import stanza
from xmppstream import Element, Stanza, parse_element

SOON: Final = 2 * POLL_S
FAILED: Final = Unreachable("refused")


class Node:
    """A process that shares the journal."""

    def __init__(self, cluster: MemoryCluster, number: int, wall: Wall, memory: Quota) -> None:
        self.held = Held()
        self.wall = wall
        self.life = Life(
            cluster.store(number), wall=wall, ownership=self.held, memory=memory, max_in_flight=8
        )

    @property
    def endpoint(self) -> Postbox:
        return self.life.endpoint

    def written(self) -> list[str]:
        """Return the texts of what the link writes now, and confirm it."""
        data = self.life.outbox.take()
        self.life.outbox.confirm(self.life.outbox.position)
        return [_body(parse_element(one)) for one in data]


def _body(message: Element) -> str:
    return next(one.text for one in message.elements if one.local == "body")


class Cluster:
    """Nodes, of which the first begins with the link, and the second with all partitions."""

    def __init__(self, nursery: trio.Nursery, memory: int = 1000) -> None:
        self.journal = MemoryCluster()
        self.journal.clock = trio.current_time
        self._nursery = nursery
        self.nodes = [Node(self.journal, number, Wall(), Quota(memory)) for number in (1, 2, 3)]
        self.gateway, self.worker, self.other = self.nodes

    async def start(self, parts: Iterable[frozenset[int]] = (frozenset(), ALL_PARTS)) -> None:
        for node in self.nodes:
            await self._nursery.start(node.life.run)
        self.gateway.held.gateway = True
        for node, held in zip(self.nodes, parts, strict=False):
            node.held.hold(held)
        await wait_all_tasks_blocked()


async def pass_by(seconds: float = SOON) -> None:
    await trio.sleep(seconds)
    await wait_all_tasks_blocked()


def message(id: str, sender: str = "a") -> Stanza:
    head = f"id='{id}' type='chat' from='{sender}@x/1' to='{BOT}'"
    return stanza(f"<message {head}><body>{id}</body></message>", "cs")


def question(id: str) -> Stanza:
    return stanza(f"<iq id='{id}' type='get' from='a@x/1' to='{BOT}'><query xmlns='q'/></iq>", "cs")


def part_of(sender: str) -> int:
    return partition_of((f"{sender}@x", BOT))


async def test_a_stanza_is_posted_by_the_node_that_has_its_partition(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start()
    await cluster.gateway.life.give(message("1"))
    await pass_by()
    assert cluster.gateway.endpoint.ids == []
    [post] = cluster.worker.endpoint.posts
    post.answer(said({"body": "pong"}))
    await pass_by()
    assert cluster.gateway.written() == ["pong"]
    assert len(cluster.worker.life.outbox) == 0
    await wait_all_tasks_blocked()
    assert not cluster.journal.pending(DOMAIN, limit=9)
    assert not cluster.journal.replies(DOMAIN, limit=9)


async def test_a_gateway_that_has_the_partition_posts_at_once_and_writes_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    await cluster.gateway.life.give(message("1"))
    [post] = cluster.gateway.endpoint.posts  # at once
    post.answer(said({"body": "pong"}))
    await wait_all_tasks_blocked()
    assert cluster.gateway.written() == ["pong"]
    await pass_by()
    assert cluster.gateway.written() == []
    assert cluster.gateway.endpoint.ids == ["1"]


async def test_what_arrives_during_a_hand_over_is_posted_in_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway, worker = cluster.gateway, cluster.worker
    await gateway.life.give(message("1"), message("2"), message("3", "b"))
    assert sorted(gateway.endpoint.ids) == ["1", "3"]
    gateway.held.hold(())
    await gateway.life.give(message("4"))
    assert gateway.life.dispatcher.busy_parts == {part_of("a"), part_of("b")}
    gateway.endpoint.of("1")[0].answer(said({"body": "one"}))
    gateway.endpoint.of("3")[0].answer(said({"body": "three"}))
    await wait_all_tasks_blocked()
    assert gateway.life.dispatcher.busy_parts == frozenset()
    assert gateway.held.changes >= 2
    worker.held.hold()
    await pass_by()
    assert worker.endpoint.ids == ["2"]
    worker.endpoint.posts[0].answer(said({"body": "two"}))
    await pass_by()
    worker.endpoint.posts[1].answer(said({"body": "four"}))
    await pass_by()
    assert worker.endpoint.ids == ["2", "4"]
    assert len(gateway.endpoint.ids) == 2
    written = gateway.written()
    assert [one for one in written if one != "three"] == ["one", "two", "four"]
    assert len(written) == 4


async def test_a_conversation_in_back_off_is_left_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway, worker = cluster.gateway, cluster.worker
    await gateway.life.give(message("1"), message("2"))
    gateway.endpoint.posts[0].answer(FAILED)
    await wait_all_tasks_blocked()
    gateway.held.hold(())
    assert gateway.life.dispatcher.busy_parts == frozenset()
    assert gateway.life.dispatcher.waiting == 0
    worker.held.hold()
    await pass_by()
    [post] = worker.endpoint.posts
    assert (post.id, post.attempt) == ("1", 2)
    await pass_by(30)
    assert gateway.endpoint.ids == ["1"]


async def test_a_post_that_fails_after_the_partition_was_lost_is_tried_elsewhere(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway, worker = cluster.gateway, cluster.worker
    await gateway.life.give(message("1"))
    gateway.held.hold(())
    gateway.endpoint.posts[0].answer(FAILED)
    await wait_all_tasks_blocked()
    assert gateway.life.dispatcher.busy_parts == frozenset()
    assert gateway.held.changes == 1
    worker.held.hold()
    await pass_by()
    assert worker.endpoint.ids == ["1"]
    await pass_by(30)
    assert gateway.endpoint.ids == ["1"]


async def test_a_new_gateway_writes_all_unconfirmed_replies_once_and_in_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start()
    gateway, worker = cluster.gateway, cluster.worker
    worker.endpoint.rule = lambda post: said({"body": f"re {post.id}"})
    await gateway.life.give(*(message(str(n)) for n in range(3)))
    await pass_by()
    assert gateway.life.outbox.take()  # written, but never confirmed
    gateway.held.hold((), gateway=False)
    worker.held.hold(gateway=True)
    await pass_by()
    assert worker.written() == ["re 0", "re 1", "re 2"]
    await pass_by()
    assert worker.written() == []
    assert not cluster.journal.replies(DOMAIN, limit=9)


async def test_s11_a_new_gateway_writes_alone_what_was_written_twice_before(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start()
    gateway, worker = cluster.gateway, cluster.worker
    worker.endpoint.rule = lambda post: said({"body": f"re {post.id}"})
    await gateway.life.give(message("1"))
    await pass_by()
    for _ in range(2):
        assert gateway.life.outbox.take()
        gateway.life.outbox.count_written()
        gateway.life.outbox.stream_lost(blamed=False)
    await gateway.life.give(message("2"))
    await pass_by()
    gateway.held.hold((), gateway=False)
    worker.held.hold(gateway=True)
    await pass_by()
    suspect = worker.life.outbox.suspect
    assert suspect is not None
    assert _body(parse_element(suspect)) == "re 1"
    assert worker.written() == ["re 2"]


async def test_replies_before_a_hand_over_go_before_those_after_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The gateway gets the partition itself while a reply of the worker is still unread."""
    cluster = Cluster(nursery)
    await cluster.start()
    gateway, worker = cluster.gateway, cluster.worker
    await gateway.life.give(message("1"), message("2"))
    await pass_by()
    gateway.endpoint.rule = lambda post: said({"body": f"re {post.id}"})
    gateway.life.disk.hold()  # it cannot read now
    many = [f"re 1.{n}" for n in range(PAGE + 10)]
    worker.endpoint.posts[0].answer(said([{"body": one} for one in many]))
    worker.held.hold(())
    await wait_all_tasks_blocked()
    gateway.held.hold()
    gateway.life.disk.release()
    await pass_by()
    assert gateway.written() == [*many, "re 2"]


async def test_more_than_memory_holds_is_posted_in_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery, memory=20)
    await cluster.start()
    count = PAGE + 40
    most = 0

    def echo(post: Post) -> Replied:
        nonlocal most
        most = max(most, cluster.worker.life.dispatcher.waiting)
        return said({"body": post.id})

    cluster.worker.endpoint.rule = echo
    given = [message(str(n), f"s{n % 3}") for n in range(count)]
    await cluster.gateway.life.give(*given)
    await pass_by(60)
    assert most <= 20
    posted = cluster.worker.endpoint.ids
    assert sorted(posted, key=int) == [str(n) for n in range(count)]
    for sender in range(3):
        own = [int(id) for id in posted if int(id) % 3 == sender]
        assert own == sorted(own)
    written = cluster.gateway.written()
    assert sorted(map(int, written)) == list(range(count))


async def test_a_node_that_is_no_longer_alive_posts_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway = cluster.gateway
    await gateway.life.give(message("1"), message("2"))
    gateway.held.alive = False  # and nobody has told it yet
    gateway.endpoint.posts[0].answer()
    await pass_by(POLL_S / 2)
    assert gateway.endpoint.ids == ["1"]


async def test_a_node_that_is_no_longer_alive_expires_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway = cluster.gateway
    await gateway.life.give(question("1"))
    gateway.endpoint.posts[0].answer(FAILED)
    await wait_all_tasks_blocked()
    gateway.held.alive = False  # and nobody has told it yet
    await pass_by(RetryPolicy().iq_budget_s + 1)
    assert cluster.journal.settled == []
    assert gateway.written() == []


async def test_a_node_that_dies_while_it_expires_stanzas_stops_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway = cluster.gateway
    for sender in "abc":
        await gateway.life.give(message(f"1{sender}", sender), message(f"2{sender}", sender))
    gateway.endpoint.rule = lambda post: FAILED
    for post in gateway.endpoint.posts:
        post.answer(FAILED)
    await wait_all_tasks_blocked()
    assert gateway.life.dispatcher.breaker.is_down
    await pass_by(RetryPolicy().message_budget_s - 2)
    assert cluster.journal.settled == []
    gateway.life.disk.hold()
    await pass_by(4)
    gateway.held.alive = False
    gateway.life.disk.release()
    await pass_by()
    left = [one.stanza.id for one in cluster.journal.pending(DOMAIN, limit=9)]
    assert left == ["2a", "2b", "2c"]


@pytest.mark.parametrize("shift_s", [-3600, 0, 3600])
async def test_the_budget_goes_on_by_the_clock_of_the_journal(
    autojump_clock: MockClock, nursery: trio.Nursery, shift_s: float
) -> None:
    """A stanza waits until a node has its partition, whose own clock is wrong."""
    budget_s = RetryPolicy().iq_budget_s
    cluster = Cluster(nursery)
    cluster.worker.wall.shift_s = shift_s
    await cluster.start([frozenset()])
    await cluster.gateway.life.give(question("1"))
    await pass_by(budget_s - 3)
    cluster.worker.held.hold()
    await pass_by()
    assert cluster.worker.endpoint.ids == ["1"]
    cluster.worker.endpoint.posts[0].answer(FAILED)
    cluster.worker.endpoint.rule = lambda post: FAILED
    await pass_by(1)
    assert cluster.journal.settled == []
    await pass_by(3)
    assert len(cluster.journal.settled) == 1


async def test_a_node_that_is_woken_does_not_wait_for_its_next_look(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start()
    await pass_by()
    gateway, worker = cluster.gateway.life.journal_keeper, cluster.worker.life.journal_keeper
    assert isinstance(gateway, SharedQueue)
    assert isinstance(worker, SharedQueue)
    gateway.wake, worker.wake_gateway = worker.look, gateway.look_for_replies
    before = trio.current_time()
    cluster.worker.endpoint.rule = lambda post: said({"body": "pong"})
    await cluster.gateway.life.give(message("1"))
    for _ in range(5):
        await wait_all_tasks_blocked()
    assert cluster.gateway.written() == ["pong"]
    assert trio.current_time() == before


async def test_a_gateway_that_is_woken_for_replies_still_looks_for_stanzas_in_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start([ALL_PARTS])
    await pass_by()
    gateway = cluster.gateway.life.journal_keeper
    assert isinstance(gateway, SharedQueue)
    await cluster.worker.life.give(message("1"))  # as it was accepted before a hand-over
    gateway.look_for_replies()
    await wait_all_tasks_blocked()
    assert cluster.gateway.endpoint.ids == [], "it has only looked for replies"
    for _ in range(20):
        gateway.look_for_replies()
        await pass_by(POLL_S / 10)
    assert cluster.gateway.endpoint.ids == ["1"]


async def test_a_send_on_any_node_is_written_by_the_gateway(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = Cluster(nursery)
    await cluster.start()
    kept: list[bool] = []
    one = stanza(f"<message to='a@x' from='{BOT}'><body>news</body></message>", "cs")
    cluster.other.life.pipeline.submitter.submit({"msg_1": one}, 0.0, None, kept.append)
    await pass_by()
    assert kept == [True]
    assert len(cluster.other.life.outbox) == 0
    assert cluster.gateway.written() == ["news"]


async def test_a_send_wakes_the_gateway(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    cluster = Cluster(nursery)
    await cluster.start()
    await pass_by()
    gateway, other = cluster.gateway.life.journal_keeper, cluster.other.life.journal_keeper
    assert isinstance(gateway, SharedQueue)
    assert isinstance(other, SharedQueue)
    other.wake_gateway = gateway.look_for_replies
    before = trio.current_time()
    one = stanza(f"<message to='a@x' from='{BOT}'><body>news</body></message>", "cs")
    cluster.other.life.pipeline.submitter.submit({"msg_1": one}, 0.0, None, lambda _: None)
    for _ in range(5):
        await wait_all_tasks_blocked()
    assert cluster.gateway.written() == ["news"]
    assert trio.current_time() == before
