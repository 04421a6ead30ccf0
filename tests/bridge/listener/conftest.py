"""The application with a fake sender, asked without a network."""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest
from attrs import define, frozen
from starlette.types import ASGIApp, Message, Receive

from bridge.config.settings import Count, ListenSettings, TcpAddress
from bridge.config.token import SCOPES, Scope, Token, digest_of
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import make_app
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.room.rooms import Rooms
from tests.bridge.listener.fake_sender import BOT, OTHER, FakeSender
from tests.bridge.recorder import Recorder

MAX_BODY_BYTES: Final = 10_000
AT_ONCE: Final = 3
SECRET: Final = "all-0123456789abcdef"


def token(
    name: str, *scopes: Scope, components: tuple[str, ...] = (BOT,), local_parts: Any = None
) -> Token:
    """A token whose secret is its name and `-0123456789abcdef`."""
    locals_ = None if local_parts is None else frozenset(local_parts)
    secret = f"{name}-0123456789abcdef"
    return Token(name, digest_of(secret), frozenset(components), frozenset(scopes), locals_)


TOKENS: Final = (
    token("all", *SCOPES, components=(BOT, OTHER)),
    token("one", "send", "query"),
    token("echo", "send", "query", local_parts=("echo",)),
    token("two", "send", "query", local_parts=("echo", "alert")),
    token("other", "send", "query", components=(OTHER,)),
    token("sender", "send"),
    token("asker", "query"),
    token("watcher", "watch"),
    token("keeper", "rooms", local_parts=("echo",)),
)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}-0123456789abcdef"}


def basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


@define
class FakeService:
    """A component that has nothing but rooms."""

    rooms: Rooms
    is_open: bool = True
    local_parts: frozenset[str] | None = None

    def exists(self, address: str) -> bool:
        return self.local_parts is None or address.partition("@")[0] in self.local_parts


@frozen
class World:
    """The application, and what is around it."""

    sender: FakeSender
    access: TokenAuth
    log: Recorder
    app: ASGIApp
    client: httpx.AsyncClient
    services: dict[str, FakeService]

    async def post(
        self, path: str, content: bytes | str = b"", media: str | None = None, **headers: str
    ) -> httpx.Response:
        """POST with the token `all`, unless `Authorization` is given."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if media is not None:
            given["Content-Type"] = media
        return await self.client.post(path, content=content, headers={**bearer("all"), **given})

    async def call(self, path: str, receive: Receive, media: str) -> int:
        """POST with events of the test's own, and give the status."""
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        headers = {**bearer("all"), "Content-Type": media}
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
        await self.app(scope, receive, send)
        return status

    async def get(self, path: str, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(path, headers={**bearer("all"), **given})


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@pytest.fixture
async def world(log: Recorder) -> AsyncIterator[World]:
    sender, access = FakeSender(), TokenAuth(TOKENS)
    listen = ListenSettings(
        TcpAddress("127.0.0.1", 0), TOKENS, "example.org", Count(MAX_BODY_BYTES)
    )
    services = {
        domain: FakeService(Rooms(domain, MucOccupancy(), log.logger())) for domain in (BOT, OTHER)
    }
    app = make_app(sender, access, listen, services=services, at_once=AT_ONCE)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://listener") as client:
        yield World(sender, access, log, app, client, services)
