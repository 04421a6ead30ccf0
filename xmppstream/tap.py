"""The interface of an observer of a component's connections: it gets the bytes, not their meaning.

The use of the bytes is up to the observer.
"""

from typing import Final, Protocol

SHOWN_HANDSHAKE: Final = b"<handshake>redacted</handshake>"


class Tap(Protocol):
    """Gets the traffic on one component's connections, in order, one connection at a time.

    No method may wait or raise. Each connection begins with `opened` and ends with `closed`, even
    if it was never established.
    """

    def opened(self, server: str) -> None:
        """A connection attempt begins."""
        ...

    def received(self, data: bytes, open_bytes: int) -> None:
        """A chunk has arrived. At its end, `open_bytes` bytes belong to an incomplete element: 0
        between two elements.
        """
        ...

    def attached(self) -> None:
        """The server has accepted the handshake, in the previous chunk."""
        ...

    def sent(self, data: bytes) -> None:
        """A batch of whole stanzas is sent; `SHOWN_HANDSHAKE` replaces the handshake."""
        ...

    def closed(self, why: str) -> None:
        """The connection is over, or was not established."""
        ...


class _NoTap:
    """Ignores everything."""

    def opened(self, server: str) -> None:
        pass

    def received(self, data: bytes, open_bytes: int) -> None:
        pass

    def attached(self) -> None:
        pass

    def sent(self, data: bytes) -> None:
        pass

    def closed(self, why: str) -> None:
        pass


NO_TAP: Final = _NoTap()
