"""Reading a body: few turns of the loop, however small the pieces are in which it comes."""

from typing import Any

import pytest
import trio
from starlette.requests import Request
from trio.testing import MockClock

from bridge.listener.api.request import BODY_S, SMALL_BYTES, read_body


class Client:
    """Sends a body piece by piece, one every `every_s`; what has come is read at once."""

    def __init__(self, body: bytes, size: int, every_s: float) -> None:
        self._body = body
        self._size = size
        self._every_s = every_s
        self._taken = 0
        self._start = trio.current_time()
        self.reads = 0

    async def receive(self) -> dict[str, Any]:
        self.reads += 1
        if self._come() == self._taken:
            await trio.sleep(self._every_s)
        come = self._come()
        piece, self._taken = self._body[self._taken : come], come
        return {"type": "http.request", "body": piece, "more_body": come < len(self._body)}

    def _come(self) -> int:
        if not self._every_s:
            return min(self._taken + self._size, len(self._body))
        count = int((trio.current_time() - self._start) / self._every_s + 0.5)
        return min(count * self._size, len(self._body))

    @property
    def request(self) -> Request:
        return Request({"type": "http", "headers": []}, self.receive)


@pytest.mark.parametrize(("every_s", "most"), [(0.001, 45), (0.01, 55), (0.05, 70)])
async def test_a_body_byte_by_byte_takes_few_reads(
    autojump_clock: MockClock, every_s: float, most: int
) -> None:
    body = bytes(range(256)) * 2
    client = Client(body, 1, every_s)
    assert await read_body(client.request, 10_000) == body
    assert client.reads <= most
    assert client._taken == len(body)


async def test_a_body_in_large_pieces_is_read_at_once(autojump_clock: MockClock) -> None:
    body = b"x" * (SMALL_BYTES * 100)
    client = Client(body, SMALL_BYTES, 0.0)
    assert await read_body(client.request, len(body)) == body
    assert trio.current_time() == client._start


async def test_the_time_for_a_body_is_bounded_all_the_same(autojump_clock: MockClock) -> None:
    client = Client(b"x" * 1000, 1, 0.1)
    with pytest.raises(Exception, match="408"):
        await read_body(client.request, 10_000)
    assert trio.current_time() - client._start == pytest.approx(BODY_S)
