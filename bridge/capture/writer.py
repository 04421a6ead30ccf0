"""Writes the files of one series, one after the other, and deletes old ones to make room.

Blocking calls without trio, made in the recorder's thread. Every method except `abandon` raises
`CaptureFileError` if the disk fails; after that, only `abandon` may be called.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field, frozen

from bridge import __version__
from bridge.capture.compression import Packing, packing_of
from bridge.capture.file import CaptureFileError, CaptureWriter
from bridge.capture.format import MAX_LINE_BYTES, Header, Record, encode_line
from bridge.capture.retention import Retention

NOTE: Final = "note"
_SLICE_S: Final = 0.0002
_PAUSE_S: Final = 0.0001
"""Long enough for another thread to wake up. A pause of 0 gives the lock away and takes it back."""


@frozen
class FileNaming:
    """The names of the files, and the part of their headers that never changes."""

    directory: Path
    domain: str
    suffix: str
    began: datetime
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def packing(self) -> Packing:
        return packing_of(self.path(1))

    def path(self, number: int) -> Path:
        """Return the path of the `number`-th file."""
        domain = self.domain.replace("/", "_")
        return self.directory / f"{domain}-{self.began:%Y%m%dT%H%M%SZ}-{number:04}{self.suffix}"


class Redaction(Protocol):
    """Replaces the values in captures; see `bridge.capture.redact`."""

    def header(self, header: Header) -> Header: ...

    def feed(self, record: Record) -> list[Record]: ...

    def end(self) -> list[Record]: ...


@frozen
class Progress:
    """The state of the `file`-th file (from 1): blocks of `taken_bytes`, by the weights given with
    them, have become `size_bytes` on disk.
    """

    file: int = 0
    taken_bytes: int = 0
    size_bytes: int = 0


@define(eq=False)
class RotatingWriter:
    """Writes lines, or records to be redacted, to the file that was begun last."""

    naming: FileNaming
    retention: Retention
    redaction: Redaction | None = None
    progress: Progress = field(factory=Progress)
    """The progress so far; may be read from any thread."""
    _clock: Callable[[], float] = time.perf_counter
    _pause: Callable[[float], None] = time.sleep
    _writer: CaptureWriter | None = None
    _number: int = 0
    _last_s: float = 0.0
    _previous: str = ""

    @property
    def path(self) -> Path | None:
        """Path of the current file."""
        return self._writer.path if self._writer is not None else None

    def begin(self, origin_s: float, missing: int, repeated: int) -> None:
        """Begin a file, `origin_s` seconds after the first. Before it, `missing` reports were
        dropped; its first `repeated` records are a copy of the opening.
        """
        path = self._free_path()
        fields = list(self.naming.fields)
        if missing:
            fields.append(("missing", str(missing)))
        elif self._previous:
            fields.append(("continues", self._previous))
        if repeated:
            fields.append(("repeated", str(repeated)))
        header = Header(
            f"xmpp-bridge {__version__}",
            self.naming.domain,
            self.naming.began + timedelta(seconds=origin_s),
            tuple(fields),
        )
        if self.redaction is not None:
            header = self.redaction.header(header)
        for old in self.retention.opened(path):
            with suppress(OSError):  # already deleted by someone else
                old.unlink()
        self._writer = CaptureWriter(path, header)
        self._last_s = 0.0
        self._flush(self._writer, Progress(self.progress.file + 1))

    def write(self, lines: bytes | bytearray) -> None:
        """Write lines, and pass them to the operating system."""
        if self._writer is not None:
            self._writer.write_encoded(lines)
            self._flush(self._writer, self._taking(len(lines)))

    def write_redacted(self, records: list[Record], weight_bytes: int) -> None:
        """Redact records, and pass those that are complete to the operating system.

        Pauses often: other threads that want the interpreter's lock would wait 5 ms each time.
        """
        if self._writer is not None and self.redaction is not None:
            until = self._clock() + _SLICE_S
            for record in records:
                self._put(self._writer, self.redaction.feed(record))
                if self._clock() >= until:
                    self._pause(_PAUSE_S)
                    until = self._clock() + _SLICE_S
            self._flush(self._writer, self._taking(weight_bytes))

    def end(self) -> None:
        """Finish the current file."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if self.redaction is not None:
            self._put(writer, self.redaction.end())
        try:
            writer.close()
        finally:
            self._previous = writer.path.name
            self.retention.closed(writer.path, writer.size_bytes)

    def abandon(self) -> None:
        """Close the file as it is, after a failure."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self.retention.closed(writer.path, writer.size_bytes)
            with suppress(CaptureFileError):
                writer.abandon()

    def _put(self, writer: CaptureWriter, records: list[Record]) -> None:
        for record in records:
            self._last_s = max(record.at, self._last_s)
            line = encode_line(self._last_s, record.channel, record.data)
            if len(line) > MAX_LINE_BYTES:
                line = note_of(self._last_s, record.channel, len(line))
            writer.write_encoded(line)

    def _taking(self, size_bytes: int) -> Progress:
        return Progress(self.progress.file, self.progress.taken_bytes + size_bytes)

    def _flush(self, writer: CaptureWriter, progress: Progress) -> None:
        writer.flush()
        # Replaced as a whole, since another thread reads it.
        self.progress = Progress(progress.file, progress.taken_bytes, writer.size_bytes)

    def _free_path(self) -> Path:
        self._number += 1
        while os.path.lexists(self.naming.path(self._number)):  # taken by a run of the same second
            self._number += 1
        return self.naming.path(self._number)


def note_of(at: float, channel: str, size_bytes: int) -> bytes:
    """Return a note in place of a line that is too long for any reader."""
    note = f"a record of the channel {channel} had {size_bytes} bytes: left out"
    return encode_line(at, NOTE, note.encode())
