"""A poller that costs next to nothing: HTTP/1.1 as the listener writes it, on trio."""

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

CHUNK_BYTES: Final = 1 << 16
END_OF_HEAD: Final = b"\r\n\r\n"
WAIT_S: Final = 5
AGAIN_S: Final = 0.05
TOKEN: Final = "puller-0123456789abcdef"
Handle = Callable[[dict[str, Any]], Awaitable[bytes | None]]
"""Gives the body of the answer to an event, or None for none."""


class Puller:
    """Polls, and answers each event by what `handle` gives, up to `at_once` at a time; `run` lasts
    until `kill`, which closes all its sockets as the kernel closes those of a killed process.
    """

    def __init__(self, port: int, handle: Handle, at_once: int = 16) -> None:
        self._port, self._handle, self._at_once = port, handle, at_once
        self._scope = trio.CancelScope()
        self._open: set[trio.SocketStream] = set()
        self._idle: list[trio.SocketStream] = []
        self._freed = trio.Event()
        self.held = 0
        """How many events it has in hand."""

    def kill(self) -> None:
        """End at once, in the middle of whatever it does."""
        for stream in self._open:
            stream.socket.close()
        self._scope.cancel()

    async def run(self) -> None:
        """Poll until killed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                while True:
                    while self.held >= self._at_once:
                        self._freed = trio.Event()
                        await self._freed.wait()
                    room = self._at_once - self.held
                    answer = await self._ask("GET", f"?wait={WAIT_S}&max={room}")
                    if answer is None:  # the daemon is away
                        await trio.sleep(AGAIN_S)
                        continue
                    for event in msgspec.json.decode(answer)["events"]:
                        self.held += 1
                        nursery.start_soon(self._answer, event)

    async def _answer(self, event: dict[str, Any]) -> None:
        try:
            body = await self._handle(event)
            if body is not None:
                await self._ask("POST", f"/{event['uid']}?attempt={event['attempt']}", body)
        finally:
            self.held -= 1
            self._freed.set()

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes | None:
        """Make a request; None if it is not answered by 2xx."""
        head = (
            f"{method} /v1/events{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            stream = self._idle.pop() if self._idle else await self._connect()
            await stream.send_all(head.encode() + body)
            status, content = await _receive(stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            return None
        self._idle.append(stream)
        return content if 200 <= status < 300 else None

    async def _connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        self._open.add(stream)
        return stream


async def _receive(stream: trio.SocketStream) -> tuple[int, bytes]:
    """Read one response. Raises: EOFError if the connection ends before."""
    data = b""
    while (end := data.find(END_OF_HEAD)) < 0:
        data += await _more(stream)
    first, *lines = data[:end].decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    end += len(END_OF_HEAD)
    whole = end + int(headers.get("content-length", "0"))
    while len(data) < whole:
        data += await _more(stream)
    return int(first.split()[1]), data[end:whole]


async def _more(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(CHUNK_BYTES)
    if not data:
        raise EOFError
    return bytes(data)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def listen_at(port: int) -> dict[str, Any]:
    """`[listen]` with the token of pullers."""
    token = {"name": "puller", "secret": TOKEN, "scopes": ["receive"]}
    return {"address": f"127.0.0.1:{port}", "token": [token]}
