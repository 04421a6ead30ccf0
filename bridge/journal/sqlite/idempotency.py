"""The claims of idempotency keys in SQL, within the caller's transaction."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from bridge.journal.sqlite.statement import Bulk
from bridge.journal.sqlite.tally import KeepLimits, Tally
from bridge.journal.store import AnswerKey, Claim

_PUT: Final = Bulk(
    "INSERT INTO claim (number, name, digest, uid, made, state, weight, lang, answer, since)"
    " VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
_REMOVE: Final = Bulk("DELETE FROM claim WHERE number IN (", "?", ")")
_STEP: Final = 500  # names in one query


class ClaimTable:
    """The claims of a database, counted in a tally."""

    def __init__(self, database: sqlite3.Connection, tally: Tally) -> None:
        self._database = database
        self._tally = tally

    def count(self) -> None:
        """Count the claims that are in the database already."""
        [[count, weight]] = self._database.execute(
            "SELECT count(*), coalesce(sum(weight), 0) FROM claim"
        )
        self._tally.add_claims(count, weight)
        self._note_first()

    def put(self, claims: Sequence[Claim]) -> None:
        """Keep claims, in place of older ones of the same names."""
        last: dict[bytes, Claim] = {}
        for one in claims:
            last.pop(one.name, None)
            last[one.name] = one
        self._remove(last)
        _PUT.run(self._database, [self._row(one) for one in last.values()])
        if self._tally.claimed_since is None:
            self._note_first()

    def _row(self, one: Claim) -> tuple[object, ...]:
        weight = _weight(one.name, one.digest, one.uid, one.answer)
        self._tally.add_claims(1, weight)
        number = self._tally.next_number()
        named = (number, one.name, one.digest, one.uid, one.made, one.state)
        return (*named, weight, one.lang, one.answer, self._tally.now)

    def answer(self, answer: AnswerKey) -> None:
        """Record the result of a claim, if it exists."""
        query = "SELECT number, weight, digest, uid FROM claim WHERE name = ?"
        rows = self._database.execute(query, (answer.name,)).fetchall()
        for number, before, digest, uid in rows:
            weight = _weight(answer.name, digest, uid, answer.answer)
            self._database.execute(
                "UPDATE claim SET state = ?, answer = ?, lang = ?, weight = ? WHERE number = ?",
                (answer.state, answer.answer, answer.lang, weight, number),
            )
            self._tally.add_claims(0, weight - before)

    def remove(self, name: bytes) -> None:
        """Forget a claim, if it exists."""
        self._remove([name])

    def trim(self, limits: KeepLimits) -> None:
        """Forget the oldest claims until the limits are met."""
        while self._tally.exceeds_claims(limits):
            # The order of the numbers is that of insertion.
            query = "SELECT number, weight, since FROM claim ORDER BY number LIMIT 100"
            gone = []
            for number, weight, since in self._database.execute(query).fetchall():
                self._tally.claimed_since = since
                if not self._tally.exceeds_claims(limits):
                    break
                self._tally.add_claims(-1, -weight)
                gone.append((number,))
            _REMOVE.run(self._database, gone)
            self._note_first()

    def _remove(self, names: Collection[bytes]) -> None:
        gone = list(_select(self._database, "number, weight", names))
        _REMOVE.run(self._database, [(number,) for number, _ in gone])
        self._tally.add_claims(-len(gone), -sum(weight for _, weight in gone))
        if gone:
            self._note_first()

    def _note_first(self) -> None:
        query = "SELECT since FROM claim ORDER BY number LIMIT 1"
        row = self._database.execute(query).fetchone()
        self._tally.claimed_since = row and row[0]


def find_claims(
    database: sqlite3.Connection, names: Collection[bytes], since: float
) -> list[Claim]:
    """Return the claims with these names that are not older."""
    columns = "since, name, digest, uid, made, state, answer, lang"
    rows = _select(database, columns, names)
    return [Claim(*row) for began, *row in rows if began >= since]


def _select(
    database: sqlite3.Connection, columns: str, names: Collection[bytes]
) -> Iterator[tuple[Any, ...]]:
    rest = list(names)
    while rest:
        step, rest = rest[:_STEP], rest[_STEP:]
        places = ",".join("?" * len(step))
        query = f"SELECT {columns} FROM claim WHERE name IN ({places})"
        yield from database.execute(query, step).fetchall()


def _weight(name: bytes, digest: bytes, uid: str, answer: str | None) -> int:
    return len(name) + len(digest) + len(uid) + len((answer or "").encode())
