"""The server under test: connects, attaches, and determines the outcome of a probe.

Invariant: at most one check runs at a time, and `close_all` closes its connections cleanly, so that
the domain is free for the next check. If there is a conflict all the same, because the server is
slow to free the domain, `enter` retries for a few seconds.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import frozen

from bridge.conformance.report import NothingTried
from bridge.conformance.server.connection import Wire
from bridge.conformance.server.outcome import Judge, Judgement, Outcome, is_probe
from bridge.xmpp.link import HINTS
from xmppstream.component import digest
from xmppstream.names import COMPONENT, PING, STREAMS, expanded
from xmppstream.stanza import Stanza

BARRIER: Final = "conformance-barrier"
ANSWER_S: Final = 5.0
"""For an expected answer. Long, because the wait ends when the answer comes."""
SILENCE_S: Final = 1.0
"""For data that must not come. Short, because this wait always takes its full time."""
BLIND_S: Final = 0.3
"""After each probe of a server that returns no barriers, which would mark the end of it."""
CLOSE_S: Final = 3.0
CLOSE_ALL_S: Final = 10.0
ATTACH_S: Final = 10.0
RETRY_S: Final = 0.1

_DOMAIN: Final = b"DOMAIN"


class NotAttached(Exception):
    """The server refuses the component, which it accepted before. The message says why."""


def handshake(text: str) -> bytes:
    """Return a handshake with any text."""
    return f"<handshake>{text}</handshake>".encode()


class Target:
    """A server, and a domain to attach as. `greet` sets `returns_barriers`."""

    def __init__(self, host: str, port: int, domain: str, secret: str) -> None:
        self.host = host
        self.port = port
        self.domain = domain
        self.secret = secret
        self.returns_barriers = True
        self._wires: list[Wire] = []
        self._marks: dict[Wire, int] = {}
        self._barriers = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def header(self) -> bytes:
        """The header that a component sends (S1)."""
        return self.header_with("")

    def header_with(self, more: str, *, to: str | None = None, declaration: str = "") -> bytes:
        """Return a header with more attributes, another domain, or a declaration before it."""
        return (
            f"{declaration}<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"
            f" to='{self.domain if to is None else to}'{more}>"
        ).encode()

    def fill(self, xml: bytes) -> bytes:
        """Replace DOMAIN in a probe with the domain."""
        return xml.replace(_DOMAIN, self.domain.encode())

    async def connect(self) -> Wire:
        """Open a connection and send nothing.

        Raises:
            OSError: if nothing listens there.
            trio.TooSlowError: if nothing answers.
        """
        with trio.fail_after(ANSWER_S):
            wire = Wire(await trio.open_tcp_stream(self.host, self.port))
        self._wires.append(wire)
        return wire

    async def open(self, header: bytes | None = None) -> Wire:
        """Connect, send a header, and read the server's header or refusal. Raises as `connect`."""
        wire = await self.connect()
        await wire.send(self.header if header is None else header)
        await wire.read_until(lambda: wire.root is not None or wire.ended, ANSWER_S)
        return wire

    def digest(self, wire: Wire) -> str:
        """Return the correct text of the handshake for this connection (S4)."""
        return digest(wire.attribute("id") or "", self.secret)

    async def shake(self, wire: Wire, text: str | None = None) -> None:
        """Send a handshake, by default the correct one, and read the server's reaction."""
        await wire.send(handshake(self.digest(wire) if text is None else text))
        await wire.read_until(lambda: wire.accepted or wire.ended, ANSWER_S)

    async def enter(
        self, header: bytes | None = None, text: Callable[[str], str] = str
    ) -> tuple[Wire, Outcome]:
        """Attach with any header, and with the correct digest changed by `text`.

        Retries while there is a conflict with our own last connection. Raises as `connect`.
        """
        deadline = trio.current_time() + ATTACH_S
        while True:
            wire = await self.open(header)
            if wire.root is not None and not wire.ended:
                await self.shake(wire, text(self.digest(wire)))
            outcome = await self.settle(wire, opening=True)
            if outcome.condition != "conflict" or trio.current_time() > deadline:
                return wire, outcome
            await self.close(wire)
            await trio.sleep(RETRY_S)

    async def attach(self, header: bytes | None = None) -> Wire:
        """Attach, and verify that stanzas are routed. Raises as `connect`.

        Raises:
            NotAttached: if the server refuses the component.
        """
        wire, outcome = await self.enter(header)
        if not outcome.alive and wire.accepted and not outcome.ended:
            # ejabberd routes at random among the links of a domain, perhaps to one that is closing.
            outcome = await self.settle(wire)
        if not outcome.alive:
            raise NotAttached(outcome.seen)
        return wire

    async def try_stanza(self, xml: bytes, header: bytes | None = None) -> Outcome:
        """Attach, send `xml` (DOMAIN stands for the domain), and return the outcome.

        Raises as `attach`.
        """
        wire = await self.attach(header)
        await wire.send(self.fill(xml))
        return await self.settle(wire)

    async def settle(self, wire: Wire, *, opening: bool = False) -> Outcome:
        """Return the outcome since the last call, once a barrier (S35) shows that all was read.

        If the server returns no barriers, the outcome shows only whether the stream is still open a
        moment later.
        """
        since = self._marks.get(wire, 0)
        self._barriers += 1
        mark = f"{BARRIER}-{self._barriers}"

        def came() -> bool:
            return any(stanza.id == mark for stanza in wire.stanzas[since:])

        attached = wire.accepted or not opening
        if attached and not wire.ended:
            await wire.send(self.barrier(mark))
            within_s = ANSWER_S if self.returns_barriers else BLIND_S
            await wire.read_until(lambda: came() or wire.ended, within_s)
        alive = attached and (came() if self.returns_barriers else not wire.ended)
        self._marks[wire] = len(wire.stanzas)
        return Outcome(
            tuple(self.probes(wire, since)),
            condition=wire.condition,
            garbled=str(wire.fault.condition) if wire.fault is not None else "",
            ended=wire.ended,
            alive=alive,
            opening=opening,
        )

    def probes(self, wire: Wire, since: int = 0) -> list[Stanza]:
        """Return what came of probes (`is_probe`), from the stanza with the number `since` on."""
        return [one for one in wire.stanzas[since:] if is_probe(one, self.domain)]

    def barrier(self, id: str) -> bytes:
        """Return a ping from the domain to itself."""
        ping = f"<iq from='DOMAIN' to='DOMAIN' id='{id}' type='get'><ping xmlns='{PING}'/></iq>"
        return self.fill(ping.encode())

    async def close(self, wire: Wire) -> None:
        """Close a connection and wait for its end."""
        self._wires.remove(wire)
        self._marks.pop(wire, None)
        await wire.close()

    async def close_all(self) -> None:
        """Close all connections, even if the caller is cancelled. Takes at most `CLOSE_ALL_S`."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_ALL_S):
            while self._wires:
                await self.close(self._wires[-1])

    async def greet(self) -> None:
        """Attach once, to find out whether the server can be tested.

        Raises:
            NothingTried: if no component port answers there, or it refuses the component.
        """
        try:
            wire, outcome = await self.enter()
        except trio.TooSlowError:
            raise NothingTried(f"{self} cannot be reached within {ANSWER_S:g} s.") from None
        except OSError as error:
            raise NothingTried(f"{self} cannot be reached: {reason_of(error)}.") from None
        finally:
            await self.close_all()
        if wire.condition is None and (stranger := _stranger(wire)):
            raise NothingTried(f"{self} {stranger}")
        if not wire.accepted or outcome.condition is not None:
            raise NothingTried(f"{self} does not let {self.domain} in: {_refusal(outcome)}.")
        self.returns_barriers = outcome.alive


Probe = Callable[[Target], Awaitable[Judgement]]


@frozen
class Check:
    """One check of one rule. The probe opens its own connections through the target."""

    rule: str
    name: str
    probe: Probe


def sends(rule: str, name: str, xml: str | bytes, judge: Judge) -> Check:
    """Return a check that sends `xml` (DOMAIN for the domain) on an attached stream."""
    data = xml.encode() if isinstance(xml, str) else xml

    async def probe(target: Target) -> Judgement:
        return judge(await target.try_stanza(data))

    return Check(rule, name, probe)


def reason_of(error: OSError) -> str:
    """Return the operating system's error text, which trio chains to its own exception."""
    causes = [error.__cause__ or error]
    if isinstance(causes[0], BaseExceptionGroup):  # one per address
        causes = list(causes[0].exceptions)
    reasons = [_words(one) for one in causes if isinstance(one, OSError)]
    return ", ".join(dict.fromkeys(reasons)) or str(error)


def _words(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _stranger(wire: Wire) -> str:
    """Describe a peer that is not a component port; "" if it is one."""
    ask = "is it a component port?"
    if wire.root is not None:
        if wire.root.name != expanded(STREAMS, "stream"):
            return f"speaks XML, but not XMPP: {ask}"
        namespace = dict(wire.root.namespaces).get("", "nothing")
        return "" if namespace == COMPONENT else f"speaks {namespace[:60]}: {ask}"
    if not wire.head:
        if wire.gone:
            return f"closes the connection without sending anything: {ask}"
        return f"accepts the connection, but sends nothing for {ANSWER_S:g} s: {ask} With TLS?"
    line = wire.head.splitlines()[0][:60].decode("ascii", "replace")
    shown = "".join(one if one.isprintable() else "?" for one in line)
    return f'does not speak XMPP, but sends "{shown}": {ask}'


def _refusal(outcome: Outcome) -> str:
    hint = next((text for one, text in HINTS.items() if one == outcome.condition), "")
    return f"{outcome.seen}; {hint}" if hint else outcome.seen
