"""Who gets a receipt or a marker, line by line."""

from typing import Any, Final

import pytest
from attrs import evolve

from bridge.config.settings import RoomSettings
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.receipt import Receipts
from bridge.xmpp.room.rooms import Rooms
from tests.bridge.recorder import Recorder
from tests.bridge.sample import meanings, stanza
from tests.bridge.xmpp.test_autoresponder import COMPONENT
from xmppstream import Stanza

BOT: Final = "echo@bot.example.com"
PHONE: Final = "juliet@x.example/phone"
ROOM: Final = "room@rooms.example"
HALL: Final = "hall@rooms.example"
"""A room that is kept, and not joined now."""
REQUEST: Final = "<request xmlns='urn:xmpp:receipts'/>"
MARKABLE: Final = "<markable xmlns='urn:xmpp:chat-markers:0'/>"
STORE: Final = "<store xmlns='urn:xmpp:hints'/>"
BODY: Final = "<body>hi</body>"


def message(
    inner: str, type: str | None = "chat", id: str | None = "m1", from_: str = PHONE
) -> Stanza:
    words = "".join(f" {k}='{v}'" for k, v in (("type", type), ("id", id)) if v is not None)
    return stanza(f"<message from='{from_}' to='{BOT}/x'{words}>{inner}</message>")


def said(name: str, type: str | None = "chat", id: str = "m1") -> Stanza:
    namespace = "urn:xmpp:receipts" if name == "received" else "urn:xmpp:chat-markers:0"
    word = "" if type is None else f" type='{type}'"
    inner = f"<{name} xmlns='{namespace}' id='{id}'/>{STORE}"
    return stanza(f"<message to='{PHONE}' from='{BOT}/x'{word}>{inner}</message>")


def receipts(**options: Any) -> Receipts:
    rooms = Rooms(COMPONENT.domain, MucOccupancy(), Recorder().logger(), now=lambda: 0.0)
    rooms.configure([RoomSettings(HALL, "echo", "echo")], 100)
    inner = "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x>"
    rooms.receive(stanza(f"<presence from='{ROOM}/bot' to='{BOT}'>{inner}</presence>"))
    return Receipts(evolve(COMPONENT, **options), rooms)


ASKING = [
    ("chat", message(BODY + REQUEST), [said("received")]),
    ("normal", message(BODY + REQUEST, "normal"), [said("received", "normal")]),
    ("no type", message(BODY + REQUEST, None), [said("received", None)]),
    ("headline", message(BODY + REQUEST, "headline"), [said("received", "headline")]),
    ("no body", message(REQUEST), [said("received")]),
    (
        "sent while offline",
        message(f"{BODY}<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>{REQUEST}"),
        [said("received")],
    ),
    ("both", message(BODY + MARKABLE + REQUEST), [said("received"), said("displayed")]),
    ("marker", message(BODY + MARKABLE), [said("displayed")]),
    ("nothing asked", message(BODY), []),
    ("no id", message(BODY + REQUEST + MARKABLE, id=None), []),
    ("groupchat", message(BODY + REQUEST + MARKABLE, "groupchat"), []),
    ("error", message(BODY + REQUEST + MARKABLE, "error"), []),
    (
        "an acknowledgement",
        message(f"<received xmlns='urn:xmpp:receipts' id='r'/>{REQUEST}{MARKABLE}"),
        [],
    ),
    (
        "out of an archive",
        message(f"<result xmlns='urn:xmpp:mam:2' queryid='1'/>{REQUEST}{MARKABLE}"),
        [],
    ),
    ("of an occupant", message(BODY + REQUEST + MARKABLE, from_=f"{ROOM}/juliet"), []),
    (
        "of an occupant, after the bridge has left",
        stanza(
            f"<message from='{HALL}/juliet' to='{BOT}/default' id='m1' type='chat'>"
            f"{BODY}{REQUEST}{MARKABLE}</message>"
        ),
        [],
    ),
    (
        "of an occupant of an unknown room",
        message(f"{BODY}{REQUEST}<x xmlns='http://jabber.org/protocol/muc#user'/>"),
        [],
    ),
    ("presence", stanza(f"<presence from='{PHONE}' to='{BOT}' id='p'>{REQUEST}</presence>"), []),
]


@pytest.mark.parametrize(
    ("asking", "expected"), [row[1:] for row in ASKING], ids=[row[0] for row in ASKING]
)
@pytest.mark.parametrize("moment", ["handled", "accepted"])
def test_who_gets_what(asking: Stanza, expected: list[Stanza], moment: str) -> None:
    one = receipts(receipts=moment, markers=True)
    handled, accepted = one.for_handled(asking, []), one.for_accepted(asking)
    if moment == "accepted":
        handled, accepted = accepted, handled
    assert meanings(handled) == meanings(expected)
    assert accepted == []


def test_markers_are_off_by_default_and_receipts_can_be() -> None:
    both = message(BODY + REQUEST + MARKABLE)
    assert meanings(receipts().for_handled(both, [])) == meanings([said("received")])
    assert receipts(receipts="off").for_handled(both, []) == []
    assert meanings(receipts(receipts="off", markers=True).for_handled(both, [])) == meanings(
        [said("displayed")]
    )


def test_what_the_endpoint_says_itself_is_not_said_again() -> None:
    one, both = receipts(markers=True), message(BODY + REQUEST + MARKABLE)
    found = one.for_handled(both, [said("received")])
    assert meanings(found) == meanings([said("displayed")])
    found = one.for_handled(both, [said("received", id="another")])
    assert len(found) == 2


def test_another_configuration_is_used_at_once() -> None:
    one = receipts()
    one.change(evolve(COMPONENT, receipts="off"))
    assert one.for_handled(message(BODY + REQUEST), []) == []
