"""The command line: options, errors, exit codes. What a command does lives in its own module,
which is imported when it is asked for.
"""

import difflib
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import trio
from attrs import evolve

from bridge import __version__
from bridge.cli.run import capture_flags, open_recording, options_of
from bridge.config.loader import SECRET_VARIABLE, from_table, load, load_file
from bridge.config.settings import ConfigError, Listen, Log, Settings
from bridge.telemetry.log import LEVELS, configure, set_level

if TYPE_CHECKING:
    from bridge.daemon.listener import DaemonParts, Listener

EXIT_CODES = """\b
Exit codes: 0 all is well, 2 usage or configuration error,
3 the server refused (every component, for good), 1 anything else."""


class Commands(click.Group):
    """Names the nearest command where one is unknown; imports rare groups when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        rare = ["conformance", "queue", "redact", "replay", "show"]
        return sorted([*super().list_commands(ctx), *rare])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "conformance":
            from bridge.cli.conformance import conformance

            return conformance
        if cmd_name == "queue":
            from bridge.cli.queue import queue

            return queue
        if cmd_name == "redact":
            from bridge.cli.redact import redact

            return redact
        if cmd_name == "replay":
            from bridge.cli.replay import replay

            return replay
        if cmd_name == "show":
            from bridge.cli.show import show

            return show
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            remedy = f"Did you mean {near[0]!r}?" if near else "See xmpp-bridge --help."
            raise click.UsageError(f"There is no command {args[0]!r}. {remedy}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="xmpp-bridge")
def main() -> None:
    """Puts an HTTP service behind XMPP: attaches to a server as an external component (XEP-0114),
    POSTs each stanza as JSON, and sends the reply.

    \b
    First look, no server needed:   xmpp-bridge demo
    On your own server:             xmpp-bridge check bridge.toml
                                    xmpp-bridge run bridge.toml
    """


config_argument = click.argument("config", type=click.Path(path_type=Path), required=False)


@main.command(epilog=EXIT_CODES)
@config_argument
@click.option("--component", metavar="DOMAIN", help="The component's domain, instead of a file.")
@click.option(
    "--secret-file",
    metavar="FILE",
    help=f"A file with the component's secret (or set {SECRET_VARIABLE}).",
)
@click.option("--server", metavar="HOST:PORT", help="Where the server listens for components.")
@click.option("--post-url", metavar="URL", help="Where stanzas are POSTed.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Where the journal and the control socket are. [default: $STATE_DIRECTORY, else"
    " ~/.local/state/xmpp-bridge]",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    help="Instead of level in [log] of CONFIG. [default: info]",
)
@capture_flags
def run(
    config: Path | None,
    component: str | None,
    secret_file: str | None,
    server: str | None,
    post_url: str | None,
    state_dir: Path | None,
    log_format: str,
    log_level: str | None,
    **capture: Any,
) -> None:
    """Run in the foreground, with the file CONFIG, or without one:

    \b
    xmpp-bridge run bridge.toml
    xmpp-bridge run --component bot.localhost --secret-file secret \\
        --server 127.0.0.1:5347 --post-url http://127.0.0.1:8000/
    xmpp-bridge run bridge.toml --capture captures

    SIGTERM and SIGINT finish what is running, for at most grace_s; a second one stops at once.
    SIGHUP reads CONFIG again and works by it; where it has a fault, nothing is changed.
    """
    from bridge.daemon.daemon import Daemon
    from bridge.daemon.systemd import Notifier
    from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve
    from bridge.journal.storage import open_storage
    from bridge.journal.store import JournalError
    from bridge.telemetry.tracing import open_spans

    configure(log_format, log_level or "info")
    flags = {"--component": component, "--secret-file": secret_file}
    flags |= {"--server": server, "--post-url": post_url}

    def read(source: Path) -> Settings:
        settings = load(source)
        return evolve(settings, log=Log()) if log_level is not None else settings

    settings = _settings(config, flags)
    options = options_of(capture)
    if log_level is None and settings.log.level is not None:
        set_level(settings.log.level)
    again = None if config is None else partial(read, config)
    spans = None if settings.tracing is None else open_spans(settings.tracing)
    make = partial(
        Daemon,
        settings,
        read=again,
        notifier=Notifier(),
        spans=spans,
        open_listener=_open_listener,
    )
    gc.freeze()  # what is loaded now stays: each parser's end has a full collection
    gc.set_threshold(10_000)  # hardly anything in a stanza's life is a cycle
    if settings.journal.durability == "off":
        recording = open_recording(options, settings.components)
        _run(make(recording=recording).run_with_signals)
    try:
        directory = StateDirectory(resolve(state_dir, os.environ))
        with open_storage(directory, settings.journal) as storage:
            recording = open_recording(options, settings.components)
            _run(make(storage, recording=recording).run_with_signals)
    except (StateDirectoryError, JournalError) as error:
        raise click.ClickException(f"{error}.") from None


@main.command(epilog=EXIT_CODES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--connect",
    is_flag=True,
    help="Also attach and shake hands. This would evict or disturb a running daemon.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Where a running daemon's control socket is. [default: as for run]",
)
def check(config: Path, connect: bool, state_dir: Path | None) -> None:
    """Check the file CONFIG: report every fault in it, resolve the server, ask the endpoint by
    OPTIONS (never by a POST), and print the lines that the server's configuration needs.

    Where a daemon runs, report how it is; --connect then attaches only as components that it does
    not have.
    """
    from bridge.cli.check import check_settings
    from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve

    configure("text", "error")
    settings = _settings(config, {})
    directory = None
    with suppress(StateDirectoryError):  # without a home: no daemon of ours either
        directory = StateDirectory(resolve(state_dir, os.environ))
    _run(check_settings, settings, connect, directory)


@main.command("print-unit", epilog=EXIT_CODES)
@config_argument
def print_unit(config: Path | None) -> None:
    """Print a unit file for systemd (252 or later), sandboxed; with CONFIG, made for that file.

    \b
    xmpp-bridge print-unit /etc/xmpp-bridge/bridge.toml \\
        > /etc/systemd/system/xmpp-bridge.service
    """
    from bridge.cli.unit import installed_command, unit_of

    try:
        file = None if config is None else load_file(config)
    except ConfigError as error:
        _fail(error)
    click.echo(unit_of(config, file, installed_command(sys.argv[0], sys.executable)), nl=False)


@main.command("print-dashboard", epilog=EXIT_CODES)
def print_dashboard() -> None:
    """Print a dashboard for Grafana (10 or later), of the metrics that [listen] serves.

    \b
    xmpp-bridge print-dashboard > xmpp-bridge.json
    """
    file = resources.files("bridge") / "listener" / "monitor" / "dashboard.json"
    click.echo(file.read_text(encoding="utf-8"), nl=False)


@main.command(epilog=EXIT_CODES)
@click.option("--serve", is_flag=True, help="Keep running, a message every 5 s, until Ctrl-C.")
def demo(serve: bool) -> None:
    """Show the bridge at work: an XMPP peer and an echo endpoint, both embedded, some stanzas
    through the very same code as `run`, and the conversation on both sides. Needs no server.
    """
    from bridge.cli.demo import run_demo

    configure("text", "error")
    _run(run_demo, serve)


def _open_listener(listen: Listen, parts: "DaemonParts") -> AbstractContextManager["Listener"]:
    """Open the listener; what it is made of is imported where one is configured, and only there."""
    from bridge.listener.listener import Listener

    return Listener.opened(listen, parts)


def _run(command: Callable[..., Awaitable[int]], *arguments: object) -> NoReturn:
    """Run a command to its exit code; Ctrl-C, and a reader of ours that leaves, are no bugs."""
    code = 1
    try:
        code = int(trio.run(command, *arguments))
    except* (KeyboardInterrupt, SystemExit):  # rich exits where the pipe is closed
        pass
    raise SystemExit(code)


def _settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    given = {name: value for name, value in flags.items() if value is not None}
    if config is not None and given:
        names = ", ".join(given)
        raise click.UsageError(f"Give either a file or {names}, not both.")
    try:
        if config is not None:
            return load(config)
        return _settings_of_flags(flags)
    except ConfigError as error:
        _fail(error)


def _settings_of_flags(flags: dict[str, Any]) -> Settings:
    if not flags["--component"] or not flags["--post-url"]:
        missing = [name for name in ("--component", "--post-url") if not flags[name]]
        file = "Name a configuration file (xmpp-bridge run bridge.toml)"
        raise click.UsageError(f"{file}, or give {' and '.join(missing)}.")
    if not flags["--secret-file"] and not os.environ.get(SECRET_VARIABLE):
        raise click.UsageError(f"Give --secret-file, or set {SECRET_VARIABLE} in the environment.")
    table: dict[str, Any] = {"component_post_url": flags["--post-url"]}
    if flags["--secret-file"]:
        table["component_secret_file"] = flags["--secret-file"]
    top: dict[str, Any] = {"component": {flags["--component"]: table}}
    if flags["--server"]:
        top["server"] = flags["--server"]
    return from_table(top, "command line", directory=Path.cwd())


def _fail(error: ConfigError) -> NoReturn:
    for fault in error.faults:
        click.echo(f"{error.source}: {fault}", err=True)
    count = len(error.faults)
    click.echo(f"{count} {'fault' if count == 1 else 'faults'} in the configuration.", err=True)
    raise SystemExit(2)
