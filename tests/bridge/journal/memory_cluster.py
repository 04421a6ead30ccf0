"""A journal in memory that several nodes share, and who holds what of it."""

from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import define, field
from msgspec.structs import replace

from bridge.cluster.ownership import Alone
from bridge.cluster.partition import ALL_PARTS
from bridge.journal.cluster import About, NodeRow, Post
from bridge.journal.delivery import Delivery
from bridge.journal.store import JournalError, Operation
from bridge.xmpp.outbox import Outgoing, ReplyKey
from tests.bridge.journal.memory_journal import MemoryJournal, Severable


class MemoryCluster(MemoryJournal):
    """All that the nodes have kept, with the writer of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: dict[int, int] = {}
        self.clock: Callable[[], float] = lambda: 0.0
        """By which the age of what is pending is told."""
        self._since: dict[int, float] = {}
        self.left: list[tuple[int, Post]] = []
        """The posts that nobody has read, with the node that each is for."""
        self.kinds: list[str] = []
        """The kinds of all posts so far."""
        self.ended: set[int] = set()
        """The nodes that have been declared dead."""
        self.mute: set[int] = set()
        """The nodes that cannot leave posts."""
        self._writer = 0

    def store(self, incarnation: int) -> "MemoryNode":
        return MemoryNode(self, incarnation)

    def commit_as(self, writer: int, operations: Sequence[Operation]) -> None:
        self._writer = writer
        self.commit(operations)

    def _next(self) -> int:
        number = super()._next()
        self.writers[number] = self._writer
        self._since[number] = self.clock()
        return number

    def pending_in(
        self, component: str, parts: Collection[int], marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, Delivery]]:
        return [
            (self.writers[one.number], replace(one, age_s=self.clock() - self._since[one.number]))
            for one in self.pending(component, limit=10**9)
            if one.part in parts and one.number > marks.get(self.writers[one.number], 0)
        ][:limit]

    def replies_after(
        self, component: str, marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, int, Outgoing]]:
        return [
            (self.writers[number], number, one)
            for number, one in self.replies(component, limit=10**9)
            if number > marks.get(self.writers[number], 0)
        ][:limit]

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        for number, one in self._replies.items():
            count = max(written.get((one.uid, one.place), 0), one.written)
            self._replies[number] = one._replace(written=count)


class MemoryNode(Severable):
    """The way of one node to the journal. Its number is its incarnation."""

    def __init__(self, cluster: MemoryCluster, incarnation: int) -> None:
        super().__init__(cluster)
        self._cluster = cluster
        self.incarnation = incarnation

    def commit(self, operations: Sequence[Operation]) -> None:
        self._reach().commit_as(self.incarnation, operations)

    def pending_in(
        self, component: str, parts: Collection[int], marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, Delivery]]:
        return self._reach().pending_in(component, parts, marks, limit)

    def replies_after(
        self, component: str, marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, int, Outgoing]]:
        return self._reach().replies_after(component, marks, limit)

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        self._reach().count_written(written)

    @property
    def node(self) -> int:
        return self.incarnation

    def nodes(self) -> list[NodeRow]:
        cluster = self._reach()
        return [
            NodeRow(one, f"node-{one}", None if one in cluster.ended else one, 0, About())
            for one in range(1, 4)
        ]

    def post(self, for_node: int, kind: str, body: bytes) -> None:
        cluster = self._reach()
        if self.node in cluster.mute:
            raise JournalError("disk full")
        if for_node in cluster.ended:
            return
        cluster.kinds.append(kind)
        left = cluster.left
        number = left[-1][1].number + 1 if left else 1
        left.append((for_node, Post(number, self.incarnation, kind, body)))

    def posts(self, marks: Mapping[int, int], limit: int) -> list[Post]:
        left = self._reach().left
        return [
            one for node, one in left if node == self.node and one.number > marks.get(one.writer, 0)
        ][:limit]

    def drop_posts(self, numbers: Sequence[int]) -> None:
        cluster = self._reach()
        cluster.left = [one for one in cluster.left if one[1].number not in numbers]

    def _reach(self) -> MemoryCluster:
        if not self._alive:
            raise JournalError("this process was killed")
        return self._cluster


@define(eq=False)
class Held(Alone):
    """What one node holds, as a test says."""

    gateway: bool = False
    elsewhere: int | None = None
    """The other node that has the gateway."""
    held: frozenset[int] = frozenset()
    alive: bool = True
    changes: int = 0
    """How often it was told that something has ended."""
    _callbacks: list[Callable[[], None]] = field(factory=list)

    @property
    def is_alive(self) -> bool:
        return self.alive

    def is_gateway(self, component: str) -> bool:
        return self.gateway and self.alive

    def other_gateway(self, component: str) -> int | None:
        return self.elsewhere if self.alive else None

    def owns(self, component: str, part: int) -> bool:
        return part in self.held and self.alive

    def parts(self, component: str) -> frozenset[int]:
        return self.held if self.alive else frozenset()

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def changed(self) -> None:
        self.changes += 1

    def hold(
        self, parts: Collection[int] = ALL_PARTS, *, gateway: bool | None = None, alive: bool = True
    ) -> None:
        """Hold other parts from now on."""
        self.held, self.alive = frozenset(parts), alive
        self.gateway = self.gateway if gateway is None else gateway
        for callback in tuple(self._callbacks):
            callback()
