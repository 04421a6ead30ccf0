"""What a poller does not get, because it has left or does not read, is offered again."""

import json
import math
from collections.abc import AsyncIterator
from typing import Final

import h11
import pytest
import trio
from attrs import define
from starlette.types import Receive, Scope, Send
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import ListenSettings, TcpAddress
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.listener.server.binding import bound
from bridge.listener.server.exchange import HAS_LEFT, Exchange
from bridge.listener.server.server import Server
from bridge.listener.server.stream import WRITE_S, ClientStream
from bridge.webhook.pull import PulledEvents
from bridge.webhook.pulled_endpoint import PulledEndpoint
from tests.bridge.leak import nothing_left, until
from tests.bridge.listener.conftest import bearer, token
from tests.bridge.listener.fake_sender import BOT, FakeSender
from tests.bridge.listener.server.client import Client, get
from tests.bridge.recorder import Recorder

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
BIG: Final = 16 * 1024 * 1024  # more than the buffers of two sockets take
AUTH: Final = f"Authorization: {bearer('bot')['Authorization']}\r\n"


@define
class World:
    """A listener, and what a pulled component offers there."""

    nursery: trio.Nursery
    port: int
    events: PulledEvents

    async def offer(self, uid: str) -> None:
        """Offer an event that is too big for the buffers."""
        body = {"to": f"echo@{BOT}", "kind": "message", "body": "x" * BIG}
        endpoint = PulledEndpoint(BOT, "pull:", self.events)
        data, began = json.dumps(body).encode(), trio.current_time()
        self.nursery.start_soon(endpoint.post, data, uid, 1, began, math.inf)
        await wait_all_tasks_blocked()

    async def poll(self, more: str = "") -> Client:
        """Ask for events, and read nothing."""
        client = Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        await client.send(get("/v1/events", f"{AUTH}{more}"))
        return client

    @property
    def offered(self) -> list[str]:
        return [one.uid for one in self.events.offered(BOT)]


@pytest.fixture
async def world(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder
) -> AsyncIterator[World]:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    events, place = PulledEvents(), TcpAddress("127.0.0.1", 0)
    events.domains = frozenset({BOT})
    tokens = (token("bot", "receive"),)
    app = make_app(FakeSender(), TokenAuth(tokens), ListenSettings(place, tokens), events=events)
    with bound(place) as listening:
        async with trio.open_nursery() as serving:
            await serving.start(Server(app, 10).run, listening, trio.Event())
            yield World(serving, listening.getsockname()[1], events)
            serving.cancel_scope.cancel()


STREAM: Final = "Accept: text/event-stream\r\n"


@pytest.mark.parametrize("more", ["", STREAM])
async def test_an_event_that_is_not_read_is_offered_again(
    world: World, mock_clock: MockClock, more: str
) -> None:
    for uid in ("u1", "u2"):
        await world.offer(uid)
    client = await world.poll(more)
    await until(lambda: not world.offered)
    await wait_all_tasks_blocked(0.01)
    mock_clock.jump(WRITE_S)
    await until(lambda: world.offered == ["u1", "u2"])
    await client.stream.aclose()


@pytest.mark.parametrize("more", ["", STREAM])
async def test_a_client_that_leaves_while_it_is_written_to_is_no_fault(
    world: World, mock_clock: MockClock, log: Recorder, more: str
) -> None:
    for uid in ("u1", "u2"):
        await world.offer(uid)
    client = await world.poll(more)
    await until(lambda: not world.offered)
    await wait_all_tasks_blocked(0.01)
    await client.stream.aclose()
    await until(lambda: world.offered == ["u1", "u2"])
    await wait_all_tasks_blocked(0.01)
    assert log.told == []


async def test_a_client_that_leaves_before_there_is_an_event_takes_none(
    world: World, mock_clock: MockClock, log: Recorder
) -> None:
    client = await world.poll()
    await wait_all_tasks_blocked(0.01)
    await client.stream.aclose()
    await until(lambda: world.events.idle_pollers(BOT) == 0)
    await world.offer("u1")
    assert world.offered == ["u1"]
    assert log.told == []


async def test_a_client_that_closes_when_it_has_the_response_has_not_left(
    nursery: trio.Nursery,
) -> None:
    """A program that makes a connection for each request closes it at once: the event is its."""
    told: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with trio.open_nursery() as reading:
            reading.start_soon(receive)  # it hears that the client has closed
            await wait_all_tasks_blocked()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}", "more_body": False})
            await client.receive_some()
            await client.aclose()
            await wait_all_tasks_blocked()
            told.append(scope["extensions"][HAS_LEFT]())

    client, stream = map(trio.SocketStream, trio.socket.socketpair())
    protocol = h11.Connection(h11.SERVER)
    protocol.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    protocol.next_event()
    exchange = Exchange(protocol, ClientStream(stream), lambda: True, is_head=False)
    await exchange.run(app, {"type": "http"})
    await stream.aclose()
    assert told == [False]
