"""Properties: events do not depend on the cut, parse∘write is the identity, garbage is a fault.

Derandomized, so that every run tries the same; raise `max_examples` by hand to search.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.xmppstream.wire import END, HANDSHAKE, HEADER, ROOT, attached, by_bytes, receive
from xmppstream.component import ComponentConnection, Role
from xmppstream.element import Element
from xmppstream.errors import RemoteError
from xmppstream.events import Event, StanzaReceived, StreamClosed, StreamFaulted
from xmppstream.limit import Limits
from xmppstream.names import CLIENT, COMPONENT, LANG, XML
from xmppstream.parser import parse_element
from xmppstream.stanza import KINDS, Stanza
from xmppstream.writer import write

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
steady = settings(
    settings.get_profile("steady"),
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)

# --- elements in normal form

START = st.sampled_from("abXZ_éж你𐀀")
NAMES = st.builds(
    lambda start, rest: start + rest, START, st.text("abc.-019·_é\u0300你", max_size=6)
)
NAMESPACES = st.sampled_from(
    ["", COMPONENT, CLIENT, XML, "urn:x", "vcard-temp", 'it\'s <odd> & "so"', " \n", "ü"]
)
EXPANDED = st.builds(
    lambda space, local: f"{{{space}}}{local}" if space else local, NAMESPACES, NAMES
)
XML_CHARACTERS = st.characters(
    codec="utf-8", exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
).filter(lambda c: c >= " " or c in "\t\n\r")
TEXTS = st.text(XML_CHARACTERS | st.sampled_from("\t\r\n<>&'\"]"), min_size=1, max_size=12)
ATTRIBUTES = st.lists(
    st.tuples(EXPANDED, TEXTS | st.just("")), max_size=4, unique_by=lambda pair: pair[0]
).map(tuple)


def joined(children: list[Element | str]) -> tuple[Element | str, ...]:
    """Bring children into normal form: no two texts side by side."""
    normal: list[Element | str] = []
    for child in children:
        if isinstance(child, str) and normal and isinstance(normal[-1], str):
            child = normal.pop() + child  # type: ignore[operator]  # checked right above
        normal.append(child)
    return tuple(normal)


ELEMENTS: st.SearchStrategy[Element] = st.recursive(
    st.builds(Element, EXPANDED, ATTRIBUTES),
    lambda inner: st.builds(
        Element, EXPANDED, ATTRIBUTES, st.lists(inner | TEXTS, max_size=4).map(joined)
    ),
    max_leaves=8,
)


@steady
@given(ELEMENTS, NAMESPACES.filter(lambda space: space != XML))
@example(Element("a", (("k", "&#38;\r\n\t"),), ("]]>\r",)), "")
@example(Element(f"{{{XML}}}a", ((LANG, "de"),), (Element("a"),)), "urn:x")
def test_an_element_reads_back_as_it_was_written(element: Element, namespace: str) -> None:
    outer = Element(f"{{{namespace}}}o" if namespace else "o", (), (element,))
    assert parse_element(write(outer, "").encode()) == outer


@steady
@given(ELEMENTS)
def test_an_element_may_stand_alone(element: Element) -> None:
    assert parse_element(write(element, "").encode()) == element


# --- streams

STANZAS = st.builds(
    lambda kind, element: Element(f"{{{COMPONENT}}}{kind}", element.attributes, element.children),
    st.sampled_from(KINDS),
    ELEMENTS,
)
SPACES = st.sampled_from([b"", b" ", b"\r\n", b" \t\n "])
GOOD = st.lists(st.tuples(SPACES, STANZAS), max_size=4)
TOKENS = st.sampled_from(
    (
        b"<a>|</a>|<a/>|<x:b>|</x:b>|<![CDATA[|]]>|<!DOCTYPE x>|<!X|<!--|-->|<?p x?>|&amp;|&u;|"
        b"&#1;|<?xml version='1.0'?>|\x01|\0|\xff|\xc3|\xa9|<|>|'|\"|/|=|x| |]]|<!|%x;|"
        b"\xef\xbb\xbf|"
        b"<p xmlns='u' a='1' a='2'/>|<q:p xmlns:q='r'>|</q:p>|<a b='|<xml:a/>|<!ENTITY x 'y'>|"
        b"<a:b:c/>|xmlns:p=''|<message from='a' id='1'>|</message>|<iq type='get'/>|<handshake/>|"
        b"<x xmlns='http://jabber.org/protocol/muc#user'/>|<stream:error>|</stream:error>|"
        b"</stream:stream>|" + ROOT
    ).split(b"|")
)
GARBAGE = st.lists(TOKENS | st.binary(max_size=6), max_size=10).map(b"".join)
LIMITS = st.sampled_from(
    [
        Limits(),
        Limits(life_bytes=1),
        Limits(max_stanza_bytes=40, life_bytes=30),
        Limits(max_depth=2, max_attributes=2, max_name_bytes=40, max_header_bytes=300),
        Limits(max_elements=1),
        Limits(max_elements=2, max_stanza_bytes=100, life_bytes=1),
    ]
)
# A fault in text may show as late as the next markup: let there be some.
LATE = b" < "


def encoded(good: list[tuple[bytes, Element]]) -> bytes:
    return b"".join(space + write(one, COMPONENT).encode() for space, one in good)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at some places, taken as parts of a thousand."""
    ends = sorted({place * len(data) // 1000 for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def mutated(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace a few bytes at a few places, counted in parts of a thousand."""
    for place, length, token in changes:
        at = place * len(data) // 1000
        data = data[:at] + token + data[at + length :]
    return data


PLACES = st.lists(st.integers(0, 1000), max_size=8)
CHANGES = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 3), TOKENS | st.just(b"")),
    min_size=1,
    max_size=3,
)


def faults_are_last(events: list[Event]) -> bool:
    return not any(isinstance(event, StreamFaulted | StreamClosed) for event in events[:-1])


@steady
@given(GOOD, PLACES, st.sampled_from([1, 100, 8 * 1024 * 1024]))
def test_good_streams_are_read_however_they_are_cut(
    good: list[tuple[bytes, Element]], places: list[int], life_bytes: int
) -> None:
    data = encoded(good) + END
    limits = Limits(life_bytes=life_bytes)
    expected = [*(StanzaReceived(Stanza(one)) for _, one in good), StreamClosed()]
    assert receive(attached(limits), [data]) == expected
    assert receive(attached(limits), by_bytes(data)) == expected
    assert receive(attached(limits), cut(data, places)) == expected


@steady
@given(GOOD, CHANGES, PLACES, LIMITS)
def test_mutated_streams_give_the_same_events_however_they_are_cut(
    good: list[tuple[bytes, Element]],
    changes: list[tuple[int, int, bytes]],
    places: list[int],
    limits: Limits,
) -> None:
    data = mutated(encoded(good) + END, changes) + LATE
    events = receive(opened(limits), [data])
    assert receive(opened(limits), by_bytes(data)) == events
    assert receive(opened(limits), cut(data, places)) == events
    assert faults_are_last(events)


def opened(limits: Limits) -> ComponentConnection:
    """Give a component's core behind the handshake, even under limits that refuse stanzas."""
    connection = ComponentConnection(Role.COMPONENT, domain="d", limits=limits)
    connection.open()
    connection.receive_data(HEADER)
    connection.authenticate("s")
    connection.receive_data(HANDSHAKE)
    return connection


@steady
@given(GARBAGE, PLACES, LIMITS, st.sampled_from(Role))
@example(b"x\0", [], Limits(), Role.COMPONENT)
@example(b"<a/>", [], Limits(), Role.SERVER)
@example(b"<?xml version='1.0'" + b" " * 400 + b"?>", [], Limits(max_header_bytes=300), Role.SERVER)
def test_garbage_is_a_fault_and_nothing_else(
    data: bytes, places: list[int], limits: Limits, role: Role
) -> None:
    def fresh() -> ComponentConnection:
        return ComponentConnection(role, domain="d", limits=limits)

    data += LATE
    events = receive(fresh(), [data])
    assert receive(fresh(), by_bytes(data)) == events
    assert receive(fresh(), cut(data, places)) == events
    assert faults_are_last(events)


@steady
@given(GARBAGE, PLACES, LIMITS)
@example(b"<![CDATA[<!X ]]>\x01", [], Limits())
@example(b"<a><![CDATA[\0]]></a>", [500], Limits())
@example(b"<c><x:b>&u;</x:b></c>", [], Limits())
@example(b"<c><x:b><!-- c --></x:b></c>", [], Limits())
@example(b"<c>\x01 <!X></c>", [], Limits())
@example(b"<a b='<!DOCTYPE x>'/>", [], Limits())
@example(b"\n<a></q:p>", [], Limits())
def test_garbage_on_an_open_stream(data: bytes, places: list[int], limits: Limits) -> None:
    data += LATE
    events = receive(opened(limits), [data])
    assert receive(opened(limits), by_bytes(data)) == events
    assert receive(opened(limits), cut(data, places)) == events
    assert faults_are_last(events)


@steady
@given(GARBAGE)
def test_garbage_that_stands_alone_is_an_element_or_a_remote_error(data: bytes) -> None:
    try:
        element = parse_element(data)
    except RemoteError:
        return
    assert parse_element(write(element, "").encode()) == element
