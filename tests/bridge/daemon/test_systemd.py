"""What the service manager is told, at a fake one's socket; and that it can be missing."""

import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Settings
from bridge.daemon.daemon import Daemon
from bridge.daemon.systemd import STATUS_EVERY_S, SystemdNotifier
from tests.bridge.daemon.test_daemon import DOMAIN, echo
from tests.bridge.daemon.test_supervisor import Gate, Stage, log, stage
from tests.bridge.http_server import HttpServer
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import XmppServer

__all__ = ["log", "stage"]  # fixtures

PATHS: Final = ("a path", "an abstract name")


class Manager:
    """A service manager: what it was told, message by message."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def take(self) -> list[dict[str, str]]:
        """Give the messages since the last time."""
        found: list[dict[str, str]] = []
        while True:
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in data.decode().split("\n")))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=PATHS)
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Manager]]:
    """NOTIFY_SOCKET and who listens there."""
    name = str(tmp_path / "notify")
    if request.param == PATHS[1]:
        name = f"@xmpp-bridge-test-{os.getpid()}-{time.monotonic_ns()}"
    manager = Manager("\0" + name[1:] if name.startswith("@") else name)
    yield name, manager
    manager.close()


def test_what_is_told(named: tuple[str, Manager]) -> None:
    name, manager = named
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.stopping()
    ready, reloading, stopping = manager.take()
    assert (ready, stopping) == ({"READY": "1"}, {"STOPPING": "1"})
    assert before_us <= int(reloading.pop("MONOTONIC_USEC")) <= after_us
    assert reloading == {"RELOADING": "1"}


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/notify", "/" + "x" * 200, "@nobody"])
def test_a_socket_that_cannot_be_used_stops_nothing(name: str) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.reloading()
    notifier.stopping()


def test_a_manager_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for _ in range(10_000):
        notifier.ready()
    assert 0 < len(manager.take()) < 10_000
    manager.close()


async def test_a_status_is_told_when_it_is_another(
    nursery: trio.Nursery, mock_clock: MockClock, named: tuple[str, Manager]
) -> None:
    name, manager = named
    status = "one"
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    assert notifier.watchdog_s is None
    nursery.start_soon(partial(notifier.run, lambda: status))
    await wait_all_tasks_blocked()
    assert manager.take() == [{"STATUS": "one"}]
    for _ in range(3):
        mock_clock.jump(STATUS_EVERY_S)
        await wait_all_tasks_blocked()
    assert manager.take() == []
    for status in ("two", "three"):  # noqa: B007  # the lambda looks at it
        await wait_all_tasks_blocked()
    mock_clock.jump(STATUS_EVERY_S)
    await wait_all_tasks_blocked()
    assert manager.take() == [{"STATUS": "three"}]


OURS: Final = str(os.getpid())


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("3000000", OURS, 3.0),
        ("3000000", None, 3.0),
        ("3000000", str(os.getpid() + 1), None),
        ("0", OURS, None),
        ("", OURS, None),
        (None, OURS, None),
        ("soon", OURS, None),
        ("-5", OURS, None),
    ],
)
def test_whom_the_watchdog_watches(
    tmp_path: Path, usec: str | None, pid: str | None, expected: float | None
) -> None:
    given = {"NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    environment = {name: value for name, value in given.items() if value is not None}
    assert SystemdNotifier(environment).watchdog_s == expected


async def test_the_watchdog_is_fed_twice_in_its_time(
    nursery: trio.Nursery, mock_clock: MockClock, named: tuple[str, Manager]
) -> None:
    name, manager = named
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000"})
    nursery.start_soon(partial(notifier.run, lambda: "x"))
    await wait_all_tasks_blocked()
    assert {"WATCHDOG": "1"} in manager.take()
    for _ in range(3):
        mock_clock.jump(1.9)
        await wait_all_tasks_blocked()
        assert {"WATCHDOG": "1"} not in manager.take()
        mock_clock.jump(0.2)
        await wait_all_tasks_blocked()
        assert manager.take().count({"WATCHDOG": "1"}) == 1


async def test_a_daemon_s_life(
    stage: Stage, mock_clock: MockClock, named: tuple[str, Manager]
) -> None:
    name, manager = named
    gate = Gate()
    stage.settings = Settings((stage.component(await stage.endpoint(gate)),))
    daemon = Daemon(
        stage.settings, read=stage.read, notifier=SystemdNotifier({"NOTIFY_SOCKET": name})
    )
    async with stage._running(daemon):
        await stage.server.attached(DOMAIN)
        # At the first look it is ready, and not attached.
        assert manager.take()[:2] == [
            {"READY": "1"},
            {"STATUS": "0 of 1 components attached, 0 waiting"},
        ]
        await stage.log.wait("attached")
        mock_clock.jump(STATUS_EVERY_S)
        await wait_all_tasks_blocked(0.01)
        assert manager.take() == [{"STATUS": "1 of 1 components attached, 0 waiting"}]
        await stage.hangup()
        reloading, ready = manager.take()
        assert (reloading["RELOADING"], ready) == ("1", {"READY": "1"})
    assert manager.take()[0] == {"STOPPING": "1"}


async def test_without_components_attached_it_is_ready_all_the_same(
    nursery: trio.Nursery, mock_clock: MockClock, named: tuple[str, Manager], log: Recorder
) -> None:
    name, manager = named
    server = await XmppServer.start(nursery)
    stage = Stage(nursery, mock_clock, log, server, Path())
    endpoint = HttpServer(echo)
    endpoint.port = 1
    away = Settings((stage.component(endpoint),))
    server.reading = trio.Event()
    daemon = Daemon(away, notifier=SystemdNotifier({"NOTIFY_SOCKET": name}))
    nursery.start_soon(daemon.run)
    await wait_all_tasks_blocked(0.01)
    assert {"READY": "1"} in manager.take()
    assert log.of("attached") == []
    nursery.cancel_scope.cancel()
