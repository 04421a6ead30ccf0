"""JSON Schema of requests (H1) and replies (H2), made of the tables of `field` and `content`."""

from typing import Any, Final

import msgspec

from bridge.config.event import EVENTS
from bridge.payload.content import WRITERS
from bridge.payload.field import FIELDS
from xmppstream.stanza import KINDS

Table = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Final[Table] = {"type": "string"}
_REQUEST: Final[dict[str, tuple[Table, str]]] = {
    "to": ({"type": ["string", "null"]}, "The address that was written to."),
    "from": ({"type": ["string", "null"]}, "The sender's full address."),
    "kind": ({"enum": list(KINDS)}, "What the stanza is."),
    "stanza": (_TEXT, "The whole XML."),
    "received": ({**_TEXT, "format": "date-time"}, "When the stanza arrived."),
    "event": ({"enum": list(EVENTS)}, "What the stanza is, in one word."),
    "uid": (_TEXT, "The same as the header webhook-id."),
    "attempt": ({"type": "integer", "minimum": 1}, "1 for the first POST of the stanza."),
    "timestamp": ({**_TEXT, "format": "date-time"}, "When it was sent, as far as known."),
    "id": (_TEXT, "The stanza's id."),
    "type": (_TEXT, "The stanza's type."),
    "lang": (_TEXT, "The stanza's own xml:lang."),
    "body": (_TEXT, "The body of a message."),
    "text": (_TEXT, "The body without quotations and other stand-ins."),
    "ref": (_TEXT, "The id by which to refer to the message."),
    "room": (_TEXT, "The room's address."),
    "sender_nick": (_TEXT, "The sender's nickname in the room."),
    "mentioned": ({"const": True}, "The message mentions the bot's nickname."),
    "from_local": (_TEXT, "The sender's address up to the `@`."),
    "from_local_unescaped": (_TEXT, "What it stands for, if that differs (XEP-0106)."),
    "from_domain": (_TEXT, "The domain of the sender's address."),
    "from_resource": (_TEXT, "The sender's address after the `/`."),
    "to_local": (_TEXT, "The address that was written to, up to the `@`."),
    "to_local_unescaped": (_TEXT, "What it stands for, if that differs (XEP-0106)."),
    "to_domain": (_TEXT, "The domain of the address that was written to."),
    "to_resource": (_TEXT, "The address that was written to, after the `/`."),
    "answer": (_TEXT, "The value of the answer that was chosen."),
    "private": ({"const": True}, "It is a private message of a room's occupant."),
    "reply_url": (
        {**_TEXT, "format": "uri"},
        "Where to POST replies later. Whoever knows it may reply: keep it secret.",
    ),
    "reason": (_TEXT, "Why the bot is not in the room any more, for the event room_left."),
}
_EITHER: Final = {"FileToSend": ("url", "data_base64")}
"""Two keys of which an object needs one, which msgspec cannot say."""
_ALWAYS: Final = list(_REQUEST)[: list(_REQUEST).index("id")]


def content_schemas(ref_template: str) -> tuple[Table, Table]:
    """Return the schemas of the keys of `content`, and the definitions that they refer to."""
    found, definitions = msgspec.json.schema_components(
        [writer.shape for writer in WRITERS.values()], ref_template=ref_template
    )
    for name, (key, other) in _EITHER.items():
        # Not anyOf: openapi-python-client then loses the properties.
        definitions[name]["if"] = {"not": {"required": [key]}}
        definitions[name]["then"] = {"required": [other]}
    schemas = {
        key: {"description": writer.doc, **schema}
        for (key, writer), schema in zip(WRITERS.items(), found, strict=True)
    }
    return schemas, definitions


def request_schema(ref_template: str) -> tuple[Table, Table]:
    """Return the schema of a request, and the definitions that it refers to. Later versions may add
    keys, so it is open.
    """
    found, definitions = msgspec.json.schema_components(
        [field.shape for field in FIELDS], ref_template=ref_template
    )
    fields = {
        field.key: {"description": field.doc, **schema}
        for field, schema in zip(FIELDS, found, strict=True)
    }
    base = {key: {"description": doc, **schema} for key, (schema, doc) in _REQUEST.items()}
    properties = {**base, **fields}
    return {"type": "object", "properties": properties, "required": _ALWAYS}, definitions


def json_schema() -> Table:
    """Return the schema of a request and of a reply, as definitions `Request` and `Reply`; of a
    reply that is a stream, each line is a `StreamObject`.
    """
    template = "#/$defs/{name}"
    request, definitions = request_schema(template)
    content, more = content_schemas(template)
    return {
        "$schema": DIALECT,
        "title": "xmpp-bridge",
        "$defs": {
            **definitions,
            **more,
            "Request": request,
            "ReplyObject": reply_object(content),
            "StreamObject": stream_object(content),
            "Reply": {
                "anyOf": [
                    {"$ref": "#/$defs/ReplyObject"},
                    {"type": "array", "items": {"$ref": "#/$defs/ReplyObject"}},
                    {"type": "null"},
                ]
            },
        },
    }


def stream_object(content: Table) -> Table:
    """Return the schema of one object of a streamed reply."""
    one = reply_object(content)
    added: Table = {
        "append": {"type": ["string", "integer", "boolean", "null"]},
        "new": {"type": ["boolean", "null"]},
    }
    return {**one, "properties": {**added, **one["properties"]}}


def reply_object(content: Table) -> Table:
    """Return the schema of one object of a reply or a send; null and "" mean absent."""
    maybe: Table = {"type": ["string", "null"]}
    own: Table = {
        "kind": {"enum": [*KINDS, "", None]},
        **dict.fromkeys(("to", "from", "type", "id"), maybe),
        "body": {"type": ["string", "integer", "boolean", "null"]},
        "stanza": maybe,
    }
    absent: Table = {"enum": ["", None]}
    shapes = {key: {"anyOf": [schema, absent]} for key, schema in content.items()}
    return {"type": "object", "properties": {**own, **shapes}, "additionalProperties": False}
