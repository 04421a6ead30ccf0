"""Who listens in on a component's connections: is told bytes, and not what they mean.

No opinions here: what becomes of the bytes is the listener's business.
"""

from typing import Final, Protocol

SHOWN_HANDSHAKE: Final = b"<handshake>redacted</handshake>"


class Tap(Protocol):
    """Is told what comes and goes on one component's connections, in order; one at a time.

    Nothing may wait or raise. Each connection begins with `opened` and ends with `closed`, also one
    that never came about.
    """

    def opened(self, server: str) -> None:
        """A connection is tried."""
        ...

    def received(self, data: bytes, open_bytes: int) -> None:
        """A chunk has come; with its end `open_bytes` of an element are there that is not whole: 0
        between two.
        """
        ...

    def attached(self) -> None:
        """The server has accepted the handshake, in the chunk before."""
        ...

    def sent(self, data: bytes) -> None:
        """A batch is sent, of whole stanzas; in place of the handshake, `SHOWN_HANDSHAKE`."""
        ...

    def closed(self, why: str) -> None:
        """The connection is over, or did not come about."""
        ...


class _NoTap:
    """Listens to nothing."""

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
