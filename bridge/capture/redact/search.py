"""Searches a redacted capture for strings that must be hidden. An independent check: it shares
only the tables of `vocabulary` with the redactor.

It searches all texts and attribute values in XML, all JSON, `link` lines and the header, whatever
their escapes and letter case, and across chunks. It does not search values that the tables keep, in
the places where they keep them; the domains of addresses; and names of elements and attributes.
"""

import html
import re
from typing import Any, Final

import msgspec

from bridge.capture.exchange import API, CHANNEL
from bridge.capture.format import IN, LINK, OUT, Header, Record
from bridge.capture.redact import vocabulary
from bridge.capture.redact.hidden import Hidden
from bridge.capture.redact.rewriter import Rewriter
from bridge.capture.redact.value import PIECE, Values
from xmppstream import StreamCondition

_JOIN_BYTES: Final = 256 * 1024
_DECLARATION: Final = re.compile(r"<\?xml\s[^<>]*\?>")
_MARKUP: Final = re.compile(
    r"<!\[CDATA\[|\]\]>"
    rf"|<(?:[^\s<>/:=]+:)?({'|'.join(vocabulary.elements_with_texts())}|value)(?:\s[^<>]*)?>([^<]*)(?=</)"
    r"|</?[^\s/>\"'<=!?]+"
    r"|(?<![^\s=\"'<>/])([^\s=\"'<>/]+)\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')"
)


class Survey(Values):
    """Changes nothing, and adds all values to `hidden`."""

    def __init__(self, hidden: Hidden) -> None:
        self.domain = ""
        self.attribute = self._attribute
        self.address = self._address
        self.words = 0
        """Number of words, numbers and pictographs in texts."""
        self.addresses = 0
        """Number of addresses that have a local part or a resource."""
        self._hidden = hidden

    def use(self, domain: str) -> None:
        self.domain = domain

    def text(self, text: str) -> str:
        words = PIECE.findall(text)
        self.words += len(words)
        self._hidden.add_words(words)
        return text

    def digest(self, text: str) -> str:
        return text

    def secret(self, text: str) -> str:
        return self.text(text)

    def name(self, name: str) -> str:
        return name

    def _local(self, local: str) -> str:
        self._hidden.add_local(local)
        return local

    def _resource(self, resource: str) -> str:
        return resource

    def _address(self, address: str) -> str:
        self.addresses += "@" in address or "/" in address
        return super()._address(address)


def surveyor(survey: Survey) -> Rewriter:
    """Return a rewriter that feeds `survey`."""
    return Rewriter(survey)


_KNOWN: Final = frozenset(
    {"uid", "id", "attempt", "content-type", "retry-after", "request", "headers", "failure", "why"}
    | {"start", "duration_s", "body_base64"}
)
_CONDITIONS: Final = frozenset(condition.value for condition in StreamCondition)


class Search:
    """Searches a header and records as a `Redactor` returns them; `found` holds the findings."""

    def __init__(self, hidden: Hidden, limit: int = 10_000) -> None:
        self.found: dict[str, str] = {}
        """The first place of each hidden word or local part; at most `limit` entries."""
        self._hidden = hidden
        self._limit = limit
        self._rest: dict[str, tuple[bytes, float]] = {}
        self._place = ""
        self._domain = ""

    def header(self, header: Header) -> None:
        """Search a header."""
        self._place, self._domain = "the header", header.domain
        for name, value in header.fields:
            if name == "endpoint":
                self._text(re.sub(r"^https?://[^/?#]*", "", value))
            elif name not in ("server", "redacted"):
                self._text(value.replace(header.domain, ""))

    def feed(self, record: Record) -> None:
        """Search the next record."""
        channel = record.channel
        self._place = f"the record at {record.at:.6f} ({channel})"
        if channel in (IN, OUT):
            data = self._rest.pop(channel, (b"", 0.0))[0] + record.data
            end = max(data.rfind(b"</"), 0) if len(data) < _JOIN_BYTES else len(data)
            self._xml(data[:end].decode("utf-8", "replace"))
            self._rest[channel] = data[end:], record.at
        elif channel == LINK:
            self.end()
            self._link(record.data.decode("utf-8", "replace"))
        else:
            self._json(record.data, channel in (CHANNEL, API))

    def end(self) -> None:
        """Search the data that was held back to be joined."""
        for channel, (data, at) in self._rest.items():
            self._place = f"the record at {at:.6f} ({channel})"
            self._xml(data.decode("utf-8", "replace"))
        self._rest.clear()

    # --- kinds of data

    def _text(self, text: str) -> None:
        for one in self._hidden.found(html.unescape(text) if "&" in text else text):
            if len(self.found) < self._limit:
                self.found.setdefault(one, self._place)

    def _address(self, address: str, known: bool) -> None:
        """Search an address, or a value that looks like one; domains are not searched."""
        head, _, resource = html.unescape(address).removeprefix("xmpp:").partition("/")
        local, at, _ = head.partition("@")
        self._text("" if resource == vocabulary.RESOURCE else resource)
        if at and (known or any(map(str.isalnum, local))) and self._hidden.has_local(local):
            self.found.setdefault(f"@{local.casefold()}", self._place)
        if at or "." not in head:
            self._text(local if at else head.replace("localhost", ""))

    def _xml(self, text: str) -> None:
        text = _MARKUP.sub(self._markup, _DECLARATION.sub("", text))
        self._text(text)

    def _markup(self, match: re.Match[str]) -> str:
        """Search an attribute's value, and return the rest, to be searched as text."""
        element, whole, name = match[1], match[2], match[3]
        if element is not None:
            meant = html.unescape(whole)
            kept = (
                (vocabulary.keeps_form_type(meant) or meant == vocabulary.BLANK)
                if element == "value"
                else vocabulary.keeps_text(element, meant, self._domain)
            )
            return " " if kept else f" {whole}"
        if name is None:
            return " " if match[0].startswith("<") and match[0] != "<![CDATA[" else ""
        value = match[4] if match[4] is not None else match[5]
        self._attribute(name, html.unescape(value))
        return " "

    def _attribute(self, name: str, value: str) -> None:
        if vocabulary.keeps_attribute(name, value, self._domain):
            return
        if vocabulary.local_name(name) in vocabulary.URLS:
            value = vocabulary.URL_SCHEME.sub("", value, count=1)
        known = vocabulary.local_name(name) in vocabulary.ADDRESSES
        if known or "@" in value:
            self._address(value, known)
        else:
            self._text(value)

    def _link(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "end" and not vocabulary.keeps_reason(rest):
            condition, _, text = rest.partition(":")
            self._text(text if condition in _CONDITIONS else rest)

    def _json(self, data: bytes, known: bool) -> None:
        try:
            self._value("", "", msgspec.json.decode(data), known)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._text(data.decode("utf-8", "replace"))

    def _value(self, outer: str, key: str, value: Any, known: bool, free: str = "") -> None:
        match value:
            case dict():
                free = vocabulary.FREE_OBJECTS.get(key) or free
                is_form_type = value.get("var") == vocabulary.FORM_TYPE
                for name, one in value.items():
                    if known and not outer and not key and name in _KNOWN:
                        continue
                    if free:
                        self._attribute(free, name)
                    elif name not in vocabulary.JSON_KEYS | _KNOWN:
                        self._text(name)
                    if name in ("value", "values"):
                        name = vocabulary.FORM_TYPE if is_form_type else name
                        name = "password" if one == vocabulary.BLANK else name
                    is_own = not free or name in (vocabulary.FORM_TYPE, *vocabulary.SECRETS)
                    self._value(key, name if is_own else key, one, known, free)
            case list():
                for one in value:
                    self._value(outer, key, one, known, free)
            case str():
                self._string(outer, key, value)
            case int() | float() if not isinstance(value, bool):
                self._text(str(value) if key not in ("start", "duration_s", "status") else "")

    def _string(self, outer: str, key: str, text: str) -> None:
        place = vocabulary.place_of(outer, key)
        if vocabulary.keeps_json(outer, key, text, self._domain):
            return
        if place.attribute:
            self._attribute(place.attribute, text)
        elif key in ("stanza", "html") or (key == "body" and text.lstrip()[:1] == "<"):
            self._xml(text)
        elif key == "why":
            self._link(f"end {text}")
        elif key == "body" and text.lstrip()[:1] in ("{", "["):
            self._json(text.encode("utf-8", "replace"), known=False)
        else:
            self._text(text)
