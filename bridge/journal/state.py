"""The small state of one component, kept in the journal's table `state`.

Every change joins the next group commit. While the journal fails, the last change of each entry is
kept and written later.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from bridge.journal.committer import Committer
from bridge.journal.store import DeleteState, JournalStore, PutState, StateEntry
from bridge.xmpp.state import MemoryState


class JournalState(MemoryState):
    """A `StateStore` in the journal. Call `load` before anything else."""

    def __init__(self, component: str, committer: Committer) -> None:
        super().__init__()
        self._component = component
        self._committer = committer
        self._changes = self._kept = 0
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    async def load(self) -> None:
        """Read the entries that were written before, in this process or in an earlier one.

        Raises:
            JournalError: if the journal cannot be read.
        """
        found = await self._committer.ask(partial(_state, component=self._component))
        self._values.clear()  # other nodes may have deleted entries since
        for one in found:
            self._values.setdefault(one.kind, {})[one.key] = one.value

    def _changed(self, kind: str, key: str, value: bytes | None) -> None:
        name = (self._component, kind, key)
        change = DeleteState(*name) if value is None else PutState(*name, value)
        self._changes += 1
        self._committer.submit(change, self._committed)

    def when_kept(self, then: Callable[[], None]) -> None:
        """Call `then` once all changes up to now are committed, or have met a failing journal."""
        if self._kept == self._changes:
            then()
        else:
            self._waiting.append((self._changes, then))

    def _committed(self, _: bool) -> None:
        self._kept += 1
        while self._waiting and self._waiting[0][0] <= self._kept:
            self._waiting.popleft()[1]()


def _state(journal: JournalStore, *, component: str) -> list[StateEntry]:
    return journal.state(component)
