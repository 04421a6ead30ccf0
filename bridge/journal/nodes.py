"""The nodes that share a journal, as commands and the status page show them."""

from collections import Counter, defaultdict
from typing import Protocol, runtime_checkable

from bridge.cluster.partition import GATEWAY
from bridge.journal.cluster import Lease, NodeRow
from bridge.journal.request import NodeStatus
from bridge.journal.store import JournalStore


@runtime_checkable
class _SharedStore(Protocol):
    """The part of a `ClusterStore` that is read here."""

    @property
    def node(self) -> int: ...

    def nodes(self) -> list[NodeRow]: ...

    def leases(self) -> list[Lease]: ...


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
