"""An endpoint that costs next to nothing: HTTP/1.1 as the bridge writes it, on trio.

It takes what the bridge sends for granted (a length, keep-alive, no pipelining); it is no server
for anybody else.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

CHUNK_BYTES: Final = 1 << 16
END_OF_HEAD: Final = b"\r\n\r\n"
NOTHING: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(slots=True)
class Request:
    """A POST; names of headers in lower case."""

    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request], Awaitable[bytes]]


def answer_json(body: bytes) -> bytes:
    """Status 200 with JSON."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


async def converse(stream: trio.abc.Stream, answer: Answer) -> None:
    """Answer a client until it leaves, however."""
    reader = _Reader(stream)
    try:
        while (request := await reader.next()) is not None:
            await stream.send_all(await answer(request))
    except trio.BrokenResourceError:
        return  # killed
    finally:
        await trio.aclose_forcefully(stream)


class _Reader:
    """Requests, one after the other."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = b""

    async def next(self) -> Request | None:
        """The next whole request; None at the end, also in the middle of one."""
        while (end := self._data.find(END_OF_HEAD)) < 0:
            if not await self._more():
                return None
        _, *lines = self._data[:end].decode().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        begin = end + len(END_OF_HEAD)
        end = begin + int(headers["content-length"])
        while len(self._data) < end:
            if not await self._more():
                return None
        body, self._data = self._data[begin:end], self._data[end:]
        return Request(headers, body)

    async def _more(self) -> bool:
        chunk = await self._stream.receive_some(CHUNK_BYTES)
        self._data += chunk
        return bool(chunk)
