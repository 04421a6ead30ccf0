"""One component's capture as a series of files, each of which can be replayed by itself.

Plain calls, no trio: they are made in the recorder's thread, in the order of what happened.

A file ends between two stanzas of the server's. The next one says in its header what it continues,
and begins with the stream's opening once more: the first `repeated` records, all of time 0.
"""

import os
import re
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field, frozen

from bridge import __version__
from bridge.capture_dir import Shelf
from bridge.capture_file import CaptureFileError, CaptureWriter
from bridge.exchange import CHANNEL as HTTP
from bridge.exchange import HttpExchange, Result, encode
from xmppstream.capture import IN, LINK, MAX_LINE_BYTES, OUT, Header, Record, encode_line

_HANDSHAKE: Final = re.compile(rb"<(?:[^\s<>/]+:)?handshake(?:\s[^<>]*)?(?:/>|>[^<>]*</[^<>]*>)")
NOTE: Final = "note"
_MAX_OUT_BYTES: Final = 1024 * 1024
_MAX_OPENING_BYTES: Final = 1024 * 1024


@frozen
class Naming:
    """What the files are called, and what their headers say beside the date."""

    directory: Path
    domain: str
    suffix: str
    began: datetime
    fields: tuple[tuple[str, str], ...] = ()

    def path(self, number: int) -> Path:
        """Give the `number`-th name."""
        domain = self.domain.replace("/", "_")
        return self.directory / f"{domain}-{self.began:%Y%m%dT%H%M%SZ}-{number:04}{self.suffix}"


class Redaction(Protocol):
    """Puts other values into captures; see `bridge.redact`."""

    def header(self, header: Header) -> Header: ...

    def feed(self, record: Record) -> list[Record]: ...

    def end(self) -> list[Record]: ...


@define(eq=False)
class Series:
    """Writes records, which are timed in seconds since `naming.began`, to one file after another.

    Every method raises `CaptureFileError` where the disk does; then only `abandon` may follow.
    """

    naming: Naming
    shelf: Shelf
    redaction: Redaction | None = None
    _writer: CaptureWriter | None = None
    _number: int = 0
    _origin_s: float = 0.0
    _last_s: float = 0.0
    _previous: str = ""
    _missing: int = 0
    _opening: list[Record] = field(factory=list)
    _opening_in: bytes = b""
    _connected: bool = False
    _attached: bool = False
    _opened: bool = True  # whether the opening is whole: up to the server's handshake
    _open_bytes: int = 0
    _full: bool = False

    @property
    def path(self) -> Path | None:
        """The file that is written at present."""
        return self._writer.path if self._writer is not None else None

    def link_opened(self, at: float, server: str) -> None:
        """A connection begins."""
        self._opening, self._opening_in = [], b""
        self._connected, self._attached, self._opened = True, False, False
        self._open_bytes = 0
        self._put(at, LINK, f"open {server}".encode())

    def link_closed(self, at: float, why: str) -> None:
        """The connection is over."""
        self._connected = self._attached = False
        self._put(at, LINK, f"end {why}".encode())
        self._opening, self._opened = [], True

    def attached(self) -> None:
        """The opening is over; from here on a file may end."""
        self._attached = self._opened = True

    def received(self, at: float, data: bytes, open_bytes: int) -> None:
        """A chunk came; see `Tap.received`."""
        if not self._opened:
            data = self._receive_opening(at, data)
        boundary = len(data) - open_bytes
        if self._full:
            self._end_if_between(at)
        if self._full and 0 < boundary < len(data) and self._attached:
            self._put(at, IN, data[:boundary])
            self._next(at)
            data = data[boundary:]
        self._open_bytes = open_bytes
        if data:
            self._put(at, IN, data)

    def _receive_opening(self, at: float, data: bytes) -> bytes:
        """Record what of a chunk belongs to the opening, and give the rest."""
        before = len(self._opening_in)
        self._opening_in += data
        found = _HANDSHAKE.search(self._opening_in)
        end = len(data) if found is None else found.end() - before
        self._put(at, IN, data[:end])
        if found is None and len(self._opening_in) > _MAX_OPENING_BYTES:  # this is no server
            self._opening, self._opened = [], True
        self._opened = self._opened or found is not None
        return data[end:]

    def sent(self, at: float, data: bytes) -> None:
        """A batch was sent."""
        if self._full:
            self._end_if_between(at)
        for offset in range(0, len(data), _MAX_OUT_BYTES):
            self._put(at, OUT, data[offset : offset + _MAX_OUT_BYTES])

    def exchanged(
        self, at: float, uid: str, attempt: int, began: float, request: bytes, result: Result
    ) -> None:
        """A POST that had begun at `began` is over."""
        if self._full:
            self._end_if_between(at)
        start_s = began - self._origin_s
        one = HttpExchange(uid, attempt, start_s, at - began, request, result)
        self._put(at, HTTP, encode(one))

    def put(self, at: float, channel: str, data: bytes) -> None:
        """Write a record of another channel."""
        if self._full:
            self._end_if_between(at)
        self._put(at, channel, data)

    # --- files

    def begin(self, at: float) -> None:
        """Open the first file."""
        self._open(at)

    def pause(self) -> None:
        """End the file: what comes until `resume` is not written, and only the opening is kept."""
        self._close()
        self._previous = ""

    def resume(self, at: float, missing: int) -> None:
        """Begin a new file, without what is missing in between."""
        self._missing, self._open_bytes = missing, 0
        self._next(at)

    def flush(self) -> None:
        """Hand all that was written to the operating system."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End the last file."""
        self._close()

    def abandon(self) -> None:
        """Close the file as it is, after a failure."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self.shelf.closed(writer.path, writer.size_bytes)
            with suppress(CaptureFileError):
                writer.abandon()

    def _end_if_between(self, at: float) -> None:
        if self._open_bytes == 0 if self._attached else not self._connected:
            self._next(at)

    def _next(self, at: float) -> None:
        self._close()
        self._open(at)

    def _open(self, at: float) -> None:
        path = self._free_path()
        # To the microsecond, as the header has it, so that times of all files can be compared.
        self._origin_s = self._last_s = round(at, 6)
        header = self._header()
        for old in self.shelf.opened(path):
            with suppress(OSError):  # somebody else has deleted it
                old.unlink()
        self._writer = CaptureWriter(path, header)
        self._missing = 0
        for record in self._opening:
            self._emit(self._origin_s, record.channel, record.data)
        self._writer.flush()

    def _header(self) -> Header:
        fields = list(self.naming.fields)
        if self._previous:
            fields.append(("continues", self._previous))
        if self._missing:
            fields.append(("missing", str(self._missing)))
        if self._opening:
            fields.append(("repeated", str(len(self._opening))))
        header = Header(
            f"xmpp-bridge {__version__}",
            self.naming.domain,
            self.naming.began + timedelta(seconds=self._origin_s),
            tuple(fields),
        )
        return header if self.redaction is None else self.redaction.header(header)

    def _free_path(self) -> Path:
        self._number += 1
        while os.path.lexists(self.naming.path(self._number)):  # by a run of the same second
            self._number += 1
        return self.naming.path(self._number)

    def _close(self) -> None:
        if self.redaction is not None:
            for one in self.redaction.end():
                self._write(one.at, one.channel, one.data)
        writer, self._writer = self._writer, None
        self._full = False
        if writer is not None:
            writer.close()
            self._previous = writer.path.name
            self.shelf.closed(writer.path, writer.size_bytes)

    def _put(self, at: float, channel: str, data: bytes) -> None:
        if not self._opened and channel in (LINK, IN, OUT):
            self._opening.append(Record(at, channel, data))
        self._emit(at, channel, data)

    def _emit(self, at: float, channel: str, data: bytes) -> None:
        if self.redaction is None:
            self._write(at, channel, data)
        elif self._writer is not None:
            for one in self.redaction.feed(Record(at, channel, data)):
                self._write(one.at, one.channel, one.data)

    def _write(self, at: float, channel: str, data: bytes) -> None:
        writer = self._writer
        if writer is None:
            return
        # Redacting may hold a record back, and give it behind later ones.
        self._last_s = at = max(at, self._last_s)
        line = encode_line(at - self._origin_s, channel, data)
        if len(line) > MAX_LINE_BYTES:
            note = f"a record of the channel {channel} had {len(line)} bytes: left out"
            line = encode_line(at - self._origin_s, NOTE, note.encode())
        writer.write_encoded(line)
        self._full = writer.size_bytes >= self.shelf.rotate_bytes
