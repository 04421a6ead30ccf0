"""The ids that rooms gave to our own messages, learnt from their reflections.

In a room a message is named by the room's id (XEP-0461 §4.1, XEP-0444 §4.2, XEP-0424 §5.1). A
service knows its own id only, so the bridge translates.
"""

from collections import OrderedDict
from typing import Final

from bridge.payload import namespace as ns
from xmppstream import Element, Stanza
from xmppstream.jid import bare
from xmppstream.names import expanded

PER_ROOM: Final = 1000
_ROOMS: Final = 1000
_STANZA_ID: Final = expanded(ns.SID, "stanza-id")
_ORIGIN_ID: Final = expanded(ns.SID, "origin-id")
_NAMING: Final = frozenset(
    {
        expanded(ns.RETRACT, "retract"),
        expanded(ns.REPLY, "reply"),
        expanded(ns.REACTIONS, "reactions"),
    }
)


class Reflections:
    """The last `PER_ROOM` of our messages in each room: our id, and the room's."""

    def __init__(self, per_room: int = PER_ROOM) -> None:
        self._per_room = per_room
        self._rooms: OrderedDict[str, OrderedDict[str, str]] = OrderedDict()

    def note(self, message: Stanza) -> None:
        """Learn from a groupchat message of ours that a room sends back."""
        room = bare(message.from_ or "")
        named = (one for one in message.element.find_all(_STANZA_ID) if one.get("by") == room)
        theirs = next((one.get("id") for one in named if one.get("id")), None)
        origin = message.element.find(_ORIGIN_ID)
        ours = {message.id, None if origin is None else origin.get("id")} - {None, ""}
        if theirs is None or not ours:
            return
        ids = self._rooms.setdefault(room, OrderedDict())
        self._rooms.move_to_end(room)
        if len(self._rooms) > _ROOMS:
            self._rooms.popitem(last=False)
        for one in ours:
            assert one is not None
            ids[one] = theirs
            if len(ids) > self._per_room:
                ids.popitem(last=False)

    def translated(self, message: Stanza, room: str) -> Stanza:
        """Return a message to a room in which references to our own ids name the room's."""
        ids = self._rooms.get(room)
        if not ids or not any(one.name in _NAMING for one in message.element.elements):
            return message
        element = message.element
        children = tuple(
            child if isinstance(child, str) else _translated(child, ids)
            for child in element.children
        )
        if children == element.children:
            return message
        return Stanza(Element(element.name, element.attributes, children), message.lang)


def _translated(child: Element, ids: OrderedDict[str, str]) -> Element:
    theirs = ids.get(child.get("id") or "") if child.name in _NAMING else None
    return child if theirs is None else child.with_attributes(id=theirs)
