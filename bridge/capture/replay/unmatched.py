"""Stanzas of one side, then or now, that have no partner on the other side yet."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from attrs import define

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
    is_late: bool = False
    """Whether it was sent because the bridge stopped."""

    @property
    def address(self) -> tuple[str, str | None, str | None]:
        return (self.stanza.kind, self.stanza.from_, self.stanza.to)


class Unmatched:
    """Invariant: a stanza is in all three indices, or in none."""

    def __init__(self) -> None:
        self._all: dict[int, Sent] = {}
        self._by_meaning: dict[Element, dict[int, Sent]] = {}
        self._by_address: dict[tuple[str, str | None, str | None], dict[int, Sent]] = {}
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
        name = hash(meaning)
        if name not in self._history:
            self._history[name] = connection
            if len(self._history) > HISTORY:
                self._history.popitem(last=False)
        return Sent(meaning, stanza, at, connection, self._count)

    def is_copy(self, sent: Sent) -> bool:
        """Return whether a stanza with its meaning was sent on an earlier connection (S35)."""
        return self._history.get(hash(sent.meaning), sent.connection) < sent.connection

    def add(self, sent: Sent) -> None:
        self._all[sent.number] = sent
        self._by_meaning.setdefault(sent.meaning, {})[sent.number] = sent
        self._by_address.setdefault(sent.address, {})[sent.number] = sent

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
        return sent

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

    def take_like(self, sent: Sent) -> Sent | None:
        """Remove and return the stanza that most likely corresponds: between the same two
        addresses, preferably with the same type and id.
        """
        near = self._by_address.get(sent.address)
        if near is None:
            return None
        for names in (("type", "id"), ("id",), ()):
            for other in near.values():
                if all(other.meaning.get(name) == sent.meaning.get(name) for name in names):
                    return self.remove(other)
        return None
