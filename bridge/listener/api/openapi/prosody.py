"""The operations for the paths of mod_rest and mod_post_msg."""

from typing import Final

from bridge.listener.api.openapi.operation import (
    ANY,
    APPLIED,
    KEYED,
    OF_BODY,
    accepted,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import JID, MAYBE, WORD, Table, open_schema
from bridge.listener.api.prosody import FORM, REST_QUERIES
from bridge.listener.api.stanza import JSON, TEXT, XML
from xmppstream.stanza import KINDS

SCHEMAS: Final[Table] = {
    "Rest": open_schema(
        [], kind={"enum": [*KINDS, "", None]}, to=MAYBE, from_=MAYBE, id=MAYBE, type=MAYBE
    ),
    "Msg": open_schema([], to=MAYBE, type=MAYBE),
    "RestAnswer": open_schema(
        ["kind", "type", "from", "to", "id"],
        kind={"const": "iq"},
        type={"enum": ["result", "error"]},
        from_=MAYBE,
        to=MAYBE,
        id=MAYBE,
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    text = {"type": "string"}
    forms = {JSON: ref("Rest"), FORM: text, TEXT: text, XML: text}
    head = [
        parameter("path", "kind", {"enum": list(KINDS)}),
        parameter("path", "type", WORD),
        parameter("path", "to", JID),
    ]
    answered = content("The answer to an iq", {JSON: ref("RestAnswer"), XML: text, FORM: text})
    answers = accepted(202) | {"200": {**answered, "headers": APPLIED}}
    echoed = {"200": content("The stanza", {JSON: {"type": "object"}, XML: text, FORM: text})}
    statuses = (*OF_BODY, 409, 504)
    message = {JSON: ref("Msg"), FORM: text, TEXT: text}
    waiting = [parameter("header", "Prosody-Rest-Timeout", ANY, "Seconds to wait; 120 by default")]
    query = [parameter("path", "query", {"enum": list(REST_QUERIES)}), parameter("path", "to", JID)]
    return {
        "/rest": {
            "post": operation(
                "postRest",
                "prosody",
                "Like mod_rest",
                [*KEYED, *waiting],
                forms,
                answers,
                statuses,
            )
        },
        "/rest/echo": {
            "post": operation(
                "postRestEcho",
                "prosody",
                "Like mod_rest; also with the other forms of /rest",
                [],
                {JSON: ref("Rest")},  # generated clients cannot be imported with several here
                echoed,
                OF_BODY,
            )
        },
        "/rest/{kind}/{type}/{to}": {
            "post": operation(
                "postRestTo",
                "prosody",
                "Like mod_rest",
                [*head, *KEYED, *waiting],
                {**forms, JSON: {"type": "object"}},
                answers,
                statuses,
            )
        },
        "/rest/{query}/{to}": {
            "get": operation(
                "getRest",
                "prosody",
                "Like mod_rest; the fields of the payload are parameters",
                [*query, *waiting],
                {},
                {"200": answers["200"]},
                (409, 504),
            )
        },
        "/msg/{to}": {
            "post": operation(
                "postMsg",
                "prosody",
                "Like mod_post_msg",
                [parameter("path", "to", JID), *KEYED],
                message,
                accepted(201),
                (*OF_BODY, 409),
            )
        },
    }
