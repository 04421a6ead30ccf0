"""The JSON Schema of stanzas and problems, and of what other schemas are made of."""

from typing import Any, Final

from bridge.config.token import SCOPES
from bridge.listener.problem import STATUS_OF
from bridge.payload.field import FIELDS
from bridge.payload.schema import content_schemas, reply_object, request_schema, stream_object

Table = dict[str, Any]

WORD: Final[Table] = {"type": "string", "minLength": 1}
JID: Final[Table] = {**WORD, "maxLength": 3071, "examples": ["juliet@example.com"]}
TEXTS: Final[Table] = {"type": "string"}
MAYBE: Final[Table] = {"type": ["string", "null"]}


SECURITY_SCHEMES: Final[Table] = {
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
}


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


def open_schema(required: list[str], **properties: Table) -> Table:
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


def _schemas() -> Table:
    template = "#/components/schemas/Stanza{name}"
    request, read = request_schema(template)
    content, written = content_schemas(template)
    definitions = {  # a title would name a class twice, as a definition and as an answer
        f"Stanza{name}": {**schema, "title": f"Stanza{name}"}
        for name, schema in {**read, **written}.items()
    }
    of_iq = [field for field in FIELDS if "iq" in field.kinds]
    return {
        **_portable(definitions),
        "Stanza": _portable(reply_object(content)),
        "StreamObject": _portable(stream_object(content)),
        "Request": _portable(request),
        "Reply": {
            "anyOf": [
                {"$ref": "#/components/schemas/Stanza"},
                {"type": "array", "items": {"$ref": "#/components/schemas/Stanza"}},
                {"type": "null"},
            ]
        },
        "Accepted": object_schema(["id", "uid"], id=WORD, uid=WORD),
        "Answer": object_schema(
            ["kind", "type", "from", "to", "id", "stanza"],
            kind={"const": "iq"},
            type={"const": "result"},
            from_=MAYBE,
            to=MAYBE,
            id=MAYBE,
            stanza=TEXTS,
            **{field.key: _portable(request["properties"][field.key]) for field in of_iq},
        ),
        "Problem": object_schema(
            ["type", "title", "status"],
            type=TEXTS,
            title=TEXTS,
            status={"type": "integer"},
            detail=TEXTS,
            stanza=TEXTS,
            error=object_schema(
                ["condition", "type"],
                condition={"enum": list(STATUS_OF)},
                type=TEXTS,
                text=MAYBE,
                application=TEXTS,
            ),
        ),
    }


SCHEMAS: Final = _schemas()
