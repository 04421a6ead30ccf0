"""`xmpp-bridge show`: options and output."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from bridge.capture.file import CaptureFileError
from bridge.capture.replay.selection import Since
from bridge.capture.replay.story import files, stories
from bridge.capture.replay.transcript import Transcript
from bridge.cli.exit import EXIT_CODES
from bridge.cli.option import selecting, selection_of


class _Console(Console):
    """A console whose pipe may be closed early, as `head` does."""

    def on_broken_pipe(self) -> NoReturn:
        # Otherwise the interpreter's final flush of stdout would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


@click.command(epilog=EXIT_CODES)
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@selecting
@click.option("--full", is_flag=True, help="Print stanzas and bodies in full, however long.")
def show(
    paths: tuple[Path, ...],
    only: frozenset[str],
    kind: tuple[str, ...],
    since: Since | None,
    full: bool,
) -> None:
    """Print captures as conversations.

    \b
    xmpp-bridge show yesterday.xcap --only juliet@example.com | less -R

    Prints the stanzas received (→), their POSTs with the results, and the stanzas sent (←). FILE is
    a capture or plain XML, as for `replay`; `-` is standard input.
    """
    console = _Console(highlight=False, soft_wrap=True)
    selection = selection_of(only, kind, since)
    try:
        with files(paths) as given:
            for story in stories(given):
                Transcript(story, selection, full=full).print(console)
    except CaptureFileError as error:
        raise click.ClickException(f"{error}.") from None
