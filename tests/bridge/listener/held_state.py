"""A small state whose changes are kept when a test says so."""

from collections.abc import Callable

from bridge.xmpp.state import MemoryState


class HeldState(MemoryState):
    """Keeps nothing before `release`."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Callable[[], None]] = []

    def when_kept(self, then: Callable[[], None]) -> None:
        self._waiting.append(then)

    def release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
