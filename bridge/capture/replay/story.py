"""Reads captures as stories: files that continue one another form one story with one clock.

A story is read as a stream, and can be read ahead, since an exchange is written when it is over,
after the stanzas that came meanwhile. Records that were read ahead wait in memory, bounded in
bytes.
"""

import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field, frozen

from bridge.capture.compression import packing_found, packing_of
from bridge.capture.exchange import CHANNEL, BadExchange, HttpExchange, decode
from bridge.capture.file import (
    STDIN,
    CaptureFileError,
    CaptureReader,
    Source,
    looks_like_capture,
    open_source,
    shown,
)
from bridge.capture.format import Header, Record
from bridge.capture.replay.plain import Plain

AHEAD_LIMIT_BYTES: Final = 64 * 1024 * 1024
_FIRST_HEADER_LINES: Final = 6  # version, three fields, the empty line; and lines count from 1


@frozen
class File:
    """A file to read, and the path that was given: standard input is read from a temporary file."""

    path: Path
    given: Path

    @property
    def name(self) -> str:
        return shown(self.given)


@frozen
class Part:
    """A file and its header."""

    file: File
    header: Header
    is_plain: bool = False


@frozen
class Story:
    """Files that belong together, in order."""

    parts: tuple[Part, ...]

    @property
    def header(self) -> Header:
        return self.parts[0].header

    @property
    def is_plain(self) -> bool:
        return self.parts[0].is_plain

    @property
    def name(self) -> str:
        return self.parts[0].file.name


@frozen
class Moment:
    """A record, its time in the story in s, and the number of its file in the story."""

    at: float
    record: Record
    part: int


class _Records(Protocol):
    header: Header

    @property
    def cut(self) -> str | None: ...
    def __iter__(self) -> Iterator[Record]: ...


@contextmanager
def files(paths: Iterable[Path]) -> Iterator[list[File]]:
    """Yield the files to read; standard input is copied to disk, since it is read more than once.

    Raises:
        CaptureFileError: if `-` is given twice.
    """
    with ExitStack() as stack:
        found = []
        for path in paths:
            if path != STDIN:
                found.append(File(path, path))
                continue
            if any(one.given == STDIN for one in found):
                raise CaptureFileError(STDIN, "it can be read only once")
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="xmpp-bridge-"))
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            found.append(File(Path(copy.name), STDIN))
        yield found


def stories(given: Sequence[File]) -> list[Story]:
    """Read the headers, and group the files that continue one another.

    Raises:
        CaptureFileError: if one of them cannot be read, or is neither a capture nor XML.
    """
    parts = [_part_of(file) for file in given]
    names = {part.file.path.name: number for number, part in enumerate(parts)}
    following: dict[int, int] = {}
    for number, part in enumerate(parts):
        before = names.get(part.header.get("continues"))
        if before is not None and before != number:
            following.setdefault(before, number)
    found, later = [], set(following.values())
    for number in range(len(parts)):
        if number in later:
            continue
        chain = [number]
        while (successor := following.get(chain[-1])) is not None:
            chain.append(successor)
        found.append(Story(tuple(parts[one] for one in chain)))
    return found


def _part_of(file: File) -> Part:
    with _opened(file) as (records, _):
        return Part(file, records.header, isinstance(records, Plain))


@contextmanager
def _opened(file: File) -> Iterator[tuple[_Records, Source]]:
    try:
        with open_source(file.path) as source:
            yield _records_of(file, source), source
    except CaptureFileError as error:
        if file.path == file.given:
            raise
        raise CaptureFileError(file.given, error.why, error.line) from None


def _records_of(file: File, source: Source) -> _Records:
    beginning = source.begins()
    if beginning and not looks_like_capture(source):
        packing = packing_found(beginning)
        if packing == "none" or packing == packing_of(file.path):
            return Plain(source, lambda why: CaptureFileError(file.path, why))
    return CaptureReader(source)


@define
class StoryReader:
    """Reads a story. `heard` is called with each exchange as it is read, and the start of its file
    in the story.
    """

    story: Story
    heard: Callable[[HttpExchange, float], None] = lambda _, __: None
    cut: list[str] = field(factory=list)
    """Descriptions of missing parts, for people."""
    keeps_exchanges: bool = False
    """Whether the records of exchanges keep their data."""
    read_until: float = 0.0
    """Time up to which the story has been read, in s."""
    _ahead: deque[Moment] = field(factory=deque)
    _ahead_bytes: int = 0
    _failure: CaptureFileError | None = None
    _position_bytes: int = 0
    _done_bytes: int = 0
    _moments: Iterator[Moment] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._moments = self._read()

    @property
    def position_bytes(self) -> int:
        """Number of bytes of the files that have been read."""
        return self._done_bytes + self._position_bytes

    def next(self) -> Moment | None:
        """Return the next record; None at the end.

        Raises:
            CaptureFileError: if it cannot be read.
        """
        if not self._ahead and not self._take():
            if self._failure is not None:
                raise self._failure
            return None
        moment = self._ahead.popleft()
        self._ahead_bytes -= len(moment.record.data)
        return moment

    def read_ahead(self, until: float) -> bool:
        """Read one more record. Return False if the story has been read beyond `until`, if enough
        waits in memory, or if no more can be read (`next` then raises the error).
        """
        if self.read_until > until or self._ahead_bytes > AHEAD_LIMIT_BYTES:
            return False
        return self._take()

    def _take(self) -> bool:
        try:
            moment = next(self._moments, None)
        except CaptureFileError as error:
            self._failure = error
            return False
        if moment is None:
            return False
        self.read_until = moment.at
        self._ahead.append(moment)
        self._ahead_bytes += len(moment.record.data)
        return True

    def _read(self) -> Iterator[Moment]:
        first, before = self.story.header.date, 0.0
        for number, part in enumerate(self.story.parts):
            start = (part.header.date - first).total_seconds()
            with _opened(part.file) as (records, source):
                first_line = _FIRST_HEADER_LINES + len(part.header.fields)
                repeated = _repeated(part.header) if number else 0
                self._note_missing(part)
                for line, record in enumerate(records, first_line):
                    if line < first_line + repeated:
                        continue
                    self._position_bytes = source.position_bytes
                    before = max(before, start + record.at)
                    if record.channel == CHANNEL:
                        self._hear(record, start, part, line)
                        if not self.keeps_exchanges:
                            self.read_until = before
                            record = Record(record.at, CHANNEL, b"")
                    yield Moment(before, record, number)
                if records.cut is not None:
                    self.cut.append(f"{part.file.name}: {records.cut}")
                self._done_bytes += source.position_bytes
                self._position_bytes = 0

    def _note_missing(self, part: Part) -> None:
        missing = part.header.get("missing")
        if missing:
            self.cut.append(f"{part.file.name}: {missing} events before it are missing")

    def _hear(self, record: Record, start: float, part: Part, line: int) -> None:
        try:
            exchange = decode(record.data)
        except BadExchange as error:
            raise CaptureFileError(part.file.given, f"line {line}: {error}", line) from None
        self.heard(exchange, start)


def _repeated(header: Header) -> int:
    """Return how many records of the preceding file a file repeats: the stream's opening."""
    count = header.get("repeated", "0")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


def size_of(found: Sequence[Story]) -> int | None:
    """Return the size of all files together; None if it cannot be known."""
    total = 0
    for story in found:
        for part in story.parts:
            try:
                total += part.file.path.stat().st_size
            except OSError:
                return None
    return total
