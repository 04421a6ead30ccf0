"""Tables for a person: one per load, and one that answers the questions the benchmark is for."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.bench.summary import BOUND, PEERS, Spread, Summaries, Summary
from tests.bench.trial import Load

NONE: Final = "-"
PROCESSES: Final = {
    "contestant": "CPU ms:\nits own",
    "prosody": "Prosody",
    "nginx": "nginx",
    "load": "load",
    "postgres": "Post-\ngreSQL",
}
"""The names of `Trial.cpu_ms`, and their headings."""
Cell = Callable[[Summaries, str], str]


def show(summaries: Summaries, console: Console) -> None:
    """Print all tables."""
    for load in summaries.loads:
        console.print(load_table(summaries, load))
    console.print(answers(summaries))


def load_table(summaries: Summaries, load: Load) -> Table:
    """All contestants under one load."""
    rows = summaries.under(load)
    rounds = max(row.rounds for row in rows)
    table = _table(f"{load}: medians of {rounds}" if rounds > 1 else str(load))
    table.add_column("contestant", no_wrap=True)
    peers = [peer for peer in PEERS if peer in summaries.contestants]
    processes = [name for name in PROCESSES if any(name in row.cpu_ms for row in rows)]
    for name in (
        *("replies/s", "min-max", *(f"times\n{peer}".replace("_", "_\n") for peer in peers)),
        *("of pos-\nsible", "p50\nms", "p99\nms", *(PROCESSES[name] for name in processes)),
        *("peak\nMB", "trouble"),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        style = "red" if _trouble(row) else ""
        figures = _figures(row, peers, processes)
        table.add_row(row.contestant, *figures, _trouble(row) or NONE, style=style)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)


def _figures(row: Summary, peers: Sequence[str], processes: Sequence[str]) -> list[str]:
    cpu_ms = [row.cpu_ms.get(name) for name in processes]
    return [
        _rate(row),
        f"{row.rate.low:,.0f}-{row.rate.high:,.0f}",
        *(_ratio(row.ratio.get(peer)) for peer in peers),
        _share(row),
        _median(row),
        _number(row, row.p99_ms.median, 1),
        *(NONE if ms is None else _number(row, ms, 3) for ms in cpu_ms),
        f"{row.peak_mb:.1f}",
    ]


def _trouble(row: Summary) -> str:
    counts = {"errors": row.errors, "lost": row.lost, "stray": row.stray}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def answers(summaries: Summaries) -> Table:
    """A row per question, a column per contestant; what was not measured is left out."""
    table = _table("What it comes to")
    table.add_column("question")
    names = summaries.contestants
    for name in names:
        table.add_column(name, justify="right")
    for question, cell in QUESTIONS:
        cells = [cell(summaries, name) for name in names]
        if set(cells) != {NONE}:
            table.add_row(question, *cells)
    return table


def _figure(endpoint: str, window: int, figure: Callable[[Summary], str]) -> Cell:
    def cell(summaries: Summaries, contestant: str) -> str:
        found = summaries.find(contestant, endpoint, window)
        return NONE if found is None else figure(found)

    return cell


def _against(
    figure: Callable[[Summary], float], one: tuple[str, int], base: tuple[str, int]
) -> Cell:
    def cell(summaries: Summaries, contestant: str) -> str:
        found = summaries.find(contestant, *one), summaries.find(contestant, *base)
        if found[0] is None or found[1] is None or not figure(found[1]):
            return NONE
        return f"{figure(found[0]) / figure(found[1]):.2f} x"

    return cell


def _idle(figure: Callable[[Summary], str]) -> Cell:
    """What does not depend on the load, told from the first."""

    def cell(summaries: Summaries, contestant: str) -> str:
        return next(figure(one) for one in summaries.all() if one.contestant == contestant)

    return cell


def _rate(one: Summary) -> str:
    return f"{one.rate.median:,.0f}"


def _ratio(spread: Spread | None) -> str:
    return NONE if spread is None else f"{spread.median:.2f}"


def _to(peer: str) -> Callable[[Summary], str]:
    return lambda one: _ratio(one.ratio.get(peer))


def _latency_to(peer: str) -> Callable[[Summary], str]:
    return lambda one: _ratio(one.latency_ratio.get(peer))


def _share(one: Summary) -> str:
    return NONE if one.share is None or one.contestant == BOUND else f"{one.share:.0%}"


def _median(one: Summary) -> str:
    return _number(one, one.median_ms.median, 2)


def _number(one: Summary, value: float, digits: int) -> str:
    """What has no meaning where there was no reply."""
    return f"{value:.{digits}f}" if one.rate.median else NONE


def _throughput(window: int) -> list[tuple[str, Cell]]:
    return [
        (f"replies/s, fast endpoint, W={window}", _figure("fast", window, _rate)),
        *((f"  times {peer}", _figure("fast", window, _to(peer))) for peer in PEERS),
    ]


QUESTIONS: Final[list[tuple[str, Cell]]] = [
    *_throughput(64),
    *_throughput(256),
    ("p50 ms, fast endpoint, W=1", _figure("fast", 1, _median)),
    *((f"  times {peer}'s", _figure("fast", 1, _latency_to(peer))) for peer in PEERS),
    ("replies/s, 100 ms endpoint, W=256 (2,560 possible)", _figure("slow", 256, _rate)),
    ("  share of what is possible, or of echo's", _figure("slow", 256, _share)),
    ("replies/s, 100 ms endpoint, W=1000 (10,000 possible)", _figure("slow", 1000, _rate)),
    ("  share of what is possible, or of echo's", _figure("slow", 1000, _share)),
    ("p50 ms of the 99 %, 1 % after 2 s, W=256", _figure("mixed", 256, _median)),
    (
        "  against the fast endpoint",
        _against(lambda one: one.median_ms.median, ("mixed", 256), ("fast", 256)),
    ),
    (
        "CPU ms per stanza, its own (a module: Prosody's), W=64",
        _figure("fast", 64, lambda one: f"{one.own_cpu_ms:.3f}"),
    ),
    (
        "  at W=1000 against W=64",
        _against(lambda one: one.own_cpu_ms, ("fast", 1000), ("fast", 64)),
    ),
    (
        "peak memory above idle, fast endpoint, W=256, MB",
        _figure("fast", 256, lambda one: f"{one.rise_mb:.1f}"),
    ),
    ("idle memory, MB", _idle(lambda one: f"{one.idle_mb:.1f}")),
    ("from start to attached, s", _idle(lambda one: f"{one.start_s:.2f}")),
]
