"""The operation that reads archives."""

from typing import Final

from bridge.listener.api.archive import COUNT, COUNT_LIMIT
from bridge.listener.api.openapi.operation import (
    ANY,
    APPLIED,
    FROM,
    OF_ANSWER,
    PREFER,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import JID, TEXTS, Table, object_schema
from bridge.listener.api.stanza import JSON

_TIME: Final[Table] = {"type": "string", "examples": ["2026-06-30T12:00:00Z"]}
_PARAMETERS: Final[dict[str, tuple[Table, str]]] = {
    "with": ({**JID, "minLength": 0}, "Only messages from or to this address"),
    "start": (_TIME, "Only messages since then"),
    "end": (_TIME, "Only messages until then"),
    "after": (ANY, "The page after the message with this archive id"),
    "before": (ANY, "The page before it; the last page if it is empty"),
    "max": (
        {"type": "integer", "minimum": 1, "maximum": COUNT_LIMIT},
        f"The messages of a page, at most; {COUNT} by default",
    ),
    "node": (ANY, "A node of the archive"),
}
SCHEMAS: Final[Table] = {
    "ArchivePage": object_schema(
        ["jid", "seconds", "messages", "complete"],
        jid=TEXTS,
        seconds={"type": "number", "minimum": 0},
        messages={"type": "array", "items": {"type": "object"}},
        first=TEXTS,
        last=TEXTS,
        count={"type": "integer"},
        complete={"type": "boolean"},
    )
}


def paths() -> Table:
    """Return the paths with their operations."""
    given = [parameter("query", name, *about) for name, about in _PARAMETERS.items()]
    answered = {"200": content("A page", {JSON: ref("ArchivePage")}, APPLIED)}
    return {
        "/v1/archive/{jid}": {
            "get": operation(
                "queryArchive",
                "query",
                "Read a page of an archive of messages",
                [parameter("path", "jid", JID), *given, FROM, PREFER],
                {},
                answered,
                OF_ANSWER,
            )
        }
    }
