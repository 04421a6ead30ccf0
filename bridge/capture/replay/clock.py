"""The clock of a replay with captured answers: as soon as no task can run, it jumps to the next
moment at which anything is due.

For runs without I/O: trio would not be asked first whether any has arrived.
`trio.testing.MockClock` does the same, but goes round trio's loop once more for each jump, and its
sleepers pay for a cancel scope: with it, replaying a stanza takes a fifth longer.
"""

import math
from heapq import heappop, heappush
from itertools import count

import trio
from attrs import define
from trio.testing import wait_all_tasks_blocked


@define
class _Sleeper:
    task: trio.lowlevel.Task | None
    """None once the sleep is cancelled."""


class JumpingClock(trio.abc.Clock):
    """Starts at 0."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sleepers: list[tuple[float, int, _Sleeper]] = []  # a heap
        self._numbers = count()
        self._idle: trio.Event | None = None

    def start_clock(self) -> None:
        """Do nothing: no time passes by itself."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to `deadline` or the next sleeper's; trio calls this when no task can run."""
        if deadline <= self._now:
            return 0.0
        if self._idle is not None:
            self._idle.set()
            self._idle = None
            return 0.0
        sleepers = self._sleepers
        while sleepers and sleepers[0][2].task is None:
            heappop(sleepers)
        at = min(deadline, sleepers[0][0]) if sleepers else deadline
        if at == math.inf:
            return at
        self._now = at
        while sleepers and sleepers[0][0] <= at:
            task = heappop(sleepers)[2].task
            if task is not None:
                trio.lowlevel.reschedule(task)
        return 0.0

    async def sleep_until(self, due: float) -> None:
        """Sleep until `due`; a checkpoint in any case. Cancellation wakes the sleeper."""
        if due <= self._now:
            await trio.lowlevel.checkpoint()
            return
        sleeper = _Sleeper(trio.lowlevel.current_task())

        def abort(_: object) -> trio.lowlevel.Abort:
            sleeper.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        heappush(self._sleepers, (due, next(self._numbers), sleeper))
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def wait_idle(self) -> None:
        """Wait until no other task can run before time passes."""
        if self._idle is None:
            self._idle = trio.Event()
        await self._idle.wait()


async def sleep_until(due: float) -> None:
    """Sleep until `due`, by trio's clock; cheaply if that is a `JumpingClock`."""
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, JumpingClock):
        await clock.sleep_until(due)
    else:
        await trio.sleep_until(due)


async def wait_idle() -> None:
    """Wait until every other task is blocked, by whatever clock."""
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, JumpingClock):
        await clock.wait_idle()
    else:
        await wait_all_tasks_blocked()
