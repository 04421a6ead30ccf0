"""A client of the listener that speaks in bytes, well-formed or not."""

import json
import os
from typing import Any

import trio
from attrs import define, frozen
from trio.testing import wait_all_tasks_blocked


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


@frozen
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        assert self.headers["content-type"] == "application/problem+json"
        value = json.loads(self.body)
        assert value["status"] == self.status
        return value


@define
class Client:
    """A connection to the listener; `rest` is what it has sent beyond the responses read."""

    stream: trio.SocketStream
    rest: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self, *, has_body: bool = True) -> Answer:
        """Read one response. Raises: AssertionError: the listener closed before its end."""
        while b"\r\n\r\n" not in self.rest:
            assert await self._more(), self.rest
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        length = int(headers.get("content-length", "0")) if has_body else 0
        while len(self.rest) < length:
            assert await self._more(), self.rest
        body, self.rest = self.rest[:length], self.rest[length:]
        return Answer(int(first.split()[1]), headers, body)

    async def receive_rest(self) -> bytes:
        """Read until the listener closes."""
        while await self._more():
            pass
        return self.rest

    async def _more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self.rest += data
        return bool(data)

    async def is_closed(self) -> bool:
        """Tell whether the listener has closed, and said nothing more."""
        await wait_all_tasks_blocked(0.01)
        try:
            data = os.read(self.stream.socket.fileno(), 1)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        assert not data, data
        return True
