"""Stanzas from XML as it is read on paper, and XML compared by what it means."""

from typing import Any, Final

from bridge.xmpp.outbox import Outgoing
from xmppstream import Element, Stanza, parse_element, rehome
from xmppstream.names import COMPONENT

MADE: Final = 1_700_000_000.0
"""When what `outgoing` gives was made, unless a test says otherwise; Unix time in s."""


def element(xml: str) -> Element:
    """Parse an element; one without a namespace is taken to be the stream's."""
    parsed = parse_element(xml.encode())
    return parsed if parsed.namespace else rehome(parsed, COMPONENT)


def stanza(xml: str, lang: str | None = None) -> Stanza:
    """Parse a stanza; `lang` is inherited from the stream."""
    made = Stanza.of(element(xml), lang)
    assert made is not None
    return made


def meaning(one: Element) -> Any:
    """Give what two spellings of an element have in common: the order of attributes is none."""
    children = tuple(meaning(c) if isinstance(c, Element) else c for c in one.children)
    return one.name, frozenset(one.attributes), children


def meanings(stanzas: list[Stanza]) -> list[Any]:
    """`meaning` of each."""
    return [meaning(one.element) for one in stanzas]


def outgoing(*written: bytes, made: float = MADE) -> list[Outgoing]:
    """Give stanzas for the outbox."""
    return [Outgoing(data, made) for data in written]
