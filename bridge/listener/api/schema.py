"""The bodies of requests and responses as JSON Schema, and the authentication schemes."""

from typing import Any, Final

from bridge.config.token import SCOPES
from bridge.listener.api.stanza import QUERIES
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
    contact = _object(
        ["address", "jid", "subscribed", "subscription", "online"],
        address=WORD,
        jid=WORD,
        subscribed={"type": "boolean"},
        subscription={"enum": ["none", "asked", "to"]},
        online={"type": ["boolean", "null"]},
    )
    asked: Table = {"jid": texts, "seconds": {"type": "number", "minimum": 0}}
    reason = _object(["problem", "detail"], problem=texts, detail=texts, component=texts)
    rest = ("to", "from", "id", "type", "body", "subject", "thread", "show", "status")
    content, definitions = content_schemas("#/components/schemas/Stanza{name}")
    query: Table = {"type": ["boolean", "string", "object", "null"]}
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
            "Rest": {
                **_object(
                    [], kind=kind, **dict.fromkeys(rest, maybe), **dict.fromkeys(QUERIES, query)
                ),
                "additionalProperties": False,
            },
            "Msg": {
                **_object([], to=maybe, type=maybe, body=maybe),
                "additionalProperties": False,
            },
            "Profile": {
                **_object(
                    [],
                    name=maybe,
                    description=maybe,
                    url=maybe,
                    avatar={**maybe, "contentEncoding": "base64"},
                    category=maybe,
                    type=maybe,
                    features={"type": "array", "items": texts},
                ),
                "additionalProperties": False,
            },
            "ProfileSet": _object(
                ["address", "warnings"],
                address=WORD,
                warnings={"type": "array", "items": texts},
            ),
            "Contacts": _object(["contacts"], contacts={"type": "array", "items": contact}),
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
