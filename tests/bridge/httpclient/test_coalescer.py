"""Small requests wait for each other until trio looks for input, and no longer."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio

from bridge.httpclient.connection import TOGETHER_BYTES, SendCoalescer, open_connection

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [socket.socketpair() for _ in range(3)]
    for one in made:
        for end in one:
            end.setblocking(False)
    yield made
    for one in made:
        for end in one:
            end.close()


def came(end: socket.socket) -> bytes | None:
    """Give what has come; None where nothing has."""
    try:
        return end.recv(2 * TOGETHER_BYTES)
    except BlockingIOError:
        return None


async def test_what_is_ready_is_sent_when_trio_looks_for_input(pairs: list[Pair]) -> None:
    coalescer = SendCoalescer.current()
    for number, (ours, _) in enumerate(pairs):
        coalescer.put(ours, b"POST %d" % number)
    assert [came(theirs) for _, theirs in pairs] == [None] * 3
    await trio.lowlevel.checkpoint()
    assert [came(theirs) for _, theirs in pairs] == [b"POST 0", b"POST 1", b"POST 2"]
    await trio.lowlevel.checkpoint()
    assert [came(theirs) for _, theirs in pairs] == [None] * 3  # once


async def test_many_do_not_wait_for_more(pairs: list[Pair]) -> None:
    coalescer = SendCoalescer.current()
    ours, theirs = pairs[0]
    for _ in range(63):
        coalescer.put(ours, b".")
    assert came(theirs) is None
    coalescer.put(ours, b"!")
    assert came(theirs) == b"." * 63 + b"!"


async def test_what_cannot_be_sent_harms_nobody_else(pairs: list[Pair]) -> None:
    coalescer = SendCoalescer.current()
    (closed, _), (reset, peer), (ours, theirs) = pairs
    for one in (closed, reset, ours):
        coalescer.put(one, b"POST")
    closed.close()
    peer.close()
    await trio.lowlevel.checkpoint()
    assert came(theirs) == b"POST"
    assert came(reset) == b""
    coalescer.put(ours, b"again")  # it is still asked
    await trio.lowlevel.checkpoint()
    assert came(theirs) == b"again"


async def test_what_goes_only_in_part_ends_the_connection(pairs: list[Pair]) -> None:
    coalescer = SendCoalescer.current()
    ours, theirs = pairs[0]
    with suppress(BlockingIOError):
        while True:
            ours.send(b"x" * TOGETHER_BYTES)
    coalescer.put(ours, b"POST")
    await trio.lowlevel.checkpoint()
    assert came(ours) == b""
    while data := came(theirs):
        assert set(data) == {ord("x")}
    assert data == b""


def test_each_run_of_trio_has_its_own() -> None:
    async def main() -> SendCoalescer:
        assert SendCoalescer.current() is SendCoalescer.current()
        return SendCoalescer.current()

    assert trio.run(main) is not trio.run(main)


@pytest.mark.parametrize("size", [TOGETHER_BYTES, TOGETHER_BYTES + 1])
async def test_a_large_request_waits_for_nobody(size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = await open_connection("127.0.0.1", server.getsockname()[1], None)
        theirs, _ = server.accept()
        theirs.setblocking(False)
        with theirs:
            assert connection.send(b"x" * size) == size
            at_once = came(theirs)
            assert at_once == (None if size == TOGETHER_BYTES else b"x" * size)
            await trio.lowlevel.checkpoint()
            assert came(theirs) == (b"x" * size if at_once is None else None)
            connection.close()
