"""What every stanza needs (accept, settle, confirm, send), gathered into few statements."""

import json
import sqlite3
from typing import Any, Final

from bridge.journal import Accept, Claim, Confirm, Entry, ImpossibleOperation, Reply, Send, Settle
from bridge.sqlite.attempt import encode_attempts
from bridge.sqlite.bulk import Bulk
from bridge.sqlite.claims import Claims
from bridge.sqlite.tally import Tally

_ACCEPT: Final = Bulk(
    "INSERT INTO pending (number, uid, component, kind, from_, to_, id, weight, lang, received,"
    " attempts, xml) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
# The same uid and place can be there twice, if a dead letter was revived before the error that had
# answered it was confirmed: what was written first is confirmed first.
_CONFIRM: Final = Bulk(
    "DELETE FROM reply WHERE number IN (SELECT min(number) FROM (VALUES ",
    "(?, ?)",
    ") AS given JOIN reply ON uid = given.column1 AND place = given.column2 GROUP BY uid, place)",
)

Row = tuple[Any, ...]
Common = Accept | Settle | Confirm | Send


class Run:
    """Accepts, settlements without a reason, confirmations and sends, gathered into few statements.

    Invariant: `_accepted` and `_known` are the pending entries that matter to this run, as if all
    before had been done; nothing is in both. Their rows begin alike, up to the weight.
    """

    def __init__(self, database: sqlite3.Connection, tally: Tally) -> None:
        self._database = database
        self._tally = tally
        self._known: dict[str, Row] = {}
        self._accepted: dict[str, Row] = {}
        self._gone: list[Row] = []
        self._replies: list[Row] = []
        self._claims: list[Claim] = []
        self._confirmed: set[tuple[str, int]] = set()

    def do(self, operations: list[Common]) -> None:
        """Do them in order, or as if."""
        uids = [one.uid for one in operations if type(one) is Settle]
        if uids:
            rows = self._database.execute(_FIND, (json.dumps(uids),)).fetchall()
            self._known = {row[1]: row for row in rows}
        for one in operations:
            if type(one) is Accept:
                self._accept(one.entry)
            elif type(one) is Settle:
                self._settle(one)
            elif type(one) is Confirm:
                self._confirm(one)
            elif type(one) is Send:
                self._send(one)
        self._write()

    def _accept(self, entry: Entry) -> None:
        uid, xml = entry.uid, entry.xml
        if uid in self._accepted or uid in self._known:
            raise ImpossibleOperation(f"{uid} is pending already")
        weight = len(xml) if xml.isascii() else len(xml.encode())
        self._accepted[uid] = (
            self._tally.next_number(),
            uid,
            entry.component,
            entry.kind,
            entry.from_,
            entry.to,
            entry.id,
            weight,
            entry.lang,
            entry.received,
            encode_attempts(entry.attempts) if entry.attempts else "",
            xml,
        )
        self._tally.add_pending(entry.component, 1, weight)
        self._tally.now = entry.received

    def _settle(self, settle: Settle) -> None:
        uid = settle.uid
        row = self._accepted.pop(uid, None)
        if row is None:
            row = self._known.pop(uid, None)
            if row is None:
                return
            self._gone.append(row[:1])
        self._tally.add_pending(row[2], -1, -row[7])
        for one in settle.replies:
            self._add_reply(one, row[3:7])

    def _confirm(self, confirm: Confirm) -> None:
        for one in confirm.replies:
            if one in self._confirmed:
                self._write_replies()
            self._confirmed.add(one)

    def _send(self, send: Send) -> None:
        reply = send.reply
        self._add_reply(reply, (send.kind, send.from_, send.to, send.id))
        self._tally.now = reply.made
        if send.claim is not None:
            self._claims.append(send.claim)

    def _add_reply(self, one: Reply, about: Row) -> None:
        if (one.uid, one.place) in self._confirmed:
            self._write_replies()
        number = self._tally.next_number()
        self._replies.append(
            (number, one.uid, one.place, one.component, one.made, one.data, *about)
        )

    def _write(self) -> None:
        # In this order, so that a uid can be accepted again in the batch that settles it.
        _END.run(self._database, self._gone)
        _ACCEPT.run(self._database, self._accepted.values())
        self._write_replies()
        if self._claims:
            Claims(self._database, self._tally).put(self._claims)

    def _write_replies(self) -> None:
        _REPLY.run(self._database, self._replies)
        _CONFIRM.run(self._database, self._confirmed)
        self._replies.clear()
        self._confirmed.clear()
