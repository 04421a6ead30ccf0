"""The component protocol (XEP-0114) without I/O: both roles in one class.

Bytes go in and events come out; values go in and bytes come out. No clock, no socket, no await:
`trio_stream` drives it, and tests join two of them. `state` has the table of each side's states.
This module adds the order of the handshakes, the meaning of elements, and the faults.
"""

import hashlib
import hmac
from enum import Enum
from typing import assert_never

from xmppstream import state
from xmppstream.builder import (
    ElementParsed,
    ElementRefused,
    ParseEvent,
    ParserFaulted,
    RootClosed,
    RootOpened,
)
from xmppstream.element import Element
from xmppstream.errors import LocalError, StreamCondition
from xmppstream.events import (
    ElementIgnored,
    Event,
    HandshakeAccepted,
    HandshakeReceived,
    StanzaReceived,
    StanzaRefused,
    StreamClosed,
    StreamFaulted,
    StreamOpened,
)
from xmppstream.limit import Limits
from xmppstream.names import COMPONENT, LANG, STREAM_ERRORS, STREAMS, expanded, local_of
from xmppstream.parser import StreamParser
from xmppstream.stanza import Stanza
from xmppstream.state import Sent, Side
from xmppstream.writer import escape_value, write

_HANDSHAKE = expanded(COMPONENT, "handshake")
_ERROR = expanded(STREAMS, "error")
_ROOT = expanded(STREAMS, "stream")
_CLOSE = b"</stream:stream>"
_CONDITIONS = frozenset(StreamCondition.__members__.values())


class Role(Enum):
    """Which end of the stream this is."""

    COMPONENT = "component"
    SERVER = "server"


def digest(stream_id: str, secret: str) -> str:
    """Return the handshake's text: hex SHA-1 of id and secret, both in UTF-8 (rules S4, S5)."""
    return hashlib.sha1((stream_id + secret).encode(), usedforsecurity=False).hexdigest()


def verify(received: str, stream_id: str, secret: str) -> bool:
    """Whether a component knows the secret; the comparison takes constant time."""
    return hmac.compare_digest(received.encode(), digest(stream_id, secret).encode())


def encode(stanza: Stanza) -> bytes:
    """Return the bytes of a stanza, written in the default namespace of a stream (S24).

    Raises:
        IllegalCharacter: if it contains a character that XML forbids (S27).
    """
    return stanza.encode()


class ComponentConnection:
    """One stream between a component and a server, seen from one end.

    `receive_data` never raises for a fault of the peer: a `StreamFaulted` is then the last event,
    and the fault latches. The other methods raise `LocalError` if the state forbids the call.
    """

    def __init__(self, role: Role, *, domain: str = "", limits: Limits | None = None) -> None:
        """`domain` is the component's; a server may take it from the component's header instead."""
        self.role = role
        self.domain = domain
        self.local = Side.IDLE
        self.remote = Side.IDLE
        self.stream_id: str | None = None
        self.lang: str | None = None
        self._parser = StreamParser(limits)
        self._faulted = False

    @property
    def established(self) -> bool:
        """Whether both handshakes are complete, so stanzas may flow."""
        return self.local is Side.READY and self.remote is Side.READY

    @property
    def _attached(self) -> bool:
        # Input of the peer counts until its own end, even after we have closed our side (S12).
        return self.remote is Side.READY and self.local is not Side.OPEN

    def open(self, *, stream_id: str = "", lang: str | None = None) -> bytes:
        """Return the stream header (S1, S2); a server passes the id for the digest."""
        header = f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"
        if self.role is Role.COMPONENT:
            header += f" to='{escape_value(self.domain)}'"
        else:
            header += f" from='{escape_value(self.domain)}' id='{escape_value(stream_id)}'"
        if lang is not None:
            header += f" xml:lang='{escape_value(lang)}'"
        self.local = state.after(self.local, Sent.HEADER)
        if self.role is Role.SERVER:
            self.stream_id = stream_id
        return f"<?xml version='1.0'?>{header}>".encode()

    def authenticate(self, secret: str) -> bytes:
        """Component: return the handshake for the id that the server has sent (S4 to S6)."""
        if self.role is not Role.COMPONENT:
            raise LocalError("only a component authenticates")
        if self.remote is not Side.OPEN or not self.stream_id:
            raise LocalError("the server has not sent a stream id")
        self.local = state.after(self.local, Sent.HANDSHAKE)
        return f"<handshake>{digest(self.stream_id, secret)}</handshake>".encode()

    def accept(self) -> bytes:
        """Server: accept the component's handshake."""
        if self.role is not Role.SERVER or self.remote is not Side.READY:
            raise LocalError("there is no handshake to accept")
        self.local = state.after(self.local, Sent.HANDSHAKE)
        return b"<handshake/>"

    def send(self, stanza: Stanza) -> bytes:
        """Return the bytes of a stanza.

        Raises:
            LocalError: if the stream is not established, or the stanza cannot be written (S27).
        """
        data = encode(stanza)
        self.count_sent()
        return data

    def count_sent(self) -> None:
        """Check that a stanza that was encoded elsewhere may be sent now; raises as `send`.

        In `state`'s table a READY side stays READY, so no state changes.
        """
        if not self.established:
            raise LocalError("the stream is not established (S7)")

    def close(self, fault: StreamFaulted | None = None) -> bytes:
        """Return the end of our side (S12), after a stream error if `fault` is not the peer's.

        A side that is closed, or was never opened, sends nothing.
        """
        if self.local in (Side.IDLE, Side.CLOSED):
            return b""
        told = b""
        if fault is not None and not fault.by_peer:
            self.local = state.after(self.local, Sent.ERROR)
            told = write(_stream_error(fault), COMPONENT).encode()
        self.local = state.after(self.local, Sent.CLOSE)
        return told + _CLOSE

    def receive_data(self, data: bytes) -> list[Event]:
        """Process bytes of the peer and return the events that they complete."""
        events = self.receive_events(self._parser.feed(data))
        while self._parser.spent:
            rest = self._parser.unparsed
            self._parser.close()
            self._parser = self._parser.successor()
            events += self.receive_events(self._parser.feed(rest))
        return events

    def receive_events(self, parsed: list[ParseEvent]) -> list[Event]:
        """Process the results of a parser that runs elsewhere (`trio_stream`'s thread)."""
        events: list[Event] = []
        for item in parsed:
            if self._faulted or self.remote is Side.CLOSED:
                break
            if isinstance(item, ElementParsed):  # nearly always
                event = self._receive_element(item.element, item.weight_bytes)
            else:
                event = self._receive(item)
            if event is not None:
                events.append(event)
                self._faulted = isinstance(event, StreamFaulted)
        return events

    def _receive(
        self, item: RootOpened | ElementRefused | RootClosed | ParserFaulted
    ) -> Event | None:
        match item:
            case ElementRefused():
                return self._receive_refused(item)
            case RootOpened():
                return self._receive_header(item)
            case RootClosed():
                self.remote = Side.CLOSED
                return StreamClosed()
            case ParserFaulted(condition=condition, text=text):
                self.remote = Side.FAULTED
                return StreamFaulted(condition, text)
        assert_never(item)

    def _receive_header(self, root: RootOpened) -> Event:
        self.remote = state.after(self.remote, Sent.HEADER)
        if local_of(root.name) != "stream":
            return self._fault(StreamCondition.BAD_FORMAT, "the root is not a stream")
        if root.name != _ROOT or dict(root.namespaces).get("") != COMPONENT:
            return self._fault(StreamCondition.INVALID_NAMESPACE, f"expected {COMPONENT}")
        values = dict(root.attributes)
        self.lang = values.get(LANG)
        opened = StreamOpened(
            values.get("id"),
            from_=values.get("from"),
            to=values.get("to"),
            lang=self.lang,
            version=values.get("version"),
        )
        if self.role is Role.COMPONENT:
            self.stream_id = opened.id
        elif not self.domain:
            self.domain = opened.to or ""
        return opened

    def _receive_element(self, element: Element, weight: int) -> Event | None:
        stanza = Stanza.of(element, self.lang)
        if stanza is None:
            if element.name == _ERROR:
                self.remote = Side.FAULTED
                return _read_stream_error(element)
            if element.name == _HANDSHAKE and self.remote is Side.OPEN:
                return self._receive_handshake(element)
            return ElementIgnored(element.name)
        if not self._attached:
            return self._fault(StreamCondition.NOT_AUTHORIZED, "a stanza before the handshake")
        return StanzaReceived(stanza, weight)

    def _receive_handshake(self, element: Element) -> Event:
        if self.role is Role.COMPONENT and self.local is not Side.READY:
            return self._fault(StreamCondition.NOT_AUTHORIZED, "a handshake before ours")
        self.remote = state.after(self.remote, Sent.HANDSHAKE)
        if self.role is Role.COMPONENT:
            return HandshakeAccepted()
        return HandshakeReceived(element.text)

    def _receive_refused(self, item: ElementRefused) -> Event:
        stanza = Stanza.of(item.stub, self.lang)
        if not self._attached:
            return self._fault(StreamCondition.POLICY_VIOLATION, f"over the limit of {item.limit}")
        if stanza is None:
            return ElementIgnored(item.stub.name)
        return StanzaRefused(stanza, item.limit, item.weight_bytes)

    def _fault(self, condition: StreamCondition, text: str) -> StreamFaulted:
        self.remote = Side.FAULTED
        return StreamFaulted(condition, text)


def _stream_error(fault: StreamFaulted) -> Element:
    condition = Element(expanded(STREAM_ERRORS, fault.condition))
    text = Element(expanded(STREAM_ERRORS, "text"), (), (fault.text,))
    return Element(_ERROR, (), (condition, text) if fault.text else (condition,))


def _read_stream_error(element: Element) -> StreamFaulted:
    condition, text, application = StreamCondition.UNDEFINED_CONDITION, "", None
    for child in element.elements:
        if child.namespace != STREAM_ERRORS:
            application = application or child
        elif child.local == "text":
            text = child.text
        elif child.local in _CONDITIONS:
            condition = StreamCondition(child.local)
        else:
            text = text or f"the unknown condition {child.local}"
    return StreamFaulted(condition, text, by_peer=True, application=application)
