"""The small state of components in SQL, within the caller's transaction."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from bridge.journal.sqlite.statement import Bulk
from bridge.journal.store import DeleteState, PutState, StateEntry

_PUT: Final = Bulk(
    "INSERT INTO state (component, kind, key, value) VALUES ",
    "(?, ?, ?, ?)",
    " ON CONFLICT (component, kind, key) DO UPDATE SET value = excluded.value",
)
_DELETE: Final = Bulk(
    "DELETE FROM state WHERE (component, kind, key) IN (VALUES ", "(?, ?, ?)", ")"
)

Name = tuple[str, str, str]


def write_state(
    database: sqlite3.Connection, changes: Mapping[Name, PutState | DeleteState]
) -> None:
    """Execute the last change of each entry."""
    changed = changes.values()
    puts = [(*one.name, one.value) for one in changed if isinstance(one, PutState)]
    _PUT.run(database, puts)
    _DELETE.run(database, [one.name for one in changed if isinstance(one, DeleteState)])


def read_state(database: sqlite3.Connection, component: str) -> list[StateEntry]:
    """Return the entries of a component, sorted by kind and key."""
    query = "SELECT kind, key, value FROM state WHERE component = ? ORDER BY kind, key"
    return [StateEntry(*row) for row in database.execute(query, (component,)).fetchall()]
