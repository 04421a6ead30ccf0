"""`/v1/rooms`: the rooms that the bridge keeps; list them, add one, leave one (scope `rooms`).

A token sees and changes the rooms of the addresses that it may speak as. Rooms of the configuration
are read only here; `PUT` with what is configured joins one that the bridge stays out of.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec
import trio
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.config.room import check_local, check_nick, check_room
from bridge.config.settings import RoomSettings
from bridge.config.value import BadValue, Secret, check_text
from bridge.listener.api.handler import RETRY_AFTER_S, SubmissionHandler, json_response
from bridge.listener.api.request import media_type
from bridge.listener.api.stanza import JSON, decoded
from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.xmpp.room.room import Phase, Room
from bridge.xmpp.room.rooms import Rooms, TooManyRooms
from xmppstream import InvalidJid, Jid, split
from xmppstream.jid import bare, same_domain

_KEYS: Final = {"as": str, "nick": str, "password": str, "create": bool}
SEVERAL: Final = "this token may speak as several addresses"


class RoomService(Protocol):
    """A component, as far as its rooms go."""

    @property
    def rooms(self) -> Rooms: ...

    @property
    def is_open(self) -> bool: ...

    def exists(self, address: str) -> bool: ...


@frozen
class _Found:
    """A kept room, with its component."""

    domain: str
    rooms: Rooms
    room: Room
    origin: str


@frozen
class RoomRoutes:
    """The routes of `/v1/rooms`. `services` are the components by domain, a live view."""

    handler: SubmissionHandler
    services: Mapping[str, RoomService]
    now: Callable[[], float] = time.time

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/rooms", self.list, methods=["GET"]),
            Route("/v1/rooms/{jid:path}", self.show, methods=["GET"]),
            Route("/v1/rooms/{jid:path}", self.put, methods=["PUT"]),
            Route("/v1/rooms/{jid:path}", self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """List the rooms."""
        async with self.handler.authorized(request, "rooms") as grant:
            found = [self._summary(one) for one in self._kept(request, grant)]
            found += self._tracked(grant)
            return json_response({"rooms": found})

    async def show(self, request: Request) -> Response:
        """Show one room, with its subject and its occupants."""
        async with self.handler.authorized(request, "rooms") as grant:
            found = self._one(request, grant)
            room = found.room
            occupants = [msgspec.to_builtins(one) for one in room.occupants.all()]
            about = {"subject": room.subject, "subject_by": room.subject_by}
            value = {**self._summary(found), **about, "occupants": occupants}
            return json_response(_without_none(value))

    async def put(self, request: Request) -> Response:
        """Join a room, or change how it is joined."""
        async with self.handler.authorized(request, "rooms") as grant:
            media_type(request, JSON)
            body = await self.handler.body(request, grant)
            given = _given(decoded(body) if body.strip() else {})
            jid = _checked("jid", check_room, request.path_params["jid"])
            domain = self._domain(request, grant)
            service = self._service(domain)
            settings = self._settings(request, grant, service, domain, jid, given)
            before = service.rooms.get(jid, settings.local)
            if before is not None and before[1] == "configuration":
                _check_same(before[0].settings, settings, given)
                settings = before[0].settings
            try:
                room = service.rooms.put(settings)
            except TooManyRooms as error:
                raise Problem(409, detail=f"{error}.") from None
            await service.rooms.kept()
            origin = "api" if before is None else before[1]
            value = self._summary(_Found(domain, service.rooms, room, origin))
            return json_response(value, 201 if before is None else 200)

    async def delete(self, request: Request) -> Response:
        """Leave a room for good."""
        async with self.handler.authorized(request, "rooms") as grant:
            found = self._one(request, grant)
            if found.origin == "configuration":
                detail = "This room is in the configuration file: remove it there."
                raise Problem(409, detail=detail)
            self._service(found.domain)
            found.rooms.delete(found.room.jid, found.room.settings.local)
            await found.rooms.kept()
            return Response(status_code=204)

    # --- which room

    def _kept(self, request: Request, grant: Grant) -> Iterator[_Found]:
        """Yield the kept rooms that a token may see, of the address `from` if that is given."""
        wanted = _wanted(request, grant)
        for domain, service in self.services.items():
            for room, origin in service.rooms.all():
                address = Jid(room.settings.local, domain, "")
                is_wanted = wanted is None or wanted.bare in (str(address), domain)
                if is_wanted and grant.token.speaks_as(address):
                    yield _Found(domain, service.rooms, room, origin)

    def _tracked(self, grant: Grant) -> Iterator[dict[str, Any]]:
        """Yield the rooms that services have joined by themselves."""
        for domain, service in self.services.items():
            for jid, address in service.rooms.tracked():
                local = bare(address).rpartition("@")[0]
                if grant.token.speaks_as(Jid(local, domain, "")):
                    occupant = service.rooms.occupancy.occupant(jid, address) or ""
                    head = {"jid": jid, "component": domain, "as": local}
                    nick = occupant.partition("/")[2]
                    yield {**head, "nick": nick, "state": "joined", "origin": "service"}

    def _one(self, request: Request, grant: Grant) -> _Found:
        """Return the room of a path.

        Raises:
            Problem: 404 if there is none; 409 if several addresses are in it.
        """
        jid = _checked("jid", check_room, request.path_params["jid"])
        found = [one for one in self._kept(request, grant) if one.room.jid == jid]
        if not found:
            raise Problem(404, detail="The bridge does not keep such a room.")
        if len(found) > 1:
            raise Problem(409, detail='Several addresses are in this room: set "from".')
        return found[0]

    def _domain(self, request: Request, grant: Grant) -> str:
        """Return the component that is to join."""
        wanted = _wanted(request, grant)
        if wanted is not None:
            found = [one for one in self.services if same_domain(one, wanted.domain)]
        else:
            allowed = grant.token.components
            found = [one for one in self.services if any(same_domain(one, a) for a in allowed)]
            if len(found) > 1:
                raise Problem(422, detail=f'from: {SEVERAL}, so set "from".')
        if not found:
            raise Problem(404, detail="There is no such component.")
        return found[0]

    def _service(self, domain: str) -> RoomService:
        service = self.services[domain]
        if not service.is_open:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise Problem(503, detail="The component does not run now.", headers=headers)
        return service

    def _settings(
        self,
        request: Request,
        grant: Grant,
        service: RoomService,
        domain: str,
        jid: str,
        given: dict[str, Any],
    ) -> RoomSettings:
        """Return the settings of a request; what is not given stays as it was."""
        if same_domain(jid.rpartition("@")[2], domain):
            detail = f"jid: {domain} is the component itself, which has no rooms."
            raise Problem(422, detail=detail)
        rooms, wanted = service.rooms, _wanted(request, grant)
        local = given.get("as") or (wanted and wanted.local)
        if not local:
            known = {one.settings.local for one, _ in rooms.all()}
            only = (grant.token.only_address or "").rpartition("@")[0]
            local = only or (known.pop() if len(known) == 1 else "")
        if not local:
            raise Problem(422, detail="as: the local part to join as is missing.")
        local = _checked("as", lambda text: check_local(text, domain), local)
        if not grant.token.speaks_as(Jid(local, domain, "")):
            raise Problem(403, detail="as: this token may not speak as that address.")
        if not service.exists(f"{local}@{domain}"):
            raise Problem(422, detail=f"as: {local!r} is not among local_parts.")
        before = rooms.get(jid, local)
        old = None if before is None else before[0].settings
        nick = given.get("nick") or (local if old is None else old.nick)
        password = None if old is None else old.password
        if "password" in given:
            password = None
            if given["password"]:
                password = Secret(_checked("password", _text, given["password"]))
        create = given.get("create", False if old is None else old.create)
        return RoomSettings(jid, local, _checked("nick", check_nick, nick), password, create)

    # --- how it is shown

    def _summary(self, found: _Found) -> dict[str, Any]:
        room = found.room
        is_waiting = room.phase is Phase.WAITING
        return _without_none(
            {
                "jid": room.jid,
                "component": found.domain,
                "as": room.settings.local,
                "nick": room.nick,
                "state": room.phase.value,
                "reason": room.why or None,
                "since": self._date(room.since),
                "next_attempt": self._date(room.due) if is_waiting else None,
                "origin": found.origin,
                "create": room.settings.create,
                "occupant_count": len(room.occupants),
            }
        )

    def _date(self, at: float) -> str | None:
        """Return a time of trio's clock as ISO 8601 in UTC; None for never."""
        if not math.isfinite(at):
            return None
        unix = self.now() + at - trio.current_time()
        return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")[:19] + "Z"


def _given(value: object) -> dict[str, Any]:
    """Return the keys of a body; null and `""` mean absent, but for a password.

    Raises:
        Problem: 422 if it is not an object of known keys.
    """
    if not isinstance(value, dict):
        raise Problem(422, detail="The body must be a JSON object.")
    for key, one in value.items():
        if key not in _KEYS:
            raise Problem(422, detail=f"{key[:60]!r} is not one of {', '.join(_KEYS)}.")
        if one is not None and type(one) is not _KEYS[key]:
            noun = "true or false" if _KEYS[key] is bool else "a string"
            raise Problem(422, detail=f"{key}: must be {noun}.")
    return {key: one for key, one in value.items() if one is not None}


def _check_same(configured: RoomSettings, wanted: RoomSettings, given: dict[str, Any]) -> None:
    """Raise `Problem` 409 if a room of the configuration would be changed."""
    if any(getattr(configured, key, None) != getattr(wanted, key, None) for key in given):
        detail = "This room is in the configuration file: change it there."
        raise Problem(409, detail=detail)


def _checked(key: str, check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except BadValue as error:
        raise Problem(422, detail=f"{key}: {error.problem}. {error.remedy}.") from None


def _text(value: str) -> str:
    check_text(value)
    return value


def _wanted(request: Request, grant: Grant) -> Jid | None:
    """Return the address that a request is for: `from`, or the Basic user.

    Raises:
        Problem: 422 if it is not valid.
    """
    given = request.query_params.get("from") or grant.user
    try:
        return split(given) if given else None
    except InvalidJid as error:
        raise Problem(422, detail=f"from: not a valid JID: {error}.") from None


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if one is not None}
