"""`xmpp-bridge help`: the manual, as shipped in the package.

A page is one file of `bridge/manual/`. Its name is the topic; under its title stands one line in
italics, which the list of topics shows. No other list of the pages exists in the code.
"""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final

import click
from rich.console import Console

from bridge.cli.exit import EXIT_CODES
from bridge.cli.markdown import render

_SUMMARY: Final = re.compile(r"# .+\n\n\*(.+)\*\n")
_HINT: Final = """
To show a page:            xmpp-bridge help TOPIC
The options of a command:  xmpp-bridge COMMAND --help"""


def pages() -> dict[str, str]:
    """Return the pages in Markdown by their topics, which are in alphabetical order."""
    return dict(sorted(_read()))


def _read() -> Iterator[tuple[str, str]]:
    for file in (resources.files("bridge") / "manual").iterdir():
        topic, _, suffix = file.name.partition(".")
        if suffix == "md":
            yield topic, file.read_text(encoding="utf-8")


def summary_of(page: str) -> str:
    """Return the line under the title of a page."""
    found = _SUMMARY.match(page)
    return "" if found is None else found[1]


def _matching(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [topic for topic in pages() if topic.startswith(incomplete)]


@click.command("help", epilog=EXIT_CODES)
@click.argument("topic", required=False, shell_complete=_matching)
@click.pass_context
def help_command(ctx: click.Context, topic: str | None) -> None:
    """Show the manual: the list of its topics, or the page of one TOPIC. If the output is not a
    terminal, the page is plain Markdown.

    \b
    xmpp-bridge help
    xmpp-bridge help configuration
    xmpp-bridge help configuration > configuration.md
    """
    known = pages()
    if topic is None:
        formatter = ctx.make_formatter()
        with formatter.section("Topics"):
            formatter.write_dl([(name, summary_of(page)) for name, page in known.items()])
        click.echo(formatter.getvalue() + _HINT)
    elif topic not in known:
        raise click.UsageError(f"There is no topic {topic!r}. {_remedy(ctx, topic, known)}", ctx)
    elif sys.stdout.isatty():
        click.echo_via_pager(render(known[topic], Console()))
    else:
        click.echo(known[topic].encode(), nl=False)


def _remedy(ctx: click.Context, topic: str, known: Iterable[str]) -> str:
    commands = ctx.find_root().command
    if isinstance(commands, click.Group) and topic in commands.list_commands(ctx):
        return f"For the options of the command: xmpp-bridge {topic} --help"
    near = difflib.get_close_matches(topic, known, 1)
    return f"Did you mean {near[0]!r}?" if near else "See xmpp-bridge help."
