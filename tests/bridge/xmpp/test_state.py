"""The small state of a component in memory, and its bounds."""

import pytest

from bridge.xmpp.state import (
    KEY_LIMIT_BYTES,
    VALUE_LIMIT_BYTES,
    MemoryState,
    StateTooLarge,
)


def test_entries_are_by_kind_and_key() -> None:
    state = MemoryState()
    state.put("room", "b", b"1")
    state.put("room", "a", b"2")
    state.put("contact", "a", b"3")
    assert list(state.entries("room").items()) == [("a", b"2"), ("b", b"1")]
    assert (state.get("contact", "a"), state.get("contact", "b")) == (b"3", None)
    state.delete("room", "a")
    state.delete("room", "a")
    assert state.entries("room") == {"b": b"1"}
    assert state.entries("other") == {}


def test_entries_are_a_copy() -> None:
    state = MemoryState()
    state.put("room", "a", b"1")
    found = state.entries("room")
    state.put("room", "a", b"2")
    assert found == {"a": b"1"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ü" * (KEY_LIMIT_BYTES // 2) + "a", b""),
        ("a", b"x" * (VALUE_LIMIT_BYTES + 1)),
    ],
)
def test_what_is_too_long_is_refused_and_changes_nothing(key: str, value: bytes) -> None:
    state = MemoryState()
    state.put("room", "a", b"1")
    with pytest.raises(StateTooLarge):
        state.put("room", key, value)
    assert state.entries("room") == {"a": b"1"}


def test_what_is_as_long_as_it_may_be_is_kept() -> None:
    state = MemoryState()
    state.put("room", "a" * KEY_LIMIT_BYTES, b"x" * VALUE_LIMIT_BYTES)
    assert len(state.entries("room")) == 1
