"""The operation of a `reply_url`."""

from typing import Final

from bridge.listener.api.openapi.operation import (
    KEYED,
    OF_BODY,
    accepted,
    operation,
    parameter,
    problem,
    ref,
)
from bridge.listener.api.openapi.schema import SCHEMAS as SHARED
from bridge.listener.api.openapi.schema import WORD, Table
from bridge.listener.api.stanza import JSON, XML
from bridge.listener.submission.composition import BATCH_LIMIT
from bridge.listener.submission.deferral import DONE

_STANZA: Final = SHARED["Stanza"]
SCHEMAS: Final[Table] = {
    "DeferredReply": {
        **_STANZA,
        "properties": {
            **_STANZA["properties"],
            DONE: {
                "type": "boolean",
                "description": "Whether nothing follows, which ends the promise.",
            },
        },
    }
}


def paths() -> Table:
    """Return the path with its operation."""
    one = ref("DeferredReply")
    array = {"type": "array", "items": one, "minItems": 1, "maxItems": BATCH_LIMIT}
    bodies = {JSON: {"oneOf": [one, array]}, XML: {"type": "string"}}
    taken = {"oneOf": [ref("Accepted"), {"type": "array", "items": ref("Accepted")}]}
    value = operation(
        "replyLater",
        "service",
        "Reply later to a stanza: the path is the `reply_url` of its request",
        [parameter("path", "token", WORD, "The secret of the URL"), *KEYED],
        bodies,
        accepted(202, taken),
        (*OF_BODY, 409),
    )
    answers = value["responses"]
    del answers["401"], answers["403"]  # the URL is the permission
    answers |= {
        "404": problem("No such reply_url: altered, or of another bridge; or no such component"),
        "409": problem("The Idempotency-Key was used for another reply"),
        "410": problem("The time is up, `done` was said, or the iq has its answer"),
        "429": problem("Too many replies are in progress; see Retry-After"),
    }
    value["responses"] = dict(sorted(answers.items()))
    return {"/v1/replies/{token}": {"post": {**value, "security": []}}}
