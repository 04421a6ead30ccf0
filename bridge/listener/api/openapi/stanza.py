"""The operations for sending stanzas."""

from typing import Final

from bridge.listener.api.attachment import FORM
from bridge.listener.api.openapi.operation import (
    FROM,
    KEYED,
    OF_ANSWER,
    OF_BODY,
    PREFER,
    accepted,
    answered,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import JID, Table
from bridge.listener.api.stanza import JSON, TEXT, XML
from bridge.listener.submission.composition import BATCH_LIMIT
from xmppstream.stanza import KINDS, TYPES

_FORM: Final = (
    f"The body may also be {FORM}: a part `stanza` (one object, as JSON), and then parts `file`,"
    " which are uploaded. It is not among the content types below: openapi-python-client fails if"
    " there are two, and one of them takes a list."
)
SCHEMAS: Final[Table] = {}
"""Those of stanzas are the shared ones of `schema`."""


def paths() -> Table:
    """Return the paths with their operations."""
    array = {"type": "array", "items": ref("Stanza"), "minItems": 1, "maxItems": BATCH_LIMIT}
    bodies = {JSON: {"oneOf": [ref("Stanza"), array]}, XML: {"type": "string"}}
    taken = {"oneOf": [ref("Accepted"), {"type": "array", "items": ref("Accepted")}]}
    head = [
        parameter("path", "kind", {"enum": list(KINDS[:2])}),
        parameter(
            "path", "type", {"enum": sorted({"available", *TYPES["message"], *TYPES["presence"]})}
        ),
        parameter("path", "to", JID),
    ]
    send = operation(
        "sendStanzas",
        "send",
        "Send one stanza, or several; an iq waits for its answer",
        [*KEYED, PREFER],
        bodies,
        accepted(202, taken) | answered(),
        (*OF_BODY, *OF_ANSWER, 507),
    )
    return {
        "/v1/stanzas": {"post": {**send, "description": _FORM}},
        "/v1/stanzas/{kind}/{type}/{to}": {
            "post": operation(
                "sendText",
                "send",
                "Send text as the body of a message or the status of a presence",
                [*head, FROM, *KEYED],
                {TEXT: {"type": "string"}},
                accepted(202),
                (*OF_BODY, 409),
            )
        },
    }
