"""Every row of a component through the trio driver and a real loopback socket.

The driver keeps header and handshake to itself; it adds a barrier of its own, and its close. The
clock stands still, so that no time-out interferes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from tests.conformance.rules import OUTGOING, ROWS, Outgoing, Row
from tests.conformance.test_core import plain
from tests.xmppstream.loopback import Loopback, Peer
from tests.xmppstream.wire import DOMAIN, by_bytes, whole
from xmppstream import (
    Event,
    HandshakeAccepted,
    HandshakeReceived,
    IllegalCharacter,
    Role,
    StanzaReceived,
    StreamClosed,
    StreamFailed,
    StreamFaulted,
    StreamOpened,
    StreamOptions,
    connect,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Cut = Callable[[bytes], list[bytes]]


async def play(row: Row, cut: Cut, loopback: Loopback) -> list[Event]:
    """Be the server of a row: after each turn but the last wait for the component's answer."""
    peer = await loopback.accept()
    await peer.receive_header()
    heard: list[Event] = []
    for number, turn in enumerate(row.turns, 1):
        try:
            for chunk in cut(turn):
                await peer.send(chunk)
        except trio.BrokenResourceError:
            break  # the component has heard enough
        if number == 1 < len(row.turns):
            heard.append(await peer.receive())
    heard.extend(await finish(row, peer))
    return heard


async def finish(row: Row, peer: Peer) -> list[Event]:
    """End a stream that lives, and read until the component has left."""
    if not row.over:
        prefix = b"s" if b"<s:stream" in row.turns[0] else b"stream"
        await peer.send(b"</" + prefix + b":stream>")
    return await peer.receive_rest()


async def attend(row: Row, loopback: Loopback) -> list[Event]:
    """Be the component of a row, and give all that it saw."""
    options = StreamOptions(limits=row.limits)
    events: list[Event] = []

    async def take(event: Event) -> None:
        events.append(event)

    try:
        stream = await connect(loopback.server, DOMAIN, row.secret, options)
        end = await stream.serve(take)
    except StreamFailed as failure:
        end = failure.end
    assert isinstance(end, StreamFaulted | StreamClosed), end
    return [*events, end]


def reported(row: Row) -> list[Event]:
    """Give the events of a row that the driver passes on, and how the stream ends."""
    silent = (StreamOpened, HandshakeAccepted)
    passed: list[Event] = [event for event in row.events if not isinstance(event, silent)]
    return passed if row.over else [*passed, StreamClosed()]


def ignored_while_attaching(row: Row) -> bool:
    """Whether a row has other events before the handshake, which the driver has no use for."""
    return not row.over and HandshakeAccepted() not in row.events


@pytest.mark.parametrize("cut", [whole, by_bytes], ids=lambda cut: cut.__name__)
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.role is Role.COMPONENT and row.turns], ids=str
)
async def test_row(row: Row, cut: Cut, loopback: Loopback, mock_clock: MockClock) -> None:
    seen: list[Event] = []
    heard: list[Event] = []

    async def run() -> None:
        heard.extend(await play(row, cut, loopback))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        seen.extend(await attend(row, loopback))
    expected = reported(row)
    assert plain(seen) == (expected[-1:] if ignored_while_attaching(row) else expected)
    answers = [
        event for event in heard if not isinstance(event, HandshakeReceived | StanzaReceived)
    ]
    if isinstance(expected[-1], StreamFaulted) and not expected[-1].by_peer:
        [told] = answers
        assert isinstance(told, StreamFaulted)
        assert (told.condition, told.by_peer) == (expected[-1].condition, True)
    else:
        assert answers == [StreamClosed()]


@pytest.mark.parametrize("row", OUTGOING, ids=str)
async def test_outgoing(row: Outgoing, loopback: Loopback, nursery: trio.Nursery) -> None:
    async def ignore(event: Event) -> None:
        pass

    stream, peer = await loopback.attach()
    nursery.start_soon(stream.serve, ignore)
    await peer.return_stanza()
    if row.sent is None:
        with pytest.raises(IllegalCharacter):
            stream.send(row.stanza)
        assert stream.end is None
    else:
        stream.send(row.stanza)
        assert await peer.receive_bytes() == row.sent
