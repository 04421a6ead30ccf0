"""Scenes of iqs: questions that the bot is asked, and that it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.capture.stage import (
    ALL_KINDS,
    BOT,
    ECHO,
    HOST,
    MUC,
    Stage,
    has_id,
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

INFO: Final = "http://jabber.org/protocol/disco#info"
ITEMS: Final = "http://jabber.org/protocol/disco#items"
COMMANDS: Final = "http://jabber.org/protocol/commands"
OWNER: Final = "http://jabber.org/protocol/muc#owner"
PING: Final = "<ping xmlns='urn:xmpp:ping'/>"
VERSION: Final = "<query xmlns='jabber:iq:version'/>"
CARD: Final = "<vCard xmlns='vcard-temp'><FN>Echo</FN><N><FAMILY>Bot</FAMILY></N></vCard>"
PERSON: Final = (
    "<vCard xmlns='vcard-temp'><FN>Alice Ärger</FN>"
    "<EMAIL><USERID>a@b.example</USERID></EMAIL></vCard>"
)
QUESTIONS: Final = (
    ("get", BOT, PING),
    ("get", ECHO, PING),
    ("get", BOT, f"<query xmlns='{INFO}'/>"),
    ("get", ECHO, f"<query xmlns='{INFO}'/>"),
    ("get", ECHO, f"<query xmlns='{INFO}' node='nowhere'/>"),
    ("get", BOT, f"<query xmlns='{ITEMS}'/>"),
    ("get", BOT, VERSION),
    ("get", ECHO, "<vCard xmlns='vcard-temp'/>"),
    ("set", ECHO, "<vCard xmlns='vcard-temp'><FN>Mine now</FN></vCard>"),
    ("get", ECHO, "<query xmlns='jabber:iq:last'/>"),
)


async def query(stage: Stage) -> None:
    """Questions that the bridge answers itself: ping, disco, version, and no for a vCard."""
    async with stage.bridge(), stage.user("alice", "phone") as alice:
        for type, to, question in QUESTIONS:
            await ask(alice, type, to, question)


async def query_posted(stage: Stage) -> None:
    """Questions that are POSTed, and then those that the bot asks of the server and of a person."""
    stage.endpoint.react = _react
    async with (
        stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"),
        stage.user("alice", "phone", answer_pings=False) as alice,
    ):
        for type, to, question in QUESTIONS:
            await ask(alice, type, to, question)
        await ask(alice, "set", f"alice@{HOST}", PERSON)
        asked = _asked(alice.jid)
        for id, (_, to, _) in asked.items():
            await alice.send(message(id))
            if to == alice.jid:
                await _answer(alice, id)
            await stage.posted(was(kind="iq", id=id))


async def command(stage: Stage) -> None:
    """Ad-hoc commands: a list, one in two steps, one that is cancelled, one of the server's."""
    stage.endpoint.react = _react_to_commands
    async with (
        stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"),
        stage.user("alice", "phone") as alice,
    ):
        await ask(alice, "get", ECHO, f"<query xmlns='{ITEMS}' node='{COMMANDS}'/>")
        first = await ask(
            alice, "set", ECHO, f"<command xmlns='{COMMANDS}' node='order' action='execute'/>"
        )
        session = first[0].get("sessionid")
        form = (
            "<x xmlns='jabber:x:data' type='submit'>"
            "<field var='dish'><value>soup</value></field></x>"
        )
        done = await ask(
            alice,
            "set",
            ECHO,
            f"<command xmlns='{COMMANDS}' node='order' sessionid='{session}'>{form}</command>",
        )
        assert done[0].get("status") == "completed"
        cancelled = await ask(
            alice,
            "set",
            ECHO,
            f"<command xmlns='{COMMANDS}' node='order' sessionid='{session}' action='cancel'/>",
        )
        assert cancelled[0].get("status") == "canceled"
        refused = await ask(alice, "set", ECHO, f"<command xmlns='{COMMANDS}' node='none'/>")
        assert refused.get("type") == "error"
        for id in ("commands", "uptime"):
            await alice.send(message(id))
            await stage.posted(was(kind="iq", id=id))


async def form(stage: Stage) -> None:
    """Data forms: one that the bot sends and gets back, and a room's, which the bot fills in."""
    stage.endpoint.react = _react_to_forms
    async with (
        stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"),
        stage.user("alice", "phone") as alice,
    ):
        await alice.send(message("a form, please", id="o1"))
        await alice.receive(says("Please fill this in"))
        await alice.send(
            f"<message to='{ECHO}' id='o2'>"
            "<thread>form</thread><x xmlns='jabber:x:data' type='submit'>"
            "<field var='FORM_TYPE' type='hidden'><value>urn:example:survey</value></field>"
            "<field var='name'><value>Alice &amp; the others</value></field>"
            "<field var='days'><value>Mo</value><value>We</value></field>"
            "<field var='subscribe'><value>1</value></field>"
            "<field var='friends'><value>romeo@montague.example</value></field>"
            "<field var='text'><value>one</value><value/><value>three</value></field>"
            "</x></message>"
        )
        await alice.receive(says("Thank you"))
        await alice.send(
            f"<message to='{ECHO}' id='o3'><x xmlns='jabber:x:data' type='cancel'/></message>"
        )
        await stage.posted(was(id="o3"))
        await alice.send(message("make a room", id="o4"))
        await stage.posted(was(kind="iq", id="configure"))
        await alice.send(message("configure it", id="o5"))
        await stage.posted(was(kind="iq", id="configured"))


async def ask(user: Peer, type: str, to: str, question: str) -> ET.Element:
    """Send an iq and give the answer."""
    id = f"q{len(user.stanzas)}"
    await user.send(f"<iq type='{type}' id='{id}' to='{to}'>{question}</iq>")
    return await user.receive(lambda it: name(it) == "iq" and has_id(id)(it))


def _react(posted: Posted) -> Reaction:
    if posted["kind"] == "iq" and posted["type"] in ("get", "set"):
        if "vcard-temp" in posted["stanza"] and posted["type"] == "get":
            return stanzas(f"<iq type='result'>{CARD}</iq>")
        if "jabber:iq:last" in posted["stanza"]:
            return stanzas("<iq type='result'><query xmlns='jabber:iq:last' seconds='7'/></iq>")
    if posted["kind"] == "message" and (
        found := _asked(posted["from"]).get(posted.get("body", ""))
    ):
        type, to, question = found
        return stanzas(f"<iq type='{type}' to='{to}' id='{posted['body']}'>{question}</iq>")
    return NOTHING


def _asked(person: str) -> dict[str, tuple[str, str, str]]:
    """What the bot asks, by the body that has it do so, which is also the question's id."""
    bare = person.partition("/")[0]
    return {
        "ping the server": ("get", HOST, PING),
        "info of the server": ("get", HOST, f"<query xmlns='{INFO}'/>"),
        "items of the server": ("get", HOST, f"<query xmlns='{ITEMS}'/>"),
        "info of the rooms": ("get", MUC, f"<query xmlns='{INFO}'/>"),
        "version of the server": ("get", HOST, VERSION),
        "vCard of a person": ("get", bare, "<vCard xmlns='vcard-temp'/>"),
        "vCard of nobody": ("get", f"nobody@{HOST}", "<vCard xmlns='vcard-temp'/>"),
        "ping a person": ("get", person, PING),
        "version of a person": ("get", person, VERSION),
    }


async def _answer(alice: Peer, id: str) -> None:
    asked = await alice.receive(lambda it: name(it) == "iq" and has_id(id)(it))
    inside = (
        "<query xmlns='jabber:iq:version'><name>Phone</name><version>1 ½</version></query>"
        if "version" in asked[0].tag
        else ""
    )
    await alice.send(f"<iq type='result' id='{id}' to='{asked.get('from')}'>{inside}</iq>")


def _react_to_commands(posted: Posted) -> Reaction:
    body, xml = posted.get("body"), posted["stanza"]
    if body == "commands":
        return stanzas(
            f"<iq type='get' to='{HOST}' id='commands'>"
            f"<query xmlns='{ITEMS}' node='{COMMANDS}'/></iq>"
        )
    if body == "uptime":
        return stanzas(
            f"<iq type='set' to='{HOST}' id='uptime'>"
            f"<command xmlns='{COMMANDS}' node='uptime' action='execute'/></iq>"
        )
    if posted["kind"] != "iq" or posted["type"] not in ("get", "set"):
        return NOTHING
    if ITEMS in xml:
        item = f"<item jid='{ECHO}' node='order' name='Order'/>"
        return stanzas(
            f"<iq type='result'><query xmlns='{ITEMS}' node='{COMMANDS}'>{item}</query></iq>"
        )
    if "'none'" in xml:
        return stanzas(
            "<iq type='error'><error type='cancel'>"
            "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        )
    return stanzas(f"<iq type='result'>{_command(xml)}</iq>")


def _command(xml: str) -> str:
    status, inside = "completed", "<note type='info'>One soup it is</note>"
    if "'cancel'" in xml:
        status, inside = "canceled", ""
    elif "'execute'" in xml:
        status = "executing"
        inside = (
            "<actions execute='complete'><complete/></actions>"
            "<x xmlns='jabber:x:data' type='form'><title>Order</title>"
            "<field var='dish' type='list-single' label='Dish'>"
            "<option label='Soup'><value>soup</value></option>"
            "<option label='Fish'><value>fish</value></option></field></x>"
        )
    return (
        f"<command xmlns='{COMMANDS}' node='order' sessionid='s-1' status='{status}'>"
        f"{inside}</command>"
    )


SURVEY: Final = (
    "<x xmlns='jabber:x:data' type='form'><title>Survey</title>"
    "<instructions>All of it</instructions>"
    "<field var='FORM_TYPE' type='hidden'><value>urn:example:survey</value></field>"
    "<field type='fixed'><value>About you</value></field>"
    "<field var='name' type='text-single' label='Name'><required/></field>"
    "<field var='secret' type='text-private' label='Word'/>"
    "<field var='days' type='list-multi' label='Days'>"
    "<option label='Monday'><value>Mo</value></option>"
    "<option label='Wednesday'><value>We</value></option></field>"
    "<field var='subscribe' type='boolean' label='Mail?'><value>0</value></field>"
    "<field var='friends' type='jid-multi' label='Friends'/>"
    "<field var='text' type='text-multi' label='Words'><desc>as many as you like</desc></field></x>"
)


def _react_to_forms(posted: Posted) -> Reaction:
    xml = posted["stanza"]
    room = f"formal@{MUC}"
    if posted.get("body") == "a form, please":
        return stanzas(
            "<message type='normal' id='b1'><thread>form</thread><body>Please fill this in</body>"
            f"{SURVEY}</message>"
        )
    if posted["kind"] == "message" and "'submit'" in xml:
        return reply({"type": "normal", "body": "Thank you"})
    if posted.get("body") == "make a room":
        return stanzas(
            f"<presence to='{room}/robot'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
            f"<iq type='get' to='{room}' id='configure'><query xmlns='{OWNER}'/></iq>",
        )
    if posted.get("body") == "configure it":
        return stanzas(
            f"<iq type='set' to='{room}' id='configured'><query xmlns='{OWNER}'>"
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>"
            "<value>http://jabber.org/protocol/muc#roomconfig</value></field>"
            "<field var='muc#roomconfig_roomname'><value>Form &amp; Content</value></field>"
            "</x></query></iq>"
        )
    return NOTHING
