"""Conversations for the redactor's tests: in many scripts, spelt in many ways, cut anywhere; and
what is in them, seen without the redactor's eyes.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from attrs import frozen
from hypothesis import strategies as st

from bridge.capture.format import IN, OUT, Record
from xmppstream import ComponentConnection, Element, Event, parse_element
from xmppstream.component import Role
from xmppstream.events import StanzaReceived, StanzaRefused, StreamFaulted, StreamOpened
from xmppstream.jid import InvalidJid, split
from xmppstream.names import COMPONENT, STREAMS
from xmppstream.writer import escape_text, escape_value

HEADER: Final = (
    f"<?xml version='1.0'?><stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"
    " from='bot.example' id='3BF96D32'>"
).encode()
HANDSHAKE: Final = b"<handshake/>"
SCRIPTS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "äöüßéèñçøåłšžőğ",
    "абвгдежзиклмнопрстуфхцчшщъыьэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "你好世界再见朋友今天明月光下雨",
    "あいうえおかきくけこさしすせそ",
    "가나다라마바사아자차카타파하",
    "กขคงจฉชซญฐดตถ",
    "𐐨𐐩𐐪𐐫𐐬𐐭𐐮",
)
PROTOCOL: Final = frozenset({"chat", "normal", "groupchat", "error", "result", "type", "body"})
"""Words that are the protocol's in its own places, and in others a person's."""
DOMAINS: Final = ("bot.example", "x.test", "localhost")


@frozen
class Talk:
    """Records, and what they must not give away: words in lower case, and local parts."""

    records: tuple[Record, ...]
    words: frozenset[str]
    locals: frozenset[str]


@st.composite
def words(draw: st.DrawFn) -> str:
    letters = draw(st.sampled_from(SCRIPTS))
    word = draw(
        st.text(letters, min_size=1, max_size=9)
        | st.sampled_from(sorted(PROTOCOL))
        | st.sampled_from(["juliet", "brrr", "html", "rhythm", "lt", "gt", "amp"])
    )
    return draw(st.sampled_from([word, word.upper(), word.capitalize()]))


LOCALS: Final = st.one_of(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8),
    st.text("abcxyz0123.-_", min_size=1, max_size=6),
    st.text("0123456789", min_size=1, max_size=9),
    st.text("жзиклм", min_size=1, max_size=6),
    st.text("好世界", min_size=1, max_size=3),
    st.sampled_from(["juliet", "Juliet", "juliet\\40x.test", "a\\73b", "qxa", "-_-"]),
)
RESOURCES: Final = st.one_of(
    st.just(""), words().map(lambda word: f"/{word}"), st.just("/a b/c@d 👍")
)
BETWEEN: Final = st.sampled_from(
    [" ", ", ", "! ", "<", "&", "👍", "\n", "-", "'", '"', " 42 ", "\u202e"]
)


@st.composite
def texts(draw: st.DrawFn, vocabulary: list[str]) -> str:
    parts = draw(st.lists(st.tuples(st.sampled_from(vocabulary), BETWEEN), min_size=1, max_size=6))
    return "".join(word + between for word, between in parts)


@st.composite
def spelt(draw: st.DrawFn, text: str) -> str:
    """Spell a text in XML, each part of it in another way."""
    at, parts = 0, []
    while at < len(text):
        size = draw(st.integers(1, 6))
        part, at = text[at : at + size], at + size
        match draw(st.integers(0, 4)):
            case 0:
                parts.append("".join(f"&#{ord(one)};" for one in part))
            case 1:
                parts.append("".join(f"&#x{ord(one):x};" for one in part))
            case 2 if "]]>" not in part:
                parts.append(f"<![CDATA[{part}]]>")
            case _:
                parts.append(escape_text(part))
    return "".join(parts)


@st.composite
def stanzas(draw: st.DrawFn, people: list[str], vocabulary: list[str]) -> tuple[str, str]:
    """Give a stanza's XML, and what its body says."""
    address = st.builds(
        lambda local, domain, resource: f"{local}@{domain}{resource}",
        st.sampled_from(people),
        st.sampled_from(DOMAINS),
        RESOURCES,
    ).map(escape_value)
    body = draw(texts(vocabulary))
    spelling = draw(spelt(body))
    to, sender, other = draw(address), draw(address), draw(address)
    type = draw(st.sampled_from([" type='chat'", " type='groupchat'", "", " type='error'"]))
    id = draw(st.sampled_from(["m1", other, "550e8400-e29b-41d4-a716-446655440000", "Juliet-7"]))
    word = escape_value(draw(texts(vocabulary)))
    extra = draw(
        st.sampled_from(
            [
                "",
                f"<html xmlns='urn:h'><body><p title='{word}'>{spelling}</p></body></html>",
                f"<nick xmlns='urn:n'>{spelling}</nick><show>chat</show>",
                f"<x xmlns='jabber:x:data' type='form'><field var='FORM_TYPE'><value>urn:xmpp:x"
                f"</value></field><field var='{word}'><value>{other}</value></field></x>",
                f"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' by='{other}'"
                f" stamp='2026-11-22T11:26:42Z'/><message xmlns='jabber:client' from='{other}'>"
                f"<body>{spelling}</body></message></forwarded>",
                f"<addresses xmlns='urn:a'><address type='to' jid='{other}' desc='{word}'/>"
                "</addresses>",
                f"<x uri='xmpp:{other}?join' alt='{other} {word}'/>",
            ]
        )
    )
    head = f"<message to='{to}' from=\"{sender}\"{type} id='{id}'>"
    return f"{head}<body>{spelling}</body>{extra}</message>", body


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = draw(st.lists(st.integers(0, len(data)), max_size=12))
    ends = sorted({*places, len(data)})
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, ends, strict=False)]


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    """A conversation on both streams, and what HTTP had to do with it."""
    people = draw(st.lists(LOCALS, min_size=1, max_size=4))
    vocabulary = [*draw(st.lists(words(), min_size=1, max_size=6)), *people]
    pairs = draw(st.lists(stanzas(people, vocabulary), min_size=1, max_size=3))
    said = [body for _, body in pairs]
    chunks = draw(cut(HEADER + HANDSHAKE + "".join(xml for xml, _ in pairs).encode()))
    records = [Record(0.0, IN, chunk) for chunk in chunks]
    reply, answer = draw(stanzas(people, vocabulary))
    said.append(answer)
    sent = draw(cut(reply.encode()))
    places = sorted(draw(st.lists(st.integers(1, len(records)), min_size=len(sent))))
    for number, chunk in enumerate(sent):
        records.insert(places[number] + number, Record(0.0, OUT, chunk))
    sender = f"{people[0]}@x.test/pda"
    said.append(draw(texts(vocabulary)))
    body = msgspec.json.encode({"body": said[-1], "to": sender, "x": [said[0], 4.5, None]}).decode()
    if draw(st.booleans()):  # spelt as PHP spells it
        body = json.dumps(json.loads(body))
    exchange = {
        "id": "msg_" + "4f" * 12,
        "attempt": 1,
        "start": 1.0,
        "duration_s": 0.5,
        "request": {"to": sender, "from": sender, "kind": "message", "type": "chat", "id": "m1"}
        | {"body": said[0], "stanza": pairs[0][0], "received": "2026-11-22T11:26:42.503Z"},
        "status": 200,
        "headers": {"content-type": draw(st.sampled_from(["application/json", "text/plain"]))},
        "body": body,
    }
    records.append(Record(0.0, "http", msgspec.json.encode(exchange)))
    records.append(Record(0.0, "link", f"end not-authorized: {said[0]}".encode()))
    timed = tuple(Record(float(at), one.channel, one.data) for at, one in enumerate(records))
    found = {word.casefold() for text in said for word in letter_runs(text) if len(word) >= 4}
    locals = {local.casefold() for local in people}
    return Talk(timed, frozenset(found), frozenset(locals))


def letter_runs(text: str) -> list[str]:
    """Give the words of a text."""
    return re.findall(r"[^\W\d_]+", text)


# --- what is there, seen by a real parser


def joined(records: list[Record] | tuple[Record, ...], channel: str) -> bytes:
    return b"".join(one.data for one in records if one.channel == channel)


def events(stream: bytes) -> list[Event]:
    """Give what a component's core makes of the server's side."""
    connection = ComponentConnection(Role.COMPONENT, domain="bot.example")
    connection.open()
    got: list[Event] = []
    for part in stream.partition(HANDSHAKE):
        if part == HANDSHAKE and connection.stream_id:
            connection.authenticate("test")
        got += connection.receive_data(part)
    return got


def shape(event: Event) -> Any:
    """Give what of an event must be the same in a redacted capture."""
    match event:
        case StanzaReceived(stanza=stanza) | StanzaRefused(stanza=stanza):
            return type(event), stanza.kind, stanza.type, outline(stanza.element)
        case StreamOpened():
            sender = event.from_ if "." in (event.from_ or "") else None  # a label alone is a name
            return type(event), sender, event.lang, len(event.id or "")
        case StreamFaulted():
            return type(event), event.condition, event.by_peer
        case _:
            return event


def outline(element: Element) -> Any:
    attributes = tuple((name, domain_of(name, value)) for name, value in element.attributes)
    children = tuple(
        outline(one) if isinstance(one, Element) else pattern(one) for one in element.children
    )
    return element.name, attributes, children


def domain_of(name: str, value: str) -> str:
    """Give what of an attribute must be the same: of an address with a local part its domain."""
    if name not in ("to", "from", "jid", "by"):
        return ""
    try:
        address = split(value)
    except InvalidJid:
        return "no address"
    return address.domain if address.local else ""


def pattern(text: str) -> str:
    """Give the kinds of characters of a text, with their script."""
    return "".join(kind_of(one) for one in text)


def kind_of(character: str) -> str:
    if not (character.isalnum() or "\U0001f000" <= character <= "\U0001faff"):
        return character
    script = unicodedata.name(character).partition(" ")[0]
    if script in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL"):
        script = "EAST ASIAN"
    if character >= "\U0001f000":
        script = "pictograph"
    if character.isdigit():
        script = "digit"
    return f"<{script} {character.isupper()} {len(character.encode())}>"


def values_of_xml(element: Element) -> Iterator[tuple[str, str, str]]:
    """Give the name, the attribute (or none) and the value of all values in an element."""
    for name, value in element.attributes:
        yield element.local, name, value
    yield element.local, "", element.text
    for child in element.elements:
        yield from values_of_xml(child)


def values(records: list[Record]) -> Iterator[tuple[str, str, str]]:
    """Give all that a capture holds, read by real parsers."""
    for event in events(joined(records, IN)):
        if isinstance(event, StanzaReceived):
            yield from values_of_xml(event.stanza.element)
    out = joined(records, OUT)
    yield from values_of_xml(parse_element(b"<o>" + out + b"</o>"))
    for record in records:
        if record.channel == "http":
            yield from values_of_json("", msgspec.json.decode(record.data))
        elif record.channel == "link":
            yield "link", "", record.data.decode().partition(":")[2]


def values_of_json(key: str, value: Any) -> Iterator[tuple[str, str, str]]:
    match value:
        case dict():
            for name, one in value.items():
                yield from values_of_json(name, one)
        case list():
            for one in value:
                yield from values_of_json(key, one)
        case str() if key == "stanza":
            yield from values_of_xml(parse_element(value.encode()))
        case str() if value.startswith("{"):
            yield from values_of_json(key, msgspec.json.decode(value))
        case str():
            yield "json", key, value
