"""The pool against servers of ours on loopback: what is kept, what is repeated, what is closed.

The clock is a mock: it moves only where a test says so, and never by itself.
"""

import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.httpclient.pool import Origin, Pool, PoolLimits, Timeouts
from bridge.httpclient.response import Response, ResponseLimits
from tests.bridge.http_server import (
    HOST,
    Exchange,
    HttpServer,
    closing_after,
    listen,
    reset,
    response,
    saying,
)
from tests.bridge.leak import nothing_left, until

pytestmark = pytest.mark.usefixtures("nothing_left", "mock_clock")
__all__ = ["nothing_left"]

CONTEXT = ssl.create_default_context()
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
HELLO = response(content=b"hello")
BIG = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n" + bytes(16_000_000)


def make_pool(max_connections: int = 4, keepalive_s: float = 30.0) -> Pool:
    limits = PoolLimits(max_connections, keepalive_s)
    return Pool(CONTEXT, limits, ResponseLimits(max_body_bytes=1000))


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = make_pool()
    yield pool
    pool.close()
    assert pool.open_count == pool.idle_count == 0


async def post(
    pool: Pool, port: int, data: bytes = POST, timeouts: Timeouts | None = None
) -> Response:
    origin = Origin("http", HOST, port)
    return await pool.exchange(origin, "POST", data, timeouts or Timeouts())


# --- kept, or not


async def test_reused(pool: Pool, nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    for _ in range(3):
        answer = await post(pool, server.port)
        assert (answer.status, answer.body) == (200, b"hello")
    assert len(server.requests) == 3
    assert server.requests[0].content == b"hi"
    assert (server.connections, pool.open_count, pool.idle_count) == (1, 1, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
        HELLO + HELLO,
    ],
)
async def test_not_kept(pool: Pool, nursery: trio.Nursery, data: bytes) -> None:
    server = await HttpServer.start(nursery, saying(data))
    for _ in range(2):
        assert (await post(pool, server.port)).body == b"hello"
        assert (pool.open_count, pool.idle_count) == (0, 0)
    assert server.connections == 2
    await server.wait_closed()


async def test_until_close(pool: Pool, nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, closing_after(b"HTTP/1.1 200 OK\r\n\r\nhello"))
    assert (await post(pool, server.port)).body == b"hello"
    assert pool.open_count == 0


async def test_body_over_the_limit_closes(pool: Pool, nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(response("503 Busy", bytes(1_000_000))))
    answer = await post(pool, server.port)
    assert (answer.status, answer.body) == (503, None)
    assert pool.open_count == 0
    await server.wait_closed()


@pytest.mark.parametrize(("idle_s", "connections"), [(29.9, 1), (30.1, 2)])
async def test_expiry(
    pool: Pool,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    idle_s: float,
    connections: int,
) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    await post(pool, server.port)
    mock_clock.jump(idle_s)
    await post(pool, server.port)
    assert (server.connections, pool.open_count) == (connections, 1)


@pytest.mark.parametrize(
    ("said", "idle_s", "connections"),
    [
        ("timeout=5, max=100", 3.9, 1),
        ("timeout=5, max=100", 4.1, 2),
        ("max=3, Timeout = 5", 4.1, 2),
        ("timeout=1", 0.0, 2),
        ("timeout=0", 0.0, 2),
        ("timeout=500", 29.9, 1),
        ("timeout=500", 30.1, 2),
        ("timeout=-5", 29.9, 1),
        ("timeout=soon", 29.9, 1),
        ("timeout", 29.9, 1),
        ("timeout=" + 5000 * "9", 29.9, 1),
    ],
)
async def test_the_server_says_how_long(
    pool: Pool,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    said: str,
    idle_s: float,
    connections: int,
) -> None:
    head = f"HTTP/1.1 204 N\r\nKeep-Alive: {said}\r\n\r\n"
    server = await HttpServer.start(nursery, saying(head.encode()))
    await post(pool, server.port)
    mock_clock.jump(idle_s)
    await post(pool, server.port)
    assert server.connections == connections


async def test_the_newest_is_taken_and_the_oldest_expire(
    pool: Pool, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    gates = [trio.Event() for _ in range(3)]

    async def answer(exchange: Exchange) -> None:
        if (number := len(server.requests) - 1) < 3:
            await gates[number].wait()
        await exchange.send(HELLO)

    server = await HttpServer.start(nursery, answer)
    async with trio.open_nursery() as posts:
        for number in range(3):
            posts.start_soon(post, pool, server.port)
            await until(lambda number=number: len(server.requests) == number + 1)  # type: ignore[misc]
        for gate in gates:
            gate.set()
            await wait_all_tasks_blocked()
            mock_clock.jump(12)
    assert pool.idle_count == 3
    await post(pool, server.port)  # 36, 24 and 12 s after
    assert (pool.idle_count, server.connections) == (2, 3)


@pytest.mark.parametrize("how", ["close", "reset", "byte"])
async def test_stale_is_noticed(pool: Pool, nursery: trio.Nursery, how: str) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(HELLO)
        if server.connections == 1:
            await until(lambda: pool.idle_count == 1)
            if how == "close":
                await exchange.close()
            elif how == "reset":
                await exchange.reset()
            else:
                await exchange.send(b"x")
            done.set()

    done = trio.Event()
    server = await HttpServer.start(nursery, answer)
    await post(pool, server.port)
    await done.wait()
    assert (await post(pool, server.port)).body == b"hello"
    assert (len(server.requests), server.connections, pool.open_count) == (2, 2, 1)


# --- repeated, or not


class Faltering:
    """Answers each request with what is next, and closes where that is not a whole answer."""

    def __init__(self, *answers: bytes, resets: bool = False) -> None:
        self._answers = list(answers)
        self._resets = resets

    async def __call__(self, exchange: Exchange) -> None:
        data = self._answers.pop(0)
        if data:
            await exchange.send(data)
        if data != HELLO:
            await wait_all_tasks_blocked()  # what was sent is read before the reset
            await (exchange.reset() if self._resets else exchange.close())


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_repeated_on_a_fresh_connection(
    pool: Pool, nursery: trio.Nursery, resets: bool
) -> None:
    server = await HttpServer.start(nursery, Faltering(HELLO, b"", HELLO, resets=resets))
    await post(pool, server.port)
    assert (await post(pool, server.port)).body == b"hello"
    assert [one.content for one in server.requests] == [b"hi"] * 3
    assert (server.connections, pool.open_count, pool.idle_count) == (2, 1, 1)


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_repeated_once_only(pool: Pool, nursery: trio.Nursery, resets: bool) -> None:
    server = await HttpServer.start(nursery, Faltering(HELLO, b"", b"", resets=resets))
    await post(pool, server.port)
    with pytest.raises(httpx.ReadError if resets else httpx.RemoteProtocolError):
        await post(pool, server.port)
    assert (len(server.requests), server.connections, pool.open_count) == (3, 2, 0)


async def test_repeated_past_other_idle_ones(nursery: trio.Nursery) -> None:
    """At the limit of connections, one that is idle makes room for the fresh one."""
    pool = make_pool(max_connections=2)
    gate = trio.Event()

    async def answer(exchange: Exchange) -> None:
        match len(server.requests):
            case 1 | 2:
                await gate.wait()
                await exchange.send(HELLO)
            case 3:
                await exchange.close()
            case _:
                await exchange.send(HELLO)

    server = await HttpServer.start(nursery, answer)
    async with trio.open_nursery() as posts:
        posts.start_soon(post, pool, server.port)
        posts.start_soon(post, pool, server.port)
        await until(lambda: len(server.requests) == 2)
        gate.set()
    assert (pool.open_count, pool.idle_count) == (2, 2)
    assert (await post(pool, server.port)).body == b"hello"
    assert (len(server.requests), server.connections) == (4, 3)
    assert pool.open_count == 2
    pool.close()


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_not_repeated_on_a_fresh_one(pool: Pool, nursery: trio.Nursery, resets: bool) -> None:
    server = await HttpServer.start(nursery, Faltering(b"", resets=resets))
    with pytest.raises(httpx.ReadError if resets else httpx.RemoteProtocolError):
        await post(pool, server.port)
    assert (len(server.requests), pool.open_count) == (1, 0)


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("data", [b"H", HELLO[:-1], b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n"])
async def test_not_repeated_after_a_byte(
    pool: Pool, nursery: trio.Nursery, data: bytes, resets: bool
) -> None:
    server = await HttpServer.start(nursery, Faltering(HELLO, data, resets=resets))
    await post(pool, server.port)
    with pytest.raises(httpx.ReadError if resets else httpx.RemoteProtocolError):
        await post(pool, server.port)
    assert (len(server.requests), server.connections, pool.open_count) == (2, 1, 0)


async def test_not_repeated_after_a_time_out(
    pool: Pool, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.requests) == 1:
            await exchange.send(HELLO)
        else:
            mock_clock.jump(6)
            await exchange.wait_gone()

    server = await HttpServer.start(nursery, answer)
    await post(pool, server.port)
    with pytest.raises(httpx.ReadTimeout):
        await post(pool, server.port, timeouts=Timeouts(read=5))
    assert (len(server.requests), pool.open_count) == (2, 0)


async def test_repeated_where_writing_failed(pool: Pool, nursery: trio.Nursery) -> None:
    served = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal served
        served += 1
        async with stream:
            await stream.receive_some(len(POST))
            await stream.send_all(HELLO)
            if await stream.receive_some(100) and served == 1:
                await reset(stream)
            else:
                while await stream.receive_some():
                    pass

    port = await listen(nursery, handle)
    await post(pool, port)
    assert (await post(pool, port, BIG)).body == b"hello"
    assert served == 2


# --- servers that misbehave


@pytest.mark.parametrize(
    ("data", "resets", "expected"),
    [
        (b"", False, httpx.RemoteProtocolError),
        (b"", True, httpx.ReadError),
        (b"garbage\r\n\r\n", False, httpx.RemoteProtocolError),
        (b"HTTP/1.1 200", False, httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", True, httpx.ReadError),
        (HELLO[:-1], False, httpx.RemoteProtocolError),
        (HELLO[:-1], True, httpx.ReadError),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", True, httpx.ReadError),
        (b"HTTP/1.1 200 OK\r\n" + 10_000 * b"X: y\r\n", False, httpx.RemoteProtocolError),
    ],
)
async def test_misbehaves(
    pool: Pool,
    nursery: trio.Nursery,
    data: bytes,
    resets: bool,
    expected: type[httpx.TransportError],
) -> None:
    server = await HttpServer.start(nursery, Faltering(data, resets=resets))
    with pytest.raises(expected) as raised:
        await post(pool, server.port)
    assert raised.type is expected
    assert str(raised.value)
    assert (len(server.requests), pool.open_count, pool.idle_count) == (1, 0, 0)


async def test_slow_bytes(pool: Pool, nursery: trio.Nursery, mock_clock: MockClock) -> None:
    async def answer(exchange: Exchange) -> None:
        for byte in HELLO:
            await exchange.send(bytes([byte]))
            await wait_all_tasks_blocked()
            mock_clock.jump(4)

    server = await HttpServer.start(nursery, answer)
    timeouts = Timeouts(connect=5, write=5, read=5, pool=5)
    assert (await post(pool, server.port, timeouts=timeouts)).body == b"hello"
    assert trio.current_time() > 100
    assert pool.idle_count == 1


async def test_read_time_out_in_the_body(
    pool: Pool, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(HELLO[:-1])
        await wait_all_tasks_blocked()
        mock_clock.jump(6)

    server = await HttpServer.start(nursery, answer)
    with pytest.raises(httpx.ReadTimeout, match="5 s"):
        await post(pool, server.port, timeouts=Timeouts(read=5))
    assert pool.open_count == 0
    await server.wait_closed()


async def test_write_time_out(pool: Pool, nursery: trio.Nursery, mock_clock: MockClock) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await wait_all_tasks_blocked()
        mock_clock.jump(6)
        await trio.sleep_forever()

    port = await listen(nursery, handle)
    with pytest.raises(httpx.WriteTimeout, match="5 s"):
        await post(pool, port, BIG, Timeouts(write=5))
    assert pool.open_count == 0


@pytest.mark.parametrize("resets", [False, True], ids=["keeps", "closes"])
async def test_answers_before_the_request_is_read(
    pool: Pool, nursery: trio.Nursery, resets: bool
) -> None:
    """413 at once; where the rest is not read, closing resets the connection."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(100)
            await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
            while not resets and await stream.receive_some():
                pass

    port = await listen(nursery, handle)
    answer = await post(pool, port, BIG)
    assert (answer.status, answer.body) == (413, b"no")
    assert pool.idle_count == (0 if resets else 1)


async def test_answers_and_neither_reads_nor_closes(
    pool: Pool, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        for part in (b"HTTP/1.1 413 Too Large\r\nContent-Le", b"ngth: 2\r\n\r\nno"):
            await stream.send_all(part)
            await wait_all_tasks_blocked()
        await trio.sleep_forever()

    port = await listen(nursery, handle)
    answer = await post(pool, port, BIG)
    assert (answer.status, answer.body) == (413, b"no")
    assert pool.open_count == 0


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"what?\r\n\r\n"])
async def test_ends_its_side_while_the_request_is_sent(
    pool: Pool, nursery: trio.Nursery, said: bytes
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(said)
        await stream.send_eof()
        await trio.sleep_forever()

    port = await listen(nursery, handle)
    with pytest.raises(httpx.RemoteProtocolError):
        await post(pool, port, BIG)
    assert pool.open_count == 0


async def test_reset_while_writing(pool: Pool, nursery: trio.Nursery) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await wait_all_tasks_blocked()
        await reset(stream)

    port = await listen(nursery, handle)
    # Whether writing or reading meets it first is the kernel's choice. httpx's own transport takes
    # it for an answer that did not come.
    with pytest.raises((httpx.WriteError, httpx.RemoteProtocolError)):
        await post(pool, port, BIG)
    assert pool.open_count == 0


# --- limits


class Held:
    """Answers a request when it is told to, and knows how many wait."""

    def __init__(self) -> None:
        self.waiting: list[trio.Event] = []
        self.most = 0

    async def __call__(self, exchange: Exchange) -> None:
        gate = trio.Event()
        self.waiting.append(gate)
        self.most = max(self.most, len(self.waiting))
        await gate.wait()
        self.waiting.remove(gate)
        await exchange.send(HELLO)


async def test_max_connections(nursery: trio.Nursery) -> None:
    pool = make_pool(max_connections=2)
    held = Held()
    server = await HttpServer.start(nursery, held)
    async with trio.open_nursery() as posts:
        for _ in range(7):
            posts.start_soon(post, pool, server.port)
        for _ in range(7):
            await until(lambda: bool(held.waiting))
            await wait_all_tasks_blocked()
            assert pool.open_count <= 2
            held.waiting[0].set()
            await wait_all_tasks_blocked()
    assert (len(server.requests), held.most, server.connections) == (7, 2, 2)
    pool.close()


async def test_who_waits_is_not_overtaken(nursery: trio.Nursery) -> None:
    pool = make_pool(max_connections=1)
    served: list[str] = []

    async def loop(name: str) -> None:
        for _ in range(3):
            await post(pool, server.port)
            served.append(name)

    server = await HttpServer.start(nursery, saying(HELLO))
    async with trio.open_nursery() as posts:
        posts.start_soon(loop, "a")
        posts.start_soon(loop, "b")
    assert sorted(served[:2]) == sorted(served[2:4]) == ["a", "b"]
    assert (server.connections, pool.open_count) == (1, 1)
    pool.close()


async def test_pool_time_out(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    pool = make_pool(max_connections=1)
    held = Held()
    server = await HttpServer.start(nursery, held)
    async with trio.open_nursery() as posts:
        posts.start_soon(post, pool, server.port)
        await until(lambda: bool(held.waiting))
        with pytest.RaisesGroup(httpx.PoolTimeout):
            async with trio.open_nursery() as late:
                late.start_soon(post, pool, server.port, POST, Timeouts(pool=5))
                await wait_all_tasks_blocked()
                mock_clock.jump(6)
        with trio.CancelScope() as given_up:
            async with trio.open_nursery() as later:
                later.start_soon(post, pool, server.port)
                await wait_all_tasks_blocked()
                given_up.cancel()
        assert given_up.cancelled_caught
        held.waiting[0].set()
    posts_after = 3  # those who left the queue took no room with them
    for _ in range(posts_after):
        async with trio.open_nursery() as posts:
            posts.start_soon(post, pool, server.port)
            await until(lambda: bool(held.waiting))
            held.waiting[0].set()
    assert (len(server.requests), server.connections) == (1 + posts_after, 1)
    pool.close()


async def test_failures_give_their_room_back(nursery: trio.Nursery) -> None:
    pool = make_pool(max_connections=1)
    server = await HttpServer.start(nursery, Faltering(b"", b"H", b"garbage", HELLO))
    for _ in range(3):
        with pytest.raises(httpx.RemoteProtocolError):
            await post(pool, server.port)
    with pytest.raises(httpx.ConnectError):
        await post(pool, 1)
    assert (await post(pool, server.port)).body == b"hello"
    pool.close()


async def test_two_origins(pool: Pool, nursery: trio.Nursery) -> None:
    first = await HttpServer.start(nursery, saying(HELLO))
    second = await HttpServer.start(nursery, saying(response(content=b"other")))
    for _ in range(2):
        assert (await post(pool, first.port)).body == b"hello"
        assert (await post(pool, second.port)).body == b"other"
    assert (first.connections, second.connections, pool.idle_count) == (1, 1, 2)


async def test_an_idle_one_makes_room_for_another_origin(nursery: trio.Nursery) -> None:
    pool = make_pool(max_connections=1)
    first = await HttpServer.start(nursery, saying(HELLO))
    second = await HttpServer.start(nursery, saying(HELLO))
    await post(pool, first.port)
    await post(pool, second.port)
    await first.wait_closed()
    assert (pool.open_count, pool.idle_count, second.open) == (1, 1, 1)
    pool.close()


# --- the end


async def test_close_lets_what_is_in_use_finish(pool: Pool, nursery: trio.Nursery) -> None:
    held = Held()
    server = await HttpServer.start(nursery, held)
    answers: list[Response] = []

    async def ask() -> None:
        answers.append(await post(pool, server.port))

    async with trio.open_nursery() as posts:
        posts.start_soon(ask)
        posts.start_soon(ask)
        await until(lambda: len(held.waiting) == 2)
        held.waiting[0].set()
        await until(lambda: pool.idle_count == 1)
        pool.close()
        assert (pool.open_count, pool.idle_count) == (1, 0)
        held.waiting[0].set()
    assert [answer.body for answer in answers] == [b"hello", b"hello"]
    assert pool.open_count == 0
    await server.wait_closed()


class WokenForNothing:
    """A wire that is woken twice before anything has come."""

    def __init__(self) -> None:
        self.waits = 0
        self.is_closed = False

    def send(self, data: bytes) -> int:
        return len(data)

    async def send_all(self, data: memoryview) -> None:
        raise AssertionError("all went at once")

    async def wait(self) -> None:
        self.waits += 1
        await trio.lowlevel.checkpoint()

    def receive(self) -> bytes:
        if self.waits < 3:
            raise BlockingIOError
        return HELLO

    def acknowledge(self) -> None:
        raise AssertionError("nothing was left to come")

    def is_stale(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True


async def test_a_wake_up_for_nothing_is_waited_over(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = WokenForNothing()

    async def open_wire(*_: object) -> WokenForNothing:
        await trio.lowlevel.checkpoint()
        return connection

    monkeypatch.setattr("bridge.httpclient.pool.open_connection", open_wire)
    pool = make_pool()
    assert (await post(pool, 80)).body == b"hello"
    assert (connection.waits, pool.idle_count) == (3, 1)
    pool.close()
    assert connection.is_closed


# --- the deadline of an exchange


async def test_the_time_is_up(pool: Pool, nursery: trio.Nursery, mock_clock: MockClock) -> None:
    async def answer(exchange: Exchange) -> None:
        await wait_all_tasks_blocked()
        mock_clock.jump(6)
        await exchange.wait_gone()

    server = await HttpServer.start(nursery, answer)
    origin = Origin("http", HOST, server.port)
    with pytest.raises(httpx.ReadTimeout, match="the time for this request is up"):
        await pool.exchange(origin, "POST", POST, Timeouts(), trio.current_time() + 5)
    assert (len(server.requests), pool.open_count) == (1, 0)


async def test_what_is_kept_outlives_the_deadline(
    pool: Pool, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    origin = Origin("http", HOST, server.port)
    for _ in range(2):
        await pool.exchange(origin, "POST", POST, Timeouts(), trio.current_time() + 5)
        mock_clock.jump(6)
        await wait_all_tasks_blocked()
    assert (server.connections, pool.idle_count) == (1, 1)
