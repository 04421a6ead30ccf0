"""H1 and H2, line by line: what is POSTed, and what comes of each reply.

A row of H2 is a request, a reply, and the stanzas that are sent or the reason why none is.
"""

import json
import re
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from bridge.payload.body import KEYS, ReplyBody, ReplyObject, hint_for, read_reply
from bridge.payload.check import is_answer_to
from bridge.payload.error import UnusableReply
from bridge.payload.reply import ReplyComposer
from bridge.payload.request import body_of, request_body
from tests.bridge.sample import meanings, stanza
from xmppstream import Element, ElementParserThread, Limits, Stanza, parse_element, write
from xmppstream.names import COMPONENT

DOMAIN = "bot.example.com"
BOT = "echo@bot.example.com"
JULIET = "juliet@x.example/balcony"
ROOM = "room@muc.x.example"
RECEIVED = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
STANZAS = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'"
KIB = 1024
PARTS = {
    "to_local": "echo",
    "to_domain": DOMAIN,
    "from_local": "juliet",
    "from_domain": "x.example",
    "from_resource": "balcony",
}


# --- H1: the request


def body_posted(one: Stanza, received: datetime = RECEIVED) -> bytes:
    return request_body(one, write(one.element, COMPONENT), received.timestamp(), "msg_1", 2)


def posted(xml: str, lang: str | None = None) -> dict[str, Any]:
    value = json.loads(body_posted(stanza(xml, lang)))
    assert isinstance(value, dict)
    return value


def test_the_whole_object_of_a_message() -> None:
    xml = f"<message from='{JULIET}' to='{BOT}' id='m1' type='chat'><body>Hi</body></message>"
    assert posted(xml) == {
        "to": BOT,
        "from": JULIET,
        "kind": "message",
        "id": "m1",
        "type": "chat",
        "body": "Hi",
        "stanza": xml,
        "received": "2024-05-06T07:08:09.123Z",
        "event": "message",
        "uid": "msg_1",
        "attempt": 2,
        "timestamp": "2024-05-06T07:08:09.123Z",
        "text": "Hi",
        "ref": "m1",
        **PARTS,
    }


def test_the_whole_object_of_a_presence() -> None:
    xml = f"<presence from='{JULIET}' to='{BOT}' id='p1' type='subscribe'/>"
    assert posted(xml) == {
        "to": BOT,
        "from": JULIET,
        "kind": "presence",
        "id": "p1",
        "type": "subscribe",
        "stanza": xml,
        "received": "2024-05-06T07:08:09.123Z",
        "event": "subscription",
        "uid": "msg_1",
        "attempt": 2,
        "timestamp": "2024-05-06T07:08:09.123Z",
        **PARTS,
    }


def test_the_whole_object_of_an_iq() -> None:
    xml = f"<iq from='{JULIET}' to='{DOMAIN}' id='q1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
    assert posted(xml) == {
        "to": DOMAIN,
        "from": JULIET,
        "kind": "iq",
        "id": "q1",
        "type": "get",
        "ping": True,
        "stanza": xml,
        "received": "2024-05-06T07:08:09.123Z",
        "event": "iq",
        "uid": "msg_1",
        "attempt": 2,
        "timestamp": "2024-05-06T07:08:09.123Z",
        **{key: one for key, one in PARTS.items() if key != "to_local"},
    }


@pytest.mark.parametrize("key", ["id", "type", "body"])
def test_what_the_stanza_has_not_is_absent(key: str) -> None:
    assert key not in posted(f"<message from='{JULIET}' to='{BOT}'/>")


@pytest.mark.parametrize("key", ["id", "type"])
def test_what_the_stanza_has_empty_is_empty(key: str) -> None:
    assert posted(f"<message from='{JULIET}' to='{BOT}' {key}=''/>")[key] == ""


@pytest.mark.parametrize("kind", ["presence", "iq"])
def test_only_a_message_has_a_body(kind: str) -> None:
    assert "body" not in posted(f"<{kind} from='a' to='b' id='1'><body>x</body></{kind}>")


BODIES = [
    ("<body>one</body>", "one"),
    ("<body>one</body><body>two</body>", "one"),
    ("<body xml:lang='de'>eins</body><body>one</body>", "one"),
    ("<body xml:lang='de'>eins</body><body xml:lang='en'>one</body>", "eins"),
    ("<body/>", ""),
    ("<body></body>", ""),
    ("<body/><body>two</body>", ""),
    ("<body> a &amp;&#13;&#10;\tb </body>", " a &\r\n\tb "),
    ("<body><![CDATA[<b>]]></body>", "<b>"),
    ("<body>\u00e4\u4e2d\U0001f600</body>", "\u00e4\u4e2d\U0001f600"),
    ("<subject>s</subject><body>after</body>", "after"),
    ("<subject>s</subject>", None),
    ("<body xmlns='http://www.w3.org/1999/xhtml'>html</body>", None),
    ("<forwarded xmlns='urn:xmpp:forward:0'><body>x</body></forwarded>", None),
]


@pytest.mark.parametrize(("content", "body"), BODIES)
def test_which_body_is_chosen(content: str, body: str | None) -> None:
    assert body_of(stanza(f"<message from='a' to='b'>{content}</message>")) == body


STANZA_TEXTS = [
    (
        "no namespace on top",
        f"<message xmlns='jabber:component:accept' from='{JULIET}' to='{BOT}'/>",
        f"<message from='{JULIET}' to='{BOT}'/>",
    ),
    (
        "none of a client either",
        f"<message xmlns='jabber:client' from='{JULIET}' to='{BOT}'><body>x</body></message>",
        f"<message from='{JULIET}' to='{BOT}'><body>x</body></message>",
    ),
    (
        "the namespaces of payloads stay",
        "<message from='a' to='b'><x xmlns='jabber:x:oob'><url>u</url></x></message>",
        "<message from='a' to='b'><x xmlns='jabber:x:oob'><url>u</url></x></message>",
    ),
    (
        "also a forwarded stanza's",
        "<message from='a' to='b'><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/>"
        "</f></message>",
        "<message from='a' to='b'><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/>"
        "</f></message>",
    ),
    (
        "prefixes are resolved",
        "<p:message xmlns:p='jabber:client' from='a' to='b'><p:body>x</p:body></p:message>",
        "<message from='a' to='b'><body>x</body></message>",
    ),
    (
        "its own language is kept",
        "<message from='a' to='b' xml:lang='de'><body xml:lang='en'>x</body></message>",
        "<message from='a' to='b' xml:lang='de'><body xml:lang='en'>x</body></message>",
    ),
    (
        "special characters are escaped",
        '<message from="a" to="b" id="&apos;&lt;&amp;&#10;"><body>&lt;&amp;></body></message>',
        "<message from='a' to='b' id='&apos;&lt;&amp;&#10;'><body>&lt;&amp;&gt;</body></message>",
    ),
]


@pytest.mark.parametrize(
    ("xml", "text"),
    [row[1:] for row in STANZA_TEXTS],
    ids=[row[0].replace(" ", "-") for row in STANZA_TEXTS],
)
def test_the_stanza_as_text(xml: str, text: str) -> None:
    assert posted(xml)["stanza"] == text


def test_an_inherited_language_is_not_written() -> None:
    assert "lang" not in posted("<message from='a' to='b'/>", lang="en")["stanza"]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "2024-05-06T07:08:09.000Z"),
        (datetime(2024, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "2024-12-31T23:59:59.999Z"),
    ],
)
def test_when_it_was_received(moment: datetime, text: str) -> None:
    body = body_posted(stanza("<message from='a' to='b'/>"), moment)
    assert json.loads(body)["received"] == text


def test_it_is_utf8_and_not_escaped() -> None:
    xml = "<message from='a' to='b'><body>\u4e2d</body></message>"
    assert '"body":"\u4e2d"'.encode() in body_posted(stanza(xml))


# --- H2: the reply


@frozen
class Xml:
    """A reply of the media type application/xmpp+xml."""

    text: str | bytes


@frozen
class Bytes:
    """A reply of the media type application/json, byte for byte."""

    content: bytes


CHAT = f"<message from='{JULIET}' to='{BOT}' id='m1' type='chat'><body>hi</body></message>"
THREAD = (
    f"<message from='{JULIET}' to='{BOT}' id='m1' type='chat'><body>hi</body>"
    "<thread parent='p'>t1</thread></message>"
)
TO_HOST = f"<message from='{JULIET}' to='{DOMAIN}' id='m1'><body>hi</body></message>"
GROUP = f"<message from='{ROOM}/nick' to='{BOT}' id='g1' type='groupchat'><body>hi</body></message>"
PRIVATE = (
    f"<message from='{ROOM}/nick' to='{BOT}' id='m1' type='chat'><body>hi</body>"
    "<x xmlns='http://jabber.org/protocol/muc#user'/></message>"
)
HEADLINE = f"<message from='{JULIET}' to='{BOT}' id='m1' type='headline'><body>hi</body></message>"
SUBSCRIBE = f"<presence from='juliet@x.example' to='{BOT}' id='p1' type='subscribe'/>"
GET = f"<iq from='{JULIET}' to='{BOT}' id='q1' type='get'><query xmlns='urn:example'/></iq>"
SET = f"<iq from='{JULIET}' to='{BOT}' id='q1' type='set'><query xmlns='urn:example'/></iq>"

Reply = Any  # Xml, Bytes, or what is written as JSON


def replied(reply: Reply) -> ReplyBody:
    match reply:
        case Xml(text=str() as text):
            return ReplyBody("xml", text.encode())
        case Xml(text=bytes() as data):
            return ReplyBody("xml", data)
        case Bytes(content=data):
            return ReplyBody("json", data)
        case value:
            return ReplyBody("json", json.dumps(value).encode())


def in_stanza(xml: str) -> dict[str, str]:
    return {"stanza": xml}


async def parse(data: bytes) -> Element:
    return parse_element(data, Limits(max_stanza_bytes=500 * KIB))


async def composed(
    request: str, reply: Reply, *, in_room: bool = False, limit_bytes: int = 500 * KIB
) -> list[Stanza]:
    composer = ReplyComposer(DOMAIN, limit_bytes, parse)
    reading = read_reply(replied(reply), "iq" if stanza(request).is_request else "message")
    return await composer.compose(reading.objects, stanza(request), uid="u", in_room=in_room)


def message(
    to: str = JULIET,
    sender: str = BOT,
    type: str | None = "chat",
    id: str | None = "u-1",
    content: str = "",
) -> str:
    pairs = {"to": to, "from": sender, "type": type, "id": id}
    return f"<message {written(pairs)}>{content}</message>"


def written(pairs: dict[str, str | None]) -> str:
    return " ".join(f"{name}='{value}'" for name, value in pairs.items() if value is not None)


def said(text: str, **pairs: Any) -> str:
    return message(content=f"<body>{text}</body>", **pairs)


def answer(type: str = "result", id: str = "q1", content: str = "", **pairs: str) -> str:
    pairs = {"to": JULIET, "from": BOT, **pairs}
    return f"<iq {written(dict(pairs))} type='{type}' id='{id}'>{content}</iq>"


def error(kind: str = "cancel", condition: str = "gone") -> str:
    return f"<error type='{kind}'><{condition} {STANZAS}/></error>"


LONG = "a" * 1023
GATEWAY = "!abc:example.org@gw.example"
XMPP_FORWARD = "<f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body/></message></f>"
FOREIGN_MESSAGE = "<message xmlns='urn:example'><body/></message>"

MEANINGLESS: list[dict[str, Any]] = [
            {"type": "success"}, {"type": "result"}, {"type": "subscribed"}, {"type": 5},
            {"type": ["chat"]}, {"kind": "Status"}, {"kind": {}}, {"kind": "mesage"},
            {"kind": "Status", "type": "chat"}, {"type": "success", "id": 42}, {"id": 42},
            {"to": ["a@b"], "from": {"id": 1}}, {"ok": True, "id": 1, "error": None},
]  # fmt: skip
SENT: list[tuple[str, str, Reply, list[str]]] = [
    # Defaults.
    ("a body", CHAT, {"body": "Hi"}, [said("Hi")]),
    ("to the host", TO_HOST, {"body": "Hi"}, [said("Hi", sender=DOMAIN)]),
    ("kind alone", CHAT, {"kind": "message"}, [message()]),
    ("type alone", CHAT, {"type": "normal"}, [message(type="normal")]),
    ("body to a presence", SUBSCRIBE, {"body": "Hi"}, [said("Hi", to="juliet@x.example")]),
    ("kind presence has no type", CHAT, {"kind": "presence"}, [
        f"<presence to='{JULIET}' from='{BOT}' id='u-1'/>"]),
    ("type to a presence", SUBSCRIBE, {"kind": "presence", "type": "subscribed"}, [
        f"<presence to='juliet@x.example' from='{BOT}' id='u-1' type='subscribed'/>"]),
    ("headline is answered by chat", HEADLINE, {"body": "Hi"}, [said("Hi")]),
    ("unknown keys are ignored", CHAT, {"body": "Hi", "colour": ["red"], "Body": 1}, [said("Hi")]),
    # null is absent, for every key.
    *[
        (f"null {key}", CHAT, {"body": "Hi", key: None}, [said("Hi")])
        for key in ("kind", "to", "from", "type", "id", "stanza")
    ],
    ("null body", CHAT, {"kind": "message", "body": None}, [message()]),
    ("nothing but nulls", CHAT, dict.fromkeys(["kind", "type", "body", "stanza"]), []),
    # An empty string is absent, for every key.
    *[
        (f"empty {key}", CHAT, {"body": "Hi", key: ""}, [said("Hi")])
        for key in ("kind", "to", "from", "type", "id", "stanza")
    ],
    ("empty body", CHAT, {"body": ""}, []),
    ("empty body of a kind", CHAT, {"kind": "message", "body": ""}, [message()]),
    ("empty stanza", CHAT, {"stanza": ""}, []),
    ("nothing but empty strings", CHAT, dict.fromkeys(["kind", "type", "body", "stanza"], ""), []),
    ("empty strings beside a stanza", CHAT, {"stanza": "<message/>", "to": "", "id": ""}, [
        message(type=None)]),
    ("an empty type of an iq", GET, {"kind": "iq", "type": ""}, [answer()]),
    # Saying nothing.
    *[
        (f"the body {value.decode()}", request, Bytes(value), [])
        for value in (b"null", b"true", b"false", b"0", b"-1.5e3", b'""', b'"ok"', b'"\\ud83d"')
        for request in (CHAT, GET, SUBSCRIBE)
    ],
    *[
        (f"{json.dumps(reply)}", CHAT, reply, [])
        for reply in MEANINGLESS
    ],
    ("a type that only a message has", GET, {"type": "chat"}, []),
    ("an empty array", CHAT, [], []),
    ("an empty object", CHAT, {}, []),
    ("to alone", CHAT, {"to": "romeo@x.example"}, []),
    ("from alone", CHAT, {"from": DOMAIN}, []),
    ("id alone", CHAT, {"id": "x"}, []),
    ("unknown keys alone", CHAT, {"text": "Hi"}, []),
    ("objects that say nothing", CHAT, [{}, {"to": JULIET}], []),
    # Arrays.
    ("one in an array", CHAT, [{"body": "Hi"}], [said("Hi")]),
    ("several in order", CHAT, [{"body": "a"}, {"body": "b"}, {"body": "c"}], [
        said("a"), said("b", id="u-2"), said("c", id="u-3")]),
    ("nothing among others", CHAT, [{"body": "a"}, {}, {"body": "c"}], [
        said("a"), said("c", id="u-3")]),
    ("several kinds", CHAT, [{"body": "a"}, {"kind": "presence"}], [
        said("a"), f"<presence to='{JULIET}' from='{BOT}' id='u-2'/>"]),
    ("to several", CHAT, [{"body": "a", "to": "b@c"}, {"body": "a", "to": "d@e/f"}], [
        said("a", to="b@c"), said("a", to="d@e/f", id="u-2")]),
    # Body.
    ("a number", CHAT, {"body": 5}, [said("5")]),
    ("zero", CHAT, {"body": 0}, [said("0")]),
    ("a negative number", CHAT, {"body": -5}, [said("-5")]),
    ("a fraction", CHAT, {"body": 1.5}, [said("1.5")]),
    ("a whole fraction", CHAT, Bytes(b'{"body": 5.0}'), [said("5.0")]),
    ("true", CHAT, {"body": True}, [said("true")]),
    ("false", CHAT, {"body": False}, [said("false")]),
    ("a number of 64 bits", CHAT, {"body": 2**64 - 1}, [said("18446744073709551615")]),
    ("a number of 65 bits", CHAT, {"body": 2**64}, [said("18446744073709551616")]),
    ("a number of 30 digits", CHAT, {"body": 10**29 + 1}, [said(str(10**29 + 1))]),
    ("a fraction as it is spelt", CHAT, Bytes(b'{"body": 1.10}'), [said("1.10")]),
    ("an exponent as it is spelt", CHAT, Bytes(b'{"body": 1e2}'), [said("1e2")]),
    ("a number of 400 digits", CHAT, {"body": 10**399 + 1}, [said(str(10**399 + 1))]),
    ("characters are escaped", CHAT, {"body": "<a> & 'b' \r\n"}, [
        said("&lt;a> &amp; 'b' &#13;&#10;")]),
    ("characters beyond ASCII", CHAT, {"body": "\u00e4\u4e2d\U0001f600\u0085"}, [
        said("\u00e4\u4e2d\U0001f600\u0085")]),
    # Characters that XML cannot hold, in text.
    *[
        (f"U+{ord(character):04X}", CHAT, {"body": f"a{character}b"}, [said("a\ufffdb")])
        for character in "\x00\x01\x08\x0b\x0c\x1b\x1f\ufffe\uffff\ud83d\ude00"
    ],
    *[
        (f"control sequence {sequence!r}", CHAT, {"body": f"{sequence}a\n{sequence}b"}, [
            said("a\nb")])
        for sequence in (
            "\x1b[m", "\x1b[0m", "\x1b[1;31m", "\x1b[38;5;196m", "\x1b[38:2::1:2:3m", "\x1b[2K",
            "\x1b[?25l", "\x1b[1 q", "\x9b31m")
    ],
    ("half a control sequence", CHAT, {"body": "a\x1b[31"}, [said("a\ufffd[31")]),
    ("another escape sequence", CHAT, {"body": "\x1b]0;t\x07a"}, [said("\ufffd]0;t\ufffda")]),
    ("nothing but colours", CHAT, {"body": "\x1b[31m\x1b[0m"}, []),
    ("half a pair beside an unknown key", CHAT, {"body": "\ud83d", "x": "\ude00"}, [
        said("\ufffd")]),
    ("halves in the wrong order", CHAT, {"body": "\ude00\ud83d"}, [said("\ufffd\ufffd")]),
    ("half a pair and a fraction", CHAT, Bytes(b'[{"body": 1.10}, {"body": "\\ud83d"}]'), [
        said("1.10"), said("\ufffd", id="u-2")]),
    ("a surrogate pair", CHAT, Bytes(b'{"body": "\\ud83d\\ude00"}'), [said("\U0001f600")]),
    ("body of a presence is ignored", CHAT, {"kind": "presence", "body": {"x": 1}}, [
        f"<presence to='{JULIET}' from='{BOT}' id='u-1'/>"]),
    ("body of an iq is ignored", GET, {"body": ["x"]}, [answer()]),
    # Thread.
    ("thread is copied", THREAD, {"body": "Hi"}, [
        message(content="<body>Hi</body><thread parent='p'>t1</thread>")]),
    ("thread without a body", THREAD, {"kind": "message"}, [
        message(content="<thread parent='p'>t1</thread>")]),
    ("thread into each", THREAD, [{"body": "a"}, {"body": "b"}], [
        message(content="<body>a</body><thread parent='p'>t1</thread>"),
        message(content="<body>b</body><thread parent='p'>t1</thread>", id="u-2")]),
    ("thread not into a presence", THREAD, {"kind": "presence"}, [
        f"<presence to='{JULIET}' from='{BOT}' id='u-1'/>"]),
    # Type.
    *[
        (f"message {type}", CHAT, {"body": "Hi", "type": type}, [said("Hi", type=type)])
        for type in ("chat", "normal", "headline")
    ],
    *[
        (f"presence {type}", CHAT, {"kind": "presence", "type": type}, [
            f"<presence to='{JULIET}' from='{BOT}' id='u-1' type='{type}'/>"])
        for type in (
            "probe", "subscribe", "subscribed", "unavailable", "unsubscribe", "unsubscribed")
    ],
    # Groupchat.
    ("groupchat", GROUP, {"body": "Hi"}, [said("Hi", to=ROOM, type="groupchat")]),
    ("groupchat, to the room", GROUP, {"body": "Hi", "to": ROOM}, [
        said("Hi", to=ROOM, type="groupchat")]),
    ("groupchat, to the occupant", GROUP, {"body": "Hi", "to": f"{ROOM}/nick"}, [
        said("Hi", to=ROOM, type="groupchat")]),
    ("groupchat, to somebody else", GROUP, {"body": "Hi", "to": "a@b"}, [said("Hi", to="a@b")]),
    ("groupchat, by chat", GROUP, {"body": "Hi", "type": "chat"}, [said("Hi", to=f"{ROOM}/nick")]),
    ("groupchat of type groupchat", GROUP, {"body": "Hi", "type": "groupchat"}, [
        said("Hi", to=ROOM, type="groupchat")]),
    ("groupchat to another room", CHAT, {"body": "Hi", "type": "groupchat", "to": "r@muc"}, [
        said("Hi", to="r@muc", type="groupchat")]),
    ("groupchat, then presence", GROUP, {"kind": "presence"}, [
        f"<presence to='{ROOM}/nick' from='{BOT}' id='u-1'/>"]),
    ("private message in a room", PRIVATE, {"body": "Hi"}, [said("Hi", to=f"{ROOM}/nick")]),
    # From.
    ("from the bare domain", CHAT, {"body": "Hi", "from": DOMAIN}, [said("Hi", sender=DOMAIN)]),
    ("from another local part", CHAT, {"body": "Hi", "from": f"other@{DOMAIN}"}, [
        said("Hi", sender=f"other@{DOMAIN}")]),
    ("from a resource", CHAT, {"body": "Hi", "from": f"echo@{DOMAIN}/a/b@c"}, [
        said("Hi", sender=f"echo@{DOMAIN}/a/b@c")]),
    ("from the domain's other case", CHAT, {"body": "Hi", "from": "echo@BOT.Example.COM"}, [
        said("Hi")]),
    ("the local part's case is kept", CHAT, {"body": "Hi", "from": f"Echo@{DOMAIN}/R"}, [
        said("Hi", sender=f"Echo@{DOMAIN}/R")]),
    # To.
    ("to another", CHAT, {"body": "Hi", "to": "romeo@x.example"}, [
        said("Hi", to="romeo@x.example")]),
    ("to a domain", CHAT, {"body": "Hi", "to": "x.example"}, [said("Hi", to="x.example")]),
    ("to is not mapped", CHAT, {"body": "Hi", "to": "Romeo@X.Example/R"}, [
        said("Hi", to="Romeo@X.Example/R")]),
    ("to the longest", CHAT, {"body": "Hi", "to": f"{LONG}@{LONG}/{LONG}"}, [
        said("Hi", to=f"{LONG}@{LONG}/{LONG}")]),
    ("to an IPv6 address", CHAT, {"body": "Hi", "to": "a@[::1]"}, [said("Hi", to="a@[::1]")]),
    ("a resource with an at sign", CHAT, {"body": "Hi", "to": "a@b/c@d/e f"}, [
        said("Hi", to="a@b/c@d/e f")]),
    # To the sender, whatever its address.
    *[
        (f"to {to!r}, which has come from {sender!r}",
            f"<message from='{sender}' to='{BOT}'><body>x</body></message>", reply,
            [message(to=to, type=type, content="<body>y</body>")])
        for sender, to in (
            (GATEWAY, GATEWAY), (f"{GATEWAY}/r", f"{GATEWAY}/r"), (f"{GATEWAY}/r", GATEWAY),
            ("a b@x.example/", "a b@x.example/"), ("a@b@c", "a@b@c"))
        for reply, type in (
            ({"body": "y", "to": to}, "chat"),
            (in_stanza(f"<message to='{to}'><body>y</body></message>"), None),
            ({"stanza": "<message><body>y</body></message>", "to": to}, None))
    ],
    # Id.
    ("an id", CHAT, {"body": "Hi", "id": "mine"}, [said("Hi", id="mine")]),
    # iq.
    ("an empty result", GET, {"kind": "iq"}, [answer()]),
    ("a result by type", GET, {"type": "result"}, [answer()]),
    ("a result with its id", GET, {"kind": "iq", "id": "q1"}, [answer()]),
    ("a result from elsewhere on the domain", GET, {"kind": "iq", "from": DOMAIN}, [
        answer(**{"from": DOMAIN})]),
    ("to a set", SET, {"kind": "iq"}, [answer()]),
    ("a message to an iq", GET, {"kind": "message", "body": "Hi"}, [said("Hi")]),
    ("a message besides the result", GET, [{"kind": "iq"}, {"kind": "message", "body": "Hi"}], [
        answer(), said("Hi", id="u-2")]),
    ("nothing to an iq", GET, [], []),
    ("a result with a payload", GET, in_stanza("<iq type='result'><q xmlns='urn:x'/></iq>"), [
        answer(content="<q xmlns='urn:x'/>")]),
    ("an error to an iq", GET, in_stanza(f"<iq type='error'>{error()}</iq>"), [
        answer("error", content=error())]),
    ("an error of our own besides a payload", GET, in_stanza(
        f"<iq type='error'><q xmlns='urn:x'/>{error()}</iq>"), [
        answer("error", content=f"<q xmlns='urn:x'/>{error()}")]),
    ("a request of the endpoint's own", CHAT, in_stanza(
        "<iq type='get'><q xmlns='urn:x'/></iq>"), [
        answer("get", id="u-1", content="<q xmlns='urn:x'/>")]),
    ("a request besides the result", GET, [
        {"kind": "iq"}, in_stanza("<iq type='set' id='s'><q xmlns='urn:x'/></iq>")], [
        answer(), answer("set", id="s", content="<q xmlns='urn:x'/>")]),
    # stanza.
    ("a stanza", CHAT, in_stanza("<message><body>x</body></message>"), [
        said("x", type=None)]),
    ("a stanza as XML", CHAT, Xml("<message><body>x</body></message>"), [
        said("x", type=None)]),
    ("it is sent as supplied", CHAT, in_stanza(
        f"<message to='a@b' from='{DOMAIN}/x' type='normal' id='i' xml:lang='de' a='1'/>"), [
        f"<message to='a@b' from='{DOMAIN}/x' type='normal' id='i' xml:lang='de' a='1'/>"]),
    ("its sender's domain as configured", CHAT, in_stanza("<message from='a@BOT.example.com'/>"), [
        message(sender=f"a@{DOMAIN}", type=None)]),
    ("the other keys are ignored", CHAT, {
        "stanza": f"<message to='a@b' from='{BOT}' id='i'/>", "body": "no", "to": "c@d",
        "from": "e@f", "kind": "iq", "type": "x", "id": "j"}, [
        message(to="a@b", type=None, id="i")]),
    ("to, from and id fill in", CHAT, {
        "stanza": "<message/>", "to": "a@b", "from": f"x@{DOMAIN}", "id": "i"}, [
        message(to="a@b", sender=f"x@{DOMAIN}", type=None, id="i")]),
    ("to alone fills in", GROUP, {
        "stanza": "<message type='groupchat'/>", "to": "r@muc"}, [
        message(to="r@muc", type="groupchat")]),
    ("from alone fills in", GET, {"stanza": "<iq type='result'/>", "from": DOMAIN}, [
        answer(**{"from": DOMAIN})]),
    ("an id for each", CHAT, [in_stanza("<message/>"), in_stanza("<presence/>")], [
        message(type=None), f"<presence to='{JULIET}' from='{BOT}' id='u-2'/>"]),
    ("the other keys may be of any type", CHAT, {
        "stanza": "<message/>", "body": {}, "to": 1, "from": [], "kind": {}, "type": True,
        "id": 5}, [message(type=None)]),
    ("groupchat goes to the room", GROUP, in_stanza(
        "<message type='groupchat'><body>x</body></message>"), [
        said("x", to=ROOM, type="groupchat")]),
    ("no thread is added", THREAD, in_stanza("<message><body>x</body></message>"), [
        said("x", type=None)]),
    ("in no namespace", CHAT, in_stanza("<presence xmlns=''/>"), [
        f"<presence to='{JULIET}' from='{BOT}' id='u-1'/>"]),
    ("in the client's", CHAT, in_stanza("<message xmlns='jabber:client'><body>x</body></message>"),
        [said("x", type=None)]),
    ("in the stream's", CHAT, in_stanza(
        "<message xmlns='jabber:component:accept'><body>x</body></message>"), [
        said("x", type=None)]),
    ("with a prefix", CHAT, in_stanza(
        "<c:message xmlns:c='jabber:client'><c:body>x</c:body></c:message>"), [
        said("x", type=None)]),
    ("a forwarded stanza stays", CHAT, in_stanza(f"<message>{XMPP_FORWARD}</message>"), [
        message(type=None, content=XMPP_FORWARD)]),
    ("with a declaration", CHAT, in_stanza("<?xml version='1.0' encoding='UTF-8'?><message/>"), [
        message(type=None)]),
    ("with white space around", CHAT, in_stanza(" \r\n<message/>\n"), [
        message(type=None)]),
    ("with a byte order mark", CHAT, in_stanza("\ufeff<message/>"), [message(type=None)]),
    ("XML with a byte order mark", CHAT, Xml(b"\xef\xbb\xbf<message/>"), [
        message(type=None)]),
    ("CDATA", CHAT, in_stanza("<message><body><![CDATA[<&]]></body></message>"), [
        said("&lt;&amp;", type=None)]),
    ("the five entities", CHAT, in_stanza(
        "<message><body>&lt;&gt;&amp;&quot;&apos;&#228;</body></message>"), [
        said("&lt;>&amp;\"'\u00e4", type=None)]),
    ("a stanza among objects", CHAT, [{"body": "a"}, in_stanza("<presence/>")], [
        said("a"), f"<presence to='{JULIET}' from='{BOT}' id='u-2'/>"]),
    # Error stanzas.
    ("an error to a message", CHAT, in_stanza(f"<message type='error'>{error()}</message>"), [
        message(type="error", id="m1", content=error())]),
    ("an error with its own id", CHAT, in_stanza(
        f"<message type='error' id='x'>{error()}</message>"), [
        message(type="error", id="x", content=error())]),
    ("an error to somebody else", GROUP, in_stanza(
        f"<message type='error' to='a@b' id='x'>{error()}</message>"), [
        message(type="error", to="a@b", id="x", content=error())]),
    ("a condition with a text", CHAT, in_stanza(
        f"<message type='error'><error type='modify'><bad-request {STANZAS}/>"
        f"<text {STANZAS}>t</text><own xmlns='urn:x'/></error></message>"), [
        message(type="error", id="m1", content=f"<error type='modify'><bad-request {STANZAS}/>"
            f"<text {STANZAS}>t</text><own xmlns='urn:x'/></error>")]),
    *[
        (f"error type {type}", CHAT, in_stanza(f"<message type='error'>{error(type)}</message>"), [
            message(type="error", id="m1", content=error(type))])
        for type in ("auth", "cancel", "continue", "modify", "wait")
    ],
    # How the JSON is written.
    ("JSON with two byte order marks", CHAT, Bytes(b'\n\xef\xbb\xbf\xef\xbb\xbf {"body": "Hi"}'), [
        said("Hi")]),
    ("XML with two byte order marks", CHAT, Xml(b"\xef\xbb\xbf\n\xef\xbb\xbf<message/>"), [
        message(type=None)]),
    ("JSON with a byte order mark", CHAT, Bytes(b'\xef\xbb\xbf{"body": "Hi"}'), [said("Hi")]),
    ("JSON with white space", CHAT, Bytes(b' \r\n\t{ "body" : "Hi" }\n'), [said("Hi")]),
    ("the last of two keys", CHAT, Bytes(b'{"body": "a", "body": "b"}'), [said("b")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_xml", "reply", "stanzas"),
    [row[1:] for row in SENT],
    ids=[row[0].replace(" ", "-") for row in SENT],
)
async def test_reply_is_sent(request_xml: str, reply: Reply, stanzas: list[str]) -> None:
    found = await composed(request_xml, reply)
    assert meanings(found) == meanings([stanza(xml) for xml in stanzas])


# --- H2: what the developer of a service is told

TOLD: list[tuple[bytes, tuple[str, ...], tuple[str, ...]]] = [
    (b'{"body": "x"}', (), ()),
    (b"{}", (), ()),
    (b"null", (), ()),
    (b"true", (), ()),
    (b'"hi"', (), ("the body is a string",)),
    (b"5", (), ("the body is a number",)),
    (b"1.5", (), ("the body is a number",)),
    (b'{"text": "hi"}', ("text",), ()),
    (b'{"text": null, "body": "x", "colour": 1}', ("text", "colour"), ()),
    (b'[{"a": 1}, {"b": 1, "a": 2}]', ("a", "b"), ()),
    (b'{"stanza": "<message/>", "note": 1}', ("note",), ()),
    (b'{"type": "success"}', (), ("type 'success' is not valid for message stanzas",)),
    (b'{"kind": "Status"}', (), ("kind 'Status' is not one of message, presence, iq",)),
    (b'{"kind": "presence"}', (), ()),
]


@pytest.mark.parametrize(("content", "unknown", "nothing"), TOLD)
def test_what_is_said_of_a_reply(
    content: bytes, unknown: tuple[str, ...], nothing: tuple[str, ...]
) -> None:
    reading = read_reply(ReplyBody("json", content))
    assert (reading.unknown, reading.nothing) == (unknown, nothing)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("text", "perhaps you meant body"),
        ("Message", "perhaps you meant body"),
        ("boddy", "perhaps you meant body"),
        ("TYPE", "perhaps you meant type"),
        ("recipient", "perhaps you meant to"),
        ("stanzas", "perhaps you meant stanza"),
        ("zzz", f"known keys: {', '.join(KEYS)}"),
        ("", f"known keys: {', '.join(KEYS)}"),
    ],
)
def test_the_nearest_known_key(key: str, hint: str) -> None:
    assert hint_for(key) == hint


def test_a_body_of_many_unknown_keys() -> None:
    content = json.dumps({f"k{number}": 1 for number in range(1000)}).encode()
    assert len(read_reply(ReplyBody("json", content)).unknown) == 20


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b"hi", "hi"),
        (b"\xef\xbb\xbf\xef\xbb\xbfhi\n", "hi\n"),
        ("\ufefe".encode(), "\ufefe"),
        (b"a\x1b[31mb", "ab"),
        (b'{"body": "x"}', '{"body": "x"}'),
    ],
)
@pytest.mark.parametrize("request_xml", [CHAT, GET])
async def test_a_reply_of_plain_text(request_xml: str, content: bytes, body: str) -> None:
    composer = ReplyComposer(DOMAIN, 500 * KIB, parse)
    objects = read_reply(ReplyBody("text", content), "iq").objects
    found = await composer.compose(objects, stanza(request_xml), uid="u", in_room=False)
    assert meanings(found) == meanings([stanza(said(body))])


def test_a_reply_of_plain_text_that_is_not_utf8() -> None:
    with pytest.raises(UnusableReply, match="the body is not UTF-8"):
        read_reply(ReplyBody("text", b"\xe9"))


async def test_what_was_replaced_is_counted() -> None:
    counts: list[tuple[str, int]] = []
    composer = ReplyComposer(DOMAIN, 500 * KIB, parse, lambda *given: counts.append(given))
    objects = [ReplyObject(body="fine\n"), ReplyObject(body="\x1b[31m\x00\x1b[0m")]
    await composer.compose(objects, stanza(CHAT), uid="u", in_room=False)
    assert counts == [("u", 3)]


ANY_CHARACTER = st.characters(exclude_categories=()) | st.sampled_from("\x1b\x9b[0;m\ud83d\ude00")


def is_legal(character: str) -> bool:
    """Whether XML 1.0 §2.2 allows a character."""
    code = ord(character)
    if code < 0x20:
        return character in "\t\n\r"
    return not 0xD800 <= code <= 0xDFFF and code not in (0xFFFE, 0xFFFF)


@given(st.text(ANY_CHARACTER))
async def test_any_text_can_be_sent(text: str) -> None:
    found = [one.child("body") for one in await composed(CHAT, {"body": text})]
    sent = "".join(one.text for one in found if one is not None)
    assert all(map(is_legal, sent))
    without_sequences = re.sub("(\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]", "", text)
    assert sent == "".join(c if is_legal(c) else "\ufffd" for c in without_sequences)


def nested(depth: int) -> bytes:
    return b'{"body": ' + b"[" * depth + b"]" * depth + b"}"


NO_JSON = "the body is not JSON"
NO_OBJECT = "the body is not a JSON object or an array of objects"
NO_STRING = "is not a string"
NO_TEXT = "body is not a string, a number or a boolean"
TOO_LONG = "a" * 1024
NO_STRINGS: list[Any] = [5, 1.5, True, [], {}, ["x"]]
NO_BODIES: list[Any] = [[], ["Hi"], {}, {"text": "Hi"}, [None]]
UNUSABLE: list[tuple[str, str, Reply, str]] = [
    # Not JSON.
    ("empty", CHAT, Bytes(b""), NO_JSON),
    ("text", CHAT, Bytes(b"Hi"), NO_JSON),
    ("HTML", CHAT, Bytes(b"<html></html>"), NO_JSON),
    ("half", CHAT, Bytes(b'{"body": "Hi"'), NO_JSON),
    ("trailing data", CHAT, Bytes(b'{"body": "Hi"} {}'), NO_JSON),
    ("single quotes", CHAT, Bytes(b"{'body': 'Hi'}"), NO_JSON),
    ("trailing comma", CHAT, Bytes(b'{"body": "Hi",}'), NO_JSON),
    ("NaN", CHAT, Bytes(b'{"body": NaN}'), NO_JSON),
    ("not UTF-8", CHAT, Bytes(b'{"body": "\xe9"}'), NO_JSON),
    ("a surrogate in UTF-8", CHAT, Bytes(b'{"body": "\xed\xa0\x80"}'), NO_JSON),
    ("UTF-16", CHAT, Bytes('{"body": "Hi"}'.encode("utf-16")), NO_JSON),
    ("a control character", CHAT, Bytes(b'{"body": "a\x01"}'), NO_JSON),
    ("deep", CHAT, Bytes(nested(200_000)), "the body is JSON nested too deeply"),
    # Not an object.
    ("an array of strings", CHAT, ["Hi"], NO_OBJECT),
    ("an array of arrays", CHAT, [[]], NO_OBJECT),
    ("null among objects", CHAT, [{"body": "Hi"}, None], NO_OBJECT),
    # Wrong types.
    *[
        (f"{key} is {json.dumps(value)}", CHAT, {"body": "Hi", key: value}, f"{key} {NO_STRING}")
        for key in ("kind", "to", "from", "type", "id", "stanza")
        for value in NO_STRINGS
    ],
    *[
        (f"body is {json.dumps(value)}", CHAT, {"body": value}, NO_TEXT)
        for value in NO_BODIES
    ],
    ("an unknown key that is not UTF-8", CHAT, Bytes(b'{"body": "Hi", "x": "\xff"}'),
        "the body is not JSON"),
    ("all wrong types are named", CHAT, {"body": "x", "to": 5, "id": 6},
        "to is not a string; id is not a"),
    ("in the second object", CHAT, [{"body": "a"}, {"body": []}], f"object 2: {NO_TEXT}"),
    ("deep body", CHAT, Bytes(nested(100)), NO_TEXT),
    # Kinds and types.
    ("kind unknown", CHAT, {"kind": "mesage", "body": "x"},
        "kind 'mesage' is not one of message, presence, iq"),
    ("kind in another case", CHAT, {"kind": "Message", "body": "x"},
        "kind 'Message' is not one of"),
    ("type unknown", CHAT, {"type": "success", "body": "x"}, "type 'success' is not valid for"),
    *[
        (f"{kind} of type {type!r}", CHAT, {"kind": kind, "type": type},
            f"type {type!r} is not valid")
        for kind, types in (
            ("message", ("Chat", "get", "result", "subscribe", "available", "x")),
            ("presence", ("chat", "groupchat", "get", "x")),
            ("iq", ("chat", "Get", "x")),
        )
        for type in types
    ],
    ("a message of type error", CHAT, {"body": "x", "type": "error"}, 'type "error" needs'),
    ("a presence of type error", CHAT, {"kind": "presence", "type": "error"}, 'type "error" needs'),
    ("an iq of type error", GET, {"type": "error"}, 'type "error" needs'),
    # From: nobody's name is forged.
    ("from another domain", CHAT, {"body": "x", "from": "romeo@x.example"},
        "from: 'x.example' is not bot.example.com"),
    ("from the sender", CHAT, {"body": "x", "from": JULIET}, "from: 'x.example' is not"),
    ("from the parent domain", CHAT, {"body": "x", "from": "example.com"}, "is not bot.example"),
    ("from a subdomain", CHAT, {"body": "x", "from": f"a@b.{DOMAIN}"}, "is not bot.example"),
    ("from a longer domain", CHAT, {"body": "x", "from": f"a@x{DOMAIN}"}, "is not bot.example"),
    ("from a trailing dot", CHAT, {"body": "x", "from": f"echo@{DOMAIN}."},
        "from: 'echo@bot.example.com.' is not a valid JID"),
    ("from an empty local part", CHAT, {"body": "x", "from": f"@{DOMAIN}"},
        "from: '@bot.example.com' is not a valid JID: its local part is empty"),
    ("from an empty resource", CHAT, {"body": "x", "from": f"{BOT}/"}, "its resource is empty"),
    ("from two local parts", CHAT, {"body": "x", "from": f"a@b@{DOMAIN}"}, "is not a valid JID"),
    ("the domain as a resource", CHAT, {"body": "x", "from": f"x.example/@{DOMAIN}"}, "is not bot"),
    ("from with a space", CHAT, {"body": "x", "from": f"a b@{DOMAIN}"}, "is not a valid JID"),
    ("from with a dotless i", CHAT, {"body": "x", "from": "a@b\u0131t.example.com"}, "is not bot"),
    ("a stanza from elsewhere", CHAT, in_stanza("<message from='romeo@x.example'/>"), "is not bot"),
    ("a stanza from nobody", CHAT, in_stanza("<message from=''/>"), "from: '' is not a valid JID"),
    ("a stanza from a trailing dot", CHAT, in_stanza(f"<message from='{DOMAIN}.'/>"),
        "is not a valid JID"),
    ("a stanza from an empty local part", CHAT, in_stanza(f"<message from='@{DOMAIN}'/>"),
        "is not a valid JID"),
    # To.
    ("to a gateway's address that has not come in", CHAT, {"body": "x", "to": GATEWAY},
        "its local part contains a forbidden character"),
    ("to @@bad", CHAT, {"body": "x", "to": "@@bad"}, "to: '@@bad' is not a valid JID"),
    ("to a resource alone", CHAT, {"body": "x", "to": "/r"}, "its domain is empty"),
    ("to an empty local part", CHAT, {"body": "x", "to": "@b"}, "its local part is empty"),
    ("to an empty domain", CHAT, {"body": "x", "to": "a@"}, "its domain is empty"),
    ("to an empty resource", CHAT, {"body": "x", "to": "a@b/"}, "its resource is empty"),
    ("to an empty label", CHAT, {"body": "x", "to": "a@b..c"}, "empty label"),
    ("to a trailing dot", CHAT, {"body": "x", "to": "a@b."}, "empty label"),
    ("to a space", CHAT, {"body": "x", "to": "a b@c"}, "forbidden character"),
    ("to a line break", CHAT, {"body": "x", "to": "a@b\n"}, "forbidden character"),
    ("to a control character", CHAT, {"body": "x", "to": "a@b/\u0001"}, "forbidden character"),
    *[
        (f"to a local part with {character}", CHAT, {"body": "x", "to": f"a{character}b@c"},
            "is not a valid JID")
        for character in "\"&':<>"
    ],
    ("to a long local part", CHAT, {"body": "x", "to": f"{TOO_LONG}@b"},
        "its local part is longer than 1023 bytes"),
    ("to a long domain", CHAT, {"body": "x", "to": f"a@{TOO_LONG}"},
        "its domain is longer than 1023 bytes"),
    ("to a long resource", CHAT, {"body": "x", "to": f"a@b/{TOO_LONG}"},
        "its resource is longer than 1023 bytes"),
    ("bytes are counted", CHAT, {"body": "x", "to": "\u00e4" * 512 + "@b"}, "longer than 1023"),
    ("a stanza to @@bad", CHAT, in_stanza("<message to='@@bad'/>"),
        "to: '@@bad' is not a valid JID"),
    ("a stanza to nobody", CHAT, in_stanza("<message to=''/>"), "to: '' is not a valid JID"),
    ("only the second is bad", CHAT, [{"body": "x"}, {"body": "x", "to": "@"}],
        "object 2: to: '@'"),
    # Characters that XML cannot hold (S27), but for texts.
    ("half a pair in a stanza", CHAT, Bytes(b'{"stanza": "<message>\\ud83d</message>"}'),
        "stanza: an unpaired surrogate"),
    ("a colour in a stanza", CHAT, in_stanza("<message><body>\x1b[31mred</body></message>"),
        "stanza: not-well-formed"),
    ("half a pair in an address", CHAT, Bytes(b'{"body": "x", "to": "a@b/\\ud83d"}'),
        "forbidden character"),
    ("half a pair in an id", CHAT, Bytes(b'{"body": "x", "id": "\\ud83d"}'), "character U+D83D"),
    ("id with U+0001", CHAT, {"body": "x", "id": "\u0001"}, "character U+0001"),
    ("in an object that is not the first", CHAT, [{"body": "x"}, {"body": "x", "id": "\u0000"}],
        "object 2: character U+0000"),
    # Id.
    ("a stanza's id empty", CHAT, in_stanza("<message id=''/>"), "id is empty"),
    # iq: exactly one answer, with its id, to who has asked.
    ("a result with another id", GET, {"kind": "iq", "id": "q2"}, "an iq answer whose id is not"),
    ("an error with another id", GET, in_stanza(f"<iq type='error' id='q2'>{error()}</iq>"),
        "an iq answer whose id is not"),
    ("two results", GET, [{"kind": "iq"}, {"kind": "iq"}], "more than one answer to one iq"),
    ("a result and an error", GET, [{"kind": "iq"}, in_stanza(f"<iq type='error'>{error()}</iq>")],
        "more than one answer to one iq"),
    ("a result and one with another id", GET, [{"kind": "iq"}, {"kind": "iq", "id": "x"}],
        "object 2: an iq answer whose id is not the request's"),
    ("a result to somebody else", GET, {"kind": "iq", "to": "romeo@x.example"},
        "an iq answer to an address other than the requester's"),
    ("a result to the bare address", GET, {"kind": "iq", "to": "juliet@x.example"},
        "an iq answer to an address other than the requester's"),
    ("a result to a message", CHAT, {"kind": "iq"},
        "an iq of type result, but there is no iq to answer"),
    ("a result to a presence", SUBSCRIBE, {"kind": "iq"}, "but there is no iq to answer"),
    ("an error of an iq to a message", CHAT, in_stanza(f"<iq type='error' id='m1'>{error()}</iq>"),
        "an iq of type error, but there is no iq to answer"),
    ("a get without a payload", CHAT, {"kind": "iq", "type": "get"}, "exactly one child element"),
    ("a set without a payload", CHAT, {"kind": "iq", "type": "set"}, "exactly one child element"),
    ("a get with two payloads", CHAT, in_stanza("<iq type='get'><a/><b/></iq>"), "exactly one"),
    ("a result with two payloads", GET, in_stanza("<iq type='result'><a/><b/></iq>"),
        "at most one"),
    ("an iq without a type", GET, in_stanza("<iq/>"), "an iq needs a type"),
    ("an iq of an unknown type", GET, in_stanza("<iq type='x'/>"), "type 'x' is not valid for iq"),
    # stanza.
    ("white space", CHAT, in_stanza(" \n"), "stanza: "),
    ("one character", CHAT, in_stanza("<"), "stanza: "),
    ("text", CHAT, in_stanza("Hi"), "stanza: "),
    ("text around", CHAT, in_stanza("<message/>x"), "stanza: "),
    ("half a stanza", CHAT, in_stanza("<message><body>"), "stanza: "),
    ("not well-formed", CHAT, in_stanza("<message><body></message>"), "stanza: not-well-formed"),
    ("a bare ampersand", CHAT, in_stanza("<message>&</message>"), "stanza: not-well-formed"),
    ("an unquoted attribute", CHAT, in_stanza("<message to=a/>"), "stanza: not-well-formed"),
    ("an attribute twice", CHAT, in_stanza("<message to='a' to='b'/>"), "stanza: not-well-formed"),
    ("an unbound prefix", CHAT, in_stanza("<p:message/>"), "stanza: not-well-formed"),
    ("a control character reference", CHAT, in_stanza("<message>&#1;</message>"),
        "stanza: not-well-formed"),
    ("two elements", CHAT, in_stanza("<message/><message/>"), "it is not exactly one element"),
    ("the end of the stream", CHAT, in_stanza("<message/></stream:stream>"), "stanza: "),
    ("the end of the parser's root", CHAT, in_stanza("<message/></root>"), "stanza: "),
    ("a DTD", CHAT, in_stanza("<!DOCTYPE message><message/>"), "stanza: restricted-xml"),
    ("a DTD with an entity", CHAT, in_stanza(
        "<!DOCTYPE m [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><message>&e;</message>"),
        "stanza: restricted-xml"),
    ("an entity", CHAT, in_stanza("<message>&nbsp;</message>"), "stanza: restricted-xml"),
    ("a comment", CHAT, in_stanza("<message><!-- x --></message>"), "stanza: restricted-xml"),
    ("a comment before", CHAT, in_stanza("<!-- x --><message/>"), "stanza: restricted-xml"),
    ("a comment after", CHAT, in_stanza("<message/><!-- x -->"), "stanza: restricted-xml"),
    ("a processing instruction", CHAT, in_stanza("<message><?x y?></message>"),
        "stanza: restricted-xml"),
    ("another encoding", CHAT, in_stanza("<?xml version='1.0' encoding='latin-1'?><message/>"),
        "stanza: unsupported-encoding"),
    ("another version", CHAT, in_stanza("<?xml version='1.1'?><message/>"),
        "stanza: not-well-formed"),
    ("a foreign namespace", CHAT, in_stanza(FOREIGN_MESSAGE), "stanza: 'message' is not a stanza"),
    ("the server's namespace", CHAT, in_stanza("<message xmlns='jabber:server'/>"),
        "is not a stanza"),
    ("another element", CHAT, in_stanza("<handshake/>"), "stanza: 'handshake' is not a stanza"),
    ("a stream error", CHAT, in_stanza(
        "<error xmlns='http://etherx.jabber.org/streams'/>"), "stanza: 'error' is not a stanza"),
    ("another case", CHAT, in_stanza("<Message/>"), "stanza: 'Message' is not a stanza"),
    ("a long name", CHAT, in_stanza(f"<{'n' * 200}/>"), f"stanza: '{'n' * 60}…' is not a stanza"),
    ("a type unknown", CHAT, in_stanza("<message type='x'/>"),
        "'x' is not valid for message stanzas"),
    ("a type of another kind", CHAT, in_stanza("<presence type='chat'/>"),
        "not valid for presence"),
    ("too deep", CHAT, in_stanza("<message>" + "<a>" * 200 + "</a>" * 200 + "</message>"),
        "stanza: policy-violation"),
    ("XML that is no UTF-8", CHAT, Xml(b"<message>\xe9</message>"), "the body is not UTF-8"),
    ("XML in UTF-16", CHAT, Xml("<message/>".encode("utf-16")), "the body is not UTF-8"),
    ("XML that is JSON", CHAT, Xml('{"body": "Hi"}'), "stanza: "),
    ("XML of two stanzas", CHAT, Xml("<message/><message/>"), "it is not exactly one element"),
    ("XML from elsewhere", CHAT, Xml("<message from='a@b'/>"), "from: 'b' is not"),
    # Error stanzas.
    ("no error in it", CHAT, in_stanza("<message type='error'/>"), 'type "error" needs'),
    ("an error elsewhere", CHAT, in_stanza(
        f"<message type='error'><error xmlns='urn:x' type='cancel'><gone {STANZAS}/></error>"
        "</message>"), 'type "error" needs'),
    ("an error without a type", CHAT, in_stanza(
        f"<message type='error'><error><gone {STANZAS}/></error></message>"),
        "the type of the <error/> is not one"),
    ("an error of an unknown type", CHAT, in_stanza(
        f"<message type='error'>{error('stop')}</message>"), "the type of the <error/> is not one"),
    ("an error without a condition", CHAT, in_stanza(
        "<message type='error'><error type='cancel'/></message>"),
        "must have exactly one condition"),
    ("an unknown condition", CHAT, in_stanza(
        f"<message type='error'>{error('cancel', 'no-idea')}</message>"),
        "must have exactly one condition"),
    ("a condition of no namespace", CHAT, in_stanza(
        "<message type='error'><error type='cancel'><gone/></error></message>"),
        "must have exactly one"),
    ("two conditions", CHAT, in_stanza(
        f"<message type='error'><error type='cancel'><gone {STANZAS}/><conflict {STANZAS}/>"
        "</error></message>"), "must have exactly one condition"),
    ("an iq error without an error", GET, in_stanza("<iq type='error'/>"), 'type "error" needs'),
    # S30: who must not get an error.
    *[
        (f"an error to {name}", request, in_stanza(f"<{kind} type='error'>{error()}</{kind}>"),
            "an error to a sender that must not get one")
        for name, request, kind in (
            ("a presence", SUBSCRIBE, "presence"),
            ("a groupchat", GROUP, "message"),
            ("a headline", HEADLINE, "message"),
            ("an occupant", PRIVATE, "message"),
        )
    ],
    ("an error to the room", GROUP, in_stanza(
        f"<message type='error' to='{ROOM}'>{error()}</message>"),
        "an error to a sender that must not get one"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_xml", "reply", "reason"),
    [row[1:] for row in UNUSABLE],
    ids=[row[0].replace(" ", "-") for row in UNUSABLE],
)
async def test_reply_is_unusable(request_xml: str, reply: Reply, reason: str) -> None:
    with pytest.raises(UnusableReply, match=re.escape(reason)):
        await composed(request_xml, reply)


async def test_an_error_to_a_sender_in_one_of_our_rooms_is_unusable() -> None:
    reply = in_stanza(f"<message type='error'>{error()}</message>")
    with pytest.raises(UnusableReply, match="an error to a sender that must not get one"):
        await composed(CHAT, reply, in_room=True)


async def test_an_iq_error_to_a_sender_in_one_of_our_rooms_is_sent() -> None:
    reply = in_stanza(f"<iq type='error'>{error()}</iq>")
    found = await composed(GET, reply, in_room=True)
    assert meanings(found) == meanings([stanza(answer("error", content=error()))])


# --- sizes

EXACT = len(said("a" * 100).encode())


@pytest.mark.parametrize("reply", [{"body": "a" * 100}, {"stanza": said("a" * 100)}])
async def test_a_stanza_as_large_as_the_limit_is_sent(reply: Reply) -> None:
    assert len(await composed(CHAT, reply, limit_bytes=EXACT)) == 1


@pytest.mark.parametrize("reply", [{"body": "a" * 101}, {"stanza": said("a" * 101)}])
async def test_a_stanza_over_the_limit_is_unusable(reply: Reply) -> None:
    reason = f"{EXACT + 1} bytes, over max_send_bytes ({EXACT})"
    with pytest.raises(UnusableReply, match=re.escape(reason)):
        await composed(CHAT, reply, limit_bytes=EXACT)


async def test_bytes_are_counted_not_characters() -> None:
    with pytest.raises(UnusableReply, match="over max_send_bytes"):
        await composed(CHAT, {"body": "\u00e4" * 51 + "a" * 49}, limit_bytes=EXACT)


async def test_each_stanza_is_measured_by_itself() -> None:
    reply = [{"body": "a" * 100}] * 5
    assert len(await composed(CHAT, reply, limit_bytes=EXACT)) == 5


async def test_what_escaping_adds_is_counted() -> None:
    with pytest.raises(UnusableReply, match="over max_send_bytes"):
        await composed(CHAT, {"body": "<" * 100}, limit_bytes=EXACT)


async def test_what_grows_when_it_is_written_is_not_written_out() -> None:
    inner = f"<x xmlns:p='{'u' * 1000}'>{'<p:a/>' * 2000}</x>"
    tracemalloc.start()
    with pytest.raises(UnusableReply, match=r"over max_send_bytes \(100000\)"):
        await composed(CHAT, {"stanza": f"<message>{inner}</message>"}, limit_bytes=100_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4_000_000


# --- the reasons, and what else is asked


async def test_a_reason_quotes_little() -> None:
    with pytest.raises(UnusableReply) as caught:
        await composed(CHAT, {"body": "x", "to": "@" + "a" * 10_000})
    assert len(str(caught.value)) < 200


async def test_none_is_made_where_one_is_unusable() -> None:
    composer = ReplyComposer(DOMAIN, 500 * KIB, parse)
    objects = [ReplyObject(body="good"), ReplyObject(body="x", to="@@bad")]
    with pytest.raises(UnusableReply, match="object 2: "):
        await composer.compose(objects, stanza(CHAT), uid="u", in_room=False)


async def test_with_the_parsers_thread() -> None:
    elements = ElementParserThread(Limits())
    composer = ReplyComposer(DOMAIN, 500 * KIB, elements.parse)
    objects = [ReplyObject(stanza="<message><body>x</body></message>")]
    found = await composer.compose(objects, stanza(CHAT), uid="u", in_room=False)
    elements.close()
    assert meanings(found) == meanings([stanza(said("x", type=None))])


ANSWERED = [
    ("result", answer(), True),
    ("error", answer("error", content=error()), True),
    ("another id", answer(id="q2"), False),
    ("a request", answer("get", content="<a/>"), False),
    ("a message", message(id="q1"), False),
]


@pytest.mark.parametrize(
    ("xml", "answered"), [row[1:] for row in ANSWERED], ids=[row[0] for row in ANSWERED]
)
def test_whether_a_request_is_answered(xml: str, answered: bool) -> None:
    assert is_answer_to([stanza(CHAT), stanza(xml)], stanza(GET)) is answered
