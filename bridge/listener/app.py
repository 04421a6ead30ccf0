"""The application: all routes, and what surrounds them."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import Listen
from bridge.listener.api import openapi
from bridge.listener.api.handler import Intake
from bridge.listener.api.prosody import AliasRoutes
from bridge.listener.api.query import QueryRoutes
from bridge.listener.api.stanza import StanzaRoutes
from bridge.listener.auth import Access
from bridge.listener.counter import AT_ONCE, Counter
from bridge.listener.middleware import Visit, on_disconnect, on_fault, on_http_exception, on_problem
from bridge.listener.problem import Problem
from bridge.listener.submission.sender import Sender
from bridge.telemetry.log import logger


def make_app(
    sender: Sender,
    access: Access,
    listen: Listen,
    *,
    watching: Sequence[BaseRoute] = (),
    log: FilteringBoundLogger | None = None,
    at_once: int = AT_ONCE,
) -> ASGIApp:
    """Make the ASGI application; `watching` are routes beside those of sending, and `at_once` is
    how many requests a token may have at work.
    """
    document = openapi.document(getattr(route, "path", "") for route in watching)

    async def describe(_: Request) -> Response:
        return Response(document, media_type="application/json")

    intake = Intake(sender, access, Counter(at_once), listen.max_body_bytes, listen.default_host)
    app = Starlette(
        routes=[
            *StanzaRoutes(intake).routes,
            *QueryRoutes(intake).routes,
            *AliasRoutes(intake).routes,
            Route("/v1/openapi.json", describe, methods=["GET"]),
            *watching,
        ],
        exception_handlers={
            Problem: on_problem,
            HTTPException: on_http_exception,
            ClientDisconnect: on_disconnect,
            Exception: on_fault,
        },
    )
    app.router.redirect_slashes = False
    return Visit(app, log or logger())
