"""The transport under httpx's client, beside httpx's own: the same cases, the same outcome."""

import gc
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.httpclient.pool import Origin, PoolLimits, Timeouts
from bridge.httpclient.response import ResponseLimits
from bridge.httpclient.transport import BodyTooLarge, Transport, head_of, origin_of
from tests.bridge.http_server import (
    HOST,
    Exchange,
    HttpServer,
    closing_after,
    listen,
    response,
    saying,
)
from tests.bridge.httpclient.test_response import (
    BAD,
    CHUNKED,
    CHUNKS,
    GOOD,
    LENGTH,
    OK,
    raw_deflate,
)
from tests.bridge.leak import nothing_left

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]

CONTEXT: Final = ssl.create_default_context()
LIMITS: Final = ResponseLimits(max_body_bytes=100_000)
HELLO: Final = response(content=b"hello")

Outcome = tuple[int, str, tuple[tuple[bytes, bytes], ...], bytes, str] | type[Exception]


def coded(coding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


CASES: Final[dict[str, tuple[str, bytes]]] = {
    **{name: (row.method, row.data) for name, row in GOOD.items()},
    **{name: ("POST", data) for name, (data, _) in BAD.items()},
    "404": ("POST", b"HTTP/1.1 404 Not Found\r\n" + LENGTH + b"\r\nno"),
    "500 chunked": ("GET", CHUNKED.replace(b"200 OK", b"500 Oops") + CHUNKS),
    "redirect": ("GET", b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"),
    "cookies": ("GET", OK + 2 * b"Set-Cookie: a=b\r\n" + LENGTH + b"\r\nhi"),
    "charset": (
        "GET",
        OK + b"Content-Type: text/plain; charset=latin-1\r\n" + LENGTH + b"\r\n\xe4\xf6",
    ),
    "Latin-1 in a value": ("GET", OK + b"X: \xe4\r\n" + LENGTH + b"\r\nhi"),
    "nothing": ("POST", b""),
    "part of a head": ("POST", OK + b"X: "),
    "part of a body": ("POST", OK + LENGTH + b"\r\nh"),
    "part of a chunk": ("POST", CHUNKED + b"2\r\nh"),
    "no last chunk": ("POST", CHUNKED + b"2\r\nhi\r\n"),
    "head of 30 kB": ("POST", OK + b"X: " + 30_000 * b"y" + b"\r\n" + LENGTH + b"\r\nhi"),
    "head of 90 kB": ("POST", OK + b"X: " + 90_000 * b"y" + b"\r\n" + LENGTH + b"\r\nhi"),
    "head of 200 kB": ("POST", OK + b"X: " + 200_000 * b"y" + b"\r\n" + LENGTH + b"\r\nhi"),
    "gzip coded": ("GET", coded("gzip", gzip.compress(b"hello"))),
    "deflate coded": ("GET", coded("deflate", zlib.compress(b"hello"))),
    "raw deflate coded": ("GET", coded("deflate", raw_deflate(b"hello"))),
    "coded twice": ("GET", coded("deflate, gzip", gzip.compress(zlib.compress(b"hello")))),
    "identity coded": ("GET", coded("identity", b"hello")),
    "coded and empty": ("GET", coded("gzip", b"")),
    "gzip, two members": ("GET", coded("gzip", gzip.compress(b"a") + gzip.compress(b"b"))),
    "gzip that is none": ("GET", coded("gzip", b"hello")),
    "gzip cut off": ("GET", coded("gzip", gzip.compress(b"hello")[:-3])),
    "gzip and more": ("GET", coded("gzip", gzip.compress(b"hello") + b"more")),
    "unknown coding": ("GET", coded("rot13", b"uryyb")),
    "gzip bomb": ("GET", coded("gzip", gzip.compress(bytes(1_000_000)))),
    "body over the limit": ("GET", response(content=bytes(100_001))),
    "HEAD with a coding": ("HEAD", OK + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n"),
}

Kind = type[Exception] | int
REFUSED: Final = (200, httpx.RemoteProtocolError)
VERSION: Final = "llhttp knows no such version; an answer in it is not to be guessed at"
FRAMING: Final = "RFC 9112 §6.3, §11.2: its end is not certain, so the next answer's is not either"
FOLDED: Final = "RFC 9112 §5.2: obsolete; llhttp refuses it"
DIFFERENCES: Final[dict[str, tuple[tuple[Kind, Kind], str]]] = {
    # (httpx's own, ours), and why
    "empty lines before": (
        (httpx.RemoteProtocolError, 200),
        "llhttp skips them (RFC 9112 §2.2 has servers do so); they count for the head's limit",
    ),
    "chunked, in capitals": ((200, 200), "h11 writes the value anew; ours is as it came"),
    "version 2": (REFUSED, VERSION),
    "version 0.9": (REFUSED, VERSION),
    "version 1.2": (REFUSED, VERSION),
    "ESC in the reason": (REFUSED, "RFC 9112 §4: no control characters; it may reach a terminal"),
    "length and chunked": (REFUSED, FRAMING),
    "chunked and length": (REFUSED, FRAMING),
    "twice the same length": (REFUSED, FRAMING),
    "length, a list": (REFUSED, FRAMING),
    "length in the trailer": (REFUSED, FRAMING),
    "folded": (REFUSED, FOLDED),
    "folded by a tab": (REFUSED, FOLDED),
    "chunk, NUL in its extension": (REFUSED, "RFC 9112 §7.1.1: no control characters"),
    "head of 90 kB": (REFUSED, "h11's limit is 100 kB, ours is `max_head_bytes`"),
    "gzip cut off": ((200, httpx.DecodingError), "half a body is none"),
    "gzip and more": ((200, httpx.DecodingError), "httpx drops what follows"),
    "unknown coding": ((200, httpx.DecodingError), "httpx gives the body coded as it is"),
    "gzip bomb": ((200, BodyTooLarge), "httpx has no limit"),
    "body over the limit": ((200, BodyTooLarge), "httpx has no limit"),
}


async def outcome(client: httpx.AsyncClient, method: str, port: int) -> Outcome:
    content = b"hi" if method == "POST" else None
    try:
        answer = await client.request(method, f"http://{HOST}:{port}/p?q=1", content=content)
    except Exception as error:
        return type(error)
    headers = tuple(answer.headers.raw)
    return answer.status_code, answer.reason_phrase, headers, answer.content, answer.http_version


@pytest.mark.filterwarnings("ignore:Async generator 'htt:ResourceWarning")  # httpx's own, not ours
@pytest.mark.parametrize(("method", "data"), CASES.values(), ids=CASES.keys())
async def test_as_httpx(
    nursery: trio.Nursery, request: pytest.FixtureRequest, method: str, data: bytes
) -> None:
    server = await HttpServer.start(nursery, closing_after(data))
    stock = httpx.AsyncHTTPTransport(verify=CONTEXT, trust_env=False)
    async with (
        httpx.AsyncClient(transport=stock) as theirs,
        httpx.AsyncClient(transport=Transport(CONTEXT, answer_limits=LIMITS)) as ours,
    ):
        expected = await outcome(theirs, method, server.port)
        actual = await outcome(ours, method, server.port)
    name = request.node.callspec.id
    if name in DIFFERENCES:
        kinds = [one[0] if isinstance(one, tuple) else one for one in (expected, actual)]
        assert tuple(kinds) == DIFFERENCES[name][0]
        assert actual != expected
    else:
        assert actual == expected
    first, second = server.requests
    assert second == first
    if name == "gzip that is none":
        gc.collect()  # what httpx leaves lying there


def test_differences_are_cases() -> None:
    assert DIFFERENCES.keys() <= CASES.keys()


# --- what fails beneath HTTP


async def kind(transport: httpx.AsyncBaseTransport, url: str, **extensions: object) -> object:
    async with httpx.AsyncClient(transport=transport) as client:
        try:
            return (await client.get(url, extensions=dict(extensions))).status_code
        except Exception as error:
            return type(error)


def both(context: ssl.SSLContext = CONTEXT) -> list[httpx.AsyncBaseTransport]:
    return [
        httpx.AsyncHTTPTransport(verify=context, trust_env=False),
        Transport(context, answer_limits=LIMITS),
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1/", httpx.ConnectError),
        ("https://127.0.0.1:1/", httpx.ConnectError),
        ("http://name.invalid/", httpx.ConnectError),
        ("ftp://127.0.0.1/", httpx.UnsupportedProtocol),
        ("/path", httpx.UnsupportedProtocol),
    ],
)
async def test_no_connection(url: str, expected: object) -> None:
    assert [await kind(transport, url) for transport in both()] == [expected, expected]


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("data", [b"", HELLO[:20], HELLO[:-1]])
async def test_broken_off(nursery: trio.Nursery, data: bytes, resets: bool) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)
        await wait_all_tasks_blocked()
        await (exchange.reset() if resets else exchange.close())

    server = await HttpServer.start(nursery, answer)
    url = f"http://{HOST}:{server.port}/"
    expected = httpx.ReadError if resets else httpx.RemoteProtocolError
    assert [await kind(transport, url) for transport in both()] == [expected, expected]


async def test_not_tls(nursery: trio.Nursery) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(HELLO)
        await stream.aclose()

    url = f"https://{HOST}:{await listen(nursery, handle)}/"
    assert [await kind(transport, url) for transport in both()] == 2 * [httpx.ConnectError]


async def test_wrong_ca(nursery: trio.Nursery) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    server = await HttpServer.start(nursery, saying(HELLO), context=context)
    url = f"https://{HOST}:{server.port}/"
    assert [await kind(transport, url) for transport in both()] == 2 * [httpx.ConnectError]


async def test_read_time_out(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    async def answer(exchange: Exchange) -> None:
        await wait_all_tasks_blocked()
        mock_clock.jump(6)
        await exchange.wait_gone()

    server = await HttpServer.start(nursery, answer)
    url = f"http://{HOST}:{server.port}/"
    kinds = [await kind(transport, url, timeout={"read": 5.0}) for transport in both()]
    assert kinds == 2 * [httpx.ReadTimeout]


async def test_pool_time_out(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    asked, gate = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        asked.set()
        await gate.wait()
        await exchange.send(HELLO)

    server = await HttpServer.start(nursery, answer)
    transport = Transport(CONTEXT, PoolLimits(max_connections=1))
    url = f"http://{HOST}:{server.port}/"
    async with httpx.AsyncClient(transport=transport) as client, trio.open_nursery() as first:
        first.start_soon(client.get, url)
        await asked.wait()
        with pytest.RaisesGroup(httpx.PoolTimeout):
            async with trio.open_nursery() as second:

                async def late() -> None:
                    await client.get(url, extensions={"timeout": {"pool": 1.0}})

                second.start_soon(late)
                await wait_all_tasks_blocked()
                mock_clock.jump(2)
        gate.set()


# --- what is sent


async def chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("GET", "http://x/"),
        httpx.Request("GET", "http://x/a%20b/\xe4?q=\xe4&r=a b#fragment"),
        httpx.Request("POST", "http://x/", content=b""),
        httpx.Request("POST", "http://x/", json={"a": 1}),
        httpx.Request(
            "POST", "http://x/", headers={b"Host": b"other", b"X": b"\xe4"}, content=b"\xff"
        ),
        httpx.Request("PROPFIND", "http://x/", headers=[("A", "1"), ("A", "2")]),
    ],
    ids=str,
)
async def test_request_as_httpx(nursery: trio.Nursery, request_: httpx.Request) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    request_.url = request_.url.copy_with(host=HOST, port=server.port)
    for transport in both():
        async with transport:
            response = await transport.handle_async_request(request_)
            await response.aread()
    first, second = server.requests
    assert second == first


async def test_streamed_request(nursery: trio.Nursery) -> None:
    received: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += await stream.receive_some()
        received.append(data.partition(b"\r\n\r\n")[2])
        await stream.send_all(HELLO)
        await stream.receive_some()
        await stream.aclose()

    url = f"http://{HOST}:{await listen(nursery, handle)}/"
    async with httpx.AsyncClient(transport=Transport(CONTEXT)) as client:
        answer = await client.post(url, content=chunks())
    assert answer.content == b"hello"
    assert received == [b"6\r\nonetwo\r\n0\r\n\r\n"]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"X": "a\r\nY: b"}),
        ("GET", {"X": "a\nY: b"}),
        ("GET", {"X": "a\0"}),
        ("GET", {"X: y\r\nZ": "a"}),
        ("GET", {"X ": "a"}),
        ("GET", {"": "a"}),
        ("GET", {b"\xe4": b"a"}),
        ("GET / HTTP/1.1\r\nX:", {}),
        ("G\xcbT", {}),
        ("", {}),
        ("POST", {"Content-Length": "1"}),
        ("POST", {"Content-Length": "3"}),
        ("POST", {"Content-Length": "2, 2"}),
    ],
)
async def test_request_that_cannot_be_sent(
    nursery: trio.Nursery, method: str, headers: dict[str, str] | dict[bytes, bytes]
) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    transport = Transport(CONTEXT)
    content = b"hi" if method == "POST" else None
    request = httpx.Request(
        method, f"http://{HOST}:{server.port}/", headers=headers, content=content
    )
    with pytest.raises(httpx.LocalProtocolError):
        await transport.handle_async_request(request)
    assert (server.connections, transport.pool.open_count) == (0, 0)


def test_head_of() -> None:
    request = httpx.Request("POST", "http://x:81/p?q=1", headers={"A": "b"}, content=b"hi")
    head = head_of(request)
    assert head.startswith(b"POST /p?q=1 HTTP/1.1\r\nHost: x:81\r\n")
    assert head.endswith(b"\r\nA: b\r\nContent-Length: 2\r\n")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://x/", Origin("http", "x", 80)),
        ("https://x/", Origin("https", "x", 443)),
        ("https://X:8443/y?z", Origin("https", "x", 8443)),
        ("http://x:0/", Origin("http", "x", 0)),
        ("http://user:secret@[::1]:81/", Origin("http", "::1", 81)),
        ("http://b\xfccher.example/", Origin("http", "xn--bcher-kva.example", 80)),
    ],
)
def test_origin_of(url: str, origin: Origin) -> None:
    assert origin_of(httpx.URL(url)) == origin


# --- the transport itself


async def test_kept_connections_are_closed_with_the_client(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(HELLO))
    transport = Transport(CONTEXT)
    async with httpx.AsyncClient(transport=transport) as client:
        for _ in range(3):
            assert (await client.get(f"http://{HOST}:{server.port}/")).text == "hello"
        assert (server.connections, transport.pool.idle_count) == (1, 1)
    assert transport.pool.open_count == 0
    await server.wait_closed()


async def test_exchange_gives_the_answer_as_it_came(nursery: trio.Nursery) -> None:
    body = gzip.compress(b"hello")
    server = await HttpServer.start(nursery, saying(coded("gzip", body)))
    transport = Transport(CONTEXT)
    data = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await transport.exchange(Origin("http", HOST, server.port), "GET", data, Timeouts())
    assert (answer.status, answer.body) == (200, body)
    await transport.aclose()
