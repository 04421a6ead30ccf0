"""The decisions of one node: whom to end, what to take, and what to give to whom.

Whoever drives it looks at the database (`observe`), executes what `decide` returns, and reports the
result (`taken`, `given`). What this node holds is what it has taken or been given, less what it has
given away: nobody else changes that without ending the node, and then it is no longer alive.

- Parts of nobody are taken at once. A part that has a holder moves only when the nodes have been
  the same for `STABLE_S`, so a restart does not move everything twice.
- A gateway moves only for a reason, because its senders see errors meanwhile: its node stops, or
  has not been attached for `DETACHED_S` (then all nodes have their turn), or one node has two more
  than another.
- A holder that gives a part away first ceases to use it (*releasing*), then waits until nothing of
  it runs, and then gives.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from attrs import field, frozen

from bridge.cluster.assignment import gateway_of, next_after, workers_of
from bridge.cluster.membership import Membership, Peer, Pulse
from bridge.cluster.partition import GATEWAY, PARTITIONS

STABLE_S: Final = 5.0
"""How long the nodes are the same before a partition moves from a live node."""
SETTLED_S: Final = 60.0
"""How long the nodes are the same before a gateway moves only to spread them."""
DETACHED_S: Final = 10.0
"""How long a gateway tries to attach before another node has its turn."""
FALLBACK_S: Final = 3.0
"""How long the node that should take a free part has for it."""

Part = tuple[str, int]
"""A component, and the number of a partition or `GATEWAY`."""


@frozen
class EndNode:
    """End a node whose counter stands still at `batch`."""

    node: int
    batch: int


@frozen
class Take:
    """Take parts that nobody has."""

    component: str
    parts: frozenset[int]


@frozen
class Give:
    """Parts that are no longer used here go to another node, or to nobody."""

    component: str
    parts: frozenset[int]
    to: int | None


Decision = EndNode | Take | Give


@frozen
class _View:
    """The nodes that can have each component's parts, and how many gateways each has."""

    candidates: Mapping[str, frozenset[int]]
    gateways: Counter[int] = field(factory=Counter)


class Member:
    """One incarnation of a node. All times are of one clock (`membership`)."""

    def __init__(self, me: int, components: Iterable[str], partitions: int = PARTITIONS) -> None:
        self.me = me
        self._partitions = partitions
        self.pulse = Pulse()
        self.components = frozenset(components)
        """The components that this node can run."""
        self.is_leaving = False
        """Whether it gives all away, because it stops."""
        self._members = Membership(me)
        self._leases: dict[Part, int] = {}
        self._gateways: dict[str, int] = {}
        self._held: set[Part] = set()
        self._parts: dict[str, set[int]] = {}  # the held partitions by component
        self._releasing: dict[Part, int | None] = {}
        self._free_since: dict[Part, float] = {}
        self._candidates: dict[str, tuple[frozenset[int], float]] = {}
        self._detached_since: dict[str, float] = {}

    # --- what it holds

    def holds(self, component: str, part: int) -> bool:
        """Return whether it has a part, and has not begun to give it away."""
        one = component, part
        return one in self._held and one not in self._releasing

    @property
    def held(self) -> frozenset[Part]:
        """All that `holds` is true of."""
        return frozenset(self._held - self._releasing.keys())

    def other_gateway(self, component: str) -> int | None:
        """Return the other node that had a component's gateway when the database was last seen."""
        node = self._gateways.get(component)
        return None if node == self.me else node

    @property
    def live(self) -> list[Peer]:
        """The live nodes, as far as it knows."""
        return self._members.live

    def has_other(self, component: str) -> bool:
        """Return whether another live node can have parts of a component, and does not stop."""
        able, _ = self._candidates.get(component, (frozenset(), 0.0))
        return bool(able - {self.me})

    # --- reports

    def observe(
        self, peers: Iterable[Peer], leases: Mapping[Part, int], sent_at: float, now: float
    ) -> None:
        """Take in what the database showed to a query that was sent at `sent_at`."""
        self._members.observe(peers, sent_at, now)
        self._leases = dict(leases)
        self._gateways = {name: node for (name, part), node in leases.items() if part == GATEWAY}
        self._set_held({one for one, node in leases.items() if node == self.me}, now)
        leased = Counter(component for component, _ in leases)
        self._free_since = {
            (component, part): self._free_since.get((component, part), now)
            for component in self.components
            if leased[component] <= self._partitions
            for part in range(GATEWAY, self._partitions)
            if (component, part) not in leases
        }
        for component in self.components:
            able = frozenset(one.id for one in self.live if component in one.components)
            before = self._candidates.get(component)
            if before is None or before[0] != able:
                self._candidates[component] = able, now

    def taken(self, component: str, parts: Iterable[int], now: float) -> None:
        """These were taken by a `Take`."""
        new = {(component, part) for part in parts}
        self._leases.update(dict.fromkeys(new, self.me))
        self._set_held(self._held | new, now)

    def given(self, give: Give, now: float) -> None:
        """A `Give` was executed."""
        gone = {(give.component, part) for part in give.parts}
        for one in gone:
            if give.to is None:
                self._leases.pop(one, None)
            else:
                self._leases[one] = give.to
        self._set_held(self._held - gone, now)

    def attached(self, component: str, is_attached: bool, now: float) -> None:
        """The link of a gateway has attached, or lost its server."""
        if is_attached:
            self._detached_since.pop(component, None)
        elif (component, GATEWAY) in self._held:
            self._detached_since.setdefault(component, now)

    def _set_held(self, held: set[Part], now: float) -> None:
        for component, part in held - self._held:
            if part == GATEWAY:
                self._detached_since[component] = now
        if held != self._held:
            self._held, self._parts = held, {}
            for component, part in held:
                if part != GATEWAY:
                    self._parts.setdefault(component, set()).add(part)
        self._releasing = {one: to for one, to in self._releasing.items() if one in held}

    # --- decisions

    def decide(self, now: float, busy: Callable[[str], Collection[int]]) -> list[Decision]:
        """Return what is to be done now. `busy` returns the parts of a component with anything
        running, which may not be given yet.
        """
        if not self.pulse.is_alive(now):
            return []
        found: list[Decision] = [EndNode(one.id, one.batch) for one in self._members.dead]
        able = {name: self._able(name) for name in self.components}
        view = _View(able, Counter(node for (_, part), node in self._leases.items() if part < 0))
        for component in sorted(self.components):
            found += self._takes(component, view, now)
        self._release(view, now)
        return found + self._gives(busy)

    def _able(self, component: str) -> frozenset[int]:
        """Return the nodes that can have parts of a component."""
        able, _ = self._candidates.get(component, (frozenset(), 0.0))
        return able - {self.me} if self.is_leaving else able

    def _is_stable(self, component: str, now: float, for_s: float = STABLE_S) -> bool:
        return now - self._candidates[component][1] >= for_s

    def _takes(self, component: str, view: _View, now: float) -> list[Take]:
        able = view.candidates[component]
        if self.me not in able:
            return []
        workers = workers_of(component, able, self._partitions)
        parts = {
            part
            for (name, part), since in self._free_since.items()
            if name == component
            and part != GATEWAY
            and (name, part) not in self._leases
            and (workers[part] == self.me or now - since >= FALLBACK_S)
        }
        since = self._free_since.get((component, GATEWAY))
        if since is not None and (component, GATEWAY) not in self._leases:
            chosen = gateway_of(component, able, view.gateways)
            assert chosen is not None
            view.gateways[chosen] += 1
            if chosen == self.me or now - since >= FALLBACK_S:
                parts.add(GATEWAY)
        return [Take(component, frozenset(parts))] if parts else []

    def _release(self, view: _View, now: float) -> None:
        """Decide anew to whom each held part goes; most stay."""
        releasing: dict[Part, int | None] = {}
        for component, part in self._held:
            if component not in self.components:
                releasing[component, part] = None
        for component in sorted(self.components):
            releasing.update(self._moved(component, view.candidates[component], now))
            if (component, GATEWAY) in self._held:
                to = self._new_gateway(component, view, now)
                if to is not None:
                    releasing[component, GATEWAY] = to
        self._releasing = releasing

    def _moved(self, component: str, able: frozenset[int], now: float) -> dict[Part, int | None]:
        """Return the held partitions that other nodes should have."""
        if not able or not (self.is_leaving or self._is_stable(component, now)):
            return {}
        workers = workers_of(component, able, self._partitions)
        mine = self._parts.get(component, ())
        return {(component, part): workers[part] for part in mine if workers[part] != self.me}

    def _new_gateway(self, component: str, view: _View, now: float) -> int | None:
        """Return the node that a held gateway goes to, or None if it stays. Once begun, it goes."""
        others = view.candidates[component] - {self.me}
        if not others:
            return None
        begun = self._releasing.get((component, GATEWAY))
        if begun in others:
            return begun
        if self.is_leaving:
            return gateway_of(component, others, view.gateways)
        since = self._detached_since.get(component)
        if since is not None and now - since >= DETACHED_S:
            return next_after(self.me, others)
        if not self._is_stable(component, now, SETTLED_S):
            return None
        least = gateway_of(component, others, view.gateways)
        if least is None or view.gateways[least] + 2 > view.gateways[self.me]:
            return None
        view.gateways[least] += 1
        view.gateways[self.me] -= 1
        return least

    def _gives(self, busy: Callable[[str], Collection[int]]) -> list[Give]:
        found: dict[tuple[str, int | None], set[int]] = {}
        running: dict[str, Collection[int]] = {}
        for (component, part), to in self._releasing.items():
            if component not in running:
                running[component] = busy(component)
            if part not in running[component]:
                found.setdefault((component, to), set()).add(part)
        return [Give(component, frozenset(parts), to) for (component, to), parts in found.items()]
