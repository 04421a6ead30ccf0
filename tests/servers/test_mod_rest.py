"""Moving in from mod_rest and mod_post_msg, on a real Prosody: its example bot behind the bridge,
each documented form, and its JSON.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import trio

from tests.bridge.listener.api.prosody_form import FORMS, TO, ProsodyForm
from tests.bridge.payload.mod_rest_case import CASES
from tests.servers.conftest import COMPONENTS, MUC
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.endpoint import NOTHING, Answer, Posted, Reaction, open_endpoint, reply
from tests.servers.mod_rest import EXAMPLE, POST_MSG_USER, USER, open_mod_rest
from tests.servers.peer import CLIENT, Peer, connect_client, name
from tests.servers.process import LOOPBACK, accepts, reserve_port
from tests.servers.scene import BOT, NO_JOURNAL, ONE_ATTEMPT, XML_LANG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.process import Server
    from tests.servers.prosody import Prosody

pytestmark = pytest.mark.prosody
INFO: Final = "http://jabber.org/protocol/disco#info"
ITEMS: Final = "http://jabber.org/protocol/disco#items"
VERSION: Final = "jabber:iq:version"
FORM: Final = "application/x-www-form-urlencoded"
TOKEN: Final = "a-token-of-the-scripts-0123"


# --- the bot


def answer_like_the_example(posted: Posted) -> Reaction:
    """What mod_rest's example answers, by its documentation."""
    if posted["kind"] == "message" and "body" in posted:
        return reply({"body": "Yes this is flask app"})
    if posted["kind"] == "iq" and posted["type"] == "get":
        if "disco" in posted:
            identity = {"category": "component", "type": "generic", "name": "Flask app"}
            return reply({"disco": {"identities": [identity], "features": [VERSION]}})
        if "items" in posted:
            return reply({"items": [{"jid": "example.org", "name": "Example Dot Org"}]})
        if "version" in posted:
            return reply({"version": {"name": "app.py", "version": "0"}})
        if "ping" in posted:
            return NOTHING
    return Answer(501, media=None)


@asynccontextmanager
async def running_bot(server: Server, directory: Path, url: str) -> AsyncIterator[Peer]:
    """Run the bot behind a daemon, and give a client of the server."""
    table = {
        "component_secret": COMPONENTS[BOT],
        "component_post_url": url,
        "component_post_stanzas": ["message", "iq"],
    }
    settings = settings_for(
        server.component_port, {BOT: table}, retry=ONE_ATTEMPT, journal=NO_JOURNAL
    )
    async with (
        run_daemon(directory, settings),
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        yield alice


async def ask(alice: Peer, payload: str, to: str = BOT) -> ET.Element:
    """Send an iq get and return its answer."""
    await alice.send(f"<iq type='get' id='q' to='{to}'>{payload}</iq>")
    return await alice.receive(lambda it: name(it) == "iq" and it.get("id") == "q")


async def check_bot(alice: Peer) -> None:
    """Have a conversation with the example, of everything that it can answer."""
    await alice.send(f"<message to='bot@{BOT}' type='chat' id='m'><body>hi</body></message>")
    said = await alice.receive(lambda it: name(it) == "message")
    assert (said.get("type"), said.get("from")) == ("chat", f"bot@{BOT}")
    assert said.findtext(f"{{{CLIENT}}}body") == "Yes this is flask app"
    for to in (BOT, f"bot@{BOT}"):
        pong = await ask(alice, "<ping xmlns='urn:xmpp:ping'/>", to)
        assert (pong.get("type"), list(pong), pong.get("from")) == ("result", [], to)
        version = await ask(alice, f"<query xmlns='{VERSION}'/>", to)
        assert version.findtext(f"{{{VERSION}}}query/{{{VERSION}}}name") == "app.py"
        info = await ask(alice, f"<query xmlns='{INFO}'/>", to)
        identity = info.find(f"{{{INFO}}}query/{{{INFO}}}identity")
        assert identity is not None
        assert identity.get("name") == "Flask app"
        features = [one.get("var") for one in info.iter(f"{{{INFO}}}feature")]
        assert VERSION in features
        items = await ask(alice, f"<query xmlns='{ITEMS}'/>", to)
        assert [one.get("jid") for one in items.iter(f"{{{ITEMS}}}item")] == ["example.org"]
        refused = await ask(alice, "<query xmlns='jabber:iq:last'/>", to)
        assert refused.get("type") == "error"
        kinds = [one.tag.rpartition("}")[2] for one in refused.iter()]
        assert "feature-not-implemented" in kinds


async def test_a_bot_that_answers_like_mod_rests_example(prosody: Prosody, tmp_path: Path) -> None:
    async with (
        open_endpoint(answer_like_the_example) as endpoint,
        running_bot(prosody, tmp_path, endpoint.url) as alice,
    ):
        await check_bot(alice)


@pytest.mark.mod_rest
async def test_mod_rests_example_itself(prosody: Prosody, tmp_path: Path) -> None:
    with reserve_port() as held:
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "flask", "--app", str(EXAMPLE), "run", "--port", str(port)]
    with (tmp_path / "flask.log").open("wb") as log:
        process = await trio.lowlevel.open_process(command, stdout=log, stderr=log)
    try:
        with trio.fail_after(30):
            while not await accepts(port):
                assert process.poll() is None, (tmp_path / "flask.log").read_text()
                await trio.sleep(0.05)
        url = f"http://{LOOPBACK}:{port}/api"
        async with running_bot(prosody, tmp_path, url) as alice:
            await check_bot(alice)
    finally:
        process.kill()
        await process.wait()


# --- the forms


@asynccontextmanager
async def listening(server: Server, directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run a daemon, and give a client of its HTTP API, whose Basic user is `bob`."""
    secret = directory / "scripts.token"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    with reserve_port() as held:
        place = f"{LOOPBACK}:{held.getsockname()[1]}"
    token = {"name": "scripts", "secret_file": str(secret), "scopes": ["send", "query"]}
    listen = {"address": place, "token": [token], "default_host": "localhost"}
    table = {"component_secret": COMPONENTS[BOT], "component_post_url": "http://127.0.0.1:9/"}
    settings = settings_for(server.component_port, {BOT: table}, listen=listen, journal=NO_JOURNAL)
    client = httpx.AsyncClient(base_url=f"http://{place}", auth=("bob", TOKEN))
    async with run_daemon(directory, settings), client:
        yield client


async def delivered(client: httpx.AsyncClient, form: ProsodyForm, alice: Peer) -> Any:
    """Send a form to alice's client, and give the meaning of what it gets; it answers an iq."""
    path, content = (one.replace(TO, alice.jid) for one in (form.path, form.content))
    content = content.replace(TO.replace("@", "%40"), alice.jid.replace("@", "%40"))
    headers = {"Content-Type": form.media} if form.media else {}
    got: list[ET.Element] = []

    async def take() -> None:
        got.append(await alice.receive())
        if name(got[0]) == "iq":
            head = f"type='result' id='{got[0].get('id')}' to='{got[0].get('from')}'"
            await alice.send(f"<iq {head}/>")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        body = content.encode() or None
        response = await client.request(form.method, path, content=body, headers=headers)
        if not response.is_success:
            nursery.cancel_scope.cancel()
    return meaning(got[0]) if got else response.status_code


def meaning(one: ET.Element) -> Any:
    """Give a stanza without its addresses and id, the type that no type means, and the client's
    own language, which a server adds.
    """
    usual = {"type": "normal", XML_LANG: "en"}
    left_out = {key for key, value in usual.items() if one.get(key) == value}
    return _meaning(one, {"from", "id", "to", *left_out})


def _meaning(one: ET.Element, left_out: set[str]) -> Any:
    attributes = {key: value for key, value in one.attrib.items() if key not in left_out}
    # The bridge gives a query of an archive an id of its own.
    children = [
        _meaning(child, {"queryid"} if child.tag.endswith("}query") else set()) for child in one
    ]
    return one.tag, attributes, (one.text or "").strip(), sorted(children, key=repr)


SENT: Final = [form for form in FORMS if form.expected and "type='error'" not in form.expected]


async def test_every_form_arrives(prosody: Prosody, tmp_path: Path) -> None:
    async with (
        listening(prosody, tmp_path) as client,
        connect_client(prosody.c2s_port, TO, "pw", answer_pings=False) as alice,
    ):
        for form in SENT:
            expected = ET.fromstring(form.expected)
            got = await delivered(client, form, alice)
            assert got == meaning(_in_client(expected)), form.name
        assert len(SENT) == len(FORMS) - 1


def _in_client(element: ET.Element) -> ET.Element:
    """Put a stanza that is written without a namespace into the clients'."""
    for one in element.iter():
        if not one.tag.startswith("{"):
            one.tag = f"{{{CLIENT}}}{one.tag}"
    return element


@pytest.mark.mod_rest
async def test_a_client_gets_the_same_as_from_the_modules(tmp_path: Path) -> None:
    """Send each form to both: the table says where they do not agree."""
    async with (
        open_mod_rest(tmp_path, COMPONENTS) as (server, modules),
        listening(server, tmp_path) as client,
        connect_client(server.c2s_port, TO, "pw", answer_pings=False) as alice,
    ):
        for form in SENT:
            ours = await delivered(client, form, alice)
            modules.auth = POST_MSG_USER if form.path.startswith("/msg") else USER
            theirs = await delivered(modules, form, alice)
            is_said = bool(form.differs or form.improves)
            assert (ours != theirs) == is_said, (form.name, ours, theirs)


# --- the oracle

QUESTIONS: Final = (
    ("GET", "/rest/version/localhost", ""),
    ("GET", "/rest/ping/localhost", ""),
    ("GET", "/rest/disco/localhost", ""),
    ("GET", "/rest/items/localhost", ""),
    ("GET", "/rest/items/localhost?node=none", ""),
    ("GET", "/rest/extdisco/localhost?type=stun", ""),
    ("GET", "/rest/stats/localhost", ""),
    ("GET", "/rest/disco/none.localhost", ""),
    ("GET", "/rest/lastactivity/localhost", ""),
    ("GET", "/rest/archive/localhost", ""),
    ("GET", "/rest/items/localhost?node=http%3A%2F%2Fjabber.org%2Fprotocol%2Fcommands", ""),
    ("POST", "/rest", '{"to": "localhost", "command": {"node": "uptime"}}'),
    ("POST", "/rest", '{"to": "localhost", "command": {"node": "none"}}'),
    ("POST", "/rest", '{"to": "localhost", "kind": "iq", "type": "get", "version": true}'),
    ("POST", "/rest/iq/get/localhost", '{"disco": "http://jabber.org/protocol/commands"}'),
)


@pytest.mark.mod_rest
@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/xmpp+xml"])
async def test_answers_are_those_of_the_module(tmp_path: Path, accept: str) -> None:
    """Ask a server through both: status, form and content of the answer are the same."""
    async with (
        open_mod_rest(tmp_path, COMPONENTS) as (server, modules),
        listening(server, tmp_path) as client,
    ):
        for method, path, content in QUESTIONS:
            headers = {"Accept": accept, "Prosody-Rest-Timeout": "10"}
            headers |= {"Content-Type": "application/json"} if content else {}
            answers = [
                await one.request(method, path, content=content.encode() or None, headers=headers)
                for one in (client, modules)
            ]
            ours, theirs = (_comparable(one) for one in answers)
            assert ours == theirs, path


def _comparable(answer: httpx.Response) -> Any:
    media = answer.headers["content-type"]
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", answer.text)  # a session
    if media == "application/json":
        value = json.loads(text)
        assert value.pop("to")
        return answer.status_code, media, {**value, "id": ""}
    return answer.status_code, media, meaning(ET.fromstring(text))


@pytest.mark.mod_rest
@pytest.mark.parametrize("accept", ["application/json", "application/xmpp+xml", FORM])
async def test_an_archive_answers_through_both(tmp_path: Path, accept: str) -> None:
    """The messages of a room and the end of the answer, in each form."""
    room = f"coven@{MUC}"
    async with (
        open_mod_rest(tmp_path, COMPONENTS, MUC) as (server, modules),
        listening(server, tmp_path) as client,
        connect_client(server.c2s_port, TO, "pw") as alice,
    ):
        await alice.send(
            f"<presence to='{room}/nurse'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        )
        for text in ("one", "two"):
            await alice.send(
                f"<message to='{room}' type='groupchat' id='m'><body>{text}</body></message>"
            )
            await alice.receive(lambda it: it.findtext(f"{{{CLIENT}}}body") == text)  # noqa: B023
        for query in ("", "?max=1", f"?with={room}/nobody"):
            answers = [
                await one.get(f"/rest/archive/{room}{query}", headers={"Accept": accept})
                for one in (client, modules)
            ]
            ours, theirs = (_archived(one) for one in answers)
            assert ours == theirs, query
            assert accept == FORM or len(str(ours)) > 100


def _archived(answer: httpx.Response) -> Any:
    """What an archive has answered, without what differs by asker: `to`, `id`, `queryid`. The
    module leaves out `complete`.
    """
    media = answer.headers["content-type"]
    if media == FORM:
        return answer.status_code, media
    if media == "application/xmpp+xml":
        return answer.status_code, media, _plain(ET.fromstring(answer.text))
    value = answer.json()
    for one in value.get("xmpp", [value]):
        for key in ("to", "id"):
            one.pop(key, None)
        one.get("archive", {}).pop("queryid", None)
        one.get("result", {}).pop("complete", None)
    return answer.status_code, media, value


def _plain(one: ET.Element) -> Any:
    left_out = () if one.tag.endswith("}message") else ("to", "id", "queryid")
    attributes = {key: value for key, value in one.attrib.items() if key not in left_out}
    return one.tag, attributes, (one.text or "").strip(), [_plain(child) for child in one]


@pytest.mark.mod_rest
async def test_mod_rest_gives_what_the_table_says(tmp_path: Path) -> None:
    headers = {"Content-Type": "application/xmpp+xml", "Accept": "application/json"}
    async with open_mod_rest(tmp_path, COMPONENTS) as (_, modules):
        for case in CASES:
            response = await modules.post(
                "/rest/echo", content=case.stanza.encode(), headers=headers
            )
            value = response.json() if response.is_success else {}
            for key in ("kind", "type", "to", "from", "id"):
                value.pop(key, None)
            assert value == case.theirs, case.stanza
