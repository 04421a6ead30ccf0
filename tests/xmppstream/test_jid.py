"""Addresses (RFC 7622 §3.1)."""

from __future__ import annotations

import pytest

from xmppstream.errors import LocalError
from xmppstream.jid import InvalidJid, Jid, bare, domain_of, same_domain, split

GOOD = {
    "example.com": Jid("", "example.com", ""),
    "a@example.com": Jid("a", "example.com", ""),
    "a@example.com/r": Jid("a", "example.com", "r"),
    "example.com/r": Jid("", "example.com", "r"),
    "a@example.com/r@x/y": Jid("a", "example.com", "r@x/y"),
    "example.com/a@b": Jid("", "example.com", "a@b"),
    "a@example.com/ r ": Jid("a", "example.com", " r "),
    "a@[::1]/r": Jid("a", "[::1]", "r"),
    "a@127.0.0.1": Jid("a", "127.0.0.1", ""),
    "A.b!#$%*+-=?^_`{|}~@Example.COM": Jid("A.b!#$%*+-=?^_`{|}~", "Example.COM", ""),
    "жанна@bücher.example/чат": Jid("жанна", "bücher.example", "чат"),
    "localhost": Jid("", "localhost", ""),
    "a\\20b@example.com": Jid("a\\20b", "example.com", ""),
}

BAD = {
    "": "domain is empty",
    "@example.com": "local part is empty",
    "@@bad": "local part is empty",
    "a@": "domain is empty",
    "a@/r": "domain is empty",
    "/r": "domain is empty",
    "a@example.com/": "resource is empty",
    "a@b@c": "domain contains",
    "a b@example.com": "local part contains",
    'a"b@example.com': "local part contains",
    "a&b@example.com": "local part contains",
    "a'b@example.com": "local part contains",
    "a:b@example.com": "local part contains",
    "a<b@example.com": "local part contains",
    "a>b@example.com": "local part contains",
    "a\u00a0b@example.com": "local part contains",
    "a\u200bb@example.com": "local part contains",
    "a\x00@example.com": "local part contains",
    "a@exa mple.com": "domain contains",
    "a@example.com\n": "domain contains",
    "a@[::1": "domain contains",
    "a@example.com/r\x01": "resource contains",
    "a@example.com/r\x7f": "resource contains",
    "a@example.com/\ud800": "resource contains",
    "a@example.com/\uffff": "resource contains",
    "a@example.com.": "empty label",
    "a@.example.com": "empty label",
    "a@example..com": "empty label",
    "a@.": "empty label",
}


@pytest.mark.parametrize("address", GOOD)
def test_split(address: str) -> None:
    assert split(address) == GOOD[address]


@pytest.mark.parametrize("address", GOOD)
def test_str_joins_what_split_took_apart(address: str) -> None:
    assert str(split(address)) == address


@pytest.mark.parametrize("address", BAD)
def test_split_refuses(address: str) -> None:
    with pytest.raises(InvalidJid, match=BAD[address]):
        split(address)


@pytest.mark.parametrize(
    "form",
    ["{}@example.com", "{}", "a@{}", "a@example.com/{}"],
    ids=["local", "host", "dom", "res"],
)
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_part_has_1023_bytes_at_most(form: str, letter: str) -> None:
    width = len(letter.encode())
    fits = letter * (1023 // width) + "x" * (1023 % width)
    split(form.format(fits))
    with pytest.raises(InvalidJid, match="longer than 1023 bytes"):
        split(form.format(fits + "x"))


def test_invalid_jid_is_the_callers_mistake_and_a_value_error() -> None:
    assert issubclass(InvalidJid, LocalError)
    assert issubclass(InvalidJid, ValueError)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("a@b/c", "a@b"), ("b/c", "b"), ("a@b", "a@b"), ("b", "b"), ("b/c/d@e", "b")],
)
def test_bare(address: str, expected: str) -> None:
    assert bare(address) == expected
    assert split(address).bare == expected


@pytest.mark.parametrize(
    ("address", "expected"), [("a@b/c", "b"), ("b/c@d", "b"), ("a@b", "b"), ("b", "b")]
)
def test_domain_of(address: str, expected: str) -> None:
    assert domain_of(address) == expected
    assert split(address).domain == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("bot.example", "bot.example", True),
        ("BOT.example", "bot.Example", True),
        ("BÜCHER.example", "bücher.example", True),
        ("bot.example", "bot.example.", False),
        ("bot.example", "other.example", False),
        ("", "bot.example", False),
    ],
)
def test_same_domain(one: str, other: str, same: bool) -> None:
    assert same_domain(one, other) is same
