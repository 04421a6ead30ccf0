"""Our occupants (S36): which stanzas of a room are our own."""

import pytest

from bridge.xmpp.muc import MucOccupancy
from tests.bridge.sample import stanza
from xmppstream import Stanza

ROOM = "room@muc.example"
BOT = "bot@bot.example.com"
OTHER = "other@bot.example.com"
DELAY = "<delay xmlns='urn:xmpp:delay' from='room@muc.example' stamp='2024-05-06T07:08:09Z'/>"


def presence(nick: str, *codes: int, to: str = BOT, type: str = "", room: str = ROOM) -> Stanza:
    attribute = f" type='{type}'" if type else ""
    statuses = "".join(f"<status code='{code}'/>" for code in codes)
    return stanza(
        f"<presence from='{room}/{nick}' to='{to}'{attribute}>"
        f"<x xmlns='http://jabber.org/protocol/muc#user'><item/>{statuses}</x></presence>"
    )


def message(
    sender: str, *, to: str = BOT, type: str = "groupchat", id: str = "x", content: str = ""
) -> Stanza:
    return stanza(f"<message from='{sender}' to='{to}' type='{type}' id='{id}'>{content}</message>")


def joined(nick: str = "bot", to: str = BOT) -> MucOccupancy:
    rooms = MucOccupancy()
    rooms.observe(presence(nick, 110, to=to))
    return rooms


def test_before_joining_nothing_is_our_own() -> None:
    assert not MucOccupancy().is_own(message(f"{ROOM}/bot"))


def test_after_joining_our_own_message_is_known() -> None:
    assert joined().is_own(message(f"{ROOM}/bot"))


def test_the_status_is_found_among_others() -> None:
    rooms = MucOccupancy()
    rooms.observe(presence("bot", 100, 110, 201))
    assert rooms.is_own(message(f"{ROOM}/bot"))


@pytest.mark.parametrize("codes", [(), (100,), (201,), (210,), (303,)])
def test_presence_of_others_teaches_nothing(codes: tuple[int, ...]) -> None:
    rooms = MucOccupancy()
    rooms.observe(presence("juliet", *codes))
    assert not rooms.is_own(message(f"{ROOM}/juliet"))


NOT_OWN = [
    ("another occupant", message(f"{ROOM}/juliet")),
    ("another letter case of the nick", message(f"{ROOM}/Bot")),
    ("the room itself", message(ROOM)),
    ("another room", message("other@muc.example/bot")),
    ("a private message", message(f"{ROOM}/bot", type="chat")),
    ("a private message with a delay", message(f"{ROOM}/bot", type="chat", content=DELAY)),
    ("to another address of ours", message(f"{ROOM}/bot", to=OTHER)),
    ("presence of ours", presence("bot", 110)),
    ("without a sender", stanza(f"<message to='{BOT}' type='groupchat'/>")),
]


@pytest.mark.parametrize(
    "other", [row[1] for row in NOT_OWN], ids=[row[0].replace(" ", "-") for row in NOT_OWN]
)
def test_what_is_not_our_own(other: Stanza) -> None:
    assert not joined().is_own(other)


def test_a_delay_makes_nobody_else_our_own() -> None:
    assert not joined().is_own(message(f"{ROOM}/juliet", content=DELAY))


def test_after_leaving_nothing_is_our_own() -> None:
    rooms = joined()
    rooms.observe(presence("bot", 110, type="unavailable"))
    assert not rooms.is_own(message(f"{ROOM}/bot"))


@pytest.mark.parametrize("codes", [(110, 307), (110, 301), (110, 321), (110, 332), (110, 333)])
def test_after_being_removed_nothing_is_our_own(codes: tuple[int, ...]) -> None:
    rooms = joined()
    rooms.observe(presence("bot", *codes, type="unavailable"))
    assert not rooms.has_occupant(f"{ROOM}/juliet")


@pytest.mark.parametrize("type", ["error", "subscribe", "probe", "unavailable"])
def test_presence_of_another_type_teaches_nothing(type: str) -> None:
    rooms = MucOccupancy()
    rooms.observe(presence("bot", 110, type=type))
    assert not rooms.has_occupant(ROOM)


def test_another_occupants_leave_changes_nothing() -> None:
    rooms = joined()
    rooms.observe(presence("juliet", type="unavailable"))
    assert rooms.is_own(message(f"{ROOM}/bot"))


def test_an_old_nicks_leave_changes_nothing() -> None:
    rooms = joined("new")
    rooms.observe(presence("old", 110, type="unavailable"))
    assert rooms.is_own(message(f"{ROOM}/new"))


def renamed() -> MucOccupancy:
    rooms = joined("bot")
    rooms.observe(presence("bot", 110, 303, type="unavailable"))
    rooms.observe(presence("robot", 110))
    return rooms


def test_after_a_change_of_nick_the_new_one_is_our_own() -> None:
    assert renamed().is_own(message(f"{ROOM}/robot"))


def test_after_a_change_of_nick_the_old_one_is_not() -> None:
    assert not renamed().is_own(message(f"{ROOM}/bot"))


def test_another_ones_change_of_nick_is_not_ours() -> None:
    rooms = joined("bot")
    rooms.observe(presence("juliet", 303, type="unavailable"))
    rooms.observe(presence("rosaline"))
    assert not rooms.is_own(message(f"{ROOM}/rosaline"))


@pytest.mark.parametrize("sender", [ROOM, f"{ROOM}/juliet", f"{ROOM}/bot"])
def test_everybody_in_our_room_is_known_to_be_there(sender: str) -> None:
    assert joined().has_occupant(sender)


@pytest.mark.parametrize("sender", ["", "other@muc.example/juliet", "muc.example", "juliet@x/a"])
def test_nobody_else_is(sender: str) -> None:
    assert not joined().has_occupant(sender)


# --- two addresses of ours in one room


def two_in_one_room() -> MucOccupancy:
    rooms = joined("bot", BOT)
    rooms.observe(presence("bot", to=OTHER))
    rooms.observe(presence("other", 110, to=OTHER))
    return rooms


def test_each_address_has_its_own_nick() -> None:
    rooms = two_in_one_room()
    found = [
        rooms.is_own(message(f"{ROOM}/{nick}", to=to))
        for to in (BOT, OTHER)
        for nick in ("bot", "other")
    ]
    assert found == [True, False, False, True]


def test_the_room_is_ours_until_the_last_has_left() -> None:
    rooms = two_in_one_room()
    rooms.observe(presence("bot", 110, type="unavailable"))
    assert rooms.has_occupant(ROOM)


def test_the_room_is_no_longer_ours_after_the_last_has_left() -> None:
    rooms = two_in_one_room()
    rooms.observe(presence("bot", 110, type="unavailable"))
    rooms.observe(presence("other", 110, to=OTHER, type="unavailable"))
    assert not rooms.has_occupant(ROOM)


def test_joining_twice_and_leaving_once_is_to_be_gone() -> None:
    rooms = joined()
    rooms.observe(presence("bot", 110))
    rooms.observe(presence("bot", 110, type="unavailable"))
    assert not rooms.has_occupant(ROOM)


# --- learning by what comes back


def sent(id: str | None = "m1", to: str = ROOM, type: str = "groupchat") -> Stanza:
    attribute = f" id='{id}'" if id is not None else ""
    return stanza(f"<message from='{BOT}' to='{to}' type='{type}'{attribute}/>")


def test_a_message_that_comes_back_with_our_id_is_our_own() -> None:
    rooms = MucOccupancy()
    rooms.observe_sent(sent())
    reflected = message(f"{ROOM}/bot", id="m1")
    rooms.observe(reflected)
    assert rooms.is_own(reflected)


def test_from_then_on_the_nick_is_known() -> None:
    rooms = MucOccupancy()
    rooms.observe_sent(sent())
    rooms.observe(message(f"{ROOM}/bot", id="m1"))
    assert rooms.is_own(message(f"{ROOM}/bot", id="other"))


TEACHES_NOTHING = [
    (sent(), message(f"{ROOM}/juliet", id="m2")),
    (sent(), message("other@muc.example/juliet", id="m1")),
    (sent(), message(f"{ROOM}/juliet", id="m1", type="chat")),
    (sent(type="chat"), message(f"{ROOM}/juliet", id="m1")),
    (sent(id=None), stanza(f"<message from='{ROOM}/juliet' to='{BOT}' type='groupchat'/>")),
]


@pytest.mark.parametrize(("ours", "theirs"), TEACHES_NOTHING)
def test_anything_else_teaches_nothing(ours: Stanza, theirs: Stanza) -> None:
    rooms = MucOccupancy()
    rooms.observe_sent(ours)
    rooms.observe(theirs)
    assert not rooms.has_occupant(ROOM)


# --- bounded


def test_the_oldest_occupant_is_forgotten() -> None:
    rooms = MucOccupancy(limit=3)
    for number in range(4):
        rooms.observe(presence("bot", 110, room=f"r{number}@muc.example"))
    known = [rooms.has_occupant(f"r{number}@muc.example") for number in range(4)]
    assert known == [False, True, True, True]


def test_an_occupant_that_is_heard_of_again_is_kept() -> None:
    rooms = MucOccupancy(limit=2)
    for room in ("a", "b", "a", "c"):
        rooms.observe(presence("bot", 110, room=f"{room}@muc.example"))
    known = [rooms.has_occupant(f"{room}@muc.example") for room in "abc"]
    assert known == [True, False, True]


def test_the_oldest_id_is_forgotten() -> None:
    rooms = MucOccupancy(limit=3)
    for number in range(4):
        rooms.observe_sent(sent(id=f"m{number}"))
    rooms.observe(message(f"{ROOM}/bot", id="m0"))
    assert not rooms.has_occupant(ROOM)


def test_the_youngest_ids_are_kept() -> None:
    rooms = MucOccupancy(limit=3)
    for number in range(4):
        rooms.observe_sent(sent(id=f"m{number}"))
    rooms.observe(message(f"{ROOM}/bot", id="m1"))
    assert rooms.has_occupant(ROOM)


def test_strangers_cannot_make_it_grow() -> None:
    rooms = MucOccupancy(limit=10)
    for number in range(1000):
        rooms.observe(presence(f"n{number}", 110, to=f"u{number}@bot.example.com"))
    assert [
        rooms.is_own(message(f"{ROOM}/n{n}", to=f"u{n}@bot.example.com")) for n in (989, 990)
    ] == [
        False,
        True,
    ]
