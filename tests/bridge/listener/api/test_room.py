"""Rooms by HTTP: what may be listed, joined and left, and by whom."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import RoomSettings
from bridge.config.value import Secret
from bridge.xmpp.state import MemoryState
from tests.bridge.listener.api.test_stanza import problem
from tests.bridge.listener.conftest import World, basic, bearer
from tests.bridge.listener.fake_sender import BOT, OTHER
from tests.bridge.listener.held_state import HeldState
from tests.bridge.sample import stanza
from tests.bridge.xmpp.room.stage import SUBJECT, message, presence, refusal
from xmppstream import Stanza

ROOM: Final = "hall@muc.example"
PATH: Final = f"/v1/rooms/{ROOM}"
ME: Final = f"echo@{BOT}/default"


async def put(
    world: World, path: str = PATH, /, content: Any = None, token: str = "keeper", **keys: Any
) -> httpx.Response:
    body = json.dumps(keys) if content is None else content
    headers = {"Content-Type": "application/json", **bearer(token)}
    return await world.client.put(path, content=body, headers=headers)


async def delete(world: World, path: str = PATH, token: str = "keeper") -> httpx.Response:
    return await world.client.delete(path, headers=bearer(token))


def step(world: World, *given: str) -> list[Stanza]:
    """Attach the component, let the room say something, and return what was sent."""
    rooms = world.services[BOT].rooms
    if not rooms._is_attached:
        rooms.attached()
    rooms.advance(trio.current_time())
    for text in given:
        rooms.receive(stanza(text.replace("bot@bot.example", f"echo@{BOT}")))
    sent, rooms.outbound = rooms.outbound, []
    return sent


async def test_a_room_is_put_shown_listed_and_deleted(world: World, mock_clock: MockClock) -> None:
    state = MemoryState()
    world.services[BOT].rooms.load(state)
    made = await put(world, nick="Echo", password="s3cret", create=True)
    assert made.status_code == 201
    value = made.json()
    assert value.pop("since").endswith("Z")
    assert value == {
        "jid": ROOM,
        "component": BOT,
        "as": "echo",
        "nick": "Echo",
        "state": "waiting",
        "reason": "the component is not attached",
        "origin": "api",
        "create": True,
        "occupant_count": 0,
    }
    [join] = step(world)
    assert (join.to, join.from_) == (f"{ROOM}/Echo", ME)
    item = "affiliation='admin' role='moderator' jid='juliet@capulet.example/balcony'"
    id = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>"
    more = f"<show>dnd</show><status>reading</status>{id}"
    step(
        world,
        presence("juliet", to=ME, item=item, more=more),
        presence("Echo", 110, to=ME),
        message("juliet", SUBJECT, to=ME),
    )
    shown = (await world.get(PATH, **bearer("keeper"))).json()
    assert (shown["state"], shown["subject"], shown["subject_by"]) == (
        "joined",
        "Welcome",
        "juliet",
    )
    assert shown["occupant_count"] == 2
    assert shown["occupants"] == [
        {"nick": "Echo", "role": "participant", "affiliation": "member"},
        {
            "nick": "juliet",
            "role": "moderator",
            "affiliation": "admin",
            "occupant_id": "o1",
            "jid": "juliet@capulet.example/balcony",
            "show": "dnd",
            "status": "reading",
        },
    ]
    [listed] = (await world.get("/v1/rooms", **bearer("keeper"))).json()["rooms"]
    assert (listed["jid"], listed["state"]) == (ROOM, "joined")
    assert "s3cret" not in made.text + json.dumps(shown)
    assert list(state.entries("room")) == [f"{ROOM} echo"]
    gone = await delete(world)
    assert (gone.status_code, gone.content) == (204, b"")
    [leave] = step(world)
    assert (leave.type, leave.to) == ("unavailable", f"{ROOM}/Echo")
    assert state.entries("room") == {}
    problem(await delete(world), 404)


async def test_what_is_not_given_stays_as_it_was(world: World) -> None:
    await put(world, nick="Echo", password="s3cret", create=True)
    again = await put(world, nick="Robot")
    assert again.status_code == 200
    [(room, _)] = world.services[BOT].rooms.all()
    assert room.settings == RoomSettings(ROOM, "echo", "Robot", Secret("s3cret"), True)
    await put(world, password="", create=False)
    [(room, _)] = world.services[BOT].rooms.all()
    assert room.settings == RoomSettings(ROOM, "echo", "Robot", None, False)


async def test_a_room_that_it_stays_out_of_is_told_and_tried_again(world: World) -> None:
    await put(world)
    step(world)
    step(world, refusal("not-authorized").replace("bot.example", BOT).replace("bot@", "echo@"))
    shown = (await world.get(PATH, **bearer("keeper"))).json()
    assert (shown["state"], shown["reason"]) == ("out", "the password is wrong or missing")
    assert (await put(world, password="right")).json()["state"] == "waiting"


async def test_one_that_waits_tells_when(world: World) -> None:
    await put(world)
    step(world)
    step(world, refusal("service-unavailable").replace("bot@bot.example", f"echo@{BOT}"))
    shown = (await world.get(PATH, **bearer("keeper"))).json()
    assert shown["state"] == "waiting"
    assert shown["next_attempt"] >= shown["since"]


async def test_a_change_is_answered_once_it_is_kept(world: World, nursery: trio.Nursery) -> None:
    state = HeldState()
    world.services[BOT].rooms.load(state)
    statuses: list[int] = []

    async def change(call: Callable[[World], Awaitable[httpx.Response]]) -> None:
        statuses.append((await call(world)).status_code)

    for call, status in ((put, 201), (delete, 204)):
        nursery.start_soon(change, call)
        await wait_all_tasks_blocked()
        assert status not in statuses  # a crash would lose what the client was told
        state.release()
        await wait_all_tasks_blocked()
        assert status in statuses


# --- rooms of the configuration, and of the service


@pytest.fixture
def configured(world: World) -> World:
    settings = RoomSettings(ROOM, "echo", "Echo", Secret("s3cret"))
    world.services[BOT].rooms.configure([settings], 2)
    return world


async def test_a_room_of_the_configuration_is_not_changed_here(configured: World) -> None:
    problem(await delete(configured), 409)
    told = problem(await put(configured, nick="Other"), 409)
    assert told["detail"] == "This room is in the configuration file: change it there."
    assert [room.nick for room, _ in configured.services[BOT].rooms.all()] == ["Echo"]


async def test_but_it_may_be_tried_again(configured: World) -> None:
    step(configured)
    step(configured, refusal("forbidden").replace("bot@bot.example", f"echo@{BOT}"))
    for keys in ({}, {"nick": "Echo"}, {"password": "s3cret"}):
        again = await put(configured, **keys)
        assert (again.status_code, again.json()["origin"]) == (200, "configuration")
    assert again.json()["state"] == "waiting"


async def test_no_more_rooms_than_allowed(configured: World) -> None:
    assert (await put(configured, "/v1/rooms/a@muc.example")).status_code == 201
    told = problem(await put(configured, "/v1/rooms/b@muc.example"), 409)
    assert told["detail"] == "there are 2 rooms already (max_rooms)."


async def test_a_room_of_the_service_is_listed(world: World) -> None:
    step(world, presence("svc", 110, to=f"echo@{BOT}/x"), presence("svc", 110, to=f"other@{BOT}"))
    found = (await world.get("/v1/rooms", **bearer("keeper"))).json()["rooms"]
    assert found == [
        {
            "jid": ROOM,
            "component": BOT,
            "as": "echo",
            "nick": "svc",
            "state": "joined",
            "origin": "service",
        }
    ]
    problem(await world.get(PATH, **bearer("keeper")), 404)


# --- who may


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_the_scope_is_needed(world: World, method: str) -> None:
    for path in (PATH, "/v1/rooms") if method == "GET" else (PATH,):
        told = problem(await world.client.request(method, path, headers=bearer("one")), 403)
        assert '"rooms"' in told["detail"]
        problem(await world.client.request(method, path), 401)


async def test_a_token_sees_its_own_addresses_only(world: World) -> None:
    await put(world, f"{PATH}?from=other@{BOT}", token="all")
    await put(world, f"{PATH}?from=echo@{OTHER}", token="all")
    assert (await world.get("/v1/rooms", **bearer("keeper"))).json() == {"rooms": []}
    problem(await world.get(PATH, **bearer("keeper")), 404)
    problem(await delete(world), 404)
    everything = (await world.get("/v1/rooms")).json()["rooms"]
    assert {(one["component"], one["as"]) for one in everything} == {
        (BOT, "other"),
        (OTHER, "echo"),
    }
    only = (await world.get(f"/v1/rooms?from=echo@{OTHER}")).json()["rooms"]
    assert [one["component"] for one in only] == [OTHER]


async def test_a_token_joins_as_its_own_addresses_only(world: World) -> None:
    problem(await put(world, **{"as": "other"}), 403)
    problem(await put(world, f"{PATH}?from=echo@{OTHER}"), 403)
    assert world.services[BOT].rooms.all() == []
    headers = {
        "Content-Type": "application/json",
        **basic(f"echo@{BOT}", "keeper-0123456789abcdef"),
    }
    made = await world.client.put(PATH, content="{}", headers=headers)
    assert made.json()["as"] == "echo"


async def test_only_an_address_that_exists_joins(world: World) -> None:
    world.services[BOT].local_parts = frozenset({"news"})
    told = problem(await put(world), 422)
    assert told["detail"] == "as: 'echo' is not among local_parts."
    assert world.services[BOT].rooms.all() == []
    world.services[BOT].local_parts = frozenset({"echo"})
    assert (await put(world)).status_code == 201


async def test_several_addresses_in_one_room_are_told_apart(world: World) -> None:
    await put(world, f"{PATH}?from={BOT}", token="all", **{"as": "one"})
    await put(world, f"{PATH}?from=two@{BOT}", token="all")
    problem(await world.get(PATH), 409)
    problem(await delete(world, token="all"), 409)
    shown = (await world.get(f"{PATH}?from=two@{BOT}")).json()
    assert shown["as"] == "two"
    assert (await delete(world, f"{PATH}?from=two@{BOT}", token="all")).status_code == 204
    assert (await world.get(PATH)).json()["as"] == "one"


# --- what is refused

REFUSED: Final = [
    ("/v1/rooms/muc.example", {}, 422, "jid: 'muc.example' is not the address of a room: it has"),
    ("/v1/rooms/@@", {}, 422, "jid: '@@' is not a valid address"),
    (f"{PATH}/nick", {}, 422, "it has a resource"),
    (f"/v1/rooms/x@{BOT}", {}, 422, f"jid: {BOT} is the component itself, which has no rooms."),
    (PATH, {"nick": "a\x07"}, 422, "nick: 'a\\x07' is not a valid nick: character U+0007"),
    (PATH, {"nick": " a"}, 422, "nick: ' a' is not a valid nick: it begins or ends with a space"),
    (PATH, {"password": "\x01"}, 422, "password: character U+0001 cannot be written as XML."),
    (PATH, {"as": "a b"}, 422, "as: 'a b' is not a valid local part"),
    (PATH, {"nik": "a"}, 422, "'nik' is not one of as, nick, password, create."),
    (PATH, {"create": "yes"}, 422, "create: must be true or false."),
    (PATH, {"nick": 5}, 422, "nick: must be a string."),
]


@pytest.mark.parametrize(("path", "keys", "status", "detail"), REFUSED)
async def test_what_is_refused_says_why(
    world: World, path: str, keys: dict[str, Any], status: int, detail: str
) -> None:
    told = problem(await put(world, path, **keys), status)
    assert detail in told["detail"]
    assert world.services[BOT].rooms.all() == []


async def test_a_body_that_is_no_object(world: World) -> None:
    problem(await put(world, content="[1]"), 422)
    problem(await put(world, content="{"), 400)
    problem(await world.client.put(PATH, content="{}", headers=bearer("keeper")), 415)
    assert (await put(world, content="")).status_code == 201
    assert (await put(world, content='{"nick": null}')).status_code == 200


async def test_a_token_of_several_components_must_say_which(world: World) -> None:
    told = problem(await put(world, token="all"), 422)
    assert told["detail"].startswith("from: this token may speak as several addresses")
    problem(await put(world, f"{PATH}?from=a@unknown.example", token="all"), 404)
    problem(await put(world, f"{PATH}?from=@", token="all"), 422)
    told = problem(await put(world, f"{PATH}?from={BOT}", token="all"), 422)
    assert told["detail"] == "as: the local part to join as is missing."


async def test_a_component_that_does_not_run_takes_nothing(world: World) -> None:
    await put(world)
    world.services[BOT].is_open = False
    for refused in (await put(world, nick="x"), await delete(world)):
        problem(refused, 503)
        assert refused.headers["retry-after"]
    assert (await world.get(PATH, **bearer("keeper"))).status_code == 200
