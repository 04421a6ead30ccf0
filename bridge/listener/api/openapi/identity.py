"""The operations for contacts and profiles."""

from typing import Final

from bridge.listener.api.openapi.operation import OF_BODY, content, operation, parameter, ref
from bridge.listener.api.openapi.schema import JID, MAYBE, TEXTS, WORD, Table, object_schema
from bridge.listener.api.stanza import JSON

_CONTACT: Final = object_schema(
    ["address", "jid", "subscribed", "subscription", "online"],
    address=WORD,
    jid=WORD,
    subscribed={"type": "boolean"},
    subscription={"enum": ["none", "asked", "to"]},
    online={"type": ["boolean", "null"]},
)
SCHEMAS: Final[Table] = {
    "Profile": object_schema(
        [],
        name=MAYBE,
        description=MAYBE,
        url=MAYBE,
        avatar={**MAYBE, "contentEncoding": "base64"},
        category=MAYBE,
        type=MAYBE,
        features={"type": "array", "items": TEXTS},
    ),
    "ProfileSet": object_schema(
        ["address", "warnings"],
        address=WORD,
        warnings={"type": "array", "items": TEXTS},
    ),
    "Contacts": object_schema(["contacts"], contacts={"type": "array", "items": _CONTACT}),
}


def paths() -> Table:
    """Return the paths with their operations."""
    path = parameter(
        "path",
        "local",
        JID,
        "A local part, if the token is for one component; else local@component, or the component",
    )
    listed = {"200": content("The contacts, sorted by address", {JSON: ref("Contacts")})}
    read = {"200": content("The profile", {JSON: ref("Profile")})}
    changed = {"200": content("The profile is shown from now on", {JSON: ref("ProfileSet")})}
    gone = {"204": {"description": "The profile is the one of the configuration again"}}
    return {
        "/v1/contacts": {
            "get": operation("listContacts", "identity", "List contacts", [], {}, listed, ())
        },
        "/v1/profile/{local}": {
            "get": operation(
                "getProfile", "identity", "Read the profile of an address", [path], {}, read, ()
            ),
            "put": operation(
                "putProfile",
                "identity",
                "Change the profile of an address",
                [path],
                {JSON: ref("Profile")},
                changed,
                (*OF_BODY, 409),
            ),
            "delete": operation(
                "deleteProfile", "identity", "Forget a profile that was put", [path], {}, gone, ()
            ),
        },
    }
