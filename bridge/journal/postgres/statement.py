"""The operations of a batch as few SQL statements, which need no answer in between.

Operations of one kind are gathered into one statement, whose rows are one JSON text: that costs
less in Python's thread than an array for each column. The statements of a group are executed in the
order accept, settle and send, confirm. Where that order would change the result, a new group
begins. The rare operations are a group each.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, assert_never

import msgspec
from attrs import asdict

from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.sqlite.tally import KeepLimits
from bridge.journal.store import (
    Abandon,
    AnswerKey,
    Attempted,
    Claim,
    ClaimKey,
    Confirm,
    DeleteState,
    DropDead,
    ImpossibleOperation,
    KeyOperation,
    Operation,
    PutState,
    ReleaseKey,
    Requeue,
    Send,
    Settle,
)
from bridge.xmpp.outbox import Outgoing

_HEAD: Final = "uid, component, kind, from_, to_, id, lang, event"
_NOW: Final = "coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp()))"

_ACCEPT: Final = f"""
INSERT INTO pending ({_HEAD}, received, writer, weight, part, attempts, xml)
SELECT u, c, k, f, t, i, l, e, r, %(writer)s, w, p, a, x FROM json_to_recordset(%(rows)s::json)
AS given(u text, c text, k text, f text, t text, i text, l text, e text, r float8, w int, p int,
a text, x text)"""
_REPLIES: Final = """
INSERT INTO reply (uid, place, component, made, writer, kind, from_, to_, id, data)
SELECT u, p, c, m, %(writer)s, {head}, decode(d, 'base64')
FROM json_to_recordset(%(replies)s::json) AS given(o int, s text, u text, p int, c text,
m float8, k text, f text, t text, i text, d text)"""
_SEND: Final = _REPLIES.format(head="k, f, t, i") + " ORDER BY o"
_GONE: Final = """
WITH ended AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%(rows)s::json) AS given(o int, u text, d float8, z text)),
gone AS (
  DELETE FROM pending WHERE uid = ANY (ARRAY(SELECT u FROM ended)) RETURNING {columns})"""
_REPLY: Final = (
    _REPLIES.format(
        head="coalesce(k, kind), coalesce(f, from_), coalesce(t, to_),"
        " CASE WHEN s IS NULL THEN i ELSE id END"
    )
    + " LEFT JOIN gone ON uid = s WHERE s IS NULL OR uid IS NOT NULL ORDER BY o"
)
_SETTLE: Final = _GONE.format(columns="uid, kind, from_, to_, id") + _REPLY
_BURY: Final = f"""{_GONE.format(columns="*")}, buried AS (
  INSERT INTO dead ({_HEAD}, part, received, attempts, weight, died, reason, xml, since)
  SELECT {_HEAD}, part, received, attempts, weight, d, z, xml, {_NOW}
  FROM ended JOIN gone ON uid = u WHERE z IS NOT NULL ORDER BY o)
{_REPLY}"""
# A uid and place can occur twice, if a dead letter was revived before the error that answered it
# was confirmed. The reply that was written first is confirmed first.
_CONFIRM: Final = """
DELETE FROM reply WHERE number = ANY (ARRAY(
  SELECT (SELECT min(number) FROM reply WHERE uid = u AND place = p)
  FROM json_to_recordset(%(rows)s::json) AS given(u text, p int)))"""
_ATTEMPTED: Final = """
UPDATE pending SET attempts = CASE attempts WHEN '' THEN %(attempt)s::text
ELSE attempts || ',' || %(attempt)s::text END WHERE uid = %(uid)s"""
_ABANDON: Final = f"""
WITH gone AS (
  DELETE FROM reply WHERE number = (
    SELECT min(number) FROM reply WHERE uid = %(uid)s AND place = %(place)s) RETURNING *)
INSERT INTO dead (uid, component, kind, from_, to_, id, part, received, attempts, weight, died,
  reason, reply, xml, since)
SELECT uid, component, kind, from_, to_, id, 0, made, '', length(data), %(died)s, %(reason)s, data,
  '', {_NOW} FROM gone"""
_REVIVE: Final = f"""
WITH gone AS (
  DELETE FROM dead WHERE number = (
    SELECT number FROM dead WHERE uid = %(uid)s AND kind <> 'iq' AND reply IS NULL
    AND NOT EXISTS (SELECT FROM pending WHERE uid = %(uid)s) ORDER BY number LIMIT 1)
  RETURNING *)
INSERT INTO pending ({_HEAD}, part, received, writer, attempts, weight, xml)
SELECT {_HEAD}, part, %(received)s, %(writer)s, attempts, weight, xml FROM gone"""
_DROP_ALL: Final = "DELETE FROM dead"
_DROP: Final = "DELETE FROM dead WHERE uid = ANY (%(uids)s::text[])"
# Sorted by name, so two nodes never wait for each other's keys; numbered in the given order. This
# node's own keys are replaced: only it knows whether they are in use.
_CLAIM: Final = f"""
WITH given AS MATERIALIZED (
  SELECT nextval(pg_get_serial_sequence('claim', 'number')) AS number, * FROM (
    SELECT decode(n, 'base64') AS name, m, w, decode(g, 'base64') AS g, u, s, l, a
    FROM json_to_recordset(%(rows)s::json) AS row(o int, n text, m float8, w int, g text, u text,
    s text, l text, a text) ORDER BY o) AS sorted),
kept AS (
  INSERT INTO claim (number, name, writer, node, made, since, weight, digest, uid, state, lang,
    answer)
  SELECT number, name, %(writer)s, %(node)s, m, {_NOW}, w, g, u, s, l, a FROM given ORDER BY name
  ON CONFLICT (name) DO UPDATE SET number = excluded.number, writer = excluded.writer,
    node = excluded.node, made = excluded.made, since = excluded.since, weight = excluded.weight,
    digest = excluded.digest, uid = excluded.uid, state = excluded.state, lang = excluded.lang,
    answer = excluded.answer
  WHERE claim.node = excluded.node OR claim.since < {_NOW} - %(claim_s)s
  RETURNING 1)
SELECT expect((SELECT count(*) FROM kept), (SELECT count(*) FROM given))"""
_ANSWER: Final = """
UPDATE claim SET state = %(state)s, answer = %(answer)s::text, lang = %(lang)s, weight =
length(name) + length(digest) + octet_length(uid) + coalesce(octet_length(%(answer)s::text), 0)
WHERE name = %(name)s"""
_RELEASE: Final = "DELETE FROM claim WHERE name = %(name)s"
_PUT: Final = """
INSERT INTO state (component, kind, key, value) SELECT c, k, y, decode(v, 'base64')
FROM json_to_recordset(%(rows)s::json) AS given(c text, k text, y text, v text)
ORDER BY c COLLATE "C", k COLLATE "C", y COLLATE "C"
ON CONFLICT (component, kind, key) DO UPDATE SET value = excluded.value"""
_DELETE: Final = """
DELETE FROM state USING json_to_recordset(%(rows)s::json) AS given(c text, k text, y text)
WHERE component = c AND kind = k AND key = y"""

# The oldest go first: everything up to the newest one that exceeds a limit.
_TRIM: Final = f"""
DELETE FROM {{table}} WHERE number <= (
  SELECT max(number) FROM (
    SELECT number, since, count(*) OVER newer AS counted, sum(weight) OVER newer AS weighed
    FROM {{table}} WINDOW newer AS (ORDER BY number DESC ROWS UNBOUNDED PRECEDING)) AS kept
  WHERE counted > %(count)s OR weighed > %(bytes)s OR since < {_NOW} - %(age_s)s)"""

_EXCEEDS: Final = f"""
SELECT count(*) > %(count)s OR coalesce(sum(weight) > %(bytes)s, false)
  OR coalesce(min(since) < {_NOW} - %(age_s)s, false) FROM {{table}}"""

_encode: Final = msgspec.json.Encoder().encode
RareOperation = Attempted | Abandon | Requeue | DropDead | KeyOperation


class Statement(NamedTuple):
    """SQL and its parameters; those that all statements of a batch share are added later."""

    text: str
    values: dict[str, Any]


def trim(table: str, limits: KeepLimits) -> Statement:
    """Return the statement that forgets what exceeds the limits."""
    return Statement(_TRIM.format(table=table), asdict(limits))


def exceeds(table: str, limits: KeepLimits) -> Statement:
    """Return the query whether the limits are exceeded: one that takes no lock."""
    return Statement(_EXCEEDS.format(table=table), asdict(limits))


def compile_operations(operations: Sequence[Operation]) -> list[Statement]:
    """Return the statements that execute operations in order.

    Raises:
        ImpossibleOperation: if one can never succeed, whatever the journal holds.
    """
    group = _Group()
    state: dict[tuple[str, str, str], PutState | DeleteState] = {}
    try:
        for one in operations:
            if isinstance(one, PutState | DeleteState):
                state[one.name] = one
            else:
                _add(group, one)
        group.end()
        return group.statements + _state(state)
    except (OverflowError, UnicodeError) as error:
        raise ImpossibleOperation(f"a value cannot be kept: {error}") from error


def _add(group: "_Group", operation: Operation) -> None:
    match operation:
        case Delivery():
            group.accept(operation)
        case Settle():
            group.settle(operation)
        case Confirm(replies=replies):
            group.confirm(replies)
        case Send(stanzas=stanzas, claim=claim):
            for one in stanzas:
                group.reply(one.reply, None, (one.kind, one.from_, one.to, one.id))
            if claim is not None:
                group.claim(claim)
        case ClaimKey(claim=claim):
            group.claim(claim)
        case PutState() | DeleteState():
            raise AssertionError("the small state is compiled apart")
        case _:
            group.end()
            group.statements += _rare(operation)


class _Group:
    """Gathers the frequent operations. `statements` are those of the groups that have ended."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self._accepted: dict[str, dict[str, Any]] = {}
        self._settled: dict[str, dict[str, Any]] = {}
        self._buries = False
        self._replies: list[dict[str, Any]] = []
        self._confirmed: set[tuple[str, int]] = set()
        self._claims: dict[bytes, Claim] = {}

    def end(self) -> None:
        """Make statements of what has been gathered."""
        add = self.statements.append
        if self._accepted:
            add(Statement(_ACCEPT, {"rows": _json(self._accepted.values())}))
        replies = {"replies": _json(self._replies)}
        if self._settled:
            rows = {"rows": _json(self._settled.values()), **replies}
            add(Statement(_BURY if self._buries else _SETTLE, rows))
        elif self._replies:
            add(Statement(_SEND, replies))
        if self._confirmed:
            add(Statement(_CONFIRM, {"rows": _json(_pairs(self._confirmed))}))
        if self._claims:
            add(_claim(self._claims.values()))
        for gathered in (
            self._accepted,
            self._settled,
            self._replies,
            self._confirmed,
            self._claims,
        ):
            gathered.clear()
        self._buries = False

    def accept(self, delivery: Delivery) -> None:
        uid, stanza, xml = delivery.uid, delivery.stanza, delivery.xml
        if uid in self._settled:
            self.end()
        if uid in self._accepted:
            raise ImpossibleOperation(f"{uid} is already pending")
        if math.isnan(delivery.received):
            raise ImpossibleOperation(f"{uid} was received at no time")
        self._accepted[uid] = {
            "u": uid,
            "c": delivery.component,
            "k": stanza.kind,
            "f": stanza.from_ or "",
            "t": stanza.to or "",
            "i": stanza.id,
            "l": stanza.lang,
            "e": delivery.event,
            "r": delivery.received,
            "w": len(xml) if xml.isascii() else len(xml.encode()),
            "p": delivery.part,
            "a": encode_attempts(delivery.attempts),
            "x": xml,
        }

    def settle(self, settle: Settle) -> None:
        uid, reason = settle.uid, settle.reason
        if uid in self._settled:
            return  # only the first one has an effect
        if any((one.uid, one.place) in self._confirmed for one in settle.replies):
            self.end()
        row: dict[str, Any] = {"o": len(self._settled), "u": uid}
        if reason is not None:
            self._buries = True
            row |= {"d": settle.died, "z": _clean(reason)}
        self._settled[uid] = row
        for one in settle.replies:
            self.reply(one, uid, (None, None, None, None))

    def reply(self, reply: Outgoing, settled: str | None, head: tuple[str | None, ...]) -> None:
        if (reply.uid, reply.place) in self._confirmed and settled is None:
            self.end()
        kind, from_, to, id = head
        self._replies.append(
            {
                "o": len(self._replies),
                "s": settled,
                "u": reply.uid,
                "p": reply.place,
                "c": reply.component,
                "m": reply.made,
                "k": kind,
                "f": from_,
                "t": to,
                "i": id,
                "d": reply.data,
            }
        )

    def confirm(self, replies: Sequence[tuple[str, int]]) -> None:
        for one in replies:
            if one in self._confirmed:
                self.end()
            self._confirmed.add(one)

    def claim(self, claim: Claim) -> None:
        self._claims.pop(claim.name, None)
        self._claims[claim.name] = claim


def _rare(operation: RareOperation) -> list[Statement]:
    match operation:
        case Attempted(uid=uid, attempt=attempt):
            values = {"uid": uid, "attempt": encode_attempts([attempt])}
            return [Statement(_ATTEMPTED, values)]
        case Abandon(uid=uid, place=place, died=died, reason=reason):
            abandoned = {"uid": uid, "place": place, "died": died, "reason": _clean(reason)}
            return [Statement(_ABANDON, abandoned)]
        case Requeue(uids=uids, received=received):
            return [Statement(_REVIVE, {"uid": uid, "received": received}) for uid in uids]
        case DropDead(uids=None):
            return [Statement(_DROP_ALL, {})]
        case DropDead(uids=uids):
            return [Statement(_DROP, {"uids": list(uids or ())})]
        case ClaimKey(claim=claim):
            return [_claim([claim])]
        case AnswerKey(name=name, state=state, answer=answer, lang=lang):
            answered = {"name": name, "state": state, "answer": answer, "lang": lang}
            return [Statement(_ANSWER, answered)]
        case ReleaseKey(name=name):
            return [Statement(_RELEASE, {"name": name})]
        case _:
            assert_never(operation)


def _claim(claims: Sequence[Claim] | Any) -> Statement:
    rows = [
        {
            "o": place,
            "n": one.name,
            "m": one.made,
            "w": len(one.name) + len(one.digest) + len((one.uid + (one.answer or "")).encode()),
            "g": one.digest,
            "u": one.uid,
            "s": one.state,
            "l": one.lang,
            "a": one.answer,
        }
        for place, one in enumerate(claims)
    ]
    return Statement(_CLAIM, {"rows": _json(rows)})


def _state(changes: dict[tuple[str, str, str], PutState | DeleteState]) -> list[Statement]:
    puts = [one for one in changes.values() if isinstance(one, PutState)]
    gone = [one.name for one in changes.values() if isinstance(one, DeleteState)]
    statements = []
    if puts:
        rows = [{"c": one.component, "k": one.kind, "y": one.key, "v": one.value} for one in puts]
        statements.append(Statement(_PUT, {"rows": _json(rows)}))
    if gone:
        names = [{"c": component, "k": kind, "y": key} for component, kind, key in gone]
        statements.append(Statement(_DELETE, {"rows": _json(names)}))
    return statements


def encode_attempts(attempts: Sequence[Attempt]) -> str:
    """Encode attempts as JSON without the outer brackets."""
    return ",".join(json.dumps([one.at, one.result]) for one in attempts)


def decode_attempts(text: str) -> tuple[Attempt, ...]:
    """Decode a text of `encode_attempts`, or several of them joined by commas."""
    return tuple(Attempt(at, result) for at, result in json.loads(f"[{text}]"))


def _clean(text: str) -> str:
    """Replace NUL, which PostgreSQL cannot keep: a reason may quote an endpoint."""
    return text.replace("\0", "\ufffd")


def _pairs(confirmed: set[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"u": uid, "p": place} for uid, place in confirmed]


def _json(rows: Any) -> str:
    return _encode(list(rows)).decode()
