"""A daemon with a pulled component, between a scripted XMPP server and pollers on real sockets.

The clock stands still: a test waits for what happens, and moves it where somebody would wait.
"""

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import (
    Component,
    JournalSettings,
    ListenSettings,
    RetrySettings,
    Settings,
    TcpAddress,
)
from bridge.config.value import PULL, PostUrl, Secret
from bridge.daemon.daemon import Daemon
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import open_storage
from bridge.listener.listener import Listener
from bridge.webhook.pull import LEASE_S, PRESENT_S
from tests.bridge.daemon.test_daemon import DOMAIN, Running, World, message
from tests.bridge.http_server import HttpServer, response, saying
from tests.bridge.leak import nothing_left, until
from tests.bridge.listener.conftest import bearer, token
from tests.bridge.listener.server.client import Client, get
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import SECRET, Session, XmppServer

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
TOKENS: Final = (token("bot", "receive", components=(DOMAIN,)),)
AUTH: Final = f"Authorization: {bearer('bot')['Authorization']}\r\n"
BUDGET: Final = RetrySettings(message_budget_s=300)


@define
class Scene:
    """A daemon whose only component is pulled, unless a test says otherwise."""

    world: World
    directory: Path
    settings: Settings = field(factory=lambda: Settings(()))
    daemon: Daemon | None = None
    running: Running | None = None
    port: int = 0
    runs: int = 0

    def component(self, url: PostUrl = PULL, **options: Any) -> Component:
        return Component(DOMAIN, Secret(SECRET), url, self.world.server.address, **options)

    @asynccontextmanager
    async def run(
        self, url: PostUrl = PULL, *, journal: bool = False, **options: Any
    ) -> AsyncIterator[Session]:
        listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS)
        kept = JournalSettings() if journal else JournalSettings(durability="off")
        self.settings = Settings(
            (self.component(url, **options),), listen=listen, journal=kept, retry=BUDGET
        )
        with ExitStack() as resources:
            storage = None
            if journal:
                storage = resources.enter_context(
                    open_storage(StateDirectory(self.directory), kept)
                )
            daemon = self.daemon = Daemon(
                self.settings, storage, read=lambda: self.settings, open_listener=Listener.opened
            )
            self.running = Running(daemon)
            self.world.nursery.start_soon(self.running.run, daemon.run)
            self.runs += 1
            await self.world.log.wait("listening", self.runs)
            assert isinstance(daemon._listener, Listener)
            assert daemon._listener.port is not None
            self.port = daemon._listener.port
            yield await self.world.server.attached(DOMAIN, self.runs)
            if not self.running.done.is_set():
                daemon.stop()
            await self.world.pass_until(self.running.done.is_set)

    @property
    def offers(self) -> int:
        """How many events nobody has taken."""
        assert self.daemon is not None
        return len(self.daemon.parts.events._offers)

    async def reload(self, url: PostUrl = PULL, **options: Any) -> None:
        """Begin a reload; it is complete once that is logged."""
        assert self.daemon is not None
        self.settings = evolve(self.settings, components=(self.component(url, **options),))
        self.daemon.reload()

    async def call(
        self, method: str = "GET", path: str = "?wait=0", value: Any = None
    ) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
            content = None if value is None else json.dumps(value)
            headers = {**bearer("bot"), "Content-Type": "application/json"}
            return await client.request(
                method, f"/v1/events{path}", content=content, headers=headers
            )

    async def take(self, count: int = 1) -> list[dict[str, Any]]:
        """Poll until there are so many events."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.call()).json()["events"]
        return found

    async def connect(self, query: str = "") -> Client:
        """Poll on a connection of the test's own."""
        client = Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        await client.send(get(f"/v1/events{query}", AUTH))
        await wait_all_tasks_blocked(0.01)
        return client


@pytest.fixture
def log() -> Any:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@pytest.fixture
async def scene(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder, tmp_path: Path
) -> Scene:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    world = World(nursery, mock_clock, log, await XmppServer.start(nursery))
    return Scene(world, tmp_path / "state")


# --- from the stanza to its reply


async def test_an_event_is_a_stanza_and_its_answer_the_reply(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        await session.send(message("m1"))
        [event] = await scene.take()
        assert event["attempt"] == 1
        assert event["request"]["body"] == "m1"
        assert event["request"]["uid"] == event["uid"]
        answer = await scene.call("POST", f"/{event['uid']}", {"body": "hello"})
        assert answer.status_code == 204
        [reply] = await session.receive(1)
        assert (reply.to, reply.type) == ("juliet@capulet.example/x", "chat")
        assert reply.child("body").text == "hello"  # type: ignore[union-attr]


async def test_one_event_of_a_conversation_at_a_time_and_in_order(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        romeo = "romeo@montague.example/x"
        await session.send(message("m1"), message("m2"), message("r1", romeo), message("m3"))
        events = await scene.take(2)
        events.sort(key=lambda one: str(one["request"]["id"]))
        assert [one["request"]["id"] for one in events] == ["m1", "r1"]
        assert (await scene.call()).json() == {"events": []}
        for expected in ("m2", "m3"):
            await scene.call("POST", f"/{events[0]['uid']}", {"body": "ok"})
            events = await scene.take()
            assert [one["request"]["id"] for one in events] == [expected]


async def test_a_lease_that_ends_is_a_time_out_and_the_event_comes_again(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        await session.send(message("m1"), message("m2"))
        [first] = await scene.take()
        other = await scene.connect("?wait=120")
        mock_clock.jump(LEASE_S)
        await scene.world.log.wait("lease ended")
        late = await scene.call("POST", f"/{first['uid']}", {"body": "late"})
        assert late.status_code == 410
        mock_clock.jump(1)
        [again] = json.loads((await other.receive()).body)["events"]
        assert (again["uid"], again["attempt"]) == (first["uid"], 2)
        assert again["request"]["attempt"] == 2
        await other.stream.aclose()


async def test_an_event_that_is_given_back_comes_again_after_its_time(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        await session.send(message("m1"))
        [event] = await scene.take()
        await scene.call("POST", f"/{event['uid']}", {"retry_after_s": 5})
        await scene.world.log.wait("endpoint rejected a stanza")
        assert (await scene.call()).json() == {"events": []}
        mock_clock.jump(5)
        [again] = await scene.take()
        assert again["attempt"] == 2


# --- nobody polls


async def test_nobody_polling_is_an_endpoint_that_is_down_until_the_first_poll(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        senders = [f"{name}@x.example/r" for name in "abc"]
        await session.send(*(message(one, one) for one in senders))
        await until(lambda: scene.offers == 3)
        mock_clock.jump(PRESENT_S)
        down = "endpoint is down, asking it by one POST at a time"
        await scene.world.log.wait(down)
        assert scene.world.log.of("endpoint fails")[0]["why"] == "nobody polls /v1/events"
        assert scene.daemon is not None
        service = scene.daemon.services[DOMAIN]
        assert service.status.endpoint.state != "up"
        assert (await scene.call()).json() == {"events": []}  # but from now on it polls
        await scene.world.log.wait("endpoint is back")
        events = await scene.take(3)  # no time passes: none waits for a probe
        assert {one["request"]["id"] for one in events} == set(senders)


async def test_the_status_counts_the_pollers_that_wait(scene: Scene, mock_clock: MockClock) -> None:
    async with scene.run():
        assert scene.daemon is not None
        service = scene.daemon.services[DOMAIN]
        assert service.status.endpoint.url == "pull:"
        assert service.status.endpoint.pollers == 0
        clients = [await scene.connect() for _ in range(2)]
        assert service.status.endpoint.pollers == 2
        for one in clients:
            await one.stream.aclose()
        await until(lambda: service.status.endpoint.pollers == 0)


# --- connections


async def test_a_poller_that_leaves_takes_nothing_with_it(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        client = await scene.connect()
        await client.stream.aclose()
        await wait_all_tasks_blocked(0.01)
        await session.send(message("m1"))
        [event] = await scene.take()
        assert event["attempt"] == 1


async def test_a_stream_is_written_as_it_comes(scene: Scene, mock_clock: MockClock) -> None:
    async with scene.run() as session:
        client = Client(await trio.open_tcp_stream("127.0.0.1", scene.port))
        await client.send(get("/v1/events", f"{AUTH}Accept: text/event-stream\r\n"))
        await session.send(message("m1"))
        while b'"body":"m1"' not in client.rest:
            assert await client._more()
        head = client.rest.partition(b"\r\n\r\n")[0].decode().lower()
        assert head.startswith("http/1.1 200")
        assert "content-type: text/event-stream" in head
        assert "transfer-encoding: chunked" in head
        assert "x-accel-buffering: no" in head
        assert b"event: stanza\nid: msg_" in client.rest
        await wait_all_tasks_blocked(0.01)  # it waits for more
        mock_clock.jump(15)
        while b": nothing new\n\n" not in client.rest:
            assert await client._more()
        assert scene.daemon is not None
        scene.daemon.stop()
        while not client.rest.endswith(b"\r\n0\r\n\r\n"):
            assert await client._more()
        await client.stream.aclose()


# --- other configurations, and the end


async def test_from_a_url_to_pull(scene: Scene, mock_clock: MockClock) -> None:
    posted = await HttpServer.start(scene.world.nursery, saying(response("503 Later")))
    async with scene.run(posted.url()) as session:
        await session.send(message("m1"))
        await until(lambda: len(posted.requests) == 1)
        await until(lambda: bool(scene.world.log.of("endpoint rejected a stanza")))
        assert (await scene.call()).status_code == 409
        await scene.reload()
        await scene.world.log.wait("configuration read again")
        [event] = await scene.take()
        assert (event["request"]["id"], event["attempt"]) == ("m1", 2)
        assert (await scene.call("POST", f"/{event['uid']}", {"body": "ok"})).status_code == 204
        [reply] = await session.receive(1)
        assert reply.child("body").text == "ok"  # type: ignore[union-attr]


async def test_from_pull_to_a_url(scene: Scene, mock_clock: MockClock) -> None:
    posted = await HttpServer.start(scene.world.nursery, saying(response("204 No Content")))
    async with scene.run() as session:
        await session.send(message("m1"))
        [leased] = await scene.take()
        await session.send(message("r1", "romeo@montague.example/x"))
        await until(lambda: scene.offers == 1)
        await scene.reload(posted.url())
        await scene.world.log.wait("configuration read again")
        await scene.world.pass_until(lambda: len(posted.requests) == 1)
        assert posted.requests[0].json["id"] == "r1"  # nobody had taken it
        assert (await scene.call()).status_code == 409
        # Whoever has an event may still answer it.
        assert (await scene.call("POST", f"/{leased['uid']}", {"body": "ok"})).status_code == 204
        [reply] = await session.receive(1)
        assert reply.child("body").text == "ok"  # type: ignore[union-attr]
        await session.send(message("m2"))
        await until(lambda: len(posted.requests) == 2)


async def test_another_reload_does_not_disturb_what_is_leased_or_offered(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        await session.send(message("m1"))
        [leased] = await scene.take()
        await session.send(message("r1", "romeo@montague.example/x"))
        await until(lambda: scene.offers == 1)
        await scene.reload(name="Bot")
        await scene.world.log.wait("configuration read again")
        assert (await scene.call("POST", f"/{leased['uid']}", {"body": "ok"})).status_code == 204
        [event] = await scene.take()
        assert (event["request"]["id"], event["attempt"]) == ("r1", 1)


async def test_a_component_that_starts_again_ends_its_leases(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run(journal=True) as session:
        await session.send(message("m1"))
        [event] = await scene.take()
        await scene.reload(order="none")
        await scene.world.log.wait("draining")
        done = scene.world.log.of
        await scene.world.pass_until(lambda: bool(done("configuration read again")))
        late = await scene.call("POST", f"/{event['uid']}", {"body": "late"})
        assert late.status_code == 410
        await scene.world.server.attached(DOMAIN, 2)
        [again] = await scene.take()
        assert again["uid"] == event["uid"]


async def test_a_stop_takes_the_answers_to_what_is_leased(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run() as session:
        await session.send(message("m1"))
        [event] = await scene.take()
        waiting = await scene.connect()
        assert scene.daemon is not None
        scene.daemon.stop()
        assert json.loads((await waiting.receive()).body) == {"events": []}
        await waiting.stream.aclose()
        refused = await scene.call()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await scene.call("POST", f"/{event['uid']}", {"body": "ok"})).status_code == 204
        [reply] = await session.receive(1)
        assert reply.child("body").text == "ok"  # type: ignore[union-attr]


async def test_a_stop_does_not_wait_for_an_answer_beyond_its_grace(
    scene: Scene, mock_clock: MockClock
) -> None:
    async with scene.run(journal=True) as session:
        await session.send(message("m1"))
        [event] = await scene.take()
    async with scene.run(journal=True):  # the journal has it, and gives it out again
        [again] = await scene.take()
        assert (again["uid"], again["request"]["id"]) == (event["uid"], "m1")
