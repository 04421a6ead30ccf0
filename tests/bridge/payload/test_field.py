"""Stanzas as JSON: what each element becomes, and that nothing from a stranger raises."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.event import EVENTS
from bridge.payload.derived import OUTSIDE, Place
from bridge.payload.event import event_of
from bridge.payload.field import FIELDS
from bridge.payload.request import request_body
from tests.bridge.sample import stanza
from xmppstream import Element, Stanza, make
from xmppstream.names import COMPONENT, expanded

ROOM: Final = "coven@chat.example"
STAMP: Final = "2002-09-10T23:08:25Z"


def read(xml: str, place: Place | None = None) -> dict[str, Any]:
    """The JSON that is POSTed for a stanza."""
    one = stanza(xml)
    body = request_body(one, xml, 0.0, "msg_1", 1, OUTSIDE if place is None else place)
    value: dict[str, Any] = json.loads(body)
    return value


def message(inner: str, type: str = "chat", from_: str = "juliet@capulet.example/balcony") -> str:
    return f"<message to='bot@b.example' from='{from_}' id='m1' type='{type}'>{inner}</message>"


def x(name: str, namespace: str, attributes: str = "", inner: str = "") -> str:
    return f"<{name} xmlns='{namespace}' {attributes}>{inner}</{name}>"


MUC_USER: Final = "http://jabber.org/protocol/muc#user"
EXAMPLES: Final[list[tuple[str, str, Any]]] = [
    ("<subject>s</subject>", "subject", "s"),
    ("<subject xml:lang='de'>a</subject><subject>b</subject>", "subject", "b"),
    ("<body>x</body><subject/>", "subject", ""),
    ("<thread parent='p'>t</thread>", "thread", "t"),
    ("<thread parent='p'>t</thread>", "thread_parent", "p"),
    ("<body>a</body><body xml:lang='de'>b</body>", "bodies", {"": "a", "de": "b"}),
    (x("nick", "http://jabber.org/protocol/nick", inner="Jule"), "nick", "Jule"),
    (
        x("delay", "urn:xmpp:delay", f"stamp='{STAMP}' from='capulet.example'", "Offline"),
        "delay",
        {"stamp": STAMP, "from": "capulet.example", "reason": "Offline"},
    ),
    (x("x", "jabber:x:delay", "stamp='20020910T23:08:25'"), "delay", {"stamp": STAMP}),
    (x("delay", "urn:xmpp:delay", "stamp='2002-09-11T01:08:25+02:00'"), "delay", {"stamp": STAMP}),
    (x("composing", "http://jabber.org/protocol/chatstates"), "state", "composing"),
    (x("replace", "urn:xmpp:message-correct:0", "id='bad1'"), "replace", "bad1"),
    (x("retract", "urn:xmpp:message-retract:1", "id='r1'"), "retract", "r1"),
    (
        x("apply-to", "urn:xmpp:fasten:0", "id='r1'", x("retract", "urn:xmpp:message-retract:0")),
        "retract",
        "r1",
    ),
    (x("reply", "urn:xmpp:reply:0", "id='a' to='b@c'"), "reply", {"id": "a", "to": "b@c"}),
    (
        x(
            "reactions",
            "urn:xmpp:reactions:0",
            "id='744f'",
            "<reaction>👋</reaction><reaction>🐢</reaction><reaction>👋</reaction>",
        ),
        "reactions",
        {"id": "744f", "reactions": ["👋", "🐢"]},
    ),
    (
        x("reactions", "urn:xmpp:reactions:0", "id='744f'"),
        "reactions",
        {"id": "744f", "reactions": []},
    ),
    (
        x("x", "jabber:x:oob", inner="<url>https://a/b.png</url><desc>A</desc>"),
        "oob",
        {"url": "https://a/b.png", "desc": "A"},
    ),
    (
        x(
            "file-sharing",
            "urn:xmpp:sfs:0",
            "disposition='inline'",
            x(
                "file",
                "urn:xmpp:file:metadata:0",
                inner="<media-type>image/png</media-type><name>b.png</name><size>7</size>",
            )
            + "<sources>"
            + x("url-data", "http://jabber.org/protocol/url-data", "target='https://a/b.png'")
            + "</sources>",
        )
        + x("x", "jabber:x:oob", inner="<url>https://a/b.png</url>"),
        "files",
        [{"url": "https://a/b.png", "name": "b.png", "media_type": "image/png", "size": 7}],
    ),
    (
        x(
            "reference",
            "urn:xmpp:reference:0",
            "type='data'",
            x(
                "media-sharing",
                "urn:xmpp:sims:1",
                inner=x(
                    "file",
                    "urn:xmpp:jingle:apps:file-transfer:5",
                    inner="<media-type>image/jpeg</media-type><name>s.jpg</name>",
                )
                + "<sources>"
                + x("reference", "urn:xmpp:reference:0", "type='data' uri='https://a/s.jpg'")
                + "</sources>",
            ),
        ),
        "files",
        [{"url": "https://a/s.jpg", "name": "s.jpg", "media_type": "image/jpeg"}],
    ),
    ("<body>b</body>" + x("encryption", "urn:xmpp:eme:0", "namespace='n'"), "encryption", "n"),
    (
        x("encrypted", "eu.siacs.conversations.axolotl", inner="<payload>x</payload>"),
        "encryption",
        "eu.siacs.conversations.axolotl",
    ),
    ("<body>?OTR:AAMD</body>", "encryption", "urn:xmpp:otr:0"),
    (
        x("fallback", "urn:xmpp:fallback:0", "for='urn:xmpp:reply:0'"),
        "fallback",
        ["urn:xmpp:reply:0"],
    ),
    (x("origin-id", "urn:xmpp:sid:0", "id='o'"), "origin_id", "o"),
    (x("stanza-id", "urn:xmpp:sid:0", "id='s' by='r@c'"), "stanza_ids", [{"by": "r@c", "id": "s"}]),
    (x("occupant-id", "urn:xmpp:occupant-id:0", "id='dd72'"), "occupant_id", "dd72"),
    (x("request", "urn:xmpp:receipts"), "receipt_requested", True),
    (x("received", "urn:xmpp:receipts", "id='r'"), "receipt", "r"),
    (x("markable", "urn:xmpp:chat-markers:0"), "markable", True),
    (x("displayed", "urn:xmpp:chat-markers:0", "id='d'"), "displayed", "d"),
    (
        x("x", "jabber:x:conference", "jid='r@c' password='p' reason='Hey'"),
        "invite",
        {
            "jid": "r@c",
            "from": "juliet@capulet.example/balcony",
            "reason": "Hey",
            "password": "p",
            "direct": True,
        },
    ),
    (
        x(
            "html",
            "http://jabber.org/protocol/xhtml-im",
            inner=x(
                "body",
                "http://www.w3.org/1999/xhtml",
                inner="<p onclick='x()'>hi <a href='javascript:x()'>a</a><script>x</script></p>",
            ),
        ),
        "html",
        "<p>hi <a>a</a></p>",
    ),
    (
        x("reference", "urn:xmpp:reference:0", "type='mention' uri='xmpp:a@b' begin='72' end='78'"),
        "references",
        [{"type": "mention", "uri": "xmpp:a@b", "begin": 72, "end": 78}],
    ),
    (
        x("no-store", "urn:xmpp:hints") + x("no-copy", "urn:xmpp:hints"),
        "hints",
        ["no-store", "no-copy"],
    ),
    (
        x(
            "payload",
            "urn:xmpp:json-msg:0",
            "datatype='d'",
            x("json", "urn:xmpp:json:0", inner='{"a": [1]}'),
        ),
        "payload",
        {"datatype": "d", "data": {"a": [1]}},
    ),
    (
        x(
            "x",
            "jabber:x:data",
            "type='form'",
            "<title>T</title><instructions>I</instructions>"
            "<field var='a' type='list-single' label='A'><required/><value>1</value>"
            "<option label='One'><value>1</value></option></field>"
            "<field var='b' type='text-multi'><value>x</value><value>y</value></field>",
        ),
        "dataform",
        {
            "type": "form",
            "title": "T",
            "instructions": "I",
            "fields": [
                {
                    "var": "a",
                    "type": "list-single",
                    "label": "A",
                    "required": True,
                    "value": "1",
                    "options": [{"value": "1", "label": "One"}],
                },
                {"var": "b", "type": "text-multi", "values": ["x", "y"]},
            ],
        },
    ),
    (
        x(
            "forwarded",
            "urn:xmpp:forward:0",
            inner=x("delay", "urn:xmpp:delay", f"stamp='{STAMP}'")
            + "<message xmlns='jabber:client' from='a@b' id='i'><body>hi</body>"
            + x("forwarded", "urn:xmpp:forward:0")
            + "</message>",
        ),
        "forwarded",
        {"delay": {"stamp": STAMP}, "message": {"from": "a@b", "id": "i", "body": "hi"}},
    ),
]


@pytest.mark.parametrize(("inner", "key", "value"), EXAMPLES)
def test_what_an_element_of_a_message_becomes(inner: str, key: str, value: Any) -> None:
    assert read(message(inner))[key] == value


PRESENCE: Final[list[tuple[str, str, Any]]] = [
    ("<show>xa</show>", "show", "xa"),
    ("<status>Bye</status>", "status", "Bye"),
    ("<priority>-1</priority>", "priority", -1),
    (
        x("c", "http://jabber.org/protocol/caps", "hash='sha-1' node='n' ver='v'"),
        "caps",
        {"node": "n", "ver": "v", "hash": "sha-1"},
    ),
    (x("x", "vcard-temp:x:update", inner="<photo>01b8</photo>"), "vcard_update", "01b8"),
    (x("idle", "urn:xmpp:idle:1", f"since='{STAMP}'"), "idle_since", STAMP),
    (x("x", "http://jabber.org/protocol/muc"), "muc", True),
    (
        x(
            "x",
            MUC_USER,
            inner="<item affiliation='owner' role='none' nick='n' jid='a@b'>"
            "<actor nick='k'/><reason>r</reason></item><status code='307'/>",
        ),
        "occupant",
        {
            "affiliation": "owner",
            "role": "none",
            "jid": "a@b",
            "nick": "n",
            "statuses": [307],
            "reason": "r",
            "actor": "k",
        },
    ),
]


@pytest.mark.parametrize(("inner", "key", "value"), PRESENCE)
def test_what_an_element_of_a_presence_becomes(inner: str, key: str, value: Any) -> None:
    assert read(f"<presence to='a@b' from='c@d'>{inner}</presence>")[key] == value


IQS: Final[list[tuple[str, str, Any]]] = [
    (x("ping", "urn:xmpp:ping"), "ping", True),
    (x("query", "jabber:iq:version"), "version", True),
    (x("query", "jabber:iq:version", inner="<name>n</name>"), "version", {"name": "n"}),
    (x("query", "http://jabber.org/protocol/disco#info"), "disco", True),
    (x("query", "http://jabber.org/protocol/disco#items", "node='n'"), "items", "n"),
    (x("query", "jabber:iq:last"), "lastactivity", True),
    (x("time", "urn:xmpp:time"), "time", True),
    (x("vCard", "vcard-temp"), "vcard", True),
    (x("query", "jabber:iq:register"), "register", True),
    (
        x("command", "http://jabber.org/protocol/commands", "node='list' action='execute'"),
        "command",
        {"node": "list", "action": "execute"},
    ),
]


@pytest.mark.parametrize(("inner", "key", "value"), IQS)
def test_what_an_iq_becomes(inner: str, key: str, value: Any) -> None:
    assert read(f"<iq to='a@b' from='c@d' id='1' type='get'>{inner}</iq>")[key] == value


ERROR: Final = (
    "<error type='cancel' by='b@c'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>T</text><a xmlns='urn:a'/></error>"
)


def test_an_error() -> None:
    assert read(message(ERROR, "error"))["error"] == {
        "type": "cancel",
        "condition": "gone",
        "text": "T",
        "by": "b@c",
        "application": "{urn:a}a",
    }
    assert "error" not in read(message(ERROR))


MODERATED: Final = x(
    "retract",
    "urn:xmpp:message-retract:1",
    "id='s1'",
    x("moderated", "urn:xmpp:message-moderate:1", f"by='{ROOM}/m'") + "<reason>spam</reason>",
)


def test_only_a_room_says_that_a_message_was_moderated() -> None:
    told = read(message(MODERATED, "groupchat", ROOM))
    assert told["moderated"] == {"by": f"{ROOM}/m", "reason": "spam"}
    assert (told["retract"], told["event"]) == ("s1", "retraction")
    assert "moderated" not in read(message(MODERATED, "groupchat", f"{ROOM}/x"))


# --- derived keys


def fallback(namespace: str, *ranges: tuple[str, str]) -> str:
    inner = "".join(f"<body start='{start}' end='{end}'/>" for start, end in ranges)
    return x("fallback", "urn:xmpp:fallback:0", f"for='{namespace}'", inner)


QUOTED: Final = "<body>&gt; 🤔 hm\nyes</body>" + x("reply", "urn:xmpp:reply:0", "id='a'")


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("<body>&gt; not a quotation</body>", "> not a quotation"),
        (QUOTED + fallback("urn:xmpp:reply:0", ("0", "7")), "yes"),
        (QUOTED + fallback("urn:xmpp:reply:0", ("5", "7"), ("0", "6")), "yes"),
        (QUOTED + fallback("urn:xmpp:reply:0", ("0", "999")), ""),
        (QUOTED + fallback("urn:xmpp:reply:0", ("-1", "7")), "> 🤔 hm\nyes"),
        (QUOTED + fallback("urn:xmpp:reply:0", ("7", "0")), "> 🤔 hm\nyes"),
        (QUOTED + fallback("urn:xmpp:reply:0", ("9" * 99, "7")), "> 🤔 hm\nyes"),
        (QUOTED + fallback("urn:unknown", ("0", "7")), "> 🤔 hm\nyes"),
        (QUOTED + fallback("urn:xmpp:reply:0"), ""),
        (
            "<body>https://a/b</body>"
            + x("x", "jabber:x:oob", inner="<url>https://a/b</url>")
            + fallback("jabber:x:oob"),
            "",
        ),
        ("<body>x</body>" + fallback("urn:xmpp:reply:0", ("0", "1")), "x"),
    ],
)
def test_text_is_the_body_without_what_stands_in(inner: str, text: str) -> None:
    assert read(message(inner))["text"] == text


SIDS: Final = x("stanza-id", "urn:xmpp:sid:0", f"id='s' by='{ROOM}'")
FORGED: Final = x("stanza-id", "urn:xmpp:sid:0", "id='f' by='evil@x'")
ORIGIN: Final = x("origin-id", "urn:xmpp:sid:0", "id='o'")


@pytest.mark.parametrize(
    ("inner", "type", "from_", "ref"),
    [
        ("<body>x</body>", "chat", "a@b", "m1"),
        ("<body>x</body>" + ORIGIN, "chat", "a@b", "o"),
        ("<body>x</body>" + FORGED + SIDS + ORIGIN, "groupchat", f"{ROOM}/n", "s"),
        ("<body>x</body>" + FORGED + ORIGIN, "groupchat", f"{ROOM}/n", None),
    ],
)
def test_the_id_to_refer_to(inner: str, type: str, from_: str, ref: str | None) -> None:
    assert read(message(inner, type, from_)).get("ref") == ref


INSIDE: Final = Place(True, "Bot", f"{ROOM}/Bot")


@pytest.mark.parametrize(
    ("inner", "is_mentioned"),
    [
        ("<body>bot: hi</body>", True),
        ("<body>hi, BOT!</body>", True),
        ("<body>robot</body>", False),
        ("<body>botany</body>", False),
        (
            "<body>x</body>"
            + x("reference", "urn:xmpp:reference:0", f"type='mention' uri='xmpp:{ROOM}/Bot'"),
            True,
        ),
        (
            "<body>&gt; bot\nyes</body>"
            + x("reply", "urn:xmpp:reply:0", "id='a'")
            + fallback("urn:xmpp:reply:0", ("0", "6")),
            False,
        ),
    ],
)
def test_a_mention(inner: str, is_mentioned: bool) -> None:
    told = read(message(inner, "groupchat", f"{ROOM}/Nick"), INSIDE)
    assert (told["room"], told["sender_nick"]) == (ROOM, "Nick")
    assert told.get("mentioned", False) is is_mentioned
    assert "private" not in told


def test_a_private_message_of_an_occupant() -> None:
    told = read(message("<body>x</body>", "chat", f"{ROOM}/Nick"), INSIDE)
    assert (told["room"], told["sender_nick"], told["private"]) == (ROOM, "Nick", True)
    marked = read(message("<body>x</body>" + x("x", MUC_USER), "chat", f"{ROOM}/Nick"))
    assert marked["private"] is True
    invited = read(message(x("x", MUC_USER, inner="<invite from='a@b'/>"), "normal", ROOM))
    assert "private" not in invited
    assert invited["invite"] == {"jid": ROOM, "from": "a@b"}


def test_when_it_was_sent() -> None:
    delays = "".join(
        x("delay", "urn:xmpp:delay", f"stamp='{stamp}'")
        for stamp in ("2003-01-01T00:00:00Z", STAMP, "nonsense")
    )
    assert read(message(f"<body>x</body>{delays}"))["timestamp"] == STAMP
    bad = read(message("<body>x</body>" + x("delay", "urn:xmpp:delay", "stamp='nonsense'")))
    assert bad["timestamp"] == bad["received"]


# --- events


@pytest.mark.parametrize(
    ("xml", "event"),
    [
        (message("<body>x</body>"), "message"),
        (message("<body>x</body><thread>t</thread>"), "message"),
        (message("<body>x</body>", "error"), "error"),
        (
            message("<body>x</body>" + x("encryption", "urn:xmpp:eme:0", "namespace='n'")),
            "encrypted",
        ),
        (message("<body>?OTRv23?</body>"), "encrypted"),
        (message(x("encryption", "urn:xmpp:eme:0", "namespace='n'")), "other"),
        (message(x("retract", "urn:xmpp:message-retract:1", "id='1'")), "retraction"),
        (message("<body>x</body>" + x("reactions", "urn:xmpp:reactions:0", "id='1'")), "reaction"),
        (message("<body>x</body>" + x("replace", "urn:xmpp:message-correct:0", "id='1'")), "edit"),
        (message("<body>x</body>" + x("replace", "urn:xmpp:message-correct:0")), "message"),
        (message("<body>x</body>" + x("x", "jabber:x:conference", "jid='a@b'")), "invite"),
        (message("<subject>s</subject>", "groupchat"), "subject"),
        (message("<subject>s</subject>"), "other"),
        (message("<subject>s</subject><body>x</body>", "groupchat"), "message"),
        (message(x("x", "jabber:x:data", "type='submit'")), "form"),
        (message("<body>x</body>" + x("x", "jabber:x:data", "type='form'")), "message"),
        (message(x("action-selected", "urn:xmpp:tmp:quick-response", "id='yes'")), "action"),
        (message(x("action-selected", "urn:xmpp:tmp:quick-response")), "other"),
        (message(x("action", "urn:xmpp:tmp:quick-response", "id='yes'")), "other"),
        (message(x("received", "urn:xmpp:receipts", "id='1'")), "receipt"),
        (message("<body>x</body>" + x("request", "urn:xmpp:receipts")), "message"),
        (message(x("displayed", "urn:xmpp:chat-markers:0", "id='1'")), "displayed"),
        (message(x("paused", "http://jabber.org/protocol/chatstates")), "typing"),
        (
            message("<body>x</body>" + x("active", "http://jabber.org/protocol/chatstates")),
            "message",
        ),
        (message(""), "other"),
        ("<presence from='a@b' type='subscribe'/>", "subscription"),
        ("<presence from='a@b' type='unsubscribed'/>", "subscription"),
        ("<presence from='a@b' type='error'/>", "presence"),
        ("<presence from='a@b'/>", "presence"),
        ("<iq from='a@b' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "iq"),
        ("<iq from='a@b' type='result' id='1'/>", "iq"),
        ("<iq from='a@b' type='set' id='1'><query xmlns='jabber:iq:register'/></iq>", "register"),
        (
            "<iq from='a@b' type='set' id='1'>"
            "<command xmlns='http://jabber.org/protocol/commands' node='n'/></iq>",
            "command",
        ),
    ],
)
def test_the_event_of_a_stanza(xml: str, event: str) -> None:
    assert event_of(stanza(xml)) == read(xml)["event"] == event


# --- whatever strangers send

NAMES: Final = sorted({name for field in FIELDS for name in field.names})
CHILDREN: Final = sorted(
    {"url", "desc", "item", "field", "value", "option", "file", "sources", "size", "name", "body"}
    | {"invite", "moderated", "retract", "reaction", "json", "message", "payload", "status"}
)
ATTRIBUTES: Final = (
    "id",
    "to",
    "by",
    "jid",
    "stamp",
    "for",
    "start",
    "end",
    "code",
    "node",
    "type",
)
TEXTS: Final = st.one_of(st.text(max_size=8), st.sampled_from(["", "-1", "1e9", "9" * 40, STAMP]))


def elements(names: list[str], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Element]:
    pairs = st.dictionaries(st.sampled_from(ATTRIBUTES), TEXTS, max_size=4)
    return st.builds(
        lambda name, pairs, children: Element(name, tuple(pairs.items()), tuple(children)),
        st.sampled_from(names),
        pairs,
        st.lists(inner, max_size=3),
    )


SPACES: Final = sorted({name[1 : name.index("}")] for name in NAMES})
INNER: Final = st.recursive(
    TEXTS.filter(bool),
    lambda inner: elements([expanded(s, c) for s in SPACES[:12] for c in CHILDREN], inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["message", "presence", "iq"]),
    st.sampled_from([None, "chat", "groupchat", "error", "get", "result", "submit"]),
    st.lists(elements(NAMES, INNER), max_size=5),
    st.booleans(),
)
def test_nothing_raises(
    kind: Any, type: str | None, children: list[Element], in_room: bool
) -> None:
    body = Element(expanded(COMPONENT, "body"), (), ("x",))
    one: Stanza = make(kind, "a@b", "c@d/e", type=type, id="1", children=(body, *children))
    place = Place(True, "n", "c@d/n") if in_room else Place()
    value = json.loads(request_body(one, "<x/>", 0.0, "u", 1, place))
    assert value["event"] in EVENTS
    assert (value["to"], value["kind"]) == ("a@b", kind)
