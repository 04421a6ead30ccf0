"""`xmpp-bridge redact`: reads captures twice, writes them redacted, and searches what it has
written before that gets its name.

First a survey: what is to be hidden? Then pseudonyms can be chosen that are none of it by chance.
Last the search; what it finds is looked up in the originals once more, since the survey is kept as
a filter that may hold too much. Memory does not depend on the captures' size.
"""

import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import click
from attrs import define, field, frozen
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.capture.file import CaptureFileError, CaptureWriter, open_capture, shown
from bridge.capture.redact import Redactor
from bridge.capture.redact.hidden import Hidden, Suspects
from bridge.capture.redact.pseudonym import MIN_KEY_BYTES
from bridge.capture.redact.search import Search
from bridge.capture.redact.survey import Survey, surveyor

EXIT_CODES: Final = """\b
Exit codes: 0 done, and nothing was found, 1 a file cannot be read or written, or something would
remain (then nothing is written), 2 usage error."""
_KEY_BYTES: Final = 32
_MAX_KEY_BYTES: Final = 1024 * 1024
_STEP: Final = 256  # records between two looks at the progress
_SHOWN: Final = 3

T = TypeVar("T")
Advance = Callable[[int], None]
"""Told how many bytes of a file have been read since the last time."""


@click.command(epilog=EXIT_CODES)
@click.argument(
    "files", metavar="IN… OUT", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="Make pseudonyms with the key in this file (16 bytes or more, secret): the same ones each"
    " time. [default: a new key, which nobody gets to know]",
)
@click.option("--force", is_flag=True, help="Overwrite OUT.")
def redact(files: tuple[Path, ...], key_file: Path | None, force: bool) -> None:
    """Copy the capture IN to OUT with pseudonyms in place of what persons wrote and are called: fit
    to be given away, and it still replays the same way.

    \b
    xmpp-bridge redact yesterday.xcap shared.xcap
    xmpp-bridge redact captures/*.xcap.zst shared/     # one story: the same names in all

    Texts, numbers, and local parts and resources of addresses become others of the same script and
    length; domains, times and the protocol's own words stay. Of several files each goes into the
    directory OUT under its own name. The result is searched for every local part and for every
    word of four or more letters before it gets its name.
    """
    jobs = _jobs(files, force)
    key = secrets.token_bytes(_KEY_BYTES) if key_file is None else _read_key(key_file)
    try:
        with _progress([job.source for job in jobs]) as show, ExitStack() as cleanup:
            for job in jobs:
                cleanup.callback(job.discard)
            told = _redact(jobs, key, show)
            for job in jobs:
                job.publish()
    except CaptureFileError as error:
        raise click.ClickException(f"{error}.") from None
    for line in told:
        click.echo(line)


@frozen
class _Job:
    """A capture, where it goes, and where it is written until it may have that name."""

    source: Path
    target: Path
    draft: Path

    def discard(self) -> None:
        with suppress(OSError):  # there is none, most often
            self.draft.unlink()

    def publish(self) -> None:
        """Give it its name.

        Raises:
            CaptureFileError: it cannot have it.
        """
        try:
            with self.draft.open("rb") as file:
                os.fsync(file.fileno())
            self.draft.replace(self.target)
        except OSError as error:
            why = f"it cannot be written ({error.strerror})"
            raise CaptureFileError(self.target, why) from None


def _jobs(files: tuple[Path, ...], force: bool) -> list[_Job]:
    *sources, out = files
    if not sources:
        raise click.UsageError("Give a capture, and where its redacted copy goes: IN OUT.")
    if Path("-") in files:
        raise click.UsageError("Captures are read several times: give files, not '-'.")
    into_directory = os.path.isdir(out)  # unlike Path's, these say no where nobody may look
    if len(sources) > 1 and not into_directory:
        raise click.UsageError(f"{out} is no directory: of several captures, OUT must be one.")
    targets = [out / source.name if into_directory else out for source in sources]
    for source, target in zip(sources, targets, strict=True):
        if targets.count(target) > 1:
            raise click.UsageError(f"Two captures would become {target}.")
        is_there = os.path.exists(target)
        if is_there and os.path.exists(source) and os.path.samefile(source, target):
            raise click.UsageError(f"{source} cannot be overwritten by its own copy.")
        if os.path.isdir(target):
            raise click.UsageError(f"{target} is a directory.")
        if is_there and not force:
            raise click.UsageError(f"{target} is there already; --force overwrites it.")
    return [
        _Job(source, target, target.with_name(f".{secrets.token_hex(4)}-{target.name}"))
        for source, target in zip(sources, targets, strict=True)
    ]


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise click.UsageError(
            f"--key-file {path}: it cannot be read ({error.strerror})."
        ) from None
    if len(key) < MIN_KEY_BYTES:
        remedy = f"Make one by: openssl rand -out {path} 32"
        raise click.UsageError(f"--key-file {path}: it has {len(key)} bytes, of 16. {remedy}")
    return key


def _redact(jobs: list[_Job], key: bytes, show: "_Show") -> list[str]:
    """Write all drafts, search them, and give what there is to be told."""
    hidden = Hidden()
    survey = Survey(hidden)
    tally = _Tally()
    for job in jobs:
        _survey(job.source, survey, show.next(f"reading {job.source.name}"))
    redactor = Redactor(key, hidden.avoids)
    for job in jobs:
        _write(job, redactor, tally, show.next(f"redacting {job.source.name}"))
    found: dict[str, str] = {}
    for job in jobs:
        found |= _search(job, hidden, show.next(f"searching {job.target.name}"))
    if found:
        suspects = Suspects(frozenset(found))
        for job in jobs:
            _survey(job.source, Survey(suspects), show.next(f"looking again at {job.source.name}"))
        remaining = {one: place for one, place in found.items() if one in suspects.confirmed}
        if remaining:
            _refuse(remaining)
    words = f"{survey.words:,} words and numbers, {survey.addresses:,} addresses"
    return [*tally.notes, f"{tally.records:,} records, {words} replaced; 0 found again"]


def _refuse(remaining: dict[str, str]) -> None:
    places = {one.removeprefix("@"): where for one, where in sorted(remaining.items())}
    some = ", ".join(f"{one!r} in {where}" for one, where in list(places.items())[:_SHOWN])
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    raise click.ClickException(
        f"{len(places)} words or local parts would remain: {some}{more}. Nothing was written."
    )


@define
class _Tally:
    """What was done."""

    records: int = 0
    notes: list[str] = field(factory=list)


def _survey(path: Path, survey: Survey, advance: Advance) -> None:
    rewriter = surveyor(survey)
    with open_capture(path) as capture:
        rewriter.header(capture.header)
        for record in _watched(capture, lambda: capture.position_bytes, advance):
            rewriter.feed(record)
        rewriter.end()


def _write(job: _Job, redactor: Redactor, tally: _Tally, advance: Advance) -> None:
    with open_capture(job.source) as capture:
        try:
            writer = CaptureWriter(job.draft, redactor.header(capture.header))
            try:
                for record in _watched(capture, lambda: capture.position_bytes, advance):
                    tally.records += 1
                    for one in redactor.feed(record):
                        writer.write(one)
                for one in redactor.end():
                    writer.write(one)
                writer.close()
            finally:
                writer.abandon()
        except CaptureFileError as error:
            if error.path != job.draft:
                raise
            raise CaptureFileError(job.target, error.why) from None
        if capture.cut is not None:
            tally.notes.append(f"{shown(job.source)}: {capture.cut}; what was before it is there")


def _search(job: _Job, hidden: Hidden, advance: Advance) -> dict[str, str]:
    search = Search(hidden)
    with open_capture(job.draft) as capture:
        search.header(capture.header)
        for record in _watched(capture, lambda: capture.position_bytes, advance):
            search.feed(record)
        search.end()
    return {one: f"{place} of {job.target}" for one, place in search.found.items()}


def _watched(items: Iterable[T], position: Callable[[], int], advance: Advance) -> Iterator[T]:
    before = 0
    for number, item in enumerate(items):
        yield item
        if number % _STEP == 0:
            now = position()
            advance(now - before)
            before = now
    advance(position() - before)


class _Show:
    """The progress, at a terminal: three readings of each file."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)

    def next(self, what: str) -> Advance:
        """Begin with a file."""
        self._bar.update(self._task, description=what)
        return lambda by: self._bar.advance(self._task, by)


@contextmanager
def _progress(sources: list[Path]) -> Iterator[_Show]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        yield _Show(bar, 3 * sum(os.path.getsize(one) for one in sources if os.path.isfile(one)))
