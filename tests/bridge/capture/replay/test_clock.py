"""The clock of a replay: it jumps where nothing can run, and no real time passes."""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from bridge.capture.replay.clock import JumpingClock, sleep_until, wait_idle

_CLOCKS = [JumpingClock, lambda: MockClock(autojump_threshold=0)]


def run(main: Callable[[], Awaitable[None]], clock: trio.abc.Clock | None = None) -> None:
    trio.run(main, clock=clock or JumpingClock())


@pytest.mark.parametrize("make_clock", _CLOCKS, ids=["jumping", "mock"])
def test_sleepers_and_deadlines_take_their_turns(make_clock: Callable[[], trio.abc.Clock]) -> None:
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, due: float, scoped: bool) -> None:
        await (trio.sleep_until(due) if scoped else sleep_until(due))
        woken.append((name, trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name, due in (("c", 2.5), ("a", 0.25), ("d", 86_400.0), ("b", 1.0)):
                nursery.start_soon(sleep, name, due, False)
                nursery.start_soon(sleep, f"{name}'", due + 0.125, True)

    run(main, make_clock())
    expected = [("a", 0.25), ("b", 1.0), ("c", 2.5), ("d", 86_400.0)]
    both = [pair for name, due in expected for pair in ((name, due), (name + "'", due + 0.125))]
    assert [name for name, _ in woken] == [name for name, _ in both]
    assert [at for _, at in woken] == pytest.approx([due for _, due in both])


def test_a_jump_ends_exactly_where_it_was_to() -> None:
    async def main() -> None:
        for number in range(1, 1001):
            await sleep_until(number * 0.001)
            assert trio.current_time() == number * 0.001

    run(main)


def test_sleepers_of_the_same_moment_all_wake() -> None:
    woken: list[int] = []

    async def sleep(number: int) -> None:
        await sleep_until(1.0)
        woken.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(sleep, number)
        assert trio.current_time() == 1.0

    run(main)
    assert sorted(woken) == list(range(10))


def test_a_cancelled_sleeper_holds_up_nobody() -> None:
    async def main() -> None:
        with trio.move_on_after(1.0) as scope:
            await sleep_until(5.0)
        assert scope.cancelled_caught
        assert trio.current_time() == 1.0
        await sleep_until(7.0)  # the time of the one that was cancelled has passed meanwhile
        assert trio.current_time() == 7.0
        with trio.CancelScope() as scope:
            scope.cancel()
            await sleep_until(math.inf)
        assert scope.cancelled_caught

    run(main)


def test_a_sleep_until_now_lets_others_run() -> None:
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(10):  # trio's order within one turn is random
                await sleep_until(0.0)
            ran.append("main")
        assert trio.current_time() == 0.0

    run(main)
    assert ran == ["other", "main"]


@pytest.mark.parametrize("make_clock", _CLOCKS, ids=["jumping", "mock"])
def test_whoever_waits_for_others_to_block_comes_before_the_next_jump(
    make_clock: Callable[[], trio.abc.Clock],
) -> None:
    told: list[tuple[str, float]] = []

    async def work() -> None:
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        told.append(("worked", trio.current_time()))
        await sleep_until(1.0)
        told.append(("slept", trio.current_time()))

    async def watch() -> None:
        await wait_idle()
        told.append(("idle", trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(watch)
            nursery.start_soon(watch)

    run(main, make_clock())
    assert told == [("worked", 0.0), ("idle", 0.0), ("idle", 0.0), ("slept", 1.0)]
