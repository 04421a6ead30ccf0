"""The last hour of each component, in minutes: the difference of its meter from one look to the
next. The code that counts does not notice; a look costs about as much as a dozen additions.

Invariant: `_looks` of a domain are in order, a minute apart, at most `MINUTES` of them.
"""

from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

import trio
from attrs import frozen

from bridge.telemetry.meter import BOUNDS_S, Meter

MINUTES: Final = 60
STEP_S: Final = 60.0


@frozen
class Minute:
    """The counts of a minute; the last minute has only `seconds` so far. `latency` has the number
    of POSTs in each class of `BOUNDS_S`.
    """

    seconds: float
    received: int
    sent: int
    posted: int
    failed: int
    latency: tuple[int, ...]

    def latency_s(self, part: float) -> float | None:
        """Estimate the duration that `part` (0 to 1) of the POSTs did not exceed; None if there
        were none. Above the last bound, it is that bound.
        """
        return quantile(self.latency, part)


def quantile(counts: tuple[int, ...], part: float) -> float | None:
    """Estimate a quantile from classes, as if each were evenly filled."""
    total = sum(counts)
    if not total:
        return None
    rank, below, lower = part * total, 0, 0.0
    for count, upper in zip(counts, BOUNDS_S, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return BOUNDS_S[-1]


@frozen
class _Look:
    at: float
    received: int = 0
    sent: int = 0
    posted: int = 0
    failed: int = 0
    latency: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)

    @classmethod
    def at_meter(cls, meter: Meter, at: float) -> "_Look":
        return cls(
            at,
            sum(meter.received.values()),
            sum(meter.sent.values()),
            sum(meter.posts.values()),
            meter.failed_posts,
            tuple(meter.latency.counts),
        )

    def since(self, before: "_Look") -> Minute:
        if self.received < before.received or self.posted < before.posted:
            before = _Look(before.at)  # another meter: the component was absent meanwhile
        return Minute(
            self.at - before.at,
            self.received - before.received,
            self.sent - before.sent,
            self.posted - before.posted,
            self.failed - before.failed,
            tuple(now - then for now, then in zip(self.latency, before.latency, strict=True)),
        )


class History:
    """The last hour of all components. `run` is its service."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._looks: dict[str, deque[_Look]] = {}
        self._last: float | None = None

    async def run(self, meters: Callable[[], Mapping[str, Meter]]) -> None:
        """Look at all meters, now and every minute, until cancelled."""
        due = self._now()
        while True:
            self.look(meters())
            due = max(due + STEP_S, self._now())  # after a suspend: only once
            await trio.sleep_until(due)

    def look(self, meters: Mapping[str, Meter]) -> None:
        """Look at all meters, and begin another minute."""
        now = self._now()
        self._looks = {domain: self._looks_of(domain) for domain in meters}
        for domain, meter in meters.items():
            self._looks[domain].append(_Look.at_meter(meter, now))
        self._last = now

    def minutes(self, domain: str, meter: Meter) -> list[Minute]:
        """Return the minutes so far, at most `MINUTES`. The last one is not over."""
        looks = [*self._looks_of(domain), _Look.at_meter(meter, self._now())]
        return [later.since(before) for before, later in pairwise(looks)]

    def _looks_of(self, domain: str) -> deque[_Look]:
        """Return the looks at a component. A new one counts as 0 at the last look."""
        begun = self._now() if self._last is None else self._last
        empty = () if self._last is None else (_Look(begun),)
        return self._looks.get(domain) or deque(empty, maxlen=MINUTES)
