"""Accepts connections, a bounded number at a time, until the daemon ends.

Over the bound, the client that has been idle for longest is disconnected; if none has been idle for
long enough, the new one is.
"""

import errno
import resource
import socket
from typing import Final

import trio
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from bridge.listener.server.connection import Connection
from bridge.telemetry.log import logger

FILES_KEPT: Final = 256
"""File descriptors that are left to the rest of the daemon."""
YOUNG_S: Final = 2.0
"""How long a connection is safe from being closed for another one."""
FULL_PAUSE_S: Final = 0.02
"""How long no connection is accepted after one was refused. A client that reconnects at once, again
and again, would otherwise take the time that the stanzas need.
"""
_NO_MORE_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """Serves an application at a socket."""

    def __init__(
        self, app: ASGIApp, max_connections: int, log: FilteringBoundLogger | None = None
    ) -> None:
        self._app = app
        self._log = log or logger()
        self._limit = within_files(max_connections)
        if self._limit < max_connections:
            self._log.warning(
                "fewer connections than max_connections are accepted",
                max_connections=max_connections,
                accepted=self._limit,
                hint="raise the limit of open files (LimitNOFILE, ulimit -n)",
            )
        self._all: set[Connection] = set()
        self._idle: dict[Connection, float] = {}
        """Connections that wait for a request, and since when; the longest first."""

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._all)

    async def run(
        self,
        listening: socket.socket,
        stopping: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled. Once `stopping` is set, no connection is accepted, idle ones are
        closed, and requests under way get their response, unless `run` is cancelled before.

        Cancellation closes all connections at once.
        """
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._accept, listener, connections)
                task_status.started()
                await stopping.wait()
                accepting.cancel_scope.cancel()
            for connection in tuple(self._all):
                connection.end()
            await trio.sleep_forever()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _NO_MORE_FILES:
                    raise
                self._log.warning("no more connections can be accepted", why=error.strerror)
                await trio.sleep(FULL_PAUSE_S)
                continue
            if self._has_room():
                connection = Connection(self._app, stream, self._on_idle, self._log)
                self._all.add(connection)
                self._idle[connection] = trio.current_time()
                connections.start_soon(self._serve, connection)
            else:
                self._log.warning("too many connections: a new one is closed", limit=self._limit)
                await trio.aclose_forcefully(stream)
                await trio.sleep(FULL_PAUSE_S)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._forget(connection)

    def _has_room(self) -> bool:
        """Return whether there is room for one more, after closing an idle one if need be."""
        if len(self._all) < self._limit:
            return True
        for oldest, since in self._idle.items():
            if trio.current_time() - since < YOUNG_S:
                break
            oldest.end()
            self._forget(oldest)
            return True
        return False

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._idle.pop(connection, None)

    def _on_idle(self, connection: Connection, idle: bool) -> None:
        self._idle.pop(connection, None)
        if idle and connection in self._all:
            self._idle[connection] = trio.current_time()


def within_files(connections: int) -> int:
    """Return how many of `connections` the limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft - FILES_KEPT))
