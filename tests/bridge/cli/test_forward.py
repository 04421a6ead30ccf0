"""`forward`: between the real listener and a service, over loopback. The clock stands still."""

import json
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, field
from click.testing import CliRunner
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.cli.forward.client import BridgeClient, BridgeRefuses
from bridge.cli.forward.forwarder import GIVE_BACK_S, Forwarder
from bridge.cli.main import main
from bridge.config.settings import Count, HttpSettings, ListenSettings, Seconds, TcpAddress
from bridge.config.value import Secret, parse_post_url
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.listener.server.binding import bound
from bridge.listener.server.server import Server
from bridge.webhook.endpoint import Endpoint
from bridge.webhook.outcome import BadReply, NoReply, Outcome, Rejected, Replied
from bridge.webhook.pull import LEASE_S, PulledEvents
from bridge.webhook.pulled_endpoint import PulledEndpoint
from bridge.webhook.signature import Signer
from tests.bridge.http_server import Exchange, HttpServer, response, saying
from tests.bridge.leak import until
from tests.bridge.listener.conftest import bearer, token
from tests.bridge.listener.fake_sender import BOT, OTHER, FakeSender
from tests.bridge.recorder import Recorder

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLjSw"
TIMEOUT_S: Final = 30.0
TOKENS: Final = (
    token("bot", "receive"),
    token("sender", "send"),
    token("other", "receive", components=(OTHER,)),
)


@define(eq=False)
class World:
    """A bridge with a pulled component, a service, and the outcomes of its attempts."""

    nursery: trio.Nursery
    clock: MockClock
    log: Recorder
    server: HttpServer
    events: PulledEvents = field(factory=PulledEvents)
    outcomes: dict[str, Outcome] = field(factory=dict)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def listen(self) -> None:
        """Start the listener; with port 0 at any, else at that one."""

        async def serve(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            listen = ListenSettings(
                TcpAddress("127.0.0.1", self.port), TOKENS, max_body_bytes=Count(5000)
            )
            app = make_app(
                FakeSender(),
                TokenAuth(TOKENS),
                listen,
                events=self.events,
                log=self.log.logger(),
            )
            with bound(listen.place) as listening:
                self.port = listening.getsockname()[1]
                server = Server(app, 100, self.log.logger())
                await server.run(listening, trio.Event(), task_status=task_status)

        await self.nursery.start(serve)

    async def post(self, uid: str, attempt: int = 1, **keys: Any) -> None:
        """Begin an attempt of the bridge."""
        body = {"to": f"echo@{BOT}", "from": "a@x/1", "kind": "message", "id": uid, **keys}
        endpoint = PulledEndpoint(BOT, "pull:", self.events)
        data = json.dumps(body).encode()

        async def attempting() -> None:
            began = trio.current_time()
            self.outcomes[uid] = await endpoint.post(data, uid, attempt, began, math.inf)

        self.nursery.start_soon(attempting)
        await wait_all_tasks_blocked()

    async def outcome(self, uid: str) -> Outcome:
        await until(lambda: uid in self.outcomes)
        return self.outcomes[uid]

    def client(self, name: str = "bot", component: str | None = None) -> BridgeClient:
        secret = Secret(bearer(name)["Authorization"].removeprefix("Bearer "))
        return BridgeClient(parse_post_url(self.url), secret, component, 10)

    @asynccontextmanager
    async def forwarding(
        self, name: str = "bot", at_once: int = 10, target: str = "", timeout_s: float = TIMEOUT_S
    ) -> AsyncIterator[None]:
        """Forward within; at the end it is cancelled, as by Ctrl-C."""
        http = HttpSettings(timeout_s=Seconds(timeout_s))
        url = parse_post_url(target) if target else self.server.url()
        endpoint = Endpoint(
            url, http, signer=Signer((Secret(SECRET),)), now=lambda: 1.0, text_replies=True
        )
        client = self.client(name)
        try:
            async with trio.open_nursery() as nursery:
                forwarder = Forwarder(client, endpoint, at_once, self.log.logger())
                nursery.start_soon(forwarder.run)
                yield
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await client.aclose()
                await endpoint.aclose()


@pytest.fixture
async def make_world(nursery: trio.Nursery, mock_clock: MockClock) -> Callable[..., Any]:
    async def make(answer: Callable[[Exchange], Any]) -> World:
        log = Recorder()
        world = World(nursery, mock_clock, log, await HttpServer.start(nursery, answer))
        world.events.domains = frozenset({BOT})
        await world.listen()
        return world

    return make


def replying(
    status: str = "200 OK", body: bytes = b"", media: str = "application/json", header: str = ""
) -> Any:
    data = response(status, body, media if body else None)
    return saying(data.replace(b"\r\n", f"\r\n{header}\r\n".encode(), 1) if header else data)


# --- what the service gets, and answers


async def test_the_service_gets_exactly_what_the_bridge_would_have_posted(
    make_world: Any, mock_clock: MockClock
) -> None:
    reply = b'{"body": "hello"}'
    world = await make_world(replying(body=reply))
    async with world.forwarding():
        await world.post("u1", attempt=3, body="hi", extra={"a": [1.50, "\u2028"]})
        assert await world.outcome("u1") == Replied("json", reply)
        await world.log.wait("forwarded")
    [request] = world.server.requests
    [body] = [
        {
            "to": f"echo@{BOT}",
            "from": "a@x/1",
            "kind": "message",
            "id": "u1",
            "body": "hi",
            "extra": {"a": [1.50, "\u2028"]},
        },
    ]
    assert request.content == json.dumps(body).encode()
    signer = Signer((Secret(SECRET),))
    for line in signer.headers("u1", 3, 1.0, request.content).splitlines():
        name, _, value = line.partition(": ")
        assert request.get(name) == value
    assert request.get("content-type") == "application/json"
    assert request.get("traceparent") is not None


@pytest.mark.parametrize(
    ("answer", "outcome", "told"),
    [
        (replying(body=b"[]"), Replied("json", b"[]"), None),
        (
            replying(body=b"<message/>", media="application/xmpp+xml"),
            Replied("xml", b"<message/>"),
            None,
        ),
        (
            replying(body=b'{"append": "a"}', media="application/x-ndjson"),
            Replied("ndjson", b'{"append": "a"}'),
            None,
        ),
        (
            replying(body=b'data: {"append": "a"}', media="text/event-stream"),
            Replied("sse", b'data: {"append": "a"}'),
            None,
        ),
        (replying("204 No Content"), NoReply(), None),
        (replying("202 Accepted", b'{"deferred": true}'), NoReply(None, 202, True), None),
        (replying(), NoReply(), None),
        (replying(body=b"hi", media="text/html"), NoReply(), "reply ignored"),
        (replying(body=b"hi", media="text/plain"), NoReply(), "reply ignored"),
        (replying("404 Not Found"), Rejected(404), "endpoint rejected a stanza"),
        (
            replying("503 Service Unavailable", header="Retry-After: 7"),
            Rejected(503, 7.0),
            "endpoint rejected a stanza",
        ),
        (
            replying("301 Moved", header="Location: /x"),
            Rejected(301),
            "endpoint rejected a stanza",
        ),
        (replying(body=b"{"), BadReply("The body is not JSON: "), "bad reply"),
        (replying(body=b"[5]"), BadReply("This is not a reply: "), "bad reply"),
        (
            replying(body=b'"' + b"x" * 6000 + b'"'),
            BadReply("The body is longer than 5000 bytes (max_body_bytes)"),
            "bad reply",
        ),
    ],
)
async def test_an_answer_comes_to_what_it_would_have_come_to_at_the_bridge(
    make_world: Any, mock_clock: MockClock, answer: Any, outcome: Outcome, told: str | None
) -> None:
    world = await make_world(answer)
    async with world.forwarding():
        await world.post("u1")
        found = await world.outcome("u1")
        await world.log.wait("forwarded")
    if isinstance(outcome, BadReply):
        assert isinstance(found, BadReply)
        assert found.why.startswith(outcome.why)
    else:
        assert found == outcome
    warnings = [line["event"] for line in world.log.lines if line["level"] == "warning"]
    assert warnings == ([] if told is None else [told])


async def test_a_service_that_is_down_has_its_events_given_back(
    make_world: Any, mock_clock: MockClock
) -> None:
    world = await make_world(replying())
    async with world.forwarding(target="http://127.0.0.1:1/"):
        for uid in ("u1", "u2"):
            await world.post(uid)
            assert await world.outcome(uid) == Rejected(429, GIVE_BACK_S)
        await world.log.wait("forwarded", 2)
    [line] = world.log.of("endpoint fails")
    assert "refused" in line["why"]


async def test_the_lease_is_extended_while_the_service_takes_its_time(
    make_world: Any, mock_clock: MockClock
) -> None:
    gate = trio.Event()

    async def slow(exchange: Exchange) -> None:
        await gate.wait()
        await exchange.send(response("200 OK", b"[]"))

    world = await make_world(slow)
    async with world.forwarding(timeout_s=1000):
        await world.post("u1")
        await until(lambda: len(world.server.requests) == 1)
        while trio.current_time() < 3 * LEASE_S:
            mock_clock.jump(LEASE_S / 12)
            await wait_all_tasks_blocked(0.005)
        assert world.outcomes == {}
        gate.set()
        assert await world.outcome("u1") == Replied("json", b"[]")


async def test_a_service_that_takes_too_long_counts_as_a_timeout(
    make_world: Any, mock_clock: MockClock
) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.wait_gone()

    world = await make_world(never)
    async with world.forwarding():
        await world.post("u1")
        await until(lambda: len(world.server.requests) == 1)
        mock_clock.jump(TIMEOUT_S)
        assert await world.outcome("u1") == Rejected(504)
        await world.log.wait("forwarded")


async def test_no_more_than_at_once_are_under_way(make_world: Any, mock_clock: MockClock) -> None:
    gate = trio.Event()

    async def slow(exchange: Exchange) -> None:
        await gate.wait()
        await exchange.send(response("204 No Content"))

    world = await make_world(slow)
    for n in range(5):
        await world.post(f"u{n}")
    async with world.forwarding(at_once=2):
        await until(lambda: len(world.server.requests) == 2)
        await wait_all_tasks_blocked(0.01)
        assert len(world.server.requests) == 2
        gate.set()
        for n in range(5):
            assert await world.outcome(f"u{n}") == NoReply()


# --- the end


async def test_ctrl_c_gives_back_what_is_under_way(make_world: Any, mock_clock: MockClock) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.wait_gone()

    world = await make_world(never)
    for uid in ("u1", "u2"):
        await world.post(uid)
    async with world.forwarding():
        await until(lambda: len(world.server.requests) == 2)
    for uid in ("u1", "u2"):
        assert await world.outcome(uid) == Rejected(429, 0.0)


async def test_a_late_answer_is_told(make_world: Any, mock_clock: MockClock) -> None:
    gate = trio.Event()

    async def slow(exchange: Exchange) -> None:
        await gate.wait()
        await exchange.send(response("204 No Content"))

    world = await make_world(slow)
    async with world.forwarding():
        await world.post("u1")
        await until(lambda: len(world.server.requests) == 1)
        [offer] = world.events._leases.values()
        world.events.withdraw(offer)  # as at the end of the daemon
        gate.set()
        line = await world.log.wait("answer came too late")
    assert line["why"] == "The lease of this event has ended; if need be, it comes again"


# --- the bridge


async def test_a_bridge_that_is_down_is_asked_again(make_world: Any, mock_clock: MockClock) -> None:
    world = await make_world(replying())
    good, world.port = world.port, 1
    client = world.client()
    world.port = good
    target = Endpoint(world.server.url(), HttpSettings())
    async with trio.open_nursery() as nursery:
        forwarder = Forwarder(client, target, 10, world.log.logger())
        nursery.start_soon(forwarder.run)
        line = await world.log.wait("bridge cannot be asked")
        assert "ConnectError" in line["why"]
        client._base = f"{world.url}v1/events"
        await world.post("u1")
        while "u1" not in world.outcomes:
            mock_clock.jump(0.5)
            await wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    await client.aclose()
    await target.aclose()
    assert world.outcomes["u1"] == NoReply()


@pytest.mark.parametrize(
    ("name", "component", "told"),
    [
        ("nobody", None, "the bridge does not know the token in --token-file: The token is unkn"),
        ("sender", None, 'the token in --token-file may not poll: This token lacks the scope "rec'),
        ("bot", OTHER, f"there is nothing to poll: '{OTHER}' is not a component of this token"),
        ("other", None, "there is nothing to poll: No component of this token is pulled: set"),
    ],
)
async def test_a_bridge_that_refuses_says_why(
    make_world: Any, mock_clock: MockClock, name: str, component: str | None, told: str
) -> None:
    world = await make_world(replying())
    client = world.client(name, component)
    with pytest.raises(BridgeRefuses) as caught:
        await client.poll(1)
    await client.aclose()
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (replying("404 Not Found"), "(/v1/events answers with status 404); set --bridge to the ad"),
        (replying(body=b"<html>", media="text/html"), "(it answers, but not with events); set --b"),
        (replying(body=b'{"events": [5]}'), "(it answers, but not with events); set --bridge to t"),
        (
            replying("302 Found", header="Location: https://x.example/"),
            "redirects to https://x.example/; set --bridge to that address",
        ),
    ],
)
async def test_what_is_no_bridge_is_told(
    make_world: Any, mock_clock: MockClock, answer: Any, told: str
) -> None:
    world = await make_world(answer)
    world.port = world.server.port
    client = world.client()
    with pytest.raises(BridgeRefuses) as caught:
        await client.poll(1)
    await client.aclose()
    assert told in str(caught.value)


# --- the command


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("bot-0123456789abcdef\n")
    path.chmod(0o600)
    return path


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main, ["forward", *map(str, arguments)])


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read (No such file or directory)."),
        (b"", "is empty."),
        (b" \n", "is empty."),
        (b"\xff\xfe", "is not UTF-8 text."),
        ("schlüssel".encode(), "does not hold a secret."),
        (b"one\ntwo\n", "holds more than one secret."),
    ],
)
def test_a_token_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    result = run("--bridge", "http://h/", "--token-file", path, "--to", "http://h/")
    assert result.exit_code == 2
    assert f"Invalid value for --token-file: {path} {told}" in words(result.stderr)


@pytest.mark.parametrize("option", ["--bridge", "--to"])
@pytest.mark.parametrize("value", ["localhost:8000", "ftp://h/", "http://", "pull:"])
def test_a_url_that_is_none(token_file: Path, option: str, value: str) -> None:
    given = {"--bridge": "http://h/", "--to": "http://h/", option: value}
    pairs = [word for pair in given.items() for word in pair]
    result = run("--token-file", token_file, *pairs)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': the URL " in words(result.stderr)


def test_secrets_that_are_none(token_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text("whsec_short\n")
    path.chmod(0o600)
    urls = ("--bridge", "http://h/", "--to", "http://h/")
    result = run("--token-file", token_file, *urls, "--secrets-file", path)
    assert result.exit_code == 2
    assert "must be whsec_ followed by 24 to 64 bytes in base64" in words(result.stderr)
    assert "whsec_short" not in result.stderr


def test_help_shows_how_it_is_used() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert 'component_post_url = "pull:"' in words(result.stdout)
    assert "--token-file token --to http://localhost:8000/" in words(result.stdout)


@pytest.fixture
def exposed(token_file: Path) -> Path:
    """A token file that everyone can read."""
    token_file.chmod(0o644)
    return token_file


@pytest.fixture
def wrong(token_file: Path) -> Path:
    """A token file with a secret that the bridge does not know."""
    token_file.write_text("wrong-0123456789abcdef")
    return token_file


async def ended(world: World, token_file: Path, act: Callable[[Any], Any]) -> tuple[int, str]:
    """Run the command until it ends, and give its exit code and what it wrote to stderr."""
    command = [sys.executable, "-m", "bridge", "forward", "--bridge", world.url]
    command += ["--token-file", str(token_file), "--to", str(world.server.url())]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = await trio.lowlevel.open_process(
        command, stdin=None, stdout=None, stderr=-1, env=environment
    )
    try:
        await act(process)
        await until(lambda: process.poll() is not None)
    finally:
        process.kill()
    assert process.stderr is not None
    told = (await process.stderr.receive_some(65536)).decode()
    await process.stderr.aclose()
    assert "Traceback" not in told
    assert "0123456789abcdef" not in told
    return process.returncode or 0, told


async def test_as_a_process_it_warns_forwards_and_ends_by_ctrl_c(
    make_world: Any, mock_clock: MockClock, exposed: Path
) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.wait_gone()

    world = await make_world(never)
    await world.post("u1")

    async def interrupt(process: Any) -> None:
        await until(lambda: len(world.server.requests) == 1)
        process.send_signal(signal.SIGINT)
        assert await world.outcome("u1") == Rejected(429, 0.0)

    code, told = await ended(world, exposed, interrupt)
    assert code == 130
    assert "everyone on this machine can read the secret in it" in told
    assert "forwarding" in told


async def test_as_a_process_it_says_what_is_wrong(
    make_world: Any, mock_clock: MockClock, wrong: Path
) -> None:
    world = await make_world(replying())

    async def nothing(_: Any) -> None:
        await trio.lowlevel.checkpoint()

    code, told = await ended(world, wrong, nothing)
    assert code == 1
    assert "Error: the bridge does not know the token in --token-file" in told
