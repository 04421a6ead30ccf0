"""The operation that runs the commands of others."""

from typing import Final

from bridge.listener.api.openapi.operation import (
    APPLIED,
    FROM,
    OF_ANSWER,
    OF_BODY,
    PREFER,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import JID, MAYBE, TEXTS, WORD, Table, object_schema
from bridge.listener.api.remote_command import ACTIONS
from bridge.listener.api.stanza import JSON

_VALUE: Final[Table] = {
    "anyOf": [TEXTS, {"type": "boolean"}, {"type": "integer"}, {"type": "array", "items": TEXTS}]
}
SCHEMAS: Final[Table] = {
    "RemoteCommandStep": object_schema(
        [],
        action={"enum": [*ACTIONS, "", None]},
        sessionid=MAYBE,
        data={"type": ["object", "null"], "additionalProperties": _VALUE},
    ),
    "RemoteCommandAnswer": object_schema(
        ["jid", "seconds", "node"],
        jid=TEXTS,
        seconds={"type": "number", "minimum": 0},
        node=TEXTS,
        sessionid=TEXTS,
        status=TEXTS,
        actions=ref("StanzaActions"),
        note=ref("StanzaNote"),
        form=ref("StanzaForm"),
        data={"type": "object", "additionalProperties": _VALUE},
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    parameters = [
        parameter("path", "jid", JID, "Percent-encoded, also its `/`"),
        parameter("path", "node", WORD),
        FROM,
        PREFER,
    ]
    answered = {"200": content("The answer", {JSON: ref("RemoteCommandAnswer")}, APPLIED)}
    described = operation(
        "runCommand",
        "query",
        "Run a command of somebody else, one step at a time",
        parameters,
        {JSON: ref("RemoteCommandStep")},
        answered,
        (*OF_BODY, *OF_ANSWER),
    )
    described["requestBody"]["required"] = False
    return {"/v1/commands/{jid}/{node}": {"post": described}}
