"""Element to text. Here, and only here, XML is compared by its bytes."""

from __future__ import annotations

import tracemalloc

import pytest

from xmppstream.element import Element
from xmppstream.errors import LocalError
from xmppstream.limit import Limits
from xmppstream.names import LANG, XML
from xmppstream.parser import parse_element
from xmppstream.writer import IllegalCharacter, TooLong, escape_text, escape_value, write

WRITTEN = [
    (Element("{n}a"), "<a/>"),
    (Element("a"), "<a xmlns=''/>"),
    (Element("{o}a"), "<a xmlns='o'/>"),
    (Element("{n}a", (), ("t",)), "<a>t</a>"),
    (Element("{n}a", (), (Element("{n}b"), "t", Element("{n}c"))), "<a><b/>t<c/></a>"),
    (Element("{n}a", (), (Element("{o}b"),)), "<a><b xmlns='o'/></a>"),
    (Element("{o}a", (), (Element("{o}b"),)), "<a xmlns='o'><b/></a>"),
    (
        Element("{o}a", (), (Element("{n}b"), Element("{o}c"))),
        "<a xmlns='o'><b xmlns='n'/><c/></a>",
    ),
    (Element("{n}a", (), (Element("b", (), (Element("c"),)),)), "<a><b xmlns=''><c/></b></a>"),
    (Element("{it's}a"), "<a xmlns='it&apos;s'/>"),
    (Element("{n}a", (("k", "v"), ("j", "w"))), "<a k='v' j='w'/>"),
    (Element("{n}a", ((LANG, "de"),)), "<a xml:lang='de'/>"),
    (Element("{n}a", ((f"{{{XML}}}space", "preserve"),)), "<a xml:space='preserve'/>"),
    (Element("{n}a", (("{u}k", "v"),)), "<a xmlns:n0='u' n0:k='v'/>"),
    (
        Element("{n}a", (("k", "1"), ("{u}k", "2"), ("{v}k", "3"), ("{u}l", "4"))),
        "<a k='1' xmlns:n1='u' n1:k='2' xmlns:n2='v' n2:k='3' xmlns:n3='u' n3:l='4'/>",
    ),
    # The default namespace is no namespace of an attribute: it needs a prefix there as well.
    (Element("{n}a", (("{n}k", "v"),)), "<a xmlns:n0='n' n0:k='v'/>"),
    # The namespace of `xml:` cannot be declared, and children keep the default one.
    (Element(f"{{{XML}}}a", (), (Element("{n}b"),)), "<xml:a><b/></xml:a>"),
    (Element("{n}ж", (("ключ", "ü"),), ("😀",)), "<ж ключ='ü'>😀</ж>"),
]


@pytest.mark.parametrize(("element", "text"), WRITTEN)
def test_write(element: Element, text: str) -> None:
    assert write(element, "n") == text


@pytest.mark.parametrize(("element", "text"), WRITTEN)
def test_what_is_written_reads_back_the_same(element: Element, text: str) -> None:
    outer = parse_element(f"<outer xmlns='n'>{text}</outer>".encode())
    assert outer.children == (element,)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a&b", "a&amp;b"),
        ("&amp;", "&amp;amp;"),
        ("<a>", "&lt;a&gt;"),
        ("]]>", "]]&gt;"),
        ("'\"", "'\""),
        ("\r\n\t", "&#13;\n\t"),
        ("\U0010ffff\ufffd\ud7ff\ue000\x7f\x85", "\U0010ffff\ufffd\ud7ff\ue000\x7f\x85"),
    ],
)
def test_escape_text(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a&b<c>", "a&amp;b&lt;c&gt;"),
        ("'\"", '&apos;"'),
        ("\r\n\t ", "&#13;&#10;&#9; "),
    ],
)
def test_escape_value(value: str, escaped: str) -> None:
    assert escape_value(value) == escaped


@pytest.mark.parametrize("text", ["\r", "\n", "\t", "\r\n", " \t\n\r ", "]]>", "&#13;", "'\"<&>"])
def test_no_character_is_lost_in_text_or_value(text: str) -> None:
    element = Element("a", (("k", text),), (text,))
    assert parse_element(write(element, "").encode()) == element


CONTROLS = [chr(code) for code in range(32) if chr(code) not in "\t\n\r"]
ILLEGAL = [*CONTROLS, "\ud800", "\udbff", "\udc00", "\udfff", "\ufffe", "\uffff"]


@pytest.mark.parametrize("character", ILLEGAL, ids=ascii)
@pytest.mark.parametrize(
    "place", ["text", "value", "namespace", "namespace of an attribute", "name", "attribute"]
)
def test_illegal_characters_are_refused_everywhere(character: str, place: str) -> None:
    bad = f"a{character}b"
    element = {
        "text": Element("a", (), (bad,)),
        "value": Element("a", (("k", bad),)),
        "namespace": Element(f"{{{bad}}}a"),
        "namespace of an attribute": Element("a", ((f"{{{bad}}}k", "v"),)),
        "name": Element(bad),
        "attribute": Element("a", ((bad, "v"),)),
    }[place]
    with pytest.raises(IllegalCharacter):
        write(element, "")


def test_the_refusal_names_the_character() -> None:
    with pytest.raises(IllegalCharacter, match=r"U\+0001 cannot be written"):
        escape_text("a\x01")


def test_an_illegal_character_is_the_callers_mistake_and_a_value_error() -> None:
    assert issubclass(IllegalCharacter, LocalError)
    assert issubclass(IllegalCharacter, ValueError)


@pytest.mark.parametrize("local", ["a", "_", "a.b-c1", "ж", "a·b", "𐀀", "x\u0300", "xml"])
def test_good_names(local: str) -> None:
    element = Element(f"{{urn:x}}{local}", ((local, "v"),))
    assert parse_element(write(element, "").encode()) == element


@pytest.mark.parametrize(
    "local", ["", "1a", "-a", ".a", "a b", "a:b", "a/", "a>", "a='", "·a", "\u0300x", "a\n", "\xd7"]
)
@pytest.mark.parametrize("namespace", ["", "{urn:x}"])
def test_what_is_no_name_is_refused(local: str, namespace: str) -> None:
    with pytest.raises(IllegalCharacter, match="is not an XML name"):
        write(Element(f"{namespace}{local}"), "")
    with pytest.raises(IllegalCharacter, match="is not an XML name"):
        write(Element("a", ((f"{namespace}{local}", "v"),)), "")


def test_every_printable_character_is_read_back_as_it_was() -> None:
    """What is printable is not looked at any further, beyond the four that are escaped."""
    every = "".join(filter(str.isprintable, map(chr, range(0x110000))))
    element = Element("a", (("b", every),), (every,))
    assert parse_element(write(element, "").encode(), Limits(max_stanza_bytes=2**21)) == element


def test_the_longest_that_is_allowed_is_written() -> None:
    element = Element("{urn:x}a", (("{urn:y}k", "&"),), ("<", Element("{urn:x}b")))
    text = write(element, "")
    assert write(element, "", len(text)) == text
    with pytest.raises(TooLong):
        write(element, "", len(text) - 1)


@pytest.mark.parametrize("text", ["x" * 100, "&" * 30])
def test_the_length_is_told_in_bytes(text: str) -> None:
    with pytest.raises(TooLong, match=f"^{len(write(Element('a', (), (text,)), ''))} bytes$"):
        write(Element("a", (), (text,)), "", 90)


NAMESPACE = "u" * 1000


@pytest.mark.parametrize(
    "element",
    [
        Element("a", (), (Element(f"{{{NAMESPACE}}}b"),) * 100_000),
        Element("a", (), tuple(Element(f"{{{NAMESPACE}}}b{n}") for n in range(1000)) * 100),
        Element("a", (), (Element("b", ((f"{{{NAMESPACE}}}k", "v"),)),) * 100_000),
    ],
    ids=["elements", "names", "attributes"],
)
def test_declarations_are_not_written_beyond_the_limit(element: Element) -> None:
    """A hundred megabytes would be."""
    tracemalloc.start()
    with pytest.raises(TooLong):
        write(element, "", 100_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 3_000_000


def test_many_attributes_of_one_element_are_not_looked_up_one_by_one() -> None:
    element = Element("a", tuple((f"{{urn:x}}k{n}", "") for n in range(5000)))
    assert write(element, "").count(" xmlns:n4999='urn:x' n4999:k4999=''") == 1
