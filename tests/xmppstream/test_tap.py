"""What a tap is told: every byte, in order, but for the handshake; each connection's begin and end.

Time stands still, as in `test_trio_stream`.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio
from attrs import field, frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.xmppstream.loopback import HOST, Loopback
from tests.xmppstream.wire import DIGEST, DOMAIN, END, HANDSHAKE, SECRET
from xmppstream import (
    Event,
    Limits,
    Server,
    StreamClosed,
    StreamCondition,
    StreamFailed,
    StreamFaulted,
    StreamOptions,
    connect,
    encode,
    make,
)
from xmppstream.tap import SHOWN_HANDSHAKE

pytestmark = pytest.mark.usefixtures("mock_clock")
MESSAGE: Final = make("message", f"a@{DOMAIN}", "b@there", id="1")


@frozen
class Listener:
    """A tap that keeps what it is told."""

    told: list[tuple[str, bytes]] = field(factory=list)
    open_bytes: list[int] = field(factory=list)

    def opened(self, server: str) -> None:
        self.told.append(("open", server.encode()))

    def received(self, data: bytes, open_bytes: int) -> None:
        assert data
        self.told.append(("in", data))
        self.open_bytes.append(open_bytes)

    def attached(self) -> None:
        self.told.append(("attached", b""))

    def sent(self, data: bytes) -> None:
        self.told.append(("out", data))

    def closed(self, why: str) -> None:
        self.told.append(("end", why.encode()))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    def all(self, kind: str) -> bytes:
        return b"".join(data for one, data in self.told if one == kind)


@pytest.fixture
def tap() -> Listener:
    return Listener()


async def ignore(event: Event) -> None:
    """Handle an event by doing nothing."""


async def test_it_is_told_every_byte_but_the_handshake(loopback: Loopback, tap: Listener) -> None:
    early = encode(MESSAGE) + b"<mess"
    stream, peer = await loopback.attach(StreamOptions(tap=tap), early=early)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.serve, ignore)
        await peer.send(b"age/>")
        await peer.return_stanza()
        stream.send(MESSAGE)
        await peer.receive_stanza()
        nursery.start_soon(stream.aclose)
        assert isinstance(await peer.receive(), StreamClosed)
        await peer.send(END)
    assert tap.kinds[:2] == ["open", "out"]
    assert tap.kinds[-1] == "end"
    assert tap.told[0] == ("open", f"{HOST}:{loopback.server.port}".encode())
    assert tap.all("out") == peer.received.replace(DIGEST.encode(), b"redacted")
    assert tap.all("in") == peer.sent
    assert tap.kinds.count("attached") == 1
    before = tap.told[: tap.kinds.index("attached")]
    assert before[-1] == ("in", HANDSHAKE + early)
    assert ("out", SHOWN_HANDSHAKE) in before


async def test_it_is_told_how_much_of_an_element_is_there(
    loopback: Loopback, tap: Listener
) -> None:
    stream, peer = await loopback.attach(StreamOptions(tap=tap))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.serve, ignore)
        await peer.receive_stanza()
        tap.open_bytes.clear()
        chunks = (b"<message>", b"<body>", b"</body></message> <iq", b"/>", b" \n", b"<a/><b>")
        for count, chunk in enumerate(chunks, 1):
            await peer.send(chunk)
            while len(tap.open_bytes) < count:
                await wait_all_tasks_blocked()
        assert tap.open_bytes == [9, 15, 3, 0, 0, 3]
        nursery.cancel_scope.cancel()


async def test_that_is_so_where_the_parser_is_replaced_within_a_chunk(
    loopback: Loopback, tap: Listener
) -> None:
    options = StreamOptions(limits=Limits(life_bytes=1000), tap=tap)
    stream, peer = await loopback.attach(options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.serve, ignore)
        await peer.receive_stanza()
        tap.open_bytes.clear()
        await peer.send(encode(MESSAGE) * 100 + b"<message")
        while not tap.open_bytes or len(tap.all("in")) < len(peer.sent):
            await wait_all_tasks_blocked()
        assert tap.open_bytes[-1] == 8
        nursery.cancel_scope.cancel()
    assert tap.all("in") == peer.sent


async def test_a_server_that_is_not_there(tap: Listener) -> None:
    with pytest.raises(StreamFailed):
        await connect(Server(HOST, 1), DOMAIN, SECRET, StreamOptions(tap=tap))
    assert tap.told == [
        ("open", b"127.0.0.1:1"),
        ("end", b"cannot connect to 127.0.0.1:1: Connection refused"),
    ]


@pytest.mark.parametrize(
    "condition", [StreamCondition.NOT_AUTHORIZED, StreamCondition.HOST_UNKNOWN]
)
async def test_a_refusal(loopback: Loopback, tap: Listener, condition: StreamCondition) -> None:
    async def refuse() -> None:
        peer = await loopback.accept()
        await peer.receive_header()
        await peer.send(peer.core.open(stream_id="1"))
        await peer.receive()
        await peer.send(peer.core.close(StreamFaulted(condition)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(StreamFailed):
            await connect(loopback.server, DOMAIN, SECRET, StreamOptions(tap=tap))
    kinds = tap.kinds
    assert [kinds[0], kinds[-1]] == ["open", "end"]
    assert "attached" not in kinds
    assert condition.encode() in tap.all("in")
    assert condition.encode() in tap.told[-1][1]
    assert SHOWN_HANDSHAKE in tap.all("out")


async def test_a_server_that_says_nothing(
    loopback: Loopback, tap: Listener, mock_clock: MockClock
) -> None:
    mock_clock.autojump_threshold = 0.2
    with pytest.raises(StreamFailed):
        await connect(loopback.server, DOMAIN, SECRET, StreamOptions(tap=tap))
    assert tap.kinds == ["open", "out", "end"]
    assert tap.told[-1][1].startswith(b"gave up after 20 s of waiting for the handshake")


async def test_an_attempt_that_is_cancelled(loopback: Loopback, tap: Listener) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect, loopback.server, DOMAIN, SECRET, StreamOptions(tap=tap))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert tap.kinds == ["open", "out", "end"]
    assert tap.told[-1] == ("end", b"given up")


async def test_a_stream_that_is_cancelled(loopback: Loopback, tap: Listener) -> None:
    stream, _ = await loopback.attach(StreamOptions(tap=tap))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.serve, ignore)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert tap.told[-1] == ("end", b"given up")
    assert tap.kinds.count("end") == 1


async def test_a_server_that_hangs_up(loopback: Loopback, tap: Listener) -> None:
    stream, peer = await loopback.attach(StreamOptions(tap=tap))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.serve, ignore)
        await peer.receive_stanza()
        await peer.hang_up()
    assert tap.told[-1] == ("end", b"the server closed the connection without a word")


async def test_two_connections_one_after_the_other(loopback: Loopback, tap: Listener) -> None:
    for _ in range(2):
        stream, peer = await loopback.attach(StreamOptions(tap=tap))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.serve, ignore)
            await peer.receive_stanza()
            await peer.hang_up()
    marks = [kind for kind in tap.kinds if kind in ("open", "attached", "end")]
    assert marks == ["open", "attached", "end"] * 2
