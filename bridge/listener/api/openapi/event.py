"""The operations for the events of pulled components."""

from typing import Final

from bridge.listener.api.event import (
    MAX,
    MAX_LIMIT,
    RETRY_LIMIT_S,
    STREAM,
    WAIT_LIMIT_S,
    WAIT_S,
)
from bridge.listener.api.openapi.operation import (
    OF_BODY,
    SCHEMA_PREFIX,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import TEXTS, WORD, Table, object_schema
from bridge.listener.api.stanza import JSON, TEXT, XML

_EVENT: Final = object_schema(
    ["uid", "attempt", "lease_s", "request"],
    uid=WORD,
    attempt={"type": "integer", "minimum": 1},
    lease_s={"type": "number", "minimum": 0},
    request=ref("Request"),
)
SCHEMAS: Final[Table] = {
    "Event": _EVENT,
    "Events": object_schema(["events"], events={"type": "array", "items": ref("Event")}),
    "EventFailure": {
        **object_schema(
            [],
            status={"type": "integer", "minimum": 300, "maximum": 599},
            retry_after_s={"type": "number", "minimum": 0, "maximum": RETRY_LIMIT_S},
            bad_reply=TEXTS,
            deferred={"type": "boolean"},
        ),
        "minProperties": 1,
    },
    "Lease": object_schema(["lease_s"], lease_s={"type": "number", "minimum": 0}),
}


def paths() -> Table:
    """Return the paths with their operations."""
    wait: Table = {"type": "integer", "minimum": 0, "maximum": WAIT_LIMIT_S, "default": WAIT_S}
    most: Table = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX}
    asked = [
        parameter("query", "component", TEXTS, "Only its events; else those of all components"),
        parameter("query", "wait", wait, "How many seconds to wait for the first event"),
        parameter("query", "max", most, "How many events to give out; in a stream, at once"),
    ]
    head = [
        parameter("path", "uid", WORD),
        parameter(
            "query",
            "attempt",
            {"type": "integer", "minimum": 1, "maximum": 2**31},
            "That of the event: if it is not the latest, its lease has ended",
        ),
    ]
    given = {JSON: ref("Events"), STREAM: TEXTS}
    replies = {
        JSON: {"anyOf": [{"$ref": SCHEMA_PREFIX + "Reply"}, ref("EventFailure")]},
        XML: {"type": "string"},
        TEXT: {"type": "string"},
    }
    return {
        "/v1/events": {
            "get": operation(
                "pollEvents",
                "events",
                "Take events, or wait for some",
                asked,
                {},
                {"200": content("Events, each leased to this token", given)},
                (409,),
            )
        },
        "/v1/events/{uid}": {
            "post": operation(
                "answerEvent",
                "events",
                "Answer an event: by a reply, by nothing (an empty body), or by a failure",
                head,
                replies,
                {"204": {"description": "The event is answered"}},
                (*OF_BODY, 409, 410),
            )
        },
        "/v1/events/{uid}/extend": {
            "post": operation(
                "extendEvent",
                "events",
                "Extend the lease of an event",
                head,
                {},
                {"200": content("How long the lease lasts from now", {JSON: ref("Lease")})},
                (409, 410),
            )
        },
    }
