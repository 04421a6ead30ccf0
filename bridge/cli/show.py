"""`xmpp-bridge show`: options, and where the lines go."""

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
from bridge.cli.option import EXIT_CODES, selecting, selection_of


class _Console(Console):
    """One whose reader may have had enough, such as `head`."""

    def on_broken_pipe(self) -> NoReturn:
        # Nor may the interpreter's own last flush complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


@click.command(epilog=EXIT_CODES)
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@selecting
@click.option("--full", is_flag=True, help="Whole stanzas and bodies, however long.")
def show(
    paths: tuple[Path, ...],
    only: frozenset[str],
    kind: tuple[str, ...],
    since: Since | None,
    full: bool,
) -> None:
    """Print captures as conversations: what came (→), what became of it at the endpoint, and what
    was sent (←). Takes what replay takes; `-` is standard input.

    \b
    xmpp-bridge show yesterday.xcap --only juliet@example.com | less -R
    """
    console = _Console(highlight=False, soft_wrap=True)
    selection = selection_of(only, kind, since)
    try:
        with files(paths) as given:
            for story in stories(given):
                Transcript(story, selection, full=full).print(console)
    except CaptureFileError as error:
        raise click.ClickException(f"{error}.") from None
