"""The nodes that share a journal, for commands and the status page."""

from collections import Counter, defaultdict
from typing import Protocol, runtime_checkable

from bridge import __version__
from bridge.cluster.partition import GATEWAY
from bridge.config.digest import digest_of
from bridge.config.settings import Settings
from bridge.journal.cluster import About, Lease, NodeRow
from bridge.journal.request import NodeStatus
from bridge.journal.store import JournalStore


@runtime_checkable
class _SharedStore(Protocol):
    """The part of a `ClusterStore` that is read here."""

    @property
    def node(self) -> int: ...

    def nodes(self) -> list[NodeRow]: ...

    def leases(self) -> list[Lease]: ...


def about_of(settings: Settings) -> About:
    """Return what the other nodes are told about a process with these settings."""
    domains = tuple(one.domain for one in settings.components)
    return About(__version__, domains, digest_of(settings))


class OtherNodes:
    """Watches whether other nodes use a journal, by what they commit."""

    def __init__(self, journal: JournalStore) -> None:
        """A journal that is one process's own has none.

        Raises:
            JournalError: if the journal cannot be read.
        """
        self._journal = journal if isinstance(journal, _SharedStore) else None
        self._before = {row.id: row for row in self._others()}

    @property
    def are_there(self) -> bool:
        """Whether there were any that had not ended, at the start; they may be dead."""
        return bool(self._before)

    def moved(self) -> str | None:
        """Return the label of one that has registered or committed since the start, if any has.

        Raises:
            JournalError: if the journal cannot be read.
        """
        for row in self._others():
            before = self._before.get(row.id)
            if before is None or (before.incarnation, before.batch) != (row.incarnation, row.batch):
                return row.label
        return None

    def _others(self) -> list[NodeRow]:
        if self._journal is None:
            return []
        me = self._journal.node
        return [one for one in self._journal.nodes() if one.incarnation and one.id != me]


def nodes_of(journal: JournalStore) -> tuple[NodeStatus, ...]:
    """Return the nodes that share a journal, sorted by label; none if it is one process's own.

    Those that have stopped are among them only while they hold something: a lease of a node that is
    gone is about to be taken over.

    Raises:
        JournalError: if the journal cannot be read.
    """
    if not isinstance(journal, _SharedStore):
        return ()
    gateways, partitions = defaultdict[int, list[str]](list), Counter[int]()
    for lease in journal.leases():
        if lease.part == GATEWAY:
            gateways[lease.node].append(lease.component)
        else:
            partitions[lease.node] += 1
    rows = journal.nodes()
    ours = next((one.about.digest for one in rows if one.id == journal.node), "")
    found = (
        NodeStatus(
            label=row.label,
            is_self=row.id == journal.node,
            is_live=row.incarnation is not None,
            version=row.about.version,
            gateways=tuple(sorted(gateways[row.id])),
            partitions=partitions[row.id],
            components=row.about.components,
            differs=bool(ours and row.about.digest) and row.about.digest != ours,
        )
        for row in rows
        if row.incarnation is not None or gateways[row.id] or partitions[row.id]
    )
    return tuple(sorted(found, key=lambda one: one.label))
