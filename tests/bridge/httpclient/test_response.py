"""The reader of answers: each row whole, byte by byte, and with more behind it."""

import gzip
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import httpx
import pytest
from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.httpclient.response import Heads, Response, ResponseLimits, ResponseReader, decoded

LIMITS = ResponseLimits()
SMALL = ResponseLimits(max_head_bytes=100, max_body_bytes=10)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"2\r\nhi\r\n0\r\n\r\n"
ANSWER = OK + LENGTH + b"\r\nhi"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def read(reader: ResponseReader, pieces: list[bytes], *, ends: bool = False) -> Response | None:
    """Feed a reader until it has an answer; None where it wants more."""
    for piece in pieces:
        if (answer := reader.feed(piece)) is not None:
            return answer
    return reader.end() if ends else None


Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@frozen
class Good:
    """What comes, and what is read of it."""

    data: bytes
    body: bytes = b"hi"
    status: int = 200
    reusable: bool = True
    method: str = "POST"
    ends: bool = False
    reason: bytes = b"OK"
    version: str = "1.1"


GOOD = {
    "length": Good(ANSWER),
    "length 0": Good(OK + b"Content-Length: 0\r\n\r\n", b""),
    "length in spaces": Good(OK + b"Content-Length:  2 \r\n\r\nhi"),
    "no reason": Good(b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nhi", reason=b""),
    "empty reason": Good(b"HTTP/1.1 200 \r\n" + LENGTH + b"\r\nhi", reason=b""),
    "reason of Latin-1": Good(
        b"HTTP/1.1 404 nicht \xfcblich\r\n" + LENGTH + b"\r\nhi",
        status=404,
        reason=b"nicht \xfcblich",
    ),
    "status 599": Good(b"HTTP/1.1 599 X\r\n" + LENGTH + b"\r\nhi", status=599, reason=b"X"),
    "empty lines before": Good(b"\r\n\r\n" + ANSWER),
    "bare LF (RFC 9112 §2.2: may be taken)": Good(OK[:-2] + b"\n" + LENGTH + b"\nhi"),
    "chunked": Good(CHUNKED + CHUNKS),
    "chunked, in capitals": Good(CHUNKED.replace(b"chunked", b"CHUNKED") + CHUNKS),
    "chunked, in space": Good(OK + b"Transfer-Encoding: chunked \r\n\r\n" + CHUNKS),
    "chunked, two": Good(CHUNKED + b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"),
    "chunked, zeros": Good(CHUNKED + b"0002\r\nhi\r\n000\r\n\r\n"),
    "chunked, extensions": Good(CHUNKED + b'2;a=b;c="d"\r\nhi\r\n0;x\r\n\r\n'),
    "chunked, trailer": Good(CHUNKED + b"2\r\nhi\r\n0\r\nX: 1\r\nY: 2\r\n\r\n"),
    "chunked, empty": Good(CHUNKED + b"0\r\n\r\n", b""),
    "until close": Good(OK + b"\r\nhi", reusable=False, ends=True),
    "until close, empty": Good(OK + b"\r\n", b"", reusable=False, ends=True),
    "until close, says keep-alive": Good(
        OK + b"Connection: keep-alive\r\n\r\nhi", reusable=False, ends=True
    ),
    "close": Good(OK + b"Connection: close\r\n" + LENGTH + b"\r\nhi", reusable=False),
    "close among others": Good(
        OK + b"Connection: x, Close\r\n" + LENGTH + b"\r\nhi", reusable=False
    ),
    "close after keep-alive": Good(
        OK + b"Connection: keep-alive\r\nConnection: close\r\n" + LENGTH + b"\r\nhi", reusable=False
    ),
    "1.0": Good(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\nhi", reusable=False, version="1.0"),
    "1.0 keep-alive": Good(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\nhi", version="1.0"
    ),
    "1.0 chunked (RFC 9112 §6.1)": Good(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        reusable=False,
        version="1.0",
    ),
    "100": Good(CONTINUE + ANSWER),
    "102, 103": Good(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ANSWER
    ),
    "100, many": Good(20 * CONTINUE + ANSWER),
    "1xx has no body, whatever it says": Good(
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + ANSWER
    ),
    "1xx and chunked": Good(CONTINUE + CHUNKED + CHUNKS),
    "204": Good(b"HTTP/1.1 204 N\r\n\r\n", b"", 204, reason=b"N"),
    "204 with a length": Good(b"HTTP/1.1 204 N\r\n" + LENGTH + b"\r\n", b"", 204, reason=b"N"),
    "205": Good(b"HTTP/1.1 205 R\r\nContent-Length: 0\r\n\r\n", b"", 205, reason=b"R"),
    "304": Good(b"HTTP/1.1 304 N\r\n" + LENGTH + b"\r\n", b"", 304, reason=b"N"),
    "304 chunked": Good(
        b"HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n", b"", 304, reason=b"N"
    ),
    "HEAD": Good(OK + LENGTH + b"\r\n", b"", method="HEAD", reusable=False),
    "HEAD, chunked": Good(CHUNKED, b"", method="HEAD", reusable=False),
    "HEAD, until close": Good(OK + b"\r\n", b"", method="HEAD", reusable=False),
    "HEAD after 100": Good(CONTINUE + OK + LENGTH + b"\r\n", b"", method="HEAD", reusable=False),
    "offers another protocol": Good(
        OK + b"Upgrade: h2c\r\nConnection: upgrade\r\n" + LENGTH + b"\r\nhi"
    ),
}


@pytest.mark.parametrize("row", GOOD.values(), ids=GOOD.keys())
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_answer(row: Good, cut: Cut) -> None:
    reader = ResponseReader(LIMITS)
    reader.begin(row.method)
    answer = read(reader, cut(row.data), ends=row.ends)
    assert answer is not None
    assert (answer.status, answer.body, answer.reason) == (row.status, row.body, row.reason)
    assert answer.version == row.version
    assert reader.reusable == row.reusable
    if row.reusable:  # the next answer on the same connection
        reader.begin("POST")
        assert read(reader, cut(CHUNKED + CHUNKS)) == Response(
            200, ((b"Transfer-Encoding", b"chunked"),), b"hi", b"OK", "1.1"
        )
        assert reader.reusable


@pytest.mark.parametrize("row", [row for row in GOOD.values() if not row.ends])
@pytest.mark.parametrize(
    "more", [b"x", b"HTTP/1.1 500 Oops\r\nX: y\r\n\r\n", ANSWER, 99 * CONTINUE, 100_000 * b"x"]
)
def test_what_follows_changes_nothing(row: Good, more: bytes) -> None:
    reader = ResponseReader(LIMITS)
    reader.begin(row.method)
    alone = reader.feed(row.data)
    reader = ResponseReader(LIMITS)
    reader.begin(row.method)
    assert reader.feed(row.data + more) == alone
    assert not reader.reusable


BAD = {
    "TLS": (b"\x15\x03\x03\x00\x02\x02\x28", "is not valid HTTP"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "is not valid HTTP"),
    "a request": (b"GET / HTTP/1.1\r\n", "is not valid HTTP"),
    "no version": (b"HTTP 200 OK\r\n\r\n", "is not valid HTTP"),
    "version 2": (b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\nhi", "status line"),
    "version 0.9": (b"HTTP/0.9 200 OK\r\n" + LENGTH + b"\r\nhi", "status line"),
    "version 1.2": (b"HTTP/1.2 200 OK\r\n" + LENGTH + b"\r\nhi", "Invalid HTTP version"),
    "version of two digits": (b"HTTP/11.1 200 OK\r\n\r\n", "is not valid HTTP"),
    "status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "status"),
    "status of four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", "status"),
    "status of letters": (b"HTTP/1.1 2x0 OK\r\n\r\n", "status"),
    "status 0xx": (b"HTTP/1.1 099 X\r\n" + LENGTH + b"\r\nhi", "status line"),
    "NUL in the reason": (b"HTTP/1.1 200 O\0K\r\n" + LENGTH + b"\r\nhi", "control character"),
    "ESC in the reason": (b"HTTP/1.1 200 \x1b[2J\r\n" + LENGTH + b"\r\nhi", "control character"),
    "101": (b"HTTP/1.1 101 S\r\n\r\n", "protocol that was not requested"),
    "101, upgraded": (
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
        "protocol that was not requested",
    ),
    "100 with a body": (CONTINUE[:-2] + LENGTH + b"\r\nhi" + ANSWER, "is not valid HTTP"),
    # framing, and attempts to have two readers disagree about it (RFC 9112 §11.2)
    "length and chunked": (OK + LENGTH + CHUNKED[len(OK) :] + CHUNKS, "Content-Length"),
    "chunked and length": (CHUNKED[:-2] + LENGTH + b"\r\n" + CHUNKS, "Transfer-Encoding"),
    "two lengths": (OK + LENGTH + b"Content-Length: 3\r\n\r\nhi!", "Content-Length"),
    "twice the same length": (OK + LENGTH + LENGTH + b"\r\nhi", "Content-Length"),
    "length, a list": (OK + b"Content-Length: 2, 2\r\n\r\nhi", "Content-Length"),
    "length +2": (OK + b"Content-Length: +2\r\n\r\nhi", "Content-Length"),
    "length -2": (OK + b"Content-Length: -2\r\n\r\nhi", "Content-Length"),
    "length 0x2": (OK + b"Content-Length: 0x2\r\n\r\nhi", "Content-Length"),
    "length 1_0": (OK + b"Content-Length: 1_0\r\n\r\nhi", "Content-Length"),
    "length 2 2": (OK + b"Content-Length: 2 2\r\n\r\nhi", "Content-Length"),
    "length, NUL": (OK + b"Content-Length: 2\0\r\n\r\nhi", "Content-Length"),
    "length, empty": (OK + b"Content-Length:\r\n\r\nhi", "Content-Length"),
    "length over 64 bits": (OK + b"Content-Length: 99999999999999999999\r\n\r\n", "overflow"),
    "gzip, chunked": (
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
        "other than chunked",
    ),
    "chunked, gzip": (
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
        "other than chunked",
    ),
    "chunked twice": (
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
        "other than chunked",
    ),
    "chunked in two headers": (
        OK + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n" + CHUNKS,
        "other than chunked",
    ),
    "chunked, then identity": (
        CHUNKED[:-2] + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKS,
        "other than chunked",
    ),
    "gzip": (OK + b"Transfer-Encoding: gzip\r\n\r\n", "other than chunked"),
    "identity": (OK + b"Transfer-Encoding: identity\r\n\r\nhi", "other than chunked"),
    "xchunked": (OK + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, "other than chunked"),
    "chunked;q=1": (OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNKS, "other than chunked"),
    "VT chunked": (OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS, "is not valid HTTP"),
    "coding, empty": (OK + b"Transfer-Encoding:\r\n\r\n" + CHUNKS, "Transfer-Encoding"),
    "space before colon": (OK + b"Content-Length : 2\r\n\r\nhi", "is not valid HTTP"),
    "space before the first header": (OK + b" X: y\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "folded": (OK + b"X: y\r\n z\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "folded by a tab": (OK + b"X: y\r\n\tz\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "bare CR": (OK + b"X: y\rContent-Length: 3\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "NUL in a value": (OK + b"X: a\0b\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "NUL in a name": (OK + b"X\0: a\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "no name": (OK + b": a\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "no colon": (OK + b"a\r\n" + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "chunk 0x2": (CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n", "chunk size"),
    "chunk +2": (CHUNKED + b"+2\r\nhi\r\n0\r\n\r\n", "chunk size"),
    "chunk -2": (CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n", "chunk size"),
    "chunk in spaces": (CHUNKED + b" 2 \r\nhi\r\n0\r\n\r\n", "chunk size"),
    "chunk without size": (CHUNKED + b"\r\nhi\r\n0\r\n\r\n", "chunk size"),
    "chunk over 64 bits": (CHUNKED + b"10000000000000000\r\nhi", "overflow"),
    "chunk shorter than it says": (CHUNKED + b"4\r\nhi\r\n0\r\n\r\n", "chunk data"),
    "chunk longer than it says": (CHUNKED + b"1\r\nhi\r\n0\r\n\r\n", "chunk data"),
    "chunk, NUL in its extension": (CHUNKED + b"2;a\0\r\nhi\r\n0\r\n\r\n", "chunk extension"),
    "chunk, bare LF": (CHUNKED + b"2\nhi\n0\n\n", "chunk size"),
    "bare CR for CRLF": (OK[:-1] + LENGTH + b"\r\nhi", "is not valid HTTP"),
    "length in the trailer": (CHUNKED + b"2\r\nhi\r\n0\r\n" + LENGTH + b"\r\n", "Content-Length"),
}


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_no_answer(data: bytes, why: str, cut: Cut) -> None:
    reader = ResponseReader(LIMITS)
    with pytest.raises(httpx.RemoteProtocolError, match=why) as raised:
        read(reader, cut(data))
    assert not reader.reusable
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "without a response"),
        (b"HTTP/1.1 200", "in the middle"),
        (OK, "in the middle"),
        (CONTINUE, "in the middle"),
        (OK + LENGTH + b"\r\n", "in the middle"),
        (OK + LENGTH + b"\r\nh", "in the middle"),
        (CHUNKED, "in the middle"),
        (CHUNKED + b"2\r\nhi\r\n", "in the middle"),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", "in the middle"),
    ],
)
def test_end_too_early(data: bytes, why: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=why):
        read(ResponseReader(LIMITS), bytewise(data), ends=True)


def test_headers() -> None:
    data = OK + b"X-Empty:\r\nX-A: b c \t \r\nx-a: \xe9\r\n" + LENGTH + b"\r\nhi"
    for pieces in ([data], bytewise(data)):
        answer = read(ResponseReader(LIMITS), pieces)
        assert answer is not None
        assert answer.headers == (
            (b"X-Empty", b""),
            (b"X-A", b"b c"),
            (b"x-a", b"\xe9"),
            (b"Content-Length", b"2"),
        )
        assert answer.header(b"x-a") == "b c"
        assert answer.header(b"x-b") is None


def test_begun_tells_of_the_first_byte() -> None:
    reader = ResponseReader(LIMITS)
    assert [reader.begun, reader.feed(b"H"), reader.begun] == [False, None, True]
    reader.begin("POST")
    assert [reader.begun] == [False]


def test_interim_and_trailing_headers_are_not_the_answers() -> None:
    data = b"HTTP/1.1 103 Early\r\nA: 1\r\n\r\n" + CHUNKED + b"0\r\nB: 2\r\n\r\n"
    for pieces in ([data], bytewise(data)):
        answer = read(ResponseReader(LIMITS), pieces)
        assert answer is not None
        assert answer.headers == ((b"Transfer-Encoding", b"chunked"),)
        assert answer.reason == b"OK"


# --- limits


def of_head(size: int) -> bytes:
    """An answer with a head of so many bytes, and a body of ten."""
    head = OK + b"Content-Length: 10\r\nX: %b\r\n\r\n"
    return head % (b"x" * (size - len(head) + 2)) + 10 * b"y"


@pytest.mark.parametrize("cut", [whole, bytewise])
def test_head_limit_is_exact(cut: Cut) -> None:
    answer = read(ResponseReader(SMALL), cut(of_head(100)))
    assert answer is not None
    assert answer.body == 10 * b"y"
    with pytest.raises(httpx.RemoteProtocolError, match="head over 100 bytes"):
        read(ResponseReader(SMALL), cut(of_head(101)))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 " + 1000 * b"O",
        OK + b"X: " + 1000 * b"y",
        OK + 1000 * b"y",
        OK + 100 * b"X: y\r\n",
        100 * CONTINUE,
        1000 * b"\r\n",
    ],
    ids=["status line", "value", "name", "headers", "interim answers", "empty lines"],
)
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_endless_head(data: bytes, cut: Cut) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="head over 100 bytes"):
        read(ResponseReader(SMALL), cut(data))


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"2;" + 1000 * b"x",
        CHUNKED + 1000 * b"0",
        CHUNKED + b"2\r\nhi\r\n0\r\nX: " + 1000 * b"y",
        CHUNKED + b"2\r\nhi\r\n0\r\n" + 200 * b"X: y\r\n",
    ],
    ids=["extension", "size", "trailing value", "trailer"],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_endless_framing(data: bytes, step: int) -> None:
    reader = ResponseReader(SMALL)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    with pytest.raises(httpx.RemoteProtocolError, match="too much framing"):
        read(reader, pieces)


def test_framing_of_small_chunks() -> None:
    within = CHUNKED + 10 * b"1\r\nx\r\n" + b"0\r\n\r\n"
    answer = read(ResponseReader(SMALL), bytewise(within))
    assert answer is not None
    assert answer.body == 10 * b"x"
    with pytest.raises(httpx.RemoteProtocolError, match="too much framing"):
        read(ResponseReader(SMALL), bytewise(CHUNKED + 10 * (b"1;" + 20 * b"e" + b"\r\nx\r\n")))


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (OK + b"Content-Length: %d\r\n\r\n", b""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n", b"\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_body_limit_is_exact(head: bytes, tail: bytes, cut: Cut) -> None:
    within = read(ResponseReader(SMALL), cut(head % 10 + 10 * b"y" + tail))
    assert within is not None
    assert within.body == 10 * b"y"
    over = read(ResponseReader(SMALL), cut(head % 11 + 11 * b"y" + tail))
    assert over is not None
    assert (over.status, over.body) == (200, None)


@pytest.mark.parametrize("rest", [b"y", b"garbage instead of a chunk"])
def test_body_over_the_limit_keeps_the_status(rest: bytes) -> None:
    data = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n" + rest
    for pieces in ([data], bytewise(data)):
        reader = ResponseReader(SMALL)
        answer = read(reader, pieces)
        assert answer is not None
        assert (answer.status, answer.reason, answer.body) == (503, b"Busy", None)
        assert not reader.reusable


def test_endless_body_until_close() -> None:
    reader = ResponseReader(SMALL)
    answer = read(reader, bytewise(OK + b"\r\n" + 100 * b"y"))
    assert answer is not None
    assert answer.body is None
    assert not reader.reusable


# --- properties

LINES = st.sampled_from(
    [
        OK,
        CONTINUE,
        CHUNKED,
        CHUNKS,
        ANSWER,
        LENGTH,
        b"\r\n",
        b"\n",
        b"hi",
        b"2\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.0 204 N\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Content-Length: 999\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"X: y\r\n",
        b" z\r\n",
        50 * b"y",
        b"b\r\n01234567890\r\n",
    ]
)
STREAMS = st.lists(LINES | st.binary(max_size=20), max_size=12).map(b"".join)


def outcome(
    data: bytes,
    cuts: list[int],
    method: str,
    limits: ResponseLimits,
    reader: ResponseReader | None = None,
) -> Response | type[Exception] | None:
    reader = reader or ResponseReader(limits)
    reader.begin(method)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    try:
        return read(reader, pieces, ends=True)
    except httpx.RemoteProtocolError as error:
        return type(error)


@given(
    STREAMS,
    st.lists(st.integers(0, 2000), max_size=20),
    st.sampled_from(["POST", "HEAD"]),
    st.sampled_from([LIMITS, ResponseLimits(150, 10)]),
)
@example(ANSWER + b"HTTP/1.1 500 Oops\r\n\r\n", [len(ANSWER)], "POST", LIMITS)
@example(CONTINUE + ANSWER, [5], "HEAD", LIMITS)
def test_cuts_change_nothing(
    data: bytes, cuts: list[int], method: str, limits: ResponseLimits
) -> None:
    uncut = outcome(data, [], method, limits)
    assert outcome(data, cuts, method, limits) == uncut
    assert outcome(data, list(range(len(data))), method, limits) == uncut


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_an_answer_or_a_fault(garbage: bytes, after_head: bool) -> None:
    data = CHUNKED + garbage if after_head else garbage
    assert outcome(data, [7, 11], "POST", SMALL) is not None


# --- heads that are known

WITH_LF: Final = OK + b"Content-Length: 4\n"  # its empty line, and then one that is no part of it
HEADS: Final = st.lists(
    st.sampled_from(
        [
            LENGTH,
            b"Content-Length: 0\r\n",
            b"Content-Length: 4\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Connection: upgrade\r\nUpgrade: x\r\n",
            b"X: y\r\n",
            b"X: y\n",
            b" z\r\n",
            b"\n",
            b"\r\n",
        ]
    ),
    max_size=4,
).map(b"".join)
FIRST_LINES: Final = st.sampled_from(
    [
        OK,
        OK[:-2] + b"\n",
        b"\r\n" + OK,
        CONTINUE + OK,
        b"HTTP/1.1 204 N\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 103 E\r\n",
    ]
)
BODIES: Final = st.sampled_from(
    [
        b"",
        b"hi",
        b"ho",
        b"h",
        b"hi\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"\n\r\nxx",
        b"2\r\n",
        CHUNKS,
    ]
)
SEQUENCES: Final = st.tuples(
    FIRST_LINES,
    HEADS,
    st.lists(st.tuples(BODIES, st.booleans(), st.sampled_from(["POST", "HEAD"]))),
)


@given(
    st.lists(SEQUENCES, min_size=1, max_size=3), st.sampled_from([LIMITS, ResponseLimits(150, 3)])
)
@example([(WITH_LF, b"", [(3 * b"\r\n", True, "POST"), (b"\r\nabcd", True, "POST")])], LIMITS)
def test_what_is_known_changes_nothing(
    sequences: list[tuple[bytes, bytes, list[tuple[bytes, bool, str]]]], limits: ResponseLimits
) -> None:
    """One after the other on one connection, and with heads that others have read, as alone."""
    heads: Heads = {}
    kept = ResponseReader(limits, heads)
    for first, lines, bodies in sequences:
        for body, ends_head, method in 2 * bodies:
            data = first + lines + (b"\r\n" if ends_head else b"") + body
            alone = ResponseReader(limits)
            expected = outcome(data, [], method, limits, alone)
            if not kept.reusable:
                kept = ResponseReader(limits, heads)
            for reader in (ResponseReader(limits, heads), kept):
                assert outcome(data, [], method, limits, reader) == expected
                assert (reader.reusable, reader.begun) == (alone.reusable, alone.begun)


@pytest.mark.parametrize(
    ("data", "method"),
    [
        *((row.data, row.method) for row in GOOD.values()),
        *((data, "POST") for data, _ in BAD.values()),
    ],
    ids=[*GOOD, *BAD],
)
@pytest.mark.parametrize("more", [b"", b"\r\n", b"x", ANSWER])
def test_each_case_again(data: bytes, method: str, more: bytes) -> None:
    heads: Heads = {}
    first = ResponseReader(LIMITS, heads)
    expected = outcome(data, [], method, LIMITS, first)
    reader = ResponseReader(LIMITS, heads)
    for _ in range(2):
        assert outcome(data, [], method, LIMITS, reader) == expected
        assert reader.reusable == first.reusable
        if not reader.reusable:
            reader = ResponseReader(LIMITS, heads)
    if isinstance(expected, Response):
        again = outcome(data, [], method, LIMITS, ResponseReader(LIMITS, heads))
        assert isinstance(again, Response)
        assert again.fields == expected.fields
    alone = outcome(data + more, [], method, LIMITS)
    assert outcome(data + more, [], method, LIMITS, ResponseReader(LIMITS, heads)) == alone


def fed(heads: Heads, data: bytes, method: str = "POST") -> Response | None:
    reader = ResponseReader(LIMITS, heads)
    reader.begin(method)
    return reader.feed(data)


def test_a_known_head_is_not_parsed_again() -> None:
    heads: Heads = {}
    fed(heads, ANSWER)
    ((head, (length, *_)),) = heads.items()
    assert (head, length) == (ANSWER[:-2], len(ANSWER))
    heads[head] = (length, 299, (), b"known", "1.1", {b"a": b"b"})
    known = fed(heads, head + b"ho")
    assert known is not None
    assert (known.status, known.reason, known.body, known.fields) == (
        299,
        b"known",
        b"ho",
        {b"a": b"b"},
    )
    parsed = fed(heads, head + b"hi" + ANSWER)
    assert parsed is not None
    assert parsed.status == 200
    assert fed(heads, head + b"h") is None


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + CHUNKS,
        OK + b"Connection: close\r\n" + LENGTH + b"\r\nhi",
        CONTINUE + ANSWER,
        b"\r\n" + ANSWER,
        ANSWER + b"\r\n",
        WITH_LF + b"\r\n" + 3 * b"\r\n",
        OK + b"X: " + 2048 * b"y" + b"\r\n" + LENGTH + b"\r\nhi",
        OK + b"Content-Length: 1048577\r\n\r\n" + bytes(1048577),
    ],
    ids=["chunked", "close", "interim", "empty line", "more", "LF", "long", "over the limit"],
)
def test_a_head_that_is_not_plain_is_not_kept(data: bytes) -> None:
    heads: Heads = {}
    fed(heads, data)
    assert heads == {}


def test_heads_in_pieces_are_not_kept() -> None:
    heads: Heads = {}
    reader = ResponseReader(LIMITS, heads)
    assert read(reader, [ANSWER[:-1], ANSWER[-1:]]) is not None
    assert heads == {}


def test_few_heads_are_kept() -> None:
    heads: Heads = {}
    for number in range(1000):
        fed(heads, OK + b"X: %d\r\n" % number + LENGTH + b"\r\nhi")
        assert 0 < len(heads) <= 64
    assert any(b"X: 999\r\n" in head for head in heads)


# --- codings


def coded(body: bytes | None, *codings: str, status: int = 200) -> Response:
    headers = tuple((b"Content-Encoding", coding.encode()) for coding in codings)
    return Response(status, headers, body)


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


HELLO = b"hello, " * 10
ZEROS = gzip.compress(bytes(10_000_000))


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (coded(HELLO), HELLO),
        (coded(HELLO, "identity"), HELLO),
        (coded(HELLO, "", "Identity, "), HELLO),
        (coded(gzip.compress(HELLO), "gzip"), HELLO),
        (coded(gzip.compress(HELLO), "X-GZip"), HELLO),
        (coded(zlib.compress(HELLO), "deflate"), HELLO),
        (coded(raw_deflate(HELLO), "deflate"), HELLO),
        (coded(gzip.compress(HELLO) + gzip.compress(b"!"), "gzip"), HELLO + b"!"),
        (coded(gzip.compress(zlib.compress(HELLO)), "deflate, gzip"), HELLO),
        (coded(gzip.compress(zlib.compress(HELLO)), "deflate", "gzip"), HELLO),
        (coded(gzip.compress(b""), "gzip"), b""),
        (coded(b"", "gzip"), b""),
        (coded(b"", "br"), b""),
        (coded(b"", "gzip", status=304), b""),
        (coded(None, "gzip"), None),
        (coded(ZEROS, "gzip"), None),
        (coded(zlib.compress(ZEROS), "gzip, deflate"), None),
        (coded(gzip.compress(bytes(100)), "gzip"), bytes(100)),
        (coded(gzip.compress(bytes(101)), "gzip"), None),
        (coded(2 * gzip.compress(bytes(50)), "gzip"), bytes(100)),
        (coded(3 * gzip.compress(bytes(50)), "gzip"), None),
    ],
)
def test_decoded(answer: Response, body: bytes | None) -> None:
    assert decoded(answer, 100) == body


def test_a_bomb_is_small() -> None:
    assert len(ZEROS) < 10_000


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (coded(HELLO, "br"), "'br' was not requested"),
        (coded(HELLO, "gzip"), "not compressed"),
        (coded(HELLO, "deflate"), "not compressed"),
        (coded(gzip.compress(HELLO)[:-1], "gzip"), "incomplete"),
        (coded(gzip.compress(HELLO)[:12], "gzip"), "incomplete"),
        (coded(zlib.compress(HELLO)[:-1], "deflate"), "incomplete"),
        (coded(raw_deflate(HELLO)[:-1], "deflate"), "incomplete"),
        (coded(gzip.compress(HELLO) + b"x" * 20, "gzip"), "not compressed"),
        (coded(gzip.compress(HELLO)[:-8] + bytes(8), "gzip"), "not compressed"),
        (coded(HELLO, "gzip, gzip, gzip, gzip"), "more than 3"),
        (coded(1000 * gzip.compress(b""), "gzip"), "members"),
        (coded(b"x", "deflate"), "incomplete"),
    ],
)
def test_not_decoded(answer: Response, why: str) -> None:
    with pytest.raises(httpx.DecodingError, match=why):
        decoded(answer, 100)


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["gzip", "deflate", "deflate, gzip"]))
def test_garbage_is_a_fault_or_within_the_limit(garbage: bytes, coding: str) -> None:
    try:
        body = decoded(coded(garbage, coding), 100)
    except httpx.DecodingError:
        return
    assert body is None or len(body) <= 100
