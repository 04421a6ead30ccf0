"""Accepted stanzas that are not settled yet.

A task closes a stanza here before it settles it. `close` succeeds once per stanza, so an iq is
never answered twice. `InFlight` also knows the next deadline. No tasks, no clock.

Requests and other stanzas are kept apart: each kind has one budget, so its stanzas arrive in the
order of their deadlines. Only a changed clock or budget, or a restart, can break that order.
"""

import math
from collections.abc import Iterator

from attrs import define, field

from bridge.journal.delivery import Delivery


class InFlight:
    """The open (accepted, not settled) stanzas of one component."""

    def __init__(self) -> None:
        self._requests = _ByDeadline()
        self._others = _ByDeadline()

    def __len__(self) -> int:
        return len(self._requests.open) + len(self._others.open)

    def __contains__(self, uid: str) -> bool:
        return uid in self._requests.open or uid in self._others.open

    def request(self, uid: str) -> Delivery | None:
        """Return an open iq of type get or set."""
        return self._requests.open.get(uid)

    def find(self, uid: str) -> Delivery | None:
        """Return an open stanza."""
        return self._requests.open.get(uid) or self._others.open.get(uid)

    @property
    def requests(self) -> list[Delivery]:
        """The open iqs of type get and set."""
        return list(self._requests.open.values())

    @property
    def all(self) -> list[Delivery]:
        return [*self._requests.open.values(), *self._others.open.values()]

    @property
    def oldest(self) -> float | None:
        """When the oldest open stanza was received (Unix time, s); None if none is open. Stanzas
        that were added again out of order may be missed.
        """
        first = [
            next(iter(book.values())) for book in (self._requests.open, self._others.open) if book
        ]
        return min((one.received for one in first), default=None)

    def open(self, delivery: Delivery) -> None:
        """Add an accepted stanza."""
        book = self._requests if delivery.stanza.is_request else self._others
        assert delivery.uid not in book.open, "a stanza is accepted once"
        book.open[delivery.uid] = delivery
        if delivery.deadline >= book.latest:
            book.latest = delivery.deadline
        else:
            book.is_sorted = False

    def close(self, delivery: Delivery) -> bool:
        """Remove a stanza; return whether it was open."""
        book = self._requests if delivery.stanza.is_request else self._others
        return book.open.pop(delivery.uid, None) is not None

    def expired(self, now: float, *, requests_only: bool) -> list[Delivery]:
        """Return the open stanzas whose deadline has passed."""
        found = list(self._requests.until(now))
        return found if requests_only else [*found, *self._others.until(now)]

    def next_deadline(self, now: float, *, requests_only: bool) -> float:
        """Return the earliest deadline after `now`; infinite if there is none."""
        books = (self._requests,) if requests_only else (self._requests, self._others)
        return min(book.next_deadline(now) for book in books)


@define
class _ByDeadline:
    """Stanzas by uid, in the order of their deadlines if `is_sorted`."""

    open: dict[str, Delivery] = field(factory=dict)
    is_sorted: bool = True
    latest: float = -math.inf  # no deadline is later

    def until(self, now: float) -> Iterator[Delivery]:
        self._sort()
        for delivery in self.open.values():
            if delivery.deadline > now:
                return
            yield delivery

    def next_deadline(self, now: float) -> float:
        self._sort()
        later = (one.deadline for one in self.open.values() if one.deadline > now)
        return next(later, math.inf)

    def _sort(self) -> None:
        if not self.is_sorted:
            self.open = dict(sorted(self.open.items(), key=lambda item: item[1].deadline))
            self.is_sorted = True
