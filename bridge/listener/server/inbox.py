"""How the ASGI application gets what comes on a connection.

anycorn's own queue blocks whoever says that the client has left: where a body is unread, that is
the application's own task, at the end of its response, for ever.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from anycorn.config import Config
from anycorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, HTTPDisconnectEvent, Scope

_GONE: Final = HTTPDisconnectEvent(type="http.disconnect")


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
