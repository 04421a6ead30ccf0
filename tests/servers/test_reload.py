"""SIGHUP on a real server: a daemon that works by other files, again and again, under load."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.endpoint import Posted, Reaction, open_endpoint, reply
from tests.servers.peer import connect_component
from tests.servers.prosody import Prosody
from tests.servers.scene import BOT, ECHO, PEER, body_of, bot_table, message, open_scene

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.daemon import Table
    from tests.servers.ejabberd import Ejabberd
    from tests.servers.peer import Peer

SECOND: Final = "second.localhost"
ROUNDS: Final = 13  # the last one has both components
SENDERS: Final = 9
PAUSE_S: Final = 0.002
SETTLED_S: Final = 10.0


class _Load:
    """Messages to both components, one after the other, until it is told to end."""

    def __init__(self, peer: Peer) -> None:
        self.sent: list[str] = []
        self.ending = False
        self._peer = peer

    async def run(self) -> None:
        while not self.ending:
            number = len(self.sent)
            id = f"m{number}"
            to = f"echo@{(BOT, SECOND)[number % 2]}"
            sender = f"a{number % SENDERS}@{PEER}"
            self.sent.append(id)
            await self._peer.send(message(id, to=to, from_=sender, id=id))
            await trio.sleep(PAUSE_S)

    @property
    def told(self) -> Counter[str]:
        """How often each message was replied to, or its sender told of an error."""
        answers = [one for one in self._peer.stanzas if one.get("to", "").startswith("a")]
        return Counter(
            str(one.get("id")) if one.get("type") == "error" else str(body_of(one))
            for one in answers
        )


async def test_reloads_under_load_lose_and_double_nothing(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """Each message has one reply, or, while its component was not attached, one error of the
    server's; and each stanza is POSTed once, to one endpoint or the other.

    ejabberd 23.01 loses what it routes to a stream in the moment in which that ends: seen with a
    client that does nothing but read, 10 messages of 1,156 at 15 ends.
    """
    dice = random.Random(7)

    def react(posted: Posted) -> Reaction:
        return reply({"body": posted["body"]}, delay_s=dice.random() * 0.02)

    async with AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(open_endpoint()) for _ in "12"]
        for one in endpoints:
            one.react = react
        peer = await stack.enter_async_context(
            connect_component(server.component_port, PEER, COMPONENTS[PEER])
        )

        def settings(*domains: str, **tables: Any) -> Table:
            components = {}
            for domain in domains:
                keys = {"component_order": dice.choice(["bare", "full"]), **tables}
                table = bot_table(dice.choice(endpoints), **keys)
                components[domain] = {**table, "component_secret": COMPONENTS[domain]}
            return settings_for(server.component_port, components)

        daemon = await stack.enter_async_context(run_daemon(tmp_path, settings(BOT, SECOND)))
        load = _Load(peer)
        stack.callback(setattr, load, "ending", True)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(load.run)
        for number in range(ROUNDS):
            domains = (BOT,) if number % 4 == 3 else (BOT, SECOND)
            told = await daemon.reload(settings(*domains, name=f"bot {number}"))
            assert told["event"] == "configuration read again"
            refused = await daemon.reload("server = 7\n[component.x")
            assert refused["event"] == "configuration not changed"
            await trio.sleep(0.1)
        load.ending = True
        sent = set(load.sent)

        with suppress(trio.TooSlowError):
            while set(load.told) != sent:
                await peer.receive(timeout_s=SETTLED_S)
        posted = {request.json["body"] for one in endpoints for request in one.requests}
        lost = sent - set(load.told)
        assert not lost & posted
        assert len(lost) <= (0 if isinstance(server, Prosody) else len(sent) / 20)
        assert set(load.told.values()) == {1}
        posts = Counter(
            request.headers["webhook-id"] for one in endpoints for request in one.requests
        )
        assert set(posts.values()) == {1}
        errors = [one for one in peer.stanzas if one.get("type") == "error"]
        assert len(posts) == len(sent) - len(errors) - len(lost)
        assert len(posts) > len(sent) / 2
        assert len(daemon.logged("fault in the configuration")) == ROUNDS


async def test_a_changed_name_and_endpoint_keep_the_stream(
    prosody: Prosody, tmp_path: Path
) -> None:
    async with open_scene(prosody, tmp_path) as scene, open_endpoint() as other:
        table = bot_table(other, name="Romeo")
        told = await scene.daemon.reload(settings_for(prosody.component_port, {BOT: table}))
        assert told["changed"] == [BOT]
        await scene.peer.send(message("hi", from_=f"a@{PEER}"))
        await scene.peer.receive(lambda it: body_of(it) == "hi" and it.get("from") == ECHO)
        assert [request.json["body"] for request in other.requests] == ["hi"]
