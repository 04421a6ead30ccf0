"""Files through real upload services, to real clients.

What the manual says about the servers is what they are configured with here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import trio

from bridge.cli.check.attach import check_attach
from bridge.cli.check.report import Report
from bridge.config.loader import from_table
from bridge.config.settings import Settings
from tests.manual.page import page
from tests.servers.client import open_client
from tests.servers.conftest import COMPONENTS, USERS
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Endpoint, always, open_endpoint, reply
from tests.servers.peer import CLIENT, connect_client, name
from tests.servers.process import LOOPBACK, Server, reserve_port
from tests.servers.scene import BOT, ECHO, bot_table
from tests.servers.uploading import (
    LIMIT_BYTES,
    SERVICE,
    UploadingEjabberd,
    UploadingProsody,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOKEN: Final = "a-token-of-the-shop-0123"
ALICE: Final = "alice@localhost"
MIB: Final = 1024 * 1024
GROWTH_BYTES: Final = 8 * MIB
"""How much memory an upload of 50 MB may take: far less than the file."""
KINDS: Final = [
    pytest.param(UploadingProsody, marks=pytest.mark.prosody, id="prosody"),
    pytest.param(UploadingEjabberd, marks=pytest.mark.ejabberd, id="ejabberd"),
]


@pytest.fixture(params=KINDS)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """Each server in turn, with an upload service."""
    async with request.param(tmp_path, components=COMPONENTS, users=USERS) as started:
        yield started


@pytest.fixture(scope="module")
def shared_uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prosody for tests that leave nothing behind in it."""
    directory = tmp_path_factory.mktemp("shared")
    started = UploadingProsody(directory, components=COMPONENTS, users=USERS)
    trio.run(started.__aenter__)
    yield started
    trio.run(started.__aexit__)


@asynccontextmanager
async def bridge(
    server: Server, directory: Path, endpoint: Endpoint, **keys: Any
) -> AsyncIterator[tuple[Daemon, httpx.AsyncClient]]:
    """A daemon with a listener, and a client of it."""
    token = {"name": "shop", "secret": TOKEN, "local_parts": ["echo"], "scopes": ["send", "query"]}
    with reserve_port() as held:
        port = held.getsockname()[1]
    settings = settings_for(
        server.component_port,
        {BOT: bot_table(endpoint, **keys)},
        listen={"address": f"{LOOPBACK}:{port}", "token": [token]},
    )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"http://{LOOPBACK}:{port}"
    async with (
        run_daemon(directory, settings, log_level="debug") as daemon,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False) as client,
    ):
        yield daemon, client


class Blocks(httpx.AsyncByteStream):
    """A file of so many blocks, each another one."""

    def __init__(self, count: int, block: bytes = bytes(64 * 1024)) -> None:
        self._left, self._block = count, block
        self.size = count * len(block)
        self.digest = hashlib.sha256()

    def __aiter__(self) -> Blocks:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        piece = self._left.to_bytes(8, "big") + self._block[8:]
        self.digest.update(piece)
        return piece


async def upload(client: httpx.AsyncClient, content: Blocks, query: str = "") -> httpx.Response:
    headers = {
        **client.headers,
        "Host": client.base_url.netloc.decode(),
        "Content-Type": "application/zip",
        "Content-Length": str(content.size),
    }
    url = client.base_url.join(f"/v1/files?name=big.zip{query}")
    return await client.send(httpx.Request("POST", url, headers=headers, stream=content))


async def download(url: str) -> bytes:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        found = await client.get(url)
    assert found.status_code == 200
    return found.content


async def test_50_mb_through_the_bridge_and_to_a_client(server: Server, tmp_path: Path) -> None:
    async with (
        open_endpoint() as endpoint,
        bridge(server, tmp_path, endpoint) as (daemon, client),
        open_client(server, script="slixmpp_receiver.py") as alice,
    ):
        small = await upload(client, Blocks(1))  # so that all code is loaded
        assert small.status_code == 201, small.text
        before = daemon.peak_rss_bytes
        content = Blocks(800)
        assert content.size == 50 * MIB
        answer = await upload(client, content)
        assert answer.status_code == 201, answer.text
        growth = daemon.peak_rss_bytes - before
        print(f"{server.name}: {before / MIB:.1f} MiB before, {growth / MIB:.1f} MiB more")
        assert growth < GROWTH_BYTES
        file = answer.json()
        assert {**file, "url": ""} == {
            "url": "",
            "size": content.size,
            "media_type": "application/zip",
            "name": "big.zip",
        }
        got = await download(file["url"])
        assert hashlib.sha256(got).digest() == content.digest.digest()
        sent = await client.post("/v1/stanzas", json={"to": ALICE, "files": [file]})
        assert sent.status_code == 202
        seen = await alice.see(lambda line: "oob" in line)
        assert seen == {
            "body": file["url"],
            "oob": file["url"],
            "name": "big.zip",
            "media_type": "application/zip",
            "size": content.size,
        }


async def test_the_content_of_a_reply(server: Server, tmp_path: Path) -> None:
    picture = {"name": "a.png", "data_base64": "iVBORw0KGgo="}
    async with (
        open_endpoint(always(reply({"body": "Look:", "files": [picture]}))) as endpoint,
        bridge(server, tmp_path, endpoint),
        connect_client(server.c2s_port, "bob@localhost", "pw") as bob,
    ):
        await bob.send(f"<message to='{ECHO}' type='chat'><body>hi</body></message>")
        text = await bob.receive(lambda it: name(it) == "message")
        assert text.findtext(f"{{{CLIENT}}}body") == "Look:"
        link = await bob.receive(lambda it: name(it) == "message")
        url = link.findtext(f"{{{CLIENT}}}body")
        assert url is not None
        assert await download(url) == b"\x89PNG\r\n\x1a\n"


async def test_a_file_that_is_too_large(server: Server, tmp_path: Path) -> None:
    async with open_endpoint() as endpoint, bridge(server, tmp_path, endpoint) as (_, client):
        answer = await upload(client, Blocks(LIMIT_BYTES // (64 * 1024) + 1))
        assert answer.status_code == 413
        limit = f"upload.localhost takes at most {LIMIT_BYTES}."
        assert answer.json()["detail"].endswith(limit)


REFUSING: Final = [
    pytest.param(
        UploadingProsody,
        {"access": ('    http_file_share_access = { "localhost" }',)},
        marks=pytest.mark.prosody,
        id="prosody",
    ),
    pytest.param(UploadingEjabberd, {"allowed": ()}, marks=pytest.mark.ejabberd, id="ejabberd"),
]


@pytest.mark.parametrize(("kind", "keys"), REFUSING)
async def test_a_component_that_may_not_upload(kind: Any, keys: Any, tmp_path: Path) -> None:
    async with (
        kind(tmp_path, components=COMPONENTS, users=USERS, **keys) as server,
        open_endpoint() as endpoint,
        bridge(server, tmp_path, endpoint) as (_, client),
    ):
        answer = await upload(client, Blocks(1))
        assert answer.status_code == 403
        assert "No slot from upload.localhost: forbidden" in answer.json()["detail"]


async def test_a_server_without_an_upload_service(prosody: Any, tmp_path: Path) -> None:
    async with open_endpoint() as endpoint, bridge(prosody, tmp_path, endpoint) as (_, client):
        answer = await upload(client, Blocks(1))
        assert answer.status_code == 501
        assert "There is no upload service (XEP-0363) at localhost" in answer.json()["detail"]


@pytest.mark.prosody
@pytest.mark.skipif(shutil.which("go-sendxmpp") is None, reason="go-sendxmpp is not installed")
async def test_go_sendxmpp_shows_the_link(tmp_path: Path) -> None:
    async with (
        UploadingProsody(tmp_path, components=COMPONENTS, users=USERS) as server,
        open_endpoint() as endpoint,
        bridge(server, tmp_path, endpoint) as (_, client),
    ):
        file = (await upload(client, Blocks(1))).json()
        place = f"{LOOPBACK}:{server.c2s_port}"
        command = ["go-sendxmpp", "-l", "-n", "-u", ALICE, "-p", USERS["alice"], "-j", place]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            with trio.fail_after(60):
                await client.post("/v1/stanzas", json={"to": ALICE, "files": [file]})
                text = b""
                assert process.stdout is not None
                while file["url"].encode() not in text:
                    chunk = await process.stdout.receive_some(4096)
                    assert chunk, text
                    text += chunk
        finally:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()


# --- the manual's own programs, and its lines for the servers

PAGE: Final = page("files")
PICTURE: Final = b"\x89PNG\r\n\x1a\n" + bytes(1000)


def block(language: str, place: int = 0) -> str:
    return [one.text for one in PAGE.blocks if one.language == language][place]


@pytest.mark.prosody
@pytest.mark.parametrize(
    ("language", "command"), [("python", sys.executable), ("js", "node"), ("php", "php")]
)
async def test_the_programs_of_the_manual(
    language: str, command: str, tmp_path: Path, shared_uploads: Server
) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    (tmp_path / "cat.png").write_bytes(PICTURE)
    (tmp_path / "shop.token").write_text(f"{TOKEN}\n")
    async with (
        open_endpoint() as endpoint,
        bridge(shared_uploads, tmp_path, endpoint) as (_, client),
    ):
        text = block(language).replace("5280", str(client.base_url.port))
        program = tmp_path / f"program.{language}"
        program.write_text(text)
        done = await trio.run_process(
            [command, str(program)], cwd=tmp_path, capture_stdout=True, capture_stderr=True
        )
        assert not done.stderr, done.stderr
        assert await download(done.stdout.decode().strip()) == PICTURE


@pytest.mark.prosody
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("place", [0, 1])
async def test_curl(place: int, tmp_path: Path, shared_uploads: Server) -> None:
    (tmp_path / "cat.png").write_bytes(PICTURE)
    (tmp_path / "shop.token").write_text(f"{TOKEN}\n")
    async with (
        open_endpoint() as endpoint,
        bridge(shared_uploads, tmp_path, endpoint) as (_, client),
        connect_client(shared_uploads.c2s_port, ALICE, "pw") as alice,
    ):
        script = block("sh", place).replace("5280", str(client.base_url.port))
        script = script.replace("alice@example.com", ALICE).replace("curl ", "curl -sS ")
        done = await trio.run_process(
            ["sh", "-euc", script], cwd=tmp_path, capture_stdout=True, capture_stderr=True
        )
        assert not done.stderr, done.stderr
        answer = json.loads(done.stdout)
        if place == 0:
            url = answer["url"]
            assert set(answer) == set(json.loads(block("json")))
        else:
            assert len(answer) == 2
            bodies = [(await alice.receive(lambda it: name(it) == "message")) for _ in answer]
            text, url = (one.findtext(f"{{{CLIENT}}}body") or "" for one in bodies)
            assert text == "Your cat."
        assert await download(url) == PICTURE


def test_what_is_not_fetched() -> None:
    """The program that fetches refuses links before it opens a connection."""
    space: dict[str, Any] = {}
    exec(block("python", 1), space)
    for url in (
        "http://upload.example.com/a.png",
        "https://127.0.0.1/a.png",
        "https://upload.example.com@evil.example/a.png",
        "aesgcm://upload.example.com/a.png#00",
        "file:///etc/passwd",
        "",
    ):
        with pytest.raises(ValueError, match="a link that is not fetched"):
            space["fetch"](url)


def test_the_servers_are_configured_as_the_manual_says(tmp_path: Path) -> None:
    prosody = UploadingProsody(tmp_path)
    ejabberd = UploadingEjabberd(tmp_path)
    try:
        lua, yaml = block("lua"), block("yaml")
        assert f'Component "{SERVICE}" "http_file_share"' in prosody._config()
        assert 'Component "upload.example.com" "http_file_share"' in lua
        config: Any = ejabberd._config()
        assert config["acl"]["bots"] == {"server": ["bot.localhost"]}
        assert config["access_rules"] == {"upload": [{"allow": "local"}, {"allow": "bots"}]}
        for line in ("    server:\n      - bot.example.com", "    - allow: bots", "access: upload"):
            assert line in yaml
    finally:
        prosody._release()
        ejabberd._release()


@pytest.mark.ejabberd
async def test_a_large_file_in_a_form(tmp_path: Path) -> None:
    path = tmp_path / "big.zip"
    path.write_bytes(os.urandom(MIB) * 30)
    async with (
        UploadingEjabberd(tmp_path, components=COMPONENTS, users=USERS) as server,
        open_endpoint() as endpoint,
        bridge(server, tmp_path, endpoint) as (daemon, client),
        open_client(server, script="slixmpp_receiver.py") as alice,
    ):
        message = json.dumps({"to": ALICE}).encode()
        before = 0
        for content in (b"small", path):
            before = daemon.peak_rss_bytes
            with path.open("rb") as file:
                given = file if content is path else content
                parts: Any = [
                    ("stanza", (None, message, "application/json")),
                    ("file", ("big.zip", given)),
                ]
                sent = await client.post("/v1/stanzas", files=parts)
            assert sent.status_code == 202, sent.text
        growth = daemon.peak_rss_bytes - before
        print(f"form: {growth / MIB:.1f} MiB more")
        assert growth < GROWTH_BYTES
        seen = await alice.see(lambda line: line.get("size") == 30 * MIB)
        assert await download(seen["oob"]) == path.read_bytes()


def checked(server: Server, **keys: str) -> Settings:
    component = {"component_secret": COMPONENTS[BOT], "component_post_url": "http://127.0.0.1:1/"}
    place = f"{LOOPBACK}:{server.component_port}"
    table = {"server": place, "component": {BOT: {**component, **keys}}}
    return from_table(table, "test", directory=Path("/nowhere"), environment={})


async def test_check_tries_a_slot(server: Server) -> None:
    settings, report = checked(server, upload=SERVICE), Report()
    assert await check_attach(settings.components[0], settings, report)
    assert report.verdict() == "All is well."


@pytest.mark.parametrize(("kind", "keys"), REFUSING)
async def test_check_warns_if_the_component_may_not_upload(
    kind: Any, keys: Any, tmp_path: Path
) -> None:
    async with kind(tmp_path, components=COMPONENTS, users=USERS, **keys) as server:
        settings, report = checked(server), Report()
        assert not await check_attach(settings.components[0], settings, report)
        assert report.verdict() == "1 warning."
