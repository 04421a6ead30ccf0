"""`xmpp-bridge conformance server` and `… component`: options, progress, output, exit codes."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bridge.config.value import BadValue, check_domain, parse_server
from bridge.conformance.report import NothingTried, Report

T = TypeVar("T")
Advance = Callable[[str, int], None]
"""Told before each check: its name, and how many there are in all."""

EXIT_CODES = """\b
Exit codes: 0 no rule failed ("differs" is no failure), 1 a rule failed or nothing could be
tried, 2 usage error."""


@click.group(epilog=EXIT_CODES)
def conformance() -> None:
    """Report, rule by rule (S1 to S36, see the README), how a server treats components, or how a
    component behaves towards servers.
    """


def show(probe: Callable[[Advance], Awaitable[Report]], *, as_json: bool) -> None:
    """Run a probe with progress on stderr, print its report on stdout, and exit."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=None)

        def advance(name: str, total: int) -> None:
            bar.update(task, description=name, total=total, advance=1)

        try:
            report = _run(probe, advance)
        except NothingTried as reason:
            raise click.ClickException(str(reason)) from None
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        console = Console()
        console.print(report.to_table())
        console.print(report.summary())
    raise SystemExit(1 if report.failed else 0)


def _run(probe: Callable[[Advance], Awaitable[Report]], advance: Advance) -> Report:
    report: Report | None = None
    try:
        report = trio.run(probe, advance)
    except* KeyboardInterrupt:
        pass  # a bare one, or in the group of the nursery that it hit
    if report is None:
        raise click.Abort
    return report


@conformance.command(epilog=EXIT_CODES)
@click.argument("address", metavar="HOST:PORT")
@click.option("--domain", required=True, help="A component's domain to spare.")
@click.option(
    "--secret-file", required=True, type=click.Path(path_type=Path), help="Its secret, in a file."
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, for machines.")
def server(address: str, domain: str, secret_file: Path, as_json: bool) -> None:
    """Attach to the server at HOST:PORT as a component, again and again, and report how it treats
    components. This breaks streams on purpose: give it a domain that nothing else uses.
    """
    from bridge.conformance.server.probe import probe_server

    host, port = _checked("HOST:PORT", parse_server, address)
    _checked("--domain", check_domain, domain)
    secret = _secret(secret_file)
    click.echo(
        f"This attaches to {address} as {domain} many times and breaks streams on purpose;\n"
        "a component that uses this domain would be disturbed.",
        err=True,
    )
    show(partial(probe_server, host, port, domain, secret), as_json=as_json)


@conformance.command(epilog=EXIT_CODES, context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.option("--listen", type=click.IntRange(1, 65535), help="Wait here for one started by hand.")
@click.option("--domain", default="conformance.localhost", show_default=True)
@click.option(
    "--profile",
    type=click.Choice(["prosody", "ejabberd", "openfire"]),
    default="prosody",
    show_default=True,
    help="Whose quirks the scripted server has.",
)
@click.option("--slow", is_flag=True, help="Also wait for the keepalive (S14): two minutes more.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, for machines.")
def component(
    command: tuple[str, ...],
    listen: int | None,
    domain: str,
    profile: str,
    slow: bool,
    as_json: bool,
) -> None:
    """Play a server against a component, and report how it behaves. The component is started with
    COMMAND, again and again, in whose words {host}, {port}, {domain} and {secret_file} are
    replaced; XMPP_HOST, XMPP_PORT, XMPP_DOMAIN and XMPP_SECRET are set. With --listen PORT, one
    started by hand is waited for on 127.0.0.1; it must come again after each stream.

    \b
    xmpp-bridge conformance component -- xmpp-bridge run --component {domain} \\
        --secret-file {secret_file} --server {host}:{port} --post-url http://127.0.0.1:9/
    """
    from bridge.conformance.component.probe import probe_component

    if bool(command) == (listen is not None):
        raise click.UsageError("Give either a COMMAND behind --, or --listen PORT.")
    _checked("--domain", check_domain, domain)
    show(
        partial(probe_component, command, listen, domain, profile, slow),
        as_json=as_json,
    )


def _checked(name: str, check: Callable[[str], T], value: str) -> T:
    try:
        return check(value)
    except BadValue as error:
        raise click.BadParameter(str(error), param_hint=name) from None


def _secret(path: Path) -> str:
    try:
        secret = path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})."
        raise click.BadParameter(problem, param_hint="--secret-file") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is not UTF-8.", param_hint="--secret-file") from None
    if not secret:
        raise click.BadParameter(f"{path} is empty.", param_hint="--secret-file")
    return secret
