"""Who gets in: each way to prove it, and each way not to."""

import base64
import hmac
import json
from typing import Any

import pytest

from bridge.config.token import SCOPES
from bridge.listener.auth import AT_ONCE, TokenAuth, TokenConcurrency
from bridge.listener.problem import Problem
from tests.bridge.listener.api.test_stanza import JSON, JULIET, MESSAGE, TEXT, problem
from tests.bridge.listener.conftest import TOKENS, World, basic, bearer, token
from tests.bridge.listener.fake_sender import BOT, OTHER

CONTENT = json.dumps(MESSAGE)
HIDDEN = "hidden-secret-of-somebody"


def scheme(text: str) -> dict[str, str]:
    return {"Authorization": text}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        bearer(HIDDEN),
        scheme(f"Bearer {HIDDEN}"),
        scheme("Bearer"),
        scheme("Bearer "),
        scheme("all-0123456789abcdef"),
        scheme("Digest all-0123456789abcdef"),
        scheme("Bearer all-0123456789abcde"),
        scheme("Bearer all-0123456789abcdef0"),
        scheme("Bearer ALL-0123456789ABCDEF"),
        scheme("Bearer all-0123456789abcdef, Bearer x"),
        scheme("Basic all-0123456789abcdef"),
        scheme("Basic !"),
        scheme("Basic " + base64.b64encode(b"\xff:\xff").decode()),
        scheme("Basic " + base64.b64encode(b"no-colon").decode()),
        basic(f"echo@{BOT}", HIDDEN),
        basic(f"echo@{BOT}", ""),
    ],
    ids=str,
)
async def test_who_is_not_known(world: World, headers: dict[str, str]) -> None:
    response = await world.client.post(
        "/v1/stanzas", content=CONTENT, headers={"Content-Type": JSON, **headers}
    )
    problem(response, 401)
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="')
    assert 'Basic realm="' in challenge
    assert not world.sender.sent
    assert_nothing_told(world, headers, response.text)


def assert_nothing_told(world: World, headers: dict[str, str], text: str = "") -> None:
    """Nothing of a secret, or of the header, is in the log or the answer."""
    told = repr(world.log.lines) + text
    credentials = headers.get("Authorization", "").partition(" ")[2]
    for hidden in (HIDDEN, "0123456789abcdef", "0123456789ABCDEF", credentials):
        assert len(hidden) < 2 or hidden not in told


async def test_two_headers(world: World) -> None:
    headers = [
        ("Content-Type", JSON),
        ("Authorization", "Bearer all-0123456789abcdef"),
        ("Authorization", "Bearer all-0123456789abcdef"),
    ]
    response = await world.client.post("/v1/stanzas", content=CONTENT, headers=headers)
    assert problem(response, 401)["detail"].startswith("There are several tokens.")


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        (bearer("all"), True),
        (scheme("bearer all-0123456789abcdef"), True),
        (scheme("BEARER   all-0123456789abcdef "), True),
        (basic(f"echo@{BOT}", "echo-0123456789abcdef"), True),
        (basic(f"anything@{BOT}", "one-0123456789abcdef"), True),
        (basic(BOT, "one-0123456789abcdef"), True),
        (basic(f"echo@{BOT.upper()}", "echo-0123456789abcdef"), True),
        (basic(f"other@{BOT}", "echo-0123456789abcdef"), False),
        (basic(BOT, "echo-0123456789abcdef"), False),
        (basic(f"echo@{OTHER}", "echo-0123456789abcdef"), False),
        (basic("echo", "echo-0123456789abcdef"), True),
        (basic("other", "echo-0123456789abcdef"), False),
        (basic("echo", "all-0123456789abcdef"), False),
        (basic("", "one-0123456789abcdef"), False),
        (basic("@", "one-0123456789abcdef"), False),
    ],
    ids=str,
)
async def test_who_is_known(world: World, headers: dict[str, str], is_known: bool) -> None:
    content = json.dumps({**MESSAGE, "from": f"echo@{BOT}"})
    response = await world.client.post(
        "/v1/stanzas", content=content, headers={"Content-Type": JSON, **headers}
    )
    if is_known:
        assert response.status_code == 202
    else:
        problem(response, 403)
        assert not world.sender.sent
    assert_nothing_told(world, headers, response.text)


async def test_authentication_comes_before_all_else(world: World) -> None:
    problem(await world.client.post("/v1/stanzas", content=b"{"), 401)
    problem(await world.client.post("/rest", content=b"{"), 401)
    problem(await world.client.post("/msg/x", content=b"{"), 401)
    problem(await world.client.get("/v1/ping/@@"), 401)


async def test_tokens_can_be_replaced(world: World) -> None:
    world.access.replace([token("new", "send")])
    problem(await world.post("/v1/stanzas", CONTENT, JSON), 401)
    assert (await world.post("/v1/stanzas", CONTENT, JSON, **bearer("new"))).status_code == 202


def test_each_token_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    access = TokenAuth(TOKENS)
    for secret in ("all-0123456789abcdef", "watcher-0123456789abcdef", "", "ä\udcff"):
        compared.clear()
        access.of_secret(secret)
        assert [one for one, _ in compared] == [token.digest for token in TOKENS]
        assert {len(other) for _, other in compared} == {32}


def test_a_secret_finds_its_token() -> None:
    access = TokenAuth(TOKENS)
    for one in TOKENS:
        assert access.of_secret(f"{one.name}-0123456789abcdef") is one
    assert access.of_secret("") is None
    assert TokenAuth([]).of_secret("x") is None


@pytest.mark.parametrize("scope", SCOPES)
async def test_check_asks_for_the_scope(world: World, scope: Any) -> None:
    from starlette.requests import Request

    def request(name: str) -> Request:
        value = bearer(name)["Authorization"].encode()
        return Request({"type": "http", "headers": [(b"authorization", value)]})

    assert world.access.check(request("all"), scope).name == "all"
    name = "asker" if scope != "query" else "sender"
    with pytest.raises(Problem) as caught:
        world.access.check(request(name), scope)
    assert caught.value.status == 403


def test_a_token_shows_no_digest() -> None:
    for one in TOKENS:
        assert one.digest.hex() not in repr(one)
        assert repr(one.digest) not in repr(one)


def test_a_counter_forgets_who_has_nothing_at_work() -> None:
    counter = TokenConcurrency(1)
    with counter.one("a"), pytest.raises(Problem), counter.one("a"):
        pass
    with counter.one("a"), counter.one("b"):
        pass
    assert not counter._at_work
    assert AT_ONCE == 256


async def test_the_log_has_a_line_without_content(world: World) -> None:
    path = f"/v1/stanzas/message/chat/{JULIET}"
    await world.post(path, "the text", TEXT, **bearer("one"), X_Request_Id="abc.1")
    (line,) = world.log.of("http request")
    assert line.pop("ms") >= 0
    assert line == {
        "event": "http request",
        "level": "debug",
        "token": "one",
        "method": "POST",
        "path": "/v1/stanzas/{kind}/{type}/{to}",
        "status": 202,
        "request_id": "abc.1",
    }
    assert_nothing_told(world, bearer("one"))
    assert "the text" not in repr(world.log.lines)
    assert JULIET not in repr(world.log.lines)


async def test_a_refusal_is_logged_with_the_name_of_its_token(world: World) -> None:
    await world.post("/v1/stanzas", CONTENT, JSON, **bearer("watcher"))
    await world.post("/nowhere", CONTENT, JSON, **bearer(HIDDEN))
    lines = [(one["token"], one["path"], one["status"]) for one in world.log.of("http request")]
    assert lines == [("watcher", "/v1/stanzas", 403), ("", "(none)", 404)]
    assert not world.log.told


@pytest.mark.parametrize("given", ["a" * 129, "a b", "", None])
async def test_an_id_that_cannot_be_used_is_replaced(world: World, given: str | None) -> None:
    headers = {} if given is None else {"X_Request_Id": given}
    first, second = [await world.get("/v1/openapi.json", **headers) for _ in range(2)]
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_what_is_not_there(world: World) -> None:
    for path in (
        "/",
        "/v1",
        "/v1/",
        "/v1/stanzas/",
        "/v1/stanzas/message/chat",
        "/rest/",
        "/x%20y",
    ):
        problem(await world.post(path, CONTENT, JSON), 404)


async def test_methods_that_are_not_there(world: World) -> None:
    for method, path, allowed in (
        ("GET", "/v1/stanzas", {"POST"}),
        ("DELETE", "/rest", {"POST"}),
        ("PUT", "/msg/x", {"POST"}),
        ("POST", "/v1/ping/x", {"GET", "HEAD"}),
        ("TRACE", "/v1/openapi.json", {"GET", "HEAD"}),
    ):
        response = await world.client.request(method, path, headers=bearer("all"))
        problem(response, 405)
        assert set(response.headers["allow"].split(", ")) == allowed
