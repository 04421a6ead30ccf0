"""The operations for asking other entities."""

from typing import Final

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
from bridge.listener.api.stanza import JSON, QUERIES

_ASKED: Final[Table] = {"jid": TEXTS, "seconds": {"type": "number", "minimum": 0}}
_IDENTITY: Final = object_schema(
    ["category", "type"], category=TEXTS, type=TEXTS, name=TEXTS, lang=TEXTS
)
_ITEM: Final = object_schema([], jid=TEXTS, node=TEXTS, name=TEXTS)
SCHEMAS: Final[Table] = {
    "Ping": object_schema(["jid", "seconds"], **_ASKED),
    "Version": object_schema(["jid", "seconds"], **_ASKED, name=TEXTS, version=TEXTS, os=TEXTS),
    "Disco": object_schema(
        ["jid", "seconds"],
        **_ASKED,
        node=TEXTS,
        identities={"type": "array", "items": _IDENTITY},
        features={"type": "array", "items": TEXTS},
    ),
    "Items": object_schema(
        ["jid", "seconds"], **_ASKED, node=TEXTS, items={"type": "array", "items": _ITEM}
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    summaries = (
        "Ping an address",
        "Ask for the name and version",
        "Ask for the identities and features",
        "Ask for the items",
    )
    items = {}
    for name, summary in zip(QUERIES, summaries, strict=True):
        node = [parameter("query", "node", ANY)] if name in ("disco", "items") else []
        ok = {"200": content("The answer", {JSON: ref(name.title())}, APPLIED)}
        parameters = [parameter("path", "jid", JID), *node, FROM, PREFER]
        described = operation(
            f"query{name.title()}", "query", summary, parameters, {}, ok, OF_ANSWER
        )
        items[f"/v1/{name}/{{jid}}"] = {"get": described}
    return items
