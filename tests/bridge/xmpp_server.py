"""A scripted XMPP server on a real loopback socket, for whole links and daemons.

For each connection a core in the server's role. It accepts handshakes and returns what a component
sends to its own domain (S35), unless told otherwise. It has no time-outs: tests stop the clock.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Self

import trio
from attrs import define, field

from xmppstream import (
    ComponentConnection,
    HandshakeReceived,
    Role,
    Server,
    Stanza,
    StanzaReceived,
    StreamClosed,
    StreamCondition,
    StreamFaulted,
    StreamOpened,
    encode,
    verify,
)

HOST = "127.0.0.1"
SECRET = "s3cret"
_STREAM_ID = "3BF96D32"


class Session:
    """The server's end of one connection. `stanzas` are those not addressed to the component."""

    def __init__(self, server: "XmppServer", transport: trio.SocketStream) -> None:
        self.domain = ""
        self.stanzas: list[Stanza] = []
        self.received = b""
        self.barriers = 0
        self.fault: StreamFaulted | None = None
        self.closed_in_order = False
        self.gone = trio.Event()
        self._server = server
        self._transport = transport
        self._core = ComponentConnection(Role.SERVER)
        self._changed = trio.Event()
        self._sending = trio.Lock()
        self.is_over = False  # then what comes is not looked at
        self._held: list[Stanza] = []

    @property
    def ids(self) -> list[str | None]:
        """The ids of the stanzas, in order."""
        return [stanza.id for stanza in self.stanzas]

    async def receive(self, count: int) -> list[Stanza]:
        """Wait until `count` stanzas in all have come, and give all."""
        await self._wait(lambda: len(self.stanzas) >= count)
        return self.stanzas

    async def wait_barriers(self, count: int) -> None:
        """Wait until `count` stanzas in all have come that the component sent to itself."""
        await self._wait(lambda: self.barriers >= count)

    async def return_barriers(self) -> None:
        """Return what the component sent to itself, and was not returned at once."""
        held, self._held = self._held, []
        await self.send(*held)

    async def send(self, *stanzas: Stanza) -> None:
        """Send stanzas to the component."""
        await self.send_bytes(b"".join(map(encode, stanzas)))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        async with self._sending:
            await self._transport.send_all(data)

    async def fail(self, condition: StreamCondition) -> None:
        """End the stream by an error; what comes after is not looked at."""
        self.is_over = True
        await self.send_bytes(self._core.close(StreamFaulted(condition)))

    async def hang_up(self) -> None:
        """Close the connection without a word."""
        await self._transport.aclose()

    async def reset(self) -> None:
        """Close the connection by a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await self._transport.aclose()

    async def run(self) -> None:
        """Serve until either side is gone."""
        try:
            while data := await self._transport.receive_some(65536):
                await self._server.reading.wait()
                self.received += data
                for event in self._core.receive_data(bytes(data)):
                    await self._take(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.gone.set()
            self._change()

    async def _take(self, event: object) -> None:
        if self.is_over:
            return
        match event:
            case StreamOpened(to=to):
                self.domain = to or ""
                await self.send_bytes(self._core.open(stream_id=_STREAM_ID))
            case HandshakeReceived(digest=digest):
                assert verify(digest, _STREAM_ID, SECRET)
                self._server.authenticated.append(self)
                await self._server.admit(self, self._core)
            case StanzaReceived(stanza=stanza) if stanza.to == self.domain:
                self.barriers += 1
                self._change()
                self._held.append(stanza)
                if self._server.returns_barriers:
                    await self.return_barriers()
            case StanzaReceived(stanza=stanza):
                self.stanzas.append(stanza)
                self._change()
                await self._server.on_stanza(self, stanza)
            case StreamClosed():
                self.closed_in_order = True
                await self.send_bytes(self._core.close())
            case StreamFaulted():
                self.fault = event
                await self.send_bytes(self._core.close())

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_fault(self) -> StreamFaulted:
        """Wait for a stream error of the component's."""
        await self._wait(lambda: self.fault is not None)
        assert self.fault is not None
        return self.fault

    async def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert not self.gone.is_set(), "the connection is gone"
            await self._changed.wait()


async def _take_it(_: Session, __: Stanza) -> None:
    await trio.lowlevel.checkpoint()


@define
class XmppServer:
    """All connections, in order; lives as long as the nursery."""

    returns_barriers: bool = True
    reading: trio.Event = field(factory=trio.Event)
    refusals: dict[str, StreamCondition] = field(factory=dict)
    on_stanza: Callable[[Session, Stanza], Awaitable[None]] = _take_it
    port: int = 0
    sessions: list[Session] = field(factory=list)
    authenticated: list[Session] = field(factory=list)
    """Those that have sent a handshake, in order."""
    _attached: dict[str, list[Session]] = field(factory=dict, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)

    @classmethod
    async def start(cls, nursery: trio.Nursery) -> Self:
        """Listen on a free port."""
        server = cls()
        server.reading.set()
        [listener] = await nursery.start(partial(trio.serve_tcp, server._serve, 0, host=HOST))
        server.port = listener.socket.getsockname()[1]
        return server

    @property
    def address(self) -> Server:
        """Where it listens, as a configuration has it."""
        return Server(HOST, self.port)

    async def attached(self, domain: str, count: int = 1) -> Session:
        """Wait for the `count`-th time that a component is attached, and give that connection."""
        while len(self._attached.get(domain, [])) < count:
            await self._changed.wait()
        return self._attached[domain][count - 1]

    async def connected(self, count: int) -> Session:
        """Wait for the `count`-th connection, attached or not."""
        while len(self.sessions) < count:
            await self._changed.wait()
        return self.sessions[count - 1]

    async def admit(self, session: Session, core: ComponentConnection) -> None:
        """Accept a handshake, or refuse it where `refusals` says so."""
        refusal = self.refusals.get(session.domain)
        if refusal is not None:
            await session.fail(refusal)
            return
        await session.send_bytes(core.accept())
        self._attached.setdefault(session.domain, []).append(session)
        self._change()

    async def _serve(self, transport: trio.SocketStream) -> None:
        session = Session(self, transport)
        self.sessions.append(session)
        self._change()
        await session.run()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
