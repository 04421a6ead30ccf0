"""Connecting and TLS, through the pool, and what cancelling leaves behind: nothing.

The clock is a mock: it moves only where a test says so.
"""

import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import httpx
import pytest
import trio
import trustme
from attrs import frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.httpclient.connection import open_connection
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
from tests.bridge.leak import nothing_left, sockets, until

pytestmark = pytest.mark.usefixtures("nothing_left", "mock_clock")
__all__ = ["nothing_left"]

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
HELLO = response(content=b"hello")
BIG = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n" + bytes(16_000_000)
NAME = "bridge.example"

Found = list[
    tuple[Literal[socket.AddressFamily.AF_INET], socket.SocketKind, int, str, tuple[str, int]]
    | tuple[
        Literal[socket.AddressFamily.AF_INET6],
        socket.SocketKind,
        int,
        str,
        tuple[str, int, int, int] | tuple[int, bytes],
    ]
]


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, and its addresses in order."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Found:
        assert isinstance(port, int)
        if host != NAME.encode():
            raise socket.gaierror(socket.EAI_NONAME, os.strerror(errno.ENOENT))
        found: Found = []
        for address in self._addresses:
            if ":" in address:
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 0, "", (address, port, 0, 0)))
            else:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)))
        return found

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        raise NotImplementedError


@frozen
class Authority:
    """A CA, and contexts of both sides with its certificates."""

    ca: trustme.CA

    def client(self, *identities: str) -> ssl.SSLContext:
        """Verify servers by the CA; with a certificate for each of the names."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        for identity in identities:
            self.ca.issue_cert(identity).configure_cert(context)
        return context

    def server(self, *names: str, asks_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        if asks_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(trustme.CA())


def make_pool(context: ssl.SSLContext | None = None) -> Pool:
    return Pool(context or ssl.create_default_context(), PoolLimits(), ResponseLimits())


async def post(
    pool: Pool,
    port: int,
    host: str = HOST,
    *,
    scheme: str = "https",
    data: bytes = POST,
    timeouts: Timeouts | None = None,
) -> Response:
    return await pool.exchange(Origin(scheme, host, port), "POST", data, timeouts or Timeouts())


# --- connecting


@contextmanager
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody will."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield held.getsockname()[1]


@contextmanager
def full_port() -> Iterator[int]:
    """A port whose backlog is full: Linux drops what else wants to connect, without a word."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        fillers = []
        try:
            for _ in range(4):  # one more than fits is enough; the others wait as ours will
                filler = socket.socket()
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


async def test_refused() -> None:
    pool = make_pool()
    with closed_port() as port, pytest.raises(httpx.ConnectError, match="Connection refused"):
        await post(pool, port)
    assert pool.open_count == 0


async def test_a_single_address_needs_no_race(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def race(host: str, port: int) -> trio.SocketStream:
        raise AssertionError("addresses race though there is only one")

    async def handle(stream: trio.SocketStream) -> None:
        await stream.aclose()

    port = await listen(nursery, handle)
    monkeypatch.setattr(trio, "open_tcp_stream", race)
    connection = await open_connection(HOST, port, None)
    connection.close()


@pytest.mark.parametrize("host", ["127.1", "127.0.0.1\0", "١٢٧.0.0.1", ""])
async def test_what_is_no_plain_address_is_left_to_dial(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def dialled(host: str, port: int, context: ssl.SSLContext | None) -> trio.SocketStream:
        asked.append(host)
        raise ConnectionRefusedError

    monkeypatch.setattr("bridge.httpclient.connection.dial", dialled)
    with pytest.raises(ConnectionRefusedError):
        await open_connection(host, 1, None)
    assert asked == [host]


async def test_unknown_name() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    pool = make_pool()
    with pytest.raises(httpx.ConnectError, match="No such file or directory"):
        await post(pool, 80, "nobody.example")
    assert pool.open_count == 0


@pytest.mark.parametrize("host", [".example", "a" * 64 + ".example", "ä" * 64])
async def test_no_name_at_all(host: str) -> None:
    with pytest.raises(httpx.ConnectError):
        await post(make_pool(), 80, host)


async def test_connect_time_out(mock_clock: MockClock) -> None:
    pool = make_pool()
    with full_port() as port, pytest.RaisesGroup(httpx.ConnectTimeout):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                await post(pool, port, timeouts=Timeouts(connect=5))

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert pool.open_count == 1
            mock_clock.jump(6)
    assert pool.open_count == 0


async def test_ipv6(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(HELLO), host="::1")
    pool = make_pool()
    for _ in range(2):
        assert (await post(pool, server.port, "::1", scheme="http")).body == b"hello"
    assert server.connections == 1
    pool.close()


async def test_ipv6_over_tls(nursery: trio.Nursery, authority: Authority) -> None:
    server = await HttpServer.start(
        nursery, saying(HELLO), host="::1", context=authority.server("::1")
    )
    pool = make_pool(authority.client())
    assert (await post(pool, server.port, "::1")).body == b"hello"
    pool.close()


async def test_one_address_is_dead(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    trio.socket.set_custom_hostname_resolver(Resolver("::1", HOST))
    pool = make_pool()
    assert (await post(pool, server.port, NAME, scheme="http")).body == b"hello"
    pool.close()


async def test_one_address_is_silent(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    """Happy eyeballs (RFC 8305): the next one is tried while the first keeps silent."""
    with full_port() as port:
        connected = await trio.open_tcp_listeners(port, host="127.0.0.2")
        trio.socket.set_custom_hostname_resolver(Resolver(HOST, "127.0.0.2"))
        pool = make_pool()
        answers: list[Response] = []

        async def ask() -> None:
            answers.append(await post(pool, port, NAME, scheme="http"))

        async def serve(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(HELLO)
            await stream.receive_some()
            await stream.aclose()

        nursery.start_soon(trio.serve_listeners, serve, connected)
        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            await wait_all_tasks_blocked()
            assert not answers
            mock_clock.jump(1)
        assert answers[0].body == b"hello"
        pool.close()


async def test_all_addresses_are_dead() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("::1", HOST))
    pool = make_pool()
    with closed_port() as port, pytest.raises(httpx.ConnectError, match="Connection refused"):
        await post(pool, port, NAME)
    assert pool.open_count == 0


# --- TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_is_reused(
    nursery: trio.Nursery, authority: Authority, version: ssl.TLSVersion
) -> None:
    """TLS 1.3 sends session tickets after the handshake; they do not make it look stale."""
    context = authority.server(HOST)
    context.minimum_version = context.maximum_version = version
    server = await HttpServer.start(nursery, saying(HELLO), context=context)
    pool = make_pool(authority.client())
    for _ in range(3):
        assert (await post(pool, server.port)).body == b"hello"
    assert (server.connections, len(server.requests), pool.idle_count) == (1, 3, 1)
    pool.close()
    await server.wait_closed()


async def test_sni(nursery: trio.Nursery, authority: Authority) -> None:
    seen: list[str | None] = []
    context = authority.server(NAME, HOST)
    context.sni_callback = lambda _, name, __: seen.append(name)
    server = await HttpServer.start(nursery, saying(HELLO), context=context)
    trio.socket.set_custom_hostname_resolver(Resolver(HOST))
    pool = make_pool(authority.client())
    await post(pool, server.port, NAME)
    await post(pool, server.port, HOST)
    assert seen == [NAME, None]  # RFC 6066 §3: an address is no name
    pool.close()


async def test_wrong_ca(nursery: trio.Nursery, authority: Authority) -> None:
    server = await HttpServer.start(nursery, saying(HELLO), context=authority.server(HOST))
    pool = make_pool()
    with pytest.raises(httpx.ConnectError, match=r"TLS failed: .*certificate"):
        await post(pool, server.port)
    assert (pool.open_count, server.requests) == (0, [])
    await server.wait_closed()


async def test_wrong_name(nursery: trio.Nursery, authority: Authority) -> None:
    server = await HttpServer.start(nursery, saying(HELLO), context=authority.server("other"))
    trio.socket.set_custom_hostname_resolver(Resolver(HOST))
    pool = make_pool(authority.client())
    with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
        await post(pool, server.port, NAME)
    with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
        await post(pool, server.port, HOST)
    assert (pool.open_count, server.requests) == (0, [])


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["HTTP", "end"])
async def test_plain_where_tls_is_expected(
    nursery: trio.Nursery, authority: Authority, words: bytes
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(words)
        await stream.aclose()

    port = await listen(nursery, handle)
    pool = make_pool(authority.client())
    with pytest.raises(httpx.ConnectError, match=r"TLS failed: ."):
        await post(pool, port)
    assert pool.open_count == 0


async def test_tls_where_plain_is_expected(nursery: trio.Nursery, authority: Authority) -> None:
    server = await HttpServer.start(nursery, saying(HELLO), context=authority.server(HOST))
    pool = make_pool()
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await post(pool, server.port, scheme="http")
    assert pool.open_count == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificate(
    nursery: trio.Nursery, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.server(HOST, asks_certificate=True)
    context.minimum_version = context.maximum_version = version
    server = await HttpServer.start(nursery, saying(HELLO), context=context)
    pool = make_pool(authority.client("bot@example.org"))
    for _ in range(2):
        assert (await post(pool, server.port)).body == b"hello"
    assert server.connections == 1
    pool.close()
    # In TLS 1.3 the client's side of the handshake is done before the server has looked; trio's
    # server then closes without the alert that others send.
    later = (httpx.ReadError, httpx.RemoteProtocolError)
    expected = httpx.ConnectError if version is ssl.TLSVersion.TLSv1_2 else later
    for missing in (authority.client(), Authority(trustme.CA()).client("eve@example.org")):
        authority.ca.configure_trust(missing)
        pool = make_pool(missing)
        with pytest.raises(expected):
            await post(pool, server.port)
        assert (pool.open_count, len(server.requests)) == (0, 2)


async def test_stale_tls_is_noticed(nursery: trio.Nursery, authority: Authority) -> None:
    server = await HttpServer.start(nursery, closing_after(HELLO), context=authority.server(HOST))
    pool = make_pool(authority.client())
    for _ in range(3):
        assert (await post(pool, server.port)).body == b"hello"
        await server.wait_closed()
    assert (server.connections, len(server.requests)) == (3, 3)
    pool.close()


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
async def test_repeated_over_tls(nursery: trio.Nursery, authority: Authority, resets: bool) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.requests) != 2:
            await exchange.send(HELLO)
        elif resets:
            await exchange.reset()
        else:
            await exchange.close()

    server = await HttpServer.start(nursery, answer, context=authority.server(HOST))
    pool = make_pool(authority.client())
    await post(pool, server.port)
    assert (await post(pool, server.port)).body == b"hello"
    assert (len(server.requests), server.connections) == (3, 2)
    pool.close()


async def test_reset_over_tls(nursery: trio.Nursery, authority: Authority) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(HELLO[:-1])
        await wait_all_tasks_blocked()
        await exchange.reset()

    server = await HttpServer.start(nursery, answer, context=authority.server(HOST))
    pool = make_pool(authority.client())
    with pytest.raises(httpx.ReadError, match="Connection reset by peer"):
        await post(pool, server.port)
    assert pool.open_count == 0


async def test_reset_while_writing_over_tls(nursery: trio.Nursery, authority: Authority) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, authority.server(HOST), server_side=True)
        await secure.receive_some()
        await wait_all_tasks_blocked()
        await reset(stream)

    port = await listen(nursery, handle)
    pool = make_pool(authority.client())
    with pytest.raises(httpx.WriteError, match=r"Connection reset by peer|Broken pipe"):
        await post(pool, port, data=BIG)
    assert pool.open_count == 0


async def test_answers_and_neither_reads_nor_closes_over_tls(
    nursery: trio.Nursery, authority: Authority, autojump_clock: MockClock
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, authority.server(HOST), server_side=True)
        await secure.receive_some(100)
        await secure.send_all(response("413 Too Large", b"no"))
        await trio.sleep_forever()

    port = await listen(nursery, handle)
    pool = make_pool(authority.client())
    assert (await post(pool, port, data=BIG)).body == b"no"
    assert pool.open_count == 0


async def test_large_both_ways_over_tls(nursery: trio.Nursery, authority: Authority) -> None:
    content = bytes(range(256)) * 4000

    async def answer(exchange: Exchange) -> None:
        assert exchange.request.content == content
        await exchange.send(response(content=content))

    server = await HttpServer.start(nursery, answer, context=authority.server(HOST))
    pool = make_pool(authority.client())
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
    for _ in range(2):
        assert (await post(pool, server.port, data=head + content)).body == content
    assert server.connections == 1
    pool.close()


# --- cancelled


Setting = Callable[[trio.Nursery, Authority], Awaitable[tuple[str, int, bytes]]]


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def at_handshake(nursery: trio.Nursery, _: Authority) -> tuple[str, int, bytes]:
    return "https", await listen(nursery, silent), POST


async def at_write(nursery: trio.Nursery, _: Authority) -> tuple[str, int, bytes]:
    return "http", await listen(nursery, silent), BIG


async def at_write_over_tls(nursery: trio.Nursery, authority: Authority) -> tuple[str, int, bytes]:
    async def handle(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, authority.server(HOST), server_side=True)
        await secure.do_handshake()
        await trio.sleep_forever()

    return "https", await listen(nursery, handle), BIG


def at_read(data: bytes, *, tls: bool) -> Setting:
    async def setting(nursery: trio.Nursery, authority: Authority) -> tuple[str, int, bytes]:
        context = authority.server(HOST) if tls else None
        server = await HttpServer.start(nursery, saying(data), context=context)
        return "https" if tls else "http", server.port, POST

    return setting


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(at_handshake, id="handshake"),
        pytest.param(at_write, id="write"),
        pytest.param(at_write_over_tls, id="write-tls"),
        pytest.param(at_read(b"", tls=False), id="head"),
        pytest.param(at_read(HELLO[:20], tls=False), id="in-head"),
        pytest.param(at_read(HELLO[:-1], tls=False), id="body"),
        pytest.param(at_read(HELLO[:-1], tls=True), id="body-tls"),
    ],
)
@pytest.mark.parametrize("by", ["cancel", "time-out"])
async def test_cancelled(
    nursery: trio.Nursery,
    authority: Authority,
    mock_clock: MockClock,
    setting: Setting,
    by: str,
) -> None:
    scheme, port, data = await setting(nursery, authority)
    await wait_all_tasks_blocked()
    before = len(sockets())
    pool = make_pool(authority.client())
    timeouts = Timeouts(connect=5, write=5, read=5) if by == "time-out" else Timeouts()
    scope = trio.CancelScope()

    async def ask() -> None:
        with scope, pytest.raises(httpx.TimeoutException):
            await post(pool, port, scheme=scheme, data=data, timeouts=timeouts)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await wait_all_tasks_blocked(0.02)  # TLS takes its time
        assert (pool.open_count, pool.idle_count) == (1, 0)
        mock_clock.jump(6)
        await wait_all_tasks_blocked()
        assert pool.open_count == (0 if by == "time-out" else 1)
        scope.cancel()
    assert scope.cancelled_caught == (by == "cancel")
    assert (pool.open_count, pool.idle_count) == (0, 0)
    # the server's end, where it does not read, does not close
    await until(lambda: len(sockets()) <= before + 1)


async def test_cancelled_while_connecting() -> None:
    pool = make_pool()
    with full_port() as port:
        before = sockets()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as asking:
                asking.start_soon(post, pool, port)
                await wait_all_tasks_blocked()
                assert len(sockets()) == len(before) + 1
                scope.cancel()
        assert (sockets(), pool.open_count) == (before, 0)


async def test_cancelled_before_it_begins(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    pool = make_pool()
    await post(pool, server.port, scheme="http")
    with trio.CancelScope() as scope:
        scope.cancel()
        await post(pool, server.port, scheme="http")
    assert scope.cancelled_caught
    assert (pool.open_count, pool.idle_count) == (0, 0)
    pool.close()


async def test_cancelled_use_of_a_kept_connection(nursery: trio.Nursery) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.requests) != 2:
            await exchange.send(HELLO)

    server = await HttpServer.start(nursery, answer)
    pool = make_pool()
    await post(pool, server.port, scheme="http")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as asking:

            async def ask() -> None:
                await post(pool, server.port, scheme="http")

            asking.start_soon(ask)
            await until(lambda: len(server.requests) == 2)
            scope.cancel()
    assert (pool.open_count, pool.idle_count) == (0, 0)
    assert (await post(pool, server.port, scheme="http")).body == b"hello"
    assert server.connections == 2
    pool.close()


@pytest.fixture(autouse=True)
async def no_resolver_left() -> AsyncIterator[None]:
    yield
    trio.socket.set_custom_hostname_resolver(None)
