"""The server under test: how a check connects, attaches, and finds out what became of a probe.

Invariant: at most one check runs at a time, and `close_all` ends the connections that it opened, in
order, so that the domain is free for the next. A conflict all the same (a server that is slow to
let go) is met by trying again for a few seconds.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import frozen

from bridge.conformance.report import NothingTried
from bridge.conformance.server.connection import Wire
from bridge.conformance.server.outcome import Judge, Judgement, Outcome
from bridge.xmpp.link import HINTS
from xmppstream.component import digest
from xmppstream.names import COMPONENT, PING, STREAMS, expanded

ANSWER_S: Final = 5.0
"""For what must come: long, since the wait ends when it does."""
SILENCE_S: Final = 1.0
"""For what must not come: paid in full."""
BLIND_S: Final = 0.3
"""For each probe of a server that returns no barriers, so that none can tell the end of it."""
CLOSE_S: Final = 3.0
CLOSE_ALL_S: Final = 10.0
ATTACH_S: Final = 10.0
RETRY_S: Final = 0.1

_DOMAIN: Final = b"DOMAIN"


class NotAttached(Exception):
    """The server, which did let us in before, does so no longer; the message says why."""


def handshake(text: str) -> bytes:
    """Give a handshake with this text, whatever it is."""
    return f"<handshake>{text}</handshake>".encode()


class Target:
    """A server, and a domain to attach as. `returns_barriers` is found out by `greet`."""

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
        """Give a header with further attributes, another domain, or a declaration before it."""
        return (
            f"{declaration}<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}'"
            f" to='{self.domain if to is None else to}'{more}>"
        ).encode()

    def fill(self, xml: bytes) -> bytes:
        """Put the domain where a probe says DOMAIN."""
        return xml.replace(_DOMAIN, self.domain.encode())

    async def connect(self) -> Wire:
        """Open a connection, and say nothing.

        Raises:
            OSError: nothing listens there.
            trio.TooSlowError: nothing answers.
        """
        with trio.fail_after(ANSWER_S):
            wire = Wire(await trio.open_tcp_stream(self.host, self.port))
        self._wires.append(wire)
        return wire

    async def open(self, header: bytes | None = None) -> Wire:
        """Connect, send a header, and read the server's, or its refusal. Raises as `connect`."""
        wire = await self.connect()
        await wire.send(self.header if header is None else header)
        await wire.read_until(lambda: wire.root is not None or wire.ended, ANSWER_S)
        return wire

    def digest(self, wire: Wire) -> str:
        """Give the right text of the handshake for this connection (S4)."""
        return digest(wire.attribute("id") or "", self.secret)

    async def shake(self, wire: Wire, text: str | None = None) -> None:
        """Send a handshake (the right one by default), and read what the server makes of it."""
        await wire.send(handshake(self.digest(wire) if text is None else text))
        await wire.read_until(lambda: wire.accepted or wire.ended, ANSWER_S)

    async def enter(
        self, header: bytes | None = None, text: Callable[[str], str] = str
    ) -> tuple[Wire, Outcome]:
        """Attach with any header, and with the right digest changed by `text`; a conflict with our
        own last connection is waited out. Raises as `connect`.
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
        """Attach, and see that stanzas flow. Raises as `connect`.

        Raises:
            NotAttached: the server will not have us.
        """
        wire, outcome = await self.enter(header)
        if not outcome.alive and wire.accepted and not outcome.ended:
            # ejabberd routes at random among the links of a domain: to one that dies, perhaps.
            outcome = await self.settle(wire)
        if not outcome.alive:
            raise NotAttached(outcome.seen)
        return wire

    async def try_stanza(self, xml: bytes, header: bytes | None = None) -> Outcome:
        """Attach, send something (DOMAIN stands for the domain), and tell what came of it. Raises
        as `attach`.
        """
        wire = await self.attach(header)
        await wire.send(self.fill(xml))
        return await self.settle(wire)

    async def settle(self, wire: Wire, *, opening: bool = False) -> Outcome:
        """Tell what became of all that was sent: a barrier (S35) shows that it was read.

        Gives what came since the last call. Of a server that returns no barriers it is known only
        that the stream still stands a moment later.
        """
        since = self._marks.get(wire, 0)
        self._barriers += 1
        mark = f"barrier-{self._barriers}"

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
            tuple(one for one in wire.stanzas[since:] if one.id != mark),
            condition=wire.condition,
            garbled=str(wire.fault.condition) if wire.fault is not None else "",
            ended=wire.ended,
            alive=alive,
            opening=opening,
        )

    def barrier(self, id: str) -> bytes:
        """Give a ping from the domain to itself."""
        ping = f"<iq from='DOMAIN' to='DOMAIN' id='{id}' type='get'><ping xmlns='{PING}'/></iq>"
        return self.fill(ping.encode())

    async def close(self, wire: Wire) -> None:
        """Close a connection and see its end."""
        self._wires.remove(wire)
        self._marks.pop(wire, None)
        await wire.close()

    async def close_all(self) -> None:
        """Close what is open, also where the caller is cancelled; bounded in time."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_ALL_S):
            while self._wires:
                await self.close(self._wires[-1])

    async def greet(self) -> None:
        """Attach once, and say in words why, where that cannot be done.

        Raises:
            NothingTried: there is no server, no component's port, or no way in.
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
    """One thing to try about one rule. The probe opens its own connections, by the target."""

    rule: str
    name: str
    probe: Probe


def sends(rule: str, name: str, xml: str | bytes, judge: Judge) -> Check:
    """Make a check that sends something (DOMAIN for the domain) on an attached stream."""
    data = xml.encode() if isinstance(xml, str) else xml

    async def probe(target: Target) -> Judgement:
        return judge(await target.try_stanza(data))

    return Check(rule, name, probe)


def reason_of(error: OSError) -> str:
    """Give the operating system's words, which trio puts behind its own."""
    causes = [error.__cause__ or error]
    if isinstance(causes[0], BaseExceptionGroup):  # one for each address
        causes = list(causes[0].exceptions)
    reasons = [_words(one) for one in causes if isinstance(one, OSError)]
    return ", ".join(dict.fromkeys(reasons)) or str(error)


def _words(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _stranger(wire: Wire) -> str:
    """Say what else it is than a component's port; "" where it is one."""
    ask = "is it a component's port?"
    if wire.root is not None:
        if wire.root.name != expanded(STREAMS, "stream"):
            return f"speaks XML, but not XMPP: {ask}"
        namespace = dict(wire.root.namespaces).get("", "nothing")
        return "" if namespace == COMPONENT else f"speaks {namespace[:60]}: {ask}"
    if not wire.head:
        if wire.gone:
            return f"closes the connection without a word: {ask}"
        return f"accepts the connection, but says nothing for {ANSWER_S:g} s: {ask} With TLS?"
    line = wire.head.splitlines()[0][:60].decode("ascii", "replace")
    shown = "".join(one if one.isprintable() else "?" for one in line)
    return f'does not speak XMPP, but says "{shown}": {ask}'


def _refusal(outcome: Outcome) -> str:
    hint = next((text for one, text in HINTS.items() if one == outcome.condition), "")
    return f"{outcome.seen}; {hint}" if hint else outcome.seen
