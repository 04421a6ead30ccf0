"""Each key both ways: what is written for a value, and that it reads as the same value."""

import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.payload.body import KEYS
from bridge.payload.content import WRITERS, kind_of
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import Asked
from bridge.payload.field import FIELDS, Field, of_stanza
from bridge.payload.schema import json_schema
from tests.bridge.payload.test_content import ANSWERS, ASKED, ASKED_IQ, WRITTEN, composed
from tests.bridge.payload.test_field import EXAMPLES, IQS, PRESENCE
from xmppstream import Element, Stanza, make, parse_element
from xmppstream.names import COMPONENT, expanded

FORM: Final = "<x xmlns='jabber:x:data' type='{type}'>{inner}</x>"
STAMP: Final = "2026-06-30T12:00:00Z"
HASH: Final = "0" * 40

PAIRS: Final[list[tuple[str, Any, str]]] = [
    ("html", "<p>a <strong>b</strong></p>",
     "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>"
     "<p>a <strong>b</strong></p></body></html>"),
    ("delay", {"stamp": STAMP, "from": "a.example", "reason": "Offline"},
     f"<delay xmlns='urn:xmpp:delay' stamp='{STAMP}' from='a.example'>Offline</delay>"),
    ("origin_id", "o", "<origin-id xmlns='urn:xmpp:sid:0' id='o'/>"),
    ("attach_to", "a", "<attach-to xmlns='urn:xmpp:message-attaching:1' id='a'/>"),
    ("fallback", ["urn:a"], "<fallback xmlns='urn:xmpp:fallback:0' for='urn:a'/>"),
    ("references", [{"type": "mention", "uri": "xmpp:a@b", "begin": 0, "end": 4}],
     "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:a@b' begin='0' end='4'/>"),
    ("payload", {"datatype": "d", "data": {"a": [1, 2.5, None]}},
     "<payload xmlns='urn:xmpp:json-msg:0' datatype='d'><json xmlns='urn:xmpp:json:0'>"
     '{"a":[1,2.5,null]}</json></payload>'),
    ("invite", {"jid": "coven@chat.example", "from": "bot@b.example", "reason": "Hey",
                "password": "p", "thread": "t", "direct": True, "continue": True},
     "<x xmlns='jabber:x:conference' jid='coven@chat.example' reason='Hey' password='p' "
     "continue='true' thread='t'/>"),
    ("dataform",
     {"type": "form", "title": "T", "instructions": "I\nJ", "fields": [
         {"var": "a", "type": "list-single", "label": "A", "desc": "D", "required": True,
          "value": "1", "options": [{"value": "1", "label": "One"}]},
         {"var": "b", "type": "text-multi", "values": ["x", "y"]}]},
     FORM.format(type="form", inner="<title>T</title><instructions>I</instructions>"
     "<instructions>J</instructions><field var='a' type='list-single' label='A'><desc>D</desc>"
     "<required/><value>1</value><option label='One'><value>1</value></option></field>"
     "<field var='b' type='text-multi'><value>x</value><value>y</value></field>")),
    ("dataform",
     {"type": "result", "items": [[{"var": "a", "value": "1"}], [{"var": "a", "value": "2"}]],
      "reported": [{"var": "a", "label": "A"}]},
     FORM.format(type="result", inner="<reported><field var='a' label='A'/></reported>"
     "<item><field var='a'><value>1</value></field></item>"
     "<item><field var='a'><value>2</value></field></item>")),
    ("answers", [{"value": "yes", "label": "Yes!"}, {"value": "no"}],
     "<response xmlns='urn:xmpp:tmp:quick-response' value='yes' label='Yes!'/>"
     "<response xmlns='urn:xmpp:tmp:quick-response' value='no'/>"),
    ("actions", [{"id": "m1", "label": "Merge"}],
     "<action xmlns='urn:xmpp:tmp:quick-response' id='m1' label='Merge'/>"),
    ("action", "m1", "<action-selected xmlns='urn:xmpp:tmp:quick-response' id='m1'/>"),
    ("forwarded",
     {"delay": {"stamp": STAMP},
      "message": {"from": "a@b", "id": "i", "type": "chat", "body": "hi", "thread": "t"}},
     f"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='{STAMP}'/>"
     "<message xmlns='jabber:client' from='a@b' id='i' type='chat'><body>hi</body>"
     "<thread>t</thread></message></forwarded>"),
    ("caps", {"node": "n", "ver": "v", "hash": "sha-1"},
     "<c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' hash='sha-1'/>"),
    ("vcard_update", HASH, f"<x xmlns='vcard-temp:x:update'><photo>{HASH}</photo></x>"),
    ("idle_since", STAMP, f"<idle xmlns='urn:xmpp:idle:1' since='{STAMP}'/>"),
    ("muc", True, "<x xmlns='http://jabber.org/protocol/muc'/>"),
    ("muc", {"password": "p", "history": {"maxstanzas": 0, "since": STAMP}},
     "<x xmlns='http://jabber.org/protocol/muc'>"
     f"<history maxstanzas='0' since='{STAMP}'/><password>p</password></x>"),
    ("version", {"name": "n", "version": "1", "os": "o"},
     "<query xmlns='jabber:iq:version'><name>n</name><version>1</version><os>o</os></query>"),
    ("disco", {"identities": [{"category": "client", "type": "bot", "name": "n"}],
               "features": ["f"], "node": "x",
               "extensions": {"urn:t": {"a": "1", "b": ["2", "3"]}}},
     "<query xmlns='http://jabber.org/protocol/disco#info' node='x'>"
     "<identity category='client' type='bot' name='n'/><feature var='f'/>"
     + FORM.format(type="result", inner="<field var='FORM_TYPE' type='hidden'>"
     "<value>urn:t</value></field>"
     "<field var='a'><value>1</value></field><field var='b'><value>2</value><value>3</value>"
     "</field>") + "</query>"),
    ("items", [{"jid": "a@b", "name": "n", "node": "x"}],
     "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='a@b' name='n' node='x'/>"
     "</query>"),
    ("command",
     {"node": "list", "sessionid": "s", "status": "executing",
      "actions": {"execute": "next", "prev": True, "next": True},
      "note": {"text": "N", "type": "warn"},
      "form": {"type": "form", "fields": [{"var": "a", "type": "boolean", "value": "1"}]}},
     "<command xmlns='http://jabber.org/protocol/commands' node='list' sessionid='s' "
     "status='executing'><actions execute='next'><prev/><next/></actions>"
     + FORM.format(type="form", inner="<field var='a' type='boolean'><value>1</value></field>")
     + "<note type='warn'>N</note></command>"),
    ("register", {"instructions": "I", "username": "u", "registered": True},
     "<query xmlns='jabber:iq:register'><instructions>I</instructions><username>u</username>"
     "<registered/></query>"),
    ("lastactivity", {"seconds": 7, "status": "Bye"},
     "<query xmlns='jabber:iq:last' seconds='7'>Bye</query>"),
    ("time", {"utc": STAMP, "tzo": "+02:00"},
     f"<time xmlns='urn:xmpp:time'><tzo>+02:00</tzo><utc>{STAMP}</utc></time>"),
    ("vcard",
     {"fn": "Bot", "family": "B", "given": "O", "email": "a@b", "org": "Ö",
      "photo": {"type": "image/png", "binval": "QUJD"}},
     "<vCard xmlns='vcard-temp'><FN>Bot</FN><N><FAMILY>B</FAMILY><GIVEN>O</GIVEN></N>"
     "<EMAIL><USERID>a@b</USERID></EMAIL><ORG><ORGNAME>Ö</ORGNAME></ORG>"
     "<PHOTO><TYPE>image/png</TYPE><BINVAL>QUJD</BINVAL></PHOTO></vCard>"),
    ("upload_request", {"filename": "a.png", "size": 5, "content-type": "image/png"},
     "<request xmlns='urn:xmpp:http:upload:0' filename='a.png' size='5' "
     "content-type='image/png'/>"),
    ("upload_slot",
     {"put": {"url": "https://u/p", "headers": [{"name": "Cookie", "value": "c"}]},
      "get": {"url": "https://u/g"}},
     "<slot xmlns='urn:xmpp:http:upload:0'><put url='https://u/p'><header name='Cookie'>c</header>"
     "</put><get url='https://u/g'/></slot>"),
    ("extdisco",
     {"type": "stun", "services": [{"type": "stun", "host": "h", "port": 3478, "transport": "udp",
                                    "restricted": True, "expires": STAMP}]},
     "<services xmlns='urn:xmpp:extdisco:2' type='stun'><service type='stun' host='h' "
     f"transport='udp' port='3478' expires='{STAMP}' restricted='true'/></services>"),
    ("gateway", {"desc": "D", "prompt": "P"},
     "<query xmlns='jabber:iq:gateway'><desc>D</desc><prompt>P</prompt></query>"),
    ("stats", [{"name": "users", "value": 3, "unit": "users"}, {"name": "x", "value": -1.5}],
     "<query xmlns='http://jabber.org/protocol/stats'><stat name='users' units='users' value='3'/>"
     "<stat name='x' value='-1.5'/></query>"),
    ("archive", {"queryid": "q", "form": {"type": "submit",
                                          "fields": [{"var": "with", "value": "a@b"}],
                                          "data": {"with": "a@b"}},
                 "page": {"before": "", "max": 10}},
     "<query xmlns='urn:xmpp:mam:2' queryid='q'>"
     + FORM.format(type="submit", inner="<field var='with'><value>a@b</value></field>")
     + "<set xmlns='http://jabber.org/protocol/rsm'><before/><max>10</max></set></query>"),
    ("result", {"page": {"first": "a", "last": "b", "index": 0, "count": 2}, "complete": True},
     "<fin xmlns='urn:xmpp:mam:2' complete='true'><set xmlns='http://jabber.org/protocol/rsm'>"
     "<first index='0'>a</first><last>b</last><count>2</count></set></fin>"),
    ("rsm", {"after": "a", "max": 3},
     "<set xmlns='http://jabber.org/protocol/rsm'><after>a</after><max>3</max></set>"),
]  # fmt: skip


def element_of(xml: str) -> Element:
    return parse_element(xml.encode())


def asked_for(key: str) -> Asked:
    return Asked(make("message", None, None), WRITERS[key].kinds[0], None)


def written(key: str, value: Any) -> tuple[Element, ...]:
    row = WRITERS[key]
    return row.write(msgspec.convert(value, row.shape), asked_for(key))


def read_back(key: str, elements: tuple[Element, ...], type: str | None = None) -> Any:
    kind = WRITERS[key].kinds[0]
    one = make(kind, "a@b", "bot@b.example", type=type, children=elements)
    return json.loads(msgspec.json.encode(of_stanza(one).get(key)))


@pytest.mark.parametrize(("key", "value", "xml"), PAIRS)
def test_a_value_is_written_and_read_back(key: str, value: Any, xml: str) -> None:
    elements = written(key, value)
    assert elements == tuple(element_of(f"<x>{xml}</x>").elements), elements
    assert read_back(key, elements, type="result" if key in ("disco", "items") else None) == value


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("thread", {"id": "t", "parent": "p"}, {"id": "t", "parent": "p"}),
        ("delay", STAMP, {"stamp": STAMP}),
        ("moderate", "s1", {"id": "s1"}),
        ("command", "list", {"node": "list"}),
        ("items", ["a@b"], [{"jid": "a@b"}]),
        ("lastactivity", 7, {"seconds": 7}),
        ("vcard_update", {"photo": HASH}, HASH),
        ("dataform", {"data": {"a": True, "b": 1}},
         {"type": "submit", "data": {"a": "1", "b": "1"}}),
        ("archive", {"with": "a@b", "max": 5},
         {"form": {"type": "submit", "data": {"FORM_TYPE": "urn:xmpp:mam:2", "with": "a@b"}},
          "page": {"max": 5}}),
        ("answers", ["a"], [{"value": "a"}]),
        ("html", "<P>a<br>b & c<script>x</script></p></i>", "<p>a<br/>b &amp; c</p>"),
        ("html", "<b>a<i>b</b>", "<strong>a<em>b</em></strong>"),
    ],
)  # fmt: skip
def test_a_short_form_is_written_as_the_long_one(key: str, value: Any, same: Any) -> None:
    assert written(key, value) == written(key, same)


@pytest.mark.parametrize(
    ("key", "value"),
    [("fallback", False), ("muc", False), ("payload", None), ("receipt", False)],
)
def test_what_writes_nothing(key: str, value: Any) -> None:
    assert value is None or written(key, value) == ()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("delay", "yesterday", "delay.stamp is not a time"),
        ("delay", {"from": "a"}, "delay has no stamp"),
        ("references", [{"type": "mention"}], "references has no uri"),
        ("references", [{"uri": "a:b"}], "references has no type"),
        ("references", [{"type": "a", "uri": "a:b", "begin": 3, "end": 1}],
         "the range ends before it begins"),
        ("references", [{"type": "a", "uri": "a:b", "begin": -1}], "count characters, from 0"),
        ("payload", {"data": 1}, "payload has no datatype"),
        ("invite", {"reason": "x"}, "invite has no jid"),
        ("invite", {"jid": "a@@b"}, "invite.jid: "),
        ("invite", {"to": "a@@b"}, "invite.to: "),
        ("dataform", {"fields": []}, "dataform has no type"),
        ("dataform", {"type": "x"}, "dataform.type is not one of form, submit, cancel, result"),
        ("dataform", {"type": "form", "fields": [{"label": "A"}]}, "dataform.fields has no var"),
        ("dataform", {"type": "form", "fields": [{"var": "a", "type": "number"}]},
         "dataform.fields.type: 'number' is not one of boolean"),
        ("dataform", {"type": "form", "fields": [{"var": "a"}, {"var": "a"}]},
         "dataform.fields: 'a' is there twice"),
        ("dataform", {"type": "form", "fields": [{"var": "a", "options": [{"value": "1"}]}]},
         "needs the type list-single or list-multi"),
        ("dataform", {"type": "form", "fields": [{"var": f"v{n}"} for n in range(10_000)]},
         "dataform.fields: more than 500"),
        ("dataform", {"data": {f"v{n}": "x" for n in range(10_000)}},
         "dataform.fields: more than 500"),
        ("answers", ["yes", "no", "yes"], "answers.value: 'yes' is there twice"),
        ("answers", [{"value": "a", "label": "A"}, {"value": "b", "label": "A"}],
         "answers.label: 'A' is there twice"),
        ("answers", [{"value": "a", "label": "b"}, "b"], "answers.label: 'b' is there twice"),
        ("answers", [f"a{n}" for n in range(21)], "answers: more than 20"),
        ("answers", [" "], "answers.value is empty"),
        ("answers", ["a\nb"], "answers.value: 'a\\nb' is not one line of text"),
        ("answers", [{"value": "a", "label": "a\u2028b"}], "answers.label: "),
        ("answers", ["x" * 201], "answers.value is longer than 200 characters"),
        ("actions", [{"id": "a", "label": "A"}, {"id": "a", "label": "B"}],
         "actions.id: 'a' is there twice"),
        ("actions", [{"id": "a", "label": "A"}, {"id": "b", "label": "A"}],
         "actions.label: 'A' is there twice"),
        ("actions", [{"id": "a", "label": ""}], "actions.label is empty"),
        ("actions", [{"id": "a", "label": "x" * 201}], "actions.label is longer than"),
        ("actions", [{"id": f"{n}", "label": f"{n}"} for n in range(21)], "actions: more than 20"),
        ("action", " ", "action is empty"),
        ("forwarded", {"message": {"forwarded": {}}}, "forwarded.message forwards another"),
        ("forwarded", {"message": {}}, "forwarded.message says nothing"),
        ("forwarded", {"message": {"body": 1}}, "forwarded.message.body is not a string"),
        ("caps", {"node": "n"}, "caps has no ver"),
        ("vcard_update", True, "vcard_update is the avatar's SHA-1 hash, or false"),
        ("vcard_update", "x", "40 hexadecimal digits"),
        ("idle_since", "x", "idle_since is not a time"),
        ("muc", {"history": {"seconds": -1}}, "muc.history: a number is negative"),
        ("command", {"note": "x"}, "command has no node"),
        ("command", {"node": "n", "status": "done"}, "command.status is not one of executing"),
        ("command", {"node": "n", "actions": {"execute": "next"}}, "none of the allowed actions"),
        ("command", {"node": "n", "note": {"text": "x", "type": "bad"}}, "note.type is not one"),
        ("time", {"tzo": "Z"}, "time.utc is not a time in UTC"),
        ("time", {"utc": STAMP, "tzo": "CET"}, "time.tzo is not an offset"),
        ("vcard", {"photo": {}}, "vcard.photo has either binval or extval"),
        ("vcard", {"photo": {"binval": "QUJD"}}, "vcard.photo has no type"),
        ("vcard", {"photo": {"type": "image/png", "binval": "!"}}, "binval is not base64"),
        ("upload_request", {"filename": "a", "size": 0}, "a size in bytes above 0"),
        ("upload_slot", {"put": {"url": "u", "headers": [{"name": "Host", "value": "x"}]},
                         "get": {"url": "u"}}, "only Authorization, Cookie, Expires are allowed"),
        ("extdisco", {"services": [{"type": "a", "host": "h", "port": 0}]}, "from 1 to 65535"),
        ("rsm", {"max": -1}, "rsm.max is negative"),
        ("archive", {"with": "a@b", "form": {"type": "submit"}}, "with and form exclude"),
        ("archive", {"max": 1, "page": {}}, "page and after, before, max exclude"),
        ("archive", {"start": "x"}, "archive.start is not a time"),
    ],
)  # fmt: skip
def test_what_a_xep_forbids_is_refused(key: str, value: Any, reason: str) -> None:
    with pytest.raises(UnusableReply) as caught:
        written(key, value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "key", ["version", "disco", "items", "lastactivity", "time", "vcard", "gateway", "stats"]
)
async def test_an_answer_is_not_a_question(key: str) -> None:
    with pytest.raises(UnusableReply, match=f"{key}: true asks"):
        await composed({key: True}, ASKED_IQ)


async def test_an_answer_names_node_and_session_of_the_question() -> None:
    question = ASKED_IQ.replace(
        "<q xmlns='urn:q'/>",
        "<command xmlns='http://jabber.org/protocol/commands' node='list' action='execute'/>",
    )
    [one] = await composed({"command": {"note": "Done"}}, question)
    assert one.element.children == (
        element_of(
            "<command xmlns='http://jabber.org/protocol/commands' node='list' sessionid='q1' "
            "status='completed'><note type='info'>Done</note></command>"
        ),
    )
    question = ASKED_IQ.replace(
        "<q xmlns='urn:q'/>", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>"
    )
    [one] = await composed({"disco": {"features": []}}, question)
    payload = one.payload
    assert payload is not None
    assert payload.get("node") == "x"


async def test_a_form_goes_on_with_its_command() -> None:
    """Else the command would be over before the form can be filled in."""
    question = ASKED_IQ.replace(
        "<q xmlns='urn:q'/>", "<command xmlns='http://jabber.org/protocol/commands' node='n'/>"
    )
    form = {"type": "form", "fields": [{"var": "a"}]}
    [one] = await composed({"command": {"form": form}}, question)
    command = of_stanza(one)["command"]
    assert (command.status, command.actions.execute) == ("executing", "complete")
    assert command.actions.complete
    [one] = await composed({"command": {"form": form, "status": "completed"}}, question)
    command = of_stanza(one)["command"]
    assert (command.status, command.actions) == ("completed", None)


async def test_false_asks_nothing() -> None:
    [one] = await composed({"body": "x", "version": False, "disco": False})
    assert [child.local for child in one.element.elements] == ["body"]


@pytest.mark.parametrize(
    ("reply", "kind", "type"),
    [
        ({"show": "dnd"}, "presence", None),
        ({"muc": True, "to": "coven@chat.example/bot"}, "presence", None),
        ({"version": True, "to": "a@b"}, "iq", "get"),
        ({"command": "list", "to": "a@b"}, "iq", "set"),
        ({"register": {"remove": True}, "to": "a@b"}, "iq", "set"),
        ({"moderate": {"id": "s1", "reason": "spam"}}, "iq", "set"),
        ({"dataform": {"data": {"a": "1"}}}, "message", "chat"),
        ({"state": "active"}, "message", "chat"),
    ],
)
async def test_keys_imply_the_kind(reply: dict[str, Any], kind: str, type: str | None) -> None:
    [one] = await composed(reply)
    assert (one.kind, one.type) == (kind, type)
    assert one.id == "u-1"


def test_keys_of_two_kinds_imply_none() -> None:
    assert kind_of({"state": "active", "show": "dnd"}, "message") == "message"
    assert kind_of({}, "iq") == "iq"
    assert kind_of({"nick": "n", "show": "dnd"}, "iq") == "presence"


async def test_a_moderator_asks_the_room() -> None:
    in_room = ASKED.replace("type='chat'", "type='groupchat'").replace(
        "juliet@capulet.example/balcony", "coven@chat.example/n"
    )
    [one] = await composed({"moderate": {"id": "s1", "reason": "spam"}}, in_room)
    assert (one.kind, one.type, one.to) == ("iq", "set", "coven@chat.example")
    assert one.element.children == (
        element_of(
            "<moderate xmlns='urn:xmpp:message-moderate:1' id='s1'>"
            "<retract xmlns='urn:xmpp:message-retract:1'/><reason>spam</reason></moderate>"
        ),
    )


async def test_html_has_a_plain_body() -> None:
    [one] = await composed({"html": "<p>one <b>two</b></p><ul><li>three</li></ul>"})
    body = one.child("body")
    assert body is not None
    assert body.text == "one two\nthree"


async def test_bodies_have_one_without_a_language() -> None:
    [one] = await composed({"bodies": {"": "yes", "de": "ja"}})
    assert [child.text for child in one.element.elements] == ["yes", "ja"]
    assert of_stanza(one)["bodies"] == {"": "yes", "de": "ja"}


def test_each_row_has_an_example() -> None:
    read = {key for _, key, _ in (*EXAMPLES, *PRESENCE, *IQS)} | {"moderated", "error"}
    sent = {key for reply, _ in (*WRITTEN, *ANSWERS) for key in reply}
    sent |= {"files", "retract", "quote", "moderate", "thread_parent", "bodies"}
    both = {key for key, _, _ in PAIRS}
    rows = [field.key for field in FIELDS]
    assert set(rows) == read | both
    assert len(set(rows)) == len(rows)
    assert WRITERS.keys() <= sent | both
    assert WRITERS.keys() - {"quote", "moderate"} <= set(rows)
    assert WRITERS.keys() <= set(KEYS)


# --- Properties: whatever fits a shape is refused, or is written so that it reads the same.

TEXTS: Final = st.text(st.sampled_from("ab0 :/@.é<&\n"), max_size=6)
LEAVES: Final[dict[Any, st.SearchStrategy[Any]]] = {
    str: st.one_of(TEXTS, st.sampled_from([STAMP, "form", "submit", "n", "a@b", HASH])),
    int: st.integers(-2, 200),
    float: st.floats(-10, 10, width=16),
    bool: st.booleans(),
    type(None): st.none(),
}
DEFINITIONS: Final = json_schema()["$defs"]


def values(schema: dict[str, Any], depth: int = 4) -> st.SearchStrategy[Any]:
    """Any JSON that a schema describes."""
    if "$ref" in schema:
        return values(DEFINITIONS[schema["$ref"].rpartition("/")[2]], depth)
    if "anyOf" in schema:
        return st.one_of([values(one, depth) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema and depth:
            required = schema.get("required", ())
            parts = {key: values(one, depth - 1) for key, one in schema["properties"].items()}
            return st.fixed_dictionaries(
                {key: parts[key] for key in required},
                optional={key: one for key, one in parts.items() if key not in required},
            )
        case "object":
            inner = schema.get("additionalProperties") or {"type": "string"}
            return st.dictionaries(TEXTS, values(inner, depth - 1), max_size=2)
        case "array" if depth:
            return st.lists(values(schema["items"], depth - 1), max_size=2)
        case "array" | "null":
            return st.none()
        case "integer":
            return LEAVES[int]
        case "number":
            return LEAVES[float]
        case "boolean":
            return LEAVES[bool]
        case "string":
            return LEAVES[str]
    return st.one_of(*LEAVES.values())


ATTRIBUTES: Final = (
    "id",
    "by",
    "to",
    "from",
    "type",
    "node",
    "stamp",
    "code",
    "begin",
    "size",
    "port",
)
WRITTEN_ONLY: Final = {"quote", "moderate", "thread_parent"}


@pytest.mark.parametrize("key", sorted(WRITERS.keys() - WRITTEN_ONLY))
@settings(max_examples=25)
@given(st.data())
def test_what_is_written_reads_the_same(key: str, data: st.DataObject) -> None:
    schema = DEFINITIONS["ReplyObject"]["properties"][key]
    value = data.draw(values(schema))
    type_ = "error" if key == "error" else "result" if WRITERS[key].kinds == ("iq",) else None
    try:
        elements = written(key, value)
    except (UnusableReply, msgspec.ValidationError):
        return
    read = read_back(key, elements, type=type_)
    if read is None:
        return  # an element that says nothing, such as an empty text
    try:
        again = written(key, read)
    except UnusableReply:
        return  # others may send what the bridge may not, such as a photo without a type
    assert read_back(key, again, type=type_) == read


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.key)
@settings(max_examples=25)
@given(st.data())
def test_an_element_with_anything_in_it_is_read(field: Field, data: st.DataObject) -> None:
    """Nothing from a stranger raises, and what is read can be written as JSON."""
    names = st.sampled_from(sorted({name for one in FIELDS for name in one.names}))
    attributes = st.dictionaries(st.sampled_from(ATTRIBUTES), TEXTS, max_size=3)
    inner = st.builds(Element, names, attributes.map(lambda one: tuple(one.items())))
    children = st.lists(st.one_of(inner, TEXTS.filter(bool)), max_size=2).map(tuple)
    elements = st.builds(
        Element,
        st.sampled_from(field.names),
        attributes.map(lambda one: tuple(one.items())),
        children,
    )
    drawn = data.draw(st.lists(elements, min_size=1, max_size=3))
    for kind in field.kinds:
        one = Stanza(Element(expanded(COMPONENT, kind), (), tuple(drawn)))
        assert msgspec.json.encode(of_stanza(one))
