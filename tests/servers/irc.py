"""Biboumi, a gateway to IRC, in front of an IRC server with one channel and one person.

The server speaks as much of RFC 2812 as biboumi needs to join a channel. It listens on an address
of loopback that is its own, at IRC's usual port, which biboumi cannot be told to change.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from tests.servers.process import LOOPBACK, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOST: Final = "127.0.0.77"
PORT: Final = 6667
CHANNEL: Final = "#hall"


def missing() -> str | None:
    """Why biboumi cannot be started here, or None."""
    return None if shutil.which("biboumi") else "biboumi is not installed"


class IrcServer:
    """An IRC server whose channel has a person named `human`; `said` is what others said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.joined = 0
        self._streams: list[trio.SocketStream] = []
        self._changed = trio.Event()

    async def say(self, text: str) -> None:
        """Have the person say something in the channel."""
        for stream in self._streams:
            await _send(stream, f":human!h@{HOST} PRIVMSG {CHANNEL} :{text}")

    async def wait_joined(self, count: int) -> None:
        """Wait until somebody has joined the channel for the `count`-th time."""
        await self._wait(lambda: self.joined >= count)

    async def wait_said(self, text: str) -> None:
        """Wait until somebody has said that in the channel."""
        await self._wait(lambda: text in self.said)

    async def _wait(self, predicate: object) -> None:
        assert callable(predicate)
        with trio.fail_after(30):
            while not predicate():
                await self._changed.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client."""
        self._streams.append(stream)
        nick, rest = "nobody", b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                *lines, rest = (rest + data).split(b"\r\n")
                for line in lines:
                    command, _, tail = line.decode().partition(" ")
                    if command == "NICK":
                        nick = tail.lstrip(":")
                    await self._answer(stream, command, tail, nick)
        self._streams.remove(stream)

    async def _answer(self, stream: trio.SocketStream, command: str, tail: str, nick: str) -> None:
        match command:
            case "USER":
                for code, text in (("001", ":Welcome"), ("376", ":End of MOTD")):
                    await _send(stream, f":{HOST} {code} {nick} {text}")
            case "PING":
                await _send(stream, f":{HOST} PONG {HOST} {tail}")
            case "JOIN":
                await _send(stream, f":{nick}!b@{HOST} JOIN {CHANNEL}")
                await _send(stream, f":{HOST} 332 {nick} {CHANNEL} :Welcome")
                await _send(stream, f":{HOST} 353 {nick} = {CHANNEL} :{nick} human")
                await _send(stream, f":{HOST} 366 {nick} {CHANNEL} :End of NAMES")
                self.joined += 1
            case "PRIVMSG":
                self.said.append(tail.partition(" :")[2])
            case "PART":
                await _send(stream, f":{nick}!b@{HOST} PART {CHANNEL}")
        self._changed.set()
        self._changed = trio.Event()


async def _send(stream: trio.SocketStream, line: str) -> None:
    await stream.send_all(f"{line}\r\n".encode())


@asynccontextmanager
async def open_gateway(
    directory: Path, component_port: int, domain: str, secret: str
) -> AsyncIterator[IrcServer]:
    """Run the IRC server, and biboumi as the component `domain`; give the server."""
    irc = IrcServer()
    config = directory / "biboumi.cfg"
    lines = {
        "hostname": domain,
        "password": secret,
        "xmpp_server_ip": LOOPBACK,
        "port": str(component_port),
        "db_name": str(directory / "biboumi.sqlite"),
        "log_file": str(directory / "biboumi.log"),
        "log_level": "0",
        "identd_port": "0",
    }
    write(config, "".join(f"{key}={value}\n" for key, value in lines.items()))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(PORT, host=HOST)
        nursery.start_soon(trio.serve_listeners, irc.serve, listeners)
        process = await trio.lowlevel.open_process(
            ["biboumi", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield irc
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
            nursery.cancel_scope.cancel()
