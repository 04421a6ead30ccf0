"""Every key of the JSON, redacted: no secret is left, and a reply still makes what was sent.

A capture has each value twice, in the XML and in the JSON. Both must be replaced alike, else
`replay --expect` would find differences that redaction has made.
"""

import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.capture.format import IN, OUT, Record
from bridge.capture.redact import Redactor
from bridge.capture.redact.search import Search
from bridge.payload.body import ReplyBody, read_reply
from bridge.payload.content import WRITERS, kind_of
from bridge.payload.field import FIELDS, of_stanza
from bridge.payload.mod_rest import MOD_REST_KEYS
from bridge.payload.reply import ReplyComposer
from bridge.payload.request import request_body
from tests.bridge.capture.redact.test_properties import hidden_of, steady
from tests.bridge.sample import meaning, stanza
from xmppstream import Element, Stanza, parse_element, rehome, write
from xmppstream.names import COMPONENT

DOMAIN: Final = "b.example"
STAMP: Final = "2026-06-30T12:00:00Z"
UID: Final = "msg_64a1b2c3d4e5f60718293a4b5c"
HASH: Final = "0123456789abcdefabcd0123456789abcdefabcd"
JSON: Final = {"content-type": "application/json"}
ASKED: Final = (
    "<message from='{a}@capulet.example/{b}' to='bot@b.example' id='{c}' type='chat'>"
    "<body>{d} {e} {f}</body><origin-id xmlns='urn:xmpp:sid:0' id='{e}'/></message>"
)
ASKED_IQ: Final = (
    "<iq from='{a}@capulet.example/{b}' to='bot@b.example' id='{c}' type='get'>"
    "<command xmlns='http://jabber.org/protocol/commands' node='{d}'/></iq>"
)
FORM: Final = {
    "type": "form", "title": "{a}", "instructions": "{b}\n{c}", "fields": [
        {"var": "FORM_TYPE", "type": "hidden", "value": "http://jabber.org/protocol/muc#register"},
        {"var": "{d}", "type": "list-single", "label": "{e}", "desc": "{f}", "required": True,
         "value": "{a}", "options": [{"value": "{a}", "label": "{b}"}]},
        {"var": "{e}", "type": "list-multi", "values": ["{c}", "{d}"],
         "options": [{"value": "{c}"}, {"value": "{d}"}]},
        {"var": "{f}", "type": "boolean", "value": True},
    ],
}  # fmt: skip
FILLED: Final = {
    "FORM_TYPE": "http://jabber.org/protocol/commands",
    "{a}": "{b}@capulet.example",
    "{c}": ["{d}", "{e}"],
    "{f}": True,
    "name": 4711,
}

REPLIES: Final[dict[str, list[dict[str, Any]]]] = {
    "subject": [{"subject": "{a} {b}"}],
    "thread": [{"body": "{a}", "thread": "{b}"}, {"body": "x", "thread": {"id": "{a}"}}],
    "thread_parent": [{"body": "{a}", "thread": "{b}", "thread_parent": "{c}"}],
    "bodies": [{"body": "{a}", "bodies": {"": "{a}", "de": "{b}", "fr": "{c}"}}],
    "html": [
        {"html": "<p>{a} <b>{b}</b> <a href=\"https://{c}.example/{d}?token={e}\">{f}</a></p>"},
        {"html": "{a} <em>{b}</em>", "body": "{c}"},
    ],
    "nick": [{"body": "{a}", "nick": "{b}"}],
    "delay": [
        {"body": "{a}", "delay": STAMP},
        {"body": "{a}", "delay": {"stamp": STAMP, "from": "{b}@capulet.example", "reason": "{c}"}},
    ],
    "state": [{"state": "composing"}, {"body": "{a}", "state": "active"}],
    "replace": [{"body": "{a}", "replace": "{b}"}],
    "retract": [{"retract": "{a}"}],
    "moderate": [{"kind": "iq", "moderate": {"id": "{a}", "reason": "{b}"}}],
    "reply": [{"body": "{a}", "reply": True}, {"body": "{a}", "reply": {"id": "{b}"}}],
    "quote": [{"body": "{a}", "reply": True, "quote": True}],
    "reactions": [{"reactions": ["👍"]}, {"reactions": {"id": "{a}", "reactions": ["👍", "{b}"]}}],
    "oob": [{"body": "{a}", "oob": {"url": "https://{b}.example/{c}", "desc": "{d}"}}],
    "files": [
        {"files": [{"url": "https://{a}.example/{b}?token={c}", "name": "{d}.png", "desc": "{e}",
                    "media_type": "image/png", "size": 12345}]},
    ],
    "attach_to": [{"body": "{a}", "attach_to": "{b}"}],
    "origin_id": [{"body": "{a}", "origin_id": "{b}"}],
    "receipt_requested": [{"body": "{a}", "receipt_requested": True}],
    "receipt": [{"receipt": "{a}"}, {"receipt": True}],
    "markable": [{"body": "{a}", "markable": True}],
    "displayed": [{"displayed": "{a}"}],
    "invite": [
        {"invite": {"jid": "{a}@chat.example", "reason": "{b}", "password": "{c}",
                    "thread": "{d}"}},
        {"to": "{a}@chat.example",
         "invite": {"to": "{b}@capulet.example", "reason": "{c}", "password": "{d}"}},
    ],
    "references": [
        {"body": "{a}", "references": [
            {"type": "mention", "uri": "xmpp:{b}@capulet.example", "begin": 0, "end": 4},
            {"type": "data", "uri": "https://{c}.example/{d}"}]},
    ],
    "fallback": [{"body": "{a}", "fallback": True}, {"body": "{a}", "fallback": ["urn:xmpp:x:0"]}],
    "hints": [{"body": "{a}", "hints": ["no-store", "no-copy"]}],
    "payload": [
        {"payload": {"datatype": "{a}", "data": {"{b}": ["{c}", 4711, {"name": "{d}"}], "id": "{e}",
                                                 "to": "{f}@capulet.example", "x": True}}},
        {"payload": {"datatype": "{a}", "data": "{b} {c}"}},
    ],
    "dataform": [
        {"dataform": FORM},
        {"dataform": {"data": FILLED}},
        {"dataform": {"type": "result", "reported": [{"var": "{a}", "label": "{b}"}],
                      "items": [[{"var": "{a}", "value": "{c}@capulet.example"}]]}},
    ],
    "answers": [{"body": "{a}", "answers": [{"value": "{b}", "label": "{c} {d}"}, "{e}"]}],
    "actions": [{"body": "{a}", "answers": ["{f}"],
                 "actions": [{"id": "{b}", "label": "{c} {d}"}]}],
    "action": [{"action": "{a}"}],
    "forwarded": [
        {"forwarded": {"delay": {"stamp": STAMP}, "message": {
            "from": "{a}@capulet.example/{b}", "to": "{c}@capulet.example", "id": "{d}",
            "type": "chat", "body": "{e}", "replace": "{f}", "hints": ["store"]}}},
    ],
    "show": [{"show": "dnd"}],
    "status": [{"status": "{a}@capulet.example"}, {"status": "<{a}> & {b}", "show": "away"}],
    "priority": [{"priority": -5}],
    "caps": [{"show": "away",
              "caps": {"node": "https://{a}.example/{b}", "ver": "{c}=", "hash": "sha-1"}}],
    "vcard_update": [{"show": "away", "vcard_update": HASH},
                     {"show": "away", "vcard_update": {"photo": HASH}},
                     {"show": "away", "vcard_update": False}],
    "idle_since": [{"show": "away", "idle_since": STAMP}],
    "muc": [{"to": "{a}@chat.example/{b}",
             "muc": {"password": "{c}", "history": {"maxstanzas": 20, "since": STAMP}}}],
    "error": [{"error": {"condition": "forbidden", "type": "auth", "text": "{a} {b}"}}],
    "ping": [{"ping": True}],
    "version": [{"version": {"name": "{a}", "version": "1.2.3", "os": "{b}"}}],
    "disco": [
        {"disco": {"identities": [{"category": "client", "type": "bot", "name": "{a}"}],
                   "features": ["urn:xmpp:ping", "{b}"], "node": "{c}",
                   "extensions": {
                       "urn:xmpp:dataforms:softwareinfo": {"os": "{d}", "{e}": ["{f}"]}}}},
    ],
    "items": [{"items": [{"jid": "{a}@capulet.example", "name": "{b}", "node": "{c}"}]},
              {"kind": "iq", "type": "get", "to": "{a}@capulet.example", "items": "{b}"}],
    "command": [
        {"command": {"node": "{d}", "sessionid": "{a}", "status": "executing",
                     "actions": {"execute": "next", "prev": True, "next": True},
                     "note": {"text": "{b}", "type": "warn"}, "form": FORM}},
        {"command": {"data": FILLED, "note": "{a}"}},
        {"command": "{d}"},
    ],
    "register": [{"register": {"instructions": "{a}", "username": "{b}", "password": "{c}",
                               "email": "{d}@capulet.example", "state": "{e}", "text": "{f}",
                               "registered": True, "form": FORM}}],
    "lastactivity": [{"lastactivity": {"seconds": 77, "status": "{a}"}}, {"lastactivity": 77}],
    "time": [{"time": {"utc": STAMP, "tzo": "+02:00"}}],
    "vcard": [
        {"vcard": {"fn": "{a} {b}", "family": "{b}", "given": "{a}", "nickname": "{c}",
                   "email": "{d}@capulet.example", "tel": "+49 30 4711", "bday": "1990-05-03",
                   "url": "https://{e}.example/{f}", "org": "{e}", "desc": "{f}",
                   "photo": {"type": "image/png", "binval": "aGVsbG8gd29ybGQh"}}},
        {"vcard": {"fn": "{a}", "photo": {"extval": "https://{b}.example/{c}"}}},
    ],
    "upload_request": [{"upload_request": {"filename": "{a}.png", "size": 500,
                                           "content-type": "image/png"}}],
    "upload_slot": [
        {"upload_slot": {"put": {"url": "https://{a}.example/{b}", "headers": [
                            {"name": "Authorization", "value": "Bearer {c}"}]},
                         "get": {"url": "https://{a}.example/{d}"}}},
    ],
    "extdisco": [
        {"extdisco": {"type": "turn", "services": [
            {"type": "turn", "host": "{a}.example", "port": 3478, "transport": "udp",
             "username": "{b}", "password": "{c}", "expires": STAMP, "restricted": True}]}},
    ],
    "gateway": [{"gateway": {"desc": "{a}", "prompt": "{b}"}},
                {"gateway": {"jid": "{a}@capulet.example"}}],
    "stats": [{"stats": [{"name": "{a}", "value": 1, "unit": "{b}"}]}],
    "archive": [
        {"kind": "iq", "type": "set", "to": "{a}@capulet.example", "archive": {
            "queryid": "{b}", "with": "{c}@capulet.example", "start": STAMP, "max": 10}},
    ],
    "result": [{"result": {"page": {"first": "{a}", "last": "{b}", "index": 0, "count": 2},
                           "complete": True}}],
    "rsm": [{"body": "{a}", "rsm": {"after": "{b}", "max": 3}}],
}  # fmt: skip
"""At least one reply for each key that can be written."""

OF_MOD_REST: Final[dict[str, list[dict[str, Any]]]] = {
    "oob_url": [{"body": "{a}", "oob_url": "https://{b}.example/{c}"}],
    "reference": [{"body": "{a}",
                   "reference": {"type": "mention", "uri": "xmpp:{b}@capulet.example"}}],
    "join": [{"to": "{a}@chat.example/{b}", "join": True}],
    "items": [{"kind": "iq", "type": "get", "to": "{a}@capulet.example", "items": {"node": "{b}"}}],
    "archive": [{"kind": "iq", "type": "set", "archive": {"ids": "{a},{b}"}}],
}  # fmt: skip

READ: Final[dict[str, str]] = {
    "stanza_ids": "<stanza-id xmlns='urn:xmpp:sid:0' by='{e}@chat.example' id='{f}'/>",
    "occupant_id": "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='{e}'/>",
    "moderated": "<retract xmlns='urn:xmpp:message-retract:1' id='{d}'>"
    "<moderated xmlns='urn:xmpp:message-moderate:1' by='{e}@chat.example/{f}'>"
    "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='{c}'/></moderated>"
    "<reason>{b}</reason></retract>",
    "encryption": "<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl' "
    "name='{e}'/><body>{f}</body>",
    "occupant": "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' "
    "role='moderator' jid='{d}@capulet.example/{e}' nick='{f}'><reason>{c}</reason>"
    "<actor nick='{b}' jid='{a}@capulet.example'/></item><status code='307'/></x>",
}
"""An element for each key that cannot be written."""


def filled(template: Any, words: list[str]) -> Any:
    """Put secret words in the places of a template."""
    if isinstance(template, str):
        for name, word in zip("abcdef", words, strict=True):
            template = template.replace(f"{{{name}}}", word)
        return template
    if isinstance(template, list):
        return [filled(one, words) for one in template]
    if isinstance(template, dict):
        return {filled(key, words): filled(one, words) for key, one in template.items()}
    return template


async def parse(data: bytes) -> Element:
    return parse_element(data)


async def composed(reply: str, asked: Stanza) -> list[Stanza]:
    composer = ReplyComposer(DOMAIN, 500_000, parse)
    reading = read_reply(ReplyBody("json", reply.encode()))
    assert not reading.unknown, reading.unknown
    return await composer.compose(reading.objects, asked, uid=UID, in_room=False)


def xml_of(one: Stanza) -> str:
    return write(one.element, COMPONENT)


def received(xml: str) -> Stanza:
    made = Stanza.of(rehome(parse_element(xml.encode()), COMPONENT))
    assert made is not None
    return made


def posted(one: Stanza) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(request_body(one, xml_of(one), 1_700_000_000.0, UID))
    return made


def redacted(records: list[Record], words: list[str]) -> list[str]:
    """Redact records, and check that nothing is left."""
    hidden = hidden_of(records)
    redactor = Redactor(b"0123456789abcdef", hidden.avoids)
    new = [one for record in records for one in redactor.feed(record)] + redactor.end()
    texts = [one.data.decode() for one in new]
    left = [word for word in words for text in texts if word in text.casefold()]
    assert left == [], texts
    search = Search(hidden)
    for record in new:
        search.feed(record)
    search.end()
    assert search.found == {}, texts
    return texts


def exchange(request: dict[str, Any], body: str) -> Record:
    one = {"uid": UID, "attempt": 1, "start": 1.0, "duration_s": 0.1, "request": request}
    answer = {"status": 200, "headers": JSON, "body": body}
    return Record(2.0, "http", json.dumps(one | answer).encode())


WORDS: Final = st.lists(
    st.text("bcdfghjklmnpqrstvwxyz", min_size=7, max_size=12), min_size=6, max_size=6, unique=True
)
few = settings(steady, max_examples=15)  # the words vary, not the shapes
CASES: Final = [
    pytest.param(key, one, id=f"{key}-{number}")
    for table in (REPLIES, OF_MOD_REST)
    for key, replies in table.items()
    for number, one in enumerate(replies)
]


def test_each_key_has_a_reply_or_an_element() -> None:
    assert REPLIES.keys() == WRITERS.keys()
    assert OF_MOD_REST.keys() == MOD_REST_KEYS
    assert {field.key for field in FIELDS} <= REPLIES.keys() | READ.keys()


@pytest.mark.parametrize(("key", "reply"), CASES)
@few
@given(words=WORDS)
async def test_a_redacted_reply_makes_the_redacted_stanza(
    key: str, reply: dict[str, Any], words: list[str]
) -> None:
    ours = {one for one in reply if one in WRITERS}
    is_iq = key != "moderate" and kind_of(dict.fromkeys(ours), "message") == "iq"
    asked = stanza(filled(ASKED_IQ if is_iq else ASKED, words))
    body = json.dumps(filled(reply, words), ensure_ascii=False)
    sent = await composed(body, asked)
    records = [
        Record(1.0, IN, xml_of(asked).encode()),
        exchange(posted(asked), body),
        *(Record(3.0, OUT, xml_of(one).encode()) for one in sent),
    ]
    came, told, *written = redacted(records, words)
    request, again = json.loads(told)["request"], json.loads(told)["body"]
    assert request["stanza"] == came
    resent = await composed(again, received(came))
    assert [meaning(one.element) for one in resent] == [
        meaning(received(one).element) for one in written
    ], again
    # What was sent may be received, too: its JSON is the redacted JSON.
    for one, xml in zip(sent, written, strict=True):
        _check_read(one, xml, words)


@pytest.mark.parametrize(("key", "inner"), READ.items())
@few
@given(words=WORDS)
def test_the_json_of_a_redacted_stanza_is_the_redacted_json(
    key: str, inner: str, words: list[str]
) -> None:
    kind = "presence" if key == "occupant" else "message"
    type = "" if kind == "presence" else " type='groupchat'"
    xml = filled(
        f"<{kind} from='{{a}}@chat.example' to='bot@b.example' id='{{b}}'{type}>{inner}</{kind}>",
        words,
    )
    one = stanza(xml)
    assert key in of_stanza(one)
    [new] = redacted([Record(1.0, IN, xml_of(one).encode())], words)
    _check_read(one, new, words)


def _check_read(one: Stanza, redacted_xml: str, words: list[str]) -> None:
    """The JSON of the redacted stanza is the redacted JSON of the stanza."""
    [told] = redacted([exchange(posted(one), "")], words)
    assert _comparable(json.loads(told)["request"]) == _comparable(posted(received(redacted_xml)))


def _comparable(request: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in request.items() if key != "stanza"}


@pytest.mark.parametrize(
    "body",
    [
        {"contact": "xmpp:juliet@capulet.example"},
        {"unknown": {"juliet": ["capulet", {"capulet": 1}]}},
        {"data": {"juliet": {"capulet": {"name": "juliet"}}}},
        {"dataform": {"data": {"juliet": "capulet"}}},
        {"bodies": {"juliet": "capulet"}},
        {"status": "<juliet capulet='x'/>"},
        {"state": "juliet", "hints": ["capulet"], "condition": "juliet"},
        {"fields": [{"var": "juliet", "value": "urn:xmpp:capulet"}]},
    ],
)
def test_a_persons_words_go_wherever_they_are(body: dict[str, Any]) -> None:
    record = exchange({**body, "to": "bot@b.example"}, json.dumps(body))
    redactor = Redactor(b"0123456789abcdef")
    [new] = redactor.feed(record)
    assert not [word for word in ("juliet", "capulet") if word in new.data.decode()], new.data
    assert msgspec.json.decode(json.loads(new.data)["body"])


@few
@given(words=WORDS)
def test_the_parts_of_a_redacted_address_are_those_of_the_request(words: list[str]) -> None:
    xml = filled(
        "<message from='{a}\\40{b}.example@irc.example/{c}' to='bot@b.example/default' id='{d}'>"
        "<body>{e} {f}</body></message>",
        words,
    )
    one = stanza(xml)
    assert posted(one)["from_local_unescaped"] == f"{words[0]}@{words[1]}.example"
    [new] = redacted([Record(1.0, IN, xml_of(one).encode())], words)
    _check_read(one, new, words)
