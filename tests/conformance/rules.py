"""The stream's rules as rows: what comes, what is reported, and what is sent.

Not here, since they are dispatch's or the daemon's and are tested with it: S9, S11, S14 to S16,
S28 to S32, S34 to S36.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, field, frozen
from msgspec.structs import replace

from tests.xmppstream.wire import DIGEST, DOMAIN, END, HANDSHAKE, HEADER, ROOT, SECRET, STREAM_ID
from xmppstream import (
    Element,
    ElementIgnored,
    Event,
    HandshakeAccepted,
    HandshakeReceived,
    Limits,
    Role,
    Stanza,
    StanzaReceived,
    StanzaRefused,
    StreamClosed,
    StreamCondition,
    StreamFaulted,
    StreamOpened,
    digest,
    make,
)
from xmppstream.names import COMPONENT, MUC_USER, STREAM_ERRORS, STREAMS

STREAM: Final = f"xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"
HEADER_OUT: Final = f"<?xml version='1.0'?><stream:stream {STREAM} to='{DOMAIN}'>".encode()
HANDSHAKE_OUT: Final = f"<handshake>{DIGEST}</handshake>".encode()
SERVER_OUT: Final = (
    f"<?xml version='1.0'?><stream:stream {STREAM} from='{DOMAIN}' id='{STREAM_ID}'>".encode()
)
OPENED: Final = StreamOpened(STREAM_ID, from_=DOMAIN)
ACCEPTED: Final = HandshakeAccepted()


@frozen
class Row:
    """One case of a rule.

    `turns` are what the peer sends, each after our side has reacted to the one before. `sent` is
    all that our side sends in the end, closing included; None where it says nothing of its own.
    The text of a fault that libxml2 words is not compared.
    """

    rule: str
    section: str
    name: str
    turns: tuple[bytes, ...]
    events: tuple[Event, ...]
    sent: bytes | None = None
    role: Role = Role.COMPONENT
    secret: str = SECRET
    limits: Limits = field(factory=Limits)

    @property
    def over(self) -> bool:
        """Whether the stream is over at its end."""
        return bool(self.events) and isinstance(self.events[-1], StreamFaulted | StreamClosed)

    def __str__(self) -> str:
        return f"{self.rule} {self.name}"


def told(condition: StreamCondition, text: str) -> bytes:
    """Write what `close(fault)` sends."""
    said = f"<text xmlns='{STREAM_ERRORS}'>{text}</text>"
    error = f"<error xmlns='{STREAMS}'><{condition} xmlns='{STREAM_ERRORS}'/>{said}</error>"
    return error.encode() + END


def header(attributes: str) -> bytes:
    """Write a server's header with other attributes."""
    return f"<stream:stream {STREAM} {attributes}>".encode()


def opening(
    rule: str, section: str, name: str, data: bytes, *events: Event, sent: bytes | None = None
) -> Row:
    """Make a row of what comes instead of the server's header, or with it."""
    return Row(rule, section, name, (data,), events, sent)


def attached(
    rule: str,
    section: str,
    name: str,
    body: bytes,
    *events: Event,
    closing: bytes | None = None,
    limits: Limits | None = None,
) -> Row:
    """Make a row of what comes behind the handshake."""
    sent = None if closing is None else HEADER_OUT + HANDSHAKE_OUT + closing
    turns = (HEADER, HANDSHAKE + body)
    row = Row(rule, section, name, turns, (OPENED, ACCEPTED, *events), sent)
    return row if limits is None else evolve(row, limits=limits)


def refused(error: str, **parts: object) -> StreamFaulted:
    """Make the event of a stream error that the peer sent."""
    text, application = parts.get("text", ""), parts.get("application")
    assert isinstance(text, str)
    assert application is None or isinstance(application, Element)
    return StreamFaulted(StreamCondition(error), text, by_peer=True, application=application)


def error(inside: str) -> bytes:
    """Write a stream error of the server's."""
    return f"<stream:error>{inside.format(STREAM_ERRORS)}</stream:error>".encode()


def element(local: str, *children: Element | str, **attributes: str) -> Element:
    """Build an element of the stream's namespace."""
    pairs = tuple((name.rstrip("_"), value) for name, value in attributes.items())
    return Element(f"{{{COMPONENT}}}{local}", pairs, children)


def got(one: Element, lang: str | None = None) -> StanzaReceived:
    """Make the event of a stanza."""
    return StanzaReceived(Stanza(one, lang))


GOOD: Final = b"<message from='a@b' to='c@d'><body>hi</body></message>"
GOT: Final = got(element("message", element("body", "hi"), from_="a@b", to="c@d"))

RESTRICTED: Final = StreamFaulted(StreamCondition.RESTRICTED_XML)
ENCODING: Final = StreamFaulted(StreamCondition.UNSUPPORTED_ENCODING)
NWF: Final = StreamFaulted(StreamCondition.NOT_WELL_FORMED)
FORMAT: Final = StreamFaulted(StreamCondition.BAD_FORMAT)
NAMESPACE: Final = StreamFaulted(StreamCondition.INVALID_NAMESPACE)
POLICY: Final = StreamFaulted(StreamCondition.POLICY_VIOLATION)
NOT_AUTHORIZED: Final = StreamFaulted(StreamCondition.NOT_AUTHORIZED)

X114: Final = "XEP-0114 §3"
CLOSING: Final = "RFC 6120 §4.4"
ERRORS: Final = "RFC 6120 §4.9"
ENCODINGS: Final = "RFC 6120 §11.6"
RESTRICTIONS: Final = "RFC 6120 §11.1"
WELL: Final = "RFC 6120 §11.3"
NAMESPACES: Final = "Namespaces in XML 1.0"

OPENING_ROWS: Final = (
    Row("S1", X114, "our header names our own domain", (), (), HEADER_OUT + END),
    Row(
        "S1",
        X114,
        "a server's header names the component's domain and an id",
        (HEADER_OUT,),
        (StreamOpened(None, to=DOMAIN),),
        SERVER_OUT + END,
        role=Role.SERVER,
    ),
    opening("S2", X114, "no version", header("id='7'"), StreamOpened("7")),
    opening(
        "S2", X114, "a version", header("id='7' version='1.0'"), StreamOpened("7", version="1.0")
    ),
    opening("S2", X114, "no from", header("id='7' to='x'"), StreamOpened("7", to="x")),
    opening("S2", X114, "a from", header("id='7' from='x'"), StreamOpened("7", from_="x")),
    opening("S2", X114, "xml:lang", header("id='7' xml:lang='en'"), StreamOpened("7", lang="en")),
    opening(
        "S2",
        X114,
        "another prefix",
        f"<s:stream xmlns='{COMPONENT}' xmlns:s='{STREAMS}' id='7'>".encode(),
        StreamOpened("7"),
    ),
    opening(
        "S2",
        X114,
        "features that nobody asked for",
        HEADER + b"<stream:features/>",
        OPENED,
        ElementIgnored(f"{{{STREAMS}}}features"),
        sent=HEADER_OUT + HANDSHAKE_OUT + END,
    ),
    opening(
        "S3",
        ERRORS,
        "an early error behind an empty id",
        header("id='' version='1.0'") + error("<host-unknown xmlns='{}'/>") + END,
        StreamOpened("", version="1.0"),
        refused("host-unknown"),
        sent=HEADER_OUT + END,
    ),
    opening(
        "S3",
        ERRORS,
        "an early error behind no id",
        header("from='x'") + error("<conflict xmlns='{}'/>") + END,
        StreamOpened(None, from_="x"),
        refused("conflict"),
        sent=HEADER_OUT + END,
    ),
    opening(
        "S3",
        ERRORS,
        "an early error behind a good header",
        HEADER + error("<not-authorized xmlns='{}'/>") + END,
        OPENED,
        refused("not-authorized"),
    ),
    Row(
        "S4",
        X114,
        "the vector",
        (HEADER, HANDSHAKE),
        (OPENED, ACCEPTED),
        HEADER_OUT + b"<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>" + END,
    ),
    Row(
        "S4",
        X114,
        "an id with references is unescaped",
        (header("id='a&amp;b&#x26;&lt;'"),),
        (StreamOpened("a&b&<"),),
        HEADER_OUT + f"<handshake>{digest('a&b&<', SECRET)}</handshake>".encode() + END,
    ),
    Row(
        "S4",
        X114,
        "a server is given the digest",
        (HEADER_OUT, HANDSHAKE_OUT),
        (StreamOpened(None, to=DOMAIN), HandshakeReceived(DIGEST)),
        SERVER_OUT + HANDSHAKE + END,
        role=Role.SERVER,
    ),
    Row(
        "S5",
        X114,
        "a secret beyond ASCII",
        (HEADER,),
        (OPENED,),
        HEADER_OUT + b"<handshake>%s</handshake>" % digest(STREAM_ID, "pässwört🔑").encode() + END,
        secret="pässwört🔑",
    ),
    opening(
        "S6",
        X114,
        "no white space in our handshake",
        HEADER,
        OPENED,
        sent=HEADER_OUT + HANDSHAKE_OUT + END,
    ),
    Row(
        "S6",
        X114,
        "white space in theirs is none of our business",
        (HEADER, b" \n<handshake>\n</handshake>"),
        (OPENED, ACCEPTED),
        HEADER_OUT + HANDSHAKE_OUT + END,
    ),
    Row(
        "S7",
        X114,
        "nothing but the handshake goes out before theirs",
        (HEADER, b" \n ", b"<stream:features/>"),
        (OPENED, ElementIgnored(f"{{{STREAMS}}}features")),
        HEADER_OUT + HANDSHAKE_OUT + END,
    ),
    Row(
        "S7",
        X114,
        "a stanza before their handshake is a fault",
        (HEADER, GOOD),
        (OPENED, NOT_AUTHORIZED),
        HEADER_OUT
        + HANDSHAKE_OUT
        + told(StreamCondition.NOT_AUTHORIZED, "a stanza before the handshake"),
    ),
    opening(
        "S7",
        X114,
        "a handshake that nobody asked for",
        header("from='x'") + HANDSHAKE,
        StreamOpened(None, from_="x"),
        NOT_AUTHORIZED,
        sent=HEADER_OUT + told(StreamCondition.NOT_AUTHORIZED, "a handshake before ours"),
    ),
    Row(
        "S7",
        X114,
        "a server does not take stanzas before the handshake",
        (HEADER_OUT, GOOD),
        (StreamOpened(None, to=DOMAIN), NOT_AUTHORIZED),
        SERVER_OUT + told(StreamCondition.NOT_AUTHORIZED, "a stanza before the handshake"),
        role=Role.SERVER,
    ),
    attached(
        "S8",
        X114,
        "a conflict right after the handshake",
        error("<conflict xmlns='{}'/>") + END,
        refused("conflict"),
        closing=END,
    ),
    attached(
        "S8",
        X114,
        "a conflict after the first stanza",
        GOOD + error("<conflict xmlns='{0}'/><text xmlns='{0}'>twice</text>"),
        GOT,
        refused("conflict", text="twice"),
        closing=END,
    ),
)

ENDING_ROWS: Final = (
    attached(
        "S10",
        ERRORS,
        "condition alone",
        error("<system-shutdown xmlns='{}'/>"),
        refused("system-shutdown"),
        closing=END,
    ),
    attached(
        "S10",
        ERRORS,
        "condition, text and application element",
        error("<reset xmlns='{0}'/><text xmlns='{0}'>so</text><why xmlns='urn:app'>x</why>"),
        refused("reset", text="so", application=Element("{urn:app}why", (), ("x",))),
        closing=END,
    ),
    attached(
        "S10",
        ERRORS,
        "an unknown condition",
        error("<no-such xmlns='{}'/>"),
        refused("undefined-condition", text="the unknown condition no-such"),
        closing=END,
    ),
    attached("S10", ERRORS, "no condition", error(""), refused("undefined-condition")),
    attached(
        "S10",
        ERRORS,
        "stanzas before it are delivered, those after it are not",
        GOOD + error("<reset xmlns='{}'/>") + GOOD,
        GOT,
        refused("reset"),
        closing=END,
    ),
    attached("S12", CLOSING, "the peer closes", GOOD + END, GOT, StreamClosed(), closing=END),
    attached(
        "S12",
        CLOSING,
        "nothing counts after it",
        END + GOOD + b"\xff<!-- -->",
        StreamClosed(),
        closing=END,
    ),
    attached("S12", CLOSING, "white space within", b"</stream:stream \n>", StreamClosed()),
    Row(
        "S12",
        CLOSING,
        "the peer closes before the handshake",
        (HEADER, END),
        (OPENED, StreamClosed()),
        HEADER_OUT + HANDSHAKE_OUT + END,
    ),
    attached(
        "S13",
        "RFC 6120 §4.6.1",
        "white space between stanzas",
        b" \n" + GOOD + b"\r\n\t " + GOOD + b"  ",
        GOT,
        GOT,
        closing=END,
    ),
    attached("S13", "RFC 6120 §4.6.1", "white space alone", b" " * 200, closing=END),
    attached(
        "S13",
        "RFC 6120 §4.6.1",
        "other text is no white space",
        GOOD + b"x" + GOOD,
        GOT,
        FORMAT,
        closing=told(StreamCondition.BAD_FORMAT, "text between stanzas"),
    ),
    attached("S13", "RFC 6120 §4.6.1", "neither is a no-break space", b"\xc2\xa0" + GOOD, FORMAT),
)

SMALL: Final = Limits(max_stanza_bytes=200, max_depth=4, max_attributes=5, max_name_bytes=50)
SIZES: Final = "RFC 6120 §13.12.4"
START: Final = b"<message from='a@b' to='c@d' type='chat' id='7'>"
STUB: Final = element("message", from_="a@b", to="c@d", type="chat", id="7")
MARK: Final = Element(f"{{{MUC_USER}}}x")


def too_big(limit: str, *children: Element) -> StanzaRefused:
    """Make the event of a stanza over a limit."""
    return StanzaRefused(Stanza(Element(STUB.name, STUB.attributes, children)), limit)


def over(name: str, inside: bytes, *events: Event, closing: bytes | None = None) -> Row:
    """Make a row of a stanza with small limits."""
    return attached(
        "S17",
        SIZES,
        name,
        START + inside + b"</message>" + GOOD,
        *events,
        closing=closing,
        limits=SMALL,
    )


ENDLESS: Final = told(StreamCondition.POLICY_VIOLATION, "a stanza beyond 16 times 200 bytes")
LIMIT_ROWS: Final = (
    attached(
        "S17",
        SIZES,
        "ten thousand bytes are fine",
        b"<message><body>" + b"x" * 9969 + b"</body></message>",
        got(element("message", element("body", "x" * 9969))),
    ),
    over("at the limit", b"x" * 142, got(replace(STUB, children=("x" * 142,))), GOT),
    over("one byte over", b"x" * 144, too_big("200 bytes"), GOT, closing=END),
    over("sixteen times", b"x" * 3142, too_big("200 bytes"), GOT, closing=END),
    over("beyond sixteen times", b"x" * 3144, POLICY, closing=ENDLESS),
    over("too deep", b"<a><a><a><a/></a></a></a>", too_big("4 levels"), GOT, closing=END),
    over(
        "deep",
        b"<a><a><a/></a></a>",
        got(replace(STUB, children=(element("a", element("a", element("a"))),))),
        GOT,
    ),
    over(
        "too many attributes", b"<a b='' c='' d='' e='' f='' g=''/>", too_big("5 attributes"), GOT
    ),
    over(
        "too many namespaces",
        b"<a xmlns:b='b' xmlns:c='c' xmlns:d='d' e='' f='' g=''/>",
        too_big("5 attributes"),
        GOT,
    ),
    over("too long a name", b"<" + b"a" * 30 + b"/>", too_big("50 bytes of a name"), GOT),
    over(
        "the mark of a room is kept",
        b"<x xmlns='%s'/>" % MUC_USER.encode() + b"x" * 200,
        too_big("200 bytes", MARK),
        GOT,
    ),
    attached("S17", SIZES, "white space does not count", b" " * 300 + GOOD, GOT, limits=SMALL),
    attached(
        "S17",
        SIZES,
        "an unknown element over a limit",
        b"<a>" + b"x" * 300 + b"</a>" + GOOD,
        ElementIgnored(f"{{{COMPONENT}}}a"),
        GOT,
        limits=SMALL,
    ),
    attached(
        "S17",
        SIZES,
        "good stanzas come before the fault",
        GOOD + b"<a>" + b"x" * 3300,
        GOT,
        POLICY,
        closing=ENDLESS,
        limits=SMALL,
    ),
    evolve(
        opening(
            "S17", SIZES, "a header without an end", b"<stream:stream k='" + b"x" * 400, POLICY
        ),
        limits=Limits(max_header_bytes=300),
        sent=HEADER_OUT
        + told(StreamCondition.POLICY_VIOLATION, "no stream header within 300 bytes"),
    ),
    Row(
        "S17",
        SIZES,
        "a limit before the handshake closes the stream",
        (HEADER, b"<handshake>" + b"x" * 300 + b"</handshake>"),
        (OPENED, POLICY),
        HEADER_OUT
        + HANDSHAKE_OUT
        + told(StreamCondition.POLICY_VIOLATION, "over the limit of 200 bytes"),
        limits=SMALL,
    ),
)

TEXT: Final = "<?xml version='1.0'?>" + ROOT.decode()


def encoding(name: str, data: bytes, *events: Event, sent: bytes | None = None) -> Row:
    """Make a row of S18."""
    return opening("S18", ENCODINGS, name, data, *events, sent=sent)


NOT_UTF_8: Final = HEADER_OUT + told(StreamCondition.UNSUPPORTED_ENCODING, "not UTF-8")
DECLARED: Final = HEADER_OUT + told(
    StreamCondition.UNSUPPORTED_ENCODING, "a declared encoding other than UTF-8"
)
ENCODING_ROWS: Final = (
    encoding("no declaration", ROOT, OPENED),
    encoding("a declaration", b"<?xml version='1.0'?>\n" + ROOT, OPENED),
    encoding("UTF-8 declared", b'<?xml version="1.0" encoding="UTF-8" ?>' + ROOT, OPENED),
    encoding("utf-8 declared", b"<?xml version='1.0' encoding='utf-8'?>" + ROOT, OPENED),
    encoding("standalone is ignored", b"<?xml version='1.0' standalone='yes'?>" + ROOT, OPENED),
    encoding("a leading U+FEFF is ignored", b"\xef\xbb\xbf" + HEADER, OPENED),
    encoding("UTF-16 with a mark", TEXT.encode("utf-16"), ENCODING, sent=NOT_UTF_8),
    encoding("UTF-16, little end first", TEXT.encode("utf-16-le"), ENCODING, sent=NOT_UTF_8),
    encoding("UTF-16, big end first", TEXT.encode("utf-16-be"), ENCODING, sent=NOT_UTF_8),
    encoding(
        "UTF-16 declared",
        b"<?xml version='1.0' encoding='UTF-16'?>" + ROOT,
        ENCODING,
        sent=DECLARED,
    ),
    encoding(
        "Latin-1 declared",
        b"<?xml version='1.0' encoding='ISO-8859-1'?>" + ROOT,
        ENCODING,
        sent=DECLARED,
    ),
    encoding(
        "Latin-1 in the header",
        header("id='\xe9'").decode().encode("latin-1"),
        ENCODING,
        sent=NOT_UTF_8,
    ),
    attached(
        "S18",
        ENCODINGS,
        "Latin-1 in a stanza",
        GOOD + b"<message>caf\xe9</message>",
        GOT,
        ENCODING,
        closing=told(StreamCondition.UNSUPPORTED_ENCODING, "not UTF-8"),
    ),
    attached("S18", ENCODINGS, "an overlong NUL", b"<message>\xc0\x80</message>", ENCODING),
    attached("S18", ENCODINGS, "a surrogate", b"<message>\xed\xa0\x80</message>", ENCODING),
    encoding("XML 1.1", b"<?xml version='1.1'?>" + ROOT, NWF),
    encoding("a declaration behind white space", b"\n" + HEADER, NWF),
    attached("S18", ENCODINGS, "a declaration behind the header", b"<?xml version='1.0'?>", NWF),
)


def restricted(name: str, data: bytes, text: str, *before: Event) -> Row:
    """Make a row of S19 behind the handshake."""
    told_text = told(StreamCondition.RESTRICTED_XML, text)
    return attached("S19", RESTRICTIONS, name, data, *before, RESTRICTED, closing=told_text)


def restricted_start(name: str, data: bytes, text: str) -> Row:
    """Make a row of S19 before the header."""
    sent = HEADER_OUT + told(StreamCondition.RESTRICTED_XML, text)
    return opening("S19", RESTRICTIONS, name, data + ROOT, RESTRICTED, sent=sent)


DTD: Final = "a document type declaration"
ENTITY: Final = "an entity beyond the five of XML"
COMMENT: Final = "a comment"
INSTRUCTION: Final = "a processing instruction"
LAUGHS: Final = (
    b"<!DOCTYPE r [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>"
    b"<!ENTITY c '&b;&b;&b;&b;&b;&b;'>]><r>&c;</r>"
)
RESTRICTION_ROWS: Final = (
    restricted_start("a DTD before the root", b"<!DOCTYPE stream>", DTD),
    restricted_start("a DTD behind a declaration", b"<?xml version='1.0'?>\n<!DOCTYPE a>", DTD),
    restricted_start("an internal subset", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", DTD),
    restricted_start("an external DTD", b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'>", DTD),
    restricted_start("an external entity", b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///x'>]>", DTD),
    restricted_start("billion laughs", LAUGHS, DTD),
    restricted_start("a comment before the root", b"<!-- x -->", COMMENT),
    restricted_start("an instruction before the root", b"<?x y?>", INSTRUCTION),
    restricted("a DTD inside the root", GOOD + b"<!DOCTYPE a>" + GOOD, DTD, GOT),
    restricted("a DTD inside a stanza", b"<message><!DOCTYPE a [<!ENTITY b 'c'>]></message>", DTD),
    restricted("an entity declaration", b"<!ENTITY a 'b'>" + GOOD, DTD),
    restricted("billion laughs inside the root", LAUGHS, DTD),
    restricted("an undefined entity", GOOD + b"<message>&nbsp;</message>", ENTITY, GOT),
    restricted("an undefined entity in a value", b"<message to='&a;'/>", ENTITY),
    restricted("a comment between stanzas", GOOD + b"<!-- x -->" + GOOD, COMMENT, GOT),
    restricted("a comment in a stanza", b"<message><!-- > --></message>", COMMENT),
    restricted("an instruction between stanzas", b"<?x y?>" + GOOD, INSTRUCTION),
    restricted("an instruction in a stanza", b"<message><?x > ?></message>", INSTRUCTION),
    attached(
        "S19",
        RESTRICTIONS,
        "the five of XML are fine",
        b"<message to='&amp;&lt;&gt;&apos;&quot;'>&amp;&lt;&gt;&apos;&quot;&#65;</message>",
        got(element("message", "&<>'\"A", to="&<>'\"")),
        closing=END,
    ),
    attached(
        "S19",
        RESTRICTIONS,
        "in CDATA it is text",
        b"<message><![CDATA[<!DOCTYPE a><!-- -->&b;</message>]]></message>",
        got(element("message", "<!DOCTYPE a><!-- -->&b;</message>")),
        closing=END,
    ),
)


def malformed(name: str, data: bytes, rule: str = "S20", section: str = NAMESPACES) -> Row:
    """Make a row of what is not well-formed, behind a good stanza."""
    return attached(rule, section, name, GOOD + data + GOOD, GOT, NWF)


WELL_FORMEDNESS_ROWS: Final = (
    malformed("an unbound prefix", b"<x:message/>"),
    malformed("an unbound prefix of an attribute", b"<message x:to='a'/>"),
    malformed("an unbound prefix inside", b"<message><body><x:b/></body></message>"),
    malformed(
        "two attributes of one expanded name",
        b"<message><a xmlns:b='u' xmlns:c='u' b:d='1' c:d='2'/></message>",
    ),
    malformed("a prefix bound to nothing", b"<message><a xmlns:p=''/></message>"),
    malformed("two colons", b"<message><a:b:c xmlns:a='u'/></message>"),
    malformed("two colons in an attribute", b"<message><a b:c:d='1' xmlns:b='u'/></message>"),
    malformed("xml bound to another name", b"<message xmlns:xml='u'/>"),
    malformed("xmlns bound", b"<message xmlns:xmlns='u'/>"),
    opening("S20", NAMESPACES, "an unbound prefix of the root", b"<stream:stream id='7'>", NWF),
    attached(
        "S20",
        NAMESPACES,
        "a relative namespace is no error",
        b"<message><vCard xmlns='vcard-temp'/></message>",
        got(element("message", Element("{vcard-temp}vCard"))),
        closing=END,
    ),
    malformed("a control character", b"<message>\x01</message>", "S20", WELL),
    malformed("a reference to a control character", b"<message>&#1;</message>", "S20", WELL),
    malformed("a NUL", b"<message>\0</message>", "S20", WELL),
    malformed("a NUL in CDATA", b"<message><![CDATA[\0]]></message>", "S20", WELL),
    malformed("a duplicate attribute", b"<message to='a' to='b'/>", "S20", WELL),
    malformed("a wrong end tag", b"<message></presence>", "S20", WELL),
    malformed("an unquoted value", b"<message to=a/>", "S20", WELL),
    malformed("`<` in a value", b"<message to='<'/>", "S20", WELL),
    malformed("`]]>` in text", b"<message>]]></message>", "S20", WELL),
    malformed("an end too many", b"</message>", "S20", WELL),
    opening("S20", WELL, "something else entirely", b"HTTP/1.1 400 Bad Request\r\n\r\n", NWF),
    opening(
        "S20",
        "RFC 6120 §4.8.1",
        "a root of another name",
        b"<html>",
        FORMAT,
        sent=HEADER_OUT + told(StreamCondition.BAD_FORMAT, "the root is not a stream"),
    ),
    opening(
        "S20",
        "RFC 6120 §4.8.1",
        "a root without namespaces",
        b"<stream id='7'>",
        NAMESPACE,
        sent=HEADER_OUT + told(StreamCondition.INVALID_NAMESPACE, f"expected {COMPONENT}"),
    ),
    opening(
        "S20",
        "RFC 6120 §4.8.1",
        "a stream of another namespace",
        ROOT.replace(b"etherx", b"ether"),
        NAMESPACE,
    ),
    opening(
        "S20",
        "RFC 6120 §4.8.2",
        "a client's stream",
        ROOT.replace(COMPONENT.encode(), b"jabber:client"),
        NAMESPACE,
        sent=HEADER_OUT + told(StreamCondition.INVALID_NAMESPACE, f"expected {COMPONENT}"),
    ),
)

FORWARDED: Final = b"<forwarded xmlns='urn:f'><message xmlns='jabber:client'><body/></message>"
CLIENT_MESSAGE: Final = Element("{jabber:client}message", (), (Element("{jabber:client}body"),))
STANZA_ROWS: Final = (
    attached(
        "S21",
        "RFC 6120 §11.6",
        "characters of every width",
        "<message to='é'>é你😀\ufeff</message>".encode(),
        got(element("message", "é你😀\ufeff", to="é")),
        closing=END,
    ),
    attached(
        "S22",
        "RFC 6120 §4.8.5",
        "a prefixed stanza is one",
        f"<c:iq xmlns:c='{COMPONENT}' id='7'><c:query/></c:iq>".encode(),
        got(element("iq", element("query"), id="7")),
        closing=END,
    ),
    attached(
        "S22",
        "RFC 6120 §4.8.5",
        "a name alone is not enough",
        b"<iq xmlns='urn:x'/>",
        ElementIgnored("{urn:x}iq"),
        closing=END,
    ),
    attached(
        "S22",
        "RFC 6120 §4.8.5",
        "a prefixed stream error is one",
        f"<s:error xmlns:s='{STREAMS}'><reset xmlns='{STREAM_ERRORS}'/></s:error>".encode(),
        refused("reset"),
        closing=END,
    ),
    attached(
        "S23",
        "RFC 6120 §4.8.3",
        "a stanza of jabber:client",
        b"<message xmlns='jabber:client' to='a'><body>hi</body></message>",
        got(element("message", element("body", "hi"), to="a")),
        closing=END,
    ),
    attached(
        "S23",
        "RFC 6120 §4.8.3",
        "a prefixed one",
        b"<c:presence xmlns:c='jabber:client'/>",
        got(element("presence")),
        closing=END,
    ),
    attached(
        "S24",
        "RFC 6120 §4.8.3",
        "inside a forwarded payload the namespace stays",
        b"<message xmlns='jabber:client'>" + FORWARDED + b"</forwarded></message>",
        got(element("message", Element("{urn:f}forwarded", (), (CLIENT_MESSAGE,)))),
    ),
    Row(
        "S25",
        NAMESPACES,
        "a prefix of the root is resolved",
        (header("id='7' xmlns:p='urn:p'"), HANDSHAKE + b"<message><p:a p:b='c'/></message>"),
        (
            StreamOpened("7"),
            ACCEPTED,
            got(element("message", Element("{urn:p}a", (("{urn:p}b", "c"),)))),
        ),
    ),
    Row(
        "S25",
        NAMESPACES,
        "a prefix of the root in a parser's second life",
        (header("id='7' xmlns:p='urn:p'"), HANDSHAKE + b"<message><p:a/></message>" * 3),
        (StreamOpened("7"), ACCEPTED, *(got(element("message", Element("{urn:p}a"))),) * 3),
        limits=Limits(life_bytes=1),
    ),
    Row(
        "S26",
        "RFC 6120 §4.7.4",
        "a stanza inherits the stream's language",
        (header("id='7' xml:lang='de'"), HANDSHAKE + b"<message/>"),
        (StreamOpened("7", lang="de"), ACCEPTED, got(element("message"), "de")),
    ),
    attached("S26", "RFC 6120 §4.7.4", "there may be none", b"<message/>", got(element("message"))),
    attached(
        "S33",
        "RFC 6120 §8.4",
        "an unknown element",
        b"<unknown/>" + GOOD,
        ElementIgnored(f"{{{COMPONENT}}}unknown"),
        GOT,
        closing=END,
    ),
    attached(
        "S33",
        "RFC 6120 §8.4",
        "stream management",
        b"<r xmlns='urn:xmpp:sm:3'/>" + GOOD,
        ElementIgnored("{urn:xmpp:sm:3}r"),
        GOT,
        closing=END,
    ),
    attached(
        "S33",
        "RFC 6120 §8.4",
        "a second handshake",
        HANDSHAKE + GOOD,
        ElementIgnored(f"{{{COMPONENT}}}handshake"),
        GOT,
        closing=END,
    ),
    attached(
        "S33",
        "RFC 6120 §8.4",
        "a handshake in another namespace",
        b"<handshake xmlns='urn:x'/>" + GOOD,
        ElementIgnored("{urn:x}handshake"),
        GOT,
    ),
)

ROWS: Final = (
    *OPENING_ROWS,
    *ENDING_ROWS,
    *LIMIT_ROWS,
    *ENCODING_ROWS,
    *RESTRICTION_ROWS,
    *WELL_FORMEDNESS_ROWS,
    *STANZA_ROWS,
)


@frozen
class Outgoing:
    """What we send for a stanza; None where it is refused."""

    rule: str
    section: str
    name: str
    stanza: Stanza
    sent: bytes | None

    def __str__(self) -> str:
        return f"{self.rule} {self.name}"


def outgoing(
    rule: str, section: str, name: str, inside: Element | str, sent: str | None
) -> Outgoing:
    """Make a row of a message with one child."""
    stanza = make("message", "a@b", DOMAIN, children=(inside,))
    written = f"<message to='a@b' from='{DOMAIN}'>{sent}</message>".encode()
    return Outgoing(rule, section, name, stanza, None if sent is None else written)


CHARACTERS: Final = "XML 1.0 §2.2"
OUTGOING: Final = (
    outgoing(
        "S24",
        "RFC 6120 §4.8.3",
        "the stream's own namespace is the default",
        element("body", "hi"),
        "<body>hi</body>",
    ),
    outgoing(
        "S24",
        "RFC 6120 §4.8.3",
        "a forwarded stanza keeps its own",
        Element("{urn:f}forwarded", (), (CLIENT_MESSAGE,)),
        f"{FORWARDED.decode()}</forwarded>",
    ),
    outgoing("S27", CHARACTERS, "what must be escaped is", "<&>'\"\r", "&lt;&amp;&gt;'\"&#13;"),
    outgoing("S27", CHARACTERS, "all planes", "é你😀\U0010ffff", "é你😀\U0010ffff"),
    outgoing("S27", CHARACTERS, "a control character in text", "\x01", None),
    outgoing("S27", CHARACTERS, "a NUL in text", "\0", None),
    outgoing("S27", CHARACTERS, "a surrogate in text", "\ud800", None),
    outgoing("S27", CHARACTERS, "a noncharacter in text", "\uffff", None),
    outgoing("S27", CHARACTERS, "a control character in a value", element("a", k="\x1f"), None),
    outgoing("S27", CHARACTERS, "a name that is none", Element("a b"), None),
)
