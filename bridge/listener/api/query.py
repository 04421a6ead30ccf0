"""`GET /v1/ping|version|disco|items/{jid}`: short forms of the four iqs that everyone asks."""

from collections.abc import Callable
from typing import Any, Final

import trio
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import Intake, json_response
from bridge.listener.api.preference import wait_of
from bridge.listener.api.stanza import written
from xmppstream import Element, Stanza, make
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, LANG, PING, VERSION, expanded

_PAYLOAD: Final = {
    "ping": expanded(PING, "ping"),
    "version": expanded(VERSION, "query"),
    "disco": expanded(DISCO_INFO, "query"),
    "items": expanded(DISCO_ITEMS, "query"),
}
"""What is asked; the names are those of mod_rest."""

QUERIES: Final = tuple(_PAYLOAD)
_WITH_NODE: Final = ("disco", "items")


def question(name: str, to: str, from_: str | None = None, node: str | None = None) -> Stanza:
    """Make the iq that asks for `name`, one of `QUERIES`; `node` is for disco and items."""
    attributes = (("node", node),) if node and name in _WITH_NODE else ()
    return make("iq", to, from_, type="get", children=(Element(_PAYLOAD[name], attributes),))


def readable(name: str, answer: Stanza) -> dict[str, Any]:
    """Give what a result says, without what is absent."""
    payload = answer.payload
    if payload is None or payload.name != _PAYLOAD[name]:
        return {}
    return {key: value for key, value in _READ[name](payload).items() if value is not None}


def _version(query: Element) -> dict[str, Any]:
    children = {child.local: child.text for child in query.elements}
    return {key: children.get(key) for key in ("name", "version", "os")}


def _disco(query: Element) -> dict[str, Any]:
    identities = [
        _attributes(child, "category", "type", "name", LANG)
        for child in query.find_all(expanded(DISCO_INFO, "identity"))
    ]
    features = [child.get("var") for child in query.find_all(expanded(DISCO_INFO, "feature"))]
    return {
        "node": query.get("node"),
        "identities": identities,
        "features": [feature for feature in features if feature is not None],
    }


def _items(query: Element) -> dict[str, Any]:
    items = query.find_all(expanded(DISCO_ITEMS, "item"))
    return {
        "node": query.get("node"),
        "items": [_attributes(item, "jid", "node", "name") for item in items],
    }


def _attributes(element: Element, *names: str) -> dict[str, str]:
    pairs = ((name, element.get(name)) for name in names)
    return {"lang" if name == LANG else name: value for name, value in pairs if value is not None}


_READ: Final[dict[str, Callable[[Element], dict[str, Any]]]] = {
    "ping": lambda _: {},
    "version": _version,
    "disco": _disco,
    "items": _items,
}


@frozen
class QueryRoutes:
    """The routes of the short forms."""

    intake: Intake

    @property
    def routes(self) -> list[Route]:
        return [self._route(name) for name in QUERIES]

    def _route(self, name: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self._ask(request, name)

        return Route(f"/v1/{name}/{{jid:path}}", endpoint, methods=["GET"], name=name)

    async def _ask(self, request: Request, name: str) -> Response:
        jid = request.path_params["jid"]
        async with self.intake.admitted(request, "query") as grant:
            content = written(question(name, jid, node=request.query_params.get("node")))
            stanza = await self.intake.stanza(grant, content, request.query_params.get("from"))
            wait_s, preferred = wait_of(request)
            start = trio.current_time()
            answer = await self.intake.ask(request, stanza, wait_s)
            seconds = round(trio.current_time() - start, 6)
        headers = {"Preference-Applied": f"wait={wait_s}"} if preferred else {}
        return json_response(
            {"jid": jid, "seconds": seconds, **readable(name, answer)}, 200, headers
        )
