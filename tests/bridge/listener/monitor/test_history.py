"""An hour in minutes, and estimates of times from classes."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.listener.monitor.history import MINUTES, STEP_S, History, quantile
from bridge.telemetry.meter import BOUNDS_S, Meter

BOT = "bot.example"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def count(meter: Meter, received: int, failed: int = 0) -> None:
    meter.received["message"] += received
    meter.posts["replied"] += received - failed
    meter.posts["timed_out"] += failed
    meter.written[b"m"] += received
    for _ in range(received):
        meter.latency.add(0.2)


def test_each_minute_has_what_was_counted_in_it(clock: Clock) -> None:
    history, meter = History(clock), Meter()
    count(meter, 1000)  # before anybody looked
    history.look({BOT: meter})
    for number in (3, 0, 5):
        count(meter, number, failed=number // 2)
        clock.now += STEP_S
        history.look({BOT: meter})
    count(meter, 7)
    clock.now += 20
    minutes = history.minutes(BOT, meter)
    assert [(one.received, one.sent, one.posted, one.failed) for one in minutes] == [
        (3, 3, 3, 1),
        (0, 0, 0, 0),
        (5, 5, 5, 2),
        (7, 7, 7, 0),
    ]
    assert [one.seconds for one in minutes] == [60, 60, 60, 20]
    assert sum(minutes[0].latency) == 3


def test_an_hour_and_no_more(clock: Clock) -> None:
    history, meter = History(clock), Meter()
    for number in range(3 * MINUTES):
        history.look({BOT: meter})
        count(meter, number)
        clock.now += STEP_S
    minutes = history.minutes(BOT, meter)
    assert [one.received for one in minutes] == list(range(2 * MINUTES, 3 * MINUTES))


def test_a_component_that_comes_later_had_nothing_before(clock: Clock) -> None:
    history, meter = History(clock), Meter()
    history.look({})
    clock.now += 30
    count(meter, 4)
    assert [one.received for one in history.minutes(BOT, meter)] == [4]
    clock.now += 30
    history.look({BOT: meter})
    assert [one.received for one in history.minutes(BOT, meter)] == [4, 0]


def test_a_component_that_came_back_counts_from_nothing(clock: Clock) -> None:
    history, meter = History(clock), Meter()
    history.look({BOT: meter})
    count(meter, 50)
    clock.now += STEP_S
    history.look({BOT: meter})
    other = Meter()
    count(other, 2)
    assert [one.received for one in history.minutes(BOT, other)] == [50, 2]


def test_a_component_that_is_gone_is_forgotten(clock: Clock) -> None:
    history, meter = History(clock), Meter()
    history.look({BOT: meter})
    clock.now += STEP_S
    history.look({})
    clock.now += STEP_S
    history.look({BOT: meter})
    assert len(history.minutes(BOT, meter)) == 2


def test_before_any_look_there_is_nothing(clock: Clock) -> None:
    assert History(clock).minutes(BOT, Meter()) == []


async def test_it_looks_now_and_each_minute(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    history, meter = History(), Meter()
    nursery.start_soon(history.run, lambda: {BOT: meter})
    await wait_all_tasks_blocked()
    for number in (1, 2):
        await trio.sleep(30)
        count(meter, number)
        await trio.sleep(30)
    await wait_all_tasks_blocked()
    assert [one.received for one in history.minutes(BOT, meter)] == [1, 2, 0]
    nursery.cancel_scope.cancel()


# --- estimates


@pytest.mark.parametrize(
    ("classes", "part", "expected"),
    [
        ({0: 10}, 0.5, 0.0025),
        ({5: 10}, 1.0, 0.25),
        ({5: 10}, 0.5, 0.175),
        ({0: 50, 12: 50}, 0.5, 0.005),
        ({0: 50, 12: 50}, 0.95, 57.0),
        ({13: 1}, 0.5, 60.0),
        ({0: 1, 13: 9}, 0.5, 60.0),
    ],
)
def test_a_quantile_is_between_the_bounds_of_its_class(
    classes: dict[int, int], part: float, expected: float
) -> None:
    counts = tuple(classes.get(place, 0) for place in range(len(BOUNDS_S) + 1))
    assert quantile(counts, part) == pytest.approx(expected)


def test_without_any_there_is_no_quantile() -> None:
    assert quantile((0,) * (len(BOUNDS_S) + 1), 0.5) is None
