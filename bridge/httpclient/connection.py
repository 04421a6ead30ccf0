"""One connection to a server, TCP or TLS, with as few calls above the system calls as possible.

It knows nothing of HTTP. Errors, including those of TLS, are OSError with a message for people.

Gap: over TLS, `is_stale` does not notice unexpected data that arrives together with a response, but
in a record of its own: trio has already read it, and does not show it.
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
"""The size that every system takes at once into the empty buffer of a socket."""


_TOGETHER_COUNT: Final = 64  # so that the first one waits a few ms at most
_CURRENT: Final = trio.lowlevel.RunVar["SendCoalescer"]("departure")
_CHUNK_BYTES: Final = 16 * 1024


class SendCoalescer(trio.abc.Instrument):
    """Collects small sends until trio waits for I/O, and then makes them together."""

    def __init__(self) -> None:
        self._ready: list[tuple[socket.socket, bytes]] = []

    @classmethod
    def current(cls) -> "SendCoalescer":
        """Return the coalescer of this trio run."""
        try:
            return _CURRENT.get()
        except LookupError:
            coalescer = cls()
            _CURRENT.set(coalescer)
            trio.lowlevel.add_instrument(coalescer)
            return coalescer

    def put(self, to: socket.socket, data: bytes) -> None:
        """Queue at most `TOGETHER_BYTES` for a socket that has sent everything before.

        If they cannot be sent in one call, the socket is shut down: its reader finds the end.
        """
        self._ready.append((to, data))
        if len(self._ready) >= _TOGETHER_COUNT:
            self.before_io_wait(0)

    def before_io_wait(self, timeout: float) -> None:
        """Send everything queued. Trio calls this; if it raised, trio would not call it again."""
        for to, data in self._ready:
            is_sent = False
            with suppress(OSError):  # also if it was closed meanwhile
                is_sent = to.send(data) == len(data)
            if not is_sent:
                with suppress(OSError):
                    to.shutdown(socket.SHUT_RDWR)
        self._ready.clear()


_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Connection(Protocol):
    """A connection as the pool uses it. Each call may raise OSError."""

    def send(self, data: bytes) -> int:
        """Send as much as possible now or in a moment, and return its number of bytes; pass the
        rest to `send_all`.
        """
        ...

    async def send_all(self, data: memoryview) -> None: ...

    def wait(self) -> Awaitable[None]:
        """Wait until data or the end has arrived."""
        ...

    def receive(self) -> bytes:
        """Return the data that has arrived; it is empty at the end.

        Raises:
            BlockingIOError: if there is none after all: `wait` again.
        """
        ...

    def acknowledge(self) -> None:
        """Send the ACK at once: the peer may hold back the rest until it arrives."""
        ...

    def is_stale(self) -> object:
        """Return a true value if an idle connection has something to read: its end, or unexpected
        data.
        """
        ...

    def close(self) -> None:
        """Close it, even while a task waits; that task gets `trio.ClosedResourceError`."""
        ...


class _TcpConnection:
    """A socket without trio's layers: one system call, one wait. The calls that each response needs
    are bound to the socket here, so none of our Python code runs in between.
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
    """TLS, closed without close_notify: the response was complete, or is not wanted."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._socket = stream.transport_stream.socket
        self._received = b""

    def send(self, data: bytes) -> int:
        return 0  # trio can only send everything

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
    if context is None and _is_ipv4(host):
        return _TcpConnection(await _dial_ipv4(host, port))
    stream = await dial(host, port, context)
    return (
        _TcpConnection(stream) if isinstance(stream, trio.SocketStream) else _TlsConnection(stream)
    )


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):  # ValueError: it is not ASCII, or contains NUL
        return False
    return True


async def _dial_ipv4(host: str, port: int) -> trio.SocketStream:
    """Connect as `dial` does, without a race between addresses: there is only one. A burst opens
    hundreds of connections, and the race was measured to cost more than half of the CPU of each.
    """
    connecting = trio.socket.socket()
    connected = False
    try:
        await connecting.connect((host, port))
        connected = True
        return trio.SocketStream(connecting)
    finally:
        if not connected:
            connecting.close()


def _acknowledge(setsockopt: Callable[[int, int, int], None]) -> None:
    if _QUICKACK is not None:
        with suppress(OSError):
            setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def _os_error(error: BaseException) -> OSError:
    return OSError(why_failed(error))
