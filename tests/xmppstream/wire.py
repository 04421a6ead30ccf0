"""Bytes as a server sends them, the ways to cut them, and what a parser or a core makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xmppstream.builder import ParseEvent
from xmppstream.component import ComponentConnection, Role
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, STREAMS
from xmppstream.parser import StreamParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from xmppstream.events import Event

DOMAIN: Final = "bot.example"
SECRET: Final = "test"
STREAM_ID: Final = "3BF96D32"
DIGEST: Final = "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e"  # XEP-0114 §3, of the two above
ROOT: Final = (
    f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}' from='{DOMAIN}' id='{STREAM_ID}'>"
).encode()
HEADER: Final = b"<?xml version='1.0'?>" + ROOT
HANDSHAKE: Final = b"<handshake/>"
END: Final = b"</stream:stream>"


def whole(data: bytes) -> list[bytes]:
    """All at once."""
    return [data]


def by_bytes(data: bytes) -> list[bytes]:
    """Byte by byte."""
    return [data[i : i + 1] for i in range(len(data))]


def in_sevens(data: bytes) -> list[bytes]:
    """Seven bytes at a time, so that no cut follows the markup."""
    return [data[i : i + 7] for i in range(0, len(data), 7)]


CUTS: Final[tuple[Callable[[bytes], list[bytes]], ...]] = (whole, by_bytes, in_sevens)


def parse(chunks: Iterable[bytes], limits: Limits | None = None) -> list[ParseEvent]:
    """Feed a stream and its successors, and give all events."""
    parser = StreamParser(limits)
    events: list[ParseEvent] = []
    for chunk in chunks:
        events += parser.feed(chunk)
        while parser.spent:
            rest, parser = parser.unparsed, parser.successor()
            events += parser.feed(rest)
    return events


def receive(connection: ComponentConnection, chunks: Iterable[bytes]) -> list[Event]:
    """Feed a core and give all events."""
    return [event for chunk in chunks for event in connection.receive_data(chunk)]


def attached(limits: Limits | None = None) -> ComponentConnection:
    """Give a component's core behind the handshake."""
    connection = ComponentConnection(Role.COMPONENT, domain=DOMAIN, limits=limits)
    connection.open()
    connection.receive_data(HEADER)
    connection.authenticate(SECRET)
    connection.receive_data(HANDSHAKE)
    assert connection.established
    return connection
