"""Parses one side of a connection: bytes in, parse events out. Their order is not checked. Parsed
names stay in the process's memory (see `xmppstream.parser_thread`).
"""

from collections.abc import Iterator
from typing import Final

from attrs import define, field

from xmppstream.builder import ElementParsed, ElementRefused, ParseEvent
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, expanded
from xmppstream.parser import StreamParser
from xmppstream.stanza import Stanza

_MIB: Final = 1024 * 1024
LIMITS: Final = Limits(
    max_stanza_bytes=16 * _MIB,
    max_elements=16 * _MIB,
    max_attributes=4096,
    max_name_bytes=64 * 1024,
    max_depth=1024,
)
HANDSHAKE: Final = expanded(COMPONENT, "handshake")


class Side:
    """Parses the data of one peer on one connection."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._parser = StreamParser(limits)

    @property
    def at_boundary(self) -> bool:
        """Whether the data so far ends between two elements inside the root."""
        return self._parser.at_boundary

    def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse bytes, and return the events that they complete."""
        events = self._parser.feed(data)
        while self._parser.spent:
            rest = self._parser.unparsed
            self.close()
            self._parser = self._parser.successor()
            events += self._parser.feed(rest)
        return events

    def close(self) -> None:
        """Release the parser's memory."""
        self._parser.close()


@define
class Unit:
    """The bytes of one element of a stream (or of its header or end), and their event; None if they
    are unfinished.
    """

    data: bytes
    event: ParseEvent | None


@define
class Cutter:
    """Cuts one side of a connection into its units, byte for byte."""

    _side: Side = field(factory=Side)
    _held: bytearray = field(factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Unit]:
        """Yield the units that end in these bytes."""
        offset = 0
        while offset < len(data):
            end = data.find(b">", offset) + 1 or len(data)
            piece = data[offset:end]
            offset = end
            self._held += piece
            for event in self._side.feed(piece):
                yield Unit(self.rest(), event)

    def rest(self) -> bytes:
        """Return, and forget, the bytes of an unfinished unit."""
        data = bytes(self._held)
        self._held.clear()
        return data


def stanza_of(event: ParseEvent | None) -> Stanza | None:
    """Return the stanza of an event; of one over a limit, only its addresses."""
    match event:
        case ElementParsed(element=element) | ElementRefused(stub=element):
            return Stanza.of(element)
    return None
