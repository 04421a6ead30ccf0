"""The page about stanzas as JSON has every key and every event, in the words of the table."""

import pytest

from bridge.config.event import DEFAULT_EVENTS, EVENTS
from bridge.payload.content import WRITERS
from bridge.payload.field import FIELDS
from tests.manual.page import page


@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
def test_each_key_has_a_row(kind: str) -> None:
    article = "an" if kind == "iq" else "a"
    rows = page("json").section(f"Reference: keys of {article} {kind}").table("key")
    assert rows == {field.key: [field.doc, field.source] for field in FIELDS if kind in field.kinds}


def test_each_key_of_a_reply_has_a_row() -> None:
    rows = page("json").section("Reference: keys of a reply and a send").table("key")
    assert rows == {key: [writer.doc] for key, writer in WRITERS.items()}


def test_each_event_has_a_row() -> None:
    rows = page("json").section("Events").table("event")
    assert rows.keys() == set(EVENTS)
    default = {event for event in EVENTS if rows[event][1] == "yes"}
    assert default == DEFAULT_EVENTS
