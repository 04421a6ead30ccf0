"""Selections: read from forms and addresses, whatever these hold."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from bridge.listener.page.selection import HOURS, Selection

LISTS = st.lists(st.text(), max_size=2)


@given(st.dictionaries(st.sampled_from(["component", "reason", "hours", "after"]), LISTS))
def test_anything_is_a_selection_and_goes_round(given: dict[str, list[str]]) -> None:
    selection = Selection.of(given)
    query = urlsplit(selection.address()).query
    assert Selection.of(parse_qs(query)) == selection
    request = selection.request(1e9, selection.after, 20)
    assert (request.match is UNSET) == (not selection.reason and not selection.hours)
    assert request.match is UNSET or request.match.reason == selection.reason


@pytest.mark.parametrize(
    ("given", "selection"),
    [
        ({"hours": ["24"]}, Selection(hours=24)),
        ({"hours": ["25"]}, Selection()),
        ({"hours": ["-1"], "after": ["x"]}, Selection()),
        ({"after": ["9" * 19]}, Selection(after=2**63 - 1)),
        ({"after": ["9" * 5000]}, Selection()),
        ({"reason": [" status 500 ", "x"]}, Selection(reason="status 500")),
        ({"reason": ["x" * 5000]}, Selection(reason="x" * 200)),
        ({}, Selection()),
    ],
)
def test_what_is_not_valid_counts_as_absent(
    given: dict[str, list[str]], selection: Selection
) -> None:
    assert Selection.of(given) == selection


def test_its_words_and_its_time() -> None:
    selection = Selection("bot.example", "503", 1, after=7)
    assert str(selection) == (
        "of bot.example, whose reason contains “503”, given up in the last hour"
    )
    assert selection.since(10_000.0) == 6400.0
    assert selection.address(after=0) == "./?component=bot.example&reason=503&hours=1#letters"
    assert Selection().address() == "./"
    assert Selection().since(10_000.0) is None
    assert set(HOURS) == {0, 1, 24, 168}
