"""Refuses stanzas while the queue is full, after a wait that the server tolerates (S16)."""

from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.journal.queue import DeliveryQueue
from bridge.payload.error import OVERLOADED
from bridge.xmpp.bounce import Bouncer
from xmppstream import Stanza

FULL_WAIT_S: Final = 10.0
CALM_BELOW: Final = 0.75  # share of the queue's limits below which an overload is over


class Overload:
    """Limits how long one component's reader waits for a full queue."""

    def __init__(self, queue: DeliveryQueue, bouncer: Bouncer, log: FilteringBoundLogger) -> None:
        self._queue = queue
        self._bouncer = bouncer
        self._log = log
        self._patience_ends: float | None = None  # by trio's clock; None if there is no overload
        self._refused = 0  # stanzas, during this overload
        self._stopped = False
        self._waiting = trio.CancelScope()

    @property
    def is_felt(self) -> bool:
        """Whether the queue was full lately."""
        return self._patience_ends is not None

    async def wait_room(self) -> None:
        """Wait for room, at most until `FULL_WAIT_S` after the first stanza that found none.

        The limit is not per stanza: if an endpoint is slightly too slow, every stanza waits for
        another's place, and the server cuts off a reader that waits all the time (S16).
        """
        if self._patience_ends is None:
            self._patience_ends = trio.current_time() + FULL_WAIT_S
        if self._stopped:
            return
        with trio.move_on_at(self._patience_ends) as self._waiting:
            await self._queue.wait_room()

    def refuse(self, stanza: Stanza, waiting: int) -> None:
        """Refuse a stanza that found no room; `waiting` is the number of stanzas that wait."""
        if not self._refused:
            self._log.error("queue full, refusing stanzas", waiting=waiting)
        self._refused += 1
        self._bouncer.meter.end(stanza.kind, "overloaded")
        self._bouncer.tell(stanza, OVERLOADED)

    def note_room(self) -> None:
        """Record that a stanza found room: the overload ends once there is enough."""
        if self._patience_ends is None or self._queue.fullness > CALM_BELOW:
            return
        self._patience_ends = None
        if self._refused:
            self._log.warning("queue has room again", refused=self._refused)
            self._refused = 0

    def stop(self) -> None:
        """End the current wait, and wait no more."""
        self._stopped = True
        self._waiting.cancel()
