"""Receipts (XEP-0184) and markers (XEP-0333) for those who ask, so that clients show their ticks.

They acknowledge what is POSTed, and nothing else: with `handled`, once the endpoint has answered by
a 2xx; with `accepted`, once the message is kept. None is sent in rooms, where nobody could make use
of them, nor for an error, for another acknowledgement, or for a message out of an archive. A
message that was sent while its sender was offline is acknowledged like any other.

`handled` ones are replies of the exchange, first among them: they are kept with the other replies
when the stanza is settled, so a POST that a crash repeats brings them along.
"""

from typing import Final

from bridge.config.settings import Component
from bridge.payload import namespace as ns
from bridge.xmpp.room.rooms import Rooms
from xmppstream import Element, Stanza, make
from xmppstream.names import MUC_USER, expanded, namespace_of

_REQUEST: Final = expanded(ns.RECEIPTS, "request")
_RECEIVED: Final = expanded(ns.RECEIPTS, "received")
_MARKABLE: Final = expanded(ns.MARKERS, "markable")
_DISPLAYED: Final = expanded(ns.MARKERS, "displayed")
_ASKING: Final = frozenset({_REQUEST, _MARKABLE})
_NEVER: Final = frozenset({_RECEIVED, expanded(MUC_USER, "x")})
_ARCHIVE: Final = "urn:xmpp:mam:"
_STORE: Final = Element(expanded(ns.HINTS, "store"))
"""So that a server keeps an acknowledgement for a phone that is offline (XEP-0334 §4.4)."""


class Receipts:
    """Makes the acknowledgements of one component."""

    def __init__(self, component: Component, rooms: Rooms) -> None:
        self._component = component
        self._rooms = rooms

    def change(self, component: Component) -> None:
        """Use another configuration from now on."""
        self._component = component

    def for_accepted(self, stanza: Stanza) -> list[Stanza]:
        """Return the acknowledgements of a stanza that is accepted."""
        return self._asked(stanza) if self._component.receipts == "accepted" else []

    def for_handled(self, stanza: Stanza, replies: list[Stanza]) -> list[Stanza]:
        """Return the acknowledgements of a stanza that the endpoint has handled, without those that
        it sends itself.
        """
        if self._component.receipts == "accepted":
            return []
        asked = self._asked(stanza)
        if not asked:
            return asked
        said = {child for reply in replies for child in reply.element.elements}
        return [one for one in asked if one.payload not in said]

    def _asked(self, stanza: Stanza) -> list[Stanza]:
        """Return the acknowledgements that a stanza asks for and may get."""
        element = stanza.element
        for child in element.children:
            if not isinstance(child, str) and child.name in _ASKING:
                break
        else:  # nearly all stanzas
            return []
        if stanza.kind != "message" or stanza.type in ("error", "groupchat") or not stanza.id:
            return []
        names = {child.name for child in element.elements}
        if names & _NEVER or any(namespace_of(name).startswith(_ARCHIVE) for name in names):
            return []
        if self._rooms.keeps(stanza) or self._rooms.occupancy.has_occupant(stanza.from_ or ""):
            return []
        component = self._component
        wanted = (
            (_REQUEST in names and component.receipts != "off", _RECEIVED),
            (_MARKABLE in names and component.markers, _DISPLAYED),
        )
        return [_acknowledgement(stanza, name) for is_wanted, name in wanted if is_wanted]


def _acknowledgement(stanza: Stanza, name: str) -> Stanza:
    """Return an acknowledgement, of the type of what it acknowledges (XEP-0184 §5.3)."""
    said = Element(name, (("id", stanza.id or ""),))
    return make("message", stanza.from_, stanza.to, type=stanza.type, children=(said, _STORE))
