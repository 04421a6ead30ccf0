"""What one component has done so far, as plain numbers: for the status, the metrics and the page.

Whoever does something adds to its number here, at the cost of an addition: nothing is formatted,
no clock is read, and what a stranger sends makes no new key. Numbers only grow, from 0 at the
start of the process; a gauge (what is in flight, what waits) is asked of who knows it instead.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import Final, Literal, get_args

from attrs import define, field, frozen

KINDS: Final = ("message", "presence", "iq")
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the classes of a histogram; one more class is above them."""

PostResult = Literal["replied", "no_reply", "rejected", "unreachable", "timed_out", "bad_reply"]
"""What came of a POST."""
End = (
    PostResult
    | Literal["expired", "failed", "stopped"]  # without a POST, by a bug, at the drain
    | Literal["answered", "taken", "ignored"]  # by the bridge, by who waited for it, by nobody
    | Literal["refused", "forbidden", "invalid", "misdirected"]  # at the door
    | Literal["overloaded", "unkept"]  # by a full queue, by a journal that fails
)
"""What became of a stanza that came in."""
Limit = Literal["size", "depth", "rate", "conversations"]
"""What a stanza was refused for."""
StreamEndKind = Literal["fault", "closed", "lost"]
"""How a stream ended: by an error, by its end tag, or without a word."""

SUCCESSES: Final[frozenset[PostResult]] = frozenset({"replied", "no_reply"})


@define
class Counts:
    """What was done so far, for the log, the status and the demo's summary."""

    received: int = 0
    posted: int = 0
    replied: int = 0
    answered_by_bridge: int = 0
    errors_sent: int = 0
    untold: int = 0


@define
class Histogram:
    """How long something took, by class: `counts` has one more than `BOUNDS_S`."""

    counts: list[int] = field(factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


@frozen
class StreamFault:
    """An error that a stream ended with: whose word it was, and its condition."""

    by_server: bool
    condition: str


@define
class Meter:
    """The numbers of one component. What is by a key has only the keys that there were."""

    counts: Counts = field(factory=Counts)
    received: dict[str, int] = field(factory=lambda: dict.fromkeys(KINDS, 0))
    """Stanzas that came in, refused ones among them, by kind."""
    written: defaultdict[bytes, int] = field(factory=lambda: defaultdict(int))
    """Stanzas that were written to a stream, again ones among them, by the letter of their kind."""
    ends: dict[tuple[str, End], int] = field(factory=dict)
    """What became of stanzas, by kind."""
    posts: dict[PostResult, int] = field(factory=lambda: dict.fromkeys(get_args(PostResult), 0))
    retries: int = 0
    latency: Histogram = field(factory=Histogram)
    """From the beginning of a POST to the end of its answer, or of the patience with it."""
    posted_bytes: int = 0
    replied_bytes: int = 0
    refused: dict[Limit, int] = field(factory=dict)
    streams: int = 0
    """How often the component was attached."""
    stops: dict[StreamEndKind, int] = field(factory=lambda: {"fault": 0, "closed": 0, "lost": 0})
    """How attached streams ended."""
    attempts_failed: int = 0
    """Attempts to attach that did not get there."""
    faults: dict[StreamFault, int] = field(factory=dict)
    read_bytes: int = 0
    """Of streams that are over; `written_bytes` too."""
    written_bytes: int = 0

    def end(self, kind: str, end: End) -> None:
        """Count what became of a stanza."""
        key = (kind, end)
        self.ends[key] = self.ends.get(key, 0) + 1

    def refuse(self, limit: Limit) -> None:
        """Count a stanza that is over a limit."""
        self.refused[limit] = self.refused.get(limit, 0) + 1

    def fault(self, fault: StreamFault) -> None:
        """Count an error that a stream ended with."""
        self.faults[fault] = self.faults.get(fault, 0) + 1

    @property
    def sent(self) -> dict[str, int]:
        """`written` by kind."""
        return {kind: self.written[kind[:1].encode()] for kind in KINDS}

    @property
    def failed_posts(self) -> int:
        """POSTs that were not accepted."""
        return sum(count for name, count in self.posts.items() if name not in SUCCESSES)


def limit_of(text: str) -> Limit:
    """Give the limit that the stream, or dispatch, names in words (`128 levels`)."""
    return "depth" if text.endswith("levels") else "size"
