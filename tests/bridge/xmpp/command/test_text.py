"""Words that fill fields."""

from xml.sax.saxutils import escape

import msgspec
import pytest
from attrs import evolve

from bridge.config.command import CommandSet
from bridge.payload.request import request_body
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.command.registry import command_of
from tests.bridge.dispatch.life import COMPONENT
from tests.bridge.sample import stanza

FIELDS: list[dict[str, object]] = [
    {"var": "id", "required": True, "validate": "integer"},
    {"var": "size", "options": ["s", {"value": "l", "label": "Very large"}]},
    {"var": "note"},
]


def said(body: str, fields: list[dict[str, object]] = FIELDS) -> object:
    """What a text leads to: the data of the event, or what the bridge answers."""
    settings = CommandSet((command_of({"node": "order", "fields": fields}),))
    commands = Commands(evolve(COMPONENT, commands=settings))
    xml = f"<message from='a@b/c' to='bot.example'><body>{escape(body)}</body></message>"
    step = commands.receive(stanza(xml))
    if step is None:
        return None
    if step.asks is not None:
        posted = request_body(step.asks, str(step.asks), 0.0, event="command")
        return msgspec.json.decode(posted)["command"]["data"]
    answer = step.answers[0].child("body")
    return None if answer is None else answer.text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("/order 42", {"id": "42"}),
        ("  /ORDER\n42 ", {"id": "42"}),
        ("/order 42 l", {"id": "42", "size": "l"}),
        ("/order 42 2 all the rest", {"id": "42", "size": "l", "note": "all the rest"}),
        ('/order 42 "very large" hi', {"id": "42", "size": "l", "note": "hi"}),
        ("/order size=s 42", {"id": "42", "size": "s"}),
        ("/order NOTE=hi 42", {"id": "42", "note": "hi"}),
        ('/order 42 note="a b=c" s', {"id": "42", "note": "a b=c", "size": "s"}),
        ("/order 42 s a=b", {"id": "42", "size": "s", "note": "a=b"}),
        ("/order 42 xl", "size: choose one of the options.\nsize?\n1. s\n2. Very large"),
        ("/order", "id?"),
        ("/order size=s", "id?"),
        ("/order " + "x " * 600, "This is more than is taken here."),
        ("/order " + "x" * 8_000, None),
        ("/ order", None),
        ("/orders", None),
    ],
)
def test_words(body: str, expected: object) -> None:
    assert said(body) == expected


def test_several_values_are_separated_by_commas() -> None:
    fields: list[dict[str, object]] = [
        {"var": "a", "type": "list-multi", "options": ["x", "y", "z"], "required": True},
    ]
    assert said("/order x, 3", fields) == {"a": ["x", "z"]}
    fields = [{"var": "a", "type": "jid-multi"}]
    assert said("/order a@b c@d,e@f", fields) == {"a": ["a@b", "c@d", "e@f"]}


def test_defaults_count() -> None:
    fields: list[dict[str, object]] = [{"var": "a", "value": "x", "required": True}]
    assert said("/order", fields) == {"a": "x"}
    assert said("/order y", fields) == {"a": "y"}


def test_a_question_has_what_a_person_must_know() -> None:
    fields: list[dict[str, object]] = [
        {"var": "a", "label": "Gift", "desc": "In paper.", "type": "boolean", "required": True}
    ]
    assert said("/order", fields) == "Gift?\nIn paper.\nAnswer yes or no."
