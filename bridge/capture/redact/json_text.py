"""Redacts JSON as text, valid or not: strings, numbers and words are replaced, the syntax stays.

Values of the bridge's own keys (`to`, `type`, `stanza`, …) are replaced like those of the stanza,
so that a reply still makes the stanza that was sent. A `body` that is a number or a boolean is
written as a string if its pseudonym is not a number: it makes the same stanza that way.
"""

import re
from typing import Final

from bridge.capture.redact.markup import Tags, change_fragment
from bridge.capture.redact.spelling import change_json, meaning_of_json
from bridge.capture.redact.value import is_address
from bridge.capture.redact.vocabulary import JSON_KEYS

_TOKEN: Final = re.compile(
    r"\"((?:[^\"\\]|\\.)*)(\"|\Z|\\\Z)(\s*:)?"
    r"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[^\W\d_]\w*)"
    r"|([\[\]{},])|[^\W_]+",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LITERALS: Final = ("true", "false", "null")
_STANZA_KEYS: Final = {
    **{key: key for key in ("to", "from", "kind", "type", "id", "received", "event", "timestamp")},
    **dict.fromkeys(
        ("uid", "ref", "replace", "retract", "receipt", "displayed", "origin_id"), "id"
    ),
}
"""Keys whose values are replaced like those of an attribute."""


def change_document(tags: Tags, text: str) -> str:
    """Replace the values in a JSON text; anything that is not JSON is replaced as text."""
    return _Document(tags).change(text)


def change_string(tags: Tags, key: str, text: str) -> str:
    """Replace the string value of a key."""
    values = tags.values
    if key in _STANZA_KEYS:
        return values.attribute(_STANZA_KEYS[key], text)
    if key == "stanza" or (key != "body" and text.lstrip()[:1] == "<"):
        return change_fragment(tags, text)
    if key != "body" and is_address(text):
        return values.address(text)
    return values.text(text)


class _Document:
    """A JSON text that is being replaced; `_key` is the last key in the open object."""

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._key = ""

    def change(self, text: str) -> str:
        return _TOKEN.sub(self._token, text)

    def _token(self, match: re.Match[str]) -> str:
        if match[1] is not None:
            return self._string(match)
        if match[4] is not None:
            return self._literal(match[4])
        if match[5] is None:
            return self._tags.values.text(match[0])
        if match[5] in ",{}":
            self._key = ""
        return match[5]

    def _string(self, match: re.Match[str]) -> str:
        raw, quote, colon = match[1], match[2], match[3]
        if colon:
            self._key = meaning_of_json(raw)
            if self._key not in JSON_KEYS:
                raw = change_json(raw, self._tags.values.text)
        else:
            raw = change_json(raw, lambda text: change_string(self._tags, self._key, text))
        return f'"{raw}{quote}{colon or ""}'

    def _literal(self, literal: str) -> str:
        if literal == "null" or (literal in _LITERALS and self._key != "body"):
            return literal
        new = self._tags.values.text(literal)
        if self._key == "body" and (literal in _LITERALS or not _NUMBER.fullmatch(new)):
            return f'"{new}"'
        if _NUMBER.fullmatch(literal) and not _NUMBER.fullmatch(new):
            return re.sub(r"\d", "7", literal)
        return new
