"""Matches the stanzas of a replay with their captured exchanges.

A stanza claims its exchanges when it is accepted, by the content of its POST. From then on it has
its captured id, so that stanzas that refer to it later (a room that reflects its message, an error
that quotes it) find it again. Exchanges that are never claimed were POSTed then, but are not now.
"""

import math
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from attrs import define, evolve, field

from bridge.capture.exchange import HttpExchange
from bridge.capture.replay.meaning import Posted, read_posted, xml_meaning
from bridge.capture.replay.selection import Selection
from bridge.journal.delivery import Delivery

AHEAD_S: Final = 120.0
_UNCLAIMED_S: Final = 300.0


@define
class Told:
    """The captured exchanges of one stanza: attempts by number, `start` in the story's time."""

    uid: str
    posted: Posted
    at: float
    attempts: dict[int, HttpExchange] = field(factory=dict)
    is_from_before: bool = False

    @property
    def ends(self) -> float:
        return max(one.start + one.duration_s for one in self.attempts.values())


class Reader(Protocol):
    """Reads further in a capture."""

    read_until: float

    def read_ahead(self, until: float) -> bool:
        """Read one more record if it may be before `until`; return whether one was read."""
        ...


def _ignore(_: Told) -> None:
    pass


class Recorded:
    """The exchanges of the selected stanzas of a story.

    Invariant: a `Told` is in `_known` until it is forgotten, and in `_waiting` and `_open` until it
    is claimed. One from before is in `_known` and in `_open`, until it expires.
    """

    def __init__(
        self,
        start: datetime,
        selection: Selection,
        unclaimed: Callable[[Told], None] = _ignore,
    ) -> None:
        self._start = start
        self._selection = selection
        self._begins = selection.since.after(start) if selection.since else 0.0
        self._unclaimed = unclaimed
        self._known: dict[str, Told] = {}
        self._waiting: dict[tuple[str | None, ...], deque[Told]] = {}
        self._open: dict[str, Told] = {}  # in the order of the capture
        self._reader: Reader | None = None
        self.longest_s = 0.0
        """Longest time from receiving a stanza to the end of an attempt, in s."""
        self.from_before_until = -math.inf
        """End of the last exchange of a stanza from before the capture, or its replayed part."""

    def bind(self, reader: Reader) -> None:
        """Set the reader that reads more of the capture."""
        self._reader = reader

    @property
    def known_until(self) -> float:
        """Time up to which the capture has been read, in s."""
        return self._reader.read_until if self._reader is not None else 0.0

    def _read_on(self, until: float) -> bool:
        return self._reader is not None and self._reader.read_ahead(until)

    def hear(self, exchange: HttpExchange, start: float) -> None:
        """Add an exchange; its file begins at `start` of the story."""
        exchange = evolve(exchange, start=start + exchange.start)
        told = self._known.get(exchange.uid)
        if told is not None:
            told.attempts[exchange.attempt] = exchange
            if told.is_from_before:
                self.from_before_until = max(self.from_before_until, told.ends)
            return
        posted = read_posted(exchange.request)
        if not self._selection.takes_parts(posted.kind or "", posted.sender, posted.receiver):
            return
        self._note_longest(posted, exchange)
        told = Told(exchange.uid, posted, exchange.start, {exchange.attempt: exchange})
        told.is_from_before = self._is_from_before(told)
        if told.is_from_before:
            self.from_before_until = max(self.from_before_until, told.ends)
        elif exchange.attempt > 1:  # its stanza has already ended
            return
        self._known[told.uid] = told
        self._open[told.uid] = told
        if not told.is_from_before:
            self._waiting.setdefault(posted.key, deque()).append(told)

    def _note_longest(self, posted: Posted, exchange: HttpExchange) -> None:
        came = self._seconds_of(posted)
        if came is None:
            return
        self.longest_s = max(self.longest_s, exchange.start + exchange.duration_s - came)

    def _seconds_of(self, posted: Posted) -> float | None:
        """Return when a stanza was received, in the story's time; None if that is unknown."""
        try:
            received = datetime.fromisoformat(posted.received)
        except ValueError:
            return None
        return (received - self._start).total_seconds() if received.tzinfo is not None else None

    def _is_from_before(self, told: Told) -> bool:
        """Return whether a stanza came in before the story, or before its replayed part."""
        received = self._seconds_of(told.posted)
        # `received` is in milliseconds: a stanza of the first millisecond is not from before.
        return received is not None and received < self._begins - 0.001

    def claim(self, delivery: Delivery, now: float) -> Told | None:
        """Return the captured exchanges of a stanza that is to be POSTed; None if it has none."""
        stanza = delivery.stanza
        key = (stanza.kind, stanza.from_, stanza.to, stanza.id, stanza.type)
        while True:
            waiting = self._waiting.get(key)
            found = None if waiting is None else _same(waiting, delivery.xml)
            if found is not None or not self._read_on(now + AHEAD_S):
                break
        if waiting is None:
            return None
        if found is None and stanza.id is None:
            return None
        found = found or waiting[0]
        self._take(found)
        return found

    def _take(self, told: Told) -> None:
        del self._open[told.uid]
        waiting = self._waiting[told.posted.key]
        waiting.remove(told)
        if not waiting:
            del self._waiting[told.posted.key]

    def find(self, uid: str, attempt: int, now: float) -> HttpExchange | None:
        """Return an attempt of a stanza that has claimed its exchanges; None if there is none."""
        told = self._known.get(uid)
        if told is None:
            return None
        while attempt not in told.attempts and self._read_on(now + AHEAD_S):
            pass
        return told.attempts.get(attempt)

    def forget(self, uid: str) -> None:
        """Forget a stanza that has ended."""
        self._known.pop(uid, None)

    def expire(self, now: float = math.inf) -> None:
        """Close exchanges not claimed until long after they were made; without `now`, all."""
        while self._open:
            told = next(iter(self._open.values()))
            if told.at >= now - _UNCLAIMED_S:
                return
            self._known.pop(told.uid, None)
            if told.is_from_before:
                del self._open[told.uid]
            else:
                self._take(told)
                self._unclaimed(told)


def _same(waiting: deque[Told], xml: str) -> Told | None:
    for told in waiting:
        if told.posted.stanza == xml:
            return told
    meaning = None
    for told in waiting:
        meaning = meaning or xml_meaning(xml)
        if xml_meaning(told.posted.stanza) == meaning:
            return told
    return None
