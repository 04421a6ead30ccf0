"""The parts around every request: its ID, its line in the log, and the form of a refusal."""

import re
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Final

import trio
from attrs import field, frozen
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from bridge.listener.problem import Problem

REQUEST_ID: Final = "X-Request-Id"
_PREFIXES: Final = frozenset({"v1", "v2", "rest", "api"})  # mod_rest's path is /rest
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9/_.@-]{2,200}")
_LIKE: Final = 0.6
NO_ROUTE: Final = "(none)"
"""The route of a request whose path is not known, in the log and in the metrics."""
CLIENT_LEFT: Final = 499  # as in nginx; nobody reads the response
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@frozen
class RequestLog:
    """ASGI middleware that sets a request's ID, counts it by route and status, and logs it, without
    address, body or secret.
    """

    app: ASGIApp
    log: FilteringBoundLogger
    requests: Counter[tuple[str, int]] = field(factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = trio.current_time()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                line = (REQUEST_ID.lower().encode(), request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), line]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            route = route_of(scope)
            self.requests[route, status or CLIENT_LEFT] += 1
            self.log.debug(
                "http request",
                token=scope["state"].get("token", ""),
                method=scope["method"],
                path=route,
                status=status,
                ms=round(1000 * (trio.current_time() - start), 1),
                request_id=request_id,
            )


def route_of(scope: Scope) -> str:
    """Return the template of the route that took a request, never the path that a client sent."""
    path: str = getattr(scope.get("route"), "path", NO_ROUTE)
    return path.replace(":path}", "}")


def _request_id(scope: Scope) -> str:
    """Return the ID that the client has set if it is valid, otherwise a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID.lower().encode():
            given: str = value.decode("latin-1")
            if _ID.fullmatch(given):
                return given
    return f"req_{secrets.token_hex(12)}"


async def on_problem(_: Request, error: Exception) -> Response:
    """Return the response for a `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Return the response for a refusal by the framework: no such path, or no such method."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail = error.detail
    match error.status_code:
        case 404:
            nearest = nearest_path(request.url.path, paths_of(request.app.routes))
            hint = f"Did you mean {nearest}? " if nearest else ""
            detail = f"There is nothing at this path. {hint}/v1/openapi.json lists the paths."
        case 405:
            detail = f"Use another method: {headers.get('Allow', 'see /v1/openapi.json')}."
    return Problem(error.status_code, detail=detail, headers=headers).response()


def paths_of(routes: Sequence[BaseRoute]) -> list[str]:
    """Return the templates of the paths."""
    paths = dict.fromkeys(str(getattr(route, "path", "")) for route in routes)
    return [path.replace(":path}", "}") for path in paths if path]


def nearest_path(path: str, templates: Iterable[str]) -> str | None:
    """Return the known path that is most like an unknown one, with the parameters of that; None if
    none is alike. A path quotes the client's own words only if they are plain.
    """
    if not _PLAIN_PATH.fullmatch(path):
        return None
    given = [part for part in path.split("/") if part and part not in _PREFIXES]
    best, nearest = _LIKE, None
    for template in templates:
        known = [part for part in template.split("/") if part and part not in _PREFIXES]
        score = _likeness(given, known)
        if score > best:
            filled = [
                given[n] if part.startswith("{") and n < len(given) else part
                for n, part in enumerate(known)
            ]
            first = template.split("/")[1]
            prefix = f"/{first}/" if first in _PREFIXES else "/"
            best, nearest = score, prefix + "/".join(filled)
    return nearest


def _likeness(given: Sequence[str], known: Sequence[str]) -> float:
    """Return from 0 to 1 how much two paths are alike, word by word; a parameter is like any."""
    if not given or not known:
        return 0.0
    ratios = [
        0.75 if two.startswith("{") else SequenceMatcher(None, one.lower(), two).ratio()
        for one, two in zip(given, known, strict=False)
    ]
    if not any(r >= _LIKE for r, two in zip(ratios, known, strict=False) if two[0] != "{"):
        return 0.0
    return sum(ratios) / max(len(given), len(known))


async def on_disconnect(_: Request, __: Exception) -> Response:
    """Return a response that nobody reads."""
    return Response(status_code=CLIENT_LEFT)


async def on_fault(request: Request, _: Exception) -> Response:
    """Return the response for a bug of our own. The server logs the traceback, and closes."""
    detail = f"This is a bug in the bridge; its log says more, near {request.state.request_id}."
    return Problem(500, detail=detail, headers={"Connection": "close"}).response()
