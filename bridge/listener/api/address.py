"""`POST /v1/jid` builds an address out of its parts, or takes one apart.

The local part is given as people write it: a foreign address, say, whose `@` is escaped as gateways
want it (XEP-0106).
"""

from typing import Final
from urllib.parse import quote

import msgspec
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import SubmissionHandler, json_response
from bridge.listener.api.request import media_type
from bridge.listener.api.stanza import JSON, decoded
from bridge.listener.problem import Problem
from xmppstream import InvalidJid, Jid, split
from xmppstream.jid import escape_local, unescape_local

_PARTS: Final = ("local", "domain", "resource")
_KEYS: Final = ("jid", *_PARTS)


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """An address and its parts. `path` is the address as a part of a URL's path."""

    jid: str
    bare: str
    path: str
    domain: str
    local: str | None = None
    local_unescaped: str | None = None
    resource: str | None = None


@frozen
class AddressRoutes:
    """The route of `/v1/jid`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [Route("/v1/jid", self.jid, methods=["POST"])]

    async def jid(self, request: Request) -> Response:
        """Return the address that the parts make, or the parts of an address."""
        async with self.handler.authorized(request, "send", "query") as grant:
            media_type(request, JSON)
            value = decoded(await self.handler.body(request, grant))
            try:
                return json_response(_described(_jid_of(_texts(value))))
            except InvalidJid as error:
                raise Problem(422, detail=f"Not a valid address: {error}.") from None


def _texts(value: object) -> dict[str, str]:
    """Return the keys that have a value. Raises `Problem` 422 if any has a wrong one."""
    if not isinstance(value, dict):
        raise Problem(422, detail="The body must be a JSON object.")
    for key in value:
        if key not in _KEYS:
            detail = f"key {key[:60]!r} is unknown; known keys: {', '.join(_KEYS)}"
            raise Problem(422, detail=detail)
    given = {key: one for key, one in value.items() if one not in (None, "")}
    for key, one in given.items():
        if not isinstance(one, str):
            raise Problem(422, detail=f"{key} is not a string")
    return given


def _jid_of(texts: dict[str, str]) -> Jid:
    if "jid" in texts:
        if len(texts) > 1:
            raise Problem(422, detail="jid excludes local, domain and resource.")
        return split(texts["jid"])
    if "domain" not in texts:
        raise Problem(422, detail="domain is missing; or give jid, to take an address apart.")
    local = escape_local(texts["local"]) if "local" in texts else ""
    made = Jid(local, texts["domain"], texts.get("resource", ""))
    if split(str(made)) != made:  # a domain with parts of its own
        raise InvalidJid("its domain contains a forbidden character")
    return made


def _described(jid: Jid) -> Address:
    plain = unescape_local(jid.local)
    return Address(
        str(jid),
        jid.bare,
        quote(str(jid), safe="@"),
        jid.domain,
        jid.local or None,
        plain if plain != jid.local else None,
        jid.resource or None,
    )
