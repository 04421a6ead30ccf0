"""Deadlines for many short exchanges, without a timer for each.

A cancel scope around each POST was measured to cost a tenth of all that the bridge does. Here it is
an entry in a dictionary, and one task that looks through it, a few times a second, while there is
anything to look for. It is a system task of trio's, since a transport has no nursery; it ends at
`close`, and by itself when nothing has been watched for a while.
"""

from typing import Final, Protocol

import trio

TICK_S: Final = 0.05
_IDLE_TICKS: Final = 40


class Expirable(Protocol):
    """What can be told that its time is up."""

    def expire(self) -> None: ...


class Deadlines:
    """Tells what is late, at most `TICK_S` after its deadline by trio's clock."""

    def __init__(self) -> None:
        self._deadlines: dict[Expirable, float] = {}
        self._watching: trio.CancelScope | None = None

    def add(self, one: Expirable, deadline: float) -> None:
        """Watch it until `remove`."""
        self._deadlines[one] = deadline
        if self._watching is None:
            self._watching = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._look, self._watching)

    def remove(self, one: Expirable) -> None:
        """Watch it no more, if it was watched."""
        self._deadlines.pop(one, None)

    def close(self) -> None:
        """Watch nothing more, until the next `add`."""
        self._deadlines.clear()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _look(self, scope: trio.CancelScope) -> None:
        with scope:
            idle = 0
            while idle < _IDLE_TICKS:
                await trio.sleep(TICK_S)
                idle = 0 if self._deadlines else idle + 1
                now = trio.current_time()
                for one in [one for one, deadline in self._deadlines.items() if deadline <= now]:
                    self.remove(one)
                    one.expire()
            self._watching = None
