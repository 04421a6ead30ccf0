"""Elements with very many tags: refused at their limit, and the rest only skimmed."""

from __future__ import annotations

import sys
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.xmppstream.wire import CUTS, ROOT, parse, whole
from xmppstream.builder import ElementParsed, ElementRefused, ParseEvent, ParserFaulted, RootOpened
from xmppstream.dictionary import Dictionary
from xmppstream.element import Element
from xmppstream.errors import StreamCondition
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, MUC_USER
from xmppstream.parser import StreamParser

if TYPE_CHECKING:
    from types import FrameType

NWF: Final = StreamCondition.NOT_WELL_FORMED
RESTRICTED: Final = StreamCondition.RESTRICTED_XML
MANY: Final = Limits(max_elements=3)
LIMIT: Final = "3 elements"
FOUR: Final = b"<a/>" * 4
NEXT: Final = b"<b>1</b>"
MUC: Final = f"<x xmlns='{MUC_USER}'/>".encode()

every_cut = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)


def stub(*children: Element) -> Element:
    return Element(f"{{{COMPONENT}}}message", (("id", "1"),), children)


def inside(body: bytes, cut: Any, limits: Limits = MANY) -> list[ParseEvent]:
    """Parse elements inside a root; drop the event of the root."""
    opened, *events = parse(cut(ROOT + body), limits)
    assert isinstance(opened, RootOpened)
    return events


GOOD: Final = {
    "nothing else": b"",
    "end tags": b"<b></b>" * 9,
    "elements of its own name": b"<message></message><message>x</message ><m><message/></m>",
    "one within the other": b"<message>" * 9 + b"</message>" * 9,
    "its end tag in CDATA": b"<![CDATA[</message><!-- <?p?> ]] > ]]>",
    "markup in values": b"<b k='>' l=\"/>'\" m='/message>'></b>",
    "references": b"&lt;/message>&amp;&#60;/message&gt;",
    "a prefix of the root": b"<stream:features/><stream:message></stream:message>",
    "prefixes of its own": b"<p:a xmlns:p='u'><p:message xmlns:p='v'></p:message></p:a>",
    "warnings": b"<a xmlns='rel'/>" * 150 + b"<a xmlns:p=' &#10;'/>",
    "text beyond ASCII": "<ж>é😀</ж>".encode(),
}
HEADS: Final = {
    "plain": b"<message id='1'>",
    "with space": b"\n\t <message\n id = '1' >",
    "with the root's prefix for something else": (
        b"<message xmlns:stream='urn:x' id=\"1\"><stream:a/>"
    ),
    "with a value like a declaration": b"<message k=' xmlns:stream=\"x\">' id='1'><stream:a/>",
}


@every_cut
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("rest", GOOD.values(), ids=GOOD)
def test_it_is_refused_and_the_next_one_is_read(rest: bytes, head: bytes, cut: Any) -> None:
    refused, following = inside(head + FOUR + rest + b"</message >" + NEXT, cut)
    assert refused == ElementRefused(stub(), LIMIT)
    assert following == ElementParsed(Element(f"{{{COMPONENT}}}b", (), ("1",)), 408)


@every_cut
def test_an_element_with_a_prefix_ends_too(cut: Any) -> None:
    body = b"<p:m xmlns:p='u'>" + FOUR + b"<m></m><p:m></p:m></p:m>" + NEXT
    refused, following = inside(body, cut)
    assert refused == ElementRefused(Element("{u}m"), LIMIT)
    assert isinstance(following, ElementParsed)


FAULTS: Final[dict[str, tuple[bytes, StreamCondition, str]]] = {
    "comment": (b"<!-- -->", RESTRICTED, "a comment"),
    "instruction": (b"<?p x?>", RESTRICTED, "a processing instruction"),
    "DTD": (b"<!DOCTYPE x>", RESTRICTED, "a document type declaration"),
    "entity": (b"&u;", RESTRICTED, "an entity beyond the five of XML"),
    "NUL": (b"<b/>\0", NWF, "a NUL character"),
    "prefix": (b"<z:b/>", NWF, "Namespace prefix z on b is not defined"),
    "attributes": (b"<b k='' k=''/>", NWF, "Attribute k redefined"),
    "another end tag": (b"</b>", NWF, "Opening and ending tag mismatch: message and b"),
    "an inner end tag": (b"<b></c>", NWF, "Opening and ending tag mismatch: b and c"),
    "more in the end tag": (b"</message x>", NWF, "expected '>'"),
}


@every_cut
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_it_is_still_one(fault: str, cut: Any) -> None:
    bad, condition, text = FAULTS[fault]
    body = NEXT + b"<message id='1'>" + FOUR + bad + b"</message>" + NEXT
    [good, found] = inside(body, cut)
    assert isinstance(good, ElementParsed)
    assert found == ParserFaulted(condition, text)


@every_cut
@pytest.mark.parametrize(
    ("body", "is_marked"),
    [
        (MUC + FOUR, True),
        (FOUR + MUC, True),
        (FOUR + b"<b>" + MUC + b"</b>", True),  # depths are not known any more
        (b"<b>" + MUC + b"</b>" + FOUR, True),
        (FOUR + b"<x xmlns='http://jabber.org/protocol/muc'/>", False),
    ],
)
def test_a_mention_of_muc_user_anywhere_counts(body: bytes, is_marked: bool, cut: Any) -> None:
    [refused] = inside(b"<message id='1'>" + body + b"</message>", cut)
    marks = (Element(f"{{{MUC_USER}}}x"),) if is_marked else ()
    assert refused == ElementRefused(stub(*marks), LIMIT)


@every_cut
def test_a_mark_is_of_its_own_element(cut: Any) -> None:
    body = b"<message id='1'>" + FOUR + b"</message><message>" + MUC + b"</message>"
    refused, _ = inside(body, cut)
    assert refused == ElementRefused(stub(), LIMIT)


@every_cut
def test_limits_of_bytes_hold_while_it_is_skimmed(cut: Any) -> None:
    limits = Limits(max_elements=3, max_stanza_bytes=50)
    body = b"<message id='1'>" + FOUR + b"<b>" + b"x" * 700
    assert inside(body + b"</b></message>" + NEXT, cut, limits)[0] == ElementRefused(stub(), LIMIT)
    [fault] = inside(body + b"x" * 100, cut, limits)
    assert fault == ParserFaulted(
        StreamCondition.POLICY_VIOLATION, "a stanza beyond 16 times 50 bytes"
    )


# --- what it costs

NS: Final = "u" * 1000
ATTRIBUTES: Final = "<a " + " ".join(f"p:a{number}=''" for number in range(250)) + "/>"
HOSTILE: Final = {
    "elements in a long namespace": f"<x xmlns:p='{NS}'>{'<p:a/>' * 80_000}</x>",
    "elements": "<a/>" * 125_000,
    "elements with end tags": "<b></b>" * 70_000,
    "elements and text": "x<a/>" * 100_000,
    "levels": ("<a>" * 100 + "</a>" * 100) * 700,
    "attributes": f"<x xmlns:p='urn:p'>{ATTRIBUTES * 180}</x>",
    "names": "".join(f"<name{number:012}/>" for number in range(22_000)),
    "declarations": ("<a " + " ".join(f"xmlns:p{n}='u'" for n in range(200)) + "/>") * 140,
}


def fed(xml: str, parser: StreamParser) -> list[ParseEvent]:
    """Feed a stanza and another one, in chunks as the stream does."""
    data = f"<message id='1'>{xml}</message><b>1</b>".encode()
    events: list[ParseEvent] = []
    for start in range(0, len(data), 8192):
        events += parser.feed(data[start : start + 8192])
        if parser.spent:
            rest, parser = parser.unparsed, parser.successor()
            events += parser.feed(rest)
    return events


@pytest.mark.parametrize("hostile", HOSTILE)
def test_little_is_called_and_kept(hostile: str) -> None:
    """Of 125,000 elements 10,000 are reported to us; before, all were, each in a piece of its
    own: half a second. Three calls for each that is reported, some for a chunk, and no more.
    """
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    parser = StreamParser(Limits(), root=ROOT)
    tracemalloc.start()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        refused, following = fed(HOSTILE[hostile], parser)
    finally:
        sys.setprofile(before)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(refused, ElementRefused)
    assert isinstance(following, ElementParsed)
    assert calls < 75_000
    assert peak_bytes < 20_000_000


def test_the_same_name_very_often_is_one_name() -> None:
    names = Dictionary(100_000)
    for _ in range(5):
        fed(HOSTILE["elements"], StreamParser(Limits(), root=ROOT, dictionary=names))
    assert not names.full


TAGS: Final = [f"<q{n} k{n}='v' xmlns:p{n}='urn:{n}'/>" for n in range(50)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_no_name_escapes_that_is_skimmed(size: int) -> None:
    """However tags lie across chunks: with a `>` in a value, too."""
    xml = FOUR + "".join(f"<b z='>' {'x' * 40}{n}=''/>{tag}" for n, tag in enumerate(TAGS)).encode()
    body = b"<message>" + xml + b"</message>"
    names = Dictionary(1 << 30)
    parser = StreamParser(MANY, root=ROOT, dictionary=names)
    for start in range(0, len(body), size):
        parser.feed(body[start : start + size])
    least = sum(len(f"q{n}k{n}p{n}urn:{n}") + 40 for n in range(50))
    assert names._taken_bytes >= least


def test_it_can_be_repeated_without_end() -> None:
    data = (b"<message id='1'>" + FOUR + b"</message>") * 50
    assert inside(data, whole) == [ElementRefused(stub(), LIMIT)] * 50
