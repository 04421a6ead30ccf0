"""The command `check`: the order of the checks, and what is printed around their table."""

from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console

from bridge.cli.check.attach import check_attach
from bridge.cli.check.daemon import ask_daemon, report_component, report_daemon
from bridge.cli.check.database import check_database
from bridge.cli.check.endpoint import check_endpoint
from bridge.cli.check.lines import print_server_lines
from bridge.cli.check.report import Report
from bridge.cli.check.server import check_server
from bridge.cli.check.upload import print_upload_lines
from bridge.cli.exit import EXIT_CODES, run_async
from bridge.cli.settings import settings_of
from bridge.config.settings import Settings
from bridge.daemon.daemon import ExitCode
from bridge.dispatch.promise import PATH as REPLY_PATH
from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve
from bridge.telemetry.log import configure


async def check_settings(
    settings: Settings, attach: bool, directory: StateDirectory | None = None
) -> ExitCode:
    """Run all checks, print the report, and return the exit code: 0 only if all succeeded.

    If a daemon runs in `directory`, it is asked for the status of its components; `attach` then
    applies only to components that it does not have.
    """
    console, report = Console(), Report()
    daemon, answers = await ask_daemon(directory, report)
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
    if settings.listen is not None and settings.listen.public_url is not None:
        report.good("", "reply_url", f"{settings.listen.public_url}{REPLY_PATH}…")
    for warning in settings.warnings:
        report.warn("", "configuration", warning)
    exposed = None if directory is None else directory.warning()
    if exposed is not None:
        report.warn("", "state directory", exposed)
    await check_database(settings, report)
    if daemon is not None:
        report_daemon(daemon, settings, report)
    untried = False
    without_slot = []
    for component in settings.components:
        ready = await check_server(component, report)
        await check_endpoint(component, settings, report)
        if component.domain in theirs:
            report_component(theirs[component.domain], component, report)
        elif ready and component.domain in attached_here:
            if not await check_attach(component, settings, report):
                without_slot.append(component)
        else:
            untried = True
    report.show(console)
    for component in settings.components:
        print_server_lines(component, console, is_shared=settings.journal.url is not None)
    for component in without_slot:
        print_upload_lines(component, console)
    console.print("To record traffic: xmpp-bridge run --capture DIR (see run --help).\n")
    told = "the secret was not tried" + ("" if attach else " (--connect tries it)")
    console.print(report.verdict(told if untried else ""), highlight=False, soft_wrap=True)
    return report.code


@click.command(epilog=EXIT_CODES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--connect",
    is_flag=True,
    help="Also attach as each component, and join its rooms. This would evict or disturb a running"
    " daemon.",
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

    Reports every error in the file CONFIG, opens a stream to the server without attaching, sends
    OPTIONS (never a POST) to the endpoint, and prints the lines that the server's own configuration
    needs. If the journal is on PostgreSQL, it connects there, too. With --connect, it also joins
    the rooms of the configuration, and leaves them again. The last line is the verdict.

    If a daemon is running, its status is reported; --connect then attaches only as components that
    the daemon does not have. It also asks for a slot of the server's upload service; without one,
    the lines that the server needs for that are printed, too.
    """

    configure("text", "error")
    settings = settings_of(config, {})
    directory = None
    with suppress(StateDirectoryError):  # without a home directory there is no daemon of ours
        directory = StateDirectory(resolve(state_dir))
    run_async(check_settings, settings, connect, directory)
