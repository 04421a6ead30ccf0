"""What is to be written to the stream, and what was written but is not known to have arrived.

It outlives the stream: what became ready while there was none waits here, and what no barrier (S35)
has confirmed is sent again, byte-identical, on the next one. What was unconfirmed when the server
blamed us for a broken stream is `suspect`: it goes first, one at a time (S11).

Invariant: every stanza is in exactly one of `_suspects`, `_unconfirmed`, `_pending`, in that order
of age; `_held_bytes` is the sum of all.
"""

from collections import deque
from typing import Final

import trio

LIMIT_COUNT: Final = 20_000  # twice the queue: each of its senders can be told at once
LIMIT_BYTES: Final = 64 * 1024 * 1024


class Outbox:
    """A bounded queue of encoded stanzas, between the tasks of stanzas and one link."""

    def __init__(self, limit_count: int = LIMIT_COUNT, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_count = limit_count
        self._limit_bytes = limit_bytes
        self._suspects: deque[bytes] = deque()
        self._unconfirmed: deque[bytes] = deque()
        self._pending: deque[bytes] = deque()
        self._held_bytes = 0
        self._confirmed = 0  # how many have ever left `_unconfirmed`
        self._filled = trio.Event()
        self._taken = trio.Event()
        self._freed = trio.Event()

    def __len__(self) -> int:
        return len(self._suspects) + len(self._unconfirmed) + len(self._pending)

    @property
    def is_full(self) -> bool:
        return len(self) >= self._limit_count or self._held_bytes >= self._limit_bytes

    async def put(self, stanzas: list[bytes]) -> None:
        """Add stanzas that belong together, once there is room: none at all need none.

        Cancellation adds none.
        """
        while stanzas and self.is_full:
            await self._freed.wait()
        self._add(stanzas)

    def put_nowait(self, stanzas: list[bytes]) -> bool:
        """Add stanzas if there is room, and tell whether there was."""
        if stanzas and self.is_full:
            return False
        self._add(stanzas)
        return True

    def _add(self, stanzas: list[bytes]) -> None:
        self._pending.extend(stanzas)
        self._held_bytes += sum(map(len, stanzas))
        if stanzas:
            self._filled.set()

    # --- for the link

    async def wait_pending(self) -> None:
        """Wait until there is something to take."""
        while not self._pending:
            self._filled = trio.Event()
            await self._filled.wait()

    def take(self) -> list[bytes]:
        """Give all that is pending, and count it as unconfirmed from now on."""
        taken = list(self._pending)
        self._unconfirmed += taken
        self._pending.clear()
        self._taken.set()
        self._taken = trio.Event()
        return taken

    async def wait_unconfirmed(self, count: int) -> None:
        """Wait until at least `count` stanzas were taken and are not confirmed."""
        while len(self._unconfirmed) < count:
            await self._taken.wait()

    async def wait_written(self) -> None:
        """Wait until the link has taken all there is."""
        while self._pending or self._suspects:
            await self._taken.wait()

    @property
    def position(self) -> int:
        """A mark behind everything taken so far, for `confirm`."""
        return self._confirmed + len(self._unconfirmed)

    def confirm(self, position: int) -> None:
        """Forget what was taken before `position`: it has arrived."""
        while self._confirmed < position and self._unconfirmed:
            self._confirmed += 1
            self._free(self._unconfirmed.popleft())

    def stream_lost(self, *, blamed: bool) -> None:
        """Have the unconfirmed sent again: in bulk, or one by one where one of it is to blame."""
        if blamed:
            self._suspects += self._unconfirmed
        else:
            self._pending.extendleft(reversed(self._unconfirmed))
        self._confirmed += len(self._unconfirmed)
        self._unconfirmed.clear()

    @property
    def suspect(self) -> bytes | None:
        """The oldest stanza that must be sent by itself."""
        return self._suspects[0] if self._suspects else None

    def drop_suspect(self) -> None:
        """Forget the oldest suspect: it has arrived, or is given up."""
        self._free(self._suspects.popleft())
        self._taken.set()
        self._taken = trio.Event()

    def _free(self, stanza: bytes) -> None:
        self._held_bytes -= len(stanza)
        self._freed.set()
        self._freed = trio.Event()
