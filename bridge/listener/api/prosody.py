"""The paths of Prosody's mod_rest and mod_post_msg, with all forms that they document.

Both speak as an account of the server. A component speaks only as its own domain, so the Basic
user here is `local@component-domain` of a token. Fields are ours or mod_rest's, and those that
neither has are ignored, as mod_rest does: its clients send what other servers take.
"""

import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode

import msgspec
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.archive import check_page, identified
from bridge.listener.api.handler import SubmissionHandler, json_response
from bridge.listener.api.request import key_of, media_type, text_of, wait_of
from bridge.listener.api.stanza import JSON, TEXT, XML, content_of, decoded
from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.payload.body import BLANK, KEYS, ReplyBody
from bridge.payload.content import WRITERS, kind_of
from bridge.payload.key import known_only
from bridge.payload.mod_rest import from_mod_rest, to_mod_rest
from bridge.xmpp.iq import WAIT_LIMIT_S
from xmppstream import Element, Stanza, write
from xmppstream.names import COMPONENT, LANG
from xmppstream.stanza import KINDS, TYPES, Kind

FORM: Final = "application/x-www-form-urlencoded"
_ANSWERS: Final = (XML, JSON, FORM)
"""The forms of an answer, in mod_rest's order of preference."""
REST_QUERIES: Final = (
    *("archive", "disco", "extdisco", "items", "lastactivity", "oob", "payload", "ping", "stats"),
    *("upload_request", "version"),
)
"""The queries that mod_rest documents for `GET`; others that an iq can have work as well."""
_FORM_LIMIT: Final = 64
_WAIT_S: Final = 120
_WAIT_HEADER: Final = "prosody-rest-timeout"
_IQ: Final = ("iq",)
_MSG: Final = ("to", "type", "body", "html")
_KIND_OF_TYPE: Final[dict[str, Kind]] = {
    "available": "presence",
    **{type: kind for kind in KINDS for type in TYPES[kind] if type not in ("error", "probe")},
}

Fields = dict[str, Any]


@frozen
class ProsodyRoutes:
    """The routes `/rest` and `/msg`."""

    handler: SubmissionHandler

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/rest", self.rest, methods=["POST"]),
            Route("/rest/echo", self.echo, methods=["POST"]),
            Route("/rest/{kind}/{type}/{to:path}", self.rest_at, methods=["POST"]),
            Route("/rest/{query}/{to:path}", self.query, methods=["GET"]),
            Route("/msg/{to:path}", self.msg, methods=["POST"]),
        ]

    async def rest(self, request: Request) -> Response:
        """mod_rest: one stanza, as JSON or a form with its names, as XML, or as text."""
        async with self.handler.authorized(request, "send", "query") as grant:
            stanza, body = await self._stanza(request, grant)
            return await self._take(request, grant, stanza, body)

    async def rest_at(self, request: Request) -> Response:
        """mod_rest: the kind, type and address are in the path."""
        async with self.handler.authorized(request, "send", "query") as grant:
            path: Fields = dict(request.path_params)
            stanza, body = await self._stanza(request, grant, path)
            return await self._take(request, grant, stanza, body)

    async def echo(self, request: Request) -> Response:
        """mod_rest: the stanza, which is not sent."""
        async with self.handler.authorized(request, "send", "query") as grant:
            stanza, _ = await self._stanza(request, grant)
            return _encoded(stanza, _answer_form(request))

    async def query(self, request: Request) -> Response:
        """mod_rest: an iq, whose payload is in the path and its fields in the query."""
        async with self.handler.authorized(request, "query") as grant:
            name, to = request.path_params["query"], request.path_params["to"]
            fields = _of_path({"kind": "iq", "type": name, "to": to}, dict(request.query_params))
            stanza = await self.handler.stanza(grant, self._content(fields, as_text=True))
            return await self._take(request, grant, stanza, b"")

    async def msg(self, request: Request) -> Response:
        """mod_post_msg: a message to the address in the path, as text, a form, or JSON."""
        async with self.handler.authorized(request, "send") as grant:
            media = media_type(request, TEXT, FORM, JSON)
            body = await self.handler.body(request, grant)
            given = {key: value for key, value in _fields(media, body).items() if key in _MSG}
            fields = {"type": "chat", **_present(given), "kind": "message"}
            fields.setdefault("to", request.path_params["to"])
            content = self._content(fields, as_text=True, bare_is_local=True)
            stanza = await self.handler.stanza(grant, content)
            return await self.handler.take(request, grant, stanza, body, status=201)

    async def _stanza(
        self, request: Request, grant: Grant, path: Fields | None = None
    ) -> tuple[Stanza, bytes]:
        """Return the stanza of a request, and its body. `path`: `kind`, `type` and `to` of it."""
        has_media = path is None or "content-type" in request.headers
        media = media_type(request, JSON, FORM, TEXT, XML) if has_media else ""
        body = await self.handler.body(request, grant)
        fields: Fields = {}
        if media == XML:  # has a head of its own
            content = content_of(media, body)
        else:
            kind = "message" if path is None else path["kind"]
            fields = _fields(media, body, kind) if media else {}
            if path is not None:
                fields = _of_path(path, fields)
            content = self._content(fields, as_text=media == FORM)
        stanza = await self.handler.stanza(grant, content)
        return _in_language(stanza, fields.get("lang")), body

    async def _take(self, request: Request, grant: Grant, stanza: Stanza, body: bytes) -> Response:
        """Send a stanza. The answer to an iq may be an error; it is of the form of the request."""
        if not stanza.is_request:
            return await self.handler.take(request, grant, stanza, body)
        key, (wait_s, preferred) = key_of(request, grant, body), _wait_of(request)
        query, messages = identified(stanza), []
        if query is None:
            answer = await self.handler.answer_of(request, stanza, wait_s, key)
        else:
            stanza, queryid, count = query
            with self.handler.collecting(stanza, queryid, count) as page:
                answer = await self.handler.answer_of(request, stanza, wait_s, key)
            check_page(page)
            messages = page.messages
        headers = {"Preference-Applied": f"wait={wait_s}"} if preferred else {}
        headers["Vary"] = "Accept, Content-Type"
        form = _answer_form(request)
        if messages:
            return _encoded_all([*messages, answer], form, headers)
        return _encoded(answer, form, headers)

    def _content(
        self, fields: Fields, *, as_text: bool = False, bare_is_local: bool = False
    ) -> ReplyBody:
        """Return the content that fields describe, with a kind and a type.

        `as_text`: the values are text, whatever they stand for. `bare_is_local`: see `_with_host`.
        """
        fields = from_mod_rest(fields)
        if as_text:
            fields = {key: _untexted(key, value) for key, value in fields.items()}
        known = {
            key: known_only(key, one) for key, one in _present(fields).items() if _is_said(key, one)
        }
        kind = known.setdefault("kind", _kind_of(known))
        if kind == "message" and "error" not in known:
            known.setdefault("type", "normal")
        if kind != "iq" and isinstance(known.get("to"), str):
            known["to"] = self._with_host(known["to"], bare_is_local=bare_is_local)
        try:
            return ReplyBody("json", json.dumps(known).encode())
        except RecursionError:
            raise Problem(400, detail="The body is JSON nested too deeply.") from None

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


def _fields(media: str, body: bytes, kind: str = "message") -> Fields:
    """Return the fields of a body. Text becomes the field that the kind has for it."""
    if media == JSON:
        value = decoded(body) if body.strip(BLANK) else {}
        if not isinstance(value, dict):
            raise Problem(422, detail="The body must be a JSON object.")
        return value
    text = text_of(body)
    if media == FORM and "=" in text:
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FORM_LIMIT))
        except ValueError:
            raise Problem(400, detail=f"The form has more than {_FORM_LIMIT} fields.") from None
    if media == FORM:  # what `curl -d` sends without a Content-Type
        text = unquote(text)
    match kind:
        case "message":
            return {"type": "chat", "body": text}
        case "presence":
            return {"show": text} if text else {}
        case _:
            raise Problem(422, detail="Text makes a message or presence; send an iq as JSON.")


def _in_language(stanza: Stanza, lang: Any) -> Stanza:
    """Return a stanza with an xml:lang. Raises `Problem` 422 if that is not a language tag."""
    if lang is None or lang == "":
        return stanza
    if not isinstance(lang, str) or re.fullmatch("[A-Za-z0-9-]{1,35}", lang) is None:
        raise Problem(422, detail="lang: not a language tag, such as en.")
    element = stanza.element
    return Stanza(Element(element.name, (*element.attributes, (LANG, lang)), element.children))


def _of_path(path: Fields, fields: Fields) -> Fields:
    """Return fields with the head of a path: `/iq/version/a` asks a for its version."""
    kind, type = path["kind"], path["type"]
    if kind == "iq" and type not in TYPES["iq"]:
        fields = {"kind": kind, type: True if type == "ping" else fields}
    else:
        fields = {**fields, "kind": kind, "type": type}
    return {**fields, "to": path["to"] or fields.get("to")}


def _present(fields: Fields) -> Fields:
    """Return the fields that have a value; `null` and `""` are as good as absent."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def _is_said(name: str, value: Any) -> bool:
    """Return whether a field is known; a query that is `false` is not there."""
    return name in KEYS and not (value is False and name in WRITERS and WRITERS[name].kinds == _IQ)


def _untexted(name: str, value: Any) -> Any:
    """Return the value that a text means for a key: forms and queries have nothing but text.

    `ping=` asks: it is what `"ping": true` is in JSON.
    """
    row = WRITERS.get(name)
    if row is None:
        return value
    if value == "" and (row.shape is bool or row.kinds == _IQ):
        return True
    try:
        return msgspec.to_builtins(msgspec.convert(value, row.shape, strict=False))
    except msgspec.ValidationError:
        return value  # refused later, with its name


def _kind_of(fields: Fields) -> Kind:
    """Return the kind that the type or the other fields imply."""
    type = fields.get("type")
    if isinstance(type, str) and type in _KIND_OF_TYPE:
        return _KIND_OF_TYPE[type]
    if "body" in fields:
        return "message"
    return kind_of({name: one for name, one in fields.items() if name in WRITERS}, "message")


def _wait_of(request: Request) -> tuple[int, bool]:
    """Return how long to wait for an answer: by mod_rest's header, else as `wait_of`."""
    given = request.headers.get(_WAIT_HEADER, "").strip()
    if re.fullmatch("[0-9]{1,9}", given):
        return min(max(int(given), 1), int(WAIT_LIMIT_S)), False
    wait_s, preferred = wait_of(request)
    return (wait_s, True) if preferred else (_WAIT_S, False)


def _answer_form(request: Request) -> str:
    """Return the form of an answer: the first in Accept, else that of the request, else XML."""
    headers = request.headers
    given = ",".join([*headers.getlist("accept"), headers.get("content-type", "")]).lower()
    return min(_ANSWERS, key=lambda media: given.index(media) if media in given else len(given))


def _encoded_all(stanzas: list[Stanza], media: str, headers: dict[str, str]) -> Response:
    """Return the messages of an archive and the end of its answer, as mod_rest does. A form has
    none of it.
    """
    if media == XML:
        inner = "".join(write(one.element, COMPONENT) for one in stanzas)
        return Response(f"<xmpp>{inner}</xmpp>", 200, headers, XML)
    if media == JSON:
        return json_response({"xmpp": [to_mod_rest(one) for one in stanzas]}, 200, headers)
    return Response("", 200, headers, FORM)


def _encoded(stanza: Stanza, media: str, headers: dict[str, str] | None = None) -> Response:
    """Return a stanza in one of the forms of mod_rest. A form has its texts and numbers only."""
    if media == XML:
        return Response(write(stanza.element, COMPONENT), 200, headers, XML)
    fields = to_mod_rest(stanza)
    if media == JSON:
        return json_response(fields, 200, headers)
    texts = {name: "" if value is True else value for name, value in fields.items()}
    flat = {
        name: str(one)
        for name, one in texts.items()
        if isinstance(one, str | int) and one is not False
    }
    return Response(urlencode(flat), 200, headers, FORM)
