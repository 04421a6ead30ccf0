"""The bytes of a streamed reply as objects: both media, in any pieces, and all that is not one."""

import json
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.payload.error import UnusableReply
from bridge.payload.stream import StreamDecoder, StreamMedia

LIMIT: Final = 100_000
NDJSON: Final = '{"append":"Grüße"}\n\r\n  \n{"append":"😀","state":"composing"}\n[DONE]\n{"a":1}'
NDJSON_MEANT: Final[list[dict[str, Any]]] = [
    {"append": "Grüße"},
    {"append": "😀", "state": "composing"},
    {"a": 1},
]
SSE: Final = (
    ": a comment\nid: 7\nretry: 10\n\n"
    'data: {"append":\ndata:"Grüße"}\n\n'
    "event: delta\r\ndata: {}\r\n\r\n"
    "data\n\ndata: [DONE]\r\r"
    'database: {"no": 1}\n\ndata: {"append": "😀"}'
)
SSE_MEANT: Final[list[dict[str, Any]]] = [{"append": "Grüße"}, {}, {"append": "😀"}]


def read(media: StreamMedia, *pieces: bytes, limit: int = LIMIT) -> list[dict[str, Any]]:
    decoder = StreamDecoder(media, limit)
    found = [one for piece in pieces for one in decoder.feed(piece)]
    return [*found, *decoder.end()]


CASES: Final[list[tuple[StreamMedia, str, list[dict[str, Any]]]]] = [
    ("ndjson", NDJSON, NDJSON_MEANT),
    ("sse", SSE, SSE_MEANT),
]


@pytest.mark.parametrize(("media", "text", "meant"), CASES)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@given(cuts=st.sets(st.integers(min_value=0, max_value=200)))
def test_the_pieces_do_not_matter(
    media: StreamMedia, text: str, meant: list[dict[str, Any]], bom: bytes, cuts: set[int]
) -> None:
    whole = bom + text.encode()
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(places)]
    assert read(media, *pieces) == meant


@pytest.mark.parametrize(("media", "text", "meant"), CASES)
def test_byte_by_byte(media: StreamMedia, text: str, meant: list[dict[str, Any]]) -> None:
    assert read(media, *(bytes([one]) for one in text.encode())) == meant


def test_a_byte_order_mark_does_not_hide_the_first_event() -> None:
    assert read("sse", b"\xef\xbb\xbfdata: {}\n\n") == [{}]


def test_comments_and_ids_only_say_nothing() -> None:
    assert read("sse", b": ping\n\nid: 1\n\n" * 100) == []


BAD: Final[list[tuple[StreamMedia, bytes, str]]] = [
    ("ndjson", b"{}\nTraceback (most recent call last):\n", "line 2 is not JSON: "),
    ("ndjson", b"{}\n[1]\n", "line 2 is not a JSON object"),
    ("ndjson", b'"text"\n', "line 1 is not a JSON object"),
    ("ndjson", b"{}\nnull\n", "line 2 is not a JSON object"),
    ("ndjson", b'{"append": "half', "line 1 is not JSON: "),
    ("ndjson", b'{"append": "\xc3"}\n', "line 1 is not JSON: "),
    ("ndjson", b"[" * 50_000, "line 1 is JSON nested too deeply"),
    ("sse", b"data: {}\n\ndata: nothing\n\n", "line 4 is not JSON: "),
    ("sse", b"data: {}\n\ndata: \xff\n\n", "line 4 is not JSON: "),
    ("ndjson", b"x" * (LIMIT + 1), f"over max_reply_bytes ({LIMIT})"),
    ("sse", b": x\n" * (LIMIT // 4) + b"\n", f"over max_reply_bytes ({LIMIT})"),
]


@pytest.mark.parametrize(("media", "body", "why"), BAD)
@pytest.mark.parametrize("size", [1, 7, LIMIT + 2])
def test_what_is_no_object_ends_it(media: StreamMedia, body: bytes, why: str, size: int) -> None:
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    with pytest.raises(UnusableReply) as caught:
        read(media, *pieces)
    assert str(caught.value).startswith(why)


def test_a_character_that_is_cut_between_two_pieces_is_whole() -> None:
    line = json.dumps({"append": "é"}, ensure_ascii=False).encode() + b"\n"
    cut = line.index(b"\xc3") + 1
    assert read("ndjson", line[:cut], line[cut:]) == [{"append": "é"}]


def test_what_came_before_a_bad_line_has_come() -> None:
    decoder = StreamDecoder("ndjson", LIMIT)
    found = decoder.feed(b'{"append": "a"}\n{"append": "b"}\nnot JSON\n')
    assert [next(found), next(found)] == [{"append": "a"}, {"append": "b"}]
    with pytest.raises(UnusableReply):
        next(found)
