"""A component in the test's own process that does everything right, but for the faults it is told.

It reads with the core, whose rules it can be made to break: what it is to swallow is taken out of
the bytes before. `FakeSource` brings it to the checks, `Fake.run` to whoever listens.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from xml.sax.saxutils import escape

import trio
from attrs import define

from bridge.conformance.component.source import HOST
from xmppstream import (
    ComponentConnection,
    Element,
    ErrorType,
    Event,
    HandshakeAccepted,
    Limits,
    Role,
    Stanza,
    StanzaCondition,
    StanzaError,
    StanzaReceived,
    StanzaRefused,
    StreamClosed,
    StreamFaulted,
    StreamOpened,
    encode,
    make,
)
from xmppstream.jid import domain_of
from xmppstream.names import DISCO_INFO, PING, VERSION, expanded
from xmppstream.stanza import TYPES

BAD_REQUEST = StanzaError(StanzaCondition.BAD_REQUEST, ErrorType.MODIFY)
UNAVAILABLE = StanzaError(StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)
NOT_HERE = StanzaError(StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL)
TOO_LONG = StanzaError(StanzaCondition.POLICY_VIOLATION, ErrorType.MODIFY)
LONG_ABSENCE_S = 60.0
KNOWN = {
    expanded(PING, "ping"): (),
    expanded(DISCO_INFO, "query"): (Element(expanded(DISCO_INFO, "query")),),
    expanded(VERSION, "query"): (Element(expanded(VERSION, "query")),),
}
SWALLOWED = (
    (rb"(?s)<!--.*?-->", b""),
    (rb"<\?[^x].*?\?>|<\?x .*?\?>", b""),
    (rb"(?s)<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>", b""),
    (rb"&(?!amp;|lt;|gt;|quot;|apos;|#)\w+;", b"x"),
    (rb"<x:y/>", b"<y/>"),
    (rb" b:v='2'", b""),
    (rb" xmlns:p=''", b""),
    (rb"a:b:c", b"a:b"),
    (rb" encoding='ISO-8859-1'", b""),
    (b"\xe9", b"e"),
)


@define
class Fake:
    """One component; each fault has a name, which stands where it is committed."""

    faults: frozenset[str]
    domain: str
    secret: str
    again_s: float = 0.01
    stream: "FakeStream | None" = None

    def has(self, fault: str) -> bool:
        return fault in self.faults

    async def run(self, port: int) -> None:
        """Attach, and again after each stream, until it is sent away."""
        while True:
            transport = await trio.open_tcp_stream(HOST, port)
            self.stream = FakeStream(self, transport)
            async with transport:
                end = await self.stream.run()
            if end in ("conflict", "host-unknown", "not-authorized") and not (
                self.has("hammers") or self.has("hesitates")
            ):
                await trio.sleep(LONG_ABSENCE_S)
            if end == "system-shutdown" and self.has("stays away"):
                await trio.sleep(LONG_ABSENCE_S)
            await trio.sleep(0.1 if self.has("hesitates") else self.again_s)


class FakeSource:
    """Brings a fake to the checks, in place of a command."""

    can_restart = True
    exit_code = None
    crash = ""

    def __init__(self, nursery: trio.Nursery, domain: str, *faults: str) -> None:
        self._nursery = nursery
        self._domain = domain
        self._faults = frozenset(faults)
        self._fake: Fake | None = None
        self._running = trio.CancelScope()
        self._listener: trio.SocketListener | None = None

    async def start(self, secret: str) -> None:
        [self._listener] = await trio.open_tcp_listeners(0, host=HOST)
        self._fake = Fake(self._faults, self._domain, secret)
        self._nursery.start_soon(self._run, self._listener.socket.getsockname()[1])

    async def _run(self, port: int) -> None:
        assert self._fake is not None
        with trio.CancelScope() as self._running:
            await self._fake.run(port)

    async def accept(self, within_s: float) -> trio.SocketStream | None:
        assert self._listener is not None
        with trio.move_on_after(within_s):
            return await self._listener.accept()
        return None

    async def ends(self, within_s: float) -> None:
        await trio.lowlevel.checkpoint()

    async def terminate(self) -> None:
        assert self._fake is not None
        assert self._fake.stream is not None
        await self._fake.stream.close()

    async def stop(self) -> None:
        self._running.cancel()
        if self._listener is not None:
            await self._listener.aclose()

    def absence(self, within_s: float) -> str:
        return f"not within {within_s:g} s"


class FakeStream:
    """One stream of it."""

    def __init__(self, fake: Fake, transport: trio.SocketStream) -> None:
        self._fake = fake
        self._transport = transport
        limit = 5_000 if fake.has("little room") else 512 * 1024
        self._core = ComponentConnection(
            Role.COMPONENT,
            domain=fake.domain,
            limits=Limits(max_stanza_bytes=limit, endless_factor=1 if self._strict else 16),
        )
        self._sending = trio.Lock()
        self._read = 0
        self.end = ""

    @property
    def _strict(self) -> bool:
        return self._fake.has("little room") or self._fake.has("no patience")

    async def run(self) -> str:
        """Until the stream is over; gives the condition of its error."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._run()
            nursery.cancel_scope.cancel()
        return self.end

    async def close(self) -> None:
        """As on SIGTERM."""
        if not self._fake.has("hard of hearing"):
            if not self._fake.has("no end tag"):
                await self._send(self._core.close())
            await self._transport.aclose()

    async def _keep_alive(self) -> None:
        await trio.sleep(0.3)
        if self._core.established and not self._fake.has("silent"):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._send(b" ")

    async def _run(self) -> None:
        await self._send(self._header())
        while True:
            data = bytes(await self._transport.receive_some(65536))
            self._read += len(data)
            if not data:
                return
            if self._fake.has("stalls") and self._read > 200_000:
                await trio.sleep_forever()
            if self._is_lost_to(data):
                return
            await self._fetch(data)
            if self._fake.has("echoes blindly") and b"<x:y/>" in data:
                await self._send(data)
                continue
            for event in self._core.receive_data(self._laundered(data)):
                if not await self._take(event):
                    return

    def _header(self) -> bytes:
        header = self._core.open()
        for fault, old, new in (
            ("client header", b"jabber:component:accept", b"jabber:client"),
            ("other root", b"<stream:stream", b"<stream:flow"),
            ("no to", b" to=", b" for="),
            ("loud to", self._fake.domain.encode(), self._fake.domain.upper().encode()),
            ("version", b" to=", b" version='1.0' to="),
        ):
            if self._fake.has(fault):
                header = header.replace(old, new)
        return header

    async def _fetch(self, data: bytes) -> None:
        found = re.search(rb"SYSTEM 'http://[\d.]+:(\d+)/", data)
        if found is not None and self._fake.has("fetches"):
            async with await trio.open_tcp_stream(HOST, int(found[1])):
                await trio.sleep(0.05)

    def _is_lost_to(self, data: bytes) -> bool:
        """Close without a word where bytes are not to its liking."""
        fake = self._fake
        return (
            (fake.has("no space") and data[:1].isspace())
            or (fake.has("no mark") and data.startswith(b"\xef\xbb\xbf"))
            or (fake.has("no standalone") and b"standalone" in data)
            or (fake.has("whole characters") and not _is_utf8(data))
            or (fake.has("shuts up") and any(re.search(p, data) for p, _ in SWALLOWED[:8]))
        )

    def _laundered(self, data: bytes) -> bytes:
        if self._fake.has("swallows"):
            if data.startswith(b"\xff\xfe"):
                data = data.decode("utf-16").encode().replace(b" encoding='UTF-16'", b"")
            for pattern, replacement in SWALLOWED:
                data = re.sub(pattern, replacement, data)
        if self._fake.has("no prefix"):
            data = data.replace(b"<c:iq", b"<c:qi").replace(b"</c:iq", b"</c:qi")
        if self._fake.has("no client"):
            data = data.replace(b"<iq xmlns='jabber:client'", b"<iq xmlns='u:x'")
        return data.replace(b"<p:ping/>", b"<ping/>") if self._fake.has("no root prefix") else data

    async def _take(self, event: Event) -> bool:
        fake = self._fake
        match event:
            case StreamOpened():
                await self._authenticate(event)
            case HandshakeAccepted() if fake.has("sends unknown"):
                await self._send(b"<r xmlns='urn:xmpp:sm:3'/>")
            case StanzaReceived(stanza=stanza):
                await self._answer(stanza)
            case StanzaRefused(stanza=stanza) if stanza.is_request:
                filler = "x" * 600_000 if fake.has("echoes") else ""
                await self._send(encode(stanza.error_reply(StanzaError(*_LONG, filler))))
            case StreamFaulted(condition=condition):
                self.end = str(condition)
                if fake.has("leaves open"):
                    await trio.sleep_forever()
                await self._send(self._core.close(event))
                return False
            case StreamClosed():
                if fake.has("leaves open"):
                    await trio.sleep_forever()
                if not fake.has("no end tag"):
                    await self._send(self._core.close())
                return False
            case _ if fake.has("no unknown"):
                return isinstance(event, HandshakeAccepted)
        return True

    async def _authenticate(self, opened: StreamOpened) -> None:
        fake, id = self._fake, opened.id or ""
        if not id and not fake.has("headlong"):
            return
        handshake = _handshake(fake, id)
        if id:
            self._core.authenticate(fake.secret)
        await self._send(f"<handshake>{handshake}</handshake>".encode())
        if fake.has("early"):
            await self._send(encode(make("presence", "juliet@capulet.example", fake.domain)))

    async def _answer(self, stanza: Stanza) -> None:
        for answer in self._answers(stanza):
            await self._send(self._spoilt(encode(answer)))

    def _answers(self, stanza: Stanza) -> Iterator[Stanza]:
        fake, sender = self._fake, stanza.from_
        if stanza.kind != "iq":
            if stanza.type == "error" and fake.has("answers errors"):
                yield make(stanza.kind, sender, fake.domain, type="chat", id=stanza.id)
            if stanza.kind == "presence" and fake.has("bounces"):
                yield make("presence", sender, fake.domain, type="error")
            return
        if not stanza.id and fake.has("refuses without id"):
            error = BAD_REQUEST.to_element()
            id = "" if fake.has("empty id") else None
            yield make("iq", sender, stanza.to, type="error", id=id, children=(error,))
            return
        if not (sender and stanza.id) and not fake.has("answers anything"):
            return
        if stanza.type in ("result", "error"):
            if fake.has("answers results"):
                yield make("iq", sender, stanza.to, type="result", id=stanza.id)
            return
        if domain_of(stanza.to or "") != fake.domain and not fake.has("speaks for others"):
            stanza = Stanza(stanza.element.with_attributes(to=fake.domain), stanza.lang)
            yield stanza.error_reply(NOT_HERE)
            return
        yield from self._request_answers(stanza)

    def _request_answers(self, stanza: Stanza) -> Iterator[Stanza]:
        fake, children = self._fake, stanza.element.elements
        name = children[0].name if children else ""
        reply = partial(make, "iq", stanza.from_, stanza.to, id=stanza.id)
        sane = stanza.type in TYPES["iq"] and len(children) == 1
        is_ping = sane and name == expanded(PING, "ping")
        if fake.has("mute") or fake.has("no pings" if is_ping else "only pings"):
            return
        if fake.has("agrees") or (name in KNOWN and sane):
            if fake.has("deaf") and name == expanded(DISCO_INFO, "query"):
                return
            yield reply(type="result", children=KNOWN.get(name, ()))
            if fake.has("stutters"):
                yield reply(type="result")
        elif stanza.type not in TYPES["iq"] and fake.has("ignores types"):
            return
        else:
            error = (UNAVAILABLE if sane or fake.has("vague") else BAD_REQUEST).to_element()
            if fake.has("odd errors"):
                error = error.with_attributes(type="fatal")
            yield reply(type="error", children=(error,))

    def _spoilt(self, data: bytes) -> bytes:
        for fault, old, new in (
            ("client stanzas", b"<iq", b"<iq xmlns='jabber:client'"),
            ("control characters", b"<iq", b"<iq xml:lang='&#1;'"),
            ("no from", b" from=", b" by="),
            ("foreign from", b" from='" + self._fake.domain.encode(), b" from='other.example"),
        ):
            if self._fake.has(fault):
                data = data.replace(old, new)
        return data

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            if data:
                await self._transport.send_all(data)


_LONG = (StanzaCondition.POLICY_VIOLATION, ErrorType.MODIFY)


def _handshake(fake: Fake, id: str) -> str:
    secret = fake.secret.encode()
    if fake.has("latin"):
        secret = fake.secret.encode("latin-1", errors="replace")
    if fake.has("escaped id"):
        id = escape(id, {"'": "&apos;", '"': "&quot;"})
    text = hashlib.sha1(b"" if fake.has("wrong digest") else id.encode() + secret).hexdigest()
    if fake.has("upper case"):
        text = text.upper()
    return f"\n{text}\n" if fake.has("spaced") else text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
