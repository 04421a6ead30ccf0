"""Reads what only a copy of a whole journal needs, in pages (`bridge.journal.copy`)."""

import sqlite3
from typing import Final

from bridge.journal.store import Claim, PutState, Sent
from bridge.xmpp.outbox import Outgoing

_REPLIES: Final = (
    "SELECT number, data, made, component, uid, place, kind, from_, to_, id FROM reply"
    " WHERE number > ? ORDER BY number LIMIT ?"
)
_CLAIMS: Final = (
    "SELECT number, name, digest, uid, made, state, answer, lang FROM claim"
    " WHERE number > ? AND since >= ? ORDER BY number LIMIT ?"
)
_STATE: Final = (
    "SELECT component, kind, key, value FROM state WHERE (component, kind, key) > (?, ?, ?)"
    " ORDER BY component, kind, key LIMIT ?"
)


def read_replies(database: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, Sent]]:
    """Return unconfirmed replies with the heads of the stanzas that they answer."""
    rows = database.execute(_REPLIES, (after, limit)).fetchall()
    return [(number, Sent(Outgoing(*row[:5]), *row[5:])) for number, *row in rows]


def read_claims(
    database: sqlite3.Connection, after: int, limit: int, since: float
) -> list[tuple[int, Claim]]:
    """Return claims that are not older than `since`, by the clock of the journal."""
    rows = database.execute(_CLAIMS, (after, since, limit)).fetchall()
    return [(number, Claim(*row)) for number, *row in rows]


def read_all_state(
    database: sqlite3.Connection, after: tuple[str, str, str], limit: int
) -> list[PutState]:
    """Return the small state of all components, sorted by component, kind and key."""
    return [PutState(*row) for row in database.execute(_STATE, (*after, limit)).fetchall()]
