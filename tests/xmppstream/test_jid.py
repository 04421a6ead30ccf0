"""Addresses (RFC 7622 §3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmppstream.errors import LocalError
from xmppstream.jid import (
    InvalidJid,
    Jid,
    bare,
    domain_of,
    escape_local,
    fold,
    fold_domain,
    same_domain,
    split,
    to_ascii,
    unescape_local,
)

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
        ("faß.de", "fass.de", False),
        ("faß.de", "FAẞ.DE", True),
        ("faß.de", "xn--fa-hia.de", True),
        ("FASS.de", "faß.de", False),
        ("xn--fa-hia.de", "XN--FA-HIA.de", True),
        ("ς.example", "\u03c3.example", False),
        ("\u03c3.example", "Σ.example", True),
        ("bücher.example", "bu\u0308cher.example", True),
        ("bot.example", "\uff42ot\u3002example", True),
        (
            "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example",
            "\u0646\u0627\u0645\u0647\u0627\u06cc.example",
            False,
        ),
        ("fa\u200d.de", "fa.de", False),
        ("fa\u200d.de", "FA\u200d.de", True),
        ("a_b.ü.example", "A_B.Ü.example", True),
        ("\u0131.example", "i.example", False),
        ("ü" * 600, "Ü" * 600, True),
    ],
)
def test_same_domain(one: str, other: str, same: bool) -> None:
    assert same_domain(one, other) is same
    assert same_domain(other, one) is same


@given(st.text(), st.text())
@settings(derandomize=True, deadline=None)
def test_domains_in_a_common_spelling_are_the_same(one: str, other: str) -> None:
    assert same_domain(one, one)
    assert same_domain(one, other) == (fold_domain(one) == fold_domain(other))
    assert fold_domain(fold_domain(one)) == fold_domain(one)


@given(st.text())
@settings(derandomize=True, deadline=None)
def test_any_domain_in_ascii_or_a_fault(text: str) -> None:
    try:
        domain = to_ascii(text)
    except InvalidJid:
        return
    assert domain.isascii()
    assert to_ascii(domain) == domain


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("faß.de", "xn--fa-hia.de"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("Example.COM", "Example.COM"),
        ("xn--zz.de", "xn--zz.de"),
        ("_xmpp.ü.example", "_xmpp.xn--tda.example"),
        ("", ""),
    ],
)
def test_to_ascii(domain: str, expected: str) -> None:
    assert to_ascii(domain) == expected


@pytest.mark.parametrize("domain", ["☃.example", "fa\u200d.de", "ü" * 64, "a\u00b7b.example"])
def test_what_idna_2008_forbids(domain: str) -> None:
    with pytest.raises(InvalidJid):
        to_ascii(domain)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Romeo@Example.com/R", "romeo@example.com/R", True),
        ("romeo@example.com/R", "romeo@example.com/r", False),
        ("straße@example.com", "strasse@example.com", False),
        ("STRAẞE@example.com", "straße@example.com", True),
        ("a@faß.de/ß", "a@xn--fa-hia.de/ß", True),
        ("a@faß.de", "a@fass.de", False),
        ("ju\u0308rgen@ü.de/a\u0308", "jürgen@xn--tda.de/\u00e4", True),
        ("xn--tda.de", "ü.de", True),
    ],
)
def test_fold(one: str, other: str, same: bool) -> None:
    assert (fold(one) == fold(other)) is same


# --- XEP-0106


@pytest.mark.parametrize(
    ("text", "local"),
    [
        # The examples of XEP-0106 §5.
        ("space cadet", r"space\20cadet"),
        ('call me "ishmael"', r"call\20me\20\22ishmael\22"),
        ("at&t guy", r"at\26t\20guy"),
        ("d'artagnan", r"d\27artagnan"),
        ("/.fanboy", r"\2f.fanboy"),
        ("::foo::", r"\3a\3afoo\3a\3a"),
        ("<foo>", r"\3cfoo\3e"),
        ("user@host", r"user\40host"),
        (r"c:\net", r"c\3a\net"),
        (r"c:\\net", r"c\3a\\net"),
        (r"c:\cool stuff", r"c\3a\cool\20stuff"),
        (r"c:\5commas", r"c\3a\5c5commas"),
        ("romeo", "romeo"),
        (r"foo\bar", r"foo\bar"),
        ("ü", "ü"),
    ],
)
def test_a_local_part_is_escaped_and_unescaped(text: str, local: str) -> None:
    assert escape_local(text) == local
    assert unescape_local(local) == text
    assert split(f"{local}@a.example").local == local


@pytest.mark.parametrize("text", [" a", "a ", " "])
def test_a_space_at_the_end_has_no_escape(text: str) -> None:
    with pytest.raises(InvalidJid, match="begins or ends with a space"):
        escape_local(text)
    assert unescape_local(text.replace(" ", r"\20")) == text.replace(" ", r"\20")


@given(st.text("ab \"&'/:<>@\\2045cf", max_size=12).map(lambda text: text.strip(" ")))
def test_what_is_escaped_is_unescaped_to_the_same(text: str) -> None:
    local = escape_local(text)
    assert not set(local) & set(" \"&'/:<>@")
    assert unescape_local(local) == text
