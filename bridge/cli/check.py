"""`xmpp-bridge check`: test a configuration without disturbing a running daemon.

If a daemon runs, it reports the status of its components itself; `check` does not attach as them.
"""

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import httpx
import trio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.cli.exit import EXIT_CODES, run_async
from bridge.cli.queue_table import amounts
from bridge.cli.settings import settings_of
from bridge.config.settings import Component, Settings, http_of
from bridge.config.value import is_loopback
from bridge.daemon.control import AskStatus, ControlError, NobodyListens
from bridge.daemon.control import connect as connect_to_daemon
from bridge.daemon.daemon import ExitCode
from bridge.daemon.status import ComponentStatus, DaemonStatus, EndpointStatus, LinkStatus
from bridge.journal.directory import StateDirectory
from bridge.journal.request import CommandError
from bridge.telemetry.log import configure
from bridge.telemetry.text import age, printable, when
from bridge.webhook.endpoint import Endpoint
from bridge.xmpp.backoff import Reaction, reaction_to
from bridge.xmpp.link import SHARED, SHARED_REMEDY, hint_of
from xmppstream import (
    ComponentStream,
    StreamEnd,
    StreamFailed,
    StreamOptions,
    connect,
)
from xmppstream.jid import to_ascii

_TIMEOUT_S: Final = 10.0
_BARRIERS: Final = 8
"""If the server deals them to two instances, all come back to us once in 256 times."""
_STRAY_S: Final = 2.0
"""How long the others may take when one has come back: they travel together."""


class _Report:
    """The table of checks and results."""

    def __init__(self) -> None:
        self.code = ExitCode.OK
        self._table = Table(title="Checks", title_justify="left", show_lines=False)
        for column in ("component", "check", "result", "details"):
            self._table.add_column(column, overflow="fold")

    def good(self, domain: str, what: str, details: str) -> None:
        self._add(domain, what, "[green]ok[/]", details)

    def warn(self, domain: str, what: str, details: str) -> None:
        self._add(domain, what, "[yellow]warning[/]", details)

    def bad(self, domain: str, what: str, details: str, code: ExitCode = ExitCode.OTHER) -> None:
        self._add(domain, what, "[red]failed[/]", details)
        self.code = max(self.code, code)

    def _add(self, domain: str, what: str, result: str, details: str) -> None:
        # Brackets in an address or in a server's text must not be read as rich's markup.
        self._table.add_row(
            escape(domain), escape(printable(what)), result, escape(printable(details))
        )

    def show(self, console: Console) -> None:
        console.print(self._table)


async def check_settings(
    settings: Settings, attach: bool, directory: StateDirectory | None = None
) -> ExitCode:
    """Run all checks, print the report, and return the exit code: 0 only if all succeeded.

    If a daemon runs in `directory`, it is asked for the status of its components; `attach` then
    applies only to components that it does not have.
    """
    console, report = Console(), _Report()
    daemon, answers = await _ask_daemon(directory, report)
    theirs = {one.domain: one for one in daemon.components} if daemon is not None else {}
    attached_here = {one.domain for one in settings.components if attach and answers} - set(theirs)
    if attached_here:
        console.print(
            "[yellow]--connect attaches as each component: a daemon that is already attached is "
            "evicted or disturbed.[/]\n"
        )
    elif attach:
        console.print("A daemon is running here: --connect does not attach in its place.\n")
    report.good("", "configuration", f"{len(settings.components)} component(s)")
    for warning in settings.warnings:
        report.warn("", "configuration", warning)
    exposed = None if directory is None else directory.warning()
    if exposed is not None:
        report.warn("", "state directory", exposed)
    if daemon is not None:
        _report_daemon(daemon, settings, report)
    for component in settings.components:
        await _check_server(component, report)
        await _check_endpoint(component, settings, report)
        if component.domain in theirs:
            _report_component(theirs[component.domain], component, report)
        elif component.domain in attached_here:
            await _check_attach(component, settings, report)
    for component in settings.components:
        _print_server_lines(component, console)
    report.show(console)
    console.print("To record traffic: xmpp-bridge run --capture DIR (see run --help).")
    return report.code


# --- a running daemon


async def _ask_daemon(
    directory: StateDirectory | None, report: _Report
) -> tuple[DaemonStatus | None, bool]:
    """Return the status of a running daemon, and False if a daemon runs but does not answer."""
    if directory is None:
        return None, True
    try:
        client = await connect_to_daemon(directory.control_socket)
        try:
            return await client.ask(AskStatus(), DaemonStatus), True
        finally:
            await client.aclose()
    except NobodyListens:
        return None, True
    except (ControlError, CommandError) as error:
        report.bad("", "daemon", f"{error}.")
        return None, False


def _report_daemon(daemon: DaemonStatus, settings: Settings, report: _Report) -> None:
    details = f"process {daemon.pid}, version {daemon.version}, since {when(daemon.started)}"
    if daemon.stopping:
        report.warn("", "daemon", f"{details}; it is stopping")
    else:
        report.good("", "daemon", details)
    journal = daemon.journal
    if journal.failure is not None or journal.totals is None:
        report.bad("", f"journal {journal.file}", journal.failure or "no answer")
    else:
        kept = amounts(journal.totals, time.time())
        details = f"durability {journal.durability!r}; {kept}"
        report.good("", f"journal {journal.file}", details)
    for domain, kept_of in daemon.orphaned.items():
        details = f"{amounts(kept_of, time.time())}; the daemon has no such component"
        report.warn(domain, "orphaned", f"{details}: configure it again, or see xmpp-bridge queue")
    ours = {one.domain for one in settings.components}
    theirs = {one.domain for one in daemon.components}
    for domain in sorted(ours - theirs):
        report.warn(domain, "configuration", "the daemon has not loaded it yet: send SIGHUP")
    for domain in sorted(theirs - ours):
        report.warn(domain, "configuration", "the daemon has this component, but the file does not")


def _report_component(status: ComponentStatus, component: Component, report: _Report) -> None:
    domain = component.domain
    for running, ours in (
        (status.link.server, str(component.server)),
        (status.endpoint.url, str(component.post_url)),
    ):
        if running != ours:
            details = f"the daemon uses {running}, the file says {ours}: send SIGHUP"
            report.warn(domain, "configuration", details)
    _report_link(domain, status.link, report)
    _report_endpoint(domain, status.endpoint, report)
    busy = f"{status.in_flight} being POSTed, {status.waiting} waiting in memory"
    kept = status.kept
    if kept is None:
        report.warn(domain, "daemon: queue", busy)
    elif kept.dead:
        details = f"{busy}; {amounts(kept, time.time())}: see xmpp-bridge queue"
        report.warn(domain, "daemon: queue", details)
    else:
        report.good(domain, "daemon: queue", f"{busy}; {amounts(kept, time.time())}")


def _report_link(domain: str, link: LinkStatus, report: _Report) -> None:
    what = f"daemon: attached to {link.server}"
    since = "" if link.since is None else f"since {when(link.since)}"
    if link.state == "attached" and link.shared is not None:
        report.warn(domain, what, f"{since}; {SHARED}: {SHARED_REMEDY}")
    elif link.state == "attached":
        report.good(domain, what, since)
    elif link.state == "refused":
        report.bad(domain, what, f"no, refused: {link.why}{_next_attempt(link)}", ExitCode.REFUSED)
    else:
        details = f"not attached {since}".rstrip() + (f": {link.why}" if link.why else "")
        report.bad(domain, what, f"{details}{_next_attempt(link)}")


def _next_attempt(link: LinkStatus) -> str:
    if link.next_attempt is None:
        return ""
    return f"; next attempt in {age(link.next_attempt - time.time())}"


def _report_endpoint(domain: str, endpoint: EndpointStatus, report: _Report) -> None:
    what = f"daemon: endpoint {endpoint.url}"
    if endpoint.state == "up":
        report.good(domain, what, "up, as far as known")
        return
    details = "down"
    if endpoint.state == "probing":
        details += "; a POST is testing it now"
    elif endpoint.next_probe is not None:
        details += f"; the next POST will test it in {age(endpoint.next_probe - time.time())}"
    report.bad(domain, what, details)


# --- checks from this machine


async def _check_server(component: Component, report: _Report) -> None:
    server = component.server
    try:
        with trio.fail_after(_TIMEOUT_S):
            host = to_ascii(server.host)
            found = await trio.socket.getaddrinfo(host, server.port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        why = str(error) or f"no answer within {_TIMEOUT_S:g} s"
        report.bad(component.domain, f"resolve {server.host}", why)
        return
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    report.good(component.domain, f"resolve {server.host}", addresses)
    if not server.tls and not is_loopback(server.host):
        details = "not encrypted and not on loopback: set tls = true, or use a tunnel"
        report.warn(component.domain, f"stream to {server}", details)


async def _check_endpoint(component: Component, settings: Settings, report: _Report) -> None:
    http = http_of(component, settings)
    endpoint = Endpoint(component.post_url, http)
    what = f"OPTIONS {component.post_url}"
    try:
        with trio.fail_after(min(_TIMEOUT_S, http.timeout_s)):
            status = await endpoint.options()
        report.good(component.domain, what, f"answers with status {status}")
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
    attached = shared = False
    try:
        stream = await connect(component.server, component.domain, component.secret.value, options)
        attached = True
        end, shared = await _prove(stream)
    except StreamFailed as failure:
        end = failure.end
    if end is None:
        if shared:
            report.warn(component.domain, what, f"handshake accepted; {SHARED}: {SHARED_REMEDY}")
        else:
            report.good(component.domain, what, "handshake accepted")
        return
    hint = hint_of(end)
    refused = reaction_to(end, attached=attached) is Reaction.REFUSED
    code = ExitCode.REFUSED if refused else ExitCode.OTHER
    report.bad(component.domain, what, f"{end}. {hint}".rstrip(". ") + ".", code)


async def _prove(stream: ComponentStream) -> tuple[StreamEnd | None, bool]:
    """Send barriers, wait for them, and close. Return the stream's end if the server ended it, and
    whether another instance is attached: it gets some of our barriers, or we get some of its own.

    Some servers return no barrier: then it suffices that the stream stays open for `_TIMEOUT_S`.
    """
    ended: StreamEnd | None = None
    shared = False
    returned = [trio.Event() for _ in range(_BARRIERS)]
    first = trio.Event()

    async def ignore(_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def ask(one: trio.Event) -> None:
        with suppress(StreamFailed):
            await stream.barrier()
            one.set()
        first.set()  # also if the stream has ended

    async def watch() -> None:
        nonlocal shared
        await stream.wait_foreign_barrier()
        shared = True

    async def leave() -> None:
        nonlocal ended, shared
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for one in returned:
                nursery.start_soon(ask, one)
            with trio.move_on_after(_TIMEOUT_S):
                await first.wait()
            if stream.end is None and first.is_set():
                with trio.move_on_after(_STRAY_S):
                    for one in returned:
                        await one.wait()
            nursery.cancel_scope.cancel()
        ended = stream.end
        if any(one.is_set() for one in returned) and not all(one.is_set() for one in returned):
            shared = True
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await stream.serve(ignore)
    return ended, shared


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
        prosody.insert(0, "-- Prosody has no direct TLS for components: put stunnel in front of it")
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


@click.command(epilog=EXIT_CODES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--connect",
    is_flag=True,
    help="Also attach as each component. This would evict or disturb a running daemon.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Look for the running daemon's control socket here. [default: as for run]",
)
def check(config: Path, connect: bool, state_dir: Path | None) -> None:
    """Check a configuration, its servers and its endpoints.

    \b
    xmpp-bridge check bridge.toml

    Reports every error in the file CONFIG, resolves the server, sends OPTIONS (never a POST) to the
    endpoint, and prints the lines that the server's own configuration needs.

    If a daemon is running, its status is reported; --connect then attaches only as components that
    the daemon does not have.
    """
    from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve

    configure("text", "error")
    settings = settings_of(config, {})
    directory = None
    with suppress(StateDirectoryError):  # without a home directory there is no daemon of ours
        directory = StateDirectory(resolve(state_dir))
    run_async(check_settings, settings, connect, directory)
