"""Plots: what is where."""

import re
from collections.abc import Sequence

import pytest

from bridge.listener.page import plot
from bridge.listener.page.plot import Scale


def rects(drawn: str) -> list[tuple[str, float, float]]:
    found = re.findall(
        r'<rect class="([^"]+)" x="([\d.]+)" y="[\d.]+" width="3" height="([\d.]+)"', drawn
    )
    return [(kind, float(x), float(height)) for kind, x, height in found]


def test_bars_stand_at_the_right_and_nothing_is_no_bar() -> None:
    assert rects(plot.bars("POSTs", [10, 0, 5], [0, 0, 5], Scale(10), 60)) == [
        ("bar", 228.5, 46),
        ("bar", 236.5, 23),
        ("bar bad", 236.5, 23),
    ]


def test_little_can_be_seen_and_too_much_is_cut() -> None:
    assert [
        height for _, _, height in rects(plot.bars("", [1, 9000], [0, 0], Scale(1000), 60))
    ] == [
        1.5,
        46,
    ]


def test_a_line_is_broken_where_there_is_no_value() -> None:
    drawn = plot.lines("", [("slow", [0.0, 10.0, None, 5.0, None])], Scale(10), 60)
    assert re.findall(r'class="line (slow[^"]*)" points="([^"]+)"', drawn) == [
        ("slow", "222,48.0 226,2.0"),
        ("slow point", "234,25.0 234,25.0"),
    ]


def test_the_label_is_there_for_who_cannot_see_it() -> None:
    drawn = plot.lines("a < b", [], Scale(1), 60)
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


def test_few_slots_fill_the_width() -> None:
    drawn = plot.lines("", [("in", [1.0, 2.0])], Scale(2), 2)
    assert 'points="60,25.0 180,2.0"' in drawn
    drawn = plot.bars("", [2], [0], Scale(2), 1)
    assert 'x="114" y="2.0" width="12" height="46.0"' in drawn


@pytest.mark.parametrize(
    ("values", "is_log"),
    [([], False), ([0, 0], False), ([500], False), ([5, 6, 50], False), ([5, 6, 5000], True)],
)
def test_one_peak_does_not_flatten_the_others(values: list[float], is_log: bool) -> None:
    scale = Scale.of(values, least=1, unit=1)
    assert (scale.unit is not None) == is_log


def test_a_logarithmic_scale() -> None:
    scale = Scale.of([5, 5, 5, 5000], least=1, unit=1)
    assert scale.top == 5000
    assert scale.height(0) == 0
    assert scale.height(5000) == scale.height(9999) == 46
    assert 8 < scale.height(5) < scale.height(50) < scale.height(500) < 40
    assert Scale(5000).height(5) < 0.1
    assert sorted(scale.grid) == [1, 10, 100, 1000, 5000]
    assert Scale(5000).grid == [2500, 5000]
