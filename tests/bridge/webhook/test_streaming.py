"""A streamed reply on the wire, with either client: read as it comes, and within its bounds."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Count, HttpSettings, Seconds
from bridge.payload.error import UnusableReply
from bridge.payload.stream import StreamMedia
from bridge.webhook.endpoint import Endpoint
from bridge.webhook.observer import PostAnswer, PostFailure, PostReport
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from tests.bridge.http_server import Answer, Exchange, HttpServer
from tests.bridge.webhook.test_endpoint import BODY, UID

LINES: Final = b'{"append":"a"}\n{"append":"b"}\n'
STREAM: Final = "Content-Type: application/x-ndjson"
CHUNKED: Final = "Transfer-Encoding: chunked"
IDLE_S: Final = 5
MAX_S: Final = 60


@define
class Taken:
    """Takes streams, as the dispatcher would: what has come of each."""

    deadline: float = float("inf")
    pieces: list[bytes] = field(factory=list)
    opened: list[tuple[str, StreamMedia]] = field(factory=list)
    changed: trio.Event = field(factory=trio.Event)
    refuses: bytes = b"\0"
    ended: float = 0.0

    def open(self, uid: str, media: StreamMedia, limit_bytes: int) -> "Taken":
        self.opened.append((uid, media))
        return self

    def feed(self, piece: bytes) -> None:
        if self.refuses in piece:
            raise UnusableReply("line 1 is not JSON")
        self.pieces.append(piece)
        self.changed.set()
        self.changed = trio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    async def wait(self, body: bytes) -> None:
        """Wait until so much has come."""
        while self.body != body:
            await self.changed.wait()


@define
class Seen:
    """An observer of POSTs."""

    reports: list[PostReport] = field(factory=list)

    def now(self) -> float:
        return 0.0

    def exchanged(
        self, uid: str, attempt: int, began: float, request: bytes, result: PostReport
    ) -> None:
        self.reports.append(result)


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", *lines, "")).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture(params=[False, True], ids=["direct", "httpx"])
def http(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HttpSettings:
    """Settings for our own client, and for httpx's."""
    if request.param:
        monkeypatch.setattr("bridge.webhook.client._is_direct", lambda *_: False)
    return HttpSettings(
        stream_idle_s=Seconds(IDLE_S), stream_max_s=Seconds(MAX_S), max_reply_bytes=Count(10_000)
    )


@asynccontextmanager
async def posting(
    nursery: trio.Nursery, http: HttpSettings, answer: Answer, taken: Taken
) -> AsyncIterator[tuple[list[Outcome], Seen]]:
    """Make one POST; the outcome and the report are there once the block has ended."""
    server = await HttpServer.start(nursery, answer)
    seen, outcomes = Seen(), list[Outcome]()
    endpoint = Endpoint(server.url(), http, observer=seen)
    endpoint.use_streams(taken)

    async def post() -> None:
        outcomes.append(await endpoint.post(BODY, UID))
        taken.ended = trio.current_time()

    try:
        async with trio.open_nursery() as inner:
            inner.start_soon(post)
            yield outcomes, seen
    finally:
        await endpoint.aclose()
    await server.wait_closed()


FRAMINGS: Final[dict[str, tuple[bytes, Callable[[bytes], bytes], bytes | None]]] = {
    "chunked": (head(STREAM, CHUNKED), chunk, b"0\r\n\r\n"),
    "length": (head(STREAM, f"Content-Length: {len(LINES)}"), bytes, b""),
    "close": (head(STREAM), bytes, None),
    "sse": (head("Content-Type: Text/Event-Stream; charset=utf-8", CHUNKED), chunk, b"0\r\n\r\n"),
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_it_is_read_as_it_comes(
    nursery: trio.Nursery, http: HttpSettings, framing: str
) -> None:
    begin, frame, end = FRAMINGS[framing]
    taken, go = Taken(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(begin)
        await exchange.send(frame(LINES[:20]))
        await go.wait()
        await exchange.send(frame(LINES[20:]))
        if end is None:
            await exchange.close()
        elif end:
            await exchange.send(end)

    async with posting(nursery, http, answer, taken) as (outcomes, seen):
        await taken.wait(LINES[:20])
        assert outcomes == []
        go.set()
    assert taken.body == LINES
    assert taken.opened == [(UID, "sse" if framing == "sse" else "ndjson")]
    assert all(one.is_success for one in outcomes)
    [report] = seen.reports
    assert isinstance(report, PostAnswer)
    assert (report.status, report.body) == (200, LINES)


async def test_one_that_comes_in_one_piece_is_whole(
    nursery: trio.Nursery, http: HttpSettings
) -> None:
    taken = Taken()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, f"Content-Length: {len(LINES)}") + LINES)

    async with posting(nursery, http, answer, taken) as (outcomes, seen):
        pass
    [outcome] = outcomes
    if isinstance(outcome, Replied):
        assert outcome == Replied("ndjson", LINES)
    else:  # by pieces
        assert (outcome, taken.body) == (NoReply(), LINES)
    assert [one.body for one in seen.reports if isinstance(one, PostAnswer)] == [LINES]


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_coding_is_undone_by_pieces(
    nursery: trio.Nursery,
    http: HttpSettings,
    coding: str,
    compress: Callable[[bytes], bytes],
) -> None:
    taken, packed = Taken(), compress(LINES)

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED, f"Content-Encoding: {coding}"))
        for place in range(len(packed)):
            await exchange.send(chunk(packed[place : place + 1]))
        await exchange.send(b"0\r\n\r\n")

    async with posting(nursery, http, answer, taken) as (outcomes, seen):
        pass
    assert outcomes == [NoReply()]
    assert taken.body == LINES
    assert seen.reports == [PostAnswer(200, {"content-type": "application/x-ndjson"}, LINES)]


BOMB: Final = gzip.compress(b" " * 1_000_000)
BAD: Final[dict[str, tuple[list[str], list[bytes], str]]] = {
    "a bomb": (["Content-Encoding: gzip"], [BOMB], "over max_reply_bytes (10000)"),
    "an endless line": ([], [b"x" * 4000] * 10, "over max_reply_bytes (10000)"),
    "not gzip": (["Content-Encoding: gzip"], [LINES], "the body is not compressed as its header"),
    "brotli": (["Content-Encoding: br"], [LINES], "Content-Encoding 'br' was not requested"),
    "two codings": (["Content-Encoding: gzip, gzip"], [LINES], "more than one content coding"),
    "a bad line": ([], [b"\0\n"], "line 1 is not JSON"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_one_ends_the_post(
    nursery: trio.Nursery, http: HttpSettings, case: str
) -> None:
    headers, pieces, why = BAD[case]

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED, *headers))
        await wait_all_tasks_blocked()
        for piece in pieces:
            await exchange.send(chunk(piece))
        await exchange.wait_gone()

    async with posting(nursery, http, answer, Taken()) as (outcomes, _):
        pass
    [outcome] = outcomes
    assert isinstance(outcome, BadReply)
    assert outcome.why.startswith(why)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_one_that_breaks_is_a_failure_to_whom_it_is_told(
    nursery: trio.Nursery, http: HttpSettings, how: str
) -> None:
    taken = Taken()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED) + chunk(LINES))
        await taken.wait(LINES)
        await (exchange.close() if how == "close" else exchange.reset())

    async with posting(nursery, http, answer, taken) as (outcomes, seen):
        pass
    [outcome] = outcomes
    assert isinstance(outcome, Unreachable)
    assert [one.body for one in seen.reports if isinstance(one, PostAnswer)] == [LINES]


async def test_the_head_of_an_error_is_not_a_stream(
    nursery: trio.Nursery, http: HttpSettings
) -> None:
    taken = Taken()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED).replace(b"200 OK", b"500 No"))
        await wait_all_tasks_blocked()
        await exchange.send(chunk(LINES) + b"0\r\n\r\n")

    async with posting(nursery, http, answer, taken) as (outcomes, _):
        pass
    assert outcomes == [Rejected(500)]
    assert taken.opened == []


@pytest.mark.parametrize(
    ("every_s", "pieces", "why", "took_s"),
    [
        (IDLE_S - 1, 5, f"nothing more of the reply within {IDLE_S} s", 4 * (IDLE_S - 1) + IDLE_S),
        (1, 1000, f"the reply was not complete within {MAX_S} s", MAX_S),
    ],
    ids=["silence", "one byte a second"],
)
async def test_two_bounds_end_it_and_the_time_out_does_not(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    every_s: float,
    pieces: int,
    why: str,
    took_s: float,
) -> None:
    """With our own client, over a connection in memory, since the clock is a mock."""
    http = HttpSettings(
        timeout_s=Seconds(3), stream_idle_s=Seconds(IDLE_S), stream_max_s=Seconds(MAX_S)
    )
    taken = Taken()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED))
        for _ in range(pieces):
            await exchange.send(chunk(b" "))
            await trio.sleep(every_s)
        await exchange.wait_gone()

    began = trio.current_time()
    async with posting(nursery, http, answer, taken) as (outcomes, _):
        pass
    assert outcomes == [TimedOut(why)]
    assert took_s <= taken.ended - began < took_s + 1


async def test_silence_before_the_first_byte_is_reported_as_a_time_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    http = HttpSettings(stream_idle_s=Seconds(IDLE_S))

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED))
        await exchange.wait_gone()

    async with posting(nursery, http, answer, Taken()) as (outcomes, seen):
        pass
    assert outcomes == [TimedOut(f"nothing more of the reply within {IDLE_S} s")]
    assert seen.reports == [PostFailure("timed_out")]


async def test_the_budget_of_an_iq_cuts_its_stream(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(STREAM, CHUNKED))
        await exchange.wait_gone()

    taken = Taken(deadline=trio.current_time() + 2)
    async with posting(nursery, HttpSettings(), answer, taken) as (outcomes, _):
        pass
    [outcome] = outcomes
    assert isinstance(outcome, TimedOut)
    assert outcome.was_cut
