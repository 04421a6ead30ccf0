"""The bodies of requests and responses as JSON Schema, and the authentication schemes."""

from typing import Any, Final

from bridge.config.token import SCOPES
from bridge.listener.problem import STATUS_OF
from bridge.payload.schema import content_schemas, reply_object
from xmppstream.stanza import KINDS

Table = dict[str, Any]

WORD: Final[Table] = {"type": "string", "minLength": 1}
JID: Final[Table] = {**WORD, "maxLength": 3071, "examples": ["juliet@example.com"]}


def _object(required: list[str], **properties: Table) -> Table:
    names = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {"type": "object", "required": required, "properties": names}


def _components() -> Table:
    maybe = {"type": ["string", "null"]}
    kind = {"enum": [*KINDS, "", None]}
    texts = {"type": "string"}
    identity = _object(["category", "type"], category=texts, type=texts, name=texts, lang=texts)
    item = _object([], jid=texts, node=texts, name=texts)
    asked: Table = {"jid": texts, "seconds": {"type": "number", "minimum": 0}}
    reason = _object(["problem", "detail"], problem=texts, detail=texts, component=texts)
    content, definitions = content_schemas("#/components/schemas/Stanza{name}")
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
            **{f"Stanza{name}": schema for name, schema in definitions.items()},
            "Stanza": reply_object(content),
            "Rest": _object([], kind=kind, to=maybe, from_=maybe, id=maybe, type=maybe),
            "Msg": _object([], to=maybe, type=maybe),
            "RestAnswer": _object(
                ["kind", "type", "from", "to", "id"],
                kind={"const": "iq"},
                type={"enum": ["result", "error"]},
                from_=maybe,
                to=maybe,
                id=maybe,
            ),
            "Accepted": _object(["id", "uid"], id=WORD, uid=WORD),
            "Answer": _object(
                ["kind", "type", "from", "to", "id", "stanza"],
                kind={"const": "iq"},
                type={"const": "result"},
                from_=maybe,
                to=maybe,
                id=maybe,
                stanza=texts,
            ),
            "Ping": _object(["jid", "seconds"], **asked),
            "Version": _object(["jid", "seconds"], **asked, name=texts, version=texts, os=texts),
            "Disco": _object(
                ["jid", "seconds"],
                **asked,
                node=texts,
                identities={"type": "array", "items": identity},
                features={"type": "array", "items": texts},
            ),
            "Items": _object(
                ["jid", "seconds"], **asked, node=texts, items={"type": "array", "items": item}
            ),
            "Readiness": _object(
                ["ready", "reasons", "journal"],
                ready={"type": "boolean"},
                reasons={"type": "array", "items": reason},
                journal={"enum": ["ok", "failing", "off"]},
            ),
            "Problem": _object(
                ["type", "title", "status"],
                type=texts,
                title=texts,
                status={"type": "integer"},
                detail=texts,
                stanza=texts,
                error=_object(
                    ["condition", "type"],
                    condition={"enum": list(STATUS_OF)},
                    type=texts,
                    text=maybe,
                ),
            ),
        },
    }


COMPONENTS: Final = _components()
