"""The operations of a journal in SQL, within the caller's transaction.

The operations of every stanza are gathered into few statements (`batch`). The rare ones are
executed here, one by one. The tally changes with each operation; `rolled_back` restores it.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final, assert_never

from bridge.journal.delivery import Delivery
from bridge.journal.sqlite.batch import Batch, Row
from bridge.journal.sqlite.idempotency import ClaimTable
from bridge.journal.sqlite.state import Name, write_state
from bridge.journal.sqlite.statement import encode_attempts
from bridge.journal.sqlite.tally import KeepLimits, Tally
from bridge.journal.store import (
    Abandon,
    AnswerKey,
    Attempted,
    ClaimKey,
    Confirm,
    DeleteState,
    DropDead,
    KeyOperation,
    Operation,
    PutState,
    ReleaseKey,
    Requeue,
    Send,
    Settle,
)

_ENTRY: Final = "uid, component, kind, from_, to_, id, lang"
_BURY: Final = (
    f"INSERT INTO dead (number, {_ENTRY}, received, attempts, weight, died, reason, xml, since)"
    f" SELECT ?, {_ENTRY}, received, attempts, weight, ?, ?, xml, ? FROM pending WHERE uid = ?"
)
_ABANDON: Final = (
    f"INSERT INTO dead"
    f" (number, {_ENTRY}, received, attempts, weight, died, reason, reply, xml, since)"
    " SELECT ?, uid, component, kind, from_, to_, id, NULL, made, '', length(data), ?, ?, data, '',"
    " ? FROM reply WHERE number = ?"
)
_REVIVE: Final = (
    f"INSERT INTO pending (number, {_ENTRY}, received, attempts, weight, xml)"
    f" SELECT ?, {_ENTRY}, ?, attempts, weight, xml FROM dead WHERE number = ?"
)
_REVIVABLE: Final = (
    "SELECT number, component, weight FROM dead WHERE uid = ? AND kind <> 'iq' AND reply IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.uid = dead.uid)"
    " ORDER BY number LIMIT 1"
)
RareOperation = Attempted | Abandon | Requeue | DropDead | KeyOperation

_TABLES: Final = ("pending", "reply", "dead", "claim")
_TRIM_STEP: Final = 100
_SAVE_S: Final = 60.0  # what a crash makes younger


class Writer:
    """Executes operations on a database, and tallies its contents."""

    def __init__(
        self,
        database: sqlite3.Connection,
        limits: KeepLimits,
        claim_limits: KeepLimits,
        elapsed_s: Callable[[], float],
    ) -> None:
        """`limits` are those of dead letters; `elapsed_s` is a clock that nobody sets."""
        self.tally = Tally()
        self._elapsed_s = elapsed_s
        [[self._saved_s]] = database.execute("SELECT open_s FROM age")
        self._zero_s: float = elapsed_s() - self._saved_s
        self._known: dict[str, Row] = {}
        self._database = database
        self._limits = limits
        self._claim_limits = claim_limits
        for table in ("pending", "dead"):
            add = self.tally.add_pending if table == "pending" else self.tally.add_dead
            query = f"SELECT component, count(*), sum(weight) FROM {table} GROUP BY component"
            for component, count, weight in database.execute(query):
                add(component, count, weight)
        self._note_first_dead()
        self._claims.count()
        greatest = ", ".join(f"coalesce((SELECT max(number) FROM {one}), 0)" for one in _TABLES)
        [[self.tally.number]] = database.execute(f"SELECT max({greatest})")

    @property
    def _claims(self) -> ClaimTable:
        return ClaimTable(self._database, self.tally)

    @property
    def open_s(self) -> float:
        """How long the journal has been open, in all processes together, in s."""
        return self._elapsed_s() - self._zero_s

    def save_age(self) -> None:
        """Write for the next process how long the journal has been open."""
        self._saved_s = self.open_s
        self._database.execute("UPDATE age SET open_s = ?", (self._saved_s,))

    def do(self, operations: Sequence[Operation]) -> None:
        """Execute operations in order."""
        self.tally.now = self.open_s
        if self.tally.now >= self._saved_s + _SAVE_S:
            self.save_age()
        run = Batch(self._database, self.tally, self._known, operations)
        state: dict[Name, PutState | DeleteState] = {}
        for place, one in enumerate(operations):
            if isinstance(one, Delivery):
                run.accept(one)
            elif isinstance(one, Settle):
                if one.reason is not None:
                    run.write()
                    self._bury(one.uid, one.died, one.reason)
                run.settle(place, one)
            elif isinstance(one, Confirm):
                run.confirm(one)
            elif isinstance(one, Send):
                run.send(one)
            elif isinstance(one, PutState | DeleteState):
                state[one.name] = one
            else:
                run.write()
                self._do_rare(one)
        run.write()
        if state:
            write_state(self._database, state)
        if self.tally.exceeds(self._limits):
            self._trim()
        self._claims.trim(self._claim_limits)

    def rolled_back(self, tally: Tally) -> None:
        """Return to the state before a transaction that was rolled back, with its tally."""
        self.tally = tally
        self._known.clear()

    def _do_rare(self, operation: RareOperation) -> None:
        match operation:
            case Attempted(uid=uid, attempt=attempt):
                self._database.execute(
                    "UPDATE pending SET attempts = CASE attempts WHEN '' THEN ?1"
                    " ELSE attempts || ',' || ?1 END WHERE uid = ?2",
                    (encode_attempts([attempt]), uid),
                )
            case Abandon():
                self._abandon(operation)
            case Requeue(uids=uids, received=received):
                for uid in uids:
                    self._revive(uid, received)
                self._note_first_dead()
            case DropDead(uids=uids):
                self._drop(uids)
                self._note_first_dead()
            case ClaimKey(claim=claim):
                self._claims.put([claim])
            case AnswerKey():
                self._claims.answer(operation)
            case ReleaseKey(name=name):
                self._claims.remove(name)
            case _:
                assert_never(operation)

    def _bury(self, uid: str, died: float, reason: str) -> None:
        number = self.tally.next_number()
        row = (number, died, reason, self.tally.now, uid)
        if self._database.execute(_BURY, row).rowcount:
            self._note_dead(number)

    def _abandon(self, operation: Abandon) -> None:
        [[reply]] = self._database.execute(
            "SELECT min(number) FROM reply WHERE uid = ? AND place = ?",
            (operation.uid, operation.place),
        )
        number = self.tally.next_number()
        row = (number, operation.died, operation.reason, self.tally.now, reply)
        if self._database.execute(_ABANDON, row).rowcount:
            self._database.execute("DELETE FROM reply WHERE number = ?", (reply,))
            self._note_dead(number)

    def _note_dead(self, number: int) -> None:
        query = "SELECT component, weight FROM dead WHERE number = ?"
        [[component, weight]] = self._database.execute(query, (number,))
        self.tally.add_dead(component, 1, weight)
        if self.tally.dead_since is None:
            self.tally.dead_since = self.tally.now

    def _revive(self, uid: str, received: float) -> None:
        rows = self._database.execute(_REVIVABLE, (uid,)).fetchall()
        for number, component, weight in rows:
            self._database.execute(_REVIVE, (self.tally.next_number(), received, number))
            self.tally.add_pending(component, 1, weight)
        self._forget_dead(rows)

    def _drop(self, uids: tuple[str, ...] | None) -> None:
        if uids is None:
            self._database.execute("DELETE FROM dead")
            self.tally.clear_dead()
            return
        query = (
            "SELECT number, component, weight FROM dead"
            " WHERE uid IN (SELECT value FROM json_each(?))"
        )
        self._forget_dead(self._database.execute(query, (json.dumps(uids),)).fetchall())

    def _forget_dead(self, rows: Iterable[Row]) -> None:
        for number, component, weight in rows:
            self._database.execute("DELETE FROM dead WHERE number = ?", (number,))
            self.tally.add_dead(component, -1, -weight)

    # --- the limits of dead letters

    def _note_first_dead(self) -> None:
        row = self._database.execute("SELECT since FROM dead ORDER BY number LIMIT 1").fetchone()
        self.tally.dead_since = row and row[0]

    def _trim(self) -> None:
        query = (
            f"SELECT number, component, weight, since FROM dead ORDER BY number LIMIT {_TRIM_STEP}"
        )
        while self.tally.exceeds(self._limits):
            for *row, since in self._database.execute(query).fetchall():
                self.tally.dead_since = since
                if not self.tally.exceeds(self._limits):
                    return
                self._forget_dead([row])
            self._note_first_dead()
