"""One connection to a server, TCP or TLS, as few calls above the system's as can be.

Nothing of HTTP is here. Errors are OSError, TLS' own among them, in words for people.

Gap: over TLS, what the server sends unasked in the same breath as an answer, but in a record of its
own, is not noticed by `is_stale`: trio has it already, and does not tell.
"""

import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import trio
from trio.lowlevel import wait_readable, wait_writable

from xmppstream.dial import dial, why_failed

TOGETHER_BYTES: Final = 4096
"""What goes at once into the empty buffer of a socket, whatever the system: more may not."""


_TOGETHER_COUNT: Final = 64  # so that the first waits some ms at the most
_CURRENT: Final = trio.lowlevel.RunVar["SendCoalescer"]("departure")
_CHUNK_BYTES: Final = 16 * 1024


class SendCoalescer(trio.abc.Instrument):
    """What is ready to be sent."""

    def __init__(self) -> None:
        self._ready: list[tuple[socket.socket, bytes]] = []

    @classmethod
    def current(cls) -> "SendCoalescer":
        """Give that of this trio run."""
        try:
            return _CURRENT.get()
        except LookupError:
            coalescer = cls()
            _CURRENT.set(coalescer)
            trio.lowlevel.add_instrument(coalescer)
            return coalescer

    def put(self, to: socket.socket, data: bytes) -> None:
        """Have at most `TOGETHER_BYTES` sent, whole, to a socket that has sent all before.

        Where that fails, whoever reads from the socket finds its end.
        """
        self._ready.append((to, data))
        if len(self._ready) >= _TOGETHER_COUNT:
            self.before_io_wait(0)

    def before_io_wait(self, timeout: float) -> None:
        """Send what is ready. Called by trio, which would call no more if this raised."""
        for to, data in self._ready:
            is_sent = False
            with suppress(OSError):  # also where it was closed meanwhile
                is_sent = to.send(data) == len(data)
            if not is_sent:
                with suppress(OSError):
                    to.shutdown(socket.SHUT_RDWR)
        self._ready.clear()


_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Connection(Protocol):
    """What a connection asks of its socket. Each call may raise OSError."""

    def send(self, data: bytes) -> int:
        """Send what goes at once, or in a moment, and give how many bytes that is; the rest is for
        `send_all`.
        """
        ...

    async def send_all(self, data: memoryview) -> None: ...

    def wait(self) -> Awaitable[None]:
        """Wait until something has come, or the end."""
        ...

    def receive(self) -> bytes:
        """Give what has come; nothing at the end. BlockingIOError: it was nothing, `wait` again."""
        ...

    def acknowledge(self) -> None:
        """Do not wait with the ACK: the peer may hold back the rest until it comes."""
        ...

    def is_stale(self) -> object:
        """Tell, by its truth, whether an idle connection has something to read: its end, or what
        nobody asked for.
        """
        ...

    def close(self) -> None:
        """Close it, also under a task that waits: that gets `trio.ClosedResourceError`."""
        ...


class _TcpConnection:
    """A socket without trio's layers: one system call, one wait. What is asked for each answer is
    bound to its socket here, so that no Python of ours is between.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._coalescer = SendCoalescer.current()
        self.wait = partial(wait_readable, self._socket)
        self.receive = partial(self._socket.recv, _CHUNK_BYTES)
        idle = select.poll()  # a peek by `recv` would cost an exception
        idle.register(self._socket, select.POLLIN)
        self.is_stale = partial(idle.poll, 0)

    async def send_all(self, data: memoryview) -> None:
        while data:
            await wait_writable(self._socket)
            data = data[self._send(data) :]

    def send(self, data: bytes) -> int:
        if len(data) > TOGETHER_BYTES:
            return self._send(data)
        self._coalescer.put(self._socket, data)
        return len(data)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def acknowledge(self) -> None:
        _acknowledge(self._socket.setsockopt)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class _TlsConnection:
    """TLS. Closed without a word: the answer was whole, or is not wanted."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._socket = stream.transport_stream.socket
        self._received = b""

    def send(self, data: bytes) -> int:
        return 0  # trio can only do it whole

    async def send_all(self, data: memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise _os_error(error) from None

    async def wait(self) -> None:
        try:
            self._received = bytes(await self._stream.receive_some(_CHUNK_BYTES))
        except trio.BrokenResourceError as error:
            raise _os_error(error) from None

    def receive(self) -> bytes:
        received, self._received = self._received, b""
        return received

    def acknowledge(self) -> None:
        _acknowledge(self._socket.setsockopt)

    def is_stale(self) -> bool:
        return self._socket.is_readable()

    def close(self) -> None:
        self._socket.close()


async def open_connection(host: str, port: int, context: ssl.SSLContext | None) -> Connection:
    """Connect, over TLS if there is a context; see `dial` for errors and cancellation."""
    stream = await dial(host, port, context)
    return (
        _TcpConnection(stream) if isinstance(stream, trio.SocketStream) else _TlsConnection(stream)
    )


def _acknowledge(setsockopt: Callable[[int, int, int], None]) -> None:
    if _QUICKACK is not None:
        with suppress(OSError):
            setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def _os_error(error: BaseException) -> OSError:
    return OSError(why_failed(error))
