"""Scenes of rooms: the bot as an occupant, from its joining to its being kicked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.capture.stage import (
    ALL_KINDS,
    MUC,
    Stage,
    has_id,
    is_presence,
    message,
    says,
    stanzas,
    was,
)
from tests.servers.endpoint import NOTHING, Posted, Reaction, reply
from tests.servers.peer import name

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

    from tests.servers.peer import Peer

ROOM: Final = f"lobby@{MUC}"
JOIN: Final = "<x xmlns='http://jabber.org/protocol/muc'/>"
ADMIN: Final = "http://jabber.org/protocol/muc#admin"


async def room(stage: Stage) -> None:
    """The bot joins a room with a history, talks, hears whispers, and is kicked."""
    stage.endpoint.react = _react
    async with (
        stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"),
        stage.user("alice", "phone") as alice,
        stage.user("bob", "tv") as bob,
    ):
        await join(alice, f"{ROOM}/alice")
        await alice.send(f"<message to='{ROOM}' type='groupchat'><subject>Cave</subject></message>")
        await alice.receive(lambda it: it.findtext("{jabber:client}subject") == "Cave")
        for number, text in enumerate(("long ago", "a while ago")):
            await _say(alice, text, f"r{number}")
        await alice.send(message("join", id="r2"))
        await alice.receive(is_presence(f"{ROOM}/robot"))
        await alice.receive(says("I am in"))
        await _say(alice, "robot, are you there?", "r3")
        await alice.receive(says("I am"))
        await join(bob, f"{ROOM}/bob")
        await bob.receive(is_presence(f"{ROOM}/robot"))
        await _say(bob, "hello all", "r4")
        await bob.send(message("psst", to=f"{ROOM}/robot", id="r5"))
        await bob.receive(says("what is it?"))
        await bob.send(f"<presence to='{ROOM}/robert'/>")
        await bob.receive(is_presence(f"{ROOM}/robert"))
        await _ask(bob, "<ping xmlns='urn:xmpp:ping'/>", "get", to=f"{ROOM}/robot")
        await _kick(alice, "robert", "too loud")
        await stage.posted(was(type="unavailable", **{"from": f"{ROOM}/robert"}))
        await _kick(alice, "robot", "too quiet")
        await stage.posted(was(type="unavailable", **{"from": f"{ROOM}/robot"}))


async def join(user: Peer, occupant: str) -> None:
    """Enter a room and see oneself in it."""
    await user.send(f"<presence to='{occupant}'>{JOIN}</presence>")
    await user.receive(is_presence(occupant))


def _react(posted: Posted) -> Reaction:
    match posted["kind"], posted.get("type"), posted.get("body"):
        case "message", "chat", "join":
            return stanzas(
                f"<presence to='{ROOM}/robot'><show>chat</show>{JOIN}</presence>",
                f"<message to='{ROOM}' type='groupchat' id='b1'><body>I am in</body></message>",
            )
        case "message", "groupchat", "robot, are you there?":
            return reply({"body": "I am"})
        case "message", "chat", "psst":
            return reply({"body": "what is it?"})
    return NOTHING


async def _say(user: Peer, text: str, id: str) -> None:
    await user.send(message(text, to=ROOM, type="groupchat", id=id))
    await user.receive(lambda it: it.get("type") == "groupchat" and says(text)(it))


async def _ask(user: Peer, query: str, type: str, to: str) -> ET.Element:
    id = f"ask-{len(user.stanzas)}"
    await user.send(f"<iq type='{type}' id='{id}' to='{to}'>{query}</iq>")
    return await user.receive(lambda it: name(it) == "iq" and has_id(id)(it))


async def _kick(user: Peer, nick: str, reason: str) -> None:
    item = f"<item nick='{nick}' role='none'><reason>{reason}</reason></item>"
    answer = await _ask(user, f"<query xmlns='{ADMIN}'>{item}</query>", "set", to=ROOM)
    assert answer.get("type") == "result"
