"""One component's link against a scripted server on a real socket: attach, deliver, reconnect.

The clock stands still: a test waits for what happens, and moves it where the link would wait.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio
from attrs import define
from trio.testing import MockClock, wait_all_tasks_blocked

import bridge.xmpp.link
import xmppstream
from bridge.config.settings import Component
from bridge.config.value import Secret, parse_post_url
from bridge.xmpp.link import (
    LEFTOVER_S,
    REMEDIES,
    SHARED,
    SHARED_FOR_S,
    SHARED_REMEDY,
    UNSENT_ANSWERS_BYTES,
    Link,
    Refused,
    hint_of,
)
from bridge.xmpp.outbox import LIMIT_COUNT, Outbox, Outgoing, ReplyKey
from tests.bridge.leak import nothing_left, until
from tests.bridge.recorder import Recorder
from tests.bridge.sample import MADE, outgoing, stanza
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import (
    ComponentStream,
    Event,
    Server,
    Stanza,
    StanzaReceived,
    StreamClosed,
    StreamCondition,
    StreamEnd,
    StreamFailed,
    StreamFaulted,
    StreamLost,
    StreamOptions,
    encode,
)

DOMAIN: Final = "bot.example"
pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
CONFIRM_S: Final = 1.0  # how long the link collects before it asks for a barrier
UNCONFIRMED_S: Final = 20.0  # how long it waits for one
Condition = StreamCondition


def component(server: Server) -> Component:
    return Component(DOMAIN, Secret(SECRET), parse_post_url("http://127.0.0.1/"), server)


def reply(id: str, body: str = "hi") -> Stanza:
    return stanza(
        f"<message id='{id}' to='juliet@capulet.example' from='echo@{DOMAIN}'>"
        f"<body>{body}</body></message>"
    )


def fresh_outbox(limit_count: int = LIMIT_COUNT) -> Outbox:
    """Give an outbox whose clock stands still."""
    return Outbox(DOMAIN, limit_count, now=lambda: MADE)


class WriteCount:
    """A store that is told how often something was written."""

    def __init__(self) -> None:
        self.written: dict[ReplyKey, int] = {}

    def confirm(self, replies: Iterable[Outgoing]) -> None: ...

    def abandon(self, reply: Outgoing, why: str) -> None: ...

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        self.written.update(written)


@define
class Bench:
    """A link, its outbox and its log; `events` is what it handed on."""

    link: Link
    outbox: Outbox
    log: Recorder
    events: list[Event]

    def put(self, *ids: str) -> list[bytes]:
        """Have replies become ready."""
        written = [encode(reply(id)) for id in ids]
        self.outbox.put(outgoing(*written))
        return written


def bench_at(
    server: Server,
    outbox: Outbox | None = None,
    *,
    exit_on_refusal: bool = False,
    may_write: Callable[[], bool] = lambda: True,
) -> Bench:
    """Return a link that does not run yet."""
    outbox = fresh_outbox() if outbox is None else outbox
    log, events = Recorder(), list[Event]()

    async def handle(event: Event) -> None:
        events.append(event)
        await trio.lowlevel.checkpoint()

    link = Link(
        component(server),
        StreamOptions(),
        outbox,
        handle,
        log.logger(),
        exit_on_refusal=exit_on_refusal,
        may_write=may_write,
    )
    return Bench(link, outbox, log, events)


def running(nursery: trio.Nursery, server: XmppServer, outbox: Outbox | None = None) -> Bench:
    """Give a link that is about to attach."""
    bench = bench_at(server.address, outbox)
    nursery.start_soon(bench.link.run)
    return bench


@pytest.fixture
async def server(nursery: trio.Nursery, mock_clock: MockClock) -> XmppServer:
    """A server that behaves, unless the test has it behave otherwise; time stands still."""
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    return await XmppServer.start(nursery)


# --- attached


async def test_replies_leave_in_order(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    ids = [str(n) for n in range(100)]
    for id in ids:
        bench.put(id)
    await session.receive(100)
    assert session.ids == ids
    assert [line["event"] for line in bench.log.told] == ["attached"]


async def test_nothing_is_written_once_it_may_not(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A process that was frozen must not go on with what another one has taken over."""
    allowed = [True, False]
    bench = bench_at(server.address, may_write=lambda: bool(allowed) and allowed.pop(0))
    nursery.start_soon(bench.link.run)
    session = await server.attached(DOMAIN)
    bench.put("1")
    await session.receive(1)
    bench.put("2")
    await until(lambda: not allowed)
    await wait_all_tasks_blocked(0.01)
    assert session.ids == ["1"]
    assert len(bench.outbox) == 2, "it is written to the next stream"


async def test_events_are_handed_on_and_barriers_are_not(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await session.wait_barriers(1)
    await session.send(reply("1"), reply("2"))
    await until(lambda: len(bench.events) == 2)
    assert bench.events == [StanzaReceived(reply("1")), StanzaReceived(reply("2"))]


async def test_s35_a_barrier_confirms_what_was_written(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await session.wait_barriers(1)
    bench.put("1", "2")
    await session.receive(2)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    assert len(bench.outbox) == 2
    mock_clock.jump(CONFIRM_S)
    await until(lambda: len(bench.outbox) == 0)
    assert session.barriers == 2


async def test_s35_many_are_confirmed_at_once(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    bench.put(*(str(n) for n in range(1000)))
    await session.receive(1000)
    await until(lambda: len(bench.outbox) == 0)


# --- reconnecting


async def system_shutdown(session: Session) -> None:
    await session.fail(Condition.SYSTEM_SHUTDOWN)


async def end_tag(session: Session) -> None:
    await session.send_bytes(b"</stream:stream>")


async def malformed(session: Session) -> None:
    await session.send_bytes(b"<message></iq>")
    assert (await session.wait_fault()).condition is Condition.NOT_WELL_FORMED


async def forbidden(session: Session) -> None:
    await session.send_bytes(b"<!-- -->")
    assert (await session.wait_fault()).condition is Condition.RESTRICTED_XML


ENDS: Final[list[tuple[Callable[[Session], Awaitable[None]], str]]] = [
    (system_shutdown, "system-shutdown"),
    (Session.hang_up, "the server closed the connection without a word"),
    (Session.reset, "connection broke: Connection reset by peer"),
    (end_tag, "the peer ended the stream"),
    (malformed, "not-well-formed"),
    (forbidden, "restricted-xml"),
]


@pytest.mark.parametrize(("end", "why"), ENDS)
async def test_s11_attached_again_whatever_ended_the_stream(
    server: XmppServer,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    end: Callable[[Session], Awaitable[None]],
    why: str,
) -> None:
    bench = running(nursery, server)
    for count in (1, 2, 3):
        session = await server.attached(DOMAIN, count)
        await session.wait_barriers(1)
        await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
        await end(session)
        line = await bench.log.wait("detached", count)
        assert line["level"] == "warning"
        assert line["why"].startswith(why)
        # What is written from the second on is not confirmed, so the wait gets longer.
        assert line["retry_in_s"] <= 0.5 * 2 ** (count - 1)
        assert bench.link.stream is None
        bench.put(str(count))  # ready while there is no stream
        mock_clock.jump(line["retry_in_s"] + 0.1)
        again = await server.attached(DOMAIN, count + 1)
        await again.receive(count)
        assert again.ids == ["1", "2", "3"][:count]  # no barrier has confirmed the older ones


async def test_s35_what_is_unconfirmed_is_sent_again_as_it_was(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await session.wait_barriers(1)
    written = bench.put("1", "2")
    await session.receive(2)
    await session.hang_up()
    await bench.log.wait("detached")
    written += bench.put("3")
    mock_clock.jump(0.5)
    again = await server.attached(DOMAIN, 2)
    await again.receive(3)
    assert again.ids == ["1", "2", "3"]
    assert b"".join(written) in again.received


async def test_s35_what_a_barrier_confirmed_is_not_sent_again(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    bench.put("1", "2")
    await session.receive(2)
    mock_clock.jump(CONFIRM_S)
    await until(lambda: len(bench.outbox) == 0)
    bench.put("3")
    await session.receive(3)
    await session.hang_up()
    await bench.log.wait("detached")
    mock_clock.jump(0.5)
    again = await server.attached(DOMAIN, 2)
    bench.put("4")
    await again.receive(2)
    assert again.ids == ["3", "4"]


async def test_s35_a_barrier_confirms_nothing_that_came_after_it(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    server.returns_barriers = False
    bench.put("1")
    await session.receive(1)
    mock_clock.jump(CONFIRM_S)
    await session.wait_barriers(2)
    bench.put("2")
    await session.receive(2)
    await session.return_barriers()
    await until(lambda: len(bench.outbox) < 2)
    await session.hang_up()
    await bench.log.wait("detached")
    mock_clock.jump(0.5)
    again = await server.attached(DOMAIN, 2)
    await again.receive(1)
    assert again.ids == ["2"]


# --- S11, blamed on us

REFUSALS: Final = [
    Condition.NOT_AUTHORIZED,
    Condition.HOST_UNKNOWN,
    Condition.IMPROPER_ADDRESSING,
]
BLAMED: Final = [
    Condition.INVALID_FROM,
    Condition.NOT_WELL_FORMED,
    Condition.POLICY_VIOLATION,
    Condition.INVALID_XML,
    Condition.UNSUPPORTED_STANZA_TYPE,
    Condition.IMPROPER_ADDRESSING,
]


def arrived(server: XmppServer) -> list[list[str | None]]:
    """Give the ids that came on each connection."""
    return [session.ids for session in server.sessions]


@asynccontextmanager
async def hurrying(bench: Bench, clock: MockClock) -> AsyncIterator[None]:
    """Move the clock whenever the link has lost its stream."""

    async def hurry() -> None:
        count = 0
        while True:
            count += 1
            line = await bench.log.wait("detached", count)
            clock.jump(line["retry_in_s"] + 0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hurry)
        yield
        nursery.cancel_scope.cancel()


def breaking(
    condition: StreamCondition, *poison: str
) -> Callable[[Session, Stanza], Awaitable[None]]:
    """Have some stanzas break the stream, each time."""

    async def look(session: Session, one: Stanza) -> None:
        if one.id in poison:
            await session.fail(condition)

    return look


@pytest.mark.parametrize("condition", BLAMED)
async def test_s11_a_stanza_that_breaks_the_stream_is_sent_twice_at_most(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock, condition: StreamCondition
) -> None:
    server.on_stanza = breaking(condition, "poison")
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("1", "poison", "2", "3")
        third = await server.attached(DOMAIN, 3)
        await third.receive(2)
        bench.put("4")
        await third.receive(3)
    assert arrived(server) == [["1", "poison"], ["1", "poison"], ["2", "3", "4"]]
    [line] = [line for line in bench.log.told if line["level"] == "error"]
    assert line["event"] == "a stanza broke the stream twice and is given up"
    assert line["why"] == condition
    assert len(bench.outbox) == 1  # the newest


async def test_s11_each_suspect_is_followed_by_a_barrier(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.on_stanza = breaking(Condition.INVALID_FROM, "poison")
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("1", "2", "poison")
        await server.attached(DOMAIN, 3)
    second = server.sessions[1]
    assert second.ids == ["1", "2", "poison"]
    assert second.barriers >= 2  # those of 1 and 2, and the one that every stream begins with


async def test_s11_several_poisoned_stanzas(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.on_stanza = breaking(Condition.INVALID_FROM, "p1", "p2", "p3")
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("p1", "1", "p2", "2", "p3", "3")
        last = await server.attached(DOMAIN, 5)
        await last.receive(1)
    ids = [id for session in arrived(server) for id in session]
    assert {poison: ids.count(poison) for poison in ("p1", "p2", "p3")} == {
        "p1": 2,
        "p2": 1,
        "p3": 1,
    }
    assert [ids.count(good) for good in ("1", "2", "3")] == [1, 1, 1]
    assert len(bench.log.of("a stanza broke the stream twice and is given up")) == 3


async def test_s11_what_broke_only_once_arrives(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    broken: list[str | None] = []

    async def break_once(session: Session, one: Stanza) -> None:
        if not broken:
            broken.append(one.id)
            await session.fail(Condition.POLICY_VIOLATION)

    server.on_stanza = break_once
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("1", "2")
        second = await server.attached(DOMAIN, 2)
        await second.receive(2)
        bench.put("3")
        await second.receive(3)
    assert arrived(server) == [["1"], ["1", "2", "3"]]
    assert [line for line in bench.log.told if line["level"] == "error"] == []


async def test_s11_a_suspect_on_a_stream_that_ends_otherwise_is_sent_again(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    ends = [Condition.INVALID_FROM, Condition.SYSTEM_SHUTDOWN]

    async def look(session: Session, _: Stanza) -> None:
        if len(server.sessions) <= len(ends):
            await session.fail(ends[len(server.sessions) - 1])

    server.on_stanza = look
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("1")
        last = await server.attached(DOMAIN, 3)
        await last.receive(1)
        await last.wait_barriers(3)
    assert arrived(server) == [["1"]] * 3
    assert bench.log.of("a stanza broke the stream twice and is given up") == []


async def test_s11_a_suspect_that_is_read_while_attached_is_written_alone(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    async with hurrying(bench, mock_clock):
        kept = Outgoing(encode(reply("1")), MADE, DOMAIN, "msg_1", 1, written=2)
        bench.outbox.put_missing([kept])
        bench.put("2")
        await session.receive(2)
    assert arrived(server) == [["1", "2"]]
    assert session.barriers >= 2  # one before the suspect, one behind it
    assert bench.outbox.suspect is None


async def test_s11_a_link_that_is_cancelled_tells_how_often_it_has_written(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    store = WriteCount()
    bench = bench_at(server.address, Outbox(DOMAIN, store=store, now=lambda: MADE))
    bench.outbox.put([Outgoing(encode(reply("1")), MADE, DOMAIN, "msg_1", 1)])
    async with trio.open_nursery() as linked:
        linked.start_soon(bench.link.run)
        session = await server.attached(DOMAIN)
        await session.receive(1)
        linked.cancel_scope.cancel()
    assert store.written == {("msg_1", 1): 1}


async def test_s11_a_suspect_is_not_dropped_before_its_barrier(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    async def look(session: Session, one: Stanza) -> None:
        if one.id == "2":
            if session is server.sessions[0]:
                await session.fail(Condition.INVALID_FROM)
            else:
                server.returns_barriers = False  # after it has returned that of 1

    server.on_stanza = look
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("1", "2")
        second = await server.attached(DOMAIN, 2)
        await second.receive(2)
        for _ in range(6):
            await wait_all_tasks_blocked()
            mock_clock.jump(UNCONFIRMED_S / 2)
            await say_a_word(second, bench)
        assert second.ids == ["1", "2"]
        assert len(bench.outbox) == 1
        server.on_stanza = breaking(Condition.INVALID_FROM)
        server.returns_barriers = True
        await second.hang_up()
        third = await server.attached(DOMAIN, 3)
        await third.receive(1)
        await until(lambda: len(bench.outbox) == 0)
    assert third.ids == ["2"]


# --- S11, any other end

SILENT_ENDS: Final = [
    *(end for end, _ in ENDS),
    *(
        partial(Session.fail, condition=condition)
        for condition in StreamCondition
        if condition not in (*BLAMED, Condition.CONFLICT, *REFUSALS)
    ),
]


def ending(
    end: Callable[[Session], Awaitable[None]], *poison: str
) -> Callable[[Session, Stanza], Awaitable[None]]:
    """Have some stanzas end the stream, each time, and whatever comes behind them be unread."""

    async def look(session: Session, one: Stanza) -> None:
        if one.id in poison:
            await end(session)
            session.is_over = True

    return look


def copies(server: XmppServer) -> Counter[str | None]:
    return Counter(id for session in arrived(server) for id in session)


@pytest.mark.parametrize("end", SILENT_ENDS, ids=repr)
@pytest.mark.parametrize("place", [0, 10, 20])
async def test_s11_a_stanza_that_ends_the_stream_in_any_way_is_found(
    server: XmppServer,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    end: Callable[[Session], Awaitable[None]],
    place: int,
) -> None:
    server.on_stanza = ending(end, "poison")
    bench = running(nursery, server)
    ids = [str(n) for n in range(20)]
    ids.insert(place, "poison")
    async with hurrying(bench, mock_clock):
        bench.put(*ids)
        await bench.log.wait("a stanza broke the stream twice and is given up")
        last = await server.attached(DOMAIN, 5)
        bench.put("new")
        await until(lambda: "new" in last.ids)
    assert len(server.sessions) == 5
    assert copies(server).pop("poison") == 4
    assert copies(server).keys() == {*ids, "new"}
    assert max(copies(server).values()) <= 4
    seen = list(dict.fromkeys(id for session in arrived(server) for id in session))
    assert seen == [*ids, "new"]
    waits = [line["retry_in_s"] for line in bench.log.of("detached")]
    proved = 0 if place == 0 else 2  # streams 3 and 4 confirm what precedes it
    bounds = [0.5, 1, 2, 4] if not proved else [0.5, 1, 0.5, 1]
    assert all(wait <= bound for wait, bound in zip(waits, bounds, strict=True))


@pytest.mark.parametrize("end", [Session.hang_up, Session.reset, system_shutdown])
async def test_s11_nothing_is_given_up_while_no_stream_proves_good(
    server: XmppServer,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    end: Callable[[Session], Awaitable[None]],
) -> None:
    """A network that breaks at once, whatever is written, is nobody's fault."""
    server.returns_barriers = False
    bench = running(nursery, server)
    async with hurrying(bench, mock_clock):
        bench.put("1", "2")
        for count in range(1, 11):
            session = await server.attached(DOMAIN, count)
            await session.wait_barriers(1)
            await session.receive(2 if count <= 2 else 0)  # from then on, they are suspects
            if count == 10:
                server.returns_barriers = True
                await session.return_barriers()
                await session.receive(2)
            else:
                await end(session)
    assert bench.log.of("a stanza broke the stream twice and is given up") == []
    assert copies(server) == {"1": 3, "2": 3}
    waits = [line["retry_in_s"] for line in bench.log.of("detached")]
    assert all(2.5 <= wait <= 5 for wait in waits[4:])


# --- S35, a server that returns no barrier


async def test_s35_a_server_without_barriers_is_taken_at_its_word(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.returns_barriers = False
    bench = running(nursery, server, fresh_outbox(limit_count=3))
    session = await server.attached(DOMAIN)
    await session.wait_barriers(1)  # the one that every stream begins with
    for round in range(3):
        bench.put(*(f"{round}-{n}" for n in range(3)))
        await session.receive(3 * (round + 1))
        assert bench.outbox.is_full
        barriers = session.barriers
        mock_clock.jump(CONFIRM_S)
        await session.wait_barriers(barriers + 1)
        mock_clock.jump(UNCONFIRMED_S)
        await until(lambda: len(bench.outbox) == 0)
    told = [line["event"] for line in bench.log.told]
    assert told == ["attached", "the server returns no barrier; what is written counts as arrived"]


async def test_s35_a_server_that_talks_and_stops_to_return_barriers_is_not(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    server.returns_barriers = False
    bench.put("1")
    await session.receive(1)
    for count in (2, 3, 4):
        await wait_all_tasks_blocked()
        mock_clock.jump(CONFIRM_S)
        await session.wait_barriers(count)
        mock_clock.jump(UNCONFIRMED_S / 2)
        await say_a_word(session, bench)
        mock_clock.jump(UNCONFIRMED_S / 2)
    assert len(bench.outbox) == 1
    assert [line["event"] for line in bench.log.told] == ["attached"]


# --- S35, another instance on the same domain


SHARED_EVENT: Final = "another instance is attached as this component"
SHARED_HINT: Final = "the server deals stanzas, answers and barriers to both; stop one of them"


def foreign_barrier(number: int) -> Stanza:
    """A barrier of another instance, as a server that deals to both sends it."""
    id = f"barrier-0123456789ab-{number}"
    return stanza(
        f"<iq id='{id}' type='get' to='{DOMAIN}' from='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>"
    )


async def late_session(server: XmppServer, bench: Bench, clock: MockClock) -> Session:
    """Return an attached session, so late that a foreign barrier cannot be a predecessor's."""
    session = await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    clock.jump(LEFTOVER_S)
    return session


async def deal_foreign(session: Session, bench: Bench, *numbers: int) -> None:
    """Send barriers of another instance, and wait until the link has read them."""
    before = len(bench.events)
    await session.send(*map(foreign_barrier, numbers), reply("last"))
    await until(lambda: len(bench.events) > before)
    await wait_all_tasks_blocked()


async def test_s35_another_instance_is_told_once(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await late_session(server, bench, mock_clock)
    for number in range(1, 9, 2):
        await deal_foreign(session, bench, number, number + 1)
    assert bench.link.shared_at == trio.current_time()
    [line] = bench.log.of(SHARED_EVENT)
    assert line["hint"] == SHARED_HINT
    assert all(isinstance(one, StanzaReceived) and one.stanza.id == "last" for one in bench.events)


async def test_s35_a_barrier_that_a_predecessor_left_is_no_evidence(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    mock_clock.jump(LEFTOVER_S - 0.1)
    await deal_foreign(session, bench, 1, 2)
    assert bench.link.shared_at is None
    assert [line["event"] for line in bench.log.told] == ["attached"]


async def test_s35_our_own_barrier_of_an_earlier_stream_is_no_evidence(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.returns_barriers = False
    bench = running(nursery, server)
    first = await server.attached(DOMAIN)
    await first.wait_barriers(1)
    id = first.received.rpartition(b"id='")[2].partition(b"'")[0].decode()
    assert id.startswith("barrier-")
    await first.hang_up()
    await bench.log.wait("detached")
    [line] = bench.log.of("detached")
    mock_clock.jump(line["retry_in_s"] + 0.1)
    second = await server.attached(DOMAIN, 2)
    await second.wait_barriers(1)
    mock_clock.jump(LEFTOVER_S)
    again = stanza(f"<iq id='{id}' type='get' to='{DOMAIN}' from='{DOMAIN}'/>")
    await second.send(again, reply("last"))
    await until(lambda: len(bench.events) == 1)
    await wait_all_tasks_blocked()
    assert bench.link.shared_at is None


async def test_s35_another_instance_that_is_gone_is_forgotten_and_told_anew(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await late_session(server, bench, mock_clock)
    await deal_foreign(session, bench, 1)
    for _ in range(int(SHARED_FOR_S // 10)):
        assert bench.link.shared_at is not None
        mock_clock.jump(10)
        await say_a_word(session, bench)
    assert bench.link.shared_at is None
    await deal_foreign(session, bench, 2)
    assert len(bench.log.of(SHARED_EVENT)) == 2


async def test_s35_a_server_that_deals_barriers_to_another_is_not_taken_at_its_word(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """It returns none to us yet, but it does return them: what is written may not have arrived."""
    server.returns_barriers = False
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await session.wait_barriers(1)
    mock_clock.jump(LEFTOVER_S)
    await deal_foreign(session, bench, 1)
    bench.put("1")
    await session.receive(1)
    await wait_all_tasks_blocked()
    mock_clock.jump(CONFIRM_S)
    await session.wait_barriers(2)
    await wait_all_tasks_blocked()
    mock_clock.jump(UNCONFIRMED_S)
    await wait_all_tasks_blocked()
    assert len(bench.outbox) == 1
    mock_clock.jump(CONFIRM_S)
    await session.wait_barriers(3)  # it is asked again
    assert [line["event"] for line in bench.log.told] == ["attached", SHARED_EVENT]


@pytest.mark.parametrize("shared", [False, True])
async def test_s35_barriers_that_another_instance_got_are_not_blamed_on_the_server(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock, shared: bool
) -> None:
    bench = running(nursery, server)
    session = await late_session(server, bench, mock_clock)
    if shared:
        await deal_foreign(session, bench, 1)
    server.returns_barriers = False
    bench.put("1")
    while not bench.log.of("detached"):
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(1)
    [line] = bench.log.of("detached")
    assert line["why"] == "the server no longer answers"
    assert line.get("hint") == (f"{SHARED}; {SHARED_REMEDY}" if shared else None)
    assert (SHARED in bench.link.state.why) is shared


async def say_a_word(session: Session, bench: Bench) -> None:
    """Have the server send white space, and the link read it."""
    await session.send_bytes(b" ")
    now = trio.current_time()
    await until(lambda: bench.link.stream is not None and bench.link.stream.heard_at == now)


@pytest.mark.parametrize("are_suspects", [False, True])
async def test_s35_a_half_open_connection_with_replies_is_noticed(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock, are_suspects: bool
) -> None:
    """Two barriers that do not return, and no word for as long, are evidence enough."""
    bench = bench_at(server.address)
    bench.put("1")
    if are_suspects:
        bench.outbox.take()
        bench.outbox.stream_lost(blamed=True)
    nursery.start_soon(bench.link.run)
    session = await server.attached(DOMAIN)
    await session.receive(1)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    server.reading = trio.Event()  # nothing comes back any more
    bench.put("2")
    began = trio.current_time()
    while not bench.log.of("detached"):
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(1)
    assert trio.current_time() - began <= CONFIRM_S + 2 * UNCONFIRMED_S + 2
    [line] = bench.log.of("detached")
    assert line["why"] == "the server no longer answers"
    server.reading.set()
    mock_clock.jump(line["retry_in_s"] + 0.1)
    again = await server.attached(DOMAIN, 2)
    await until(lambda: "2" in again.ids)


async def test_a_silent_connection_without_replies_is_left_in_peace(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    server.reading = trio.Event()
    for _ in range(110):
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
    assert bench.log.of("detached") == []
    server.reading.set()


# --- S11, refused and taken


@pytest.mark.parametrize("condition", REFUSALS)
async def test_s11_a_component_that_the_server_does_not_know_yet_is_tried_until_it_does(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock, condition: StreamCondition
) -> None:
    server.refusals[DOMAIN] = condition
    bench = running(nursery, server)
    line = await bench.log.wait("the server refuses this component")
    assert (line["level"], line["why"], line["retry_in_s"]) == ("error", condition, 4)
    assert REMEDIES[condition] in line["hint"]
    assert bench.link.state.refused
    del server.refusals[DOMAIN]
    mock_clock.jump(4)
    await server.attached(DOMAIN)
    await bench.log.wait("attached")
    assert not bench.link.state.refused


@pytest.mark.parametrize("condition", REFUSALS)
async def test_s11_a_first_refusal_is_final_on_demand(
    server: XmppServer, mock_clock: MockClock, condition: StreamCondition
) -> None:
    server.refusals[DOMAIN] = condition
    bench = bench_at(server.address, exit_on_refusal=True)
    with pytest.raises(Refused) as refusal:
        await bench.link.run()
    assert isinstance(refusal.value.end, StreamFaulted)
    assert refusal.value.end.condition is condition
    assert len(server.sessions) == 1
    [line] = bench.log.of("the server refuses this component")
    assert line["level"] == "error"
    assert "retry_in_s" not in line


@pytest.mark.parametrize("exit_on_refusal", [False, True])
@pytest.mark.parametrize("condition", REFUSALS)
async def test_s11_a_later_refusal_is_never_final(
    server: XmppServer,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    condition: StreamCondition,
    exit_on_refusal: bool,
) -> None:
    bench = bench_at(server.address, exit_on_refusal=exit_on_refusal)
    nursery.start_soon(bench.link.run)
    session = await server.attached(DOMAIN)
    server.refusals[DOMAIN] = condition
    await session.hang_up()
    await bench.log.wait("detached")
    mock_clock.jump(0.5)
    line = await bench.log.wait("the server refuses this component")
    assert (line["level"], line["why"], line["retry_in_s"]) == ("error", condition, 4)
    del server.refusals[DOMAIN]
    mock_clock.jump(4)
    await server.attached(DOMAIN, 2)


async def test_s11_a_refusal_is_tried_once_a_minute_at_last_and_told_as_often(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(*[fault(Condition.HOST_UNKNOWN)] * 1000)
    monkeypatch.setattr(bridge.xmpp.link, "connect", network.connect)
    bench = bench_at(Server("127.0.0.1", 1))
    with trio.move_on_after(300) as scope:
        await bench.link.run()
    assert scope.cancelled_caught
    assert [round(one - network.times[0]) for one in network.times] == [
        0,
        *(4, 12, 28, 60, 120, 180, 240),
    ]
    assert [line["level"] for line in bench.log.told] == ["error", *["warning"] * 4]


async def test_s11_a_conflict_after_the_handshake_waits_long(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None and bench.link.stream.barrier_seen)
    await session.fail(Condition.CONFLICT)
    line = await bench.log.wait("detached")
    assert (line["level"], line["retry_in_s"]) == ("warning", 120)
    assert line["hint"] == "another connection is attached as this component"


async def test_s8_a_conflict_right_behind_the_handshake_is_one_while_opening(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.returns_barriers = False
    bench = running(nursery, server)
    for count, wait_s in enumerate([5, 10, 20, 40, 80, 120, 120], 1):
        session = await server.attached(DOMAIN, count)
        await session.fail(Condition.CONFLICT)
        line = await bench.log.wait("detached", count)
        assert line["retry_in_s"] == wait_s
        mock_clock.jump(wait_s)


async def test_a_handshake_that_breaks_makes_nothing_suspect(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    bench.put("1")
    await session.receive(1)
    server.refusals[DOMAIN] = Condition.POLICY_VIOLATION
    await session.hang_up()
    await bench.log.wait("detached")
    mock_clock.jump(0.5)
    await bench.log.wait("cannot attach")
    assert bench.outbox.suspect is None
    assert len(bench.outbox) == 1


# --- many attempts, without a network: the clock jumps by itself


class Network:
    """Attempts that fail, one after the other, and when they were made."""

    def __init__(self, *ends: StreamEnd) -> None:
        self.ends = list(ends)
        self.times: list[float] = []

    async def connect(self, *_: object) -> ComponentStream:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        if not self.ends:
            await trio.sleep_forever()
        raise StreamFailed(self.ends.pop(0))


DOWN: Final = StreamLost("cannot connect to 127.0.0.1:1: Connection refused")


def fault(condition: StreamCondition) -> StreamFaulted:
    return StreamFaulted(condition, by_peer=True)


@pytest.mark.parametrize(
    ("ends", "waits"),
    [
        ([DOWN] * 6, ["≤0.5", "≤1", "≤2", "≤4", "≤5", "≤5"]),
        ([fault(Condition.SYSTEM_SHUTDOWN), DOWN, StreamClosed()], ["≤0.5", "≤1", "≤2"]),
        ([fault(Condition.INVALID_NAMESPACE)] * 3, ["≤0.5", "≤1", "≤2"]),
        ([fault(Condition.SEE_OTHER_HOST)] * 2, ["≤0.5", "≤1"]),
        ([fault(Condition.CONFLICT)] * 7, ["5", "10", "20", "40", "80", "120", "120"]),
        ([fault(Condition.CONFLICT), DOWN, fault(Condition.CONFLICT)], ["5", "≤0.5", "5"]),
    ],
)
async def test_s11_waiting_times(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    ends: list[StreamEnd],
    waits: list[str],
) -> None:
    """`≤` marks a wait with jitter: at least half of it."""
    network = Network(*ends)
    monkeypatch.setattr(bridge.xmpp.link, "connect", network.connect)
    with trio.move_on_after(1000):
        await bench_at(Server("127.0.0.1", 1)).link.run()
    measured = [b - a for a, b in zip(network.times, network.times[1:], strict=False)]
    assert len(measured) == len(waits)
    for one, wait in zip(measured, waits, strict=True):
        most = float(wait.removeprefix("≤"))
        least = most / 2 if wait.startswith("≤") else most
        assert least - 1e-6 <= one <= most + 1e-6


async def test_a_stream_that_was_good_resets_the_waits_once(
    server: XmppServer,
    mock_clock: MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each attempt that fails after it waits longer: the last stream's merit is used up."""
    monkeypatch.setattr(random, "uniform", max)
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    bench.put("1")
    await session.receive(1)
    mock_clock.jump(CONFIRM_S)
    await until(lambda: not len(bench.outbox))
    network = Network(*[DOWN] * 4)
    monkeypatch.setattr(bridge.xmpp.link, "connect", network.connect)
    await session.hang_up()
    await bench.log.wait("detached")
    ended = trio.current_time()
    for _ in range(61):
        mock_clock.jump(0.125)
        await wait_all_tasks_blocked(0.001)
    assert [at - ended for at in network.times] == [0.5, 1.5, 3.5, 7.5]


async def test_an_unchanged_failure_is_logged_once_a_minute(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(*[DOWN] * 1000)
    monkeypatch.setattr(bridge.xmpp.link, "connect", network.connect)
    bench = bench_at(Server("127.0.0.1", 1))
    with trio.move_on_after(299):
        await bench.link.run()
    assert len(network.times) > 50
    assert [line["event"] for line in bench.log.told] == [
        "cannot attach",
        *["still not attached"] * 4,
    ]


async def test_a_server_that_swallows_connections_is_told_of_once_a_minute(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reminder does not wait for the end of an attempt."""
    network = Network(DOWN)  # the second attempt lasts for ever
    monkeypatch.setattr(bridge.xmpp.link, "connect", network.connect)
    bench = bench_at(Server("127.0.0.1", 1))
    bench.put("1", "2")
    with trio.move_on_after(150):
        await bench.link.run()
    first, *reminders = bench.log.told
    assert first["event"] == "cannot attach"
    assert [line["event"] for line in reminders] == ["still not attached"] * 2
    assert [line["away_s"] for line in reminders] == [60, 120]
    assert reminders[0]["waiting"] == 2
    assert reminders[0]["why"] == str(DOWN)


async def test_a_server_that_goes_away_later_is_told_of_each_time(
    server: XmppServer,
    mock_clock: MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = running(nursery, server)
    for count in (1, 2):
        session = await server.attached(DOMAIN, count)
        await bench.log.wait("attached", count)
        monkeypatch.setattr(bridge.xmpp.link, "connect", Network(DOWN).connect)
        await session.hang_up()
        await bench.log.wait("detached", count)
        mock_clock.jump(1)
        await bench.log.wait("cannot attach", count)
        await wait_all_tasks_blocked()
        mock_clock.jump(60)
        monkeypatch.setattr(bridge.xmpp.link, "connect", xmppstream.connect)
        with trio.fail_after(60):  # of the mock clock: only another jump ends it
            await wait_all_tasks_blocked(0.01)
        assert len(bench.log.of("still not attached")) == count


async def test_nothing_is_told_of_a_server_that_is_back(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await session.hang_up()
    await bench.log.wait("detached")
    mock_clock.jump(0.5)
    await server.attached(DOMAIN, 2)
    await bench.log.wait("attached", 2)
    mock_clock.jump(200)
    await wait_all_tasks_blocked(0.01)
    assert not bench.log.of("still not attached")


async def test_a_changed_failure_is_logged_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = fault(Condition.INVALID_NAMESPACE)
    network = Network(DOWN, DOWN, starting, starting, DOWN)
    monkeypatch.setattr(bridge.xmpp.link, "connect", network.connect)
    bench = bench_at(Server("127.0.0.1", 1))
    with trio.move_on_after(30):
        await bench.link.run()
    assert [line["why"] for line in bench.log.told] == [
        str(DOWN),
        "invalid-namespace",
        str(DOWN),
    ]


# --- answers of the bridge itself


@define
class Asked:
    """A link whose handler answers everything at once, and a server that asks."""

    session: Session
    outbox: Outbox
    link: Link
    log: Recorder
    answered: int = 0
    most_bytes: int = 0

    async def handle(self, event: Event) -> None:
        assert isinstance(event, StanzaReceived)
        await trio.lowlevel.checkpoint()
        answer = Outgoing(encode(reply(str(event.stanza.id), "x" * 10_000)), MADE, is_answer=True)
        self.outbox.put([answer])
        self.answered += 1
        self.most_bytes = max(self.most_bytes, self.outbox.unsent_answer_bytes)

    async def ask(self, count: int) -> None:
        """Send all at once, as to a server's other tasks: it may block."""
        await self.session.send(*(reply(str(n)) for n in range(count)))


ASKED: Final = 2500
"""Its answers are 25 MB, so that they fit into no buffer of the kernel's."""


@pytest.mark.parametrize("suspects", [0, 2])
async def test_s29_every_request_is_answered_though_the_server_pauses(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock, suspects: int
) -> None:
    """Reading waits for what is unsent, and never for a barrier, which it would not see."""
    log, outbox = Recorder(), fresh_outbox(limit_count=1)
    outbox.put(outgoing(*(encode(reply(f"suspect-{n}")) for n in range(suspects))))
    outbox.take()
    outbox.stream_lost(blamed=True)

    async def handle(event: Event) -> None:
        await asked.handle(event)

    link = Link(component(server.address), StreamOptions(), outbox, handle, log.logger())
    server.returns_barriers = False
    nursery.start_soon(link.run)
    asked = Asked(await server.attached(DOMAIN), outbox, link, log)
    await asked.session.wait_barriers(1)
    server.reading = trio.Event()
    nursery.start_soon(asked.ask, ASKED)
    await until(lambda: asked.answered > 0)
    for _ in range(20):
        await wait_all_tasks_blocked(0.01)
    assert 0 < asked.answered < ASKED, "the reader waits"
    assert asked.most_bytes < UNSENT_ANSWERS_BYTES + 20_000
    server.reading.set()
    await until(lambda: asked.answered == ASKED)  # while no barrier returns
    server.returns_barriers = True
    await asked.session.return_barriers()
    await asked.session.receive(ASKED + suspects)
    ids = [str(id) for id in asked.session.ids]
    assert [id for id in ids if id.isdigit()] == [str(n) for n in range(ASKED)]
    assert ids.count("suspect-0") == ids.count("suspect-1") == min(suspects, 1)
    assert [line["event"] for line in log.told] == ["attached"]


@pytest.mark.parametrize("end", [Session.hang_up, Session.reset, end_tag, system_shutdown])
async def test_a_reader_that_waits_for_the_server_sees_the_end(
    server: XmppServer,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    end: Callable[[Session], Awaitable[None]],
) -> None:
    log, outbox = Recorder(), fresh_outbox()

    async def handle(event: Event) -> None:
        await asked.handle(event)

    link = Link(component(server.address), StreamOptions(), outbox, handle, log.logger())
    nursery.start_soon(link.run)
    asked = Asked(await server.attached(DOMAIN), outbox, link, log)
    await asked.session.wait_barriers(1)
    server.reading = trio.Event()
    await asked.ask(10)
    await until(lambda: asked.answered == 10)
    nursery.start_soon(asked.ask, ASKED)
    for _ in range(20):
        await wait_all_tasks_blocked(0.01)
    server.reading.set()
    await asked.session.receive(10)
    await asked.session.receive(10 + ASKED)
    await end(asked.session)
    await log.wait("detached")


async def test_what_becomes_ready_on_a_stream_that_ends_waits_for_the_next(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    log, outbox = Recorder(), fresh_outbox()

    async def handle(event: Event) -> None:
        await asked.handle(event)

    link = Link(component(server.address), StreamOptions(), outbox, handle, log.logger())
    nursery.start_soon(link.run)
    asked = Asked(await server.attached(DOMAIN), outbox, link, log)
    await asked.session.wait_barriers(1)
    await asked.session.send_bytes(encode(reply("1")) + b"</stream:stream>")
    line = await log.wait("detached")
    assert (asked.answered, asked.session.ids) == (1, [])
    mock_clock.jump(line["retry_in_s"] + 0.1)
    again = await server.attached(DOMAIN, 2)
    await again.receive(1)
    assert again.ids == ["1"]


# --- closing


def closing(bench: Bench, nursery: trio.Nursery) -> trio.Event:
    """Begin to close; the event says that it is done."""
    done = trio.Event()

    async def close() -> None:
        await bench.link.close()
        done.set()

    nursery.start_soon(close)
    return done


async def test_s12_close_writes_all_that_is_ready_and_ends_in_order(
    server: XmppServer, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    await until(lambda: bench.link.stream is not None)
    bench.put(*(str(n) for n in range(3000)))
    await bench.link.close()
    assert len(session.stanzas) == 3000
    assert session.closed_in_order
    assert len(bench.outbox) == 0


async def test_close_does_not_wait_for_barriers_that_never_came(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.returns_barriers = False
    bench = running(nursery, server)
    session = await server.attached(DOMAIN)
    bench.put("1")
    await session.receive(1)
    await session.wait_barriers(1)
    done = closing(bench, nursery)
    await session.wait_barriers(2)
    mock_clock.jump(bridge.xmpp.link.CLOSE_CONFIRM_S)
    await done.wait()
    assert session.closed_in_order
    assert len(bench.outbox) == 0


async def test_close_tries_suspects_too(
    server: XmppServer, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server.on_stanza = breaking(Condition.INVALID_FROM, "1")
    bench = running(nursery, server)
    await server.attached(DOMAIN)
    bench.put("1", "2")
    line = await bench.log.wait("detached")
    server.on_stanza = breaking(Condition.INVALID_FROM)
    mock_clock.jump(line["retry_in_s"] + 0.1)
    session = await server.attached(DOMAIN, 2)
    await until(lambda: bench.link.stream is not None)
    await bench.link.close()
    assert session.ids == ["1", "2"]
    assert session.closed_in_order
    assert len(bench.outbox) == 0


async def test_close_without_a_stream_is_done_at_once(nursery: trio.Nursery) -> None:
    bench = bench_at(Server("127.0.0.1", 1))
    bench.put("1")
    with trio.fail_after(1):
        await bench.link.close()
    assert len(bench.outbox) == 1


async def test_cancellation_drops_the_connection(server: XmppServer, mock_clock: MockClock) -> None:
    bench = bench_at(server.address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.link.run)
        session = await server.attached(DOMAIN)
        await until(lambda: bench.link.stream is not None)
        nursery.cancel_scope.cancel()
    await session.gone.wait()
    assert not session.closed_in_order
    assert bench.link.stream is None


# --- a handler that waits while the stream ends


@pytest.mark.parametrize("end", [Session.hang_up, Session.reset, system_shutdown])
async def test_what_was_read_is_handled_though_the_stream_has_ended(
    server: XmppServer,
    mock_clock: MockClock,
    nursery: trio.Nursery,
    end: Callable[[Session], Awaitable[None]],
) -> None:
    """A full queue makes the handler wait, at most 10 s; nothing read is lost meanwhile."""
    entered, go, seen = trio.Event(), trio.Event(), list[Event]()

    async def handle(event: Event) -> None:
        entered.set()
        await go.wait()
        seen.append(event)

    log, outbox = Recorder(), fresh_outbox()
    link = Link(component(server.address), StreamOptions(), outbox, handle, log.logger())
    nursery.start_soon(link.run)
    session = await server.attached(DOMAIN)
    await session.wait_barriers(1)
    await session.send(*(reply(str(n)) for n in range(10)))
    await entered.wait()
    await end(session)
    # Writing finds out before the reader does, and waits a while for its last words.
    outbox.put(outgoing(encode(reply("x"))))
    for _ in range(5):
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(1)
    assert log.of("detached") == []
    go.set()
    await log.wait("detached")
    assert seen == [StanzaReceived(reply(str(n))) for n in range(10)]


def test_only_what_the_server_says_has_a_hint() -> None:
    condition = StreamCondition.NOT_AUTHORIZED
    assert "secret" in hint_of(StreamFaulted(condition, by_peer=True))
    assert hint_of(StreamFaulted(condition)) == ""
