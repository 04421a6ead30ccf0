"""What a replay has done, in numbers: counts, and how long POSTs took, in bounded memory.

Durations are counted in buckets of a tenth of a power of two, from 1 µs, so that a percentile is
right to within 7 %. Nothing here depends on the order in which things happened.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from bridge.webhook.outcome import Outcome, Rejected, TimedOut, Unreachable

PERCENTILES: Final = (50.0, 90.0, 99.0)
_PER_OCTAVE: Final = 10
_SMALLEST_S: Final = 1e-6


@define
class Latencies:
    """How long something took, many times."""

    count: int = 0
    max_s: float = 0.0
    _buckets: Counter[int] = field(factory=Counter)

    def add(self, duration_s: float) -> None:
        self.count += 1
        self.max_s = max(self.max_s, duration_s)
        ratio = max(duration_s, _SMALLEST_S) / _SMALLEST_S
        self._buckets[math.ceil(_PER_OCTAVE * math.log2(ratio))] += 1

    def percentile(self, percent: float) -> float:
        """Give the duration within which so many lie, in s; 0 where there are none."""
        rank, seen = math.ceil(self.count * percent / 100), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(_upper_s(bucket), self.max_s)
        return 0.0

    def histogram(self, rows: int = 16) -> Iterator[tuple[float, int]]:
        """Give at most so many ranges, each by its upper end in s, and how many lie in it."""
        if not self._buckets:
            return
        first, last = min(self._buckets), max(self._buckets)
        width = max(math.ceil((last - first + 1) / rows), 1)
        for start in range(first, last + 1, width):
            inside = range(start, min(start + width, last + 1))
            upper = min(_upper_s(inside[-1]), self.max_s)
            yield upper, sum(self._buckets[one] for one in inside)


@define
class Tally:
    """All that the summary tells."""

    stanzas: Counter[str] = field(factory=Counter)
    """What the server sent, by kind."""
    posted: Counter[str] = field(factory=Counter)
    """What was accepted to be POSTed, by kind."""
    sent: Counter[str] = field(factory=Counter)
    """What we sent, by kind; barriers do not count."""
    replies: int = 0
    attempts: int = 0
    errors: Counter[str] = field(factory=Counter)
    """Stanzas whose POST came to no good end, by what came of it."""
    failed_attempts: Counter[str] = field(factory=Counter)
    latencies: Latencies = field(factory=Latencies)
    """Of each attempt."""
    said: Counter[str] = field(factory=Counter)
    """What the bridge would have logged, by event, warnings and errors."""
    notes: list[str] = field(factory=list)
    unfinished: int = 0
    connections: int = 0

    def outcome(self, outcome: Outcome, duration_s: float) -> None:
        """Take note of an attempt."""
        self.attempts += 1
        self.latencies.add(duration_s)
        match outcome:
            case Rejected(status=status):
                self.failed_attempts[f"status {status}"] += 1
            case Unreachable():
                self.failed_attempts["unreachable"] += 1
            case TimedOut():
                self.failed_attempts["no answer in time"] += 1


def kind_of(reason: str) -> str:
    """Give what a failure is counted as: the beginning of its reason."""
    return reason.partition(":")[0]


def _upper_s(bucket: int) -> float:
    return float(_SMALLEST_S * 2 ** (bucket / _PER_OCTAVE))
