"""One POST against a server that answers byte for byte what the test says: H1 to H4 on the wire."""

import gzip
import math
import re
import time
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Count, HttpSettings
from bridge.config.value import PostUrl, parse_post_url
from bridge.httpclient.response import Response as Answered
from bridge.webhook.client import USER_AGENT
from bridge.webhook.endpoint import Endpoint, OptionsAnswer
from bridge.webhook.outcome import (
    ERROR_OF_STATUS,
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from tests.bridge.http_server import (
    HOST,
    Answer,
    Exchange,
    HttpServer,
    closing_after,
    response,
    saying,
)

BODY: Final = b'{"kind":"message"}'
UID: Final = "u1"
REPLY: Final = b'{"body":"hi"}'
GZIPPED: Final = gzip.compress(REPLY)
DEFLATED: Final = zlib.compress(REPLY)
BOMB: Final = gzip.compress(b" " * 2 * 1024 * 1024)
BLANK: Final = gzip.compress(b" \r\n")


@asynccontextmanager
async def endpoint_at(
    url: PostUrl, http: HttpSettings | None = None, now: Callable[[], float] = time.time
) -> AsyncIterator[Endpoint]:
    """An endpoint with the transport of the daemon, closed at the end."""
    endpoint = Endpoint(url, http or HttpSettings(), now=now)
    try:
        yield endpoint
    finally:
        with trio.CancelScope(shield=True):
            await endpoint.aclose()


async def post_once(server: HttpServer, http: HttpSettings | None = None) -> Outcome:
    """POST once; the server is to have no connection left when it is over."""
    async with endpoint_at(server.url(), http) as endpoint:
        outcome = await endpoint.post(BODY, UID)
    await server.wait_closed()
    return outcome


def headed(*headers: str, content: bytes = REPLY) -> bytes:
    """Write a 200 with these headers and no other."""
    head = "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", *headers))
    return f"{head}\r\n".encode("latin-1") + content


JSON: Final = "Content-Type: application/json"
LENGTH: Final = f"Content-Length: {len(REPLY)}"
AS_JSON: Final = Replied("json", REPLY)

OK_TABLE: Final[list[tuple[str, bytes, Outcome]]] = [
    ("json", headed(JSON, LENGTH), AS_JSON),
    ("a charset", headed(f"{JSON}; charset=utf-8", LENGTH), AS_JSON),
    ("a charset in capitals", headed(f"{JSON} ; Charset=UTF-8;x=y", LENGTH), AS_JSON),
    ("letter case", headed("content-TYPE: Application/JSON", LENGTH), AS_JSON),
    ("white space", headed("Content-Type:   application/json   ", LENGTH), AS_JSON),
    ("xml", headed("Content-Type: application/xmpp+xml", LENGTH), Replied("xml", REPLY)),
    (
        "xml, parameters",
        headed("Content-Type: APPLICATION/xmpp+xml;charset=utf-8", LENGTH),
        Replied("xml", REPLY),
    ),
    ("no media type", headed(LENGTH), NoReply(ignored="none")),
    ("an empty media type", headed("Content-Type:", LENGTH), NoReply(ignored="none")),
    ("html", headed("Content-Type: text/html", LENGTH), NoReply(ignored="text/html")),
    (
        "html, charset",
        headed("Content-Type: Text/HTML; charset=UTF-8", LENGTH),
        NoReply(ignored="text/html"),
    ),
    ("text", headed("Content-Type: text/plain", LENGTH), NoReply(ignored="text/plain")),
    ("a byte order mark", headed(JSON, "Content-Length: 4", content=b"\xef\xbb\xbf\n"), NoReply()),
    ("near json", headed("Content-Type: application/jsonp", LENGTH), NoReply("application/jsonp")),
    ("problem", headed("Content-Type: application/a+json", LENGTH), NoReply("application/a+json")),
    ("generic xml", headed("Content-Type: text/xml", LENGTH), NoReply(ignored="text/xml")),
    ("empty", headed(JSON, "Content-Length: 0", content=b""), NoReply()),
    ("empty, no type", headed("Content-Length: 0", content=b""), NoReply()),
    ("white space body", headed(JSON, "Content-Length: 4", content=b" \r\n\t"), NoReply()),
    (
        "white space body, html",
        headed("Content-Type: text/html", "Content-Length: 1", content=b"\n"),
        NoReply(),
    ),
    (
        "chunked",
        headed(JSON, "Transfer-Encoding: chunked", content=b"d\r\n" + REPLY + b"\r\n0\r\n\r\n"),
        AS_JSON,
    ),
    (
        "chunked, in pieces, with extensions and trailers",
        headed(
            JSON,
            "Transfer-Encoding: chunked",
            content=b"5;x=y\r\n" + REPLY[:5] + b"\r\n8\r\n" + REPLY[5:] + b"\r\n0\r\nX: y\r\n\r\n",
        ),
        AS_JSON,
    ),
    ("identity said aloud", headed(JSON, LENGTH, "Content-Encoding: Identity"), AS_JSON),
    (
        "gzip that was not asked for",
        headed(
            JSON,
            f"Content-Length: {len(GZIPPED)}",
            "Content-Encoding: gzip",
            content=GZIPPED,
        ),
        AS_JSON,
    ),
    (
        "deflate that was not asked for",
        headed(
            JSON,
            f"Content-Length: {len(DEFLATED)}",
            "Content-Encoding: Deflate",
            content=DEFLATED,
        ),
        AS_JSON,
    ),
    (
        "a bomb",
        headed(JSON, f"Content-Length: {len(BOMB)}", "Content-Encoding: gzip", content=BOMB),
        BadReply("over max_reply_bytes (1048576)"),
    ),
    (
        "nothing but white space, in gzip",
        headed(JSON, f"Content-Length: {len(BLANK)}", "Content-Encoding: gzip", content=BLANK),
        NoReply(),
    ),
    (
        "no gzip",
        headed(JSON, LENGTH, "Content-Encoding: gzip"),
        BadReply("the body is not compressed as its header says"),
    ),
    (
        "a coding that was not asked for",
        headed(JSON, LENGTH, "Content-Encoding: br"),
        BadReply("Content-Encoding 'br' was not requested"),
    ),
    (
        "an empty body has no coding",
        headed(JSON, "Content-Length: 0", "Content-Encoding: br", content=b""),
        NoReply(),
    ),
    ("continue first", b"HTTP/1.1 100 Continue\r\n\r\n" + headed(JSON, LENGTH), AS_JSON),
    (
        "early hints first",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2 + headed(JSON, LENGTH),
        AS_JSON,
    ),
    ("not UTF-8", headed(JSON, "Content-Length: 1", content=b"\xff"), Replied("json", b"\xff")),
    ("no reason", headed(JSON, LENGTH).replace(b" OK", b""), AS_JSON),
    ("no reason but a space", headed(JSON, LENGTH).replace(b" OK", b" "), AS_JSON),
    ("line feeds only", headed(JSON, LENGTH).replace(b"\r\n", b"\n"), AS_JSON),
]


@pytest.mark.parametrize(
    ("answer", "expected"), [pytest.param(*row[1:], id=row[0]) for row in OK_TABLE]
)
async def test_h2_h3_what_a_200_says(
    nursery: trio.Nursery, answer: bytes, expected: Outcome
) -> None:
    server = await HttpServer.start(nursery, saying(answer))
    assert await post_once(server) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (headed(JSON), AS_JSON),
        (headed(JSON).replace(b"1.1", b"1.0"), AS_JSON),
        (headed(JSON, LENGTH).replace(b"1.1", b"1.0"), AS_JSON),
        (headed(JSON, "Connection: close"), AS_JSON),
        (headed(JSON, content=b""), NoReply()),
        (headed().replace(b"1.1", b"1.0"), NoReply(ignored="none")),
    ],
)
async def test_a_body_may_end_with_the_connection(
    nursery: trio.Nursery, answer: bytes, expected: Outcome
) -> None:
    server = await HttpServer.start(nursery, closing_after(answer))
    assert await post_once(server) == expected


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("text/plain", Replied("text", REPLY)),
        ("Text/Plain; charset=utf-8", Replied("text", REPLY)),
        ("application/json", AS_JSON),
        ("text/html", NoReply(ignored="text/html")),
    ],
)
async def test_text_may_be_a_reply(nursery: trio.Nursery, media: str, expected: Outcome) -> None:
    server = await HttpServer.start(nursery, saying(response(content=REPLY, media=media)))
    endpoint = Endpoint(server.url(), HttpSettings(), text_replies=True)
    assert await endpoint.post(BODY, UID) == expected
    await endpoint.aclose()


async def test_a_reply_may_come_byte_by_byte(nursery: trio.Nursery) -> None:
    async def answer(exchange: Exchange) -> None:
        for byte in headed(JSON, LENGTH):
            await exchange.send(bytes([byte]))
            await wait_all_tasks_blocked()

    server = await HttpServer.start(nursery, answer)
    assert await post_once(server) == AS_JSON


# --- other statuses


@pytest.mark.parametrize("status", [201, 202, 203, 206, 226, 299])
@pytest.mark.parametrize(
    ("media", "content", "ignored"),
    [
        ("application/json", REPLY, "application/json"),
        ("application/xmpp+xml", b"<message/>", "application/xmpp+xml"),
        ("application/json", b" \n", None),
        ("text/plain", b"created", None),
        ("text/html", b"<p>created</p>", None),
    ],
)
async def test_h3_another_2xx_says_nothing_whatever_its_body(
    nursery: trio.Nursery, status: int, media: str, content: bytes, ignored: str | None
) -> None:
    server = await HttpServer.start(nursery, saying(response(f"{status} X", content, media)))
    expected = NoReply() if ignored is None else NoReply(ignored, status)
    assert await post_once(server) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"deferred": true}', NoReply(None, 202, True)),
        (b'\xef\xbb\xbf {"deferred":true}\n', NoReply(None, 202, True)),
        (b'{"deferred": true, "body": "soon"}', NoReply("application/json", 202, True)),
        (b'{"deferred": false}', NoReply(None, 202)),
        (b'{"deferred": 1}', NoReply("application/json", 202)),
        (b'{"deferred": "true"}', NoReply("application/json", 202)),
        (b'[{"deferred": true}]', NoReply("application/json", 202)),
        (b'{"deferred": tru', NoReply("application/json", 202)),
        (b'{"deferred": true, "x": "\xff"}', NoReply("application/json", 202)),
        (b"[" * 100_000, NoReply("application/json", 202)),
    ],
    ids=repr,
)
async def test_h3_a_reply_may_be_promised(
    nursery: trio.Nursery, content: bytes, expected: NoReply
) -> None:
    server = await HttpServer.start(nursery, saying(response("202 Accepted", content)))
    assert await post_once(server) == expected


async def test_h3_a_promise_may_be_encoded(nursery: trio.Nursery) -> None:
    content = gzip.compress(b'{"deferred": true}')
    head = f"{JSON}\r\nContent-Encoding: gzip\r\nContent-Length: {len(content)}\r\n\r\n"
    answer = f"HTTP/1.1 202 Accepted\r\n{head}".encode() + content
    server = await HttpServer.start(nursery, saying(answer))
    assert await post_once(server) == NoReply(None, 202, True)


@pytest.mark.parametrize("status", [204, 205])
async def test_h3_without_content(nursery: trio.Nursery, status: int) -> None:
    length = "" if status == 204 else "Content-Length: 0\r\n"
    answer = f"HTTP/1.1 {status} No Content\r\n{length}\r\n".encode()
    server = await HttpServer.start(nursery, saying(answer))
    assert await post_once(server) == NoReply()


@pytest.mark.parametrize(
    "status", [*ERROR_OF_STATUS, 300, 302, 305, 399, 407, 418, 421, 499, 505, 520, 599, 600, 999]
)
async def test_h4_a_status_outside_2xx(nursery: trio.Nursery, status: int) -> None:
    server = await HttpServer.start(nursery, saying(response(f"{status} X", REPLY)))
    assert await post_once(server) == Rejected(status)


async def test_h4_not_modified_has_no_body(nursery: trio.Nursery) -> None:
    answer = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"
    server = await HttpServer.start(nursery, saying(answer))
    assert await post_once(server) == Rejected(304)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_h4_a_redirect_is_never_followed(nursery: trio.Nursery, status: int) -> None:
    other = await HttpServer.start(nursery, saying(headed(JSON, LENGTH)))
    head = f"HTTP/1.1 {status} X\r\nLocation: {other.url().url}\r\nContent-Length: 0\r\n\r\n"
    server = await HttpServer.start(nursery, saying(head.encode()))
    assert await post_once(server) == Rejected(status, location=other.url().url)
    assert (len(server.requests), other.connections) == (1, 0)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://example.com/api/", "https://example.com/api/"),
        ("https://user:s3cret@example.com/a@b", "https://example.com/a@b"),
        ("https://example.com/login?next=t0ken", "https://example.com/login?…"),
        ("//user:s3cret@example.com#t0ken", "//example.com?…"),
        ("/api/@me", "/api/@me"),
        ("", ""),
    ],
)
async def test_h4_where_a_redirect_points_is_shown_without_secrets(
    nursery: trio.Nursery, location: str, shown: str
) -> None:
    head = f"HTTP/1.1 301 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    server = await HttpServer.start(nursery, saying(head.encode()))
    assert await post_once(server) == Rejected(301, location=shown)


async def test_h4_an_error_with_an_endless_body_is_an_error(nursery: trio.Nursery) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await exchange.send(b"400\r\n" + b"x" * 1024 + b"\r\n")

    server = await HttpServer.start(nursery, answer)
    assert await post_once(server) == Rejected(500)


# --- what is no HTTP, or no whole answer

BROKEN: Final = [
    ("nothing", b""),
    ("garbage", b"\0\1\2garbage\r\n\r\n"),
    ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    ("half a status line", b"HTTP/1."),
    ("no status", b"HTTP/1.1\r\n\r\n"),
    ("a status of letters", b"HTTP/1.1 abc OK\r\n\r\n"),
    ("half a header", b"HTTP/1.1 200 OK\r\nContent-Ty"),
    ("a header without colon", b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"),
    ("a NUL in a header", b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
    ("a length of letters", headed(JSON, "Content-Length: ten")),
    ("a negative length", headed(JSON, "Content-Length: -1")),
    ("two lengths", headed(JSON, LENGTH, "Content-Length: 99")),
    ("a length too long", headed(JSON, "Content-Length: 99")),
    ("a length of 30 digits", headed(JSON, f"Content-Length: {10**29}")),
    ("an unknown transfer coding", headed(JSON, "Transfer-Encoding: x-rot13")),
    ("a bad chunk size", headed(JSON, "Transfer-Encoding: chunked", content=b"zz\r\n")),
    ("half a chunk", headed(JSON, "Transfer-Encoding: chunked", content=b"d\r\n" + REPLY[:3])),
    ("no last chunk", headed(JSON, "Transfer-Encoding: chunked", content=b"1\r\n1\r\n")),
    ("only a 1xx", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("headers without end", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000),
    ("one endless header", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000),
]


@pytest.mark.parametrize("answer", [pytest.param(row[1], id=row[0]) for row in BROKEN])
async def test_h4_a_broken_or_garbled_answer(nursery: trio.Nursery, answer: bytes) -> None:
    server = await HttpServer.start(nursery, closing_after(answer))
    outcome = await post_once(server)
    assert isinstance(outcome, Unreachable)
    assert outcome.why
    assert "bytearray" not in outcome.why


@pytest.mark.parametrize(
    "before", [b"", b"HTTP/1.1 200 OK\r\n", headed(JSON, "Content-Length: 99"), headed(JSON)]
)
async def test_h4_a_reset(nursery: trio.Nursery, before: bytes) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(before)
        await exchange.reset()

    server = await HttpServer.start(nursery, answer)
    assert isinstance(await post_once(server), Unreachable)


async def test_h4_switching_protocols_was_not_asked_for(nursery: trio.Nursery) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    server = await HttpServer.start(nursery, closing_after(answer))
    assert isinstance(await post_once(server), Unreachable | Rejected)


async def test_h4_nobody_listens() -> None:
    with trio.socket.socket() as taken:
        await taken.bind((HOST, 0))  # bound, but not listening
        url = parse_post_url(f"http://{HOST}:{taken.getsockname()[1]}/")
        async with endpoint_at(url) as endpoint:
            assert isinstance(await endpoint.post(BODY, UID), Unreachable)


async def test_h4_no_such_host() -> None:
    async with endpoint_at(parse_post_url("http://no-such-host.invalid/")) as endpoint:
        assert isinstance(await endpoint.post(BODY, UID), Unreachable)


async def test_h4_no_tls_at_the_other_end(nursery: trio.Nursery) -> None:
    async def babble(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    [listener] = await nursery.start(partial(trio.serve_tcp, babble, 0, host=HOST))
    url = parse_post_url(f"https://{HOST}:{listener.socket.getsockname()[1]}/")
    async with endpoint_at(url) as endpoint:
        outcome = await endpoint.post(BODY, UID)
    assert isinstance(outcome, Unreachable)


async def test_why_names_no_credentials_and_no_query() -> None:
    url = parse_post_url("http://user:s3cret@no-such-host.invalid/path?token=t0ken")
    async with endpoint_at(url) as endpoint:
        outcome = await endpoint.post(BODY, UID)
        assert endpoint.shown == "http://no-such-host.invalid/path?…"
    assert isinstance(outcome, Unreachable)
    assert "s3cret" not in outcome.why
    assert "t0ken" not in outcome.why


CONFIDENTIAL: Final = b'"body": "confidential"}\r\n\r\n'


async def test_a_body_longer_than_it_says_is_not_the_next_answer(nursery: trio.Nursery) -> None:
    answer = response(content=b"{}") + CONFIDENTIAL
    server = await HttpServer.start(nursery, saying(answer))
    async with endpoint_at(server.url()) as endpoint:
        outcomes = [await endpoint.post(BODY, UID) for _ in range(4)]
    assert outcomes == [Replied("json", b"{}")] * 4
    assert server.connections == 4


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\0",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        headed(JSON, "Transfer-Encoding: chunked", content=b""),
    ],
)
async def test_why_quotes_nothing_of_an_answer(nursery: trio.Nursery, before: bytes) -> None:
    server = await HttpServer.start(nursery, closing_after(before + CONFIDENTIAL))
    outcome = await post_once(server)
    assert isinstance(outcome, Unreachable)
    assert "confidential" not in outcome.why


# --- the size of a reply


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (len(REPLY), AS_JSON),
        (len(REPLY) - 1, BadReply(f"over max_reply_bytes ({len(REPLY) - 1})")),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        headed(JSON, LENGTH),
        headed(JSON, "Transfer-Encoding: chunked", content=b"d\r\n" + REPLY + b"\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunked"],
)
async def test_the_limit_of_a_reply_is_exact(
    nursery: trio.Nursery, answer: bytes, limit: int, expected: Outcome
) -> None:
    server = await HttpServer.start(nursery, saying(answer))
    assert await post_once(server, HttpSettings(max_reply_bytes=Count(limit))) == expected


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("application/json", BadReply("over max_reply_bytes (100000)")),
        ("text/html", NoReply(ignored="text/html")),
    ],
)
async def test_an_endless_reply_ends_at_the_limit(
    nursery: trio.Nursery, media: str, expected: Outcome
) -> None:
    sent = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(headed(f"Content-Type: {media}", content=b""))
        while True:
            await exchange.send(b"x" * 10_000)
            sent += 10_000

    server = await HttpServer.start(nursery, answer)
    assert await post_once(server, HttpSettings(max_reply_bytes=Count(100_000))) == expected
    assert sent < 20_000_000  # what fits into the sockets' buffers


async def test_a_promised_length_over_the_limit_is_not_waited_for(nursery: trio.Nursery) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(headed(JSON, f"Content-Length: {10**12}", content=b"x" * 101))
        await exchange.wait_gone()

    server = await HttpServer.start(nursery, answer)
    outcome = await post_once(server, HttpSettings(max_reply_bytes=Count(100)))
    assert outcome == BadReply("over max_reply_bytes (100)")


# --- the request


async def test_h1_the_request(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(response()))
    async with endpoint_at(server.url("/your-api?a=b&c"), now=lambda: 1700000000.9) as endpoint:
        await endpoint.post('{"body":"Grüße"}'.encode(), "msg_1", 3)
    [request] = server.requests
    assert request.line == "POST /your-api?a=b&c HTTP/1.1"
    assert request.content == '{"body":"Grüße"}'.encode()
    headers = dict(request.headers)
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers.pop("traceparent"))
    assert headers == {
        "host": f"{HOST}:{server.port}",
        "content-type": "application/json",
        "content-length": "18",
        "accept": "application/json, application/xmpp+xml, application/x-ndjson, text/event-stream",
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-attempt": "3",
    }
    assert len(request.headers) == 10


@pytest.mark.parametrize(
    ("credentials", "pair"),
    [
        ("juliet:s3cret@", "juliet:s3cret"),
        ("juliet@", "juliet:"),
        (":s3cret@", ":s3cret"),
        ("j%40x:p%3A%2F@", "j@x:p:/"),
        ("jülie:gräß@", "jülie:gräß"),
    ],
)
async def test_credentials_of_the_url_become_basic(
    nursery: trio.Nursery, credentials: str, pair: str
) -> None:
    server = await HttpServer.start(nursery, saying(response()))
    async with endpoint_at(server.url("/", credentials)) as endpoint:
        await endpoint.post(BODY, UID)
        assert endpoint.shown == f"http://{HOST}:{server.port}/"
    [request] = server.requests
    assert request.get("authorization") == "Basic " + b64encode(pair.encode()).decode()
    assert request.get("host") == f"{HOST}:{server.port}"


async def test_extra_headers(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, saying(response()))
    http = HttpSettings(headers={"authorization": "Bearer t", "X-Two": "a b", "User-AGENT": "mine"})
    async with endpoint_at(server.url("/"), http) as endpoint:
        await endpoint.post(BODY, UID)
    [request] = server.requests
    assert request.get("authorization") == "Bearer t"
    assert request.get("x-two") == "a b"
    assert request.get("user-agent") == "mine"


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
async def test_the_credentials_of_a_url_win_over_a_header(nursery: trio.Nursery, name: str) -> None:
    server = await HttpServer.start(nursery, saying(response()))
    http = HttpSettings(headers={name: "Bearer t"})
    async with endpoint_at(server.url("/", "juliet:s3cret@"), http) as endpoint:
        await endpoint.post(BODY, UID)
    [request] = server.requests
    assert request.get("authorization") == "Basic anVsaWV0OnMzY3JldA=="


async def test_no_cookies_are_kept(nursery: trio.Nursery) -> None:
    answer = response().replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n")
    server = await HttpServer.start(nursery, saying(answer))
    async with endpoint_at(server.url()) as endpoint:
        await endpoint.post(BODY, UID)
        await endpoint.post(BODY, UID)
    assert [request.get("cookie") for request in server.requests] == [None, None]


async def test_the_environment_names_no_proxy(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await HttpServer.start(nursery, saying(response()))
    monkeypatch.setenv("HTTP_PROXY", proxy.url().url)
    monkeypatch.setenv("ALL_PROXY", proxy.url().url)
    server = await HttpServer.start(nursery, saying(response()))
    await post_once(server)
    assert (proxy.connections, server.connections) == (0, 1)


# --- connections


@pytest.mark.parametrize(
    "answer",
    [
        response(content=REPLY),
        response("204 No Content", media=None).replace(b"Content-Length: 0\r\n", b""),
        response("500 X", b"x" * 60_000, "text/html"),
        response("302 X", b""),
        headed(JSON, "Transfer-Encoding: chunked", content=b"d\r\n" + REPLY + b"\r\n0\r\n\r\n"),
    ],
    ids=["200", "204", "500", "302", "chunked"],
)
async def test_a_connection_is_used_again(nursery: trio.Nursery, answer: bytes) -> None:
    server = await HttpServer.start(nursery, saying(answer))
    async with endpoint_at(server.url()) as endpoint:
        outcomes = [await endpoint.post(BODY, UID) for _ in range(5)]
    assert len(set(outcomes)) == 1
    assert not isinstance(outcomes[0], Unreachable)
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        response("500 X", b"x" * 100_000, "text/html"),
        headed(JSON, LENGTH, "Connection: close"),
        headed(JSON, LENGTH).replace(b"1.1", b"1.0"),
    ],
    ids=["long", "close", "1.0"],
)
async def test_a_connection_that_cannot_be_kept_is_not(
    nursery: trio.Nursery, answer: bytes
) -> None:
    server = await HttpServer.start(nursery, saying(answer))
    async with endpoint_at(server.url(), HttpSettings(max_reply_bytes=Count(50_000))) as endpoint:
        for count in range(1, 4):
            assert not isinstance(await endpoint.post(BODY, UID), Unreachable)
            assert server.connections == count


async def test_a_connection_that_the_endpoint_closed_is_replaced(nursery: trio.Nursery) -> None:
    closed = trio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(response(content=REPLY))
        await exchange.close()
        closed.set()

    server = await HttpServer.start(nursery, answer)
    async with endpoint_at(server.url()) as endpoint:
        for count in range(1, 4):
            assert await endpoint.post(BODY, UID) == AS_JSON
            await closed.wait()
            closed = trio.Event()
            assert server.connections == count


async def test_posts_run_side_by_side(nursery: trio.Nursery) -> None:
    arrived, go = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        if len(server.requests) == 20:
            arrived.set()
        await go.wait()
        await exchange.send(response(content=exchange.request.content))

    server = await HttpServer.start(nursery, answer)
    outcomes: dict[int, Outcome] = {}
    async with endpoint_at(server.url()) as endpoint, trio.open_nursery() as posts:

        async def post(number: int) -> None:
            outcomes[number] = await endpoint.post(str(number).encode(), UID)

        for number in range(20):
            posts.start_soon(post, number)
        await arrived.wait()
        go.set()
    assert outcomes == {n: Replied("json", str(n).encode()) for n in range(20)}


async def hang(exchange: Exchange) -> None:
    await exchange.wait_gone()


async def hang_in_the_body(exchange: Exchange) -> None:
    await exchange.send(headed(JSON, "Content-Length: 99"))
    await exchange.wait_gone()


async def hang_in_an_error(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\n")
    await exchange.wait_gone()


@pytest.mark.parametrize("answer", [hang, hang_in_the_body, hang_in_an_error])
async def test_cancellation_leaves_no_socket(nursery: trio.Nursery, answer: Answer) -> None:
    asked = trio.Event()

    async def tell_and_answer(exchange: Exchange) -> None:
        asked.set()
        await answer(exchange)

    server = await HttpServer.start(nursery, tell_and_answer)
    async with endpoint_at(server.url()) as endpoint:
        for count in range(1, 4):
            async with trio.open_nursery() as posting:
                posting.start_soon(endpoint.post, BODY, UID)
                await asked.wait()
                await wait_all_tasks_blocked()
                posting.cancel_scope.cancel()
            await server.wait_closed()
            assert server.connections == count
            asked = trio.Event()
        server.answer = saying(response(content=REPLY))
        assert await endpoint.post(BODY, UID) == AS_JSON


async def test_a_cancelled_wait_for_a_connection_frees_its_place(nursery: trio.Nursery) -> None:
    asked = trio.Event()

    async def answer(exchange: Exchange) -> None:
        asked.set()
        await exchange.wait_gone()

    server = await HttpServer.start(nursery, answer)
    http = HttpSettings(max_in_flight=Count(1), max_streams=Count(0))
    async with endpoint_at(server.url(), http) as endpoint:
        async with trio.open_nursery() as posting:
            posting.start_soon(endpoint.post, BODY, UID)
            await asked.wait()
            for _ in range(5):
                posting.start_soon(endpoint.post, BODY, UID)
            await wait_all_tasks_blocked()
            assert server.connections == 1
            posting.cancel_scope.cancel()
        server.answer = saying(response(content=REPLY))
        assert await endpoint.post(BODY, UID) == AS_JSON
    assert server.connections == 2


# --- OPTIONS, for `check`


@pytest.mark.parametrize("status", [200, 204, 404, 405, 500])
async def test_any_answer_to_options_counts(nursery: trio.Nursery, status: int) -> None:
    server = await HttpServer.start(nursery, saying(response(f"{status} X", media=None)))
    async with endpoint_at(server.url("/path")) as endpoint:
        assert await endpoint.options() == OptionsAnswer(status)
    [request] = server.requests
    assert request.line == "OPTIONS /path HTTP/1.1"
    assert request.content == b""
    assert request.get("content-type") is None


async def test_options_has_the_methods_and_the_place(nursery: trio.Nursery) -> None:
    head = "301 X\r\nAllow: get,HEAD , Post\r\nLocation: https://a:b@example.com/x?key=1"
    server = await HttpServer.start(nursery, saying(response(head, media=None)))
    async with endpoint_at(server.url()) as endpoint:
        answer = await endpoint.options()
    methods = frozenset({"GET", "HEAD", "POST"})
    assert answer == OptionsAnswer(301, methods, "https://example.com/x?…")


async def test_no_http_is_no_answer_to_options(nursery: trio.Nursery) -> None:
    server = await HttpServer.start(nursery, closing_after(b"SSH-2.0\r\n"))
    async with endpoint_at(server.url()) as endpoint:
        with pytest.raises(httpx.TransportError):
            await endpoint.options()


# --- an endpoint that was left


class Slow:
    """An exchange that answers when it is told to, and knows whether it was closed before."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.events: list[str] = []

    async def request(
        self, method: str, lines: bytes, body: bytes, deadline: float, *_: object
    ) -> Answered:
        await self.go.wait()
        self.events.append("answered")
        return Answered(204, (), b"")

    async def aclose(self) -> None:
        self.events.append("closed")
        await trio.lowlevel.checkpoint()


async def test_what_is_left_is_closed_after_its_last_post(nursery: trio.Nursery) -> None:
    slow = Slow()
    endpoint = Endpoint(parse_post_url("http://h/"), HttpSettings(), slow)
    for number in range(2):
        nursery.start_soon(endpoint.post, b"{}", f"msg_{number}")
    await wait_all_tasks_blocked()
    nursery.start_soon(endpoint.retire)
    await wait_all_tasks_blocked()
    assert slow.events == []
    slow.go.set()
    await wait_all_tasks_blocked()
    assert slow.events == ["answered", "answered", "closed"]


# --- an endpoint that does not answer


class Silent(Slow):
    """An exchange that is never answered."""

    async def request(
        self, method: str, lines: bytes, body: bytes, deadline: float, *_: object
    ) -> Answered:
        await trio.sleep_until(deadline)
        raise httpx.ReadTimeout("the time for this request is up")


@pytest.mark.parametrize(("left_s", "is_cut"), [(math.inf, False), (31, False), (7, True)])
async def test_the_time_out_or_the_budget_ends_a_post(
    autojump_clock: MockClock, left_s: float, is_cut: bool
) -> None:
    endpoint = Endpoint(parse_post_url("http://h/"), HttpSettings(), Silent())
    now = trio.current_time()
    outcome = await endpoint.post(b"{}", "msg_1", 1, now, now + left_s)
    why = "no answer before the stanza expired" if is_cut else "no answer within 30 s"
    assert outcome == TimedOut(why, was_cut=is_cut)
    assert trio.current_time() - now == pytest.approx(min(left_s, 30))
