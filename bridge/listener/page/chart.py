"""The charts of a component: its stanzas, its POSTs and their durations, in the last hour or, with
a younger daemon, since its start.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

from attrs import frozen
from markupsafe import Markup

from bridge.listener.monitor.history import MINUTES, STEP_S, Minute, quantile
from bridge.listener.page import plot
from bridge.listener.page.html import tag
from bridge.telemetry.text import age, duration

_LATELY: Final = 5  # minutes over which the durations shown as numbers are computed
_LEAST_S: Final = 0.01  # the least top of a scale of durations
_UNIT_S: Final = 1e-3


@frozen
class Axis:
    """The time that charts show: `slots` minutes, of which the first begins at `start`."""

    slots: int
    start: str

    @classmethod
    def of(cls, count: int, up_s: float) -> "Axis":
        """Return the axis for `count` minutes of a daemon that was started `up_s` ago."""
        if count >= MINUTES or up_s >= MINUTES * STEP_S:
            return cls(MINUTES, "1 h ago")
        slots = min(max(ceil(up_s / STEP_S), count, 1), MINUTES)
        return cls(slots, f"start, {age(up_s)} ago")


def charts(minutes: Sequence[Minute], up_s: float) -> Markup:
    """Return the charts of a component, of a daemon that was started `up_s` ago."""
    axis = Axis.of(len(minutes), up_s)
    shown = (_stanzas(minutes, axis), _posts(minutes, axis), _times(minutes, axis))
    return tag("div", *shown, class_="plots")


def _stanzas(minutes: Sequence[Minute], axis: Axis) -> Markup:
    received = rates(minutes, [one.received for one in minutes])
    sent = rates(minutes, [one.sent for one in minutes])
    scale = plot.Scale.of([*received, *sent], least=1, unit=1)
    most = _number(max([*received, *sent, 0]))
    into, out = _last(received), _last(sent)
    label = f"Stanzas per minute: {into} in, {out} out; {_told(most, scale, _number)}"
    drawn = plot.lines(label, [("in", received), ("out", sent)], scale, axis.slots)
    legend = [_key("in", f"{into} in"), _key("out", f"{out} out")]
    return _figure("Stanzas per minute", legend, drawn, axis, _told(most, scale, _number))


def _posts(minutes: Sequence[Minute], axis: Axis) -> Markup:
    posted = rates(minutes, [one.posted for one in minutes])
    failed = rates(minutes, [one.failed for one in minutes])
    scale = plot.Scale.of(posted, least=1, unit=1)
    told = _told(_number(max([*posted, 0])), scale, _number)
    rate, bad = _last(posted), sum(one.failed for one in minutes)
    label = f"POSTs per minute: {rate}; {bad:,} failed in the time shown; {told}"
    drawn = plot.bars(label, posted, failed, scale, axis.slots)
    legend = [_key("bar", rate), _key("bad" if bad else "none", f"{bad:,} failed")]
    return _figure("POSTs per minute", legend, drawn, axis, told)


def _times(minutes: Sequence[Minute], axis: Axis) -> Markup:
    medians = [one.latency_s(0.5) for one in minutes]
    slow = [one.latency_s(0.95) for one in minutes]
    values = [one for one in slow if one is not None]
    scale = plot.Scale.of(values, least=_LEAST_S, unit=_UNIT_S)
    told = _told(_duration(max(values, default=None)), scale, duration)
    median, late = (_duration(_lately(minutes, part)) for part in (0.5, 0.95))
    label = f"POST duration: median {median}, p95 {late}; {told}"
    drawn = plot.lines(label, [("slow", slow), ("median", medians)], scale, axis.slots)
    legend = [_key("median", f"median {median}"), _key("slow", f"p95 {late}")]
    return _figure("POST duration", legend, drawn, axis, told)


def _told(most: str, scale: plot.Scale, written: Callable[[float], str]) -> str:
    kind = "scale" if scale.unit is None else "log scale"
    return f"max {most}, {kind} to {written(scale.top)}"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    return "—" if seconds is None else duration(seconds)


def _figure(title: str, legend: Sequence[Markup], drawn: Markup, axis: Axis, told: str) -> Markup:
    caption = tag("figcaption", tag("span", title), tag("span", legend, class_="legend"))
    foot = tag(
        "div",
        tag("span", axis.start),
        tag("span", told, class_="told"),
        tag("span", "now"),
        class_="axis",
        aria_hidden="true",
    )
    return tag("figure", caption, drawn, foot)


def _key(kind: str, label: str) -> Markup:
    return tag("span", tag("i", class_=f"key {kind}"), label)


def rates(minutes: Sequence[Minute], counts: Sequence[int]) -> list[float]:
    """Return the counts per minute. The last minute is not over, so its value is that of the last
    60 s, estimated as if the minute before it were evenly filled.
    """
    found: list[float] = list(counts)
    if len(found) > 1:
        found[-1] += found[-2] * max(1 - minutes[-1].seconds / STEP_S, 0.0)
    return found


def _last(found: Sequence[float]) -> str:
    return f"{found[-1]:,.0f}" if found else "0"


def _lately(minutes: Sequence[Minute], part: float) -> float | None:
    last = [one.latency for one in minutes[-_LATELY:]]
    return quantile(tuple(map(sum, zip(*last, strict=True))), part) if last else None
