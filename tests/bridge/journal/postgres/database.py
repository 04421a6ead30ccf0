"""A schema of its own in a running PostgreSQL, and the stores that are opened in it."""

from __future__ import annotations

import time
from itertools import count
from typing import Any, Final

import psycopg
from psycopg import sql

from bridge.config.value import DatabaseUrl
from bridge.journal.postgres.store import PostgresStore

_NUMBERS: Final = count()
_WAIT_S: Final = 20.0


class Database:
    """Removes its schema when it is closed."""

    def __init__(self, url: str) -> None:
        self.url = DatabaseUrl(url, "postgresql://db/bridge")
        self.schema = f"cluster_{next(_NUMBERS)}"
        self.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    def open(
        self, label: str = "node", *args: Any, url: str | None = None, **keys: Any
    ) -> PostgresStore:
        """Open a store as the node of this label, perhaps by another way."""
        way = self.url if url is None else DatabaseUrl(url, self.url.shown)
        return PostgresStore(way, self.schema, label, *args, **keys)

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement apart from all stores, in the schema; give its rows."""
        with psycopg.connect(self.url.value, autocommit=True) as connection:
            path = sql.SQL("SET search_path = {}").format(sql.Identifier(self.schema))
            connection.execute(path)
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def wait_for_lock(self) -> None:
        """Return when a session waits for a lock of another one."""
        self.wait_for("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 1")

    def wait_for_held(self, node: int) -> None:
        """Return when a batch of a node has begun and not ended."""
        self.wait_for(
            f"SELECT 1 WHERE NOT EXISTS (SELECT FROM node WHERE id = {node} FOR UPDATE SKIP LOCKED)"
        )

    def wait_for(self, query: str) -> list[Any]:
        """Return the rows of a query when it has some."""
        end = time.monotonic() + _WAIT_S
        while not (rows := self.execute(query)):
            assert time.monotonic() < end, query
        return rows

    def close(self) -> None:
        self.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
