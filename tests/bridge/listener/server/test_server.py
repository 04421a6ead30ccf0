"""The listener on real sockets: what clients do to it, by mistake or on purpose.

The clock stands still: a test waits until nothing more happens, and moves it where the listener
waits.
"""

import errno
import json
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import h11
import pytest
import trio
from attrs import define, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Count, ListenSettings, TcpAddress
from bridge.listener.api.request import BODY_S, GATHER_MAX_S
from bridge.listener.auth import BODY_WAIT_S, TokenAuth
from bridge.listener.listener import make_app
from bridge.listener.server.binding import bound
from bridge.listener.server.connection import HEAD_S, IDLE_S
from bridge.listener.server.server import FILES_KEPT, FULL_PAUSE_S, YOUNG_S, Server, within_files
from bridge.listener.server.stream import LINGER_S, WRITE_S
from tests.bridge.leak import nothing_left
from tests.bridge.listener.api.test_stanza import MESSAGE, PING
from tests.bridge.listener.conftest import TOKENS, bearer
from tests.bridge.listener.fake_sender import BOT, FakeSender
from tests.bridge.listener.server.client import Client, get
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
MAX_CONNECTIONS: Final = 4
MAX_BODY_BYTES: Final = 50_000
BIG: Final = 40 * 1024 * 1024
CONTENT: Final = json.dumps(MESSAGE).encode()
AUTH: Final = f"Authorization: {bearer('all')['Authorization']}\r\n"


def request(
    path: str = "/v1/stanzas",
    body: bytes = CONTENT,
    media: str = "application/json",
    more: str = AUTH,
    length: int | None = None,
) -> bytes:
    """Give the bytes of a POST."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {size}\r\n{more}\r\n".encode() + body


@define
class World:
    """A listener, and who comes to it."""

    nursery: trio.Nursery
    clock: MockClock
    log: Recorder
    sender: FakeSender
    server: Server
    port: int
    stopping: trio.Event
    running: trio.CancelScope
    clients: list[Client] = field(factory=list)

    async def connect(self) -> Client:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.clients.append(Client(stream))
        await wait_all_tasks_blocked(0.01)
        return self.clients[-1]

    async def settle(self) -> None:
        await wait_all_tasks_blocked(0.01)

    async def pass_s(self, seconds: float) -> None:
        await self.settle()
        self.clock.jump(seconds)
        await self.settle()


async def big(_: Request) -> Response:
    return Response(b"x" * BIG)


async def whence(request: Request) -> Response:
    return Response("nowhere" if request.client is None else request.client.host)


async def faulty(_: Request) -> Response:
    return Response(b"too little", headers={"Content-Length": "1000"})


@pytest.fixture
async def world(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder
) -> AsyncIterator[World]:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    sender, stopping = FakeSender(), trio.Event()
    place = TcpAddress("127.0.0.1", 0)
    listen = ListenSettings(place, TOKENS, None, Count(MAX_BODY_BYTES))
    watching = [Route("/big", big), Route("/faulty", faulty), Route("/whence", whence)]
    app = make_app(sender, TokenAuth(TOKENS), listen, watching=watching, at_once=100, bodies=2)
    server = Server(app, MAX_CONNECTIONS)
    running = trio.CancelScope()

    with bound(place) as listening:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with running:
                await server.run(listening, stopping, task_status=task_status)

        await nursery.start(run)
        port = listening.getsockname()[1]
        one = World(nursery, mock_clock, log, sender, server, port, stopping, running)
        yield one
        running.cancel()
        for client in one.clients:
            await trio.aclose_forcefully(client.stream)
        await wait_all_tasks_blocked(0.01)
        assert server.connections == 0


# --- requests


async def test_many_requests_on_one_connection(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    for number in range(1, 4):
        await client.send(request())
        answer = await client.receive()
        assert answer.status == 202
        assert json.loads(answer.body)["uid"] == f"msg_{number}"
        assert "server" not in answer.headers
    assert not await client.is_closed()


async def test_requests_that_are_not_waited_for(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(request() + get("/v1/openapi.json") + request() + get("/nowhere"))
    assert [(await client.receive()).status for _ in range(4)] == [202, 200, 202, 404]


async def test_a_request_in_single_bytes(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    for byte in request():
        await client.send(bytes([byte]))
        await world.settle()
    await world.pass_s(2 * GATHER_MAX_S)  # after some single bytes it gathers them
    assert (await client.receive()).status == 202


async def test_a_chunked_body(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    more = f"{AUTH}Transfer-Encoding: chunked\r\n"
    head = request(body=b"", more=more).replace(b"Content-Length: 0\r\n", b"")
    await client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT))
    assert (await client.receive()).status == 202


async def test_a_client_that_waits_until_its_body_is_wanted(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect()
    await client.send(
        request(body=b"", length=len(CONTENT), more=f"{AUTH}Expect: 100-continue\r\n")
    )
    assert (await client.receive()).status == 100
    await client.send(CONTENT)
    assert (await client.receive()).status == 202


async def test_a_client_that_closes_after_its_request(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(request(more=f"{AUTH}Connection: close\r\n"))
    answer = await client.receive()
    assert (answer.status, answer.headers["connection"]) == (202, "close")
    assert await client.is_closed()


async def test_a_request_has_the_address_of_its_client(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    for _ in range(2):  # X-Forwarded-For is not trusted
        await client.send(get("/whence", "X-Forwarded-For: 192.0.2.1\r\n"))
        assert (await client.receive()).body == b"127.0.0.1"


# --- refusals by the protocol


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"POST /rest HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /rest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000, 431),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_request(
    world: World, mock_clock: MockClock, data: bytes, status: int
) -> None:
    client = await world.connect()
    await client.send(data)
    answer = await client.receive()
    assert answer.status == status
    assert answer.problem["title"]
    assert answer.headers["connection"] == "close"
    await world.pass_s(LINGER_S)
    assert await client.is_closed()
    assert world.server.connections == 0
    assert not world.log.told


async def test_a_body_that_is_malformed(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    more = f"{AUTH}Transfer-Encoding: chunked\r\n"
    head = request(body=b"", more=more).replace(b"Content-Length: 0\r\n", b"")
    await client.send(head + b"not a length\r\n")
    assert (await client.receive()).problem["status"] == 400
    await world.pass_s(LINGER_S)
    assert await client.is_closed()
    assert not world.sender.sent


async def flood(client: Client, data: bytes, limit: int) -> int:
    """Send the same again and again until the listener has enough, and give how much that was."""
    sent = 0
    with suppress(trio.BrokenResourceError):
        while sent < limit:
            await client.send(data)
            sent += len(data)
            await trio.lowlevel.checkpoint()
    return sent


async def test_headers_without_end(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
    assert await flood(client, b"X: y\r\n" * 1000, 10**8) < 5 * 10**7
    await world.settle()
    assert world.server.connections == 0


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_head_has_no_body(world: World, mock_clock: MockClock, method: str) -> None:
    client = await world.connect()
    await client.send(f"{method} /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await client.receive(has_body=method == "GET")).status == 404
    await client.send(get("/v1/openapi.json"))
    assert (await client.receive()).status == 200


@pytest.mark.parametrize(
    "more",
    [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ],
    ids=["h2c", "websocket"],
)
async def test_nothing_is_upgraded(world: World, mock_clock: MockClock, more: str) -> None:
    client = await world.connect()
    await client.send(get("/v1/openapi.json", more))
    assert (await client.receive()).status == 200


async def test_http2_is_not_spoken(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    assert (await client.receive()).problem["status"] == 505
    await world.pass_s(LINGER_S)
    assert await client.is_closed()


# --- time


@pytest.mark.parametrize("begun", [b"", b"POST /v1/stanzas HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come(world: World, mock_clock: MockClock, begun: bytes) -> None:
    client = await world.connect()
    if begun:
        await client.send(begun)
    await world.pass_s(HEAD_S - 0.1)
    assert not await client.is_closed()
    await world.pass_s(0.2)
    assert await client.is_closed()
    assert world.server.connections == 0


async def test_a_head_that_comes_byte_by_byte(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(request())
    await client.receive()
    await world.pass_s(IDLE_S - 1)  # idle for long, then a head that takes its time
    for byte in b"GET / HT":
        await client.send(bytes([byte]))
        await world.pass_s(HEAD_S / 10)
    assert not await client.is_closed()
    await client.send(b"TP/1.1\r\n")
    await world.pass_s(HEAD_S * 0.3)
    assert await client.is_closed()


async def test_a_client_that_is_idle_between_requests(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(request())
    await client.receive()
    await world.pass_s(IDLE_S - 0.1)
    assert not await client.is_closed()
    await client.send(request())
    assert (await client.receive()).status == 202
    await world.pass_s(IDLE_S + 0.1)
    assert await client.is_closed()


async def test_slow_bodies_of_one_token_wait_for_each_other_and_for_nobody_else(
    world: World, mock_clock: MockClock
) -> None:
    slow = [await world.connect() for _ in range(3)]
    for client in slow:
        await client.send(request(body=CONTENT[:5], length=len(CONTENT)))
        await world.settle()
    quick = await world.connect()
    other = f"Authorization: {bearer('one')['Authorization']}\r\n"
    await quick.send(request(body=CONTENT[:5], length=len(CONTENT), more=other))
    await world.settle()
    await quick.send(CONTENT[5:])
    assert (await quick.receive()).status == 202  # in pieces, too, but with another token
    await quick.send(request())
    assert (await quick.receive()).status == 202  # of the same token, but in one piece
    await world.pass_s(BODY_WAIT_S + 0.1)
    answer = await slow[2].receive()
    assert (answer.problem["status"], answer.headers["retry-after"]) == (429, "10")
    for client in slow[:2]:
        await client.send(CONTENT[5:])
        assert (await client.receive()).status == 202
    await world.pass_s(LINGER_S)


async def test_a_body_that_comes_too_slowly(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(request(body=b"", length=len(CONTENT)))
    for byte in CONTENT[:10]:
        await client.send(bytes([byte]))
        await world.pass_s(BODY_S / 11)
    await world.pass_s(BODY_S / 10)
    assert (await client.receive()).problem["status"] == 408
    await world.pass_s(LINGER_S)
    assert await client.is_closed()


async def test_a_request_that_takes_long_is_not_cut_off(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect()
    await client.send(request(body=PING.encode(), media="application/xmpp+xml"))
    await world.pass_s(3 * IDLE_S)
    assert not await client.is_closed()
    assert len(world.sender.asked) == 1


async def test_a_client_that_never_reads(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(get("/big"))
    await world.pass_s(WRITE_S - 1)
    assert world.server.connections == 1
    await world.pass_s(1.1)
    assert world.server.connections == 0
    assert not world.log.told


async def test_a_client_that_leaves_takes_its_question_back(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect()
    await client.send(request(body=PING.encode(), media="application/xmpp+xml"))
    await world.settle()
    assert (len(world.sender.asked), world.sender.taken_back) == (1, 0)
    await client.stream.aclose()
    await world.settle()
    assert world.sender.taken_back == 1
    assert world.server.connections == 0
    assert world.log.of("http request")[0]["status"] in (0, 499)


async def test_a_client_that_leaves_within_a_body(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    await client.send(request(body=b"{", length=100))
    await world.settle()
    await client.stream.aclose()
    await world.settle()
    assert world.server.connections == 0
    assert not world.log.told


# --- size


@pytest.mark.parametrize("more", [AUTH, ""], ids=["413", "401"])
async def test_a_body_that_nobody_wants(world: World, mock_clock: MockClock, more: str) -> None:
    """The answer gets through, though the client goes on sending, and nothing is left waiting."""
    client = await world.connect()
    await client.send(request(body=b"x" * 200_000, length=10**8, more=more))
    assert (await client.receive()).problem["status"] == (413 if more else 401)
    await world.pass_s(LINGER_S)
    assert await client.is_closed()
    assert world.server.connections == 0


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 400), (MAX_BODY_BYTES + 1, 413)])
async def test_the_size_of_a_chunked_body(
    world: World, mock_clock: MockClock, size: int, status: int
) -> None:
    client = await world.connect()
    more = f"{AUTH}Transfer-Encoding: chunked\r\n"
    head = request(body=b"", more=more).replace(b"Content-Length: 0\r\n", b"")
    await client.send(head)
    for start in range(0, size, 20_000):
        chunk = b"x" * min(20_000, size - start)
        await client.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    await client.send(b"0\r\n\r\n")
    assert (await client.receive()).problem["status"] == status


async def test_a_body_without_end(world: World, mock_clock: MockClock) -> None:
    client = await world.connect()
    more = f"{AUTH}Transfer-Encoding: chunked\r\n"
    head = request(body=b"", more=more).replace(b"Content-Length: 0\r\n", b"")
    await client.send(head)
    chunk = b"%x\r\n%b\r\n" % (10_000, b" " * 10_000)
    assert await flood(client, chunk, 10**8) < 5 * 10**7
    await world.settle()
    assert world.server.connections == 0


# --- many


async def test_over_the_bound_who_was_idle_for_longest_goes(
    world: World, mock_clock: MockClock
) -> None:
    clients = [await world.connect() for _ in range(MAX_CONNECTIONS)]
    await clients[0].send(request())  # now the second is idle for longest
    assert (await clients[0].receive()).status == 202
    await world.pass_s(YOUNG_S)
    newest = await world.connect()
    assert [await one.is_closed() for one in clients] == [False, True, False, False]
    assert world.server.connections == MAX_CONNECTIONS
    await newest.send(request())
    assert (await newest.receive()).status == 202
    assert not world.log.told


async def test_over_the_bound_of_those_at_work_the_new_one_goes(
    world: World, mock_clock: MockClock
) -> None:
    asking = request(body=PING.encode(), media="application/xmpp+xml")
    clients = [await world.connect() for _ in range(MAX_CONNECTIONS)]
    for client in clients:
        await client.send(asking)
    await world.settle()
    newest = await world.connect()
    assert await newest.is_closed()
    assert [await one.is_closed() for one in clients] == [False] * MAX_CONNECTIONS
    assert len(world.log.of("too many connections: a new one is closed")) == 1
    await clients[2].stream.aclose()
    await world.settle()
    later = await world.connect()
    assert not await later.is_closed()


async def test_over_the_bound_of_those_who_have_just_come_the_new_one_goes(
    world: World, mock_clock: MockClock
) -> None:
    clients = [await world.connect() for _ in range(MAX_CONNECTIONS)]
    await world.pass_s(YOUNG_S - 0.1)
    newest = await world.connect()
    assert await newest.is_closed()
    assert [await one.is_closed() for one in clients] == [False] * MAX_CONNECTIONS


async def test_far_more_than_the_bound(world: World, mock_clock: MockClock) -> None:
    clients = []
    for _ in range(10):
        clients += [await world.connect() for _ in range(MAX_CONNECTIONS)]
        await world.pass_s(YOUNG_S)
    closed = [await one.is_closed() for one in clients]
    assert closed.count(False) == MAX_CONNECTIONS
    assert not any(closed[-MAX_CONNECTIONS:])


async def test_who_is_turned_away_makes_the_next_one_wait(
    world: World, mock_clock: MockClock
) -> None:
    for _ in range(MAX_CONNECTIONS + 3):
        await world.connect()
    event = "too many connections: a new one is closed"
    assert len(world.log.of(event)) == 1
    await world.pass_s(FULL_PAUSE_S)
    assert len(world.log.of(event)) == 2


async def test_no_more_files(
    world: World, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def accept(_: trio.SocketListener) -> trio.SocketStream:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(trio.SocketListener, "accept", accept)
        await world.connect()  # this one is accepted yet
        await world.pass_s(FULL_PAUSE_S)
    assert world.log.of("no more connections can be accepted")[0]["why"] == "Too many open files"
    await world.pass_s(FULL_PAUSE_S)
    client = await world.connect()
    await client.send(request())
    assert (await client.receive()).status == 202


def test_open_files_bound_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for soft, expected in ((1024, 512), (512, 256), (100, 1), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert within_files(512) == expected
    assert FILES_KEPT == 256


def test_fewer_connections_than_configured_are_told(
    log: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    Server(lambda *_: None, 512)  # type: ignore[arg-type]
    (line,) = log.told
    assert (line["level"], line["accepted"], line["max_connections"]) == ("warning", 44, 512)


# --- the end


async def test_stopping_lets_the_idle_go_and_answers_the_others(
    world: World, mock_clock: MockClock
) -> None:
    idle, waiting = await world.connect(), await world.connect()
    world.sender.hold = trio.Event()
    await waiting.send(request())
    await world.settle()
    world.stopping.set()
    assert await idle.is_closed()
    assert not await waiting.is_closed()
    world.sender.hold.set()
    answer = await waiting.receive()
    assert answer.status == 202
    await world.pass_s(LINGER_S)
    assert await waiting.is_closed()
    assert world.server.connections == 0


async def test_cancelling_waits_for_nobody(world: World, mock_clock: MockClock) -> None:
    reader, iq_client, body, idle = [await world.connect() for _ in range(4)]
    await reader.send(get("/big"))
    await iq_client.send(request(body=PING.encode(), media="application/xmpp+xml"))
    await body.send(request(body=b"{", length=100))
    await world.settle()
    start = trio.current_time()
    world.running.cancel()
    await world.settle()
    assert trio.current_time() == start
    assert world.server.connections == 0
    assert await iq_client.is_closed()
    assert await body.is_closed()
    assert await idle.is_closed()


# --- faults of our own


async def test_a_fault_of_the_application_costs_its_connection_only(
    world: World, mock_clock: MockClock
) -> None:
    other = await world.connect()
    client = await world.connect()
    world.sender.fault = RuntimeError("broken")
    await client.send(request())
    answer = await client.receive()
    assert (answer.problem["status"], answer.headers["connection"]) == (500, "close")
    await world.settle()
    assert len(world.log.of("a connection of the listener failed")) == 1
    world.sender.fault = None
    await other.send(request())
    assert (await other.receive()).status == 202


async def test_a_response_that_is_malformed_costs_its_connection_only(
    world: World, mock_clock: MockClock
) -> None:
    client = await world.connect()
    await client.send(get("/faulty"))
    await world.settle()
    assert len(world.log.of("a connection of the listener failed")) == 1
    other = await world.connect()
    await other.send(request())
    assert (await other.receive()).status == 202


async def test_a_fault_of_a_connection_costs_that_only(
    world: World, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: h11.Connection) -> None:
        raise AssertionError("of h11")

    with monkeypatch.context() as patch:
        patch.setattr(h11.Connection, "next_event", fail)
        client = await world.connect()
        assert (await client.receive()).problem["status"] == 500
    assert len(world.log.of("a connection of the listener failed")) == 1
    client = await world.connect()
    await client.send(request())
    assert (await client.receive()).status == 202


async def test_an_answer_gets_through_a_real_connection(
    world: World, mock_clock: MockClock
) -> None:
    world.sender.answer = stanza(f"<iq type='result' from='a' to='{BOT}' id='p1'/>")
    client = await world.connect()
    await client.send(get(f"/v1/ping/a?from={BOT}", AUTH))
    answer = await client.receive()
    assert (answer.status, json.loads(answer.body)["jid"]) == (200, "a")
    assert math.isclose(json.loads(answer.body)["seconds"], 0)
