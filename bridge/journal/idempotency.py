"""What became of the requests that first used an idempotency key: in the journal, or in memory.

A key is known by its name, a digest: what clients choose is not kept.
"""

import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

import outcome
import trio
from attrs import define, evolve, field

from bridge.journal.committer import Committer
from bridge.journal.store import (
    CLAIM_S,
    AnswerKey,
    Claim,
    ClaimKey,
    ClaimState,
    JournalError,
    JournalStore,
    ReleaseKey,
)

MEMORY_COUNT: Final = 100_000
MEMORY_BYTES: Final = 64 * 1024 * 1024

Then = Callable[[bool], None]


def claim_name(token: str, key: str) -> bytes:
    """Give what stands for a key in the realm of a token."""
    return sha256(f"{len(token)}:{token}{key}".encode("utf-8", "surrogatepass")).digest()


class IdempotencyStore(Protocol):
    """What the sender asks of whoever keeps claims."""

    async def find(self, name: bytes) -> Claim | None:
        """Give a claim that is not older than `CLAIM_S`.

        Raises:
            JournalError: it cannot be known now.
        """
        ...

    def sent(self, claim: Claim) -> None:
        """Note a claim whose stanza is kept, together with it where both are."""
        ...

    def begin(self, claim: Claim, then: Then) -> None:
        """Keep a claim; `then` is told whether it is kept, maybe at once."""
        ...

    def answer(
        self, name: bytes, state: ClaimState, xml: str | None, lang: str | None, then: Then
    ) -> None:
        """Keep what became of a claim; `then` is told when it is kept, maybe at once, or that it
        will be later.
        """
        ...

    def release(self, name: bytes) -> None:
        """Forget a claim: its request came to nothing."""
        ...


class MemoryIdempotencyStore:
    """Keeps claims as long as the process lives; the oldest go first beyond the limits."""

    def __init__(
        self,
        limit_count: int = MEMORY_COUNT,
        limit_bytes: int = MEMORY_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._limit_count = limit_count
        self._limit_bytes = limit_bytes
        self._now = now
        self._claims: dict[bytes, Claim] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._claims)

    async def find(self, name: bytes) -> Claim | None:
        await trio.lowlevel.checkpoint()
        return _current(self._claims.get(name), self._now())

    def sent(self, claim: Claim) -> None:
        self._put(claim)

    def begin(self, claim: Claim, then: Then) -> None:
        self._put(claim)
        then(True)

    def answer(
        self, name: bytes, state: ClaimState, xml: str | None, lang: str | None, then: Then
    ) -> None:
        claim = self._claims.get(name)
        if claim is not None:
            self._bytes += len(xml or "")
            self._claims[name] = evolve(claim, state=state, answer=xml, lang=lang)
            self._trim()
        then(True)

    def release(self, name: bytes) -> None:
        claim = self._claims.pop(name, None)
        if claim is not None:
            self._bytes -= len(claim.answer or "")

    def _put(self, claim: Claim) -> None:
        self.release(claim.name)
        self._claims[claim.name] = claim
        self._bytes += len(claim.answer or "")
        self._trim()

    def _trim(self) -> None:
        too_old = self._now() - CLAIM_S
        while self._claims:
            oldest = next(iter(self._claims.values()))
            if (
                len(self._claims) <= self._limit_count
                and self._bytes <= self._limit_bytes
                and oldest.made >= too_old
            ):
                return
            self.release(oldest.name)


@define(eq=False)
class _Round:
    """Claims that are looked for together, and what was found."""

    names: set[bytes] = field(factory=set)
    over: trio.Event = field(factory=trio.Event)
    found: dict[bytes, Claim] = field(factory=dict)
    failure: JournalError | None = None


class JournalIdempotencyStore:
    """Keeps claims in the journal.

    It asks one question at a time, for all that want to know by then: each question ends a group of
    commits.
    """

    def __init__(self, committer: Committer, now: Callable[[], float] = time.time) -> None:
        self._committer = committer
        self._now = now
        self._next = _Round()
        self._asking = False

    async def find(self, name: bytes) -> Claim | None:
        mine = self._next
        mine.names.add(name)
        self._ask()
        await mine.over.wait()
        if mine.failure is not None:
            raise JournalError(mine.failure.why, mine.failure.hint)
        return _current(mine.found.get(name), self._now())

    def _ask(self) -> None:
        if self._asking or not self._next.names:
            return
        self._asking = True
        asked, self._next = self._next, _Round()
        query = partial(_claims, names=asked.names)
        self._committer.inquire(query, partial(self._found, asked))

    def _found(self, asked: _Round, answer: outcome.Outcome[list[Claim]]) -> None:
        self._asking = False
        try:
            asked.found = {one.name: one for one in answer.unwrap()}
        except JournalError as error:
            asked.failure = error
        asked.over.set()
        self._ask()

    def sent(self, claim: Claim) -> None:
        """It was kept with its stanza."""

    def begin(self, claim: Claim, then: Then) -> None:
        self._committer.submit(ClaimKey(claim), then)

    def answer(
        self, name: bytes, state: ClaimState, xml: str | None, lang: str | None, then: Then
    ) -> None:
        self._committer.submit(AnswerKey(name, state, xml, lang), then)

    def release(self, name: bytes) -> None:
        self._committer.submit(ReleaseKey(name))


def _claims(journal: JournalStore, *, names: set[bytes]) -> list[Claim]:
    return journal.claims(names)


def _current(claim: Claim | None, now: float) -> Claim | None:
    return claim if claim is not None and claim.made >= now - CLAIM_S else None
