"""What the watching half of the listener is given to look at: a daemon, as its parts show it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import trio
from attrs import field, frozen

from bridge.daemon.control import AnyRequest
from bridge.daemon.listener import DaemonParts
from bridge.daemon.status import ComponentSnapshot
from bridge.journal.store import JournalError, JournalStore
from bridge.listener.monitor.history import History
from bridge.telemetry.log import RecentError
from bridge.telemetry.meter import Meter

ANSWER_S: Final = 3.0
"""How long the journal may take for an answer: a disk that hangs is told of, not waited for."""
PROBE_S: Final = 5.0
"""How often the journal is probed at most, whoever asks."""
HANGS: Final = "the journal does not answer; look at the disk"

T = TypeVar("T")
Answer = Callable[[AnyRequest], Awaitable[object]]
Query = Callable[[Callable[[JournalStore], None]], Awaitable[None]]


@frozen
class DaemonView:
    """A daemon, to be looked at. `answer` does what `xmpp-bridge queue` asks for, and `query` has
    the journal called; without a journal there is neither.
    """

    snapshots: Callable[[], Sequence[ComponentSnapshot]]
    stopping: Callable[[], bool]
    answer: Answer | None = None
    query: Query | None = None
    incidents: Callable[[], list[RecentError]] = list
    history: History = field(factory=History)
    started: float = field(factory=time.time)

    @property
    def meters(self) -> dict[str, Meter]:
        """The components' numbers, by domain."""
        return {one.status.domain: one.meter for one in self.snapshots()}

    async def run(self) -> None:
        """Keep the last hour. Ends only by cancellation."""
        await self.history.run(lambda: self.meters)


def make_view(parts: DaemonParts) -> DaemonView:
    """Make the view of a daemon. Within trio."""
    return DaemonView(
        lambda: [one.snapshot for one in parts.services.values()],
        parts.stopping,
        parts.answer,
        None if parts.storage is None else parts.storage.committer.ask,
        lambda: parts.recent_errors.latest,
    )


async def ask(answer: Answer, request: AnyRequest, kind: type[T]) -> T:
    """Give the answer to a request, which is of that kind.

    Raises:
        CommandError: it cannot be done.
        JournalError: the journal fails, or does not answer within `ANSWER_S`.
    """
    with trio.move_on_after(ANSWER_S):
        answered = await answer(request)
        assert isinstance(answered, kind)
        return answered
    raise JournalError(HANGS)


class JournalProbe:
    """Tries whether the journal can be written: as often as anybody may ask, but not each time."""

    def __init__(self, query: Query, now: Callable[[], float] = trio.current_time) -> None:
        self._query = query
        self._now = now
        self._tried_at: float | None = None
        self._works = False
        self._trying = trio.Lock()

    async def works(self) -> bool:
        """Tell whether the journal could be written, at most `PROBE_S` ago."""
        async with self._trying:
            now = self._now()
            if self._tried_at is None or now - self._tried_at >= PROBE_S:
                self._works = await self._try()
                self._tried_at = self._now()
        return self._works

    async def _try(self) -> bool:
        with trio.move_on_after(ANSWER_S):
            try:
                await self._query(lambda journal: journal.commit(()))
            except JournalError:
                return False
            return True
        return False
