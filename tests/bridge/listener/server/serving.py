"""The listener in a thread of its own, for clients that block."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from starlette.types import ASGIApp

from bridge.config.settings import TcpAddress
from bridge.listener.server.binding import bound
from bridge.listener.server.server import Server


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Give the address of a server that runs the application until the end."""
    ready = threading.Event()
    url: list[str] = []
    ended = trio.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        with bound(TcpAddress("127.0.0.1", 0)) as listening:
            async with trio.open_nursery() as nursery:
                await nursery.start(Server(app, 100).run, listening, trio.Event())
                token.append(trio.lowlevel.current_trio_token())
                url.append(f"http://127.0.0.1:{listening.getsockname()[1]}")
                ready.set()
                await ended.wait()
                nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(main,), name="listener")
    thread.start()
    try:
        assert ready.wait(10)
        yield url[0]
    finally:
        token[0].run_sync_soon(ended.set)
        thread.join(10)
        assert not thread.is_alive()
