"""A schema of its own in a running PostgreSQL, and the stores that are opened in it."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import psycopg
from psycopg import sql

from bridge.config.value import DatabaseUrl
from bridge.journal.postgres.store import PostgresStore

_NUMBERS: Final = count()


class Database:
    """Removes its schema when it is closed."""

    def __init__(self, url: str) -> None:
        self.url = DatabaseUrl(url, "postgresql://db/bridge")
        self.schema = f"cluster_{next(_NUMBERS)}"
        self.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    def open(self, label: str = "node", *args: Any, **keys: Any) -> PostgresStore:
        """Open a store as the node of this label."""
        return PostgresStore(self.url, self.schema, label, *args, **keys)

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement apart from all stores, in the schema; give its rows."""
        with psycopg.connect(self.url.value, autocommit=True) as connection:
            path = sql.SQL("SET search_path = {}").format(sql.Identifier(self.schema))
            connection.execute(path)
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
