"""A browser of a test: the routes to watch by, asked without a network, with cookies and forms."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Final

import httpx
from attrs import define, field
from starlette.applications import Starlette

from bridge.config.token import Scope, Token, digest_of
from bridge.listener.auth import TokenAuth
from bridge.listener.listener import routes
from bridge.listener.middleware import on_problem
from bridge.listener.problem import Problem
from tests.bridge.listener.stage import Stage

HOST: Final = "bridge.example:5280"
SAME_ORIGIN: Final = {"Origin": f"http://{HOST}"}


def token(name: str, *scopes: Scope, components: tuple[str, ...]) -> Token:
    """A token whose secret is its name and `-0123456789abcdef`."""
    digest = digest_of(secret_of(name))
    return Token(name, digest, frozenset(components), frozenset(scopes))


def secret_of(name: str) -> str:
    return f"{name}-0123456789abcdef"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret_of(name)}"}


BOT: Final = "bot.example"
OTHER: Final = "other.example"
TOKENS: Final = (
    token("boss", "watch", "manage", components=(BOT, OTHER)),
    token("guest", "watch", components=(BOT, OTHER)),
    token("half", "watch", "manage", components=(BOT,)),
    token("sender", "send", "manage", components=(BOT, OTHER)),
)


def dead(stage: Stage) -> list[str]:
    """The uids of the dead letters, the oldest first."""
    assert stage.journal is not None
    return [one.entry.uid for one in stage.journal.dead(None, limit=10_000)]


def pending(stage: Stage) -> list[str]:
    """The uids of what is pending, in order."""
    assert stage.journal is not None
    return [one.uid for one in stage.journal.pending(None, limit=10_000)]


@define(eq=False)
class Browser:
    """Follows no redirect by itself."""

    stage: Stage
    access: TokenAuth
    client: httpx.AsyncClient
    app: Starlette

    async def login(self, name: str = "boss") -> None:
        """Log in as a token."""
        response = await self.submit("/login", {"token": secret_of(name)})
        assert (response.status_code, response.headers["location"]) == (303, "./")

    async def page(self, path: str = "/", **headers: str) -> "Page":
        """Give a page; it must be there."""
        response = await self.client.get(path, headers=headers)
        assert response.status_code == 200, response.status_code
        return Page.of(response.text)

    async def submit(
        self,
        path: str,
        fields: Mapping[str, str | list[str]],
        headers: Mapping[str, str] = SAME_ORIGIN,
    ) -> httpx.Response:
        """Send a form."""
        return await self.client.post(path, data=dict(fields), headers=headers)

    async def act(self, **fields: str | list[str]) -> httpx.Response:
        """Send the form of the dead letters, as the page has it."""
        page = await self.page()
        return await self.submit("/letters", {"csrf": page.csrf, **fields})

    async def notice(self) -> str:
        """Load the page, and give what it tells of the last action."""
        return (await self.page()).of_class("notice")


@asynccontextmanager
async def open_browser(stage: Stage, *tokens: Token) -> AsyncIterator[Browser]:
    """Open one, with these tokens."""
    access = TokenAuth(tokens)
    app = Starlette(routes=routes(stage.view, access), exception_handlers={Problem: on_problem})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        yield Browser(stage, access, client, app)


@define(eq=False)
class Page(HTMLParser):
    """A page that was read: its text by the class of the element around it, and its fields."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(factory=list)
    _stack: list[tuple[str, str]] = field(factory=list)
    _texts: list[tuple[tuple[str, ...], str]] = field(factory=list)

    @classmethod
    def of(cls, html: str) -> "Page":
        page = cls(html)
        HTMLParser.__init__(page)
        page.feed(html)
        page.close()
        assert not page._stack, "elements are closed"
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br"):
            self._stack.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._stack.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self._texts.append((tuple(kind for _, kind in self._stack), data))

    @property
    def text(self) -> str:
        return " ".join(data for _, data in self._texts)

    def of_class(self, kind: str) -> str:
        """Give the text of the elements of a class (all its words, in order)."""
        return " ".join(data for kinds, data in self._texts if kind in kinds)

    def values(self, name: str) -> list[str]:
        """Give the values of all fields and buttons of that name."""
        return [one["value"] or "" for _, one in self.tags if one.get("name") == name]

    @property
    def csrf(self) -> str:
        [value] = set(self.values("csrf"))
        return value

    @property
    def addresses(self) -> set[str]:
        """All that the page refers to."""
        keys = ("href", "src", "action", "srcset", "data", "formaction", "poster")
        found = {one[key] or "" for _, one in self.tags for key in keys if key in one}
        return found | set(re.findall(r"url\(([^)]*)\)", self.html))
