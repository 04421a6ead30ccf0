"""Tokens of `reply_url`: what is signed is read again; what was altered is not."""

import base64
import hmac
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.payload.stub import Stub
from bridge.webhook.reply_url import TOKEN_LIMIT, Promise, is_signed, make_token, promise_of

KEY: Final = b"k" * 32
STUB: Final = Stub("message", "chat", "juliet@capulet.example/balcony", "echo@bot.example", "m1")
PROMISE: Final = Promise("bot.example", "msg_1", 1_700_000_900, STUB)
TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
MAYBE: Final = st.none() | TEXT


def token(promise: Promise = PROMISE, key: bytes = KEY) -> str:
    made = make_token(key, promise)
    assert made is not None
    return made


@given(
    st.builds(
        Promise,
        TEXT,
        TEXT,
        st.integers(0, 2**40),
        st.builds(
            Stub,
            st.sampled_from(["message", "presence", "iq"]),
            *(MAYBE, MAYBE, MAYBE, MAYBE),
            st.lists(st.tuples(TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple), TEXT))
            .map(tuple)
            .filter(lambda children: len(repr(children)) < 500),
        ),
    )
)
def test_what_is_signed_is_read_again(promise: Promise) -> None:
    made = make_token(KEY, promise)
    if made is not None:
        assert set(made) <= set("-_.") | set(map(chr, range(128)))
        assert made.isascii()
        assert "/" not in made
        assert is_signed(KEY, made)
        assert promise_of(made) == promise


def test_it_is_for_urls_and_short() -> None:
    assert len(token()) < 220


def test_every_altered_token_is_refused() -> None:
    good = token()
    assert is_signed(KEY, good)
    for place in range(len(good)):
        for other in "A-_.b":
            if good[place] != other:
                assert not is_signed(KEY, good[:place] + other + good[place + 1 :])
        assert not is_signed(KEY, good[:place] + good[place + 1 :])
    for bad in (good + "A", good + "=", good + ".", "." + good, good * 2, good[::-1]):
        assert not is_signed(KEY, bad)


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "1", "1.", "é.ü", "\ud800.x", "1" * 100, "1.eA", "x" * (TOKEN_LIMIT + 1)]
)
def test_what_is_no_token_is_refused(bad: str) -> None:
    assert not is_signed(KEY, bad)


def test_another_key_does_not_do() -> None:
    assert not is_signed(b"x" * 32, token())
    assert not is_signed(KEY, token(key=b"x" * 32))


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, two: bytes) -> bool:
        compared.append((one, two))
        return compare_digest(one, two)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for given_ in (token(), "1abc.def", "nothing", ""):
        is_signed(KEY, given_)
    assert [two for _, two in compared] == [
        *(one.rpartition(".")[2].encode() for one in (token(), "1abc.def", "nothing", "")),
    ]
    assert {len(one) for one, _ in compared} == {43}


def test_another_form_is_not_read() -> None:
    """A later bridge may sign other things with the same key."""
    for head in (b"2" + token()[1:].rpartition(".")[0].encode(), b"1" + b"AAAA", b"1!", b""):
        digest = hmac.digest(KEY, b"xmpp-bridge reply_url\0" + head, "sha256")
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=")
        forged = (head + b"." + signature).decode()
        assert is_signed(KEY, forged)
        assert promise_of(forged) is None


def test_a_thread_is_left_out_if_it_is_too_long() -> None:
    name = "{jabber:component:accept}thread"
    stub = Stub("message", "chat", "a@b", "c@d", "1", ((name, (), "t" * TOKEN_LIMIT),))
    found = promise_of(token(Promise("d", "u", 1, stub)))
    assert found is not None
    assert found.request == Stub("message", "chat", "a@b", "c@d", "1")


@pytest.mark.parametrize("size", range(TOKEN_LIMIT - 80, TOKEN_LIMIT, 7))
def test_no_token_is_too_long(size: int) -> None:
    made = make_token(KEY, Promise("d", "u", 1, Stub("message", None, None, None, "x" * size)))
    assert made is None or len(made) <= TOKEN_LIMIT
    small = size * 3 // 4 - 60
    fits = make_token(KEY, Promise("d", "u", 1, Stub("message", None, None, None, "x" * small)))
    assert fits is not None
    assert is_signed(KEY, fits)
