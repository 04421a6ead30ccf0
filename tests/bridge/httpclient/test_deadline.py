"""Deadlines without timers: who is told, when, and that the watching ends."""

import math

import trio
from trio.testing import MockClock

from bridge.httpclient.deadline import TICK_S, Deadlines


class Exchange:
    """Something that can expire, and when it did."""

    def __init__(self) -> None:
        self.expired_at: list[float] = []

    def expire(self) -> None:
        self.expired_at.append(trio.current_time())


async def test_what_is_late_is_told_once_within_a_tick(autojump_clock: MockClock) -> None:
    watch, soon, later = Deadlines(), Exchange(), Exchange()
    start = trio.current_time()
    watch.add(later, start + 10)
    watch.add(soon, start + 1)
    await trio.sleep(5)
    assert len(soon.expired_at) == 1
    assert 1 <= soon.expired_at[0] - start <= 1 + TICK_S + 1e-6
    assert later.expired_at == []
    await trio.sleep(10)
    assert [10 <= moment - start <= 10 + TICK_S + 1e-6 for moment in later.expired_at] == [True]


async def test_what_was_removed_is_left_alone(autojump_clock: MockClock) -> None:
    watch, one = Deadlines(), Exchange()
    watch.add(one, trio.current_time() + 1)
    watch.remove(one)
    watch.remove(one)  # again: nothing
    await trio.sleep(5)
    assert one.expired_at == []


async def test_one_that_is_told_may_remove_itself_and_others(autojump_clock: MockClock) -> None:
    watch, other = Deadlines(), Exchange()

    class Friend(Exchange):
        def expire(self) -> None:
            super().expire()
            watch.remove(self)

    friend = Friend()
    for one in (friend, other):
        watch.add(one, trio.current_time() + 1)
    await trio.sleep(2)
    assert (len(friend.expired_at), len(other.expired_at)) == (1, 1)


async def test_the_watching_ends_and_begins_again(autojump_clock: MockClock) -> None:
    watch, one = Deadlines(), Exchange()
    tasks = trio.lowlevel.current_statistics().tasks_living
    watch.add(one, math.inf)
    await trio.sleep(10)
    assert trio.lowlevel.current_statistics().tasks_living == tasks + 1
    watch.remove(one)
    await trio.sleep(10)
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    watch.add(one, trio.current_time() + 1)
    await trio.sleep(10)
    assert len(one.expired_at) == 1
