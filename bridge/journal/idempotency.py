"""The results of requests with an idempotency key (claims), in the journal or in memory.

A key is known by its name, a digest. The clients' own text is not kept.
"""

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

import outcome
import trio
from attrs import define, evolve, field

from bridge.journal.age import elapsed_s
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
    """Return the name of a key in the realm of a token."""
    return sha256(f"{len(token)}:{token}{key}".encode("utf-8", "surrogatepass")).digest()


class IdempotencyStore(Protocol):
    """The store of claims, as the submission of stanzas needs it."""

    async def find(self, name: bytes) -> Claim | None:
        """Return the claim, if there is one that is not older than `CLAIM_S`.

        Raises:
            JournalError: if it cannot be looked up now.
        """
        ...

    def sent(self, claim: Claim) -> None:
        """Record a claim whose stanza is kept, unless the journal keeps both together."""
        ...

    def begin(self, claim: Claim, then: Then) -> None:
        """Keep a claim. `then` is called with whether it is kept, perhaps at once."""
        ...

    def answer(
        self, name: bytes, state: ClaimState, xml: str | None, lang: str | None, then: Then
    ) -> None:
        """Keep the result of a claim. `then` is called, perhaps at once: with True when it is kept,
        or with False if it will be kept later.
        """
        ...

    def release(self, name: bytes) -> None:
        """Forget a claim, because its request had no effect."""
        ...


class MemoryIdempotencyStore:
    """Keeps claims as long as the process lives. Beyond the limits, the oldest go first."""

    def __init__(
        self,
        limit_count: int = MEMORY_COUNT,
        limit_bytes: int = MEMORY_BYTES,
        now: Callable[[], float] = elapsed_s,
    ) -> None:
        self._limit_count = limit_count
        self._limit_bytes = limit_bytes
        self._now = now
        self._claims: dict[bytes, Claim] = {}
        self._since: dict[bytes, float] = {}  # by `now`, for the same names
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._claims)

    async def find(self, name: bytes) -> Claim | None:
        await trio.lowlevel.checkpoint()
        return self._claims[name] if self._is_current(name) else None

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
            del self._since[name]
            self._bytes -= len(claim.answer or "")

    def _is_current(self, name: bytes) -> bool:
        return name in self._since and self._since[name] >= self._now() - CLAIM_S

    def _put(self, claim: Claim) -> None:
        self.release(claim.name)
        self._claims[claim.name] = claim
        self._since[claim.name] = self._now()
        self._bytes += len(claim.answer or "")
        self._trim()

    def _trim(self) -> None:
        while self._claims:
            oldest = next(iter(self._claims))
            if (
                len(self._claims) <= self._limit_count
                and self._bytes <= self._limit_bytes
                and self._is_current(oldest)
            ):
                return
            self.release(oldest)


@define(eq=False)
class _Round:
    """Claims that are looked up together, and the result."""

    names: set[bytes] = field(factory=set)
    over: trio.Event = field(factory=trio.Event)
    found: dict[bytes, Claim] = field(factory=dict)
    failure: JournalError | None = None


class JournalIdempotencyStore:
    """Keeps claims in the journal.

    One query at a time looks up the claims for all callers that wait by then, because each query
    ends a group commit.
    """

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._next = _Round()
        self._asking = False

    async def find(self, name: bytes) -> Claim | None:
        mine = self._next
        mine.names.add(name)
        self._ask()
        await mine.over.wait()
        if mine.failure is not None:
            raise JournalError(mine.failure.why, mine.failure.hint)
        return mine.found.get(name)

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
        """Do nothing: the claim was kept together with its stanza."""

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
