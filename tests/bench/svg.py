"""Panels of a figure as SVG, written by hand: lines over categories, and horizontal bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 520
HEIGHT: Final = 320
LEFT: Final = 64
RIGHT: Final = 20
TOP: Final = 44
BOTTOM: Final = 48
COLUMNS: Final = 2
HEAD: Final = 84

INK, FAINT, GRID = "#222222", "#666666", "#e4e4e4"
FONT: Final = "font-family='Helvetica, Arial, sans-serif'"
LABEL_WIDTH: Final = 196  # of a bar


@dataclass(frozen=True)
class Lines:
    """Curves over `ticks`, which stand at equal distances; points by the index of their tick."""

    title: str
    x: str
    y: str
    ticks: Sequence[str]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    is_log: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars of segments (`value`, colour), each with a label; `note` explains the colours."""

    title: str
    x: str
    rows: Sequence[tuple[str, Sequence[tuple[float, str]]]]
    note: str = ""
    digits: int = 0


def document(title: str, legend: Mapping[str, str], panels: Sequence[Lines | Bars]) -> str:
    """The figure: title, legend (colours by name), panels two to a row."""
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = WIDTH * COLUMNS, HEAD + HEIGHT * rows
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'"
        f" width='{width}' height='{height}' {FONT} font-size='12' fill='{INK}'>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        text(LEFT, 30, title, size=18, weight="bold"),
    ]
    x = float(LEFT)
    for name, colour in legend.items():
        parts.append(f"<rect x='{x:.0f}' y='47' width='12' height='12' fill='{colour}'/>")
        parts.append(text(x + 17, 57, name))
        x += 42 + 7 * len(name)
    for number, panel in enumerate(panels):
        place = (number % COLUMNS * WIDTH, HEAD + number // COLUMNS * HEIGHT)
        drawn = lines(panel, legend) if isinstance(panel, Lines) else bars(panel)
        parts.append(f"<g transform='translate({place[0]} {place[1]})'>{drawn}</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def text(
    x: float,
    y: float,
    what: str,
    *,
    anchor: str = "start",
    size: int = 12,
    fill: str = INK,
    weight: str = "normal",
    turned: bool = False,
) -> str:
    """A line of text; `turned`, it reads upwards."""
    turn = f" transform='rotate(-90 {x:.1f} {y:.1f})'" if turned else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}' fill='{fill}'"
        f" font-weight='{weight}'{turn}>{escape(what)}</text>"
    )


def lines(panel: Lines, colours: Mapping[str, str]) -> str:
    """A panel of curves."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    values = [value for curve in panel.curves.values() for _, value in curve if value > 0]
    marks = decades(min(values), max(values)) if panel.is_log else steps(max(values))

    def x(index: int) -> float:
        return LEFT + width * (index + 0.5) / len(panel.ticks)

    def y(value: float) -> float:
        if panel.is_log:
            low, high = math.log10(marks[0]), math.log10(marks[-1])
            share = (math.log10(max(value, marks[0])) - low) / (high - low)
        else:
            share = value / marks[-1]
        return TOP + height * (1 - share)

    parts = [text(LEFT, TOP - 18, panel.title, size=14, weight="bold")]
    for mark in marks:
        parts.append(rule(LEFT, y(mark), LEFT + width, y(mark), GRID))
        parts.append(text(LEFT - 7, y(mark) + 4, f"{mark:,g}", anchor="end", fill=FAINT))
    parts.append(rule(LEFT, TOP + height, LEFT + width, TOP + height, INK))
    for index, tick in enumerate(panel.ticks):
        parts.append(text(x(index), TOP + height + 17, tick, anchor="middle", fill=FAINT))
    parts.append(text(LEFT + width / 2, HEIGHT - 10, panel.x, anchor="middle"))
    parts.append(text(16, TOP + height / 2, panel.y, anchor="middle", turned=True))
    for name, curve in panel.curves.items():
        points = [(x(index), y(value)) for index, value in curve]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        stroke = f"fill='none' stroke='{colours[name]}' stroke-width='2.2'"
        parts.append(f"<polyline points='{path}' {stroke}/>")
        parts += [
            f"<circle cx='{px:.1f}' cy='{py:.1f}' r='3.4' fill='{colours[name]}'/>"
            for px, py in points
        ]
    return "\n".join(parts)


def bars(panel: Bars) -> str:
    """A panel of bars."""
    left, height = LABEL_WIDTH, HEIGHT - TOP - BOTTOM
    width = WIDTH - left - RIGHT - 34  # room for the figure behind the longest
    marks = steps(max(sum(value for value, _ in segments) for _, segments in panel.rows))
    pitch = min(height / len(panel.rows), 34)
    foot = TOP + pitch * len(panel.rows)
    parts = [text(LEFT, TOP - 18, panel.title, size=14, weight="bold")]
    for mark in marks:
        x = left + width * mark / marks[-1]
        parts.append(rule(x, TOP, x, foot, GRID))
        parts.append(text(x, foot + 15, f"{mark:,g}", anchor="middle", fill=FAINT))
    for number, (label, segments) in enumerate(panel.rows):
        y, x = TOP + pitch * number, float(left)
        parts.append(text(left - 8, y + pitch / 2 + 4, label, anchor="end"))
        for value, colour in segments:
            length = width * value / marks[-1]
            parts.append(
                f"<rect x='{x:.1f}' y='{y + pitch * 0.15:.1f}' width='{length:.1f}'"
                f" height='{pitch * 0.7:.1f}' fill='{colour}'/>"
            )
            x += length
        total = sum(value for value, _ in segments)
        parts.append(text(x + 5, y + pitch / 2 + 4, f"{total:,.{panel.digits}f}", fill=FAINT))
    parts.append(rule(left, TOP, left, foot, INK))
    parts.append(text(left + width / 2, foot + 33, panel.x, anchor="middle"))
    if panel.note:
        parts.append(text(WIDTH - RIGHT, TOP - 4, panel.note, anchor="end", size=11, fill=FAINT))
    return "\n".join(parts)


def rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f"<path d='M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}' stroke='{colour}'/>"


def steps(highest: float) -> list[float]:
    """Round marks from 0 to beyond `highest`, four to eight of them."""
    if highest <= 0:
        return [0.0, 1.0]
    unit = 10 ** math.floor(math.log10(highest))
    step = next(unit * part for part in (0.2, 0.25, 0.5, 1, 2) if highest / (unit * part) <= 6)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def decades(lowest: float, highest: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from below `lowest` to above `highest`."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    marks = [part * 10.0**power for power in range(first, last + 1) for part in (1, 2, 5)]
    below = max((mark for mark in marks if mark <= lowest), default=marks[0])
    above = min((mark for mark in marks if mark >= highest and mark > below), default=marks[-1])
    return [mark for mark in marks if below <= mark <= above]
