"""The words that redaction keeps because the reader asked for them: those of a command bot.

A word is kept where it stands alone in a text: between white space, with nothing but punctuation
around it. `order` is kept in `/order 42` and in `Order!`, but not in `reorder`, `order2`,
`order-list`, `order@example.com` or `@order`. Letter case does not count. Words are kept in texts
only: names, addresses and the values of attributes are replaced as without them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final, Self

from attrs import frozen

from bridge.telemetry.text import printable

MAX_WORDS: Final = 1000
"""With as many words as a dictionary has, nothing would be redacted."""
MAX_LENGTH: Final = 40
MAX_DIGITS: Final = 5
TEXT_LIMIT: Final = 1000
"""In longer texts, in characters, no word is kept: a command is short."""
_EDGE: Final = "/!?.,:;()[]{}\"'\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2026*_~-+#|>"
_SIGNS: Final = "/!."
"""Signs that a command may begin with; they stay in any case, as all punctuation does."""
_JOINS: Final = re.compile("[-_'\u2019]")
_SPACE: Final = re.compile(r"(\s+)")
_LONG_NUMBER: Final = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")


_LETTERS: Final = re.compile(r"[^\W\d_]+")


class UnsafeWord(Exception):
    """A word that must not be kept, or no word; the message is a sentence without its full stop."""


@frozen
class KeptWords:
    """The words to be kept, in the form in which they are compared."""

    words: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    """The runs of letters in them."""

    @classmethod
    def of(cls, words: Iterable[str]) -> Self:
        """Return these words, which are valid."""
        folded = frozenset(map(_folded, words))
        return cls(folded, frozenset(part for one in folded for part in _LETTERS.findall(one)))

    def __bool__(self) -> bool:
        return bool(self.words)

    def change(self, text: str, replace: Callable[[str], str]) -> str:
        """Apply `replace` to everything in a complete text, except to the words to be kept."""
        if not self.words or len(text) > TEXT_LIMIT:
            return replace(text)
        parts = _SPACE.split(text)
        return "".join(one if self._is_kept(one) else replace(one) for one in parts)

    def has(self, word: str) -> bool:
        """Return whether this is one of them, or a run of letters in one."""
        folded = _folded(word)
        return folded in self.words or folded in self.parts

    def _is_kept(self, part: str) -> bool:
        return _folded(part.strip(_EDGE)) in self.words


NO_WORDS: Final = KeptWords()


def parse_words(text: str) -> KeptWords:
    """Read a list of words: one per line, and comments behind `#`.

    Raises:
        UnsafeWord: if a line is not a word, or the word would defeat redaction; or if there is no
            word, or too many.
    """
    words: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word:
            words.add(_checked(word.lstrip(_SIGNS), word, number))
    if not words:
        raise UnsafeWord("there is no word in it: write one word per line")
    if len(words) > MAX_WORDS:
        raise UnsafeWord(
            f"{len(words):,} words; at most {MAX_WORDS:,} can be kept: list only those of commands"
        )
    return KeptWords.of(words)


def _checked(word: str, given: str, number: int) -> str:
    shown = f"line {number}: {printable(given[:MAX_LENGTH])!r}"
    if "@" in given:
        raise UnsafeWord(f"{shown} looks like an address; addresses are never kept")
    if len(given.split()) > 1:
        raise UnsafeWord(f"{shown} has several words: write one word per line")
    if len(word) > MAX_LENGTH:
        raise UnsafeWord(f"{shown}… has {len(word):,} characters, a word at most {MAX_LENGTH}")
    if _LONG_NUMBER.search(word):
        why = f"a number of more than {MAX_DIGITS} digits, as telephones and accounts have"
        raise UnsafeWord(f"{shown} has {why}; it is not kept")
    if "." in word or ":" in word or "/" in word:
        raise UnsafeWord(f"{shown} looks like a domain or a URL; it is not kept")
    if not all(map(_is_plain, _JOINS.split(word))):
        raise UnsafeWord(f"{shown} is not a word: use letters and digits, with - _ or ' within")
    return word


def _is_plain(part: str) -> bool:
    """Return whether a part of a word has letters and digits (and their marks) only."""
    return part[:1].isalnum() and all(
        one.isalnum() or unicodedata.category(one).startswith("M") for one in part
    )


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", word.casefold())
