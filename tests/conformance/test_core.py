"""Every row through the sans-IO core: whole, byte by byte, in sevens, and with trailing data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from tests.conformance.rules import OUTGOING, ROWS, Outgoing, Row
from tests.xmppstream.wire import CUTS, DOMAIN, STREAM_ID
from tests.xmppstream.wire import attached as attached_core
from xmppstream import (
    ComponentConnection,
    Event,
    HandshakeReceived,
    IllegalCharacter,
    Role,
    StreamFaulted,
    StreamOpened,
)
from xmppstream.names import STREAM_ERRORS
from xmppstream.state import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Cut = Callable[[bytes], list[bytes]]

LATE = b"<message id='late'/>"  # must not be looked at where the stream is over
UNFINISHED = b" \n<message id='unfinished'"


class Actor:
    """One core with the reactions of its role: the smallest driver there can be."""

    def __init__(self, row: Row) -> None:
        self.core = ComponentConnection(row.role, domain=DOMAIN, limits=row.limits)
        self.sent = b""
        self.events: list[Event] = []
        self._secret = row.secret
        if row.role is Role.COMPONENT:
            self.sent += self.core.open()

    def receive(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            for event in self.core.receive_data(chunk):
                self.events.append(event)
                self._react(event)

    def close(self) -> None:
        last = self.events[-1] if self.events else None
        self.sent += self.core.close(last if isinstance(last, StreamFaulted) else None)

    def _react(self, event: Event) -> None:
        match event:
            case StreamOpened(id=id) if self.core.role is Role.COMPONENT:
                if id and self.core.remote is Side.OPEN:
                    self.sent += self.core.authenticate(self._secret)
            case StreamOpened():
                self.sent += self.core.open(stream_id=STREAM_ID)
            case HandshakeReceived():
                self.sent += self.core.accept()
            case _:
                pass


def plain(events: Iterable[Event]) -> list[Event]:
    """Leave out what libxml2 worded."""
    return [
        evolve(event, text="") if isinstance(event, StreamFaulted) and not event.by_peer else event
        for event in events
    ]


def played(row: Row, cut: Cut, trailing: bytes = b"") -> Actor:
    actor = Actor(row)
    for number, turn in enumerate(row.turns, 1):
        actor.receive(cut(turn + trailing if number == len(row.turns) else turn))
    actor.close()
    return actor


def check(row: Row, actor: Actor) -> None:
    assert plain(actor.events) == list(row.events)
    if row.sent is not None:
        # An early error in the header's own chunk leaves no time for a handshake.
        assert actor.sent == row.sent
    last = row.events[-1] if row.events else None
    if isinstance(last, StreamFaulted) and not last.by_peer:
        assert f"<{last.condition} xmlns='{STREAM_ERRORS}'/>".encode() in actor.sent


every_row = pytest.mark.parametrize("row", ROWS, ids=str)
every_cut = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)


@every_cut
@every_row
def test_row(row: Row, cut: Cut) -> None:
    check(row, played(row, cut))


@every_cut
@every_row
def test_row_with_trailing_data(row: Row, cut: Cut) -> None:
    check(row, played(row, cut, LATE if row.over else UNFINISHED))


@pytest.mark.parametrize("row", OUTGOING, ids=str)
def test_outgoing(row: Outgoing) -> None:
    core = attached_core()
    if row.sent is None:
        with pytest.raises(IllegalCharacter):
            core.send(row.stanza)
        assert core.established
    else:
        assert core.send(row.stanza) == row.sent


def test_names_are_unique() -> None:
    names = [str(row) for row in (*ROWS, *OUTGOING)]
    assert len(set(names)) == len(names)


def test_every_rule_of_the_stream_has_a_row() -> None:
    rules = {*range(1, 9), 10, 12, 13, *range(17, 28), 33}
    assert {row.rule for row in (*ROWS, *OUTGOING)} == {f"S{number}" for number in rules}
