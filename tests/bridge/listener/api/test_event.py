"""`/v1/events`: what pollers are given, and what they may answer. The clock stands still."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Count, ListenSettings, TcpAddress
from bridge.listener.api.event import COMMENT_EVERY_S
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.listener.server.exchange import HAS_LEFT
from bridge.webhook.outcome import BadReply, NoReply, Outcome, Rejected, Replied, TimedOut
from bridge.webhook.pull import LEASE_S, PulledEvents
from bridge.webhook.pulled_endpoint import PulledEndpoint
from tests.bridge.listener.conftest import bearer, token
from tests.bridge.listener.fake_sender import BOT, OTHER, FakeSender
from tests.bridge.recorder import Recorder

MAX_BODY_BYTES: Final = 10_000
AT_ONCE: Final = 3
WEB: Final = "web.example"
TOKENS: Final = (
    token("bot", "receive", components=(BOT, WEB)),
    token("all", "receive", components=(BOT, OTHER, WEB)),
    token("echo", "receive", local_parts=("echo",)),
    token("other", "receive", components=(OTHER,)),
    token("web", "receive", components=(WEB,)),
    token("sender", "send", "query", components=(BOT, OTHER)),
)
JSON: Final = "application/json"


@define(eq=False)
class World:
    """The application, and the attempts of two pulled components: `bot` and `other`."""

    nursery: trio.Nursery
    events: PulledEvents
    client: httpx.AsyncClient
    log: Recorder
    outcomes: dict[str, Outcome] = field(factory=dict)

    async def post(self, uid: str, local: str = "echo", domain: str = BOT, **keys: Any) -> None:
        """Begin an attempt."""
        body = {"to": f"{local}@{domain}", "from": "a@x/1", "kind": "message", "id": uid, **keys}
        endpoint = PulledEndpoint(domain, "pull:", self.events, text_replies=domain == OTHER)
        began, data = trio.current_time(), json.dumps(body).encode()

        async def attempt() -> None:
            self.outcomes[uid] = await endpoint.post(data, uid, 1, began, math.inf)

        self.nursery.start_soon(attempt)
        await wait_all_tasks_blocked()

    async def poll(self, query: str = "wait=0", name: str = "bot", **headers: str) -> Any:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.get(f"/v1/events?{query}", headers={**bearer(name), **given})

    async def uids(self, query: str = "wait=0", name: str = "bot") -> list[str]:
        response = await self.poll(query, name)
        assert response.status_code == 200, response.text
        return [one["uid"] for one in response.json()["events"]]

    async def answer(
        self,
        uid: str,
        content: Any = b"",
        media: str | None = JSON,
        name: str = "bot",
        query: str = "",
    ) -> httpx.Response:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = bearer(name) | ({} if media is None else {"Content-Type": media})
        response = await self.client.post(f"/v1/events/{uid}{query}", content=data, headers=headers)
        await wait_all_tasks_blocked()
        return response

    async def extend(self, uid: str, name: str = "bot", query: str = "") -> httpx.Response:
        return await self.client.post(f"/v1/events/{uid}/extend{query}", headers=bearer(name))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    log, events = Recorder(), PulledEvents()
    events.domains = frozenset({BOT, OTHER})
    listen = ListenSettings(
        TcpAddress("127.0.0.1", 0), TOKENS, None, Count(MAX_BODY_BYTES), Count(8)
    )
    app = make_app(
        FakeSender(), TokenAuth(TOKENS), listen, events=events, at_once=AT_ONCE, log=log.logger()
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(transport=transport, base_url="http://listener") as client,
    ):
        yield World(nursery, events, client, log)
        nursery.cancel_scope.cancel()


def refusal(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["detail"]


# --- polling


async def test_events_are_given_out_with_what_would_have_been_posted(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1", body="hi")
    response = await world.poll()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == JSON
    assert response.json() == {
        "events": [
            {
                "uid": "u1",
                "attempt": 1,
                "lease_s": LEASE_S,
                "request": {
                    "to": f"echo@{BOT}",
                    "from": "a@x/1",
                    "kind": "message",
                    "id": "u1",
                    "body": "hi",
                },
            }
        ]
    }
    assert await world.uids() == []


async def test_a_poll_waits_for_the_first_event(world: World, autojump_clock: MockClock) -> None:
    found: list[str] = []

    async def poll(query: str) -> None:
        found.extend(await world.uids(query))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll, "")
        await trio.sleep(20)
        assert found == []
        await world.post("u1")
    assert found == ["u1"]
    began = trio.current_time()
    assert await world.uids("") == []
    assert trio.current_time() - began == 25
    assert await world.uids("wait=3") == []
    assert trio.current_time() - began == 28


async def test_max_bounds_the_events_of_one_poll(world: World, autojump_clock: MockClock) -> None:
    for n in range(12):
        await world.post(f"u{n}")
    assert await world.uids("wait=0&max=1") == ["u0"]
    assert len(await world.uids("wait=0")) == 10
    assert await world.uids("wait=0&max=100") == ["u11"]


async def test_a_token_is_given_the_events_of_its_components(
    world: World, autojump_clock: MockClock
) -> None:
    for uid, local, domain in (("u1", "echo", BOT), ("u2", "alert", BOT), ("u3", "echo", OTHER)):
        await world.post(uid, local, domain)
    assert await world.uids(name="other") == ["u3"]
    assert await world.uids(name="echo") == ["u1"]
    await world.post("u4", "echo", OTHER)
    assert await world.uids(f"wait=0&component={OTHER.upper()}", "all") == ["u4"]
    assert await world.uids("wait=0&component=", "all") == ["u2"]


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("wait=-1", 422, "wait must be a whole number from 0 to 120."),
        ("wait=121", 422, "wait must be a whole number from 0 to 120."),
        ("wait=1.5", 422, "wait must be a whole number from 0 to 120."),
        ("wait=%C2%B2", 422, "wait must be a whole number from 0 to 120."),
        ("wait=" + "9" * 5000, 422, "wait must be a whole number from 0 to 120."),
        ("max=0", 422, "max must be a whole number from 1 to 100."),
        ("max=101", 422, "max must be a whole number from 1 to 100."),
        ("max=many", 422, "max must be a whole number from 1 to 100."),
        ("component=nowhere", 404, "'nowhere' is not a component of this token."),
        (f"component={OTHER}", 404, f"'{OTHER}' is not a component of this token."),
        (
            f"component={WEB}",
            409,
            f'{WEB} is not pulled: set component_post_url = "pull:".',
        ),
    ],
)
async def test_a_poll_that_is_refused(
    world: World, autojump_clock: MockClock, query: str, status: int, detail: str
) -> None:
    assert refusal(await world.poll(query)) == (status, detail)


async def test_a_token_without_pulled_components_learns_that_it_waits_in_vain(
    world: World, autojump_clock: MockClock
) -> None:
    status, detail = refusal(await world.poll("", "web"))
    assert (status, detail) == (
        409,
        'No component of this token is pulled: set component_post_url = "pull:".',
    )


async def test_polling_needs_the_scope(world: World, autojump_clock: MockClock) -> None:
    await world.post("u1")
    for response in (
        await world.poll(name="sender"),
        await world.answer("u1", name="sender"),
        await world.extend("u1", name="sender"),
    ):
        status, detail = refusal(response)
        assert status == 403
        assert '"receive"' in detail
    assert (await world.poll(name="nobody")).status_code == 401
    assert await world.uids() == ["u1"]


async def test_a_head_request_takes_nothing(world: World, autojump_clock: MockClock) -> None:
    await world.post("u1")
    response = await world.client.head("/v1/events", headers=bearer("bot"))
    assert response.status_code == 200
    assert await world.uids() == ["u1"]


async def test_idle_pollers_are_bounded_and_do_not_keep_their_token_from_answering(
    world: World, autojump_clock: MockClock
) -> None:
    statuses: list[int] = []

    async def poll(name: str) -> None:
        statuses.append((await world.poll("wait=20", name)).status_code)

    async with trio.open_nursery() as nursery:  # at most 4 of 8 connections, 2 of one token
        for _ in range(2):
            nursery.start_soon(poll, "bot")
        await wait_all_tasks_blocked()
        status, detail = refusal(refused := await world.poll("wait=20"))
        assert (status, refused.headers["retry-after"]) == (429, "5")
        assert detail == "2 requests of this token already wait for events. Try again later."
        for name in ("all", "other"):
            nursery.start_soon(poll, name)
        await wait_all_tasks_blocked()
        status, detail = refusal(refused := await world.poll("wait=20", "echo"))
        assert (status, refused.headers["retry-after"]) == (503, "5")
        assert detail == "4 requests already wait for events here. Try again later."
        for n in range(AT_ONCE + 1):
            assert (await world.answer(f"unknown{n}")).status_code == 404
    assert statuses == [200, 200, 200, 200]
    assert await world.uids() == []


async def test_a_daemon_that_stops_gives_out_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    found: list[str] = ["?"]

    async def poll() -> None:
        found[:] = await world.uids("wait=20")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await wait_all_tasks_blocked()
        world.events.stop(lambda: None)
    assert found == []
    await world.post("u1")
    response = await world.poll()
    assert refusal(response) == (503, "The daemon is stopping.")
    assert response.headers["retry-after"] == "1"


# --- answering


@pytest.mark.parametrize(
    ("content", "media", "outcome"),
    [
        ({"body": "hi"}, JSON, Replied("json", b'{"body": "hi"}')),
        ([{"body": "hi"}], "application/json; charset=utf-8", Replied("json", b'[{"body": "hi"}]')),
        (b"null", JSON, Replied("json", b"null")),
        (b"<message/>", "application/xmpp+xml", Replied("xml", b"<message/>")),
        (b"", JSON, NoReply()),
        (b" \n", None, NoReply()),
        ({"retry_after_s": 5}, JSON, Rejected(429, 5.0)),
        ({"retry_after_s": 0.5}, JSON, Rejected(429, 0.5)),
        ({"status": 404}, JSON, Rejected(404)),
        ({"status": 503, "retry_after_s": 7}, JSON, Rejected(503, 7.0)),
        ({"bad_reply": "no JSON\n"}, JSON, BadReply("no JSON\\n")),
        (
            {"kind": "presence", "status": "away"},
            JSON,
            Replied("json", b'{"kind": "presence", "status": "away"}'),
        ),
        ({"deferred": True}, JSON, NoReply(None, 202, True)),
        ({"status": "away"}, JSON, Replied("json", b'{"status": "away"}')),
    ],
)
async def test_what_answers_an_event(
    world: World, autojump_clock: MockClock, content: Any, media: str | None, outcome: Outcome
) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    response = await world.answer("u1", content, media)
    assert (response.status_code, response.content) == (204, b"")
    assert world.outcomes == {"u1": outcome}


@pytest.mark.parametrize(
    ("content", "media", "status", "detail"),
    [
        (b"{", JSON, 400, "The body is not JSON: "),
        (b'{"status": 404', JSON, 400, "The body is not JSON: "),
        (b"\xff\xfe", JSON, 400, "The body is not JSON: "),
        ([5], JSON, 422, "This is not a reply: "),
        ({"type": 5, "body": "hi"}, JSON, 422, "This is not a reply: "),
        (b"\xff", "application/xmpp+xml", 422, "This is not a reply: the body is not UTF-8"),
        (b"hi", "text/plain", 415, "Set Content-Type to application/json, or component_text_rep"),
        (b"hi", "text/html", 415, "This Content-Type is not accepted. Set it to "),
        ({"body": "hi"}, None, 415, "There is no Content-Type. Set it to application/json or "),
        (b'"' + b"x" * MAX_BODY_BYTES + b'"', JSON, 413, "The body is longer than 10000 bytes"),
        ({"status": 200}, JSON, 422, '"status" must be a whole number from 300 to 599.'),
        ({"status": 600}, JSON, 422, '"status" must be a whole number from 300 to 599.'),
        ({"status": True}, JSON, 422, '"status" must be a whole number from 300 to 599.'),
        ({"retry_after_s": -1}, JSON, 422, '"retry_after_s" must be a number from 0 to 86400.'),
        ({"retry_after_s": 1e9}, JSON, 422, '"retry_after_s" must be a number from 0 to 86400.'),
        ({"retry_after_s": "5"}, JSON, 422, '"retry_after_s" must be a number from 0 to 86400.'),
        ({"retry_after_s": None}, JSON, 422, '"retry_after_s" must be a number from 0 to 86400.'),
        ({"retry_after_s": True}, JSON, 422, '"retry_after_s" must be a number from 0 to 86400.'),
        (b'{"retry_after_s": 1e999}', JSON, 4, ""),
        ({"deferred": False}, JSON, 422, '"deferred" must be true, and the only key.'),
        ({"bad_reply": 5}, JSON, 422, '"bad_reply" must be a string, and the only key.'),
        (
            {"bad_reply": "x", "status": 500},
            JSON,
            422,
            '"bad_reply" must be a string, and the only key.',
        ),
    ],
)
async def test_what_is_no_answer_is_refused_and_the_lease_goes_on(
    world: World,
    autojump_clock: MockClock,
    content: Any,
    media: str | None,
    status: int,
    detail: str,
) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    found, text = refusal(await world.answer("u1", content, media))
    assert str(found).startswith(str(status))
    assert text.startswith(detail)
    assert world.outcomes == {}
    assert (await world.answer("u1", {"body": "hi"})).status_code == 204
    assert world.outcomes == {"u1": Replied("json", b'{"body": "hi"}')}


async def test_text_is_a_reply_where_the_component_says_so(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1", domain=OTHER)
    assert await world.uids(name="other") == ["u1"]
    assert (await world.answer("u1", b"hi", "text/plain", "other")).status_code == 204
    assert world.outcomes == {"u1": Replied("text", b"hi")}


@pytest.mark.parametrize(
    ("media", "name", "good", "bad"),
    [
        ("application/x-ndjson", "ndjson", b'{"append": "a"}\n{"append": "b"}\n', b'{"append"\n'),
        ("text/event-stream", "sse", b'data: {"append": "a"}\n\ndata: [DONE]\n\n', b"data: 1\n\n"),
    ],
)
async def test_a_stream_that_is_whole_is_a_reply(
    world: World, autojump_clock: MockClock, media: str, name: Any, good: bytes, bad: bytes
) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    status, _ = refusal(await world.answer("u1", bad, media))
    assert status in (400, 422)
    assert world.outcomes == {}
    assert (await world.answer("u1", good, media)).status_code == 204
    assert world.outcomes == {"u1": Replied(name, good)}


async def test_an_event_is_answered_once(world: World, autojump_clock: MockClock) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    assert (await world.answer("u1", {"body": "hi"})).status_code == 204
    for response in (await world.answer("u1", {"body": "again"}), await world.extend("u1")):
        assert refusal(response) == (409, "This event is answered already.")
    assert world.outcomes == {"u1": Replied("json", b'{"body": "hi"}')}


async def test_an_answer_after_the_lease_is_late(world: World, autojump_clock: MockClock) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    await trio.sleep(LEASE_S + 1)
    assert isinstance(world.outcomes["u1"], TimedOut)
    for response in (await world.answer("u1", {"body": "hi"}), await world.extend("u1")):
        assert refusal(response) == (
            410,
            "The lease of this event has ended; if need be, it comes again.",
        )


async def test_an_answer_to_another_attempt_is_late(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    assert refusal(await world.answer("u1", query="?attempt=2"))[0] == 410
    assert refusal(await world.extend("u1", query="?attempt=2"))[0] == 410
    status, detail = refusal(await world.answer("u1", query="?attempt=first"))
    assert (status, detail) == (422, "attempt must be a whole number from 1 to 2147483648.")
    assert (await world.answer("u1", query="?attempt=1")).status_code == 204


async def test_a_lease_is_extended(world: World, autojump_clock: MockClock) -> None:
    await world.post("u1")
    assert await world.uids() == ["u1"]
    for _ in range(3):
        await trio.sleep(50)
        response = await world.extend("u1")
        assert (response.status_code, response.json()) == (200, {"lease_s": LEASE_S})
        assert response.headers["cache-control"] == "no-store"
    assert world.outcomes == {}


async def test_another_tokens_event_is_refused_exactly_as_one_that_does_not_exist(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1")
    await world.post("u2")
    assert await world.uids("wait=0&max=1") == ["u1"]
    answers = []
    for uid, name in (
        ("unknown", "bot"),
        ("u1", "other"),  # for another component
        ("u1", "echo"),  # for this address, but without the lease
        ("u2", "bot"),  # offered, and not taken
    ):
        for response in (
            await world.answer(uid, {"body": "x"}, name=name),
            await world.extend(uid, name),
        ):
            headers = {k: v for k, v in response.headers.items() if k != "x-request-id"}
            answers.append((response.status_code, headers, response.content))
    assert answers == [answers[0]] * len(answers)
    assert answers[0][0] == 404
    assert world.outcomes == {}


async def test_neither_secrets_nor_events_get_into_the_log(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1-s3cret", body="private words")
    assert await world.uids() == ["u1-s3cret"]
    for name in ("other", "echo", "nobody", "bot"):
        await world.answer("u1-s3cret", {"body": "private reply"}, name=name)
    logged = repr(world.log.lines)
    paths = {line["path"] for line in world.log.of("http request")}
    assert paths == {"/v1/events", "/v1/events/{uid}"}
    for secret in ("0123456789abcdef", "s3cret", "private", "Bearer"):
        assert secret not in logged


# --- as a stream


def events_in(text: str) -> list[dict[str, str]]:
    """The fields of each block of a stream; a comment has the key ''."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block]
    return [dict(line.split(": ", 1) for line in lines) for lines in blocks]


async def test_a_stream_is_not_for_a_client_that_accepts_anything(
    world: World, autojump_clock: MockClock
) -> None:
    response = await world.poll(Accept="*/*")
    assert response.headers["content-type"] == JSON


@define
class Reader:
    """A client of a stream, without a network: `text` is what it has got."""

    text: str = ""
    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    left: trio.Event = field(factory=trio.Event)
    reads: trio.Event = field(factory=trio.Event)

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        await self.reads.wait()
        self.text += message["body"].decode()


async def test_a_stream_has_the_same_events_and_comments_between_them(
    world: World, autojump_clock: MockClock
) -> None:
    reader = Reader()
    reader.reads.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stream, world, reader)
        await trio.sleep(2.5 * COMMENT_EVERY_S)
        await world.post("u1", body="hi")
        await world.post("u2")
        await world.answer("u1")
        world.events.stop(lambda: None)
    assert reader.status == 200
    assert reader.headers["content-type"] == "text/event-stream"
    assert reader.headers["cache-control"] == "no-store"
    first, *comments, one, two = events_in(reader.text)
    assert first == {"": "events follow"}
    assert comments == [{"": "nothing new"}] * 2
    assert (one["event"], one["id"]) == ("stanza", "u1")
    data = json.loads(one["data"])
    assert (data["uid"], data["attempt"], data["lease_s"]) == ("u1", 1, LEASE_S)
    assert data["request"]["body"] == "hi"
    assert two["id"] == "u2"
    assert world.outcomes == {"u1": NoReply()}


async def test_a_stream_holds_no_more_than_max_events(
    world: World, autojump_clock: MockClock
) -> None:
    reader = Reader()
    reader.reads.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stream, world, reader, b"max=2")
        await wait_all_tasks_blocked()
        for n in range(4):
            await world.post(f"u{n}")
        assert [one.get("id") for one in events_in(reader.text)] == [None, "u0", "u1"]
        await world.answer("u0")
        assert [one.get("id") for one in events_in(reader.text)][3:] == ["u2"]
        reader.left.set()
    assert await world.uids() == ["u3"]


async def test_a_stream_that_is_not_read_leases_nothing_it_has_not_written(
    world: World, autojump_clock: MockClock
) -> None:
    reader = Reader()
    async with trio.open_nursery() as nursery:
        reader.reads.set()
        nursery.start_soon(_stream, world, reader)
        await wait_all_tasks_blocked()
        reader.reads = trio.Event()  # from now on it does not read
        for n in range(3):
            await world.post(f"u{n}")
        await trio.sleep(5)
        reader.left.set()
    assert await world.uids() == ["u0", "u1", "u2"]


async def test_a_response_is_not_cut_when_it_is_complete_and_still_being_written(
    world: World, autojump_clock: MockClock
) -> None:
    complete, parts = trio.Event(), list[bytes]()

    async def receive() -> dict[str, Any]:
        await complete.wait()  # ASGI tells the end by the message of a client that has left
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            complete.set()
            await trio.sleep(1)
            parts.append(message["body"])

    await world.post("u1")
    transport: Any = world.client._transport
    await transport.app(poll_scope({HAS_LEFT: lambda: False}), receive, send)
    assert json.loads(b"".join(parts))["events"][0]["uid"] == "u1"
    assert (await world.answer("u1")).status_code == 204


def poll_scope(extensions: dict[str, Any], query: bytes = b"", **headers: str) -> dict[str, Any]:
    given = {**bearer("bot"), **headers}
    return {
        "type": "http",
        "method": "GET",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "query_string": query,
        "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
        "extensions": extensions,
    }


async def _stream(world: World, reader: Reader, query: bytes = b"") -> None:
    transport: Any = world.client._transport
    scope = poll_scope({}, query, Accept="text/event-stream")
    await transport.app(scope, reader.receive, reader.send)
