"""Looking a server up, and asking its port who it is, without attaching.

The stream is opened as a component opens it, and closed again before the handshake. So no server
evicts anybody for it, no secret is sent, and one that does not know the component says so already.
"""

import errno
import os
import socket
from contextlib import suppress
from typing import Final

import trio

from bridge.cli.check.report import Report
from bridge.config.settings import Component
from bridge.config.value import DEFAULT_PORT, is_loopback
from bridge.daemon.daemon import ExitCode
from bridge.telemetry.text import printable
from bridge.xmpp.backoff import Reaction, reaction_to
from bridge.xmpp.link import REMEDIES, hint_of
from xmppstream import (
    ComponentConnection,
    Role,
    Server,
    StreamClosed,
    StreamEnd,
    StreamFailed,
    StreamFaulted,
    StreamLost,
    StreamOpened,
    open_transport,
)
from xmppstream.jid import to_ascii

_TIMEOUT_S: Final = 10.0
_CLOSE_S: Final = 2.0
"""How long a server may take for its end of the stream, or for an error instead."""
_NUDGE_S: Final = 3.0
"""How long a server may take for its first byte, until it gets an empty line. One for HTTP answers
only then; white space is legal in a stream.
"""
_NUDGE: Final = b"\r\n\r\n"
_CHUNK_BYTES: Final = 4096
_SHOWN_BYTES: Final = 30
_USE: Final = f"components use {DEFAULT_PORT} in most servers"
_HTTP: Final = f"this port speaks HTTP, not XMPP; correct the port: {_USE}"
_SILENT_END: Final = StreamLost("the server closed the connection without a word")
_BROKEN: Final = StreamLost("the server broke the connection without a word")
_REFUSED: Final = os.strerror(errno.ECONNREFUSED)


async def check_server(component: Component, report: Report) -> bool:
    """Resolve the server's name and open a stream; return whether it seems ready to attach to."""
    server = component.server
    try:
        with trio.fail_after(_TIMEOUT_S):
            host = to_ascii(server.host)
            found = await trio.socket.getaddrinfo(host, server.port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        why = str(error) or f"no answer within {_TIMEOUT_S:g} s"
        report.bad(component.domain, f"resolve {server.host}", f"{why}: correct `server`")
        return False
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    report.good(component.domain, f"resolve {server.host}", addresses)
    if not server.tls and not is_loopback(server.host):
        details = "not encrypted and not on loopback: set tls = true, or use a tunnel"
        report.warn(component.domain, f"stream to {server}", details)
    return await _check_stream(component, report)


async def _check_stream(component: Component, report: Report) -> bool:
    server = component.server
    what = f"connect to {server}"
    end = await probe(server, component.domain)
    if end in (_SILENT_END, _BROKEN) and await _speaks_http(server):
        end = StreamLost(_HTTP)
    if end is None:
        security = " over TLS" if server.tls else ""
        report.good(component.domain, what, f"a server for components answers{security}")
        return True
    refused = reaction_to(end, attached=False) is Reaction.REFUSED
    code = ExitCode.REFUSED if refused else ExitCode.OTHER
    report.bad(component.domain, what, told(end, server), code)
    return False


async def probe(server: Server, domain: str) -> StreamEnd | None:
    """Open a stream and close it before the handshake. Return how it failed, None if it did not."""
    stage = f"connecting to {server}"
    try:
        with trio.fail_after(_TIMEOUT_S):
            transport = await open_transport(server)
            stage = f"waiting for the first word of {server}"
            try:
                return await _greet(transport, domain)
            finally:
                await trio.aclose_forcefully(transport)
    except StreamFailed as failure:
        return failure.end
    except trio.TooSlowError:
        return StreamLost(f"gave up after {_TIMEOUT_S:g} s of {stage}")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return _BROKEN


async def _greet(transport: trio.abc.Stream, domain: str) -> StreamEnd | None:
    core = ComponentConnection(Role.COMPONENT, domain=domain)
    opened = False
    said = b""
    await transport.send_all(core.open())
    with trio.CancelScope() as scope:
        while data := await _receive(transport, patient=bool(said)):
            said += bytes(data) if len(said) < _CHUNK_BYTES else b""
            foreign = None if opened else foreign_protocol(said)
            if foreign is not None:
                return StreamLost(foreign)
            for event in core.receive_data(bytes(data)):
                match event:
                    case StreamOpened():
                        opened = True
                        scope.deadline = trio.current_time() + _CLOSE_S
                    case StreamFaulted(by_peer=False) if not opened:
                        return StreamLost(f"this is not an XMPP server: it says {_quoted(said)}")
                    case StreamFaulted():
                        return event
                    case StreamClosed():
                        return None
            if opened:
                with suppress(trio.BrokenResourceError):  # it may have closed the connection
                    await transport.send_all(core.close())
    if opened:
        return None
    return _SILENT_END


async def _speaks_http(server: Server) -> bool:
    """Whether a port answers a request of HTTP: some servers for HTTP hang up on anything else."""
    said = b""
    with trio.move_on_after(_NUDGE_S), suppress(StreamFailed, trio.BrokenResourceError):
        transport = await open_transport(server)
        async with transport:
            await transport.send_all(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while len(said) < len(b"HTTP/") and (data := await transport.receive_some()):
                said += data
    return said.startswith(b"HTTP/")


async def _receive(transport: trio.abc.Stream, *, patient: bool) -> bytes | bytearray:
    """Receive some bytes. If not `patient`, send an empty line if they take long."""
    if not patient:
        with trio.move_on_after(_NUDGE_S):
            return await transport.receive_some(_CHUNK_BYTES)
        await transport.send_all(_NUDGE)
    return await transport.receive_some(_CHUNK_BYTES)


def foreign_protocol(said: bytes) -> str | None:
    """Return which protocol a port speaks, and a remedy, judged by its first bytes; None if it is,
    or may become, the stream of a component.
    """
    if said.startswith(b"HTTP/"):
        return _HTTP
    if said.startswith((b"\x15\x03", b"\x16\x03")):
        return "this port speaks TLS; set tls = true, or use the port without TLS"
    if said.startswith(b"SSH-"):
        return f"this port speaks SSH, not XMPP; correct the port: {_USE}"
    header = said[said.find(b"<stream:stream") :] if b"<stream:stream" in said else b""
    head = header.partition(b">")[0]
    if b"jabber:client" in head:
        return f"this port is for clients (as 5222 is); correct the port: {_USE}"
    if b"jabber:server" in head:
        return f"this port is for other servers (as 5269 is); correct the port: {_USE}"
    return None


def told(end: StreamEnd, server: Server) -> str:
    """Return how a stream ended, why that may be, and the remedy."""
    remedy = REMEDIES.get(end.condition, "") if isinstance(end, StreamFaulted) else ""
    if isinstance(end, StreamLost):
        remedy = _remedy(end.text, server)
    clauses = [clause for clause in (hint_of(end), remedy) if clause]
    return f"{end}: {'; '.join(clauses)}" if clauses else str(end)


def _remedy(why: str, server: Server) -> str:
    if _REFUSED in why:
        return (
            f"nothing listens on port {server.port}: start the XMPP server, with the lines below in"
            " its configuration, or correct `server`"
        )
    if "wrong version number" in why or "record layer failure" in why:
        return (
            "the port has no TLS: set tls = false, or put TLS in front of it (Prosody has none for"
            " components)"
        )
    if "Hostname mismatch" in why or "IP address mismatch" in why:
        return "set tls_name to a name that the certificate has"
    if "certificate" in why:
        return "set ca_file to the certificate of the authority that signed the server's"
    if "gave up after" in why and "waiting" in why:
        return "is this the port for components? Check `server`, tls and any firewall"
    if "gave up after" in why:
        return "check the address in `server`, and any firewall"
    if "without a word" in why:
        return "is this the port for components? Check `server` and tls, and see the server's log"
    return ""


def _quoted(said: bytes) -> str:
    return repr(printable(said[:_SHOWN_BYTES].decode("utf-8", "replace")))
