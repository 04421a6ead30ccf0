"""Replaces the values in the records of a capture, one record after the other.

Times, channels and their order stay. So do the places where chunks end if the new values are as
long as the old ones (otherwise the nearest place is used). A chunk that ends within a word or a tag
is held back until that is complete, and with it all records after it: at most `HELD_RECORDS` and
`HELD_BYTES`. Beyond that, the unfinished word or tag is replaced as it is.
"""

import base64
import binascii
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from attrs import define, evolve, field

from bridge.capture.exchange import API, CHANNEL
from bridge.capture.format import IN, LINK, OUT, Header, Record
from bridge.capture.redact.keep import NO_WORDS, KeptWords
from bridge.capture.redact.markup import Markup, Piece, Tags, change_fragment
from bridge.capture.redact.pseudonym import Avoid, Pseudonyms
from bridge.capture.redact.value import Values
from bridge.capture.redact.vocabulary import keeps_header, keeps_media_type, keeps_reason
from xmppstream.errors import StreamCondition

HELD_RECORDS: Final = 1024
HELD_BYTES: Final = 4 * 1024 * 1024
REDACTED: Final = ("redacted", "yes")
_ORIGIN: Final = re.compile(
    r"(?:xmpp-bridge|Prosody|ejabberd|Openfire|slixmpp|by hand)(?:[ ,;]+[0-9][0-9.a-z~+-]*)?",
    re.IGNORECASE | re.ASCII,
)
_HOST: Final = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?: \(TLS\))?")
_URL: Final = re.compile(r"(https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?)(.*)", re.DOTALL)
_LINK: Final = re.compile(r"(open|end)( |\Z)(.*)", re.DOTALL)
_UID: Final = re.compile(r"msg_[0-9a-f]{1,60}(?:-d[0-9a-f]{10})?(?:-\d{1,6})?")
_MEMBERS: Final = frozenset(
    {"uid", "id", "attempt", "start", "duration_s", "request", "status", "headers", "body"}
    | {"body_base64", "failure"}
)
_CONDITIONS: Final = frozenset({condition.value for condition in StreamCondition})


@define
class _Waiting:
    """A record in progress: the number of bytes still to be replaced, and the replaced parts."""

    record: Record
    missing: int
    done: list[bytes] = field(factory=list)

    def ready(self) -> Record:
        return Record(self.record.at, self.record.channel, b"".join(self.done))


class Rewriter:
    """Replaces the values of one capture, or of several that form one story. For each, call
    `header`, then `feed` with each record, then `end`. Not thread-safe.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._tags = Tags(values)
        self._streams: dict[str, Markup] = {}
        self._waiting: deque[_Waiting] = deque()
        self._of_channel: dict[str, deque[_Waiting]] = {}
        self._held_bytes = 0
        self._reset()

    def header(self, header: Header) -> Header:
        """Return a redacted header, with a field that marks it as redacted. If the file continues
        the one before, this may be called at any time; for another component, only after `end`.
        """
        domain = header.domain
        if domain != self._values.domain:
            self._values.use(domain)
            self._tags = Tags(self._values)  # its cache depends on the domain
            self._reset()
        fields = [
            (name, self._field(name, value, domain))
            for name, value in header.fields
            if name != REDACTED[0]
        ]
        origin = header.origin
        if not _ORIGIN.fullmatch(origin):
            origin = self._values.text(origin)
        return evolve(header, origin=origin, fields=(*fields, REDACTED))

    def feed(self, record: Record) -> list[Record]:
        """Take the next record, and return those that are ready, in order. Never fails."""
        channel, size = record.channel, len(record.data)
        if channel in self._streams:
            pieces = self._streams[channel].feed(record.data)
            if not self._waiting and sum(old for old, _ in pieces) == size:  # the usual case
                return [Record(record.at, channel, b"".join([new for _, new in pieces]))]
            waiting = _Waiting(record, size)
            self._of_channel[channel].append(waiting)
            self._wait(waiting)
            self._share(channel, pieces)
            return self._ready()
        before: list[Record] = []
        if channel == LINK and record.data.startswith(b"open"):
            before = self.end()
            self._reset()
        data = self._other(record)
        if not self._waiting:
            return [*before, Record(record.at, channel, data)]
        self._wait(_Waiting(record, 0, [data]))
        return before + self._ready()

    def _wait(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._held_bytes += len(waiting.record.data)

    def end(self) -> list[Record]:
        """Return the records that are held back; nothing follows."""
        for channel, stream in self._streams.items():
            self._share(channel, stream.flush())
        return self._ready()

    def _reset(self) -> None:
        self._streams = {channel: Markup(self._tags) for channel in (IN, OUT)}
        self._of_channel = {channel: deque() for channel in self._streams}

    def _share(self, channel: str, pieces: list[Piece]) -> None:
        """Distribute replaced pieces to the records that their bytes came from."""
        queue = self._of_channel[channel]
        for size, new in pieces:
            taken = 0
            while size > queue[0].missing:
                first = queue.popleft()
                size -= first.missing
                part = new[taken : taken + first.missing]
                taken += len(part)
                first.done.append(part)
                first.missing = 0
            queue[0].done.append(new[taken:])
            queue[0].missing -= size
        while queue and not queue[0].missing:
            queue.popleft()

    def _ready(self) -> list[Record]:
        waiting = self._waiting
        if waiting and waiting[0].missing and self._is_over_limit():
            channel = waiting[0].record.channel
            self._share(channel, self._streams[channel].flush())
        ready = []
        while waiting and not waiting[0].missing:
            one = waiting.popleft()
            self._held_bytes -= len(one.record.data)
            ready.append(one.ready())
        return ready

    def _is_over_limit(self) -> bool:
        return len(self._waiting) > HELD_RECORDS or self._held_bytes > HELD_BYTES

    # --- other channels

    def _other(self, record: Record) -> bytes:
        data = record.data
        if record.channel == LINK:
            return _changed(data, self._link)
        if record.channel in (CHANNEL, API):
            return self._json_record(data)
        return _changed(data, lambda text: self._tags.json.document(text))

    def _link(self, text: str) -> str:
        match = _LINK.fullmatch(text)
        if match is None:
            return self._values.text(text)
        if match[1] == "open":
            rest = match[3] if _HOST.fullmatch(match[3]) else self._values.text(match[3])
        else:
            rest = self._ending(match[3])
        return f"{match[1]}{match[2]}{rest}"

    def _ending(self, why: str) -> str:
        """Replace the reason for which a connection ended or a POST failed; our own words stay."""
        if keeps_reason(why):
            return why
        condition, colon, text = why.partition(":")
        if condition in _CONDITIONS:
            return f"{condition}{colon}{self._values.text(text)}"
        return self._values.text(why)

    def _field(self, name: str, value: str, domain: str) -> str:
        if name in ("repeated", "missing") and value.isdecimal():  # counts of records
            return value
        if name == "server" and _HOST.fullmatch(value):
            return value
        if name == "endpoint" and (match := _URL.fullmatch(value)):
            return match[1] + self._values.text(match[2])
        if name == "continues":
            rest = value.replace(domain, "", 1) if domain else value
            if re.fullmatch(r"(?:[-_.\dTZ]|xcap|gz|zst)*", rest, re.ASCII):
                return value
        return self._values.text(value)

    def _json_record(self, data: bytes) -> bytes:
        try:
            value = msgspec.json.decode(data)
            if isinstance(value, dict):
                return msgspec.json.encode(
                    {self._member_name(key): self._any_depth(key, value) for key in value}
                )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        return _changed(data, lambda text: self._tags.json.document(text))

    def _member_name(self, key: str) -> str:
        return key if key in _MEMBERS else self._tags.json.name(key, "")

    def _any_depth(self, key: str, record: dict[str, Any]) -> Any:
        try:
            return self._member(key, record)
        except RecursionError:  # a stranger's JSON may be as deep as can just be read
            text = msgspec.json.encode(record[key]).decode()
            return msgspec.Raw(self._tags.json.document(text, key).encode())

    def _member(self, key: str, record: dict[str, Any]) -> Any:
        value = record[key]
        if key in ("uid", "id") and isinstance(value, str):
            return value if _UID.fullmatch(value) else self._values.name(value)
        if key in ("attempt", "start", "duration_s", "status") and isinstance(value, int | float):
            return value
        if key == "headers" and isinstance(value, dict):
            return {name: self._answer_header(name, str(text)) for name, text in value.items()}
        if key == "body" and isinstance(value, str):
            return self._answer(value, _media_type(record))
        if key == "body_base64" and isinstance(value, str):
            return self._bytes(value, _media_type(record))
        if key == "failure" and isinstance(value, dict):
            return {
                name: text if name == "kind" else self._ending(str(text))
                for name, text in value.items()
            }
        return self._tags.json.value("", key, value)

    def _answer_header(self, name: str, value: str) -> str:
        if name == "content-type":
            parts = value.split(";")
            return ";".join(
                one if keeps_media_type(one) else self._values.text(one) for one in parts
            )
        return value if keeps_header(name, value) else self._values.text(value)

    def _answer(self, body: str, media_type: str) -> str:
        beginning = body.lstrip(" \t\r\n\ufeff")[:1]
        if "json" in media_type or (beginning in ("{", "[", '"') and "xml" not in media_type):
            return self._tags.json.document(body)
        return change_fragment(self._tags, body)

    def _bytes(self, encoded: str, media_type: str) -> str:
        try:
            body = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return self._values.text(encoded)
        return base64.b64encode(
            _changed(body, lambda text: self._answer(text, media_type))
        ).decode()


def _changed(data: bytes, change: Callable[[str], str]) -> bytes:
    return change(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _media_type(record: dict[str, Any]) -> str:
    headers = record.get("headers")
    return str(headers.get("content-type", "")).lower() if isinstance(headers, dict) else ""


class Redactor(Rewriter):
    """Redacts captures of one story: the same names and words get the same pseudonyms, which
    depend on the key alone. For `avoid`, see `pseudonym`; the words `keep` stay in texts.
    """

    def __init__(self, key: bytes, avoid: Avoid | None = None, keep: KeptWords = NO_WORDS) -> None:
        """`key` has at least 16 bytes. Anyone who has it can find out the originals."""
        super().__init__(Values(Pseudonyms(key, avoid), keep))
