"""Contacts and profiles over HTTP, with a real announcer behind them."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import trio
from attrs import define, evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.profile import AVATAR_LIMIT_BYTES, Profile
from bridge.config.settings import Component, Count, ListenSettings, TcpAddress
from bridge.config.value import Secret, parse_post_url
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.xmpp.announcer import Announcer
from bridge.xmpp.contact import Contacts
from bridge.xmpp.identity.book import IdentityBook
from bridge.xmpp.outbox import Outbox
from bridge.xmpp.state import MemoryState
from tests.bridge.listener.conftest import TOKENS, bearer
from tests.bridge.listener.fake_sender import BOT, OTHER, FakeSender
from tests.bridge.listener.held_state import HeldState
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from xmppstream import Server

ALICE: Final = "alice@x.example"
PNG: Final = b"\x89PNG\r\n\x1a\n....."
PICTURE: Final = base64.b64encode(PNG).decode()
COMPONENT: Final = Component(
    BOT, Secret("s"), parse_post_url("http://127.0.0.1/"), Server("127.0.0.1", 1), name=BOT
)


def announcer(component: Component, outbox: Outbox | None = None) -> Announcer:
    state = MemoryState()
    contacts = Contacts(IdentityBook(component, state), state, Recorder().logger())
    contacts.load()
    return Announcer(contacts, Outbox(component.domain) if outbox is None else outbox)


@define
class World:
    announcers: dict[str, Announcer]
    client: httpx.AsyncClient

    async def get(self, path: str, token: str = "all") -> httpx.Response:
        return await self.client.get(path, headers=bearer(token))

    async def put(self, path: str, value: Any, token: str = "all") -> httpx.Response:
        return await self.client.put(path, json=value, headers=bearer(token))

    def subscribe(self, to: str, from_: str = ALICE) -> None:
        one = self.announcers[to.rpartition("@")[2]]
        one.contacts.receive(stanza(f"<presence type='subscribe' from='{from_}' to='{to}'/>"))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    announcers = {
        domain: announcer(evolve(COMPONENT, domain=domain, name=domain)) for domain in (OTHER, BOT)
    }
    listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS, max_body_bytes=Count(1_000_000))
    app = make_app(FakeSender(), TokenAuth(TOKENS), listen, announcers=lambda: announcers)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://listener") as client:
        yield World(announcers, client)


# --- contacts


async def test_contacts_are_those_of_the_addresses_of_the_token(world: World) -> None:
    for to in (f"echo@{BOT}", f"zoo@{BOT}", BOT, f"echo@{OTHER}"):
        world.subscribe(to)

    async def listed(token: str) -> list[str]:
        response = await world.get("/v1/contacts", token)
        assert response.status_code == 200
        return [one["address"] for one in response.json()["contacts"]]

    assert await listed("all") == [BOT, f"echo@{BOT}", f"zoo@{BOT}", f"echo@{OTHER}"]
    assert await listed("one") == [BOT, f"echo@{BOT}", f"zoo@{BOT}"]
    assert await listed("echo") == [f"echo@{BOT}"]
    assert await listed("other") == [f"echo@{OTHER}"]


async def test_what_is_told_of_a_contact(world: World) -> None:
    world.subscribe(f"echo@{BOT}")
    contacts = world.announcers[BOT].contacts
    for xml in ("subscribe' to='bob@y' from='echo@", "subscribe' to='carol@z' from='echo@"):
        contacts.observe_sent(stanza(f"<presence type='{xml}{BOT}'/>"))
    contacts.receive(stanza(f"<presence type='subscribed' from='bob@y' to='echo@{BOT}'/>"))
    contacts.receive(stanza(f"<presence from='bob@y/r' to='echo@{BOT}'/>"))
    about = {"address": f"echo@{BOT}", "subscribed": False}
    assert (await world.get("/v1/contacts")).json()["contacts"] == [
        {**about, "jid": ALICE, "subscribed": True, "subscription": "none", "online": None},
        {**about, "jid": "bob@y", "subscription": "to", "online": True},
        {**about, "jid": "carol@z", "subscription": "asked", "online": None},
    ]


async def test_contacts_need_the_scope_query(world: World) -> None:
    response = await world.get("/v1/contacts", "sender")
    assert response.status_code == 403
    assert '"query"' in response.json()["detail"]


# --- profiles

ECHO: Final = {
    "name": "Echo",
    "description": "Says it again",
    "url": "https://example.com/",
    "avatar": PICTURE,
    "category": "automation",
    "type": "echo",
    "features": ["urn:example"],
}


async def test_a_profile_that_is_put_is_shown_and_read_again(world: World) -> None:
    response = await world.put("/v1/profile/echo", ECHO, "one")
    assert (response.status_code, response.json()) == (
        200,
        {"address": f"echo@{BOT}", "warnings": []},
    )
    assert (await world.get(f"/v1/profile/Echo@{BOT}")).json() == ECHO
    info = world.announcers[BOT].contacts.book.info(f"echo@{BOT}")
    assert (info.name, info.category) == ("Echo", "automation")
    response = await world.put("/v1/profile/echo", {"name": "Parrot", "avatar": None, "url": ""})
    assert response.status_code == 422  # `all` is for two components
    response = await world.put(f"/v1/profile/echo@{BOT}", {"name": "Parrot", "url": None})
    assert response.status_code == 200
    assert (await world.get("/v1/profile/echo", "one")).json() == {"name": "Parrot"}
    assert world.announcers[BOT].contacts.book.info(f"echo@{BOT}").name == "Parrot"


async def test_the_domain_has_a_profile_too(world: World) -> None:
    assert (await world.put(f"/v1/profile/{BOT}", {"name": "All"}, "one")).status_code == 200
    assert world.announcers[BOT].contacts.book.name(BOT) == "All"
    assert (await world.get("/v1/profile/echo", "one")).status_code == 404


async def test_a_profile_is_answered_for_once_it_is_kept(
    world: World, nursery: trio.Nursery
) -> None:
    state = HeldState()
    world.announcers[BOT].contacts.book._state = state
    statuses: list[int] = []

    async def change(method: str) -> None:
        url, headers = "/v1/profile/echo", {**bearer("one"), "Content-Type": "application/json"}
        content = json.dumps(ECHO) if method == "PUT" else None
        response = await world.client.request(method, url, content=content, headers=headers)
        statuses.append(response.status_code)

    for method, status in (("PUT", 200), ("DELETE", 204)):
        nursery.start_soon(change, method)
        await wait_all_tasks_blocked()
        assert status not in statuses
        state.release()
        await wait_all_tasks_blocked()
        assert status in statuses


async def test_a_profile_that_is_put_replaces_the_configurations_until_it_is_deleted(
    world: World,
) -> None:
    book = world.announcers[BOT].contacts.book
    book.change(evolve(COMPONENT, profiles={"echo": Profile("Echo"), "*": Profile("Any")}))
    for local, name in (("echo", "Echo"), ("other", "Any")):
        assert (await world.get(f"/v1/profile/{local}", "one")).json() == {"name": name}
        assert (await world.put(f"/v1/profile/{local}", {}, "one")).status_code == 200
        assert (await world.get(f"/v1/profile/{local}", "one")).json() == {}
        response = await world.client.delete(f"/v1/profile/{local}", headers=bearer("one"))
        assert (response.status_code, response.content) == (204, b"")
        assert (await world.get(f"/v1/profile/{local}", "one")).json() == {"name": name}


async def test_contacts_are_told_of_another_profile(
    world: World, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    outbox = Outbox(BOT)
    one = world.announcers[BOT] = announcer(COMPONENT, outbox)
    world.subscribe(f"echo@{BOT}")
    world.subscribe(f"other@{BOT}")
    one.attached()
    nursery.start_soon(one.run)
    await wait_all_tasks_blocked()
    assert len(outbox.take()) == 2
    mock_clock.jump(1)
    await world.put("/v1/profile/echo", {"name": "Parrot"}, "one")
    await wait_all_tasks_blocked()
    [told] = [stanza(data.decode()) for data in outbox.take()]
    assert (told.from_, told.to) == (f"echo@{BOT}/default", ALICE)
    assert [child.text for child in told.element.elements if child.local == "nick"] == ["Parrot"]


async def test_a_large_picture_is_warned_about(world: World) -> None:
    picture = base64.b64encode(PNG.ljust(8193, b".")).decode()
    response = await world.put("/v1/profile/echo", {"avatar": picture}, "one")
    assert response.json()["warnings"] == [
        "avatar: the picture has 8193 bytes, more than 8192: each contact loads it"
    ]


BAD = [
    ([], "a profile is an object"),
    ({"name": 5}, "name: must be a string, not a number. Put it in quotes."),
    ({"nmae": "x"}, "nmae: this key is unknown. Perhaps you meant name."),
    ({"features": "x"}, "features: must be a list of strings, not a string."),
    ({"avatar": "???"}, "avatar: this is not base64."),
    (
        {"avatar": base64.b64encode(b"GIF89a...").decode()},
        "avatar: this is not a picture in PNG or JPEG. Convert it to one of them.",
    ),
    (
        {"avatar": base64.b64encode(PNG.ljust(AVATAR_LIMIT_BYTES + 1, b".")).decode()},
        "avatar: the picture has 65537 bytes, more than 65536.",
    ),
    ({"category": "client"}, "type: category and type belong together. Set both, or neither."),
    ({"name": "\x01"}, "name: "),
    ({"name": "\0"}, "name: contains a NUL character. Remove it."),
    ({"url": "x", "type": "y"}, "url: 'x' is not a URL."),
    ({"features": [f"{n}{'ä' * 1400}" for n in range(100)]}, "a value is longer than"),
]


@pytest.mark.parametrize(("value", "problem"), BAD, ids=[row[1][:20] for row in BAD])
async def test_a_bad_profile_is_refused_in_the_words_of_the_configuration(
    world: World, value: Any, problem: str
) -> None:
    response = await world.put("/v1/profile/echo", value, "one")
    assert response.status_code == 422
    assert response.json()["detail"].startswith(problem)
    assert (await world.get("/v1/profile/echo", "one")).status_code == 404


PLACES = [
    ("one", "echo/x", 422),
    ("one", f"echo@{BOT}/x", 422),
    ("one", "*", 422),
    ("one", "a b", 422),
    ("one", "", 422),
    ("one", f"echo@{OTHER}", 403),
    ("one", "echo@third.example", 404),
    ("echo", "other", 403),
    ("echo", BOT, 403),
    ("all", "echo", 422),
    ("sender", "echo", 200),
    ("asker", "echo", 403),
    ("watcher", "echo", 403),
]


@pytest.mark.parametrize(("token", "path", "status"), PLACES)
async def test_who_may_change_what(world: World, token: str, path: str, status: int) -> None:
    response = await world.put(f"/v1/profile/{path}", {"name": "x"}, token)
    assert response.status_code == status, response.text


async def test_an_address_that_does_not_exist_has_no_profile(world: World) -> None:
    world.announcers[BOT].contacts.book.change(evolve(COMPONENT, local_parts=frozenset({"news"})))
    response = await world.put("/v1/profile/echo", {"name": "x"}, "one")
    assert (response.status_code, response.json()["detail"]) == (
        404,
        "'echo' is not among local_parts.",
    )


async def test_where_iqs_are_posted_a_profile_would_not_be_shown(world: World) -> None:
    posted = evolve(COMPONENT, post_stanzas=frozenset({"message", "iq"}))
    world.announcers[BOT].contacts.book.change(posted)
    response = await world.put("/v1/profile/echo", {"name": "x"}, "one")
    assert response.status_code == 409
    assert response.json()["detail"].startswith("component_post_stanzas has iq")


async def test_before_the_state_is_loaded_there_is_no_answer(world: World) -> None:
    state = MemoryState()
    book = IdentityBook(COMPONENT, state)
    contacts = Contacts(book, state, Recorder().logger())
    world.announcers[BOT] = Announcer(contacts, Outbox(BOT))
    for path in ("/v1/contacts", f"/v1/profile/echo@{BOT}"):
        response = await world.get(path)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert response.json()["detail"] == f"{BOT} has not started yet."
