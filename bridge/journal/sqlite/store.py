"""The embedded journal: one SQLite file with a write-ahead log.

Once `commit` has returned, a killed process loses nothing of it. With durability "power", nor does
a machine that loses power. Settled entries are deleted, and their pages reused: the file is as
large as the most that ever waited, and the log some MB. While somebody reads the file, the log
grows, and over a limit nothing more is written.

`sqlite.file` opens the file, `sqlite.writer` writes; this module has the transactions and reads.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from bridge.journal.age import elapsed_s
from bridge.journal.delivery import Delivery
from bridge.journal.sqlite.archive import read_all_state, read_claims, read_replies
from bridge.journal.sqlite.file import PROBE, explained, open_file
from bridge.journal.sqlite.idempotency import find_claims
from bridge.journal.sqlite.identity import OpenedFiles
from bridge.journal.sqlite.state import read_state
from bridge.journal.sqlite.statement import decode_attempts
from bridge.journal.sqlite.tally import KeepLimits
from bridge.journal.sqlite.wal import WriteAheadLog
from bridge.journal.sqlite.writer import Writer
from bridge.journal.store import (
    CLAIM_S,
    Claim,
    DeadLetter,
    JournalError,
    Operation,
    PutState,
    Sent,
    StateEntry,
    Totals,
)
from bridge.xmpp.outbox import Outgoing

_ENTRY: Final = "number, uid, component, kind, from_, to_, id, lang, xml, received, attempts, event"
_PENDING: Final = f"SELECT {_ENTRY} FROM pending"
_REPLY: Final = "SELECT number, uid, component, place, data, made FROM reply"
_DEAD: Final = f"SELECT {_ENTRY}, died, reason, reply FROM dead"
_PAGE: Final = "WHERE number > ?1 AND (?2 IS NULL OR component = ?2) ORDER BY number LIMIT ?3"
_BEYOND: Final = "\U0010ffff"
"""Sorts after every continuation of a prefix."""


class SqliteStore:
    """A `JournalStore` in a file. Call it from any thread, but one call at a time.

    The oldest dead letters are forgotten beyond `dead_limit_count`, `dead_limit_bytes` (of stanzas
    and replies) or `dead_limit_age_s`. So are the oldest claims beyond `claim_limit_count`,
    `claim_limit_bytes` (of claims with their answers) or `CLAIM_S`. An age is the time for which
    the journal was open since then, by `elapsed_s`, a clock that nobody sets, rather than by the
    times in operations: a wall clock that is set forward by 40 days would delete everything.
    Without operations nothing is deleted.
    """

    def __init__(
        self,
        file: Path,
        durability: Literal["power", "process"] = "process",
        *,
        dead_limit_count: int = 10_000,
        dead_limit_bytes: int = 64 * 1024 * 1024,
        dead_limit_age_s: float = 30 * 24 * 3600,
        claim_limit_count: int = 1_000_000,
        claim_limit_bytes: int = 256 * 1024 * 1024,
        log_limit_bytes: int = 128 * 1024 * 1024,
        busy_timeout_s: float = 5,
        elapsed_s: Callable[[], float] = elapsed_s,
        lock_file: Path | None = None,
    ) -> None:
        """Open the file, or create one. `lock_file` reserves it for this process.

        Raises:
            JournalError: if it cannot be used; the message names the cause and a remedy.
        """
        limits = KeepLimits(dead_limit_count, dead_limit_bytes, dead_limit_age_s)
        claim_limits = KeepLimits(claim_limit_count, claim_limit_bytes, CLAIM_S)
        self._file = file
        self._database = open_file(file, durability, busy_timeout_s=busy_timeout_s)
        try:
            with explained(file):
                self._writer = Writer(self._database, limits, claim_limits, elapsed_s)
            files = [file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")]
            self._log = WriteAheadLog(self._database, file, log_limit_bytes, elapsed_s)
            self._opened = OpenedFiles([*files, *([lock_file] if lock_file else [])], elapsed_s)
        except JournalError:
            self._database.close()
            raise

    def commit(self, operations: Sequence[Operation]) -> None:
        """Execute all operations, or, if it raises, none. An empty list is a probe, which writes as
        much as a batch does.

        Raises:
            ImpossibleOperation: if one can never succeed, such as accepting a pending delivery.
            JournalError: if none can be executed, or the file is not the opened one any more.
        """
        self._opened.check(is_probe=not operations)
        self._log.check()
        with self._transaction():
            if operations:
                self._writer.do(operations)
            else:
                self._database.execute(PROBE)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self._writer.tally
        self._writer.tally = before.copy()
        done = False
        try:
            with explained(self._file):
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
                done = True
        finally:
            if not done:
                self._writer.rolled_back(before)
                with suppress(sqlite3.Error):  # after some faults, SQLite has rolled back already
                    self._database.execute("ROLLBACK")

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        """Return pending entries with numbers greater than `after`, in order."""
        if component is not None and not self._writer.tally.pending.get(component, (0, 0))[0]:
            return []
        return [_entry(row) for row in self._page(_PENDING, component, after, limit)]

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        """Return unconfirmed replies, each with its number, in the order of their `Settle`."""
        return [(row[0], _reply(row)) for row in self._page(_REPLY, component, after, limit)]

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        """Return dead letters (numbered by `entry.number`), the oldest first."""
        return [_dead_letter(row) for row in self._page(_DEAD, component, after, limit)]

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        """Return the claims with these names that are kept, in any order."""
        with explained(self._file):
            return find_claims(self._database, names, self._writer.open_s - CLAIM_S)

    def state(self, component: str) -> list[StateEntry]:
        """Return the small state of a component, sorted by kind and key."""
        with explained(self._file):
            return read_state(self._database, component)

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        """Return everything kept under a uid, or under the only uid that begins with it."""
        found = self._find(uid)
        if found:
            return found
        uids = self.uids(uid, limit=2)
        return self._find(uids[0]) if len(uids) == 1 else []

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        """Return the uids that begin with `prefix`, sorted, each once."""
        uids = {
            one
            for table in ("pending", "reply", "dead")
            for (one,) in self._rows(
                f"SELECT DISTINCT uid FROM {table} WHERE uid >= ? AND uid < ? ORDER BY uid LIMIT ?",
                (prefix, prefix + _BEYOND, limit),
            )
        }
        return sorted(uids)[:limit]

    def totals(self) -> dict[str, Totals]:
        """Return how much is kept, by component."""
        tally = self._writer.tally
        replies = dict(self._rows("SELECT component, count(*) FROM reply GROUP BY component"))
        oldest = self._oldest()
        result = {}
        for component in sorted(tally.pending.keys() | replies.keys() | tally.dead.keys()):
            count, weight = tally.pending.get(component, (0, 0))
            dead = tally.dead.get(component, 0)
            totals = Totals(count, weight, replies.get(component, 0), dead, oldest.get(component))
            if count or totals.replies or dead:
                result[component] = totals
        return result

    # --- for a copy of the whole (`bridge.journal.copy.ArchiveStore`)

    def sent(self, *, after: int, limit: int) -> list[tuple[int, Sent]]:
        """Return unconfirmed replies with the heads that belong to them, each with its number."""
        with explained(self._file):
            return read_replies(self._database, after, limit)

    def all_claims(self, *, after: int, limit: int) -> list[tuple[int, Claim]]:
        """Return all claims that are kept, each with its number."""
        with explained(self._file):
            return read_claims(self._database, after, limit, self._writer.open_s - CLAIM_S)

    def all_state(self, *, after: tuple[str, str, str], limit: int) -> list[PutState]:
        """Return the small state of all components, sorted by component, kind and key."""
        with explained(self._file):
            return read_all_state(self._database, after, limit)

    def close(self) -> None:
        """Write the log back into the file, unless somebody reads it, and close it."""
        try:
            self._log.empty()
            with explained(self._file):
                self._database.execute("PRAGMA busy_timeout = 0")
                with suppress(sqlite3.OperationalError):  # locked, or the disk is full
                    self._writer.save_age()
        finally:
            self._database.close()

    def _oldest(self) -> dict[str, float]:
        """Return when the first pending entry of each component was received."""
        missing = {name for name, (count, _) in self._writer.tally.pending.items() if count}
        found: dict[str, float] = {}
        if not missing:
            return found
        with explained(self._file):
            rows = self._database.execute("SELECT component, received FROM pending ORDER BY number")
            for component, received in rows:
                if component in missing:
                    found[component] = received
                    missing.remove(component)
                    if not missing:
                        break
            rows.close()
        return found

    def _find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        where = "WHERE uid = ? ORDER BY number"
        return [
            *(_entry(row) for row in self._rows(f"{_PENDING} {where}", (uid,))),
            *(_reply(row) for row in self._rows(f"{_REPLY} {where}", (uid,))),
            *(_dead_letter(row) for row in self._rows(f"{_DEAD} {where}", (uid,))),
        ]

    def _page(
        self, select: str, component: str | None, after: int, limit: int
    ) -> list[tuple[Any, ...]]:
        return self._rows(f"{select} {_PAGE}", (after, component, limit))

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with explained(self._file):
            return self._database.execute(query, values).fetchall()


def _entry(row: tuple[Any, ...]) -> Delivery:
    number, uid, component, kind, from_, to, id, lang, xml, received, attempts, event, *_ = row
    noted = tuple(decode_attempts(attempts))
    about = (uid, component, kind, from_, to, id, lang)
    return Delivery.stored(*about, xml, received, noted, number, event)


def _reply(row: tuple[Any, ...]) -> Outgoing:
    _, uid, component, place, data, made = row
    return Outgoing(data, made, component, uid, place)


def _dead_letter(row: tuple[Any, ...]) -> DeadLetter:
    *_, died, reason, reply = row
    return DeadLetter(_entry(row), died, reason, reply)
