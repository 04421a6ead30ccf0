"""The OpenAPI 3.1 description of the HTTP API, built from tables: `/v1/openapi.json`.

One test compares it with the routes, another one with the statuses that are answered.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from bridge import __version__
from bridge.listener.api.prosody import FORM
from bridge.listener.api.schema import COMPONENTS, JID, WORD
from bridge.listener.api.stanza import JSON, QUERIES, TEXT, XML
from bridge.listener.problem import MEDIA_TYPE, STATUS_OF
from bridge.xmpp.iq import WAIT_LIMIT_S
from xmppstream.stanza import KINDS, TYPES

Table = dict[str, Any]

_WHY: Final = {
    400: "Not HTTP/1.1, a body that does not match Content-Type, or an invalid Idempotency-Key",
    401: "No token, or an unknown one",
    403: "The token lacks the scope, or may not speak as that address",
    404: "No such component (any more), or no such kind of stanza",
    408: "The body did not arrive in time",
    409: "The Idempotency-Key was used for another request, an iq with this id already waits, or"
    " the service itself says who its addresses are",
    413: "The body is longer than max_body_bytes",
    415: "The Content-Type is not accepted by this path, or not UTF-8",
    422: "The stanza may not be sent; `detail` names the key",
    431: "The head of the request is longer than 16 KiB",
    429: "The token has too many requests in progress; see Retry-After",
    500: "A bug in the bridge",
    503: "The journal or the queue refuses, or the component does not run; see Retry-After",
    504: "No answer came in time",
}
_ALWAYS: Final = (400, 401, 403, 404, 422, 429, 431, 500, 503)
_OF_BODY: Final = (408, 413, 415)
_OF_ANSWER: Final = (409, 504, *STATUS_OF.values())
_SCHEMA: Final = "#/components/schemas/"


def document(paths: Iterable[str] = ()) -> bytes:
    """Return the document. It describes those monitoring routes that are among `paths`."""
    mounted = set(paths)
    watching = {path: item for path, item in _watching().items() if path in mounted}
    value = {
        "openapi": "3.1.0",
        "info": {
            "title": "xmpp-bridge",
            "version": __version__,
            "summary": "Sends stanzas as an XMPP component",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"bearer": []}, {"basic": []}],
        "paths": {
            **_stanzas(),
            **_queries(),
            **_identity(),
            **_aliases(),
            **_itself(),
            **watching,
        },
        "components": COMPONENTS,
    }
    return msgspec.json.encode(value)


def _stanzas() -> Table:
    bodies = {JSON: _ref("Stanza"), XML: {"type": "string"}}
    head = [
        _in("path", "kind", {"enum": list(KINDS[:2])}),
        _in("path", "type", {"enum": sorted({"available", *TYPES["message"], *TYPES["presence"]})}),
        _in("path", "to", JID),
    ]
    return {
        "/v1/stanzas": {
            "post": _operation(
                "Send one stanza; an iq waits for its answer",
                [*_KEYED, _PREFER],
                bodies,
                _accepted(202) | _answered(),
                (*_OF_BODY, *_OF_ANSWER),
            )
        },
        "/v1/stanzas/{kind}/{type}/{to}": {
            "post": _operation(
                "Send text as the body of a message or the status of a presence",
                [*head, _FROM, *_KEYED],
                {TEXT: {"type": "string"}},
                _accepted(202),
                (*_OF_BODY, 409),
            )
        },
    }


def _queries() -> Table:
    summaries = (
        "Ping an address",
        "Ask for the name and version",
        "Ask for the identities and features",
        "Ask for the items",
    )
    items = {}
    for name, summary in zip(QUERIES, summaries, strict=True):
        node = [_in("query", "node", _ANY)] if name in ("disco", "items") else []
        ok = {"200": _content("The answer", {JSON: _ref(name.title())}, _APPLIED)}
        parameters = [_in("path", "jid", JID), *node, _FROM, _PREFER]
        items[f"/v1/{name}/{{jid}}"] = {"get": _operation(summary, parameters, {}, ok, _OF_ANSWER)}
    return items


def _identity() -> Table:
    path = _in(
        "path",
        "local",
        JID,
        "A local part, if the token is for one component; else local@component, or the component",
    )
    listed = {"200": _content("The contacts, sorted by address", {JSON: _ref("Contacts")})}
    read = {"200": _content("The profile", {JSON: _ref("Profile")})}
    changed = {"200": _content("The profile is shown from now on", {JSON: _ref("ProfileSet")})}
    gone = {"204": {"description": "The profile is the one of the configuration again"}}
    return {
        "/v1/contacts": {"get": _operation("List contacts", [], {}, listed, ())},
        "/v1/profile/{local}": {
            "get": _operation("Read the profile of an address", [path], {}, read, ()),
            "put": _operation(
                "Change the profile of an address",
                [path],
                {JSON: _ref("Profile")},
                changed,
                (*_OF_BODY, 409),
            ),
            "delete": _operation("Forget a profile that was put", [path], {}, gone, ()),
        },
    }


def _aliases() -> Table:
    forms = {JSON: _ref("Rest"), FORM: _ref("Rest"), TEXT: {"type": "string"}}
    head = [
        _in("path", "kind", {"enum": list(KINDS)}),
        _in("path", "type", WORD),
        _in("path", "to", JID),
    ]
    answers = _accepted(202) | _answered()
    statuses = (*_OF_BODY, *_OF_ANSWER)
    message = {JSON: _ref("Msg"), FORM: _ref("Msg"), TEXT: {"type": "string"}}
    return {
        "/rest": {
            "post": _operation(
                "Like mod_rest",
                [*_KEYED, _PREFER],
                {**forms, XML: {"type": "string"}},
                answers,
                statuses,
            )
        },
        "/rest/{kind}/{type}/{to}": {
            "post": _operation("Like mod_rest", [*head, *_KEYED, _PREFER], forms, answers, statuses)
        },
        "/msg/{to}": {
            "post": _operation(
                "Like mod_post_msg",
                [_in("path", "to", JID), *_KEYED],
                message,
                _accepted(201),
                (*_OF_BODY, 409),
            )
        },
    }


def _itself() -> Table:
    ok = {"200": _content("This document", {JSON: {"type": "object"}})}
    return {
        "/v1/openapi.json": {"get": {"summary": "This document", "security": [], "responses": ok}}
    }


def _watching() -> Table:
    text = {"type": "string"}
    media = {"text/plain": text, "application/openmetrics-text": text}
    refused = {str(status): _problem(_WHY[status]) for status in (401, 403)}
    alive = _content("The daemon is alive", {JSON: {"type": "object"}})
    ready = {JSON: _ref("Readiness")}
    return {
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus (scope watch)",
                "responses": {"200": _content("Metrics", media), **refused},
            }
        },
        "/healthz": {
            "get": {
                "summary": "Whether the daemon is alive",
                "security": [],
                "responses": {"200": alive},
            }
        },
        "/readyz": {
            "get": {
                "summary": "Whether the daemon is ready",
                "security": [],
                "responses": {
                    "200": _content("It is ready", ready),
                    "503": _content("It is not ready", ready),
                },
            }
        },
    }


def _operation(
    summary: str,
    parameters: list[Table],
    bodies: Table,
    ok: Table,
    statuses: Iterable[int],
) -> Table:
    every = sorted({*statuses, *_ALWAYS})
    refused = {
        str(status): _problem(_WHY.get(status, "The other side sent an error")) for status in every
    }
    operation: Table = {
        "summary": summary,
        "parameters": parameters,
        "responses": {**ok, **refused},
    }
    if bodies:
        content = {media: {"schema": schema} for media, schema in bodies.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _in(place: str, name: str, schema: Table, description: str = "") -> Table:
    parameter = {"in": place, "name": name, "required": place == "path", "schema": schema}
    return {**parameter, "description": description} if description else parameter


def _ref(name: str) -> Table:
    return {"$ref": _SCHEMA + name}


def _content(description: str, content: Table, headers: Table | None = None) -> Table:
    schemas = {media: {"schema": schema} for media, schema in content.items()}
    return {
        "description": description,
        "headers": {"X-Request-Id": {"schema": WORD}, **(headers or {})},
        "content": schemas,
    }


def _problem(description: str) -> Table:
    return _content(description, {MEDIA_TYPE: _ref("Problem")})


def _accepted(status: int) -> Table:
    return {str(status): _content("Accepted; it is sent in order", {JSON: _ref("Accepted")})}


def _answered() -> Table:
    content = {JSON: _ref("Answer"), XML: {"type": "string"}}
    return {"200": _content("The answer to an iq, as Accept prefers", content, _APPLIED)}


_ANY: Final = {"type": "string"}
_APPLIED: Final = {"Preference-Applied": {"schema": WORD}}
_FROM: Final = _in(
    "query", "from", {**JID, "minLength": 0}, "The sender: an address that the token may speak as"
)
_PREFER: Final = _in(
    "header",
    "Prefer",
    _ANY,
    f"wait=N: wait N seconds for the answer to an iq, 1 to {WAIT_LIMIT_S:.0f}; 30 by default",
)
_KEYED: Final = [
    _in(
        "header",
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        "For 24 h, the same request with the same key is sent once and answered alike",
    )
]
