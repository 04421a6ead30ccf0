"""The result of a replay: numbers, latencies and differences, for people or as JSON.

With captured answers, nothing here depends on the machine or on the time of day.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from attrs import field, frozen
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from bridge.capture.replay.difference import Difference
from bridge.capture.replay.tally import PERCENTILES, Latencies, Tally
from bridge.telemetry.text import duration, printable
from xmppstream.stanza import KINDS

_BAR: Final = 40
_HISTOGRAM_FROM: Final = 20


@frozen
class Comparison:
    """The result of `--expect`, over all stories."""

    stanzas: int = 0
    posts: int = 0
    count: int = 0
    left_out: Counter[str] = field(factory=Counter)
    shown: Sequence[Difference] = ()

    def plus(self, other: "Comparison") -> "Comparison":
        return Comparison(
            self.stanzas + other.stanzas,
            self.posts + other.posts,
            self.count + other.count,
            self.left_out + other.left_out,
            (*self.shown, *other.shown),
        )


def show(console: Console, tally: Tally, comparison: Comparison | None, limit: int) -> None:
    """Print the result, with at most `limit` differences."""
    if comparison is not None and comparison.count:
        for difference in comparison.shown[:limit]:
            console.print(difference.to_text(), soft_wrap=True)
        rest = comparison.count - len(comparison.shown[:limit])
        if rest:
            console.print(f"… and {rest} more (--max-differences shows more)", soft_wrap=True)
        console.print()
    console.print(_table(tally))
    if tally.latencies.count:
        console.print(_latencies(tally.latencies))
    for note in tally.notes:
        console.print(Text(printable(note), style="yellow"), soft_wrap=True)
    if comparison is not None:
        console.print(_verdict(comparison), soft_wrap=True)


def to_json(tally: Tally, comparison: Comparison | None, seconds: float | None) -> dict[str, Any]:
    """Return the result for scripts; `seconds` is the duration of the replay, if meaningful."""
    latencies = tally.latencies
    found: dict[str, Any] = {
        "stanzas": _by_kind(tally.stanzas),
        "connections": tally.connections,
        "posted": _by_kind(tally.posted),
        "attempts": tally.attempts,
        "replies": tally.replies,
        "sent": _by_kind(tally.sent),
        "errors": dict(sorted(tally.errors.items())),
        "failed_attempts": dict(sorted(tally.failed_attempts.items())),
        "unfinished": tally.unfinished,
        "latency_s": {f"p{one:g}": round(latencies.percentile(one), 6) for one in PERCENTILES}
        | {"max": round(latencies.max_s, 6)},
        "log": dict(sorted(tally.said.items())),
        "notes": tally.notes,
    }
    if seconds is not None:
        found["seconds"] = round(seconds, 3)
    if comparison is not None:
        found["compared"] = {"stanzas": comparison.stanzas, "posts": comparison.posts}
        found["left_out"] = dict(sorted(comparison.left_out.items()))
        found["differences"] = comparison.count
        found["first_differences"] = [one.text for one in comparison.shown]
    return found


def _by_kind(counts: Counter[str]) -> dict[str, int]:
    return {kind: counts[kind] for kind in KINDS}


def _table(tally: Tally) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    rows: list[tuple[str, int, str]] = [
        ("stanzas from the server", tally.stanzas.total(), _parts(tally.stanzas)),
        ("of which POSTed", tally.posted.total(), _parts(tally.posted)),
        ("replies to these", tally.replies, ""),
        ("stanzas sent to the server", tally.sent.total(), _parts(tally.sent)),
        ("POSTs that failed in the end", tally.errors.total(), _parts(tally.errors)),
    ]
    if tally.connections != 1:
        rows.insert(0, ("connections", tally.connections, ""))
    if tally.failed_attempts:
        failed = tally.failed_attempts
        rows.append(("attempts that failed", failed.total(), _parts(failed)))
    if tally.unfinished:
        rows.append(("unfinished at the end", tally.unfinished, ""))
    if tally.said:
        rows.append(("warnings and errors logged", tally.said.total(), _parts(tally.said)))
    for name, count, parts in rows:
        table.add_row(name, str(count), Text(printable(parts), style="dim"))
    return table


def _parts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)


def _latencies(latencies: Latencies) -> RenderableType:
    names = [(f"p{one:g}", latencies.percentile(one)) for one in PERCENTILES]
    names.append(("max", latencies.max_s))
    head = Text("latency of a POST  ")
    head.append("  ".join(f"{name} {duration(value)}" for name, value in names), style="bold")
    if latencies.count < _HISTOGRAM_FROM:
        return head
    rows = list(latencies.histogram())
    highest = max(count for _, count in rows)
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for upper_s, count in rows:
        bar = "█" * round(_BAR * count / highest) or ("▏" if count else "")
        table.add_row(f"≤ {duration(upper_s)}", Text(bar, style="cyan"), str(count))
    return Group(head, table)


def _verdict(comparison: Comparison) -> Text:
    what = f"{comparison.stanzas} stanzas and {comparison.posts} POSTs match"
    left = "".join(
        f"; {count} not compared: {why}" for why, count in sorted(comparison.left_out.items())
    )
    if comparison.count == 0:
        return Text(f"no difference: {what}{left}", style="green")
    noun = "difference" if comparison.count == 1 else "differences"
    return Text(f"{comparison.count} {noun}; {what}{left}", style="red")


_COUNTED: Final = ("warning", "error")
_EXPECTED: Final = ("detached", "cannot attach")  # the capture says when connections end
_STYLES: Final = {"warning": "yellow", "error": "red"}


class ReplayLog:
    """The last processor of a logger. With `prints_all`, everything above debug is printed;
    otherwise, with `prints_errors`, the first error of each kind.
    """

    def __init__(
        self, tally: Tally, console: Console, *, prints_all: bool, prints_errors: bool
    ) -> None:
        self.now: Callable[[], float] = lambda: 0.0
        self._tally = tally
        self._console = console
        self._prints_all = prints_all
        self._prints_errors = prints_errors

    def logger(self) -> FilteringBoundLogger:
        """Return a logger that ends here."""
        bound: FilteringBoundLogger = structlog.wrap_logger(
            None,
            processors=[structlog.processors.add_log_level, self],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        ).bind()
        return bound

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        level, what = str(event.pop("level")), str(event.pop("event"))
        is_first = what not in self._tally.said
        if level in _COUNTED and what not in _EXPECTED:
            self._tally.said[what] += 1
        if self._prints_all or (self._prints_errors and level == "error" and is_first):
            self._print(level, what, event)
        raise structlog.DropEvent

    def _print(self, level: str, what: str, event: EventDict) -> None:
        event.pop("exc_info", None)
        event.pop("server", None)
        values = "  ".join(f"{name}={value}" for name, value in event.items() if value != "")
        line = Text(f"{self.now():.3f} s  ")
        line.append(f"{level}: {what}", style=_STYLES.get(level, ""))
        line.append(f"  {printable(values)}")
        self._console.print(line, soft_wrap=True)
