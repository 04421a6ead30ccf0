"""The bodies of requests and responses as JSON Schema, and the authentication schemes."""

from typing import Any, Final

import msgspec

from bridge.config.token import SCOPES
from bridge.listener.problem import STATUS_OF
from bridge.payload.field import FIELDS
from bridge.payload.schema import content_schemas, reply_object, request_schema
from bridge.xmpp.room.occupant import Occupant
from bridge.xmpp.room.room import Phase
from xmppstream.stanza import KINDS

Table = dict[str, Any]

WORD: Final[Table] = {"type": "string", "minLength": 1}
JID: Final[Table] = {**WORD, "maxLength": 3071, "examples": ["juliet@example.com"]}


_OCCUPANT: Final = tuple(one.name for one in msgspec.structs.fields(Occupant))


def object_schema(required: list[str], **properties: Table) -> Table:
    """Return the schema of an object that has no other keys. A `_` at the end of a name is for
    Python alone.
    """
    names = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {
        "type": "object",
        "required": required,
        "properties": names,
        "additionalProperties": False,
    }


def _open(required: list[str], **properties: Table) -> Table:
    """Return the schema of an object that may have other keys, those of mod_rest."""
    return {**object_schema(required, **properties), "additionalProperties": True}


def _portable(schema: Any) -> Any:
    """Return a schema without what code generators do not take as it is meant: enumerations of
    booleans (openapi-python-client 0.29), and a default of null, which makes a key required
    (openapi-typescript 7).
    """
    if isinstance(schema, list):
        return [_portable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("enum") in ([False], [True]) or isinstance(schema.get("const"), bool):
        rest = {key: value for key, value in schema.items() if key not in ("enum", "const")}
        return {**rest, "type": "boolean"}
    return {
        key: _portable(value) for key, value in schema.items() if (key, value) != ("default", None)
    }


def _components() -> Table:
    maybe = {"type": ["string", "null"]}
    kind = {"enum": [*KINDS, "", None]}
    texts = {"type": "string"}
    identity = object_schema(
        ["category", "type"], category=texts, type=texts, name=texts, lang=texts
    )
    item = object_schema([], jid=texts, node=texts, name=texts)
    contact = object_schema(
        ["address", "jid", "subscribed", "subscription", "online"],
        address=WORD,
        jid=WORD,
        subscribed={"type": "boolean"},
        subscription={"enum": ["none", "asked", "to"]},
        online={"type": ["boolean", "null"]},
    )
    asked: Table = {"jid": texts, "seconds": {"type": "number", "minimum": 0}}
    reason = object_schema(["problem", "detail"], problem=texts, detail=texts, component=texts)
    template = "#/components/schemas/Stanza{name}"
    request, read = request_schema(template)
    content, written = content_schemas(template)
    definitions = {  # a title would name a class twice, as a definition and as an answer
        f"Stanza{name}": {**schema, "title": f"Stanza{name}"}
        for name, schema in {**read, **written}.items()
    }
    of_iq = [field for field in FIELDS if "iq" in field.kinds]
    room: Table = {
        **dict.fromkeys(("jid", "component", "as_", "nick", "reason"), texts),
        "since": {"type": "string", "format": "date-time"},
        "next_attempt": {"type": "string", "format": "date-time"},
        "state": {"enum": [phase.value for phase in Phase]},
        "origin": {"enum": ["configuration", "api", "invitation", "service"]},
        "create": {"type": "boolean"},
        "occupant_count": {"type": "integer", "minimum": 0},
    }
    return {
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": f"Scopes: {', '.join(SCOPES)}",
            },
            "basic": {
                "type": "http",
                "scheme": "basic",
                "description": "local@component, or the component alone, with the token's secret",
            },
        },
        "schemas": {
            **_portable(definitions),
            "Stanza": _portable(reply_object(content)),
            "Request": _portable(request),
            "Reply": {
                "anyOf": [
                    {"$ref": "#/components/schemas/Stanza"},
                    {"type": "array", "items": {"$ref": "#/components/schemas/Stanza"}},
                    {"type": "null"},
                ]
            },
            "Rest": _open([], kind=kind, to=maybe, from_=maybe, id=maybe, type=maybe),
            "Msg": _open([], to=maybe, type=maybe),
            "RestAnswer": _open(
                ["kind", "type", "from", "to", "id"],
                kind={"const": "iq"},
                type={"enum": ["result", "error"]},
                from_=maybe,
                to=maybe,
                id=maybe,
            ),
            "Profile": object_schema(
                [],
                name=maybe,
                description=maybe,
                url=maybe,
                avatar={**maybe, "contentEncoding": "base64"},
                category=maybe,
                type=maybe,
                features={"type": "array", "items": texts},
            ),
            "ProfileSet": object_schema(
                ["address", "warnings"],
                address=WORD,
                warnings={"type": "array", "items": texts},
            ),
            "Contacts": object_schema(["contacts"], contacts={"type": "array", "items": contact}),
            "Accepted": object_schema(["id", "uid"], id=WORD, uid=WORD),
            "Answer": object_schema(
                ["kind", "type", "from", "to", "id", "stanza"],
                kind={"const": "iq"},
                type={"const": "result"},
                from_=maybe,
                to=maybe,
                id=maybe,
                stanza=texts,
                **{field.key: _portable(request["properties"][field.key]) for field in of_iq},
            ),
            "Ping": object_schema(["jid", "seconds"], **asked),
            "Version": object_schema(
                ["jid", "seconds"], **asked, name=texts, version=texts, os=texts
            ),
            "Disco": object_schema(
                ["jid", "seconds"],
                **asked,
                node=texts,
                identities={"type": "array", "items": identity},
                features={"type": "array", "items": texts},
            ),
            "Items": object_schema(
                ["jid", "seconds"], **asked, node=texts, items={"type": "array", "items": item}
            ),
            "Health": object_schema(["status"], status={"const": "alive"}),
            "Readiness": object_schema(
                ["ready", "reasons", "journal"],
                ready={"type": "boolean"},
                reasons={"type": "array", "items": reason},
                journal={"enum": ["ok", "failing", "off"]},
            ),
            "Room": object_schema(["jid", "component", "as", "nick", "state", "origin"], **room),
            "RoomDetail": object_schema(
                ["jid", "component", "as", "nick", "state", "origin", "occupants"],
                **room,
                subject=texts,
                subject_by=texts,
                occupants={
                    "type": "array",
                    "items": object_schema(["nick"], **dict.fromkeys(_OCCUPANT, texts)),
                },
            ),
            "RoomSettings": object_schema(
                [], as_=maybe, nick=maybe, password=maybe, create={"type": ["boolean", "null"]}
            ),
            "Problem": object_schema(
                ["type", "title", "status"],
                type=texts,
                title=texts,
                status={"type": "integer"},
                detail=texts,
                stanza=texts,
                error=object_schema(
                    ["condition", "type"],
                    condition={"enum": list(STATUS_OF)},
                    type=texts,
                    text=maybe,
                ),
            ),
        },
    }


COMPONENTS: Final = _components()
