"""The OpenAPI 3.1 description of the HTTP API: `/v1/openapi.json`.

Each group of operations has a module with its paths and its schemas, which `_GROUPS` lists. One
test compares the document with the routes, another one with the statuses that are answered.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from bridge import __version__
from bridge.listener.api.openapi import (
    address,
    archive,
    command,
    event,
    file,
    identity,
    monitoring,
    prosody,
    query,
    remote_command,
    reply,
    room,
    schema,
    stanza,
)
from bridge.listener.api.openapi.webhook import webhooks

_GROUPS: Final = (
    stanza,
    reply,
    file,
    query,
    address,
    remote_command,
    archive,
    identity,
    command,
    prosody,
    room,
    event,
    monitoring,
)
_TAGS: Final = {
    "send": "Send stanzas",
    "files": "Upload files",
    "query": "Ask other entities",
    "identity": "Contacts, and the profiles of addresses",
    "commands": "Commands that people can run",
    "rooms": "Rooms that the bridge keeps joined",
    "events": "Events of components that are pulled",
    "prosody": "The paths of mod_rest and mod_post_msg",
    "monitoring": "Metrics, health, and this description",
    "service": "The POST that the bridge makes to a service, and its later replies",
}
_MOUNTED: Final = frozenset({"/metrics", "/healthz", "/readyz"})


def document(paths: Iterable[str] = ()) -> bytes:
    """Return the document. It describes those monitoring routes that are among `paths`."""
    left_out = _MOUNTED - set(paths)
    described = {path: item for group in _GROUPS for path, item in group.paths().items()}
    schemas = {name: one for group in _GROUPS for name, one in group.SCHEMAS.items()}
    value = {
        "openapi": "3.1.0",
        "info": {
            "title": "xmpp-bridge",
            "version": __version__,
            "summary": "Sends stanzas as an XMPP component",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"bearer": []}, {"basic": []}],
        "tags": [{"name": name, "description": why} for name, why in _TAGS.items()],
        "paths": {path: item for path, item in described.items() if path not in left_out},
        "webhooks": webhooks(),
        "components": {
            "securitySchemes": schema.SECURITY_SCHEMES,
            "schemas": {**schema.SCHEMAS, **schemas},
        },
    }
    return msgspec.json.encode(value)
