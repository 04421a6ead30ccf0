"""Redacts copies of captures, and searches each copy before it gets its final name.

The first pass is a survey of everything to be hidden, so that no pseudonym is one of those words by
chance. The second pass writes drafts. The last pass searches them; since the survey is a filter
with false positives, findings are looked up in the originals once more. Memory does not depend on
the size of the captures.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

from attrs import define, field, frozen

from bridge.capture.file import CaptureFileError, CaptureWriter, open_capture, shown
from bridge.capture.redact import Redactor
from bridge.capture.redact.hidden import Hidden, Suspects
from bridge.capture.redact.keep import NO_WORDS, KeptWords
from bridge.capture.redact.search import Search, Survey, surveyor

_STEP: Final = 256  # records between two reports of progress
_SHOWN: Final = 3

T = TypeVar("T")
Advance = Callable[[int], None]
"""Called with the number of bytes that have been read since the last call."""


class WouldRemain(Exception):
    """Something that must be hidden would remain; the message is a sentence that names it."""


class Progress(Protocol):
    """Shows the progress of a copy: three passes over each file."""

    def begin(self, what: str) -> Advance:
        """Begin a pass, described in a few words."""
        ...


@frozen
class CopyJob:
    """A capture, the path of its copy, and the draft that the copy is written to first."""

    source: Path
    target: Path
    draft: Path

    def discard(self) -> None:
        with suppress(OSError):  # usually there is none
            self.draft.unlink()

    def publish(self) -> None:
        """Move the draft to its final name.

        Raises:
            CaptureFileError: if that fails.
        """
        try:
            with self.draft.open("rb") as file:
                os.fsync(file.fileno())
            self.draft.replace(self.target)
        except OSError as error:
            why = f"it cannot be written ({error.strerror})"
            raise CaptureFileError(self.target, why) from None


def redact_all(
    jobs: list[CopyJob], key: bytes, progress: Progress, keep: KeptWords = NO_WORDS
) -> list[str]:
    """Write all drafts, search them, and return lines for the user. The words `keep` stay.

    Raises:
        CaptureFileError: if a file cannot be read or written.
        WouldRemain: if a draft holds something that must be hidden; discard all drafts.
    """
    hidden = Hidden(keep=keep)
    survey = Survey(hidden)
    tally = _Tally()
    for job in jobs:
        _survey(job.source, survey, progress.begin(f"reading {job.source.name}"))
    redactor = Redactor(key, hidden.avoids, keep)
    for job in jobs:
        _write(job, redactor, tally, progress.begin(f"redacting {job.source.name}"))
    found: dict[str, str] = {}
    for job in jobs:
        found |= _search(job, hidden, progress.begin(f"searching {job.target.name}"))
    if found:
        suspects = Suspects(frozenset(found), keep)
        for job in jobs:
            _survey(
                job.source, Survey(suspects), progress.begin(f"looking again at {job.source.name}")
            )
        remaining = {one: place for one, place in found.items() if one in suspects.confirmed}
        if remaining:
            _refuse(remaining, keep)
    words = f"{survey.words:,} words and numbers, {survey.addresses:,} addresses"
    return [*tally.notes, f"{tally.records:,} records, {words} replaced; 0 found again"]


def _refuse(remaining: dict[str, str], keep: KeptWords) -> None:
    names = sorted(one for one in remaining if keep.has(one))
    if names:
        some = ", ".join(map(repr, names[:_SHOWN]))
        more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise WouldRemain(
            f"{some}{more} in --keep-words: also the local part of an address in the capture, so a"
            " name would remain. Take it out of the list. Nothing was written."
        )
    places = {one.removeprefix("@"): where for one, where in sorted(remaining.items())}
    some = ", ".join(f"{one!r} in {where}" for one, where in list(places.items())[:_SHOWN])
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    raise WouldRemain(
        f"{len(places)} words or local parts would remain: {some}{more}. Nothing was written."
    )


@define
class _Tally:
    """Statistics of the copies, and notes for the user."""

    records: int = 0
    notes: list[str] = field(factory=list)


def _survey(path: Path, survey: Survey, advance: Advance) -> None:
    rewriter = surveyor(survey)
    with open_capture(path) as capture:
        rewriter.header(capture.header)
        for record in _watched(capture, lambda: capture.position_bytes, advance):
            rewriter.feed(record)
        rewriter.end()


def _write(job: CopyJob, redactor: Redactor, tally: _Tally, advance: Advance) -> None:
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
            tally.notes.append(f"{shown(job.source)}: {capture.cut}; everything before was copied")


def _search(job: CopyJob, hidden: Hidden, advance: Advance) -> dict[str, str]:
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
