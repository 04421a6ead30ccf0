"""The listener as a daemon has it: one socket, one application, the tokens that hold now."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import trio
from attrs import field, frozen

from bridge.config.settings import Listen
from bridge.daemon.listener import DaemonParts
from bridge.listener.app import make_app
from bridge.listener.auth import Access
from bridge.listener.monitor.view import View, make_view
from bridge.listener.server.binding import bound
from bridge.listener.server.server import Server
from bridge.listener.submission.sender import open_sender
from bridge.listener.watching import routes
from bridge.telemetry.log import logger


@frozen
class Listener:
    """What listens; `opened` makes it."""

    _listen: Listen
    _listening: socket.socket
    _access: Access
    _server: Server
    _view: View
    _stopping: trio.Event = field(factory=trio.Event)

    @classmethod
    @contextmanager
    def opened(cls, listen: Listen, parts: DaemonParts) -> Iterator[Self]:
        """Open the listener of a daemon; its socket is closed at the end. Within trio.

        Raises:
            ListenError: it cannot be made.
        """
        view = make_view(parts)
        with bound(listen.place) as listening, open_sender(parts) as sender:
            access = Access(listen.tokens)
            app = make_app(sender, access, listen, watching=routes(view, access))
            server = Server(app, listen.max_connections)
            yield cls(listen, listening, access, server, view)

    @property
    def port(self) -> int | None:
        """The TCP port; None for a Unix socket."""
        name = self._listening.getsockname()
        return name[1] if isinstance(name, tuple) else None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; this closes all connections at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._view.run)
            await nursery.start(self._server.run, self._listening, self._stopping)
            logger().info(
                "listening",
                address=str(self._listen.place),
                tokens=[token.name for token in self._listen.tokens],
            )
            task_status.started()

    def stop(self) -> None:
        """Let nobody new in; those who wait for an answer may still get it."""
        self._stopping.set()

    def adopt(self, listen: Listen | None) -> None:
        """Let the tokens of another configuration hold, or none where it has no listener any more;
        all else is for the next start.
        """
        self._access.replace(() if listen is None else listen.tokens)
