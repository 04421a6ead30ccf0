"""The listener in a daemon: from when to when it is there, and what another configuration does."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from bridge.config.settings import (
    Count,
    ListenSettings,
    Seconds,
    Settings,
    TcpAddress,
    UnixAddress,
)
from bridge.config.token import Token, digest_of
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.listener.listener import Listener
from bridge.listener.server.binding import bound
from tests.bridge.daemon.test_daemon import DOMAIN, Running, World, echo, message
from tests.bridge.http_server import Exchange, response
from tests.bridge.leak import nothing_left
from tests.bridge.listener.conftest import bearer, token
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import XmppServer

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
TOKENS = (token("one", "send", "query", components=(DOMAIN,)),)
LISTEN = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS)
JULIET = "juliet@capulet.example"


@pytest.fixture
async def scene(nursery: trio.Nursery, mock_clock: MockClock, log: Recorder) -> World:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    return World(nursery, mock_clock, log, await XmppServer.start(nursery))


def port_of(running: Running) -> int:
    listener = running.daemon._listener
    assert isinstance(listener, Listener)
    assert listener.port is not None
    return listener.port


async def post(port: int, name: str = "one") -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        return await client.post(
            "/v1/stanzas",
            content=json.dumps({"to": JULIET, "body": "hi", "id": "m"}),
            headers={**bearer(name), "Content-Type": "application/json"},
        )


async def test_a_daemon_with_a_listener(scene: World, mock_clock: MockClock) -> None:
    endpoint = await scene.endpoint(echo)
    running = scene.start(scene.component(endpoint.url()), listen=LISTEN)
    session = await scene.server.attached(DOMAIN)
    port = port_of(running)
    response = await post(port)
    assert response.status_code == 202
    (got,) = await session.receive(1)
    assert (got.to, got.from_, got.id) == (JULIET, DOMAIN, "m")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200
        described = (await client.get("/v1/openapi.json")).json()["paths"]
        assert {"/metrics", "/healthz", "/readyz", "/v1/stanzas"} <= set(described)
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK
    with pytest.raises(OSError, match="all attempts"):
        await trio.open_tcp_stream("127.0.0.1", port)
    assert scene.log.of("listening")[0]["tokens"] == ["one"]


async def test_it_is_there_before_a_component_is_attached(
    scene: World, mock_clock: MockClock
) -> None:
    component = scene.component((await scene.endpoint(echo)).url())
    nowhere = evolve(component, server=evolve(component.server, port=9))
    running = scene.start(nowhere, listen=LISTEN)
    await scene.log.wait("listening")
    assert (await post(port_of(running))).status_code == 202
    running.daemon.stop()
    await scene.pass_until(running.done.is_set)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_an_address_in_use(
    scene: World, mock_clock: MockClock, kind: str, tmp_path: Path
) -> None:
    place: Any = LISTEN.place if kind == "tcp" else UnixAddress(str(tmp_path / "http.sock"))
    endpoint = await scene.endpoint(echo)
    with bound(place) as listening:
        if kind == "tcp":
            place = TcpAddress("127.0.0.1", listening.getsockname()[1])
        running = scene.start(scene.component(endpoint.url()), listen=evolve(LISTEN, place=place))
        assert await running.wait() is ExitCode.OTHER
    (line,) = scene.log.of("cannot listen")
    assert line["why"].startswith(f"listen.address: cannot listen at {place}: ")
    assert not scene.log.of("starting")


async def test_tokens_of_another_configuration(scene: World, mock_clock: MockClock) -> None:
    component = scene.component((await scene.endpoint(echo)).url())
    settings = Settings((component,), listen=LISTEN)
    new = Token("new", digest_of("new-0123456789abcdef"), frozenset({DOMAIN}), frozenset({"send"}))
    next_ones = [
        evolve(settings, listen=evolve(LISTEN, tokens=(new,))),
        evolve(settings, listen=evolve(LISTEN, max_connections=Count(9))),
        evolve(settings, listen=None),
    ]
    running = Running(
        Daemon(settings, read=lambda: next_ones.pop(0), open_listener=Listener.opened)
    )
    scene.nursery.start_soon(running.run, running.daemon.run)
    await scene.log.wait("attached")
    port = port_of(running)
    assert [(await post(port, name)).status_code for name in ("one", "new")] == [202, 401]
    running.daemon.reload()
    await scene.log.wait("configuration read again")
    assert [(await post(port, name)).status_code for name in ("one", "new")] == [401, 202]
    event = "this change takes effect at the next start"
    assert not scene.log.of(event)
    for count in (1, 2):
        running.daemon.reload()
        assert (await scene.log.wait(event, count))["table"] == "listen"
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK


async def test_replies_later_through_a_daemon(scene: World, mock_clock: MockClock) -> None:
    """The URL leads to this listener, also after a reload that names another one and makes the
    component anew: that takes effect at the next start.
    """

    async def promise(exchange: Exchange) -> None:
        await exchange.send(response("202 Accepted", b'{"deferred": true}'))

    endpoint = await scene.endpoint(promise)
    component = scene.component(endpoint.url())
    listen = evolve(LISTEN, public_url="https://example.com/bridge")
    settings = Settings((component,), listen=listen)
    next_ = Settings(
        (evolve(component, order="none"),),
        listen=evolve(LISTEN, public_url="https://example.org", reply_ttl_s=Seconds(10)),
    )
    running = Running(Daemon(settings, read=lambda: next_, open_listener=Listener.opened))
    scene.nursery.start_soon(running.run, running.daemon.run)
    session = await scene.server.attached(DOMAIN)
    await session.send(message("m1"))
    await scene.log.wait("posted")
    running.daemon.reload()
    await scene.log.wait("configuration read again")
    await session.gone.wait()
    session = await scene.server.attached(DOMAIN, 2)
    await session.send(message("m2"))
    await scene.log.wait("posted", 2)
    for number, request in enumerate(endpoint.requests):
        base, _, path = request.json["reply_url"].partition("/v1/")
        assert base == "https://example.com/bridge"
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{port_of(running)}/v1/{path}"
            answer = await client.post(url, json={"body": f"later {number}"})
        assert answer.status_code == 202
        got = (await session.receive(number + 1))[-1]
        assert (got.id, got.to) == (answer.json()["id"], message("m1").from_)
    running.daemon.stop()
    assert await running.wait() is ExitCode.OK
