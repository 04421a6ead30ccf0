"""One side of a connection, heard: bytes in, parse events out, without a say in what may follow
what. Names that were parsed stay with the process (see `xmppstream.parser_thread`).
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
    max_stanza_bytes=16 * _MIB, max_attributes=4096, max_name_bytes=64 * 1024, max_depth=1024
)
HANDSHAKE: Final = expanded(COMPONENT, "handshake")


class Side:
    """Hears what one peer says on one connection."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._parser = StreamParser(limits)

    @property
    def at_boundary(self) -> bool:
        """Whether what was heard ends between two elements inside of the root."""
        return self._parser.at_boundary

    def feed(self, data: bytes) -> list[ParseEvent]:
        """Take bytes and give what they complete."""
        events = self._parser.feed(data)
        while self._parser.spent:
            rest = self._parser.unparsed
            self.close()
            self._parser = self._parser.successor()
            events += self._parser.feed(rest)
        return events

    def close(self) -> None:
        """Let go of what the parser holds."""
        self._parser.close()


@define
class Unit:
    """The bytes of one element of a stream (or of its header, or its end) and what they say; None
    for what has not ended.
    """

    data: bytes
    event: ParseEvent | None


@define
class Cutter:
    """Cuts one side of a connection into its units, byte for byte."""

    _side: Side = field(factory=Side)
    _held: bytearray = field(factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Unit]:
        """Give the units that end in these bytes."""
        offset = 0
        while offset < len(data):
            end = data.find(b">", offset) + 1 or len(data)
            piece = data[offset:end]
            offset = end
            self._held += piece
            for event in self._side.feed(piece):
                yield Unit(self.rest(), event)

    def rest(self) -> bytes:
        """Give, and forget, the bytes of what has not ended."""
        data = bytes(self._held)
        self._held.clear()
        return data


def stanza_of(event: ParseEvent | None) -> Stanza | None:
    """Give the stanza that an event is of; of one over a limit, its addresses only."""
    match event:
        case ElementParsed(element=element) | ElementRefused(stub=element):
            return Stanza.of(element)
    return None
