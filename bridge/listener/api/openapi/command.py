"""The operations for the commands that people can run."""

from typing import Final

from bridge.config.command import COMMANDS_LIMIT
from bridge.config.form import FIELD_TYPES, FIELDS_LIMIT
from bridge.listener.api.openapi.operation import (
    FROM,
    OF_BODY,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import MAYBE, TEXTS, WORD, Table, object_schema
from bridge.listener.api.stanza import JSON

_FLAG: Final[Table] = {"type": ["boolean", "null"]}
_NUMBER: Final[Table] = {"type": ["integer", "null"]}
_OPTION: Final = object_schema(["value"], value=TEXTS, label=MAYBE)
_RULE: Final = object_schema([], type=MAYBE, min=_NUMBER, max=_NUMBER, regex=MAYBE)
_FIELD: Final = object_schema(
    [],
    var=MAYBE,
    type={"enum": [*FIELD_TYPES, "", None]},
    label=MAYBE,
    desc=MAYBE,
    required_=_FLAG,
    options={"type": ["array", "null"], "items": {"anyOf": [TEXTS, _OPTION]}},
    value={"type": ["string", "integer", "boolean", "array", "null"], "items": TEXTS},
    validate={"anyOf": [MAYBE, _RULE]},
)
_SETTINGS: Final[Table] = {
    "name": MAYBE,
    "for": {"type": ["array", "null"], "items": TEXTS},
    "fields": {"type": ["array", "null"], "maxItems": FIELDS_LIMIT, "items": ref("CommandField")},
    "more": _FLAG,
}
SCHEMAS: Final[Table] = {
    "CommandField": _FIELD,
    "CommandSettings": object_schema([], **_SETTINGS),
    "CommandView": object_schema(
        ["node", "name", "component", "origin"],
        node=TEXTS,
        component=WORD,
        origin={"enum": ["configuration", "api"]},
        **_SETTINGS,
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    node = parameter("path", "node", WORD, "The node of the command: one word")
    one = {JSON: ref("CommandView")}
    listed = object_schema(
        ["commands"],
        commands={"type": "array", "items": ref("CommandView")},
    )
    there = content("The command", one)
    return {
        "/v1/commands": {
            "get": operation(
                "listCommands",
                "commands",
                "List the commands",
                [FROM],
                {},
                {"200": content(f"The commands, at most {COMMANDS_LIMIT} each", {JSON: listed})},
                (),
            )
        },
        "/v1/commands/{node}": {
            "get": operation(
                "getCommand", "commands", "Show a command", [node, FROM], {}, {"200": there}, ()
            ),
            "put": operation(
                "putCommand",
                "commands",
                "Offer a command, or change one",
                [node, FROM],
                {JSON: ref("CommandSettings")},
                {"200": there, "201": there},
                (*OF_BODY, 409),
            ),
            "delete": operation(
                "deleteCommand",
                "commands",
                "Forget a command that was put",
                [node, FROM],
                {},
                {"204": {"description": "It is not offered any more"}},
                (409,),
            ),
        },
    }
