"""Reads what is kept."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from bridge.journal.delivery import Delivery
from bridge.journal.postgres.connection import Row
from bridge.journal.postgres.statement import decode_attempts
from bridge.journal.store import CLAIM_S, Claim, DeadLetter, PutState, Sent, StateEntry, Totals
from bridge.xmpp.outbox import Outgoing

_BEYOND: Final = "\U0010ffff"
"""Sorts after every continuation of a prefix."""
_ENTRY: Final = "number, uid, component, kind, from_, to_, id, lang, xml, received, attempts, event"
_AGE: Final = "extract(epoch FROM clock_timestamp())::float8 - since"
_PENDING: Final = f"SELECT {_ENTRY}, {_AGE} FROM pending"
_OUTGOING: Final = "data, made, component, uid, place, written"
_REPLY: Final = f"SELECT number, {_OUTGOING} FROM reply"
_SENT: Final = "SELECT number, data, made, component, uid, place, kind, from_, to_, id FROM reply"
_DEAD: Final = f"SELECT {_ENTRY}, died, reason, reply FROM dead"
_BEHIND: Final = "WHERE number > %(after)s"
_ORDER: Final = "ORDER BY number LIMIT %(limit)s"
_NOW: Final = "coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp()))"
_CURRENT: Final = f"since >= {_NOW} - {CLAIM_S}"
_CLAIMS: Final = f"""
SELECT name, digest, uid, made, CASE WHEN state = 'asked' AND NOT EXISTS (
  SELECT FROM node WHERE incarnation = claim.writer) THEN 'unanswered' ELSE state END, answer, lang
FROM claim WHERE name = ANY (%(names)s::bytea[]) AND {_CURRENT}"""
_ALL_CLAIMS: Final = f"""
SELECT number, name, digest, uid, made, state, answer, lang FROM claim
{_BEHIND} AND {_CURRENT} {_ORDER}"""
_ALL_STATE: Final = """
SELECT component, kind, key, value FROM state
WHERE (component, kind, key) > (%(component)s, %(kind)s, %(key)s)
ORDER BY component, kind, key LIMIT %(limit)s"""
_TOTALS: Final = """
WITH waiting AS (
  SELECT component, count(*) AS count, sum(weight) AS weight, min(number) AS first FROM pending
  GROUP BY component),
kept AS (SELECT component, count(*) FROM reply GROUP BY component),
given_up AS (SELECT component, count(*) FROM dead GROUP BY component)
SELECT component, coalesce(waiting.count, 0), coalesce(waiting.weight, 0), coalesce(kept.count, 0),
  coalesce(given_up.count, 0), (SELECT received FROM pending WHERE number = first)
FROM waiting FULL JOIN kept USING (component) FULL JOIN given_up USING (component)
ORDER BY component COLLATE "C\""""
# The writers are found one after the other by the index. Then each is read from its mark.
_BEHIND_MARKS: Final = """
WITH RECURSIVE writers AS (
  SELECT min(writer) AS writer FROM {table} WHERE component = %(component)s
  UNION ALL
  SELECT (SELECT min(writer) FROM {table} WHERE component = %(component)s
    AND {table}.writer > writers.writer) FROM writers WHERE writer IS NOT NULL)
SELECT found.* FROM writers
LEFT JOIN unnest(%(known)s::bigint[], %(marks)s::bigint[]) AS mark (known, number)
  ON known = writer
CROSS JOIN LATERAL (
  SELECT {columns} FROM {table} WHERE component = %(component)s
  AND {table}.writer = writers.writer AND {table}.number > coalesce(mark.number, 0) {which}
  ORDER BY {table}.number LIMIT %(limit)s) AS found
ORDER BY number LIMIT %(limit)s"""
_PENDING_IN: Final = _BEHIND_MARKS.format(
    table="pending",
    columns=f"pending.writer, {_ENTRY.replace('number', 'pending.number', 1)}, {_AGE}",
    which="AND part = ANY (%(parts)s::smallint[])",
)
_REPLIES_AFTER: Final = _BEHIND_MARKS.format(
    table="reply",
    columns=f"reply.writer, reply.number, {_OUTGOING}",
    which="",
)


class Rows(Protocol):
    """Executes a query and returns its rows."""

    def __call__(self, query: str, values: Mapping[str, Any] | None = None, /) -> list[Row]: ...


class Query:
    """The reads of a journal."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def pending(self, component: str | None, after: int, limit: int) -> list[Delivery]:
        return [_entry(*row) for row in self._page(_PENDING, component, after, limit)]

    def replies(self, component: str | None, after: int, limit: int) -> list[tuple[int, Outgoing]]:
        rows = self._page(_REPLY, component, after, limit)
        return [(number, _outgoing(*rest)) for number, *rest in rows]

    def dead(self, component: str | None, after: int, limit: int) -> list[DeadLetter]:
        return [_dead_letter(row) for row in self._page(_DEAD, component, after, limit)]

    def claims(self, names: Collection[bytes], now: float | None) -> list[Claim]:
        values = {"names": list(names), "now": now}
        return [Claim(*row) for row in self._rows(_CLAIMS, values)]

    def state(self, component: str) -> list[StateEntry]:
        query = "SELECT kind, key, value FROM state WHERE component = %(component)s ORDER BY 1, 2"
        return [StateEntry(*row) for row in self._rows(query, {"component": component})]

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        where, values = "WHERE uid = %(uid)s ORDER BY number", {"uid": uid}
        return [
            *(_entry(*row) for row in self._rows(f"{_PENDING} {where}", values)),
            *(_outgoing(*rest) for _, *rest in self._rows(f"{_REPLY} {where}", values)),
            *(_dead_letter(row) for row in self._rows(f"{_DEAD} {where}", values)),
        ]

    def uids(self, prefix: str, limit: int) -> list[str]:
        one = (
            "SELECT DISTINCT uid FROM {} WHERE uid >= %(prefix)s AND uid < %(beyond)s"
            " ORDER BY uid LIMIT %(limit)s"
        )
        each = " UNION ".join(f"({one.format(table)})" for table in ("pending", "reply", "dead"))
        values = {"prefix": prefix, "beyond": prefix + _BEYOND, "limit": limit}
        rows = self._rows(f"SELECT uid FROM ({each}) AS found ORDER BY 1 LIMIT %(limit)s", values)
        return [uid for (uid,) in rows]

    def totals(self) -> dict[str, Totals]:
        return {
            component: Totals(pending, int(weight), replies, dead, oldest)
            for component, pending, weight, replies, dead, oldest in self._rows(_TOTALS)
        }

    def sent(self, after: int, limit: int) -> list[tuple[int, Sent]]:
        rows = self._rows(f"{_SENT} {_BEHIND} {_ORDER}", {"after": after, "limit": limit})
        return [(number, Sent(Outgoing(*row[:5]), *row[5:])) for number, *row in rows]

    def all_claims(self, after: int, limit: int, now: float | None) -> list[tuple[int, Claim]]:
        rows = self._rows(_ALL_CLAIMS, {"after": after, "limit": limit, "now": now})
        return [(number, Claim(*row)) for number, *row in rows]

    def all_state(self, after: tuple[str, str, str], limit: int) -> list[PutState]:
        component, kind, key = after
        values = {"component": component, "kind": kind, "key": key, "limit": limit}
        return [PutState(*row) for row in self._rows(_ALL_STATE, values)]

    def pending_in(
        self, component: str, parts: Collection[int], marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, Delivery]]:
        values = {**_marked(component, marks, limit), "parts": sorted(parts)}
        return [(writer, _entry(*row)) for writer, *row in self._rows(_PENDING_IN, values)]

    def replies_after(
        self, component: str, marks: Mapping[int, int], limit: int
    ) -> list[tuple[int, int, Outgoing]]:
        rows = self._rows(_REPLIES_AFTER, _marked(component, marks, limit))
        return [(writer, number, _outgoing(*rest)) for writer, number, *rest in rows]

    def _page(self, select: str, component: str | None, after: int, limit: int) -> list[Row]:
        which = "" if component is None else "AND component = %(component)s"
        values = {"after": after, "component": component, "limit": limit}
        return self._rows(f"{select} {_BEHIND} {which} {_ORDER}", values)


def _marked(component: str, marks: Mapping[int, int], limit: int) -> dict[str, Any]:
    return {
        "component": component,
        "known": list(marks),
        "marks": list(marks.values()),
        "limit": limit,
    }


def _outgoing(
    data: bytes, made: float, component: str, uid: str, place: int, written: int
) -> Outgoing:
    return Outgoing(data, made, component, uid, place, written=written)


def _entry(*row: Any) -> Delivery:
    number, uid, component, kind, from_, to, id, lang, xml, received, attempts, event, age_s = row
    about = (uid, component, kind, from_, to, id, lang)
    return Delivery.stored(*about, xml, received, decode_attempts(attempts), number, event, age_s)


def _dead_letter(row: Row) -> DeadLetter:
    *entry, died, reason, reply = row
    return DeadLetter(_entry(*entry, None), died, reason, reply)
