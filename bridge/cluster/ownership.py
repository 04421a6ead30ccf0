"""What this node holds: asked on the way of every stanza, so it must be cheap."""

from collections.abc import Callable, Collection
from typing import Protocol

from bridge.cluster.partition import ALL_PARTS


class Ownership(Protocol):
    """The leases of this node. All belongs to trio's thread.

    A lease counts as held from the batch that took it until the node begins to give it away, or is
    no longer alive.
    """

    @property
    def is_alive(self) -> bool:
        """Whether this node may still use its leases. Ask before each POST and each write to the
        stream: a process that was frozen must not go on with what others have taken over.
        """
        ...

    def is_gateway(self, component: str) -> bool:
        """Return whether this node attaches as the component."""
        ...

    def other_gateway(self, component: str) -> int | None:
        """Return the number of the other node that attaches as the component, as far as this node
        knows; None if there is none, or it is this one.
        """
        ...

    def owns(self, component: str, part: int) -> bool:
        """Return whether this node POSTs the stanzas of a partition."""
        ...

    def parts(self, component: str) -> frozenset[int]:
        """Return the partitions that this node has of a component."""
        ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each change of what is held, and when the node is no longer alive,
        until the returned function is called. It must not wait, and not raise.
        """
        ...

    def watch(self, component: str, busy: Callable[[], Collection[int]]) -> None:
        """Ask `busy` for the parts of a component that are not to be given away yet, because
        something of them is running; `GATEWAY` is one of them. `changed` asks it again.
        """
        ...

    def changed(self) -> None:
        """Something that was running has ended."""
        ...

    def attached(self, component: str, is_attached: bool) -> None:
        """Note that a component has attached to its server, or was detached."""
        ...

    def has_successor(self, component: str) -> bool:
        """Return whether another node attaches as the component at once if this one stops."""
        ...


class Alone:
    """The only process: everything is its own. For a journal on SQLite, or none."""

    @property
    def is_alive(self) -> bool:
        return True

    def is_gateway(self, component: str) -> bool:
        return True

    def other_gateway(self, component: str) -> int | None:
        return None

    def owns(self, component: str, part: int) -> bool:
        return True

    def parts(self, component: str) -> frozenset[int]:
        return ALL_PARTS

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None  # it never changes

    def watch(self, component: str, busy: Callable[[], Collection[int]]) -> None:
        """Do nothing: nothing is ever given away."""

    def changed(self) -> None:
        """Do nothing."""

    def attached(self, component: str, is_attached: bool) -> None:
        """Do nothing: nobody else could."""

    def has_successor(self, component: str) -> bool:
        return False
