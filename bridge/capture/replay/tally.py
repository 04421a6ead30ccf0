"""The statistics of a replay: counts, and durations of POSTs, in bounded memory.

Durations are counted in buckets of a tenth of a power of two, from 1 µs, so that a percentile is
accurate to within 7 %. Nothing here depends on the order of events.
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
    """A histogram of durations."""

    count: int = 0
    max_s: float = 0.0
    _buckets: Counter[int] = field(factory=Counter)

    def add(self, duration_s: float) -> None:
        self.count += 1
        self.max_s = max(self.max_s, duration_s)
        ratio = max(duration_s, _SMALLEST_S) / _SMALLEST_S
        self._buckets[math.ceil(_PER_OCTAVE * math.log2(ratio))] += 1

    def percentile(self, percent: float) -> float:
        """Return the duration within which `percent` of all lie, in s; 0 if there are none."""
        rank, seen = math.ceil(self.count * percent / 100), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(_upper_s(bucket), self.max_s)
        return 0.0

    def histogram(self, rows: int = 16) -> Iterator[tuple[float, int]]:
        """Yield at most `rows` ranges, each as its upper end in s and the number within it."""
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
    """The numbers of the summary."""

    stanzas: Counter[str] = field(factory=Counter)
    """Stanzas that the server sent, by kind."""
    posted: Counter[str] = field(factory=Counter)
    """Stanzas that were accepted to be POSTed, by kind."""
    sent: Counter[str] = field(factory=Counter)
    """Stanzas that the bridge sent, by kind; barriers do not count."""
    replies: int = 0
    attempts: int = 0
    errors: Counter[str] = field(factory=Counter)
    """Stanzas whose POST failed in the end, by reason."""
    failed_attempts: Counter[str] = field(factory=Counter)
    latencies: Latencies = field(factory=Latencies)
    """Durations of all attempts."""
    said: Counter[str] = field(factory=Counter)
    """Warnings and errors that the bridge would have logged, by event."""
    notes: list[str] = field(factory=list)
    unfinished: int = 0
    connections: int = 0

    def outcome(self, outcome: Outcome, duration_s: float) -> None:
        """Count an attempt."""
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
    """Return the kind that a failure is counted as: the beginning of its reason."""
    return reason.partition(":")[0]


def _upper_s(bucket: int) -> float:
    return float(_SMALLEST_S * 2 ** (bucket / _PER_OCTAVE))
