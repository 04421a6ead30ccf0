"""Redacts XML in chunks, cut anywhere, well-formed or not: names and markup stay.

This is a tokeniser, not a parser: anything that it does not understand is text, and all text is
replaced. So broken input stays broken in the same place, and reveals no more than other input.

Input that may continue in the next chunk is held back: an unfinished tag, the last word of a text.
At most `HOLD_BYTES` are held; anything longer is treated as text.
"""

import re
from functools import lru_cache
from typing import Final

from attrs import frozen

from bridge.capture.redact.json_text import Json
from bridge.capture.redact.spelling import change_xml
from bridge.capture.redact.value import PIECE, Values
from bridge.capture.redact.vocabulary import (
    FORM_TYPE,
    SECRETS,
    TEXT_LIMIT,
    keeps_form_type,
    keeps_text,
    local_name,
    may_keep_text,
)

HOLD_BYTES: Final = 1024 * 1024
_HOLD_TEXT_BYTES: Final = 64 * 1024
_CDATA: Final = b"<![CDATA["
_CDATA_END: Final = b"]]>"
_RUN: Final = re.compile(rb"(?:[^<]++|<!\[CDATA\[(?:[^\]]++|\](?!\]>))*+\]\]>)++")
_TAG: Final = re.compile(rb"<(?![!?])[^<>\"']*+(?:(?:\"[^<\"]*+\"|'[^<']*+')[^<>\"']*+)*+>")
_DECLARATION: Final = re.compile(
    rb"<\?xml(?:\s+(?:version|standalone)\s*=\s*(?:'[0-9a-z.]{0,5}'|\"[0-9a-z.]{0,5}\")"
    rb"|\s+encoding\s*=\s*['\"](?i:utf|iso|us-ascii|windows|latin|koi|shift|euc|big|gb|ucs)[-\w]*['\"])*"
    rb"\s*\?>"
)
_SPECIAL: Final = re.compile(rb"<!--|<!\[?[A-Z]{0,12}\[?|<\?(?:xml(?=[\s?]))?")
_UNDECIDED: Final = re.compile(rb"<(?:!\[?[A-Z]{0,12}|!-|\?[^<>]{0,200}\??)?\Z")
_NAME: Final = re.compile(r"<[^\s/>\"'<=]*")
_END_TAG: Final = re.compile(r"</[^\s/>\"'<=]+\s*>")
_PART: Final = re.compile(r"([^\s=\"'<>/]+)(\s*=\s*)(?:\"([^\"]*)\"|'([^']*)')|[^\s=\"'<>/]+")
_WORD_BYTES: Final = bytes(
    byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum() or byte in b"&#;"
)
_CUT_CHARACTER: Final = re.compile("[\udc80-\udcff]{1,3}\\Z")  # as decoded with `surrogateescape`
_CACHED_BYTES: Final = 256
_JSON: Final = "json"  # XEP-0335
_HASH: Final = "photo"  # XEP-0153

Piece = tuple[int, bytes]
"""A number of input bytes, and their replacement."""


@frozen
class _Tag:
    """A replaced tag. `element` is the local name of the element that it opens, if any."""

    written: bytes
    element: str
    field: str = ""
    """The `var` of a form's field that it opens, if its values are not like others."""
    closes: str = ""
    """The local name of the element that it ends."""


class Tags:
    """Replaces the values in tags. Streams may share an instance, and so its cache."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.json = Json(values, lambda text: change_fragment(self, text))
        self._cached = lru_cache(4096)(self._change)

    def change(self, raw: bytes) -> _Tag:
        """Replace the attributes of a tag; in a broken tag, everything except names."""
        return self._cached(raw) if len(raw) <= _CACHED_BYTES else self._change(raw)

    def _change(self, raw: bytes) -> _Tag:
        text = raw.decode("utf-8", "surrogateescape")
        if _END_TAG.fullmatch(text):
            return _Tag(raw, "", closes=local_name(text[2:-1].strip()))
        head = _NAME.match(text)
        name = head[0] if head else ""
        rest = _PART.sub(self._part, text[len(name) :])
        element = "" if text.endswith("/>") else local_name(name[1:])
        field = ""
        if element == "field":
            field = FORM_TYPE if FORM_TYPE in rest else _secret_in(text[len(name) :])
        return _Tag((name + rest).encode("utf-8", "surrogateescape"), element, field)

    def _part(self, match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return self.values.text(match[0])
        single = match[3] is None
        value = match[4] if single else match[3]
        if "&" in value:
            value = change_xml(value, lambda meant: self.values.attribute(name, meant))
        else:
            value = self.values.attribute(name, value)
        quote = "'" if single else '"'
        return f"{name}{match[2]}{quote}{value}{quote}"


class Markup:
    """Replaces the values in one stream, chunk by chunk."""

    def __init__(self, tags: Tags, *, is_fragment: bool = False) -> None:
        """A fragment is complete, so that a text at its beginning or its end is a whole one."""
        self._tags = tags
        self._values = tags.values
        self._is_fragment = is_fragment
        self._is_fresh = is_fragment  # whether the next text is one from its beginning
        self._rest = bytearray()
        self._in_tag = False  # whether an unfinished tag is held back
        self._in_cdata = False
        self._is_whole = False  # whether the text that is being replaced is complete
        self._element = ""  # the element that the last tag opened
        self._form_type = 0  # 1 after <field var='FORM_TYPE'>, 2 in its <value>
        self._is_secret_field = False  # after <field var='password'>
        self._is_blanked = False  # whether a secret is being left out
        self._pieces: list[Piece] = []
        self._even: list[bytes] = []  # replacements of unchanged length, to be joined to one piece

    @property
    def held_bytes(self) -> int:
        """Number of bytes held back."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Piece]:
        """Take bytes, and return the pieces that are complete, in order."""
        self._rest += data
        if self._in_tag and b">" not in data and b"<" not in data and self.held_bytes < HOLD_BYTES:
            return []
        return self._run(final=self.held_bytes >= HOLD_BYTES)

    def flush(self) -> list[Piece]:
        """Return the rest, as if nothing followed."""
        return self._run(final=True)

    def _run(self, *, final: bool) -> list[Piece]:
        rest, at = self._rest, 0
        self._in_tag = False
        while at < len(rest):
            end = self._take_cdata(at, final) if self._in_cdata else self._take(at, final)
            if end == at:
                break
            at = end
        del rest[:at]
        self._settle()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _take(self, at: int, final: bool) -> int:
        """Replace the token at `at`, and return its end; return `at` if the token may go on."""
        rest = self._rest
        tag = _TAG.match(rest, at)
        if tag is not None:
            return self._take_tag(at, tag.end())
        run = _RUN.match(rest, at)
        if run is not None:
            return self._take_text(at, run.end(), final)
        if rest.startswith(_CDATA, at):
            if not final and len(rest) - at < _HOLD_TEXT_BYTES:
                return at
            self._in_cdata, self._is_fresh = True, False
            return self._put(at, at + len(_CDATA), _CDATA)
        if not final and _UNDECIDED.match(rest, at):
            return at
        if rest[at + 1 : at + 2].startswith((b"!", b"?")):
            return self._take_special(at)
        end = rest.find(b"<", at + 1)
        if end < 0:
            if not final:
                self._in_tag = True
                return at
            end = len(rest)
        return self._take_tag(at, end)

    def _take_tag(self, at: int, end: int) -> int:
        tag = self._tags.change(bytes(self._rest[at:end]))
        self._element = tag.element
        self._is_fresh = True
        self._is_blanked = False
        if tag.element == "field" or tag.closes == "field":
            self._is_secret_field = tag.field in SECRETS
        if tag.field == FORM_TYPE:
            self._form_type = 1
        else:
            self._form_type = 2 if self._form_type == 1 and tag.element == "value" else 0
        return self._put(at, end, tag.written)

    def _take_special(self, at: int) -> int:
        """Take the beginning of markup that a stream must not hold; its inside is read as text."""
        self._is_fresh = False
        found = _DECLARATION.match(self._rest, at) or _SPECIAL.match(self._rest, at)
        end = found.end() if found else at + 1
        return self._put(at, end, bytes(self._rest[at:end]))

    def _take_text(self, at: int, end: int, final: bool) -> int:
        rest = self._rest
        behind = bytes(rest[end : end + len(_CDATA)])  # a CDATA section would continue the text
        if not final and _CDATA.startswith(behind):
            end = self._settled_end(at, end)
            if end == at:
                return at
        text = rest[at:end].decode("utf-8", "surrogateescape")
        is_end = len(behind) > 1 and behind[1:2] != b"!" and end < len(rest)
        self._is_whole = self._is_fresh and (is_end or (self._is_fragment and end == len(rest)))
        self._is_fresh = False
        new = change_xml(text, self._change_text)
        return self._put(at, end, new.encode("utf-8", "surrogateescape"))

    @property
    def _is_secret(self) -> bool:
        """Whether a text is a secret's."""
        return self._element in SECRETS or (self._is_secret_field and self._element == "value")

    def _blank(self, text: str) -> str:
        """Replace a piece of a secret: the first one stands for all."""
        blank = self._values.secret(text)
        is_first, self._is_blanked = not self._is_blanked, True
        return blank if is_first else ""

    def _change_text(self, text: str) -> str:
        if self._is_secret:
            return self._blank(text)
        if self._element == _JSON:
            return self._tags.json.document(text, "data")
        if self._may_stay and (
            keeps_form_type(text)
            if self._form_type == 2
            else keeps_text(self._element, text, self._values.domain)
        ):
            return text
        if self._element == _HASH:
            return self._values.digest(text)
        return self._values.whole_text(text) if self._is_whole else self._values.text(text)

    @property
    def _may_stay(self) -> bool:
        return self._form_type == 2 or may_keep_text(self._element)

    def _settled_end(self, at: int, end: int) -> int:
        """Return the end of the part of a text that does not depend on the bytes after it."""
        text = bytes(self._rest[at:end])
        if self._may_stay and len(text) <= TEXT_LIMIT:
            return at
        if self._element == _JSON and len(text) < _HOLD_TEXT_BYTES:
            return at
        if self._values.keep and self._is_fresh and len(text) < _HOLD_TEXT_BYTES:
            return at
        if end < len(self._rest) or b"<" in text:  # a CDATA section, or the beginning of one
            return at if len(self._rest) - at < _HOLD_TEXT_BYTES else end
        tail = text[len(text.rstrip(_WORD_BYTES)) :]
        if not tail:
            return end
        if b"&" in tail and len(tail) < _HOLD_TEXT_BYTES:
            return end - len(tail)
        return end - _open_bytes(tail)

    def _take_cdata(self, at: int, final: bool) -> int:
        rest = self._rest
        end = rest.find(_CDATA_END, at)
        if end >= 0:
            self._in_cdata = False
            self._put(at, end, self._words(at, end))
            return self._put(end, end + len(_CDATA_END), _CDATA_END)
        end = len(rest)
        if not final:
            text = bytes(rest[at:]).rstrip(b"]")
            end = at + len(text)
            end -= _open_bytes(text[len(text.rstrip(_WORD_BYTES)) :])
        return end if end == at else self._put(at, end, self._words(at, end))

    def _words(self, at: int, end: int) -> bytes:
        text = self._rest[at:end].decode("utf-8", "surrogateescape")
        new = self._blank(text) if self._is_secret else self._values.text(text)
        return new.encode("utf-8", "surrogateescape")

    def _put(self, at: int, end: int, new: bytes) -> int:
        if len(new) == end - at:
            self._even.append(new)
        else:
            self._settle()
            self._pieces.append((end - at, new))
        return end

    def _settle(self) -> None:
        if self._even:
            new = b"".join(self._even)
            self._pieces.append((len(new), new))
            self._even.clear()


def _secret_in(attributes: str) -> str:
    """Return the `var` in the attributes of a form's field, if that is a secret."""
    for match in _PART.finditer(attributes):
        value = match[3] if match[3] is not None else match[4]
        if match[1] == "var" and value in SECRETS:
            return value
    return ""


def change_fragment(tags: Tags, text: str) -> str:
    """Replace the values in a complete piece of XML."""
    markup = Markup(tags, is_fragment=True)
    data = text.encode("utf-8", "surrogatepass")
    pieces = markup.feed(data) + markup.flush()
    return b"".join(new for _, new in pieces).decode("utf-8", "surrogateescape")


def _open_bytes(tail: bytes) -> int:
    """Return how many bytes at the end of a text may be part of a longer word or character."""
    text = tail.decode("utf-8", "surrogateescape")
    start = len(_CUT_CHARACTER.sub("", text))
    for match in PIECE.finditer(text):
        start = match.start()
    return len(text[start:].encode("utf-8", "surrogateescape"))
