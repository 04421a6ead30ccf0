"""This process as a node: what it holds, when it stops by itself, and how it comes back. The
journal's thread is inline, and the clock jumps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.cluster.member import STABLE_S
from bridge.cluster.membership import LOST_S
from bridge.cluster.partition import ALL_PARTS, GATEWAY
from bridge.daemon.node import ClusterNode
from bridge.journal.cluster import About
from bridge.journal.committer import Committer
from bridge.journal.store import DropDead
from tests.bridge.cluster.fake_cluster import FakeDatabase, FakeStore, leases_of
from tests.bridge.recorder import Recorder
from xmppstream.thread import InlineThread

C: Final = "echo.example.org"
ABOUT: Final = About("1", (C,), "digest")
TAKE_OVER_S: Final = 15.0


@define
class Process:
    """A node with its committer, that can be frozen, killed, and asked."""

    nursery: trio.Nursery
    store: FakeStore
    log: Recorder
    node: ClusterNode = field(init=False)
    committer: Committer = field(init=False)
    frozen_s: float = 0.0
    told: list[tuple[bool, bool]] = field(factory=list)
    busy: set[int] = field(factory=set)
    scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def start(self, about: About = ABOUT) -> None:
        self.store.register(self.store.label, about)
        self.committer = Committer(self.store, self.log.logger())  # type: ignore[arg-type]  # enough of a store
        self.node = ClusterNode(
            self.committer,
            self.store.label,
            about,
            self.log.logger(),
            clock=lambda: trio.current_time() + self.frozen_s,
        )
        self.node.on_change(lambda: self.told.append((self.node.is_alive, self.node.is_gateway(C))))
        self.node.watch(C, self._busy)
        await self.nursery.start(self._run)

    def _busy(self) -> Collection[int]:
        return self.busy

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.committer.run)
                await nursery.start(self.node.run)
                task_status.started()

    @property
    def held(self) -> int:
        return len(self.node.parts(C))


@pytest.fixture
def log() -> Recorder:
    return Recorder()


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def start(
    nursery: trio.Nursery,
    database: FakeDatabase,
    log: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Awaitable[Process]]:
    """Start another node."""
    monkeypatch.setattr("bridge.journal.committer.Thread", InlineThread)

    async def start(label: str = "one", about: About = ABOUT) -> Process:
        made = Process(nursery, database.store(label), log)
        await made.start(about)
        return made

    return start


Start = Callable[..., Awaitable[Process]]


async def test_a_single_node_has_everything_when_it_has_started(
    autojump_clock: MockClock, start: Start
) -> None:
    one = await start()
    assert one.node.is_alive
    assert one.node.is_gateway(C)
    assert one.node.parts(C) == ALL_PARTS
    assert one.node.owns(C, 77)
    assert not one.node.owns("other.example.org", 77)
    assert one.told[-1] == (True, True)


async def test_a_second_node_gets_its_share_and_both_are_told(
    autojump_clock: MockClock, start: Start
) -> None:
    one, two = await start("one"), await start("two")
    assert (one.held, two.held) == (256, 0)
    await trio.sleep(STABLE_S + 2)
    assert (one.held, two.held) == (128, 128)
    assert one.node.parts(C) | two.node.parts(C) == ALL_PARTS
    assert two.told[-1] == (True, False)


async def test_a_killed_node_is_replaced_in_time(
    autojump_clock: MockClock, start: Start, log: Recorder
) -> None:
    one, two = await start("one"), await start("two")
    await trio.sleep(10)
    one.scope.cancel()
    await trio.sleep(TAKE_OVER_S - 2)
    assert two.node.is_gateway(C)
    assert two.held == 256
    [line] = log.of("a node is silent and counts as dead")
    assert line["other"] == "one"


async def test_a_node_without_database_stops_in_time_and_goes_on_later(
    autojump_clock: MockClock, start: Start, database: FakeDatabase, log: Recorder
) -> None:
    one = await start()
    one.told.clear()
    database.is_down = True
    await trio.sleep(LOST_S - 2.5)
    assert one.node.is_alive
    assert one.told == []
    await trio.sleep(3)
    assert one.told == [(False, False)]
    assert not one.node.owns(C, 3)
    assert one.node.parts(C) == frozenset()
    database.is_down = False
    await trio.sleep(1)
    assert one.told == [(False, False), (True, True)]
    assert database.incarnations == 1, "nobody has ended it"
    events = [line["event"] for line in log.lines]
    assert events.count("cannot reach the other nodes") == 1
    assert events.count("can reach the other nodes again") == 1


async def test_whoever_was_frozen_is_told_even_if_the_database_answers_at_once(
    autojump_clock: MockClock,
    start: Start,
) -> None:
    """A stream that was attached before must end: another node may have attached meanwhile."""
    one = await start()
    one.told.clear()
    one.frozen_s += LOST_S
    assert not one.node.is_alive
    await trio.sleep(2)
    assert one.told == [(False, False), (True, True)]


async def test_a_frozen_node_that_was_ended_registers_again_when_its_services_have_ended(
    autojump_clock: MockClock, start: Start, database: FakeDatabase, log: Recorder
) -> None:
    one, two = await start("one"), await start("two")
    await trio.sleep(10)
    one.told.clear()
    one.busy = {GATEWAY}
    database.nodes[1] = evolve(database.nodes[1], incarnation=None)
    database.free(1)
    await trio.sleep(3)
    assert one.told == [(False, False)]
    assert one.store.incarnation == 1, "a service still runs"
    one.committer.submit(DropDead(("kept",)))
    one.busy = set()
    one.node.changed()
    await trio.sleep(1)
    assert one.store.incarnation == 3
    assert two.node.is_gateway(C)
    await trio.sleep(STABLE_S + 2)
    assert (one.held, two.held) == (128, 128)
    assert one.store.committed == [], "what it kept has been forgotten"
    assert log.of("journal operations left to other nodes")


async def test_a_node_that_stops_gives_all_away_but_what_still_runs(
    autojump_clock: MockClock, start: Start, database: FakeDatabase
) -> None:
    one, two = await start("one"), await start("two")
    await trio.sleep(10)
    [part, *_] = sorted(one.node.parts(C))
    one.busy = {part, GATEWAY}
    assert one.node.has_successor(C)
    assert not one.node.has_successor("other.example.org")
    one.node.leave()
    await trio.sleep(1)
    assert one.node.has_successor(C)
    assert not two.node.has_successor(C), "the other one stops"
    assert one.held == 0
    assert not one.node.is_gateway(C)
    assert not two.node.is_gateway(C)
    assert two.held == 255
    one.busy = {part}
    one.node.changed()
    await trio.sleep(1)
    assert two.node.is_gateway(C)
    assert leases_of(database, 1) == {C: frozenset({part})}
    one.busy = set()
    one.node.changed()
    await trio.sleep(1)
    assert two.held == 256


async def test_others_are_woken_when_leases_are_given_or_freed(
    autojump_clock: MockClock, start: Start, database: FakeDatabase
) -> None:
    one, two = await start("one"), await start("two")
    await trio.sleep(20)
    wakes: list[str] = []

    def wake_two() -> None:
        wakes.append(database.log[-1])
        two.node.changed()

    one.node.wake = wake_two
    await trio.sleep(10)
    assert wakes == [], "nothing was given"
    before = trio.current_time()
    one.node.leave()
    for _ in range(5):
        await wait_all_tasks_blocked()
    assert two.held == 256
    assert two.node.is_gateway(C)
    assert trio.current_time() == before
    wakes.clear()
    await one.node.retire()
    assert wakes == ["retire one"]


async def test_others_are_woken_when_a_node_was_ended(
    autojump_clock: MockClock, start: Start, database: FakeDatabase
) -> None:
    one, two = await start("one"), await start("two")
    await trio.sleep(10)
    wakes: list[bool] = []
    two.node.wake = lambda: wakes.append(database.nodes[1].incarnation is None)
    one.scope.cancel()
    await trio.sleep(TAKE_OVER_S)
    assert wakes[0]


async def test_the_only_node_keeps_all_until_it_retires(
    autojump_clock: MockClock, start: Start, database: FakeDatabase
) -> None:
    one = await start()
    assert not one.node.has_successor(C)
    one.node.leave()
    await trio.sleep(5)
    assert one.node.is_gateway(C)
    await one.node.retire()
    assert not one.node.is_alive
    assert database.leases == {}
    assert database.log[-1] == "retire one"


async def test_retiring_takes_no_longer_than_it_may_without_database(
    autojump_clock: MockClock, start: Start, database: FakeDatabase
) -> None:
    one = await start()
    database.is_down = True
    await one.node.retire()
    assert leases_of(database, 1)


async def test_a_component_that_is_added_is_taken_and_one_that_is_removed_is_freed(
    autojump_clock: MockClock, start: Start, database: FakeDatabase
) -> None:
    one = await start()
    one.node.configure(About("1", ("new.example.org",), "digest"))
    await trio.sleep(1)
    assert one.node.is_gateway("new.example.org")
    assert {component for component, _ in database.leases} == {"new.example.org"}
    assert database.nodes[1].about.components == ("new.example.org",)


async def test_another_configuration_is_told_once(
    autojump_clock: MockClock, start: Start, log: Recorder
) -> None:
    await start("one")
    await start("two", About("1", (C, "more.example.org"), "another"))
    await trio.sleep(10)
    lines = log.of("a node has another configuration")
    assert sorted(line["other"] for line in lines) == ["one", "two"]


async def test_nobody_is_called_back_after_it_has_unsubscribed(
    autojump_clock: MockClock, start: Start
) -> None:
    one = await start()
    told: list[int] = []
    unsubscribe = one.node.on_change(lambda: told.append(1))
    unsubscribe()
    one.frozen_s += LOST_S
    await trio.sleep(2)
    assert told == []
