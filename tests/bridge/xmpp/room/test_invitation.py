"""Invitations that are accepted: which room, how often, and what is not one."""

from typing import Final

import pytest

from bridge.config.value import Secret
from bridge.xmpp.room.invitation import INTERVAL_S, Invitations
from tests.bridge.sample import stanza
from tests.bridge.xmpp.room.stage import HALL, MUC_USER, ROOM, Stage

JULIET: Final = "juliet@capulet.example/balcony"
BOT: Final = "bot@bot.example"


def direct(room: str = ROOM, more: str = "", from_: str = JULIET, type: str = "") -> str:
    kind = f" type='{type}'" if type else ""
    x = f"<x xmlns='jabber:x:conference' jid='{room}'{more}/>"
    return f"<message from='{from_}' to='{BOT}'{kind}>{x}</message>"


def mediated(room: str = ROOM, inviter: str = JULIET, password: str = "") -> str:
    secret = f"<password>{password}</password>" if password else ""
    invite = f"<invite from='{inviter}'><reason>come</reason></invite>"
    x = f"<x xmlns='{MUC_USER}'>{invite}{secret}</x>"
    return f"<message from='{room}' to='{BOT}'>{x}</message>"


class Bench:
    def __init__(self, max_rooms: int = 100) -> None:
        self.stage = Stage(max_rooms=max_rooms)
        self.invitations = Invitations(
            self.stage.rooms, self.stage.log.logger(), lambda: self.stage.now
        )

    def give(self, text: str) -> list[str]:
        """Accept an invitation; give the rooms there are then."""
        self.invitations.accept(stanza(text))
        return [room.jid for room, _ in self.stage.rooms.all()]


@pytest.mark.parametrize("text", [direct(more=" password='s3cret'"), mediated(password="s3cret")])
def test_an_invitation_is_followed(text: str) -> None:
    bench = Bench()
    assert bench.give(text) == [ROOM]
    [(room, origin)] = bench.stage.rooms.all()
    assert (room.settings.local, room.nick, origin) == ("bot", "bot", "invitation")
    assert room.settings.password == Secret("s3cret")
    [line] = bench.stage.log.of("invitation accepted")
    assert line["room"] == ROOM


def test_one_inviter_may_invite_once_a_minute() -> None:
    bench = Bench()
    bench.give(direct())
    assert bench.give(direct("attic@muc.example")) == [ROOM]
    assert len(bench.give(direct("attic@muc.example", from_="romeo@montague.example/x"))) == 2
    bench.stage.now += INTERVAL_S
    assert len(bench.give(direct("cellar@muc.example"))) == 3
    assert len(bench.stage.log.of("invitation not accepted")) == 1


def test_a_server_of_rooms_is_one_inviter_whomever_it_names() -> None:
    bench = Bench()
    bench.give(mediated())
    assert bench.give(mediated("attic@muc.example", "somebody@else.example")) == [ROOM]


def test_no_more_rooms_than_allowed() -> None:
    bench = Bench(max_rooms=0)
    assert bench.give(direct()) == []
    [line] = bench.stage.log.of("invitation not accepted")
    assert "max_rooms" in line["why"]


def test_a_room_that_is_kept_stays_as_it_is() -> None:
    bench = Bench()
    bench.stage.rooms.configure([HALL], 100)
    assert bench.give(direct(more=" password='x'")) == [ROOM]
    assert bench.stage.room.settings == HALL


@pytest.mark.parametrize(
    "text",
    [
        direct("muc.example"),
        direct(""),
        direct("@@"),
        direct(type="error"),
        direct(type="groupchat"),
        f"<message from='{JULIET}' to='{BOT}'><body>come</body></message>",
        f"<message from='{ROOM}' to='{BOT}'><x xmlns='{MUC_USER}'><decline/></x></message>",
        direct().replace(f"to='{BOT}'", "to='bot.example'"),
    ],
)
def test_what_is_no_invitation_to_a_room(text: str) -> None:
    assert Bench().give(text) == []
