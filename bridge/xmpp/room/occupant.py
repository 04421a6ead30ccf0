"""The occupants of one room, as its presence tells of them."""

from sys import intern
from typing import Final

from msgspec import Struct

from xmppstream import Stanza
from xmppstream.names import COMPONENT, MUC_USER, expanded

OCCUPANT_ID: Final = "urn:xmpp:occupant-id:0"
LIMIT: Final = 10_000
"""The most occupants of a room that are kept: a server may send any number."""
_X: Final = expanded(MUC_USER, "x")
_ITEM: Final = expanded(MUC_USER, "item")
_ID: Final = expanded(OCCUPANT_ID, "occupant-id")
_SHOW: Final = expanded(COMPONENT, "show")
_STATUS: Final = expanded(COMPONENT, "status")
_STATUS_LIMIT: Final = 200


class Occupant(Struct, frozen=True, gc=False, omit_defaults=True):  # a room may have thousands
    """One occupant. Absent values are None; `jid` is known to moderators, or in open rooms."""

    nick: str
    role: str | None = None
    affiliation: str | None = None
    occupant_id: str | None = None
    jid: str | None = None
    show: str | None = None
    status: str | None = None


def occupant_id_of(stanza: Stanza) -> str | None:
    """Return the occupant id in a stanza of a room (XEP-0421)."""
    found = stanza.element.find(_ID)
    return None if found is None else found.get("id") or None


def item_of(presence: Stanza, name: str) -> str | None:
    """Return an attribute of the item in a room's presence."""
    x = presence.element.find(_X)
    item = None if x is None else x.find(_ITEM)
    return None if item is None else item.get(name) or None


class Occupants:
    """The occupants of one room, by nick."""

    def __init__(self) -> None:
        self._by_nick: dict[str, Occupant] = {}

    def __len__(self) -> int:
        return len(self._by_nick)

    def all(self) -> list[Occupant]:
        """Return all of them, sorted by nick."""
        return [self._by_nick[nick] for nick in sorted(self._by_nick)]

    def get(self, nick: str) -> Occupant | None:
        """Return the occupant with a nick."""
        return self._by_nick.get(nick)

    def clear(self) -> None:
        """Forget all of them: a join brings them again."""
        self._by_nick.clear()

    def observe(self, presence: Stanza, nick: str) -> None:
        """Learn from the presence of an occupant, available or unavailable.

        Without a nick it is the room's own; ejabberd sends one.
        """
        if not nick:
            return
        if presence.type == "unavailable":
            self._by_nick.pop(nick, None)
        elif presence.type is None and (nick in self._by_nick or len(self) < LIMIT):
            status = _text(presence, _STATUS)
            self._by_nick[nick] = Occupant(
                nick,
                _word(item_of(presence, "role")),
                _word(item_of(presence, "affiliation")),
                occupant_id_of(presence),
                item_of(presence, "jid"),
                _word(_text(presence, _SHOW)),
                status and status[:_STATUS_LIMIT],
            )


def _text(presence: Stanza, name: str) -> str | None:
    found = presence.element.find(name)
    return None if found is None else found.text or None


def _word(text: str | None) -> str | None:
    """Return one of few words, of which one copy is kept."""
    return None if text is None else intern(text[:20])
