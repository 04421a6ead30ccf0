"""The command `import`: writes the files of a plan, and prints the rest of it."""

import os
from pathlib import Path
from typing import NoReturn

import click

from bridge.cli.exit import EXIT_CODES
from bridge.cli.prosody.evaluation import LuaMissing, NotProsody, evaluate
from bridge.cli.prosody.translation import Plan, translate
from bridge.cli.settings import fail
from bridge.config.loader import load
from bridge.config.settings import ConfigError
from bridge.telemetry.text import printable


@click.command("import", epilog=EXIT_CODES)
@click.argument("prosody", type=click.Path(path_type=Path), metavar="PROSODY_FILE")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("bridge.toml"),
    show_default=True,
    help="Write the configuration to this file, and the secrets beside it.",
)
def import_command(prosody: Path, output: Path) -> None:
    """Make a configuration from that of Prosody.

    \b
    xmpp-bridge import /etc/prosody/prosody.cfg.lua

    Takes over the sections with mod_component_http, mod_rest and mod_post_msg, makes the secrets,
    and names everything that cannot be carried over. Prints the lines that replace these sections
    in PROSODY_FILE, which is not changed. No file is overwritten.

    Needs the extra `import`: pip install 'xmpp-bridge[import]'.
    """
    try:
        plan = translate(evaluate(prosody))
    except LuaMissing:
        _stop("Reading Prosody's file needs Lua. Run: pip install 'xmpp-bridge[import]'.")
    except NotProsody as error:
        _stop(f"{prosody}: this is not a configuration of Prosody that can be read: {error}.", 2)
    _tell(plan.notes)
    if not plan.components:
        _stop(f"{prosody}: there is no section with component_http, rest or post_msg to take over.")
    _write(plan, output)
    names = ", ".join([output.name, *plan.secrets])
    click.echo(f"Written to {output.parent.absolute()}: {names}.", err=True)
    try:
        load(output)
    except ConfigError as error:
        fail(error)
    click.echo(f"\nIn {prosody}, make these changes:\n", err=True)
    click.echo("\n".join(plan.lines).rstrip())
    click.echo(
        f"\nThen: sudo systemctl restart prosody && xmpp-bridge check --connect {output}", err=True
    )


def _tell(notes: list[str]) -> None:
    for note in notes:
        click.echo(f"Note: {printable(note)}.", err=True)


def _write(plan: Plan, output: Path) -> None:
    files = {output.parent / name: f"{secret}\n" for name, secret in plan.secrets.items()}
    files[output] = plan.toml
    for file in files:
        if file.exists():
            _stop(f"{file} exists, and is not overwritten: move it away, or use --output.")
    for file, text in files.items():
        mode = 0o644 if file == output and not plan.holds_secret else 0o600
        try:
            number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(number, "w", encoding="utf-8") as writing:
                writing.write(text)
        except OSError as error:
            _stop(f"{file} cannot be written ({error.strerror}).")


def _stop(message: str, code: int = 1) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(code)
