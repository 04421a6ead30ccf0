"""The HTTP listener of a daemon: one socket, one application, and the tokens that are valid now."""

import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Self

import trio
from attrs import field, frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import ListenSettings
from bridge.daemon.listener import DaemonParts
from bridge.dispatch.upload import Uploader
from bridge.listener.api.address import AddressRoutes
from bridge.listener.api.archive import ArchiveRoutes
from bridge.listener.api.command import CommandRoutes, CommandServices
from bridge.listener.api.contact import Announcers, ContactRoutes
from bridge.listener.api.event import EventRoutes
from bridge.listener.api.file import FileRoutes
from bridge.listener.api.handler import SubmissionHandler
from bridge.listener.api.openapi.document import document
from bridge.listener.api.prosody import ProsodyRoutes
from bridge.listener.api.query import QueryRoutes
from bridge.listener.api.remote_command import RemoteCommandRoutes
from bridge.listener.api.reply import ReplyRoutes
from bridge.listener.api.room import RoomRoutes, RoomService
from bridge.listener.api.stanza import StanzaRoutes
from bridge.listener.api.upload import Uploaders, Uploads
from bridge.listener.auth import (
    AT_ONCE,
    BODIES,
    BodyConcurrency,
    PollerLimit,
    TokenAuth,
    TokenConcurrency,
)
from bridge.listener.middleware import (
    RequestLog,
    on_disconnect,
    on_fault,
    on_http_exception,
    on_problem,
)
from bridge.listener.monitor.health import HealthRoutes
from bridge.listener.monitor.metrics import MetricsRoutes
from bridge.listener.monitor.view import DaemonView, JournalProbe, make_view
from bridge.listener.page.page import PageRoutes
from bridge.listener.page.session import Sessions
from bridge.listener.problem import Problem
from bridge.listener.server.binding import bound
from bridge.listener.server.server import Server
from bridge.listener.submission.sender import Sender, open_sender
from bridge.telemetry.log import logger
from bridge.webhook.pull import PulledEvents
from bridge.xmpp.announcer import Announcer
from bridge.xmpp.command.commands import Commands


def routes(view: DaemonView, access: TokenAuth) -> list[BaseRoute]:
    """Return the monitoring routes of a daemon. Call within trio.

    `view.run` must be running while they are served, because the page shows the last hour.
    """
    probe = None if view.query is None else JournalProbe(view.query)
    return [
        *MetricsRoutes(view, access).routes,
        *HealthRoutes(view, probe).routes,
        *PageRoutes(view, Sessions(access)).routes,
    ]


def make_app(
    sender: Sender,
    access: TokenAuth,
    listen: ListenSettings,
    *,
    services: Mapping[str, RoomService] = MappingProxyType({}),
    watching: Sequence[BaseRoute] = (),
    log: FilteringBoundLogger | None = None,
    at_once: int = AT_ONCE,
    bodies: int = BODIES,
    announcers: Announcers = dict,
    commands: CommandServices = dict,
    requests: Counter[tuple[str, int]] | None = None,
    uploaders: Uploaders = dict,
    events: PulledEvents | None = None,
) -> ASGIApp:
    """Return the ASGI application.

    `services` are the components by domain, `watching` the monitoring routes. `at_once` limits the
    concurrent requests of each token, `bodies` those whose body is being read. `announcers` have
    the contacts and profiles, `uploaders` upload files, `events` are what pulled components offer,
    `commands` what people can run. Requests are counted in `requests`, by route and status.
    """
    description = document(getattr(route, "path", "") for route in watching)

    async def describe(_: Request) -> Response:
        return Response(description, media_type="application/json")

    uploads = Uploads(uploaders)
    handler = SubmissionHandler(
        sender,
        access,
        TokenConcurrency(at_once),
        BodyConcurrency(bodies),
        listen.max_body_bytes,
        uploads,
        listen.default_host,
    )
    app = Starlette(
        routes=[
            *StanzaRoutes(handler).routes,
            *QueryRoutes(handler).routes,
            *RemoteCommandRoutes(handler).routes,
            *ArchiveRoutes(handler).routes,
            *AddressRoutes(handler).routes,
            *ContactRoutes(handler, announcers).routes,
            *FileRoutes(handler).routes,
            *CommandRoutes(handler, commands).routes,
            *ProsodyRoutes(handler).routes,
            *RoomRoutes(handler, services).routes,
            *ReplyRoutes(
                sender.replies,
                TokenConcurrency(at_once),
                BodyConcurrency(bodies),
                listen.max_body_bytes,
            ).routes,
            *EventRoutes(handler, events or PulledEvents(), PollerLimit.of(listen)).routes,
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
    return RequestLog(app, log or logger(), Counter() if requests is None else requests)


@frozen
class Listener:
    """A listener with its bound socket, made by `opened`."""

    _listen: ListenSettings
    _listening: socket.socket
    _access: TokenAuth
    _server: Server
    _view: DaemonView
    _events: PulledEvents
    _stopping: trio.Event = field(factory=trio.Event)

    @classmethod
    @contextmanager
    def opened(cls, listen: ListenSettings, parts: DaemonParts) -> Iterator[Self]:
        """Open the listener of a daemon, and close its socket on exit. Call within trio.

        Raises:
            ListenError: if it cannot be opened.
        """
        view = make_view(parts)
        with bound(listen.place) as listening, open_sender(parts) as sender:
            access = TokenAuth(listen.tokens)

            def announcers() -> dict[str, Announcer]:
                return {domain: parts.services[domain].announcer for domain in parts.configured()}

            def uploaders() -> dict[str, Uploader]:
                return {domain: parts.services[domain].uploader for domain in parts.configured()}

            def commands() -> dict[str, Commands]:
                return {domain: parts.services[domain].commands for domain in parts.configured()}

            app = make_app(
                sender,
                access,
                listen,
                services=parts.services,
                watching=routes(view, access),
                announcers=announcers,
                commands=commands,
                requests=view.requests,
                uploaders=uploaders,
                events=parts.events,
            )
            server = Server(app, listen.max_connections)
            yield cls(listen, listening, access, server, view, parts.events)

    @property
    def port(self) -> int | None:
        """The TCP port; None for a Unix socket."""
        name = self._listening.getsockname()
        return name[1] if isinstance(name, tuple) else None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Cancellation closes all connections at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._view.run)
            await nursery.start(self._server.run, self._listening, self._stopping)
            logger().info(
                "listening",
                address=str(self._listen.place),
                tokens=[token.name for token in self._listen.tokens],
            )
            task_status.started()

    def stop(self) -> None:
        """Accept no new connections, but for the answers to events that are leased: those are in
        progress, like other requests, and may still be answered.
        """
        self._events.stop(self._stopping.set)

    def adopt(self, listen: ListenSettings | None) -> None:
        """Replace the tokens by those of `listen`, or by none if it is None.

        All other settings take effect at the next start.
        """
        self._access.replace(() if listen is None else listen.tokens)
