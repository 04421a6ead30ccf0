"""The strings that a capture must not reveal: local parts, and words of four or more letters.

Letter case does not count. They are kept in a Bloom filter of a fixed size, however large the
capture is. A member is always found; false positives are rare (one in a million, at a million
words). So a pseudonym may be avoided needlessly, and the findings of a search must be confirmed.
"""

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from bridge.capture.redact.keep import NO_WORDS, KeptWords

WORD_LENGTH: Final = 4
_SIZE_BYTES: Final = 16 * 1024 * 1024
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_LETTERS_OR_DIGITS: Final = re.compile(r"[^\W_]+")
_LOCAL_LIKE: Final = re.compile(r"[^\s\"&'/:<>@]+")
_EDGE: Final = ".,;:!?()[]{}*_-~…"
_ADDRESSED: Final = "@"
_RECENT: Final = 32_768


class Hidden:
    """A set of words and local parts, with false positives but no false negatives."""

    def __init__(self, size_bytes: int = _SIZE_BYTES, keep: KeptWords = NO_WORDS) -> None:
        """`size_bytes` is a power of two. The words `keep` are not hidden in texts."""
        self.keep = keep
        self._filter = bytearray(size_bytes)
        self._recent: set[str] = set()  # added recently
        self._absent: set[str] = set()  # looked up recently, and without anything hidden

    def add_words(self, words: Iterable[str]) -> None:
        """Add the runs of letters that are long enough to be distinctive."""
        for word in set(words) - self._recent:
            if len(word) >= WORD_LENGTH and not self.keep.has(word):
                self._add(word.casefold())
            _remember(self._recent, word)

    def add_local(self, local: str) -> None:
        """Add a local part. If it is distinctive, it is looked for in texts, too."""
        addressed = _ADDRESSED + local
        if addressed in self._recent:
            return
        _remember(self._recent, addressed)
        self._add(addressed.casefold())
        if is_telling(local):
            self._add(local.casefold())

    def has_local(self, local: str) -> bool:
        """Return whether this is a local part to be hidden."""
        return self._has(_ADDRESSED + local.casefold())

    def found(self, text: str) -> Iterator[str]:
        """Yield the parts of a text that must be hidden, in lower case."""
        for run in set(_LOCAL_LIKE.findall(text)) - self._absent:
            found = [token for token in tokens(run.casefold()) if self._has(token)]
            if not found:
                _remember(self._absent, run)
            yield from found

    def avoids(self, pseudonym: str) -> bool:
        """Return whether a pseudonym, in lower case, must not be used."""
        return self.has_local(pseudonym) or self.keep.has(pseudonym) or any(self.found(pseudonym))

    def _add(self, item: str) -> None:
        self._absent.clear()
        for at in self._places(item):
            self._filter[at >> 3] |= 1 << (at & 7)

    def _has(self, item: str) -> bool:
        return all(self._filter[at >> 3] & 1 << (at & 7) for at in self._places(item))

    def _places(self, item: str) -> tuple[int, int, int, int]:
        data = item.encode("utf-8", "replace")
        digest = int.from_bytes(blake2b(data, digest_size=16).digest())
        low = 8 * len(self._filter) - 1
        return digest & low, digest >> 32 & low, digest >> 64 & low, digest >> 96 & low


class Suspects(Hidden):
    """Confirms findings of a `Hidden`: those that are added again end up in `confirmed`."""

    def __init__(self, suspects: frozenset[str], keep: KeptWords = NO_WORDS) -> None:
        super().__init__(1, keep)
        self._suspects = suspects
        self.confirmed: set[str] = set()

    def _add(self, item: str) -> None:
        if item in self._suspects:
            self.confirmed.add(item)


def is_telling(local: str) -> bool:
    """Return whether a local part is distinctive enough to be looked for in a text: it has three
    characters and among them a letter, or six and among them a digit.
    """
    if len(local) >= 6:
        return any(map(str.isalnum, local))
    return len(local) >= 3 and any(map(str.isalpha, local))


def tokens(run: str) -> Iterator[str]:
    """Yield the candidates for hidden words and local parts in a run of characters that are valid
    in a local part: the run itself, and its runs of letters, and of letters and digits.
    """
    yield run
    if run.isalpha():
        return
    bare = run.strip(_EDGE)
    if bare != run:
        yield bare
    for part in _LETTERS_OR_DIGITS.findall(run):
        yield part
        if not part.isalpha():
            yield from _LETTERS.findall(part)


def _remember(recent: set[str], item: str) -> None:
    if len(recent) >= _RECENT:
        recent.clear()
    recent.add(item)
