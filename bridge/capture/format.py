"""The capture format `.xcap`: recorded traffic as text that a person can read, edit and repair.

    xcap 1
    origin: xmpp-bridge 0.1.0
    domain: bot.example.com
    date: 2026-11-22T17:20:00.000000Z

    0.000000 out <?xml version='1.0'?><stream:stream …>
    0.001240 in <stream:stream …>

The version comes first, then header fields, one per line, and an empty line. Each further line is
a record: the seconds since `date` (never less than in the line before), a channel, and the bytes.
`in` is received from the server and `out` sent to it, in the original chunks. `link` marks the
beginning and the end of a connection. Other channels (such as the bridge's `http`) have their own
formats, which are not checked here.

Bytes are written as UTF-8, with the escapes `\\\\`, `\\n`, `\\r`, `\\t` and `\\xHH` for bytes that
are not UTF-8, control characters, and characters that an editor takes for a line break. So a line
is a record, a file can be appended to, and a crash truncates only the last line.

No clock and no file access here: lines in, values out.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from attrs import field, frozen

VERSION: Final = 1
IN: Final = "in"
OUT: Final = "out"
LINK: Final = "link"
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_MAX_HEADER_LINES: Final = 100
_MAGIC: Final = re.compile(rb"xcap ([0-9]{1,9})\n")
_FIELD: Final = re.compile(r"([a-z][a-z0-9-]*): ?(.*)")
_RECORD: Final = re.compile(rb"([0-9]{1,12}\.[0-9]{6}) ([a-z]{1,16}) (.*)\n", re.DOTALL)
_UNSAFE: Final = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]")
_NO_CONTROLS: Final = bytes(0xFF if one < 32 or one == 127 else one for one in range(256))
_ESCAPE: Final = re.compile(rb"\\(?:([\\nrt])|x([0-9a-f]{2})|)")
_SHORT: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORT_BYTES: Final = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_REQUIRED: Final = ("origin", "domain", "date")


class CaptureError(Exception):
    """A capture cannot be read: the line (from 1), and the problem."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


@frozen
class Record:
    """One event on a channel, `at` seconds after the capture's date."""

    at: float
    channel: str
    data: bytes


@frozen
class Header:
    """The header of a capture; `date` is UTC, `fields` are the optional fields, in order."""

    origin: str
    domain: str
    date: datetime
    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """Return the value of an optional field."""
        return dict(self.fields).get(name, default)


def encode_header(header: Header) -> bytes:
    """Return the lines of a header, and the empty line after it."""
    date = header.date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    first = (("origin", header.origin), ("domain", header.domain), ("date", date))
    lines = (f"{name}: {_escaped(value)}\n" for name, value in (*first, *header.fields))
    return f"xcap {VERSION}\n{''.join(lines)}\n".encode()


def encode_record(record: Record) -> bytes:
    """Return the line of a record, with its time in microseconds."""
    return encode_line(record.at, record.channel, record.data)


def encode_line(at: float, channel: str, data: bytes) -> bytes:
    """Return the line of a record without making a `Record` first."""
    # Most data needs no escaping. If a table changes no byte, `translate` returns the same object.
    if data.translate(_NO_CONTROLS) is data and (data.isascii() or _is_plain(data)):
        data = data.replace(b"\\", b"\\\\")
    else:
        data = _escaped(data.decode("utf-8", "surrogateescape")).encode()
    return b"%.6f %b %b\n" % (at, channel.encode(), data)


@frozen(eq=False)
class Capture:
    """A capture that is being read. Iterate over it once for the records.

    A last line without a line break (a crash, a full disk) is not a record: `cut` reports it once
    all others have been read.
    """

    header: Header
    first_line: int
    _lines: Iterator[bytes] = field(repr=False)
    _cut: list[int] = field(factory=list, repr=False)

    @property
    def cut(self) -> int | None:
        """Number of the incomplete last line; None if every line is complete."""
        return self._cut[0] if self._cut else None

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in order.

        Raises:
            CaptureError: if a line is not a record.
        """
        before = 0.0
        for number, line in enumerate(self._lines, self.first_line):
            if not line.endswith(b"\n"):
                _check_length(line, number)
                self._cut.append(number)
                return
            record = _record_of(line, number)
            if record.at < before:
                raise CaptureError(number, "its time is earlier than that of the line above")
            before = record.at
            yield record


def read(lines: Iterable[bytes]) -> Capture:
    """Read a capture's header. `lines` are those of a binary file; bound their length with
    `readline(MAX_LINE_BYTES + 1)`.

    Raises:
        CaptureError: if this is not a capture, or one of another version.
    """
    rest = iter(lines)
    _check_magic(next(rest, b""))
    found: dict[str, str] = {}
    for number, line in enumerate(rest, 2):
        if line == b"\n":
            return Capture(_header_of(found, number), number + 1, rest)
        if number > _MAX_HEADER_LINES:
            raise CaptureError(number, "the header does not end: it must end with an empty line")
        name, value = _field_of(line, number)
        if name in found:
            raise CaptureError(number, f"the field {name!r} appears twice")
        found[name] = value
    raise CaptureError(len(found) + 1, "the header is incomplete: it must end with an empty line")


def is_capture(beginning: bytes) -> bool:
    """Return whether a file with this beginning is a capture, of any version."""
    return beginning.startswith(b"xcap ")


def _check_magic(line: bytes) -> None:
    if not line:
        raise CaptureError(1, "the file is empty")
    match = _MAGIC.fullmatch(line)
    if match is None:
        raise CaptureError(1, f"this is not a capture: the first line must be 'xcap {VERSION}'")
    if int(match[1]) != VERSION:
        raise CaptureError(1, f"this is version {int(match[1])}; only {VERSION} can be read")


def _field_of(line: bytes, number: int) -> tuple[str, str]:
    try:
        match = _FIELD.fullmatch(line.decode().rstrip("\n"))
    except UnicodeDecodeError:
        raise CaptureError(number, "the header is not UTF-8") from None
    if match is None:
        raise CaptureError(number, "this is not a header field such as 'origin: Prosody 0.12.3'")
    return match[1], _unescaped(match[2].encode(), number).decode("utf-8", "replace")


def _header_of(found: dict[str, str], number: int) -> Header:
    for name in _REQUIRED:
        if name not in found:
            raise CaptureError(number, f"the header has no field {name!r}")
    try:
        date = datetime.fromisoformat(found["date"])
    except ValueError:
        raise CaptureError(number, f"{found['date']!r} is not a valid date (ISO 8601)") from None
    if date.tzinfo is None:
        raise CaptureError(number, "the date has no time zone: end it with Z")
    rest = tuple((name, value) for name, value in found.items() if name not in _REQUIRED)
    return Header(found["origin"], found["domain"], date, rest)


def _record_of(line: bytes, number: int) -> Record:
    _check_length(line, number)
    match = _RECORD.fullmatch(line)
    if match is None:
        raise CaptureError(number, "this is not a record such as '0.001240 in <stream:stream …>'")
    return Record(float(match[1]), match[2].decode(), _unescaped(match[3], number))


def _check_length(line: bytes, number: int) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise CaptureError(number, f"the line is longer than {MAX_LINE_BYTES} bytes")


def _is_plain(data: bytes) -> bool:
    """Return whether non-ASCII data is UTF-8, and holds no character that may need an escape."""
    if b"\xc2" in data or b"\xe2\x80\xa8" in data or b"\xe2\x80\xa9" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    data = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in data)


def _unescaped(data: bytes, number: int) -> bytes:
    if b"\\" not in data:
        return data

    def replaced(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return _SHORT_BYTES[match[1]]
        if match[2]:
            return bytes.fromhex(match[2].decode())
        raise CaptureError(number, "a backslash must begin one of \\\\, \\n, \\r, \\t, \\xHH")

    return _ESCAPE.sub(replaced, data)
