"""What a daemon says of itself, in good days and bad ones; and the socket of a real process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Component, Count, JournalSettings, Settings
from bridge.config.value import Secret, parse_database_url, parse_post_url
from bridge.daemon.control import AskStatus, NobodyListens, connect
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.daemon.status import ControlHandler, DaemonStatus, endpoint_status, total
from bridge.journal.directory import StateDirectory
from bridge.journal.request import Holding, Purge, Purged
from bridge.journal.storage import Storage, open_storage
from bridge.journal.store import Confirm, JournalError, Totals
from bridge.webhook.outcome import Unreachable
from bridge.webhook.retry import CircuitBreaker
from tests.bridge.journal.fake_journal import FakeJournal
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import SECRET, XmppServer
from xmppstream import Element, Server, StreamCondition

ROOT: Final = Path(__file__).parents[3]
BOT: Final = "bot.example"
OTHER: Final = "other.example"
URL: Final = parse_post_url("http://127.0.0.1:1/")


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


async def ask(directory: StateDirectory) -> DaemonStatus:
    client = await connect(directory.control_socket)
    try:
        return await client.ask(AskStatus(), DaemonStatus)
    finally:
        await client.aclose()


def component(server: Server, domain: str = BOT) -> Component:
    return Component(domain, Secret(SECRET), URL, server)


# --- the link


async def test_a_link_that_waits_and_one_that_is_refused(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder, mock_clock: MockClock
) -> None:
    server = await XmppServer.start(nursery)
    server.refusals[OTHER] = StreamCondition.NOT_AUTHORIZED
    settings = Settings(
        (component(Server("127.0.0.1", 1)), component(server.address, OTHER)),
    )
    with open_storage(directory, settings.journal) as storage:
        daemon = Daemon(settings, storage)
        nursery.start_soon(daemon.run)
        await log.wait("cannot attach")
        await log.wait("the server refuses this component")
        waiting, refused = (await ask(directory)).components
        assert (waiting.link.state, waiting.endpoint.state) == ("waiting", "up")
        assert "Connection refused" in waiting.link.why
        assert waiting.link.next_attempt is not None
        assert 0 < waiting.link.next_attempt - time.time() < 1
        assert refused.link.state == "refused"
        assert "the secret is not the one that the server has" in refused.link.why
        assert refused.link.next_attempt is not None
        assert 3 < refused.link.next_attempt - time.time() <= 4
        daemon.stop()
        await log.wait("stopped")
    nursery.cancel_scope.cancel()


async def test_a_link_that_was_attached_says_since_when_it_is_not(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder, mock_clock: MockClock
) -> None:
    server = await XmppServer.start(nursery)
    settings = Settings((component(server.address),))
    with open_storage(directory, settings.journal) as storage:
        nursery.start_soon(Daemon(settings, storage).run)
        session = await server.attached(BOT)
        await log.wait("attached")
        assert (await ask(directory)).components[0].link.state == "attached"
        await session.fail(StreamCondition.SYSTEM_SHUTDOWN)
        await log.wait("detached")
        [one] = (await ask(directory)).components
        assert (one.link.state, one.link.why) == ("waiting", "system-shutdown")
        assert one.link.since == pytest.approx(time.time(), abs=60)
        nursery.cancel_scope.cancel()


# --- the endpoint


async def test_an_endpoint_that_is_down_and_one_that_is_asked(nursery: trio.Nursery) -> None:
    breaker = CircuitBreaker(jitter=lambda bound_s: bound_s)
    now = trio.current_time()
    assert endpoint_status(breaker, "u").state == "up"
    for sender in ("a", "b", "c"):
        breaker.record(Unreachable("no"), sender, now, probe=False)
    down = endpoint_status(breaker, "u")
    assert down.state == "down"
    assert down.next_probe == pytest.approx(time.time() + 0.5, abs=5)
    breaker.try_acquire()
    probing = endpoint_status(breaker, "u")
    assert (probing.state, probing.next_probe) == ("probing", None)


# --- the journal


def responder(journal: FakeJournal, directory: StateDirectory) -> tuple[ControlHandler, Storage]:
    storage = Storage(directory, journal, JournalSettings())
    return ControlHandler(storage, {BOT}, list, lambda: False), storage


async def test_a_journal_that_fails_is_part_of_the_answer(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder
) -> None:
    journal = FakeJournal()
    answering, storage = responder(journal, directory)
    await nursery.start(storage.committer.run)
    assert (await answering.status()).journal.failure is None
    journal.failure = JournalError("the disk is full", "make room")
    storage.committer.submit(Confirm(()))
    await log.wait("journal fails")
    status = await answering.status()
    assert status.journal.failure == "the disk is full; make room"
    assert status.journal.totals is None
    with pytest.raises(JournalError, match="the disk is full"):
        await answering.answer(Purge())
    nursery.cancel_scope.cancel()


async def test_a_disk_that_hangs_is_part_of_the_answer(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder, mock_clock: MockClock
) -> None:
    journal = FakeJournal()
    answering, storage = responder(journal, directory)
    await nursery.start(storage.committer.run)
    end = journal.hold()
    storage.committer.submit(Confirm(()))

    async def jump() -> None:
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)

    nursery.start_soon(jump)
    status = await answering.status()
    assert status.journal.failure == "the journal does not answer; look at its disk or database"
    end()
    nursery.cancel_scope.cancel()


async def test_a_journal_in_a_database_is_named_without_its_password(
    directory: StateDirectory, nursery: trio.Nursery
) -> None:
    url = parse_database_url("postgresql://bridge:hunter2@db.example/bridge")
    storage = Storage(directory, FakeJournal(), JournalSettings(url=url))
    answering = ControlHandler(storage, {BOT}, list, lambda: False)
    await nursery.start(storage.committer.run)
    assert (await answering.status()).journal.file == "postgresql://bridge@db.example/bridge"
    nursery.cancel_scope.cancel()


def test_totals_are_added_up() -> None:
    one, other = Holding(pending=1, pending_bytes=5, oldest=3.0), Holding(dead=2, replies=4)
    whole = total({"a": one, "b": other})
    assert whole == Holding(pending=1, pending_bytes=5, replies=4, dead=2, oldest=3.0)


async def test_what_is_revived_for_nobody_is_counted(
    directory: StateDirectory, nursery: trio.Nursery
) -> None:
    storage = Storage(directory, FakeJournal(), evolve(JournalSettings(), max_stanzas=Count(2)))
    queue = storage.queue(BOT, _never_parsed, Recorder().logger())
    storage.revived({OTHER: Totals(1, 10)})
    assert queue.fullness == 0.5
    storage.revived({BOT: Totals(1, 10)})
    assert queue.fullness == 1


async def _never_parsed(_: bytes) -> Element:
    raise AssertionError


# --- the daemon


async def test_a_daemon_lives_without_its_socket(
    directory: StateDirectory, nursery: trio.Nursery, log: Recorder
) -> None:
    server = await XmppServer.start(nursery)
    settings = Settings((component(server.address),))
    directory.make()
    directory.control_socket.mkdir()
    with open_storage(directory, settings.journal) as storage:
        daemon = Daemon(settings, storage)
        nursery.start_soon(daemon.run)
        line = await log.wait("no command can reach this daemon")
        assert str(directory.control_socket) in line["why"]
        await server.attached(BOT)
        daemon.stop()
        await log.wait("stopped")
    nursery.cancel_scope.cancel()


async def test_without_a_journal_there_is_no_socket(nursery: trio.Nursery, log: Recorder) -> None:
    server = await XmppServer.start(nursery)
    daemon = Daemon(Settings((component(server.address),)))
    nursery.start_soon(daemon.run)
    await server.attached(BOT)
    daemon.stop()
    await log.wait("stopped")
    nursery.cancel_scope.cancel()


async def started(nursery: trio.Nursery, directory: StateDirectory, port: int) -> trio.Process:
    """Start a daemon as a process of its own."""
    command = [sys.executable, "-m", "bridge", "run", "--component", BOT, "--server"]
    command += [f"127.0.0.1:{port}", "--post-url", str(URL), "--state-dir", str(directory.path)]
    environment = {**os.environ, "XMPP_BRIDGE_SECRET": SECRET}
    process: trio.Process = await nursery.start(
        partial(
            trio.run_process,
            command,
            cwd=ROOT,
            env=environment,
            check=False,
            stderr=subprocess.DEVNULL,
        )
    )
    return process


async def test_a_process_that_is_killed_leaves_its_socket_to_the_next(
    directory: StateDirectory, nursery: trio.Nursery
) -> None:
    server = await XmppServer.start(nursery)
    first = await started(nursery, directory, server.port)
    await server.attached(BOT)
    assert (await ask(directory)).pid == first.pid
    first.kill()
    await first.wait()
    assert directory.control_socket.is_socket()
    with pytest.raises(NobodyListens):
        await ask(directory)
    second = await started(nursery, directory, server.port)
    await server.attached(BOT, 2)
    client = await connect(directory.control_socket)
    assert (await client.ask(AskStatus(), DaemonStatus)).pid == second.pid
    assert await client.ask(Purge(), Purged) == Purged(0)
    second.send_signal(signal.SIGTERM)
    assert await second.wait() == ExitCode.OK
    assert not directory.control_socket.exists()
    await client.aclose()
