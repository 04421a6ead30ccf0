"""Classes of characters that may replace each other: of one script, one kind, one UTF-8 length.

A class holds lower-case letters (upper case belongs to it, and stays upper case), letters without
case, digits, or pictographs. All members have the same length in UTF-8, and either all of them or
none change under NFKC. So a valid part of a JID stays valid.

Words are replaced by `quiet` letters only: the letters that words of a script cannot do without
(for Latin the vowels) are left out, so that no real word arises by chance.
"""

import unicodedata
from functools import lru_cache
from typing import Final

from attrs import frozen

_LATIN: Final = "abcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = "0123456789"
_QUIET: Final = {
    "LATIN": frozenset("bcdfghjklmnpqrstvwxz"),
    "CYRILLIC": frozenset("бвгджзклмнпрстфхцчшщ"),
    "GREEK": frozenset("βγδζθκλμνξπρτφχψ"),
    "HEBREW": frozenset("גדזחטסעפצק"),
    "ARABIC": frozenset("ثجحخدذزشصضطظغفقك"),
}
_WHOLE_BLOCKS: Final = (
    range(0x3400, 0x4DC0),  # CJK, extension A
    range(0x4E00, 0xA000),  # CJK
    range(0xAC00, 0xD7A4),  # Hangul
    range(0x20000, 0x2A6E0),  # CJK, extension B
)
_BLOCK: Final = 128  # no block of that size has characters of two UTF-8 lengths
_TWO_BYTES: Final = range(0x80, 0x800)
_RARE_BLOCK: Final = 4096


@frozen
class Letter:
    """A character as a member of its class: `alphabet[index]`, in upper case if `upper`."""

    alphabet: str
    index: int
    upper: bool = False


@lru_cache(maxsize=32_768)
def letter_of(character: str) -> Letter | None:
    """Return the class of a letter, digit or pictograph; None for other characters, which stay."""
    if not character.isalnum() and not _is_pictograph(character):
        return None
    lower = character.lower()
    upper = lower != character and _is_pair(lower, character)
    alphabet = _alphabet(lower if upper else character)
    return Letter(alphabet, alphabet.index(lower if upper else character), upper)


@lru_cache(maxsize=1024)
def quiet(alphabet: str) -> str:
    """Return the letters of an alphabet that words are replaced by."""
    letters = _QUIET.get(_script(alphabet[0]), frozenset())
    kept = "".join(character for character in alphabet if character in letters)
    return kept if len(kept) >= 8 else alphabet


@lru_cache(maxsize=4096)
def _alphabet(character: str) -> str:
    if character in _LATIN:
        return _LATIN
    if character in _DIGITS:
        return _DIGITS
    wanted = _kind(character)
    return _members(_range(ord(character), wanted), wanted)


@lru_cache(maxsize=1024)
def _members(block: range, wanted: "_Kind") -> str:
    return "".join(one for one in map(chr, block) if _kind(one) == wanted)


def _range(number: int, kind: "_Kind") -> range:
    """Return the range that holds the other members of a character's class."""
    for block in _WHOLE_BLOCKS:
        if number in block:
            return block
    is_rare = kind.category not in ("Lo", "So", "Nd") and not kind.is_paired
    if is_rare and number < _TWO_BYTES.stop:
        return _TWO_BYTES
    size = _RARE_BLOCK if is_rare else _BLOCK
    start = number - number % size
    return range(max(start, _TWO_BYTES.stop) if is_rare else start, start + size)


@frozen
class _Kind:
    category: str
    script: str
    is_paired: bool
    is_stable: bool
    bidirectional: str


def _kind(character: str) -> _Kind:
    category = unicodedata.category(character)
    if category == "Lu" and _is_pair(character.lower(), character):
        category = "of a pair"  # in the class of its lower case
    upper = character.upper()
    return _Kind(
        category,
        _script(character),
        category == "Ll" and upper != character and _is_pair(character, upper),
        unicodedata.normalize("NFKC", character) == character,
        unicodedata.bidirectional(character),
    )


def _is_pair(lower: str, upper: str) -> bool:
    """Return whether two characters are each other's lower and upper case, of the same length."""
    return (
        lower != upper
        and len(lower) == len(upper) == 1
        and lower.upper() == upper
        and upper.lower() == lower
        and len(lower.encode()) == len(upper.encode())
    )


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


def _is_pictograph(character: str) -> bool:
    return "\U0001f000" <= character <= "\U0001faff" and unicodedata.category(character) == "So"
