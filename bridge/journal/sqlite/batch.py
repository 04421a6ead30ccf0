"""The operations of every stanza (accept, settle, confirm, send), as few statements."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from bridge.journal.delivery import Delivery
from bridge.journal.sqlite.idempotency import ClaimTable
from bridge.journal.sqlite.statement import Bulk, encode_attempts
from bridge.journal.sqlite.tally import Tally
from bridge.journal.store import Claim, Confirm, ImpossibleOperation, Operation, Send, Settle
from bridge.xmpp.outbox import Outgoing

_ACCEPT: Final = Bulk(
    "INSERT INTO pending (number, uid, component, kind, from_, to_, id, weight, lang, received,"
    " attempts, event, xml) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
_END: Final = Bulk("DELETE FROM pending WHERE number IN (", "?", ")")
_FIND: Final = (
    "SELECT number, uid, component, kind, from_, to_, id, weight"
    " FROM pending WHERE uid IN (SELECT value FROM json_each(?))"
)
_REPLY: Final = Bulk(
    "INSERT INTO reply (number, uid, place, component, made, data, kind, from_, to_, id) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
# A uid and place can occur twice, if a dead letter was revived before the error that answered it
# was confirmed. The reply that was written first is confirmed first.
_CONFIRM: Final = Bulk(
    "DELETE FROM reply WHERE number IN (SELECT min(number) FROM (VALUES ",
    "(?, ?)",
    ") AS given JOIN reply ON uid = given.column1 AND place = given.column2 GROUP BY uid, place)",
)

_LOOK_UP: Final = 1000  # operations
_KNOWN_COUNT: Final = 4096
_KNOWN_WEIGHT: Final = 2048  # bytes of XML; larger entries are not remembered

Row = tuple[Any, ...]


class Batch:
    """Gathers accepts, settlements without a reason, confirmations and sends into few statements.

    Call `write` before any other access to the database, and at the end. `known` has some rows of
    `pending` by uid, up to the column `weight`, as of the last `write`: an entry that is settled
    soon after its acceptance need not be read again. After a rollback, clear it.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        tally: Tally,
        known: dict[str, Row],
        operations: Sequence[Operation],
    ) -> None:
        """`operations` are the batch. The entries that they settle are looked up together."""
        self._database = database
        self._tally = tally
        self._known = known
        self._operations = operations
        self._looked_up = 0  # below this place, `known` has all pending entries to settle
        self._accepted: list[Row] = []
        self._ended: list[Row] = []
        self._replies: list[Row] = []
        self._claims: list[Claim] = []
        self._confirmed: set[tuple[str, int]] = set()

    def accept(self, delivery: Delivery) -> None:
        """Keep a delivery.

        Raises:
            ImpossibleOperation: if `known` has it already. If only the file has it, `write` raises.
        """
        uid, component, stanza = delivery.uid, delivery.component, delivery.stanza
        if uid in self._known:
            raise ImpossibleOperation(f"{uid} is already pending")
        tally, xml, attempts = self._tally, delivery.xml, delivery.accepted_attempts
        tally.number += 1
        weight = len(xml) if xml.isascii() else len(xml.encode())
        self._accepted.append(
            (
                tally.number,
                uid,
                component,
                stanza.kind,
                stanza.from_ or "",
                stanza.to or "",
                stanza.id,
                weight,
                stanza.lang,
                delivery.received,
                encode_attempts(attempts) if attempts else "",
                delivery.event,
                xml,
            )
        )
        tally.add_pending(component, 1, weight)
        self._looked_up = 0

    def settle(self, place: int, settle: Settle) -> None:
        """End an entry, if it is pending. `place` is the index of the operation in the batch."""
        row = self._known.pop(settle.uid, None)
        if row is None and place >= self._looked_up:
            self._look_up(place)
            row = self._known.pop(settle.uid, None)
        if row is None:
            return
        self._ended.append(row[:1])
        self._tally.add_pending(row[2], -1, -row[7])
        for one in settle.replies:
            self._add_reply(one, row[3:7])

    def _look_up(self, place: int) -> None:
        """Read the pending entries that the next operations settle into `known`."""
        self.write()
        end = place + _LOOK_UP
        uids = [one.uid for one in self._operations[place:end] if isinstance(one, Settle)]
        rows = self._database.execute(_FIND, (json.dumps(uids),)).fetchall()
        self._known.update((row[1], row) for row in rows)
        self._looked_up = end

    def confirm(self, confirm: Confirm) -> None:
        """Forget replies."""
        for one in confirm.replies:
            if one in self._confirmed:
                self._write_replies()
            self._confirmed.add(one)

    def send(self, send: Send) -> None:
        """Keep stanzas that belong to no entry, and the claim of their request."""
        for one in send.stanzas:
            self._add_reply(one.reply, (one.kind, one.from_, one.to, one.id))
        if send.claim is not None:
            self._claims.append(send.claim)

    def _add_reply(self, one: Outgoing, about: Row) -> None:
        if self._confirmed and (one.uid, one.place) in self._confirmed:
            self._write_replies()
        self._tally.number += 1
        # For a value of type bytes, unlike bytearray, sqlite3 looks for an adapter: 1 µs.
        data = bytearray(one.data)
        self._replies.append(
            (self._tally.number, one.uid, one.place, one.component, one.made, data, *about)
        )

    def write(self) -> None:
        """Execute the gathered operations.

        Raises:
            sqlite3.Error: if SQLite fails, or an accepted entry is already pending.
        """
        # In this order: a uid can be accepted again in the batch that settles it.
        _END.run(self._database, self._ended)
        _ACCEPT.run(self._database, self._accepted)
        self._write_replies()
        if self._claims:
            ClaimTable(self._database, self._tally).put(self._claims)
            self._claims.clear()
        known = self._known
        if len(known) > _KNOWN_COUNT:
            known.clear()
        for row in self._accepted:
            if row[7] <= _KNOWN_WEIGHT:
                known[row[1]] = row[:8]
        self._ended.clear()
        self._accepted.clear()
        self._looked_up = 0

    def _write_replies(self) -> None:
        _REPLY.run(self._database, self._replies)
        if self._confirmed:
            _CONFIRM.run(self._database, list(self._confirmed))
            self._confirmed.clear()
        self._replies.clear()
