"""A journal in a file that says it has nodes, for those who show them."""

from typing import Final

from bridge.cluster.partition import GATEWAY
from bridge.journal.cluster import About, Lease, NodeRow
from bridge.journal.sqlite.store import SqliteStore

OURS: Final = 2


class SharedStore(SqliteStore):
    """An embedded journal with the nodes and leases that a test has given it."""

    def __init__(self, *arguments: object, **keys: object) -> None:
        super().__init__(*arguments, **keys)  # type: ignore[arg-type]
        self.rows: list[NodeRow] = []
        self.held: list[Lease] = []

    @property
    def node(self) -> int:
        return OURS

    def nodes(self) -> list[NodeRow]:
        return self.rows

    def leases(self) -> list[Lease]:
        return self.held

    def add(
        self,
        id: int,
        label: str,
        *,
        gateways: tuple[str, ...] = (),
        parts: int = 0,
        is_live: bool = True,
        digest: str = "same",
    ) -> None:
        """Have a node with so many partitions of `bot.example`."""
        about = About("0.9", ("bot.example", "other.example"), digest)
        self.rows.append(NodeRow(id, label, 7 if is_live else None, 1, about))
        self.held += (Lease(name, GATEWAY, id) for name in gateways)
        self.held += (Lease("bot.example", part, id) for part in range(parts))
