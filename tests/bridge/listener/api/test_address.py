"""Addresses that are built and taken apart."""

import json
from typing import Any

import pytest

from bridge.listener.api.stanza import JSON
from tests.bridge.listener.api.test_stanza import problem
from tests.bridge.listener.conftest import World, bearer

WHALE: dict[str, str] = {
    "jid": "moby\\40sea.example@irc.example/a b/c",
    "bare": "moby\\40sea.example@irc.example",
    "path": "moby%5C40sea.example@irc.example%2Fa%20b%2Fc",
    "domain": "irc.example",
    "local": "moby\\40sea.example",
    "local_unescaped": "moby@sea.example",
    "resource": "a b/c",
}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"local": "moby@sea.example", "domain": "irc.example", "resource": "a b/c"}, WHALE),
        ({"jid": WHALE["jid"]}, WHALE),
        ({"jid": WHALE["jid"], "local": None, "domain": ""}, WHALE),
        (
            {"local": "romeo", "domain": "montague.example"},
            {
                "jid": "romeo@montague.example",
                "bare": "romeo@montague.example",
                "path": "romeo@montague.example",
                "domain": "montague.example",
                "local": "romeo",
            },
        ),
        (
            {"domain": "montague.example"},
            {
                "jid": "montague.example",
                "bare": "montague.example",
                "path": "montague.example",
                "domain": "montague.example",
            },
        ),
    ],
)
async def test_an_address(world: World, parts: Any, expected: dict[str, str]) -> None:
    for name in ("asker", "sender"):
        response = await world.post("/v1/jid", json.dumps(parts), JSON, **bearer(name))
        assert (response.status_code, response.json()) == (200, expected)
    # The path is one: the router gives the address back.
    path = expected["path"]
    problem(await world.get(f"/v1/ping/{path}", **bearer("sender")), 403)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([], "must be a JSON object"),
        ({}, "domain is missing"),
        ({"local": "a"}, "domain is missing"),
        ({"jid": "a@b", "domain": "b"}, "jid excludes"),
        ({"domain": 5}, "domain is not a string"),
        ({"host": "b"}, "key 'host' is unknown; known keys: jid, local"),
        ({"domain": "a@b"}, "Not a valid address"),
        ({"domain": "b/c"}, "Not a valid address: its domain contains"),
        ({"domain": "b/c", "resource": "d"}, "Not a valid address: its domain contains"),
        ({"local": "x", "domain": "a@b"}, "Not a valid address"),
        ({"local": " x", "domain": "b"}, "begins or ends with a space"),
        ({"local": "x\u0000", "domain": "b"}, "its local part contains a forbidden character"),
        ({"local": "x" * 1024, "domain": "b"}, "longer than 1023 bytes"),
        ({"local": "@" * 400, "domain": "b"}, "longer than 1023 bytes"),
        ({"domain": "b", "resource": "\ud800"}, "its resource contains a forbidden character"),
        ({"jid": "a@@b"}, "Not a valid address"),
    ],
)
async def test_no_address(world: World, parts: Any, why: str) -> None:
    value = problem(await world.post("/v1/jid", json.dumps(parts), JSON), 422)
    assert why in value["detail"]


async def test_who_may_ask(world: World) -> None:
    problem(await world.post("/v1/jid", b"{}", JSON, **bearer("watcher")), 403)
    problem(await world.post("/v1/jid", b"{", JSON), 400)
    problem(await world.post("/v1/jid", b"{}", "text/plain"), 415)
