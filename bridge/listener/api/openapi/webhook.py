"""The OpenAPI description of the POST that the bridge makes to a service (H1 to H4): `webhooks`.

The request is described by the tables of `payload`, and the effect of a status by that of
`webhook.outcome`.
"""

from typing import Any, Final

from bridge.listener.api.openapi.schema import WORD
from bridge.webhook.outcome import ERROR_OF_STATUS

Table = dict[str, Any]

_COUNT: Final[Table] = {"type": "integer", "minimum": 1}
STREAMED: Final = ("application/x-ndjson", "text/event-stream")
"""The media types of a reply that is a stream: of `StreamObject`, one per line or event."""
HEADERS: Final[dict[str, tuple[Table, bool, str]]] = {
    "webhook-id": (WORD, True, "The same at every attempt; equals `uid`"),
    "webhook-timestamp": (_COUNT, True, "The time of this attempt, Unix time in seconds"),
    "webhook-attempt": (_COUNT, True, "The number of this attempt, from 1"),
    "webhook-signature": (
        WORD,
        False,
        "Standard Webhooks: a signature with each of webhook_secrets, if there are any",
    ),
    "traceparent": (WORD, True, "W3C Trace Context; the trace is the same at every attempt"),
}
"""The headers that the bridge adds: the schema, whether it is always there, and what it is."""


def webhooks() -> Table:
    """Return the object `webhooks` of the description."""
    parameters = [
        {"in": "header", "name": name, "required": always, "schema": schema, "description": why}
        for name, (schema, always, why) in HEADERS.items()
    ]
    reply = {"$ref": "#/components/schemas/Reply"}
    content = {
        "application/json": {"schema": reply},
        "application/xmpp+xml": {"schema": {"type": "string"}},
        **{one: {"schema": {"$ref": "#/components/schemas/StreamObject"}} for one in STREAMED},
    }
    answers: Table = {
        "200": {"description": "Accepted; the stanzas of the body are sent", "content": content},
        "202": {
            "description": "Accepted; with `deferred`, replies follow at the `reply_url`",
            "content": {
                "application/json": {
                    "schema": {"type": "object", "properties": {"deferred": {"type": "boolean"}}}
                }
            },
        },
        "204": {"description": "Accepted; there is nothing to say"},
    }
    for status, (condition, type) in ERROR_OF_STATUS.items():
        why = f"The sender gets the stanza error {condition.value} ({type.value})"
        answers[str(status)] = {"description": why}
    default = "Another 2xx: accepted; any other: the sender gets service-unavailable (cancel)"
    return {
        "stanza": {
            "post": {
                "operationId": "receiveStanza",
                "summary": "A stanza has arrived; answer it, or not",
                "tags": ["service"],
                "security": [],
                "parameters": parameters,
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Request"}}
                    },
                },
                "responses": {**answers, "default": {"description": default}},
            }
        }
    }
