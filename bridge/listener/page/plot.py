"""Small plots of an hour, as SVG in the page. They contain only shapes, stretched to the available
width; the text stands beside them. The colours are in the style sheet.
"""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from bridge.listener.monitor.history import MINUTES
from bridge.listener.page.html import join, tag

_STEP: Final = 4
_WIDTH: Final = MINUTES * _STEP
_HEIGHT: Final = 48
_LEAST: Final = 1.5  # any positive value is visible


def bars(label: str, heights: Sequence[float], marked: Sequence[float], top: float) -> Markup:
    """Return a bar for each value, the last one rightmost. At its foot, a part of each is `marked`.
    `top` is the value that is as high as the plot.
    """
    shapes: list[Markup] = []
    for number, (height, part) in enumerate(zip(heights, marked, strict=True)):
        x = _WIDTH - (len(heights) - number) * _STEP
        shapes += _bar("bar", x, height, top)
        shapes += _bar("bar bad", x, part, top)
    return _plot(label, shapes)


def _bar(kind: str, x: int, value: float, top: float) -> list[Markup]:
    if value <= 0:
        return []
    height = max(_y(value, top), _LEAST)
    return [tag("rect", class_=kind, x=x, y=_n(_HEIGHT - height), width=3, height=_n(height))]


def lines(label: str, series: Sequence[tuple[str, Sequence[float | None]]], top: float) -> Markup:
    """Return a line for each series (its class, its values), with a gap where a value is None."""
    return _plot(label, [shape for kind, values in series for shape in _line(kind, values, top)])


def _line(kind: str, values: Sequence[float | None], top: float) -> list[Markup]:
    shapes: list[Markup] = []
    points: list[str] = []
    start = _WIDTH - len(values) * _STEP + _STEP / 2
    for number, value in enumerate([*values, None]):
        if value is not None:
            points.append(f"{start + number * _STEP:g},{_n(_HEIGHT - _y(value, top))}")
        elif points:
            alone = len(points) == 1  # a line needs two points
            look = f"line {kind} point" if alone else f"line {kind}"
            shapes.append(
                tag("polyline", class_=look, points=" ".join(points * 2 if alone else points))
            )
            points = []
    return shapes


def _plot(label: str, shapes: Sequence[Markup]) -> Markup:
    middle = _HEIGHT / 2
    grid = [tag("line", class_="grid", x1=0, x2=_WIDTH, y1=_n(y), y2=_n(y)) for y in (0.5, middle)]
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


def _y(value: float, top: float) -> float:
    return min(value / top, 1.0) * (_HEIGHT - 2) if top > 0 else 0.0


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
