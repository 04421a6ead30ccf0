"""The OpenAPI 3.1 description of the HTTP API, built from tables: `/v1/openapi.json`.

One test compares it with the routes, another one with the statuses that are answered.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from bridge import __version__
from bridge.listener.api.prosody import FORM, REST_QUERIES
from bridge.listener.api.schema import COMPONENTS, JID, WORD, object_schema
from bridge.listener.api.stanza import JSON, QUERIES, TEXT, XML
from bridge.listener.api.webhook import webhooks
from bridge.listener.problem import MEDIA_TYPE, STATUS_OF
from bridge.listener.submission.composition import BATCH_LIMIT
from bridge.xmpp.iq import WAIT_LIMIT_S
from xmppstream.stanza import KINDS, TYPES

Table = dict[str, Any]

_WHY: Final = {
    400: "Not HTTP/1.1, a body that does not match Content-Type, or an invalid Idempotency-Key",
    401: "No token, or an unknown one",
    403: "The token lacks the scope, or may not speak as that address",
    404: "No such component (any more), or no such kind of stanza",
    408: "The body did not arrive in time",
    409: "The Idempotency-Key was used for another request, an iq with this id already waits, the"
    " room is in the configuration or one too many, or the service itself says who its addresses"
    " are",
    413: "The body is longer than max_body_bytes",
    415: "The Content-Type is not accepted by this path, or not UTF-8",
    422: "The stanza may not be sent; `detail` names the key",
    431: "The head of the request is longer than 16 KiB",
    429: "The token has too many requests in progress; see Retry-After",
    500: "A bug in the bridge",
    503: "The journal or the queue refuses, or the component does not run; see Retry-After",
    504: "No answer came in time",
}
_TAGS: Final = {
    "send": "Send stanzas",
    "query": "Ask other entities",
    "identity": "Contacts, and the profiles of addresses",
    "rooms": "Rooms that the bridge keeps joined",
    "prosody": "The paths of mod_rest and mod_post_msg",
    "monitoring": "Metrics, health, and this description",
    "service": "The POST that the bridge makes to a service",
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
        "tags": [{"name": name, "description": why} for name, why in _TAGS.items()],
        "paths": {
            **_stanzas(),
            **_queries(),
            **_identity(),
            **_aliases(),
            **_rooms(),
            **_itself(),
            **watching,
        },
        "webhooks": webhooks(),
        "components": COMPONENTS,
    }
    return msgspec.json.encode(value)


def _stanzas() -> Table:
    array = {"type": "array", "items": _ref("Stanza"), "minItems": 1, "maxItems": BATCH_LIMIT}
    bodies = {JSON: {"oneOf": [_ref("Stanza"), array]}, XML: {"type": "string"}}
    accepted = {"oneOf": [_ref("Accepted"), {"type": "array", "items": _ref("Accepted")}]}
    head = [
        _in("path", "kind", {"enum": list(KINDS[:2])}),
        _in("path", "type", {"enum": sorted({"available", *TYPES["message"], *TYPES["presence"]})}),
        _in("path", "to", JID),
    ]
    return {
        "/v1/stanzas": {
            "post": _operation(
                "sendStanzas",
                "send",
                "Send one stanza, or several; an iq waits for its answer",
                [*_KEYED, _PREFER],
                bodies,
                _accepted(202, accepted) | _answered(),
                (*_OF_BODY, *_OF_ANSWER),
            )
        },
        "/v1/stanzas/{kind}/{type}/{to}": {
            "post": _operation(
                "sendText",
                "send",
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
        operation = _operation(
            f"query{name.title()}", "query", summary, parameters, {}, ok, _OF_ANSWER
        )
        items[f"/v1/{name}/{{jid}}"] = {"get": operation}
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
        "/v1/contacts": {
            "get": _operation("listContacts", "identity", "List contacts", [], {}, listed, ())
        },
        "/v1/profile/{local}": {
            "get": _operation(
                "getProfile", "identity", "Read the profile of an address", [path], {}, read, ()
            ),
            "put": _operation(
                "putProfile",
                "identity",
                "Change the profile of an address",
                [path],
                {JSON: _ref("Profile")},
                changed,
                (*_OF_BODY, 409),
            ),
            "delete": _operation(
                "deleteProfile", "identity", "Forget a profile that was put", [path], {}, gone, ()
            ),
        },
    }


def _aliases() -> Table:
    text = {"type": "string"}
    forms = {JSON: _ref("Rest"), FORM: text, TEXT: text, XML: text}
    head = [
        _in("path", "kind", {"enum": list(KINDS)}),
        _in("path", "type", WORD),
        _in("path", "to", JID),
    ]
    answered = _content("The answer to an iq", {JSON: _ref("RestAnswer"), XML: text, FORM: text})
    answers = _accepted(202) | {"200": {**answered, "headers": _APPLIED}}
    echoed = {"200": _content("The stanza", {JSON: {"type": "object"}, XML: text, FORM: text})}
    statuses = (*_OF_BODY, 409, 504)
    message = {JSON: _ref("Msg"), FORM: text, TEXT: text}
    waiting = [_in("header", "Prosody-Rest-Timeout", _ANY, "Seconds to wait; 120 by default")]
    query = [_in("path", "query", {"enum": list(REST_QUERIES)}), _in("path", "to", JID)]
    return {
        "/rest": {
            "post": _operation(
                "postRest",
                "prosody",
                "Like mod_rest",
                [*_KEYED, *waiting],
                forms,
                answers,
                statuses,
            )
        },
        "/rest/echo": {
            "post": _operation(
                "postRestEcho",
                "prosody",
                "Like mod_rest; also with the other forms of /rest",
                [],
                {JSON: _ref("Rest")},  # generated clients cannot be imported with several here
                echoed,
                _OF_BODY,
            )
        },
        "/rest/{kind}/{type}/{to}": {
            "post": _operation(
                "postRestTo",
                "prosody",
                "Like mod_rest",
                [*head, *_KEYED, *waiting],
                {**forms, JSON: {"type": "object"}},
                answers,
                statuses,
            )
        },
        "/rest/{query}/{to}": {
            "get": _operation(
                "getRest",
                "prosody",
                "Like mod_rest; the fields of the payload are parameters",
                [*query, *waiting],
                {},
                {"200": answers["200"]},
                (409, 504),
            )
        },
        "/msg/{to}": {
            "post": _operation(
                "postMsg",
                "prosody",
                "Like mod_post_msg",
                [_in("path", "to", JID), *_KEYED],
                message,
                _accepted(201),
                (*_OF_BODY, 409),
            )
        },
    }


def _rooms() -> Table:
    jid = _in("path", "jid", JID)
    one = {JSON: _ref("Room")}
    whole = {JSON: _ref("RoomDetail")}
    found = {JSON: object_schema(["rooms"], rooms={"type": "array", "items": _ref("Room")})}
    there = _content("The room", one)
    return {
        "/v1/rooms": {
            "get": _operation(
                "listRooms",
                "rooms",
                "List the rooms",
                [_FROM],
                {},
                {"200": _content("The rooms", found)},
                (),
            )
        },
        "/v1/rooms/{jid}": {
            "get": _operation(
                "getRoom",
                "rooms",
                "Show a room with its occupants",
                [jid, _FROM],
                {},
                {"200": _content("The room", whole)},
                (409,),
            ),
            "put": _operation(
                "putRoom",
                "rooms",
                "Join a room and stay in it, or change how",
                [jid, _FROM],
                {JSON: _ref("RoomSettings")},
                {"200": there, "201": there},
                (*_OF_BODY, 409),
            ),
            "delete": _operation(
                "deleteRoom",
                "rooms",
                "Leave a room for good",
                [jid, _FROM],
                {},
                {"204": {"description": "It is left", "headers": _ID}},
                (409,),
            ),
        },
    }


def _itself() -> Table:
    ok = {"200": _content("This document", {JSON: {"type": "object"}})}
    return {
        "/v1/openapi.json": {
            "get": {
                "operationId": "getDescription",
                "tags": ["monitoring"],
                "summary": "This document",
                "security": [],
                "responses": ok,
            }
        }
    }


def _watching() -> Table:
    text = {"type": "string"}
    media = {"text/plain": text, "application/openmetrics-text": text}
    refused = {str(status): _problem(_WHY[status]) for status in (401, 403)}
    alive = _content("The daemon is alive", {JSON: _ref("Health")})
    ready = {JSON: _ref("Readiness")}
    return {
        "/metrics": {
            "get": {
                "operationId": "getMetrics",
                "tags": ["monitoring"],
                "summary": "Metrics for Prometheus (scope watch)",
                "responses": {"200": _content("Metrics", media), **refused},
            }
        },
        "/healthz": {
            "get": {
                "operationId": "getHealth",
                "tags": ["monitoring"],
                "summary": "Whether the daemon is alive",
                "security": [],
                "responses": {"200": alive},
            }
        },
        "/readyz": {
            "get": {
                "operationId": "getReadiness",
                "tags": ["monitoring"],
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
    id: str,
    tag: str,
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
        "operationId": id,
        "tags": [tag],
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
        "headers": {**_ID, **(headers or {})},
        "content": schemas,
    }


def _problem(description: str) -> Table:
    return _content(description, {MEDIA_TYPE: _ref("Problem")})


def _accepted(status: int, schema: Table | None = None) -> Table:
    content = {JSON: schema or _ref("Accepted")}
    return {str(status): _content("Accepted; it is sent in order", content)}


def _answered() -> Table:
    content = {JSON: _ref("Answer"), XML: {"type": "string"}}
    return {"200": _content("The answer to an iq, as Accept prefers", content, _APPLIED)}


_ANY: Final = {"type": "string"}
_ID: Final = {"X-Request-Id": {"schema": WORD}}
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
