"""Another configuration while a daemon runs (SIGHUP): what goes on, what changes, what begins anew.

As in `test_daemon`: real sockets, and a clock that stands still.
"""

import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import (
    Component,
    ConfigError,
    ConfigFault,
    Count,
    HttpSettings,
    JournalSettings,
    LogSettings,
    Rate,
    RetrySettings,
    Seconds,
    SenderLimits,
    Settings,
    StreamSettings,
    TracingSettings,
)
from bridge.config.value import Secret
from bridge.daemon.control import connect
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.journal.directory import StateDirectory
from bridge.journal.request import Changed, Retry
from bridge.journal.storage import open_storage
from bridge.journal.store import JournalError
from tests.bridge.daemon.test_daemon import BOT, DOMAIN, OTHER, Running, conditions, echo, message
from tests.bridge.http_server import Answer, Exchange, HttpServer, response
from tests.bridge.leak import nothing_left, until
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import Stanza, StreamCondition

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
THIRD: Final = "third.example"
OFF: Final = JournalSettings(durability="off")


@define
class Stage:
    """A daemon that reads `settings` when it is told to; or, if there are `faults`, those."""

    nursery: trio.Nursery
    clock: MockClock
    log: Recorder
    server: XmppServer
    directory: Path
    settings: Settings = field(factory=lambda: Settings(()))
    faults: list[ConfigFault] = field(factory=list)
    running: Running | None = None
    reads: int = 0

    @property
    def daemon(self) -> Daemon:
        assert self.running is not None
        return self.running.daemon

    async def endpoint(self, answer: Answer = echo) -> HttpServer:
        return await HttpServer.start(self.nursery, answer)

    def component(self, endpoint: HttpServer, domain: str = DOMAIN, **options: Any) -> Component:
        return Component(domain, Secret(SECRET), endpoint.url(), self.server.address, **options)

    def read(self) -> Settings:
        self.reads += 1
        if self.faults:
            raise ConfigError("bridge.toml", self.faults)
        return self.settings

    @asynccontextmanager
    async def running_with(self, *components: Component, **options: Any) -> AsyncIterator[Daemon]:
        """Run a daemon, and stop it at the end; with a journal, unless `journal` says otherwise."""
        self.settings = Settings(components, **options)
        if self.settings.journal.durability == "off":
            async with self._running(Daemon(self.settings, read=self.read)) as daemon:
                yield daemon
            return
        with open_storage(StateDirectory(self.directory), self.settings.journal) as storage:
            async with self._running(Daemon(self.settings, storage, read=self.read)) as daemon:
                yield daemon

    @asynccontextmanager
    async def _running(self, daemon: Daemon) -> AsyncIterator[Daemon]:
        self.running = Running(daemon)
        self.nursery.start_soon(self.running.run, daemon.run_with_signals)
        await wait_all_tasks_blocked(0.01)
        yield daemon
        daemon.stop()
        await self.pass_until(self.running.done.is_set)

    async def reload(self, *components: Component, **options: Any) -> dict[str, Any]:
        """Have it work by other settings, and give what it says of that."""
        self.settings = Settings(components or self.settings.components, **options)
        return await self.hangup()

    async def hangup(self) -> dict[str, Any]:
        """Send it the signal, and give the last line that it logs for that."""
        before = len(self.log.lines)
        ends = ("configuration read again", "configuration not changed")
        signal.raise_signal(signal.SIGHUP)

        def ended() -> bool:
            return any(line["event"] in ends for line in self.log.lines[before:])

        await self.pass_until(ended)
        return next(line for line in self.log.lines[before:] if line["event"] in ends)

    async def pass_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await wait_all_tasks_blocked(0.005)
            if not condition():
                self.clock.jump(0.1)


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@pytest.fixture
async def stage(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder, tmp_path: Path
) -> Stage:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    return Stage(nursery, mock_clock, log, await XmppServer.start(nursery), tmp_path / "state")


class Gate:
    """An endpoint that echoes, but not before it is told to."""

    def __init__(self) -> None:
        self.opened = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        with suppress(trio.BrokenResourceError):
            await self.opened.wait()
            await echo(exchange)


def plan(line: dict[str, Any]) -> dict[str, list[str]]:
    """Give what a configuration changed, without what it did not."""
    names = ("added", "removed", "changed", "restarted")
    return {name: line[name] for name in names if line[name]}


def uid(server: HttpServer, number: int) -> str | None:
    return server.requests[number].get("webhook-id")


# --- what goes on


async def test_components_come_and_go_and_the_others_do_not_notice(
    stage: Stage, mock_clock: MockClock
) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    kept, left, new = (stage.component(endpoint, one) for one in (DOMAIN, OTHER, THIRD))
    async with stage.running_with(kept, left) as daemon:
        session = await stage.server.attached(DOMAIN)
        gone = await stage.server.attached(OTHER)
        service = daemon.services[DOMAIN]
        await session.send(message("m1"), message("m2"))
        await until(lambda: len(endpoint.requests) == 1)
        told = await stage.reload(kept, new)
        assert plan(told) == {"added": [THIRD], "removed": [OTHER]}
        assert gone.closed_in_order
        other = await stage.server.attached(THIRD)
        gate.opened.set()
        assert [one.id for one in await session.receive(2)] == ["re-m1", "re-m2"]
        await other.send(message("m3", to=f"echo@{THIRD}"))
        await other.receive(1)
        assert daemon.services[DOMAIN] is service
        assert sorted(daemon.services) == [DOMAIN, THIRD]
        assert sorted(daemon.counts) == [DOMAIN, THIRD]
        assert not session.gone.is_set()
    assert len(stage.server.sessions) == 3
    assert [one.get("webhook-attempt") for one in endpoint.requests] == ["1", "1", "1"]


async def test_the_same_file_changes_nothing(stage: Stage, mock_clock: MockClock) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        assert plan(await stage.hangup()) == {}
        await session.send(message("m1"))
        await session.receive(1)
    assert len(stage.server.sessions) == 1
    assert endpoint.connections == 1


# --- a faulty file


async def test_a_faulty_file_changes_nothing_and_says_why(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        stage.faults = [
            ConfigFault("http.timeout_s", "must be a number", "Write it without quotes"),
            ConfigFault("streem", "this key is not known", "Did you mean stream"),
        ]
        told = await stage.hangup()
        assert (told["event"], told["source"]) == ("configuration not changed", "bridge.toml")
        assert [
            (line["key"], line["problem"], line["remedy"], line["level"])
            for line in stage.log.of("fault in the configuration")
        ] == [(one.key, one.problem, one.remedy, "error") for one in stage.faults]
        await session.send(message("m1"))
        await session.receive(1)
        stage.faults = []
        assert plan(await stage.reload(stage.component(endpoint, name="Bot"))) == {
            "changed": [DOMAIN]
        }
    assert len(stage.server.sessions) == 1


async def test_certificates_that_went_bad_after_they_were_checked(
    stage: Stage, mock_clock: MockClock, tmp_path: Path
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        told = await stage.reload(http=HttpSettings(ca_file=str(tmp_path / "gone.pem")))
        assert told["event"] == "configuration not changed"
        assert "certificates" in told["why"]
        await session.send(message("m1"))
        await session.receive(1)


async def test_without_a_file_there_is_nothing_to_read(stage: Stage, mock_clock: MockClock) -> None:
    endpoint = await stage.endpoint()
    running = Running(Daemon(Settings((stage.component(endpoint),))))
    stage.nursery.start_soon(running.run, running.daemon.run_with_signals)
    session = await stage.server.attached(DOMAIN)
    signal.raise_signal(signal.SIGHUP)
    line = await stage.log.wait("there is no configuration file to read again")
    assert "flags" in line["hint"]
    await session.send(message("m1"))
    await session.receive(1)
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK


# --- what changes while the stream stays


async def test_another_endpoint_from_the_next_post_on(stage: Stage, mock_clock: MockClock) -> None:
    gate = Gate()
    old, new = await stage.endpoint(gate), await stage.endpoint()
    async with stage.running_with(stage.component(old)):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"), message("m2"))
        await until(lambda: len(old.requests) == 1)
        assert plan(await stage.reload(stage.component(new))) == {"changed": [DOMAIN]}
        await session.send(message("m3", "other@capulet.example"))
        assert [one.id for one in await session.receive(1)] == ["re-m3"]
        gate.opened.set()
        assert [one.id for one in await session.receive(3)] == ["re-m3", "re-m1", "re-m2"]
        await old.wait_closed()
        assert [one.json["id"] for one in old.requests] == ["m1"]
        assert [one.json["id"] for one in new.requests] == ["m3", "m2"]
    assert len(stage.server.sessions) == 1


async def test_an_endpoint_that_is_down_is_left_at_once(
    stage: Stage, mock_clock: MockClock
) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send(response("503 Service Unavailable"))

    old, new = await stage.endpoint(fail), await stage.endpoint()
    async with stage.running_with(stage.component(old)):
        session = await stage.server.attached(DOMAIN)
        await session.send(*(message(str(n), f"u{n}@a") for n in range(3)))
        await stage.log.wait("endpoint is down, asking it by one POST at a time")
        at = trio.current_time()
        stage.settings = Settings((stage.component(new),))
        stage.daemon.reload()
        await session.receive(3)  # without the clock's being moved
        assert trio.current_time() == at


SOFT: Final[list[tuple[str, dict[str, Any], dict[str, Any]]]] = [
    ("name", {"name": "Romeo"}, {}),
    ("kinds", {"post_stanzas": frozenset({"message", "presence"})}, {}),
    ("own", {"post_own": True}, {}),
    ("text replies", {"text_replies": True}, {}),
    ("retry", {}, {"retry": RetrySettings(1, 1)}),
    ("limits", {}, {"limits": SenderLimits(stanzas_per_s=Rate(1.0))}),
    ("timeout", {}, {"http": HttpSettings(timeout_s=Seconds(1.0))}),
    ("headers", {}, {"http": HttpSettings(headers={"X-A": "b"})}),
    ("own timeout", {"http": HttpSettings(timeout_s=Seconds(1.0))}, {}),
    ("own headers", {"http": HttpSettings(headers={"X-A": "b"})}, {}),
    ("own retry", {"retry": RetrySettings(1, 1)}, {}),
    ("grace", {}, {"stream": StreamSettings(grace_s=Seconds(1.0))}),
]


@pytest.mark.parametrize(("options", "tables"), [pytest.param(*row[1:], id=row[0]) for row in SOFT])
async def test_what_the_stream_does_not_notice(
    stage: Stage, mock_clock: MockClock, options: dict[str, Any], tables: dict[str, Any]
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        changed = stage.component(endpoint, **options)
        assert plan(await stage.reload(changed, **tables)) == {"changed": [DOMAIN]}
        await session.send(message("m1"))
        await session.receive(1)
    assert len(stage.server.sessions) == 1


async def test_a_changed_list_of_senders_counts_from_the_next_stanza_on(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await session.receive(1)
        await stage.reload(stage.component(endpoint, allow_from=frozenset({"montague.example"})))
        await session.send(message("m2"))
        assert conditions(await session.receive(2)) == {"m2": "forbidden"}


async def test_a_changed_time_out_and_header_are_those_of_the_next_post(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint(Gate())
    retry = RetrySettings(0, 0)
    async with stage.running_with(stage.component(endpoint), retry=retry, journal=OFF):
        session = await stage.server.attached(DOMAIN)
        http = HttpSettings(timeout_s=Seconds(2.0), headers={"X-A": "b"})
        await stage.reload(http=http, retry=retry, journal=OFF)
        await session.send(message("m1"))
        await until(lambda: len(endpoint.requests) == 1)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)
        assert conditions(await session.receive(1)) == {"m1": "remote-server-timeout"}
        assert endpoint.requests[0].get("x-a") == "b"


async def test_a_components_own_http_and_retry_are_those_of_its_next_post(
    stage: Stage, mock_clock: MockClock
) -> None:
    first, second = await stage.endpoint(Gate()), await stage.endpoint()
    both = stage.component(first), stage.component(second, OTHER)
    async with stage.running_with(*both, journal=OFF):
        session = await stage.server.attached(DOMAIN)
        other = await stage.server.attached(OTHER)
        http = HttpSettings(timeout_s=Seconds(2.0), headers={"X-A": "b"})
        own: dict[str, Any] = {"http": http, "retry": RetrySettings(0, 0)}
        told = await stage.reload(stage.component(first, **own), both[1], journal=OFF)
        assert plan(told) == {"changed": [DOMAIN]}
        await session.send(message("m1"))
        await other.send(message("m2", to=f"bot@{OTHER}"))
        await other.receive(1)
        await until(lambda: len(first.requests) == 1)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)
        assert conditions(await session.receive(1)) == {"m1": "remote-server-timeout"}
        assert first.requests[0].get("x-a") == "b"
        assert second.requests[0].get("x-a") is None
        # The tables of all components do not matter to one that has its own.
        tables: dict[str, Any] = {
            "http": HttpSettings(headers={"X-C": "d"}),
            "retry": RetrySettings(1, 1),
        }
        told = await stage.reload(stage.component(first, **own), both[1], journal=OFF, **tables)
        assert plan(told) == {"changed": [OTHER]}


async def test_certificates_of_one_component_that_went_bad(
    stage: Stage, mock_clock: MockClock, tmp_path: Path
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        await stage.server.attached(DOMAIN)
        bad = stage.component(endpoint, http=HttpSettings(ca_file=str(tmp_path / "gone.pem")))
        told = await stage.reload(bad)
        assert told["event"] == "configuration not changed"
        assert told["why"].startswith(f'component."{DOMAIN}".http: its certificates')


@pytest.mark.parametrize("own", [False, True])
async def test_certificates_are_read_again_where_their_files_are_others(
    stage: Stage, mock_clock: MockClock, tmp_path: Path, own: bool
) -> None:
    import trustme

    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    http = HttpSettings(ca_file=str(file))
    endpoint = await stage.endpoint()
    component = stage.component(endpoint, http=http if own else None)
    async with stage.running_with(component, http=HttpSettings() if own else http):
        await stage.server.attached(DOMAIN)
        assert plan(await stage.hangup()) == {}
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "new.pem"))
        (tmp_path / "new.pem").rename(file)
        assert plan(await stage.hangup()) == {"changed": [DOMAIN]}
    assert len(stage.server.sessions) == 1


# --- what begins anew


async def test_with_the_journal_the_new_one_takes_over_what_is_not_done(
    stage: Stage, mock_clock: MockClock
) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    async with stage.running_with(stage.component(endpoint)) as daemon:
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"), message("m2"))
        await until(lambda: len(endpoint.requests) == 1)
        service = daemon.services[DOMAIN]
        assert plan(await stage.reload(stage.component(endpoint, order="none"))) == {
            "restarted": [DOMAIN]
        }
        assert session.closed_in_order
        assert session.stanzas == []
        assert daemon.services[DOMAIN] is not service
        again = await stage.server.attached(DOMAIN, 2)
        await until(lambda: len(endpoint.requests) == 3)
        ids = [str(one.json["id"]) for one in endpoint.requests]
        assert (ids[0], sorted(ids)) == ("m1", ["m1", "m1", "m2"])  # the last two in any order
        assert uid(endpoint, 0) == uid(endpoint, ids.index("m1", 1))
        assert stage.log.of("taking over from before")[0]["pending"] == 2
        gate.opened.set()
        assert sorted(str(one.id) for one in await again.receive(2)) == ["re-m1", "re-m2"]
        assert daemon.counts[DOMAIN].received == 2
        storage = daemon._storage
        assert storage is not None
        await until(lambda: storage._volume.count == 0)
        assert list(storage._queues) == [DOMAIN]


async def test_what_an_operator_revives_goes_to_the_new_one(
    stage: Stage, mock_clock: MockClock
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(response("400 Bad Request"))

    old, new = await stage.endpoint(refuse), await stage.endpoint()
    async with stage.running_with(stage.component(old)):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await session.receive(1)
        await stage.reload(stage.component(new, order="none"))
        again = await stage.server.attached(DOMAIN, 2)
        client = await connect(StateDirectory(stage.directory).control_socket)
        uid = old.requests[0].get("webhook-id")
        assert uid is not None
        changed = await client.ask(Retry(uids=(uid,)), Changed)
        await client.aclose()
        assert changed.done == (uid,)
        assert [one.id for one in await again.receive(1)] == ["re-m1"]


async def test_two_services_of_one_domain_never_meet(
    stage: Stage, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is attached was alone when it came: the one before it had left in order."""
    there: list[list[str]] = []
    admit = XmppServer.admit

    async def look(server: XmppServer, session: Session, core: Any) -> None:
        others = [one for one in server.sessions if one is not session]
        there.append([one.domain for one in others if not one.closed_in_order])
        await admit(server, session, core)

    monkeypatch.setattr(XmppServer, "admit", look)
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    async with stage.running_with(stage.component(endpoint)):
        for count, order in enumerate(("full", "none", "bare"), 1):
            session = await stage.server.attached(DOMAIN, count)
            await session.send(message(f"m{count}"))
            await until(lambda count=count: len(endpoint.requests) >= count)  # type: ignore[misc]
            await stage.reload(stage.component(endpoint, order=order))
        await stage.server.attached(DOMAIN, 4)
    assert there == [[]] * 4


async def test_without_the_journal_what_is_not_done_is_answered_by_errors(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint(Gate())
    async with stage.running_with(stage.component(endpoint), journal=OFF):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"), message("m2"))
        await until(lambda: len(endpoint.requests) == 1)
        await stage.reload(stage.component(endpoint, order="none"), journal=OFF)
        assert conditions(session.stanzas) == dict.fromkeys(("m1", "m2"), "remote-server-timeout")
        await stage.server.attached(DOMAIN, 2)


async def test_what_is_quickly_done_is_waited_for(stage: Stage, mock_clock: MockClock) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    async with stage.running_with(stage.component(endpoint), journal=OFF):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"), message("m2"))
        await until(lambda: len(endpoint.requests) == 1)
        stage.settings = Settings((stage.component(endpoint, order="none"),), journal=OFF)
        stage.daemon.reload()
        await stage.log.wait("draining")
        gate.opened.set()
        await session.gone.wait()
        assert [one.id for one in session.stanzas] == ["re-m1", "re-m2"]
        await stage.server.attached(DOMAIN, 2)


async def test_a_room_is_known_to_the_next_one(stage: Stage, mock_clock: MockClock) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        await session.send(
            stanza(
                f"<presence from='room@muc/bot' to='{BOT}'>"
                "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>"
            )
        )
        await until(lambda: stage.daemon.counts[DOMAIN].received == 1)
        await stage.reload(stage.component(endpoint, order="none"))
        again = await stage.server.attached(DOMAIN, 2)
        ours = f"<message type='groupchat' id='g' from='room@muc/bot' to='{BOT}'><body>x</body>"
        await again.send(stanza(f"{ours}</message>"), message("m1"))
        assert [one.id for one in await again.receive(1)] == ["re-m1"]
        assert [one.json["id"] for one in endpoint.requests] == ["m1"]


async def test_a_removed_one_leaves_what_is_not_done_and_gets_it_back(
    stage: Stage, mock_clock: MockClock
) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    kept, left = stage.component(endpoint, OTHER), stage.component(endpoint)
    async with stage.running_with(kept, left):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await until(lambda: len(endpoint.requests) == 1)
        await stage.reload(kept)
        event = "the journal holds stanzas of a component that is not configured"
        [line] = stage.log.of(event)
        assert (line["component"], line["pending"]) == (DOMAIN, 1)
        gate.opened.set()
        await stage.reload(kept, left)
        again = await stage.server.attached(DOMAIN, 2)
        assert [one.id for one in await again.receive(1)] == ["re-m1"]
        assert uid(endpoint, 0) == uid(endpoint, 1)
        assert len(stage.log.of(event)) == 1


# --- refusals


@pytest.mark.parametrize("exit_on_refusal", [False, True])
async def test_a_reload_tries_a_refused_component_at_once(
    stage: Stage, mock_clock: MockClock, exit_on_refusal: bool
) -> None:
    endpoint = await stage.endpoint()
    stage.server.refusals[OTHER] = StreamCondition.NOT_AUTHORIZED
    both = stage.component(endpoint), stage.component(endpoint, OTHER)
    stream = StreamSettings(exit_on_refusal=exit_on_refusal)
    async with stage.running_with(*both, stream=stream):
        session = await stage.server.attached(DOMAIN)
        await stage.log.wait("the server refuses this component")
        stage.server.refusals.clear()
        assert plan(await stage.hangup()) == {"restarted": [OTHER]}
        other = await stage.server.attached(OTHER)
        await other.send(message("m1", to=f"echo@{OTHER}"))
        await other.receive(1)
        assert not session.gone.is_set()


async def test_when_all_are_refused_the_daemon_ends(stage: Stage, mock_clock: MockClock) -> None:
    endpoint = await stage.endpoint()
    stage.server.refusals[OTHER] = StreamCondition.NOT_AUTHORIZED
    stream = StreamSettings(exit_on_refusal=True)
    async with stage.running_with(stage.component(endpoint), stream=stream):
        await stage.server.attached(DOMAIN)
        stage.settings = Settings((stage.component(endpoint, OTHER),), stream=stream)
        stage.daemon.reload()
        assert stage.running is not None
        await stage.pass_until(stage.running.done.is_set)
        assert stage.running.code is ExitCode.REFUSED


# --- one after the other


async def test_two_hangups_in_a_row_and_the_second_file_counts(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        await stage.server.attached(DOMAIN)
        stage.settings = Settings((stage.component(endpoint, order="none"),))
        signal.raise_signal(signal.SIGHUP)
        await stage.log.wait("draining")
        stage.settings = Settings((stage.component(endpoint, order="full"),))
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        await stage.pass_until(lambda: len(stage.log.of("configuration read again")) == 2)
        await wait_all_tasks_blocked(0.02)
        assert stage.reads == 2
        last = stage.daemon.services[DOMAIN]
        assert last.is_open
        assert last._component.order == "full"
        await stage.pass_until(lambda: last.status.link.state == "attached")


async def test_a_hangup_while_draining_is_too_late(stage: Stage, mock_clock: MockClock) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    async with stage.running_with(stage.component(endpoint)):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await until(lambda: len(endpoint.requests) == 1)
        signal.raise_signal(signal.SIGTERM)
        await stage.log.wait("draining")
        signal.raise_signal(signal.SIGHUP)
        await stage.log.wait("not reading the configuration again: the daemon stops")
        gate.opened.set()
        assert stage.running is not None
        assert await stage.running.wait() is ExitCode.OK
        assert [one.id for one in session.stanzas] == ["re-m1"]
        assert stage.reads == 0


async def test_a_stop_while_a_component_is_being_replaced(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint(Gate())
    both = stage.component(endpoint), stage.component(endpoint, OTHER)
    async with stage.running_with(*both):
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await until(lambda: len(endpoint.requests) == 1)
        stage.settings = Settings((stage.component(endpoint, order="none"), both[1]))
        signal.raise_signal(signal.SIGHUP)
        await stage.log.wait("draining")
        signal.raise_signal(signal.SIGTERM)
        assert stage.running is not None
        await stage.pass_until(stage.running.done.is_set)
        assert stage.running.code is ExitCode.OK
    assert len(stage.server.sessions) == 2
    [line] = [line for line in stage.log.of("starting") if line["component"] == DOMAIN]
    assert line["level"] == "info"


async def test_a_journal_that_fails_while_one_is_replaced(
    stage: Stage, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    async with stage.running_with(stage.component(endpoint)) as daemon:
        session = await stage.server.attached(DOMAIN)
        await session.send(message("m1"))
        await until(lambda: len(endpoint.requests) == 1)
        storage = daemon._storage
        assert storage is not None
        totals = storage.totals

        async def fail() -> Any:
            raise JournalError("the disk is full")

        monkeypatch.setattr(storage, "totals", fail)
        stage.settings = Settings((stage.component(endpoint, order="none"),))
        stage.daemon.reload()
        await stage.pass_until(lambda: bool(stage.log.of("cannot read what is kept from before")))
        assert not daemon.services[DOMAIN].is_open
        assert len(stage.server.sessions) == 1
        monkeypatch.setattr(storage, "totals", totals)
        gate.opened.set()
        await stage.pass_until(lambda: len(stage.server.sessions) == 2)
        again = await stage.server.attached(DOMAIN, 2)
        await again.receive(1)
        assert len(stage.log.of("cannot read what is kept from before")) == 1


# --- what is not a component's


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("journal", JournalSettings(max_stanzas=Count(5))),
        ("tracing", TracingSettings("http://127.0.0.1:1")),
    ],
)
async def test_what_takes_a_restart_is_said(
    stage: Stage, mock_clock: MockClock, table: str, value: Any
) -> None:
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        await stage.server.attached(DOMAIN)
        stage.settings = evolve(stage.settings, **{table: value})
        await stage.hangup()
        [line] = stage.log.of("this change takes effect at the next start")
        assert (line["table"], line["level"]) == (table, "warning")
        await stage.hangup()  # it is said again for as long as it is so
        assert len(stage.log.of("this change takes effect at the next start")) == 2
        stage.settings = evolve(stage.settings, **{table: getattr(Settings(()), table)})
        await stage.hangup()
        assert len(stage.log.of("this change takes effect at the next start")) == 2
    assert len(stage.server.sessions) == 1


async def test_the_log_level_is_taken_over(
    stage: Stage, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[str] = []
    monkeypatch.setattr("bridge.daemon.daemon.set_level", levels.append)
    endpoint = await stage.endpoint()
    async with stage.running_with(stage.component(endpoint)):
        await stage.server.attached(DOMAIN)
        await stage.hangup()
        assert levels == []
        await stage.reload(log=LogSettings("debug"))
        assert levels == ["debug"]


# --- under load


async def test_under_load_nothing_is_lost_and_nothing_doubled(
    stage: Stage, mock_clock: MockClock
) -> None:
    """Components that change and restart in any order: each stanza that came in is POSTed once,
    and answered once.
    """
    dice = random.Random(8)

    async def answer_some_time(exchange: Exchange) -> None:
        for _ in range(dice.randrange(20)):
            await trio.lowlevel.checkpoint()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await echo(exchange)

    endpoints = [await stage.endpoint(answer_some_time) for _ in range(2)]
    domains = (DOMAIN, OTHER, THIRD)
    sent: dict[str, list[str]] = {domain: [] for domain in domains}
    told: dict[str, list[Stanza]] = {domain: [] for domain in domains}

    async def note(session: Session, one: Stanza) -> None:
        told[session.domain].append(one)
        await trio.lowlevel.checkpoint()

    stage.server.on_stanza = note

    async def send(domain: str) -> None:
        for number in range(600):
            found = [one for one in stage.server.sessions if one.domain == domain]
            session = found[-1] if found else None
            if session is not None and not session.gone.is_set() and not session.closed_in_order:
                id = f"{domain}-{number}"
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await session.send(message(id, f"u{number % 7}@a", f"echo@{domain}"))
                    sent[domain].append(id)
            await trio.lowlevel.checkpoint()

    def any_component(domain: str) -> Component:
        order = dice.choice(("bare", "full", "none"))
        name = dice.choice(("a", "b"))
        return stage.component(dice.choice(endpoints), domain, order=order, name=name)

    def got(domain: str) -> set[str]:
        return {
            request.json["id"]
            for endpoint in endpoints
            for request in endpoint.requests
            if request.json["to"].endswith(domain)
        }

    async with stage.running_with(*(any_component(one) for one in domains)) as daemon:
        for domain in domains:
            await stage.server.attached(domain)
        async with trio.open_nursery() as nursery:
            for domain in domains:
                nursery.start_soon(send, domain)
            for _ in range(12):
                await trio.lowlevel.checkpoint()
                await stage.reload(*(any_component(one) for one in domains))
        assert all(sent.values())
        came = {domain: counts.received for domain, counts in daemon.counts.items()}
        assert all(came.values())
        await stage.pass_until(lambda: all(len(told[one]) >= came[one] for one in domains))
        assert {domain: len(got(domain)) for domain in domains} == came
    for domain in domains:
        answered = Counter(str(one.id) for one in told[domain] if one.type != "error")
        assert set(answered.values()) == {1}, "a reply came twice"
        assert {f"re-{id}" for id in got(domain)} == set(answered)
    posts = Counter(
        request.get("webhook-id") for endpoint in endpoints for request in endpoint.requests
    )
    assert set(posts.values()) == {1}, "a stanza was POSTed twice"
