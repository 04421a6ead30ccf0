"""A digest of the settings that the nodes of a cluster have in common.

A node shows it to the others, so an operator is told if one of them has another configuration. What
may differ from machine to machine is not in it: `[listen]`, `[log]`, `[tracing]`, the label in
`[node]`, addresses of servers, and paths of files. Nor are secrets: the digest lies in the
database, and a short one could be guessed from it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import attrs

from bridge.config.settings import Settings

_TABLES: Final = ("components", "http", "stream", "retry", "limits")


def digest_of(settings: Settings) -> str:
    """Return 16 hexadecimal digits, the same in each process with these settings."""
    tables = {name: _plain(getattr(settings, name)) for name in _TABLES}
    tables["spread"] = settings.node.spread
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """Return a value as JSON has it, in one order. What must not be shown is left out."""
    kind = type(value)
    if attrs.has(kind):
        shown = (field.name for field in attrs.fields(kind) if field.repr)
        return {
            name: _plain(getattr(value, name))
            for name in shown
            if name != "server" and not name.endswith("_file")
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(json.dumps(_plain(one), sort_keys=True) for one in value)
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | None) else type(value).__name__
