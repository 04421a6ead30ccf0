"""One client's connection: bytes in both directions, each within bounds of size and time.

A client may take so long for the head of a request, be idle for so long between two, and take so
long to read a piece of a response; the time for a body is `body`'s business. Nothing here is
shielded: when the listener is cancelled, a connection is closed at once.
"""

import math
from collections.abc import Callable
from typing import Final, cast

import trio
from anycorn.app_wrappers import ASGIWrapper
from anycorn.config import Config
from anycorn.events import Closed, Event, RawData, Updated
from anycorn.typing import ConnectionState, TaskGroup
from anycorn.worker_context import WorkerContext

from bridge.listener.server.inbox import Applications
from bridge.listener.server.protocol import Protocol

HEAD_S: Final = 10.0
IDLE_S: Final = 60.0
WRITE_S: Final = 20.0
LINGER_S: Final = 1.0
LINGER_BYTES: Final = 256 * 1024
_RECEIVE_BYTES: Final = 16 * 1024


class Connection:
    """A connection at work; `run` is its whole life."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        on_idle: Callable[["Connection", bool], None],
    ) -> None:
        """`on_idle` is told when it begins, or ceases, to wait for a request."""
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._on_idle = on_idle
        self._send_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._idle = True
        self._head_begun = False
        self._lingering = False

    async def run(self) -> None:
        """Serve the client until it leaves, or until it takes too long."""
        try:
            async with trio.open_nursery() as nursery:
                self._protocol = Protocol(
                    self._app,
                    self._config,
                    self._context,
                    cast("TaskGroup", Applications(nursery)),
                    ConnectionState({}),
                    None,
                    None,
                    self._send,
                    None,
                )
                self._reading.deadline = trio.current_time() + HEAD_S
                with self._reading:
                    await self._read()
                await self._protocol.handle(Closed())
        finally:
            await trio.aclose_forcefully(self._stream)

    def end(self) -> None:
        """Read no more: an idle client is let go, another one gets its response before."""
        self._reading.cancel()

    async def _read(self) -> None:
        lingered = 0
        while True:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            if self._lingering:
                lingered += len(data)
                if lingered > LINGER_BYTES:
                    return
                continue
            if self._idle and not self._head_begun:
                self._head_begun = True
                self._reading.deadline = trio.current_time() + HEAD_S
            await self._protocol.handle(RawData(bytes(data)))

    async def _send(self, event: Event) -> None:
        match event:
            case RawData(data=data):
                await self._write(data)
            case Updated(idle=idle):
                self._set_idle(idle)
            case Closed():
                await self._finish()

    async def _write(self, data: bytes) -> None:
        """Write, or give the client up where it does not read."""
        async with self._send_lock:
            with trio.move_on_after(WRITE_S) as scope:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    scope.cancel()
        if scope.cancel_called:
            await trio.aclose_forcefully(self._stream)  # half of a response may be there
            self._reading.cancel()

    def _set_idle(self, idle: bool) -> None:
        self._idle, self._head_begun = idle, False
        if not self._lingering:
            self._reading.deadline = trio.current_time() + IDLE_S if idle else math.inf
        self._on_idle(self, idle)

    async def _finish(self) -> None:
        """Say that no more comes, and read on for a moment: closing with bytes unread would reset
        the connection, and take back the response that the client has not read yet.
        """
        if not self._lingering:
            self._lingering = True
            try:
                await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._reading.cancel()
            except trio.BusyResourceError:
                pass  # another response is being written, to a client that pipelines
            self._reading.deadline = trio.current_time() + LINGER_S
        await self._protocol.handle(Closed())
