"""What each route answers while its component does not run: it starts, is restarted or removed by
another configuration, was refused, or is not configured at all.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock

from bridge.config.settings import (
    Component,
    JournalSettings,
    ListenSettings,
    Settings,
    StreamSettings,
    TcpAddress,
)
from bridge.config.value import Secret
from bridge.daemon.daemon import Daemon
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import Storage, open_storage
from bridge.journal.store import JournalError
from bridge.listener.api.handler import RETRY_AFTER_S
from bridge.listener.api.prosody import FORM
from bridge.listener.api.query import QUERIES
from bridge.listener.api.stanza import JSON, TEXT, XML
from bridge.listener.listener import Listener
from tests.bridge.daemon.test_daemon import DOMAIN, OTHER, Running, World, message
from tests.bridge.daemon.test_supervisor import Gate
from tests.bridge.http_server import HttpServer
from tests.bridge.leak import nothing_left, until
from tests.bridge.listener.conftest import bearer, token
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import StreamCondition

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)
JULIET: Final = "juliet@capulet.example"
NOWHERE: Final = "nowhere.example"
TOKENS: Final = (
    token("one", "send", "query", components=(DOMAIN,)),
    token("nowhere", "send", "query", components=(NOWHERE,)),
)
OFF: Final = JournalSettings(durability="off")
PING: Final = f"<iq type='get' to='{JULIET}'><ping xmlns='urn:xmpp:ping'/></iq>"

Call = tuple[str, str, str, str]
SENDS: Final[dict[str, Call]] = {
    "JSON": ("POST", "/v1/stanzas", json.dumps({"to": JULIET, "body": "hi"}), JSON),
    "XML in JSON": (
        "POST",
        "/v1/stanzas",
        json.dumps({"stanza": f"<message to='{JULIET}'><body>hi</body></message>"}),
        JSON,
    ),
    "XML": ("POST", "/v1/stanzas", f"<presence to='{JULIET}'/>", XML),
    "text": ("POST", f"/v1/stanzas/message/chat/{JULIET}", "hi", TEXT),
    "mod_rest": ("POST", "/rest", json.dumps({"to": JULIET, "body": "hi"}), JSON),
    "mod_rest in the path": ("POST", f"/rest/message/chat/{JULIET}", "hi", TEXT),
    "mod_post_msg": ("POST", f"/msg/{JULIET}", "body=hi", FORM),
}
ASKS: Final[dict[str, Call]] = {
    "iq in XML": ("POST", "/v1/stanzas", PING, XML),
    "iq in JSON": ("POST", "/v1/stanzas", json.dumps({"stanza": PING}), JSON),
    "mod_rest's ping": ("POST", "/rest", json.dumps({"to": JULIET, "ping": True}), JSON),
    **{name: ("GET", f"/v1/{name}/{JULIET}?filename=a&size=1", "", "") for name in QUERIES},
}


@define
class Scene:
    """A daemon that reads `settings` on a reload; its endpoint answers when the gate is opened."""

    world: World
    directory: Path
    gate: Gate = field(factory=Gate)
    settings: Settings = field(factory=lambda: Settings(()))
    endpoint: HttpServer | None = None
    storage: Storage | None = None
    port: int = 0
    name: str = "one"
    """The token of the requests."""

    def component(self, domain: str = DOMAIN, **options: Any) -> Component:
        assert self.endpoint is not None
        server = self.world.server
        return Component(domain, Secret(SECRET), self.endpoint.url(), server.address, **options)

    @asynccontextmanager
    async def daemon(self, *domains: str, **options: Any) -> AsyncIterator[Daemon]:
        """Run a daemon, with a journal unless `journal` says otherwise."""
        self.endpoint = await self.world.endpoint(self.gate)
        listen = ListenSettings(TcpAddress("127.0.0.1", 0), TOKENS)
        components = tuple(self.component(one) for one in domains or (DOMAIN,))
        self.settings = Settings(components, listen=listen, **options)
        with ExitStack() as resources:
            if self.settings.journal.durability != "off":
                opened = open_storage(StateDirectory(self.directory), self.settings.journal)
                self.storage = resources.enter_context(opened)
            daemon = Daemon(
                self.settings,
                self.storage,
                read=lambda: self.settings,
                open_listener=Listener.opened,
            )
            running = Running(daemon)
            self.world.nursery.start_soon(running.run, daemon.run)
            await self.world.log.wait("listening")
            assert isinstance(daemon._listener, Listener)
            assert daemon._listener.port is not None
            self.port = daemon._listener.port
            yield daemon
            self.gate.opened.set()
            daemon.stop()
            await self.world.pass_until(running.done.is_set)

    async def busy(self) -> Session:
        """Start a POST that lasts until the gate opens, so that a drain lasts as long."""
        session = await self.world.server.attached(DOMAIN)
        await session.send(message("m1"))
        assert self.endpoint is not None
        endpoint = self.endpoint
        await until(lambda: len(endpoint.requests) == 1)
        return session

    async def reload(self, daemon: Daemon, *components: Component) -> None:
        """Reload, and wait until the component drains."""
        self.settings = evolve(self.settings, components=components)
        daemon.reload()
        await self.world.log.wait("draining")

    async def call(self, call: Call, key: str | None = None) -> httpx.Response:
        method, path, content, media = call
        headers = bearer(self.name)
        if media:
            headers["Content-Type"] = media
        if key is not None:
            headers["Idempotency-Key"] = key
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
            return await client.request(method, path, content=content, headers=headers)

    def fail_recovery(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Keep components from starting; return the event that lets them."""
        assert self.storage is not None
        storage, totals = self.storage, self.storage.totals

        async def fail() -> Any:
            raise JournalError("the disk is full")

        monkeypatch.setattr(storage, "totals", fail)
        return lambda: monkeypatch.setattr(storage, "totals", totals)


@pytest.fixture
async def scene(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder, tmp_path: Path
) -> Scene:
    assert trio.lowlevel.current_clock() is mock_clock, "the test has to take mock_clock itself"
    world = World(nursery, mock_clock, log, await XmppServer.start(nursery))
    return Scene(world, tmp_path / "state")


async def starting(scene: Scene, daemon: Daemon) -> None:
    """The first start, and the journal cannot be read."""
    await scene.world.log.wait("cannot read what is kept from before")


async def restarted(scene: Scene, daemon: Daemon) -> None:
    await scene.busy()
    await scene.reload(daemon, scene.component(order="none"))


async def being_removed(scene: Scene, daemon: Daemon) -> None:
    await scene.busy()
    await scene.reload(daemon, scene.component(OTHER))


async def removed(scene: Scene, daemon: Daemon) -> None:
    await being_removed(scene, daemon)
    scene.gate.opened.set()
    await scene.world.log.wait("configuration read again")


async def refused(scene: Scene, daemon: Daemon) -> None:
    await scene.world.log.wait("the server refuses this component")
    await daemon.services[DOMAIN].ended.wait()


async def unknown(scene: Scene, daemon: Daemon) -> None:
    scene.name = "nowhere"


Reach = Callable[[Scene, Daemon], Awaitable[None]]
LEAVING: Final = StreamSettings(exit_on_refusal=True)
STATES: Final[dict[str, tuple[Reach, dict[str, Any], int | None, int]]] = {
    "starts": (starting, {}, 503, 503),
    "is restarted": (restarted, {}, None, 503),
    "is restarted without a journal": (restarted, {"journal": OFF}, 503, 503),
    "is being removed": (being_removed, {}, 404, 404),
    "is being removed without a journal": (being_removed, {"journal": OFF}, 404, 404),
    "was removed": (removed, {}, 404, 404),
    "was refused": (refused, {"stream": LEAVING}, 503, 503),
    "is not configured": (unknown, {}, 404, 404),
}
"""How a component comes to a state, the settings, and the status of sends (None: they are accepted)
and of questions.
"""


@pytest.mark.parametrize("state", STATES)
async def test_a_component_that_does_not_run(
    scene: Scene, mock_clock: MockClock, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach, settings, of_sends, of_asks = STATES[state]
    if reach is refused:
        scene.world.server.refusals[DOMAIN] = StreamCondition.NOT_AUTHORIZED
    if reach is starting:
        monkeypatch.setattr(Storage, "recover", _fail)
    domain = NOWHERE if reach is unknown else DOMAIN
    both = (DOMAIN, OTHER) if reach is refused else (DOMAIN,)
    async with scene.daemon(*both, **settings) as daemon:
        await reach(scene, daemon)
        for kind, calls, expected in (("send", SENDS, of_sends), ("ask", ASKS, of_asks)):
            for name, call in calls.items():
                for key in (None, f"{kind} {name}") if call[0] == "POST" else (None,):
                    response = await scene.call(call, key)
                    about = (state, name, key, response.text)
                    if expected is None:
                        assert response.is_success, about
                        continue
                    assert response.status_code == expected, about
                    assert domain in response.json()["detail"], about
                    wait_s = str(RETRY_AFTER_S) if expected == 503 else None
                    assert response.headers.get("retry-after") == wait_s, about


async def _fail(*_: object) -> Any:
    raise JournalError("the disk is full")


@pytest.mark.parametrize("attached", [True, False])
async def test_a_send_while_it_is_restarted_goes_out_once(
    scene: Scene, mock_clock: MockClock, attached: bool
) -> None:
    """The old component accepts it, and sends it if it is attached; otherwise the new one does."""
    async with scene.daemon() as daemon:
        before = await scene.busy()
        if not attached:
            await before.hang_up()
        await scene.reload(daemon, scene.component(order="none"))
        calls = list(SENDS.items())
        given = [await scene.call(call, name) for name, call in calls]
        again = [await scene.call(call, name) for name, call in calls]
        scene.gate.opened.set()
        await scene.world.pass_until(lambda: bool(scene.world.log.of("configuration read again")))
        later = [await scene.call(call, name) for name, call in calls]
        expected = [one.json() for one in given]
        assert [one.json() for one in again] == [one.json() for one in later] == expected
        assert len({one["uid"] for one in expected}) == len(SENDS)
        after = scene.world.server.sessions[-1]
        assert after is not before
        by, others = (before, after) if attached else (after, before)
        got = [str(one.id) for one in await by.receive(len(SENDS) + 1)]
        sent = [one for one in got if one.startswith("msg_")]
        assert sent == [one["id"] for one in expected], "in the order of acceptance"
        assert others.stanzas == []


@pytest.mark.parametrize("journal", ["on", "off"])
async def test_a_key_while_a_component_does_not_run(
    scene: Scene, mock_clock: MockClock, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is answered alike, and what is refused has not used its key up."""
    done = {name: SENDS[name] for name in ("JSON", "XML in JSON", "XML", "text")}
    other = SENDS["mod_rest"]
    async with scene.daemon(**({"journal": OFF} if journal == "off" else {})) as daemon:
        await scene.busy()
        first = {name: (await scene.call(call, name)).json() for name, call in done.items()}
        assert all(one["uid"] for one in first.values())
        permit = None if journal == "off" else scene.fail_recovery(monkeypatch)
        await scene.reload(daemon, scene.component(order="none"))
        if journal == "on":
            scene.gate.opened.set()
            await scene.world.log.wait("cannot read what is kept from before")
        again = {name: (await scene.call(call, name)).json() for name, call in done.items()}
        assert again == first
        assert (await scene.call(other, "new")).status_code == 503
        if permit is not None:
            permit()
        scene.gate.opened.set()
        await scene.world.pass_until(lambda: bool(daemon.services[DOMAIN].is_open))
        assert (await scene.call(other, "new")).status_code == 202
