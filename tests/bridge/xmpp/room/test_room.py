"""One room: joining, what ends a stay and whether it begins again, nicks, and the self-ping."""

import pytest
from attrs import evolve

from bridge.config.value import Secret
from bridge.xmpp.room import outcome
from bridge.xmpp.room.room import JOIN_TIMEOUT_S, Phase
from bridge.xmpp.room.selfping import SILENCE_S
from bridge.xmpp.room.selfping import TIMEOUT_S as PING_TIMEOUT_S
from tests.bridge.sample import meanings, stanza
from tests.bridge.xmpp.room.stage import (
    HALL,
    ME,
    MUC_USER,
    ROOM,
    SUBJECT,
    Stage,
    message,
    presence,
    refusal,
)
from xmppstream import Stanza

MUC = "http://jabber.org/protocol/muc"
OWNER = "http://jabber.org/protocol/muc#owner"


def only(stanzas: list[Stanza]) -> Stanza:
    [one] = stanzas
    return one


def as_sent(*texts: str) -> list[object]:
    return meanings([stanza(text) for text in texts])


def answer(question: Stanza, type: str = "result", inner: str = "") -> Stanza:
    return stanza(
        f"<iq from='{question.to}' to='{question.from_}' type='{type}' id='{question.id}'>"
        f"{inner}</iq>"
    )


def error(condition: str) -> str:
    space = "urn:ietf:params:xml:ns:xmpp-stanzas"
    return f"<error type='cancel'><{condition} xmlns='{space}'/></error>"


# --- joining


def test_a_room_is_joined_without_its_history() -> None:
    stage = Stage(HALL)
    assert meanings(stage.attach()) == as_sent(
        f"<presence to='{ROOM}/robot' from='{ME}' id='t1'><x xmlns='{MUC}'>"
        "<history maxstanzas='0'/></x></presence>"
    )
    assert stage.room.phase is Phase.JOINING


def test_a_password_is_sent_and_not_shown() -> None:
    stage = Stage(evolve(HALL, password=Secret("s3cret")))
    [joining] = stage.attach()
    assert b"<password>s3cret</password>" in joining.encode()
    assert "s3cret" not in repr(stage.room.settings)


def test_before_a_stream_nothing_is_sent() -> None:
    stage = Stage(HALL)
    assert stage.pass_s(1000) == []
    assert (stage.room.phase, stage.room.why) == (Phase.WAITING, outcome.DETACHED)


def test_our_presence_with_status_110_is_the_join() -> None:
    stage = Stage(HALL)
    stage.attach()
    assert stage.give(presence("juliet")) == "state"
    assert stage.give(presence("robot")) == "state"
    assert stage.room.phase is Phase.JOINING
    assert stage.give(presence("robot", 110)) == "joined"
    assert (stage.room.phase, stage.room.occupant) == (Phase.JOINED, f"{ROOM}/robot")
    assert [one.nick for one in stage.room.occupants.all()] == ["juliet", "robot"]
    [line] = stage.log.of("room joined")
    assert (line["room"], line["nick"], line["level"]) == (ROOM, "robot", "info")


def test_after_the_join_others_come_and_go_as_events() -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.give(presence("romeo")) == "live"
    assert stage.give(presence("romeo", type="unavailable")) == "live"
    assert [one.nick for one in stage.room.occupants.all()] == ["juliet", "robot"]


def test_no_answer_in_time_is_tried_again() -> None:
    stage = Stage(HALL)
    stage.attach()
    assert stage.pass_s(JOIN_TIMEOUT_S) == []
    assert (stage.room.phase, stage.room.why) == (Phase.WAITING, outcome.NO_ANSWER)
    assert only(stage.pass_s(5)).to == f"{ROOM}/robot"


def test_waits_grow_to_ten_minutes_and_no_further() -> None:
    stage = Stage(HALL)
    stage.attach()
    waits = []
    for _ in range(10):
        stage.give(refusal("service-unavailable"))
        waits.append(stage.room.due - stage.now)
        stage.pass_s(waits[-1])
        assert stage.room.phase is Phase.JOINING
    bounds = [5 * 2**number for number in range(7)] + [600] * 3
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(stage.log.of("room not joined")) == 1  # the same reason is told once


AGAIN = [
    ("item-not-found", "cancel", "the room is locked or does not exist"),
    ("service-unavailable", "wait", "the room is full, or the address is not a room"),
    ("remote-server-not-found", "cancel", "the room's server does not exist"),
    ("remote-server-timeout", "wait", "the room's server cannot be reached"),
    ("resource-constraint", "wait", "the room's server has no room for us now"),
    ("internal-server-error", "wait", "the room refuses us (internal-server-error)"),
]
FINAL = [
    ("not-authorized", "auth", "the password is wrong or missing"),
    ("forbidden", "auth", "we are banned from the room"),
    ("registration-required", "auth", "the room is for members only"),
    ("not-allowed", "cancel", "we may not create or enter the room"),
    ("not-acceptable", "modify", "the room does not accept the nick"),
    ("jid-malformed", "modify", "the address or the nick is not valid"),
    ("undefined-condition", "cancel", "the room refuses us (undefined-condition)"),
]


@pytest.mark.parametrize(("condition", "type", "why"), AGAIN)
def test_an_error_that_may_pass_is_tried_again(condition: str, type: str, why: str) -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(refusal(condition, type))
    assert (stage.room.phase, stage.room.why) == (Phase.WAITING, why)
    assert only(stage.pass_s(5)).to == f"{ROOM}/robot"


@pytest.mark.parametrize(("condition", "type", "why"), FINAL)
def test_any_other_error_is_final(condition: str, type: str, why: str) -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(refusal(condition, type, "go\taway"))
    assert (stage.room.phase, stage.room.why) == (Phase.OUT, f"{why}: go away")
    assert stage.pass_s(10_000) == []
    [line] = stage.log.of("room left for good")
    assert (line["level"], line["why"]) == ("warning", f"{why}: go away")


def test_a_taken_nick_is_followed_by_the_next_one_a_second_later() -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(refusal("conflict"))
    assert stage.pass_s(0.9) == []
    assert only(stage.pass_s(0.1)).to == f"{ROOM}/robot2"
    stage.give(refusal("conflict"))
    assert only(stage.pass_s(1)).to == f"{ROOM}/robot3"
    stage.give(presence("robot3", 110))
    assert stage.room.nick == "robot3"


def test_after_nine_taken_nicks_it_waits_like_after_any_error() -> None:
    stage = Stage(HALL)
    stage.attach()
    for _ in range(8):
        stage.give(refusal("conflict"))
        assert len(stage.pass_s(1)) == 1
    stage.give(refusal("conflict"))
    assert stage.pass_s(2) == []
    assert stage.room.why == "the nick is taken"
    assert only(stage.pass_s(5)).to == f"{ROOM}/robot"


def test_the_configured_nick_is_tried_again_at_the_next_join() -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(refusal("conflict"))
    stage.pass_s(1)
    stage.give(presence("robot2", 110))
    stage.rooms.detached()
    assert only(stage.attach()).to == f"{ROOM}/robot"


# --- rooms that do not exist


def test_a_new_room_is_destroyed_and_tried_again_later() -> None:
    stage = Stage(HALL)
    stage.attach()
    assert stage.give(presence("robot", 110, 201)) == "state"
    assert meanings(stage.sent()) == as_sent(
        f"<iq to='{ROOM}' from='{ME}' type='set' id='t2'><query xmlns='{OWNER}'><destroy/>"
        "</query></iq>"
    )
    assert (stage.room.phase, stage.room.why) == (Phase.WAITING, outcome.NOT_THERE)
    assert not stage.occupancy.has_occupant(ROOM)
    gone = presence("robot", 110, type="unavailable", inner="<destroy/>")
    assert stage.give(gone) == "state"  # as we wished: that is no reason to stay out
    assert stage.rooms.take(stanza(f"<iq from='{ROOM}' to='{ME}' type='result' id='t2'/>"))
    assert stage.posted() == []
    assert only(stage.pass_s(5)).kind == "presence"


def test_a_new_room_is_unlocked_if_it_may_be_created() -> None:
    stage = Stage(evolve(HALL, create=True))
    stage.attach()
    assert stage.give(presence("robot", 110, 201)) == "joined"
    unlocking, asking = stage.sent()
    assert meanings([unlocking]) == as_sent(
        f"<iq to='{ROOM}' from='{ME}' type='set' id='t2'><query xmlns='{OWNER}'>"
        "<x xmlns='jabber:x:data' type='submit'/></query></iq>"
    )
    assert asking.to == ROOM
    assert stage.rooms.take(answer(unlocking))
    assert stage.room.phase is Phase.JOINED


def test_a_request_that_the_room_refuses_is_logged() -> None:
    stage = Stage(evolve(HALL, create=True))
    stage.attach()
    stage.give(presence("robot", 110, 201))
    unlocking, _ = stage.sent()
    assert stage.rooms.take(answer(unlocking, "error", error("forbidden")))
    [line] = stage.log.of("the room refuses a request")
    assert (line["what"], line["why"]) == ("configure", "forbidden")


# --- the end of a stay

LEAVES = [
    ((110,), "", True, "removed without a reason", "left"),
    ((), "", True, "removed without a reason", "left"),
    ((110, 332), "", True, "the room's server is shutting down", "shutdown"),
    ((110, 333), "", True, "removed because of an error", "disconnected"),
    ((110, 307, 333), "", True, "removed because of an error", "disconnected"),
    ((110, 307), "", False, "kicked", "kicked"),
    ((110, 301), "", False, "banned", "banned"),
    ((110, 321), "", False, "removed, as our affiliation has changed", "affiliation_changed"),
    ((110, 322), "", False, "removed, as the room is for members only now", "members_only"),
    (
        (110,),
        "<destroy jid='new@muc.example'><reason>we moved</reason></destroy>",
        False,
        "the room was destroyed: we moved; use new@muc.example instead",
        "destroyed",
    ),
    ((), "<destroy/>", False, "the room was destroyed", "destroyed"),
]


@pytest.mark.parametrize(("codes", "inner", "again", "why", "reason"), LEAVES)
def test_what_ends_a_stay(
    codes: tuple[int, ...], inner: str, again: bool, why: str, reason: str
) -> None:
    stage = Stage(HALL)
    stage.enter()
    gone = presence("robot", *codes, type="unavailable", inner=inner)
    assert stage.give(gone) == "left"
    assert stage.room.phase is (Phase.WAITING if again else Phase.OUT)
    assert stage.room.why == why
    assert outcome.leave_reason_of(stanza(gone)) == reason
    assert len(stage.pass_s(20)) == (1 if again else 0)


def test_a_reason_in_words_is_told_on_one_line() -> None:
    stage = Stage(HALL)
    stage.enter()
    item = "<item role='none'><reason>too\nloud\x85</reason></item>".replace("\x85", "")
    stage.give(
        f"<presence from='{ROOM}/robot' to='{ME}' type='unavailable'><x xmlns='{MUC_USER}'>"
        f"{item}<status code='110'/><status code='307'/></x></presence>"
    )
    assert stage.room.why == "kicked: too loud"


def test_a_short_stay_does_not_make_the_waits_short_again() -> None:
    stage = Stage(HALL)
    stage.attach()
    for _ in range(4):
        stage.give(presence("robot", 110))
        stage.give(presence("robot", 110, 333, type="unavailable"))
        stage.pass_s(stage.room.due - stage.now)
    stage.give(presence("robot", 110))
    stage.give(presence("robot", 110, 333, type="unavailable"))
    assert stage.room.due - stage.now >= 40


def test_a_long_stay_does() -> None:
    stage = Stage(HALL)
    stage.attach()
    for _ in range(5):
        stage.give(presence("robot", 110))
        stage.pass_s(60)
        stage.give(presence("robot", 110, 333, type="unavailable"))
        assert stage.room.due - stage.now <= 5
        stage.pass_s(5)


def test_another_occupant_who_is_removed_is_not_we() -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.give(presence("juliet", 307, type="unavailable")) == "live"
    assert stage.room.phase is Phase.JOINED


def test_a_command_joins_a_room_again_that_we_were_kicked_out_of() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.give(presence("robot", 110, 307, type="unavailable"))
    stage.room.retry(stage.now)
    assert only(stage.pass_s(1)).to == f"{ROOM}/robot"


# --- nicks


def test_a_change_of_our_nick_is_not_a_leave() -> None:
    stage = Stage(HALL)
    stage.enter()
    left = presence("robot", 110, 303, type="unavailable", item="nick='android'")
    assert stage.give(left) == "state"
    assert stage.give(message("android", id="x")) == "own"  # before its presence, too
    assert stage.give(presence("android", 110, 210)) == "state"
    assert (stage.room.phase, stage.room.nick) == (Phase.JOINED, "android")
    assert stage.give(message("robot", id="y")) == "live"


def test_the_room_may_give_us_another_nick() -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(presence("Robot-1", 110, 210))
    assert stage.room.nick == "Robot-1"
    assert stage.occupancy.occupant(ROOM, ME) == f"{ROOM}/Robot-1"


# --- self-ping


def ping_of(stage: Stage) -> Stanza:
    """Let the room be silent until it is asked."""
    ping = only(stage.pass_s(SILENCE_S))
    assert meanings([ping]) == as_sent(
        f"<iq to='{ROOM}/robot' from='{ME}' type='get' id='{ping.id}'>"
        "<ping xmlns='urn:xmpp:ping'/></iq>"
    )
    return ping


def test_after_silence_we_ask_ourselves_through_the_room() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.pass_s(SILENCE_S - 1)
    stage.give(message())
    assert stage.pass_s(SILENCE_S - 1) == []
    ping = only(stage.pass_s(1))
    reflected = ping.element.with_attributes(from_=f"{ROOM}/robot", to=ME, id="z")
    assert stage.rooms.is_reflected(Stanza(reflected))
    assert not stage.rooms.is_reflected(Stanza(reflected.with_attributes(from_=f"{ROOM}/juliet")))
    assert stage.rooms.take(answer(ping))
    assert stage.room.phase is Phase.JOINED
    assert stage.pass_s(SILENCE_S - 1) == []
    assert len(stage.pass_s(1)) == 1


@pytest.mark.parametrize(
    "condition", ["service-unavailable", "feature-not-implemented", "item-not-found"]
)
def test_errors_that_only_an_occupant_gets(condition: str) -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.rooms.take(answer(ping_of(stage), "error", error(condition)))
    assert (stage.room.phase, stage.room.why) == (Phase.JOINED, "")


@pytest.mark.parametrize("condition", ["not-acceptable", "not-allowed", "bad-request", "x"])
def test_any_other_error_of_a_self_ping_means_that_we_are_out(condition: str) -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.rooms.take(answer(ping_of(stage), "error", error(condition)))
    assert (stage.room.phase, stage.room.why) == (Phase.WAITING, outcome.LOST)
    [(event, told)] = stage.posted()
    assert (event, told.from_, told.type) == ("room_left", f"{ROOM}/robot", "unavailable")
    assert outcome.leave_reason_of(told) == "disconnected"
    assert only(stage.pass_s(5)).to == f"{ROOM}/robot"


@pytest.mark.parametrize("condition", ["remote-server-not-found", "remote-server-timeout", None])
def test_without_a_decision_it_is_asked_again(condition: str | None) -> None:
    stage = Stage(HALL)
    stage.enter()
    ping = ping_of(stage)
    if condition is None:
        stage.pass_s(PING_TIMEOUT_S)
    else:
        stage.rooms.take(answer(ping, "error", error(condition)))
    assert (stage.room.phase, stage.room.why) == (Phase.JOINED, outcome.SILENT)
    assert len(stage.log.of("room does not answer")) == 1
    again = only(stage.pass_s(30))
    assert stage.rooms.take(answer(again))
    assert stage.room.why == ""


def test_pings_without_an_answer_become_rare() -> None:
    stage = Stage(HALL)
    stage.enter()
    ping_of(stage)
    assert 5 <= len(stage.pass_s(3600)) <= 16
    assert len(stage.log.of("room does not answer")) == 1


def test_a_late_answer_is_not_posted_and_changes_nothing() -> None:
    stage = Stage(HALL)
    stage.enter()
    ping = ping_of(stage)
    stage.pass_s(PING_TIMEOUT_S)
    assert stage.rooms.take(answer(ping, "error", error("not-acceptable")))
    assert stage.room.phase is Phase.JOINED


def test_nobody_else_can_answer_a_ping() -> None:
    stage = Stage(HALL)
    stage.enter()
    ping = ping_of(stage)
    forged = answer(ping, "error", error("not-acceptable"))
    elsewhere = Stanza(forged.element.with_attributes(from_="hall@evil.example/robot"))
    assert not stage.rooms.take(elsewhere)
    assert stage.room.phase is Phase.JOINED


@pytest.mark.parametrize("text", [message(type="error"), refusal("not-acceptable")])
def test_an_error_from_the_room_is_a_reason_to_ask(text: str) -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.give(text)
    assert only(stage.pass_s(0)).payload is not None
    for _ in range(10):  # but not for each of many
        stage.give(text)
    assert stage.pass_s(1) == []


def test_a_self_ping_while_the_stream_is_gone_is_given_up() -> None:
    stage = Stage(HALL)
    stage.enter()
    ping_of(stage)
    stage.rooms.detached()
    assert stage.pass_s(10_000) == []
    assert stage.room.why == outcome.DETACHED


# --- subject


def test_the_subject_is_remembered_and_may_change() -> None:
    stage = Stage(HALL)
    stage.enter()
    assert (stage.room.subject, stage.room.subject_by) == ("Welcome", "juliet")
    assert stage.give(message("romeo", "<subject>New</subject>")) == "live"
    assert (stage.room.subject, stage.room.subject_by) == ("New", "romeo")
    stage.give(message("romeo", "<subject>No</subject><body>a letter</body>"))
    assert stage.room.subject == "New"


def test_a_room_has_many_occupants_who_cost_little() -> None:
    stage = Stage(HALL)
    stage.attach()
    for number in range(500):
        more = "<show>away</show><status>gone</status>"
        item = f"affiliation='none' role='participant' jid='u{number}@example.com/r'"
        stage.give(presence(f"n{number}", item=item, more=more))
    stage.give(presence("robot", 110))
    assert len(stage.room.occupants) == 501
    first = stage.room.occupants.get("n7")
    assert first is not None
    assert (first.show, first.status, first.jid) == ("away", "gone", "u7@example.com/r")


def test_the_presence_of_the_room_itself_is_no_occupants() -> None:
    """ejabberd sends one, for the room's picture."""
    stage = Stage(HALL)
    stage.attach()
    stage.give(presence("x").replace(f"{ROOM}/x", ROOM))
    stage.give(presence("robot", 110))
    assert [one.nick for one in stage.room.occupants.all()] == ["robot"]


def test_the_subject_comes_at_a_join_as_state() -> None:
    stage = Stage(HALL)
    stage.enter(subject=False)
    assert stage.give(message("", SUBJECT)) == "state"
