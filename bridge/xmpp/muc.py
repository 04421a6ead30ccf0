"""The bridge's occupants: the room addresses that are the bridge itself (rule S36).

They are learnt from stanzas. A presence with status 110 names an occupant. So does a groupchat
message that a room returns with an id just sent there: after a restart, which forgets the
occupants but not the rooms, this prevents echoes. Both memories are bounded, because strangers can
send either.
"""

from collections import OrderedDict
from typing import Final

from xmppstream import Stanza
from xmppstream.jid import bare
from xmppstream.names import DELAY, MUC_USER, expanded

_X: Final = expanded(MUC_USER, "x")
_STATUS: Final = expanded(MUC_USER, "status")
_SELF: Final = "110"
_LIMIT: Final = 10_000


class MucOccupancy:
    """The bridge's occupant in each room, for each address of the component."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._occupants: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._sent: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        self._rooms: dict[str, int] = {}

    def observe(self, stanza: Stanza) -> None:
        """Learn from an incoming stanza."""
        sender, address = stanza.from_, stanza.to
        if not sender or not address or stanza.type == "error":
            return
        if stanza.kind == "presence" and _is_self_presence(stanza):
            if stanza.type == "unavailable":
                self._forget(sender, address)
            elif stanza.type is None:
                self._remember(sender, address)
        elif stanza.type == "groupchat" and (bare(sender), stanza.id) in self._sent:
            self._remember(sender, address)

    def observe_sent(self, stanza: Stanza) -> None:
        """Learn from an outgoing stanza."""
        if stanza.type == "groupchat" and stanza.id:
            self._sent[bare(stanza.to or ""), stanza.id] = None
            if len(self._sent) > self._limit:
                self._sent.popitem(last=False)

    def has_occupant(self, sender: str) -> bool:
        """Return whether the sender is a room, or in a room, where the bridge has an occupant."""
        return bool(self._rooms) and bare(sender) in self._rooms

    def occupant(self, sender: str, address: str) -> str | None:
        """Return the bridge's occupant in the room of `sender`, for an address of the component."""
        return self._occupants.get((bare(sender), address))

    def is_own(self, stanza: Stanza) -> bool:
        """Return whether a room sends back our own groupchat message, or sends its history."""
        if stanza.kind != "message" or stanza.type != "groupchat" or stanza.from_ is None:
            return False
        room = bare(stanza.from_)
        if room not in self._rooms:
            return False
        if stanza.element.find(expanded(DELAY, "delay")) is not None:
            return True
        return self._occupants.get((room, stanza.to or "")) == stanza.from_

    def _remember(self, occupant: str, address: str) -> None:
        key = (bare(occupant), address)
        if key not in self._occupants:
            self._rooms[key[0]] = self._rooms.get(key[0], 0) + 1
        self._occupants[key] = occupant
        self._occupants.move_to_end(key)
        if len(self._occupants) > self._limit:
            self._leave(self._occupants.popitem(last=False)[0][0])

    def _forget(self, occupant: str, address: str) -> None:
        key = (bare(occupant), address)
        if self._occupants.get(key) == occupant:
            del self._occupants[key]
            self._leave(key[0])

    def _leave(self, room: str) -> None:
        self._rooms[room] -= 1
        if not self._rooms[room]:
            del self._rooms[room]


def _is_self_presence(stanza: Stanza) -> bool:
    x = stanza.element.find(_X)
    return x is not None and any(status.get("code") == _SELF for status in x.find_all(_STATUS))
