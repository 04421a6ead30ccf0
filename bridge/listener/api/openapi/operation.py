"""The pieces of operations: parameters, responses, and why each status is answered."""

from collections.abc import Iterable
from typing import Any, Final

from bridge.listener.api.openapi.schema import JID, WORD
from bridge.listener.api.stanza import JSON, XML
from bridge.listener.problem import MEDIA_TYPE, STATUS_OF
from bridge.xmpp.iq import WAIT_LIMIT_S

Table = dict[str, Any]

WHY: Final = {
    400: "Not HTTP/1.1, a body that does not match Content-Type, or an invalid Idempotency-Key",
    401: "No token, or an unknown one",
    403: "The token lacks the scope, or may not speak as that address",
    404: "No such component (any more), or no such kind of stanza",
    408: "The body did not arrive in time",
    409: "The Idempotency-Key was used for another request, an iq with this id already waits, the"
    " room is in the configuration or one too many, the service itself says who its addresses"
    " are, no component of the token is pulled, or the event is answered already",
    410: "The lease of the event has ended",
    411: "A file without Content-Length",
    413: "The body is longer than max_body_bytes, or than the upload service allows",
    415: "The Content-Type is not accepted by this path, or not UTF-8",
    422: "The stanza may not be sent; `detail` names the key",
    431: "The head of the request is longer than 16 KiB",
    429: "The token has too many requests in progress; see Retry-After",
    500: "A bug in the bridge",
    503: "The journal or the queue refuses, or the component does not run; see Retry-After",
    504: "No answer came in time",
    507: "There is no room for a file of a form until its end has come",
}
ALWAYS: Final = (400, 401, 403, 404, 422, 429, 431, 500, 503)
OF_BODY: Final = (408, 413, 415)
OF_ANSWER: Final = (409, 504, *STATUS_OF.values())
SCHEMA_PREFIX: Final = "#/components/schemas/"


def operation(
    id: str,
    tag: str,
    summary: str,
    parameters: list[Table],
    bodies: Table,
    ok: Table,
    statuses: Iterable[int],
) -> Table:
    """Return an operation. `bodies` are schemas by media type, `ok` the responses of success,
    `statuses` those beside `ALWAYS` that it may answer.
    """
    every = sorted({*statuses, *ALWAYS})
    refused = {
        str(status): problem(WHY.get(status, "The other side sent an error")) for status in every
    }
    value: Table = {
        "operationId": id,
        "tags": [tag],
        "summary": summary,
        "parameters": parameters,
        "responses": {**ok, **refused},
    }
    if bodies:
        by_media = {media: {"schema": schema} for media, schema in bodies.items()}
        value["requestBody"] = {"required": True, "content": by_media}
    return value


def parameter(place: str, name: str, schema: Table, description: str = "") -> Table:
    """Return a parameter in the path, the query or a header."""
    value = {"in": place, "name": name, "required": place == "path", "schema": schema}
    return {**value, "description": description} if description else value


def ref(name: str) -> Table:
    """Return a reference to one of the document's schemas."""
    return {"$ref": SCHEMA_PREFIX + name}


def content(description: str, schemas: Table, headers: Table | None = None) -> Table:
    """Return a response. `schemas` are by media type."""
    by_media = {media: {"schema": schema} for media, schema in schemas.items()}
    return {
        "description": description,
        "headers": {**ID, **(headers or {})},
        "content": by_media,
    }


def problem(description: str) -> Table:
    """Return a response that is a problem."""
    return content(description, {MEDIA_TYPE: ref("Problem")})


def accepted(status: int, schema: Table | None = None) -> Table:
    """Return the response to a send."""
    return {
        str(status): content("Accepted; it is sent in order", {JSON: schema or ref("Accepted")})
    }


def answered() -> Table:
    """Return the response to an iq."""
    forms = {JSON: ref("Answer"), XML: {"type": "string"}}
    return {"200": content("The answer to an iq, as Accept prefers", forms, APPLIED)}


ANY: Final = {"type": "string"}
ID: Final = {"X-Request-Id": {"schema": WORD}}
APPLIED: Final = {"Preference-Applied": {"schema": WORD}}
FROM: Final = parameter(
    "query", "from", {**JID, "minLength": 0}, "The sender: an address that the token may speak as"
)
PREFER: Final = parameter(
    "header",
    "Prefer",
    ANY,
    f"wait=N: wait N seconds for the answer to an iq, 1 to {WAIT_LIMIT_S:.0f}; 30 by default",
)
KEYED: Final = [
    parameter(
        "header",
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        "For 24 h, the same request with the same key is sent once and answered alike",
    )
]
