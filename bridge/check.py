"""`xmpp-bridge check`: what can be found out about a configuration without disturbing anyone."""

import socket
from typing import Final

import httpx
import trio
from rich.console import Console
from rich.table import Table

from bridge.config import Component, Settings
from bridge.daemon import ExitCode, is_loopback
from bridge.endpoint import Endpoint, make_transport
from bridge.link import HINTS
from bridge.reconnect import Course, course_of
from xmppstream import StreamFailed, StreamFaulted, StreamOptions, connect

_TIMEOUT_S: Final = 10.0


class _Report:
    """The table of what was tried."""

    def __init__(self) -> None:
        self.code = ExitCode.OK
        self._table = Table(title="What was tried", title_justify="left", show_lines=False)
        for column in ("component", "what", "result", "details"):
            self._table.add_column(column, overflow="fold")

    def good(self, domain: str, what: str, details: str) -> None:
        self._table.add_row(domain, what, "[green]ok[/]", details)

    def warn(self, domain: str, what: str, details: str) -> None:
        self._table.add_row(domain, what, "[yellow]warning[/]", details)

    def bad(self, domain: str, what: str, details: str, code: ExitCode = ExitCode.OTHER) -> None:
        self._table.add_row(domain, what, "[red]failed[/]", details)
        self.code = self.code or code

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
    try:
        stream = await connect(component.server, component.domain, component.secret.value, options)
        async with trio.open_nursery() as nursery:

            async def ignore(_: object) -> None:
                await trio.lowlevel.checkpoint()

            async def prove() -> None:
                with trio.move_on_after(_TIMEOUT_S):
                    await stream.barrier()
                await stream.aclose()

            async def serve() -> None:
                await stream.serve(ignore)

            nursery.start_soon(serve)
            nursery.start_soon(prove)
        report.good(component.domain, what, "handshake accepted")
    except StreamFailed as failure:
        end = failure.end
        hint = HINTS.get(end.condition, "") if isinstance(end, StreamFaulted) else ""
        refused = course_of(end, attached=False) is Course.REFUSED
        code = ExitCode.REFUSED if refused else ExitCode.OTHER
        report.bad(component.domain, what, f"{end}. {hint}".rstrip(". ") + ".", code)


def _print_server_lines(component: Component, console: Console) -> None:
    port, domain = component.server.port, component.domain
    console.print(f"[bold]For Prosody[/] (prosody.cfg.lua), for {domain}:\n")
    console.print(
        f'    component_ports = {{ {port} }}\n\n    Component "{domain}"\n'
        '        component_secret = "THE SECRET"\n',
        highlight=False,
        markup=False,
    )
    console.print(f"[bold]For ejabberd[/] (ejabberd.yml), for {domain}:\n")
    console.print(
        "    listen:\n"
        f"      - port: {port}\n"
        '        ip: "127.0.0.1"\n'
        "        module: ejabberd_service\n"
        "        access: all\n"
        "        global_routes: false\n"
        f"        hosts:\n          {domain}:\n"
        '            password: "THE SECRET"\n',
        highlight=False,
        markup=False,
    )
