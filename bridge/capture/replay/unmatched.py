"""Stanzas of one side, then or now, that have no partner on the other side yet."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from attrs import define

from bridge.capture.replay.meaning import uid_of
from xmppstream import Element, Stanza

HISTORY: Final = 20_000  # as many as an outbox holds, so as many as can be sent again


@define(eq=False)
class Sent:
    """The `number`-th stanza that was sent, then or now, on the `connection`-th connection."""

    meaning: Element
    stanza: Stanza
    at: float
    connection: int
    number: int
    uid: str | None = None
    """The uid of the stanza that it answers, if that is known."""
    is_late: bool = False
    """Whether it was sent because the bridge stopped."""

    @property
    def address(self) -> tuple[str, str | None, str | None]:
        return (self.stanza.kind, self.stanza.from_, self.stanza.to)


class Unmatched:
    """Invariant: a stanza is in all indices, or in none; in that by uid only if it has one."""

    def __init__(self) -> None:
        self._all: dict[int, Sent] = {}
        self._by_meaning: dict[Element, dict[int, Sent]] = {}
        self._by_address: dict[tuple[str, str | None, str | None], dict[int, Sent]] = {}
        self._by_uid: dict[str, dict[int, Sent]] = {}
        self._history: OrderedDict[int, int] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Sent]:
        """Yield all, oldest first; they may be removed meanwhile."""
        return iter(list(self._all.values()))

    def enter(self, stanza: Stanza, meaning: Element, at: float, connection: int) -> Sent:
        """Number a stanza, and remember the connection on which its meaning was sent first."""
        self._count += 1
        name = hash((stanza.id, meaning))
        if name not in self._history:
            self._history[name] = connection
            if len(self._history) > HISTORY:
                self._history.popitem(last=False)
        return Sent(meaning, stanza, at, connection, self._count, uid_of(stanza.id))

    def is_copy(self, sent: Sent) -> bool:
        """Return whether a stanza with its meaning was sent on an earlier connection (S35)."""
        name = hash((sent.stanza.id, sent.meaning))
        return self._history.get(name, sent.connection) < sent.connection

    def add(self, sent: Sent) -> None:
        self._all[sent.number] = sent
        self._by_meaning.setdefault(sent.meaning, {})[sent.number] = sent
        self._by_address.setdefault(sent.address, {})[sent.number] = sent
        if sent.uid is not None:
            self._by_uid.setdefault(sent.uid, {})[sent.number] = sent

    def name(self, sent: Sent, uid: str) -> None:
        """Set the uid of a stanza that has none."""
        self.remove(sent)
        sent.uid = uid
        self.add(sent)

    def remove(self, sent: Sent) -> Sent:
        del self._all[sent.number]
        alike = self._by_meaning[sent.meaning]
        del alike[sent.number]
        if not alike:
            del self._by_meaning[sent.meaning]
        near = self._by_address[sent.address]
        del near[sent.number]
        if not near:
            del self._by_address[sent.address]
        if sent.uid is not None:
            same = self._by_uid[sent.uid]
            del same[sent.number]
            if not same:
                del self._by_uid[sent.uid]
        return sent

    def take_reply(self, uid: str, meaning: Element | None = None) -> Sent | None:
        """Remove and return the oldest stanza with a uid, and with a meaning if one is given."""
        for one in self._by_uid.get(uid, {}).values():
            if meaning is None or one.meaning == meaning:
                return self.remove(one)
        return None

    def take(self, meaning: Element) -> Sent | None:
        """Remove and return the oldest stanza with a meaning."""
        alike = self._by_meaning.get(meaning)
        return None if alike is None else self.remove(next(iter(alike.values())))

    def take_oldest(self) -> Sent:
        """Remove and return the oldest stanza."""
        return self.remove(next(iter(self._all.values())))

    def take_error_of(self, sent: Sent) -> Sent | None:
        """Remove and return the error for the same stanza, if there is one."""
        for other in self._by_address.get(sent.address, {}).values():
            if other.stanza.type == "error" and other.stanza.id == sent.stanza.id:
                return self.remove(other)
        return None

    def take_same_id(self, stanza: Stanza) -> Sent | None:
        """Remove and return the stanza between the same two addresses that has the same id."""
        address = (stanza.kind, stanza.from_, stanza.to)
        for other in self._by_address.get(address, {}).values():
            if other.stanza.id == stanza.id:
                return self.remove(other)
        return None

    def take_like(self, sent: Sent) -> Sent | None:
        """Remove and return the stanza that most likely corresponds: between the same two
        addresses, preferably with the same type and id. Replies to different stanzas never do.
        """
        near = self._by_address.get(sent.address)
        if near is None:
            return None
        fitting = [one for one in near.values() if sent.uid is None or one.uid is None]
        for names in (("type", "id"), ("id",), ()):
            for other in fitting:
                if all(other.meaning.get(name) == sent.meaning.get(name) for name in names):
                    return self.remove(other)
        return None
