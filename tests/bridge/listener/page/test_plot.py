"""Plots: what is where."""

import re
from collections.abc import Sequence

import pytest

from bridge.listener.page import plot


def rects(drawn: str) -> list[tuple[str, float, float]]:
    found = re.findall(
        r'<rect class="([^"]+)" x="(\d+)" y="[\d.]+" width="3" height="([\d.]+)"', drawn
    )
    return [(kind, float(x), float(height)) for kind, x, height in found]


def test_bars_stand_at_the_right_and_nothing_is_no_bar() -> None:
    assert rects(plot.bars("POSTs", [10, 0, 5], [0, 0, 5], 10)) == [
        ("bar", 228, 46),
        ("bar", 236, 23),
        ("bar bad", 236, 23),
    ]


def test_little_can_be_seen_and_too_much_is_cut() -> None:
    assert [height for _, _, height in rects(plot.bars("", [1, 9000], [0, 0], 1000))] == [1.5, 46]


def test_a_line_is_broken_where_there_is_no_value() -> None:
    drawn = plot.lines("", [("slow", [0.0, 10.0, None, 5.0, None])], 10)
    assert re.findall(r'class="line (slow[^"]*)" points="([^"]+)"', drawn) == [
        ("slow", "222,48.0 226,2.0"),
        ("slow point", "234,25.0 234,25.0"),
    ]


def test_the_label_is_there_for_who_cannot_see_it() -> None:
    drawn = plot.lines("a < b", [], 1)
    assert "<title>a &lt; b</title>" in drawn
    assert 'role="img" aria-label="a &lt; b"' in drawn


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([1, 1], 1),
        ([1.1], 2),
        ([3], 5),
        ([6], 10),
        ([10], 10),
        ([11], 20),
        ([999], 1000),
        ([0.04], 0.05),
        ([0.009], 0.01),
        ([0.0024], 0.005),
    ],
)
def test_the_top_is_a_round_number(values: Sequence[float], top: float) -> None:
    assert plot.nice(max(values)) == pytest.approx(top)
