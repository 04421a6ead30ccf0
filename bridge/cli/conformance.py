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

from bridge.cli.exit import EXIT_CODES
from bridge.config.value import BadValue, check_domain, parse_server
from bridge.conformance.report import NothingTried, Report

T = TypeVar("T")
Advance = Callable[[str, int], None]
"""Called before each check with its name and the total number of checks."""


@click.group(epilog=EXIT_CODES)
def conformance() -> None:
    """Test a server or a component against rules S1 to S36.

    \b
    xmpp-bridge conformance server --help
    xmpp-bridge conformance component --help

    xmpp-bridge help conformance lists the rules, with the results of known servers and components.
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
        pass  # bare, or in the exception group of the nursery that it interrupted
    if report is None:
        raise click.Abort
    return report


@conformance.command(epilog=EXIT_CODES)
@click.argument("address", metavar="HOST:PORT")
@click.option(
    "--domain", required=True, help="Attach as this component. Nothing else may use the domain."
)
@click.option(
    "--secret-file",
    required=True,
    type=click.Path(path_type=Path),
    help="Read the component's secret from this file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def server(address: str, domain: str, secret_file: Path, as_json: bool) -> None:
    """Test how a server treats components.

    \b
    xmpp-bridge conformance server 127.0.0.1:5347 --domain spare.localhost --secret-file secret

    Attaches to the server at HOST:PORT as a component, again and again, and breaks streams on
    purpose: use a domain that nothing else uses.
    """
    from bridge.conformance.server.probe import probe_server

    host, port = _checked("HOST:PORT", parse_server, address)
    _checked("--domain", check_domain, domain)
    secret = _secret(secret_file)
    click.echo(
        f"This attaches to {address} as {domain} many times and breaks streams on purpose;\n"
        "a component that uses this domain is disturbed.",
        err=True,
    )
    show(partial(probe_server, host, port, domain, secret), as_json=as_json)


@conformance.command(epilog=EXIT_CODES, context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.option(
    "--listen",
    type=click.IntRange(1, 65535),
    help="Wait on this port for a component that is started by hand.",
)
@click.option(
    "--domain",
    default="conformance.localhost",
    show_default=True,
    help="Accept a component with this domain.",
)
@click.option(
    "--profile",
    type=click.Choice(["prosody", "ejabberd", "openfire"]),
    default="prosody",
    show_default=True,
    help="Imitate the quirks of this server.",
)
@click.option(
    "--slow", is_flag=True, help="Also wait for the keepalive (S14), which takes two more minutes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def component(
    command: tuple[str, ...],
    listen: int | None,
    domain: str,
    profile: str,
    slow: bool,
    as_json: bool,
) -> None:
    """Test how a component behaves towards a server.

    \b
    xmpp-bridge conformance component -- xmpp-bridge run --component {domain} \\
        --secret-file {secret_file} --server {host}:{port} --post-url http://127.0.0.1:9/

    Starts the component with COMMAND, again and again. In COMMAND, {host}, {port}, {domain} and
    {secret_file} are replaced; XMPP_HOST, XMPP_PORT, XMPP_DOMAIN and XMPP_SECRET are set in the
    environment. With --listen, start the component by hand instead: it must connect to 127.0.0.1,
    and reconnect after each stream.
    """
    from bridge.conformance.component.probe import probe_component

    if bool(command) == (listen is not None):
        raise click.UsageError("Use either a COMMAND after --, or --listen PORT.")
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
