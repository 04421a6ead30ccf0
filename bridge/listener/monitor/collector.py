"""The metrics of one scrape: the counters and the current state of the components.

Every label has a bounded set of values: components as configured (or left in the journal), kinds,
outcomes, conditions, limits, routes, statuses. Text that a stranger has chosen is never a label.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import Final, get_args

from attrs import frozen
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.daemon.status import ComponentSnapshot, RoomState
from bridge.journal.request import Holding
from bridge.telemetry.meter import Histogram

PREFIX: Final = "xmpp_bridge"


@frozen
class Scrape:
    """The data of one scrape. `kept` is by component; None if the journal cannot be read."""

    snapshots: tuple[ComponentSnapshot, ...] = ()
    kept: Mapping[str, Holding] | None = None
    has_journal: bool = False
    now: float = 0.0
    requests: Mapping[tuple[str, int], int] = MappingProxyType({})
    """The requests of the listener, by the template of the route and the status."""
    commits: Histogram | None = None
    """The commits of the journal."""


class ScrapeCollector(Collector):
    """Yields the metrics of one scrape."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Metric]:
        scrape = self._scrape
        yield InfoMetricFamily(PREFIX, "The version of xmpp-bridge.", {"version": __version__})
        yield from _stanzas(scrape.snapshots)
        yield from _posts(scrape.snapshots)
        yield from _streams(scrape.snapshots)
        yield from _waiting(scrape)
        yield _rooms(scrape.snapshots)
        yield _requests(scrape.requests)
        yield from _leases(scrape.snapshots)
        if scrape.has_journal:
            yield from _journal(scrape.kept)
            yield _commits(scrape.commits)


Row = tuple[tuple[str, ...], float]


def _counter(name: str, help: str, labels: tuple[str, ...], rows: Iterable[Row]) -> Metric:
    metric = CounterMetricFamily(f"{PREFIX}_{name}", help, labels=("component", *labels))
    for values, value in rows:
        metric.add_metric(values, value)
    return metric


def _gauge(name: str, help: str, rows: Iterable[Row]) -> Metric:
    metric = GaugeMetricFamily(f"{PREFIX}_{name}", help, labels=("component",))
    for values, value in rows:
        metric.add_metric(values, value)
    return metric


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, int]], float]:
    """Return the buckets as Prometheus counts them, each with all below it, and the sum."""
    bounds = [*(str(bound) for bound in histogram.bounds_s), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total_s


def _each(snapshots: Iterable[ComponentSnapshot]) -> Iterator[tuple[str, ComponentSnapshot]]:
    return ((one.status.domain, one) for one in snapshots)


def _stanzas(snapshots: tuple[ComponentSnapshot, ...]) -> Iterator[Metric]:
    yield _counter(
        "stanzas_received",
        "Stanzas that came in, including refused ones.",
        ("kind",),
        (
            ((name, kind), n)
            for name, one in _each(snapshots)
            for kind, n in one.meter.received.items()
        ),
    )
    yield _counter(
        "stanzas_sent",
        "Stanzas written to the stream; one that is written again on another stream counts again.",
        ("kind",),
        (((name, kind), n) for name, one in _each(snapshots) for kind, n in one.meter.sent.items()),
    )
    yield _counter(
        "stanzas_ended",
        "Stanzas that came in and are settled, by outcome.",
        ("kind", "outcome"),
        (
            ((name, kind, end), n)
            for name, one in _each(snapshots)
            for (kind, end), n in sorted(one.meter.ends.items())
        ),
    )
    yield _counter(
        "stanzas_refused",
        "Stanzas refused because they were over a limit.",
        ("limit",),
        (
            ((name, limit), n)
            for name, one in _each(snapshots)
            for limit, n in one.meter.refused.items()
        ),
    )
    yield _counter(
        "own_answers",
        "Stanzas that the bridge itself sent: errors for refused ones, answers to ping and disco.",
        (),
        (((name,), one.meter.counts.answered_by_bridge) for name, one in _each(snapshots)),
    )
    yield _counter(
        "errors_sent",
        "Stanza errors sent for failures.",
        (),
        (((name,), one.meter.counts.errors_sent) for name, one in _each(snapshots)),
    )
    yield _counter(
        "senders_untold",
        "Failures of which the sender could not, or must not, be told.",
        (),
        (((name,), one.meter.counts.untold) for name, one in _each(snapshots)),
    )


def _posts(snapshots: tuple[ComponentSnapshot, ...]) -> Iterator[Metric]:
    yield _counter(
        "posts",
        "POSTs that have ended, by outcome.",
        ("outcome",),
        (((name, end), n) for name, one in _each(snapshots) for end, n in one.meter.posts.items()),
    )
    yield _counter(
        "post_retries",
        "POSTs that were not the first for their stanza.",
        (),
        (((name,), one.meter.retries) for name, one in _each(snapshots)),
    )
    latency = HistogramMetricFamily(
        f"{PREFIX}_post_duration_seconds",
        "Time from the start of a POST to the end of its answer or its time-out.",
        labels=("component",),
    )
    for name, one in _each(snapshots):
        latency.add_metric((name,), *_buckets(one.meter.latency))
    yield latency
    yield _counter(
        "post_sent_bytes",
        "Bytes of the bodies that were POSTed, without headers.",
        (),
        (((name,), one.meter.posted_bytes) for name, one in _each(snapshots)),
    )
    yield _counter(
        "post_received_bytes",
        "Bytes of the bodies of replies, without headers.",
        (),
        (((name,), one.meter.replied_bytes) for name, one in _each(snapshots)),
    )
    yield _counter(
        "replies_streamed",
        "Streamed replies that ended, by outcome.",
        ("outcome",),
        (
            ((name, end), count)
            for name, one in _each(snapshots)
            for end, count in one.meter.streamed.items()
        ),
    )
    yield _gauge(
        "replies_streaming",
        "Streamed replies that are coming now.",
        (((name,), one.streaming) for name, one in _each(snapshots)),
    )
    yield _gauge(
        "subscribers",
        "Contacts that see the presence of the component's addresses.",
        (((name,), one.subscribers) for name, one in _each(snapshots)),
    )
    yield _counter(
        "receipts_sent",
        "Receipts and markers that the bridge sent to those who asked for them.",
        (),
        (((name,), one.meter.receipts) for name, one in _each(snapshots)),
    )
    yield _counter(
        "characters_replaced",
        "Characters and control sequences replaced in texts, as XML cannot carry them.",
        (),
        (((name,), one.meter.replaced) for name, one in _each(snapshots)),
    )
    yield _counter(
        "replies_promised",
        "POSTs that the endpoint answered by the promise of a later reply.",
        (),
        (((name,), one.meter.deferred) for name, one in _each(snapshots)),
    )
    yield _counter(
        "deferred_replies",
        "Requests with replies that the endpoint sent to a reply_url, and that were accepted.",
        (),
        (((name,), one.meter.deferred_replies) for name, one in _each(snapshots)),
    )
    yield _gauge(
        "posts_in_flight",
        "POSTs that are running now.",
        (((name,), one.status.in_flight) for name, one in _each(snapshots)),
    )
    yield _gauge(
        "endpoint_up",
        "0 while the endpoint counts as down, otherwise 1.",
        (((name,), one.status.endpoint.state == "up") for name, one in _each(snapshots)),
    )
    yield _gauge(
        "pollers_idle",
        "Requests that wait for an event; only of components that are pulled.",
        (
            ((name,), one.status.endpoint.pollers)
            for name, one in _each(snapshots)
            if one.status.endpoint.pollers is not None
        ),
    )


def _streams(snapshots: tuple[ComponentSnapshot, ...]) -> Iterator[Metric]:
    yield _gauge(
        "stream_attached",
        "1 while the component is attached to its server, otherwise 0.",
        (((name,), one.status.link.state == "attached") for name, one in _each(snapshots)),
    )
    yield _counter(
        "stream_attachments",
        "How often the component was attached.",
        (),
        (((name,), one.meter.streams) for name, one in _each(snapshots)),
    )
    yield _counter(
        "stream_reconnects",
        "How often the component was attached again.",
        (),
        (((name,), max(one.meter.streams - 1, 0)) for name, one in _each(snapshots)),
    )
    yield _counter(
        "stream_attachments_failed",
        "Attempts to attach that failed.",
        (),
        (((name,), one.meter.attempts_failed) for name, one in _each(snapshots)),
    )
    yield _counter(
        "stream_ends",
        "Attached streams that ended: by an error, by the server's end tag, or by disconnection.",
        ("end",),
        (((name, end), n) for name, one in _each(snapshots) for end, n in one.meter.stops.items()),
    )
    yield _counter(
        "stream_faults",
        "Stream errors: origin server if the server sent it, bridge if its XML was unreadable.",
        ("condition", "origin"),
        (
            ((name, fault.condition, "server" if fault.by_server else "bridge"), n)
            for name, one in _each(snapshots)
            for fault, n in one.meter.faults.items()
        ),
    )
    yield _counter(
        "stream_received_bytes",
        "Bytes read from the server on attached streams.",
        (),
        (((name,), one.read_bytes) for name, one in _each(snapshots)),
    )
    yield _counter(
        "stream_sent_bytes",
        "Bytes written to the server on attached streams.",
        (),
        (((name,), one.written_bytes) for name, one in _each(snapshots)),
    )


def _waiting(scrape: Scrape) -> Iterator[Metric]:
    yield _gauge(
        "stanzas_waiting",
        "Stanzas in memory that wait for their turn or for another attempt.",
        (((name,), one.status.waiting) for name, one in _each(scrape.snapshots)),
    )
    yield _gauge(
        "stanzas_oldest_age_seconds",
        "Age of the oldest stanza that is not settled, or 0.",
        (((name,), _age(name, one, scrape)) for name, one in _each(scrape.snapshots)),
    )


def _rooms(snapshots: tuple[ComponentSnapshot, ...]) -> Metric:
    rooms = GaugeMetricFamily(
        f"{PREFIX}_rooms", "Rooms that the bridge keeps, by state.", labels=("component", "state")
    )
    for name, one in _each(snapshots):
        counts = Counter(room.state for room in one.status.rooms)
        for state in get_args(RoomState):
            rooms.add_metric((name, state), counts[state])
    return rooms


def _requests(requests: Mapping[tuple[str, int], int]) -> Metric:
    metric = CounterMetricFamily(
        f"{PREFIX}_listener_requests",
        "Requests to the listener, by the template of the route and the status of the answer.",
        labels=("route", "status"),
    )
    for (route, status), count in sorted(requests.items()):
        metric.add_metric((route, str(status)), count)
    return metric


def _age(name: str, snapshot: ComponentSnapshot, scrape: Scrape) -> float:
    kept = (scrape.kept or {}).get(name)
    olds = [one for one in (snapshot.oldest, kept.oldest if kept else None) if one is not None]
    return max(scrape.now - min(olds), 0.0) if olds else 0.0


def _journal(kept: Mapping[str, Holding] | None) -> Iterator[Metric]:
    up = GaugeMetricFamily(f"{PREFIX}_journal_up", "0 while the journal does not answer, else 1.")
    up.add_metric((), kept is not None)
    yield up
    rows = (kept or {}).items()
    yield _gauge(
        "journal_pending_stanzas",
        "Stanzas in the journal that are accepted and not settled.",
        (((name,), one.pending) for name, one in rows),
    )
    yield _gauge(
        "journal_pending_bytes",
        "Bytes of the XML of the pending stanzas in the journal.",
        (((name,), one.pending_bytes) for name, one in rows),
    )
    yield _gauge(
        "journal_unconfirmed_replies",
        "Replies in the journal that the server has not confirmed yet.",
        (((name,), one.replies) for name, one in rows),
    )
    yield _gauge(
        "dead_letters",
        "Dead letters in the journal, including replies that were given up.",
        (((name,), one.dead) for name, one in rows),
    )


def _commits(commits: Histogram | None) -> Metric:
    metric = HistogramMetricFamily(
        f"{PREFIX}_journal_commit_seconds",
        "Time that the journal took to commit a batch of accepted, settled or confirmed stanzas.",
    )
    if commits is not None:
        metric.add_metric((), *_buckets(commits))
    return metric


def _leases(snapshots: tuple[ComponentSnapshot, ...]) -> Iterator[Metric]:
    yield _gauge(
        "node_leases",
        "1 if this daemon is to attach as the component; 0 if another node of its cluster is.",
        (((name,), one.status.link.state != "standby") for name, one in _each(snapshots)),
    )
    yield _gauge(
        "partitions_owned",
        "Of the 256 partitions of the component's conversations, those of this daemon.",
        (((name,), one.partitions) for name, one in _each(snapshots)),
    )
