"""One raw connection: any bytes can be sent; received bytes are parsed and kept.

Nothing that the peer does raises here: bytes sent to a closed peer are lost, as on a network, and a
fault in its XML is kept like everything else. Nothing here judges or retries.
"""

from collections.abc import Callable
from typing import Final

import trio

from xmppstream.builder import ElementParsed, ElementRefused, ParserFaulted, RootClosed, RootOpened
from xmppstream.element import Element
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, STREAM_ERRORS, STREAMS, expanded
from xmppstream.parser import StreamParser
from xmppstream.stanza import Stanza

END_TAG: Final = b"</stream:stream>"
CLOSE_S: Final = 3.0
_HEAD_BYTES: Final = 200
_CHUNK_BYTES: Final = 65536
# A probe reads little and the program ends after it: no parser is renewed, no limit is reached.
_LIMITS: Final = Limits(
    max_stanza_bytes=8 * 1024 * 1024, max_elements=8 * 1024 * 1024, life_bytes=1 << 40
)
_ERROR: Final = expanded(STREAMS, "error")
_HANDSHAKE: Final = expanded(COMPONENT, "handshake")


class Wire:
    """A connection and everything received on it: `root`, then `elements`, then its end.

    `condition` is that of the peer's stream error, `fault` the error in the peer's XML. `end_tag`
    and `gone` (the connection is closed, cleanly or not) may follow either.
    """

    def __init__(self, transport: trio.SocketStream) -> None:
        self.head = b""
        self.root: RootOpened | None = None
        self.elements: list[Element] = []
        self.condition: str | None = None
        self.fault: ParserFaulted | None = None
        self.end_tag = False
        self.gone = False
        self._transport = transport
        self._parser = StreamParser(_LIMITS)

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected from the peer."""
        return self.condition is not None or self.fault is not None or self.end_tag or self.gone

    @property
    def accepted(self) -> bool:
        """Whether the server accepted a handshake."""
        return any(element.name == _HANDSHAKE for element in self.elements)

    @property
    def stanzas(self) -> list[Stanza]:
        """Received stanzas, in order."""
        found = (Stanza.of(element) for element in self.elements)
        return [stanza for stanza in found if stanza is not None]

    def attribute(self, name: str) -> str | None:
        """Return an attribute of the peer's header; None if absent."""
        return dict(self.root.attributes).get(name) if self.root is not None else None

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged. A cancelled call may have sent a part."""
        try:
            await self._transport.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.lowlevel.checkpoint()  # earlier data of the peer can still be read

    async def send_singly(self, data: bytes) -> None:
        """Send bytes one by one, in separate segments as far as TCP allows."""
        for offset in range(len(data)):
            await self.send(data[offset : offset + 1])
            await trio.sleep(0.0005)

    async def read_until(self, done: Callable[[], bool], within_s: float) -> bool:
        """Read until `done()` holds, the connection is closed or the time is over.

        Return whether `done()` holds.
        """
        with trio.move_on_after(within_s):
            while not done() and not self.gone:
                await self._read()
        return done()

    async def close(self) -> None:
        """Close cleanly (S12): send the end tag and wait, at most `CLOSE_S`, for the peer to close.

        If cancelled, close at once.
        """
        try:
            with trio.move_on_after(CLOSE_S):
                if not self.gone:
                    await self.send(END_TAG)
                await self.read_until(lambda: self.gone, CLOSE_S)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await self._transport.aclose()

    async def _read(self) -> None:
        try:
            data = bytes(await self._transport.receive_some(_CHUNK_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self.gone = True
            return
        self.head = (self.head + data)[:_HEAD_BYTES]
        for item in self._parser.feed(data):
            match item:
                case RootOpened():
                    self.root = item
                case ElementParsed(element=element) | ElementRefused(stub=element):
                    self._take(element)
                case RootClosed():
                    self.end_tag = True
                case ParserFaulted():
                    self.fault = item

    def _take(self, element: Element) -> None:
        self.elements.append(element)
        if element.name == _ERROR and self.condition is None:
            names = [one.local for one in element.elements if one.namespace == STREAM_ERRORS]
            self.condition = next((name for name in names if name != "text"), "(none)")
