"""What a journal has to hold, in plain lists and dicts."""

from __future__ import annotations

from copy import copy
from typing import assert_never

from attrs import define, evolve, field
from msgspec.structs import replace

from bridge.journal.delivery import Delivery
from bridge.journal.store import (
    CLAIM_S,
    Abandon,
    AnswerKey,
    Attempted,
    Claim,
    ClaimKey,
    Confirm,
    DeadLetter,
    DeleteState,
    DropDead,
    Operation,
    PutState,
    ReleaseKey,
    Requeue,
    Send,
    Settle,
    Totals,
)
from bridge.xmpp.outbox import Outgoing


class Refused(Exception):
    """An operation that cannot be done."""


@define
class Model:
    """A journal without a disk. All numbers are 0."""

    limit_count: int
    limit_bytes: int
    limit_age_s: float
    claim_limit_count: int
    claim_limit_bytes: int
    pending: dict[str, Delivery] = field(factory=dict)
    replies: list[tuple[Outgoing, Delivery]] = field(factory=list)  # with what they reply to
    buried: list[tuple[DeadLetter, float]] = field(factory=list)  # with the `now` of that time
    claims: dict[bytes, Claim] = field(factory=dict)
    now: float = 0  # how long the journal has been open
    claimed: dict[bytes, float] = field(factory=dict)  # when, as `now`
    state: dict[tuple[str, str, str], bytes] = field(factory=dict)

    @property
    def dead(self) -> list[DeadLetter]:
        return [one for one, _ in self.buried]

    @property
    def current_claims(self) -> dict[bytes, Claim]:
        oldest = self.now - CLAIM_S
        return {name: one for name, one in self.claims.items() if self.claimed[name] >= oldest}

    def after(self, operations: list[Operation]) -> Model:
        """Give the model as it is after a batch; raises `Refused` where that cannot be done."""
        new = copy(self)
        new.pending, new.replies, new.buried = dict(self.pending), [*self.replies], [*self.buried]
        new.claims, new.claimed = dict(self.claims), dict(self.claimed)
        new.state = dict(self.state)
        for operation in operations:
            new.do(operation)
        new.trim()
        return new

    def do(self, operation: Operation) -> None:
        match operation:
            case Delivery() as entry:
                if entry.uid in self.pending:
                    raise Refused
                self.pending[entry.uid] = replace(entry, number=0)
            case Attempted(uid=uid, attempt=attempt):
                if entry_ := self.pending.get(uid):
                    self.pending[uid] = replace(entry_, attempts=(*entry_.attempts, attempt))
            case Settle(uid=uid, replies=replies, died=died, reason=reason):
                if entry_ := self.pending.pop(uid, None):
                    self.replies += [(reply, entry_) for reply in replies]
                    if reason is not None:
                        self.buried.append((DeadLetter(entry_, died, reason), self.now))
            case Confirm(replies=keys):
                for uid, place in keys:
                    self.take_reply(uid, place)
            case Abandon(uid=uid, place=place, died=died, reason=reason):
                if taken := self.take_reply(uid, place):
                    reply, entry_ = taken
                    one = entry_.stanza
                    head = (one.kind, one.from_ or "", one.to or "", one.id, None)
                    stub = Delivery.stored(entry_.uid, entry_.component, *head, "", reply.made)
                    stub = replace(stub, component=reply.component)
                    self.buried.append((DeadLetter(stub, died, reason, reply.data), self.now))
            case Requeue(uids=uids, received=received):
                for uid in uids:
                    self.revive(uid, received)
            case DropDead(uids=uids):
                self.buried = [
                    (one, since)
                    for one, since in self.buried
                    if uids is not None and one.entry.uid not in uids
                ]
            case Send(reply=reply):
                about = (operation.kind, operation.from_, operation.to, operation.id)
                stub = Delivery.stored(reply.uid, reply.component, *about, None, "", reply.made)
                self.replies.append((reply, stub))
                if operation.claim is not None:
                    self.put(operation.claim)
            case ClaimKey(claim=claim):
                self.put(claim)
            case AnswerKey(name=name, state=state, answer=answer, lang=lang):
                if known := self.claims.get(name):
                    self.claims[name] = evolve(known, state=state, answer=answer, lang=lang)
            case ReleaseKey(name=name):
                self.claims.pop(name, None)
            case PutState(value=value):
                self.state[operation.name] = value
            case DeleteState():
                self.state.pop(operation.name, None)
            case _:
                assert_never(operation)

    def put(self, claim: Claim) -> None:
        self.claims.pop(claim.name, None)
        self.claims[claim.name] = claim
        self.claimed[claim.name] = self.now

    def take_reply(self, uid: str, place: int) -> tuple[Outgoing, Delivery] | None:
        for index, (reply, _) in enumerate(self.replies):
            if (reply.uid, reply.place) == (uid, place):
                return self.replies.pop(index)
        return None

    def revive(self, uid: str, received: float) -> None:
        for one, since in self.buried:
            entry = one.entry
            if entry.uid == uid and entry.stanza.kind != "iq" and one.reply is None:
                if uid not in self.pending:
                    self.buried.remove((one, since))
                    self.pending[uid] = replace(entry, received=received)
                return

    def trim(self) -> None:
        while self.buried and (
            len(self.buried) > self.limit_count
            or sum(map(weight, self.dead)) > self.limit_bytes
            or self.buried[0][1] < self.now - self.limit_age_s
        ):
            del self.buried[0]
        while self.claims and (
            len(self.claims) > self.claim_limit_count
            or sum(map(claim_weight, self.claims.values())) > self.claim_limit_bytes
            or self.claimed[next(iter(self.claims))] < self.now - CLAIM_S
        ):
            del self.claims[next(iter(self.claims))]

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        uids = {
            *self.pending,
            *(reply.uid for reply, _ in self.replies),
            *(one.entry.uid for one in self.dead),
        }
        if uid not in uids:
            fitting = [one for one in uids if one.startswith(uid)]
            if len(fitting) != 1:
                return []
            [uid] = fitting
        return [
            *(one for one in self.pending.values() if one.uid == uid),
            *(reply for reply, _ in self.replies if reply.uid == uid),
            *(one for one in self.dead if one.entry.uid == uid),
        ]

    def totals(self) -> dict[str, Totals]:
        found: dict[str, Totals] = {}
        for entry in self.pending.values():
            old = found.get(entry.component, Totals(oldest=entry.received))
            size = old.pending_bytes + len(entry.xml.encode())
            found[entry.component] = evolve(old, pending=old.pending + 1, pending_bytes=size)
        for reply, _ in self.replies:
            old = found.get(reply.component, Totals())
            found[reply.component] = evolve(old, replies=old.replies + 1)
        for one in self.dead:
            old = found.get(one.entry.component, Totals())
            found[one.entry.component] = evolve(old, dead=old.dead + 1)
        return found


def weight(letter: DeadLetter) -> int:
    """What a dead letter weighs: its stanza or its reply."""
    return len(letter.entry.xml.encode()) if letter.reply is None else len(letter.reply)


def claim_weight(claim: Claim) -> int:
    """What a claim weighs: all that is long in it."""
    texts = (claim.uid + (claim.answer or "")).encode()
    return len(claim.name) + len(claim.digest) + len(texts)
