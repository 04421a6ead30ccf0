"""The ways in of mod_rest and mod_post_msg: what their users send, and what comes of it."""

import json
from collections import Counter
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.bridge.listener.api.prosody_form import FORMS, ProsodyForm
from tests.bridge.listener.api.prosody_form import TO as TO_ALICE
from tests.bridge.listener.api.test_stanza import JSON, JULIET, PING, TEXT, XML, means, problem
from tests.bridge.listener.conftest import World, basic, bearer
from tests.bridge.listener.fake_sender import BOT
from tests.bridge.sample import meaning, stanza
from xmppstream import Stanza, write
from xmppstream.names import COMPONENT

FORM = "application/x-www-form-urlencoded"
ONE = bearer("one")
TO = f"to='{JULIET}' from='{BOT}'"
HI = "<body>hi</body>"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"


def last(world: World) -> Any:
    """Give the meaning of what was sent."""
    ((one, _),) = world.sender.sent
    return meaning(one.element)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_every_documented_form(world: World, form: ProsodyForm) -> None:
    sender = world.sender
    sender.answer = stanza(f"<iq type='result' id='x' from='{TO_ALICE}' to='{BOT}'/>")
    headers = {**ONE, **({"Content-Type": form.media} if form.media else {})}
    content = form.content.encode() or None
    response = await world.client.request(form.method, form.path, content=content, headers=headers)
    if not form.expected:
        problem(response, 422)
        return
    assert response.is_success, response.text
    made = [one for one, _ in sender.sent] + [one for one, _, _ in sender.asked]
    assert [spelled(one) for one in made] == [spelled(stanza(form.expected))]


def spelled(one: Stanza) -> Any:
    """Return what a stanza means, without its sender and id; the order of children is ignored."""
    name, attributes, children = meaning(one.element)
    kept = {pair for pair in attributes if pair[0] not in ("from", "id")}
    return name, kept, Counter(map(_without_queryid, children))


def _without_queryid(child: Any) -> Any:
    """Leave out the id that a query of an archive gets."""
    if isinstance(child, str):
        return child
    name, attributes, children = child
    return name, frozenset(pair for pair in attributes if pair[0] != "queryid"), children


@pytest.mark.parametrize(
    ("path", "content", "media", "expected"),
    [
        (
            "",
            {"body": "hi", "kind": "message", "to": JULIET, "type": "chat"},
            JSON,
            f"<message {TO} type='chat'>{HI}</message>",
        ),
        ("", {"body": "hi", "to": JULIET}, JSON, f"<message {TO} type='normal'>{HI}</message>"),
        (
            "",
            {"subject": "s", "thread": "t", "body": "hi", "to": JULIET, "type": "groupchat"},
            JSON,
            f"<message {TO} type='groupchat'>{HI}<subject>s</subject><thread>t</thread></message>",
        ),
        (
            "",
            {"show": "away", "status": "", "to": JULIET},
            JSON,
            f"<presence {TO}><show>away</show></presence>",
        ),
        ("", {"kind": "presence", "type": "available", "to": JULIET}, JSON, f"<presence {TO}/>"),
        ("", {"type": "subscribe", "to": JULIET}, JSON, f"<presence {TO} type='subscribe'/>"),
        (
            "",
            {"body": "hi", "to": JULIET, "type": None},
            JSON,
            f"<message {TO} type='normal'>{HI}</message>",
        ),
        ("", {"body": "hi", "to": JULIET}, FORM, f"<message {TO} type='normal'>{HI}</message>"),
        (
            "",
            {"body": "hi", "to": JULIET, "kind": "", "type": "", "id": "", "from": "", "ping": ""},
            JSON,
            f"<message {TO} type='normal'>{HI}</message>",
        ),
        (
            "",
            {"body": "hi", "to": JULIET, "kind": "", "type": "", "subject": ""},
            FORM,
            f"<message {TO} type='normal'>{HI}</message>",
        ),
        (
            "",
            b'\xef\xbb\xbf{"to": "%s", "body": "\\u001b[1mhi\\ud83d", "subject": "\\u0000"}'
            % JULIET.encode(),
            JSON,
            f"<message {TO} type='normal'><body>hi\ufffd</body><subject>\ufffd</subject></message>",
        ),
        (f"/message/chat/{JULIET}", "\ufeffhi", TEXT, f"<message {TO} type='chat'>{HI}</message>"),
        ("", f"<message to='{JULIET}'>{HI}</message>", XML, f"<message {TO}>{HI}</message>"),
        (f"/message/chat/{JULIET}", "hi", TEXT, f"<message {TO} type='chat'>{HI}</message>"),
        (
            f"/message/normal/{JULIET}",
            {"body": "hi"},
            JSON,
            f"<message {TO} type='normal'>{HI}</message>",
        ),
        (
            f"/message/chat/{JULIET}",
            {"body": "hi"},
            FORM,
            f"<message {TO} type='chat'>{HI}</message>",
        ),
        (
            f"/message/chat/{JULIET}",
            {"body": "hi", "to": "x", "kind": "iq", "type": "get"},
            JSON,
            f"<message {TO} type='chat'>{HI}</message>",
        ),
        (
            f"/presence/available/{JULIET}",
            "dnd",
            TEXT,
            f"<presence {TO}><show>dnd</show></presence>",
        ),
        (f"/presence/unavailable/{JULIET}", "", TEXT, f"<presence {TO} type='unavailable'/>"),
        (
            "/message/chat/juliet",
            "hi",
            TEXT,
            f"<message to='juliet@example.org' from='{BOT}' type='chat'>{HI}</message>",
        ),
        (
            "/message/chat/juliet@",
            "hi",
            TEXT,
            f"<message to='juliet@example.org' from='{BOT}' type='chat'>{HI}</message>",
        ),
        (
            "/message/chat/capulet.example",
            "hi",
            TEXT,
            f"<message to='capulet.example' from='{BOT}' type='chat'>{HI}</message>",
        ),
    ],
)
async def test_mod_rest(world: World, path: str, content: Any, media: str, expected: str) -> None:
    if isinstance(content, dict):
        content = urlencode(content) if media == FORM else json.dumps(content)
    response = await world.post(f"/rest{path}", content, media, **ONE)
    assert response.status_code == 202
    assert response.json() == {"id": "msg_1", "uid": "msg_1"}
    assert last(world) == means(expected)


@pytest.mark.parametrize(
    ("content", "payload"),
    [
        ({"kind": "iq", "type": "get", "to": "a", "ping": True}, "<ping xmlns='urn:xmpp:ping'/>"),
        ({"to": "a", "version": True}, "<query xmlns='jabber:iq:version'/>"),
        ({"type": "get", "to": "a", "disco": True}, f"<query xmlns='{INFO}'/>"),
        ({"to": "a", "disco": "n", "items": False}, f"<query xmlns='{INFO}' node='n'/>"),
        ({"to": "a", "items": {"node": "n"}}, f"<query xmlns='{ITEMS}' node='n'/>"),
        (PING.replace(JULIET, "a"), "<ping xmlns='urn:xmpp:ping'/>"),
    ],
)
async def test_mod_rests_questions(world: World, content: Any, payload: str) -> None:
    world.sender.answer = stanza(f"<iq type='result' id='x' from='a' to='{BOT}'/>")
    media = XML if isinstance(content, str) else JSON
    content = content if isinstance(content, str) else json.dumps(content)
    response = await world.post("/rest", content, media, Accept=JSON, **ONE)
    assert response.status_code == 200, response.text
    assert response.json()["kind"] == "iq"
    ((question, _, _),) = world.sender.asked
    assert (question.kind, question.type, question.to) == ("iq", "get", "a")
    assert [meaning(one) for one in question.element.elements] == [
        meaning(stanza(f"<iq>{payload}</iq>").element.elements[0])
    ]


async def test_a_question_with_its_head_in_the_path(world: World) -> None:
    world.sender.answer = stanza(f"<iq type='result' id='x' from='a' to='{BOT}'/>")
    response = await world.post("/rest/iq/get/localhost", '{"ping": true}', JSON, **ONE)
    assert response.status_code == 200
    assert [one.to for one, _, _ in world.sender.asked] == ["localhost"]


ANSWERED = (
    f"<iq type='result' id='x' from='a@b' to='{BOT}'>"
    "<query xmlns='jabber:iq:version'><name>n</name><version>1</version></query></iq>"
)
REFUSED = (
    f"<iq type='error' id='x' from='a@b' to='{BOT}'><error type='cancel'>"
    "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
)
HEAD = {"kind": "iq", "from": "a@b", "to": BOT, "id": "x"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ANSWERED, {"type": "result", "version": {"name": "n", "version": "1"}}),
        (REFUSED, {"type": "error", "error": {"type": "cancel", "condition": "item-not-found"}}),
    ],
)
async def test_an_answer_has_mod_rests_form(world: World, answer: str, expected: Any) -> None:
    world.sender.answer = stanza(answer)
    response = await world.get("/rest/version/a@b", Accept=JSON, **ONE)
    assert (response.status_code, response.json()) == (200, {**HEAD, **expected})


@pytest.mark.parametrize(
    ("media", "accept", "expected"),
    [
        (None, "*/*", XML),
        (None, JSON, JSON),
        (None, f"text/html, {JSON}, {XML}", JSON),
        (None, FORM, FORM),
        (JSON, "*/*", JSON),
        (JSON, XML, XML),
        (FORM, "*/*", FORM),
        (XML, "*/*", XML),
    ],
)
async def test_the_form_of_an_answer_is_that_of_accept_or_of_the_request(
    world: World, media: str | None, accept: str, expected: str
) -> None:
    world.sender.answer = stanza(ANSWERED)
    bodies = {
        None: "",
        JSON: '{"to": "a@b", "version": true}',
        FORM: "to=a%40b&version=",
        XML: "<iq type='get' to='a@b'><query xmlns='jabber:iq:version'/></iq>",
    }
    if media is None:
        response = await world.get("/rest/version/a@b", Accept=accept, **ONE)
    else:
        response = await world.post("/rest", bodies[media], media, Accept=accept, **ONE)
    assert response.status_code == 200
    assert response.headers["content-type"] == expected
    match expected:
        case "application/xmpp+xml":
            assert means(response.text) == means(ANSWERED)
        case "application/json":
            assert response.json()["version"] == {"name": "n", "version": "1"}
        case _:
            assert dict(parse_qsl(response.text)) == {**HEAD, "type": "result"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 120),
        ({"Prosody-Rest-Timeout": "7"}, 7),
        ({"Prosody-Rest-Timeout": "900"}, 300),
        ({"Prosody-Rest-Timeout": "soon"}, 120),
        ({"Prefer": "wait=5"}, 5),
    ],
)
async def test_an_answer_is_waited_for_as_long_as_mod_rest_does(
    world: World, headers: dict[str, str], seconds: int
) -> None:
    world.sender.answer = stanza(ANSWERED)
    await world.get("/rest/ping/a@b", **ONE, **headers)
    assert [wait_s for _, wait_s, _ in world.sender.asked] == [seconds]


async def test_an_echo_is_not_sent(world: World) -> None:
    content = json.dumps({"to": JULIET, "body": "hi", "thread": {"id": "t"}, "id": "m1"})
    response = await world.post("/rest/echo", content, JSON, **ONE)
    assert response.json() == {
        "kind": "message",
        "type": "normal",
        "to": JULIET,
        "from": BOT,
        "id": "m1",
        "body": "hi",
        "thread": {"id": "t"},
    }
    assert not world.sender.sent


async def test_a_form_without_fields_is_text_as_curl_sends_it(world: World) -> None:
    response = await world.post(f"/rest/message/chat/{JULIET}", "hi%21 a+b", FORM, **ONE)
    assert response.status_code == 202
    assert last(world) == means(f"<message {TO} type='chat'><body>hi! a+b</body></message>")


async def test_a_number_keeps_its_fraction(world: World) -> None:
    payload = {"datatype": "a:b", "data": 1.5}
    await world.post("/rest", json.dumps({"to": JULIET, "payload": payload}), JSON, **ONE)
    ((one, _),) = world.sender.sent
    assert "1.5" in write(one.element, COMPONENT)


async def test_json_that_is_nested_too_deeply(world: World) -> None:
    for depth in (300, 900, 3000):
        content = '{"to": "a@b", "payload": {"datatype": "x", "data": %s1%s}}'
        content %= ("[" * depth, "]" * depth)
        response = await world.post("/rest", content, JSON, **ONE)
        assert response.status_code in (202, 400, 422)


async def test_a_basic_user_without_a_host_is_at_the_tokens_component(world: World) -> None:
    """mod_rest's users log in by their local part."""
    headers = basic("alert", "two-0123456789abcdef")
    assert (await world.post(f"/rest/message/chat/{JULIET}", "hi", TEXT, **headers)).is_success
    assert [one.from_ for one, _ in world.sender.sent] == [f"alert@{BOT}"]
    for user, secret in (("bob", "two-0123456789abcdef"), ("alert", "all-0123456789abcdef")):
        response = await world.post(f"/msg/{JULIET}", "hi", TEXT, **basic(user, secret))
        problem(response, 403)


@pytest.mark.parametrize(
    ("path", "content", "media", "status"),
    [
        ("", "{", JSON, 400),
        ("", "", JSON, 422),
        ("", "[]", JSON, 422),
        ("", '{"body": "x"}', JSON, 422),
        ("", '{"to": "a@b", "body": [3]}', JSON, 422),
        ("", '{"to": "a@b", "body": "x", "thread": 3}', JSON, 422),
        ("", '{"to": "a@b", "body": "x", "reference": 3}', JSON, 422),
        ("", '{"to": "a@b", "body": "x", "oob_url": 3}', JSON, 422),
        ("", '{"to": "a@b", "kind": "iq", "items": {"node": 3}}', JSON, 422),
        ("", '{"to": "a@b", "archive": {"ids": 3}}', JSON, 422),
        ("", '{"to": "a@b", "nothing": "known"}', JSON, 202),
        ("", '{"to": "a@b", "body": "x", "lang": 3}', JSON, 422),
        ("", '{"to": "a@b", "body": "x", "lang": "e n"}', JSON, 422),
        ("", '{"to": 3, "body": "x"}', JSON, 422),
        ("", '{"to": "a@b", "kind": "mail", "body": "x"}', JSON, 422),
        ("", '{"to": "a@b", "kind": "message", "show": "x"}', JSON, 422),
        ("", '{"to": "a@b", "kind": "message", "ping": true}', JSON, 422),
        ("", '{"to": "a@b", "kind": "iq"}', JSON, 422),
        ("", '{"to": "a@b", "kind": "iq", "ping": true, "disco": true}', JSON, 422),
        ("", '{"to": "a@b", "kind": "iq", "type": "result", "ping": true}', JSON, 422),
        ("", "body=%ff&to=a@b", FORM, 202),  # the replacement character
        ("", b"body=\xff&to=a@b", FORM, 400),
        ("", "&".join(f"a{n}=" for n in range(99)), FORM, 400),
        ("", "hi", TEXT, 422),  # to nobody
        ("", "<message/>", "text/xml", 415),
        ("/message/chat/a@b", "<message/>", XML, 422),
        ("/message/chat/a@b", "<message/>", "text/xml", 415),
        ("/iq/none/a@b", "{}", JSON, 422),
        ("/iq/get/a@b", "x", TEXT, 422),
        ("/mail/chat/a@b", '{"body": "x"}', JSON, 422),
        ("/message/shout/a@b", "x", TEXT, 422),
        ("/message/chat/@", "x", TEXT, 202),  # to the host
    ],
)
async def test_what_mod_rest_has_and_this_has_not(
    world: World, path: str, content: bytes | str, media: str, status: int
) -> None:
    response = await world.post(f"/rest{path}", content, media, **ONE)
    if status == 202:
        assert response.status_code == 202 or problem(response, 422)
        return
    problem(response, status)
    assert not world.sender.sent


@pytest.mark.parametrize(
    ("path", "content", "media", "expected"),
    [
        (JULIET, "hi", TEXT, f"<message {TO} type='chat'>{HI}</message>"),
        (
            "juliet",
            "hi",
            TEXT,
            f"<message to='juliet@example.org' from='{BOT}' type='chat'>{HI}</message>",
        ),
        (
            "j.doe",
            "hi",
            TEXT,
            f"<message to='j.doe@example.org' from='{BOT}' type='chat'>{HI}</message>",
        ),
        (JULIET, {"body": "hi"}, FORM, f"<message {TO} type='chat'>{HI}</message>"),
        ("", {"body": "hi", "to": JULIET}, FORM, f"<message {TO} type='chat'>{HI}</message>"),
        (
            "x",
            {"body": "hi", "to": JULIET, "type": "headline"},
            FORM,
            f"<message {TO} type='headline'>{HI}</message>",
        ),
        ("x", {"body": "hi", "to": JULIET}, JSON, f"<message {TO} type='chat'>{HI}</message>"),
    ],
)
async def test_mod_post_msg(
    world: World, path: str, content: Any, media: str, expected: str
) -> None:
    if isinstance(content, dict):
        content = urlencode(content) if media == FORM else json.dumps(content)
    response = await world.post(f"/msg/{path}", content, media, **ONE)
    assert response.status_code == 201
    assert response.json() == {"id": "msg_1", "uid": "msg_1"}
    assert last(world) == means(expected)


async def test_mod_post_msg_by_basic(world: World) -> None:
    headers = basic(f"alert@{BOT}", "two-0123456789abcdef")
    assert (await world.post(f"/msg/{JULIET}", "hi", TEXT, **headers)).status_code == 201
    assert [one.from_ for one, _ in world.sender.sent] == [f"alert@{BOT}"]


@pytest.mark.parametrize(
    ("path", "content", "media", "status"),
    [
        ("", "hi", TEXT, 422),
        ("@@", "hi", TEXT, 422),
        (JULIET, {"body": "x", "to": "@@"}, FORM, 422),
        (JULIET, "<message/>", XML, 415),
        (JULIET, "{", JSON, 400),
        (JULIET, b"\xff", TEXT, 400),
        (JULIET, {"body": "x", "type": "get"}, FORM, 422),
    ],
)
async def test_what_mod_post_msg_refuses(
    world: World, path: str, content: Any, media: str, status: int
) -> None:
    if isinstance(content, dict):
        content = urlencode(content)
    problem(await world.post(f"/msg/{path}", content, media, **ONE), status)
    assert not world.sender.sent


@pytest.mark.parametrize("name", ["kind", "type", "to", "from", "id", "show", "subject"])
@pytest.mark.parametrize("value", [[], {}, 5, True])
async def test_a_field_of_the_wrong_type(world: World, name: str, value: Any) -> None:
    content = json.dumps({"to": JULIET, "body": "hi", name: value})
    detail = problem(await world.post("/rest", content, JSON, **ONE), 422)["detail"]
    assert detail.startswith(name)
    assert "is not a" in detail
    assert not world.sender.sent


@pytest.mark.parametrize("path", ["/rest", f"/rest/message/chat/{JULIET}", f"/msg/{JULIET}"])
@pytest.mark.parametrize("value", [None, "", "x", 5, [], {}])
@pytest.mark.parametrize("name", ["", "Body", " to", "x" * 100])
async def test_a_field_of_an_unknown_name_is_ignored(
    world: World, path: str, name: str, value: Any
) -> None:
    content = json.dumps({"to": JULIET, "body": "hi", name: value})
    assert (await world.post(path, content, JSON, **ONE)).is_success
    ((one, _),) = world.sender.sent
    assert [child.text for child in one.element.elements] == ["hi"]


async def test_an_unknown_field_within_an_object_is_ignored(world: World) -> None:
    form = {"type": "submit", "zzz": 1, "fields": [{"var": "a", "zzz": 1}]}
    content = json.dumps({"to": JULIET, "oob": {"url": "https://a", "zzz": 1}, "dataform": form})
    assert (await world.post("/rest", content, JSON, **ONE)).is_success
    ((one, _),) = world.sender.sent
    assert len(one.element.elements) == 2


@pytest.mark.parametrize("name", ["id", "subject", "thread", "show", "ping", "items"])
async def test_a_field_that_is_null_is_absent(world: World, name: str) -> None:
    content = json.dumps({"to": JULIET, "body": "hi", name: None})
    assert (await world.post("/rest", content, JSON, **ONE)).status_code == 202
    assert last(world) == means(f"<message {TO} type='normal'>{HI}</message>")


# --- archives

ROOM: Final = "coven@chat.example"
MAM: Final = "urn:xmpp:mam:2"
FORWARDED: Final = (
    "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay'"
    " stamp='2010-07-10T23:08:25Z'/><message xmlns='jabber:client' from='coven@chat.example/nurse'"
    " type='groupchat'><body>Hi</body></message></forwarded>"
)


def archive_answers(world: World, count: int) -> list[str]:
    """Have an archive answer with `count` messages; the list has the ids of the queries."""
    queryids: list[str] = []

    def meanwhile(query: Stanza) -> None:
        assert query.payload is not None
        queryid = query.payload.get("queryid") or ""
        queryids.append(queryid)
        for number in range(count):
            xml = (
                f"<message from='{ROOM}' to='{query.from_}' id='r{number}'>"
                f"<result xmlns='{MAM}' queryid='{queryid}' id='a{number}'>{FORWARDED}</result>"
                "</message>"
            )
            assert world.sender.archives.take(stanza(xml), 100)

    world.sender.meanwhile = meanwhile
    world.sender.answer = stanza(
        f"<iq type='result' id='x' from='{ROOM}' to='{BOT}'>"
        f"<fin xmlns='{MAM}' complete='true'/></iq>"
    )
    return queryids


async def test_an_archive_answers_with_its_messages(world: World) -> None:
    queryids = archive_answers(world, 2)
    path = f"/rest/archive/{ROOM}?with=juliet@capulet.example&max=2"
    value = (await world.get(path, Accept=JSON, **bearer("one"))).json()
    assert value["xmpp"][:1] == [
        {
            "kind": "message",
            "from": ROOM,
            "to": BOT,
            "id": "r0",
            "archive": {
                "id": "a0",
                "queryid": queryids[0],
                "forward": {
                    "delay": "2010-07-10T23:08:25Z",
                    "message": {"from": f"{ROOM}/nurse", "type": "groupchat", "body": "Hi"},
                },
            },
        }
    ]
    assert [one["kind"] for one in value["xmpp"]] == ["message", "message", "iq"]
    assert value["xmpp"][2]["result"] == {"complete": True}
    text = (await world.get(path, Accept=XML, **bearer("one"))).text
    assert text.startswith(f"<xmpp><message from='{ROOM}' to='{BOT}' id='r0'><result xmlns='{MAM}'")
    assert text.count("<iq ") == 1
    response = await world.get(path, Accept="application/x-www-form-urlencoded", **bearer("one"))
    assert (response.status_code, response.text) == (200, "")


async def test_an_archive_without_messages_has_one_answer(world: World) -> None:
    archive_answers(world, 0)
    value = (await world.get(f"/rest/archive/{ROOM}", Accept=JSON, **bearer("one"))).json()
    assert (value["kind"], value["result"]) == ("iq", {"complete": True})


async def test_the_queryid_of_a_client_stays(world: World) -> None:
    queryids = archive_answers(world, 1)
    body = json.dumps({"to": ROOM, "archive": {"queryid": "mine", "max": 5}})
    await world.post("/rest", body, JSON, **bearer("one"))
    assert queryids == ["mine"]
    query = stanza(f"<iq type='set' id='q' to='{ROOM}' from='{BOT}'/>")
    with world.sender.archives.collecting(query, "mine", 1):
        response = await world.post("/rest", body, JSON, **bearer("one"))
        assert "queryid 'mine' already waits" in problem(response, 409)["detail"]


async def test_an_archive_that_floods_is_refused(world: World) -> None:
    archive_answers(world, 3)
    response = await world.get(f"/rest/archive/{ROOM}?max=2", Accept=JSON, **bearer("one"))
    assert "sent more than was asked for" in problem(response, 502)["detail"]
