"""`xmpp-bridge run`: the daemon in the foreground, and the options for captures."""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import evolve

from bridge.capture.compression import Packing
from bridge.capture.retention import MAX_BYTES, MIN_BYTES, ROTATE_BYTES, CaptureDirectoryError
from bridge.capture.retention import CaptureOptions as Options
from bridge.cli import EARLY_SIGNALS
from bridge.cli.exit import EXIT_CODES, run_async
from bridge.cli.settings import config_argument, settings_of
from bridge.cli.size import size_from, written
from bridge.config.loader import load
from bridge.config.settings import Component, ListenSettings, LogSettings, Settings
from bridge.config.validation import SECRET_VARIABLE
from bridge.telemetry.log import LEVELS, RecentErrors, configure, set_level

if TYPE_CHECKING:
    from bridge.capture.recorder import Recorders
    from bridge.daemon.listener import DaemonParts, Listener

Command = TypeVar("Command", bound=Callable[..., Any])
_PACKINGS: Final[dict[str, Packing]] = {"plain": "none", "gz": "gz", "zst": "zst"}
_FLAGS: Final = (
    click.option(
        "--capture",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Record all traffic in files DIR/DOMAIN-TIME-NUMBER.xcap, for xmpp-bridge replay and"
        " show. They never contain a secret, but they do contain messages as they are.",
    ),
    click.option(
        "--redact",
        is_flag=True,
        help="With --capture, replace personal names and texts with others of the same length.",
    ),
    click.option(
        "--capture-rotate-bytes",
        metavar="SIZE",
        callback=size_from(MIN_BYTES),
        help=f"Begin a new file after this size. [default: {written(ROTATE_BYTES)}]",
    ),
    click.option(
        "--capture-max-bytes",
        metavar="SIZE",
        callback=size_from(MIN_BYTES),
        help="Keep at most this much data of this run; the oldest files are deleted."
        f" [default: {written(MAX_BYTES)}]",
    ),
    click.option(
        "--capture-format",
        type=click.Choice(list(_PACKINGS)),
        help="Compress the files. [default: plain]",
    ),
)


def capture_flags(command: Command) -> Command:
    """Add the capture options to a command. It gets them as keywords, for `options_of`."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def options_of(flags: dict[str, Any]) -> Options | None:
    """Return the capture options; None without `--capture`.

    Raises:
        click.UsageError: if the flags contradict each other.
    """
    flags = {name: value for name, value in flags.items() if value}
    directory = flags.pop("capture", None)
    if directory is None:
        for name in flags:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} is for captures: use it with --capture DIR.")
        return None
    rotate_bytes = flags.get("capture_rotate_bytes", ROTATE_BYTES)
    max_bytes = flags.get("capture_max_bytes", MAX_BYTES)
    if "capture_rotate_bytes" in flags and rotate_bytes > max_bytes // 2:
        raise click.UsageError(
            f"--capture-max-bytes {written(max_bytes)} must have room for two files of"
            f" {written(rotate_bytes)} (--capture-rotate-bytes)."
        )
    packing = _PACKINGS[flags.get("capture_format", "plain")]
    return Options(directory, rotate_bytes, max_bytes, packing, bool(flags.get("redact")))


def open_recording(
    options: Options | None, components: tuple[Component, ...]
) -> "Recorders | None":
    """Create the directory and open the first file of each component; None without options.

    Raises:
        click.UsageError: if that fails.
    """
    if options is None:
        return None
    from bridge.capture.file import CaptureFileError
    from bridge.capture.recorder import Recorders
    from bridge.telemetry.log import logger

    try:
        warning = options.prepare()
        if warning is not None:
            logger().warning("capture", warning=warning)
        return Recorders(options, components)
    except (CaptureDirectoryError, CaptureFileError) as error:
        raise click.UsageError(f"--capture: {error}.") from None


@click.command(epilog=EXIT_CODES)
@config_argument
@click.option("--component", metavar="DOMAIN", help="Run as this component, without a file.")
@click.option(
    "--secret-file",
    metavar="FILE",
    help=f"Read the component's secret from this file (or set {SECRET_VARIABLE}).",
)
@click.option(
    "--server", metavar="HOST:PORT", help="Connect to the server here. [default: 127.0.0.1:5347]"
)
@click.option("--post-url", metavar="URL", help="POST stanzas to this URL.")
@click.option(
    "--post-events",
    metavar="EVENTS",
    help="POST these events, separated by commas, or all. [default: message, edit, presence,"
    " subscription, iq, command, register, form, action]",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Keep the journal and the control socket here. [default: $STATE_DIRECTORY, else"
    " ~/.local/state/xmpp-bridge]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Write the log in this format. [default: text]",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    help="Override level in [log] of CONFIG. [default: info]",
)
@capture_flags
def run(
    config: Path | None,
    component: str | None,
    secret_file: str | None,
    server: str | None,
    post_url: str | None,
    post_events: str | None,
    state_dir: Path | None,
    log_format: str,
    log_level: str | None,
    **capture: Any,
) -> None:
    """Run the daemon in the foreground.

    \b
    xmpp-bridge run bridge.toml
    xmpp-bridge run --component bot.localhost --secret-file secret \\
        --server 127.0.0.1:5347 --post-url http://127.0.0.1:8000/
    xmpp-bridge run bridge.toml --capture captures

    Use either the file CONFIG, or the options for a single component. A component that the server
    refuses is tried again, unless exit_on_refusal is set. SIGTERM or SIGINT waits for
    running requests, at most grace_s; a second signal stops at once. SIGHUP reloads CONFIG; if it
    has an error, nothing changes.
    """
    from bridge.daemon.daemon import Daemon
    from bridge.daemon.systemd import SystemdNotifier
    from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve
    from bridge.journal.nodes import about_of
    from bridge.journal.storage import open_storage
    from bridge.journal.store import JournalError
    from bridge.telemetry.tracing import open_spans

    recent_errors = RecentErrors()
    configure(log_format, log_level or "info", recent_errors)
    flags = {"--component": component, "--secret-file": secret_file}
    flags |= {"--server": server, "--post-url": post_url, "--post-events": post_events}

    def read(source: Path) -> Settings:
        settings = load(source)
        return evolve(settings, log=LogSettings()) if log_level is not None else settings

    settings = settings_of(config, flags)
    options = options_of(capture)
    if log_level is None and settings.log.level is not None:
        set_level(settings.log.level)
    again = None if config is None else partial(read, config)
    spans = None if settings.tracing is None else open_spans(settings.tracing)
    make = partial(
        Daemon,
        settings,
        read=again,
        notifier=SystemdNotifier(),
        spans=spans,
        open_listener=_open_listener,
        recent_errors=recent_errors,
    )
    gc.freeze()  # keep loaded objects out of the full collection that ends each parser
    gc.set_threshold(10_000)  # handling a stanza makes hardly any reference cycles
    if settings.journal.durability == "off":
        recording = open_recording(options, settings.components)
        run_async(make(recording=recording).run_with_signals, EARLY_SIGNALS)
    try:
        directory = StateDirectory(resolve(state_dir))
        about = None if settings.journal.url is None else about_of(settings)
        with open_storage(directory, settings.journal, settings.node, about) as storage:
            recording = open_recording(options, settings.components)
            run_async(make(storage, recording=recording).run_with_signals, EARLY_SIGNALS)
    except (StateDirectoryError, JournalError) as error:
        raise click.ClickException(f"{error}.") from None


def _open_listener(
    listen: ListenSettings, parts: "DaemonParts"
) -> AbstractContextManager["Listener"]:
    """Open the listener. Its modules are imported only here, if one is configured."""
    from bridge.listener.listener import Listener

    return Listener.opened(listen, parts)
