"""Asking from outside, and quick answers, on real servers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from tests.servers.conftest import COMPONENTS, KINDS, MUC, USERS
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.endpoint import NOTHING, Endpoint, Posted, Reaction, open_endpoint, reply
from tests.servers.peer import CLIENT, Peer, connect_client, name
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody
from tests.servers.scene import BOT, NO_JOURNAL, ONE_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.process import Server

TOKEN: Final = "a-token-of-the-scripts-0123"
ROOM: Final = f"coven@{MUC}"
QUICK: Final = "urn:xmpp:tmp:quick-response"
MODULES: Final = (
    'modules_enabled = { "adhoc", "ping", "uptime", "time", "lastactivity", "vcard_legacy", "pep",'
    ' "mam" }'
)


@asynccontextmanager
async def asking(
    server: Server, directory: Path, endpoint: Endpoint
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a daemon, and give a client of its HTTP API."""
    secret = directory / "scripts.token"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    with reserve_port() as held:
        place = f"{LOOPBACK}:{held.getsockname()[1]}"
    token = {"name": "scripts", "secret_file": str(secret), "scopes": ["send", "query"]}
    table = {
        "component_secret": COMPONENTS[BOT],
        "component_post_url": endpoint.url,
        "component_post_events": "all",
    }
    settings = settings_for(
        server.component_port,
        {BOT: table},
        listen={"address": place, "token": [token]},
        retry=ONE_ATTEMPT,
        journal=NO_JOURNAL,
    )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client = httpx.AsyncClient(base_url=f"http://{place}", headers=headers, timeout=20)
    async with run_daemon(directory, settings), client:
        yield client


@asynccontextmanager
async def talking(directory: Path) -> AsyncIterator[tuple[Prosody, Endpoint, httpx.AsyncClient]]:
    """A Prosody whose rooms have an archive, with a daemon."""
    settings = {"localhost": [MODULES], MUC: ['modules_enabled = { "muc_mam" }']}
    async with (
        Prosody(
            directory, components=COMPONENTS, users=USERS, muc=MUC, component_settings=settings
        ) as server,
        open_endpoint(offer) as endpoint,
        asking(server, directory, endpoint) as client,
    ):
        yield server, endpoint, client


def offer(posted: Posted) -> Reaction:
    """A bot that asks, and says what was chosen."""
    if posted.get("body") == "ask":
        return reply(
            {
                "body": "Book it?",
                "answers": [{"value": "yes", "label": "Yes!"}, {"value": "no"}],
                "actions": [{"id": "call", "label": "Call me"}],
            }
        )
    if posted["event"] == "action" or "answer" in posted:
        return reply({"body": f"{posted.get('answer')} {posted.get('action')}"})
    return NOTHING


async def body(peer: Peer) -> str | None:
    """The body of the next message."""
    one = await peer.receive(lambda it: name(it) == "message")
    return one.findtext(f"{{{CLIENT}}}body")


@pytest.mark.prosody
async def test_the_archive_of_a_room(tmp_path: Path) -> None:
    async with (
        talking(tmp_path) as (server, endpoint, client),
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        await alice.send(
            f"<presence to='{ROOM}/nurse'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        )
        for number in range(5):
            await alice.send(
                f"<message to='{ROOM}' type='groupchat' id='m{number}'>"
                f"<body>say {number}</body></message>"
            )
            await alice.receive(
                lambda it: it.findtext(f"{{{CLIENT}}}body") == f"say {number}"  # noqa: B023
            )
        found: list[str] = []
        after = ""
        for _ in range(3):
            response = await client.get(f"/v1/archive/{ROOM}?max=2&after={after}")
            assert response.status_code == 200, response.text
            page: dict[str, Any] = response.json()
            found += [one["body"] for one in page["messages"] if "body" in one]
            after = page["last"]
        assert page["complete"]
        assert found == [f"say {number}" for number in range(5)]
        [last] = (await client.get(f"/v1/archive/{ROOM}?max=1&before=")).json()["messages"]
        assert (last["body"], last["from"], last["event"]) == ("say 4", f"{ROOM}/nurse", "message")
        assert last["ref"] == last["archive_id"] == after
        assert last["timestamp"].endswith("Z")
        # A person's archive is that person's own.
        refused = await client.get("/v1/archive/alice@localhost")
        assert refused.status_code in (403, 404, 502), refused.text
        assert "to that person alone" in refused.json()["detail"]
        assert endpoint.posted == []


@pytest.mark.prosody
async def test_what_a_server_and_its_users_are_asked(tmp_path: Path) -> None:
    async with (
        talking(tmp_path) as (server, _, client),
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        await alice.send(
            "<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>Alice</FN>"
            "<NICKNAME>Al</NICKNAME></vCard></iq>"
        )
        await alice.receive(lambda it: it.get("id") == "v")
        card = (await client.get("/v1/vcard/alice@localhost")).json()
        assert (card["jid"], card["fn"], card["nickname"]) == ("alice@localhost", "Alice", "Al")
        assert (await client.get("/v1/time/localhost")).json()["utc"].endswith("Z")
        assert (await client.get("/v1/last/localhost")).json()["idle_seconds"] >= 0
        refused = await client.get("/v1/last/alice@localhost")
        assert refused.json()["error"]["condition"] in ("forbidden", "subscription-required")


@pytest.mark.prosody
async def test_a_command_of_a_server(tmp_path: Path) -> None:
    async with talking(tmp_path) as (_, _, client):
        node = "http://jabber.org/protocol/commands"
        listed = (await client.get("/v1/items/localhost", params={"node": node})).json()["items"]
        assert "uptime" in {one["node"] for one in listed}
        done = (await client.post("/v1/commands/localhost/uptime")).json()
        assert (done["status"], done["note"]["type"]) == ("completed", "info")
        assert "has been running" in done["note"]["text"]
        unknown = await client.post("/v1/commands/localhost/none", json={"sessionid": "x"})
        assert unknown.json()["type"].startswith("urn:xmpp-bridge:problem:remote:")


@pytest.mark.parametrize("kind", KINDS)
async def test_quick_answers_of_a_person(tmp_path: Path, kind: type[Server]) -> None:
    async with (
        kind(tmp_path, components=COMPONENTS, users=USERS, muc=MUC) as server,
        open_endpoint(offer) as endpoint,
        asking(server, tmp_path, endpoint) as client,
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):

        async def say(inner: str) -> None:
            await alice.send(f"<message type='chat' to='bot@{BOT}'>{inner}</message>")

        for inner, answer in (
            ("<body>2</body>", "no None"),
            ("<body>yes</body>", "yes None"),
            ("<body>3</body>", "None call"),
            (f"<action-selected xmlns='{QUICK}' id='call'/>", "None call"),
        ):
            await say("<body>ask</body>")
            question = await alice.receive(lambda it: name(it) == "message")
            text = question.findtext(f"{{{CLIENT}}}body")
            assert text == "Book it?\n1. Yes!\n2. no\n3. Call me"
            assert [one.get("value") for one in question.findall(f"{{{QUICK}}}response")] == [
                "yes",
                "no",
            ]
            await say(inner)
            assert await body(alice) == answer
        sent = await client.post(
            "/v1/stanzas", json={"to": alice.jid, "from": f"bot@{BOT}", "body": "So?",
                                 "answers": ["a", "b"]}
        )  # fmt: skip
        assert sent.status_code == 202
        assert await body(alice) == "So?\n1. a\n2. b"
        await say("<body>1</body>")
        assert await body(alice) == "a None"
        assert {one["from_local"] for one in endpoint.posted} == {"alice"}
