"""Nodes whose clocks drift, that freeze, die, stop, and are cut from the database: a part is never
used by two of them, and each is used again within the bound.
"""

from functools import partial
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.cluster.membership import LOST_S
from tests.bridge.cluster.simulation import SimulatedNode, Simulation

COMPONENTS: Final = ("echo.example.org", "news.example.org")
MOST: Final = 4
PARTITIONS: Final = 8
TAKE_OVER_S: Final = 15.0
HAND_OVER_S: Final = 20.0
"""What comes on top: a frozen node is ended, the others are stable for 5 s, and parts move."""

indices = st.integers(0, MOST - 1)


class Nodes(RuleBasedStateMachine):
    """What may happen to a cluster of at most `MOST` nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Simulation(partitions=PARTITIONS)

    def node(self, index: int) -> SimulatedNode:
        return self.world.nodes[index % len(self.world.nodes)]

    @precondition(lambda self: len(self.world.nodes) < MOST and not self.world.database.is_down)
    @rule(
        components=st.sampled_from([COMPONENTS, COMPONENTS, COMPONENTS[:1]]),
        rate=st.floats(0.95, 1.05),
        offset=st.floats(0, 10_000),
    )
    def begin(self, components: tuple[str, ...], rate: float, offset: float) -> None:
        """Start a node whose clock drifts by up to 5 %."""
        self.world.add(*components, rate=rate, offset=offset)

    @precondition(lambda self: self.world.nodes)
    @rule(seconds=st.sampled_from([0.5, 1.5, 4.0, 9.0, 12.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.run(seconds)

    @precondition(lambda self: self.world.nodes)
    @rule(index=indices)
    def freeze(self, index: int) -> None:
        """Stop its batches, as SIGSTOP or SIGKILL does."""
        self.node(index).is_running = False

    @precondition(lambda self: self.world.nodes)
    @rule(index=indices, again=st.booleans())
    def thaw(self, index: int, again: bool) -> None:
        """Let a process go on, or start it anew."""
        node = self.node(index)
        if again and not node.store.is_cut and not self.world.database.is_down:
            node.member.pulse.stop()
            node.start()
        node.is_running = True

    @precondition(lambda self: self.world.nodes)
    @rule(index=indices, is_cut=st.booleans())
    def cut(self, index: int, is_cut: bool) -> None:
        self.node(index).store.is_cut = is_cut

    @rule(is_down=st.booleans())
    def crash(self, is_down: bool) -> None:
        self.world.database.is_down = is_down

    @precondition(lambda self: self.world.nodes)
    @rule(index=indices, part=st.integers(-1, PARTITIONS - 1))
    def begin_work(self, index: int, part: int) -> None:
        self.node(index).busy.setdefault(COMPONENTS[0], set()).add(part)

    @precondition(lambda self: self.world.nodes)
    @rule(index=indices)
    def end_work(self, index: int) -> None:
        self.node(index).busy.clear()

    @precondition(lambda self: self.world.nodes)
    @rule(index=indices, is_attached=st.booleans())
    def lose_the_server(self, index: int, is_attached: bool) -> None:
        self.node(index).is_attached = is_attached

    @precondition(lambda self: any(one.is_running for one in self.world.nodes))
    @rule()
    def recover(self) -> None:
        """All that run reach the database: then every part is used within the bound."""
        world = self.world
        world.database.is_down = False
        for node in world.nodes:
            node.busy.clear()
            node.is_attached = True
            node.store.is_cut = False
        running = [one for one in world.nodes if one.is_running]
        for component in COMPONENTS:
            if any(component in one.components for one in running):
                world.run_until(partial(world.is_complete, component), TAKE_OVER_S)
        # From then on, whoever runs has its share, and nothing moves.
        world.run(HAND_OVER_S)
        before = dict(world.database.leases)
        world.run(LOST_S)
        parts = {part: node for part, node in before.items() if part[1] >= 0}
        assert {one: world.database.leases[one] for one in parts} == parts

    @invariant()
    def no_part_is_used_twice(self) -> None:
        self.world.check()


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
