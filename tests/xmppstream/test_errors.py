"""Conditions, and the exceptions by who erred."""

from __future__ import annotations

from enum import StrEnum

import pytest

from xmppstream.errors import (
    ErrorType,
    LocalError,
    RemoteError,
    StanzaCondition,
    StreamCondition,
    XmppError,
)


@pytest.mark.parametrize("kind", [StreamCondition, StanzaCondition, ErrorType])
def test_values_are_spelled_as_on_the_wire(kind: type[StrEnum]) -> None:
    assert all(one.value == one.name.lower().replace("_", "-") for one in kind)


@pytest.mark.parametrize(
    ("kind", "count"), [(StreamCondition, 25), (StanzaCondition, 22), (ErrorType, 5)]
)
def test_all_that_rfc_6120_defines_are_there(kind: type[StrEnum], count: int) -> None:
    assert len(kind) == count


@pytest.mark.parametrize(
    ("text", "expected"), [("why", "not-well-formed: why"), ("", "not-well-formed")]
)
def test_a_remote_error_names_its_condition(text: str, expected: str) -> None:
    error = RemoteError(StreamCondition.NOT_WELL_FORMED, text)
    assert str(error) == expected
    assert (error.condition, error.text) == (StreamCondition.NOT_WELL_FORMED, text)


def test_local_and_remote_errors_are_apart() -> None:
    assert issubclass(LocalError, XmppError)
    assert issubclass(RemoteError, XmppError)
    assert not issubclass(RemoteError, LocalError)
