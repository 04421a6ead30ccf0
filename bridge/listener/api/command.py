"""`/v1/commands`: the commands that people can run; list them, set one, forget one.

Commands belong to all addresses of a component, so a token for some of them may only read (scope
`query`); to change needs `send`, as for profiles. Those of the configuration are read only here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.config.command import CommandSettings
from bridge.listener.api.handler import RETRY_AFTER_S, SubmissionHandler, json_response
from bridge.listener.api.request import media_type
from bridge.listener.api.stanza import JSON, decoded
from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.command.registry import BadCommand, TooManyCommands, command_of
from bridge.xmpp.state import StateTooLarge
from xmppstream import InvalidJid, split
from xmppstream.jid import same_domain

CommandServices = Callable[[], Mapping[str, Commands]]
"""Returns the commands of all configured components, by domain."""


@frozen
class CommandRoutes:
    """The routes of `/v1/commands`."""

    handler: SubmissionHandler
    services: CommandServices

    @property
    def routes(self) -> list[Route]:
        one = "/v1/commands/{node}"
        return [
            Route("/v1/commands", self.list, methods=["GET"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.put, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """List the commands."""
        async with self.handler.authorized(request, "query") as grant:
            found = [
                _shown(domain, commands, one)
                for domain, commands in self._wanted(request, grant)
                for one in commands.registry.all()
            ]
            return json_response({"commands": found})

    async def show(self, request: Request) -> Response:
        """Show one command."""
        async with self.handler.authorized(request, "query") as grant:
            domain, commands = self._only(request, grant)
            return json_response(_shown(domain, commands, _get(request, commands)))

    async def put(self, request: Request) -> Response:
        """Set a command, or change one that was set."""
        async with self.handler.authorized(request, "send") as grant:
            media_type(request, JSON)
            body = await self.handler.body(request, grant)
            domain, commands = self._to_change(request, grant)
            node = request.path_params["node"]
            _refuse_configured(commands, commands.registry.get(node))
            try:
                command = command_of(decoded(body), node)
                is_new = commands.put(command)
            except (BadCommand, StateTooLarge) as error:
                raise Problem(422, detail=str(error)) from None
            except TooManyCommands as error:
                raise Problem(409, detail=f"{error}.") from None
            await commands.kept()
            return json_response(_shown(domain, commands, command), 201 if is_new else 200)

    async def delete(self, request: Request) -> Response:
        """Forget a command that was set."""
        async with self.handler.authorized(request, "send") as grant:
            _, commands = self._to_change(request, grant)
            command = _get(request, commands)
            _refuse_configured(commands, command)
            commands.delete(command.node)
            await commands.kept()
            return Response(status_code=204)

    def _wanted(self, request: Request, grant: Grant) -> Iterator[tuple[str, Commands]]:
        """Yield the components that a request is about, of those of its token.

        Raises:
            Problem: 422 if `from` is not valid.
        """
        given = request.query_params.get("from") or grant.user
        try:
            domain = split(given).domain if given else None
        except InvalidJid as error:
            raise Problem(422, detail=f"from: not a valid JID: {error}.") from None
        for one, commands in sorted(self.services().items()):
            is_allowed = any(same_domain(one, allowed) for allowed in grant.token.components)
            if is_allowed and (domain is None or same_domain(one, domain)):
                yield one, commands

    def _only(self, request: Request, grant: Grant) -> tuple[str, Commands]:
        found = list(self._wanted(request, grant))
        if not found:
            raise Problem(404, detail="There is no such component.")
        if len(found) > 1:
            detail = 'from: this token is for several components, so set "from".'
            raise Problem(422, detail=detail)
        return found[0]

    def _to_change(self, request: Request, grant: Grant) -> tuple[str, Commands]:
        if grant.token.local_parts is not None:
            detail = "Commands belong to all addresses of a component; this token is for some."
            raise Problem(403, detail=detail)
        domain, commands = self._only(request, grant)
        if not commands.registry.is_loaded:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise Problem(503, detail=f"{domain} has not started yet.", headers=headers)
        return domain, commands


def _get(request: Request, commands: Commands) -> CommandSettings:
    command = commands.registry.get(request.path_params["node"])
    if command is None:
        raise Problem(404, detail="There is no such command.")
    return command


def _refuse_configured(commands: Commands, command: CommandSettings | None) -> None:
    if command is not None and commands.registry.origin(command) == "configuration":
        detail = "This command is in the configuration file: change it there."
        raise Problem(409, detail=detail)


def _shown(domain: str, commands: Commands, command: CommandSettings) -> dict[str, Any]:
    origin = commands.registry.origin(command)
    return {**command.to_json(), "component": domain, "origin": origin}
