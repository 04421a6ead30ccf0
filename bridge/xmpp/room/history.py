"""What is history, decided by its place: between our self-presence and the room's subject.

A `<delay/>` alone proves nothing (S36): live messages of gateways and of clients that were offline
have one, and history need not. So each join begins a phase. Everything in it is history, and the
room's subject ends it (XEP-0045 §7.1).

Some servers send no subject. There a message without `<delay/>` is live, but this is known only
once the subject can not come any more. So such messages are held until the room has answered a
question that was asked behind the self-presence (`answered`), or for `LONGEST_S`. Then the phase
is over with the first of them.
"""

import math
from collections import OrderedDict
from typing import Final, Generic, Literal, TypeVar

from attrs import define, field

from xmppstream import Stanza
from xmppstream.names import COMPONENT, DELAY, expanded

LONGEST_S: Final = 10.0
_HELD: Final = 100
_LIMIT: Final = 10_000
_DELAYS: Final = (expanded(DELAY, "delay"), expanded("jabber:x:delay", "x"))
_SUBJECT: Final = expanded(COMPONENT, "subject")
_BODY: Final = expanded(COMPONENT, "body")

T = TypeVar("T")
Place = Literal["live", "history", "subject", "unclear"]
Key = tuple[str, str]
"""A room and an address of the component."""


def is_delayed(message: Stanza) -> bool:
    """Return whether a message has a `<delay/>`, or the older form of it."""
    return any(message.element.find(name) is not None for name in _DELAYS)


def is_subject(message: Stanza) -> bool:
    """Return whether a groupchat message is a room's subject (XEP-0045 §8.1)."""
    element = message.element
    return element.find(_SUBJECT) is not None and element.find(_BODY) is None


@define
class _Phase(Generic[T]):
    """The time after a join in which history may come."""

    ends_at: float
    answered: bool
    held: list[T] = field(factory=list)


class Histories(Generic[T]):
    """The phases of all rooms, and what they hold. No clock: times are the caller's, and never go
    back, so the phases are in the order of their ends.
    """

    def __init__(self) -> None:
        self._phases: OrderedDict[Key, _Phase[T]] = OrderedDict()
        self.dropped = 0
        """How many held messages have turned out to be history."""

    def begin(self, key: Key, now: float, *, asked: bool) -> None:
        """Begin a phase: our self-presence has come. `asked`: the room has been asked something, so
        `answered` will be called. Otherwise nothing is held, and the first message without a delay
        is live.
        """
        self.end(key)
        self._phases[key] = _Phase(now + LONGEST_S, answered=not asked)
        if len(self._phases) > _LIMIT:  # strangers can begin some
            self.end(next(iter(self._phases)))

    def end(self, key: Key) -> None:
        """End a phase, if there is one, and forget what it holds."""
        phase = self._phases.pop(key, None)
        if phase is not None:
            self.dropped += len(phase.held)

    def place(self, key: Key, message: Stanza, now: float) -> Place:
        """Return where a groupchat message stands. If that is unclear, `hold` it."""
        phase = self._phases.get(key) if self._phases else None
        if phase is None:
            return "live"
        if is_subject(message):
            self.end(key)
            return "subject"
        if is_delayed(message):
            return "history" if now < phase.ends_at else "live"
        if phase.answered or now >= phase.ends_at:
            del self._phases[key]
            return "live"
        return "unclear" if len(phase.held) < _HELD else "history"

    def hold(self, key: Key, one: T) -> None:
        """Hold a message whose place is unclear."""
        self._phases[key].held.append(one)

    def answered(self, key: Key) -> list[T]:
        """Note that everything a join brings has come. Return what was held: it is live."""
        phase = self._phases.get(key)
        if phase is None:
            return []
        phase.answered = True
        if phase.held:  # the first message without a delay has ended it
            del self._phases[key]
        return phase.held

    def due(self, now: float) -> list[T]:
        """End the phases that have lasted long enough; return what they held: it is live."""
        found: list[T] = []
        while self._phases and self.next_due <= now:
            found += self._phases.popitem(last=False)[1].held
        return found

    @property
    def next_due(self) -> float:
        """When the first phase ends by itself; infinite if there is none."""
        return next((one.ends_at for one in self._phases.values()), math.inf)
