"""The dialogs that are kept: their bounds, and what another process finds."""

from itertools import count
from typing import Final

import pytest

from bridge.xmpp.command.session import (
    KIND,
    LIFE_S,
    SESSION_LIMIT_BYTES,
    STAGES_LIMIT,
    Sessions,
    SessionTooLarge,
    Stage,
    TooManySessions,
)
from bridge.xmpp.state import MemoryState
from tests.bridge.recorder import Recorder

JULIET: Final = "juliet@capulet.example/balcony"
BOT: Final = "bot.example"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
def sessions(state: MemoryState, clock: Clock) -> Sessions:
    numbers = count()
    return Sessions(state, clock, lambda: f"{next(numbers):024x}")


def test_another_process_goes_on(sessions: Sessions, state: MemoryState, clock: Clock) -> None:
    one = sessions.begin("order", JULIET, BOT, Stage(values={"a": ["b"]}), is_text=True)
    one.asked = "id"
    sessions.keep(one)
    other = sessions.begin("order", JULIET, BOT, Stage(), is_text=False)
    sessions.keep(other)
    clock.now += LIFE_S - 1
    sessions.keep(other)
    again = Sessions(state, clock, str)
    again.load(Recorder().logger())
    assert again.asked(JULIET, BOT) == one
    assert again.get(other.id, JULIET, BOT) == other
    assert again.get(other.id, f"{JULIET}2", BOT) is None
    assert again.get(other.id, JULIET, f"x@{BOT}") is None
    clock.now += 1
    assert again.asked(JULIET, BOT) is None
    assert not again.are_texts
    assert len(again) == 1
    assert list(state.entries(KIND)) == [other.id]


def test_what_cannot_be_read_is_ended(state: MemoryState, clock: Clock) -> None:
    state.put(KIND, "a", b"{")
    state.put(KIND, "b", b'{"id":"b","node":"n","sender":"s","to":"t","place":3,"stages":[{}]}')
    log = Recorder()
    sessions = Sessions(state, clock, str)
    sessions.load(log.logger())
    assert (len(sessions), state.entries(KIND)) == (0, {})
    assert [line["event"] for line in log.lines] == ["a session of a command cannot be read"] * 2


def test_a_session_has_a_greatest_size(sessions: Sessions, state: MemoryState) -> None:
    one = sessions.begin("order", JULIET, BOT, Stage(), is_text=False)
    sessions.keep(one)
    one.stage.values = {"a": ["x" * SESSION_LIMIT_BYTES]}
    with pytest.raises(SessionTooLarge):
        sessions.keep(one)
    assert (len(sessions), state.entries(KIND)) == (0, {})
    two = sessions.begin("order", JULIET, BOT, Stage(), is_text=False)
    two.stages = [Stage()] * (STAGES_LIMIT + 1)
    with pytest.raises(SessionTooLarge):
        sessions.keep(two)
    assert len(sessions) == 0


def test_all_sessions_have_a_greatest_size(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.xmpp.command.session.LIMIT_BYTES", 3_000)
    for number in range(3):
        one = sessions.begin("order", f"{number}@x/y", BOT, Stage(title="x" * 900), is_text=False)
        sessions.keep(one)
    with pytest.raises(TooManySessions):
        sessions.begin("order", JULIET, BOT, Stage(), is_text=False)
    sessions.end(one)
    sessions.begin("order", JULIET, BOT, Stage(), is_text=False)
    clock.now += LIFE_S
    assert sessions.get("", JULIET, BOT) is None
    assert len(sessions) == 0


def test_an_ended_session_is_not_kept_again(sessions: Sessions, state: MemoryState) -> None:
    one = sessions.begin("order", JULIET, BOT, Stage(), is_text=False)
    sessions.end(one)
    sessions.end(one)
    sessions.keep(one)
    assert (len(sessions), state.entries(KIND)) == (0, {})
    assert sessions.was_ours(one.id)
    assert not sessions.was_ours("mine")
