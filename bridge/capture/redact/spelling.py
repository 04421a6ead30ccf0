"""Texts with escaped characters: `&#x6a;` in XML, `\\u006a` in JSON.

A text is decoded and replaced by one of as many characters. Each new character is then escaped like
the one that it replaces, so that the length stays. A word cannot hide behind an escape, nor behind
the edge of a CDATA section.
"""

import re
from collections.abc import Callable
from typing import Final

from attrs import frozen

Change = Callable[[str], str]

_XML: Final = re.compile(
    r"<!\[CDATA\[((?:[^\]]|\](?!\]>))*)\]\]>"
    r"|&(?:(amp|lt|gt|quot|apos)|#([0-9]{1,20})|#x([0-9A-Fa-f]{1,20}));"
)
_JSON: Final = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\(.)",
    re.DOTALL,
)
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_NAME_OF: Final = {character: name for name, character in _NAMED.items()}
_SHORT: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_OPAQUE: Final = "\ufffc"  # stands for an escape of an invalid character


@frozen
class _Spelt:
    """A character, its source, and a function that escapes its replacement (None: no escape)."""

    character: str
    source: str
    spell: Callable[[str], str] | None = None


def change_xml(raw: str, change: Change) -> str:
    """Apply `change` to a decoded text or attribute value of XML, and escape the result."""
    if "&" not in raw and "<" not in raw:
        return change(raw)
    spelt: list[_Spelt] = []
    at = 0
    for match in _XML.finditer(raw):
        spelt += map(_plain, raw[at : match.start()])
        spelt += _spelt_xml(match)
        at = match.end()
    spelt += map(_plain, raw[at:])
    return _changed(spelt, change, _escape_xml)


def change_json(raw: str, change: Change) -> str:
    """Apply `change` to the decoded inside of a JSON string, and escape the result."""
    if "\\" not in raw:
        return _respelt(raw, change(raw))
    spelt: list[_Spelt] = []
    at = 0
    for match in _JSON.finditer(raw):
        spelt += map(_plain, raw[at : match.start()])
        spelt.append(_spelt_json(match))
        at = match.end()
    spelt += map(_plain, raw[at:])
    return _changed(spelt, change, _escape_json)


def meaning_of_json(raw: str) -> str:
    """Return the decoded inside of a JSON string."""
    found: list[str] = []

    def take(text: str) -> str:
        found.append(text)
        return text

    change_json(raw, take)
    return found[0]


def _respelt(raw: str, changed: str) -> str:
    return changed if len(changed) == len(raw) else "".join(map(_escape_json, changed))


def _changed(spelt: list[_Spelt], change: Change, escape: Callable[[str], str]) -> str:
    signs = [one for one in spelt if one.character]
    old = "".join(one.character for one in signs)
    new = change(old)
    if len(new) != len(old):
        return "".join(map(escape, new))
    characters = iter(new)
    return "".join(
        _written(one, next(characters)) if one.character else one.source for one in spelt
    )


def _written(one: _Spelt, character: str) -> str:
    if character == one.character:
        return one.source
    return character if one.spell is None else one.spell(character)


def _plain(character: str) -> _Spelt:
    return _Spelt(character, character)


def _spelt_xml(match: re.Match[str]) -> list[_Spelt]:
    source = match[0]
    if match[2]:
        return [_Spelt(_NAMED[match[2]], source, _escape_xml)]
    if match[3] or match[4]:
        number = int(match[3] or match[4], 10 if match[3] else 16)
        if number == 0 or number > 0x10FFFF or 0xD800 <= number < 0xE000:
            return [_Spelt(_OPAQUE, source)]
        return [_Spelt(chr(number), source, _numbered(source))]
    return [_Spelt("", "<![CDATA["), *map(_plain, match[1]), _Spelt("", "]]>")]


def _numbered(source: str) -> Callable[[str], str]:
    """Return a function that writes numeric references, with as many digits as `source` if they
    suffice.
    """
    if source[2] == "x":
        return lambda character: f"&#x{ord(character):0{len(source) - 4}x};"
    return lambda character: f"&#{ord(character):0{len(source) - 3}d};"


def _spelt_json(match: re.Match[str]) -> _Spelt:
    source = match[0]
    if match[1]:
        pair = bytes.fromhex(match[1][2:6] + match[1][8:12])
        return _Spelt(pair.decode("utf-16-be"), source, _spell_units)
    if match[2]:
        character = chr(int(match[2], 16))
        if "\ud800" <= character <= "\udfff":
            character = _OPAQUE
        return _Spelt(character, source, _spell_units)
    return _Spelt(_SHORT.get(match[3], match[3]), source, _escape_json)


def _spell_units(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _escape_xml(character: str) -> str:
    name = _NAME_OF.get(character)
    return character if name is None else f"&{name};"


def _escape_json(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return f"\\u{ord(character):04x}" if character < " " else character
