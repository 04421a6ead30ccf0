"""What a client can make the server hold, and for how long, below the application of the bridge.

The application is the tests' own: it reads, answers and waits as a path says.
"""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, field
from starlette.types import Message, Receive, Scope, Send
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import TcpAddress, UnixAddress
from bridge.listener.server.binding import bound
from bridge.listener.server.connection import HEAD_S, IDLE_S
from bridge.listener.server.exchange import CHUNKS_AT_ONCE
from bridge.listener.server.server import Server
from bridge.listener.server.stream import LINGER_S, WRITE_S
from tests.bridge.leak import nothing_left
from tests.bridge.listener.server.client import Client, get
from tests.bridge.recorder import Recorder

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
BUFFER: Final = 64 * 1024
"""What the kernel is asked to hold of a connection, each way; it doubles that."""
PIECE: Final = 1024 * 1024
"""More than it holds."""
PIECES: Final = 3
HELD_LIMIT: Final = 8 * BUFFER
"""What the kernel and the server may hold of a client that is not read from."""


def post(path: str, body: bytes = b"", more: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{more}\r\n"
    return head.encode() + body


def chunked(path: str, *chunks: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)


async def respond(
    send: Send,
    *pieces: bytes,
    status: int = 200,
    headers: list[tuple[bytes, bytes]] | None = None,
    has_length: bool = True,
) -> None:
    """Send a response; each piece is a message of its own."""
    lines = list(headers or ())
    if has_length:
        lines.append((b"content-length", b"%d" % sum(map(len, pieces))))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


@define
class App:
    """An ASGI application; `received` are the messages it got, `paths` of which requests."""

    paths: list[str] = field(factory=list)
    received: list[Message] = field(factory=list)
    left: list[str] = field(factory=list)
    hold: trio.Event = field(factory=trio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        self.paths.append(path)
        handlers: dict[str, Callable[[], Awaitable[None]]] = {
            "echo": lambda: self._echo(receive, send),
            "wait": lambda: self._wait(path, receive, send),
            "hold": lambda: self._hold(send),
            "pieces": lambda: respond(send, *[b"x" * PIECE] * PIECES),
            "stream": lambda: respond(send, b"one", b"two", has_length=False),
            "split": lambda: respond(send, b"x", headers=[(b"x-split", b"a\r\nb: c")]),
            "scope": lambda: respond(send, _told(scope)),
            "nothing": trio.lowlevel.checkpoint,
            "raise": _fail,
            "begin": lambda: _begin(send),
            "cancel": lambda: _cancel(send),
            "question": lambda: send({"type": "websocket.accept"}),
        }
        await handlers.get(path.split("/")[1], lambda: respond(send, path.encode()))()

    async def _read(self, receive: Receive) -> bytes:
        body = b""
        while True:
            message = await receive()
            self.received.append(message)
            if message["type"] == "http.disconnect":
                raise trio.BrokenResourceError
            body += bytes(message["body"])
            if not message["more_body"]:
                return body

    async def _echo(self, receive: Receive, send: Send) -> None:
        try:
            body = await self._read(receive)
        except trio.BrokenResourceError:
            return
        await respond(send, body)

    async def _wait(self, path: str, receive: Receive, send: Send) -> None:
        """Wait until the client leaves, or for `hold`."""
        await self._read(receive)
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                assert await receive() == {"type": "http.disconnect"}
                self.left.append(path)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self.hold.wait()
            nursery.cancel_scope.cancel()
        await respond(send, path.encode())

    async def _hold(self, send: Send) -> None:
        """Answer at `hold`, and never read the body."""
        await self.hold.wait()
        await respond(send, b"held")


async def _fail() -> None:
    raise RuntimeError("of the application")


async def _begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await _fail()


async def _cancel(send: Send) -> None:
    """Lose patience with a client that does not read."""
    with trio.move_on_after(1):
        await respond(send, b"x" * PIECE)


def _told(scope: Scope) -> bytes:
    """Give what a scope says, as JSON."""
    told = {name: scope[name] for name in ("type", "http_version", "method", "scheme", "path")}
    told |= {name: scope[name].decode() for name in ("raw_path", "query_string")}
    told["headers"] = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    return json.dumps(told).encode()


def set_buffers(one: socket.socket | trio.socket.SocketType) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


@define
class World:
    """A server, its application, and who comes to it."""

    clock: MockClock
    app: App
    server: Server
    address: Any
    stopping: trio.Event
    clients: list[Client] = field(factory=list)

    async def connect(self, data: bytes = b"") -> Client:
        if isinstance(self.address, str):
            stream: trio.SocketStream = await trio.open_unix_socket(self.address)
        else:
            stream = await trio.open_tcp_stream(*self.address)
            set_buffers(stream.socket)
        self.clients.append(Client(stream))
        if data:
            await stream.send_all(data)
        await self.settle()
        return self.clients[-1]

    async def settle(self) -> None:
        await wait_all_tasks_blocked(0.01)

    async def pass_s(self, seconds: float) -> None:
        await self.settle()
        self.clock.jump(seconds)
        await self.settle()


@pytest.fixture
def place() -> TcpAddress | UnixAddress:
    return TcpAddress("127.0.0.1", 0)


@pytest.fixture
async def world(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder, place: TcpAddress | UnixAddress
) -> AsyncIterator[World]:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    app, stopping, running = App(), trio.Event(), trio.CancelScope()
    server = Server(app, 100)
    with bound(place) as listening:
        set_buffers(listening)  # those it accepts inherit them

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with running:
                await server.run(listening, stopping, task_status=task_status)

        await nursery.start(run)
        one = World(mock_clock, app, server, listening.getsockname(), stopping)
        yield one
        running.cancel()
        for client in one.clients:
            await trio.aclose_forcefully(client.stream)
        await wait_all_tasks_blocked(0.01)
        assert server.connections == 0


async def pushed(world: World, client: Client, data: bytes) -> int:
    """Send the same again and again until nothing more gets in, and give how much did."""
    sent = 0

    async def push() -> None:
        nonlocal sent
        while sent < 4 * HELD_LIMIT:
            await client.send(data)
            sent += len(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await world.settle()
        nursery.cancel_scope.cancel()
    return sent


# --- the head


@pytest.mark.parametrize(("size", "status"), [(16_000, 200), (17_000, 431)])
async def test_the_size_of_a_head(
    world: World, mock_clock: MockClock, size: int, status: int
) -> None:
    client = await world.connect()
    data = get("/x", f"X-Long: {'y' * size}\r\n")
    for start in range(0, len(data), 1000):  # as a network brings it
        await client.send(data[start : start + 1000])
        await world.settle()
    assert (await client.receive()).status == status
    assert world.app.paths == ["/x"] * (status == 200)


async def test_the_time_of_a_later_head_begins_with_its_first_byte(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/x"))
    assert (await client.receive()).status == 200
    await world.pass_s(IDLE_S - 1)
    await client.send(b"GET /y HT")
    await world.pass_s(HEAD_S - 1)
    assert not await client.is_closed()
    await client.send(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.receive()).body == b"/y"
    await world.settle()
    await client.send(b"GET /z HT")
    await world.pass_s(HEAD_S + 1)
    assert await client.is_closed()
    assert world.server.connections == 0


async def test_the_time_of_a_head_that_has_begun_before_the_response_ended(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/hold") + b"GET /z HT")
    await world.pass_s(2 * HEAD_S)
    world.app.hold.set()
    assert (await client.receive()).body == b"held"
    await world.pass_s(HEAD_S + 1)
    assert await client.is_closed()


# --- the body


@pytest.mark.parametrize(
    ("lines", "version", "status"),
    [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "1.1", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 8\r\n", "1.1", 400),
        ("Transfer-Encoding: chunked\r\n", "1.0", 400),
        ("Transfer-Encoding: gzip\r\n", "1.1", 501),
        ("Transfer-Encoding: gzip, chunked\r\n", "1.1", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "1.1", 501),
        ("Content-Length: 3, 4\r\n", "1.1", 400),
        ("Content-Length: -3\r\n", "1.1", 400),
    ],
)
async def test_a_body_whose_length_is_in_doubt(
    world: World, mock_clock: MockClock, lines: str, version: str, status: int
) -> None:
    """RFC 9112 §6.1: what follows could be taken for a request, so the connection ends."""
    head = f"POST /echo HTTP/{version}\r\nHost: x\r\n{lines}\r\n"
    client = await world.connect(head.encode() + b"0\r\n\r\n" + get("/x"))
    answer = await client.receive()
    assert answer.problem["status"] == status
    assert answer.headers["connection"] == "close"
    assert await client.receive_rest() == b""
    assert not world.app.paths


@pytest.mark.parametrize("path", ["/%ff", "/x", "/echo"])
async def test_a_malformed_body_is_refused_if_nothing_else_was_answered(
    world: World, mock_clock: MockClock, path: str
) -> None:
    client = await world.connect(chunked(path) + b"not a length\r\n" + get("/y"))
    answer = await client.receive()
    assert (answer.status, answer.headers["connection"]) == (200 if path == "/x" else 400, "close")
    assert await client.receive_rest() == b""
    assert "/y" not in world.app.paths


async def test_100_continue_is_not_said_where_the_body_is_not_wanted(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(post("/x", more="Expect: 100-continue\r\n", length=3))
    answer = await client.receive()
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_a_body_that_is_not_read(world: World, mock_clock: MockClock) -> None:
    """The connection goes on if the body was there with its head, and ends otherwise."""
    client = await world.connect(post("/x", b"abc"))
    assert "connection" not in (await client.receive()).headers
    await client.send(post("/x", b"ab", length=3))
    assert (await client.receive()).headers["connection"] == "close"
    assert await client.receive_rest() == b""


async def test_many_small_chunks(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(chunked("/echo", *[b"x"] * 5000, b""))
    assert (await client.receive()).body == b"x" * 5000
    sizes = [len(message["body"]) for message in world.app.received]
    assert max(sizes) <= CHUNKS_AT_ONCE  # others had their turn


async def test_a_body_waits_in_the_socket_until_it_is_wanted(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(chunked("/hold"))
    chunk = b"1000\r\n" + bytes(0x1000) + b"\r\n"
    assert await pushed(world, client, chunk) < HELD_LIMIT


async def test_a_body_in_pieces(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(chunked("/echo", b"one"))
    await client.send(b"5\r\n two")
    await world.settle()
    await client.send(b" \r\n0\r\nX-Trailer: x\r\n\r\n")
    assert (await client.receive()).body == b"one two "
    assert world.app.received[-1]["more_body"] is False


async def test_a_body_after_100_continue(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(post("/echo", more="Expect: 100-continue\r\n", length=3))
    assert (await client.receive()).status == 100
    await client.send(b"abc")
    assert (await client.receive()).body == b"abc"


# --- requests in a row


async def test_pipelined_requests_are_answered_in_their_order(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(
        post("/hold", b"abc") + get("/1") + post("/echo", b"2") + get("/3")
    )
    assert world.app.paths == ["/hold"]  # one at a time
    world.app.hold.set()
    assert [(await client.receive()).body for _ in range(4)] == [b"held", b"/1", b"2", b"/3"]


@pytest.mark.parametrize("path", ["/hold", "/wait"])
async def test_pipelined_requests_without_end(
    world: World, mock_clock: MockClock, path: str
) -> None:
    client = await world.connect(get(path))
    assert await pushed(world, client, get("/x") * 100) < HELD_LIMIT
    assert world.app.paths == [path]


async def test_pipelined_requests_of_a_client_that_never_reads(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect()
    assert await pushed(world, client, get("/" + 1000 * "x") * 10) < HELD_LIMIT
    count = -1
    while count != len(world.app.paths):  # on a busy machine the socket hands on with a delay
        count = len(world.app.paths)
        for _ in range(20):
            await world.settle()
    await world.pass_s(WRITE_S)
    assert world.server.connections == 0
    assert len(world.app.paths) == count  # the others would be answered to nobody


async def test_pipelined_requests_of_a_client_that_has_left(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/pieces") + get("/x") * 10)
    await client.stream.aclose()
    await world.settle()
    assert world.server.connections == 0
    assert world.app.paths == ["/pieces"]


async def test_http_1_0_has_one_request_for_each_connection(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(b"GET /stream HTTP/1.0\r\n\r\n")
    head, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert body == b"onetwo"
    await world.pass_s(LINGER_S)
    assert world.server.connections == 0


# --- responses


async def test_a_response_of_unknown_length(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(get("/stream", "Connection: close\r\n"))
    head, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked" in head.lower()
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("path", ["/stream", "/x"])
async def test_a_response_to_head(world: World, mock_clock: MockClock, path: str) -> None:
    head = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    client = await world.connect(head)
    assert (await client.receive(has_body=False)).status == 200
    assert await client.receive_rest() == b""


async def test_a_slow_reader_has_so_long_for_each_piece(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/pieces", "Connection: close\r\n"))
    for _ in range(PIECES):
        await world.pass_s(WRITE_S - 1)
        assert world.server.connections == 1
        left = PIECE
        while left > 0:
            left -= len(await client.stream.receive_some(left))
    assert b"xx" in await client.receive_rest()


async def test_a_reader_that_is_too_slow_for_a_piece(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(get("/pieces"))
    await world.pass_s(WRITE_S + 1)
    assert world.server.connections == 0
    assert len(await client.receive_rest()) < PIECE


async def test_a_header_that_would_be_two(
    world: World, mock_clock: MockClock, log: Recorder
) -> None:
    client = await world.connect(get("/split"))
    assert b"b: c" not in await client.receive_rest()
    assert len(log.of("a connection of the listener failed")) == 1


@pytest.mark.parametrize("path", ["/nothing", "/raise", "/question"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fault_of_the_application_is_answered(
    world: World, mock_clock: MockClock, log: Recorder, path: str, method: str
) -> None:
    client = await world.connect(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await client.receive(has_body=method == "GET")
    assert (answer.status, answer.headers["connection"]) == (500, "close")
    assert await client.receive_rest() == b""
    assert len(log.of("a connection of the listener failed")) == 1
    assert len(log.told) == 1


async def test_a_fault_within_a_response_cuts_it_off(
    world: World, mock_clock: MockClock, log: Recorder
) -> None:
    client = await world.connect(get("/begin"))
    assert (await client.receive_rest()).endswith(b"\r\n\r\n5\r\nbegun\r\n")
    assert len(log.of("a connection of the listener failed")) == 1
    assert world.server.connections == 0


async def test_nothing_follows_a_piece_whose_sending_was_cancelled(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/cancel") + get("/x"))
    await world.pass_s(1)
    assert world.server.connections == 0
    assert (await client.receive_rest()).endswith(b"xx")
    assert world.app.paths == ["/cancel"]


# --- what the application is told


async def test_the_scope(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(get("/scope/%C3%A9%2F?a=b%20c&d", "X-Name: \xe9\r\n"))
    assert json.loads((await client.receive()).body) == {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/scope/\xe9/",
        "raw_path": "/scope/%C3%A9%2F",
        "query_string": "a=b%20c&d",
        "headers": [["host", "x"], ["x-name", "\xc3\xa9"]],
    }


@pytest.mark.parametrize(
    "request_",
    [
        get("/wait"),
        post("/wait", b"abc"),
        chunked("/wait", b""),
        get("/wait") + get("/x") * 10,  # also if it has not waited for this response
    ],
)
async def test_a_client_that_leaves_while_it_waits(
    world: World, mock_clock: MockClock, request_: bytes
) -> None:
    client = await world.connect(request_)
    assert not world.app.left
    await client.stream.aclose()
    await world.settle()
    assert world.app.left == ["/wait"]
    assert world.server.connections == 0


async def test_a_client_that_leaves_within_its_body(
    world: World, mock_clock: MockClock, log: Recorder
) -> None:
    client = await world.connect(post("/echo", b"abc", length=10))
    await client.stream.aclose()
    await world.settle()
    assert world.app.received[-1] == {"type": "http.disconnect"}
    assert world.server.connections == 0
    assert not log.told


async def test_a_client_that_stays_is_answered(world: World, mock_clock: MockClock) -> None:
    client = await world.connect(post("/wait", b"abc"))
    world.app.hold.set()
    assert (await client.receive()).body == b"/wait"
    assert not world.app.left


# --- the end


async def test_at_the_end_nobody_new_gets_in(world: World, mock_clock: MockClock) -> None:
    world.stopping.set()
    await world.settle()
    await world.connect(get("/x"))
    assert world.server.connections == 0
    assert not world.app.paths


async def test_at_the_end_no_further_request_of_a_connection_is_served(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/hold") + get("/x"))
    world.stopping.set()
    await world.settle()
    world.app.hold.set()
    answer = await client.receive()
    assert (answer.body, answer.headers["connection"]) == (b"held", "close")
    await world.pass_s(LINGER_S)
    assert await client.is_closed()
    assert world.app.paths == ["/hold"]
    assert world.server.connections == 0


async def test_at_the_end_a_response_that_has_begun_is_sent(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect(get("/pieces") + get("/x"))
    world.stopping.set()
    await world.settle()
    assert len((await client.receive()).body) == PIECES * PIECE
    assert await client.receive_rest() == b""
    assert world.app.paths == ["/pieces"]


class TestUnixSocket:
    @pytest.fixture
    def place(self, tmp_path: Path) -> UnixAddress:
        return UnixAddress(str(tmp_path / "http.sock"))

    async def test_requests(self, world: World, mock_clock: MockClock) -> None:
        client = await world.connect(post("/echo", b"abc") + get("/x"))
        assert [(await client.receive()).body for _ in range(2)] == [b"abc", b"/x"]
