"""Rooms (rules S30 and S36): a bot in one does not talk to itself, and is not expelled.

The bot joins by a reply with a presence stanza. What a person in the room sees tells whether it is
still there.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.servers.conftest import MUC
from tests.servers.endpoint import NOTHING, Answer, Never, Posted, Raw, Reaction, always, reply, xml
from tests.servers.peer import condition, name
from tests.servers.scene import (
    ALL_KINDS,
    ECHO,
    MUC_USER,
    ONE_ATTEMPT,
    PEER,
    Scene,
    body_of,
    message,
    open_scene,
    stanza,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.daemon import Table
    from tests.servers.ejabberd import Ejabberd
    from tests.servers.prosody import Prosody

ROOM: Final = f"lobby@{MUC}"
BOT_THERE: Final = f"{ROOM}/robot"
HUMAN_THERE: Final = f"{ROOM}/human"
HUMAN: Final = f"human@{PEER}/r"
JOIN: Final = "<x xmlns='http://jabber.org/protocol/muc'/>"
DELAY: Final = "{urn:xmpp:delay}delay"


@dataclass(frozen=True)
class Room:
    """A room with a person in it, whose steps wait for what they cause."""

    scene: Scene

    async def enter(self) -> None:
        await self.scene.peer.send(stanza("presence", JOIN, to=HUMAN_THERE, from_=HUMAN))
        await self._seen("presence", HUMAN_THERE)

    async def invite(self) -> None:
        """Have the bot join: by the reply to a message from elsewhere."""
        join = f"<presence to='{BOT_THERE}'>{JOIN}</presence>"
        earlier, self.scene.endpoint.react = self.scene.endpoint.react, always(xml(join))
        self.scene.endpoint.hold(lambda posted: posted["from"] != HUMAN)
        await self.scene.peer.send(message("join", from_=HUMAN))
        await self._seen("presence", BOT_THERE)
        self.scene.endpoint.react = earlier
        self.scene.endpoint.release()

    async def say(self, text: str) -> None:
        """Say something to all, and see it."""
        said = message(text, to=ROOM, from_=HUMAN, type="groupchat", id=f"id-{text}")
        await self.scene.peer.send(said)
        await self.hear(text, HUMAN_THERE)

    async def whisper(self, text: str) -> None:
        """Say something to the bot alone."""
        await self.scene.peer.send(message(text, to=BOT_THERE, from_=HUMAN))

    async def hear(self, text: str, from_: str = BOT_THERE) -> ET.Element:
        """Wait until that occupant says that."""
        return await self.scene.peer.receive(
            lambda it: it.get("from") == from_ and body_of(it) == text, timeout_s=30
        )

    async def still_there(self) -> None:
        """Fail unless the bot is still in the room, and was there all the time."""
        scene = self.scene
        scene.endpoint.react = _echo_all
        await self.say("are you there")
        await self.hear("are you there")
        gone = [
            ET.tostring(it)
            for it in scene.peer.stanzas
            if name(it) == "presence" and it.get("from") == BOT_THERE and it.get("type")
        ]
        assert not gone

    async def _seen(self, kind: str, from_: str) -> None:
        await self.scene.peer.receive(
            lambda it: name(it) == kind and it.get("from") == from_, timeout_s=30
        )


def _echo_all(posted: Posted) -> Reaction:
    """An echo bot as it should not be written: it answers to itself, and to history."""
    return reply({"body": posted["body"]}) if posted.get("body") else NOTHING


@asynccontextmanager
async def open_room(
    server: Prosody | Ejabberd,
    directory: Path,
    history: tuple[str, ...] = (),
    timeout_s: float = 30.0,
    retry: Table | None = None,
    **component: Any,
) -> AsyncIterator[Room]:
    """A room with a person in it who has said all of `history`, and with the bot.

    `timeout_s` is the endpoint's.
    """
    async with open_scene(
        server, directory, component=component, http={"timeout_s": timeout_s}, retry=retry
    ) as scene:
        scene.endpoint.react = _echo_all
        room = Room(scene)
        await room.enter()
        for text in history:
            await room.say(text)
        await room.invite()
        yield room


async def test_an_echo_does_not_talk_to_itself(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    texts = ["one", "two", "three"]
    async with open_room(
        server, tmp_path, component_post_stanzas=ALL_KINDS, component_post_events="all"
    ) as room:
        for text in texts:
            await room.say(text)
            heard = await room.hear(text)
            assert heard.get("type") == "groupchat"
        await room.whisper("psst")
        assert (await room.hear("psst")).get("type") == "chat"
        await room.still_there()
        spoken = [it for it in room.scene.endpoint.posted if it.get("body")]
        assert [it["body"] for it in spoken] == ["join", *texts, "psst", "are you there"]
        assert {it["from"] for it in spoken[1:]} == {HUMAN_THERE}
        assert {it["to"].partition("/")[0] for it in spoken} == {ECHO}


async def test_history_is_not_posted(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with open_room(server, tmp_path, ("old", "older")) as room:
        await room.say("new")
        await room.hear("new")
        assert room.scene.endpoint.bodies == ["join", "new"]


async def test_a_failing_endpoint_is_not_expelled(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    failures: list[Reaction] = [
        *(Answer(status) for status in (404, 410, 500, 502, 503)),
        Answer(body=b"no JSON"),
        reply({"body": "x", "to": "@@bad"}),
        Raw(),
    ]
    async with open_room(
        server,
        tmp_path,
        timeout_s=3.0,
        retry=ONE_ATTEMPT,
        component_post_stanzas=ALL_KINDS,
        component_post_events="all",
    ) as room:
        scene = room.scene
        for number, failure in enumerate(failures):
            known = len(scene.endpoint.requests)
            scene.endpoint.react = always(failure)
            await room.say(f"all {number}")
            await room.whisper(f"you {number}")
            await scene.peer.send(stanza("presence", to=HUMAN_THERE, from_=HUMAN))
            await scene.endpoint.wait_requests(known + 3)
            await scene.endpoint.wait_until(lambda: scene.endpoint.in_flight == 0)
        # an iq is owed its answer even there, and that expels nobody
        scene.endpoint.react = always(Answer(503))
        ping = "<ping xmlns='urn:xmpp:ping'/>"
        await scene.peer.send(stanza("iq", ping, to=BOT_THERE, from_=HUMAN, type="get"))
        got = await scene.peer.receive(lambda it: name(it) == "iq" and it.get("id") == "q")
        error = got.find(".//{*}error")
        assert error is not None
        assert condition(error) == "remote-server-timeout"
        known = len(scene.endpoint.requests)
        scene.endpoint.react = always(Never())
        await room.whisper("no answer in time")
        await scene.endpoint.wait_requests(known + 1)
        await scene.endpoint.wait_until(lambda: scene.endpoint.in_flight == 0)
        # one to be told, so that it is known when nobody listened; the room's are in order before
        await scene.endpoint.stop()
        await room.whisper("nobody listens")
        await scene.peer.send(message("hi", from_=HUMAN, id="last"))
        await scene.peer.receive(lambda it: it.get("id") == "last", timeout_s=30)
        await scene.endpoint.start()
        await room.still_there()
        errors = [it for it in scene.peer.stanzas if it.get("type") == "error"]
        assert [it.get("from") for it in errors] == [BOT_THERE, ECHO]


async def test_an_endpoint_that_replies_errors_is_not_expelled(
    prosody: Prosody, tmp_path: Path
) -> None:
    """An error for a stanza that must not get one is a bad reply."""
    async with open_room(
        prosody, tmp_path, component_post_stanzas=ALL_KINDS, component_post_events="all"
    ) as room:
        error = (
            "<error type='wait'>"
            "<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        )
        room.scene.endpoint.react = lambda posted: xml(
            f"<{posted['kind']} type='error' to='{posted['from']}'>{error}</{posted['kind']}>"
        )
        known = len(room.scene.endpoint.requests)
        await room.whisper("psst")
        await room.say("all")
        await room.scene.peer.send(stanza("presence", to=HUMAN_THERE, from_=HUMAN))
        await room.scene.endpoint.wait_requests(known + 3)
        await room.still_there()
        assert len(room.scene.daemon.logged("bad reply")) == 3


async def test_own_messages_are_posted_if_asked_for(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with open_room(server, tmp_path, ("old",), component_post_own=True) as room:
        scene = room.scene
        scene.endpoint.react = lambda posted: (
            reply({"body": "answer"}) if posted.get("body") == "question" else NOTHING
        )
        await room.say("question")
        await room.hear("answer")
        await scene.endpoint.wait_until(lambda: "answer" in scene.endpoint.bodies)
        spoken = {it["body"]: it for it in scene.endpoint.posted if it.get("body")}
        assert list(spoken) == ["join", "old", "question", "answer"]
        assert spoken["answer"]["from"] == BOT_THERE
        old = ET.fromstring(spoken["old"]["stanza"])
        assert old.find(DELAY) is not None


@pytest.mark.parametrize("type", ["unavailable", ""])
async def test_statuses_of_the_bot_are_its_own(prosody: Prosody, tmp_path: Path, type: str) -> None:
    """Who claims to be its room from elsewhere changes nothing for the real one."""
    async with open_room(prosody, tmp_path) as room:
        forged = f"<x xmlns='{MUC_USER}'><status code='110'/></x>"
        forger = f"lobby@{PEER}/robot"
        await room.scene.peer.send(stanza("presence", forged, from_=forger, type=type))
        await room.say("one")
        await room.hear("one")
        await room.still_there()
        assert room.scene.endpoint.bodies == ["join", "one", "are you there"]
