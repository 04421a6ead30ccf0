"""The listener with real servers: what a shell and curl can do, and what clients get of it."""

from __future__ import annotations

import json
import shlex
import shutil
import stat
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from tests.servers.conftest import COMPONENTS, KINDS, USERS
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Answer, Endpoint, Posted, always, open_endpoint, reply
from tests.servers.peer import CLIENT, connect_client, name
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody
from tests.servers.scene import BOT, bot_table
from tests.servers.test_readme import MANUAL, README

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.ejabberd import Ejabberd
    from tests.servers.process import Server

TOKEN: Final = "a-token-of-the-shop-0123"
PLACE: Final = "127.0.0.1:5280"
MESSAGE: Final = f"""\
curl -d 'Your order is on its way.' -H 'Content-Type: text/plain' \\
    -H "Authorization: Bearer $(cat shop.token)" \\
    http://{PLACE}/v1/stanzas/message/chat/alice@localhost
"""
VERSION: Final = f"""\
curl -H "Authorization: Bearer $(cat shop.token)" \\
    http://{PLACE}/v1/version/localhost
"""
NAMES: Final = {"prosody": "Prosody", "ejabberd": "ejabberd"}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def shell(lines: str, directory: Path, port: int) -> Any:
    """Run lines as a shell does, curl being quiet, and give what they print, which is JSON."""
    script = lines.replace("5280", str(port)).replace("curl ", "curl -sS --max-time 60 ")
    done = await trio.run_process(
        ["sh", "-euc", script], cwd=directory, capture_stdout=True, capture_stderr=True
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


VERSIONED: Final = {"localhost": ['modules_enabled = { "version" }']}


@pytest.fixture
async def prosody(tmp_path: Path) -> AsyncIterator[Prosody]:
    """A Prosody that tells its version."""
    settings: Any = {"components": COMPONENTS, "users": USERS, "component_settings": VERSIONED}
    async with Prosody(tmp_path, **settings) as server:
        yield server


@pytest.fixture(params=KINDS)
async def server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Prosody | Ejabberd]:
    """Each server in turn, telling its version."""
    kind: type[Prosody | Ejabberd] = request.param
    more: Any = {"component_settings": VERSIONED} if kind is Prosody else {}
    async with kind(tmp_path, components=COMPONENTS, users=USERS, **more) as started:
        yield started


@asynccontextmanager
async def listening(
    server: Server, directory: Path, endpoint: Endpoint, **keys: Any
) -> AsyncIterator[tuple[Daemon, int]]:
    """A daemon with a listener, and its port."""
    (directory / "shop.token").write_text(f"{TOKEN}\n")
    (directory / "shop.token").chmod(0o600)
    token: dict[str, Any] = {"name": "shop", "secret_file": str(directory / "shop.token")}
    token |= {"local_parts": ["shop"], "scopes": ["send", "query"]}
    with reserve_port() as held:
        port = held.getsockname()[1]
    listen = {"address": f"{LOOPBACK}:{port}", "token": [token], **keys}
    settings = settings_for(server.component_port, {BOT: bot_table(endpoint)}, listen=listen)
    async with run_daemon(directory, settings, log_level="debug") as daemon:
        yield daemon, port
        log = "\n".join(str(line) for line in daemon.lines)
        assert TOKEN not in log
        assert "on its way" not in log


def test_these_are_the_manuals_lines() -> None:
    page = (MANUAL / "sending.md").read_text()
    assert MESSAGE in page
    assert VERSION in page
    assert MESSAGE in README.read_text()


async def test_a_message_to_a_client(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with (
        open_endpoint() as endpoint,
        listening(server, tmp_path, endpoint) as (_, port),
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        accepted = await shell(MESSAGE, tmp_path, port)
        got = await alice.receive(lambda it: name(it) == "message")
        assert got.findtext(f"{{{CLIENT}}}body") == "Your order is on its way."
        assert (got.get("from"), got.get("type")) == (f"shop@{BOT}", "chat")
        assert accepted["id"].startswith("msg_")


ALICE: Final = {"to": "alice@localhost"}
PICTURE: Final = "https://x.example/3.png"
OBJECTS: Final = [
    {**ALICE, "body": "one", "id": "own"},
    {**ALICE, "body": "two", "files": [{"url": PICTURE}]},
]
ARRAY: Final = f"""\
curl -d '{json.dumps(OBJECTS)}' \
    -H 'Content-Type: application/json' -H 'Idempotency-Key: order-1' \
    -H "Authorization: Bearer $(cat shop.token)" \
    http://{PLACE}/v1/stanzas
"""


async def test_an_array_arrives_in_order_and_once(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with (
        open_endpoint() as endpoint,
        listening(server, tmp_path, endpoint) as (_, port),
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        accepted = await shell(ARRAY, tmp_path, port)
        assert [one["id"] for one in accepted] == ["own", accepted[1]["uid"], accepted[2]["uid"]]
        assert await shell(ARRAY, tmp_path, port) == accepted
        alone = ARRAY.replace("order-1", "order-2").replace('"id": "own"', f'"from": "x@{BOT}"')
        refused = await shell(alone, tmp_path, port)
        assert refused["detail"] == "object 1: from: this token may not speak as that address."
        late = MESSAGE.replace("Your order is on its way.", "last")
        await shell(late, tmp_path, port)
        got = [await alice.receive(lambda it: name(it) == "message") for _ in range(4)]
        bodies = [one.findtext(f"{{{CLIENT}}}body") for one in got]
        assert bodies == ["one", "two", PICTURE, "last"]
        assert [one.get("id") for one in got[:3]] == [one["id"] for one in accepted]


async def test_the_servers_version(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with (
        open_endpoint() as endpoint,
        listening(server, tmp_path, endpoint) as (_, port),
    ):
        answer = await shell(VERSION, tmp_path, port)
        assert answer["name"] == NAMES[server.name]
        assert answer["version"]


async def test_the_aliases_by_basic(server: Prosody | Ejabberd, tmp_path: Path) -> None:
    async with (
        open_endpoint() as endpoint,
        listening(server, tmp_path, endpoint, default_host="localhost") as (_, port),
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        user = shlex.quote(f"shop@{BOT}:{TOKEN}")
        for path, media, body in (
            ("/msg/alice", "text/plain", "one"),
            ("/msg/alice@localhost", "application/x-www-form-urlencoded", "body=two"),
            ("/rest/message/chat/alice", "text/plain", "three"),
            ("/rest", "application/json", '{"to": "alice@localhost", "body": "four"}'),
        ):
            line = f"curl -u {user} -H 'Content-Type: {media}' -d '{body}' http://{PLACE}{path}"
            assert "id" in await shell(line, tmp_path, port)
        bodies = [
            (await alice.receive(lambda it: name(it) == "message")).findtext(f"{{{CLIENT}}}body")
            for _ in range(4)
        ]
        assert bodies == ["one", "two", "three", "four"]


@pytest.mark.prosody
async def test_an_error_of_the_server(prosody: Prosody, tmp_path: Path) -> None:
    async with (
        open_endpoint() as endpoint,
        listening(prosody, tmp_path, endpoint) as (_, port),
    ):
        unknown = VERSION.replace("version/localhost", "disco/nobody@localhost")
        problem = await shell(unknown, tmp_path, port)
        assert problem["status"] in (403, 404, 502)
        assert problem["error"]["condition"]
        own = VERSION.replace("version/localhost", f"disco/shop@{BOT}?from=other@{BOT}")
        assert (await shell(own, tmp_path, port))["status"] == 403


@pytest.mark.prosody
async def test_a_unix_socket(prosody: Prosody, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    async with (
        open_endpoint() as endpoint,
        listening(prosody, tmp_path, endpoint, address=f"unix:{path}") as (_, port),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        line = VERSION.replace("curl ", f"curl --unix-socket {path} ")
        assert (await shell(line, tmp_path, port))["name"] == "Prosody"
    assert not path.exists()


@pytest.mark.prosody
async def test_an_address_in_use_is_told(prosody: Prosody, tmp_path: Path) -> None:
    async with (
        open_endpoint() as endpoint,
        listening(prosody, tmp_path, endpoint) as (_, port),
    ):
        settings = settings_for(
            prosody.component_port,
            {BOT: bot_table(endpoint)},
            listen={"address": f"{LOOPBACK}:{port}"},
        )
        async with run_daemon(tmp_path, settings, wait_attached=False) as second:
            assert await second.wait_ended() == 1
            (line,) = second.logged("cannot listen")
            assert line["why"].startswith(f"listen.address: cannot listen at {LOOPBACK}:{port}: ")


@pytest.mark.prosody
async def test_a_handler_can_ask_while_it_answers(prosody: Prosody, tmp_path: Path) -> None:
    """The endpoint asks the listener before it replies: nobody waits for the other."""
    asked: list[Any] = []
    async with (
        open_endpoint() as endpoint,
        listening(prosody, tmp_path, endpoint) as (_, port),
        connect_client(prosody.c2s_port, "alice@localhost", "pw") as alice,
    ):
        line = VERSION.replace("5280", str(port)).replace("curl ", "curl -sS --max-time 30 ")

        def react(posted: Posted) -> Answer:
            # It blocks this process only; the daemon is another one.
            done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
            asked.append(json.loads(done.stdout))
            return reply({"body": asked[-1]["name"]})

        endpoint.react = react
        await alice.send(f"<message to='shop@{BOT}' type='chat'><body>which?</body></message>")
        got = await alice.receive(lambda it: name(it) == "message")
        assert got.findtext(f"{{{CLIENT}}}body") == "Prosody"
        assert len(asked) == 1
        endpoint.react = always(reply())


@pytest.mark.prosody
async def test_a_listener_that_is_busy_stops_in_time(prosody: Prosody, tmp_path: Path) -> None:
    """Idle clients, one with half a head, one with half a body, one that waits for an answer that
    never comes: the daemon stops within `grace_s` and 2 s.
    """
    async with (
        open_endpoint() as endpoint,
        listening(prosody, tmp_path, endpoint) as (daemon, port),
        connect_client(prosody.c2s_port, "bob@localhost", "pw", answer_pings=False) as bob,
    ):
        auth = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        post = f"POST /v1/stanzas HTTP/1.1\r\n{auth}Content-Type: application/json\r\n"
        streams = []
        for data in (
            "",
            "GET / HT",
            f"{post}Content-Length: 1000\r\n\r\n{{",
            f"GET /v1/ping/{bob.jid} HTTP/1.1\r\nPrefer: wait=300\r\n{auth}\r\n",
        ):
            stream = await trio.open_tcp_stream(LOOPBACK, port)
            streams.append(stream)
            if data:
                await stream.send_all(data.encode())
        await bob.receive(lambda it: name(it) == "iq")
        code, seconds = await daemon.terminate()
        assert code == 0
        assert seconds < 5 + 2
        for stream in streams:
            await trio.aclose_forcefully(stream)
