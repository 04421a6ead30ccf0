"""What outlives the process: accepted stanzas, replies on their way, dead letters, claims.

Only values and the protocol of a store are here; `sqlite` is the embedded one. A store knows no
clock, no trio, and nothing of a stanza but its head: it is given operations, in batches, and is
called in a thread of its own (`committer`).

A delivery is *pending* from its acceptance (a `Delivery` is that operation) to its `Settle`; then
its replies are *unconfirmed* until their `Confirm`, and it may live on as a *dead letter*. Nothing
is ever in two of these as the same thing, so that no iq can be answered twice: `Settle` of a
delivery that is not pending does nothing.

`Settle` is made for every stanza, so it is a `Struct`: a fifth of the cost of a frozen attrs class.

A stanza that came of no delivery (`Send`) is kept as a reply is, with the place 0. A claim records
the outcome of the request that first used an idempotency key; it is forgotten `CLAIM_S` later.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol

from attrs import field, frozen
from msgspec import Struct

from bridge.journal.delivery import Attempt, Delivery
from bridge.xmpp.outbox import Outgoing

ClaimState = Literal["sent", "asked", "answered", "unanswered"]
CLAIM_S: Final = 24 * 3600.0
SENT_PLACE: Final = 0
"""The place of a stanza that came of no delivery."""


class JournalError(Exception):
    """The journal cannot be used or written: `why`, and `hint`, what the operator can do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(f"{why}; {hint}" if hint else why)
        self.why = why
        self.hint = hint


class ImpossibleOperation(JournalError):
    """One of the operations can never be done, though others can: a fault of who gave it."""


@frozen
class DeadLetter:
    """What was given up: the entry with all its attempts, or (`reply`) a reply that the server
    would not have.
    """

    entry: Delivery
    died: float  # Unix time, s
    reason: str
    reply: bytes | None = None


@frozen
class Claim:
    """An idempotency key (`name` stands for it and its realm), and what became of the request that
    first used it: `digest` is that request's, `made` when it came (Unix time, s).

    It is "sent", together with its stanza; or "asked" until its answer is known, then "answered",
    with the answer's XML and language, or "unanswered".
    """

    name: bytes
    digest: bytes
    uid: str
    made: float
    state: ClaimState
    answer: str | None = field(default=None, repr=False)
    lang: str | None = None


# --- operations


@frozen
class Attempted:
    """Note an attempt that failed, of an entry that stays pending."""

    uid: str
    attempt: Attempt


class Settle(Struct, frozen=True):
    """End an entry: keep its replies until they are confirmed, and, with a `reason`, the entry
    as a dead letter.
    """

    uid: str
    replies: tuple[Outgoing, ...] = ()
    died: float = 0
    reason: str | None = None


@frozen
class Confirm:
    """Forget replies, by uid and place: they have arrived."""

    replies: tuple[tuple[str, int], ...]


@frozen
class Abandon:
    """Make a dead letter of a reply that the server would not have."""

    uid: str
    place: int
    died: float
    reason: str


@frozen
class Requeue:
    """Make dead letters pending again, behind all others; `received` is the new time of
    acceptance. A request (iq) has had its answer, and an abandoned reply its POST: they stay.
    """

    uids: tuple[str, ...]
    received: float


@frozen
class DropDead:
    """Forget dead letters; all of them where `uids` is None."""

    uids: tuple[str, ...] | None = None


@frozen
class Send:
    """Keep a stanza that came of no entry until it is confirmed, and with it the claim of the
    request that it came of; an older claim of that name is forgotten.
    """

    reply: Outgoing
    kind: str
    from_: str
    to: str
    id: str | None
    claim: Claim | None = None


@frozen
class ClaimKey:
    """Keep a claim; an older one of that name is forgotten."""

    claim: Claim


@frozen
class AnswerKey:
    """Note what became of a claim, if it is still kept."""

    name: bytes
    state: ClaimState
    answer: str | None = field(default=None, repr=False)
    lang: str | None = None


@frozen
class ReleaseKey:
    """Forget a claim: its request came to nothing, and may be made again."""

    name: bytes


KeyOperation = ClaimKey | AnswerKey | ReleaseKey
Operation = (
    Delivery | Attempted | Settle | Confirm | Abandon | Requeue | DropDead | Send | KeyOperation
)
REFUSABLE: Final = (Delivery, Send, ClaimKey)
"""What begins something new: where it cannot be kept, somebody is told so, and it is forgotten."""


@frozen
class Totals:
    """How much there is, of one component or (`component` None) of all."""

    pending: int = 0
    pending_bytes: int = 0  # of the stanzas' XML, in UTF-8
    replies: int = 0
    dead: int = 0
    oldest: float | None = None  # when the first pending one was received, Unix time, s


class JournalStore(Protocol):
    """A store. All calls block; they are never made at the same time.

    Each raises `JournalError` where the disk, the file or its owner fails.
    """

    def commit(self, operations: Sequence[Operation]) -> None:
        """Do all, or none where it raises. None at all is a probe, which writes as a batch does.

        Raises:
            ImpossibleOperation: one of them cannot be done, as to accept a pending delivery.
            JournalError: none can be done.
        """

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        """Give pending entries with a greater number than `after`, in order."""

    def replies(self, component: str, *, after: int = 0, limit: int) -> list[tuple[int, Outgoing]]:
        """Give unconfirmed replies, each with its number, in the order of their `Settle`."""

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        """Give dead letters (numbered by `entry.number`), the oldest first."""

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        """Give those of the claims that are kept, in any order."""

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        """Give all that is kept under a uid, or under one that begins so where that is unique."""

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        """Give the uids that begin so, in their order, each once."""

    def totals(self) -> dict[str, Totals]:
        """Give how much there is, by component."""

    def close(self) -> None:
        """Leave the file in order."""
