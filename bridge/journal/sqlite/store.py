"""The embedded journal: tables in a SQLite file, and a log in front of them.

Once `commit` has returned, a killed process loses nothing of it. With durability "power", nor does
a machine that loses power. Settled entries are deleted, and their pages reused: the file is as
large as the most that ever waited, and SQLite's write-ahead log some MB. While somebody reads the
file, that grows, and over a limit nothing more is written.

Most batches are appended to the log (`log`), and what they change is kept in memory (`recent`). All
others go into the tables, and with them, in one transaction, all that is only in the log: it is
*folded* in. So is it before a read, when it becomes large, at the end, and after a crash. `file`
opens the tables, `writer` writes them; this module has the transactions and reads.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import DecodeError

from bridge.journal.age import elapsed_s
from bridge.journal.delivery import Delivery
from bridge.journal.sqlite.archive import read_all_state, read_claims, read_replies
from bridge.journal.sqlite.file import PROBE, explained, open_file
from bridge.journal.sqlite.idempotency import find_claims
from bridge.journal.sqlite.identity import OpenedFiles
from bridge.journal.sqlite.log import BatchLog, Position
from bridge.journal.sqlite.recent import Change, Recent
from bridge.journal.sqlite.state import read_state
from bridge.journal.sqlite.statement import decode_attempts
from bridge.journal.sqlite.tally import KeepLimits
from bridge.journal.sqlite.wal import WriteAheadLog
from bridge.journal.sqlite.writer import Writer
from bridge.journal.store import (
    CLAIM_S,
    Claim,
    DeadLetter,
    ImpossibleOperation,
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
_LOG: Final = "SELECT id, generation, begin, is_open FROM log"
_MOVE_LOG: Final = "UPDATE log SET generation = ?, begin = ?, is_open = ?"
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
        """Open the files, or create them. `lock_file` reserves them for this process.

        Raises:
            JournalError: if it cannot be used; the message names the cause and a remedy.
        """
        limits = KeepLimits(dead_limit_count, dead_limit_bytes, dead_limit_age_s)
        claim_limits = KeepLimits(claim_limit_count, claim_limit_bytes, CLAIM_S)
        self._file = file
        self.warning: str | None = None
        """What the operator should know of the files, as they were found."""
        self._synchronous: Literal["FULL", "NORMAL"] = "FULL" if durability == "power" else "NORMAL"
        self._database = open_file(file, self._synchronous, busy_timeout_s=busy_timeout_s)
        try:
            with explained(file):
                self._writer = Writer(self._database, limits, claim_limits, elapsed_s)
            self._wal = WriteAheadLog(self._database, file, log_limit_bytes, elapsed_s)
            self._recent = Recent()
            self._log = self._open_log(is_synced=durability == "power")
        except JournalError:
            self._database.close()
            raise
        beside = (file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))
        files = [file, *beside, self._log.file, *([lock_file] if lock_file else [])]
        self._opened = OpenedFiles(files, elapsed_s)

    def _open_log(self, *, is_synced: bool) -> BatchLog:
        """Open the log, and fold what the last process has left in it."""
        with explained(self._file):
            [[id, generation, begin, was_open]] = self._database.execute(_LOG)
        file = self._file.with_suffix(".log")
        log = BatchLog(file, id, Position(generation, begin), is_synced=is_synced)
        try:
            if was_open and log.is_new:
                self.warning = (
                    f"{file} is missing: the journal is as it was when that was last folded into"
                    f" {self._file.name}, and what was accepted later is lost"
                )
            for content in log.read():
                try:
                    change = Change.decode(content)
                except DecodeError as error:
                    raise JournalError(f"{file} is damaged ({error})", "move it away") from error
                self._recent.apply(change)
            self._log = log
            self._fold()
        except JournalError:
            log.close(remove=False)
            raise
        return log

    def commit(self, operations: Sequence[Operation]) -> None:
        """Execute all operations, or, if it raises, none. An empty list is a probe, which writes as
        much as a batch does.

        Raises:
            ImpossibleOperation: if one can never succeed, such as accepting a pending delivery.
            JournalError: if none can be executed, or the file is not the opened one any more.
        """
        self._opened.check(is_probe=not operations)
        change = None
        if operations and not self._recent.is_large and not self._log.is_full:
            change = self._recent.change(operations)
        if change is None:
            self._fold(operations, is_probe=not operations)
        else:
            try:
                content = change.encode()
            except UnicodeError as error:
                raise ImpossibleOperation(str(error)) from error
            self._log.append(content)
            self._recent.apply(change)

    def _fold(
        self,
        operations: Sequence[Operation] = (),
        *,
        is_probe: bool = False,
        is_open: bool = True,
    ) -> None:
        """Execute operations on the tables, after all that is only in the log."""
        self._wal.check()
        recent, position = self._recent.operations(), self._log.after()
        is_lost = position.begin < self._log.end or not is_open  # what the log has until now
        with self._transaction(is_synced=is_lost):
            if recent or operations:
                self._writer.do([*recent, *operations])
            if is_probe:
                self._database.execute(PROBE)
            place = (position.generation, position.begin, is_open)
            self._database.execute(_MOVE_LOG, place)
        self._log.move(position)
        self._recent = Recent()

    def _read_all(self) -> None:
        """Fold what is only in the log, for a read."""
        if self._recent:
            self._fold()

    @contextmanager
    def _transaction(self, *, is_synced: bool) -> Iterator[None]:
        """`is_synced`: it survives the loss of power, whatever the durability is."""
        before = self._writer.tally
        self._writer.tally = before.copy()
        done = False
        try:
            with explained(self._file):
                if is_synced:
                    self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
                done = True
        finally:
            with suppress(sqlite3.Error):  # after some faults, SQLite has rolled back already
                if not done:
                    self._writer.rolled_back(before)
                    self._database.execute("ROLLBACK")
            if is_synced:
                self._database.execute(f"PRAGMA synchronous = {self._synchronous}")

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        """Return pending entries with numbers greater than `after`, in order."""
        self._read_all()
        if component is not None and not self._writer.tally.pending.get(component, (0, 0))[0]:
            return []
        return [_entry(row) for row in self._page(_PENDING, component, after, limit)]

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        """Return unconfirmed replies, each with its number, in the order of their `Settle`."""
        self._read_all()
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
        self._read_all()
        found = self._find(uid)
        if found:
            return found
        uids = self.uids(uid, limit=2)
        return self._find(uids[0]) if len(uids) == 1 else []

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        """Return the uids that begin with `prefix`, sorted, each once."""
        self._read_all()
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
        self._read_all()
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
        self._read_all()
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
        """Fold the log into the tables, and close the files. SQLite's log is written back unless
        somebody reads it.
        """
        is_folded = False
        try:
            with explained(self._file):
                self._database.execute("PRAGMA busy_timeout = 0")
                with suppress(sqlite3.OperationalError):  # locked, or the disk is full
                    self._writer.save_age()
            self._fold(is_open=False)
            is_folded = True
            self._wal.empty()
        finally:
            self._log.close(remove=is_folded)
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
