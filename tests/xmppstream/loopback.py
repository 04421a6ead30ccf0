"""A scripted server on a real loopback socket: one core in the server's role for each connection.

It shares the core with what it tests; `tests/servers` runs against real ones. It has no time-outs:
the tests stop the clock, and pytest bounds what hangs.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import deque
from typing import TYPE_CHECKING, Self

import trio

from tests.xmppstream.wire import DOMAIN, HANDSHAKE, SECRET, STREAM_ID
from xmppstream import (
    ComponentConnection,
    ComponentStream,
    Event,
    HandshakeReceived,
    Role,
    Server,
    Stanza,
    StanzaReceived,
    StreamOpened,
    StreamOptions,
    connect,
    encode,
    verify,
)

if TYPE_CHECKING:
    from types import TracebackType

HOST = "127.0.0.1"


class Peer:
    """The server's end of one connection."""

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.transport = transport
        self.core = ComponentConnection(Role.SERVER, domain=DOMAIN)
        self.received = b""
        self.sent = b""
        self._events: deque[Event] = deque()

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.sent += data
        await self.transport.send_all(data)

    async def receive_bytes(self) -> bytes:
        """Give what comes next, `b""` at the end; a reset counts as an end."""
        try:
            data = bytes(await self.transport.receive_some(65536))
        except trio.BrokenResourceError:
            data = b""
        self.received += data
        return data

    async def receive(self) -> Event:
        """Give the next event."""
        while not self._events:
            data = await self.receive_bytes()
            assert data, "the component closed the connection"
            self._events.extend(self.core.receive_data(data))
        return self._events.popleft()

    async def receive_rest(self) -> list[Event]:
        """Read until the component closes the connection."""
        while data := await self.receive_bytes():
            self._events.extend(self.core.receive_data(data))
        rest = list(self._events)
        self._events.clear()
        return rest

    async def receive_header(self) -> None:
        """Wait for the component's header."""
        assert isinstance(await self.receive(), StreamOpened)

    async def receive_handshake(self) -> None:
        """Wait for a handshake with the right secret."""
        event = await self.receive()
        assert isinstance(event, HandshakeReceived)
        assert verify(event.digest, STREAM_ID, SECRET)

    async def welcome(self, early: bytes = b"") -> None:
        """Do the server's part up to the handshake, with `early` in the same chunk."""
        await self.receive_header()
        await self.send(self.core.open(stream_id=STREAM_ID))
        await self.receive_handshake()
        assert self.core.accept() == HANDSHAKE
        await self.send(HANDSHAKE + early)

    async def receive_stanza(self) -> Stanza:
        """Wait for a stanza, which must come next."""
        event = await self.receive()
        assert isinstance(event, StanzaReceived), event
        return event.stanza

    async def return_stanza(self) -> Stanza:
        """Send the next stanza back, as servers do with a barrier (S35)."""
        stanza = await self.receive_stanza()
        await self.send(encode(stanza))
        return stanza

    async def hang_up(self) -> None:
        """Close the connection."""
        await self.transport.aclose()

    async def reset(self) -> None:
        """Close the connection by a TCP reset."""
        assert isinstance(self.transport, trio.SocketStream)
        linger = struct.pack("ii", 1, 0)
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await self.transport.aclose()


class Loopback:
    """A listening socket, with or without direct TLS."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.tls: ssl.SSLContext | None = None
        self._listener = listener
        self._peers: list[Peer] = []
        _, port = listener.socket.getsockname()
        self.server = Server(HOST, port)

    @classmethod
    async def open(cls) -> Loopback:
        """Listen on a free port."""
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        return cls(listener)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for peer in self._peers:
            await trio.aclose_forcefully(peer.transport)
        await self._listener.aclose()

    async def accept(self) -> Peer:
        """Wait for a connection."""
        transport: trio.abc.Stream = await self._listener.accept()
        if self.tls is not None:
            transport = trio.SSLStream(transport, self.tls, server_side=True, https_compatible=True)
        self._peers.append(Peer(transport))
        return self._peers[-1]

    async def attach(
        self, options: StreamOptions | None = None, *, early: bytes = b""
    ) -> tuple[ComponentStream, Peer]:
        """Give both ends of a stream behind the handshake."""

        async def welcome() -> None:
            await (await self.accept()).welcome(early)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(welcome)
            stream = await connect(self.server, DOMAIN, SECRET, options)
        return stream, self._peers[-1]
