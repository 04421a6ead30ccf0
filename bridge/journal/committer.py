"""The journal on trio: its own thread, group commit, and retries while the disk fails.

One batch at a time is in the thread: everything submitted while the previous one was committed.

While the journal fails, an operation that begins something new (`REFUSABLE`, such as accepting a
stanza) is refused, because its sender can be told. All others are kept and retried in order, before
anything newer: they end or change entries of the journal, and without them work would be done
twice. So the kept operations are bounded by the entries of the journal, by the attempts of each,
and by the commands of an operator. Of the small state, the last change of each entry is kept.

An operation that can never succeed (`ImpossibleOperation`, a bug) is found by committing one by one
and dropped, so it does not block the others. So is one whose key another process has kept meanwhile
(`KeyTaken`), which is not a bug.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

import outcome
import trio
from structlog.typing import FilteringBoundLogger

from bridge.journal.store import (
    REFUSABLE,
    ImpossibleOperation,
    Interruptible,
    JournalError,
    JournalStore,
    KeyTaken,
    Operation,
    StateOperation,
)
from bridge.telemetry.meter import COMMIT_BOUNDS_S, Histogram
from xmppstream.thread import Thread

RETRY_S: Final = 1.0
"""Seconds between two attempts while the journal fails."""
INTERRUPT_S: Final = 1.0
"""Seconds between two looks for calls of the journal that hang."""
LAST_S: Final = 5.0
"""Seconds that `run` has for the remaining operations after its cancellation."""
_LEAST_S: Final = 0.3
"""Seconds that it has even if `end_by` is nearer."""
_RETRY_BATCH: Final = 1000
_CLOSED: Final = "the journal is closed"

T = TypeVar("T")
Then = Callable[[bool], None]


class _Waiter(Generic[T]):
    """A task that waits for a value. If it is cancelled, the value is discarded."""

    __slots__ = ("_task", "_value", "gone")

    def __init__(self) -> None:
        self.gone = False
        self._task: trio.lowlevel.Task | None = None
        self._value: outcome.Outcome[T] | None = None

    def give(self, value: outcome.Outcome[T]) -> None:
        """Wake the task with the value."""
        if self._task is None:
            self._value = value
        else:
            trio.lowlevel.reschedule(self._task, value)
            self._task = None

    async def wait(self) -> T:
        """Wait for the value and return it."""
        if self._value is None:
            self._task = trio.lowlevel.current_task()
            value: T = await trio.lowlevel.wait_task_rescheduled(self._abort)
            return value
        await trio.lowlevel.checkpoint()
        return self._value.unwrap()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task, self.gone = None, True
        return trio.lowlevel.Abort.SUCCEEDED


class _Query:
    """A query to the journal. `give` receives the answer, unless `is_gone` is true by then."""

    def __init__(
        self,
        call: Callable[[JournalStore], Any],
        give: Callable[[outcome.Outcome[Any]], None],
        is_gone: Callable[[], bool] = lambda: False,
        *,
        renews: bool = False,
    ) -> None:
        self.call = call
        self.give = give
        self.is_gone = is_gone
        self.renews = renews


_Write = tuple[Operation, Then | None]


class Committer:
    """Commits operations in groups. `run` is its service. All methods belong to trio's thread."""

    def __init__(self, journal: JournalStore, log: FilteringBoundLogger) -> None:
        self.commits = Histogram(COMMIT_BOUNDS_S)
        """How long batches took, without those that failed."""
        self._journal = journal
        self._log = log
        self._thread = Thread("journal")
        self._submitted: list[_Write | _Query] = []
        self._in_hand: list[_Write | _Query] = []
        self._wake = trio.Event()
        self.end_by = math.inf
        """When `run` ends at the latest after its cancellation, by trio's clock."""
        self._stopping = False
        self._ended = False
        self._failure: JournalError | None = None
        self._kept: list[Operation] = []
        self._kept_state: dict[tuple[str, str, str], StateOperation] = {}
        self._refused = 0
        self._next_try = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed. If so, no entry is accepted."""
        return self._failure is not None

    @property
    def failure(self) -> JournalError | None:
        """The error of the last attempt, if it failed."""
        return self._failure

    def submit(self, operation: Operation, then: Then | None = None) -> None:
        """Queue an operation for the next group commit, in order.

        `run`'s task calls `then` in the same order: with True after the commit, or with False if it
        failed. A `REFUSABLE` operation is then dropped. Any other is retried (see above), and
        `then` is not called again. After the end of `run` nothing is committed any more, and
        `then` is called at once, with False.
        """
        if not self._ended:
            if not self._submitted:
                self._wake.set()
            self._submitted.append((operation, then))
        elif then is not None:
            then(False)

    async def commit(self, operation: Operation) -> bool:
        """Submit an operation, wait, and return whether it was committed.

        Cancellation ends the wait but does not withdraw the operation.
        """
        waiter: _Waiter[bool] = _Waiter()
        self.submit(operation, lambda done: waiter.give(outcome.Value(done)))
        return await waiter.wait()

    async def ask(self, query: Callable[[JournalStore], T]) -> T:
        """Call a query in the journal's thread, after everything submitted before, and return the
        result.

        Raises:
            JournalError: if the query failed, or if the journal is failing, so operations that
                were submitted before are not yet written.
        """
        waiter: _Waiter[T] = _Waiter()
        self._put(_Query(query, waiter.give, lambda: waiter.gone))
        return await waiter.wait()

    def inquire(
        self, query: Callable[[JournalStore], T], then: Callable[[outcome.Outcome[T]], None]
    ) -> None:
        """Like `ask`, but `run`'s task calls `then` with the result or the `JournalError`."""
        self._put(_Query(query, then))

    async def renew(self, query: Callable[[JournalStore], T]) -> T:
        """Like `ask`, but also while the journal fails. If it succeeds, forget everything that was
        kept to be tried again: it belonged to leases that are lost, and others have them now.

        Raises:
            JournalError: if the query failed.
        """
        waiter: _Waiter[T] = _Waiter()
        self._put(_Query(query, waiter.give, lambda: waiter.gone, renews=True))
        return await waiter.wait()

    def _put(self, query: _Query) -> None:
        if self._ended:
            query.give(outcome.Error(JournalError(_CLOSED)))
        else:
            self._submitted.append(query)
            self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit until cancelled, then commit the rest for at most `LAST_S`, or until `end_by`, and
        close the journal.

        Start it once, before and outside of all tasks that submit.
        """
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True) as scope:
                    nursery.start_soon(self._stop_when_cancelled, scope)
                    task_status.started()
                    async with trio.open_nursery() as watching:
                        if isinstance(self._journal, Interruptible):
                            watching.start_soon(self._interrupt_hanging, self._journal)
                        await self._serve()
                        await self._close()
                        watching.cancel_scope.cancel()
                if scope.cancelled_caught:
                    self._log.error("journal hangs", hint="its disk or database does not answer")
        finally:
            self._give_up()
            self._thread.close()

    async def _stop_when_cancelled(self, scope: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            now = trio.current_time()
            scope.deadline = max(now + _LEAST_S, min(now + LAST_S, self.end_by))
            self._stopping = True
            self._wake.set()

    async def _interrupt_hanging(self, journal: Interruptible) -> None:
        while True:
            await trio.sleep(INTERRUPT_S)
            journal.interrupt()

    async def _serve(self) -> None:
        while True:
            while self._submitted:
                self._in_hand, self._submitted = self._submitted, []
                await self._process(self._in_hand)
                self._in_hand = []
            if self.failing and (self._stopping or trio.current_time() >= self._next_try):
                await self._try_again()
            if self._stopping and not self._submitted:
                return
            with trio.move_on_at(self._next_try if self.failing else float("inf")):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _process(self, submitted: Sequence[_Write | _Query]) -> None:
        writes: list[_Write] = []
        for one in submitted:
            if isinstance(one, _Query):
                await self._write(writes)
                writes = []
                await self._answer(one)
            else:
                writes.append(one)
        await self._write(writes)

    async def _answer(self, query: _Query) -> None:
        if query.is_gone():
            return
        if self._failure is not None and not query.renews:
            failure = JournalError(self._failure.why, self._failure.hint)
            query.give(outcome.Error(failure))
            return
        call = partial(outcome.capture, query.call, self._journal)
        result: outcome.Outcome[Any] = await self._thread.run(call, abandon=True)
        if query.renews and isinstance(result, outcome.Value):
            self._forget_kept()
        query.give(result)

    def _forget_kept(self) -> None:
        lost = len(self._kept) + len(self._kept_state)
        if lost:
            self._log.warning("journal operations left to other nodes", count=lost)
        self._kept.clear()
        self._kept_state.clear()
        self._failure = None
        self._refused = 0

    async def _write(self, writes: list[_Write]) -> None:
        if not writes:
            return
        done: list[bool] = []
        failure = self._failure
        if failure is None:
            done, failure = await self._commit([operation for operation, _ in writes])
            if failure is not None:
                self._failure = failure
                self._next_try = trio.current_time() + RETRY_S
                self._log.error("journal fails", why=failure.why, hint=failure.hint)
        for (_, then), result in zip(writes, done, strict=False):
            if then is not None:
                then(result)
        self._refuse(writes[len(done) :])

    async def _commit(
        self, operations: Sequence[Operation]
    ) -> tuple[list[bool], JournalError | None]:
        """Return the result of each operation, up to the first failure, and that failure."""
        began = trio.current_time()
        try:
            await self._thread.run(partial(self._journal.commit, operations), abandon=True)
        except ImpossibleOperation as error:
            if len(operations) != 1:
                return await self._commit_singly(operations)
            if not isinstance(error, KeyTaken):
                dropped = repr(operations[0])
                self._log.error("journal operation dropped", why=error.why, operation=dropped)
            return [False], None
        except JournalError as error:
            return [], error
        self.commits.add(trio.current_time() - began)
        return [True] * len(operations), None

    async def _commit_singly(
        self, operations: Sequence[Operation]
    ) -> tuple[list[bool], JournalError | None]:
        done: list[bool] = []
        for operation in operations:
            result, failure = await self._commit([operation])
            done += result
            if failure is not None:
                return done, failure
        return done, None

    # --- while the journal fails

    def _refuse(self, writes: Sequence[_Write]) -> None:
        for operation, then in writes:
            if isinstance(operation, REFUSABLE):
                self._refused += 1
            elif isinstance(operation, StateOperation):
                self._kept_state[operation.name] = operation
            else:
                self._kept.append(operation)
            if then is not None:
                then(False)

    async def _try_again(self) -> None:
        """Commit the kept operations, or a probe if there are none."""
        self._next_try = trio.current_time() + RETRY_S
        self._kept += self._kept_state.values()
        self._kept_state.clear()
        failure: JournalError | None = None
        begun = False
        while failure is None and (self._kept or not begun):
            begun = True
            done, failure = await self._commit(self._kept[:_RETRY_BATCH])
            del self._kept[: len(done)]
        self._keep_state_apart()
        self._failure = failure
        if failure is None:
            self._log.warning("journal works again", refused=self._refused)
            self._refused = 0

    def _keep_state_apart(self) -> None:
        """Move what is left of the small state back, so a later change can replace it."""
        for one in self._kept:
            if isinstance(one, StateOperation):
                self._kept_state[one.name] = one
        self._kept = [one for one in self._kept if not isinstance(one, StateOperation)]

    # --- the end

    async def _close(self) -> None:
        try:
            await self._thread.run(self._journal.close, abandon=True)
        except JournalError as error:
            self._log.error("journal not closed well", why=error.why, hint=error.hint)

    def _give_up(self) -> None:
        self._ended = True
        rest = [*self._in_hand, *self._submitted]
        self._in_hand, self._submitted = [], []
        for one in rest:
            if isinstance(one, _Query):
                one.give(outcome.Error(JournalError(_CLOSED)))
            else:
                self._refuse([one])
        lost = len(self._kept) + len(self._kept_state)
        if lost:
            self._log.error("journal operations lost", count=lost)
