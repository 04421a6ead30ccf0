"""History by its place: between our self-presence and the subject, whatever marks it has."""

from typing import Final

import pytest

from bridge.xmpp.room.history import LONGEST_S
from bridge.xmpp.room.rooms import Verdict
from tests.bridge.sample import stanza
from tests.bridge.xmpp.room.stage import (
    DELAY,
    HALL,
    ME,
    ROOM,
    SUBJECT,
    Stage,
    message,
    presence,
)

BODY: Final = "<body>hi</body>"
MARKS: Final = {
    "the room's": DELAY,
    "the speaker's": DELAY.replace("hall@muc.example", "juliet@example.com"),
    "nobody's": "<delay xmlns='urn:xmpp:delay' stamp='2024-05-06T07:08:09Z'/>",
    "the older form": "<x xmlns='jabber:x:delay' stamp='20240506T07:08:09'/>",
    "none": "",
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("nick", ["juliet", ""])
def test_what_comes_before_the_subject_is_history(mark: str, nick: str) -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    given = message(nick, BODY + mark)
    verdict = stage.give(given)
    if verdict == "unclear":
        stage.rooms.hold(stanza(given), "message", 100)
    else:
        assert verdict == "history"
    assert stage.give(message("juliet", SUBJECT)) == "state"
    stage.pass_s(2 * LONGEST_S)
    assert stage.posted() == []
    assert stage.rooms.take_dropped() == (1 if verdict == "unclear" else 0)


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_what_comes_after_the_subject_is_live(mark: str) -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.give(message("juliet", BODY + mark)) == "live"


def test_a_message_with_a_subject_and_a_body_does_not_end_history() -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    assert stage.give(message("juliet", SUBJECT + BODY + DELAY)) == "history"
    assert stage.give(message("juliet", BODY + DELAY)) == "history"


def test_the_subject_of_no_words_ends_history_too() -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    assert stage.give(message("", "<subject/>")) == "state"
    assert stage.give(message("juliet", BODY + DELAY)) == "live"


# --- servers that send no subject


def unclear(stage: Stage, id: str) -> None:
    given = message("juliet", BODY, id=id)
    assert stage.give(given) == "unclear"
    stage.rooms.hold(stanza(given), "message", 100)


def test_what_was_held_is_live_once_the_room_has_answered() -> None:
    stage = Stage(HALL)
    [asking] = stage.enter(subject=False)
    stage.give(message("juliet", BODY + DELAY))
    unclear(stage, "m1")
    unclear(stage, "m2")
    answer = f"<iq from='{asking.to}' to='{ME}' id='{asking.id}' type='result'/>"
    assert stage.rooms.take(stanza(answer))
    assert [(event, one.id) for event, one in stage.posted()] == [
        ("message", "m1"),
        ("message", "m2"),
    ]
    assert stage.give(message("juliet", BODY + DELAY)) == "live"
    assert stage.rooms.take_dropped() == 0


def test_after_the_answer_the_first_message_without_delay_ends_history() -> None:
    stage = Stage(HALL)
    [asking] = stage.enter(subject=False)
    answer = f"<iq from='{asking.to}' to='{ME}' id='{asking.id}' type='result'/>"
    assert stage.rooms.take(stanza(answer))
    assert stage.give(message("juliet", BODY + DELAY)) == "history"
    assert stage.give(message("juliet", BODY)) == "live"
    assert stage.give(message("juliet", BODY + DELAY)) == "live"


def test_history_lasts_no_longer_than_ten_seconds() -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    unclear(stage, "m1")
    stage.pass_s(LONGEST_S - 1)
    assert stage.posted() == []
    stage.pass_s(1)
    assert [one.id for _, one in stage.posted()] == ["m1"]
    assert stage.give(message("juliet", BODY + DELAY)) == "live"


def test_no_more_is_held_than_a_hundred() -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    for number in range(100):
        unclear(stage, f"m{number}")
    assert stage.give(message("juliet", BODY)) == "history"


# --- which phase


def test_what_a_room_says_to_those_who_are_not_in_it_is_history() -> None:
    """Some old servers send it before our own presence."""
    stage = Stage(HALL)
    stage.attach()
    assert stage.give(message("juliet", BODY)) == "history"


def test_while_we_join_again_live_messages_stay_live() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.rooms.detached()
    stage.attach()
    assert stage.give(message("juliet", BODY + DELAY)) == "live"
    stage.give(presence("robot", 110))
    assert stage.give(message("juliet", BODY + DELAY)) == "history"


def test_our_own_presence_within_a_stay_begins_no_history() -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.give(presence("robot", 110, item="role='moderator'")) == "state"
    assert stage.give(message("juliet", BODY + DELAY)) == "live"


@pytest.mark.parametrize("verdict", ["own"])
def test_our_own_words_are_our_own_in_history_too(verdict: Verdict) -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    assert stage.give(message("robot", BODY + DELAY)) == verdict


# --- rooms that the service joined by itself


SELF: Final = "service@bot.example"


def test_a_room_of_the_service_has_history_too() -> None:
    stage = Stage()
    assert stage.give(presence("robot", 110, to=SELF)) == "joined"
    assert stage.give(message("juliet", BODY + DELAY, to=SELF)) == "history"
    assert stage.give(message("juliet", SUBJECT, to=SELF)) == "live"
    assert stage.give(message("juliet", BODY + DELAY, to=SELF)) == "live"


def test_a_late_subject_there_is_history_of_the_room() -> None:
    """Prosody's has a delay."""
    stage = Stage()
    stage.give(presence("robot", 110, to=SELF))
    assert stage.give(message("juliet", SUBJECT + DELAY, to=SELF)) == "state"


def test_there_the_first_message_without_delay_ends_it_at_once() -> None:
    stage = Stage()
    stage.give(presence("robot", 110, to=SELF))
    assert stage.give(message("juliet", BODY, to=SELF)) == "live"
    assert stage.give(message("juliet", BODY + DELAY, to=SELF)) == "live"


def test_the_service_may_join_again_and_get_history_again() -> None:
    stage = Stage()
    stage.give(presence("robot", 110, to=SELF))
    stage.give(message("juliet", SUBJECT, to=SELF))
    stage.give(presence("robot", 110, to=SELF, item="role='moderator'"))
    assert stage.give(message("juliet", BODY + DELAY, to=SELF)) == "live"
    join = f"<presence to='{ROOM}/robot' from='{SELF}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
    stage.rooms.observe_sent(stanza(join))
    stage.give(presence("robot", 110, to=SELF))
    assert stage.give(message("juliet", BODY + DELAY, to=SELF)) == "history"


def test_after_another_stream_its_first_presence_is_a_join() -> None:
    stage = Stage()
    stage.give(presence("robot", 110, to=SELF))
    stage.give(message("juliet", SUBJECT, to=SELF))
    stage.rooms.detached()
    stage.attach()
    stage.give(presence("robot", 110, to=SELF))
    assert stage.give(message("juliet", BODY + DELAY, to=SELF)) == "history"


def test_phases_end_in_the_order_in_which_they_began() -> None:
    stage = Stage()
    for name in ("a", "b", "a"):  # the last presence counts
        join = f"<presence to='{name}@x.example/robot' from='{SELF}'>"
        stage.rooms.observe_sent(
            stanza(f"{join}<x xmlns='http://jabber.org/protocol/muc'/></presence>")
        )
        stage.give(presence("robot", 110, to=SELF, room=f"{name}@x.example"))
        stage.pass_s(4)
    old = [message("n", BODY + DELAY, to=SELF, room=f"{name}@x.example") for name in "ab"]
    assert [stage.give(one) for one in old] == ["history", "history"]
    stage.pass_s(3)
    assert [stage.give(one) for one in old] == ["history", "live"]
    stage.pass_s(4)
    assert [stage.give(one) for one in old] == ["live", "live"]


def test_phases_that_strangers_begin_are_bounded() -> None:
    stage = Stage()
    for number in range(10_050):
        stage.give(presence("robot", 110, to=SELF, room=f"r{number}@evil.example"))
    assert len(stage.rooms._histories._phases) == 10_000
    assert len(stage.occupancy.all()) == 10_000
