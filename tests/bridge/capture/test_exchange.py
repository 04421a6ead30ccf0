"""The `http` record: what is written is what is read, and each way to be none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.capture.exchange import BadExchange, HttpExchange, decode, encode
from bridge.webhook.observer import PostAnswer, PostFailure

NUMBERS = st.integers(0, 10**12).map(lambda micro: micro / 1_000_000)
EXCHANGES = st.builds(
    HttpExchange,
    uid=st.text(),
    attempt=st.integers(1, 100),
    start=st.integers(-(10**9), 10**12).map(lambda micro: micro / 1_000_000),
    duration_s=NUMBERS,
    request=st.dictionaries(st.text(), st.text()).map(lambda one: json.dumps(one).encode()),
    result=st.one_of(
        st.builds(
            PostAnswer,
            status=st.integers(100, 999),
            headers=st.dictionaries(st.from_regex(r"[a-z-]+", fullmatch=True), st.text()),
            body=st.none() | st.binary() | st.text().map(str.encode),
        ),
        st.builds(
            PostFailure,
            kind=st.sampled_from(["unreachable", "timed_out", "given_up"]),
            why=st.text(),
        ),
    ),
)
WHOLE: dict[str, Any] = {
    "uid": "msg_1",
    "attempt": 1,
    "start": 0.5,
    "duration_s": 0.25,
    "request": {"id": "a"},
    "status": 200,
    "headers": {"content-type": "application/json"},
    "body": "{}",
}


@given(EXCHANGES)
def test_what_is_written_is_read(exchange: HttpExchange) -> None:
    assert decode(encode(exchange)) == exchange


def test_it_reads_like_this() -> None:
    answered = PostAnswer(200, {"content-type": "application/json"}, b'{"body":"hi"}')
    exchange = HttpExchange("msg_1", 1, 0.5, 0.012, b'{"id": "a"}', answered)
    assert encode(exchange) == (
        b'{"uid":"msg_1","attempt":1,"start":0.5,"duration_s":0.012,"request":{"id": "a"},'
        b'"status":200,"headers":{"content-type":"application/json"},"body":"{\\"body\\":\\"hi\\"}"}'
    )


def test_captures_of_version_0_1_say_id() -> None:
    before = {"id" if name == "uid" else name: value for name, value in WHOLE.items()}
    assert decode(json.dumps(before).encode()) == decode(json.dumps(WHOLE).encode())


def test_a_failure_stands_in_place_of_an_answer() -> None:
    exchange = HttpExchange("msg_1", 2, 0.5, 20.0, b"{}", PostFailure("timed_out"))
    assert json.loads(encode(exchange))["failure"] == {"kind": "timed_out", "why": ""}
    assert "status" not in json.loads(encode(exchange))


@pytest.mark.parametrize(("body", "written"), [(None, {"body": None}), (b"", {"body": ""})])
def test_a_body_over_the_limit_is_not_an_empty_one(
    body: bytes | None, written: dict[str, Any]
) -> None:
    exchange = HttpExchange("msg_1", 1, 0.0, 0.0, b"{}", PostAnswer(200, {}, body))
    assert written.items() <= json.loads(encode(exchange)).items()


def test_what_is_no_utf8_is_base64() -> None:
    exchange = HttpExchange("msg_1", 1, 0.0, 0.0, b"{}", PostAnswer(200, {}, b"\xff"))
    assert json.loads(encode(exchange))["body_base64"] == "/w=="


def test_what_is_not_said_of_an_answer_is_nothing() -> None:
    written = {name: value for name, value in WHOLE.items() if name not in ("headers", "body")}
    assert decode(json.dumps(written).encode()).result == PostAnswer(200, {}, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"attempt": 0}, "`attempt` must be at least 1"),
        ({"attempt": "1"}, "Expected `int`, got `str` - at `$.attempt`"),
        ({"duration_s": -1}, "`duration_s` is less than 0"),
        ({"status": 99}, "99 is not a valid status"),
        ({"status": 1000}, "1000 is not a valid status"),
        ({"status": None}, "at `$.status`"),
        ({"headers": {"Content-Type": "x"}}, "in lower case"),
        ({"body_base64": "/w=="}, "`body` and `body_base64` exclude"),
        ({"failure": {"kind": "timed_out"}}, "`failure` and `status` exclude"),
        ({"failure": {"kind": "bored"}}, "bored"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_each_fault_is_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadExchange) as caught:
        decode(json.dumps(WHOLE | change).encode())
    assert problem in str(caught.value)


@pytest.mark.parametrize("missing", ["uid", "attempt", "start", "duration_s", "request"])
def test_what_is_missing_is_named(missing: str) -> None:
    written = {name: value for name, value in WHOLE.items() if name != missing}
    with pytest.raises(BadExchange, match=f"missing required field `{missing}`"):
        decode(json.dumps(written).encode())


def test_without_status_there_must_be_a_failure() -> None:
    written = {name: value for name, value in WHOLE.items() if name != "status"}
    with pytest.raises(BadExchange, match="`status` or `failure` is missing"):
        decode(json.dumps(written).encode())


@pytest.mark.parametrize("data", [b"", b"hello", b"[]", b'{"id": "\xff"}', b'{"id":'])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadExchange, match="not a valid HTTP exchange"):
        decode(data)


def test_base64_is_strict() -> None:
    written = {name: value for name, value in WHOLE.items() if name != "body"}
    with pytest.raises(BadExchange, match="`body_base64` is not valid base64"):
        decode(json.dumps(written | {"body_base64": "a!"}).encode())
