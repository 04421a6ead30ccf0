"""The scripted server's end of one connection. It sends anything and keeps everything it receives.

The component's bytes are read by the core's parser. Elements keep their own namespaces, because a
rule may be about them. Nothing is judged here; the checks do that.

Like a server, it returns stanzas that the component sends to its own domain (S35), and answers an
end tag.
"""

from collections.abc import Callable
from typing import Final

import trio

from bridge.conformance.component.ledger import SERVER, Asked, Ledger
from bridge.conformance.component.profile import Profile
from xmppstream import Element, Limits, Stanza, encode, write
from xmppstream.builder import (
    ElementParsed,
    ElementRefused,
    ParseEvent,
    ParserFaulted,
    RootClosed,
    RootOpened,
)
from xmppstream.component import digest
from xmppstream.names import (
    COMPONENT,
    DISCO_INFO,
    PING,
    STANZA_ERRORS,
    STREAM_ERRORS,
    STREAMS,
    VERSION,
    expanded,
    local_of,
)
from xmppstream.parser import StreamParser
from xmppstream.writer import escape_value

CLOSE: Final = "</stream:stream>"
PING_PAYLOAD: Final = f"<ping xmlns='{PING}'/>"
_DISMISSALS: Final = frozenset({"conflict", "host-unknown", "not-authorized"})
_CHUNK_BYTES: Final = 64 * 1024
_SEND_TIMEOUT_S: Final = 10.0
_LIMITS: Final = Limits(
    max_stanza_bytes=16 * 1024 * 1024,
    max_depth=250,
    max_elements=1_000_000,
    max_attributes=10_000,
    max_name_bytes=10_000,
)
_HANDSHAKE: Final = expanded(COMPONENT, "handshake")
_ERROR: Final = expanded(STREAMS, "error")


class Unanswered(Exception):
    """A ping is not answered, and it is not known that the component answers any."""


class Session:
    """One connection. Its owner runs `read` in a task until either side closes."""

    def __init__(
        self,
        transport: trio.SocketStream,
        profile: Profile,
        domain: str,
        secret: str,
        in_flight: Ledger,
        answer_s: float,
    ) -> None:
        self.profile = profile
        self.domain = domain
        self.secret = secret
        self.in_flight = in_flight
        self.answer_s = answer_s
        self.greeting_ids = (in_flight.fresh_id(), in_flight.fresh_id())
        self.id = profile.make_id()
        self.header: RootOpened | None = None
        self.elements: list[Element] = []
        self.fault: ParserFaulted | None = None
        self.ended = False  # the component sent its end tag
        self.gone = False  # the TCP connection is closed
        self.touched = False  # we sent something
        self.attached = False
        self.spoilt = False  # a check broke the stream on purpose
        self.echoed = False  # the fault is illegal XML of ours, sent back
        self.dismissed = False  # we sent an error after which a component should stay away
        self.keepalives = 0
        self._transport = transport
        self._parser = StreamParser(_LIMITS)
        self._changed = trio.Event()
        self._sending = trio.Lock()
        self._closed = False

    # --- received

    @property
    def whole(self) -> bool:
        """Whether stanzas can be exchanged on this stream."""
        return self.attached and not (self.over or self.spoilt)

    @property
    def over(self) -> bool:
        return self.ended or self.gone or self.fault is not None or self.error is not None

    @property
    def handshake(self) -> str | None:
        """Text of the handshake that the component sent."""
        return next((one.text for one in self.elements if one.name == _HANDSHAKE), None)

    @property
    def error(self) -> str | None:
        """Condition of the stream error that the component sent."""
        error = next((one for one in self.elements if one.name == _ERROR), None)
        if error is None:
            return None
        conditions = [one.local for one in error.elements if one.namespace == STREAM_ERRORS]
        return next((one for one in conditions if one != "text"), "no condition")

    @property
    def silence(self) -> str:
        """Describe in which way an answer is missing."""
        if self.fault is not None:
            return "closed with unreadable data"
        if self.error is not None:
            return f"closed with {self.error}"
        return "closed without an error" if self.over else "no answer"

    @property
    def stanzas(self) -> list[Stanza]:
        """Stanzas that the component sent, in order and of any namespace."""
        found = (Stanza.of(element) for element in self.elements)
        return [stanza for stanza in found if stanza is not None]

    def answers(self, id: str) -> list[Stanza]:
        """Return the iq answers with this id."""
        return [
            stanza
            for stanza in self.stanzas
            if stanza.kind == "iq" and stanza.id == id and stanza.type in ("result", "error")
        ]

    def said_to(self, address: str) -> list[Stanza]:
        """Return all stanzas that the component sent to this address."""
        return [stanza for stanza in self.stanzas if stanza.to == address]

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until `condition` holds or the connection is closed. Return whether it holds."""
        with trio.move_on_after(within_s):
            while not (condition() or self.gone):
                await self._changed.wait()
        return condition()

    async def greets(self, within_s: float) -> bool:
        """Wait for the component's header. Return whether it came in time."""
        return await self.until(lambda: self.header is not None, within_s)

    async def answer_to_ping(self, id: str, within_s: float | None = None) -> Stanza | None:
        """Wait for the answer to the ping `id`; None if it does not come in time.

        Raises:
            Unanswered: if that proves nothing, because the component may answer no ping at all.
        """
        known = self.in_flight.answers_pings
        if known is not False:
            await self.until(lambda: bool(self.answers(id)) or self.over, within_s or self.answer_s)
        answers = self.answers(id)
        if answers:
            self.in_flight.answers_pings = True
        elif not (known or self.over):
            raise Unanswered
        return next(iter(answers), None)

    async def shakes_hands(self) -> bool:
        """Wait for the handshake. Return whether it came and the stream is still open."""
        await self.until(lambda: self.handshake is not None or self.over, self.answer_s)
        return self.handshake is not None and not self.over

    # --- sent

    async def send(self, data: str | bytes) -> bool:
        """Send `data` unchanged. Return False if the component closed, or did not read for 10 s.

        After such a timeout the stream is unusable.
        """
        async with self._sending:
            return await self._write(data.encode() if isinstance(data, str) else data)

    async def send_in_pieces(
        self, data: bytes, pause_s: Callable[[int], float] = lambda _: 0.0005
    ) -> None:
        """Send byte by byte with a pause after each, in separate segments as far as TCP allows."""
        async with self._sending:
            for byte in data:
                if not await self._write(bytes([byte])):
                    return
                await trio.sleep(pause_s(byte))

    async def _write(self, data: bytes) -> bool:
        self.touched = True
        try:
            with trio.fail_after(_SEND_TIMEOUT_S):
                await self._transport.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return False
        return True

    async def open(self, header: str | bytes | None = None) -> None:
        """Send a header, by default the one of the profile."""
        await self.send(header or self.profile.open(self.domain, self.id))

    async def accept(self) -> bool:
        """Accept the handshake, whether right or wrong. Return False if none comes in time."""
        if not await self.shakes_hands():
            return False
        self.attached = True
        greeting = self.greeting() if self.profile.asks_at_once else ""
        return await self.send(self.profile.handshake + greeting)

    @property
    def digest(self) -> str:
        """The correct text of the handshake."""
        return digest(self.id, self.secret)

    def greeting(self) -> str:
        """Return the requests that Openfire sends right after the handshake (S9)."""
        disco, version = self.greeting_ids
        return self.iq(f"<query xmlns='{DISCO_INFO}'/>", id=disco, from_=SERVER) + self.iq(
            f"<query xmlns='{VERSION}'/>", id=version, from_=SERVER
        )

    def iq(
        self,
        payload: str,
        *,
        id: str,
        type: str = "get",
        from_: str | None = None,
        to: str | None = None,
        legal: bool = True,
    ) -> str:
        """Return an iq to the component, and record its addresses."""
        from_, to = from_ or f"juliet@{SERVER}/balcony", to or self.domain
        self.in_flight.asked[id] = Asked(from_, to, legal)
        values = {"from": from_, "to": to, "type": type, "id": id}
        attributes = "".join(f" {name}='{escape_value(value)}'" for name, value in values.items())
        return f"<iq{attributes}>{payload}</iq>"

    async def ask(
        self, payload: str, *, type: str = "get", within_s: float | None = None
    ) -> Stanza | None:
        """Send a request, and return the first result or error; None if none comes in time."""
        id = self.in_flight.fresh_id()
        await self.send(self.iq(payload, id=id, type=type))
        await self.until(lambda: bool(self.answers(id)) or self.over, within_s or self.answer_s)
        return next(iter(self.answers(id)), None)

    async def ping(self, text: str = "", within_s: float | None = None) -> Stanza | None:
        """Send a ping, with `text` in it, and return its answer. Raises as `answer_to_ping`."""
        id = self.in_flight.fresh_id()
        await self.send(self.iq(padded_ping(text), id=id))
        return await self.answer_to_ping(id, within_s)

    async def answers_ping(self, within_s: float | None = None) -> bool:
        """Return whether the component answers a ping, so has read everything sent before.

        Raises as `answer_to_ping`.
        """
        return await self.ping(within_s=within_s) is not None

    async def exchange(self, within_s: float | None = None) -> None:
        """Exchange a ping if the component answers pings, so that the stream has been used."""
        if self.in_flight.answers_pings is not False:
            await self.ask(PING_PAYLOAD, within_s=within_s)

    async def fail(self, condition: str, header: str = "") -> None:
        """End the stream with an error, in one write, as servers do."""
        self.spoilt = self._closed = True
        self.dismissed = condition in _DISMISSALS
        told = Element(expanded(STREAM_ERRORS, condition))
        text = Element(expanded(STREAM_ERRORS, "text"), (), ("sent by the conformance tests",))
        error = Element(_ERROR, (), (told, text))
        await self.send(header + write(error, COMPONENT) + CLOSE)

    async def close(self) -> None:
        """Send the end tag, once."""
        self.spoilt = True
        if not self._closed:
            self._closed = True
            await self.send(CLOSE)

    async def hang_up(self) -> None:
        """Close the connection. Never fails."""
        self.spoilt = True
        await trio.aclose_forcefully(self._transport)

    # --- reading

    async def read(self) -> None:
        """Read until the component ends its stream or the connection is closed."""
        try:
            while not self.ended:
                data = await self._transport.receive_some(_CHUNK_BYTES)
                if not data:
                    break
                await self._take(bytes(data))
            if self.ended:
                await self.close()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(self._transport)
            self.gone = True
            self._change()

    async def _take(self, data: bytes) -> None:
        events = self._parser.feed(data)
        while self._parser.spent:
            rest = self._parser.unparsed
            self._parser = self._parser.successor()
            events += self._parser.feed(rest)
        if data.isspace() and self.attached:
            self.keepalives += 1
        for event in events:
            await self._take_event(event)
        self._change()

    async def _take_event(self, event: ParseEvent) -> None:
        match event:
            case RootOpened():
                self.header = event
            case ElementParsed(element=element):
                self.elements.append(element)
                await self._route(element)
            case ElementRefused(stub=stub):
                self.elements.append(stub)
            case RootClosed():
                self.ended = True
            case ParserFaulted():
                self.fault = event

    async def _route(self, element: Element) -> None:
        stanza = Stanza.of(element)
        if stanza is not None and self.whole and stanza.to == self.domain:
            await self.send(encode(stanza))

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def padded_ping(text: str) -> str:
    """Return the payload of a ping, with text in it."""
    return f"<ping xmlns='{PING}'>{text}</ping>"


def name_of(stanza: Stanza) -> str:
    """Describe a stanza without anything that differs from run to run."""
    type = f" of type {stanza.type}" if stanza.type else ""
    return f"{local_of(stanza.element.name)}{type}"


def condition_of(stanza: Stanza) -> str:
    """Return the condition of a stanza error, whatever its namespace."""
    error = next((one for one in stanza.element.elements if one.local == "error"), None)
    if error is None:
        return "no error element"
    names = [one.local for one in error.elements if one.namespace == STANZA_ERRORS]
    return next((name for name in names if name != "text"), "no condition")
