"""The way in against a real Prosody: what is sent arrives, what is asked is answered, and a key is
good for one, also after a restart with a real journal.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import pytest
import trio
from attrs import frozen

from bridge.config.settings import Component, JournalSettings, Settings
from bridge.config.value import Secret, parse_post_url
from bridge.daemon.daemon import Daemon
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import open_storage
from bridge.listener.submission.sender import Key, KeyReused, NoAnswer, Sender, open_sender
from bridge.payload.body import ReplyBody
from tests.bridge.leak import until
from tests.servers.conftest import COMPONENTS, USERS
from tests.servers.peer import connect_client
from tests.servers.process import LOOPBACK
from tests.servers.prosody import Prosody
from xmppstream import Server, Stanza
from xmppstream.names import PING, VERSION, expanded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.prosody
DOMAIN: Final = "bot.localhost"
BOT: Final = f"shop@{DOMAIN}"
ALICE: Final = "alice@localhost"
SERVED: Final = 'modules_enabled = { "roster", "saslauth", "disco", "ping", "version" }'


@pytest.fixture
async def versed(tmp_path: Path) -> AsyncIterator[Prosody]:
    """A Prosody that says its version."""
    settings = {"localhost": [SERVED]}
    async with Prosody(
        tmp_path, components=COMPONENTS, users=USERS, component_settings=settings
    ) as server:
        yield server


@frozen
class Sending:
    """A daemon, and its sender, as a listener would have it."""

    daemon: Daemon
    sender: Sender


@asynccontextmanager
async def running(
    prosody: Prosody, directory: Path, *, attached: bool = True
) -> AsyncIterator[Sending]:
    """A daemon with a journal in `directory`, ended by cancellation, as by a crash."""
    server = Server(LOOPBACK, prosody.component_port)
    url = parse_post_url("http://127.0.0.1:9/")
    component = Component(DOMAIN, Secret(COMPONENTS[DOMAIN]), url, server)
    settings = Settings((component,), journal=JournalSettings())
    with open_storage(StateDirectory(directory), settings.journal) as storage:
        daemon = Daemon(settings, storage)
        async with trio.open_nursery() as nursery:
            with open_sender(daemon.parts) as sender:
                sending = Sending(daemon, sender)
                nursery.start_soon(daemon.run)
                with trio.fail_after(20):
                    await until(lambda: bool(sender.domains))
                    await until(lambda: not attached or is_attached(sending))
                yield sending
            nursery.cancel_scope.cancel()


def is_attached(daemon: Sending) -> bool:
    return daemon.daemon.services[DOMAIN].status.link.state == "attached"


async def compose(daemon: Sending, **keys: str) -> Stanza:
    return await daemon.sender.compose(ReplyBody("json", json.dumps(keys).encode()), BOT)


async def question(daemon: Sending, name: str, id: str, to: str = "localhost") -> Stanza:
    namespace, _, local = name.rpartition("}")
    child = f"<{local} xmlns='{namespace.removeprefix('{')}'/>"
    xml = f"<iq type='get' to='{to}' id='{id}'>{child}</iq>"
    return await daemon.sender.compose(ReplyBody("xml", xml.encode()), BOT)


def key(name: str) -> Key:
    return Key("tests", name, sha256(name.encode()).digest())


async def test_a_message_arrives_at_a_client(prosody: Prosody, tmp_path: Path) -> None:
    async with (
        connect_client(prosody.c2s_port, ALICE, USERS["alice"]) as alice,
        running(prosody, tmp_path / "state") as daemon,
    ):
        await daemon.sender.send(await compose(daemon, to=ALICE, body="It is ready", id="r1"))
        got = await alice.receive()
        assert (got.get("from"), got.get("type"), got.get("id")) == (BOT, "chat", "r1")
        assert got.findtext("{jabber:client}body") == "It is ready"


async def test_a_server_is_asked_its_version(versed: Prosody, tmp_path: Path) -> None:
    async with running(versed, tmp_path / "state") as daemon:
        for key_ in (None, key("v")):
            asked = await question(daemon, expanded(VERSION, "query"), "v1", "LocalHost")
            answer = await daemon.sender.ask(asked, 20, key_)
            assert answer.type == "result"
            assert answer.payload is not None
            name = answer.payload.find(expanded(VERSION, "name"))
            assert name is not None
            assert name.text == "Prosody"


async def test_an_error_is_an_answer(prosody: Prosody, tmp_path: Path) -> None:
    async with running(prosody, tmp_path / "state") as daemon:
        asked = await question(daemon, "{urn:example:none}query", "e1")
        answer = await daemon.sender.ask(asked, 20)
        assert answer.type == "error"
        assert answer.child("error") is not None


async def test_a_client_is_asked(prosody: Prosody, tmp_path: Path) -> None:
    async with (
        connect_client(prosody.c2s_port, ALICE, USERS["alice"], "Phone") as alice,
        running(prosody, tmp_path / "state") as daemon,
    ):
        asked = await question(daemon, expanded(PING, "ping"), "p1", alice.jid.replace("a", "A", 1))
        answer = await daemon.sender.ask(asked, 20)
        assert (answer.type, answer.from_) == ("result", alice.jid)


async def test_what_is_accepted_while_the_server_is_away_arrives_once_it_is_back(
    prosody: Prosody, tmp_path: Path
) -> None:
    await prosody.stop()
    async with running(prosody, tmp_path / "state", attached=False) as daemon:
        for number in range(20):
            one = await compose(daemon, to=ALICE, body="hi", id=f"m{number}")
            await daemon.sender.send(one)
        asked = await question(daemon, expanded(PING, "ping"), "p1", ALICE)
        with pytest.raises(NoAnswer, match="not sent"):
            await daemon.sender.ask(asked, 0.2)
    async with running(prosody, tmp_path / "state", attached=False):
        await prosody.start()
        async with connect_client(prosody.c2s_port, ALICE, USERS["alice"]) as alice:
            got: list[str | None] = []
            while len(got) < 20:
                got.append((await alice.receive(timeout_s=20)).get("id"))
            assert got == [f"m{number}" for number in range(20)]
            await alice.nothing_within(0.3)


async def test_an_array_arrives_whole_after_a_crash(prosody: Prosody, tmp_path: Path) -> None:
    await prosody.stop()
    objects = [{"to": ALICE, "body": "hi", "id": f"m{number}"} for number in range(20)]
    array = ReplyBody("json", json.dumps(objects).encode())
    async with running(prosody, tmp_path / "state", attached=False) as daemon:
        batch = await daemon.sender.compose_all(array, BOT)
        uids = await daemon.sender.send_all(batch, key("a"))
        assert uids == batch.uids(uids[0].removesuffix("-1"))
    async with running(prosody, tmp_path / "state", attached=False) as daemon:
        await prosody.start()
        async with connect_client(prosody.c2s_port, ALICE, USERS["alice"]) as alice:
            got = [(await alice.receive(timeout_s=20)).get("id") for _ in objects]
            assert got == [one["id"] for one in objects]
            assert await daemon.sender.send_all(batch, key("a")) == uids
            await alice.nothing_within(0.3)


async def test_a_key_is_good_for_one_also_after_a_restart(prosody: Prosody, tmp_path: Path) -> None:
    async with connect_client(prosody.c2s_port, ALICE, USERS["alice"], "Phone") as alice:
        async with running(prosody, tmp_path / "state") as daemon:
            uid = await daemon.sender.send(await compose(daemon, to=ALICE, body="1"), key("k"))
            ping = await question(daemon, expanded(PING, "ping"), "p1", alice.jid)
            answer = await daemon.sender.ask(ping, 20, key("q"))
            assert (await alice.receive()).findtext("{jabber:client}body") == "1"
            outbox = daemon.daemon.services[DOMAIN]._outbox
            with trio.fail_after(20):  # so that it is not written again
                await until(lambda: not len(outbox))
        seen = len(alice.stanzas)
        async with running(prosody, tmp_path / "state") as daemon:
            one = await compose(daemon, to=ALICE, body="2")
            assert await daemon.sender.send(one, key("k")) == uid
            with pytest.raises(KeyReused):
                await daemon.sender.send(one, Key("tests", "k", b"another"))
            again = await question(daemon, expanded(PING, "ping"), "p2", alice.jid)
            assert (await daemon.sender.ask(again, 20, key("q"))).element == answer.element
            await daemon.sender.send(await compose(daemon, to=ALICE, body="3"))
            assert (await alice.receive()).findtext("{jabber:client}body") == "3"
            assert len(alice.stanzas) == seen + 1
