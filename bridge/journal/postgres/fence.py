"""Batches that only a live node can commit, and whose outcome is always learnt.

A batch is one transaction, whose first statement counts the node's `batch` from n - 1 to n. So it
locks the node's row and fails if another node has ended this one, or if the database has lost what
it had committed. A plain read of the incarnation would fence nothing: the node could be ended
between that read and the commit.

If the connection is lost during a batch, its outcome is unknown. The next connection ends the old
backend, waits for its lock, and reads the counter: at n the batch is committed; at n - 1 it is sent
again; anything else is `LeaseLost`. Without a connection, the outcome is asked for again until
`RESOLVE_S` have passed. After that the batch counts as failed, and what it had accepted is
withdrawn if it turns out to be committed: its sender has been told that it was refused.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg import errors

from bridge.config.value import DatabaseUrl
from bridge.journal.cluster import About, LeaseLost
from bridge.journal.postgres.connection import Connection, Row
from bridge.journal.postgres.errors import STANDBY, explain, explained, silent
from bridge.journal.postgres.schema import prepare_schema
from bridge.journal.postgres.statement import Statement
from bridge.journal.store import JournalError

RESOLVE_S: Final = 5.0
_PAUSE_S: Final = 0.1
_DEADLOCKS: Final = 5
_LOCKS: Final = 5  # attempts, of 1 s each
_FENCE: Final = "SELECT fence(%(node)s, %(writer)s, %(batch)s)"
_REGISTER: Final = """
INSERT INTO node (label, incarnation, pids, version, components, digest)
VALUES (%(label)s, nextval('incarnation'), ARRAY[pg_backend_pid()], %(version)s, %(components)s,
  %(digest)s)
ON CONFLICT (label) DO UPDATE SET incarnation = excluded.incarnation, pids = excluded.pids,
  version = excluded.version, components = excluded.components, digest = excluded.digest,
  status = ''
RETURNING id, incarnation, batch"""
# The name protects a backend that has got the number of one that has ended.
_TERMINATE: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN node ON pid = ANY (pids)
WHERE {which} AND pid <> pg_backend_pid() AND application_name = %(name)s"""
_TERMINATE_NODE: Final = _TERMINATE.format(which="node.id = %(node)s")
_TERMINATE_LABEL: Final = _TERMINATE.format(which="node.label = %(label)s")
_REOPEN: Final = """
UPDATE node SET pids = ARRAY[pg_backend_pid()] WHERE id = %(node)s AND incarnation = %(writer)s
RETURNING batch"""
_SYNC_WAIT: Final = "SyncRepWaitForLSN"
"""The function of PostgreSQL that warns of a commit that no stand-by has confirmed."""


class Fence:
    """The writing connection of a node. All calls block, and are made one at a time."""

    def __init__(
        self,
        url: DatabaseUrl,
        schema: str,
        name: str,
        *,
        durable: bool,
        elapsed_s: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`name` is that of all connections of the cluster. If not `durable`, a commit does not
        wait for the disk, unless a batch asks for it.
        """
        self.node = 0
        self.incarnation = 0
        self.batch = 0
        self.pid = 0
        self._url = url
        self._schema = schema
        self._name = name
        self._durable = durable
        self._elapsed_s = elapsed_s
        self._sleep = sleep
        self._is_prepared = False
        self._unknown: tuple[int, list[Statement]] | None = None
        self._undo: list[Statement] = []
        self._unsynced = False
        self.connection = Connection(url, schema, name, elapsed_s, self._opened)

    def register(self, label: str, about: About) -> int:
        """Become the node of this label, without leases, and return its incarnation.

        Raises:
            JournalError: if the database cannot be used.
        """
        self.node = self.incarnation = 0
        self._unknown = None
        self._undo = []
        values = {
            "label": label,
            "version": about.version,
            "components": list(about.components),
            "digest": about.digest,
            "name": self._name,
        }
        connection = self.connection.get()
        try:
            with self.connection.waiting():
                row = self._insert_unlocked(connection, values)
        except psycopg.Error as error:
            raise self._explain(error) from error
        self.node, self.incarnation, self.batch = row
        return self.incarnation

    def _insert_unlocked(self, connection: psycopg.Connection[Row], values: dict[str, Any]) -> Row:
        for _ in range(_LOCKS):
            try:
                return self._insert(connection, values)
            except errors.LockNotAvailable:  # by a batch of the process before
                connection.execute(_TERMINATE_LABEL, values)
        return self._insert(connection, values)

    def _insert(self, connection: psycopg.Connection[Row], values: dict[str, Any]) -> Row:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = on")
            cursor.execute("SET LOCAL lock_timeout = '1s'")
            [row] = cursor.execute(_REGISTER, values).fetchall()
            cursor.execute("DELETE FROM lease WHERE node = %s", row[:1])
            cursor.execute("DELETE FROM post WHERE for_node = %s", row[:1])
            return row

    def run(
        self,
        statements: Sequence[Statement],
        *,
        synced: bool = False,
        undo: Statement | None = None,
    ) -> list[list[Row]] | None:
        """Commit a batch, and return the rows of each statement, or None if only its outcome is
        known. With `synced` it waits for the disk, whatever the durability. `undo` withdraws what
        must not have happened if this raises.

        Raises:
            LeaseLost: if this node is dead.
            JournalError: if the batch is not committed, or counts as failed.
        """
        if not self.incarnation:
            raise LeaseLost("this process is not a node of the cluster", "it must register first")
        if self._unknown is not None:
            self._learn(*self._unknown)
        before = list(self._undo)
        found = self._commit([*before, *statements], synced, undo)
        self._undo.clear()
        return found and found[len(before) :]

    def _learn(self, number: int, undo: list[Statement]) -> None:
        """Learn the outcome of the batch that counted as failed.

        Raises:
            JournalError: if there is still no connection.
        """
        self.connection.get()  # reads the counter
        if self.batch >= number:
            self._undo = undo
        self._unknown = None

    def _commit(
        self, statements: list[Statement], synced: bool, undo: Statement | None
    ) -> list[list[Row]] | None:
        number, deadlocks = self.batch + 1, 0
        found: list[list[Row]] | None = None
        is_sent = is_committed = False
        lost_at: float | None = None
        while True:
            try:
                connection = self.connection.get()
                if is_committed or (is_sent and self.batch == number):
                    is_committed = True
                    self._confirm(connection)
                    return found
                is_sent = True
                found = self._execute(connection, number, statements, synced)
                if not self._unsynced:
                    return found
                is_committed, self._unsynced = True, False
            except errors.DeadlockDetected as error:
                deadlocks += 1
                if deadlocks == _DEADLOCKS:
                    raise explain(error, self._url) from error
            except LeaseLost:
                raise
            except (psycopg.Error, JournalError) as error:
                told = self._explain(error)
                undone = [] if undo is None else [undo]
                if self.connection.is_open or not is_sent:
                    if is_committed:
                        self._undo = undone
                    raise told from error
                now = self._elapsed_s()
                lost_at = now if lost_at is None else lost_at
                if now - lost_at >= RESOLVE_S:
                    self._unknown = number, undone
                    raise told from error
                self._sleep(_PAUSE_S)

    def _confirm(self, connection: psycopg.Connection[Row]) -> None:
        """Commit an empty batch after one that was committed, though perhaps no stand-by has
        confirmed it: this one is confirmed only after that one.

        Raises:
            JournalError: if it is not confirmed either.
        """
        self._execute(connection, self.batch + 1, (), True)
        if self._unsynced:
            self._unsynced = False
            raise JournalError(f"no stand-by of {self._url} confirms what is committed", STANDBY)

    def _explain(self, error: psycopg.Error | JournalError) -> JournalError:
        if isinstance(error, JournalError):
            return error
        if self.connection.was_interrupted:
            return silent(self._url)
        return explain(error, self._url)

    def _execute(
        self,
        connection: psycopg.Connection[Row],
        number: int,
        statements: Sequence[Statement],
        synced: bool,
    ) -> list[list[Row]]:
        shared = {"node": self.node, "writer": self.incarnation, "batch": number}
        try:
            with self.connection.waiting():
                with connection.pipeline():
                    connection.execute("BEGIN")
                    if synced and not self._durable:
                        connection.execute("SET LOCAL synchronous_commit = on")
                    connection.execute(_FENCE, shared)
                    cursors = [
                        connection.execute(text.encode(), {**shared, **values}, prepare=True)
                        for text, values in statements
                    ]
                    connection.execute("COMMIT")
                self.batch = number
                return [one.fetchall() if one.description else [] for one in cursors]
        except psycopg.Error:
            if not connection.closed:
                with self.connection.waiting():
                    connection.rollback()
            raise

    def terminate(self, node: int) -> None:
        """End the backends of a node, which hold its locks though it is frozen."""
        connection = self.connection.get()
        with explained(self._url), self.connection.waiting():
            connection.execute(_TERMINATE_NODE, {"node": node, "name": self._name})

    # --- a new connection

    def _opened(self, connection: psycopg.Connection[Row]) -> None:
        connection.add_notice_handler(self._noticed)
        # The plan of a prepared statement is made while the tables are nearly empty, and kept:
        # without a scan of the whole table it does for a full one, too.
        connection.execute("SET enable_seqscan = off")
        connection.prepare_threshold = 2
        level = "on" if self._durable else "off"
        connection.execute(
            "SELECT set_config('synchronous_commit', %s, false)"
            " WHERE current_setting('synchronous_commit') <> 'remote_apply' OR NOT %s",
            (level, self._durable),
        )
        if not self._is_prepared:
            prepare_schema(connection, self._schema)
            self._is_prepared = True
        [[self.pid]] = connection.execute("SELECT pg_backend_pid()").fetchall()
        if self.incarnation:
            self._read_counter(connection)

    def _read_counter(self, connection: psycopg.Connection[Row]) -> None:
        """Learn which batch was the last one, after the backend of the lost connection has ended.

        Raises:
            LeaseLost: if this node is dead, or a batch that it has committed is gone.
        """
        values = {"node": self.node, "writer": self.incarnation, "name": self._name}
        connection.execute(_TERMINATE_NODE, values)
        with connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = local")
            rows = connection.execute(_REOPEN, values).fetchall()
        if not rows or rows[0][0] not in (self.batch, self.batch + 1):
            raise LeaseLost(
                "this node has lost its place in the cluster",
                "it was silent for too long, or the database has lost its last commits",
            )
        [[self.batch]] = rows

    def _noticed(self, diagnostic: errors.Diagnostic) -> None:
        if diagnostic.source_function == _SYNC_WAIT:
            self._unsynced = True
