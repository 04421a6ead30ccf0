"""Reading a body: few turns of the loop, however small the pieces are in which it comes."""

from functools import partial
from typing import Any

import pytest
import trio
from starlette.requests import Request
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.listener.api.request import BODY_S, SMALL_BYTES, read_body
from bridge.listener.auth import BODY_WAIT_S, BodyConcurrency
from bridge.listener.problem import Problem


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


class Bodies:
    """Requests whose body comes when the test says so, in two pieces or in one."""

    def __init__(self, nursery: trio.Nursery, limit: int) -> None:
        self.concurrency = BodyConcurrency(limit)
        self.reading: list[str] = []
        self.ended: list[tuple[str, int]] = []
        self._nursery = nursery
        self._rest: dict[str, trio.Event] = {}

    async def begin(self, token: str, name: str, *, is_whole: bool = False) -> trio.CancelScope:
        """Start a request, and let it get as far as it can."""
        scope, rest = trio.CancelScope(), trio.Event()
        self._rest[name] = rest
        pieces = [{"type": "http.request", "body": b"a", "more_body": not is_whole}]

        async def receive() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            if pieces:
                return pieces.pop()
            self.reading.append(name)
            await rest.wait()
            return {"type": "http.request", "body": b"b", "more_body": False}

        async def read() -> None:
            request = Request({"type": "http", "headers": []}, receive)
            with scope:
                try:
                    body = await read_body(request, 100, partial(self.concurrency.one, token))
                except Problem as problem:
                    self.ended.append((name, problem.status))
                else:
                    assert body == (b"a" if is_whole else b"ab")
                    self.ended.append((name, 200))

        self._nursery.start_soon(read)
        await wait_all_tasks_blocked()
        return scope

    async def finish(self, name: str) -> None:
        """Send the rest of the body."""
        self._rest[name].set()
        await wait_all_tasks_blocked()


async def test_bodies_of_a_token_beyond_the_bound_wait_in_turn(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bodies = Bodies(nursery, limit=2)
    for name in ("a", "b", "c", "d"):
        await bodies.begin("one", name)
    assert bodies.reading == ["a", "b"]
    await bodies.finish("b")
    assert bodies.reading == ["a", "b", "c"]
    await bodies.finish("a")
    assert bodies.reading == ["a", "b", "c", "d"]
    for name in ("d", "c"):
        await bodies.finish(name)
    assert bodies.ended == [("b", 200), ("a", 200), ("d", 200), ("c", 200)]
    assert not bodies.concurrency._limiters


async def test_bodies_that_wait_hold_up_no_others(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bodies = Bodies(nursery, limit=1)
    for name in ("a", "b"):
        await bodies.begin("one", name)
    await bodies.begin("two", "c")
    assert bodies.reading == ["a", "c"]
    await bodies.begin("one", "d", is_whole=True)  # one that is there already needs no place
    assert bodies.ended == [("d", 200)]
    for name in ("a", "b", "c"):
        await bodies.finish(name)


async def test_a_body_that_gets_no_place_is_refused_after_a_while(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bodies = Bodies(nursery, limit=1)
    for name in ("a", "b"):
        await bodies.begin("one", name)
    mock_clock.jump(BODY_WAIT_S + 0.1)
    await wait_all_tasks_blocked()
    assert bodies.ended == [("b", 429)]
    assert bodies.reading == ["a"]
    await bodies.finish("a")
    assert bodies.ended == [("b", 429), ("a", 200)]
    assert not bodies.concurrency._limiters


async def test_the_wait_for_a_place_is_not_the_time_for_the_body(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bodies = Bodies(nursery, limit=1)
    await bodies.begin("one", "a")
    await bodies.begin("one", "b")
    mock_clock.jump(BODY_WAIT_S - 0.1)
    await bodies.finish("a")
    mock_clock.jump(BODY_S - 1)
    await wait_all_tasks_blocked()
    await bodies.finish("b")
    assert bodies.ended == [("a", 200), ("b", 200)]


async def test_a_cancelled_request_gives_its_place_up(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bodies = Bodies(nursery, limit=1)
    reads = await bodies.begin("one", "a")
    waits = await bodies.begin("one", "b")
    await bodies.begin("one", "c")
    for scope in (waits, reads):
        scope.cancel()
        await wait_all_tasks_blocked()
    assert bodies.reading == ["a", "c"]
    await bodies.finish("c")
    assert not bodies.concurrency._limiters
