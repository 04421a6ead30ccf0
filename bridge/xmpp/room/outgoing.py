"""Stanzas to a room as they must leave: from the address that joined, with the room's ids."""

from typing import Final

from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.room.reflection import Reflections
from bridge.xmpp.room.room import RESOURCE
from xmppstream import Element, Stanza
from xmppstream.jid import bare, fold
from xmppstream.names import MUC_USER, expanded

_MUC_USER: Final = expanded(MUC_USER, "x")


def as_it_leaves(stanza: Stanza, occupancy: MucOccupancy, reflections: Reflections) -> Stanza:
    """Return a stanza as it must leave if it is for a room that we are in: from the address that
    joined, with the room's ids, and marked as private (XEP-0045 §7.5) if it is for an occupant.
    """
    to, sender = stanza.to or "", stanza.from_ or ""
    room = fold(bare(to))
    if not occupancy.has_occupant(room) or stanza.type in ("result", "error"):
        return stanza
    joined, occupant = f"{sender}/{RESOURCE}", occupancy.occupant
    if "/" not in sender and not occupant(room, sender) and occupant(room, joined):
        stanza = Stanza(stanza.element.with_attributes(from_=joined), stanza.lang)
    if stanza.kind != "message":
        return stanza
    if stanza.type == "groupchat":
        return reflections.translated(stanza, room)
    if "/" not in to or stanza.element.find(_MUC_USER) is not None:
        return stanza
    one = stanza.element
    children = (*one.children, Element(_MUC_USER))
    return Stanza(Element(one.name, one.attributes, children), stanza.lang)
