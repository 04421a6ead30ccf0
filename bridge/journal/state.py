"""The small state of one component, kept in the journal's table `state`.

Every change joins the next group commit. While the journal fails, the last change of each entry is
kept and written later.
"""

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

    async def load(self) -> None:
        """Read the entries that were written before, in this process or in an earlier one.

        Raises:
            JournalError: if the journal cannot be read.
        """
        for one in await self._committer.ask(partial(_state, component=self._component)):
            self._values.setdefault(one.kind, {})[one.key] = one.value

    def _changed(self, kind: str, key: str, value: bytes | None) -> None:
        name = (self._component, kind, key)
        self._committer.submit(DeleteState(*name) if value is None else PutState(*name, value))


def _state(journal: JournalStore, *, component: str) -> list[StateEntry]:
    return journal.state(component)
