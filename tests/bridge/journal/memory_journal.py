"""A journal in memory that keeps the protocol, and remembers all that ever happened to it."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import assert_never

from attrs import evolve
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
    ImpossibleOperation,
    JournalError,
    JournalStore,
    Operation,
    PutState,
    ReleaseKey,
    Requeue,
    Send,
    Settle,
    StateEntry,
    Totals,
)
from bridge.xmpp.outbox import Outgoing


class MemoryJournal:
    """A `JournalStore` for large tests: a page costs no more at the end than at the beginning."""

    def __init__(self) -> None:
        self.failure: JournalError | None = None
        self.accepted: list[Delivery] = []
        """All that ever were."""
        self.settled: list[Settle] = []
        """All that ended what was pending."""
        self.commits = 0
        self.pages = 0
        """How often somebody asked for what is pending."""
        self._entries: dict[int, Delivery] = {}
        self._numbers: list[int] = []
        self._number_of: dict[str, int] = {}
        self._replies: dict[int, Outgoing] = {}
        self._dead: list[DeadLetter] = []
        self.elapsed_s: Callable[[], float] = lambda: 0.0
        """The clock by which claims grow old."""
        self.kept_claims: dict[bytes, Claim] = {}
        self._claimed_since: dict[bytes, float] = {}
        self._state: dict[tuple[str, str, str], bytes] = {}
        self._last = 0

    def commit(self, operations: Sequence[Operation]) -> None:
        if self.failure is not None:
            raise self.failure
        fresh: set[str] = set()
        for one in operations:
            if isinstance(one, Delivery):
                if one.uid in self._number_of or one.uid in fresh:
                    raise ImpossibleOperation(f"{one.uid} is already pending")
                fresh.add(one.uid)
        self.commits += 1
        for one in operations:
            self._do(one)

    def _do(self, operation: Operation) -> None:
        match operation:
            case Delivery() as entry:
                self.accepted.append(entry)
                attempts = entry.accepted_attempts
                self._add(replace(entry, attempts=attempts, is_tried=False, is_being_kept=False))
            case Attempted(uid=uid, attempt=attempt):
                if (number := self._number_of.get(uid)) is not None:
                    old = self._entries[number]
                    self._entries[number] = replace(old, attempts=(*old.attempts, attempt))
            case Settle(uid=uid, replies=replies, died=died, reason=reason):
                if (number := self._number_of.pop(uid, None)) is None:
                    return
                entry = self._entries.pop(number)
                self.settled.append(operation)
                for reply in replies:
                    self._replies[self._next()] = reply
                if reason is not None:
                    self._dead.append(DeadLetter(entry, died, reason))
            case Confirm(replies=keys):
                for uid, place in keys:
                    self._take_reply(uid, place)
            case Abandon(uid=uid, place=place, died=died, reason=reason):
                taken = self._take_reply(uid, place)
                if taken is not None:
                    stub = Delivery.stored(
                        uid, taken.component, "", "", "", None, None, "", taken.made
                    )
                    self._dead.append(DeadLetter(stub, died, reason, taken.data))
            case Requeue(uids=uids, received=received):
                for one in [one for one in self._dead if one.entry.uid in uids]:
                    if one.reply is None and one.entry.stanza.kind != "iq":
                        self._dead.remove(one)
                        self._add(replace(one.entry, received=received))
            case DropDead(uids=uids):
                gone = {one.entry.uid for one in self._dead} if uids is None else set(uids)
                self._dead = [one for one in self._dead if one.entry.uid not in gone]
            case Send(stanzas=stanzas, claim=claim):
                for sent in stanzas:
                    self._replies[self._next()] = sent.reply
                if claim is not None:
                    self._claim(claim)
            case ClaimKey(claim=claim):
                self._claim(claim)
            case AnswerKey(name=name, state=state, answer=answer, lang=lang):
                if name in self.kept_claims:
                    known = self.kept_claims[name]
                    self.kept_claims[name] = evolve(known, state=state, answer=answer, lang=lang)
            case ReleaseKey(name=name):
                self.kept_claims.pop(name, None)
            case PutState(value=value):
                self._state[operation.name] = value
            case DeleteState():
                self._state.pop(operation.name, None)
            case _:
                assert_never(operation)

    def _claim(self, claim: Claim) -> None:
        self.kept_claims[claim.name] = claim
        self._claimed_since[claim.name] = self.elapsed_s()

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _add(self, entry: Delivery) -> None:
        number = self._next()
        self._numbers.append(number)
        self._number_of[entry.uid] = number
        self._entries[number] = replace(entry, number=number)

    def _take_reply(self, uid: str, place: int) -> Outgoing | None:
        for number, reply in self._replies.items():
            if (reply.uid, reply.place) == (uid, place):
                return self._replies.pop(number)
        return None

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        self.pages += 1
        found: list[Delivery] = []
        for place in range(bisect_right(self._numbers, after), len(self._numbers)):
            entry = self._entries.get(self._numbers[place])
            if entry is not None and component in (None, entry.component):
                found.append(entry)
                if len(found) == limit:
                    break
        return found

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        items = self._replies.items()
        return [
            item for item in items if item[0] > after and component in (None, item[1].component)
        ][:limit]

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        return [one for one in self._dead if component in (None, one.entry.component)][:limit]

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        oldest, since = self.elapsed_s() - CLAIM_S, self._claimed_since
        return [
            self.kept_claims[name]
            for name in names
            if name in self.kept_claims and since[name] >= oldest
        ]

    def state(self, component: str) -> list[StateEntry]:
        return [
            StateEntry(kind, key, value)
            for (owner, kind, key), value in sorted(self._state.items())
            if owner == component
        ]

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        return [
            *(one for one in self._entries.values() if one.uid == uid),
            *(one for one in self._replies.values() if one.uid == uid),
            *(one for one in self._dead if one.entry.uid == uid),
        ]

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        found = {
            *self._number_of,
            *(one.uid for one in self._replies.values()),
            *(one.entry.uid for one in self._dead),
        }
        return sorted(uid for uid in found if uid.startswith(prefix))[:limit]

    def totals(self) -> dict[str, Totals]:
        found: dict[str, Totals] = {}
        for entry in self._entries.values():
            old = found.get(entry.component, Totals(oldest=entry.received))
            size = old.pending_bytes + len(entry.xml.encode())
            found[entry.component] = evolve(old, pending=old.pending + 1, pending_bytes=size)
        for reply in self._replies.values():
            old = found.get(reply.component, Totals())
            found[reply.component] = evolve(old, replies=old.replies + 1)
        for one in self._dead:
            old = found.get(one.entry.component, Totals())
            found[one.entry.component] = evolve(old, dead=old.dead + 1)
        return found

    def close(self) -> None:
        pass


class Severable:
    """A way to a journal that a killed process has no more."""

    def __init__(self, journal: JournalStore) -> None:
        self._journal = journal
        self._alive = True

    def sever(self) -> None:
        self._alive = False

    def _to(self) -> JournalStore:
        if not self._alive:
            raise JournalError("this process was killed")
        return self._journal

    def commit(self, operations: Sequence[Operation]) -> None:
        self._to().commit(operations)

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        return self._to().pending(component, after=after, limit=limit)

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        return self._to().replies(component, after=after, limit=limit)

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        return self._to().dead(component, after=after, limit=limit)

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        return self._to().claims(names)

    def state(self, component: str) -> list[StateEntry]:
        return self._to().state(component)

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        return self._to().find(uid)

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        return self._to().uids(prefix, limit=limit)

    def totals(self) -> dict[str, Totals]:
        return self._to().totals()

    def close(self) -> None:
        """The journal outlives its processes."""
