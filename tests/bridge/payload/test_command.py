"""What a reply may say about a command, as elements: rules of fields (XEP-0122), tables."""

import json
from typing import Any, Final

import pytest

from bridge.payload.body import ReplyBody, read_reply
from bridge.payload.error import UnusableReply
from bridge.payload.reply import ReplyComposer
from bridge.payload.request import request_body
from tests.bridge.sample import meaning, stanza
from xmppstream import Element, parse_element

COMMANDS: Final = "http://jabber.org/protocol/commands"
DATA: Final = "jabber:x:data"
VALIDATE: Final = "http://jabber.org/protocol/xdata-validate"
REQUEST: Final = stanza(
    "<iq type='set' id='1' from='a@b/c' to='bot.example'>"
    f"<command xmlns='{COMMANDS}' node='order'/></iq>"
)


async def parse(data: bytes) -> Element:
    return parse_element(data)


async def composed(command: dict[str, Any]) -> Element:
    """The form in the answer to a command that the service handles by itself."""
    reading = read_reply(ReplyBody("json", json.dumps({"command": command}).encode()), "iq")
    assert reading.unknown == ()
    composer = ReplyComposer("bot.example", 100_000, parse)
    [answer] = await composer.compose(reading.objects, REQUEST, uid="u", in_room=False)
    assert answer.payload is not None
    assert answer.payload.get("sessionid") == "1"
    [form] = [one for one in answer.payload.elements if one.local == "x"]
    return form


@pytest.mark.parametrize(
    ("rule", "inner"),
    [
        ("integer", "datatype='xs:integer'><basic/>"),
        ("date", "datatype='xs:date'><basic/>"),
        ({"type": "integer", "min": 1}, "datatype='xs:integer'><range min='1'/>"),
        ({"min": 1, "max": 9}, "datatype='xs:integer'><range min='1' max='9'/>"),
        ({"regex": "a<b"}, "datatype='xs:string'><regex>a&lt;b</regex>"),
    ],
)
async def test_a_rule_of_a_field(rule: Any, inner: str) -> None:
    form = await composed({"fields": [{"var": "v", "validate": rule, "options": None}]})
    expected = stanza(
        f"<iq><x xmlns='{DATA}' type='form'><field var='v'>"
        f"<validate xmlns='{VALIDATE}' {inner}</validate></field></x></iq>"
    )
    assert meaning(form) == meaning(expected.element.elements[0])


async def test_a_table() -> None:
    columns = ["a", {"var": "b", "label": "B", "type": "jid-single"}]
    form = await composed({"table": {"columns": columns, "rows": [["x", 1], [None, False]]}})
    expected = stanza(
        f"<iq><x xmlns='{DATA}' type='result'>"
        "<reported><field var='a' label='a'/><field var='b' label='B' type='jid-single'/>"
        "</reported>"
        "<item><field var='a'><value>x</value></field>"
        "<field var='b'><value>1</value></field></item>"
        "<item><field var='a'><value/></field>"
        "<field var='b'><value>false</value></field></item></x></iq>"
    )
    assert meaning(form) == meaning(expected.element.elements[0])


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ({"fields": [{"var": "v", "validate": "number"}]}, "command.form.fields.validate is not"),
        ({"fields": [{"var": "v", "validate": {"type": "regex"}}]}, "command.form.fields.validate"),
        ({"fields": 5}, "command.fields is not a list"),
        ({"table": {"columns": [], "rows": []}}, "command.table.columns is empty"),
        ({"table": {"columns": [{}], "rows": []}}, "command.table.columns: a column has no var"),
        ({"table": {"columns": ["a"], "rows": [[]]}}, "row 1 has 0 values, not 1"),
        ({"table": {"columns": ["a"]}}, "command.table has no rows"),
        (
            {"table": {"columns": ["a"], "rows": []}, "fields": []},
            "command.fields and command.table exclude each other",
        ),
    ],
)
async def test_what_cannot_be_sent(command: dict[str, Any], why: str) -> None:
    with pytest.raises(UnusableReply) as caught:
        await composed(command)
    assert why in str(caught.value)


def test_only_the_bridge_says_that_a_message_is_a_command() -> None:
    """The element in a message is read if the event says so: then it is the bridge's own."""
    form = f"<x xmlns='{DATA}' type='submit'><field var='a'><value>1</value></field></x>"
    inner = f"<body>/order 1</body><command xmlns='{COMMANDS}' node='order'>{form}</command>"
    message = stanza(f"<message from='a@b/c' to='bot.example'>{inner}</message>")
    xml = str(message)
    posted = json.loads(request_body(message, xml, 0.0, event="command"))
    assert posted["event"] == "command"
    assert posted["command"] == {"node": "order", "data": {"a": "1"}}
    posted = json.loads(request_body(message, xml, 0.0))
    assert posted["event"] == "message"
    assert "command" not in posted
