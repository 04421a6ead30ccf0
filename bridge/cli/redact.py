"""`xmpp-bridge redact`: options, checks of the file names, progress."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.capture.file import CaptureFileError
from bridge.capture.redact.copy import Advance, CopyJob, WouldRemain, redact_all
from bridge.capture.redact.keep import NO_WORDS, KeptWords, UnsafeWord, parse_words
from bridge.capture.redact.pseudonym import MIN_KEY_BYTES
from bridge.cli.exit import EXIT_CODES

_KEY_BYTES: Final = 32
_MAX_KEY_BYTES: Final = 1024 * 1024
_MAX_WORDS_BYTES: Final = 256 * 1024


@click.command(epilog=EXIT_CODES)
@click.argument(
    "files", metavar="IN… OUT", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="Derive the pseudonyms from the secret key in this file (at least 16 bytes), to get the"
    " same ones each time. [default: a new random key, which is not stored]",
)
@click.option(
    "--keep-words",
    "words_file",
    type=click.Path(path_type=Path),
    help="Keep the words in this file, one per line, where they stand alone in a text: those by"
    " which a command bot is asked, and those of its answers.",
)
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists.")
def redact(
    files: tuple[Path, ...], key_file: Path | None, words_file: Path | None, force: bool
) -> None:
    """Copy a capture with pseudonyms for names and texts.

    \b
    xmpp-bridge redact yesterday.xcap shared.xcap
    xmpp-bridge redact captures/*.xcap.zst shared/     # the same pseudonyms in all files
    xmpp-bridge redact --keep-words words.txt in.xcap out.xcap

    The copy OUT can be given away, and replays in the same way as IN. Texts, numbers, and local
    parts and resources of addresses are replaced by others of the same script and length; domains,
    times and the words of the protocol stay. With several files, OUT is a directory and each copy
    keeps its file name. Before a copy gets its name, it is searched for every local part and for
    every word of four or more letters. If anything is found, no file is written.
    """
    jobs = _jobs(files, force)
    keep = NO_WORDS if words_file is None else _read_words(words_file)
    key = secrets.token_bytes(_KEY_BYTES) if key_file is None else _read_key(key_file)
    try:
        with _progress([job.source for job in jobs]) as show, ExitStack() as cleanup:
            for job in jobs:
                cleanup.callback(job.discard)
            told = redact_all(jobs, key, show, keep)
            for job in jobs:
                job.publish()
    except CaptureFileError as error:
        raise click.ClickException(f"{error}.") from None
    except WouldRemain as error:
        raise click.ClickException(str(error)) from None
    for line in told:
        click.echo(line)


def _jobs(files: tuple[Path, ...], force: bool) -> list[CopyJob]:
    *sources, out = files
    if not sources:
        raise click.UsageError("Name a capture and the file for its redacted copy: IN OUT.")
    if Path("-") in files:
        raise click.UsageError("Captures are read several times: name files, not '-'.")
    into_directory = os.path.isdir(out)  # unlike Path's, it returns False without permission
    if len(sources) > 1 and not into_directory:
        raise click.UsageError(f"{out} is not a directory: with several captures, OUT must be one.")
    targets = [out / source.name if into_directory else out for source in sources]
    for source, target in zip(sources, targets, strict=True):
        if targets.count(target) > 1:
            raise click.UsageError(f"Two captures would be written to {target}.")
        is_there = os.path.exists(target)
        if is_there and os.path.exists(source) and os.path.samefile(source, target):
            raise click.UsageError(f"{source} cannot be overwritten by its own copy.")
        if os.path.isdir(target):
            raise click.UsageError(f"{target} is a directory.")
        if is_there and not force:
            raise click.UsageError(f"{target} already exists: use --force to overwrite it.")
    return [
        CopyJob(source, target, target.with_name(f".{secrets.token_hex(4)}-{target.name}"))
        for source, target in zip(sources, targets, strict=True)
    ]


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise click.UsageError(
            f"--key-file {path}: the file cannot be read ({error.strerror})."
        ) from None
    if len(key) < MIN_KEY_BYTES:
        remedy = f"Create one with: openssl rand -out {path} 32"
        raise click.UsageError(
            f"--key-file {path}: {len(key)} bytes; at least 16 are required. {remedy}"
        )
    return key


def _read_words(path: Path) -> KeptWords:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_WORDS_BYTES + 1)
        if len(data) > _MAX_WORDS_BYTES:
            raise UnsafeWord("the file has more than 256 KiB: list only the words of commands")
        return parse_words(data.decode("utf-8-sig"))
    except OSError as error:
        why = f"the file cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        why = f"the file is not UTF-8 (byte {error.start + 1})"
    except UnsafeWord as error:
        why = str(error)
    raise click.UsageError(f"--keep-words {path}: {why}.")


class _Progress:
    """The progress bar at a terminal. Each file counts three times, as it is read three times."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)

    def begin(self, what: str) -> Advance:
        """Show the next file. Return a function that advances the bar by bytes."""
        self._bar.update(self._task, description=what)
        return lambda by: self._bar.advance(self._task, by)


@contextmanager
def _progress(sources: list[Path]) -> Iterator[_Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        yield _Progress(
            bar, 3 * sum(os.path.getsize(one) for one in sources if os.path.isfile(one))
        )
