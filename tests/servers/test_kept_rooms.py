"""Rooms that the bridge keeps: joined at the start, and again after whatever ends its presence.

A person speaks in the room. What is POSTed tells whether the bridge is there, hears each message
once, and takes neither history nor itself for something new.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from tests.servers.conftest import COMPONENTS, MUC
from tests.servers.daemon import Daemon, Table, run_daemon, settings_for
from tests.servers.endpoint import NOTHING, Endpoint, Posted, Reaction, open_endpoint, reply
from tests.servers.irc import CHANNEL, HOST, open_gateway
from tests.servers.irc import missing as irc_missing
from tests.servers.peer import Peer, connect_component, name
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody
from tests.servers.scene import (
    BOT,
    MUC_USER,
    NO_JOURNAL,
    PEER,
    STANZA_ERRORS,
    body_of,
    bot_table,
    message,
    stanza,
)

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.ejabberd import Ejabberd

ROOM: Final = f"hall@{MUC}"
BOT_THERE: Final = f"{ROOM}/robot"
HUMAN_THERE: Final = f"{ROOM}/human"
HUMAN: Final = f"human@{PEER}/r"
JOIN: Final = "<x xmlns='http://jabber.org/protocol/muc'/>"
BACK_S: Final = 30.0
OWNER: Final = "http://jabber.org/protocol/muc#owner"
ADMIN: Final = "http://jabber.org/protocol/muc#admin"


def echo_all(posted: Posted) -> Reaction:
    """An echo bot as it should not be written: it answers to itself, and to history."""
    return reply({"body": posted["body"]}) if posted.get("body") else NOTHING


@dataclass
class Hall:
    """A room with a person, and an endpoint that says everything again."""

    server: Prosody | Ejabberd
    directory: Path
    endpoint: Endpoint
    peer: Peer
    stack: AsyncExitStack
    daemons: AsyncExitStack = field(default_factory=AsyncExitStack)
    component: Table = field(default_factory=dict)
    daemon: Daemon | None = None
    said: list[str] = field(default_factory=list)

    async def start(
        self,
        *,
        listen: Table | None = None,
        journal: Table | None = None,
        limits: Table | None = None,
        **component: Any,
    ) -> Daemon:
        """Start the bridge, on the state of the one before."""
        room = {"jid": ROOM, "as": "echo", "nick": "robot", "create": True}
        self.component = {"room": [room], **component}
        table = bot_table(self.endpoint, **self.component)
        more = {} if listen is None else {"listen": listen}
        more |= {} if journal is None else {"journal": journal}
        more |= {} if limits is None else {"limits": limits}
        settings = settings_for(self.server.component_port, {BOT: table}, **more)
        run = run_daemon(self.directory, settings, state_dir=self.directory / "state")
        self.daemon = await self.daemons.enter_async_context(run)
        return self.daemon

    async def enter(self) -> None:
        """Have the person connect and enter."""
        port = self.server.component_port
        connection = connect_component(port, PEER, COMPONENTS[PEER], answer_pings=False)
        self.peer = await self.stack.enter_async_context(connection)
        await self.peer.send(stanza("presence", JOIN, to=HUMAN_THERE, from_=HUMAN))
        await self.seen(HUMAN_THERE)

    async def seen(self, occupant: str, type: str | None = None) -> ET.Element:
        """Wait for the presence of an occupant."""
        return await self.peer.receive(
            lambda it: (
                name(it) == "presence" and it.get("from") == occupant and it.get("type") == type
            ),
            timeout_s=BACK_S,
        )

    async def seen_join(self, room: str) -> ET.Element:
        """Wait until the bot asks to join a room that the peer plays."""
        return await self.peer.receive(
            lambda it: (
                name(it) == "presence"
                and (it.get("to") or "").startswith(f"{room}/")
                and it.get("type") is None
            ),
            timeout_s=BACK_S,
        )

    async def say(self, text: str, content: str = "") -> None:
        """Say something, and hear it from the person and then from the bot."""
        body = f"<body>{text}</body>{content}"
        said = stanza("message", body, to=ROOM, from_=HUMAN, type="groupchat", id=f"id-{text}")
        await self.peer.send(said)
        self.said.append(text)
        for occupant in (HUMAN_THERE, BOT_THERE):
            await self.peer.receive(
                lambda it, who=occupant: it.get("from") == who and body_of(it) == text,  # type: ignore[misc]
                timeout_s=BACK_S,
            )

    def check_posted(self) -> None:
        """Each message was POSTed once; nothing else was."""
        assert self.endpoint.bodies == self.said


@asynccontextmanager
async def open_hall(server: Prosody | Ejabberd, directory: Path) -> AsyncIterator[Hall]:
    """A room with a person in it, without a bridge."""
    async with (
        open_endpoint() as endpoint,
        AsyncExitStack() as stack,
        AsyncExitStack() as daemons,
    ):
        endpoint.react = echo_all
        hall = Hall(server, directory, endpoint, None, stack, daemons)  # type: ignore[arg-type]
        await hall.enter()
        yield hall


async def test_a_room_of_the_configuration_is_joined_and_heard(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with open_hall(server, tmp_path) as hall:
        for text in ("old", "older"):  # history for who enters later
            said = message(text, to=ROOM, from_=HUMAN, type="groupchat")
            await hall.peer.send(said)
        await hall.peer.receive(lambda it: body_of(it) == "older")
        daemon = await hall.start(component_post_events="all")
        await hall.seen(BOT_THERE)
        await hall.say("one")
        delay = "<delay xmlns='urn:xmpp:delay' stamp='2024-01-01T00:00:00Z'/>"
        await hall.say("from a tunnel", delay)
        hall.check_posted()
        events = {one["event"]: one for one in hall.endpoint.posted}
        assert events.keys() == {"room_joined", "message"}
        assert len(hall.endpoint.posted) == 3
        assert 110 in events["room_joined"]["occupant"]["statuses"]
        await daemon.terminate()
        assert (await hall.seen(BOT_THERE, "unavailable")) is not None


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_a_restart_of_the_server(
    server: Prosody | Ejabberd, tmp_path: Path, end: str
) -> None:
    async with open_hall(server, tmp_path) as hall:
        daemon = await hall.start()
        await hall.seen(BOT_THERE)
        await hall.say("before")
        await (server.kill() if end == "kill" else server.stop())
        await server.start()
        await daemon.wait_logged("room joined", 2)
        await hall.enter()
        await hall.say("after")
        hall.check_posted()


async def test_a_kill_of_the_bridge(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with open_hall(server, tmp_path) as hall:
        daemon = await hall.start()
        await hall.seen(BOT_THERE)
        await hall.say("before")
        daemon.process.kill()
        await daemon.process.wait()
        daemon = await hall.start()
        await daemon.wait_logged("room joined")
        await hall.say("after")
        hall.check_posted()


async def test_a_restart_of_the_bridge(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with open_hall(server, tmp_path) as hall:
        daemon = await hall.start()
        await hall.seen(BOT_THERE)
        await hall.say("before")
        await daemon.terminate()
        await hall.seen(BOT_THERE, "unavailable")
        await hall.start()
        await hall.seen(BOT_THERE)
        await hall.say("after")
        hall.check_posted()


async def test_a_room_that_is_put_by_http_is_kept(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """Sends, and the ids of what was sent, go through the address that joined."""
    secret = "0123456789abcdef-0123"
    with reserve_port() as held:
        port = held.getsockname()[1]
    token = {"name": "shop", "secret": secret, "scopes": ["rooms", "send"], "local_parts": ["echo"]}
    listen = {"address": f"{LOOPBACK}:{port}", "token": [token]}
    headers = {"Authorization": f"Bearer {secret}"}
    url = f"http://{LOOPBACK}:{port}/v1"
    async with open_hall(server, tmp_path) as hall, httpx.AsyncClient(headers=headers) as client:
        daemon = await hall.start(room=[], listen=listen)
        await daemon.wait_logged("listening")
        made = await client.put(f"{url}/rooms/{ROOM}", json={"nick": "robot"})
        assert made.status_code == 201
        await hall.seen(BOT_THERE)
        await hall.say("one")
        shown = (await client.get(f"{url}/rooms/{ROOM}")).json()
        assert (shown["state"], shown["occupant_count"]) == ("joined", 2)
        assert {one["nick"] for one in shown["occupants"]} == {"human", "robot"}
        await daemon.terminate()
        await hall.seen(BOT_THERE, "unavailable")
        daemon = await hall.start(room=[], listen=listen)
        await daemon.wait_logged("listening")
        await hall.seen(BOT_THERE)
        await hall.say("two")
        hall.check_posted()
        said = {"to": ROOM, "type": "groupchat", "body": "unasked", "id": "mine"}
        assert (await client.post(f"{url}/stanzas", json=said)).status_code == 202
        heard = await hall.peer.receive(lambda it: body_of(it) == "unasked")
        assert heard.get("from") == BOT_THERE
        gives_ids = heard.find("{urn:xmpp:sid:0}stanza-id") is not None
        back = {"to": ROOM, "type": "groupchat", "retract": "mine"}
        assert (await client.post(f"{url}/stanzas", json=back)).status_code == 202
        retract = "{urn:xmpp:message-retract:1}retract"
        named = (await hall.peer.receive(lambda it: it.find(retract) is not None)).find(retract)
        assert named is not None
        assert (named.get("id") != "mine") is gives_ids
        whisper = {"to": HUMAN_THERE, "body": "psst"}
        assert (await client.post(f"{url}/stanzas", json=whisper)).status_code == 202
        heard = await hall.peer.receive(lambda it: body_of(it) == "psst")
        assert (heard.get("from"), heard.get("type")) == (BOT_THERE, "chat")
        assert (await client.delete(f"{url}/rooms/{ROOM}")).status_code == 204
        await hall.seen(BOT_THERE, "unavailable")
        assert (await client.get(f"{url}/rooms")).json() == {"rooms": []}


async def test_a_room_that_does_not_exist_is_not_made(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    attic = f"attic@{MUC}"
    async with open_hall(server, tmp_path) as hall:
        room = {"jid": attic, "as": "echo", "nick": "robot"}
        daemon = await hall.start(room=[room])
        await daemon.wait_logged("room not joined")
        [line] = daemon.logged("room not joined")
        assert line["why"] == "the room does not exist, and create = false"
        assert daemon.logged("room joined") == []
        while True:
            await hall.peer.send(stanza("presence", JOIN, to=f"{attic}/human", from_=HUMAN))
            made = await hall.seen(f"{attic}/human")
            codes = {it.get("code") for it in made.iter(f"{{{MUC_USER}}}status")}
            if "201" in codes:
                break
            await hall.seen(f"{attic}/human", "unavailable")  # the bridge is just about to do it
        unlock = f"<query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='submit'/></query>"
        await hall.peer.send(stanza("iq", unlock, to=attic, from_=HUMAN, type="set", id="o"))
        await hall.seen(f"{attic}/robot")


async def test_a_reload_applies_the_differences(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    attic = f"attic@{MUC}"
    async with open_hall(server, tmp_path) as hall:
        daemon = await hall.start()
        await hall.seen(BOT_THERE)
        await hall.peer.send(stanza("presence", JOIN, to=f"{attic}/human", from_=HUMAN))
        await hall.seen(f"{attic}/human")
        room = {"jid": attic, "as": "echo", "nick": "robot", "create": True}
        table = bot_table(hall.endpoint, room=[room])
        await daemon.reload(settings_for(server.component_port, {BOT: table}))
        await hall.seen(BOT_THERE, "unavailable")
        await daemon.wait_logged("room joined", 2)
        assert len(daemon.logged("attached")) == 1


async def test_without_a_journal(prosody: Prosody, tmp_path: Path) -> None:
    async with open_hall(prosody, tmp_path) as hall:
        daemon = await hall.start(journal=NO_JOURNAL)
        await hall.seen(BOT_THERE)
        await hall.say("before")
        await prosody.restart()
        await daemon.wait_logged("room joined", 2)
        await hall.enter()
        await hall.say("after")
        hall.check_posted()


async def test_one_slow_answer_holds_up_nobody_else(prosody: Prosody, tmp_path: Path) -> None:
    """Twenty people speak; the endpoint does not answer one of them for as long as that takes.

    The limits are for one person each, and far too low for the room as a single sender.
    """
    async with open_hall(prosody, tmp_path) as hall:
        await hall.start(limits={"stanzas_per_s": 0.001, "burst": 10})
        await hall.seen(BOT_THERE)
        people = [f"p{number}" for number in range(20)]
        for one in people:
            sender = f"{one}@{PEER}/r"
            await hall.peer.send(stanza("presence", JOIN, to=f"{ROOM}/{one}", from_=sender))
        hall.endpoint.hold(lambda posted: posted.get("sender_nick") == "p0")
        for round in range(3):
            for one in people:
                text = stanza(
                    "message",
                    f"<body>{one} {round}</body>",
                    to=ROOM,
                    from_=f"{one}@{PEER}/r",
                    type="groupchat",
                )
                await hall.peer.send(text)
        last = {f"{one} 2" for one in people[1:]}
        await hall.endpoint.wait_until(lambda: last <= set(hall.endpoint.bodies))
        assert [it for it in hall.endpoint.bodies if it.startswith("p0 ")] == ["p0 0"]
        hall.endpoint.release()
        await hall.endpoint.wait_until(lambda: "p0 2" in hall.endpoint.bodies)
        assert len(hall.endpoint.bodies) == 60


async def test_a_kick_is_final(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with open_hall(server, tmp_path) as hall:
        daemon = await hall.start()
        await hall.seen(BOT_THERE)
        item = "<item nick='robot' role='none'><reason>out</reason></item>"
        kick = f"<query xmlns='{ADMIN}'>{item}</query>"
        await hall.peer.send(stanza("iq", kick, to=ROOM, from_=HUMAN, type="set", id="kick"))
        await hall.seen(BOT_THERE, "unavailable")
        await daemon.wait_logged("room left for good")
        [line] = daemon.logged("room left for good")
        assert (line["room"], line["why"]) == (ROOM, "kicked: out")


async def test_a_removal_because_of_an_error_is_not(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """The person's server plays the room, so that it can say 333 whenever it likes."""
    den = f"den@{PEER}"
    async with open_hall(server, tmp_path) as hall:
        room = {"jid": den, "as": "echo", "nick": "robot"}
        daemon = await hall.start(room=[room])
        me = f"echo@{BOT}/default"
        for _ in range(2):
            join = await hall.seen_join(den)
            assert join.get("from") == me
            await hall.peer.send(room_presence(den, me, 110))
            await hall.peer.send(
                stanza("message", "<subject/>", to=me, from_=den, type="groupchat")
            )
            text = stanza("message", "<body>hi</body>", to=me, from_=f"{den}/n", type="groupchat")
            await hall.peer.send(text)
            await hall.peer.receive(lambda it: it.get("to") == den and body_of(it) == "hi")
            await hall.peer.send(room_presence(den, me, 110, 307, 333, type="unavailable"))
        assert hall.endpoint.bodies == ["hi", "hi"]
        assert len(daemon.logged("room joined")) == 2


async def test_an_error_from_the_room_makes_the_bridge_look(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """A room that has forgotten the bot returns what it says (XEP-0410)."""
    den, me = f"den@{PEER}", f"echo@{BOT}/default"
    async with open_hall(server, tmp_path) as hall:
        daemon = await hall.start(room=[{"jid": den, "as": "echo", "nick": "robot"}])
        await hall.seen_join(den)
        await hall.peer.send(room_presence(den, me, 110))
        await hall.peer.send(stanza("message", "<subject/>", to=me, from_=den, type="groupchat"))
        text = stanza("message", "<body>hi</body>", to=me, from_=f"{den}/n", type="groupchat")
        await hall.peer.send(text)
        await hall.peer.receive(lambda it: it.get("to") == den and body_of(it) == "hi")
        condition = f"<not-acceptable xmlns='{STANZA_ERRORS}'/>"
        error = f"<error type='modify'>{condition}</error>"
        await hall.peer.send(stanza("message", error, to=me, from_=den, type="error"))
        ping = await hall.peer.receive(
            lambda it: name(it) == "iq" and it.get("to") == f"{den}/robot", timeout_s=BACK_S
        )
        id = ping.get("id") or ""
        await hall.peer.send(stanza("iq", error, to=me, from_=f"{den}/robot", type="error", id=id))
        await hall.seen_join(den)
        assert len(daemon.logged("a self-ping found us outside")) == 1


def room_presence(room: str, to: str, *codes: int, type: str = "") -> str:
    statuses = "".join(f"<status code='{code}'/>" for code in codes)
    x = f"<x xmlns='{MUC_USER}'><item role='participant'/>{statuses}</x>"
    return stanza("presence", x, to=to, from_=f"{room}/robot", type=type)


# --- a gateway to IRC, which has no ids of its own


IRC: Final = "irc.localhost"
CHANNEL_ROOM: Final = f"{CHANNEL}%{HOST}@{IRC}"


@pytest.mark.biboumi
async def test_a_channel_of_irc_has_no_echo(tmp_path: Path) -> None:
    """Also after a kill of the bridge, when nothing but the state knows who we are there."""
    if (reason := irc_missing()) is not None:
        pytest.skip(reason)
    components = {BOT: COMPONENTS[BOT], IRC: "s3"}
    async with (
        Prosody(tmp_path, components=components) as server,
        open_gateway(tmp_path, server.component_port, IRC, "s3") as irc,
        open_endpoint() as endpoint,
        AsyncExitStack() as daemons,
    ):
        endpoint.react = lambda posted: echo_all(posted) if "room" in posted else NOTHING
        room = {"jid": CHANNEL_ROOM, "as": "echo", "nick": "robot"}
        table = bot_table(endpoint, room=[room])
        settings = settings_for(server.component_port, {BOT: table})
        for round, end in enumerate(("kill", "terminate", "terminate")):
            run = run_daemon(tmp_path, settings, state_dir=tmp_path / "state")
            daemon = await daemons.enter_async_context(run)
            await daemon.wait_logged("room joined")
            for text in (f"hello {round}", f"and {round}"):
                await irc.say(text)
                await irc.wait_said(text)
            if end == "kill":
                daemon.process.kill()
                await daemon.process.wait()
            else:
                await daemon.terminate()
        heard = [it["body"] for it in endpoint.posted if it.get("room") == CHANNEL_ROOM]
        assert heard == [f"{word} {round}" for round in range(3) for word in ("hello", "and")]
        assert set(irc.said) == set(heard)  # a reply that was not confirmed is sent again
