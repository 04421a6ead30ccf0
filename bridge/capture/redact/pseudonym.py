"""Pseudonyms computed from a key: irreversible for words, distinct for names.

Both have as many characters as the original, each of the same class (`alphabet`); characters other
than letters, digits and pictographs stay. No table grows: pseudonyms are computed, and caches are
bounded.

- A *word* is hashed (keyed BLAKE2). None of its characters stays in its place, so no part of a word
  can be seen, however it was cut. Two words may get the same pseudonym.
- A *name* (local part, resource, id) is permuted: all names of one shape form one cycle, and a name
  is replaced by the next one, under a keyed Feistel network. So two names never become the same,
  and none stays unchanged. Upper and lower case are one name; the letters' case is kept.

`avoid` returns whether a pseudonym must not be used, because it is itself hidden elsewhere. A word
is then hashed again; a name becomes two characters longer, and begins with one of `MARKS`. No other
pseudonym begins like that (names that do are made longer, too), so names stay distinct.
"""

import re
from collections.abc import Callable
from hashlib import blake2b, shake_256
from itertools import accumulate
from math import isqrt, prod
from operator import mul
from typing import Final

from attrs import frozen

from bridge.capture.redact.alphabet import Letter, letter_of, quiet
from bridge.capture.redact.vocabulary import RESOURCE

MIN_KEY_BYTES: Final = 16
MARKS: Final = ("qx", "qz", "qj", "qk", "qv", "qw")
WORD_LIMIT: Final = 256
"""Longer runs of letters are treated as several words."""
_ROUNDS: Final = 8
_LOCAL_LIMIT_BYTES: Final = 1023
_OPAQUE_LENGTH: Final = 16  # letters and digits of an id with 2**50 values or more, which is hashed
_TRIES: Final = 20
_ENTITIES: Final = ("lt", "gt")  # `&ab;` must stay an entity that XML does not define
_CACHE: Final = 16_384
_CACHED_LENGTH: Final = 64
_ESCAPE: Final = re.compile(r"\\(?:2[0267f]|3[ace]|40|5c)", re.IGNORECASE)  # XEP-0106 §4.2
_PUNCTUATION: Final = "!#$%()*+,-.;=?[]^_`{|}~"

Avoid = Callable[[str], bool]
"""Called with a pseudonym, or a part of one, in lower case; returns whether to avoid it."""


class _Cache(dict[str, str]):
    """Pseudonyms of recent strings; forgets all of them when there are too many."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, old: str) -> str:
        new = self._make(old)
        if len(old) <= _CACHED_LENGTH:
            if len(self) >= _CACHE:
                self.clear()
            self[old] = new
        return new


class Pseudonyms:
    """Computes pseudonyms under one key (at least 16 bytes). Not thread-safe."""

    def __init__(self, key: bytes, avoid: Avoid | None = None) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a key must have at least {MIN_KEY_BYTES} bytes")
        self._key = blake2b(key, digest_size=32, person=b"xmpp-bridge").digest()
        self._avoid = avoid
        self._tables: dict[str, str] = {}
        self._first_digits = {c: _table("123456789".replace(c, "")) for c in "0123456789"}
        self.words = _Cache(self._make_word)
        """Pseudonyms of runs of letters, runs of digits, and pictographs, computed on lookup."""
        self._names = _Cache(self._make_name)

    def name(self, name: str) -> str:
        """Return the pseudonym of a name; no other name has it."""
        return self._names[name]

    def opaque(self, name: str) -> str:
        """Return the pseudonym of an id, hashed if the id is long enough to rule out collisions."""
        if sum(map(str.isalnum, name)) < _OPAQUE_LENGTH:
            return self.name(name)
        return self.words[name]

    def digest(self, text: str) -> str:
        """Return a SHA-1 hash, in hexadecimal, in place of another one."""
        return self._digest(text, 20).hex()

    def _make_word(self, word: str) -> str:
        made = self._hashed(word, "")
        tries = 0
        while tries < _TRIES and self._is_unfit(made):
            tries += 1
            made = self._hashed(word, f"\0{tries}")
        return made

    def _is_unfit(self, made: str) -> bool:
        return made in _ENTITIES or (self._avoid is not None and self._avoid(made.casefold()))

    def _hashed(self, word: str, salt: str) -> str:
        digest = self._digest(word.lower() + salt, len(word))
        if word[0] in self._first_digits:  # JSON numbers must not begin with 0
            first = self._first_digits[word[0]][digest[0]]
            return first + "".join(map(self._other, word[1:], digest[1:]))
        return "".join(map(self._other, word, digest))

    def _digest(self, text: str, size: int) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        if size <= 64:
            return blake2b(data, key=self._key, digest_size=max(size, 1)).digest()
        return shake_256(self._key + data).digest(size)

    def _other(self, character: str, byte: int) -> str:
        """Return another character of the same class, one of 256 (with repetitions)."""
        table = self._tables.get(character)
        if table is None:
            table = self._tables[character] = self._table_of(character)
        return table[byte]

    def _table_of(self, character: str) -> str:
        letter = letter_of(character)
        if letter is None:
            return character * 256
        own = letter.alphabet[letter.index]
        others = quiet(letter.alphabet).replace(own, "") or letter.alphabet.replace(own, "") or own
        if len(others) > 256:
            at = int.from_bytes(self._digest(f"\0{character}", 8)) % len(others)
            others = (others[at:] + others[:at])[:256]
        return _table(others.upper() if letter.upper else others)

    # --- names

    def _make_name(self, name: str) -> str:
        shape = _shape_of(name)
        if shape is None:
            return name
        if not _is_reserved(name):
            made = self._permuted(shape, "")
            if self._avoid is None or not self._avoid(made.casefold()):
                return made
        if len(name.encode("utf-8", "surrogatepass")) + len(MARKS[0]) > _LOCAL_LIMIT_BYTES:
            return self._permuted(shape, "")
        for mark in MARKS:
            made = mark + self._permuted(shape, mark)
            if self._avoid is None or not self._avoid(made.casefold()):
                break
        return made

    def _permuted(self, shape: "_Shape", mark: str) -> str:
        """Return the next allowed name of the cycle; after a mark, reserved ones are allowed."""
        numbers = shape.numbers
        while True:
            numbers = self._next(shape, numbers, mark)
            made = shape.written(numbers)
            if (mark or not _is_reserved(made)) and shape.fits(made):
                return made

    def _next(self, shape: "_Shape", numbers: tuple[int, ...], tweak: str) -> tuple[int, ...]:
        """Go one step along the cycle of all names of one shape: P⁻¹(P(x) + 1)."""
        size = prod(shape.radices)
        side = isqrt(size - 1) + 1  # P permutes numbers below side²; repeated until below size
        pattern = (shape.pattern + tweak).encode("utf-8", "surrogatepass")
        number = self._permute(_joined(numbers, shape.radices), side, pattern)
        while number >= size:
            number = self._permute(number, side, pattern)
        number = self._permute_back((number + 1) % size, side, pattern)
        while number >= size:
            number = self._permute_back(number, side, pattern)
        return _split(number, shape.radices)

    def _permute(self, number: int, side: int, pattern: bytes) -> int:
        left, right = divmod(number, side)
        for turn in range(0, _ROUNDS, 2):
            left = (left + self._round(turn, right, side, pattern)) % side
            right = (right + self._round(turn + 1, left, side, pattern)) % side
        return left * side + right

    def _permute_back(self, number: int, side: int, pattern: bytes) -> int:
        left, right = divmod(number, side)
        for turn in range(_ROUNDS - 2, -1, -2):
            right = (right - self._round(turn + 1, left, side, pattern)) % side
            left = (left - self._round(turn, right, side, pattern)) % side
        return left * side + right

    def _round(self, turn: int, number: int, modulus: int, pattern: bytes) -> int:
        data = b"%d %x %s" % (turn, number, pattern)
        size = (modulus.bit_length() + 7) // 8 + 8
        if size <= 64:
            return int.from_bytes(blake2b(data, key=self._key, digest_size=size).digest())
        return int.from_bytes(shake_256(self._key + data).digest(size))


def _is_reserved(name: str) -> bool:
    """Return whether only a pseudonym that was made longer may begin like `name`."""
    return name[:2].lower().startswith(MARKS) or name.lower() == RESOURCE


@frozen
class _Shape:
    """The part of a name that stays, and the numbers of the letters that are replaced.

    `characters` are all characters of the name, `letters` those to be replaced, by position.
    """

    characters: tuple[str, ...]
    letters: tuple[tuple[int, Letter], ...]
    pattern: str
    escapes: int
    numbers: tuple[int, ...]
    radices: tuple[int, ...]

    def written(self, numbers: tuple[int, ...]) -> str:
        """Return the name of this shape that has these numbers."""
        characters = list(self.characters)
        for (at, letter), number in zip(self.letters, numbers, strict=True):
            one = letter.alphabet[number]
            characters[at] = one.upper() if letter.upper else one
        return "".join(characters)

    def fits(self, made: str) -> bool:
        """Return whether a name has no XEP-0106 escape that its original does not have."""
        return "\\" not in made or len(_ESCAPE.findall(made)) == self.escapes


def _shape_of(name: str) -> _Shape | None:
    """Return the shape of a name; None if nothing in it can be replaced."""
    escapes = [match.span() for match in _ESCAPE.finditer(name)]
    kept = {at for start, end in escapes for at in range(start, end)}
    letters = [
        (at, letter)
        for at, character in enumerate(name)
        if at not in kept and (letter := letter_of(character)) is not None
    ]
    if not letters:
        letters = [
            (at, Letter(_PUNCTUATION, _PUNCTUATION.index(character)))
            for at, character in enumerate(name)
            if character in _PUNCTUATION
        ]
    if not letters:
        return None
    pattern = list(name)
    for at, letter in letters:
        pattern[at] = f"\0{letter.alphabet[0]}"
    radices = tuple(len(letter.alphabet) for _, letter in letters)
    return _Shape(
        tuple(name),
        tuple(letters),
        "".join(pattern),
        len(escapes),
        tuple(letter.index for _, letter in letters),
        radices,
    )


def _joined(numbers: tuple[int, ...], radices: tuple[int, ...]) -> int:
    weights = accumulate(radices, mul, initial=1)
    return sum(number * weight for number, weight in zip(numbers, weights, strict=False))


def _split(number: int, radices: tuple[int, ...]) -> tuple[int, ...]:
    numbers = []
    for radix in radices:
        number, rest = divmod(number, radix)
        numbers.append(rest)
    return tuple(numbers)


def _table(alphabet: str) -> str:
    return (alphabet * (256 // len(alphabet) + 1))[:256]
