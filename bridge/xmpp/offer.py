"""Remembers what people may choose, so that their answer names it (XEP-0439).

An offer belongs to a conversation: a person, or an occupant of a room, and one of our addresses. It
ends with the next message either way that has a body, or after `OFFER_S`. A choice is found when
its message is accepted, since a later one must not change it, and is kept under the message's uid
until the message is settled. A dead letter keeps its choice, because it may be tried again.

Both are in the small state: an answer that comes after a restart counts. In a room, where anybody
may speak next, no offer is remembered.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from bridge.payload.extension.choice import SELECTED, Choice, Offer, offer_of
from bridge.xmpp.state import StateStore
from xmppstream import Stanza
from xmppstream.jid import bare, fold
from xmppstream.names import COMPONENT, expanded

OFFER_S: Final = 600.0
OFFER_LIMIT: Final = 10_000
"""The offers of a component, at most, and its choices: beyond it, the oldest are forgotten."""
CHOICE_S: Final = 30 * 24 * 3600.0
_OFFER: Final = "offer"
_CHOICE: Final = "choice"
_BODY: Final = expanded(COMPONENT, "body")

T = TypeVar("T")


class _Made(msgspec.Struct, frozen=True):
    """The value of an offer's entry; its key is the conversation. `at` is Unix time in s."""

    at: float
    offer: Offer


class _Chosen(msgspec.Struct, frozen=True):
    """The value of a choice's entry; its key is the uid of the message."""

    at: float
    choice: Choice


class Offers:
    """The offers and choices of one component. There are none before `load`."""

    def __init__(
        self,
        state: StateStore,
        is_occupant: Callable[[str], bool] = lambda address: False,
        now: Callable[[], float] = time.time,
        limit: int = OFFER_LIMIT,
    ) -> None:
        """`is_occupant` says of an address whether it is an occupant of a room that we are in."""
        self._state = state
        self._is_occupant = is_occupant
        self._now = now
        self._limit = limit
        self.made: dict[str, _Made] = {}
        """The offers by conversation, the oldest first; read-only, as the choices are."""
        self.chosen: dict[str, _Chosen] = {}
        """The choices by the uid of their message."""

    def load(self) -> None:
        """Read the state, and forget what is too old or cannot be read."""
        now = self._now()
        self.made = self._loaded(_OFFER, _Made, lambda one: now - one.at < OFFER_S)
        self.chosen = self._loaded(_CHOICE, _Chosen, lambda one: now - one.at < CHOICE_S)

    def _loaded(self, kind: str, type: type[T], is_current: Callable[[T], bool]) -> dict[str, T]:
        found: dict[str, T] = {}
        for key, value in self._state.entries(kind).items():
            try:
                one = msgspec.json.decode(value, type=type)
            except msgspec.DecodeError:  # of another version
                self._state.delete(kind, key)
                continue
            if is_current(one):
                found[key] = one
            else:
                self._state.delete(kind, key)
        return dict(sorted(found.items(), key=lambda item: item[1].at))  # type: ignore[attr-defined]

    # --- messages of ours

    def observe_sent(self, stanza: Stanza) -> None:
        """Note a stanza that is sent: a message may make an offer, and ends the one before it."""
        children = stanza.element.children
        if stanza.kind != "message" or not (self.made or len(children) > 1):
            return  # nearly all stanzas
        if stanza.type in ("groupchat", "error") or not _has_body(stanza):
            return
        offer = offer_of(stanza) if len(children) > 1 else None
        conversation = self._conversation(stanza.to, stanza.from_)
        self._forget(_OFFER, self.made, conversation)
        self._sweep()
        if offer is not None:
            self._keep(_OFFER, self.made, conversation, _Made(self._now(), offer))

    # --- messages to us

    def take(self, stanza: Stanza) -> Choice | None:
        """Return what an accepted message chooses, if anything. It ends the offer that it could
        choose from.
        """
        if stanza.kind != "message" or stanza.type in ("groupchat", "error"):
            return None
        body = stanza.element.find(_BODY)
        if body is None and stanza.element.find(SELECTED) is None:
            return None
        self._sweep()
        conversation = self._conversation(stanza.from_, stanza.to)
        made = self.made.get(conversation)
        if made is None:
            return None
        self._forget(_OFFER, self.made, conversation)
        return None if body is None else made.offer.choice_of(body.text)

    def keep(self, uid: str, choice: Choice) -> None:
        """Keep the choice of a message until it is settled."""
        self._keep(_CHOICE, self.chosen, uid, _Chosen(self._now(), choice))

    def choice_of(self, uid: str) -> Choice | None:
        """Return the choice of a message, if it has one."""
        chosen = self.chosen.get(uid)
        return None if chosen is None else chosen.choice

    def forget(self, uid: str) -> None:
        """Forget the choice of a message that is settled, if it has one."""
        self._forget(_CHOICE, self.chosen, uid)

    def _conversation(self, other: str | None, ours: str | None) -> str:
        other = other or ""
        who = other if self._is_occupant(other) else bare(other)
        return f"{fold(who)} {fold(bare(ours or ''))}"

    def _sweep(self) -> None:
        """Forget the offers that have ended by their age."""
        now = self._now()
        while self.made:
            conversation, oldest = next(iter(self.made.items()))
            if now - oldest.at < OFFER_S:
                break
            self._forget(_OFFER, self.made, conversation)

    def _keep(self, kind: str, table: dict[str, T], key: str, value: T) -> None:
        table[key] = value
        self._state.put(kind, key, msgspec.json.encode(value))
        while len(table) > self._limit:
            self._forget(kind, table, next(iter(table)))

    def _forget(self, kind: str, table: dict[str, T], key: str) -> None:
        if table.pop(key, None) is not None:
            self._state.delete(kind, key)


def _has_body(stanza: Stanza) -> bool:
    return stanza.element.find(_BODY) is not None
