"""Where the journal of a run lies, read as any other process may read it: not by the bridge's code,
which is what is judged.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

import psycopg
import trio

from bridge.config.value import parse_database_url
from bridge.journal.directory import StateDirectory
from bridge.journal.postgres import store as postgres
from bridge.journal.sqlite import store as sqlite
from bridge.journal.store import JournalStore
from tests.bench.contestant import DOMAIN
from tests.bench.evidence import Snapshot, read_journal
from tests.servers.daemon import Table
from tests.servers.postgres import ReplicatedPostgres

Journal = Literal["sqlite", "postgres"]
GATEWAY: Final = -1
"""The `part` of a component's lease that says who attaches."""
CONNECT_S: Final = 5


class Store(Protocol):
    """The journal of all nodes."""

    def settings(self, label: str, host: str) -> dict[str, Table]:
        """Further tables of the configuration of a node, which finds the database at `host`."""
        ...

    def open(self, label: str) -> JournalStore:
        """Open it by the bridge's own code, as the node `label` where there may be several."""
        ...

    async def read(self, began_at: float) -> Snapshot:
        """What it holds now."""
        ...

    async def gateway(self) -> str | None:
        """The label of the node that has the lease to attach; None if there is none just now."""
        ...


class SqliteStore:
    """The file of the only node."""

    def __init__(self, file: Path, label: str) -> None:
        self._file, self._label = file, label

    def settings(self, label: str, host: str) -> dict[str, Table]:
        return {}

    def open(self, label: str) -> JournalStore:
        return sqlite.SqliteStore(self._file)

    async def read(self, began_at: float) -> Snapshot:
        return read_journal(self._file, 0, began_at, trio.current_time())

    async def gateway(self) -> str | None:
        return self._label


class PostgresStore:
    """A schema of a database that may fail over."""

    def __init__(
        self, database: ReplicatedPostgres, schema: str = "xmpp_bridge", *, spread: bool = True
    ) -> None:
        """With `spread`, all nodes POST; otherwise only the gateway does."""
        self.database = database
        self._spread = spread
        self._schema = schema

    def settings(self, label: str, host: str) -> dict[str, Table]:
        journal = {"url": self.database.url_at(host)}
        node = {"cluster": self._schema, "label": label, "spread": self._spread}
        return {"journal": journal, "node": node}

    def open(self, label: str) -> JournalStore:
        url = parse_database_url(self.database.url)
        return postgres.PostgresStore(url, self._schema, label)

    async def read(self, began_at: float) -> Snapshot:
        pending, replies, dead = await self._query(
            "SELECT id FROM pending", "SELECT uid, place FROM reply", "SELECT id, reason FROM dead"
        )
        return Snapshot(
            epoch=0,
            began_at=began_at,
            ended_at=trio.current_time(),
            pending={id for (id,) in pending},
            replies={f"{uid}-{place}" for uid, place in replies},
            dead=[f"{id}: {why}" for id, why in dead],
        )

    async def gateway(self) -> str | None:
        [rows] = await self._query(
            "SELECT node.label FROM lease JOIN node ON lease.node = node.id"
            f" WHERE lease.part = {GATEWAY} AND lease.component = '{DOMAIN}'"
            " AND node.incarnation IS NOT NULL"
        )
        return rows[0][0] if rows else None

    async def _query(self, *queries: str) -> list[list[tuple[str, ...]]]:
        """The rows of each query, all of one state."""
        return await trio.to_thread.run_sync(self._query_now, queries)

    def _query_now(self, queries: tuple[str, ...]) -> list[list[tuple[str, ...]]]:
        url = self.database.primary.url
        with psycopg.connect(url, connect_timeout=CONNECT_S, autocommit=True) as connection:
            connection.execute(f'SET search_path TO "{self._schema}"'.encode())
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return [connection.execute(query.encode()).fetchall() for query in queries]


@asynccontextmanager
async def open_store(
    journal: Journal,
    directory: Path,
    labels: list[str],
    network: str | None = None,
    *,
    spread: bool = True,
) -> AsyncIterator[Store]:
    """Make a journal for these nodes, whose own directories are to lie in `directory`; a database
    is started, and can be reached from `network`. With `spread`, all nodes POST.
    """
    if journal == "sqlite":
        [label] = labels
        yield SqliteStore(StateDirectory(directory / label / "state").journal_file, label)
    else:
        async with ReplicatedPostgres(network=network) as database:
            yield PostgresStore(database, spread=spread)
