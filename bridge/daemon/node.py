"""This process as a node of a cluster: the decisions of `bridge.cluster.member`, executed.

One task goes round: it commits a heartbeat, looks at the nodes and leases, and does what is to be
done, until nothing is. It sleeps `TICK_S` in between, unless it is woken. A second task tells when
the node is no longer alive, which needs no answer of the database.

A node that others have ended (`LeaseLost`) has nothing any more: the services hear that it is not
alive and end at once, and what is still to be committed is dropped. Then it registers again, and
the services that take part begin anew from the database, as they do in a new process.

Without `partitions`, whoever has a component's gateway also POSTs all its stanzas.
"""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, TypeVar, cast

import trio
from attrs import evolve
from structlog.typing import FilteringBoundLogger

from bridge.cluster.member import Decision, EndNode, Give, Member, Take
from bridge.cluster.membership import BEAT_S, Peer
from bridge.cluster.partition import ALL_PARTS, GATEWAY, PARTITIONS
from bridge.journal.cluster import About, ClusterStore, Lease, LeaseLost, NodeRow
from bridge.journal.committer import Committer
from bridge.journal.store import JournalError, JournalStore

TICK_S: Final = 0.5
"""Seconds between two looks at the nodes and leases."""
RETIRE_S: Final = 1.0
"""Seconds that the end has for giving everything away."""
_ROUNDS: Final = 5
_UNKNOWN: Final = 0

T = TypeVar("T")


def elapsed_s() -> float:
    """Return the seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClusterNode:
    """An `Ownership` by leases. All belongs to trio's thread. `run` is its service."""

    def __init__(
        self,
        committer: Committer,
        label: str,
        about: About,
        log: FilteringBoundLogger,
        *,
        partitions: int = PARTITIONS,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        """The store of the committer is a `ClusterStore`, and already registered as `label`."""
        self.wake: Callable[[], None] = lambda: None
        """Called when the other nodes should look at the leases."""
        self._committer = committer
        self._label = label
        self._about = about
        self._described: About | None = None
        self._log = log.bind(node=label)
        self._partitions = partitions
        self._clock = clock
        self._scope = trio.CancelScope()
        self._member = Member(_UNKNOWN, about.components, partitions)
        self._beat_at = float("-inf")
        self._is_leaving = False
        self._has_lapsed = True  # until the first heartbeat
        self._told_alive = False
        self._told: frozenset[tuple[str, int]] = frozenset()
        self._is_failing = False
        self._strange: dict[int, str] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._busy: dict[str, Callable[[], Collection[int]]] = {}
        self._woken = trio.Event()

    # --- Ownership

    @property
    def is_alive(self) -> bool:
        if self._has_lapsed:
            return False
        if self._member.pulse.is_alive(self._clock()):
            return True
        self._has_lapsed = True  # until all have been told, even if a heartbeat succeeds meanwhile
        return False

    def is_gateway(self, component: str) -> bool:
        return self._member.holds(component, GATEWAY) and self.is_alive

    def other_gateway(self, component: str) -> int | None:
        return self._member.other_gateway(component) if self.is_alive else None

    def owns(self, component: str, part: int) -> bool:
        if not self._partitions:
            return self.is_gateway(component)
        return self._member.holds(component, part) and self.is_alive

    def parts(self, component: str) -> frozenset[int]:
        if not self._partitions:
            return ALL_PARTS if self.is_gateway(component) else frozenset()
        if not self.is_alive:
            return frozenset()
        held = self._member.held
        return frozenset(part for name, part in held if name == component and part != GATEWAY)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return partial(self._callbacks.remove, callback)

    def watch(self, component: str, busy: Callable[[], Collection[int]]) -> None:
        self._busy[component] = busy

    def changed(self) -> None:
        self._woken.set()

    def attached(self, component: str, is_attached: bool) -> None:
        self._member.attached(component, is_attached, self._clock())

    def has_successor(self, component: str) -> bool:
        return self._member.has_other(component)

    # --- for the daemon

    def configure(self, about: About) -> None:
        """Use another configuration from now on."""
        self._about = about
        self._member.components = frozenset(about.components)
        self._woken.set()

    def leave(self) -> None:
        """Hand everything over to the other nodes, if there are any, as soon as it is not used."""
        self._is_leaving = True
        self._woken.set()

    async def retire(self) -> None:
        """End `run`, give away the rest, and end this node. Call it when the services have ended.

        Takes at most `RETIRE_S`. If it fails, the other nodes notice by themselves.
        """
        self._scope.cancel()
        self._member.pulse.stop()
        with trio.move_on_after(RETIRE_S):
            try:
                await self._ask(lambda store: store.retire())
            except JournalError:
                return
            self.wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part in the cluster until `retire`. Cancellation leaves everything as it is."""
        with self._scope:
            await self._run(task_status)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await self._go_round()
            nursery.start_soon(self._watch_pulse)
            task_status.started()
            while True:
                with trio.move_on_after(TICK_S):
                    await self._woken.wait()
                await self._go_round()

    async def _go_round(self) -> None:
        self._woken = trio.Event()
        try:
            await self._beat()
            for _ in range(_ROUNDS):
                if not await self._act():
                    break
        except LeaseLost as error:
            await self._lose(error)
        except JournalError as error:
            failure = self._committer.failure
            if isinstance(failure, LeaseLost):
                await self._lose(failure)
            elif not self._is_failing:
                self._is_failing = True
                self._log.error("cannot reach the other nodes", why=error.why, hint=error.hint)
        else:
            if self._is_failing:
                self._is_failing = False
                self._log.warning("can reach the other nodes again")

    async def _beat(self) -> None:
        if self._member.me == _UNKNOWN:
            self._member = self._joined(await self._ask(_number))
        now = self._clock()
        about = evolve(self._about, components=()) if self._is_leaving else self._about
        if about != self._described:
            sent = await self._ask(partial(_describe, about=about, clock=self._clock))
            self._described = about
        elif now - self._beat_at >= BEAT_S:
            sent = await self._ask(partial(_beat, clock=self._clock))
        else:
            return
        self._beat_at = sent
        self._member.pulse.beaten(sent)
        self._member.is_leaving = self._is_leaving
        if self._has_lapsed:
            self._tell()  # that it was not alive
            self._has_lapsed = False

    async def _act(self) -> bool:
        """Look, and do what is to be done. Return whether there was anything."""
        member = self._member
        sent, nodes, leases = await self._ask(partial(_look, clock=self._clock))
        peers = [
            Peer(one.id, one.incarnation, one.batch, frozenset(one.about.components))
            for one in nodes
        ]
        by_part = {(one.component, one.part): one.node for one in leases}
        member.observe(peers, by_part, sent, self._clock())
        self._tell_strange(nodes)
        decisions = member.decide(self._clock(), self._busy_parts)
        self._tell()
        for decision in decisions:
            await self._execute(member, decision, nodes)
        self._tell()
        return bool(decisions)

    async def _execute(self, member: Member, decision: Decision, nodes: list[NodeRow]) -> None:
        match decision:
            case EndNode(node, batch):
                done = await self._ask(lambda store: store.end_node(node, batch))
                if done:
                    label = next(one.label for one in nodes if one.id == node)
                    self._log.warning("a node is silent and counts as dead", other=label)
                    self.wake()
            case Take(component, parts):
                taken = await self._ask(lambda store: store.take(component, parts))
                member.taken(component, taken, self._clock())
            case Give(component, parts, to):
                give = evolve(decision, parts=parts.difference(self._busy_parts(component)))
                if give.parts:  # something may have begun since the decision
                    await self._ask(lambda store: store.give(component, give.parts, to))
                    member.given(give, self._clock())
                    self.wake()

    def _busy_parts(self, component: str) -> Collection[int]:
        busy = self._busy.get(component)
        return () if busy is None else busy()

    async def _ask(self, query: Callable[[ClusterStore], T]) -> T:
        def call(store: JournalStore) -> T:
            return query(cast("ClusterStore", store))

        return await self._committer.ask(call)

    def _joined(self, node: int) -> Member:
        return Member(node, self._about.components, self._partitions)

    # --- the end of an incarnation

    async def _lose(self, error: JournalError) -> None:
        self._log.error("this node has lost its leases", why=error.why, hint=error.hint)
        self._member.pulse.stop()
        self._has_lapsed = True
        self._tell()
        for component in self._busy:
            while self._busy_parts(component):
                await self._woken.wait()
                self._woken = trio.Event()
        await self._register()

    async def _register(self) -> None:
        """Become another incarnation. Tried until it succeeds, or the node leaves."""

        def register(store: JournalStore) -> int:
            found = cast("ClusterStore", store)
            found.register(self._label, self._about)
            return found.node

        while not self._is_leaving:
            try:
                node = await self._committer.renew(register)
            except JournalError:
                await trio.sleep(TICK_S)
            else:
                self._member = self._joined(node)
                self._described = None
                self._beat_at = float("-inf")
                self._log.warning("this node takes part again")
                return

    async def _watch_pulse(self) -> None:
        """Call back as soon as the node is no longer alive."""
        while True:
            left = self._member.pulse.until - self._clock()
            if not self._has_lapsed and left > 0:
                await trio.sleep(left)
            else:
                self._tell()
                await trio.sleep(TICK_S)

    # --- telling

    def _tell(self) -> None:
        """Call back if anything has changed since the last time."""
        alive, held = self.is_alive, self._member.held
        if (alive, held) == (self._told_alive, self._told):
            return
        if alive != self._told_alive and not alive:
            self._log.error("no heartbeat reaches the database; this node stops its work")
        for component in sorted({name for name, part in held ^ self._told if part == GATEWAY}):
            has = (component, GATEWAY) in held
            event = "this node attaches as the component" if has else "another node attaches"
            self._log.info(event, component=component)
        self._told_alive, self._told = alive, held
        for callback in tuple(self._callbacks):
            callback()

    def _tell_strange(self, nodes: list[NodeRow]) -> None:
        """Log each node that has another configuration, once."""
        for one in nodes:
            digest = one.about.digest
            if one.incarnation is None or not one.about.components:
                continue
            if digest == self._about.digest:
                self._strange.pop(one.id, None)
            elif self._strange.get(one.id) != digest:
                self._strange[one.id] = digest
                self._log.warning(
                    "a node has another configuration",
                    other=one.label,
                    hint="each component is run by the nodes that have it; use the same file",
                )


def _number(store: ClusterStore) -> int:
    return store.node


def _describe(store: ClusterStore, *, about: About, clock: Callable[[], float]) -> float:
    sent = clock()
    store.describe(about)
    return sent


def _beat(store: ClusterStore, *, clock: Callable[[], float]) -> float:
    sent = clock()
    store.beat()
    return sent


def _look(
    store: ClusterStore, *, clock: Callable[[], float]
) -> tuple[float, list[NodeRow], list[Lease]]:
    return clock(), store.nodes(), store.leases()
