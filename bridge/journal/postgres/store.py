"""The journal in a PostgreSQL database, shared by the nodes of a cluster.

Once `commit` has returned, a crash of any node or of the database loses nothing of it; with the
durability "process", a crash of the database may lose the last 0.6 s. Reads have a connection of
their own: they never wait for a batch.

Dead letters and idempotency keys grow old by the clock of the database, also while no node runs.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal

import psycopg

from bridge.config.value import DatabaseUrl
from bridge.journal.age import elapsed_s
from bridge.journal.cluster import About, Lease, NodeRow, Post
from bridge.journal.delivery import Delivery
from bridge.journal.postgres.connection import Connection, Row
from bridge.journal.postgres.errors import explained, silent
from bridge.journal.postgres.fence import Fence
from bridge.journal.postgres.nodes import NodeTable
from bridge.journal.postgres.query import Query
from bridge.journal.postgres.statement import (
    Statement,
    compile_operations,
    count_written,
    exceeds,
    trim,
)
from bridge.journal.sqlite.tally import KeepLimits
from bridge.journal.store import (
    CLAIM_S,
    Claim,
    DeadLetter,
    JournalError,
    KeyOperation,
    Operation,
    PutState,
    Send,
    Sent,
    StateEntry,
    Totals,
)
from bridge.xmpp.outbox import Outgoing, ReplyKey

TRIM_S: Final = 60.0
WATCH_S: Final = 1.0
_PROBE_BYTES: Final = 64 * 1024
_PROBE: Final = (
    "INSERT INTO post (for_node, writer, kind, body) SELECT 0, %(writer)s, 'probe',"
    " string_agg(decode(md5(random()::text), 'hex'), '') FROM generate_series(1, %(blocks)s)",
    "DELETE FROM post WHERE for_node = 0 AND writer = %(writer)s",
)


class PostgresStore:
    """A `ClusterStore`. Call it from any thread, but one call at a time; only `interrupt` may be
    called while another call waits.

    The oldest dead letters are forgotten beyond `dead_limit_count`, `dead_limit_bytes` (of stanzas
    and replies) or `dead_limit_age_s`. So are the oldest claims beyond `claim_limit_count`,
    `claim_limit_bytes` (of claims with their answers) or `CLAIM_S`. Both are looked at every
    `trim_s`, after a batch, so for that long there may be more.
    """

    def __init__(
        self,
        url: DatabaseUrl,
        cluster: str,
        label: str,
        durability: Literal["power", "process"] = "power",
        *,
        about: About | None = None,
        dead_limit_count: int = 10_000,
        dead_limit_bytes: int = 64 * 1024 * 1024,
        dead_limit_age_s: float = 30 * 24 * 3600,
        claim_limit_count: int = 1_000_000,
        claim_limit_bytes: int = 256 * 1024 * 1024,
        trim_s: float = TRIM_S,
        elapsed_s: Callable[[], float] = elapsed_s,
        now: Callable[[], float] | None = None,
    ) -> None:
        """Connect, create or upgrade the schema `cluster`, and register as the node `label`. `now`
        replaces the clock of the database.

        Raises:
            JournalError: if that fails; the message names the cause and a remedy.
        """
        self._url = url
        self._limits = {
            "dead": KeepLimits(dead_limit_count, dead_limit_bytes, dead_limit_age_s),
            "claim": KeepLimits(claim_limit_count, claim_limit_bytes, CLAIM_S),
        }
        self._trim_s = trim_s
        self._trimmed_at = elapsed_s()
        self._elapsed_s = elapsed_s
        self._now = now
        name = f"xmpp-bridge {cluster}"
        self._fence = Fence(url, cluster, name, durable=durability == "power", elapsed_s=elapsed_s)
        self._reader = Connection(url, cluster, name, elapsed_s, self._prepare_reader)
        self._query = Query(self._rows)
        self._nodes = NodeTable(self._fence, self._rows)
        try:
            with self._interrupting():
                self._fence.register(label, about or About())
                self._reader.get()
        except JournalError:
            self._disconnect()
            raise

    # --- writing

    def commit(self, operations: Sequence[Operation]) -> None:
        """Execute all operations, or, if it raises, none. An empty list is a probe, which writes as
        much as a batch does.

        Raises:
            KeyTaken: if another node has kept one of the claims meanwhile.
            ImpossibleOperation: if one can never succeed, such as accepting a pending delivery.
            LeaseLost: if this node is dead.
            JournalError: if none can be executed.
        """
        if not operations:
            self._run([Statement(text, {"blocks": _PROBE_BYTES // 16}) for text in _PROBE])
            return
        has_keys = any(
            isinstance(one, KeyOperation) or (isinstance(one, Send) and one.claim is not None)
            for one in operations
        )
        self._run(compile_operations(operations), synced=has_keys, undo=_undo(operations))
        now = self._elapsed_s()
        if now - self._trimmed_at >= self._trim_s:
            self._trimmed_at = now
            with suppress(JournalError):  # the batch is committed; the next one will tell
                self._trim()

    def _trim(self) -> None:
        for table, limits in self._limits.items():
            text, values = exceeds(table, limits)
            if self._rows(text, {**values, "now": self._read_now()})[0][0]:
                self._run([trim(table, limits)])

    def _run(
        self,
        statements: Sequence[Statement],
        *,
        synced: bool = False,
        undo: Statement | None = None,
    ) -> None:
        shared = {"now": None if self._now is None else self._now(), "claim_s": CLAIM_S}
        given = [Statement(text, {**shared, **values}) for text, values in statements]
        with explained(self._url):
            self._fence.run(given, synced=synced, undo=undo)

    # --- reading

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        """Return pending entries with numbers greater than `after`, in order."""
        return self._query.pending(component, after, limit)

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        """Return unconfirmed replies, each with its number, in the order of their `Settle`."""
        return self._query.replies(component, after, limit)

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        """Return dead letters (numbered by `entry.number`), the oldest first."""
        return self._query.dead(component, after, limit)

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        """Return the claims with these names that are kept, in any order. A question whose node is
        dead is unanswered.
        """
        return self._query.claims(names, self._read_now())

    def state(self, component: str) -> list[StateEntry]:
        """Return the small state of a component, sorted by kind and key."""
        return self._query.state(component)

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        """Return everything kept under a uid, or under the only uid that begins with it."""
        found = self._query.find(uid)
        if found:
            return found
        uids = self.uids(uid, limit=2)
        return self._query.find(uids[0]) if len(uids) == 1 else []

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        """Return the uids that begin with `prefix`, sorted, each once."""
        return self._query.uids(prefix, limit)

    def totals(self) -> dict[str, Totals]:
        """Return how much is kept, by component, by all nodes together."""
        return self._query.totals()

    # --- for a copy of the whole (`bridge.journal.copy.ArchiveStore`)

    def sent(self, *, after: int, limit: int) -> list[tuple[int, Sent]]:
        """Return unconfirmed replies with the heads that belong to them, each with its number."""
        return self._query.sent(after, limit)

    def all_claims(self, *, after: int, limit: int) -> list[tuple[int, Claim]]:
        """Return all claims that are kept, each with its number."""
        return self._query.all_claims(after, limit, self._read_now())

    def all_state(self, *, after: tuple[str, str, str], limit: int) -> list[PutState]:
        """Return the small state of all components, sorted by component, kind and key."""
        return self._query.all_state(after, limit)

    # --- the cluster

    @property
    def node(self) -> int:
        """The number of this node."""
        return self._fence.node

    @property
    def incarnation(self) -> int:
        """The writer of this node's rows."""
        return self._fence.incarnation

    def register(self, label: str, about: About) -> int:
        """Become the node of this label, without leases, and return its incarnation."""
        return self._fence.register(label, about)

    def describe(self, about: About) -> None:
        """Replace what this node tells about itself."""
        self._nodes.describe(about)

    def beat(self) -> None:
        """Commit an empty batch, so that others see that this node lives."""
        self._run(())

    def retire(self) -> None:
        """Free all leases and end this node, because its process stops."""
        self._nodes.retire()

    def forget(self) -> None:
        """End this node as `retire` does, and remove its row: for a command, which does not come
        again.
        """
        self._nodes.forget()

    def nodes(self) -> list[NodeRow]:
        """Return all nodes, sorted by number."""
        return self._nodes.nodes()

    def leases(self) -> list[Lease]:
        """Return all leases, sorted by component and part."""
        return self._nodes.leases()

    def take(self, component: str, parts: Collection[int]) -> frozenset[int]:
        """Take parts that no node has, and return those that are taken."""
        return self._nodes.take(component, parts)

    def give(self, component: str, parts: Collection[int], to: int | None) -> None:
        """Hand parts that this node has to a live node, or to nobody."""
        self._nodes.give(component, parts, to)

    def end_node(self, node: int, seen_batch: int) -> bool:
        """End a node whose counter still stands at `seen_batch`, and free its leases."""
        return self._nodes.end_node(node, seen_batch)

    def pending_in(
        self, component: str, parts: Collection[int], marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, Delivery]]:
        """Return pending entries of partitions that are behind the marks, each with its writer."""
        return self._query.pending_in(component, parts, marks, limit)

    def replies_after(
        self, component: str, marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, int, Outgoing]]:
        """Return unconfirmed replies behind the marks, each with its writer and number."""
        return self._query.replies_after(component, marks, limit)

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        """Keep how often replies were written to streams and not confirmed."""
        self._run([count_written(written)])

    def post(self, for_node: int, kind: str, body: bytes) -> None:
        """Leave a small message for another node."""
        self._nodes.post(for_node, kind, body)

    def posts(self, marks: Mapping[int, int], limit: int) -> list[Post]:
        """Return messages for this node that are behind the marks, sorted by number."""
        return self._nodes.posts(marks, limit)

    def drop_posts(self, numbers: Sequence[int]) -> None:
        """Forget messages that have been read."""
        self._nodes.drop_posts(numbers)

    def set_status(self, status: bytes) -> None:
        """Show a snapshot of this node to the others."""
        self._nodes.set_status(status)

    # --- the connections

    def interrupt(self) -> None:
        """End the calls that the server has not answered for some seconds (`HANG_S`). Call it from
        any thread while another one waits; such a call then fails, or is made again.
        """
        self._fence.connection.interrupt()
        self._reader.interrupt()

    @contextmanager
    def _interrupting(self) -> Iterator[None]:
        """Interrupt what hangs, in this block, for which no committer runs yet."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(WATCH_S):
                self.interrupt()

        thread = threading.Thread(target=watch, name="journal-opening")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """End this node, if the database can be reached, and disconnect."""
        try:
            if self._fence.connection.is_open and self._fence.incarnation:
                with suppress(JournalError):  # the others will notice
                    self._nodes.retire()
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        self._reader.close()
        self._fence.connection.close()

    def _read_now(self) -> float | None:
        return None if self._now is None else self._now()

    def _rows(self, query: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Read, and if the connection is lost meanwhile, once more."""
        for is_last in (False, True):
            connection = self._reader.get()
            try:
                with explained(self._url), self._reader.waiting():
                    return connection.execute(query.encode(), values).fetchall()
            except JournalError as error:
                if is_last and self._reader.was_interrupted:
                    raise silent(self._url) from error
                if is_last or self._reader.is_open:
                    raise
        raise AssertionError("unreachable")

    def _prepare_reader(self, connection: psycopg.Connection[Row]) -> None:
        """Check that two open connections have two backends, and plan for pages.

        Raises:
            JournalError: if a pooler gives them the same one in turn: nothing that a connection
                has set or locked would last.
        """
        connection.execute("SET default_transaction_read_only = on")
        # A page is read in the order of an index, never found by sorting all that waits: 150 ms
        # among 100,000.
        connection.execute("SET enable_sort = off")
        connection.execute("SET enable_bitmapscan = off")
        [[pid]] = connection.execute("SELECT pg_backend_pid()").fetchall()
        if self._fence.connection.is_open and pid == self._fence.pid:
            raise JournalError(
                f"{self._url} is a pooler that shares one connection between transactions",
                "connect to PostgreSQL itself, or set pool_mode = session",
            )


def _undo(operations: Sequence[Operation]) -> Statement | None:
    """Return the statement that withdraws what is refused if a batch fails."""
    uids = [one.uid for one in operations if isinstance(one, Delivery)]
    if not uids:
        return None
    text = "DELETE FROM pending WHERE uid = ANY (%(uids)s::text[]) AND writer = %(writer)s"
    return Statement(text, {"uids": uids})
