"""An HTTP server on a raw loopback socket, or TLS on it, that answers what the test says."""

import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self

import trio
from attrs import define, field, frozen

from bridge.config.value import PostUrl, parse_post_url

HOST = "127.0.0.1"


Transport = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@frozen
class Request:
    """One request as it came; header names are in lower case, repeated ones are all here."""

    line: str
    headers: tuple[tuple[str, str], ...]
    content: bytes

    def get(self, name: str) -> str | None:
        """Give the one value of a header; None without it."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} is there twice"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@define
class Exchange:
    """A request, and the connection on which it waits for an answer."""

    request: Request
    transport: Transport

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.transport.send_all(data)

    async def close(self) -> None:
        """Close the connection, in order."""
        await self.transport.aclose()

    async def reset(self) -> None:
        """Close the connection by a TCP reset."""
        await reset(self.transport)

    async def wait_gone(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while await self.transport.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass


async def reset(transport: Transport) -> None:
    """Close a connection by a TCP reset."""
    if isinstance(transport, trio.SSLStream):
        transport = transport.transport_stream
    linger = struct.pack("ii", 1, 0)
    transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    await transport.aclose()


Answer = Callable[[Exchange], Awaitable[None]]


@define
class HttpServer:
    """Reads whole requests and gives each to `answer`; lives as long as the nursery."""

    answer: Answer
    context: ssl.SSLContext | None = None
    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[Request] = field(factory=list)
    _closed: trio.Event = field(factory=trio.Event, init=False)

    @classmethod
    async def start(
        cls,
        nursery: trio.Nursery,
        answer: Answer,
        *,
        host: str = HOST,
        context: ssl.SSLContext | None = None,
    ) -> Self:
        """Listen on a free port, with TLS where there is a context."""
        server = cls(answer, context)
        server.port = await listen(nursery, server._serve, host)
        return server

    def url(self, path: str = "/", credentials: str = "") -> PostUrl:
        """Give the server's address as a configuration has it."""
        return parse_post_url(f"http://{credentials}{HOST}:{self.port}{path}")

    async def wait_closed(self) -> None:
        """Wait until no connection is left."""
        while self.open:
            await self._closed.wait()

    async def _serve(self, socket_stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        transport: Transport = socket_stream
        if self.context is not None:
            transport = trio.SSLStream(
                socket_stream, self.context, server_side=True, https_compatible=True
            )
        try:
            while (request := await _receive(transport)) is not None:
                self.requests.append(request)
                await self.answer(Exchange(request, transport))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(transport)
            self.open -= 1
            self._closed.set()
            self._closed = trio.Event()


async def listen(
    nursery: trio.Nursery,
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    host: str = HOST,
) -> int:
    """Give each connection to `handle`, on a free port, which is returned."""
    [listener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host=host))
    port: int = listener.socket.getsockname()[1]
    return port


async def _receive(transport: Transport) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await transport.receive_some(65536)
        if not chunk:
            return None
        data += chunk
    head, _, content = data.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    pairs = (header.partition(":") for header in rest)
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    length = int(dict(headers).get("content-length", "0"))
    while len(content) < length:
        chunk = await transport.receive_some(65536)
        if not chunk:
            return None
        content += chunk
    return Request(line, headers, bytes(content))


def response(
    status: str = "200 OK", content: bytes = b"", media: str | None = "application/json"
) -> bytes:
    """Write a response that keeps the connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}"]
    if media is not None:
        lines.append(f"Content-Type: {media}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def saying(data: bytes) -> Answer:
    """Answer every request with these bytes, and keep the connection."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)

    return answer


def closing_after(data: bytes) -> Answer:
    """Answer with these bytes and close the connection."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.close()

    return answer
