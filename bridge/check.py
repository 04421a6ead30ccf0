"""`xmpp-bridge check`: what can be found out about a configuration without disturbing anyone."""

import socket
from contextlib import suppress
from typing import Final

import httpx
import trio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.config import Component, Settings
from bridge.daemon import ExitCode, is_loopback
from bridge.endpoint import Endpoint, make_transport
from bridge.link import HINTS
from bridge.reconnect import Course, course_of
from xmppstream import (
    ComponentStream,
    StreamEnd,
    StreamFailed,
    StreamFaulted,
    StreamOptions,
    connect,
)

_TIMEOUT_S: Final = 10.0


class _Report:
    """The table of what was tried."""

    def __init__(self) -> None:
        self.code = ExitCode.OK
        self._table = Table(title="What was tried", title_justify="left", show_lines=False)
        for column in ("component", "what", "result", "details"):
            self._table.add_column(column, overflow="fold")

    def good(self, domain: str, what: str, details: str) -> None:
        self._add(domain, what, "[green]ok[/]", details)

    def warn(self, domain: str, what: str, details: str) -> None:
        self._add(domain, what, "[yellow]warning[/]", details)

    def bad(self, domain: str, what: str, details: str, code: ExitCode = ExitCode.OTHER) -> None:
        self._add(domain, what, "[red]failed[/]", details)
        self.code = max(self.code, code)

    def _add(self, domain: str, what: str, result: str, details: str) -> None:
        # Brackets in an address, or in what a server says, are no markup of ours.
        self._table.add_row(domain, escape(what), result, escape(details))

    def show(self, console: Console) -> None:
        console.print(self._table)


async def check_settings(settings: Settings, attach: bool) -> ExitCode:
    """Try everything, print the report, and give the exit code (0 only where all is well)."""
    console, report = Console(), _Report()
    if attach:
        console.print(
            "[yellow]--connect attaches as each component: a running daemon for it would be "
            "evicted or disturbed.[/]\n"
        )
    report.good("", "configuration", f"{len(settings.components)} component(s)")
    for warning in settings.warnings:
        report.warn("", "configuration", warning)
    for component in settings.components:
        await _check_server(component, report)
        await _check_endpoint(component, settings, report)
        if attach:
            await _check_attach(component, settings, report)
    for component in settings.components:
        _print_server_lines(component, console)
    report.show(console)
    return report.code


async def _check_server(component: Component, report: _Report) -> None:
    server = component.server
    try:
        with trio.fail_after(_TIMEOUT_S):
            found = await trio.socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        why = str(error) or f"no answer within {_TIMEOUT_S:g} s"
        report.bad(component.domain, f"resolve {server.host}", why)
        return
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    report.good(component.domain, f"resolve {server.host}", addresses)
    if not server.tls and not is_loopback(server.host):
        details = "not encrypted, and not on loopback: set tls = true, or use a tunnel"
        report.warn(component.domain, f"stream to {server}", details)


async def _check_endpoint(component: Component, settings: Settings, report: _Report) -> None:
    endpoint = Endpoint(component.post_url, settings.http, make_transport(settings.http))
    what = f"OPTIONS {component.post_url}"
    try:
        with trio.fail_after(min(_TIMEOUT_S, settings.http.timeout_s)):
            status = await endpoint.options()
        report.good(component.domain, what, f"answers, with status {status}")
    except httpx.TransportError as error:
        report.bad(component.domain, what, str(error) or type(error).__name__)
    except trio.TooSlowError:
        report.bad(component.domain, what, "no answer in time")
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await endpoint.aclose()


async def _check_attach(component: Component, settings: Settings, report: _Report) -> None:
    what = f"attach to {component.server}"
    options = StreamOptions(handshake_timeout_s=settings.stream.handshake_timeout_s)
    attached = False
    try:
        stream = await connect(component.server, component.domain, component.secret.value, options)
        attached, end = True, await _prove(stream)
    except StreamFailed as failure:
        end = failure.end
    if end is None:
        report.good(component.domain, what, "handshake accepted")
        return
    hint = HINTS.get(end.condition, "") if isinstance(end, StreamFaulted) else ""
    refused = course_of(end, attached=attached) is Course.REFUSED
    code = ExitCode.REFUSED if refused else ExitCode.OTHER
    report.bad(component.domain, what, f"{end}. {hint}".rstrip(". ") + ".", code)


async def _prove(stream: ComponentStream) -> StreamEnd | None:
    """Have a barrier returned and leave; give the stream's end, where the server has ended it.

    Some servers return none: one that keeps the stream open for that long will do.
    """
    ended: StreamEnd | None = None

    async def ignore(_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def leave() -> None:
        nonlocal ended
        with suppress(StreamFailed), trio.move_on_after(_TIMEOUT_S):
            await stream.barrier()
        ended = stream.end
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await stream.serve(ignore)
    return ended


def _print_server_lines(component: Component, console: Console) -> None:
    server, domain = component.server, component.domain
    ip = "127.0.0.1" if is_loopback(server.host) else "::"
    prosody = [
        f"component_ports = {{ {server.port} }}",
        f'component_interfaces = {{ "{ip}" }}',
        f'Component "{domain}"',
        '    component_secret = "THE SECRET"',
    ]
    if server.tls:
        prosody.insert(0, "-- Prosody has no direct TLS for components: put stunnel before it")
    ejabberd = [
        "listen:",
        f"  - port: {server.port}",
        f'    ip: "{ip}"',
        "    module: ejabberd_service",
        "    access: all",
        "    global_routes: false",
        *(["    tls: true"] if server.tls else []),
        "    hosts:",
        f"      {domain}:",
        '        password: "THE SECRET"',
    ]
    for name, lines in (
        ("Prosody (prosody.cfg.lua)", prosody),
        ("ejabberd (ejabberd.yml)", ejabberd),
    ):
        console.print(f"[bold]For {name}[/], for {domain}:\n", soft_wrap=True)
        text = "".join(f"    {line}\n" for line in lines)
        console.print(text, highlight=False, markup=False, soft_wrap=True)
