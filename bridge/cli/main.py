"""The group of commands. Each command has its own module, which is imported when it is needed."""

import difflib
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Final

import click

from bridge import __version__
from bridge.cli.exit import EXIT_CODES

_COMMANDS: Final = {
    "check": "bridge.cli.check.command:check",
    "completion": "bridge.cli.completion:completion",
    "conformance": "bridge.cli.conformance:conformance",
    "demo": "bridge.cli.demo:demo",
    "forward": "bridge.cli.forward.command:forward",
    "help": "bridge.cli.help:help_command",
    "import": "bridge.cli.prosody.command:import_command",
    "journal": "bridge.cli.journal:journal",
    "print-alerts": "bridge.cli.alerts:print_alerts",
    "print-dashboard": "bridge.cli.dashboard:print_dashboard",
    "print-man": "bridge.cli.man:print_man",
    "print-schema": "bridge.cli.schema:print_schema",
    "print-unit": "bridge.cli.unit:print_unit",
    "queue": "bridge.cli.queue:queue",
    "redact": "bridge.cli.redact:redact",
    "replay": "bridge.cli.replay:replay",
    "run": "bridge.cli.run:run",
    "show": "bridge.cli.show:show",
}


class Commands(click.Group):
    """Imports commands lazily, and suggests the closest name for an unknown command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first sentences in full; click would cut them off."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(one)) for name, one in found if one])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            remedy = f"Did you mean {near[0]!r}?" if near else "See xmpp-bridge --help."
            raise click.UsageError(f"There is no command {args[0]!r}. {remedy}", ctx)
        return super().resolve_command(ctx, args)


def _first_sentence(command: click.Command) -> str:
    paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


@click.group(
    cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="xmpp-bridge")
def main() -> None:
    """Put an HTTP service behind XMPP.

    \b
    Without a server:      xmpp-bridge demo
    With your own server:  xmpp-bridge check bridge.toml
                           xmpp-bridge run bridge.toml
    Behind NAT:            xmpp-bridge forward --bridge URL --token-file FILE --to URL
    The manual:            xmpp-bridge help

    The daemon attaches to an XMPP server as an external component (XEP-0114), POSTs each incoming
    stanza as JSON, and sends the reply back as a stanza.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an arrow, in a locale that has none
