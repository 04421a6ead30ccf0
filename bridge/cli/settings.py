"""Settings from a configuration file or from options; errors in them are printed."""

import os
from pathlib import Path
from typing import Any, NoReturn

import click

from bridge.config.loader import from_table, load
from bridge.config.settings import ConfigError, Settings
from bridge.config.validation import SECRET_VARIABLE

config_argument = click.argument("config", type=click.Path(path_type=Path), required=False)


def settings_of(config: Path | None, flags: dict[str, Any]) -> Settings:
    given = {name: value for name, value in flags.items() if value is not None}
    if config is not None and given:
        names = ", ".join(given)
        raise click.UsageError(f"Use either a file or {names}, not both.")
    try:
        if config is not None:
            return load(config)
        return _of_flags(flags)
    except ConfigError as error:
        fail(error)


def _of_flags(flags: dict[str, Any]) -> Settings:
    if not flags["--component"] or not flags["--post-url"]:
        missing = [name for name in ("--component", "--post-url") if not flags[name]]
        file = "Name a configuration file (xmpp-bridge run bridge.toml)"
        raise click.UsageError(f"{file}, or use {' and '.join(missing)}.")
    if not flags["--secret-file"] and not os.environ.get(SECRET_VARIABLE):
        raise click.UsageError(f"Use --secret-file, or set {SECRET_VARIABLE} in the environment.")
    table: dict[str, Any] = {"component_post_url": flags["--post-url"]}
    if flags["--secret-file"]:
        table["component_secret_file"] = flags["--secret-file"]
    events = flags.get("--post-events")
    if events:
        words = [word.strip() for word in events.split(",")]
        table["component_post_events"] = "all" if words == ["all"] else words
    top: dict[str, Any] = {"component": {flags["--component"]: table}}
    if flags["--server"]:
        top["server"] = flags["--server"]
    return from_table(top, "command line", directory=Path.cwd())


def fail(error: ConfigError) -> NoReturn:
    for fault in error.faults:
        click.echo(f"{error.source}: {fault}", err=True)
    count = len(error.faults)
    click.echo(f"{count} {'error' if count == 1 else 'errors'} in the configuration.", err=True)
    raise SystemExit(2)
