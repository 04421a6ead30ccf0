"""What a person sees of the bot: name, picture, presence and ticks, with slixmpp as the client.

The picture is looked at by slixmpp's own plugins, which also check the hash of the capabilities.
"""

from __future__ import annotations

import base64
import hashlib
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.servers.client import open_client
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Endpoint, Never, always, echo, open_endpoint
from tests.servers.scene import BOT, ECHO, bot_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers.ejabberd import Ejabberd
    from tests.servers.prosody import Prosody

PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
GRACE_S: Final = 60
"""Longer than anything that is waited for: what is seen before its end was not waiting for it."""


@asynccontextmanager
async def open_bot(
    server: Prosody | Ejabberd, endpoint: Endpoint, directory: Path
) -> AsyncIterator[Daemon]:
    """Run the daemon, with a profile, on a state directory that the next one finds again."""
    picture = directory / "echo.png"
    picture.write_bytes(PNG)
    profile = {"name": "Echo", "description": "Says it again", "avatar": str(picture)}
    bot = bot_table(endpoint, profile={"echo": profile})
    settings = settings_for(server.component_port, {BOT: bot}, stream={"grace_s": GRACE_S})
    async with run_daemon(directory, settings, state_dir=directory / "state") as daemon:
        yield daemon


async def test_a_client_sees_who_the_bot_is_and_when_it_is_there(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with open_endpoint() as endpoint:
        endpoint.react = echo
        async with open_bot(server, endpoint, tmp_path) as daemon, open_client(server) as client:
            shown = await client.presence("available")
            assert (shown["from_"], shown["nick"]) == (f"{ECHO}/default", "Echo")
            assert shown["photo"] == hashlib.sha1(PNG).hexdigest()
            await client.see(lambda line: "caps" in line)
            await client.write("look")
            assert await client.see(lambda line: "failure" in line) == {"failure": "None"}
            _check(await client.see(lambda line: "features" in line))
            await client.write("hello")
            await client.see(lambda line: line.get("body") == "hello")
            await client.see(lambda line: "receipt" in line)

            endpoint.react = always(Never())
            await client.write("think about it")
            await endpoint.wait_until(lambda: endpoint.in_flight == 1)
            seen = len(client.lines)
            daemon.signal(signal.SIGTERM)
            await client.presence("unavailable", seen)
            assert daemon.process.poll() is None, "it still waits for the endpoint"
            daemon.signal(signal.SIGTERM)
            await daemon.wait_ended()
            seen, endpoint.react = len(client.lines), echo
            async with open_bot(server, endpoint, tmp_path):
                shown = await client.presence("available", seen)
                assert shown["nick"] == "Echo"


def _check(seen: dict[str, Any]) -> None:
    """What slixmpp's plugins made of the answers."""
    picture = base64.b64encode(PNG).decode()
    assert (seen["name"], seen["about"]) == ("Echo", "Says it again")
    assert (seen["picture"], seen["media_type"], seen["avatar"]) == (picture, "image/png", picture)
    assert seen["identities"] == [["client", "bot", None, "Echo"]]
    assert seen["verified"], "the hash in the presence is not that of the features"
    assert {"vcard-temp", "urn:xmpp:receipts", "urn:xmpp:time"} < {*seen["features"]}
    assert (seen["idle_s"], seen["software"]) == (0, BOT)
    assert seen["keys"] == "item-not-found"


async def test_a_daemon_that_is_killed_makes_nobody_blink(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with (
        open_endpoint() as endpoint,
        open_bot(server, endpoint, tmp_path) as daemon,
        open_client(server) as client,
    ):
        await client.presence("available")
        seen = len(client.lines)
        daemon.signal(signal.SIGKILL)
        await daemon.wait_ended()
        async with open_bot(server, endpoint, tmp_path):
            await client.see(lambda line: "presence" in line, seen)
            kinds = [line["presence"] for line in client.lines[seen:] if "presence" in line]
            assert kinds == ["available"]
