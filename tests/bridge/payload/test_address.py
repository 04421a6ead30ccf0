"""The parts of addresses in each request, and that they are JSON whatever an address has in it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.payload.address import encoded_addresses, parts_of
from bridge.payload.body import ReplyBody, read_reply
from tests.bridge.payload.test_field import message, read

WHALE = "moby\\40sea.example@irc.example/bot"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("romeo@montague.lit/a/b@c", {"local": "romeo", "domain": "montague.lit",
                                      "resource": "a/b@c"}),
        ("romeo@montague.lit", {"local": "romeo", "domain": "montague.lit"}),
        ("montague.lit", {"domain": "montague.lit"}),
        ("montague.lit/x", {"domain": "montague.lit", "resource": "x"}),
        (WHALE, {"local": "moby\\40sea.example", "local_unescaped": "moby@sea.example",
                 "domain": "irc.example", "resource": "bot"}),
        ("ü\"@x/\\ud83d", {"local": "ü\"", "domain": "x", "resource": "\\ud83d"}),
        ("", {}),
        (None, {}),
    ],
)  # fmt: skip
def test_the_parts_of_an_address(address: str | None, parts: dict[str, str]) -> None:
    assert parts_of("from", address) == {f"from_{key}": one for key, one in parts.items()}


text = st.one_of(st.none(), st.text("ab@/\\\"'40ü\n\x00 .", max_size=12))


@given(text, text)
def test_the_fast_way_says_the_same(to: str | None, sender: str | None) -> None:
    value = json.loads(b'{"a":1' + encoded_addresses(to, sender))
    assert value == {"a": 1, **parts_of("to", to), **parts_of("from", sender)}


def test_each_request_has_them() -> None:
    plain = read(message("<body>x</body>"))
    rich = read(message("<body>x</body><subject>s</subject>", from_=WHALE))
    expected: dict[str, Any] = {
        "from_local": "juliet",
        "from_domain": "capulet.example",
        "from_resource": "balcony",
        "to_local": "bot",
        "to_domain": "b.example",
    }
    assert expected.items() <= plain.items()
    assert "from_local_unescaped" not in plain
    assert (rich["from_local_unescaped"], rich["from_resource"], rich["subject"]) == (
        "moby@sea.example",
        "bot",
        "s",
    )
    assert {"to_domain": "b", "from_domain": "d"}.items() <= read(
        "<presence to='a@b' from='d'/>"
    ).items()


def test_a_service_may_send_them_back() -> None:
    told = {**read(message("<body>x</body>")), "body": "y", "stanza": ""}
    reading = read_reply(ReplyBody("json", json.dumps(told).encode()))
    assert [one.body for one in reading.objects] == ["y"]
