"""`POST /v1/replies/{token}`: what a `reply_url` takes, and every refusal. All of a component but
its stream is real; see `life`.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import trio
from attrs import evolve, frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Count, ListenSettings, Seconds, TcpAddress
from bridge.listener.api.reply import UNKNOWN
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.listener.problem import type_of
from bridge.webhook.reply_url import Promise, make_token
from tests.bridge.dispatch.life import DOMAIN, Life, pass_time
from tests.bridge.dispatch.test_attachment import Watched
from tests.bridge.dispatch.test_deferred import JULIET, defer, iq, message, shown
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.listener.conftest import TOKENS, bearer
from tests.bridge.recorder import Recorder

LISTEN: Final = ListenSettings(
    TcpAddress("127.0.0.1", 0),
    TOKENS,
    max_body_bytes=Count(10_000),
    public_url="http://listener",
    reply_ttl_s=Seconds(60),
)
JSON: Final = {"Content-Type": "application/json"}
XML: Final = {"Content-Type": "application/xmpp+xml"}


@frozen
class Site:
    """A listener in front of a component, and its log."""

    life: Life
    client: httpx.AsyncClient
    log: Recorder

    async def post(self, url: str, value: Any, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): one for name, one in headers.items()}
        content = value if isinstance(value, str | bytes) else json.dumps(value)
        return await self.client.post(url, content=content, headers={**JSON, **given})


@pytest.fixture
async def site(nursery: trio.Nursery, log: Recorder) -> AsyncIterator[Site]:
    life = Life(MemoryJournal(), listen=LISTEN)
    await nursery.start(life.run)
    app = make_app(life.sender, TokenAuth(TOKENS), LISTEN, at_once=2)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as client:
        yield Site(life, client, log)
    await life.kill()


def problem(response: httpx.Response, status: int) -> str:
    """Give the text of a refusal, its form checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    value = response.json()
    assert value["type"] == type_of(status)
    return str(value["detail"])


async def test_a_reply_in_json(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    response = await site.post(url, {"body": "a"})
    assert response.status_code == 202
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    [sent] = site.life.sent()
    assert (sent.to, shown([sent])) == (JULIET, ["a"])
    assert response.json()["id"] == sent.id
    assert response.json()["uid"].startswith(f"{site.life.endpoint.posts[0].uid}-d")


async def test_several_replies_and_none(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    several = await site.post(url, [{"body": "a"}, {"body": "b", "id": "own"}])
    assert [one["id"] for one in several.json()] == [one.id for one in site.life.sent()]
    assert several.json()[1]["id"] == "own"
    nothing = await site.post(url, {"done": True})
    assert (nothing.status_code, nothing.json()) == (202, [])


async def test_a_reply_in_xml(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    xml = "<message><body>a</body></message>"
    assert (await site.post(url, xml, **XML)).status_code == 202
    [sent] = site.life.sent()
    assert (sent.to, shown([sent])) == (JULIET, ["a"])


async def test_no_other_token_is_asked_for_and_a_wrong_one_is_not_looked_at(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    response = await site.post(url, {"body": "a"}, Authorization="Bearer nonsense")
    assert response.status_code == 202


async def test_what_is_forged_or_altered_is_refused(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    base, _, token = url.rpartition("/")
    head, _, signature = token.rpartition(".")
    forged = (
        *(f"{head}.{signature[::-1]}", f"{head[:-1]}x.{signature}", f"2{head[1:]}.{signature}"),
        *(head, f"{head}.", f".{signature}", signature, "x", "%C3%A9.%FF", f"{token}A"),
    )
    for one in forged:
        for body in ({"body": "a"}, b"x" * 20_000, b""):
            assert problem(await site.post(f"{base}/{one}", body), 404) == UNKNOWN
    assert site.life.sent() == []
    assert (await site.post(url, {"body": "a"})).status_code == 202


async def test_a_stranger_costs_no_body_and_no_place(site: Site) -> None:
    """The token is looked at first: neither is a body read, nor a request counted."""
    [url] = await defer(site.life, message("m1"))
    statuses: list[int] = []

    async def knock(path: str) -> None:
        async def receive() -> Any:
            await trio.sleep_forever()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        app: Any = site.client._transport.app  # type: ignore[attr-defined]
        await app(scope, receive, send)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(knock, "/v1/replies/1abc.def")
        await wait_all_tasks_blocked()
        assert statuses == [404] * 10
        for _ in range(3):
            nursery.start_soon(knock, url.removeprefix("http://listener"))
        await wait_all_tasks_blocked()
        assert statuses[10:] == [429]  # two of them are read
        nursery.cancel_scope.cancel()


async def test_what_is_expired_done_or_answered_is_gone(
    site: Site, autojump_clock: MockClock
) -> None:
    first, second, third = await defer(site.life, message("m1"), message("m2"), iq("q1"))
    await site.post(second, {"body": "a", "done": True})
    await site.post(third, {"type": "result"})
    assert "done" in problem(await site.post(second, {"body": "b"}), 410)
    assert "answer" in problem(await site.post(third, {"type": "result"}), 410)
    await pass_time(61)
    assert "time" in problem(await site.post(first, {"body": "b"}), 410)
    assert shown(site.life.sent()) == ["a", "result"]


async def test_the_same_key_gives_the_same_answer(site: Site, autojump_clock: MockClock) -> None:
    [url] = await defer(site.life, message("m1"))
    first = await site.post(url, {"body": "a", "done": True}, Idempotency_Key="k1")
    await pass_time(100)  # although by then the time is up
    again = await site.post(url, {"body": "a", "done": True}, Idempotency_Key="k1")
    assert (again.status_code, again.json()) == (202, first.json())
    other = await site.post(url, {"body": "b", "done": True}, Idempotency_Key="k1")
    assert "idempotency key" in problem(other, 409)
    assert "Idempotency-Key" in problem(await site.post(url, {}, Idempotency_Key=""), 400)
    assert len(site.life.sent()) == 1


async def test_a_key_holds_for_all_urls_of_a_stanza_and_no_other(site: Site) -> None:
    [first, other] = await defer(site.life, message("m1"), message("m2"))
    [delivery] = [one for one in site.life.endpoint.posts if one.id == "m1"]
    promise = site.life.sender.replies.promise_of(first.rpartition("/")[2])
    assert promise is not None
    promises = site.life.pipeline.promises
    key = promises._key
    assert key is not None
    later = Promise(DOMAIN, delivery.uid, promise.until + 5, promise.request)
    second = f"http://listener/v1/replies/{make_token(key, later)}"
    one = await site.post(first, {"body": "a"}, Idempotency_Key="k1")
    two = await site.post(second, {"body": "a"}, Idempotency_Key="k1")
    three = await site.post(other, {"body": "a"}, Idempotency_Key="k1")
    assert one.json() == two.json() != three.json()
    assert len(site.life.sent()) == 2


async def test_the_problems_of_bodies_are_those_of_stanzas(site: Site) -> None:
    """The same bodies are sent to both routes; what is said differs in no word."""
    [url] = await defer(site.life, message("m1"))
    sender = {"to": JULIET, "from": f"echo@{DOMAIN}"}
    bodies: tuple[Any, ...] = (
        *(b"", b"{", b"\xff", b"[" * 5000, "null", "5", '"a"', "[]", "[5]"),
        {**sender, "boddy": "a"},
        {**sender, "body": {}},
        {**sender, "body": "a", "type": 5},
        {**sender, "files": [{"uri": "x"}]},
        {**sender, "stanza": "<message"},
        {**sender, "stanza": "<a/>"},
        {**sender, "body": "a", "type": "nonsense"},
        [sender | {"body": "a"}, sender | {"bdy": "b"}],
        {**sender, "body": "x" * 20_000},
    )
    for body in bodies:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        ours = await site.post(url, content)
        theirs = await site.client.post(
            "http://listener/v1/stanzas", content=content, headers={**JSON, **bearer("one")}
        )
        assert ours.status_code >= 400, body
        assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json()), body
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
        assert (await site.post(url, {"body": "a"}, **headers)).status_code == 415
    assert site.life.sent() == []


async def test_only_post(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    response = await site.client.get(url)
    assert response.status_code == 405
    assert url.rpartition("/")[2] not in response.text


async def test_no_token_is_logged(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    token = url.rpartition("/")[2]
    head, _, signature = token.rpartition(".")
    for place in (url, f"{url}A", f"{url}/x", f"{url}?a=b", f"http://listener/{token}"):
        await site.post(place, {"body": "a"})
        await site.client.get(place)
        await site.post(place, "{")
    lines = [*site.log.lines, *site.life.log.lines]
    assert len(lines) > 10
    for line in lines:
        assert head not in str(line)
        assert signature not in str(line)
    paths = {line["path"] for line in site.log.of("http request")}
    assert paths == {"/v1/replies/{token}", "(none)"}


async def test_a_component_that_is_gone_or_starts(site: Site) -> None:
    [url] = await defer(site.life, message("m1"))
    del site.life.deferrals[DOMAIN]
    assert problem(await site.post(url, {"body": "a"}), 404) == UNKNOWN
    other = Life(listen=evolve(LISTEN))
    site.life.deferrals[DOMAIN] = other.pipeline.deferred  # not loaded
    response = await site.post(url, {"body": "a"})
    assert "try again later" in problem(response, 503)
    assert response.headers["retry-after"] == "5"


async def test_the_content_of_a_file_is_uploaded(site: Site, nursery: trio.Nursery) -> None:
    [url] = await defer(site.life, message("m1"))
    uploads = Watched()
    await uploads.serve(site.life, nursery)
    file = {"name": "a.png", "data_base64": "AAECAw=="}
    response = await site.post(url, {"body": "Look:", "files": [file], "done": True})
    assert response.status_code == 202, response.text
    text, picture = await uploads.wait_messages(2)
    assert uploads.files == [b"\0\1\2\3"]
    assert [one["id"] for one in response.json()] == [text.id, picture.id]
    assert "<body>https://files.example/1/a.png</body>" in str(picture)


async def test_a_file_that_is_not_uploaded(site: Site, nursery: trio.Nursery) -> None:
    [url] = await defer(site.life, message("m1"))
    uploads = Watched(items=[])
    await uploads.serve(site.life, nursery)
    response = await site.post(url, {"files": [{"data_base64": "AAECAw=="}]})
    assert "there is no upload service" in problem(response, 422)
    assert uploads.messages == []
