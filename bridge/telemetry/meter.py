"""The counters of one component, as plain numbers: for the status, the metrics and the page.

Counting costs one addition: nothing is formatted, no clock is read, and input from strangers makes
no new key. Numbers only grow, from 0 at the start of the process. Gauges (deliveries in flight or
waiting) are read from their owners instead.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import Final, Literal, get_args

from attrs import define, field, frozen

KINDS: Final = ("message", "presence", "iq")
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the buckets of a histogram; one more bucket is above them."""
COMMIT_BOUNDS_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""The same for commits of the journal, which are shorter than POSTs."""

PostResult = Literal["replied", "no_reply", "rejected", "unreachable", "timed_out", "bad_reply"]
"""The result of a POST."""
End = (
    PostResult
    | Literal["expired", "failed", "stopped"]  # without a POST; by a bug; while draining
    | Literal["answered", "taken", "ignored"]  # by the bridge; by a waiting caller; by nobody
    | Literal["refused", "forbidden", "invalid", "misdirected"]  # at admission
    | Literal["overloaded", "unkept"]  # by a full queue; by a failing journal
)
"""The end of an incoming stanza."""
Limit = Literal["size", "depth", "rate", "conversations"]
"""The limit for which a stanza was refused."""
StreamedEnd = Literal["whole", "broken", "failed"]
"""How a streamed reply ended: complete, after a part of it, or before anything was said."""
StreamEndKind = Literal["fault", "closed", "lost"]
"""How a stream ended: by an error, by its end tag, or without either."""

SUCCESSES: Final[frozenset[PostResult]] = frozenset({"replied", "no_reply"})


@define
class Counts:
    """Totals so far, for the log, the status and the demo's summary."""

    received: int = 0
    posted: int = 0
    replied: int = 0
    answered_by_bridge: int = 0
    errors_sent: int = 0
    untold: int = 0


@define
class Histogram:
    """Durations by bucket: `counts` has one entry more than `bounds_s`."""

    bounds_s: tuple[float, ...] = BOUNDS_S
    counts: list[int] = field(init=False)
    total_s: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds_s) + 1)

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.total_s += seconds


@frozen
class StreamFault:
    """An error that ended a stream: who reported it, and its condition."""

    by_server: bool
    condition: str


@define
class Meter:
    """The counters of one component. Most dictionaries hold only keys that have occurred."""

    counts: Counts = field(factory=Counts)
    received: dict[str, int] = field(factory=lambda: dict.fromkeys(KINDS, 0))
    """Incoming stanzas by kind, including refused ones."""
    written: defaultdict[bytes, int] = field(factory=lambda: defaultdict(int))
    """Stanzas written to a stream, including repeats, by the first letter of their kind."""
    ends: dict[tuple[str, End], int] = field(factory=dict)
    """Ends of stanzas, by kind and end."""
    posts: dict[PostResult, int] = field(factory=lambda: dict.fromkeys(get_args(PostResult), 0))
    retries: int = 0
    latency: Histogram = field(factory=Histogram)
    """From the start of a POST to the end of its response, or to its time-out."""
    posted_bytes: int = 0
    replied_bytes: int = 0
    streamed: dict[StreamedEnd, int] = field(
        factory=lambda: dict.fromkeys(get_args(StreamedEnd), 0)
    )
    """Ends of streamed replies."""
    replaced: int = 0
    """Characters and control sequences in texts of the endpoint that XML cannot carry."""
    receipts: int = 0
    """Receipts and markers that the bridge has sent."""
    deferred: int = 0
    """Replies that the endpoint has promised for later."""
    deferred_replies: int = 0
    """Bodies that it has POSTed to a `reply_url`, and that were accepted."""
    refused: dict[Limit, int] = field(factory=dict)
    streams: int = 0
    """How often the component was attached."""
    stops: dict[StreamEndKind, int] = field(factory=lambda: {"fault": 0, "closed": 0, "lost": 0})
    """How attached streams ended."""
    attempts_failed: int = 0
    """Failed attempts to attach."""
    faults: dict[StreamFault, int] = field(factory=dict)
    read_bytes: int = 0
    """Of streams that have ended; so is `written_bytes`."""
    written_bytes: int = 0

    def end(self, kind: str, end: End) -> None:
        """Count the end of a stanza."""
        key = (kind, end)
        self.ends[key] = self.ends.get(key, 0) + 1

    def refuse(self, limit: Limit) -> None:
        """Count a stanza that is over a limit."""
        self.refused[limit] = self.refused.get(limit, 0) + 1

    def fault(self, fault: StreamFault) -> None:
        """Count an error that ended a stream."""
        self.faults[fault] = self.faults.get(fault, 0) + 1

    @property
    def sent(self) -> dict[str, int]:
        """`written` by kind."""
        return {kind: self.written[kind[:1].encode()] for kind in KINDS}

    @property
    def failed_posts(self) -> int:
        """The number of POSTs that failed."""
        return sum(count for name, count in self.posts.items() if name not in SUCCESSES)


def limit_of(text: str) -> Limit:
    """Return the limit that a text of the stream or of dispatch means (`128 levels`)."""
    return "depth" if text.endswith("levels") else "size"
