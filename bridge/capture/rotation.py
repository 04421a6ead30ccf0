"""One component's capture as a series of files, each of which can be replayed on its own.

No trio and no disk access here. Reports become blocks of lines. The calls of a `RotatingWriter`
that write a block, or begin or end a file, are handed over in order, as jobs.

A file ends between two stanzas from the server. The header of the next file names the one that it
continues. Its first `repeated` records, all of time 0, are a copy of the stream's opening.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import Factory, define, field

from bridge.capture.exchange import API, encode_post, encode_submission
from bridge.capture.exchange import CHANNEL as HTTP
from bridge.capture.format import IN, LINK, MAX_LINE_BYTES, OUT, Record, encode_line
from bridge.capture.retention import Retention
from bridge.capture.writer import FileNaming, Redaction, RotatingWriter, note_of
from bridge.webhook.observer import PostReport

_HANDSHAKE: Final = re.compile(rb"<(?:[^\s<>/]+:)?handshake(?:\s[^<>]*)?(?:/>|>[^<>]*</[^<>]*>)")
_MAX_OUT_BYTES: Final = 1024 * 1024
_MAX_OPENING_BYTES: Final = 1024 * 1024
BLOCK_BYTES: Final = 256 * 1024
_RECORD_BYTES: Final = 200  # weight of a record to be redacted, without its data
_PACKS_TO: Final = 0.25  # assumed compression of data not packed yet; stanzas compress better

Job = Callable[[], None]
"""A call of a `RotatingWriter` method."""


def _at_once(job: Job, weight_bytes: int) -> None:
    job()


@define(eq=False)
class CaptureRotation:
    """Turns reports, timed in seconds since `naming.began`, into the records of several files.

    `hand` is called with each job, in order, and the number of bytes that the job holds.
    """

    naming: FileNaming
    retention: Retention
    redaction: Redaction | None = None
    hand: Callable[[Job, int], None] = _at_once
    writer: RotatingWriter = field(
        init=False,
        default=Factory(
            lambda self: RotatingWriter(self.naming, self.retention, self.redaction), True
        ),
    )
    held_bytes: int = field(init=False, default=0)
    """Number of bytes that wait to be handed over."""
    _lines: list[bytes] = field(factory=list)
    _records: list[Record] = field(factory=list)  # in place of lines, if they are to be redacted
    _writing: bool = False
    _number: int = 0
    _handed_bytes: int = 0  # of this file
    _look_at_bytes: float = 0  # when this much is held, check again whether the file is full
    _origin_s: float = 0.0
    _last_s: float = 0.0
    _opening: list[Record] = field(factory=list)
    _opening_in: bytes = b""
    _connected: bool = False
    _attached: bool = False
    _opened: bool = True  # whether the opening is complete, up to the server's handshake
    _open_bytes: int = 0
    _full: bool = False
    _share: float = 1.0

    def link_opened(self, at: float, server: str) -> None:
        """Record the beginning of a connection."""
        self._opening, self._opening_in = [], b""
        self._connected, self._attached, self._opened = True, False, False
        self._open_bytes = 0
        self._put(at, LINK, f"open {server}".encode())

    def link_closed(self, at: float, why: str) -> None:
        """Record the end of the connection."""
        self._connected = self._attached = False
        self._put(at, LINK, f"end {why}".encode())
        self._opening, self._opened = [], True

    def attached(self) -> None:
        """Note that the opening is over; from here on a file may end."""
        self._attached = self._opened = True

    def received(self, at: float, data: bytes, open_bytes: int) -> None:
        """Record a chunk that was received; see `Tap.received`."""
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
        """Record the part of a chunk that belongs to the opening, and return the rest."""
        before = len(self._opening_in)
        self._opening_in += data
        found = _HANDSHAKE.search(self._opening_in)
        end = len(data) if found is None else found.end() - before
        self._put(at, IN, data[:end])
        if found is None and len(self._opening_in) > _MAX_OPENING_BYTES:  # not an XMPP server
            self._opening, self._opened = [], True
        self._opened = self._opened or found is not None
        return data[end:]

    def sent(self, at: float, data: bytes) -> None:
        """Record a batch that was sent."""
        if self._full:
            self._end_if_between(at)
        for offset in range(0, len(data), _MAX_OUT_BYTES):
            self._put(at, OUT, data[offset : offset + _MAX_OUT_BYTES])

    def exchanged(
        self, at: float, uid: str, attempt: int, began: float, request: bytes, result: PostReport
    ) -> None:
        """Record a finished POST, which began at `began`."""
        if self._full:
            self._end_if_between(at)
        start_s = began - self._origin_s
        data = encode_post(uid, attempt, start_s, at - began, request, result)
        self._write(at, HTTP, data)

    def submitted(self, at: float, uid: str, stanza: bytes) -> None:
        """Record a stanza that was sent for an HTTP client."""
        self.put(at, API, encode_submission(uid, stanza))

    def put(self, at: float, channel: str, data: bytes) -> None:
        """Write a record of another channel."""
        if self._full:
            self._end_if_between(at)
        self._write(at, channel, data)

    # --- files

    def begin(self, at: float) -> None:
        """Begin the first file."""
        self._begin(at)

    def resume(self, at: float, missing: int) -> None:
        """Begin a new file after a gap of `missing` reports."""
        self._open_bytes = 0
        self._begin(at, missing)

    def flush(self) -> None:
        """Hand over everything that is held."""
        weight, self.held_bytes = self.held_bytes, 0
        self._handed_bytes += weight
        if self._lines:
            lines, self._lines = b"".join(self._lines), []
            self.hand(partial(self.writer.write, lines), weight)
        if self._records:
            records, self._records = self._records, []
            self.hand(partial(self.writer.write_redacted, records, weight), weight)
        self._look()

    def close(self) -> None:
        """End the file. Until `resume` nothing is written, and only the opening is kept."""
        self.flush()
        if self._writing:
            self._writing = self._full = False
            self.hand(self.writer.end, 0)

    def _end_if_between(self, at: float) -> None:
        if self._open_bytes == 0 if self._attached else not self._connected:
            self._next(at)

    def _next(self, at: float) -> None:
        self.close()
        self._begin(at)

    def _begin(self, at: float, missing: int = 0) -> None:
        # To the microsecond, as in the header, so that times of all files can be compared.
        self._origin_s = self._last_s = round(at, 6)
        self._number += 1
        self._handed_bytes = 0
        self._share = 1.0 if self.naming.packing == "none" else _PACKS_TO
        self._writing = True
        begin = partial(self.writer.begin, self._origin_s, missing, len(self._opening))
        self.hand(begin, 0)
        self._look()
        for record in self._opening:
            self._write(self._origin_s, record.channel, record.data)

    def _put(self, at: float, channel: str, data: bytes) -> None:
        if not self._opened and channel in (LINK, IN, OUT):
            self._opening.append(Record(at, channel, data))
        self._write(at, channel, data)

    def _write(self, at: float, channel: str, data: bytes) -> None:
        if not self._writing:
            return
        if at < self._last_s:
            at = self._last_s
        self._last_s = at
        if self.redaction is None:
            line = encode_line(at - self._origin_s, channel, data)
            if len(line) > MAX_LINE_BYTES:
                line = note_of(at - self._origin_s, channel, len(line))
            self._lines.append(line)
            self.held_bytes += len(line)
        else:
            self._records.append(Record(at - self._origin_s, channel, data))
            self.held_bytes += len(data) + _RECORD_BYTES
        if self.held_bytes >= self._look_at_bytes:
            if self.held_bytes >= BLOCK_BYTES:
                self.flush()
            else:
                self._look()

    def _look(self) -> None:
        """Check whether the file is full, and decide when to check again."""
        waiting, size = self._handed_bytes, 0
        progress = self.writer.progress
        if progress.file == self._number:
            waiting, size = waiting - progress.taken_bytes, progress.size_bytes
        room = (self.retention.rotate_bytes - size) / self._share - waiting
        self._full = self._writing and self.held_bytes >= room
        self._look_at_bytes = BLOCK_BYTES if self._full else min(room, BLOCK_BYTES)
