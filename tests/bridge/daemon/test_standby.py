"""A component whose journal is shared: it attaches while this node has its gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.cluster.partition import ALL_PARTS, GATEWAY
from bridge.config.settings import Component, JournalSettings, Settings
from bridge.config.value import Secret
from bridge.daemon.component import ComponentService
from bridge.daemon.supervisor import Supervisor
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import Storage, open_storage
from tests.bridge.daemon.test_daemon import DOMAIN, echo, message
from tests.bridge.daemon.test_presence import presence, types
from tests.bridge.http_server import Exchange, HttpServer
from tests.bridge.journal.memory_cluster import MemoryCluster
from tests.bridge.leak import until
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import SECRET, XmppServer

if TYPE_CHECKING:
    from pathlib import Path


@define
class FakeOwnership:
    """Holds what the test says."""

    is_alive: bool = True
    has_gateway: bool = False
    is_succeeded: bool = False
    heard: list[bool] = field(factory=list)
    busy: Callable[[], Collection[int]] = tuple
    callbacks: list[Callable[[], None]] = field(factory=list)

    def is_gateway(self, component: str) -> bool:
        return self.is_alive and self.has_gateway

    def other_gateway(self, component: str) -> int | None:
        return None

    def owns(self, component: str, part: int) -> bool:
        return self.is_gateway(component)

    def parts(self, component: str) -> frozenset[int]:
        return ALL_PARTS if self.is_gateway(component) else frozenset()

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def watch(self, component: str, busy: Callable[[], Collection[int]]) -> None:
        self.busy = busy

    def changed(self) -> None:
        pass

    def attached(self, component: str, is_attached: bool) -> None:
        self.heard.append(is_attached)

    def has_successor(self, component: str) -> bool:
        return self.is_succeeded

    def change(self, *, has_gateway: bool, is_alive: bool = True) -> None:
        self.has_gateway, self.is_alive = has_gateway, is_alive
        for callback in tuple(self.callbacks):
            callback()


@define
class Scene:
    """A supervisor with one component, its server and what it owns."""

    supervisor: Supervisor
    ownership: FakeOwnership
    server: XmppServer
    clock: MockClock
    answers: trio.Event
    """Not set while the endpoint does not answer."""

    @property
    def service(self) -> ComponentService:
        return self.supervisor.services[DOMAIN]

    @property
    def link(self) -> str:
        return self.service.status.link.state

    async def pass_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await wait_all_tasks_blocked(0.01)
            if not condition():
                self.clock.jump(0.1)


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@asynccontextmanager
async def scene(path: Path, clock: MockClock, *, spreads: bool) -> AsyncIterator[Scene]:
    with open_storage(StateDirectory(path / "state"), JournalSettings()) as storage:
        if spreads:
            journal = MemoryCluster().store(1)
            storage = Storage(storage.directory, journal, JournalSettings())
        storage.is_shared, storage.spreads = True, spreads
        ownership = storage.ownership = FakeOwnership()
        async with trio.open_nursery() as nursery:
            server = await XmppServer.start(nursery)
            answers = trio.Event()
            answers.set()

            async def answer(exchange: Exchange) -> None:
                await made.answers.wait()
                await echo(exchange)

            endpoint = await HttpServer.start(nursery, answer)
            component = Component(DOMAIN, Secret(SECRET), endpoint.url(), server.address)
            supervisor = Supervisor(Settings((component,)), storage)
            await nursery.start(storage.committer.run)
            nursery.start_soon(supervisor.run)
            await wait_all_tasks_blocked(0.01)
            made = Scene(supervisor, ownership, server, clock, answers)
            yield made
            nursery.cancel_scope.cancel()


async def test_a_service_attaches_with_the_gateway_and_drains_without(
    tmp_path: Path, mock_clock: MockClock, log: Recorder
) -> None:
    async with scene(tmp_path, mock_clock, spreads=False) as made:
        first = made.service
        assert made.link == "standby"
        assert not first.is_open
        assert not made.ownership.busy()
        assert made.server.sessions == []
        made.ownership.change(has_gateway=True)
        session = await made.server.attached(DOMAIN)
        await until(lambda: first.is_open)
        assert made.link == "attached"
        assert set(made.ownership.busy()) == {GATEWAY}
        assert made.ownership.heard == [True]
        await session.send(message("1"))
        await session.receive(1)
        made.ownership.change(has_gateway=False)
        assert not first.is_open
        await made.pass_until(first.ended.is_set)
        assert made.ownership.heard == [True, False]
        await until(lambda: made.service is not first)
        assert made.link == "standby"
        assert not made.ownership.busy()
        made.ownership.change(has_gateway=True)
        await made.server.attached(DOMAIN, 2)


async def test_a_running_post_ends_before_the_gateway_is_given_away(
    tmp_path: Path, mock_clock: MockClock, log: Recorder
) -> None:
    async with scene(tmp_path, mock_clock, spreads=False) as made:
        made.ownership.change(has_gateway=True)
        session = await made.server.attached(DOMAIN)
        made.answers = trio.Event()
        await session.send(message("1"))
        await until(lambda: made.service.status.in_flight == 1)
        made.ownership.change(has_gateway=False)
        await wait_all_tasks_blocked(0.01)
        assert set(made.ownership.busy()) == {GATEWAY}
        made.answers.set()
        await session.receive(1)
        await made.pass_until(lambda: not made.ownership.busy())


async def test_a_node_that_is_not_alive_cuts_the_stream_and_the_post(
    tmp_path: Path, mock_clock: MockClock, log: Recorder
) -> None:
    async with scene(tmp_path, mock_clock, spreads=False) as made:
        first = made.service
        made.ownership.change(has_gateway=True)
        session = await made.server.attached(DOMAIN)
        made.answers = trio.Event()
        await session.send(message("1"))
        await until(lambda: made.service.status.in_flight == 1)
        made.ownership.change(has_gateway=True, is_alive=False)
        await until(first.ended.is_set)  # no time has passed
        assert log.of("ending at once, because another node may have taken over")
        await until(lambda: made.service is not first)
        assert session.ids == []
        made.ownership.change(has_gateway=True)
        again = await made.server.attached(DOMAIN, 2)
        made.answers.set()
        await again.receive(1)


@pytest.mark.parametrize("is_succeeded", [False, True])
async def test_contacts_are_told_that_a_component_leaves_if_no_other_node_takes_over(
    tmp_path: Path, mock_clock: MockClock, log: Recorder, is_succeeded: bool
) -> None:
    async with scene(tmp_path, mock_clock, spreads=False) as made:
        first = made.service
        made.ownership.change(has_gateway=True)
        session = await made.server.attached(DOMAIN)
        await session.send(presence("subscribe"))
        await session.receive(2)
        made.ownership.is_succeeded = is_succeeded
        made.supervisor.stop()
        await made.pass_until(first.ended.is_set)
        assert session.closed_in_order
        assert types(session) == ["subscribed", None, *([] if is_succeeded else ["unavailable"])]


async def test_a_stopped_service_that_stands_by_ends_at_once(
    tmp_path: Path, mock_clock: MockClock, log: Recorder
) -> None:
    async with scene(tmp_path, mock_clock, spreads=False) as made:
        made.supervisor.stop()
        await until(made.service.ended.is_set)
        assert made.server.sessions == []


async def test_if_the_work_is_shared_the_link_is_closed_before_the_posts_end(
    tmp_path: Path, mock_clock: MockClock, log: Recorder
) -> None:
    async with scene(tmp_path, mock_clock, spreads=True) as made:
        first = made.service
        await wait_all_tasks_blocked(0.01)
        assert made.link == "standby"
        assert made.server.sessions == []
        made.ownership.change(has_gateway=True)
        session = await made.server.attached(DOMAIN)
        await until(lambda: first.is_open)
        assert set(made.ownership.busy()) == {GATEWAY}
        assert made.service is first
        made.answers = trio.Event()
        await session.send(message("1"))
        await until(lambda: made.service.status.in_flight == 1)
        made.ownership.change(has_gateway=False)
        await made.pass_until(lambda: GATEWAY not in made.ownership.busy())
        assert session.closed_in_order
        assert made.ownership.busy(), "the POST is running"
        made.answers.set()
        await made.pass_until(first.ended.is_set)
        await until(lambda: made.service is not first)
        made.ownership.change(has_gateway=True)
        again = await made.server.attached(DOMAIN, 2)
        await again.receive(1)
