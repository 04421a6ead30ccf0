"""How much a journal holds, counted as it changes, so that nothing is scanned for it."""

from attrs import define, evolve, field, frozen


@frozen
class KeepLimits:
    """What may be kept of dead letters, or of claims; the oldest go first."""

    count: int
    bytes: int
    age_s: float


@define
class Tally:
    """How much there is, kept so that nobody has to count."""

    pending: dict[str, tuple[int, int]] = field(factory=dict)  # by component: count, bytes
    dead: dict[str, int] = field(factory=dict)
    dead_count: int = 0
    dead_bytes: int = 0
    first_died: float | None = None
    claim_count: int = 0
    claim_bytes: int = 0
    first_claimed: float | None = None
    number: int = 0  # the greatest that was given
    now: float = 0  # Unix time, s, as of the latest operation that says it

    def copy(self) -> "Tally":
        """Give one that can change without this one."""
        return evolve(self, pending=dict(self.pending), dead=dict(self.dead))

    def next_number(self) -> int:
        """Give a number that is greater than all before."""
        self.number += 1
        return self.number

    def add_pending(self, component: str, count: int, weight: int) -> None:
        """Count entries that came (or, negative, went)."""
        counted, weighed = self.pending.get(component, (0, 0))
        self.pending[component] = (counted + count, weighed + weight)

    def add_dead(self, component: str, count: int, weight: int) -> None:
        """Count dead letters that came (or, negative, went)."""
        self.dead[component] = self.dead.get(component, 0) + count
        self.dead_count += count
        self.dead_bytes += weight

    def clear_dead(self) -> None:
        """Count no dead letters any more."""
        self.dead.clear()
        self.dead_count = self.dead_bytes = 0

    def add_claims(self, count: int, weight: int) -> None:
        """Count claims that came (or, negative, went)."""
        self.claim_count += count
        self.claim_bytes += weight

    def exceeds_claims(self, limits: KeepLimits) -> bool:
        """Whether claims have to go."""
        return (
            self.claim_count > limits.count
            or self.claim_bytes > limits.bytes
            or (self.first_claimed is not None and self.first_claimed < self.now - limits.age_s)
        )

    def exceeds(self, limits: KeepLimits) -> bool:
        """Whether dead letters have to go."""
        return (
            self.dead_count > limits.count
            or self.dead_bytes > limits.bytes
            or (self.first_died is not None and self.first_died < self.now - limits.age_s)
        )
