"""JSON keys of replies as elements, and what is refused."""

import json
from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.payload.body import KEYS, ReplyBody, read_reply
from bridge.payload.content import RETRACTED
from bridge.payload.correction import Answered
from bridge.payload.error import UnusableReply
from bridge.payload.field import of_stanza
from bridge.payload.reply import ReplyComposer
from tests.bridge.sample import stanza
from xmppstream import Element, Stanza, make, parse_element, write
from xmppstream.names import COMPONENT, DISCO_INFO, DISCO_ITEMS

ASKED_IQ: Final = (
    "<iq from='juliet@capulet.example/balcony' to='bot@b.example' id='q1' type='get'>"
    "<q xmlns='urn:q'/></iq>"
)
ROOM: Final = "coven@chat.example"
JULIET: Final = "juliet@capulet.example/balcony"
BOT: Final = "bot@b.example"
ASKED: Final = (
    f"<message from='{JULIET}' to='{BOT}' id='m1' type='chat'><body>one\ntwo\nthree\nfour</body>"
    "<origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>"
)
IN_ROOM: Final = (
    f"<message from='{ROOM}/n' to='{BOT}' id='m1' type='groupchat'><body>x</body>"
    f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='s1'/></message>"
)
IN_ROOM_WITHOUT_IDS: Final = (
    f"<message from='{ROOM}/n' to='{BOT}' id='m1' type='groupchat'><body>x</body></message>"
)


async def parse(data: bytes) -> Element:
    return parse_element(data)


async def composed(reply: Any, request: str = ASKED) -> list[Stanza]:
    composer = ReplyComposer("b.example", 500_000, parse)
    asked = stanza(request)
    reading = read_reply(ReplyBody("json", json.dumps(reply).encode()))
    return await composer.compose(reading.objects, asked, uid="u", in_room=False)


WRITTEN: Final[list[tuple[dict[str, Any], dict[str, Any]]]] = [
    ({"body": "x", "subject": "s"}, {"subject": "s"}),
    ({"body": "x", "thread": "t"}, {"thread": "t"}),
    ({"body": "x", "nick": "n"}, {"nick": "n"}),
    ({"state": "composing"}, {"state": "composing"}),
    ({"body": "x", "replace": "u-1"}, {"replace": "u-1"}),
    ({"body": "x", "replace": False}, {}),
    ({"body": "x", "reply": True}, {"reply": {"id": "o1", "to": JULIET}}),
    ({"body": "x", "reply": False}, {}),
    ({"body": "x", "reply": {"id": "a"}}, {"reply": {"id": "a"}}),
    ({"reactions": ["👍", "👍", "🎉"]}, {"reactions": {"id": "o1", "reactions": ["👍", "🎉"]}}),
    ({"reactions": []}, {"reactions": {"id": "o1", "reactions": []}}),
    (
        {"reactions": {"id": "a", "reactions": ["👍"]}},
        {"reactions": {"id": "a", "reactions": ["👍"]}},
    ),
    (
        {"oob": {"url": "https://a/b", "desc": "d"}},
        {
            "oob": {"url": "https://a/b", "desc": "d"},
            "files": [{"url": "https://a/b", "desc": "d"}],
        },
    ),
    ({"body": "x", "receipt_requested": True}, {"receipt_requested": True}),
    ({"body": "x", "receipt_requested": False}, {}),
    ({"receipt": "a"}, {"receipt": "a"}),
    ({"body": "x", "markable": True}, {"markable": True}),
    ({"displayed": True}, {"displayed": "m1"}),
    ({"displayed": "a"}, {"displayed": "a"}),
    ({"body": "x", "hints": ["no-store", "no-copy"]}, {"hints": ["no-store", "no-copy"]}),
    ({"kind": "presence", "show": "dnd"}, {"show": "dnd"}),
    ({"kind": "presence", "type": "available"}, {}),
    ({"kind": "presence", "status": "s", "priority": -1}, {"status": "s", "priority": -1}),
    ({"body": "x", "subject": "", "reply": None, "state": ""}, {}),
    (
        {"error": {"condition": "gone", "text": "t"}},
        {"error": {"condition": "gone", "type": "cancel", "text": "t"}},
    ),
]
ANSWERS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"ping": True}, ""),
    (
        {"version": {"name": "n", "version": "1"}},
        "<query xmlns='jabber:iq:version'><name>n</name><version>1</version></query>",
    ),
    (
        {"disco": {"identities": [{"category": "client", "type": "bot"}], "features": ["f"]}},
        f"<query xmlns='{DISCO_INFO}'><identity category='client' type='bot'/>"
        "<feature var='f'/></query>",
    ),
    (
        {"items": [{"jid": "a@b", "name": "n"}]},
        f"<query xmlns='{DISCO_ITEMS}'><item jid='a@b' name='n'/></query>",
    ),
    ({"items": []}, f"<query xmlns='{DISCO_ITEMS}'/>"),
    ({"lastactivity": 7}, "<query xmlns='jabber:iq:last' seconds='7'/>"),
]


@pytest.mark.parametrize(("reply", "payload"), ANSWERS)
async def test_an_answer_to_an_iq(reply: dict[str, Any], payload: str) -> None:
    [one] = await composed(reply, ASKED_IQ)
    assert (one.kind, one.type, one.id, one.to) == ("iq", "result", "q1", JULIET)
    assert write(one.element, COMPONENT).endswith(f">{payload}</iq>" if payload else "/>")


async def test_an_error_answers_an_iq() -> None:
    [one] = await composed({"error": {"condition": "forbidden", "type": "auth"}}, ASKED_IQ)
    assert (one.type, one.id) == ("error", "q1")


@pytest.mark.parametrize(
    ("asked", "payload"),
    [
        ({"ping": True}, "<ping xmlns='urn:xmpp:ping'/>"),
        ({"version": True}, "<query xmlns='jabber:iq:version'/>"),
        ({"disco": True}, f"<query xmlns='{DISCO_INFO}'/>"),
        ({"items": "n"}, f"<query xmlns='{DISCO_ITEMS}' node='n'/>"),
        ({"lastactivity": True}, "<query xmlns='jabber:iq:last'/>"),
    ],
)
async def test_a_question(asked: dict[str, Any], payload: str) -> None:
    composer = ReplyComposer("b.example", 500_000, parse)
    question = {"kind": "iq", "type": "get", "to": "a@b", "from": BOT, **asked}
    [one] = read_reply(ReplyBody("json", json.dumps(question).encode())).objects
    stanza = composer.compose_unasked(await composer.draft(one), None, "fresh")
    assert payload in write(stanza.element, COMPONENT)


@pytest.mark.parametrize(("reply", "fields"), WRITTEN)
async def test_what_is_written_is_read_back(reply: dict[str, Any], fields: dict[str, Any]) -> None:
    [one] = await composed(reply)
    read = json.loads(msgspec.json.encode(of_stanza(one)))
    if "reactions" in fields:
        assert read.pop("hints") == ["store"]
    assert read == fields
    body = one.child("body")
    assert (None if body is None else body.text) == reply.get("body")
    assert one.type == (
        None if one.kind == "presence" else "error" if "error" in fields else "chat"
    )


async def test_a_retraction_tells_other_clients() -> None:
    [one] = await composed({"retract": "u-1"})
    assert of_stanza(one)["retract"] == "u-1"
    body = one.child("body")
    assert body is not None
    assert body.text == RETRACTED
    assert of_stanza(one)["fallback"] == ["urn:xmpp:message-retract:1"]


async def test_a_quotation_is_marked_as_a_fallback() -> None:
    [one] = await composed({"body": "yes", "reply": True, "quote": True})
    body = one.child("body")
    assert body is not None
    assert body.text == "> one\n> two\n> three\nyes"
    fallback = one.element.find("{urn:xmpp:fallback:0}fallback")
    assert fallback is not None
    assert fallback.get("for") == "urn:xmpp:reply:0"
    [span] = fallback.elements
    assert (span.get("start"), span.get("end")) == ("0", "20")
    assert body.text[20:] == "yes"


PICTURE: Final = {"url": "https://a/b.png", "name": "b.png", "media_type": "image/png", "size": 7}


async def test_a_picture() -> None:
    [one] = await composed({"files": [PICTURE]})
    body = one.child("body")
    assert body is not None
    assert body.text == PICTURE["url"]
    fields = json.loads(msgspec.json.encode(of_stanza(one)))
    assert fields["files"] == [PICTURE]
    assert (fields["oob"], fields["fallback"]) == ({"url": PICTURE["url"]}, ["urn:xmpp:sfs:0"])


async def test_files_are_a_message_each_and_the_text_goes_first() -> None:
    other = {"url": "https://a/c.png"}
    stanzas = await composed(
        {"body": "Look", "id": "mine", "reply": True, "files": [PICTURE, other]}
    )
    bodies = [one.child("body") for one in stanzas]
    assert [body and body.text for body in bodies] == ["Look", PICTURE["url"], other["url"]]
    assert [one.id for one in stanzas] == ["mine", "u-2", "u-3"]
    assert ["reply" in of_stanza(one) for one in stanzas] == [True, False, False]


async def test_what_refers_to_a_message_of_a_room() -> None:
    [one] = await composed({"reactions": ["👍"]}, IN_ROOM)
    assert (one.to, one.type, of_stanza(one)["reactions"].id) == (ROOM, "groupchat", "s1")
    [one] = await composed({"displayed": True}, IN_ROOM)
    assert of_stanza(one)["displayed"] == "s1"
    for reply in ({"reactions": ["👍"]}, {"body": "x", "reply": True}, {"displayed": True}):
        with pytest.raises(UnusableReply, match="no message with an id"):
            await composed(reply, IN_ROOM_WITHOUT_IDS)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"body": "x", "subject": 1}, "subject is not a string"),
        ({"state": "typing"}, "state: 'typing' is not one of active, composing, paused"),
        ({"state": True}, "state is not a string"),
        ({"state": "\ud800"}, "state: an unpaired surrogate"),
        ({"body": "x", "reply": 5}, "reply is not true, false or an object"),
        ({"body": "x", "reply": {"to": "a@b"}}, "reply has no id"),
        ({"reactions": "👍"}, "reactions is not "),
        ({"reactions": [1]}, "reactions[0] is not a string"),
        ({"reactions": [""]}, "reactions: one is empty"),
        ({"reactions": [str(number) for number in range(101)]}, "reactions: more than 100"),
        ({"reactions": ["👍"], "body": "x"}, "reactions and body exclude each other"),
        ({"retract": "a", "body": "x"}, "retract and body exclude each other"),
        ({"replace": "a"}, "replace needs a body"),
        ({"replace": "a", "files": [PICTURE]}, "replace and files exclude each other"),
        ({"files": [{}]}, "files[0] has no url"),
        ({"files": [{"url": "b.png"}]}, "files.url is not a URL"),
        ({"files": [{"url": "https://a", "size": -1}]}, "files.size is negative"),
        ({"files": {"url": "https://a"}}, "files is not a list"),
        ({"body": "x", "quote": True}, 'quote needs a body and "reply": true'),
        ({"body": "x", "quote": True, "reply": {"id": "a"}}, 'quote needs "reply": true'),
        (
            {"body": "x", "hints": ["secret"]},
            "hints: 'secret' is not one of no-permanent-store, no-store",
        ),
        ({"kind": "presence", "show": "busy"}, "show: 'busy' is not one of away, chat, dnd, xa"),
        ({"kind": "presence", "priority": 999}, "priority is not from -128 to 127"),
        ({"kind": "presence", "priority": "1"}, "priority is not a whole number"),
        ({"kind": "presence", "state": "active"}, "state is not a key of a presence"),
        ({"body": "x", "show": "dnd"}, "show is not a key of a message"),
        ({"oob": {"desc": "d"}}, "oob has no url"),
        ({"error": {"condition": "gon"}}, "perhaps you meant gone"),
        ({"error": {}}, "error.condition is not one of RFC 6120 §8.3.3; use one of"),
        ({"error": {"condition": "gone", "type": "x"}}, "error.type is not one of"),
        ({"kind": "iq", "disco": {"identities": [{}]}}, "disco.identities[0] has no category"),
        ({"kind": "iq", "items": [{"name": "n"}]}, "items[0] has no jid"),
        ({"kind": "iq", "lastactivity": -1}, "lastactivity is negative"),
    ],
)
async def test_what_is_refused(reply: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableReply) as caught:
        await composed(reply)
    assert reason in str(caught.value)


ATOMS: Final = st.one_of(
    st.sampled_from([None, True, False, "", "x", "\x00", "\ud800", 0, -1, 1.5, 10**30])
)
OBJECTS: Final = st.dictionaries(
    st.sampled_from(["id", "to", "url", "reactions", "name", "size"]), ATOMS, max_size=3
)


@pytest.mark.parametrize(
    ("reply", "nothing"),
    [
        ({"reply": "hello"}, ("reply needs a body",)),
        ({"markable": True, "thread": "t"}, ("thread needs a body",)),
        ({"reply": True, "body": "x"}, ()),
        ({"type": "chat", "reply": True}, ()),
    ],
)
def test_what_says_nothing_without_a_body(reply: dict[str, Any], nothing: tuple[str, ...]) -> None:
    assert read_reply(ReplyBody("json", json.dumps(reply).encode())).nothing == nothing


JSON: Final = st.one_of(ATOMS, OBJECTS, st.lists(st.one_of(ATOMS, OBJECTS), max_size=3))


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5), st.sampled_from([ASKED, IN_ROOM]))
async def test_any_object_is_sent_or_refused(reply: dict[str, Any], request_xml: str) -> None:
    stanzas = []
    with suppress(UnusableReply):
        stanzas = await composed(reply, request_xml)
    assert all(one.encode() for one in stanzas)


EDIT: Final = (
    f"<message from='{JULIET}' to='{BOT}' id='m2' type='chat'><body>y</body>"
    "<replace xmlns='urn:xmpp:message-correct:0' id='m1'/></message>"
)


def answered(sender: str, original: str, edit: str = EDIT) -> Stanza:
    return stanza(edit.replace(JULIET, sender).replace("id='m1'", f"id='{original}'"))


@pytest.mark.parametrize(
    ("edit", "reply", "replaced"),
    [
        (answered(JULIET, "m1"), {"body": "yes"}, "u1-1"),
        (answered("juliet@capulet.example/phone", "m1"), {"body": "yes"}, "u1-1"),
        (answered("romeo@montague.example/x", "m1"), {"body": "yes"}, None),
        (answered(JULIET, "other"), {"body": "yes"}, None),
        (answered(JULIET, "m1"), {"body": "yes", "replace": False}, None),
        (answered(JULIET, "m1"), {"body": "yes", "replace": "mine"}, "mine"),
        (answered(JULIET, "m1"), {"reactions": ["👍"]}, None),
    ],
)
async def test_the_answer_to_a_correction_corrects_our_answer(
    edit: Stanza, reply: dict[str, Any], replaced: str | None
) -> None:
    composer = ReplyComposer("b.example", 500_000, parse)

    async def answer(request: Stanza, uid: str, reply: dict[str, Any]) -> Stanza:
        objects = read_reply(ReplyBody("json", json.dumps(reply).encode())).objects
        [one] = await composer.compose(objects, request, uid=uid, in_room=False)
        return one

    await answer(stanza(ASKED), "u1", {"body": "no"})
    one = await answer(edit, "u2", reply)
    assert of_stanza(one).get("replace") == replaced
    assert one.id == "u2-1"


def test_what_was_answered_is_forgotten_in_time() -> None:
    answered_ids = Answered(limit=2)
    for number in range(5):
        request = make("message", BOT, JULIET, id=f"m{number}")
        answered_ids.note(request, make("message", JULIET, BOT, id="r"), in_room=False)
    assert len(answered_ids) <= 4
    assert answered_ids.corrected_by(answered(JULIET, "m0"), in_room=False) is None
    assert answered_ids.corrected_by(answered(JULIET, "m4"), in_room=False) == "r"


def test_in_a_room_only_the_same_occupant_corrects() -> None:
    answered_ids = Answered()
    request = make("message", BOT, f"{ROOM}/a", type="groupchat", id="m1")
    answered_ids.note(request, make("message", ROOM, BOT, id="r"), in_room=True)
    told = [
        answered_ids.corrected_by(answered(f"{ROOM}/{nick}", "m1"), in_room=True)
        for nick in ("a", "b")
    ]
    assert told == ["r", None]
