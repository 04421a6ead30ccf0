"""What people fill in, field by field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.form import TEXT_LIMIT, CommandField, read_fields
from bridge.xmpp.command.value import VALUES_LIMIT, WrongValue, checked, checked_form


def field(**keys: Any) -> CommandField:
    faults: list[object] = []
    [one] = read_fields([{"var": "v", **keys}], lambda *fault: faults.append(fault))
    assert not faults
    return one


OPTIONS = ["s", {"value": "l", "label": "large"}]


@pytest.mark.parametrize(
    ("keys", "given", "expected"),
    [
        ({}, ["x"], ["x"]),
        ({}, [" x "], ["x"]),
        ({}, ["", " "], []),
        ({"required": True}, [" "], "this is required."),
        ({}, ["a", "b"], "give one value only."),
        ({"type": "text-multi"}, ["a\nb", "c"], ["a", "b", "c"]),
        ({"type": "text-multi"}, ["a", "", "b"], ["a", "", "b"]),
        ({"type": "text-multi", "required": True}, ["", " "], "this is required."),
        ({"type": "boolean"}, ["1"], ["true"]),
        ({"type": "boolean"}, ["No"], ["false"]),
        ({"type": "boolean"}, ["maybe"], "answer yes or no."),
        ({"type": "jid-single"}, ["a@b/c"], ["a@b/c"]),
        ({"type": "jid-single"}, ["a@@"], "this is not an address such as name@example.com."),
        ({"type": "jid-multi"}, ["a@b", "c"], ["a@b", "c"]),
        ({"options": OPTIONS}, ["l"], ["l"]),
        ({"options": OPTIONS}, ["large"], "choose one of the options."),
        ({"options": OPTIONS, "type": "list-multi"}, ["l", "s"], ["l", "s"]),
        ({"validate": "integer"}, ["-12"], ["-12"]),
        ({"validate": "integer"}, ["1.0"], "this is not a whole number."),
        ({"validate": "integer"}, ["1" * 19], "this is not a whole number."),
        ({"validate": "integer"}, ["\u0661"], "this is not a whole number."),
        ({"validate": {"min": 3}}, ["2"], "this is less than 3."),
        ({"validate": {"max": 3}}, ["4"], "this is more than 3."),
        ({"validate": {"min": 3, "max": 3}}, ["3"], ["3"]),
        ({"validate": "date"}, ["2026-02-28"], ["2026-02-28"]),
        ({"validate": "date"}, ["2026-02-30"], "this is not a date such as 2026-06-30."),
        ({"validate": "date"}, ["20260228"], "this is not a date such as 2026-06-30."),
        ({"validate": {"regex": "a+"}}, ["aaa"], ["aaa"]),
        ({"validate": {"regex": "a+"}}, ["aab"], "this does not have the right form."),
        # 2^60 steps for Python's own `re`:
        (
            {"validate": {"regex": "(a+)+$"}},
            ["a" * 60 + "b"],
            "this does not have the right form.",
        ),
        ({}, ["x" * (TEXT_LIMIT + 1)], "this is too long."),
        ({"type": "text-multi"}, ["x"] * (VALUES_LIMIT + 1), "this is too long."),
    ],
)
def test_a_value(keys: dict[str, Any], given: list[str], expected: list[str] | str) -> None:
    if isinstance(expected, list):
        assert checked(field(**keys), given) == expected
    else:
        with pytest.raises(WrongValue) as caught:
            checked(field(**keys), given)
        assert str(caught.value) == expected


KEYS: list[dict[str, Any]] = [
    {},
    {"type": "text-multi"},
    {"type": "boolean"},
    {"type": "jid-multi"},
    {"options": ["s", "l"]},
    {"validate": "integer"},
    {"validate": "date"},
    {"validate": {"regex": "(a|b)*"}},
]


@given(st.sampled_from(KEYS), st.lists(st.text(max_size=30), max_size=5))
def test_whatever_is_sent_is_valid_or_told_in_words(keys: dict[str, Any], some: list[str]) -> None:
    one = field(**keys)
    values, wrong = checked_form([one], {"v": some})
    assert len(values) + len(wrong) <= 1
    if values:
        assert checked(one, values["v"]) == values["v"]  # once more changes nothing
