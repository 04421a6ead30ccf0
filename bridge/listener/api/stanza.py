"""`POST /v1/stanzas` sends stanzas; `GET /v1/ping` and its like are short forms for some iqs."""

from collections.abc import Callable
from typing import Any, Final

import trio
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.attachment import FORM, FormReader
from bridge.listener.api.handler import SubmissionHandler, json_response, not_json
from bridge.listener.api.request import media_type, text_of, wait_of
from bridge.listener.problem import Problem
from bridge.payload.body import BLANK, NotJson, ReplyBody, decode_json
from xmppstream import Element, Stanza, make
from xmppstream.names import COMPONENT, DISCO_INFO, DISCO_ITEMS, LANG, PING, VERSION, expanded
from xmppstream.stanza import Kind

JSON: Final = "application/json"
XML: Final = "application/xmpp+xml"
TEXT: Final = "text/plain"
_CHILD_OF_TEXT: Final[dict[Kind, str]] = {"message": "body", "presence": "status"}


@frozen
class StanzaRoutes:
    """The routes of `/v1/stanzas`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/stanzas", self.stanza, methods=["POST"]),
            Route("/v1/stanzas/{kind}/{type}/{to:path}", self.text, methods=["POST"]),
        ]

    async def stanza(self, request: Request) -> Response:
        """Send stanzas: one or several as JSON, one as XML, or one with its files as a form."""
        async with self.handler.authorized(request, "send", "query") as grant:
            media = media_type(request, JSON, XML, FORM)
            if media == FORM:
                content, body = await FormReader(self.handler).read(request, grant)
            else:
                body = await self.handler.body(request, grant)
                content = content_of(media, body)
            batch = await self.handler.batch(grant, content)
            return await self.handler.take(request, grant, batch, body)

    async def text(self, request: Request) -> Response:
        """Send a text body. The kind, type and address are in the path."""
        async with self.handler.authorized(request, "send") as grant:
            media_type(request, TEXT)
            body = await self.handler.body(request, grant)
            kind, type, to = (request.path_params[name] for name in ("kind", "type", "to"))
            content = of_text(kind, type, to, text_of(body))
            stanza = await self.handler.stanza(grant, content, request.query_params.get("from"))
            return await self.handler.take(request, grant, stanza, body)


def content_of(media: str, body: bytes) -> ReplyBody:
    """Return a body in the form that its media type names.

    Raises:
        Problem: 400 if it is empty.
    """
    if not body.strip(BLANK):
        raise Problem(400, detail="The body is empty.")
    if media == XML:
        return ReplyBody("xml", body)
    return ReplyBody("json", body)


def decoded(body: bytes) -> object:
    """Return a body decoded from JSON. Raises `Problem` 400 if it is not valid JSON."""
    try:
        return decode_json(body, as_spelled=False)
    except NotJson as error:
        raise not_json(error) from None


def of_text(kind: str, type: str, to: str, text: str) -> Stanza:
    """Return a stanza with a text: the body of a message, or the status of a presence.

    Raises:
        Problem: 404 if there is no such kind; 422 if the stanza cannot be made of text.
    """
    match kind:
        case "message" if not text:
            raise Problem(422, detail="The message has no text.")
        case "message" | "presence":
            local = _CHILD_OF_TEXT[kind]
            children = [Element(expanded(COMPONENT, local), (), (text,))] if text else []
            name = None if (kind, type) == ("presence", "available") else type
            return make(kind, to, None, type=name, children=tuple(children))
        case "iq":
            raise Problem(422, detail=f"An iq needs a payload: POST it to /v1/stanzas as {XML}.")
        case _:
            raise Problem(404, detail="The kind must be message, presence or iq.")


_PAYLOAD: Final = {
    "ping": expanded(PING, "ping"),
    "version": expanded(VERSION, "query"),
    "disco": expanded(DISCO_INFO, "query"),
    "items": expanded(DISCO_ITEMS, "query"),
}
"""The payload of each query. The names are those of mod_rest."""


QUERIES: Final = tuple(_PAYLOAD)
_WITH_NODE: Final = ("disco", "items")


def question(name: str, to: str, from_: str | None = None, node: str | None = None) -> Stanza:
    """Return the iq that asks for `name`, one of `QUERIES`. `node` is for disco and items."""
    attributes = (("node", node),) if node and name in _WITH_NODE else ()
    return make("iq", to, from_, type="get", children=(Element(_PAYLOAD[name], attributes),))


def readable(name: str, answer: Stanza) -> dict[str, Any]:
    """Return the content of a result, without absent fields."""
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
    """The routes of the short forms, one for each of `QUERIES`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [self._route(name) for name in QUERIES]

    def _route(self, name: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self._ask(request, name)

        return Route(f"/v1/{name}/{{jid:path}}", endpoint, methods=["GET"], name=name)

    async def _ask(self, request: Request, name: str) -> Response:
        jid = request.path_params["jid"]
        async with self.handler.authorized(request, "query") as grant:
            content = question(name, jid, node=request.query_params.get("node"))
            stanza = await self.handler.stanza(grant, content, request.query_params.get("from"))
            wait_s, preferred = wait_of(request)
            start = trio.current_time()
            answer = await self.handler.ask(request, stanza, wait_s)
            seconds = round(trio.current_time() - start, 6)
        headers = {"Preference-Applied": f"wait={wait_s}"} if preferred else {}
        return json_response(
            {"jid": jid, "seconds": seconds, **readable(name, answer)}, 200, headers
        )
