"""Several nodes on one fake database and a simulated time, each with a clock of its own."""

from collections.abc import Callable, Collection
from typing import Final

from attrs import define, field

from bridge.cluster.member import EndNode, Give, Member, Take
from bridge.cluster.membership import BEAT_S, Peer
from bridge.cluster.partition import GATEWAY, PARTITIONS
from bridge.journal.cluster import About, LeaseLost
from bridge.journal.store import JournalError
from tests.bridge.cluster.fake_cluster import FakeDatabase, FakeStore

TICK_S: Final = 0.5


@define(eq=False)
class SimulatedNode:
    """A process: it looks at the database at each tick, unless it is frozen or gone."""

    store: FakeStore
    components: tuple[str, ...]
    clock: Callable[[], float]
    busy: dict[str, set[int]] = field(factory=dict)
    is_attached: bool = True
    is_running: bool = True
    partitions: int = PARTITIONS
    member: Member = field(init=False)
    _beat_at: float = float("-inf")

    def __attrs_post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin a new incarnation."""
        sent = self.clock()
        self.store.register(self.store.label, About(components=self.components))
        self.member = Member(self.store.node, self.components, self.partitions)
        self.member.pulse.beaten(sent)
        self.is_running = True

    def configure(self, *components: str) -> None:
        """Read another configuration."""
        self.components = components
        self.member.components = frozenset(components)
        self.store.describe(About(components=components))

    def leave(self) -> None:
        self.member.is_leaving = True
        self.store.describe(About())

    def tick(self) -> None:
        """Do once what the daemon does in a round."""
        if not self.is_running:
            return
        try:
            self._round()
        except LeaseLost:
            self.member.pulse.stop()
            self.start()
        except JournalError:
            pass

    def _round(self) -> None:
        member, now = self.member, self.clock()
        if now - self._beat_at >= BEAT_S:
            self.store.beat()
            member.pulse.beaten(now)
            self._beat_at = now
        peers = [
            Peer(one.id, one.incarnation, one.batch, frozenset(one.about.components))
            for one in self.store.nodes()
        ]
        leases = {(one.component, one.part): one.node for one in self.store.leases()}
        member.observe(peers, leases, now, self.clock())
        for component in self.components:
            attached = self.is_attached and member.holds(component, GATEWAY)
            member.attached(component, attached, now)
        for decision in member.decide(now, self._busy):
            match decision:
                case EndNode(node, batch):
                    self.store.end_node(node, batch)
                case Take(component, parts):
                    member.taken(component, self.store.take(component, parts), now)
                case Give(component, parts, to):
                    self.store.give(component, parts, to)
                    member.given(decision, now)

    def _busy(self, component: str) -> Collection[int]:
        return self.busy.get(component, set())

    def uses(self, component: str, part: int) -> bool:
        """Return whether it believes that it may use a part."""
        return self.member.pulse.is_alive(self.clock()) and self.member.holds(component, part)


@define(eq=False)
class Simulation:
    database: FakeDatabase = field(factory=FakeDatabase)
    nodes: list[SimulatedNode] = field(factory=list)
    now: float = 1000.0
    partitions: int = PARTITIONS

    def add(
        self, *components: str, rate: float = 1.0, offset: float = 0.0, label: str = ""
    ) -> SimulatedNode:
        """Start a node whose clock is fast by `rate` and ahead by `offset`."""
        label = label or f"node-{len(self.nodes) + 1}"
        store = self.database.store(label)
        node = SimulatedNode(
            store, components, lambda: offset + rate * self.now, partitions=self.partitions
        )
        self.nodes.append(node)
        return node

    def run(self, seconds: float) -> None:
        """Let time pass, with a tick of each node at each step."""
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for node in self.nodes:
                node.tick()
                self.check()

    def run_until(self, condition: Callable[[], bool], at_most: float) -> float:
        """Run until it is true, and return the seconds it took."""
        begun = self.now
        while not condition():
            assert self.now - begun <= at_most, "it takes too long"
            self.run(TICK_S)
        return self.now - begun

    def users(self, component: str, part: int) -> list[SimulatedNode]:
        """Return the nodes that believe that they may use a part."""
        return [one for one in self.nodes if one.uses(component, part)]

    def gateway(self, component: str) -> SimulatedNode | None:
        users = self.users(component, GATEWAY)
        return users[0] if users else None

    def check(self) -> None:
        """No part is used by two nodes."""
        used: set[tuple[str, int]] = set()
        for node in self.nodes:
            if node.member.pulse.is_alive(node.clock()):
                held = node.member.held
                assert not used & held, f"{sorted(used & held)[0]} is used twice"
                used |= held

    def is_complete(self, component: str) -> bool:
        """Return whether every part of a component is used."""
        return all(self.users(component, part) for part in range(GATEWAY, self.partitions))

    def counts(self, component: str) -> list[int]:
        """Return how many partitions each node uses."""
        return [
            sum(one.uses(component, part) for part in range(self.partitions)) for one in self.nodes
        ]
