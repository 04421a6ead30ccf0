"""A client's bytes in both directions, within bounds of time; cancellation closes at once."""

from contextlib import suppress
from typing import Final

import trio

RECEIVE_BYTES: Final = 16 * 1024
WRITE_S: Final = 20.0
LINGER_S: Final = 1.0
LINGER_BYTES: Final = 256 * 1024
_LEFT: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class ClientStream:
    """A socket that, once the client has left, reads as ended and drops what is written."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.is_closed = False

    @property
    def client(self) -> tuple[str, int] | None:
        """The IP address and port of the client; None on a Unix socket, or if it has left."""
        try:
            name = self._stream.socket.getpeername()
        except OSError:
            return None
        return name[:2] if isinstance(name, tuple) else None

    async def receive(self) -> bytes:
        """Return the next bytes; none if no more will come. Cancellation loses nothing."""
        with suppress(*_LEFT):
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        return b""

    async def send(self, data: bytes) -> None:
        """Write all of it. If the client does not read it within `WRITE_S`, or this is cancelled,
        the connection is closed: half of a response may be out.
        """
        is_sent = False
        try:
            with trio.move_on_after(WRITE_S), suppress(*_LEFT):
                await self._stream.send_all(data)
                is_sent = True
        finally:
            if not is_sent:
                self.close()

    async def linger(self) -> None:
        """Send the end, and read on for a moment: closing with bytes unread would reset the
        connection, and take back the response that the client has not read yet.
        """
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_S), suppress(*_LEFT):
            await self._stream.send_eof()
            while left > 0 and (data := await self.receive()):
                left -= len(data)

    def close(self) -> None:
        """Close at once; whoever waits in it is woken."""
        self.is_closed = True
        self._stream.socket.close()
