"""A thread of our own, driven from trio: one call after the other.

For calls that trio's worker threads do not suit: those that must be made in one thread, or in a
thread that ends. A hop costs about 70 µs.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import outcome
import trio

T = TypeVar("T")


class Thread:
    """A daemon thread that starts at once and ends after `close`."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    async def run(self, call: Callable[[], T], *, abandon: bool = False) -> T:
        """Make a call in the thread, after the earlier ones; return its result or raise its error.

        Cancellation has no effect while this waits. With `abandon`, it ends the waiting, but not
        the call.
        """
        token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
        waiting = True

        def give(result: outcome.Outcome[T]) -> None:
            if waiting:
                trio.lowlevel.reschedule(task, result)

        def job() -> None:
            result = outcome.capture(call)
            with suppress(trio.RunFinishedError):  # nobody waits for it any more
                token.run_sync_soon(give, result)

        def abort(_: object) -> trio.lowlevel.Abort:
            nonlocal waiting
            waiting = not abandon
            return trio.lowlevel.Abort.SUCCEEDED if abandon else trio.lowlevel.Abort.FAILED

        self._jobs.put(job)
        given: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return given

    def close(self, *last_calls: Callable[[], object]) -> None:
        """End the thread after its pending calls and these, which must not raise."""
        for call in last_calls:
            self._jobs.put(call)
        self._jobs.put(None)


class InlineThread(Thread):
    """Not a thread: calls are made at once, by the caller, and nothing else runs meanwhile.

    For a replay under a clock that jumps: trio would not know that a thread is busy, and the order
    of events would vary. Names (see `parser_thread`) then stay with the process.
    """

    def __init__(self, name: str) -> None:
        """Start nothing."""

    async def run(self, call: Callable[[], T], *, abandon: bool = False) -> T:
        """Make the call; return its result or raise its error. This is not a checkpoint."""
        return call()

    def close(self, *last_calls: Callable[[], object]) -> None:
        """Make the last calls."""
        for call in last_calls:
            call()
