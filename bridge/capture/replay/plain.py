"""Plain XML as if it had been captured: a sequence of stanzas, or a whole stream.

A component's stream, with its handshake, is played byte for byte, including its faults. Anything
else is taken apart, and its stanzas are put on such a stream.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from bridge.capture.file import Source
from bridge.capture.format import IN, LINK, Header, Record
from bridge.capture.replay.side import HANDSHAKE, Cutter, Side
from xmppstream import ComponentConnection, Element, Role, Stanza, rehome, write
from xmppstream.builder import (
    ElementParsed,
    ElementRefused,
    ParseEvent,
    ParserFaulted,
    RootClosed,
    RootOpened,
)
from xmppstream.jid import domain_of
from xmppstream.names import COMPONENT, STREAMS, expanded

DEFAULT_DOMAIN: Final = "replay.localhost"
DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNK_BYTES: Final = 16 * 1024
_HEAD_BYTES: Final = 64 * 1024
_ROOT: Final = expanded(STREAMS, "stream")
_WRAP: Final = b"<replayed>"
_SPACE: Final = b" \t\r\n\xef\xbb\xbf"
_DECLARATION_END: Final = b"?>"
Fail = Callable[[str], Exception]


class Plain:
    """A file of plain XML, open for reading. Iterate over it once for the records."""

    def __init__(self, source: Source, fail: Fail) -> None:
        """`fail` makes the exception that is raised if a file does not hold such XML."""
        self._source = source
        self._fail = fail
        self._begin = source.read(_HEAD_BYTES).lstrip(_SPACE)
        if not self._begin:
            raise fail("the file is empty")
        if not self._begin.startswith(b"<"):
            raise fail("this is neither a capture (its first line would be 'xcap 1') nor XML")
        self._is_stream, self._is_component = _look(self._begin)
        domain = _domain_in(self._begin, self._is_stream) or DEFAULT_DOMAIN
        self.header = Header("plain XML", domain, DATE)

    @property
    def cut(self) -> str | None:
        return None

    def __iter__(self) -> Iterator[Record]:
        """Yield the records: a connection, and the server's data on it.

        Raises the exception that `fail` makes, after the last good stanza.
        """
        yield Record(0.0, LINK, b"open plain XML")
        if self._is_component:
            yield from (Record(0.0, IN, data) for data in self._as_it_is())
        else:
            server = ComponentConnection(Role.SERVER, domain=self.header.domain)
            yield Record(0.0, IN, server.open(stream_id="replay"))
            yield Record(0.0, IN, b"<handshake/>")
            yield from (Record(0.0, IN, data) for data in self._stanzas())
            yield Record(0.0, IN, b"</stream:stream>")
        yield Record(0.0, LINK, b"end of the file")

    def _chunks(self) -> Iterator[bytes]:
        yield self._begin
        while data := self._source.read(_CHUNK_BYTES):
            yield data

    def _as_it_is(self) -> Iterator[bytes]:
        """Yield the stream, cut after its header and handshake, where a server waits."""
        cutter, is_open = Cutter(), False
        for data in self._chunks():
            if is_open:
                yield data
                continue
            for unit in cutter.feed(data):
                yield unit.data
                is_open = is_open or not isinstance(unit.event, RootOpened)
            if is_open and (rest := cutter.rest()):
                yield rest
        if rest := cutter.rest():
            yield rest

    def _stanzas(self) -> Iterator[bytes]:
        side, count = Side(), 0
        for event in self._events(side):
            match event:
                case ElementParsed(element=element):
                    count += 1
                    stanza = Stanza.of(_named(element))
                    if stanza is not None:
                        yield write(stanza.element, COMPONENT).encode()
                    elif element.namespace not in (STREAMS, COMPONENT):
                        raise self._fail(f"element {count}: {element.local!r} is not a stanza")
                case ElementRefused(limit=limit):
                    count += 1
                    raise self._fail(f"element {count}: it is over the limit of {limit}")
                case ParserFaulted(text=text):
                    raise self._fail(
                        f"after element {count}: this is not valid XML for XMPP: {text}"
                    )
                case RootClosed():
                    return
        if not side.at_boundary:
            raise self._fail(f"after element {count}: the file ends within an element")

    def _events(self, side: Side) -> Iterator[ParseEvent]:
        chunks = self._chunks()
        if not self._is_stream:
            side.feed(_WRAP)
            yield from side.feed(_without_declaration(next(chunks)))
        for data in chunks:
            yield from side.feed(data)


def _look(begin: bytes) -> tuple[bool, bool]:
    """Return whether it is a stream, and whether a component could receive it."""
    events = Side().feed(begin)
    match events:
        case [RootOpened(name=name) as root, *rest]:
            if name != _ROOT:
                return False, False
            first = rest[0] if rest else None
            is_accepted = isinstance(first, ElementParsed) and first.element.name == HANDSHAKE
            is_refused = isinstance(first, ElementParsed) and first.element.namespace == STREAMS
            namespace = dict(root.namespaces).get("")
            return True, namespace == COMPONENT and (is_accepted or is_refused)
    return False, False


def _domain_in(begin: bytes, is_stream: bool) -> str | None:
    side = Side()
    events = side.feed(begin) if is_stream else []
    if not is_stream:
        side.feed(_WRAP)
        events = side.feed(_without_declaration(begin))
    for event in events:
        if isinstance(event, ElementParsed):
            stanza = Stanza.of(_named(event.element))
            if stanza is not None and stanza.to:
                return domain_of(stanza.to)
    return None


def _without_declaration(data: bytes) -> bytes:
    if data.startswith(b"<?xml"):
        return data[data.find(_DECLARATION_END) + len(_DECLARATION_END) :]
    return data


def _named(element: Element) -> Element:
    """Return an element, moved to a component's namespace if it has none."""
    if element.namespace:
        return element
    return rehome(element, COMPONENT)
