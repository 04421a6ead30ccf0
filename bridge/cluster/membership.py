"""Who is dead. By counters of batches and the clock of the observer; no times are exchanged.

The times are seconds of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME).
"""

from collections.abc import Iterable
from typing import Final

from attrs import define, frozen

BEAT_S: Final = 2.0
"""A node commits at least this often, if only an empty batch."""
LOST_S: Final = 8.0
"""How long after it sent its last successful batch a node may use its leases."""
DEAD_S: Final = 10.0
"""How long a node's counter stands still before another node ends it."""
GAP_S: Final = 4.0
"""After so long without a look at the database, silence counts anew: perhaps nobody reached it."""


@frozen
class Peer:
    """A node as the database shows it. Without an incarnation it has been ended."""

    id: int
    incarnation: int | None
    batch: int
    components: frozenset[str] = frozenset()


@define
class _Seen:
    peer: Peer
    since: float


class Pulse:
    """Whether this node may still use what it holds (rule 3)."""

    def __init__(self) -> None:
        self._until = float("-inf")

    @property
    def until(self) -> float:
        """When it is no longer alive, unless another batch succeeds."""
        return self._until

    def beaten(self, sent_at: float) -> None:
        """A batch succeeded that was sent at `sent_at`; not when it was answered."""
        self._until = max(self._until, sent_at + LOST_S)

    def stop(self) -> None:
        """This node has been ended."""
        self._until = float("-inf")

    def is_alive(self, now: float) -> bool:
        return now < self._until


class Membership:
    """What this node has seen of the others' counters."""

    def __init__(self, me: int) -> None:
        self._me = me
        self._seen: dict[int, _Seen] = {}
        self._looked_at = self._answered_at = float("-inf")

    def observe(self, peers: Iterable[Peer], sent_at: float, now: float) -> None:
        """Take in the nodes as the database showed them to a query that was sent at `sent_at`, and
        answered by `now`.

        A counter stands still from when its value was first read to when it was last asked for. A
        process that was frozen between question and answer does not count that time. Nor does one
        that could not look: while the database is away, all counters stand still.
        """
        seen = self._seen if sent_at - self._answered_at < GAP_S else {}
        self._looked_at, self._answered_at = sent_at, now
        self._seen = {}
        for peer in peers:
            before = seen.get(peer.id)
            same = before is not None and (before.peer.incarnation, before.peer.batch) == (
                peer.incarnation,
                peer.batch,
            )
            self._seen[peer.id] = _Seen(peer, before.since if before and same else now)

    @property
    def dead(self) -> list[Peer]:
        """The nodes that have not been ended, and whose counter has stood still for too long."""
        return [one.peer for one in self._seen.values() if self._is_dead(one)]

    @property
    def live(self) -> list[Peer]:
        """All others that have not been ended, and this node itself."""
        return [
            one.peer
            for one in self._seen.values()
            if one.peer.incarnation is not None and not self._is_dead(one)
        ]

    def _is_dead(self, one: _Seen) -> bool:
        if one.peer.id == self._me or one.peer.incarnation is None:
            return False
        return self._looked_at - one.since >= DEAD_S
