"""The transition table, as a whole."""

from __future__ import annotations

from itertools import product

import pytest

from xmppstream.errors import LocalError
from xmppstream.state import TRANSITIONS, Sent, Side, after

ALLOWED = {
    (Side.IDLE, Sent.HEADER): Side.OPEN,
    (Side.OPEN, Sent.HANDSHAKE): Side.READY,
    (Side.OPEN, Sent.ERROR): Side.FAULTED,
    (Side.OPEN, Sent.CLOSE): Side.CLOSED,
    (Side.READY, Sent.STANZA): Side.READY,
    (Side.READY, Sent.ERROR): Side.FAULTED,
    (Side.READY, Sent.CLOSE): Side.CLOSED,
    (Side.FAULTED, Sent.CLOSE): Side.CLOSED,
}


@pytest.mark.parametrize(("side", "sent"), list(ALLOWED))
def test_allowed(side: Side, sent: Sent) -> None:
    assert after(side, sent) is ALLOWED[side, sent]


@pytest.mark.parametrize(
    ("side", "sent"), [pair for pair in product(Side, Sent) if pair not in ALLOWED]
)
def test_forbidden(side: Side, sent: Sent) -> None:
    with pytest.raises(LocalError, match=f"no {sent.name.lower()} .* is {side.name.lower()}"):
        after(side, sent)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(Side)
    assert {to for row in TRANSITIONS.values() for to in row.values()} == set(Side) - {Side.IDLE}
