"""The queue of accepted stanzas: in memory, or in the journal (`durable`).

Dispatch passes a stanza to the queue and gets it back (`Receiver.deliver`) once it may be POSTed:
with a journal, after it was committed, or while it is (`Receiver.begin`). Deliveries beyond the
memory's quota stay in the journal and are delivered later, in order. After a restart, so are all
pending deliveries.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import trio
from attrs import define, field

from bridge.journal.delivery import Delivery
from bridge.journal.store import Claim, JournalError
from bridge.xmpp.outbox import Outgoing, ReplyKey
from xmppstream import Stanza, encode

MEMORY_COUNT: Final = 10_000
MEMORY_BYTES: Final = 64 * 1024 * 1024

Kept = Callable[[list[Outgoing] | None], None]
Settled = Callable[[Sequence[Outgoing]], None]


class Receiver(Protocol):
    """Receives deliveries from a queue. No call waits."""

    def begin(self, delivery: Delivery) -> bool:
        """Take a delivery that is being kept, if its POST can begin at once; return whether it is
        taken.
        """
        ...

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery that is kept."""
        ...

    def refuse(self, delivery: Delivery) -> None:
        """Take back a delivery that could not be kept."""
        ...


@define
class Quota:
    """The limits of stanzas that are accepted and not settled, and their current count and size."""

    limit_count: int = MEMORY_COUNT
    limit_bytes: int = MEMORY_BYTES
    count: int = 0
    bytes: int = 0
    _room: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    @property
    def fullness(self) -> float:
        """The used share, by count or by bytes, whichever is larger; 1 is full."""
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
        if self._room:
            self._room.unpark_all()

    async def wait_less(self) -> None:
        """Wait until something is removed."""
        await self._room.park()


class DeliveryQueue(Protocol):
    """The queue as dispatch and the outbox use it."""

    durable: bool

    @property
    def fullness(self) -> float: ...

    @property
    def is_full(self) -> bool: ...

    @property
    def failure(self) -> JournalError | None:
        """Why nothing can be kept now; None if it can."""
        ...

    async def wait_room(self) -> None:
        """Wait until the queue is not full. Returns at once if it is not."""
        ...

    def accept(self, delivery: Delivery, receiver: Receiver) -> None:
        """Keep a stanza; then deliver it to `receiver`, or refuse it there; perhaps at once. A
        queue may have the receiver begin first, and does not refuse the stanza any more.
        """
        ...

    def when_kept(self, delivery: Delivery, call: Callable[[], None]) -> None:
        """Call `call` once a delivery is kept, or cannot be; at once if that is so already."""
        ...

    def attempted(self, delivery: Delivery) -> None:
        """Keep the latest attempt of a delivery."""
        ...

    def settle(
        self,
        delivery: Delivery,
        replies: list[bytes],
        made: float,
        reason: str | None,
        then: Settled,
    ) -> None:
        """Keep the end of a stanza; `reason` makes a dead letter. `then` is called with the replies
        when they may be sent: when they are kept, or cannot be; in the order of these calls,
        perhaps at once.
        """
        ...

    def send(
        self, stanzas: Mapping[str, Stanza], made: float, claim: Claim | None, then: Kept
    ) -> None:
        """Keep stanzas that are not replies, by uid, with a claim: all or none. `then` is called
        with them when they may be sent, or with None if they cannot be kept: in the order of these
        calls, perhaps at once.
        """
        ...

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        """Forget replies and other sent stanzas that have arrived."""
        ...

    def abandon(self, reply: Outgoing, why: str) -> None:
        """Abandon a reply or other stanza that the server does not accept."""
        ...

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        """Keep how often unconfirmed stanzas were written, if other processes may read that."""
        ...

    def leave(self, deliveries: Iterable[Delivery]) -> None:
        """Forget deliveries that another node takes over; the journal keeps them."""
        ...


class MemoryQueue:
    """A queue that does not survive the process: `durability = "off"`."""

    durable = False

    def __init__(self, volume: Quota | None = None) -> None:
        self._volume = volume or Quota()

    @property
    def fullness(self) -> float:
        return self._volume.fullness

    @property
    def is_full(self) -> bool:
        return self._volume.is_full

    @property
    def failure(self) -> JournalError | None:
        return None

    async def wait_room(self) -> None:
        while self.is_full:
            await self._volume.wait_less()

    def accept(self, delivery: Delivery, receiver: Receiver) -> None:
        self._volume.add(delivery.weight_bytes)
        receiver.deliver(delivery)

    def when_kept(self, delivery: Delivery, call: Callable[[], None]) -> None:
        call()

    def attempted(self, delivery: Delivery) -> None:
        pass

    def settle(
        self,
        delivery: Delivery,
        replies: list[bytes],
        made: float,
        reason: str | None,
        then: Settled,
    ) -> None:
        self._volume.remove(delivery.weight_bytes)
        then([Outgoing(data, made) for data in replies])

    def send(
        self, stanzas: Mapping[str, Stanza], made: float, claim: Claim | None, then: Kept
    ) -> None:
        then([Outgoing(encode(one), made) for one in stanzas.values()])

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        pass

    def abandon(self, reply: Outgoing, why: str) -> None:
        pass

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        pass

    def leave(self, deliveries: Iterable[Delivery]) -> None:
        pass
