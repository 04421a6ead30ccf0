"""How much a journal holds, counted as it changes, so no scan is needed."""

from attrs import define, evolve, field, frozen


@frozen
class KeepLimits:
    """The limits of dead letters, or of claims. The oldest are forgotten first."""

    count: int
    bytes: int
    age_s: float


@define
class Tally:
    """Counts and sizes of the entries, dead letters and claims of a journal."""

    pending: dict[str, tuple[int, int]] = field(factory=dict)  # by component: count, bytes
    dead: dict[str, int] = field(factory=dict)
    dead_count: int = 0
    dead_bytes: int = 0
    dead_since: float | None = None  # of the first dead letter, on the clock of `now`
    claim_count: int = 0
    claim_bytes: int = 0
    claimed_since: float | None = None
    number: int = 0  # the greatest assigned so far
    now: float = 0  # how long the journal has been open, s; set by each batch

    def copy(self) -> "Tally":
        """Return an independent copy."""
        return evolve(self, pending=dict(self.pending), dead=dict(self.dead))

    def next_number(self) -> int:
        """Return a number that is greater than all before."""
        self.number += 1
        return self.number

    def add_pending(self, component: str, count: int, weight: int) -> None:
        """Add to the pending entries of a component; negative values subtract."""
        counted, weighed = self.pending.get(component, (0, 0))
        self.pending[component] = (counted + count, weighed + weight)

    def add_dead(self, component: str, count: int, weight: int) -> None:
        """Add to the dead letters of a component; negative values subtract."""
        self.dead[component] = self.dead.get(component, 0) + count
        self.dead_count += count
        self.dead_bytes += weight

    def clear_dead(self) -> None:
        """Reset the count of dead letters."""
        self.dead.clear()
        self.dead_count = self.dead_bytes = 0

    def add_claims(self, count: int, weight: int) -> None:
        """Add to the claims; negative values subtract."""
        self.claim_count += count
        self.claim_bytes += weight

    def exceeds_claims(self, limits: KeepLimits) -> bool:
        """Return whether the claims exceed their limits."""
        return (
            self.claim_count > limits.count
            or self.claim_bytes > limits.bytes
            or (self.claimed_since is not None and self.claimed_since < self.now - limits.age_s)
        )

    def exceeds(self, limits: KeepLimits) -> bool:
        """Return whether the dead letters exceed their limits."""
        return (
            self.dead_count > limits.count
            or self.dead_bytes > limits.bytes
            or (self.dead_since is not None and self.dead_since < self.now - limits.age_s)
        )
