"""Who keeps what dispatch has accepted: nobody but memory, or the journal.

Dispatch gives a stanza to its keeper and gets it back (`deliver`) when it may be POSTed: with a
journal, once it is committed. What is more than memory should hold stays in the journal and is
delivered later, in order; so are, after a restart, all that were pending.

Invariants of `JournalKeeper`: while `_unloaded` is not 0, whatever is accepted joins those on disk,
so that order holds; but for iqs, which may overtake, and whose senders would not wait so long.
`_held` are the stanzas that were delivered and whose end is not committed.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from attrs import define, field

from bridge.journal.delivery import Delivery
from bridge.journal.store import (
    Claim,
    JournalError,
)
from bridge.xmpp.outbox import Outgoing
from xmppstream import Stanza, encode

MEMORY_COUNT: Final = 10_000
MEMORY_BYTES: Final = 64 * 1024 * 1024

Deliver = Callable[[Delivery], None]
Freed = Callable[[], None]
Kept = Callable[[Outgoing | None], None]


@define
class Quota:
    """How much is accepted and not ended, and how much may be. `freed` are told when it is less."""

    limit_count: int = MEMORY_COUNT
    limit_bytes: int = MEMORY_BYTES
    count: int = 0
    bytes: int = 0
    freed: list[Freed] = field(factory=list)

    @property
    def fullness(self) -> float:
        """By count or by bytes, whichever is more; 1 is full."""
        return max(self.count / self.limit_count, self.bytes / self.limit_bytes)

    @property
    def is_full(self) -> bool:
        return self.count >= self.limit_count or self.bytes >= self.limit_bytes

    def add(self, weight_bytes: int) -> None:
        self.count += 1
        self.bytes += weight_bytes

    def remove(self, weight_bytes: int) -> None:
        self.count -= 1
        self.bytes -= weight_bytes
        for tell in self.freed:
            tell()


class DeliveryQueue(Protocol):
    """What dispatch and outbox ask of whoever keeps stanzas."""

    durable: bool

    @property
    def fullness(self) -> float: ...

    @property
    def is_full(self) -> bool: ...

    @property
    def failure(self) -> JournalError | None:
        """Why nothing can be kept now, if so."""
        ...

    def bind(self, deliver: Deliver, refuse: Deliver, freed: Freed) -> None:
        """Say who takes what was accepted, and what could not be kept after all; and who is told
        that `fullness` may be less.
        """
        ...

    def accept(self, delivery: Delivery) -> None:
        """Keep a stanza; it is then delivered or refused, maybe at once."""
        ...

    def attempted(self, delivery: Delivery) -> None:
        """Keep the last of its attempts."""
        ...

    async def settle(
        self, delivery: Delivery, replies: list[bytes], made: float, reason: str | None
    ) -> list[Outgoing]:
        """Keep the end of a stanza, before its replies go out; `reason` makes a dead letter."""
        ...

    def send(self, stanza: Stanza, uid: str, made: float, claim: Claim | None, then: Kept) -> None:
        """Keep a stanza that came of no other, with a claim. `then` is given it when it may go out,
        in the order of these calls, or None where it cannot be kept; maybe at once.
        """
        ...

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        """Forget replies, and what was sent, that have arrived."""
        ...

    def abandon(self, reply: Outgoing, why: str) -> None:
        """Give up a reply, or what was sent, that the server will not have."""
        ...


class MemoryQueue:
    """Keeps nothing beyond the process: `durability = "off"`."""

    durable = False

    def __init__(self, volume: Quota | None = None) -> None:
        self._volume = volume or Quota()
        self._deliver: Deliver = unbound

    @property
    def fullness(self) -> float:
        return self._volume.fullness

    @property
    def is_full(self) -> bool:
        return self._volume.is_full

    @property
    def failure(self) -> JournalError | None:
        return None

    def bind(self, deliver: Deliver, refuse: Deliver, freed: Freed) -> None:
        self._deliver = deliver
        self._volume.freed.append(freed)

    def accept(self, delivery: Delivery) -> None:
        self._volume.add(delivery.weight_bytes)
        self._deliver(delivery)

    def attempted(self, delivery: Delivery) -> None:
        pass

    async def settle(
        self, delivery: Delivery, replies: list[bytes], made: float, reason: str | None
    ) -> list[Outgoing]:
        self._volume.remove(delivery.weight_bytes)
        return [Outgoing(data, made) for data in replies]

    def send(self, stanza: Stanza, uid: str, made: float, claim: Claim | None, then: Kept) -> None:
        then(Outgoing(encode(stanza), made))

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        pass

    def abandon(self, reply: Outgoing, why: str) -> None:
        pass


def unbound(_: Delivery) -> None:
    raise RuntimeError("a keeper is bound before it is given anything")
