"""Deadlines for many short exchanges, without a timer for each.

A cancel scope around each POST was measured to cost a tenth of all the work of the bridge. Here a
deadline is an entry in a dictionary, which one task scans a few times a second while it has
entries. It is a system task of trio, since a transport has no nursery; it ends at `close`, and by
itself after a while without entries.
"""

from typing import Final, Protocol

import trio

TICK_S: Final = 0.05
_IDLE_TICKS: Final = 40


class Expirable(Protocol):
    """An object that can be told that its time is up."""

    def expire(self) -> None: ...


class Deadlines:
    """Expires objects, at most `TICK_S` after their deadline by trio's clock."""

    def __init__(self) -> None:
        self._deadlines: dict[Expirable, float] = {}
        self._watching: trio.CancelScope | None = None

    def add(self, one: Expirable, deadline: float) -> None:
        """Watch an object until `remove`."""
        self._deadlines[one] = deadline
        if self._watching is None:
            self._watching = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._look, self._watching)

    def remove(self, one: Expirable) -> None:
        """Stop watching an object, if it is watched."""
        self._deadlines.pop(one, None)

    def close(self) -> None:
        """Stop watching everything, until the next `add`."""
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
