"""Whole daemons between a scripted XMPP server and a scripted endpoint, on real sockets.

The clock stands still: a test waits for what happens, and moves it where the daemon would wait.
"""

import json
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.loader import from_table
from bridge.config.settings import (
    Component,
    ConfigError,
    Count,
    HttpSettings,
    JournalSettings,
    RetrySettings,
    Seconds,
    Settings,
    StreamSettings,
)
from bridge.config.value import PostUrl, Secret, is_loopback, parse_post_url
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.journal.cluster import NODES, About
from bridge.journal.directory import StateDirectory
from bridge.journal.queue import MemoryQueue
from bridge.journal.storage import Storage
from bridge.listener.listener import Listener
from tests.bridge.cluster.fake_cluster import FakeDatabase
from tests.bridge.http_server import Answer, Exchange, HttpServer, response, saying
from tests.bridge.journal.fake_journal import FakeJournal
from tests.bridge.leak import nothing_left, sockets, until
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import Server, Stanza, StreamCondition
from xmppstream.names import STANZA_ERRORS

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
DOMAIN: Final = "bot.example"
OTHER: Final = "other.example"
BOT: Final = f"echo@{DOMAIN}"
GRACE_S: Final = 5.0
ONE_ATTEMPT: Final = RetrySettings(0, 0)
STOP_S: Final = GRACE_S + 2
LINGER_S: Final = 5.0  # the watch over deadlines stays 40 ticks, of 0.1 s where time jumps


@define
class Running:
    """A daemon at work; `code` is what it ended with."""

    daemon: Daemon
    code: ExitCode | None = None
    done: trio.Event = field(factory=trio.Event)

    async def run(self, main: Callable[[], Awaitable[ExitCode]]) -> None:
        self.code = await main()
        self.done.set()

    async def wait(self) -> ExitCode:
        """Wait for the end."""
        await self.done.wait()
        assert self.code is not None
        return self.code


@define
class World:
    """What is around a daemon."""

    nursery: trio.Nursery
    clock: MockClock
    log: Recorder
    server: XmppServer

    async def endpoint(self, answer: Answer) -> HttpServer:
        return await HttpServer.start(self.nursery, answer)

    def component(self, url: PostUrl, domain: str = DOMAIN, **options: Any) -> Component:
        return Component(domain, Secret(SECRET), url, self.server.address, **options)

    def start(
        self,
        *components: Component,
        signals: bool = False,
        storage: Storage | None = None,
        **options: Any,
    ) -> Running:
        """Start a daemon."""
        settings = Settings(components, **options)
        daemon = Daemon(settings, storage, open_listener=Listener.opened)
        running = Running(daemon)
        main = daemon.run_with_signals if signals else daemon.run
        self.nursery.start_soon(running.run, main)
        return running

    async def pass_until(self, condition: Callable[[], bool]) -> float:
        """Let the time pass, in small steps, and give how much."""
        start = self.clock.current_time()
        while not condition():
            await wait_all_tasks_blocked(0.01)
            if not condition():
                self.clock.jump(0.1)
        return self.clock.current_time() - start


@pytest.fixture
def log() -> Iterator[Recorder]:
    """What the daemon logs."""
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@pytest.fixture
async def world(nursery: trio.Nursery, mock_clock: MockClock, log: Recorder) -> World:
    """A server that behaves, unless the test has it behave otherwise; time stands still."""
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    return World(nursery, mock_clock, log, await XmppServer.start(nursery))


def message(id: str, from_: str = "juliet@capulet.example/x", to: str = BOT) -> Stanza:
    return stanza(
        f"<message id='{id}' type='chat' from='{from_}' to='{to}'><body>{id}</body></message>"
    )


def conditions(stanzas: list[Stanza]) -> dict[str, str]:
    """Give the condition of each error, by id."""
    found = {}
    for one in stanzas:
        error = one.child("error")
        if error is not None:
            names = [child.local for child in error.elements if child.namespace == STANZA_ERRORS]
            found[str(one.id)] = names[0]
    return found


def reply_to(exchange: Exchange) -> bytes:
    """Echo the body, under an id made of the request's."""
    asked = exchange.request.json
    value = {"body": asked["body"], "id": f"re-{asked['id']}"}
    return response(content=json.dumps(value).encode())


async def echo(exchange: Exchange) -> None:
    await exchange.send(reply_to(exchange))


async def hang(exchange: Exchange) -> None:
    await exchange.wait_gone()


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


# --- the whole way


async def test_a_message_is_posted_and_its_reply_sent(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(echo)
    running = world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    [reply] = await session.receive(1)
    assert (reply.id, reply.from_, reply.to) == ("re-m1", BOT, "juliet@capulet.example/x")
    assert endpoint.requests[0].json["body"] == "m1"
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK
    assert session.closed_in_order
    assert [line["event"] for line in world.log.told] == [
        "starting",
        "attached",
        "draining",
        "stopped",
    ]
    counts = running.daemon.counts[DOMAIN]
    assert (counts.received, counts.posted, counts.replied) == (1, 1, 1)


async def test_nothing_is_left_when_it_has_stopped(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(echo)
    tasks_before, sockets_before = tasks(), sockets()
    running = world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    await session.send(*(message(str(n), f"u{n}@a") for n in range(20)))
    await session.receive(20)
    running.daemon.stop()
    await running.wait()
    await session.gone.wait()
    await endpoint.wait_closed()
    assert await world.pass_until(lambda: tasks() == tasks_before) < 0.5
    assert sockets() == sockets_before


async def test_1000_messages_of_20_conversations_keep_their_order(
    world: World, mock_clock: MockClock
) -> None:
    dice = random.Random(7)
    busy: set[str] = set()
    most = 0

    async def answer_some_time(exchange: Exchange) -> None:
        nonlocal most
        sender = exchange.request.json["from"]
        assert sender not in busy
        busy.add(sender)
        most = max(most, len(busy))
        for _ in range(dice.randrange(10)):
            await trio.lowlevel.checkpoint()
        busy.remove(sender)
        await echo(exchange)

    endpoint = await world.endpoint(answer_some_time)
    world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    senders = [f"user{n}@a.example" for n in range(20)]
    pairs = [(dice.choice(senders), str(number)) for number in range(1000)]
    await session.send(*(message(id, sender) for sender, id in pairs))
    replies = await session.receive(1000)
    assert most > 5
    posted = [request.json for request in endpoint.requests]
    for sender in senders:
        given = [id for one, id in pairs if one == sender]
        assert [one["id"] for one in posted if one["from"] == sender] == given
        assert [one.id for one in replies if one.to == sender] == [f"re-{id}" for id in given]


# --- an endpoint that fails


async def test_an_endpoint_that_never_answers(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(hang)
    world.start(
        world.component(endpoint.url()),
        http=HttpSettings(timeout_s=Seconds(3.0)),
        retry=ONE_ATTEMPT,
    )
    session = await world.server.attached(DOMAIN)
    await session.wait_barriers(1)
    await until(lambda: len(world.log.of("attached")) == 1)
    await wait_all_tasks_blocked(0.01)
    tasks_before = tasks()
    for count in (50, 100):
        await session.send(*(message(str(count + n), f"u{n}@a") for n in range(50)))
        await until(lambda count=count: len(endpoint.requests) == count)  # type: ignore[misc]
        await wait_all_tasks_blocked(0.01)
        world.clock.jump(3)
        told = conditions(await session.receive(count))
        assert set(told.values()) == {"remote-server-timeout"}
        assert len(told) == count
        await endpoint.wait_closed()
        assert await world.pass_until(lambda: tasks() == tasks_before) < LINGER_S
    endpoint.answer = echo
    await session.send(message("m1"))
    assert (await session.receive(101))[-1].id == "re-m1"


# What the transport or the parser's thread has a part in; test_dispatch has the others.
BAD: Final[list[tuple[str, bytes]]] = [
    ("not JSON", response(content=b"nonsense")),
    ("another sender", response(content=b'{"body": "x", "from": "juliet@capulet.example"}')),
    ("an end of the stream", response(content=b'{"stanza": "</stream:stream>"}')),
    ("a DTD", response(content=b"<!DOCTYPE a><message/>", media="application/xmpp+xml")),
    ("over the limit", response(content=b" " * 2**20 + b'{"body": "x"}')),
    ("a reset", b""),
    ("garbage", b"\0garbage\r\n\r\n"),
]


@pytest.mark.parametrize("answer", [pytest.param(row[1], id=row[0]) for row in BAD])
async def test_one_bad_reply_while_100_are_in_flight(
    world: World, mock_clock: MockClock, answer: bytes
) -> None:
    go = trio.Event()

    async def answer_one_badly(exchange: Exchange) -> None:
        await go.wait()
        if exchange.request.json["id"] != "50":
            await echo(exchange)
        elif answer:
            await exchange.send(answer)
            if not answer.startswith(b"HTTP"):
                await exchange.close()
        else:
            await exchange.reset()

    endpoint = await world.endpoint(answer_one_badly)
    world.start(world.component(endpoint.url()), retry=ONE_ATTEMPT)
    session = await world.server.attached(DOMAIN)
    await session.send(*(message(str(n), f"u{n}@a") for n in range(101)))
    await until(lambda: len(endpoint.requests) == 101)
    go.set()
    replies = await session.receive(101)
    assert list(conditions(replies)) == ["50"]
    good = {one.id for one in replies} - {"50"}
    assert good == {f"re-{n}" for n in range(101) if n != 50}
    assert len(world.server.sessions) == 1
    assert "detached" not in {line["event"] for line in world.log.told}


@pytest.mark.parametrize(
    ("sender", "written"),
    [
        ("Echo@BOT.example/X", "Echo@bot.example/X"),
        ("BOT.EXAMPLE", "bot.example"),
        ("bot.example/a@BOT.example", "bot.example/a@BOT.example"),
    ],
)
async def test_s28_the_domain_is_written_as_configured(
    world: World, mock_clock: MockClock, sender: str, written: str
) -> None:
    content = json.dumps({"body": "x", "from": sender}).encode()
    endpoint = await world.endpoint(saying(response(content=content)))
    world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    [reply] = await session.receive(1)
    assert reply.from_ == written


async def test_a_full_queue_is_shed_and_then_normal_again(
    world: World, mock_clock: MockClock
) -> None:
    go = trio.Event()

    async def answer_later(exchange: Exchange) -> None:
        await go.wait()
        await echo(exchange)

    endpoint = await world.endpoint(answer_later)
    running = world.start(
        world.component(endpoint.url()),
        http=HttpSettings(max_in_flight=Count(10), timeout_s=Seconds(60.0)),
    )
    dispatcher = running.daemon.services[DOMAIN]._dispatcher
    queue = dispatcher._queue
    assert isinstance(queue, MemoryQueue)
    queue._volume.limit_count = 200  # test_dispatch has the real ones
    session = await world.server.attached(DOMAIN)
    await session.send(*(message(str(n), f"u{n}@a") for n in range(1000)))
    # Handing on the first stanza that found no room, the reader waits.
    await until(lambda: running.daemon.counts[DOMAIN].received == 201)
    assert world.log.of("queue full, refusing stanzas") == []
    mock_clock.jump(10)
    told = conditions(await session.receive(800))
    assert set(told.values()) == {"resource-constraint"}
    assert set(told) == {str(n) for n in range(200, 1000)}
    assert len(dispatcher._conversations) == 200
    go.set()
    await session.receive(1000)
    await session.send(message("again"))
    assert (await session.receive(1001))[-1].id == "re-again"
    assert [line["event"] for line in world.log.told if line["level"] != "info"] == [
        "queue full, refusing stanzas",
        "queue has room again",
    ]
    assert len(world.server.sessions) == 1


# --- several components


async def test_a_slow_endpoint_does_not_starve_another_component(
    world: World, mock_clock: MockClock
) -> None:
    slow, quick = await world.endpoint(hang), await world.endpoint(echo)
    running = world.start(
        world.component(slow.url()),
        world.component(quick.url(), OTHER),
        http=HttpSettings(max_in_flight=Count(4)),
    )
    first, second = await world.server.attached(DOMAIN), await world.server.attached(OTHER)
    await first.send(*(message(str(n), f"u{n}@a") for n in range(100)))
    await until(lambda: len(slow.requests) == 4)
    await second.send(*(message(str(n), f"u{n}@a", OTHER) for n in range(100)))
    await second.receive(100)
    assert first.stanzas == []
    assert len(slow.requests) == 4
    assert running.daemon.counts[DOMAIN].posted == 4


async def test_the_end_of_one_stream_is_not_that_of_another(
    world: World, mock_clock: MockClock
) -> None:
    endpoint = await world.endpoint(echo)
    world.start(world.component(endpoint.url()), world.component(endpoint.url(), OTHER))
    first, second = await world.server.attached(DOMAIN), await world.server.attached(OTHER)
    await first.fail(StreamCondition.SYSTEM_SHUTDOWN)
    line = await world.log.wait("detached")
    assert line["component"] == DOMAIN
    await second.send(message("m1", to=OTHER))
    await second.receive(1)
    assert len(world.log.of("detached")) == 1


# --- refused

EXIT_ON_REFUSAL: Final = StreamSettings(exit_on_refusal=True)


async def test_a_refused_component_attaches_when_the_server_knows_it(
    world: World, mock_clock: MockClock
) -> None:
    endpoint = await world.endpoint(echo)
    world.server.refusals[DOMAIN] = StreamCondition.HOST_UNKNOWN
    running = world.start(world.component(endpoint.url()))
    line = await world.log.wait("the server refuses this component")
    assert (line["level"], line["component"]) == ("error", DOMAIN)
    world.server.refusals.clear()
    await world.pass_until(lambda: bool(world.log.of("attached")))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await session.receive(1)
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK


@pytest.mark.parametrize(
    "condition", [StreamCondition.NOT_AUTHORIZED, StreamCondition.HOST_UNKNOWN]
)
async def test_refused_is_an_exit_code_of_its_own_on_demand(
    world: World, mock_clock: MockClock, condition: StreamCondition
) -> None:
    world.server.refusals[DOMAIN] = condition
    component = world.component(parse_post_url("http://127.0.0.1/"))
    running = world.start(component, stream=EXIT_ON_REFUSAL)
    assert await running.wait() is ExitCode.REFUSED
    assert running.code == 3
    [line] = world.log.of("the server refuses this component")
    assert (line["level"], line["why"], line["component"]) == ("error", condition, DOMAIN)
    assert line["hint"]


@pytest.mark.parametrize("exit_on_refusal", [False, True])
async def test_a_refused_component_does_not_stop_the_others(
    world: World, mock_clock: MockClock, exit_on_refusal: bool
) -> None:
    endpoint = await world.endpoint(echo)
    world.server.refusals[DOMAIN] = StreamCondition.NOT_AUTHORIZED
    both = world.component(endpoint.url()), world.component(endpoint.url(), OTHER)
    running = world.start(*both, stream=StreamSettings(exit_on_refusal=exit_on_refusal))
    await world.log.wait("the server refuses this component")
    session = await world.server.attached(OTHER)
    await session.send(message("m1", to=OTHER))
    await session.receive(1)
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK


async def test_all_refused(world: World, mock_clock: MockClock) -> None:
    refusal = StreamCondition.HOST_UNKNOWN
    world.server.refusals = {DOMAIN: refusal, OTHER: refusal}
    url = parse_post_url("http://127.0.0.1/")
    both = world.component(url), world.component(url, OTHER)
    running = world.start(*both, signals=True, stream=EXIT_ON_REFUSAL)
    assert await running.wait() is ExitCode.REFUSED


# --- a server that goes away


async def test_replies_that_became_ready_meanwhile_are_delivered(
    world: World, mock_clock: MockClock
) -> None:
    go = trio.Event()

    async def answer_later(exchange: Exchange) -> None:
        await go.wait()
        await echo(exchange)

    endpoint = await world.endpoint(answer_later)
    world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    await session.send(*(message(str(n), f"u{n}@a") for n in range(10)))
    await until(lambda: len(endpoint.requests) == 10)
    await session.hang_up()
    await world.log.wait("detached")
    go.set()
    await wait_all_tasks_blocked(0.01)
    world.clock.jump(0.5)
    again = await world.server.attached(DOMAIN, 2)
    await again.receive(10)
    assert set(again.ids) == {f"re-{n}" for n in range(10)}


# --- stopping


async def in_flight(world: World, running: Running, endpoint: HttpServer, count: int) -> Session:
    """Have so many POSTs run."""
    session = await world.server.attached(DOMAIN)
    await session.send(*(message(str(n), f"u{n}@a") for n in range(count)))
    await until(lambda: len(endpoint.requests) == count)
    await wait_all_tasks_blocked(0.01)
    assert not running.done.is_set()
    return session


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_100_posts(
    world: World, mock_clock: MockClock, number: signal.Signals
) -> None:
    go = trio.Event()

    async def answer_even_ones(exchange: Exchange) -> None:
        if int(exchange.request.json["id"]) % 2:
            await hang(exchange)
        await go.wait()
        await echo(exchange)

    endpoint = await world.endpoint(answer_even_ones)
    running = world.start(world.component(endpoint.url()), signals=True)
    session = await in_flight(world, running, endpoint, 100)
    start = trio.current_time()
    signal.raise_signal(number)
    await world.log.wait("draining")
    go.set()
    await session.receive(50)
    assert set(session.ids) == {f"re-{n}" for n in range(0, 100, 2)}
    await session.send(message("late"))
    await session.receive(51)
    await world.pass_until(running.done.is_set)
    assert running.code is ExitCode.OK
    assert GRACE_S <= trio.current_time() - start <= STOP_S
    assert conditions(session.stanzas) == dict.fromkeys(
        ["late", *(str(n) for n in range(1, 100, 2))], "remote-server-timeout"
    )
    assert session.closed_in_order
    [line] = world.log.of("unfinished stanzas answered by errors")
    assert line["count"] == 50
    assert world.log.of("stopping")[0]["signal"] == number.name


@pytest.mark.parametrize("returns_barriers", [True, False])
@pytest.mark.parametrize("answer", [echo, hang])
async def test_a_journal_that_hangs_does_not_lengthen_the_end(
    world: World, mock_clock: MockClock, tmp_path: Path, answer: Answer, returns_barriers: bool
) -> None:
    """A locked journal: no reply can be kept, and no stanza given up."""
    go = trio.Event()

    async def answer_later(exchange: Exchange) -> None:
        await go.wait()
        await answer(exchange)

    endpoint, journal = await world.endpoint(answer_later), FakeJournal()
    storage = Storage(StateDirectory(tmp_path), journal, JournalSettings())
    component = world.component(endpoint.url())
    running = world.start(component, signals=True, storage=storage)
    world.server.returns_barriers = returns_barriers
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await until(lambda: len(endpoint.requests) == 1)
    release = journal.hold()
    go.set()
    start = trio.current_time()
    signal.raise_signal(signal.SIGTERM)
    await world.pass_until(running.done.is_set)
    release()
    assert running.code is ExitCode.OK
    assert GRACE_S <= trio.current_time() - start <= STOP_S + 0.1  # time passes in such steps
    assert world.log.of("journal hangs")


async def test_a_drain_ends_when_all_is_done(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(echo)
    running = world.start(world.component(endpoint.url()), signals=True)
    session = await world.server.attached(DOMAIN)
    await session.send(*(message(str(n), f"u{n}@a") for n in range(100)))
    await session.receive(1)
    signal.raise_signal(signal.SIGTERM)
    assert await running.wait() is ExitCode.OK  # and no time has passed
    assert len(session.stanzas) == 100


async def test_a_second_signal_stops_at_once(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(hang)
    running = world.start(world.component(endpoint.url()), signals=True)
    session = await in_flight(world, running, endpoint, 100)
    signal.raise_signal(signal.SIGTERM)
    await world.log.wait("draining")
    signal.raise_signal(signal.SIGINT)
    assert await running.wait() is ExitCode.OTHER
    await session.gone.wait()
    await endpoint.wait_closed()
    assert session.stanzas == []
    assert [line["event"] for line in world.log.told][-1] == "stopping at once"


async def silent(world: World, _: Session) -> None:
    world.server.returns_barriers = False


async def stalled(world: World, _: Session) -> None:
    world.server.reading = trio.Event()


async def gone(world: World, session: Session) -> None:
    world.server.refusals[DOMAIN] = StreamCondition.SYSTEM_SHUTDOWN
    await session.hang_up()
    await world.log.wait("detached")


@pytest.mark.parametrize("behave", [silent, stalled, gone])
async def test_a_drain_is_bounded_whatever_the_server_does(
    world: World, mock_clock: MockClock, behave: Callable[[World, Session], Awaitable[None]]
) -> None:
    endpoint = await world.endpoint(hang)
    running = world.start(world.component(endpoint.url()))
    session = await in_flight(world, running, endpoint, 10)
    await behave(world, session)
    running.daemon.stop()
    assert GRACE_S <= await world.pass_until(running.done.is_set) <= STOP_S + 0.1
    assert running.code is ExitCode.OK


async def test_a_drain_with_suspects_is_bounded(world: World, mock_clock: MockClock) -> None:
    async def blame(session: Session, _: Stanza) -> None:
        if session is world.server.sessions[0]:
            await session.fail(StreamCondition.INVALID_FROM)
        else:
            world.server.returns_barriers = False

    world.server.on_stanza = blame
    endpoint = await world.endpoint(echo)
    running = world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"), message("m2", "romeo@montague.example"))
    await until(lambda: len(endpoint.requests) == 2)
    await world.log.wait("detached")
    mock_clock.jump(0.5)
    again = await world.server.attached(DOMAIN, 2)
    await again.receive(1)  # the first suspect, which no barrier proves
    running.daemon.stop()
    assert GRACE_S <= await world.pass_until(running.done.is_set) <= STOP_S
    assert running.code is ExitCode.OK


async def test_what_could_not_be_delivered_is_counted(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(hang)
    running = world.start(world.component(endpoint.url()))
    session = await in_flight(world, running, endpoint, 10)
    await gone(world, session)
    running.daemon.stop()
    await world.pass_until(running.done.is_set)
    [line] = world.log.of("replies could not be delivered")
    assert line["count"] == 10


async def test_a_drain_waits_for_a_server_that_returns_in_time(
    world: World, mock_clock: MockClock
) -> None:
    endpoint = await world.endpoint(echo)
    running = world.start(world.component(endpoint.url()))
    session = await world.server.attached(DOMAIN)
    await session.send(message("m1"))
    await until(lambda: len(endpoint.requests) == 1)
    await session.hang_up()
    await world.log.wait("detached")
    running.daemon.stop()
    assert await world.pass_until(running.done.is_set) <= GRACE_S
    again = await world.server.attached(DOMAIN, 2)
    assert again.ids == ["re-m1"]
    assert again.closed_in_order


async def test_a_stop_before_anything_is_attached(world: World, mock_clock: MockClock) -> None:
    world.server.refusals[DOMAIN] = StreamCondition.SYSTEM_SHUTDOWN
    running = world.start(world.component(parse_post_url("http://127.0.0.1/")))
    await world.log.wait("cannot attach")
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK


async def test_a_stop_of_several_components(world: World, mock_clock: MockClock) -> None:
    slow, quick = await world.endpoint(hang), await world.endpoint(echo)
    running = world.start(
        world.component(slow.url()), world.component(quick.url(), OTHER), signals=True
    )
    session = await in_flight(world, running, slow, 10)
    other = await world.server.attached(OTHER)
    signal.raise_signal(signal.SIGTERM)
    await other.gone.wait()  # it has nothing to wait for
    assert other.closed_in_order
    assert GRACE_S <= await world.pass_until(running.done.is_set) <= STOP_S
    assert len(conditions(session.stanzas)) == 10
    assert running.code is ExitCode.OK


async def test_cancellation_drops_everything(world: World, mock_clock: MockClock) -> None:
    endpoint = await world.endpoint(hang)
    async with trio.open_nursery() as nursery:
        inner = evolve(world, nursery=nursery)
        running = inner.start(world.component(endpoint.url()))
        session = await in_flight(world, running, endpoint, 10)
        nursery.cancel_scope.cancel()
    await session.gone.wait()
    await endpoint.wait_closed()
    assert session.stanzas == []


def test_a_name_that_xml_cannot_hold_is_refused_before_it_can_end_a_stream() -> None:
    """It is written into answers that the reader makes, where nothing catches it."""
    table = {"component_secret": "s", "component_post_url": "http://a/", "name": "a\u0001b"}
    with pytest.raises(ConfigError) as refusal:
        from_table({"component": {DOMAIN: table}}, "test", directory=Path())
    [fault] = refusal.value.faults
    assert fault.key == f'component."{DOMAIN}".name'
    assert "U+0001" in fault.problem


# --- what is logged at the start


async def test_the_start_tells_no_secret(world: World, mock_clock: MockClock) -> None:
    url = parse_post_url("http://user:passw0rd@127.0.0.1:1/api?token=t0ken")
    http = HttpSettings(headers={"X-Token": "t0ken"})
    running = world.start(world.component(url), http=http, warnings=("Mind the gap.",))
    await world.log.wait("attached")
    [line] = world.log.of("starting")
    assert line["endpoint"] == "http://127.0.0.1:1/api?…"
    assert line["post_stanzas"] == ["message"]
    assert world.log.of("configuration")[0]["warning"] == "Mind the gap."
    for secret in ("passw0rd", "t0ken", SECRET):
        assert secret not in repr(world.log.lines)
    running.daemon.stop()
    await running.wait()


@pytest.mark.parametrize(
    ("server", "is_warned"),
    [
        (Server("192.0.2.1", 5347), True),
        (Server("xmpp.example", 5347), True),
        (Server("192.0.2.1", 5347, tls=True), False),
        (Server("127.0.0.1", 1), False),
        (Server("localhost", 1), False),
    ],
)
async def test_a_plain_stream_that_is_not_on_loopback_is_warned_about(
    world: World,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    is_warned: bool,
) -> None:
    async def connect(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("bridge.xmpp.link.connect", connect)
    component = evolve(world.component(parse_post_url("http://127.0.0.1/")), server=server)
    running = world.start(component)
    await world.log.wait("starting")
    warned = [line for line in world.log.told if "not encrypted" in line["event"]]
    assert bool(warned) is is_warned
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("xmpp.localhost", True),
        ("0.0.0.0", False),
        ("192.168.0.1", False),
        ("::", False),
        ("localhost.example", False),
        ("example.com", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_exit_codes_are_those_of_the_manual() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "OTHER": 1,
        "USAGE": 2,
        "REFUSED": 3,
    }


def test_the_defaults_are_those_of_the_manual() -> None:
    assert HttpSettings() == HttpSettings(timeout_s=Seconds(30.0), max_in_flight=Count(256))
    assert StreamSettings().grace_s == GRACE_S


# --- a journal that other nodes share


@define
class FakeWakeUps:
    """Keeps the targets that were woken."""

    woken: list[str] = field(factory=list)
    callbacks: dict[str, Callable[[], None]] = field(factory=dict)
    is_running: bool = False

    def subscribe(self, target: str, callback: Callable[[], None]) -> None:
        self.callbacks[target] = callback

    def unsubscribe(self, target: str) -> None:
        self.callbacks.pop(target, None)

    def wake(self, target: str) -> None:
        self.woken.append(target)

    async def run(self) -> None:
        self.is_running = True
        try:
            await trio.sleep_forever()
        finally:
            self.is_running = False


async def test_a_node_is_woken_to_look_at_the_leases_and_wakes_the_others_at_its_end(
    mock_clock: MockClock, world: World, tmp_path: Path
) -> None:
    database = FakeDatabase()
    store = database.store("one")
    store.register("one", About())
    storage = Storage(StateDirectory(tmp_path), store, JournalSettings())  # type: ignore[arg-type]  # enough of a store
    storage.is_shared = True
    storage.wake_ups = wakes = FakeWakeUps()
    endpoint = await world.endpoint(saying(b""))
    running = world.start(world.component(endpoint.url()), storage=storage)
    await world.server.attached(DOMAIN)
    assert wakes.is_running
    other = database.store("two")
    other.register("two", About("1", (DOMAIN,), "another digest"))
    wakes.callbacks[NODES]()
    await world.log.wait("a node has another configuration")  # and no time has passed
    assert wakes.woken == []
    running.daemon.stop()
    await world.pass_until(running.done.is_set)
    assert NODES in wakes.woken
    assert not wakes.is_running
