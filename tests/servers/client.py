"""A person's client as a process: a program of this directory, written with slixmpp.

It writes a JSON line for each thing that it sees, and does what the lines on its input say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.servers.conftest import USERS
from tests.servers.process import LOOPBACK
from tests.servers.scene import ECHO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers.process import Server

SEEN_S: Final = 30.0


class Client:
    """The process of such a program, and the lines that it has written."""

    def __init__(self, process: trio.Process) -> None:
        self.lines: list[dict[str, Any]] = []
        self._process = process
        self._changed = trio.Event()

    async def read(self) -> None:
        """Read lines until the process ends."""
        assert self._process.stdout is not None
        text = b""
        async for chunk in self._process.stdout:
            text += chunk
            *whole, text = text.split(b"\n")
            self.lines += map(json.loads, whole)
            self._changed.set()
            self._changed = trio.Event()

    async def write(self, line: str) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(f"{line}\n".encode())

    async def see(self, what: Callable[[dict[str, Any]], bool], after: int = 0) -> dict[str, Any]:
        """Wait for a line, the first after so many; give it."""
        with trio.fail_after(SEEN_S):
            while True:
                for line in self.lines[after:]:
                    if what(line):
                        return line
                await self._changed.wait()

    async def presence(self, type: str, after: int = 0) -> dict[str, Any]:
        return await self.see(lambda line: line.get("presence") == type, after)


@asynccontextmanager
async def open_client(
    server: Server, user: str = "alice", script: str = "slixmpp_client.py"
) -> AsyncIterator[Client]:
    """Log in; the process ends with the context."""
    environment = {
        **os.environ,
        "XMPP_JID": f"{user}@{server.host}/phone",
        "XMPP_PASSWORD": USERS[user],
        "XMPP_HOST": LOOPBACK,
        "XMPP_PORT": str(server.c2s_port),
        "XMPP_BOT": ECHO,
    }
    process = await trio.lowlevel.open_process(
        [sys.executable, str(Path(__file__).with_name(script))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    client = Client(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read)
            await client.see(lambda line: "ready" in line)
            yield client
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()
