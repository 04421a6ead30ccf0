"""mod_rest's shapes: stanzas as its JSON, and its keys in replies and sends."""

import json
from typing import Any

import msgspec
import pytest

from bridge.payload.body import Reading, ReplyBody, RichObject, read_reply
from bridge.payload.error import UnusableReply
from bridge.payload.mod_rest import from_mod_rest, to_mod_rest
from tests.bridge.payload.mod_rest_case import CASES, ModRestCase
from tests.bridge.sample import stanza

HEAD = {"kind", "type", "to", "from", "id"}


def written(xml: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(msgspec.json.encode(to_mod_rest(stanza(xml))))
    return value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stanza[:80])
def test_a_stanza_is_written_as_mod_rest_does(case: ModRestCase) -> None:
    expected = {**case.theirs, **case.ours}
    found = {key: value for key, value in written(case.stanza).items() if key not in HEAD}
    assert found == {key: value for key, value in expected.items() if value is not None}
    assert bool(case.why) == bool(case.ours)


def test_the_head_of_a_stanza() -> None:
    assert written("<presence to='a@b' from='c@d'/>") == {
        "kind": "presence",
        "type": "available",
        "to": "a@b",
        "from": "c@d",
    }
    assert written(
        "<message to='a@b' id='1' type='chat' xml:lang='de'><body>x</body></message>"
    ) == {
        "kind": "message",
        "type": "chat",
        "to": "a@b",
        "id": "1",
        "lang": "de",
        "body": "x",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"reference": {"uri": "a:b"}}, {"references": [{"uri": "a:b"}]}),
        ({"reference": 5}, {"references": 5}),
        ({"reference": {"uri": "a:b"}, "references": []}, {"references": []}),
        ({"oob_url": "http://a/b"}, {"oob": {"url": "http://a/b"}}),
        ({"oob": {"url": "x"}, "oob_url": "y"}, {"oob": {"url": "x"}}),
        ({"oob_url": ""}, {"oob": None}),
        ({"join": True}, {"muc": True}),
        ({"join": False}, {"muc": None}),
        ({"join": True, "muc": {"password": "p"}}, {"muc": {"password": "p"}}),
        ({"items": {}}, {"items": True}),
        ({"items": {"node": "n"}}, {"items": "n"}),
        ({"items": ["a.b", {"jid": "c.d"}]}, {"items": ["a.b", {"jid": "c.d"}]}),
        ({"version": {}, "disco": {}}, {"version": True, "disco": True}),
        ({"muc": {}, "register": {}}, {"muc": {}, "register": True}),
        ({"archive": {"ids": "1,2", "max": 3}}, {"archive": {"ids": ["1", "2"], "max": 3}}),
        ({"archive": {"ids": ["1"]}}, {"archive": {"ids": ["1"]}}),
        ({"archive": 5, "body": "x"}, {"archive": 5, "body": "x"}),
    ],
)
def test_keys_of_mod_rest_become_ours(given: Any, expected: Any) -> None:
    assert from_mod_rest(given) == expected


def test_a_reply_may_have_keys_of_mod_rest() -> None:
    content = json.dumps({"body": "http://a/b", "oob_url": "http://a/b", "nothing": "known"})
    reading = read_reply(ReplyBody("json", content.encode()))
    assert reading.unknown == ("nothing",)
    (one,) = reading.objects
    assert isinstance(one, RichObject)
    assert (one.body, one.fields) == ("http://a/b", {"oob": {"url": "http://a/b"}})


@pytest.mark.parametrize("key", ["oob_url", "reference", "join", "items", "archive"])
@pytest.mark.parametrize("value", [None, True, False, 5, "", "x", [], [5], {}, {"node": []}])
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    content = json.dumps({"body": "x", key: value}).encode()
    try:
        reading = read_reply(ReplyBody("json", content))
    except UnusableReply as error:
        reading = Reading([], whys=(str(error),))
    assert not any("not JSON" in why for why in reading.nothing)
    assert key in ("items", "archive") or key not in reading.unknown
