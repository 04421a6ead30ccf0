"""The stanzas that are owed an end, each exactly one: an iq gets one answer, whatever happens.

Whoever ends a stanza closes it here first, and only the one who could close it may answer. Beside
that it knows whose budget ends next. No tasks, no clock.

Requests and others are each in the order of their deadlines, as they come, since each has one
budget; only a clock that was set or a restart can bring one out of order.
"""

import math
from collections.abc import Iterator

from attrs import define, field

from bridge.journal.delivery import Delivery


class InFlight:
    """The open stanzas of one component."""

    def __init__(self) -> None:
        self._requests = _ByDeadline()
        self._others = _ByDeadline()

    def __len__(self) -> int:
        return len(self._requests.open) + len(self._others.open)

    def __contains__(self, uid: str) -> bool:
        return uid in self._requests.open or uid in self._others.open

    @property
    def requests(self) -> list[Delivery]:
        """The open iq gets and sets."""
        return list(self._requests.open.values())

    @property
    def all(self) -> list[Delivery]:
        return [*self._requests.open.values(), *self._others.open.values()]

    @property
    def oldest(self) -> float | None:
        """When the first of the open ones was received (Unix time, s), but for those that came
        again out of order.
        """
        first = [
            next(iter(book.values())) for book in (self._requests.open, self._others.open) if book
        ]
        return min((one.received for one in first), default=None)

    def open(self, delivery: Delivery) -> None:
        """Take a stanza that was accepted."""
        book = self._requests if delivery.stanza.is_request else self._others
        assert delivery.uid not in book.open, "a stanza is accepted once"
        book.open[delivery.uid] = delivery
        if delivery.deadline >= book.latest:
            book.latest = delivery.deadline
        else:
            book.is_sorted = False

    def close(self, delivery: Delivery) -> bool:
        """Tell whether the stanza was open; from now on it is not."""
        book = self._requests if delivery.stanza.is_request else self._others
        return book.open.pop(delivery.uid, None) is not None

    def expired(self, now: float, *, requests_only: bool) -> list[Delivery]:
        """Give what is open beyond its deadline."""
        found = list(self._requests.until(now))
        return found if requests_only else [*found, *self._others.until(now)]

    def next_deadline(self, now: float, *, requests_only: bool) -> float:
        """Give the earliest deadline after `now`; infinite where there is none."""
        books = (self._requests,) if requests_only else (self._requests, self._others)
        return min(book.next_deadline(now) for book in books)


@define
class _ByDeadline:
    """Stanzas by uid. Those that `is_sorted` says are in the order of their deadlines."""

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
