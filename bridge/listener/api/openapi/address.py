"""The operation that builds addresses."""

from typing import Final

from bridge.listener.api.openapi.operation import OF_BODY, content, operation, ref
from bridge.listener.api.openapi.schema import MAYBE, TEXTS, WORD, Table, object_schema
from bridge.listener.api.stanza import JSON

SCHEMAS: Final[Table] = {
    "AddressParts": object_schema(
        [], **dict.fromkeys(("jid", "local", "domain", "resource"), MAYBE)
    ),
    "Address": object_schema(
        ["jid", "bare", "path", "domain"],
        **dict.fromkeys(("jid", "bare", "path", "domain"), WORD),
        **dict.fromkeys(("local", "local_unescaped", "resource"), TEXTS),
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    answered = {"200": content("The address", {JSON: ref("Address")})}
    return {
        "/v1/jid": {
            "post": operation(
                "makeAddress",
                "query",
                "Build an address out of its parts, or take one apart",
                [],
                {JSON: ref("AddressParts")},
                answered,
                OF_BODY,
            )
        }
    }
