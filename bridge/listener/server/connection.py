"""One client's connection: bytes in both directions, each within bounds of size and time.

A client may take so long for the head of a request, be idle for so long between two, and take so
long to read a piece of a response; the time for a body is `body`'s business. Nothing here is
shielded: when the listener is cancelled, a connection is closed at once.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import trio
from anycorn.app_wrappers import ASGIWrapper
from anycorn.config import Config
from anycorn.events import Closed, Event, RawData, Updated
from anycorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    HTTPDisconnectEvent,
    Scope,
    TaskGroup,
)
from anycorn.worker_context import WorkerContext

from bridge.listener.server.protocol import Protocol

_GONE: Final = HTTPDisconnectEvent(type="http.disconnect")
HEAD_S: Final = 10.0
IDLE_S: Final = 60.0
WRITE_S: Final = 20.0
LINGER_S: Final = 1.0
LINGER_BYTES: Final = 256 * 1024
_RECEIVE_BYTES: Final = 16 * 1024


class Inbox:
    """One request's events: one at a time, so that a body waits in the socket."""

    def __init__(self) -> None:
        self._event: ASGIReceiveEvent | None = None
        self._gone = False
        self._closed = False
        self._changed = trio.Event()

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Add an event, when the one before has been taken; what nobody will take is dropped.
        That the client has left is told at once.
        """
        if event["type"] == "http.disconnect":
            self._gone = True
            self._change()
            return
        while self._event is not None and not self._closed and not self._gone:
            await self._changed.wait()
        if not self._closed and not self._gone:
            self._event = event
            self._change()

    async def receive(self) -> ASGIReceiveEvent:
        """Give the next event; after the last one, that the client has left, again and again."""
        while self._event is None and not self._gone:
            await self._changed.wait()
        event, self._event = self._event, None
        self._change()
        return _GONE if event is None else event

    def close(self) -> None:
        """Nothing is taken any more."""
        self._closed = True
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Applications:
    """Runs the application for one connection: what anycorn calls a task group."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start it for a request, and give what takes the request's events."""
        inbox = Inbox()
        self._nursery.start_soon(_run, app, scope, inbox, send)
        return inbox.put


async def _run(
    app: AppWrapper,
    scope: Scope,
    inbox: Inbox,
    send: Callable[[ASGISendEvent | None], Awaitable[None]],
) -> None:
    """Run the application. What it raises ends the connection; its answer was sent before."""
    try:
        await app(scope, inbox.receive, send, _never, _never)
    finally:
        inbox.close()
    await send(None)


def _never(*_: Any) -> None:
    """Stand in for what WSGI would need."""
    raise AssertionError("an ASGI application needs no thread")


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
