"""Commands over HTTP, with the real registry behind them."""

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
from attrs import define, evolve

from bridge.config.command import COMMANDS_LIMIT, CommandSet
from bridge.config.settings import Component, Count, ListenSettings, TcpAddress
from bridge.config.value import Secret, parse_post_url
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.command.registry import command_of
from bridge.xmpp.state import MemoryState
from tests.bridge.listener.conftest import TOKENS, bearer
from tests.bridge.listener.fake_sender import BOT, OTHER, FakeSender
from tests.bridge.recorder import Recorder
from xmppstream import Server

FIELDS: Final = [{"var": "id", "label": "Number", "required": True, "validate": "integer"}]
OPEN: Final = command_of({"node": "open", "name": "Open"})
COMPONENT: Final = Component(
    BOT,
    Secret("s"),
    parse_post_url("http://127.0.0.1/"),
    Server("127.0.0.1", 1),
    commands=CommandSet((OPEN,)),
)


@define
class World:
    commands: dict[str, Commands]
    client: httpx.AsyncClient
    state: MemoryState
    told: list[tuple[str, ...]]

    async def ask(
        self, method: str, path: str, value: Any = None, token: str = "one"
    ) -> httpx.Response:
        url, content = f"/v1/commands{path}", {} if value is None else {"json": value}
        return await self.client.request(method, url, headers=bearer(token), **content)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    state = MemoryState()
    told: list[tuple[str, ...]] = []
    one, other = Commands(COMPONENT, state), Commands(evolve(COMPONENT, domain=OTHER))
    for commands in (one, other):
        commands.load(Recorder().logger())
    one.changed = told.append
    services = {BOT: one, OTHER: other}
    listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS, max_body_bytes=Count(1_000_000))
    app = make_app(FakeSender(), TokenAuth(TOKENS), listen, commands=lambda: services)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://listener") as client:
        yield World(services, client, state, told)


async def test_a_command_that_is_put_is_offered_until_it_is_deleted(world: World) -> None:
    given = {"name": "Order", "for": ["X.example"], "fields": FIELDS, "more": True}
    response = await world.ask("PUT", "/order", given)
    shown = {**given, "for": ["x.example"], "node": "order", "component": BOT, "origin": "api"}
    shown["fields"] = [{**FIELDS[0], "type": "text-single"}]
    assert (response.status_code, response.json()) == (201, shown)
    assert (await world.ask("GET", "/Order")).json() == shown
    listed = (await world.ask("GET", "")).json()["commands"]
    assert [(one["node"], one["origin"]) for one in listed] == [
        ("order", "api"),
        ("open", "configuration"),
    ]
    registry = world.commands[BOT].registry
    assert [one.node for one in registry.for_("a@x.example/r")] == ["order", "open"]
    assert [one.node for one in registry.for_("a@y.example")] == ["open"]
    assert (await world.ask("PUT", "/order", {})).status_code == 200
    again = Commands(COMPONENT, world.state)
    again.load(Recorder().logger())
    assert again.registry.get("order") == command_of({"node": "order"})
    response = await world.ask("DELETE", "/order")
    assert (response.status_code, response.content) == (204, b"")
    assert (await world.ask("GET", "/order")).status_code == 404
    assert len(world.told) == 3
    assert world.state.entries("command") == {}


async def test_commands_of_the_configuration_stay(world: World) -> None:
    for method, value in (("PUT", {"name": "Shut"}), ("DELETE", None)):
        response = await world.ask(method, "/open", value)
        assert response.status_code == 409
        assert "configuration file" in response.json()["detail"]


async def test_a_component_is_named_if_there_are_several(world: World) -> None:
    response = await world.ask("PUT", "/order", {}, "all")
    assert (response.status_code, response.json()["detail"][:5]) == (422, "from:")
    assert (await world.ask("PUT", f"/order?from={OTHER}", {}, "all")).status_code == 201
    assert world.commands[BOT].registry.get("order") is None
    listed = (await world.ask("GET", "", token="all")).json()["commands"]
    assert [one["component"] for one in listed] == sorted([BOT, OTHER, OTHER])
    assert (await world.ask("GET", f"/order?from={BOT}", token="other")).status_code == 404


async def test_who_may_change_commands(world: World) -> None:
    for token, detail in (("echo", "Commands belong to all"), ("asker", "scope")):
        response = await world.ask("PUT", "/order", {}, token)
        assert response.status_code == 403
        assert detail in response.json()["detail"]
    assert (await world.ask("GET", "", token="sender")).status_code == 403


async def test_a_component_that_has_not_started_takes_none(world: World) -> None:
    world.commands[BOT] = Commands(COMPONENT)
    response = await world.ask("PUT", "/order", {})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


async def test_there_are_at_most_so_many(world: World) -> None:
    for number in range(COMMANDS_LIMIT - 1):
        world.commands[BOT].put(command_of({"node": f"n{number}"}))
    response = await world.ask("PUT", "/order", {})
    assert (response.status_code, response.json()["detail"]) == (
        409,
        "there are 100 commands already.",
    )


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        ("/order", [], "must be an object. Write it with the keys name, for, fields, more."),
        ("/a%20b", {}, "node: 'a b' is not one word"),
        ("/order", {"nmae": "x"}, "nmae: this key is unknown. Perhaps you meant name."),
        ("/order", {"node": "x"}, "node: this key is unknown."),
        ("/order", {"name": 5}, "name: must be a string. Put it in quotes."),
        ("/order", {"more": "yes"}, "more: must be true or false. Write it without quotes."),
        ("/order", {"for": "x"}, "for: must be a list of strings."),
        ("/order", {"for": ["a@@b/"]}, "for: 'a@@b/' is not a valid address: "),
        ("/order", {"fields": {}}, "fields: must be a list of fields."),
        ("/order", {"fields": [{}] * 10_000}, "fields: there are 10000 fields, more than 100."),
        ("/order", {"fields": [{}]}, "fields[0].var: is missing. Set var."),
        ("/order", {"fields": [{"var": "a"}] * 2}, "fields[1].var: there are two fields 'a'."),
        ("/order", {"fields": [{"var": "a=b"}]}, "fields[0].var: 'a=b' is not one word"),
        ("/order", {"fields": [{"var": "a", "type": "list"}]}, "fields[0].type: 'list' is not"),
        ("/order", {"fields": [{"var": "a", "type": "list-single"}]}, "fields[0].options: a list"),
        (
            "/order",
            {"fields": [{"var": "a", "options": ["x", {"value": "x"}]}]},
            "fields[0].options[1].value: 'x' is there twice.",
        ),
        (
            "/order",
            {"fields": [{"var": "a", "options": ["x"], "value": "y"}]},
            "fields[0].value: is not one of the options.",
        ),
        (
            "/order",
            {"fields": [{"var": "a", "validate": {"regex": "(a"}}]},
            "fields[0].validate.regex: not a valid pattern: missing ): (a.",
        ),
        (
            "/order",
            {"fields": [{"var": "a", "validate": {"regex": r"(a)\1"}}]},
            "fields[0].validate.regex: not a valid pattern: invalid escape sequence",
        ),
        (
            "/order",
            {"fields": [{"var": "a", "validate": {"min": 2, "max": 1}}]},
            "fields[0].validate.min: is above max. Swap them.",
        ),
        (
            "/order",
            {"fields": [{"var": "a", "validate": "number"}]},
            "fields[0].validate: is not a",
        ),
        ("/order", {"name": "\u0001"}, "name: "),
        (
            "/order",
            {"fields": [{"var": f"f{n}", "desc": "x" * 4_000} for n in range(13)]},
            "fields: the form has 52576 bytes, more than 49152.",
        ),
        ("/order", {"name": "x" * 4_001}, "name: the text is longer than 4000 characters."),
    ],
)
async def test_a_command_that_is_not_valid(
    world: World, path: str, value: Any, detail: str
) -> None:
    response = await world.ask("PUT", path, value)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(detail)
    assert world.state.entries("command") == {}


async def test_a_command_that_is_too_large_to_be_kept(world: World) -> None:
    allowed = [f"{n:0500}@x.example" for n in range(1_000)]
    response = await world.ask("PUT", "/order", {"for": allowed})
    assert (response.status_code, response.json()["detail"]) == (
        422,
        "a value is longer than 262144 bytes",
    )
    assert world.commands[BOT].registry.get("order") is None
