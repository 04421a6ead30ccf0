"""The driver against a scripted server on a real loopback socket.

Time stands still (every test takes `mock_clock`) and is moved by hand, once everything that a test
waits for has been seen on the wire: so nothing sleeps, and no time-out fires by chance.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.xmppstream.loopback import Loopback, Peer
from tests.xmppstream.wire import DIGEST, DOMAIN, END, SECRET, STREAM_ID
from xmppstream import (
    ComponentStream,
    ElementIgnored,
    Event,
    IllegalCharacter,
    Limits,
    Server,
    StanzaReceived,
    StanzaRefused,
    StreamClosed,
    StreamCondition,
    StreamEnd,
    StreamFailed,
    StreamFaulted,
    StreamLost,
    StreamOptions,
    connect,
    encode,
    make,
)
from xmppstream.names import PING, STREAM_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

MESSAGE = make("message", f"a@{DOMAIN}", "b@there", id="1")
HEADER_OUT = (
    f"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
    f"xmlns:stream='http://etherx.jabber.org/streams' to='{DOMAIN}'>"
).encode()


def error(condition: str) -> bytes:
    return f"<stream:error><{condition} xmlns='{STREAM_ERRORS}'/></stream:error>".encode()


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Move the clock once every task waits for something."""
    await wait_all_tasks_blocked()
    clock.jump(seconds)


async def ignore(event: Event) -> None:
    """Handle an event by doing nothing."""


class Serving:
    """A stream that is served in a nursery, with what it delivered and how it ended."""

    def __init__(self, stream: ComponentStream) -> None:
        self.stream = stream
        self.events: list[Event] = []
        self.end: StreamEnd | None = None
        self.over = trio.Event()
        self.scope = trio.CancelScope()
        self._arrived = trio.Event()

    async def run(self) -> None:
        with self.scope:
            self.end = await self.stream.serve(self._take)
        self.over.set()

    async def _take(self, event: Event) -> None:
        self.events.append(event)
        self._arrived.set()
        self._arrived = trio.Event()

    async def wait_for(self, count: int) -> list[Event]:
        while len(self.events) < count:
            await self._arrived.wait()
        return self.events

    async def wait_end(self) -> StreamEnd | None:
        await self.over.wait()
        return self.end


class Attached:
    """Give a served stream and its server's end, behind the first barrier."""

    def __init__(self, loopback: Loopback, nursery: trio.Nursery) -> None:
        self._loopback = loopback
        self._nursery = nursery

    async def __call__(
        self,
        options: StreamOptions | None = None,
        *,
        early: bytes = b"",
        returning: bool = True,
    ) -> tuple[Serving, Peer]:
        stream, peer = await self._loopback.attach(options, early=early)
        serving = Serving(stream)
        self._nursery.start_soon(serving.run)
        if returning:
            await peer.return_stanza()
        else:
            await peer.receive_stanza()
        return serving, peer


@pytest.fixture
def attach(loopback: Loopback, nursery: trio.Nursery) -> Attached:
    """Attach to a scripted server."""
    return Attached(loopback, nursery)


async def fail_to_connect(
    loopback: Loopback,
    script: Callable[[Peer], Awaitable[None]],
    server: Server | None = None,
    options: StreamOptions | None = None,
) -> StreamEnd:
    """Connect to a script that refuses, and give how the stream ended."""

    async def run() -> None:
        await script(await loopback.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with pytest.raises(StreamFailed) as caught:
            await connect(server or loopback.server, DOMAIN, SECRET, options)
    assert str(caught.value) == str(caught.value.end)
    return caught.value.end


# --- attaching


async def test_connect_sends_header_and_handshake_and_nothing_else(
    loopback: Loopback, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    stream, peer = await loopback.attach()
    assert peer.received == HEADER_OUT + f"<handshake>{DIGEST}</handshake>".encode()
    assert (stream.domain, stream.end, stream.barrier_seen) == (DOMAIN, None, False)
    nursery.start_soon(stream.serve, ignore)


async def test_what_came_with_the_handshake_is_delivered(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, _ = await attach(early=encode(MESSAGE) + b"<unknown/>" + encode(MESSAGE)[:9])
    assert await serving.wait_for(2) == [
        StanzaReceived(MESSAGE),
        ElementIgnored("{jabber:component:accept}unknown"),
    ]


async def test_a_conflict_with_the_handshake_ends_the_stream(
    loopback: Loopback, mock_clock: MockClock
) -> None:
    stream, peer = await loopback.attach(early=encode(MESSAGE) + error("conflict") + END)
    serving = Serving(stream)
    await serving.run()
    assert serving.events == [StanzaReceived(MESSAGE)]
    assert serving.end == StreamFaulted(StreamCondition.CONFLICT, by_peer=True)
    assert StreamClosed() in await peer.receive_rest()


REFUSALS = ["not-authorized", "host-unknown", "conflict", "improper-addressing"]


@pytest.mark.parametrize("condition", REFUSALS)
async def test_refused_by_an_error_after_the_handshake(
    loopback: Loopback, condition: str, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.send(peer.core.open(stream_id=STREAM_ID))
        await peer.receive_handshake()
        await peer.send(error(condition) + END)
        assert await peer.receive_rest() == [StreamClosed()]

    end = await fail_to_connect(loopback, script)
    assert end == StreamFaulted(StreamCondition(condition), by_peer=True)


@pytest.mark.parametrize("root", [b" id='' version='1.0'", b"", b" id='7'"])
@pytest.mark.parametrize("condition", REFUSALS)
async def test_refused_by_an_early_error(
    loopback: Loopback, condition: str, root: bytes, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        header = HEADER_OUT.replace(b" to='bot.example'", root)
        await peer.send(header + error(condition) + END)
        assert (await peer.receive_rest())[-1] == StreamClosed()

    end = await fail_to_connect(loopback, script)
    assert end == StreamFaulted(StreamCondition(condition), by_peer=True)


async def test_a_refusal_is_heard_though_the_connection_was_reset(
    loopback: Loopback, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.send(peer.core.open(stream_id=STREAM_ID) + error("host-unknown"))
        await peer.reset()

    end = await fail_to_connect(loopback, script)
    assert end == StreamFaulted(StreamCondition.HOST_UNKNOWN, by_peer=True)


async def test_a_server_that_closes_its_stream_while_opening(
    loopback: Loopback, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.send(HEADER_OUT + END)
        assert await peer.receive_rest() == [StreamClosed()]

    assert await fail_to_connect(loopback, script) == StreamClosed()


@pytest.mark.parametrize("after_header", [False, True])
async def test_a_server_that_hangs_up_without_a_word(
    loopback: Loopback, after_header: bool, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        if after_header:
            await peer.send(peer.core.open(stream_id=STREAM_ID))
            await peer.receive_handshake()
        await peer.hang_up()

    end = await fail_to_connect(loopback, script)
    assert end == StreamLost("the server closed the connection without a word")


async def test_a_server_that_resets(loopback: Loopback, mock_clock: MockClock) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.reset()

    end = await fail_to_connect(loopback, script)
    assert end == StreamLost("connection broke: Connection reset by peer")


async def test_nobody_listens(no_stray_threads: None, mock_clock: MockClock) -> None:
    async with await Loopback.open() as closed:
        pass
    with pytest.raises(StreamFailed, match=f"cannot connect to {closed.server}: Connection ref"):
        await connect(closed.server, DOMAIN, SECRET)


@pytest.mark.parametrize("after_header", [False, True])
@pytest.mark.parametrize("timeout_s", [20, 0.5])
async def test_a_server_that_never_speaks(
    mock_clock: MockClock, loopback: Loopback, after_header: bool, timeout_s: float
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        if after_header:
            await peer.send(peer.core.open(stream_id=STREAM_ID))
            await peer.receive_handshake()
        mock_clock.jump(timeout_s)
        assert await peer.receive_rest() == []

    options = StreamOptions(handshake_timeout_s=timeout_s)
    end = await fail_to_connect(loopback, script, options=options)
    told = f"gave up after {timeout_s:g} s of waiting for the handshake of {loopback.server}"
    assert end == StreamLost(told)


async def test_white_space_does_not_extend_the_handshakes_time(
    mock_clock: MockClock, loopback: Loopback
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.send(peer.core.open(stream_id=STREAM_ID))
        await peer.receive_handshake()
        for _ in range(4):
            mock_clock.jump(5)
            await peer.send(b" ")
        assert await peer.receive_rest() == []

    end = await fail_to_connect(loopback, script)
    assert isinstance(end, StreamLost)
    assert trio.current_time() == 20


# --- malformed bytes are answered

MALFORMED = [
    (b"<!-- -->", StreamCondition.RESTRICTED_XML),
    (b"<!DOCTYPE x>", StreamCondition.RESTRICTED_XML),
    (b"<a></b>", StreamCondition.NOT_WELL_FORMED),
    (b"<x:y/>", StreamCondition.NOT_WELL_FORMED),
    (b"<a>\xff</a>", StreamCondition.UNSUPPORTED_ENCODING),
    (b"text<a/>", StreamCondition.BAD_FORMAT),
    (b"<a>" + b"x" * 3200, StreamCondition.POLICY_VIOLATION),
]


@pytest.mark.parametrize(("data", "condition"), MALFORMED)
async def test_malformed_bytes_are_answered_by_the_right_error(
    attach: Attached, data: bytes, condition: StreamCondition, mock_clock: MockClock
) -> None:
    serving, peer = await attach(StreamOptions(limits=Limits(max_stanza_bytes=200)))
    await peer.send(encode(MESSAGE) + data)
    end = await serving.wait_end()
    assert isinstance(end, StreamFaulted)
    assert (end.condition, end.by_peer) == (condition, False)
    assert serving.events == [StanzaReceived(MESSAGE)]
    [told] = await peer.receive_rest()
    assert told == StreamFaulted(condition, end.text, by_peer=True)
    assert peer.received.endswith(END)


@pytest.mark.parametrize(("data", "condition"), MALFORMED)
async def test_malformed_bytes_are_answered_while_opening_too(
    loopback: Loopback, data: bytes, condition: StreamCondition, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.send(peer.core.open(stream_id=STREAM_ID))
        await peer.receive_handshake()
        await peer.send(data)
        [told] = await peer.receive_rest()
        assert isinstance(told, StreamFaulted)
        assert told.condition is condition

    options = StreamOptions(limits=Limits(max_stanza_bytes=200))
    end = await fail_to_connect(loopback, script, options=options)
    assert isinstance(end, StreamFaulted)
    assert (end.condition, end.by_peer) == (condition, False)


async def test_a_fault_before_the_header_is_answered(
    loopback: Loopback, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_header()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        [told] = await peer.receive_rest()
        assert isinstance(told, StreamFaulted)

    end = await fail_to_connect(loopback, script)
    assert isinstance(end, StreamFaulted)
    assert end.condition is StreamCondition.NOT_WELL_FORMED


# --- events and sending


async def test_stanzas_go_both_ways(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    serving.stream.send(MESSAGE)
    assert await peer.receive_stanza() == MESSAGE
    await peer.send(encode(MESSAGE))
    assert await serving.wait_for(1) == [StanzaReceived(MESSAGE)]


async def test_a_stanza_over_a_limit_does_not_end_the_stream(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, peer = await attach(StreamOptions(limits=Limits(max_stanza_bytes=400)))
    await peer.send(b"<message id='7'>" + b"x" * 400 + b"</message>" + encode(MESSAGE))
    refused, received = await serving.wait_for(2)
    assert refused == StanzaRefused(make("message", None, None, id="7"), "400 bytes")
    assert received == StanzaReceived(MESSAGE)


async def test_a_short_lived_parser_makes_no_difference(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, peer = await attach(StreamOptions(limits=Limits(life_bytes=1)))
    await peer.send(encode(MESSAGE) * 20)
    assert await serving.wait_for(20) == [StanzaReceived(MESSAGE)] * 20


async def test_while_the_handler_waits_nothing_is_read(
    held: tuple[Held, Peer], mock_clock: MockClock
) -> None:
    stream, peer = held
    await peer.send(END)
    await wait_all_tasks_blocked()
    assert stream.stream.end is None
    stream.release.set()
    await stream.over.wait()
    assert stream.end == StreamClosed()


async def test_a_handlers_error_ends_serve_and_the_connection(
    loopback: Loopback, mock_clock: MockClock
) -> None:
    stream, peer = await loopback.attach(early=encode(MESSAGE))

    async def handle(event: Event) -> None:
        raise RuntimeError("handler")

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="handler")):
        await stream.serve(handle)
    assert stream.end == StreamLost("given up")
    await peer.receive_rest()


class Tap(trio.abc.Stream):
    """Passes on to a real stream and takes notes of what is sent, in its portions."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.sent: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.mark.parametrize("last", [END, error("reset"), b"<!-- -->"])
async def test_an_answer_to_what_came_with_the_end_fails_as_the_stream_does(
    loopback: Loopback, last: bytes, mock_clock: MockClock
) -> None:
    stream, peer = await loopback.attach(early=encode(MESSAGE) + last)
    handled: list[Event] = []

    async def handle(event: Event) -> None:
        handled.append(event)
        with pytest.raises(StreamFailed, match="the stream is ending"):
            stream.send(MESSAGE)

    await stream.serve(handle)
    assert handled == [StanzaReceived(MESSAGE)]
    await peer.receive_rest()


async def test_many_sends_make_one_send_all(
    attach: Attached, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    taps: list[Tap] = []
    plain = trio.open_tcp_stream

    async def tapped(host: str, port: int) -> Tap:
        taps.append(Tap(await plain(host, port)))
        return taps[-1]

    monkeypatch.setattr(trio, "open_tcp_stream", tapped)
    serving, peer = await attach()
    await serving.stream.flush()
    del taps[0].sent[:]
    for number in range(1000):
        serving.stream.send(make("message", "a@b", DOMAIN, id=str(number)))
    await serving.stream.flush()
    assert len(taps[0].sent) == 1
    for number in range(1000):
        assert (await peer.receive_stanza()).id == str(number)


async def test_encoded_stanzas_are_sent_as_they_are(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    serving.stream.send_encoded()
    assert serving.stream.unsent_bytes == 0
    last = make("message", "a@b", DOMAIN, id="last")
    serving.stream.send_encoded(encode(MESSAGE), encode(last))
    assert serving.stream.unsent_bytes == len(encode(MESSAGE)) + len(encode(last))
    assert await peer.receive_stanza() == MESSAGE
    assert await peer.receive_stanza() == last


async def test_a_stanza_that_cannot_be_written_harms_nothing(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    with pytest.raises(IllegalCharacter):
        serving.stream.send(make("message", "a@b\x01", DOMAIN))
    serving.stream.send(MESSAGE)
    assert await peer.receive_stanza() == MESSAGE


async def test_flush_with_nothing_to_send_returns(attach: Attached, mock_clock: MockClock) -> None:
    serving, _ = await attach()
    await serving.stream.flush()
    await serving.stream.flush()


async def test_flush_waits_for_the_operating_system(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    flushed = trio.Event()

    async def flush() -> None:
        await serving.stream.flush()
        flushed.set()

    serving.stream.send_encoded(b"<a>" + b" " * 16 * 1024 * 1024 + b"</a>")
    nursery.start_soon(flush)
    await wait_all_tasks_blocked()
    assert not flushed.is_set()
    left = 16 * 1024 * 1024
    while left > 0:
        left -= len(await peer.transport.receive_some(1024 * 1024))
    await flushed.wait()


async def test_flush_fails_where_the_stream_ends_before(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    failed = trio.Event()

    async def flush() -> None:
        with pytest.raises(StreamFailed):
            await serving.stream.flush()
        failed.set()

    serving.stream.send_encoded(b" " * 16 * 1024 * 1024)
    nursery.start_soon(flush)
    await wait_all_tasks_blocked()
    await peer.reset()
    await failed.wait()


async def test_everything_fails_after_the_end(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    await peer.send(error("system-shutdown") + END)
    end = await serving.wait_end()
    assert end == StreamFaulted(StreamCondition.SYSTEM_SHUTDOWN, by_peer=True)
    stream = serving.stream
    assert stream.end == end
    with pytest.raises(StreamFailed, match="system-shutdown"):
        stream.send(MESSAGE)
    with pytest.raises(StreamFailed, match="system-shutdown"):
        await stream.barrier()
    with pytest.raises(StreamFailed, match="system-shutdown"):
        await stream.flush()
    await stream.aclose()


# --- keepalive (S14)


async def test_a_space_after_silence(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach(StreamOptions(keepalive_s=60))
    await settled(serving)
    for number in range(1, 4):
        await peer.send(encode(MESSAGE))  # so that the server is not silent
        await serving.wait_for(number)
        await pass_time(mock_clock, 60)
        assert await peer.receive_bytes() == b" "


async def test_no_space_before_its_time(
    attach: Attached, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    serving, peer = await attach(StreamOptions(keepalive_s=60))
    await pass_time(mock_clock, 59)
    nursery.start_soon(serving.stream.aclose)
    assert await peer.receive_bytes() == END


async def test_what_is_sent_is_as_good_as_a_space(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach(StreamOptions(keepalive_s=60))
    for seconds in (50, 40, 29):
        await pass_time(mock_clock, seconds)
        serving.stream.send(MESSAGE)
        assert await peer.receive_bytes() == encode(MESSAGE)


async def test_a_blocked_writer_does_not_make_the_keepalive_spin(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, _ = await attach(StreamOptions(keepalive_s=10, write_timeout_s=100))
    serving.stream.send_encoded(b" " * 16 * 1024 * 1024)
    await wait_all_tasks_blocked()
    serving.stream.send(MESSAGE)  # waits behind the other
    mock_clock.jump(10)
    await wait_all_tasks_blocked()  # never comes where a task spins


# --- the barrier (S35)


async def test_the_first_barrier_goes_out_at_once(attach: Attached, mock_clock: MockClock) -> None:
    _, peer = await attach(returning=False)
    ping = f"<ping xmlns='{PING}'/></iq>".encode()
    assert peer.received.endswith(ping)
    assert f"<iq to='{DOMAIN}' from='{DOMAIN}' type='get' id='barrier-".encode() in peer.received


async def test_a_barrier_returns_and_is_not_delivered(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    await peer.send(encode(MESSAGE))
    await serving.wait_for(1)
    assert serving.stream.barrier_seen
    serving.stream.send(MESSAGE)
    returned = trio.Event()

    async def wait() -> None:
        await serving.stream.barrier()
        returned.set()

    nursery.start_soon(wait)
    assert await peer.receive_stanza() == MESSAGE
    await wait_all_tasks_blocked()
    assert not returned.is_set()
    barrier = await peer.return_stanza()
    await returned.wait()
    assert (barrier.to, barrier.from_, barrier.type) == (DOMAIN, DOMAIN, "get")
    assert serving.events == [StanzaReceived(MESSAGE)]


@pytest.mark.parametrize("type", ["result", "error", "get"])
async def test_a_barrier_may_return_as_any_type(
    attach: Attached, nursery: trio.Nursery, type: str, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    done = trio.Event()

    async def wait() -> None:
        await serving.stream.barrier()
        done.set()

    nursery.start_soon(wait)
    barrier = await peer.receive_stanza()
    await peer.send(encode(make("iq", DOMAIN, DOMAIN, type=type, id=barrier.id)))
    await done.wait()
    assert serving.events == []


async def test_barriers_return_one_by_one(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    returned: list[int] = []
    news = [trio.Event(), trio.Event()]

    async def wait(number: int) -> None:
        await serving.stream.barrier()
        returned.append(number)
        news[number].set()

    for number in (0, 1):
        nursery.start_soon(wait, number)
        await wait_all_tasks_blocked()
    first, second = await peer.receive_stanza(), await peer.receive_stanza()
    assert first.id != second.id
    await peer.send(encode(second))
    await news[1].wait()
    assert returned == [1]
    await peer.send(encode(first))
    await news[0].wait()


@pytest.mark.parametrize(
    ("from_", "id", "delivered"),
    [
        (DOMAIN, "barrier-of-another-instance-1", False),
        (DOMAIN.upper(), "barrier-in-the-server's-spelling-1", False),
        (DOMAIN, "other", True),
        (f"a@{DOMAIN}", "barrier-x-1", True),
        ("evil.example", "barrier-x-1", True),
    ],
)
async def test_only_barriers_of_our_domain_are_kept_back(
    attach: Attached, from_: str, id: str, delivered: bool, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    stanza = make("iq", DOMAIN, from_, type="get", id=id)
    await peer.send(encode(stanza) + encode(MESSAGE))
    expected = [StanzaReceived(stanza)] * delivered + [StanzaReceived(MESSAGE)]
    assert await serving.wait_for(len(expected)) == expected


@pytest.mark.parametrize(
    ("from_", "id", "instance", "is_foreign"),
    [
        (DOMAIN, "barrier-bbbbbb123456-1", "aaaaaa", True),
        (DOMAIN.upper(), "barrier-bbbbbb123456-1", "aaaaaa", True),
        (DOMAIN, "barrier-aaaaaa123456-1", "aaaaaa", False),  # of an earlier stream of this link
        (DOMAIN, "barrier-bbbbbb123456-1", "", False),
        (DOMAIN, "other", "aaaaaa", False),
        ("evil.example", "barrier-bbbbbb123456-1", "aaaaaa", False),
    ],
)
async def test_s35_a_barrier_of_another_instance_is_noticed(
    attach: Attached,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    from_: str,
    id: str,
    instance: str,
    is_foreign: bool,
) -> None:
    serving, peer = await attach(StreamOptions(instance=instance))
    noticed: list[str] = []

    async def watch() -> None:
        while True:
            await serving.stream.wait_foreign_barrier()
            noticed.append(id)

    nursery.start_soon(watch)
    for number in (1, 2):
        await peer.send(encode(make("iq", DOMAIN, from_, type="get", id=id)) + encode(MESSAGE))
        await serving.wait_for(number)
        await wait_all_tasks_blocked()
        assert noticed == [id] * number * is_foreign
        serving.events[:] = [event for event in serving.events if event == StanzaReceived(MESSAGE)]


async def test_a_stranger_cannot_return_a_barrier(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach(returning=False)
    id = peer.received.rpartition(b" id='")[2].partition(b"'")[0].decode()
    forged = make("iq", DOMAIN, "evil.example", type="result", id=id)
    await peer.send(encode(forged))
    assert await serving.wait_for(1) == [StanzaReceived(forged)]
    assert not serving.stream.barrier_seen


async def test_a_barrier_fails_where_the_stream_ends(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    failed = trio.Event()

    async def wait() -> None:
        with pytest.raises(StreamFailed, match="without a word"):
            await serving.stream.barrier()
        failed.set()

    nursery.start_soon(wait)
    await peer.receive_stanza()
    await peer.hang_up()
    await failed.wait()


async def test_a_cancelled_barrier_is_forgotten(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await serving.stream.barrier()

    nursery.start_soon(wait)
    late = await peer.receive_stanza()
    scope.cancel()
    await wait_all_tasks_blocked()
    await peer.send(encode(late) + encode(MESSAGE))
    assert await serving.wait_for(1) == [StanzaReceived(MESSAGE)]
    assert serving.stream.end is None


# --- proving that the peer is alive (S15)

PATIENT = StreamOptions(keepalive_s=60, probe_timeout_s=20)


async def until_probed(peer: Peer) -> None:
    """Skip the keepalives until a barrier comes."""
    stanza = await peer.receive_stanza()
    assert stanza.id is not None
    assert stanza.id.startswith("barrier-")


async def settled(serving: Serving) -> None:
    """Have the first barrier's return behind us, which nothing else shows."""
    while not serving.stream.barrier_seen:
        await wait_all_tasks_blocked()


async def test_three_unanswered_probes_end_the_stream(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, peer = await attach(PATIENT)
    await settled(serving)
    await pass_time(mock_clock, 120)
    for _ in range(3):
        await until_probed(peer)
        assert serving.stream.end is None
        await pass_time(mock_clock, 20)
    assert await serving.wait_end() == StreamLost("the server no longer answers")
    assert trio.current_time() == 180


async def test_a_returned_probe_proves_life(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach(PATIENT)
    await settled(serving)
    for count in range(1, 4):
        await pass_time(mock_clock, 120)
        await peer.return_stanza()
        await peer.send(encode(MESSAGE))
        await serving.wait_for(count)
    assert serving.stream.end is None


async def test_any_byte_proves_life_too(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach(PATIENT)
    await settled(serving)
    for count in range(1, 3):
        await pass_time(mock_clock, 120)
        await until_probed(peer)
        await peer.send(encode(MESSAGE))
        await serving.wait_for(count)
        await pass_time(mock_clock, 20)
        await wait_all_tasks_blocked()
    assert serving.stream.end is None


async def test_a_server_that_talks_is_not_probed(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach(PATIENT)
    await settled(serving)
    seen = peer.received
    for number in range(5):
        await pass_time(mock_clock, 59)
        await peer.send(encode(MESSAGE))
        await serving.wait_for(number + 1)
    await wait_all_tasks_blocked()
    await peer.hang_up()
    await serving.wait_end()
    assert b"barrier-" not in peer.received[len(seen) :]


async def test_a_server_that_never_returned_one_is_not_held_to_it(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, peer = await attach(PATIENT, returning=False)
    for _ in range(20):
        await pass_time(mock_clock, 60)
        assert await peer.receive_bytes() == b" "
    assert serving.stream.end is None
    assert not serving.stream.barrier_seen


# --- writing that does not get through


async def test_a_server_that_reads_nothing_is_given_up(
    attach: Attached, mock_clock: MockClock
) -> None:
    serving, _ = await attach(StreamOptions(write_timeout_s=60, keepalive_s=1000))
    serving.stream.send_encoded(b" " * 16 * 1024 * 1024)
    await wait_all_tasks_blocked()
    mock_clock.jump(59)
    await wait_all_tasks_blocked()
    assert serving.stream.end is None
    mock_clock.jump(1)
    assert await serving.wait_end() == StreamLost("the server has read nothing for 60 s")


class Held:
    """A stream whose handler is held up in its first event, so that nothing is read."""

    def __init__(self, stream: ComponentStream) -> None:
        self.stream = stream
        self.release = trio.Event()
        self.over = trio.Event()
        self.end: StreamEnd | None = None
        self._entered = trio.Event()

    async def run(self) -> None:
        self.end = await self.stream.serve(self._hold)
        self.over.set()

    async def _hold(self, event: Event) -> None:
        self._entered.set()
        await self.release.wait()

    async def hold(self, peer: Peer) -> None:
        await peer.receive_stanza()
        await peer.send(encode(MESSAGE))
        await self._entered.wait()


@pytest.fixture
async def held(loopback: Loopback, nursery: trio.Nursery) -> tuple[Held, Peer]:
    """A stream that reads nothing, and its server's end."""
    stream, peer = await loopback.attach()
    held = Held(stream)
    nursery.start_soon(held.run)
    await held.hold(peer)
    return held, peer


async def test_an_error_is_heard_after_a_broken_write(
    held: tuple[Held, Peer], mock_clock: MockClock
) -> None:
    stream, peer = held
    await peer.send(error("policy-violation"))
    await peer.reset()
    stream.stream.send(MESSAGE)
    await wait_all_tasks_blocked()
    assert stream.stream.end is None
    stream.release.set()
    await stream.over.wait()
    assert stream.end == StreamFaulted(StreamCondition.POLICY_VIOLATION, by_peer=True)
    assert trio.current_time() == 0


async def test_a_broken_write_without_last_words(
    held: tuple[Held, Peer], mock_clock: MockClock
) -> None:
    stream, peer = held
    await peer.reset()
    stream.stream.send(MESSAGE)
    await pass_time(mock_clock, 2)
    stream.release.set()  # what was read is handled first
    await stream.over.wait()
    assert stream.end in (
        StreamLost("connection broke: Connection reset by peer"),
        StreamLost("connection broke: Broken pipe"),
    )


async def test_a_silent_end_while_serving(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    await peer.hang_up()
    end = await serving.wait_end()
    assert end == StreamLost("the server closed the connection without a word")


# --- closing (S12)


async def test_the_peer_closes(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    await peer.send(END)
    assert await peer.receive_rest() == [StreamClosed()]
    assert await serving.wait_end() == StreamClosed()


async def test_we_close_in_order(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    closed = trio.Event()

    async def close() -> None:
        await serving.stream.aclose()
        closed.set()

    nursery.start_soon(close)
    assert await peer.receive() == StreamClosed()
    assert not closed.is_set()
    await peer.send(encode(MESSAGE) + peer.core.close())
    await closed.wait()
    assert await serving.wait_end() == StreamClosed()
    assert serving.events == [StanzaReceived(MESSAGE)]
    assert peer.received.endswith(END)


async def test_a_peer_that_never_closes_is_left(
    attach: Attached, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    serving, peer = await attach(StreamOptions(close_timeout_s=2))
    nursery.start_soon(serving.stream.aclose)
    assert await peer.receive() == StreamClosed()
    await wait_all_tasks_blocked()
    mock_clock.jump(2)
    assert await serving.wait_end() == StreamClosed()
    assert trio.current_time() == 2
    assert await peer.receive_rest() == []


async def test_after_our_close_nothing_can_be_sent(
    attach: Attached, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    serving, peer = await attach()
    nursery.start_soon(serving.stream.aclose)
    assert await peer.receive() == StreamClosed()
    with pytest.raises(StreamFailed):
        serving.stream.send(MESSAGE)
    with pytest.raises(StreamFailed):
        await serving.stream.barrier()
    await peer.send(END)
    assert await serving.wait_end() == StreamClosed()


async def test_a_stream_that_is_closed_before_it_is_served(
    mock_clock: MockClock, loopback: Loopback
) -> None:
    stream, peer = await loopback.attach()

    async def answer() -> None:
        assert (await peer.receive_rest())[-1] == StreamClosed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await wait_all_tasks_blocked()
        nursery.start_soon(answer)
        nursery.start_soon(stream.serve, ignore)
        while b"</stream:stream>" not in peer.received:
            await wait_all_tasks_blocked()
        mock_clock.jump(2)


async def test_a_probe_that_is_due_while_closing_does_no_harm(
    attach: Attached, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    serving, peer = await attach(StreamOptions(keepalive_s=60, close_timeout_s=5))
    await settled(serving)
    mock_clock.jump(119)
    nursery.start_soon(serving.stream.aclose)
    assert await peer.receive() == StreamClosed()
    mock_clock.jump(2)
    await wait_all_tasks_blocked()
    await peer.send(END)
    assert await serving.wait_end() == StreamClosed()


async def test_aclose_twice(attach: Attached, nursery: trio.Nursery, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    nursery.start_soon(serving.stream.aclose)
    nursery.start_soon(serving.stream.aclose)
    assert await peer.receive() == StreamClosed()
    await peer.send(END)
    assert await serving.wait_end() == StreamClosed()
    await serving.stream.aclose()
    assert peer.received.count(END) == 1


# --- cancellation leaves nothing behind (the threads are looked at by `loopback`)


@pytest.mark.parametrize("after_header", [False, True])
async def test_cancelled_while_connecting(
    loopback: Loopback, after_header: bool, mock_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect, loopback.server, DOMAIN, SECRET)
        peer = await loopback.accept()
        await peer.receive_header()
        if after_header:
            await peer.send(peer.core.open(stream_id=STREAM_ID))
            await peer.receive_handshake()
        nursery.cancel_scope.cancel()
    assert await peer.receive_rest() == []


async def test_cancelled_in_the_midst_of_a_tls_handshake(
    loopback: Loopback, mock_clock: MockClock
) -> None:
    server = Server(loopback.server.host, loopback.server.port, tls=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect, server, DOMAIN, SECRET)
        peer = await loopback.accept()
        assert await peer.receive_bytes()
        nursery.cancel_scope.cancel()
    assert await peer.receive_bytes() == b""


async def test_cancelled_while_serving(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    serving.scope.cancel()
    assert await serving.wait_end() is None
    assert serving.stream.end == StreamLost("given up")
    assert await peer.receive_rest() == []
    with pytest.raises(StreamFailed, match="given up"):
        serving.stream.send(MESSAGE)


async def test_cancelled_while_closing(attach: Attached, mock_clock: MockClock) -> None:
    serving, peer = await attach()
    with trio.CancelScope() as scope:
        scope.cancel()
        await serving.stream.aclose()
    assert scope.cancelled_caught
    serving.scope.cancel()
    await serving.wait_end()
    await peer.receive_rest()


# --- direct TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority for one test run."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """The file with the authority's certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def secure(authority: trustme.CA, loopback: Loopback) -> Callable[..., Server]:
    """Have the loopback speak TLS under some names, and give its address."""

    def secure(*names: str, ca_file: str | None, tls_name: str | None = None) -> Server:
        loopback.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(loopback.tls)
        host, port = loopback.server.host, loopback.server.port
        return Server(host, port, tls=True, ca_file=ca_file, tls_name=tls_name)

    return secure


@pytest.mark.parametrize(
    ("name", "tls_name"),
    [
        ("127.0.0.1", None),
        ("xmpp.example", "xmpp.example"),
        ("*.xmpp.example", "a.xmpp.example"),
        ("xn--fa-hia.example", "faß.example"),
    ],
)
async def test_tls_with_a_good_certificate(
    loopback: Loopback,
    secure: Callable[..., Server],
    ca_file: str,
    nursery: trio.Nursery,
    name: str,
    tls_name: str | None,
    mock_clock: MockClock,
) -> None:
    loopback.server = secure(name, ca_file=ca_file, tls_name=tls_name)
    stream, peer = await loopback.attach()
    serving = Serving(stream)
    nursery.start_soon(serving.run)
    await peer.return_stanza()
    await peer.send(encode(MESSAGE))
    assert await serving.wait_for(1) == [StanzaReceived(MESSAGE)]
    await peer.send(END)
    assert await serving.wait_end() == StreamClosed()


async def refuse_tls(peer: Peer) -> None:
    """See the component hang up in the handshake or right after it."""
    assert await peer.receive_rest() == []


@pytest.mark.parametrize(
    ("names", "tls_name", "why"),
    [
        (["other.example"], "xmpp.example", "Hostname mismatch"),
        (["xmpp.example"], None, "IP address mismatch"),
        (["127.0.0.1"], DOMAIN, "Hostname mismatch"),
        (["fass.example"], "faß.example", "Hostname mismatch"),
    ],
)
async def test_tls_with_a_wrong_name(
    loopback: Loopback,
    secure: Callable[..., Server],
    ca_file: str,
    names: list[str],
    tls_name: str | None,
    why: str,
    mock_clock: MockClock,
) -> None:
    server = secure(*names, ca_file=ca_file, tls_name=tls_name)
    end = await fail_to_connect(loopback, refuse_tls, server)
    assert isinstance(end, StreamLost)
    assert f"TLS with {server} failed: " in end.text
    assert why in end.text


async def test_tls_with_an_unknown_authority(
    loopback: Loopback, secure: Callable[..., Server], mock_clock: MockClock
) -> None:
    server = secure("127.0.0.1", ca_file=None)
    end = await fail_to_connect(loopback, refuse_tls, server)
    assert isinstance(end, StreamLost)
    assert f"TLS with {server} failed: " in end.text
    assert "unable to get local issuer certificate" in end.text


async def test_tls_with_a_server_that_has_none(
    loopback: Loopback, ca_file: str, mock_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"<?xml version='1.0'?><stream:stream>")
        await peer.receive_rest()

    host, port = loopback.server.host, loopback.server.port
    server = Server(host, port, tls=True, ca_file=ca_file)
    end = await fail_to_connect(loopback, script, server)
    assert isinstance(end, StreamLost)
    assert f"TLS with {server} failed: " in end.text


async def test_tls_with_a_server_that_never_speaks(
    mock_clock: MockClock, loopback: Loopback
) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.receive_bytes()
        mock_clock.jump(20)
        assert await peer.receive_bytes() == b""

    server = Server(loopback.server.host, loopback.server.port, tls=True)
    end = await fail_to_connect(loopback, script, server)
    assert end == StreamLost(f"gave up after 20 s of connecting to {server}")


async def test_tls_with_a_file_that_is_not_there(
    loopback: Loopback, tmp_path: Path, mock_clock: MockClock
) -> None:
    host, port = loopback.server.host, loopback.server.port
    server = Server(host, port, tls=True, ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(StreamFailed) as caught:
        await connect(server, DOMAIN, SECRET)
    assert caught.value.end == StreamLost(f"TLS with {server} failed: No such file or directory")


# --- values


@pytest.mark.parametrize(
    ("host", "text"), [("127.0.0.1", "127.0.0.1:5347"), ("::1", "[::1]:5347"), ("x.y", "x.y:5347")]
)
def test_a_server_reads_as_host_and_port(host: str, text: str) -> None:
    assert str(Server(host, 5347)) == text


def test_a_failure_has_the_end_and_its_words() -> None:
    failure = StreamFailed(StreamFaulted(StreamCondition.CONFLICT, "twice", by_peer=True))
    assert str(failure) == "conflict: twice"
