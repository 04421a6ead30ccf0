"""Stanzas, their answers, and what is refused."""

from __future__ import annotations

import pytest

from xmppstream.element import Element
from xmppstream.errors import ErrorType, LocalError, StanzaCondition
from xmppstream.names import CLIENT, COMPONENT, LANG, STANZA_ERRORS
from xmppstream.stanza import KINDS, TYPES, Kind, Stanza, StanzaError, language_of, make

PAYLOAD = Element("{urn:x}query")
BUSY = StanzaError(StanzaCondition.RESOURCE_CONSTRAINT, ErrorType.WAIT)


@pytest.mark.parametrize("namespace", [COMPONENT, CLIENT])
@pytest.mark.parametrize("kind", KINDS)
def test_of_takes_both_namespaces_and_gives_the_component_one(namespace: str, kind: Kind) -> None:
    stanza = Stanza.of(Element(f"{{{namespace}}}{kind}", (("to", "a"),)), "de")
    assert stanza == Stanza(Element(f"{{{COMPONENT}}}{kind}", (("to", "a"),)), "de")
    assert stanza is not None
    assert stanza.kind == kind


def test_of_moves_the_children_along() -> None:
    body = Element(f"{{{CLIENT}}}body", (), ("hi",))
    stanza = Stanza.of(Element(f"{{{CLIENT}}}message", (), (body,)))
    assert stanza is not None
    assert stanza.child("body") == Element(f"{{{COMPONENT}}}body", (), ("hi",))


@pytest.mark.parametrize(
    "name", ["message", "{urn:x}iq", f"{{{COMPONENT}}}query", f"{{{COMPONENT}}}handshake"]
)
def test_of_gives_none_for_what_is_no_stanza(name: str) -> None:
    assert Stanza.of(Element(name)) is None


def test_attributes_are_read_from_the_element() -> None:
    stanza = make("iq", "to@a", "from@b", type="get", id="7", children=("t", PAYLOAD, Element("b")))
    assert (stanza.to, stanza.from_, stanza.type, stanza.id) == ("to@a", "from@b", "get", "7")
    assert stanza.payload == PAYLOAD


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type", ["get", "set", "error", None])
@pytest.mark.parametrize("to", ["a", None])
def test_what_is_made_is_as_what_is_read(kind: Kind, type: str | None, to: str | None) -> None:
    made = make(kind, to, "b", type=type, id="7")
    read = Stanza(made.element)
    for name in ("kind", "type", "id", "from_", "to", "is_request"):
        assert getattr(made, name) == getattr(read, name)
    assert made == read
    assert made.encode() == read.encode()


def test_it_is_equal_by_its_element_and_language_alone() -> None:
    one, other = make("message", "a", "b"), make("message", "a", "b")
    one.encode()
    assert (one, hash(one)) == (other, hash(other))
    assert Stanza(one.element, "de") != one
    assert make("message", "a", "c") != one
    assert one != one.element


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make("message", "a", "b").to = "c"  # type: ignore[misc]  # what is tested


def test_absent_attributes_are_none() -> None:
    stanza = make("message", None, None)
    assert (stanza.to, stanza.from_, stanza.type, stanza.id, stanza.payload) == (None,) * 5
    assert stanza.element == Element(f"{{{COMPONENT}}}message")


@pytest.mark.parametrize(
    ("kind", "type", "expected"),
    [
        ("iq", "get", True),
        ("iq", "set", True),
        ("iq", "result", False),
        ("iq", "error", False),
        ("iq", None, False),
        ("message", "get", False),
        ("presence", "set", False),
    ],
)
def test_is_request(kind: Kind, type: str | None, expected: bool) -> None:
    assert make(kind, "a", "b", type=type).is_request is expected


def test_child_is_of_the_stanzas_own_namespace() -> None:
    stanza = make("message", "a", "b", children=(Element("{urn:x}body"),))
    assert stanza.child("body") is None


@pytest.mark.parametrize(
    ("stanza", "expected"),
    [
        (
            make("iq", "me", "you", type="get", id="7", children=(PAYLOAD,)),
            make("iq", "you", "me", type="result", id="7"),
        ),
        # An id is owed to an iq only; a message's would name a message of the other's.
        (make("message", "me", "you", type="chat", id="7"), make("message", "you", "me")),
        (make("presence", "me", "you", type="probe"), make("presence", "you", "me")),
        (make("message", None, "you"), make("message", "you", None)),
    ],
)
def test_reply_swaps_the_addresses(stanza: Stanza, expected: Stanza) -> None:
    assert stanza.reply() == expected


def test_reply_takes_children_and_a_type() -> None:
    request = make("message", "me", "you")
    assert request.reply(PAYLOAD, type="chat") == make(
        "message", "you", "me", type="chat", children=(PAYLOAD,)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_error_reply_keeps_the_id_of_every_kind(kind: Kind) -> None:
    request = make(kind, "me", "you", type="set" if kind == "iq" else None, id="7")
    assert request.error_reply(BUSY) == make(
        kind, "you", "me", type="error", id="7", children=(BUSY.to_element(),)
    )


UNANSWERABLE = [
    (make("message", "me", "you", type="error"), "an error is never answered"),
    (make("presence", "me", "you", type="error"), "an error is never answered"),
    (make("iq", "me", "you", type="error", id="7"), "an error is never answered"),
    (make("iq", "me", "you", type="result", id="7"), "an iq result is never answered"),
    (make("iq", "me", "you", type="get"), "without id"),
    (make("iq", "me", "you", type="get", id=""), "without id"),
    (make("iq", "me", None, type="get", id="7"), "without sender"),
    (make("message", "me", None), "without sender"),
    (make("message", "me", ""), "without sender"),
]


@pytest.mark.parametrize(("stanza", "why"), UNANSWERABLE)
def test_reply_refuses(stanza: Stanza, why: str) -> None:
    with pytest.raises(LocalError, match=why):
        stanza.reply()


@pytest.mark.parametrize(("stanza", "why"), UNANSWERABLE)
def test_error_reply_refuses(stanza: Stanza, why: str) -> None:
    with pytest.raises(LocalError, match=why):
        stanza.error_reply(BUSY)


@pytest.mark.parametrize("text", ["", "later"])
def test_a_stanza_error_as_an_element(text: str) -> None:
    said = (Element(f"{{{STANZA_ERRORS}}}text", (), (text,)),) if text else ()
    assert StanzaError(StanzaCondition.GONE, ErrorType.CANCEL, text).to_element() == Element(
        f"{{{COMPONENT}}}error",
        (("type", "cancel"),),
        (Element(f"{{{STANZA_ERRORS}}}gone"), *said),
    )


def test_the_types_of_each_kind() -> None:
    assert set(TYPES) == set(KINDS)
    assert all("error" in types for types in TYPES.values())


@pytest.mark.parametrize(
    ("attributes", "expected"), [(((LANG, "de"),), "de"), ((("lang", "de"),), None), ((), None)]
)
def test_language_of(attributes: tuple[tuple[str, str], ...], expected: str | None) -> None:
    assert language_of(Element("a", attributes)) == expected
