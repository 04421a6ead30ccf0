"""The task of a component's rooms: it sends what they have to say, when it is due."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from bridge.xmpp.outbox import Outbox, Outgoing
from bridge.xmpp.room.rooms import Rooms

_LATE: Final = 0.001  # s; a deadline that is due is met, whatever the clock rounds


class RoomRunner:
    """Runs the rooms of one component. `run` is its service."""

    def __init__(
        self,
        rooms: Rooms,
        outbox: Outbox,
        deliver: Callable[[], Awaitable[None]],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`deliver` takes what is `inbound`; `now` is Unix time in s."""
        self._rooms = rooms
        self._outbox = outbox
        self._deliver = deliver
        self._now = now
        self._wake = trio.Event()
        rooms.wake = self._wake_up

    async def run(self) -> None:
        """Take the steps of all rooms. Ends only by cancellation."""
        rooms = self._rooms
        while True:
            self._wake = trio.Event()
            rooms.advance(trio.current_time())
            self.flush()
            if rooms.inbound:
                await self._deliver()
            with trio.move_on_at(rooms.next_due + _LATE):
                await self._wake.wait()

    def flush(self) -> None:
        """Send what the rooms have to say. It is written once: the next stream joins again."""
        stanzas, self._rooms.outbound = self._rooms.outbound, []
        made = self._now()
        self._outbox.put([Outgoing(one.encode(), made, is_answer=True) for one in stanzas])

    def _wake_up(self) -> None:
        self._wake.set()
