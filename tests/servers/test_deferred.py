"""Deferred replies with a real server: behind nginx under a prefix, and by the manual's program."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import trio
import trio.lowlevel
import trustme

from tests.bridge.leak import until
from tests.manual.page import page
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Answer, Endpoint, Posted, Reaction, open_endpoint
from tests.servers.nginx import Nginx
from tests.servers.peer import CLIENT, Peer, connect_client
from tests.servers.process import LOOPBACK, reserve_port, write
from tests.servers.scene import BOT, bot_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.servers.prosody import Prosody

PROMISE: Final = Answer(202, b'{"deferred": true}')
BODY: Final = f"{{{CLIENT}}}body"
SECTION: Final = "Reply later, in PHP"


def promise(_: Posted) -> Reaction:
    return PROMISE


@asynccontextmanager
async def listening(
    server: Prosody, directory: Path, table: dict[str, Any], port: int, public_url: str
) -> AsyncIterator[Daemon]:
    listen = {"address": f"{LOOPBACK}:{port}", "public_url": public_url}
    settings = settings_for(server.component_port, {BOT: table}, listen=listen)
    async with run_daemon(directory, settings, log_level="debug") as daemon:
        yield daemon


def free_port() -> int:
    with reserve_port() as held:
        return int(held.getsockname()[1])


async def say(client: Peer, text: str) -> None:
    body = f"<body>{text}</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
    await client.send(f"<message to='echo@{BOT}' type='chat' id='m1'>{body}</message>")


async def body(client: Peer) -> str:
    """The body of the next message that has one."""
    found = await client.receive(lambda one: one.find(BODY) is not None)
    return found.findtext(BODY) or ""


@pytest.mark.nginx
async def test_a_reply_url_behind_a_proxy_with_a_prefix(prosody: Prosody, tmp_path: Path) -> None:
    port = free_port()
    block = f"location /bridge/ {{ proxy_pass http://{LOOPBACK}:{port}/; }}"
    (tmp_path / "nginx").mkdir()
    nginx = Nginx(tmp_path / "nginx", trustme.CA(), block)
    public_url = f"http://{LOOPBACK}:{nginx.port}/bridge/"
    async with (
        nginx,
        open_endpoint(promise) as endpoint,
        listening(prosody, tmp_path, bot_table(endpoint), port, public_url) as daemon,
        connect_client(prosody.c2s_port, "alice@localhost", "pw") as client,
        httpx.AsyncClient() as http,
    ):
        await say(client, "hello")
        url = await reply_url(endpoint)
        assert url.startswith(f"{public_url}v1/replies/")
        assert (await http.post(f"{url}x", json={"body": "forged"})).status_code == 404
        first = await http.post(url, json={"body": "one", "done": True})
        assert first.status_code == 202
        assert await body(client) == "one"
        second = await http.post(url, json={"body": "two"})
        assert (second.status_code, second.headers["cache-control"]) == (410, "no-store")
        token = url.rpartition("/")[2]
        assert daemon.logged("http request")
        assert token not in json.dumps(daemon.lines)


async def reply_url(endpoint: Endpoint) -> str:
    with trio.fail_after(10):
        await until(lambda: bool(endpoint.posted))
    return str(endpoint.posted[0]["reply_url"])


@pytest.mark.skipif(shutil.which("php") is None, reason="php is not installed")
async def test_the_program_of_the_manual(prosody: Prosody, tmp_path: Path) -> None:
    bot, worker = [one.content for one in page("slow").section(SECTION).tokens if one.info == "php"]
    write(tmp_path / "bot.php", bot)
    write(tmp_path / "worker.php", worker.replace("sleep(20)", "sleep(0)"))
    port, port_of_bot = free_port(), free_port()
    table: dict[str, Any] = {
        "component_secret": "s3cret",
        "component_post_url": f"http://{LOOPBACK}:{port_of_bot}",
    }
    table |= {"component_typing_after_s": 0}
    with running(tmp_path, ["-S", f"{LOOPBACK}:{port_of_bot}", "bot.php"], ["worker.php"]):
        await until_up(port_of_bot)
        async with (
            listening(prosody, tmp_path, table, port, f"http://{LOOPBACK}:{port}"),
            connect_client(prosody.c2s_port, "alice@localhost", "pw") as client,
        ):
            for text in ("hello", "Grüße"):
                await say(client, text)
                assert await body(client) == f"I have thought about: {text}"
            assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0
    assert "Warning" not in (tmp_path / "log").read_text()


@contextmanager
def running(directory: Path, *programs: list[str]) -> Iterator[None]:
    """Run PHP with arguments, once for each list of them."""
    with ExitStack() as stack:
        log = stack.enter_context((directory / "log").open("wb"))
        for arguments in programs:
            process = subprocess.Popen(
                ["php", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                start_new_session=True,  # Ctrl-C is for pytest alone
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


async def until_up(port: int) -> None:
    with trio.fail_after(20):
        while True:
            try:
                socket.create_connection((LOOPBACK, port)).close()
                return
            except OSError:
                await trio.sleep(0.05)
