"""Medians over rounds, and ratios of contestants within a round, which noise of the machine hits
less than the figures themselves.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from tests.bench.trial import Load, Trial

PEERS: Final = ("mod_component_http", "slixmpp")
BOUND: Final = "echo"


class Spread(msgspec.Struct, frozen=True):
    """A median and the range around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        given = list(values)
        return cls(statistics.median(given), min(given), max(given))


class Summary(msgspec.Struct, frozen=True):
    """All rounds of one contestant under one load; see `Trial` for units.

    `own_cpu_ms` is what the contestant itself costs, Prosody where it lives in it; `ratio` is of
    replies/s, and `latency_ratio` of the median latency, each to the peer in the same round;
    `share` is of the replies/s that were possible: by the endpoint's delay, or, where it was
    measured and is less, by what Prosody routes for `echo`; none for a mixed endpoint. `errors`,
    `lost` and `stray` are sums.
    """

    contestant: str
    load: Load
    rounds: int
    rate: Spread
    median_ms: Spread
    p99_ms: Spread
    first_ms: Spread
    cpu_ms: dict[str, float]
    own_cpu_ms: float
    idle_mb: float
    peak_mb: float
    rise_mb: float
    start_s: float
    ratio: dict[str, Spread]
    latency_ratio: dict[str, Spread]
    share: float | None
    late: int
    errors: int
    lost: int
    stray: int


class Summaries:
    """The summaries of a run, by contestant and load."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        cells: dict[tuple[str, Load], list[Trial]] = defaultdict(list)
        for trial in trials:
            cells[trial.contestant, trial.load].append(trial)
        self._by_key = {key: _summary(key, cells) for key in cells}

    @property
    def contestants(self) -> list[str]:
        """Their names, in the order of the first round."""
        return list(dict.fromkeys(contestant for contestant, _ in self._by_key))

    @property
    def loads(self) -> list[Load]:
        return list(dict.fromkeys(load for _, load in self._by_key))

    def all(self) -> list[Summary]:
        return list(self._by_key.values())

    def under(self, load: Load) -> list[Summary]:
        """All contestants under that load."""
        return [one for one in self.all() if one.load == load]

    def find(self, contestant: str, endpoint: str, window: int) -> Summary | None:
        """That of the contestant, warm or else cold."""
        for is_cold in (False, True):
            if one := self._by_key.get((contestant, Load(endpoint, window, is_cold))):
                return one
        return None


def _summary(key: tuple[str, Load], cells: dict[tuple[str, Load], list[Trial]]) -> Summary:
    contestant, load = key
    trials = cells[key]

    def median(value: Callable[[Trial], float]) -> float:
        return statistics.median(map(value, trials))

    def ratios(value: Callable[[Trial], float]) -> dict[str, Spread]:
        found = {}
        for peer in PEERS:
            theirs = {trial.round: value(trial) for trial in cells.get((peer, load), ())}
            pairs = [(value(trial), theirs.get(trial.round, 0.0)) for trial in trials]
            if both := [mine / other for mine, other in pairs if other]:
                found[peer] = Spread.of(both)
        return found

    cpu_ms = {
        name: statistics.median(trial.cpu_ms[name] for trial in trials) for name in trials[0].cpu_ms
    }
    routed = [trial.rate for trial in cells.get((BOUND, load), ())]
    possible = min(load.possible, statistics.median(routed) if routed else math.inf)
    has_share = math.isfinite(possible) and load.endpoint != "mixed"
    return Summary(
        contestant=contestant,
        load=load,
        rounds=len(trials),
        rate=Spread.of(trial.rate for trial in trials),
        median_ms=Spread.of(trial.result.median_ms for trial in trials),
        p99_ms=Spread.of(trial.result.p99_ms for trial in trials),
        first_ms=Spread.of(trial.result.first_ms for trial in trials),
        cpu_ms=cpu_ms,
        own_cpu_ms=cpu_ms.get("contestant", cpu_ms["prosody"]),
        idle_mb=median(lambda trial: trial.idle_mb),
        peak_mb=median(lambda trial: trial.peak_mb),
        rise_mb=median(lambda trial: trial.peak_mb - trial.idle_mb),
        start_s=median(lambda trial: trial.start_s),
        ratio=ratios(lambda trial: trial.rate),
        latency_ratio=ratios(lambda trial: trial.result.median_ms),
        share=median(lambda trial: trial.rate) / possible if has_share else None,
        late=sum(trial.result.late for trial in trials),
        errors=sum(trial.result.errors for trial in trials),
        lost=sum(trial.result.lost for trial in trials),
        stray=sum(trial.result.stray for trial in trials),
    )
