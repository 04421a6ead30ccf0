"""The operations of a batch as few SQL statements, which need no answer in between.

Operations of one kind are gathered into one statement, whose rows are one JSON text: that costs
less in Python's thread than an array for each column. The statements of a group are executed in the
order accept, settle and send, confirm. Where that order would change the result, a new group
begins. The rare operations are a group each.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, assert_never

import msgspec
from attrs import asdict

from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.postgres.sql import (
    ABANDON,
    ACCEPT,
    ANSWER,
    ATTEMPTED,
    BURY,
    CLAIM,
    CONFIRM,
    COUNT_WRITTEN,
    DELETE,
    DROP,
    DROP_ALL,
    EXCEEDS,
    PUT,
    RELEASE,
    REVIVE,
    SEND,
    SETTLE,
    TRIM,
)
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
from bridge.xmpp.outbox import Outgoing, ReplyKey

_encode: Final = msgspec.json.Encoder().encode
RareOperation = Attempted | Abandon | Requeue | DropDead | KeyOperation


class Statement(NamedTuple):
    """SQL and its parameters; those that all statements of a batch share are added later."""

    text: str
    values: dict[str, Any]


def trim(table: str, limits: KeepLimits) -> Statement:
    """Return the statement that forgets what exceeds the limits."""
    return Statement(TRIM.format(table=table), asdict(limits))


def exceeds(table: str, limits: KeepLimits) -> Statement:
    """Return the query whether the limits are exceeded: one that takes no lock."""
    return Statement(EXCEEDS.format(table=table), asdict(limits))


def count_written(written: Mapping[ReplyKey, int]) -> Statement:
    """Return the statement that keeps how often replies were written."""
    rows = [{"u": uid, "p": place, "w": count} for (uid, place), count in written.items()]
    return Statement(COUNT_WRITTEN, {"rows": _json(rows)})


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
            add(Statement(ACCEPT, {"rows": _json(self._accepted.values())}))
        replies = {"replies": _json(self._replies)}
        if self._settled:
            rows = {"rows": _json(self._settled.values()), **replies}
            add(Statement(BURY if self._buries else SETTLE, rows))
        elif self._replies:
            add(Statement(SEND, replies))
        if self._confirmed:
            add(Statement(CONFIRM, {"rows": _json(_pairs(self._confirmed))}))
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
            "g": delivery.age_s,  # of a copy
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
            return [Statement(ATTEMPTED, values)]
        case Abandon(uid=uid, place=place, died=died, reason=reason):
            abandoned = {"uid": uid, "place": place, "died": died, "reason": _clean(reason)}
            return [Statement(ABANDON, abandoned)]
        case Requeue(uids=uids, received=received):
            return [Statement(REVIVE, {"uid": uid, "received": received}) for uid in uids]
        case DropDead(uids=None):
            return [Statement(DROP_ALL, {})]
        case DropDead(uids=uids):
            return [Statement(DROP, {"uids": list(uids or ())})]
        case ClaimKey(claim=claim):
            return [_claim([claim])]
        case AnswerKey(name=name, state=state, answer=answer, lang=lang):
            answered = {"name": name, "state": state, "answer": answer, "lang": lang}
            return [Statement(ANSWER, answered)]
        case ReleaseKey(name=name):
            return [Statement(RELEASE, {"name": name})]
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
    return Statement(CLAIM, {"rows": _json(rows)})


def _state(changes: dict[tuple[str, str, str], PutState | DeleteState]) -> list[Statement]:
    puts = [one for one in changes.values() if isinstance(one, PutState)]
    gone = [one.name for one in changes.values() if isinstance(one, DeleteState)]
    statements = []
    if puts:
        rows = [{"c": one.component, "k": one.kind, "y": one.key, "v": one.value} for one in puts]
        statements.append(Statement(PUT, {"rows": _json(rows)}))
    if gone:
        names = [{"c": component, "k": kind, "y": key} for component, kind, key in gone]
        statements.append(Statement(DELETE, {"rows": _json(names)}))
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
