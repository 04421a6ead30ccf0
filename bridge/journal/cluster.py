"""What a journal that several processes share offers beyond `JournalStore`: nodes, leases, marks.

A *node* is a process that is registered in the journal. Its *incarnation* is new with each
registration, and its *batch* counts what it has committed since. A node whose counter stands still
is ended by another one: its incarnation is removed, so every later batch of it fails (`LeaseLost`).

A *lease* names the node that has a *part* of a component: the part -1 is the link to the server,
and 0 to 255 are the partitions of its conversations (`bridge.cluster.partition`).

Rows of several nodes are committed in any order, whatever their numbers. But each node commits one
batch at a time, so the numbers of one *writer* (an incarnation) only grow. So readers keep a mark
for each writer: the number of its last row that they have read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from attrs import field, frozen

from bridge.journal.delivery import Delivery
from bridge.journal.store import JournalError, JournalStore
from bridge.xmpp.outbox import Outgoing, ReplyKey

NODES: Final = ""
"""The target of a wake-up that concerns leases, and no component."""
POSTS: Final = "/posts"
"""The target of a wake-up that concerns posts."""


def replies_of(component: str) -> str:
    """Return the target of a wake-up for replies, which concern the gateway only."""
    return f"{component}/replies"


class LeaseLost(JournalError):
    """This node has been declared dead, or has lost batches that it had committed. Nothing that it
    does counts any more; it may register again.
    """


@frozen
class About:
    """What a node tells about itself when it registers."""

    version: str = ""
    components: tuple[str, ...] = ()
    digest: str = ""
    """Of the configuration, so that a node with another one can be told."""


@frozen
class NodeRow:
    """A node, dead or alive: without an incarnation it is dead."""

    id: int
    label: str
    incarnation: int | None
    batch: int
    about: About
    status: bytes = field(default=b"", repr=False)


@frozen
class Lease:
    """A part of a component, and the node that has it."""

    component: str
    part: int
    node: int


@frozen
class Post:
    """A small message from a node to another one."""

    number: int
    writer: int
    kind: str
    body: bytes = field(repr=False)


class ClusterStore(JournalStore, Protocol):
    """A journal that several nodes share. All calls block, and are made one at a time, in the
    journal's thread; only `interrupt` is called from another one.

    Each call that writes is a batch of its own, and raises `LeaseLost` if this node is dead.
    """

    def register(self, label: str, about: About) -> int:
        """Become the node of this label, without leases, and return its incarnation. A process that
        was this node before has lost its leases then, even if it is alive.
        """

    @property
    def node(self) -> int:
        """The number of this node."""

    @property
    def incarnation(self) -> int:
        """The writer of this node's rows."""

    def describe(self, about: About) -> None:
        """Replace what this node tells about itself."""

    def beat(self) -> None:
        """Commit an empty batch, so that others see that this node lives."""

    def retire(self) -> None:
        """Free all leases and end this node, because its process stops."""

    def nodes(self) -> list[NodeRow]:
        """Return all nodes, sorted by number."""

    def leases(self) -> list[Lease]:
        """Return all leases, sorted by component and part."""

    def take(self, component: str, parts: Collection[int]) -> frozenset[int]:
        """Take parts that no node has, and return those that are taken."""

    def give(self, component: str, parts: Collection[int], to: int | None) -> None:
        """Hand parts that this node has to a live node, or to nobody."""

    def end_node(self, node: int, seen_batch: int) -> bool:
        """End a node whose counter still stands at `seen_batch`, and free its leases. Return
        whether it is ended; if not, it lives, or is being ended.
        """

    def pending_in(
        self, component: str, parts: Collection[int], marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, Delivery]]:
        """Return pending entries of partitions that are behind the marks, each with its writer, in
        the order of their numbers. Without marks, all of them.
        """

    def replies_after(
        self, component: str, marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, int, Outgoing]]:
        """Return unconfirmed replies that are behind the marks, each with its writer and number, in
        the order of their numbers.
        """

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        """Keep how often replies were written to streams and not confirmed, if that is more than
        is known.
        """

    def written(self, numbers: Collection[int]) -> dict[int, int]:
        """Return how often each of these replies was written, if ever."""

    def post(self, for_node: int, kind: str, body: bytes) -> None:
        """Leave a small message for another node, unless that is dead. If it dies, it does not get
        the message, even if it registers again.
        """

    def posts(self, marks: Mapping[int, int], limit: int) -> list[Post]:
        """Return messages for this node that are behind the marks, sorted by number."""

    def drop_posts(self, numbers: Sequence[int]) -> None:
        """Forget messages that have been read."""

    def set_status(self, status: bytes) -> None:
        """Show a snapshot of this node to the others."""

    def interrupt(self) -> None:
        """End the calls that the server has not answered for some seconds. Call it from any thread
        while another one waits; such a call then fails, or is made again.
        """


class WakeUps(Protocol):
    """Wake-ups between nodes: there is something to read, so look before you would by yourself. A
    target is a component (its pending stanzas), its `replies_of`, `NODES` or `POSTS`. A wake-up may
    be lost.
    """

    def subscribe(self, target: str, callback: Callable[[], None]) -> None:
        """Call back whenever another node wakes this target, or may have done so."""

    def unsubscribe(self, target: str) -> None:
        """Forget the callback of a target, if it has one."""

    def wake(self, target: str) -> None:
        """Wake this target on the other nodes, soon."""

    async def run(self) -> None:
        """Send and receive until cancelled."""
