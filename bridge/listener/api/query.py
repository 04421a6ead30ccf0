"""`GET /v1/ping` and its like: short forms for the iqs that ask other entities for something."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio
from attrs import frozen
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import SubmissionHandler, json_response
from bridge.listener.api.request import wait_of
from bridge.listener.problem import Problem
from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import Asked, element
from bridge.payload.extension.file import read_upload_slot, write_upload_request
from bridge.payload.extension.query import read_entity_time, read_lastactivity
from bridge.payload.extension.vcard import read_vcard
from bridge.payload.shape import LastActivity, UploadRequest
from xmppstream import Element, Stanza, make
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, LANG, PING, VERSION, expanded

_PAYLOAD: Final = {
    "ping": expanded(PING, "ping"),
    "version": expanded(VERSION, "query"),
    "disco": expanded(DISCO_INFO, "query"),
    "items": expanded(DISCO_ITEMS, "query"),
    "vcard": expanded(ns.VCARD, "vCard"),
    "last": expanded(ns.LAST, "query"),
    "time": expanded(ns.TIME, "time"),
    "upload_request": expanded(ns.UPLOAD, "slot"),
}
"""The payload of each answer; but for an upload, it is that of the question as well."""
QUERIES: Final = tuple(_PAYLOAD)
PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "disco": ("node",),
    "items": ("node",),
    "upload_request": ("filename", "size", "content-type"),
}
"""The parameters of those queries that have any besides `from`."""


def question(
    name: str, to: str, from_: str | None = None, parameters: QueryParams | None = None
) -> Stanza:
    """Return the iq that asks for `name`, one of `QUERIES`.

    Raises:
        Problem: 422 if a parameter is missing or not valid.
    """
    given = {
        key: parameters[key]
        for key in PARAMETERS.get(name, ())
        if parameters is not None and parameters.get(key)
    }
    is_upload = name == "upload_request"
    payload = _upload_request(given) if is_upload else element(_PAYLOAD[name], given)
    return make("iq", to, from_, type="get", children=(payload,))


def _upload_request(given: dict[str, str]) -> Element:
    size = given.get("size", "")
    if re.fullmatch("[0-9]{1,18}", size) is None:
        raise Problem(422, detail="size: not the number of bytes of the file.")
    file = UploadRequest(given.get("filename", ""), int(size), given.get("content-type"))
    try:
        return write_upload_request(file, Asked(make("iq", None, None), "iq", None))[0]
    except UnusableReply as error:
        raise Problem(422, detail=str(error)) from None


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


def _last(query: Element) -> dict[str, Any]:
    """The seconds have another name here: `seconds` is how long the question took."""
    last = read_lastactivity([query], _NOTHING)
    if not isinstance(last, LastActivity):
        return {}
    return {"idle_seconds": last.seconds, "status": last.status}


def _object(value: Any) -> dict[str, Any]:
    """Return the keys of an object; none if it is something else, such as an empty vCard."""
    keys = msgspec.to_builtins(value)
    return keys if isinstance(keys, dict) else {}


_NOTHING: Final = make("iq", None, None)
_READ: Final[dict[str, Callable[[Element], dict[str, Any]]]] = {
    "ping": lambda _: {},
    "version": _version,
    "disco": _disco,
    "items": _items,
    "vcard": lambda vcard: _object(read_vcard([vcard], _NOTHING)),
    "last": _last,
    "time": lambda time: _object(read_entity_time([time], _NOTHING)),
    "upload_request": lambda slot: _object(read_upload_slot([slot], _NOTHING)),
}


@frozen
class Asking:
    """A question of a client to another entity, from its address to its answer."""

    handler: SubmissionHandler
    request: Request

    async def ask(self, stanza: Stanza) -> tuple[Stanza, dict[str, Any], dict[str, str]]:
        """Return the answer, the keys that are in every response, and its headers.

        Raises:
            Problem: if the answer is an error, or none comes in time.
        """
        wait_s, preferred = wait_of(self.request)
        start = trio.current_time()
        answer = await self.handler.ask(self.request, stanza, wait_s)
        seconds = round(trio.current_time() - start, 6)
        headers = {"Preference-Applied": f"wait={wait_s}"} if preferred else {}
        return answer, {"jid": stanza.to, "seconds": seconds}, headers


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
        jid, parameters = request.path_params["jid"], request.query_params
        async with self.handler.authorized(request, "query") as grant:
            content = question(name, jid, parameters=parameters)
            stanza = await self.handler.stanza(grant, content, parameters.get("from"))
            answer, head, headers = await Asking(self.handler, request).ask(stanza)
        return json_response({**head, **readable(name, answer)}, 200, headers)
