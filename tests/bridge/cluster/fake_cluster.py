"""A database of nodes and leases in memory, fenced as the real one is."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field

from bridge.journal.cluster import About, Lease, LeaseLost, NodeRow, Post
from bridge.journal.delivery import Delivery
from bridge.journal.store import JournalError, Operation, StateEntry, Totals


@define
class FakeDatabase:
    """Shared by the stores of all nodes."""

    nodes: dict[int, NodeRow] = field(factory=dict)
    leases: dict[tuple[str, int], int] = field(factory=dict)
    incarnations: int = 0
    is_down: bool = False
    log: list[str] = field(factory=list)
    """What was changed, in order."""

    def store(self, label: str) -> "FakeStore":
        return FakeStore(self, label)

    def free(self, node: int) -> None:
        self.leases = {part: one for part, one in self.leases.items() if one != node}


@define(slots=False)
class FakeStore:
    """One node's connection. Only what a cluster needs; nothing else is kept."""

    database: FakeDatabase
    label: str = ""
    node: int = 0
    incarnation: int = 0
    is_cut: bool = False
    """Whether this node does not reach the database."""
    committed: list[Operation] = field(factory=list)

    def register(self, label: str, about: About) -> int:
        self._reach()
        database = self.database
        known = [one.id for one in database.nodes.values() if one.label == label]
        self.node = known[0] if known else len(database.nodes) + 1
        database.free(self.node)
        database.incarnations += 1
        self.incarnation = database.incarnations
        database.nodes[self.node] = NodeRow(self.node, label, self.incarnation, 0, about)
        database.log.append(f"register {label}")
        return self.incarnation

    def describe(self, about: About) -> None:
        self._batch()
        self._change(about=about)

    def beat(self) -> None:
        self._batch()

    def commit(self, operations: Sequence[Operation]) -> None:
        self._batch()
        self.committed += operations

    def retire(self) -> None:
        self._batch()
        self.database.free(self.node)
        self._change(incarnation=None)
        self.database.log.append(f"retire {self.label}")

    def nodes(self) -> list[NodeRow]:
        self._reach()
        return [self.database.nodes[one] for one in sorted(self.database.nodes)]

    def leases(self) -> list[Lease]:
        self._reach()
        return [Lease(*part, node) for part, node in sorted(self.database.leases.items())]

    def take(self, component: str, parts: Collection[int]) -> frozenset[int]:
        self._batch()
        leases = self.database.leases
        taken = frozenset(part for part in parts if (component, part) not in leases)
        leases.update({(component, part): self.node for part in taken})
        return taken

    def give(self, component: str, parts: Collection[int], to: int | None) -> None:
        self._batch()
        if to is not None and self.database.nodes[to].incarnation is None:
            to = None
        for part in parts:
            if self.database.leases.get((component, part)) != self.node:
                raise LeaseLost("not its part")
            if to is None:
                del self.database.leases[component, part]
            else:
                self.database.leases[component, part] = to

    def end_node(self, node: int, seen_batch: int) -> bool:
        self._batch()
        row = self.database.nodes[node]
        if row.incarnation is None or row.batch != seen_batch:
            return False
        self.database.nodes[node] = evolve(row, incarnation=None)
        self.database.free(node)
        self.database.log.append(f"end {row.label}")
        return True

    def posts(self, marks: Mapping[int, int], limit: int) -> list[Post]:
        return []

    def totals(self) -> dict[str, Totals]:
        return {}

    def state(self, component: str) -> list[StateEntry]:
        return []

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        return []

    def replies(self, component: str | None, *, after: int = 0, limit: int) -> list[Any]:
        return []

    def close(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def _reach(self) -> None:
        if self.database.is_down or self.is_cut:
            raise JournalError("the database does not answer")

    def _batch(self) -> None:
        self._reach()
        row = self.database.nodes[self.node]
        if row.incarnation != self.incarnation:
            raise LeaseLost("this node is dead")
        self._change(batch=row.batch + 1)

    def _change(self, **change: Any) -> None:
        self.database.nodes[self.node] = evolve(self.database.nodes[self.node], **change)


def leases_of(database: FakeDatabase, node: int) -> Mapping[str, frozenset[int]]:
    """Return what a node has, by component."""
    found: dict[str, set[int]] = {}
    for (component, part), holder in database.leases.items():
        if holder == node:
            found.setdefault(component, set()).add(part)
    return {component: frozenset(parts) for component, parts in found.items()}
