"""A client's address, as the stream has it."""

import socket

import trio

from bridge.listener.server.stream import ClientStream


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    make = trio.socket.from_stdlib_socket
    return trio.SocketStream(make(ours)), trio.SocketStream(make(theirs))


async def test_a_unix_socket_has_no_address() -> None:
    ours, theirs = socket_pair()
    async with ours, theirs:
        assert ClientStream(ours).client is None


async def test_a_client_that_has_left_has_no_address() -> None:
    ours, theirs = socket_pair()
    await trio.aclose_forcefully(theirs)
    stream = ClientStream(ours)
    stream.close()
    assert stream.client is None
