"""The JSON Schema: what is POSTed and what may be answered fit it, and nothing else does."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema_rs import Draft202012Validator, meta

from bridge.cli.main import main
from bridge.payload.derived import Place
from bridge.payload.request import request_body
from bridge.payload.schema import json_schema
from tests.bridge.payload.test_content import ANSWERS, WRITTEN
from tests.bridge.payload.test_field import EXAMPLES, IQS, PRESENCE, message, read
from tests.bridge.sample import stanza

SCHEMA = json_schema()
REQUESTS = [
    *(message(inner) for inner, _, _ in EXAMPLES),
    *(f"<presence to='a@b' from='c@d'>{inner}</presence>" for inner, _, _ in PRESENCE),
    *(f"<iq to='a@b' from='c@d' id='1' type='get'>{inner}</iq>" for inner, _, _ in IQS),
]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"})


def test_it_is_a_schema() -> None:
    meta.validate(SCHEMA)


@pytest.mark.parametrize("xml", REQUESTS)
def test_each_request_fits(xml: str) -> None:
    told = read(xml)
    validator("Request").validate(told)
    assert set(told) <= set(SCHEMA["$defs"]["Request"]["properties"])


def test_the_end_of_a_stay_in_a_room_fits() -> None:
    xml = "<presence from='hall@muc.example/robot' to='bot@bot.example' type='unavailable'/>"
    place = Place(True, reason="kicked")
    told = json.loads(request_body(stanza(xml), xml, 0.0, "u", 1, place, "room_left"))
    assert (told["event"], told["reason"], told["room"]) == (
        "room_left",
        "kicked",
        "hall@muc.example",
    )
    validator("Request").validate(told)
    assert set(told) <= set(SCHEMA["$defs"]["Request"]["properties"])


@pytest.mark.parametrize("reply", [reply for reply, _ in (*WRITTEN, *ANSWERS)])
def test_each_reply_fits(reply: dict[str, Any]) -> None:
    validator("Reply").validate(reply)
    validator("Reply").validate([reply])


@pytest.mark.parametrize(
    "reply",
    [{"body": []}, {"state": "typing"}, {"reactions": 5}, {"files": [{}]}, {"text": "x"}, 5, "x"],
)
def test_what_is_refused_does_not_fit(reply: Any) -> None:
    assert not validator("Reply").is_valid(reply)


def test_it_is_printed() -> None:
    result = CliRunner().invoke(main, ["print-schema"])
    assert (result.exit_code, json.loads(result.output)) == (0, SCHEMA)
