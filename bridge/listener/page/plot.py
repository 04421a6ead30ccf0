"""Small plots of at most an hour, as SVG in the page. They contain only shapes, stretched to the
available width; the text stands beside them. The colours are in the style sheet.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, Self

from attrs import frozen
from markupsafe import Markup

from bridge.listener.page.html import join, tag

_WIDTH: Final = 240
_HEIGHT: Final = 48
_LEAST: Final = 1.5  # any positive value is visible
_BAR: Final = 0.75  # of the width of a slot
_BAR_MOST: Final = 12.0
_PEAK: Final = 10  # times the median: a linear scale would flatten all but the peak


@frozen
class Scale:
    """The scale of a plot, from 0 to `top`. It is logarithmic if it has a `unit`: the value up to
    which it is about linear.
    """

    top: float
    unit: float | None = None

    @classmethod
    def of(cls, values: Sequence[float], least: float, unit: float) -> Self:
        """Return a scale for these values, to `least` or more: a logarithmic one if a peak would
        flatten the others.
        """
        top = nice(max([*values, least]))
        some = [one for one in values if one > 0]
        return cls(top, unit if some and max(some) > _PEAK * median(some) else None)

    def height(self, value: float) -> float:
        """Return the height of a value, in the units of the plot."""
        value = max(min(value, self.top), 0.0)
        return self._part(value) * (_HEIGHT - 2) if self.top > 0 else 0.0

    @property
    def grid(self) -> list[float]:
        """The values at which a line is drawn: the powers of ten, or else half and all of `top`."""
        if self.unit is None:
            return [self.top / 2, self.top]
        powers, value = [self.top], nice(self.unit)
        while value < self.top:
            powers.append(value)
            value *= 10
        return powers

    def _part(self, value: float) -> float:
        if self.unit is None:
            return value / self.top
        return math.log1p(value / self.unit) / math.log1p(self.top / self.unit)


def bars(
    label: str, heights: Sequence[float], marked: Sequence[float], scale: Scale, slots: int
) -> Markup:
    """Return a bar for each value, the last one rightmost of `slots`. At its foot, a part of each
    is `marked`.
    """
    shapes: list[Markup] = []
    step = _WIDTH / slots
    for number, (height, part) in enumerate(zip(heights, marked, strict=True)):
        x = _WIDTH - (len(heights) - number) * step
        shapes += _bar("bar", x, step, scale.height(height))
        shapes += _bar("bar bad", x, step, scale.height(part))
    return _plot(label, shapes, scale)


def _bar(kind: str, x: float, step: float, height: float) -> list[Markup]:
    if height <= 0:
        return []
    height, width = max(height, _LEAST), min(step * _BAR, _BAR_MOST)
    x += (step - width) / 2
    y = _n(_HEIGHT - height)
    return [tag("rect", class_=kind, x=f"{x:g}", y=y, width=f"{width:g}", height=_n(height))]


def lines(
    label: str, series: Sequence[tuple[str, Sequence[float | None]]], scale: Scale, slots: int
) -> Markup:
    """Return a line for each series (its class, its values), with a gap where a value is None. The
    last value is rightmost of `slots`.
    """
    shapes = [shape for kind, values in series for shape in _line(kind, values, scale, slots)]
    return _plot(label, shapes, scale)


def _line(kind: str, values: Sequence[float | None], scale: Scale, slots: int) -> list[Markup]:
    shapes: list[Markup] = []
    points: list[str] = []
    step = _WIDTH / slots
    start = _WIDTH - len(values) * step + step / 2
    for number, value in enumerate([*values, None]):
        if value is not None:
            points.append(f"{start + number * step:g},{_n(_HEIGHT - scale.height(value))}")
        elif points:
            alone = len(points) == 1  # a line needs two points
            look = f"line {kind} point" if alone else f"line {kind}"
            shapes.append(
                tag("polyline", class_=look, points=" ".join(points * 2 if alone else points))
            )
            points = []
    return shapes


def _plot(label: str, shapes: Sequence[Markup], scale: Scale) -> Markup:
    heights = [max(_HEIGHT - scale.height(value), 0.5) for value in scale.grid]
    grid = [tag("line", class_="grid", x1=0, x2=_WIDTH, y1=_n(y), y2=_n(y)) for y in heights]
    base = tag("line", class_="base", x1=0, x2=_WIDTH, y1=_n(_HEIGHT - 0.5), y2=_n(_HEIGHT - 0.5))
    return tag(
        "svg",
        tag("title", label),
        join(*grid, *shapes, base),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def _n(value: float) -> str:
    return f"{value:.1f}"


def nice(value: float) -> float:
    """Return the next number of the form 1, 2 or 5 times a power of ten, for the top of a plot."""
    step = 1.0
    while step * 10 <= value:
        step *= 10
    while step > value and step > 1e-3:
        step /= 10
    return next((step * one for one in (1, 2, 5, 10) if step * one >= value), value)
