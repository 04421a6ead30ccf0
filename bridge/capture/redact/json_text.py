"""Redacts JSON as text, valid or not: strings, numbers and words are replaced, the syntax stays.

Values of the bridge's own keys (`to`, `type`, `stanza`, …) are replaced like those of the stanza,
so that a reply still makes the stanza that was sent. A `body` that is a number or a boolean is
written as a string if its pseudonym is not a number: it makes the same stanza that way.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bridge.capture.redact.spelling import change_json, meaning_of_json
from bridge.capture.redact.value import Values
from bridge.capture.redact.vocabulary import (
    FORM_TYPE,
    FREE_OBJECTS,
    JSON_KEYS,
    SECRETS,
    keeps_json,
    place_of,
)

_TOKEN: Final = re.compile(
    r"\"((?:[^\"\\]|\\.)*)(\"|\Z|\\\Z)(\s*:)?"
    r"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[^\W\d_]\w*)"
    r"|([\[\]{},])|[^\W_]+",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LITERALS: Final = ("true", "false", "null")
_MARKUP_KEYS: Final = frozenset({"stanza", "html"})
_HASH_KEYS: Final = frozenset({"vcard_update", "photo"})


class Json:
    """Replaces the values in JSON. `fragment` replaces those in a piece of XML."""

    def __init__(self, values: Values, fragment: Callable[[str], str]) -> None:
        self.values = values
        self._fragment = fragment

    def document(self, text: str, key: str = "") -> str:
        """Replace the values in a JSON text, which is that of `key`; anything that is not JSON is
        replaced as text.
        """
        return _Document(self, key).change(text)

    def value(self, outer: str, key: str, value: Any, free: str = "") -> Any:
        """Replace a decoded value of `key` in `outer`. `free`: see `FREE_OBJECTS`."""
        match value:
            case str():
                return self.string(outer, key, value)
            case list():
                return [self.value(outer, key, one, free) for one in value]
            case dict():
                free = FREE_OBJECTS.get(key) or free
                var = value.get("var")
                return {
                    self.name(one, free): self.value(
                        key, _key(key, one, free, var), value[one], free
                    )
                    for one in value
                }
            case None | bool():
                return value
            case _ if key in SECRETS:
                return self.values.secret(str(value))
            case _:
                literal = str(value)
                if keeps_json(outer, key, literal):
                    return value
                return msgspec.Raw(self.document(literal).encode())

    def name(self, key: str, free: str) -> str:
        """Replace a key, unless it is one of the bridge."""
        if free:
            return self.values.attribute(free, key)
        return key if key in JSON_KEYS else self.values.text(key)

    def string(self, outer: str, key: str, text: str) -> str:
        """Replace the string value of a key, in the object of the key `outer`."""
        if key in _MARKUP_KEYS:
            return self._fragment(text)
        if keeps_json(outer, key, text, self.values.domain):
            return text
        if key in SECRETS:
            return self.values.secret(text)
        place = place_of(outer, key)
        if place.attribute:
            return self.values.attribute(place.attribute, text)
        return self.values.digest(text) if key in _HASH_KEYS else self.values.whole_text(text)


def _key(outer: str, key: str, free: str, var: Any) -> str:
    """Return the key by which the value of `key` is replaced. `var` is that of a form's field."""
    if key in ("value", "values") and isinstance(var, str) and (var == FORM_TYPE or var in SECRETS):
        return var
    return outer if free and key != FORM_TYPE and key not in SECRETS else key


class _Document:
    """A JSON text that is being replaced. `_key` is the last key in the open object, which is the
    value of `_outer`.
    """

    def __init__(self, json: Json, key: str) -> None:
        self._json = json
        self._outer, self._key, self._free = "", key, ""
        self._var, self._is_list = "", False
        self._stack: list[tuple[str, str, str, str, bool]] = []

    def change(self, text: str) -> str:
        return _TOKEN.sub(self._token, text)

    def _token(self, match: re.Match[str]) -> str:
        if match[1] is not None:
            return self._string(match)
        if match[4] is not None:
            return self._literal(match[4])
        if match[5] is None:
            return self._json.values.text(match[0])
        self._structure(match[5])
        return match[5]

    def _structure(self, sign: str) -> None:
        if sign in "{[":
            around = self._outer, self._key, self._free, self._var, self._is_list
            self._stack.append(around)
            self._is_list = sign == "["
            if sign == "{":
                self._free = FREE_OBJECTS.get(self._key) or self._free
                self._outer, self._key, self._var = self._key, "", ""
        elif sign == ",":
            self._key = self._key if self._is_list else ""
        elif self._stack:
            around = self._stack.pop()
            self._outer, self._key, self._free, self._var, self._is_list = around

    def _string(self, match: re.Match[str]) -> str:
        raw, quote, colon = match[1], match[2], match[3]
        if colon:
            meant = meaning_of_json(raw)
            self._key = _key(self._outer, meant, self._free, self._var)
            raw = change_json(raw, lambda text: self._json.name(text, self._free))
        else:
            if self._key == "var":
                self._var = meaning_of_json(raw)
            raw = change_json(raw, lambda text: self._json.string(self._outer, self._key, text))
        return f'"{raw}{quote}{colon or ""}'

    def _literal(self, literal: str) -> str:
        if literal == "null" or (literal in _LITERALS and self._key != "body"):
            return literal
        if self._key in SECRETS and literal not in _LITERALS:
            return f'"{self._json.values.secret(literal)}"'
        if keeps_json(self._outer, self._key, literal):
            return literal
        values = self._json.values
        new = values.whole_text(literal) if self._key == "body" else values.text(literal)
        if new == literal:
            return literal
        if self._key == "body" and (literal in _LITERALS or not _NUMBER.fullmatch(new)):
            return f'"{new}"'
        if _NUMBER.fullmatch(literal) and not _NUMBER.fullmatch(new):
            return re.sub(r"\d", "7", literal)
        return new
