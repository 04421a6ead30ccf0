"""Words that stay: nothing else does, and XML and JSON agree, however the stream is cut."""

import json
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.capture.format import Record
from bridge.capture.redact import Redactor
from bridge.capture.redact.keep import TEXT_LIMIT, KeptWords, parse_words

KEY: Final = b"0123456789abcdef"
KEEP: Final = parse_words("order\n42\nsign-out\n")
PARTS: Final = st.sampled_from(
    ["order", "Order", "42", "sign-out", "sign", "out", "juliet", "re", "7", "o"]
)
SIGNS: Final = st.sampled_from(["", " ", "\n", "/", "!", "-", "_", "@", ".", "'", "&", "<", ":"])
TEXTS: Final = st.lists(st.tuples(PARTS, SIGNS), max_size=12).map(
    lambda pairs: "".join(part + sign for part, sign in pairs)
)
EDGE: Final = "/!.'-_:"


def in_xml(text: str, cuts: list[int], keep: KeptWords = KEEP) -> str:
    """Redact a text as the body of a message that comes in pieces."""
    data = f"<message><body>{escape(text)}</body></message>".encode()
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    redactor = Redactor(KEY, keep=keep)
    records = [
        one
        for at, (start, end) in enumerate(pairwise(edges))
        for one in redactor.feed(Record(float(at), "in", data[start:end]))
    ]
    new = b"".join(one.data for one in [*records, *redactor.end()])
    return ElementTree.fromstring(new).findtext("body") or ""


def in_json(text: str) -> tuple[str, str]:
    """Redact a text as the body of a request and as that of its answer."""
    value = {"uid": "msg_a1", "request": {"kind": "message", "body": text}, "status": 200}
    value |= {"headers": {"content-type": "application/json"}, "body": json.dumps({"body": text})}
    [new] = Redactor(KEY, keep=KEEP).feed(Record(0.0, "http", json.dumps(value).encode()))
    found = json.loads(new.data)
    return found["request"]["body"], json.loads(found["body"])["body"]


@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=5))
def test_only_whole_words_stay(text: str, cuts: list[int]) -> None:
    new = in_xml(text, cuts)
    assert len(new) == len(text)
    for old, one in zip(text.split(), new.split(), strict=True):
        core = old.strip(EDGE).lower()
        if core in ("order", "42", "sign-out"):
            assert one == old
        else:
            for before, after in zip(old, one, strict=True):
                assert not before.isalnum() or before != after, (old, one)


@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=5))
def test_a_stream_and_json_agree(text: str, cuts: list[int]) -> None:
    assert (in_xml(text, cuts),) * 2 == in_json(text)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_text_over_the_limit_keeps_nothing(extra: int) -> None:
    text = "order ".ljust(TEXT_LIMIT + extra, "x")
    new = in_xml(text, [3, 500])
    assert new.startswith("order ") is not bool(extra)
    assert (new, new) == in_json(text)


def test_a_number_as_the_body_of_an_answer_stays_a_number() -> None:
    text = '{"uid":"msg_a1","status":200,"headers":{"content-type":"application/json"},"body":'
    for body, kept in (("42", True), ("43", False)):
        data = f"{text}{json.dumps(json.dumps({'body': int(body)}))}}}".encode()
        [new] = Redactor(KEY, keep=KEEP).feed(Record(0.0, "http", data))
        found = json.loads(json.loads(new.data)["body"])["body"]
        assert isinstance(found, int)
        assert (found == int(body)) is kept


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("text/plain", "Order 42, juliet"),
        ("application/xml", "<message><body>Order 42, juliet</body></message>"),
    ],
)
def test_words_stay_in_an_answer_that_is_no_json(media: str, body: str) -> None:
    value = {"uid": "msg_a1", "status": 200, "headers": {"content-type": media}, "body": body}
    [new] = Redactor(KEY, keep=KEEP).feed(Record(0.0, "http", json.dumps(value).encode()))
    found = json.loads(new.data)["body"]
    assert "Order 42, " in found
    assert "juliet" not in found


def test_without_a_list_nothing_stays() -> None:
    assert "order" not in in_xml("/order 42", [], KeptWords())
