"""The parser: what libxml2 does by itself, what is refused, the limits, and its bounded life.

Checked with lxml 6.1.3 and libxml2 2.14.6; much of this depends on the version, so that each
behaviour that the parser counts on has its test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lxml import etree

from tests.xmppstream.wire import CUTS, END, ROOT, parse, whole
from xmppstream.builder import (
    ElementParsed,
    ElementRefused,
    ParseEvent,
    ParserFaulted,
    RootClosed,
    RootOpened,
)
from xmppstream.element import Element
from xmppstream.errors import RemoteError, StreamCondition
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, LANG, MUC_USER, STREAMS
from xmppstream.parser import ElementParser, StreamParser, parse_element

if TYPE_CHECKING:
    from collections.abc import Callable

NWF = StreamCondition.NOT_WELL_FORMED
RESTRICTED = StreamCondition.RESTRICTED_XML
ENCODING = StreamCondition.UNSUPPORTED_ENCODING
POLICY = StreamCondition.POLICY_VIOLATION
FORMAT = StreamCondition.BAD_FORMAT
DTD = "a document type declaration"

every_cut = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)


def named(local: str, *children: Element | str, **attributes: str) -> Element:
    """Build an element of the stream's namespace."""
    return Element(f"{{{COMPONENT}}}{local}", tuple(attributes.items()), children)


def inside(
    body: bytes, limits: Limits | None = None, cut: Callable[[bytes], list[bytes]] = whole
) -> list[ParseEvent]:
    """Parse a body behind the root's start tag and leave out the root's event."""
    first, *rest = parse(cut(ROOT + body), limits)
    assert isinstance(first, RootOpened)
    return rest


def elements(events: list[ParseEvent]) -> list[Element]:
    """Give the elements of events that are nothing else."""
    assert all(isinstance(event, ElementParsed) for event in events), events
    return [event.element for event in events if isinstance(event, ElementParsed)]


# --- what lxml does by itself, and the parser counts on


class Recorder:
    """A target that only takes notes."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, name: str, attributes: Any) -> None:
        self.calls.append(("start", name, dict(attributes)))

    def end(self, name: str) -> None:
        self.calls.append(("end", name))

    def data(self, text: str) -> None:
        self.calls.append(("data", text))

    def close(self) -> None:
        pass


def bare(**options: Any) -> tuple[Any, Recorder]:
    """Make a target parser as lxml would have it."""
    recorder = Recorder()
    return etree.XMLParser(target=recorder, **options), recorder  # type: ignore[arg-type]  # stubs


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<x:b/>", "NS_ERR_UNDEFINED_NAMESPACE"),
        (b"<b xmlns:p='u' xmlns:q='u' p:k='1' q:k='2'/>", "NS_ERR_ATTRIBUTE_REDEFINED"),
        (b"<b xmlns:p=''/>", "NS_ERR_XML_NAMESPACE"),
        (b"<a:b:c xmlns:a='u'/>", "NS_ERR_QNAME"),
    ],
)
def test_lxml_only_logs_namespace_errors(body: bytes, kind: str) -> None:
    parser, recorder = bare()
    parser.feed(b"<root>" + body + b"<end/>")
    assert recorder.calls[-1] == ("end", "end")
    assert kind in {entry.type_name for entry in parser.feed_error_log}


def test_lxml_expands_internal_entities_by_default() -> None:
    parser, recorder = bare()
    parser.feed(b"<!DOCTYPE r [<!ENTITY e 'boo'>]><r>&e;</r>")
    assert ("data", "boo") in recorder.calls


def test_lxml_leaves_an_ampersand_in_a_value_escaped_where_it_resolves_nothing() -> None:
    parser, recorder = bare(resolve_entities=False)
    parser.feed(b"<root k='&amp;'/>")
    assert recorder.calls[0] == ("start", "root", {"k": "&#38;"})


def test_lxml_obeys_a_declared_encoding() -> None:
    parser, recorder = bare()
    parser.feed(b"<?xml version='1.0' encoding='iso-8859-1'?><r>\xe9</r>")
    assert ("data", "é") in recorder.calls


def test_lxml_ignores_a_declared_encoding_where_it_is_given_one() -> None:
    parser, recorder = bare(encoding="utf-8")
    parser.feed("<?xml version='1.0' encoding='iso-8859-1'?><r>é</r>".encode())
    assert ("data", "é") in recorder.calls


def test_lxml_stores_the_first_four_bytes_unparsed() -> None:
    parser, recorder = bare()
    parser.feed(b"<a/>")
    assert recorder.calls == []


def test_lxml_looks_no_further_than_a_nul_in_cdata() -> None:
    parser, recorder = bare(encoding="utf-8")
    parser.feed(b"<root><![CDATA[\0]]></root>")
    parser.feed(b"<root><root><root>" * 100)
    assert recorder.calls == [("start", "root", {})]


# --- what comes out


@every_cut
def test_a_root_with_its_attributes_and_namespaces(cut: Any) -> None:
    [event] = parse(cut(b"<a:b xmlns:a='urn:a' xmlns='urn:d' k='v' a:l='w' xml:lang='de'>"))
    assert event == RootOpened(
        "{urn:a}b",
        (("k", "v"), ("{urn:a}l", "w"), (LANG, "de")),
        event.namespaces if isinstance(event, RootOpened) else (),
    )
    assert isinstance(event, RootOpened)
    assert dict(event.namespaces) == {"": "urn:d", "a": "urn:a"}


VALUES: list[tuple[bytes, Element]] = [
    (b"<a/>", named("a")),
    (b"<a></a>", named("a")),
    (b"<a >t</a >", named("a", "t")),
    (b"<a\n\tk = '1'\nl=\"2\"\n/>", named("a", k="1", l="2")),
    (b"<a>x<b/>y<b>z</b></a>", named("a", "x", named("b"), "y", named("b", "z"))),
    (b"<a><b><a><b/></a></b></a>", named("a", named("b", named("a", named("b"))))),
    (b"<a> <b/>\n</a>", named("a", " ", named("b"), "\n")),
    (b"<a>&amp;&lt;&gt;&apos;&quot;</a>", named("a", "&<>'\"")),
    (b"<a k='&amp;&lt;&gt;&apos;&quot;&#38;'/>", named("a", k="&<>'\"&")),
    (b"<a k='&amp;#38;&amp;amp;'/>", named("a", k="&#38;&amp;")),
    (b"<a>&#65;&#x42;&#x1F600;</a>", named("a", "AB😀")),
    (b"<a>\r\n\r</a>", named("a", "\n\n")),
    (b"<a k='\r\n\t'/>", named("a", k="  ")),
    (b"<a k='&#13;&#10;&#9;'>&#13;</a>", named("a", "\r", k="\r\n\t")),
    (b"<a>]]&gt;</a>", named("a", "]]>")),
    (b"<a k='>'>></a>", named("a", ">", k=">")),
    (b"<a k='/>'/>", named("a", k="/>")),
    (b"<a k='&lt;/a>'/>", named("a", k="</a>")),
    (b"<a><![CDATA[x]]></a>", named("a", "x")),
    (b"<a><![CDATA[]]></a>", named("a")),
    (b"<a>1<![CDATA[2]]>3<![CDATA[4]]></a>", named("a", "1234")),
    (
        b"<a><![CDATA[<b/></b></a></stream:stream>]]></a>",
        named("a", "<b/></b></a></stream:stream>"),
    ),
    (b"<a><![CDATA[<!DOCTYPE x>&u;<!-- -->]]></a>", named("a", "<!DOCTYPE x>&u;<!-- -->")),
    (b"<a><![CDATA[]]]]><![CDATA[>]]></a>", named("a", "]]>")),
    (b"<a xmlns='urn:o'><b/></a>", Element("{urn:o}a", (), (Element("{urn:o}b"),))),
    (b"<a xmlns=''/>", Element("a")),
    (b"<p:a xmlns:p='urn:o'><b/></p:a>", Element("{urn:o}a", (), (named("b"),))),
    (b"<stream:a stream:k='v'/>", Element(f"{{{STREAMS}}}a", ((f"{{{STREAMS}}}k", "v"),))),
    (b"<a xml:lang='de'/>", Element(f"{{{COMPONENT}}}a", ((LANG, "de"),))),
    (b"<a xmlns='vcard-temp'/>", Element("{vcard-temp}a")),
    (b"<a xmlns='it&apos;s &lt;odd&gt;'/>", Element("{it's <odd>}a")),
    ("<ж ü='😀'>你好</ж>".encode(), named("ж", "你好", ü="😀")),
    ("<a>\ufeff</a>".encode(), named("a", "\ufeff")),
    (b"<a>" + b"x" * 5000 + b"</a>", named("a", "x" * 5000)),
]


@every_cut
@pytest.mark.parametrize(("body", "expected"), VALUES)
def test_an_element_comes_as_a_value(body: bytes, expected: Element, cut: Any) -> None:
    assert elements(inside(body, cut=cut)) == [expected]


@pytest.mark.parametrize(("body", "expected"), VALUES)
def test_it_is_known_complete_when_its_last_byte_is_in(body: bytes, expected: Element) -> None:
    parser = StreamParser()
    parser.feed(ROOT + body[:-1])
    assert not parser.at_boundary
    assert elements(parser.feed(body[-1:])) == [expected]
    assert parser.at_boundary


@every_cut
def test_white_space_between_elements_is_no_event(cut: Any) -> None:
    assert elements(inside(b" \n\t\r<a/> \n<b/>\n ", cut=cut)) == [named("a"), named("b")]


def test_white_space_does_not_add_up() -> None:
    parser = StreamParser(Limits(max_stanza_bytes=10))
    parser.feed(ROOT)
    for _ in range(100):
        assert parser.feed(b" \n\t\r" * 10) == []
    assert parser.at_boundary
    assert elements(parser.feed(b"<a/>")) == [named("a")]


@every_cut
def test_the_root_ends_the_stream_and_what_follows_is_not_looked_at(cut: Any) -> None:
    *before, last = inside(b"<a/>" + END + b"<!DOCTYPE x> & \xff", cut=cut)
    assert (elements(before), last) == ([named("a")], RootClosed())


@every_cut
def test_a_root_without_content(cut: Any) -> None:
    assert [type(event) for event in parse(cut(b"<root/>more"))] == [RootOpened, RootClosed]


def test_a_bigger_element_weighs_more() -> None:
    def weight(body: bytes) -> int:
        [event] = inside(body)
        assert isinstance(event, ElementParsed)
        return event.weight_bytes

    assert weight(b"<a>" + b"x" * 1000 + b"</a>") == weight(b"<a></a>") + 1000
    assert weight(b"<a><b/><b/></a>") > weight(b"<a>xxxxxxxx</a>") + 2 * 300
    assert weight(b" \n" * 50 + b"<a/>") == weight(b"<a/>")


SIZES = [
    b"<m></m>",
    b"<m/>",
    b"<m ></m >",
    b"<m k='>'></m>",
    b"<m k='>'/>",
    b"<m k='/>'/>",
    b"<m><b/></m>",
    b"<m><b>t</b><b/></m\n>",
    b"<m>t<b/></m>",
    b"<m>/><b/></m>",
    b"<m k='>'><b/>/></m>",
    b"<m><m/></m>",
    b"<m><m><b/></m><m></m></m>",
    b"<m><b></b><mm></mm></m>",
    b"<p:m xmlns:p='u'><m></m></p:m>",
    b"<m><b><![CDATA[</m>]]></b></m>",
]


@every_cut
@pytest.mark.parametrize("one", SIZES)
@pytest.mark.parametrize("other", SIZES)
def test_each_element_is_weighed_by_itself(one: bytes, other: bytes, cut: Any) -> None:
    [lone] = inside(other)
    for space in (b"", b" \n"):
        events = inside(one + space + other + space + other, cut=cut)
        assert events[1:] == [lone, lone]
        assert events[:1] == inside(one)


def test_what_is_open_counts_in_the_next_chunk() -> None:
    nothing, element = b"<![CDATA[]]>", b"<m><b/></m>"
    assert parse([ROOT, nothing, element]) == parse([ROOT + nothing + element])


# --- encodings and declarations (S18)


@every_cut
@pytest.mark.parametrize(
    "start",
    [
        b"\xef\xbb\xbf",
        b"\n \t",
        b"<?xml version='1.0'?>",
        b'<?xml version="1.0"?>\n',
        b"<?xml version='1.0' encoding='UTF-8'?>",
        b"<?xml\tversion = '1.0'\n encoding = \"utf-8\" ?>",
        b"<?xml version='1.0' standalone='yes'?>",
        b"<?xml version='1.0' encoding='utf-8' standalone=\"no\"?>",
        b"\xef\xbb\xbf<?xml version='1.0'?>",
    ],
)
def test_good_starts(start: bytes, cut: Any) -> None:
    assert parse(cut(start + ROOT)) == parse([ROOT])


@every_cut
@pytest.mark.parametrize(
    ("start", "condition"),
    [
        (b"<?xml version='1.1'?>", NWF),
        (b"<?xml encoding='utf-8'?>", NWF),
        (b"<?xml version='1.0' standalone='maybe'?>", NWF),
        (b"<?xml version='1.0' standalone='no' encoding='utf-8'?>", NWF),
        (b"<?xml version='1.0\"?>", NWF),
        (b"<?xml ?>", NWF),
        (b" <?xml version='1.0'?>", NWF),
        (b"<?xml version='1.0'?><?xml version='1.0'?>", NWF),
        (b"\xef\xbb\xbf\xef\xbb\xbf", NWF),
        (b"x", NWF),
        (b"HTTP/1.1 400 Bad Request\r\n", NWF),
        (b"</a>", NWF),
        (b"&amp;", NWF),
        (b"\0\0", ENCODING),
        (b"x\0", ENCODING),
        (b"\x16\x03\x01", NWF),
        (b"<?xml version='1.0' encoding='iso-8859-1'?>", ENCODING),
        (b"<?xml version='1.0' encoding='us-ascii'?>", ENCODING),
        (b"<?xml version='1.0' encoding='utf-16'?>", ENCODING),
        (b"<?xml version='1.0' encoding='nonsense'?>", ENCODING),
        (b"<?pi x?>", RESTRICTED),
        (b"<?xml-stylesheet href='x'?>", RESTRICTED),
        (b"<!-- x -->", RESTRICTED),
        (b"<!DOCTYPE a>", RESTRICTED),
        (b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/x.dtd'>", RESTRICTED),
        (b"<!DOCTYPE a PUBLIC '-//x' 'y' [", RESTRICTED),
        (b"<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY e 'x'>]>", RESTRICTED),
    ],
)
def test_bad_starts(start: bytes, condition: StreamCondition, cut: Any) -> None:
    [event] = parse(cut(start + ROOT))
    assert isinstance(event, ParserFaulted)
    assert event.condition is condition


@every_cut
@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_seen_in_the_first_bytes(name: str, cut: Any) -> None:
    [event] = parse(cut(("<?xml version='1.0'?>" + ROOT.decode()).encode(name)))
    assert event == ParserFaulted(ENCODING, "not UTF-8")


# --- what is refused behind the root

FAULTS: list[tuple[bytes, StreamCondition, str]] = [
    (b"<!-- x --><a/>", RESTRICTED, "a comment"),
    (b"<!--> --><a/>", RESTRICTED, "a comment"),
    (b"<a><!-- <b/> > --></a>", RESTRICTED, "a comment"),
    (b"<?pi?><a/>", RESTRICTED, "a processing instruction"),
    (b"<a><?pi > </a> ?></a>", RESTRICTED, "a processing instruction"),
    (b"<?xml-x?>", RESTRICTED, "a processing instruction"),
    (b"<!DOCTYPE x>", RESTRICTED, DTD),
    (b"<a><!DOCTYPE x [<!ENTITY e 'v'>]></a>", RESTRICTED, DTD),
    (b"<!ENTITY e 'v'>", RESTRICTED, DTD),
    (b"<a><b/><!ELEMENT a ANY></a>", RESTRICTED, DTD),
    (b"<a>&undefined;</a>", RESTRICTED, "an entity beyond the five of XML"),
    (b"<a k='&undefined;'/>", RESTRICTED, "an entity beyond the five of XML"),
    (b"<a>&nbsp;</a>", RESTRICTED, "an entity beyond the five of XML"),
    (b"<a>&undefined;<!DOCTYPE x></a>", RESTRICTED, "an entity beyond the five of XML"),
    (b"<a>\xff</a>", ENCODING, "not UTF-8"),
    (b"<a>\xe9</a>", ENCODING, "not UTF-8"),
    (b"<a>\xc3(</a>", ENCODING, "not UTF-8"),
    (b"<a>\xc0\x80</a>", ENCODING, "not UTF-8"),
    (b"<a>\xed\xa0\x80</a>", ENCODING, "not UTF-8"),
    (b"<a>\xf5\x80\x80\x80</a>", ENCODING, "not UTF-8"),
    (b"<a k='\xff'/>", ENCODING, "not UTF-8"),
    (b"<a><![CDATA[\xff]]></a>", ENCODING, "not UTF-8"),
    (b"text<a/>", FORMAT, "text between stanzas"),
    (b"&amp;<a/>", FORMAT, "text between stanzas"),
    (b"<![CDATA[x]]><a/>", FORMAT, "text between stanzas"),
    ("\u00a0<a/>".encode(), FORMAT, "text between stanzas"),
    (b"<x:b/>", NWF, "prefix x on b is not defined"),
    (b"<a x:k='v'/>", NWF, "prefix x for k on a is not defined"),
    (b"<a><b xmlns:p='u'/><p:b/></a>", NWF, "prefix p on b is not defined"),
    (b"<a xmlns:p='u' xmlns:q='u' p:k='1' q:k='2'/>", NWF, "k in 'u' redefined"),
    (b"<a xmlns:p=''/>", NWF, "Empty XML namespace"),
    (b"<a:b:c xmlns:a='u'/>", NWF, "QName 'a:b:c'"),
    (b"<a b:c:d='v' xmlns:b='u'/>", NWF, "QName"),
    (b"<a: xmlns:a='u'/>", NWF, "QName"),
    (b"<:a/>", NWF, "QName"),
    (b"<xmlns:a/>", NWF, "prefix xmlns on a is not defined"),
    (b"<a xmlns:xml='u'/>", NWF, "xml namespace prefix mapped to wrong URI"),
    (b"<a xmlns:xmlns='u'/>", NWF, "xmlns prefix is forbidden"),
    (b"<a xmlns='http://www.w3.org/XML/1998/namespace'/>", NWF, "xml namespace URI"),
    (b"<a xmlns:p='http://www.w3.org/2000/xmlns/'/>", NWF, "xmlns namespace name is forbidden"),
    (b"<a><x:b>&undefined;</x:b></a>", NWF, "prefix x on b is not defined"),
    (b"<a><x:b><!-- c --></x:b></a>", NWF, "prefix x on b is not defined"),
    (b"<a k='1' k='2'/>", NWF, "Attribute k redefined"),
    (b"<a>\x01</a>", NWF, "invalid Char value 1"),
    (b"<a>\x01<!DOCTYPE x></a>", NWF, "invalid Char value 1"),
    (b"<a><![CDATA[<!X ]]>\x01</a>", NWF, "invalid Char value 1"),
    (b"<a>&#1;</a>", NWF, "invalid xmlChar value 1"),
    (b"<a>&#xD800;</a>", NWF, "invalid xmlChar value"),
    (b"<a>&#0;</a>", NWF, "invalid xmlChar value 0"),
    (b"<a>\xef\xbf\xbf</a>", NWF, "invalid Char value 65535"),
    (b"<a>\0</a>", NWF, "a NUL character"),
    (b"<a k='\0'/>", NWF, "a NUL character"),
    (b"<a><![CDATA[\0]]></a><b/>", NWF, "a NUL character"),
    (b"\0<a/>", NWF, "a NUL character"),
    (b"<a><b>\0</b></a>", NWF, "a NUL character"),
    (b"<a><b>]]></b><x:c/></a>", NWF, "']]>' not allowed"),
    (b"<a>]]></a>", NWF, "']]>' not allowed"),
    (b"<a k='<'/>", NWF, "'<' not allowed"),
    (b"<a k='<!DOCTYPE x>'/>", NWF, "'<' not allowed"),
    (b"<a k=v/>", NWF, "' expected"),
    (b"<a k/>", NWF, ""),
    (b"<a k='1'l='2'/>", NWF, ""),
    (b"<a></b>", NWF, "tag mismatch: a and b"),
    (b"\n<a>\n</b>", NWF, "tag mismatch: a and b"),
    (b"</a>", NWF, "tag mismatch"),
    (b"<a><![CDATA[<!X ]]><1/></a>", NWF, "StartTag: invalid element name"),
    (b"<1/>", NWF, "StartTag: invalid element name"),
    (b"< a/>", NWF, "StartTag: invalid element name"),
    (b"<a>&;</a>", NWF, "no name"),
    (b"<a k='& '/>", NWF, "no name"),
    (b"<a>& </a><b>&amp;</b>", NWF, "no name"),
    (b"<a>&amp</a>;", NWF, "expecting ';'"),
    (b"<?xml version='1.0'?><a/>", NWF, "XML declaration allowed only at the start"),
    (b"<![IGNORE[x]]><a/>", NWF, ""),
]


@every_cut
@pytest.mark.parametrize(("body", "condition", "text"), FAULTS)
def test_faults(body: bytes, condition: StreamCondition, text: str, cut: Any) -> None:
    [event] = inside(b"<good/>" + body + b"<later/>", cut=cut)[1:]
    assert isinstance(event, ParserFaulted)
    assert event.condition is condition
    assert text in event.text


@pytest.mark.parametrize(("body", "condition", "text"), FAULTS)
def test_a_fault_latches(body: bytes, condition: StreamCondition, text: str) -> None:
    parser = StreamParser()
    assert isinstance(parser.feed(ROOT + body + b"<later/>")[-1], ParserFaulted)
    assert parser.feed(b"<a/>") == []
    assert parser.feed(END) == []
    assert not parser.at_boundary


@every_cut
@pytest.mark.parametrize(("body", "condition", "text"), FAULTS)
def test_good_elements_before_a_fault_come_first(
    body: bytes, condition: StreamCondition, text: str, cut: Any
) -> None:
    events = inside(b"<a>1</a><b/>" + body + b"<later/>", cut=cut)
    assert elements(events[:-1]) == [named("a", "1"), named("b")]


def test_a_fault_tells_no_position_of_a_parser() -> None:
    [fault] = inside(b"\n<a>\n</b>")
    assert fault == ParserFaulted(NWF, "Opening and ending tag mismatch: a and b")


@every_cut
def test_the_root_itself_may_be_at_fault(cut: Any) -> None:
    [event] = parse(cut(b"<x:root k='v'><a/>"))
    assert event == ParserFaulted(NWF, "Namespace prefix x on root is not defined")


@every_cut
@pytest.mark.parametrize("body", [b"<a xmlns:p='rel'/>", b"<a xmlns='rel'/>"])
def test_a_hundred_warnings_do_not_hide_an_error(body: bytes, cut: Any) -> None:
    events = inside(body * 150 + b"<z:z/>", cut=cut)
    assert len(elements(events[:-1])) == 150
    assert events[-1] == ParserFaulted(NWF, "Namespace prefix z on z is not defined")


def test_nothing_is_expanded_or_fetched_before_a_dtd_is_refused() -> None:
    laughs = b"<!DOCTYPE r [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><r>&b;</r>"
    assert parse([laughs]) == [ParserFaulted(RESTRICTED, DTD)]


# --- limits (S17): at the limit, one over it, sixteen times over


def padded(size: int) -> bytes:
    """Make an element of so many bytes."""
    return b"<a>" + b"x" * (size - 7) + b"</a>"


def deep(levels: int) -> bytes:
    """Make an element of so many levels."""
    return b"<a>" * levels + b"</a>" * levels


def wide(count: int) -> bytes:
    """Make an element of so many attributes, one in three of them a declaration."""
    pairs = (b" xmlns:k%d='u%d'" if i % 3 == 0 else b" k%d='%d'" for i in range(count))
    return b"<a" + b"".join(pair % (i, i) for i, pair in enumerate(pairs)) + b"/>"


def crowded(count: int) -> bytes:
    """Make an element of so many elements, itself among them."""
    return b"<a>" + b"<b/>" * (count - 1) + b"</a>"


def scattered(count: int) -> bytes:
    """Make an element with so many attributes in all, five to an element."""
    names = [b"k", b"l", b"xmlns:m", b"n", b"o"]
    inner = b"<b" + b"".join(b" %b='1'" % name for name in names) + b"/>"
    last = b"<b" + b"".join(b" %b='1'" % name for name in names[: count % 5]) + b"/>"
    return b"<a>" + inner * (count // 5) + last + b"</a>"


def long(size: int) -> bytes:
    """Make an element whose expanded name has so many characters."""
    return b"<" + b"n" * (size - len(COMPONENT) - 2) + b"/>"


LIMITS = Limits(
    max_stanza_bytes=2000, max_depth=5, max_elements=30, max_attributes=6, max_name_bytes=60
)
ELEMENT_LIMITS: list[tuple[Callable[[int], bytes], int, str]] = [
    (padded, 2000, "2000 bytes"),
    (deep, 5, "5 levels"),
    (wide, 6, "6 attributes"),
    (crowded, 30, "30 elements"),
    (scattered, 60, "60 attributes in all"),
    (long, 60, "60 bytes of a name"),
]
every_limit = pytest.mark.parametrize(
    ("make", "limit", "text"), ELEMENT_LIMITS, ids=lambda value: getattr(value, "__name__", None)
)


@every_cut
@every_limit
def test_an_element_at_the_limit_is_built(make: Any, limit: int, text: str, cut: Any) -> None:
    assert len(elements(inside(make(limit) + b"<b/>", LIMITS, cut))) == 2


@every_cut
@every_limit
@pytest.mark.parametrize("factor", [0, 1, 16], ids=["one over", "twice", "16 times"])
def test_one_over_it_is_consumed_and_refused(
    make: Any, limit: int, text: str, factor: int, cut: Any
) -> None:
    over = make(limit * factor if factor > 1 else limit + 1 + factor * (limit - 1))
    stub = Element("element") if make is long else named("a")
    refused, next_one = inside(over + b"<b/>", LIMITS, cut)
    assert refused == ElementRefused(stub, text)
    assert isinstance(next_one, ElementParsed)
    assert next_one.element == named("b")


@every_cut
def test_beyond_sixteen_times_the_bytes_the_stream_is_at_fault(cut: Any) -> None:
    limits = Limits(max_stanza_bytes=50)
    [refused] = inside(padded(800), limits, cut)
    assert isinstance(refused, ElementRefused)
    [fault] = inside(padded(801), limits, cut)
    assert fault == ParserFaulted(POLICY, "a stanza beyond 16 times 50 bytes")


@every_cut
def test_the_fault_comes_before_the_endless_element_ends(cut: Any) -> None:
    [fault] = inside(b"<a>" + b"x" * 798, Limits(max_stanza_bytes=50), cut)
    assert isinstance(fault, ParserFaulted)


def test_the_factor_is_a_limit_too() -> None:
    limits = Limits(max_stanza_bytes=50, endless_factor=2)
    assert isinstance(inside(padded(100), limits)[0], ElementRefused)
    assert isinstance(inside(padded(101), limits)[0], ParserFaulted)


@every_cut
@pytest.mark.parametrize("space", [b"", b" ", b"\r\n\t" * 50])
def test_leading_white_space_is_not_counted(space: bytes, cut: Any) -> None:
    limits = Limits(max_stanza_bytes=50)
    assert elements(inside(b"<b/>" + space + padded(50), limits, cut))
    assert isinstance(inside(b"<b/>" + space + padded(51), limits, cut)[1], ElementRefused)


@every_cut
def test_an_element_is_counted_from_its_own_first_byte(cut: Any) -> None:
    assert len(elements(inside(padded(50) * 40, Limits(max_stanza_bytes=50), cut))) == 40


@every_cut
def test_a_fault_within_the_limit_is_found_before_the_limit(cut: Any) -> None:
    [fault] = inside(b"<a><!-- --></a>" + padded(900), Limits(max_stanza_bytes=50), cut)
    assert fault == ParserFaulted(RESTRICTED, "a comment")


@every_cut
def test_a_fault_in_a_refused_element_is_still_one(cut: Any) -> None:
    body = b"<a>" + b"x" * 100 + b"<b></c></a>"
    [fault] = inside(body, Limits(max_stanza_bytes=50), cut)
    assert isinstance(fault, ParserFaulted)
    assert fault.condition is NWF


@every_cut
def test_the_first_limit_is_the_one_that_is_told(cut: Any) -> None:
    body = deep(6).replace(b"</a>", b"x" * 2000 + b"</a>", 1)
    assert inside(body, LIMITS, cut) == [ElementRefused(named("a"), "5 levels")]


@every_cut
def test_a_root_that_is_whole_is_a_header_all_the_same(cut: Any) -> None:
    [fault] = parse(cut(b"<r k='" + b"x" * 200 + b"'><a/></r>"), Limits(max_header_bytes=100))
    assert isinstance(fault, ParserFaulted)
    assert fault.condition is POLICY


@every_cut
@pytest.mark.parametrize("factor", [1, 16])
def test_the_header_has_a_limit_of_its_own(factor: int, cut: Any) -> None:
    limits = Limits(max_header_bytes=100)
    fits = b"<root k='" + b"v" * 89 + b"'>"
    assert len(fits) == 100
    [opened] = parse(cut(fits), limits)
    assert isinstance(opened, RootOpened)
    [fault] = parse(cut(fits.replace(b"v'", b"v" * (100 * factor - 99) + b"v'")), limits)
    assert fault == ParserFaulted(POLICY, "no stream header within 100 bytes")


@every_cut
@pytest.mark.parametrize(
    "start",
    [b" " * 101, b"<?xml version='1.0'" + b" " * 100 + b"?>", b"<?xml version='" + b"1" * 99],
)
def test_what_precedes_the_header_is_limited(start: bytes, cut: Any) -> None:
    [fault] = parse(cut(start + b"<root>"), Limits(max_header_bytes=100))
    assert fault == ParserFaulted(POLICY, "no stream header within 100 bytes")


def test_the_defaults_take_what_rfc_6120_wants() -> None:
    assert elements(inside(padded(10_000)))
    assert elements(inside(padded(512 * 1024)))
    assert elements(inside(deep(128)))
    assert isinstance(inside(deep(129))[0], ElementRefused)


# --- what is left of a refused element

MARK = Element(f"{{{MUC_USER}}}x")
SMALL = Limits(max_stanza_bytes=300)
ADDRESSES = b"to='t@d' from='f@d/r' type='chat' id='7' xml:lang='de'"
STUB = Element(
    f"{{{COMPONENT}}}message",
    (("to", "t@d"), ("from", "f@d/r"), ("type", "chat"), ("id", "7"), (LANG, "de")),
)
MUC = f"<x xmlns='{MUC_USER}'".encode()
FILL = b"x" * 400


def message(body: bytes, attributes: bytes = b"") -> bytes:
    """Wrap a body into a message with all addresses."""
    return b"<message " + ADDRESSES + attributes + b">" + body + b"</message>"


@every_cut
@pytest.mark.parametrize(
    ("body", "children"),
    [
        (b"<body>" + FILL + b"</body>", ()),
        (b"<a/>" * 100, ()),
        (FILL, ()),
        (MUC + b"/><body>" + FILL + b"</body>", (MARK,)),
        (MUC + b"><item/></x><body>" + FILL + b"</body>", (MARK,)),
        (MUC + b">" + FILL + b"</x>", (MARK,)),
        (b"<body>" + FILL + b"</body>" + MUC + b"/>", (MARK,)),
        (MUC + b" k='" + FILL + b"'/>", (MARK,)),
        (MUC + b"/>" * 1 + FILL + MUC + b"/>", (MARK,)),
        (b"<body>" + FILL + MUC + b"/></body>", ()),
        (b"<body>" + MUC + b"/>" + FILL + b"</body>", ()),
        (b"<x/>" + FILL, ()),
    ],
)
def test_the_stub_has_the_addresses_and_the_mark(
    body: bytes, children: tuple[Element, ...], cut: Any
) -> None:
    [refused] = inside(message(body), SMALL, cut)
    assert refused == ElementRefused(Element(STUB.name, STUB.attributes, children), "300 bytes")


@every_cut
def test_other_attributes_are_dropped(cut: Any) -> None:
    [refused] = inside(message(FILL, b" k='v' xmlns:p='u' p:to='x'"), SMALL, cut)
    assert refused == ElementRefused(STUB, "300 bytes")


@every_cut
def test_the_stub_is_the_same_where_its_own_start_tag_goes_over(cut: Any) -> None:
    [refused] = inside(message(b"", b" k='" + FILL + b"'"), SMALL, cut)
    assert refused == ElementRefused(STUB, "300 bytes")


@every_cut
@pytest.mark.parametrize(("size", "kept"), [(3071, True), (3072, False)])
def test_an_address_longer_than_any_is_dropped(size: int, kept: bool, cut: Any) -> None:
    [refused] = inside(b"<iq id='7' from='" + b"f" * size + b"'/>", SMALL, cut)
    assert isinstance(refused, ElementRefused)
    assert [name for name, _ in refused.stub.attributes] == (["id", "from"] if kept else ["id"])


@every_cut
@pytest.mark.parametrize(
    ("inner", "limit"),
    [(deep(5), "5 levels"), (wide(7), "6 attributes"), (long(61), "60 bytes of a name")],
)
def test_every_limit_leaves_the_same_stub(inner: bytes, limit: str, cut: Any) -> None:
    [refused] = inside(message(inner + MUC + b"/>"), LIMITS, cut)
    assert refused == ElementRefused(Element(STUB.name, STUB.attributes, (MARK,)), limit)


@every_cut
def test_nothing_of_a_refused_element_shows_in_the_next(cut: Any) -> None:
    _, event = inside(message(MUC + b"/>" + FILL) + b"<b>t</b>", SMALL, cut)
    assert isinstance(event, ElementParsed)
    assert event.element == named("b", "t")
    assert inside(b"<b>t</b>") == [event]


# --- a bounded life

LIVELY: list[bytes] = [
    b"<a/><b>1</b> <c/>",
    b"<stream:features/><p:a xmlns:p='urn:p'/>",
    "<a>é你😀</a> <ж/>".encode() * 5,
    b"<a/>" + END + b"x",
    b"<a/><b><!-- --></b>",
    b"<a/><b/><!DOCTYPE x>",
    b"<a/><b/><x:y/>",
    b"<a/>text<b/>",
    b"<a/><b>\0",
    padded(60) + b"<b/>" + padded(801),
    b"<a xmlns:p='rel'/>" * 120 + b"<z:z/>",
]


@every_cut
@pytest.mark.parametrize("life_bytes", [0, 1, 7, 50, 500])
@pytest.mark.parametrize("body", LIVELY)
def test_renewal_gives_the_same_events(body: bytes, life_bytes: int, cut: Any) -> None:
    limits = Limits(max_stanza_bytes=50)
    renewed = Limits(max_stanza_bytes=50, life_bytes=life_bytes)
    assert inside(body, renewed, cut) == inside(body, limits)


def test_a_parser_is_spent_exactly_at_a_boundary() -> None:
    parser = StreamParser(Limits(life_bytes=len(ROOT) + 1))
    parser.feed(ROOT + b"<a>")
    assert not parser.spent
    assert elements(parser.feed(b"</a><b/><c")) == [named("a")]
    assert (parser.spent, parser.unparsed) == (True, b"<b/><c")


def test_white_space_is_a_boundary_as_well() -> None:
    parser = StreamParser(Limits(life_bytes=len(ROOT)))
    parser.feed(ROOT)
    assert not parser.spent
    parser.feed(b" ")
    assert (parser.spent, parser.unparsed) == (True, b"")


def test_an_element_is_never_cut_in_two() -> None:
    parser = StreamParser(Limits(life_bytes=len(ROOT) + 1))
    parser.feed(ROOT + b"<a>")
    for _ in range(10):
        parser.feed(b"<b/>")
        assert not parser.spent
    assert len(parser.feed(b"</a>")) == 1
    assert parser.spent


def test_a_successor_is_in_the_same_root() -> None:
    root = b"<p:r xmlns:p='urn:p' xmlns='urn:d'>"
    parser = StreamParser(Limits(life_bytes=1))
    parser.feed(root + b"<a/>")
    assert parser.spent
    heir = parser.successor()
    assert elements(heir.feed(b"<p:a><b/></p:a>")) == [
        Element("{urn:p}a", (), (Element("{urn:d}b"),))
    ]
    assert heir.spent
    assert heir.successor().feed(b"</p:r>") == [RootClosed()]


@every_cut
def test_a_successor_lives_where_the_root_alone_is_over_its_life(cut: Any) -> None:
    assert len(inside(b"<a/>" * 20, Limits(life_bytes=0), cut)) == 20


@pytest.mark.parametrize("body", [b"", b"<a", b"<a>", b"x", b"<a/>x", b"<!", b"</", b"&"])
def test_no_boundary_within_something(body: bytes) -> None:
    parser = StreamParser()
    parser.feed(ROOT + body)
    assert parser.at_boundary is (body == b"")


def test_no_boundary_before_the_root_or_behind_it() -> None:
    parser = StreamParser()
    assert not parser.at_boundary
    parser.feed(ROOT[:-1])
    assert not parser.at_boundary
    parser.feed(ROOT[-1:] + END)
    assert not parser.at_boundary


# --- elements that stand alone


@pytest.mark.parametrize(
    "data",
    [
        b"<a k='v'>t</a>",
        b" \n<a k='v'>t</a>\r\n\t ",
        b"\xef\xbb\xbf<a k='v'>t</a>",
        b"<?xml version='1.0'?>\n<a k='v'>t</a>",
        b"<?xml version='1.0' encoding='UTF-8'?><a k='v'>t</a>",
        b"<a k='v'><![CDATA[t]]></a>",
    ],
)
def test_parse_element(data: bytes) -> None:
    assert parse_element(data) == Element("a", (("k", "v"),), ("t",))


@pytest.mark.parametrize(
    "data", [b"<root><root/></root>", b"<a xmlns='urn:a'/>", b"<p:a xmlns:p='urn:p'/>"]
)
def test_parse_element_knows_no_namespace_of_its_own(data: bytes) -> None:
    assert parse_element(data).namespace in ("", "urn:a", "urn:p")


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"", NWF),
        (b" \n", NWF),
        (b"x", NWF),
        (b"\xef\xbb\xbf", NWF),
        (b"<?xml version='1.0'?>", NWF),
        (b"<?xml version='1.0'", NWF),
        (b"<a>", NWF),
        (b"<a", NWF),
        (b"<a></b>", NWF),
        (b"<x:a/>", NWF),
        (b"<a k='1' k='2'/>", NWF),
        (b"<a>&#1;</a>", NWF),
        (b"<a/>\0", NWF),
        (b"<?xml version='1.1'?><a/>", NWF),
        (b"<a/><b/>", FORMAT),
        (b"<a/><b", FORMAT),
        (b"<a/>text", FORMAT),
        (b"text<a/>", FORMAT),
        (b"text", NWF),
        (b"<a/></root>", FORMAT),
        (b"</root>", FORMAT),
        (b"</root><root>", FORMAT),
        (b"<a/></root><root><b/>", FORMAT),
        (b"<a/>&#32;", FORMAT),
        (b"<!DOCTYPE a><a/>", RESTRICTED),
        (b"<!DOCTYPE a [<!ENTITY e 'v'>]><a>&e;</a>", RESTRICTED),
        (b"<a>&e;</a>", RESTRICTED),
        (b"<!-- --><a/>", RESTRICTED),
        (b"<a/><!-- -->", RESTRICTED),
        (b"<a/><?pi?>", RESTRICTED),
        (b"<a>\xff</a>", ENCODING),
        ("<a/>".encode("utf-16"), ENCODING),
        (b"<?xml version='1.0' encoding='latin1'?><a/>", ENCODING),
        (b"<a>" + b"x" * 600 * 1024 + b"</a>", POLICY),
        (b"<a>" * 129 + b"</a>" * 129, POLICY),
        (b"<a>" + b"x" * 9 * 1024 * 1024, POLICY),
    ],
)
def test_parse_element_refuses(data: bytes, condition: StreamCondition) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_element(data)
    assert caught.value.condition is condition
    assert caught.value.text


def test_parse_element_says_which_limit() -> None:
    with pytest.raises(RemoteError, match="over the limit of 10 bytes"):
        parse_element(b"<a>xxxxxxxxx</a>", Limits(max_stanza_bytes=10))


@pytest.mark.parametrize("life_bytes", [0, 5])
def test_parse_element_in_a_short_life(life_bytes: int) -> None:
    limits = Limits(life_bytes=life_bytes)
    assert parse_element(b"<a>1</a> \n", limits) == Element("a", (), ("1",))
    with pytest.raises(RemoteError, match="not exactly one element"):
        parse_element(b"<a/><a/>", limits)


def test_one_element_parser_serves_many_elements() -> None:
    parser = ElementParser()
    for number in range(20):
        assert parser.parse(f"<a>{number}</a>".encode()) == Element("a", (), (str(number),))
    parser.close()


@pytest.mark.parametrize(
    "data", [b"", b"<a", b"<a></b>", b"<a/>x", b"<a/><b/>", b"</root>", b"<!-- -->", b"\xff\xfe"]
)
def test_a_bad_element_does_not_show_in_the_next(data: bytes) -> None:
    parser = ElementParser()
    for _ in range(3):
        with pytest.raises(RemoteError):
            parser.parse(data)
        assert parser.parse(b"<a>1</a>") == Element("a", (), ("1",))
    parser.close()


def test_an_element_parser_is_spent_after_so_many_bytes() -> None:
    parser = ElementParser(Limits(life_bytes=9))
    spent = []
    for _ in range(3):
        parser.parse(b"<a/>")
        spent.append(parser.spent)
    assert spent == [False, False, True]
    parser.close()


@pytest.mark.parametrize("body", [b"", b"<a/>", b"<a", b"<!-- -->", END, b"text"])
def test_a_closed_parser_gives_nothing(body: bytes) -> None:
    parser = StreamParser()
    parser.feed(ROOT + body)
    parser.close()
    parser.close()
    assert parser.feed(b"<a/>") == []
    assert not parser.at_boundary


def test_a_parser_that_was_never_fed_can_be_closed() -> None:
    parser = StreamParser()
    parser.close()
    assert parser.feed(ROOT) == []


@pytest.mark.parametrize(
    ("element", "refused"),
    [
        ("<m a{}='1'/>".format("é" * 9), False),  # 19 bytes
        ("<m a{}='1'/>".format("é" * 10), True),  # 21 bytes
        ("<m><b {}='1'/></m>".format("a" * 21), True),
        ("<é{}/>".format("é" * 9), False),
        ("<é{}/>".format("é" * 10), True),
    ],
)
def test_names_are_measured_in_bytes_those_of_attributes_too(element: str, refused: bool) -> None:
    parser = StreamParser(Limits(max_name_bytes=20), root=b"<root>")
    [event] = parser.feed(element.encode())
    assert isinstance(event, ElementRefused) is refused
