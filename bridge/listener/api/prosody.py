"""The paths of Prosody's mod_rest and mod_post_msg, as far as they map cleanly.

Both speak as an account of the server. A component speaks only as its own domain, so the Basic
user here is `local@component-domain` of a token. The JSON names are mod_rest's, limited to the
fields that every client of it uses. An unknown field is refused, not ignored.
"""

from typing import Any, Final
from urllib.parse import parse_qsl

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import SubmissionHandler
from bridge.listener.api.request import media_type, text_of
from bridge.listener.api.stanza import (
    JSON,
    QUERIES,
    TEXT,
    XML,
    content_of,
    decoded,
    question,
)
from bridge.listener.problem import Problem
from bridge.payload.body import BLANK, ReplyBody
from xmppstream import Element, Stanza, make
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import KINDS, TYPES, Kind

FORM: Final = "application/x-www-form-urlencoded"
_HEAD: Final = ("kind", "type", "to", "from", "id")
_CHILDREN: Final[dict[str, Kind]] = {
    "body": "message",
    "subject": "message",
    "thread": "message",
    "show": "presence",
    "status": "presence",
}
"""Fields that become child elements, and the kind that has them."""
_FORM_LIMIT: Final = 64

Fields = dict[str, Any]


@frozen
class ProsodyRoutes:
    """The routes `/rest` and `/msg`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/rest", self.rest, methods=["POST"]),
            Route("/rest/{kind}/{type}/{to:path}", self.rest_at, methods=["POST"]),
            Route("/msg/{to:path}", self.msg, methods=["POST"]),
        ]

    async def rest(self, request: Request) -> Response:
        """mod_rest: one stanza, as JSON or a form with its names, as XML, or as text."""
        return await self._rest(request, {})

    async def rest_at(self, request: Request) -> Response:
        """mod_rest: the kind, type and address are in the path."""
        return await self._rest(request, dict(request.path_params))

    async def _rest(self, request: Request, head: Fields) -> Response:
        async with self.handler.authorized(request, "send", "query") as grant:
            media = media_type(request, JSON, FORM, TEXT, *([] if head else [XML]))
            body = await self.handler.body(request, grant)
            content: ReplyBody | Stanza
            if media == XML:
                content = content_of(media, body)
            else:
                content = self._content(_fields(media, body, head), head)
            stanza = await self.handler.stanza(grant, content)
            return await self.handler.take(request, grant, stanza, body)

    async def msg(self, request: Request) -> Response:
        """mod_post_msg: a message to the address in the path, as text, a form, or JSON."""
        async with self.handler.authorized(request, "send") as grant:
            media = media_type(request, TEXT, FORM, JSON)
            body = await self.handler.body(request, grant)
            fields = _known(_fields(media, body, {"kind": "message"}), "to", "type", "body")
            to = fields.get("to") or request.path_params["to"]
            to = self._with_host(to, bare_is_local=True)
            fields = {"type": "chat", **fields, "kind": "message", "to": to}
            stanza = await self.handler.stanza(grant, _stanza(fields))
            return await self.handler.take(request, grant, stanza, body, status=201)

    def _content(self, fields: Fields, head: Fields) -> Stanza:
        fields = _known({**fields, **head}, *_HEAD, *_CHILDREN, *QUERIES)
        kind = fields["kind"] = _kind_of(fields)
        if kind != "iq" and fields.get("to"):
            fields["to"] = self._with_host(fields["to"], bare_is_local=False)
        return _stanza(fields)

    def _with_host(self, to: str, *, bare_is_local: bool) -> str:
        """Add the default host to an address that has none.

        Unless `bare_is_local`, a name with a dot is a host.
        """
        local, at, host = to.partition("@")
        if host or (not at and "." in to and not bare_is_local):
            return to
        if self.handler.default_host is None:
            detail = "to: the address has no host; add one, or set default_host in [listen]."
            raise Problem(422, detail=detail)
        return f"{local}@{self.handler.default_host}"


def _fields(media: str, body: bytes, head: Fields) -> Fields:
    """Return the fields of a body. Text becomes the field that the kind has for it."""
    if media == JSON:
        value = decoded(body) if body.strip(BLANK) else {}
        if not isinstance(value, dict):
            raise Problem(422, detail="The body must be a JSON object.")
        return value
    text = text_of(body)
    if media == FORM:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FORM_LIMIT)
        except ValueError:
            raise Problem(400, detail=f"The form has more than {_FORM_LIMIT} fields.") from None
        # `ping=` asks: in a form it is what `"ping": true` is in JSON.
        return {name: True if name in QUERIES and not value else value for name, value in pairs}
    match head.get("kind", "message"):
        case "message":
            return {"type": "chat", "body": text}
        case "presence":
            return {"show": text} if text else {}
        case _:
            raise Problem(422, detail="Text makes a message or presence; send an iq as JSON.")


def _known(fields: Fields, *names: str) -> Fields:
    """Return the fields that have a value; `null` and `""` are as good as absent.

    Raises:
        Problem: 422 if one is not among `names`, `null` or not, or must be a string and is not.
    """
    for name, value in fields.items():
        if name not in names:
            detail = f"{name[:60]!r} is not a known field; use {', '.join(names)}."
            raise Problem(422, detail=f"{detail} Send XML for anything else.")
        if name not in QUERIES and value is not None and type(value) is not str:
            raise Problem(422, detail=f"{name}: must be a string.")
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def _kind_of(fields: Fields) -> Kind:
    """Return the kind that is given, or that the type or the other fields imply."""
    given = fields.get("kind")
    if given is not None:
        for kind in KINDS:
            if kind == given:
                return kind
        raise Problem(422, detail=f"kind: must be one of {', '.join(KINDS)}.")
    if fields.get("type") in TYPES["iq"] - {"error"} or any(name in fields for name in QUERIES):
        return "iq"
    if fields.get("type") in TYPES["message"]:
        return "message"
    if fields.get("type") in {"available", *TYPES["presence"]}:
        return "presence"
    return next((kind for name, kind in _CHILDREN.items() if name in fields), "message")


def _stanza(fields: Fields) -> Stanza:
    """Return the stanza of fields, which include `kind`.

    Raises:
        Problem: 422 if the fields do not fit the kind.
    """
    kind: Kind = fields["kind"]
    to, from_, id = (fields.get(name) or None for name in ("to", "from", "id"))
    type = fields.get("type") or None
    queries = [name for name in QUERIES if fields.get(name) not in (None, False)]
    children: list[Element] = []
    for name, own in _CHILDREN.items():
        if name in fields:
            if kind != own:
                raise Problem(422, detail=f"{name}: only a {own} has this field.")
            children.append(Element(expanded(COMPONENT, name), (), (fields[name],)))
    if kind != "iq":
        if queries:
            raise Problem(422, detail=f"{queries[0]}: only an iq has this field.")
        type = None if (kind, type) == ("presence", "available") else type
        return make(kind, to, from_, type=type, id=id, children=_normal(children))
    if len(queries) != 1:
        raise Problem(422, detail=f"An iq needs exactly one of {', '.join(QUERIES)}; or send XML.")
    return _iq(fields, queries[0], to, from_, id, type or "get")


def _iq(
    fields: Fields, name: str, to: str | None, from_: str | None, id: str | None, type: str
) -> Stanza:
    value = fields[name]
    node = value.get("node") if isinstance(value, dict) else value
    payload = question(name, "", node=node if isinstance(node, str) else None).payload
    assert payload is not None
    return make("iq", to, from_, type=type, id=id, children=(payload,))


def _normal(children: list[Element]) -> tuple[Element, ...]:
    """Return elements in normal form, which has no empty text."""
    return tuple(Element(one.name, (), tuple(t for t in one.children if t)) for one in children)
