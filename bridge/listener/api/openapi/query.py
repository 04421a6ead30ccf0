"""The operations for asking other entities."""

from typing import Final

import msgspec

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
from bridge.listener.api.openapi.schema import JID, TEXTS, WORD, Table, object_schema
from bridge.listener.api.query import PARAMETERS, QUERIES
from bridge.listener.api.stanza import JSON
from bridge.payload.shape import VCard

_ASKED: Final[Table] = {"jid": TEXTS, "seconds": {"type": "number", "minimum": 0}}
_IDENTITY: Final = object_schema(
    ["category", "type"], category=TEXTS, type=TEXTS, name=TEXTS, lang=TEXTS
)
_ITEM: Final = object_schema([], jid=TEXTS, node=TEXTS, name=TEXTS)
_HEADER: Final = object_schema(["name", "value"], name=TEXTS, value=TEXTS)
_VCARD: Final = tuple(one.encode_name for one in msgspec.structs.fields(VCard))
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
    "Vcard": object_schema(
        ["jid", "seconds"],
        **_ASKED,
        **{key: TEXTS for key in _VCARD if key != "photo"},
        photo=object_schema([], type=TEXTS, binval=TEXTS, extval=TEXTS),
    ),
    "Last": object_schema(
        ["jid", "seconds"], **_ASKED, idle_seconds={"type": "integer"}, status=TEXTS
    ),
    "Time": object_schema(["jid", "seconds"], **_ASKED, utc=TEXTS, tzo=TEXTS),
    "UploadRequest": object_schema(
        ["jid", "seconds"],
        **_ASKED,
        put=object_schema(["url"], url=TEXTS, headers={"type": "array", "items": _HEADER}),
        get=object_schema(["url"], url=TEXTS),
    ),
}
_SUMMARIES: Final = {
    "ping": "Ping an address",
    "version": "Ask for the name and version",
    "disco": "Ask for the identities and features",
    "items": "Ask for the items",
    "vcard": "Ask for the vCard",
    "last": "Ask how long ago somebody was active",
    "time": "Ask for the time of an entity",
    "upload_request": "Ask an upload service for a slot",
}
_PARAMETERS: Final[dict[str, Table]] = {
    "node": ANY,
    "filename": WORD,
    "size": {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
    "content-type": ANY,
}


def paths() -> Table:
    """Return the paths with their operations."""
    items = {}
    for name in QUERIES:
        title = name.title().replace("_", "")
        given = [
            {**parameter("query", one, _PARAMETERS[one]), "required": one in ("filename", "size")}
            for one in PARAMETERS.get(name, ())
        ]
        ok = {"200": content("The answer", {JSON: ref(title)}, APPLIED)}
        parameters = [parameter("path", "jid", JID), *given, FROM, PREFER]
        described = operation(
            f"query{title}", "query", _SUMMARIES[name], parameters, {}, ok, OF_ANSWER
        )
        items[f"/v1/{name}/{{jid}}"] = {"get": described}
    return items
