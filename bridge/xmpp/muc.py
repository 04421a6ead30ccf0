"""The bridge's occupants: the room addresses that are the bridge itself (rule S36).

They are learnt from stanzas. A presence with status 110 names an occupant. So does a groupchat
message that a room returns with an id just sent there, if the state was lost but not the rooms.
Both memories are bounded, because strangers can send either. The occupants are kept in the
component's small state, so a restart does not make the bridge hear itself.
"""

from collections import OrderedDict
from typing import Final, Literal

from bridge.xmpp.state import MemoryState, StateStore
from xmppstream import Stanza
from xmppstream.jid import bare
from xmppstream.names import MUC_USER, expanded

_X: Final = expanded(MUC_USER, "x")
_STATUS: Final = expanded(MUC_USER, "status")
_SELF: Final = "110"
_RENAMED: Final = "303"
_LIMIT: Final = 10_000
_KIND: Final = "occupant"

Change = Literal["joined", "left"]
"""Whether an occupant of ours has begun or ended with a stanza."""


def statuses_of(presence: Stanza) -> frozenset[str]:
    """Return the status codes of a room's presence (XEP-0045 §15.6)."""
    x = presence.element.find(_X)
    if x is None:
        return frozenset()
    return frozenset(status.get("code") or "" for status in x.find_all(_STATUS))


class MucOccupancy:
    """The bridge's occupant in each room, for each address of the component."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._occupants: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._sent: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        self._rooms: dict[str, int] = {}
        self.is_anywhere = False
        """Whether the bridge has an occupant in any room. Most have none, and need not look."""
        self._state: StateStore = MemoryState()

    def load(self, state: StateStore) -> None:
        """Remember the occupants of an earlier process, and keep them in `state` from now on."""
        self._state = state
        for key, value in state.entries(_KIND).items():
            room, _, address = key.partition(" ")
            if (room, address) not in self._occupants:
                self._remember(value.decode(), address)
        for (room, address), occupant in self._occupants.items():
            self._keep(room, address, occupant)

    def observe(self, stanza: Stanza) -> Change | None:
        """Learn from an incoming stanza; return whether an occupant of ours began or ended."""
        sender, address = stanza.from_, stanza.to
        if not sender or not address or stanza.type == "error":
            return None
        if stanza.kind == "presence":
            return self._observe_presence(stanza, sender, address)
        if stanza.type == "groupchat" and (bare(sender), stanza.id) in self._sent:
            self._remember(sender, address)
        return None

    def _observe_presence(self, stanza: Stanza, sender: str, address: str) -> Change | None:
        if stanza.type is None:
            if _SELF not in statuses_of(stanza):
                return None
            is_new = (bare(sender), address) not in self._occupants
            self._remember(sender, address)
            return "joined" if is_new else None
        # A room that is destroyed need not say that the presence is our own.
        if stanza.type == "unavailable" and self.occupant(sender, address) == sender:
            statuses = statuses_of(stanza)
            if _RENAMED in statuses:
                nick = _new_nick(stanza)
                if nick:
                    self._remember(f"{bare(sender)}/{nick}", address)
                return None
            self.forget(bare(sender), address)
            return "left"
        return None

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
        """Return whether a room sends back our own groupchat message."""
        if stanza.kind != "message" or stanza.type != "groupchat" or stanza.from_ is None:
            return False
        room = bare(stanza.from_)
        if room not in self._rooms:
            return False
        return self._occupants.get((room, stanza.to or "")) == stanza.from_

    def all(self) -> list[tuple[str, str]]:
        """Return the room and the address of each occupant."""
        return list(self._occupants)

    def forget(self, room: str, address: str) -> bool:
        """Forget an occupant, if there is one; return whether there was."""
        if self._occupants.pop((room, address), None) is None:
            return False
        self._state.delete(_KIND, f"{room} {address}")
        self._rooms[room] -= 1
        if not self._rooms[room]:
            del self._rooms[room]
            self.is_anywhere = bool(self._rooms)
        return True

    def _remember(self, occupant: str, address: str) -> None:
        key = (bare(occupant), address)
        if key not in self._occupants:
            self._rooms[key[0]] = self._rooms.get(key[0], 0) + 1
            self.is_anywhere = True
        self._occupants[key] = occupant
        self._occupants.move_to_end(key)
        self._keep(*key, occupant)
        if len(self._occupants) > self._limit:
            self.forget(*next(iter(self._occupants)))

    def _keep(self, room: str, address: str, occupant: str) -> None:
        self._state.put(_KIND, f"{room} {address}", occupant.encode())


def _new_nick(presence: Stanza) -> str | None:
    x = presence.element.find(_X)
    item = None if x is None else x.find(expanded(MUC_USER, "item"))
    return None if item is None else item.get("nick")
