"""The ways in of mod_rest and mod_post_msg: what their users send, and what comes of it."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.bridge.listener.api.test_stanza import JSON, JULIET, PING, TEXT, XML, means, problem
from tests.bridge.listener.conftest import World, basic, bearer
from tests.bridge.listener.fake_sender import BOT
from tests.bridge.sample import meaning, stanza

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


@pytest.mark.parametrize(
    ("path", "content", "media", "expected"),
    [
        (
            "",
            {"body": "hi", "kind": "message", "to": JULIET, "type": "chat"},
            JSON,
            f"<message {TO} type='chat'>{HI}</message>",
        ),
        ("", {"body": "hi", "to": JULIET}, JSON, f"<message {TO}>{HI}</message>"),
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
        ("", {"body": "hi", "to": JULIET, "type": None}, JSON, f"<message {TO}>{HI}</message>"),
        ("", {"body": "hi", "to": JULIET}, FORM, f"<message {TO}>{HI}</message>"),
        (
            "",
            {"body": "hi", "to": JULIET, "kind": "", "type": "", "id": "", "from": "", "ping": ""},
            JSON,
            f"<message {TO}>{HI}</message>",
        ),
        (
            "",
            {"body": "hi", "to": JULIET, "kind": "", "type": "", "subject": ""},
            FORM,
            f"<message {TO}>{HI}</message>",
        ),
        (
            "",
            b'\xef\xbb\xbf{"to": "%s", "body": "\\u001b[1mhi\\ud83d", "subject": "\\u0000"}'
            % JULIET.encode(),
            JSON,
            f"<message {TO}><body>hi\ufffd</body><subject>\ufffd</subject></message>",
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
    response = await world.post("/rest", content, media, **ONE)
    assert response.status_code == 200
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


@pytest.mark.parametrize(
    ("path", "content", "media", "status"),
    [
        ("", "{", JSON, 400),
        ("", "", JSON, 422),
        ("", "[]", JSON, 422),
        ("", '{"body": "x"}', JSON, 422),
        ("", '{"to": "a@b", "html": "<b/>"}', JSON, 422),
        ("", '{"to": "a@b", "body": 3}', JSON, 422),
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
        ("/message/chat/a@b", "<message/>", XML, 415),
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
        (JULIET, {"body": "x", "html": "<b/>"}, FORM, 422),
        (JULIET, {"body": "x", "from": BOT}, FORM, 422),
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


@pytest.mark.parametrize("name", ["kind", "type", "to", "from", "id", "body", "show"])
@pytest.mark.parametrize("value", [[], {}, 5, True])
async def test_a_field_of_the_wrong_type(world: World, name: str, value: Any) -> None:
    content = json.dumps({"to": JULIET, "body": "hi", name: value})
    response = await world.post("/rest", content, JSON, **ONE)
    assert response.status_code == 422
    assert response.json()["detail"] == f"{name}: must be a string."


@pytest.mark.parametrize("path", ["/rest", f"/rest/message/chat/{JULIET}", f"/msg/{JULIET}"])
@pytest.mark.parametrize("value", [None, "", "x", 5, [], {}])
@pytest.mark.parametrize("name", ["", "html", "Body", " to", "x" * 100])
async def test_a_field_of_an_unknown_name_is_refused_whatever_its_value(
    world: World, path: str, name: str, value: Any
) -> None:
    content = json.dumps({"body": "hi", name: value})
    detail = problem(await world.post(path, content, JSON, **ONE), 422)["detail"]
    assert detail.startswith(f"{name[:60]!r} is not a known field; use ")
    assert not world.sender.sent


@pytest.mark.parametrize("name", ["id", "subject", "thread", "show", "ping", "items"])
async def test_a_field_that_is_null_is_absent(world: World, name: str) -> None:
    content = json.dumps({"to": JULIET, "body": "hi", name: None})
    assert (await world.post("/rest", content, JSON, **ONE)).status_code == 202
    assert last(world) == means(f"<message {TO}>{HI}</message>")
