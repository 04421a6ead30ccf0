"""All rooms of a component: which there are, the pace of joins, senders, and outgoing stanzas."""

from collections import Counter
from typing import Final

import pytest
from attrs import evolve

from bridge.config.settings import RoomSettings
from bridge.config.value import Secret
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.room.room import Phase
from bridge.xmpp.room.rooms import TooManyRooms
from bridge.xmpp.state import MemoryState
from tests.bridge.sample import meaning, stanza
from tests.bridge.xmpp.room.stage import (
    DOMAIN,
    HALL,
    ME,
    MUC_USER,
    ROOM,
    Stage,
    message,
    presence,
    refusal,
)
from xmppstream import Stanza

OTHER: Final = RoomSettings("attic@muc.example", "bot", "robot")
FEATURE: Final = "urn:xmpp:occupant-id:0"
SID: Final = "urn:xmpp:sid:0"
MUC: Final = "http://jabber.org/protocol/muc"


def rooms_of(stanzas: list[Stanza]) -> list[str]:
    return [(one.to or "").partition("/")[0] for one in stanzas]


# --- which rooms there are


def test_a_room_that_is_put_is_joined_and_kept() -> None:
    state = MemoryState()
    stage = Stage(state=state)
    stage.attach()
    stage.rooms.put(evolve(HALL, password=Secret("s3cret"), create=True))
    assert rooms_of(stage.pass_s(0)) == [ROOM]
    [(room, origin)] = Stage(state=state).rooms.all()
    assert (room.settings.password, room.settings.create, origin) == (Secret("s3cret"), True, "api")


def test_a_room_that_is_put_again_as_it_is_stays() -> None:
    stage = Stage()
    stage.attach()
    stage.rooms.put(HALL)
    stage.pass_s(0)
    stage.give(presence("robot", 110))
    stage.sent()
    stage.rooms.put(HALL)
    assert stage.pass_s(1) == []
    assert stage.room.phase is Phase.JOINED


def test_to_put_a_room_that_we_are_banned_from_tries_it_again() -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(refusal("forbidden"))
    stage.rooms.put(HALL)
    assert rooms_of(stage.pass_s(1)) == [ROOM]


def test_another_nick_leaves_and_joins() -> None:
    stage = Stage()
    stage.attach()
    stage.rooms.put(HALL)
    stage.pass_s(0)
    stage.give(presence("robot", 110))
    stage.sent()
    stage.rooms.put(evolve(HALL, nick="android"))
    leave, join = stage.pass_s(1)
    assert (leave.type, leave.to, join.to) == ("unavailable", f"{ROOM}/robot", f"{ROOM}/android")


def test_another_password_matters_at_the_next_join_only() -> None:
    stage = Stage()
    stage.attach()
    stage.rooms.put(HALL)
    stage.pass_s(0)
    stage.give(presence("robot", 110))
    stage.sent()
    stage.rooms.put(evolve(HALL, password=Secret("new")))
    assert stage.pass_s(1) == []
    stage.rooms.detached()
    [join] = stage.attach()
    assert b"<password>new</password>" in join.encode()


def test_a_room_that_is_deleted_is_left_and_not_kept() -> None:
    state = MemoryState()
    stage = Stage(state=state)
    stage.attach()
    stage.rooms.put(HALL)
    stage.pass_s(0)
    stage.give(presence("robot", 110))
    stage.sent()
    assert stage.rooms.delete("Hall@MUC.example", "bot")
    [leave] = stage.sent()
    assert (leave.type, leave.to, leave.from_) == ("unavailable", f"{ROOM}/robot", ME)
    assert stage.rooms.tracked() == []
    assert stage.give(presence("robot", 110, type="unavailable")) == "left"
    assert not stage.rooms.delete(ROOM, "bot")
    assert Stage(state=state).rooms.all() == []


def test_a_room_that_is_deleted_without_a_stream_is_left_by_the_next() -> None:
    stage = Stage()
    stage.attach()
    stage.rooms.put(HALL)
    stage.pass_s(0)
    stage.give(presence("robot", 110))
    stage.sent()
    stage.rooms.detached()
    stage.rooms.delete(ROOM, "bot")
    [leave] = stage.attach()
    assert (leave.type, leave.to, leave.from_) == ("unavailable", f"{ROOM}/robot", ME)
    assert stage.give(presence("robot", 110, type="unavailable")) == "left"
    stage.rooms.detached()
    assert stage.attach() == []


def test_no_more_rooms_than_allowed() -> None:
    stage = Stage(HALL, max_rooms=2)
    stage.rooms.put(OTHER)
    with pytest.raises(TooManyRooms, match="2 rooms already"):
        stage.rooms.put(RoomSettings("third@muc.example", "bot", "robot"))
    stage.rooms.put(evolve(OTHER, nick="android"))


def test_a_reload_applies_the_differences() -> None:
    stage = Stage(HALL, OTHER)
    stage.attach()
    stage.pass_s(5)
    stage.give(presence("robot", 110))
    stage.give(presence("robot", 110, room=OTHER.jid))
    stage.sent()
    cellar = RoomSettings("cellar@muc.example", "bot", "robot")
    stage.rooms.configure([HALL, cellar], 100)
    leave, join = stage.pass_s(2)
    assert (leave.type, leave.to) == ("unavailable", f"{OTHER.jid}/robot")
    assert (join.type, join.to) == (None, f"{cellar.jid}/robot")
    assert [room.jid for room, _ in stage.rooms.all()] == [ROOM, cellar.jid]


def test_a_reload_leaves_rooms_of_the_api_alone() -> None:
    stage = Stage()
    stage.attach()
    stage.rooms.put(HALL)
    stage.rooms.configure([], 100)
    assert [room.jid for room, _ in stage.rooms.all()] == [ROOM]


def test_an_address_that_a_reload_removes_stays_out_of_its_rooms_until_it_is_back() -> None:
    state = MemoryState()
    stage = Stage(state=state)
    stage.attach()
    stage.rooms.put(HALL)
    stage.pass_s(2)
    stage.give(presence("robot", 110))
    stage.sent()

    def nobody(address: str) -> bool:
        assert address == "bot@bot.example"
        return False

    stage.rooms.configure([], 100, nobody)
    [leave] = stage.pass_s(2)
    assert (leave.type, leave.to) == ("unavailable", f"{ROOM}/robot")
    told = "our address is not among local_parts any more"
    assert (stage.room.phase, stage.room.why) == (Phase.OUT, told)
    stage.rooms.configure([], 100, nobody)
    stage.attach()
    assert stage.pass_s(700) == []
    assert state.entries("room")  # not forgotten: a slip in the file is mended by the next reload
    stage.rooms.configure([], 100)
    [join] = stage.pass_s(2)
    assert (join.type, join.to) == (None, f"{ROOM}/robot")


def test_the_configuration_takes_over_a_room_of_the_api() -> None:
    state = MemoryState()
    stage = Stage(state=state)
    stage.rooms.put(HALL)
    stage.rooms.configure([evolve(HALL, nick="android")], 100)
    [(room, origin)] = stage.rooms.all()
    assert (room.nick, origin, state.entries("room")) == ("android", "configuration", {})


def test_so_does_one_that_is_found_at_the_start() -> None:
    state = MemoryState()
    Stage(state=state).rooms.put(HALL)
    [(room, origin)] = Stage(evolve(HALL, nick="android"), state=state).rooms.all()
    assert (room.nick, origin, state.entries("room")) == ("android", "configuration", {})


# --- the pace


def test_joins_are_spaced_for_each_server() -> None:
    here = [RoomSettings(f"r{number}@muc.example", "bot", "robot") for number in range(200)]
    there = [RoomSettings(f"r{number}@elsewhere.example", "bot", "robot") for number in range(3)]
    stage = Stage(*here, *there, max_rooms=300)
    sent = stage.attach()
    assert sorted(rooms_of(sent)) == ["r0@elsewhere.example", "r0@muc.example"]
    joined = Counter(rooms_of(sent))
    while stage.now < 1240:
        some = stage.pass_s(1)
        for one in some:
            room = (one.to or "").partition("/")[0]
            if one.kind == "presence":
                stage.give(presence("robot", 110, room=room))
        joined.update(rooms_of([one for one in some if one.kind == "presence"]))
        stage.sent()
        assert len([one for one in some if (one.to or "").endswith("muc.example/robot")]) <= 1
    assert len(joined) == 203


def test_at_the_next_stream_all_are_joined_again_but_those_that_stay_out() -> None:
    stage = Stage(HALL, OTHER)
    stage.attach()
    stage.pass_s(2)
    stage.give(presence("robot", 110))
    stage.give(refusal("forbidden", room=OTHER.jid))
    stage.rooms.detached()
    assert stage.pass_s(1000) == []
    assert rooms_of(stage.attach() + stage.pass_s(20)) == [ROOM]


def test_a_stream_that_comes_back_is_no_event() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.rooms.detached()
    stage.attach()
    assert stage.give(presence("robot", 110)) == "state"
    assert stage.posted() == []


def test_a_room_that_does_not_take_us_back_is_one() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.rooms.detached()
    stage.attach()
    stage.give(refusal("forbidden"))
    [(event, told)] = stage.posted()
    assert (event, told.type) == ("room_left", "error")
    assert not stage.occupancy.has_occupant(ROOM)


def test_a_first_refusal_is_none() -> None:
    stage = Stage(HALL)
    stage.attach()
    stage.give(refusal("forbidden"))
    assert stage.posted() == []


def test_at_the_end_all_rooms_are_left() -> None:
    stage = Stage(HALL, OTHER)
    stage.enter()
    stage.pass_s(2)
    stage.rooms.leave_all()
    assert [(one.type, one.to) for one in stage.sent()] == [
        ("unavailable", f"{ROOM}/robot"),
        ("unavailable", f"{OTHER.jid}/robot"),
    ]


# --- what is ours


def test_what_is_ours_survives_a_restart() -> None:
    state = MemoryState()
    stage = Stage(HALL, state=state)
    stage.enter()
    again = Stage(HALL, state=state)
    again.attach()
    assert again.give(message("robot", id="other")) == "own"
    assert again.give(message("juliet")) == "live"
    assert again.give(presence("robot", 110)) == "state"  # no event: it never ended


def test_what_ended_is_forgotten_in_the_state_too() -> None:
    state = MemoryState()
    stage = Stage(HALL, state=state)
    stage.enter()
    stage.give(presence("robot", 110, 307, type="unavailable"))
    assert state.entries("occupant") == {}


def test_the_state_holds_as_many_occupants_as_the_memory() -> None:
    state = MemoryState()
    occupancy = MucOccupancy(limit=3)
    occupancy.load(state)
    for number in range(5):
        occupancy.observe(stanza(presence("robot", 110, room=f"r{number}@muc.example")))
    assert list(state.entries("occupant")) == [
        f"r{number}@muc.example {ME}" for number in (2, 3, 4)
    ]


def test_a_room_that_changes_ids_does_not_fool_us() -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.give(message("robot", id="another")) == "own"
    assert stage.give(f"<message from='{ROOM}/robot' to='{ME}' type='groupchat'/>") == "own"


# --- rooms that the service joined by itself


def test_a_room_of_the_service_is_told_once_and_not_joined_again() -> None:
    stage = Stage()
    stage.attach()
    join = f"<presence to='{ROOM}/robot' from='x@bot.example'><x xmlns='{MUC}'/></presence>"
    stage.rooms.observe_sent(stanza(join))
    assert stage.give(presence("robot", 110, to="x@bot.example")) == "joined"
    [line] = stage.log.of("the service has joined a room by itself")
    assert (line["level"], line["room"], "PUT /v1/rooms" in line["hint"]) == ("info", ROOM, True)
    assert stage.rooms.tracked() == [(ROOM, "x@bot.example")]
    stage.rooms.detached()
    assert stage.attach() == []
    [line] = stage.log.of("rooms that the service joined by itself are not joined again")
    assert (line["rooms"], "PUT /v1/rooms" in line["hint"]) == ([ROOM], True)
    assert stage.give(presence("robot", 110, type="unavailable", to="x@bot.example")) == "left"
    assert stage.rooms.tracked() == []


def test_the_log_does_not_grow_with_what_strangers_claim() -> None:
    stage = Stage()
    for number in range(10):
        given = presence("robot", 110, to="x@bot.example", room=f"r{number}@evil.example")
        assert stage.give(given) == "joined"
    assert stage.log.told == []


# --- senders


def announce_ids(stage: Stage, asking: Stanza, *, gives_ids: bool = True) -> None:
    feature = f"<feature var='{FEATURE}'/>" if gives_ids else ""
    query = f"<query xmlns='http://jabber.org/protocol/disco#info'>{feature}</query>"
    answer = f"<iq from='{ROOM}' to='{ME}' id='{asking.id}' type='result'>{query}</iq>"
    assert stage.rooms.take(stanza(answer))


def occupant(id: str) -> str:
    return f"<occupant-id xmlns='{FEATURE}' id='{id}'/>"


def test_each_occupant_is_a_sender() -> None:
    stage = Stage(HALL)
    stage.enter()
    senders = [
        stage.rooms.sender_of(stanza(text))
        for text in (
            message("juliet"),
            message("romeo"),
            message(""),
            message("juliet", type="chat"),
        )
    ]
    assert senders == [f"{ROOM}/juliet", f"{ROOM}/romeo", ROOM, f"{ROOM}/juliet"]


def test_elsewhere_it_is_the_bare_address() -> None:
    stage = Stage(HALL)
    stage.enter()
    assert stage.rooms.sender_of(stanza(message("x", room="u@example.com"))) == "u@example.com"


def test_where_ids_are_announced_a_new_nick_is_no_new_sender() -> None:
    stage = Stage(HALL)
    [asking] = stage.enter()
    announce_ids(stage, asking)
    body = "<body>hi</body>"
    one = stage.rooms.sender_of(stanza(message("juliet", body + occupant("id1"))))
    two = stage.rooms.sender_of(stanza(message("rosaline", body + occupant("id1"))))
    other = stage.rooms.sender_of(stanza(message("romeo", body + occupant("id2"))))
    assert one == two != other
    assert one.startswith(f"{ROOM}/")
    nick = stage.rooms.sender_of(stanza(message("id1")))
    assert nick != one  # nobody can take another one's place by a nick


def test_the_presence_tells_the_id_of_a_message_without_one() -> None:
    stage = Stage(HALL)
    [asking] = stage.enter()
    announce_ids(stage, asking)
    stage.give(presence("romeo", more=occupant("id2")))
    assert stage.rooms.sender_of(stanza(message("romeo"))).endswith("id2")


def test_a_sender_stays_the_same_when_the_room_announces_ids() -> None:
    """Messages may come before its answer does, and are in order with those behind it."""
    stage = Stage(HALL)
    [asking] = stage.enter()
    said = stanza(message("juliet", "<body>hi</body>" + occupant("id1")))
    before = stage.rooms.sender_of(said)
    announce_ids(stage, asking)
    assert stage.rooms.sender_of(said) == before


def test_where_ids_are_not_announced_anybody_could_make_them_up() -> None:
    stage = Stage(HALL)
    [asking] = stage.enter()
    announce_ids(stage, asking, gives_ids=False)
    one = stage.rooms.sender_of(stanza(message("juliet", occupant("id1"))))
    assert one == f"{ROOM}/juliet"


# --- what leaves


def out(stage: Stage, text: str) -> object:
    return meaning(stage.rooms.outgoing(stanza(text)).element)


def same(text: str) -> object:
    return meaning(stanza(text).element)


def test_what_is_for_a_room_leaves_from_the_address_that_joined() -> None:
    stage = Stage(HALL)
    stage.enter()
    given = f"<message to='{ROOM}' from='bot@{DOMAIN}' type='groupchat'><body>hi</body></message>"
    expected = given.replace(f"bot@{DOMAIN}'", f"{ME}'")
    assert out(stage, given) == same(expected)
    assert out(stage, given.replace("hall@", "Hall@")) == same(expected.replace("hall@", "Hall@"))


@pytest.mark.parametrize(
    "text",
    [
        f"<message to='{ROOM}' from='other@{DOMAIN}' type='groupchat'/>",
        f"<message to='{ROOM}' from='bot@{DOMAIN}/work' type='groupchat'/>",
        f"<message to='attic@muc.example' from='bot@{DOMAIN}' type='groupchat'/>",
        f"<message to='juliet@example.com' from='bot@{DOMAIN}'/>",
        f"<iq to='{ROOM}/juliet' from='bot@{DOMAIN}' type='result' id='1'/>",
    ],
)
def test_what_leaves_as_it_is(text: str) -> None:
    stage = Stage(HALL)
    stage.enter()
    assert out(stage, text) == same(text)


def test_an_iq_for_an_occupant_leaves_from_there_too() -> None:
    stage = Stage(HALL)
    stage.enter()
    given = f"<iq to='{ROOM}/juliet' from='bot@{DOMAIN}' type='get' id='1'/>"
    assert out(stage, given) == same(given.replace(f"bot@{DOMAIN}'", f"{ME}'"))


def test_a_private_message_is_marked() -> None:
    stage = Stage(HALL)
    stage.enter()
    given = f"<message to='{ROOM}/juliet' from='{ME}' type='chat'><body>psst</body></message>"
    marked = given.replace("</message>", f"<x xmlns='{MUC_USER}'/></message>")
    assert out(stage, given) == same(marked)
    assert out(stage, marked) == same(marked)


def reflected(id: str, theirs: str, origin: str = "", by: str = ROOM) -> str:
    more = f"<origin-id xmlns='{SID}' id='{origin}'/>" if origin else ""
    given = f"<stanza-id xmlns='{SID}' id='{theirs}' by='{by}'/>"
    return message("robot", f"<body>x</body>{given}{more}", id=id)


NAMING: Final = {
    "retract": "<retract xmlns='urn:xmpp:message-retract:1' id='{}'/>",
    "reply": "<reply xmlns='urn:xmpp:reply:0' to='x@y' id='{}'/>",
    "reactions": "<reactions xmlns='urn:xmpp:reactions:0' id='{}'/>",
}


@pytest.mark.parametrize("naming", NAMING.values(), ids=NAMING)
def test_our_own_id_becomes_the_rooms(naming: str) -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.give(reflected("ours", "theirs"))
    stage.give(reflected("changed", "theirs2", origin="ours2"))
    text = f"<message to='{ROOM}' from='{ME}' type='groupchat'>{{}}</message>"
    for ours, theirs in (("ours", "theirs"), ("ours2", "theirs2"), ("unknown", "unknown")):
        assert out(stage, text.format(naming.format(ours))) == same(
            text.format(naming.format(theirs))
        )


def test_an_id_that_the_room_did_not_give_is_not_used() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.give(reflected("ours", "forged", by="evil@example.com"))
    naming = NAMING["retract"].format("ours")
    text = f"<message to='{ROOM}' from='{ME}' type='groupchat'>{naming}</message>"
    assert out(stage, text) == same(text)


def test_a_correction_names_our_own_id() -> None:
    stage = Stage(HALL)
    stage.enter()
    stage.give(reflected("ours", "theirs"))
    replace = "<replace xmlns='urn:xmpp:message-correct:0' id='ours'/>"
    text = f"<message to='{ROOM}' from='{ME}' type='groupchat'>{replace}</message>"
    assert out(stage, text) == same(text)


def test_the_last_thousand_of_a_room_are_known() -> None:
    stage = Stage(HALL)
    stage.enter()
    for number in range(1001):
        stage.give(reflected(f"o{number}", f"t{number}"))
    text = f"<message to='{ROOM}' from='{ME}' type='groupchat'>{{}}</message>"
    for ours, theirs in (("o0", "o0"), ("o1", "t1"), ("o1000", "t1000")):
        given = text.format(NAMING["reply"].format(ours))
        assert out(stage, given) == same(text.format(NAMING["reply"].format(theirs)))
