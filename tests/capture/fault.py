"""Scenes of errors: those that come back to the bot, and those that the bridge and it send."""

from __future__ import annotations

from typing import Final

import trio

from tests.capture.query import ask
from tests.capture.room import join
from tests.capture.stage import (
    ALL_KINDS,
    ECHO,
    HOST,
    MUC,
    WAIT_S,
    Stage,
    has_id,
    message,
    says,
    stanzas,
    was,
)
from tests.servers.endpoint import NOTHING, Answer, Posted, Raw, Reaction, reply
from tests.servers.peer import Peer, name

STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
OWNER: Final = "http://jabber.org/protocol/muc#owner"
ADMIN: Final = "http://jabber.org/protocol/muc#admin"
JOIN: Final = "<x xmlns='http://jabber.org/protocol/muc'/>"
CLOSED: Final = f"closed@{MUC}"
LOCKED: Final = f"locked@{MUC}"
OPEN: Final = f"open@{MUC}"
CONFIGURED: Final = {
    CLOSED: {"muc#roomconfig_membersonly": "1"},
    LOCKED: {
        "muc#roomconfig_passwordprotectedroom": "1",
        "muc#roomconfig_roomsecret": "cauldronburn",
    },
    OPEN: {"muc#roomconfig_moderatedroom": "1"},
}

BOUNCING: Final = {
    "nobody": f"<message to='nobody@{HOST}' type='chat' id='{{id}}'><body>x</body></message>",
    "no such resource": f"<iq to='alice@{HOST}/none' type='get' id='{{id}}'>"
    "<ping xmlns='urn:xmpp:ping'/></iq>",
    "no such server": "<message to='juliet@capulet.example' id='{id}'><body>x</body></message>",
    "no such component": f"<message to='x@none.{HOST}' id='{{id}}'><body>x</body></message>",
    "no such query": f"<iq to='{HOST}' type='get' id='{{id}}'><query xmlns='urn:none'/></iq>",
    "not in the room": f"<message to='{OPEN}' type='groupchat' id='{{id}}'><body>x</body>"
    "</message>",
    "no nickname": f"<presence to='{OPEN}' id='{{id}}'>{JOIN}</presence>",
    "a nickname in use": f"<presence to='{OPEN}/alice' id='{{id}}'>{JOIN}</presence>",
    "members only": f"<presence to='{CLOSED}/robot' id='{{id}}'>{JOIN}</presence>",
    "password": f"<presence to='{LOCKED}/robot' id='{{id}}'>{JOIN}</presence>",
    "not an owner": f"<iq to='{OPEN}' type='get' id='{{id}}'><query xmlns='{OWNER}'/></iq>",
    "outcast": f"<presence to='{OPEN}/robot' id='{{id}}'>{JOIN}</presence>",
}
"""What the bot sends, by the body that has it do so, and that comes back as an error."""

TOLD: Final = {
    "auth": "<error type='auth'><not-authorized xmlns='{0}'/></error>",
    "cancel": "<error type='cancel' by='alice@localhost'><gone xmlns='{0}'>xmpp:a@b.example</gone>"
    "<text xmlns='{0}' xml:lang='de'>weg &amp; fort</text></error>",
    "continue": "<error type='continue'><undefined-condition xmlns='{0}'/>"
    "<careful xmlns='urn:example:app'/></error>",
    "modify": "<error type='modify'><jid-malformed xmlns='{0}'/></error>",
    "wait": "<error type='wait' code='500'><resource-constraint xmlns='{0}'/></error>",
}
"""An error of each type."""

AWAY_S: Final = 0.5
STATUSES: Final = (400, 401, 402, 404, 405, 406, 409, 410, 413, 418, 423, 500, 501)
"""One for each condition and type of the contract's table, but those that are tried again."""

BAD: Final[dict[str, Reaction]] = {
    "no JSON": Answer(body=b"{"),
    "a wrong type": reply({"body": ["x"]}),
    "no XML": reply({"stanza": "<message"}),
    "not ours": reply({"body": "x", "from": "ceo@example.com"}),
}
"""Replies that are none, by the body that has them come."""


async def bounce(stage: Stage) -> None:
    """Errors that come to the bot: from the server, from rooms, and from a person's client."""
    stage.endpoint.react = _react_to_bounces
    async with (
        stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"),
        stage.user("alice", "phone") as alice,
    ):
        for room, values in CONFIGURED.items():
            await join(alice, f"{room}/alice")
            await _configure(alice, room, values)
        item = f"<item jid='{ECHO}' affiliation='outcast'/>"
        for id in BOUNCING:
            if id == "outcast":
                await ask(alice, "set", OPEN, f"<query xmlns='{ADMIN}'>{item}</query>")
            await alice.send(message(id))
            await stage.posted(was(type="error", id=id))
        for type, error in TOLD.items():
            await alice.send(message(f"an error: {type}"))
            asked = await alice.receive(has_id(f"an error: {type}"))
            await alice.send(
                f"<iq type='error' to='{asked.get('from')}' id='{asked.get('id')}'>"
                f"{error.format(STANZA_ERRORS)}</iq>"
            )
            await stage.posted(was(type="error", id=f"an error: {type}"))
        for kind in ("message", "presence"):
            error = TOLD["cancel"].format(STANZA_ERRORS)
            await alice.send(f"<{kind} type='error' to='{ECHO}' id='late'>{error}</{kind}>")
            await stage.posted(was(kind=kind, id="late"))


async def error(stage: Stage) -> None:
    """Errors that go to a person: for a status, for a bad reply, and of the endpoint's own."""
    stage.endpoint.react = _react_with_errors
    async with (
        stage.bridge(component_post_stanzas=ALL_KINDS, component_post_events="all"),
        stage.user("alice", "phone") as alice,
    ):
        asked = [*map(str, STATUSES), *BAD, *TOLD]
        for body in asked:
            await alice.send(message(body, id=f"e-{body}".replace(" ", "-")))
            got = await alice.receive(lambda it: name(it) == "message", timeout_s=WAIT_S)
            assert got.get("type") == "error", body
        for status in (404, 500):
            got = await ask(alice, "get", ECHO, f"<query xmlns='urn:example:{status}'/>")
            assert got.get("type") == "error"
        await alice.send(message("501", type="headline", id="h"))
        await stage.posted(was(type="headline"))


async def retry(stage: Stage) -> None:
    """An endpoint that fails for a while: busy, late, garbled, away; and once for too long."""
    tries: dict[str, int] = {}

    def react(posted: Posted) -> Reaction:
        body = posted["body"]
        tries[body] = tries.get(body, 0) + 1
        first: dict[str, Reaction] = {
            "busy": Answer(503, b"later", media="text/plain"),
            "limited": Answer(429, headers=(("Retry-After", "1"),)),
            "garbled": Raw(b"HTTP/1.1 2oo OK\r\n\r\n"),
        }
        if body == "always busy":
            return Answer(503, headers=(("Retry-After", "3"),))
        return first[body] if tries[body] == 1 and body in first else reply({"body": f"{body}!"})

    stage.endpoint.react = react
    async with (
        stage.bridge(retry={"budget_s": 4}),
        stage.user("alice", "phone") as alice,
    ):
        for body in ("busy", "limited", "garbled"):
            await alice.send(message(body, id=body))
            await alice.receive(says(f"{body}!"))
        await stage.endpoint.stop()
        await alice.send(message("away", id="away"))
        await trio.sleep(AWAY_S)
        await stage.endpoint.start()
        await alice.receive(says("away!"))
        await alice.send(message("always busy", id="always"))
        assert (await alice.receive(has_id("always"), timeout_s=WAIT_S)).get("type") == "error"


def _react_to_bounces(posted: Posted) -> Reaction:
    body = posted.get("body", "")
    if posted["kind"] != "message" or posted.get("type") == "error":
        return NOTHING
    if body in BOUNCING:
        return stanzas(BOUNCING[body].format(id=body))
    if body.startswith("an error: "):
        return stanzas(
            f"<iq type='get' to='{posted['from']}' id='{body}'>"
            "<query xmlns='urn:example:difficult'/></iq>"
        )
    return NOTHING


def _react_with_errors(posted: Posted) -> Reaction:
    body = posted.get("body", "")
    if "urn:example:404" in posted["stanza"]:
        return Answer(404)
    if "urn:example:500" in posted["stanza"]:
        return Answer(500, b"Traceback: do not tell", media="text/plain")
    if body in TOLD:
        content = TOLD[body].format(STANZA_ERRORS)
        return stanzas(f"<message type='error' id='{posted['id']}'>{content}</message>")
    if body.isdigit():
        return Answer(int(body))
    return BAD.get(body, NOTHING)


async def _configure(alice: Peer, room: str, values: dict[str, str]) -> None:
    fields = "".join(
        f"<field var='{key}'><value>{value}</value></field>"
        for key, value in {
            "FORM_TYPE": "http://jabber.org/protocol/muc#roomconfig",
            **values,
        }.items()
    )
    form = f"<x xmlns='jabber:x:data' type='submit'>{fields}</x>"
    done = await ask(alice, "set", room, f"<query xmlns='{OWNER}'>{form}</query>")
    assert done.get("type") == "result"
