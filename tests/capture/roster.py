"""Scenes of presence: subscriptions, probes, comings and goings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.capture.stage import (
    ALL_KINDS,
    ECHO,
    HOST,
    Stage,
    has_id,
    is_presence,
    message,
    stanzas,
    was,
)
from tests.servers.endpoint import NOTHING, Posted, Reaction
from tests.servers.peer import Peer, name

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import Callable

ALICE: Final = f"alice@{HOST}"


async def presence(stage: Stage) -> None:
    """Presence that the bridge answers itself: subscribe, probe, unsubscribe."""
    async with stage.bridge():
        await _befriend(stage)


async def presence_posted(stage: Stage) -> None:
    """Presence that is POSTed and that the endpoint answers; the bot subscribes, too."""
    stage.endpoint.react = _react
    async with stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"):
        await _befriend(stage)
        async with stage.user("alice", "phone") as alice:
            await _roster(alice, "get")
            await alice.send(message("be my friend", id="p1"))
            await alice.receive(is_presence(ECHO, "subscribe"))
            await alice.send(f"<presence to='{ECHO}' type='subscribed'/>")
            await stage.posted(was(type="subscribed"))
            await alice.send("<presence><show>dnd</show><status>busy</status></presence>")
            await stage.posted(lambda it: "busy" in it["stanza"])
            known = len(stage.endpoint.posted)
            await alice.send(message("where am I?", id="p2"))
            await stage.posted(lambda it: stage.endpoint.posted.index(it) > known)
            await alice.send(message("farewell", id="p3"))
            await alice.receive(is_presence(ECHO, "unsubscribe"))


def _react(posted: Posted) -> Reaction:
    match posted["kind"], posted.get("type"), posted.get("body"):
        case "presence", "subscribe", _:
            return stanzas(
                "<presence type='subscribed'/>",
                f"<presence from='{ECHO}/here'><status>at your service</status></presence>",
            )
        case "presence", "probe", _:
            return stanzas(f"<presence from='{ECHO}/here'><priority>5</priority></presence>")
        case "presence", "unsubscribe", _:
            return stanzas(
                "<presence type='unsubscribed'/>",
                f"<presence type='unavailable' from='{ECHO}/here'/>",
            )
        case "message", _, "be my friend":
            return stanzas(f"<presence type='subscribe' to='{ALICE}'/>")
        case "message", _, "where am I?":
            return stanzas(f"<presence type='probe' to='{ALICE}'/>")
        case "message", _, "farewell":
            return stanzas(f"<presence type='unsubscribe' to='{ALICE}'/>")
    return NOTHING


async def _befriend(stage: Stage) -> None:
    """Subscribe, come back later, look away, and unsubscribe."""
    async with stage.user("alice", "phone") as alice:
        await _roster(alice, "get")
        await _roster(alice, "set", f"<item jid='{ECHO}' name='Echo'/>")
        await alice.send(f"<presence to='{ECHO}' type='subscribe' id='s1'/>")
        await alice.receive(is_presence(ECHO, "subscribed"))
        await alice.receive(_is_bot(None))
    async with stage.user("alice", "desk") as alice:  # the server probes for her
        await alice.receive(_is_bot(None))
        await alice.send(f"<presence to='{ECHO}'><show>xa</show></presence>")
        await alice.send(f"<presence to='{ECHO}' type='unavailable'/>")
        await alice.send(f"<presence to='{ECHO}' type='unsubscribe' id='s2'/>")
        await alice.receive(_is_bot("unavailable"))
        await _roster(alice, "set", f"<item jid='{ECHO}' subscription='remove'/>")


def _is_bot(type: str | None) -> Callable[[ET.Element], bool]:
    return lambda it: (
        name(it) == "presence"
        and it.get("from", "").partition("/")[0] == ECHO
        and it.get("type") == type
    )


async def _roster(user: Peer, type: str, item: str = "") -> None:
    """Ask for the roster, so that subscriptions are told; or change it."""
    id = f"roster-{len(user.stanzas)}"
    query = f"<query xmlns='jabber:iq:roster'>{item}</query>"
    await user.send(f"<iq type='{type}' id='{id}'>{query}</iq>")
    await user.receive(has_id(id))
