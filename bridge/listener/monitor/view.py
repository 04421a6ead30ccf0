"""The view of a daemon that the monitoring half of the listener reads."""

import time
from collections import Counter
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
from bridge.telemetry.meter import Histogram, Meter

ANSWER_S: Final = 3.0
"""Time limit for an answer of the journal. A disk that hangs is reported, not waited for."""
PROBE_S: Final = 5.0
"""The journal is probed at most this often, however many clients ask."""
HANGS: Final = "the journal does not answer; look at its disk or database"

T = TypeVar("T")
Answer = Callable[[AnyRequest], Awaitable[object]]
Query = Callable[[Callable[[JournalStore], None]], Awaitable[None]]


@frozen
class DaemonView:
    """The state of a daemon. `answer` answers the requests of `xmpp-bridge queue`; `query` calls a
    function with the journal. Both are None without a journal.
    """

    snapshots: Callable[[], Sequence[ComponentSnapshot]]
    stopping: Callable[[], bool]
    answer: Answer | None = None
    query: Query | None = None
    incidents: Callable[[], list[RecentError]] = list
    history: History = field(factory=History)
    started: float = field(factory=time.time)
    requests: Counter[tuple[str, int]] = field(factory=Counter)
    """The requests of the listener, by the template of the route and the status."""
    commits: Histogram | None = None
    """The commits of the journal; None without one."""

    @property
    def meters(self) -> dict[str, Meter]:
        """The meters of the components, by domain."""
        return {one.status.domain: one.meter for one in self.snapshots()}

    async def run(self) -> None:
        """Record the last hour, until cancelled."""
        await self.history.run(lambda: self.meters)


def make_view(parts: DaemonParts) -> DaemonView:
    """Return the view of a daemon. Call within trio."""
    return DaemonView(
        lambda: [one.snapshot for one in parts.services.values()],
        parts.stopping,
        parts.answer,
        None if parts.storage is None else parts.storage.committer.ask,
        lambda: parts.recent_errors.latest,
        commits=None if parts.storage is None else parts.storage.committer.commits,
    )


async def ask(answer: Answer, request: AnyRequest, kind: type[T]) -> T:
    """Return the answer to a request. The answer is an instance of `kind`.

    Raises:
        CommandError: if the request cannot be carried out.
        JournalError: if the journal fails, or does not answer within `ANSWER_S`.
    """
    with trio.move_on_after(ANSWER_S):
        answered = await answer(request)
        assert isinstance(answered, kind)
        return answered
    raise JournalError(HANGS)


class JournalProbe:
    """Checks whether the journal can be written, but not every time that somebody asks."""

    def __init__(self, query: Query, now: Callable[[], float] = trio.current_time) -> None:
        self._query = query
        self._now = now
        self._tried_at: float | None = None
        self._works = False
        self._trying = trio.Lock()

    async def works(self) -> bool:
        """Return whether the journal could be written, at most `PROBE_S` ago."""
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
