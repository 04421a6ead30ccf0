"""The small state of a component: rooms, subscribers, profiles, and what else must outlive it.

An entry is named by its kind (such as `room`) and a key (such as a JID). Reads never wait, because
everything is in memory. Writes are kept by the journal, if there is one, a moment later: a crash
may lose what was written last, never a part of an entry. Who tells others of a change waits for
`when_kept`.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import trio

KEY_LIMIT_BYTES: Final = 8 * 1024
"""Two JIDs of the greatest length fit."""
VALUE_LIMIT_BYTES: Final = 256 * 1024
"""A picture of the greatest size fits, in base64."""


class StateTooLarge(ValueError):
    """An entry exceeds `KEY_LIMIT_BYTES` or `VALUE_LIMIT_BYTES`."""


class StateStore(Protocol):
    """The entries of one component. No method waits."""

    def entries(self, kind: str) -> Mapping[str, bytes]:
        """Return a copy of all entries of a kind, by key, in the order of their keys."""
        ...

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the value of an entry, or None."""
        ...

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Keep a value, in place of an older one. The same value again costs nothing.

        Raises:
            StateTooLarge: if the key or the value is too long; nothing was changed.
        """
        ...

    def delete(self, kind: str, key: str) -> None:
        """Forget an entry, if there is one."""
        ...

    def when_kept(self, then: Callable[[], None]) -> None:
        """Call `then` once all changes up to now are kept: at once, if they are. A journal that
        fails keeps them later, and is not waited for.
        """
        ...


class MemoryState:
    """State that does not survive the process."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, bytes]] = {}

    def entries(self, kind: str) -> Mapping[str, bytes]:
        """Return a copy of all entries of a kind, by key, in the order of their keys."""
        return dict(sorted(self._values.get(kind, {}).items()))

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the value of an entry, or None."""
        return self._values.get(kind, {}).get(key)

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Keep a value, in place of an older one.

        Raises:
            StateTooLarge: if the key or the value is too long; nothing was changed.
        """
        if len(key.encode()) > KEY_LIMIT_BYTES:
            raise StateTooLarge(f"a key is longer than {KEY_LIMIT_BYTES} bytes")
        if len(value) > VALUE_LIMIT_BYTES:
            raise StateTooLarge(f"a value is longer than {VALUE_LIMIT_BYTES} bytes")
        if self.get(kind, key) != value:
            self._values.setdefault(kind, {})[key] = value
            self._changed(kind, key, value)

    def delete(self, kind: str, key: str) -> None:
        """Forget an entry, if there is one."""
        if self._values.get(kind, {}).pop(key, None) is not None:
            self._changed(kind, key, None)

    def when_kept(self, then: Callable[[], None]) -> None:
        """Call `then` at once."""
        then()

    def _changed(self, kind: str, key: str, value: bytes | None) -> None:
        """Called after each change; None means that the entry is gone."""


async def kept(state: StateStore) -> None:
    """Wait until all changes up to now are kept; see `StateStore.when_kept`."""
    done = trio.Event()
    state.when_kept(done.set)
    await done.wait()
