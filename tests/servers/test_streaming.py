"""A streamed reply as a person sees it, with slixmpp as the client and Prosody as the archive.

The endpoint says each token when the test lets it, so what is asserted is the order, not the time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from attrs import define, field

from tests.bridge.http_server import Exchange, HttpServer
from tests.servers.client import Client, open_client
from tests.servers.conftest import COMPONENTS, USERS
from tests.servers.daemon import Table, run_daemon, settings_for
from tests.servers.prosody import Prosody
from tests.servers.scene import BOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.prosody
HOST: Final = [
    'modules_enabled = { "roster", "saslauth", "disco", "ping", "mam" }',
    "default_archive_policy = true",
]
READER: Final = "slixmpp_reader.py"


@define
class Model:
    """An endpoint that thinks aloud: it says what it is told to, as a stream."""

    exchange: Exchange | None = None
    bodies: list[Any] = field(factory=list)
    _asked: trio.Event = field(factory=trio.Event)

    async def answer(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.bodies.append(exchange.request.json)
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
        await exchange.send(head.encode())
        self._asked.set()
        await exchange.wait_gone()

    async def wait_asked(self) -> None:
        """Wait for the next POST."""
        with trio.fail_after(30):
            await self._asked.wait()
        self._asked = trio.Event()

    async def say(self, **what: Any) -> None:
        assert self.exchange is not None
        await self.exchange.send(json.dumps(what).encode() + b"\n")

    async def end(self) -> None:
        assert self.exchange is not None
        await self.exchange.close()


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Prosody]:
    """A Prosody with an archive for everybody."""
    settings = {"localhost": HOST}
    async with Prosody(
        tmp_path, components=COMPONENTS, users=USERS, component_settings=settings
    ) as server:
        yield server


def settings(server: Prosody, model: HttpServer) -> Table:
    bot = {"component_secret": COMPONENTS[BOT], "component_post_url": str(model.url().url)}
    return settings_for(server.component_port, {BOT: bot}, stream={"grace_s": 1})


async def heard(client: Client, body: str) -> dict[str, Any]:
    """Wait for a message of the bot with that text."""
    return await client.see(lambda line: line.get("body") == body)


def said(client: Client) -> list[dict[str, Any]]:
    """The texts that a client has shown."""
    return [line for line in client.lines if line.get("body")]


async def test_a_person_sees_one_answer_that_grows_and_the_archive_its_first_and_last(
    nursery: trio.Nursery, archive: Prosody, tmp_path: Path
) -> None:
    model = Model()
    server = await HttpServer.start(nursery, model.answer)
    state = tmp_path / "state"
    bridge = settings(archive, server)
    async with open_client(archive, script=READER) as client:
        async with run_daemon(tmp_path, bridge, state_dir=state) as daemon:
            await client.write("tell me")
            await model.wait_asked()
            await client.see(lambda line: line.get("notice") == "composing")
            await model.say(append="Once")
            first = await heard(client, "Once")
            assert (first["replaces"], first["hints"], first["state"]) == (None, [], "active")
            await model.say(append=" upon")
            second = await heard(client, "Once upon")
            assert second["replaces"] == first["id"] == f"{model.bodies[0]['uid']}-1"
            assert set(second["hints"]) == {"no-store", "no-permanent-store"}
            await model.say(append=" a time")
            await heard(client, "Once upon a time")
            daemon.process.kill()
            await daemon.process.wait()

        async with run_daemon(tmp_path, bridge, state_dir=state):
            await model.wait_asked()
            assert [one["uid"] for one in model.bodies] == [model.bodies[0]["uid"]] * 2
            await model.say(append="Once more")
            again = await heard(client, "Once more")
            assert again["replaces"] == first["id"]

            await archive.restart()
            await model.say(append=", and the end.")
            async with open_client(archive, script=READER) as later:
                await model.end()
                last = await later.see(
                    lambda line: line.get("body") == "Once more, and the end." and not line["hints"]
                )
                assert last["replaces"] == first["id"]
                new = {one["id"] for one in said(client) if one["replaces"] is None}
                assert new == {first["id"]}
                assert all(one["replaces"] == first["id"] for one in said(later)[:1])
                await later.write("archive")
                kept = (await later.see(lambda line: "archive" in line))["archive"]
    assert list(dict.fromkeys((one["id"], one["body"]) for one in kept if not one["is_ours"])) == [
        (first["id"], "Once"),
        (last["id"], "Once more, and the end."),
    ]


async def test_each_text_is_a_message_of_its_own_and_a_break_leaves_what_was_said(
    nursery: trio.Nursery, archive: Prosody, tmp_path: Path
) -> None:
    model = Model()
    server = await HttpServer.start(nursery, model.answer)
    bridge = settings(archive, server)
    bridge["component"][BOT]["component_stream_broken"] = " […]"
    async with (
        open_client(archive, script=READER) as client,
        run_daemon(tmp_path, bridge) as daemon,
    ):
        await client.write("tell me")
        await model.wait_asked()
        await model.say(append="First")
        await heard(client, "First")
        await model.say(append=", second")
        await model.say(new=True, append="Third")
        whole = await heard(client, "First, second")
        third = await heard(client, "Third")
        assert (whole["hints"], third["replaces"]) == ([], None)
        assert model.exchange is not None
        await model.exchange.send(b"Traceback (most recent call last):\n")
        last = await heard(client, "Third […]")
        assert last["replaces"] == third["id"]
        await daemon.wait_logged("streamed reply broke")
