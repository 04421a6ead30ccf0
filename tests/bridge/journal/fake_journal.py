"""A journal in memory that fails, waits and remembers as it is told."""

import threading
from collections.abc import Callable, Collection, Sequence

from bridge.journal.delivery import Delivery
from bridge.journal.store import (
    Claim,
    ClaimKey,
    DeadLetter,
    ImpossibleOperation,
    JournalError,
    KeyTaken,
    Operation,
    StateEntry,
    Totals,
)
from bridge.xmpp.outbox import Outgoing


class FakeJournal:
    """Keeps the batches that were committed, and knows no more of them."""

    def __init__(self) -> None:
        self.batches: list[list[Operation]] = []
        self.tried: list[list[Operation]] = []
        self.failure: JournalError | None = None
        self.failed = 0
        self.impossible: set[str] = set()
        """The uids of entries that cannot be accepted."""
        self.taken: set[bytes] = set()
        """The names of claims that another process has."""
        self.closed = False
        self.threads: set[threading.Thread] = set()
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> Callable[[], None]:
        """Let the next commits, and the end, wait; give what ends that."""
        self._open.clear()
        return self._open.set

    def commit(self, operations: Sequence[Operation]) -> None:
        self.threads.add(threading.current_thread())
        self.tried.append(list(operations))
        assert self._open.wait(10)
        assert not self.closed
        if self.failure is not None:
            failure = self.failure
            self.failed += 1
            raise failure
        for one in operations:
            if isinstance(one, Delivery) and one.uid in self.impossible:
                raise ImpossibleOperation(f"{one.uid} is impossible")
            if isinstance(one, ClaimKey) and one.claim.name in self.taken:
                raise KeyTaken("another process has it")
        self.batches.append(list(operations))

    @property
    def committed(self) -> list[Operation]:
        """All that was committed, in order."""
        return [one for batch in self.batches for one in batch]

    def close(self) -> None:
        assert self._open.wait(10)
        self.closed = True

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        return [one for one in self.committed if isinstance(one, Delivery)][:limit]

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        return []

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        return []

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        claims = [one.claim for one in self.committed if isinstance(one, ClaimKey)]
        return [one for one in claims if one.name in names]

    def state(self, component: str) -> list[StateEntry]:
        return []

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        return []

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        return []

    def totals(self) -> dict[str, Totals]:
        return {}
