"""A small XMPP peer for tests: a component (XEP-0114) or a client (RFC 6120) over plain TCP.

It shares no code with the project, and reads XML with expat, so that a fault of the project's own
stream is not repeated here. Stanzas are elements with expanded names. It checks nothing that it
sends.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOOPBACK = "127.0.0.1"
HANDSHAKE_S = 20.0
CLOSE_S = 3.0
CHUNK_BYTES = 65536

STREAMS = "http://etherx.jabber.org/streams"
COMPONENT = "jabber:component:accept"
CLIENT = "jabber:client"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SESSION = "urn:ietf:params:xml:ns:xmpp-session"
PING = "urn:xmpp:ping"


class PeerRefused(Exception):
    """The server refused the stream; `condition` is its stream, SASL or stanza error's.

    A connection that ends without an error has the condition `closed`.
    """

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


class PeerClosed(Exception):
    """The stream has ended, so that nothing more can be sent or received."""


class Peer:
    """One end of an open stream, read by a task of `connect_component` or `connect_client`.

    `stanzas` holds all that arrived, in order; what `receive` has not yet returned is unread.
    Pings are answered without being unread, unless `answer_pings` is off.
    """

    def __init__(self, wire: _Wire, jid: str, *, answer_pings: bool) -> None:
        self.jid = jid
        self.stanzas: list[ET.Element] = []
        self.stream_error: ET.Element | None = None
        self.closed = trio.Event()
        self._wire = wire
        self._answer_pings = answer_pings
        self._unread: list[ET.Element] = []
        self._arrival = trio.Event()
        self._sending = trio.Lock()
        self._close_sent = False

    async def send(self, xml: str) -> None:
        """Write `xml` as it is.

        Raises: PeerClosed when the connection is gone. A cancelled call may have written a part.
        """
        async with self._sending:
            try:
                await self._wire.send(xml)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise PeerClosed(self._ending()) from error

    async def receive(
        self, predicate: Callable[[ET.Element], bool] | None = None, timeout_s: float = 10
    ) -> ET.Element:
        """Take the first unread stanza that matches; the others stay unread, in order.

        Raises: trio.TooSlowError when none comes in time; PeerClosed when none can come any more.
        """
        with trio.move_on_after(timeout_s):
            while True:
                for index, stanza in enumerate(self._unread):
                    if predicate is None or predicate(stanza):
                        return self._unread.pop(index)
                if self.closed.is_set():
                    raise PeerClosed(self._ending())
                await self._arrival.wait()
        raise trio.TooSlowError(f"no such stanza in {timeout_s} s; {self._left()}")

    async def nothing_within(
        self, seconds: float, predicate: Callable[[ET.Element], bool] | None = None
    ) -> None:
        """Assert that no stanza that matches is unread or arrives within `seconds`.

        Raises: PeerClosed when the stream ends, since its silence would mean nothing.
        """
        try:
            stanza = await self.receive(predicate, timeout_s=seconds)
        except trio.TooSlowError:
            return
        raise AssertionError(f"not silent: {_text(stanza)}")

    async def wait_closed(self, timeout_s: float = 10) -> None:
        """Wait for the server's end of the stream. Raises: trio.TooSlowError."""
        with trio.fail_after(timeout_s):
            await self.closed.wait()

    async def _read(self) -> None:
        """Take stanzas until the stream ends, then answer its end and leave the connection."""
        try:
            while (element := await self._wire.element()) is not None:
                await self._take(element)
            with suppress(PeerClosed):
                await self._send_close()
            await self._wire.aclose()
        finally:
            self.closed.set()
            self._arrival.set()

    async def _take(self, element: ET.Element) -> None:
        if element.tag == f"{{{STREAMS}}}error":
            self.stream_error = element
            return
        self.stanzas.append(element)
        if self._answer_pings and _is_ping(element):
            with suppress(PeerClosed):
                await self.send(_pong(element))
            return
        self._unread.append(element)
        self._arrival.set()
        self._arrival = trio.Event()

    async def _send_close(self) -> None:
        if not self._close_sent:
            self._close_sent = True
            await self.send("</stream:stream>")

    async def _close(self) -> None:
        """Close the stream and wait, bounded, until the server has forgotten it."""
        with trio.move_on_after(CLOSE_S) as scope:
            scope.shield = True
            with suppress(PeerClosed):
                await self._send_close()
            await self.closed.wait()

    def _ending(self) -> str:
        error = "no error" if self.stream_error is None else condition(self.stream_error)
        return f"the stream of {self.jid} ended with {error}; {self._left()}"

    def _left(self) -> str:
        return f"unread: {[_text(stanza) for stanza in self._unread]}"


@asynccontextmanager
async def connect_component(
    port: int, domain: str, secret: str, *, answer_pings: bool = True
) -> AsyncIterator[Peer]:
    """Open a component's stream and close it at the end.

    Raises: PeerRefused. Prosody 0.12.3 sends `conflict` in place of the handshake.
    """
    async with _connected(port) as wire:
        with trio.fail_after(HANDSHAKE_S):
            header = await wire.open(COMPONENT, domain)
            digest = hashlib.sha1((header.get("id", "") + secret).encode()).hexdigest()
            with suppress(trio.BrokenResourceError):  # refused already: the reason is still unread
                await wire.send(f"<handshake>{digest}</handshake>")
            await _expect(wire, f"{{{COMPONENT}}}handshake")
        async with _running(Peer(wire, domain, answer_pings=answer_pings)) as peer:
            yield peer


@asynccontextmanager
async def connect_client(
    port: int,
    jid: str,
    password: str,
    resource: str = "test",
    *,
    presence: bool = True,
    answer_pings: bool = True,
) -> AsyncIterator[Peer]:
    """Log a client in (`jid` is bare) and close its stream at the end.

    With `presence`, the server has seen the initial presence when this returns; the client's own
    presence is in `stanzas`, but not unread.
    Raises: PeerRefused.
    """
    user, _, domain = jid.partition("@")
    async with _connected(port) as wire:
        with trio.fail_after(HANDSHAKE_S):
            await _log_in(wire, user, domain, password)
            full = await _bind(wire, domain, resource)
            peer = Peer(wire, full, answer_pings=answer_pings)
            if presence:
                await _appear(peer, domain)
        async with _running(peer):
            yield peer


def condition(error: ET.Element) -> str:
    """The defined condition of a stream error, a SASL failure or an `<error/>` of a stanza."""
    return next((name(child) for child in error), "undefined-condition")


def name(element: ET.Element) -> str:
    """The local name of an element: `message`, `presence`, `iq`, …"""
    return element.tag.rpartition("}")[2]


async def _log_in(wire: _Wire, user: str, domain: str, password: str) -> None:
    await wire.open(CLIENT, domain)
    await _expect(wire, f"{{{STREAMS}}}features")
    plain = b64encode(f"\0{user}\0{password}".encode()).decode()
    await wire.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain}</auth>")
    await _expect(wire, f"{{{SASL}}}success")


async def _bind(wire: _Wire, domain: str, resource: str) -> str:
    """Open the stream of a logged-in client, bind `resource`, and return the full JID."""
    await wire.open(CLIENT, domain)
    features = await _expect(wire, f"{{{STREAMS}}}features")
    wanted = ET.Element("resource")
    wanted.text = resource
    await wire.send(f"<iq type='set' id='bind'><bind xmlns='{BIND}'>{_text(wanted)}</bind></iq>")
    jid = (await _expect_result(wire)).findtext(f"{{{BIND}}}bind/{{{BIND}}}jid")
    assert jid is not None, "the server bound no JID"
    if features.find(f"{{{SESSION}}}session") is not None:
        await wire.send(f"<iq type='set' id='session'><session xmlns='{SESSION}'/></iq>")
        await _expect_result(wire)
    return jid


async def _appear(peer: Peer, domain: str) -> None:
    """Send initial presence; the result of a ping behind it says that it was processed."""
    await peer.send("<presence/>")
    await peer.send(
        f"<iq type='get' id='appear' to={quoteattr(domain)}><ping xmlns='{PING}'/></iq>"
    )
    while (stanza := await _element(peer._wire)).get("id") != "appear":
        await peer._take(stanza)
        if name(stanza) == "presence" and stanza.get("from") == peer.jid:
            peer._unread.remove(stanza)


async def _element(wire: _Wire) -> ET.Element:
    """The next element. Raises: PeerRefused at a stream error and at the end."""
    element = await wire.element()
    if element is None:
        raise PeerRefused("closed")
    if element.tag == f"{{{STREAMS}}}error":
        raise PeerRefused(condition(element))
    return element


async def _expect(wire: _Wire, tag: str) -> ET.Element:
    element = await _element(wire)
    if element.tag == f"{{{SASL}}}failure":
        raise PeerRefused(condition(element))
    assert element.tag == tag, f"{tag} expected: {_text(element)}"
    return element


async def _expect_result(wire: _Wire) -> ET.Element:
    iq = await _expect(wire, f"{{{CLIENT}}}iq")
    if (error := iq.find(f"{{{CLIENT}}}error")) is not None:
        raise PeerRefused(condition(error))
    return iq


@asynccontextmanager
async def _running(peer: Peer) -> AsyncIterator[Peer]:
    """Read in a task of its own; close the stream at the end.

    An exception of the body leaves as itself, not in the nursery's group.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer._read)
        try:
            yield peer
        except Exception as error:
            failure = error
        finally:
            await peer._close()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[_Wire]:
    async with await trio.open_tcp_stream(LOOPBACK, port) as connection:
        yield _Wire(connection)


class _Wire:
    """Bytes to elements: the children of the stream's root, each removed from it once complete."""

    def __init__(self, connection: trio.SocketStream) -> None:
        self._connection = connection
        self._reset()

    def _reset(self) -> None:
        self._parser: ET.XMLPullParser[ET.Element] = ET.XMLPullParser(("start", "end"))
        self._root: ET.Element | None = None
        self._depth = 0
        self._elements: deque[ET.Element] = deque()
        self._ended = False

    async def open(self, namespace: str, to: str) -> dict[str, str]:
        """Open a stream, for a client again after SASL, and return the server's attributes.

        Raises: PeerRefused when the connection ends before the server's header.
        """
        self._reset()
        version = " version='1.0'" if namespace == CLIENT else ""
        await self.send(
            f"<?xml version='1.0'?><stream:stream xmlns='{namespace}' xmlns:stream='{STREAMS}'"
            f" to={quoteattr(to)}{version}>"
        )
        while self._root is None:
            if self._ended:
                raise PeerRefused("closed")
            await self._fill()
        return dict(self._root.attrib)

    async def element(self) -> ET.Element | None:
        """The next child of the root; None at the end of the stream or of the connection."""
        while not self._elements:
            if self._ended:
                return None
            await self._fill()
        return self._elements.popleft()

    async def send(self, xml: str) -> None:
        await self._connection.send_all(xml.encode())

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _fill(self) -> None:
        try:
            data = await self._connection.receive_some(CHUNK_BYTES)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self._ended = True
            return
        self._parser.feed(data)
        # expat 2.6 may sit on a token that came in pieces; older Pythons have no flush, nor need it
        if (flush := getattr(self._parser, "flush", None)) is not None:
            flush()
        for event in self._parser.read_events():
            match event:
                case ("start", ET.Element() as element):
                    self._start(element)
                case ("end", ET.Element() as element):
                    self._end(element)

    def _start(self, element: ET.Element) -> None:
        self._depth += 1
        if self._root is None:
            self._root = element

    def _end(self, element: ET.Element) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._ended = True
        elif self._depth == 1 and self._root is not None:
            self._root.remove(element)
            self._elements.append(element)


def _is_ping(element: ET.Element) -> bool:
    return (
        name(element) == "iq"
        and element.get("type") == "get"
        and element.find(f"{{{PING}}}ping") is not None
    )


def _pong(ping: ET.Element) -> str:
    pong = ET.Element("iq", {"type": "result"})
    for attribute, source in (("id", "id"), ("to", "from"), ("from", "to")):
        if (value := ping.get(source)) is not None:
            pong.set(attribute, value)
    return _text(pong)


def _text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")
