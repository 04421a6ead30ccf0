"""What the core reports."""

from __future__ import annotations

import pytest

from xmppstream.errors import StreamCondition
from xmppstream.events import StanzaReceived, StreamFaulted
from xmppstream.stanza import make


def test_the_weight_is_no_part_of_a_stanzas_equality() -> None:
    stanza = make("message", "a", "b")
    one, other = StanzaReceived(stanza, 1), StanzaReceived(stanza, 2)
    assert (one, hash(one)) == (other, hash(other))
    assert one != StanzaReceived(make("message", "a", "c"), 1)
    assert one != stanza


@pytest.mark.parametrize(("text", "expected"), [("why", "conflict: why"), ("", "conflict")])
def test_a_fault_reads_as_condition_and_text(text: str, expected: str) -> None:
    assert str(StreamFaulted(StreamCondition.CONFLICT, text)) == expected
