"""Charts: what they tell beside the shapes."""

import pytest

from bridge.listener.monitor.history import Minute
from bridge.listener.page.chart import Axis, charts
from bridge.telemetry.meter import BOUNDS_S
from tests.bridge.listener.page.browser import Page

CLASSES = len(BOUNDS_S) + 1


def minute(count: int = 0, failed: int = 0, slow: int = 0) -> Minute:
    """A minute with so many stanzas, each POSTed within 5 ms, and `slow` ones that took 60 s."""
    latency = (count, *(0,) * (CLASSES - 3), slow, 0)
    return Minute(60.0, count, count, count, failed, latency)


def axes(minutes: list[Minute], up_s: float = 7200.0) -> list[str]:
    page = Page.of(charts(minutes, up_s))
    words = page.of_class("axis").split()
    text = " ".join(words)
    return [one.strip() for one in text.split("now")[:-1]]


@pytest.mark.parametrize(
    ("count", "up_s", "slots", "start"),
    [
        (1, 8.0, 1, "start, 8 s ago"),
        (3, 170.0, 3, "start, 3 min ago"),
        (2, 600.0, 10, "start, 10 min ago"),  # a component that a reload has added
        (60, 3599.0, 60, "1 h ago"),
        (3, 7200.0, 60, "1 h ago"),
        (0, 0.0, 1, "start, 0 s ago"),
    ],
)
def test_the_axis_begins_with_the_daemon(count: int, up_s: float, slots: int, start: str) -> None:
    assert Axis.of(count, up_s) == Axis(slots, start)


def test_the_axis_names_the_start_and_the_scale() -> None:
    [stanzas, posts, times] = axes([minute(40), minute(42)], 90.0)
    assert stanzas == posts == "start, 90 s ago max 42, scale to 50"
    assert times.startswith("start, 90 s ago max ")
    assert times.endswith("ms, scale to 10 ms")


def test_a_peak_gives_a_logarithmic_scale_and_this_is_told() -> None:
    quiet = [minute(5) for _ in range(10)]
    [stanzas, posts, times] = axes([*quiet, minute(4000, slow=3999), minute(5)])
    assert stanzas == posts == "1 h ago max 4,000, log scale to 5,000"
    assert "log scale to" in times
    assert all("log" not in one for one in axes(quiet))


def test_the_percentile_is_called_by_its_name() -> None:
    page = Page.of(charts([minute(100)], 60.0))
    assert "median 2.5 ms" in page.of_class("legend")
    assert "p95 4.75 ms" in page.of_class("legend")
    assert "%" not in page.html
