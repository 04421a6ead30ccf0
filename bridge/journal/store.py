"""The data that outlive the process: accepted stanzas, unconfirmed replies, dead letters, claims.

This module has only values and the protocol of a store; `sqlite` is the embedded one. A store uses
no clock and no trio, and of a stanza only the head. It executes operations, in batches, and is
called in a thread of its own (`committer`).

A delivery is *pending* from its acceptance (a `Delivery` is that operation) to its `Settle`. Then
its replies are *unconfirmed* until their `Confirm`, and it may remain as a *dead letter*. `Settle`
of a delivery that is not pending does nothing, so no iq can be answered twice.

`Settle` is made for every stanza, so it is a `Struct`: a fifth of the cost of a frozen attrs class.

A stanza that belongs to no delivery (`Send`) is kept like a reply, with the place 0. A claim
records the result of the request that first used an idempotency key. It expires after `CLAIM_S`.

The small state of components (`PutState`, `DeleteState`) is independent of all of these.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

from attrs import field, frozen
from msgspec import Struct

from bridge.journal.delivery import Attempt, Delivery
from bridge.xmpp.outbox import Outgoing, ReplyKey

ClaimState = Literal["sent", "asked", "answered", "unanswered"]
CLAIM_S: Final = 24 * 3600.0
SENT_PLACE: Final = 0
"""The place of a stanza that belongs to no delivery."""


class JournalError(Exception):
    """The journal cannot be used or written. `why` is the cause, `hint` advice to the operator."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(f"{why}; {hint}" if hint else why)
        self.why = why
        self.hint = hint


class ImpossibleOperation(JournalError):
    """One of the operations can never succeed, though others can: a bug of the caller."""


class KeyTaken(ImpossibleOperation):
    """A claim of the same name was kept by another process meanwhile. Look the claim up again."""


@frozen
class DeadLetter:
    """A stanza that was given up: the entry with all its attempts, or (`reply`) a reply that the
    server did not accept.
    """

    entry: Delivery
    died: float  # Unix time, s
    reason: str
    reply: bytes | None = None


@frozen
class Claim:
    """An idempotency key and the result of the request that first used it. `name` is the digest of
    the key and its realm, `digest` that of the request, `made` the request's time (Unix time, s).

    The state is "sent", together with the stanza; or "asked" until the answer is known, then
    "answered", with the answer's XML and language, or "unanswered".
    """

    name: bytes
    digest: bytes
    uid: str
    made: float
    state: ClaimState
    answer: str | None = field(default=None, repr=False)
    lang: str | None = None


@frozen
class StateEntry:
    """An entry of a component's small state (`bridge.xmpp.state`)."""

    kind: str
    key: str
    value: bytes = field(repr=False)


# --- operations


@frozen
class Attempted:
    """Record a failed attempt of an entry that stays pending."""

    uid: str
    attempt: Attempt


class Settle(Struct, frozen=True):
    """End an entry. Keep its replies until they are confirmed, and, if there is a `reason`, the
    entry as a dead letter.
    """

    uid: str
    replies: tuple[Outgoing, ...] = ()
    died: float = 0
    reason: str | None = None


@frozen
class Confirm:
    """Forget replies that have arrived, by uid and place."""

    replies: tuple[tuple[str, int], ...]


@frozen
class Abandon:
    """Turn a reply that the server did not accept into a dead letter."""

    uid: str
    place: int
    died: float
    reason: str


@frozen
class Requeue:
    """Make dead letters pending again, behind all others, accepted at `received`. An iq has had
    its answer, and an abandoned reply its POST: these stay dead letters.
    """

    uids: tuple[str, ...]
    received: float


@frozen
class DropDead:
    """Forget dead letters; all of them if `uids` is None."""

    uids: tuple[str, ...] | None = None


@frozen
class Sent:
    """A stanza that belongs to no entry, and its head."""

    reply: Outgoing
    kind: str
    from_: str
    to: str
    id: str | None


@frozen
class Send:
    """Keep the stanzas of one request, which belong to no entry, until they are confirmed: all or
    none. With them, keep the claim of the request, in place of an older one of the same name.
    """

    stanzas: tuple[Sent, ...]
    claim: Claim | None = None


@frozen
class ClaimKey:
    """Keep a claim, in place of an older one of the same name."""

    claim: Claim


@frozen
class AnswerKey:
    """Record the result of a claim, if it is still kept."""

    name: bytes
    state: ClaimState
    answer: str | None = field(default=None, repr=False)
    lang: str | None = None


@frozen
class ReleaseKey:
    """Forget a claim, because its request had no effect and may be made again."""

    name: bytes


@frozen
class PutState:
    """Keep an entry of a component's small state, in place of an older one."""

    component: str
    kind: str
    key: str
    value: bytes = field(repr=False)

    @property
    def name(self) -> tuple[str, str, str]:
        """The entry's primary key."""
        return self.component, self.kind, self.key


@frozen
class DeleteState:
    """Forget an entry of a component's small state."""

    component: str
    kind: str
    key: str

    @property
    def name(self) -> tuple[str, str, str]:
        """The entry's primary key."""
        return self.component, self.kind, self.key


StateOperation = PutState | DeleteState
KeyOperation = ClaimKey | AnswerKey | ReleaseKey
Operation = (
    Delivery
    | Attempted
    | Settle
    | Confirm
    | Abandon
    | Requeue
    | DropDead
    | Send
    | KeyOperation
    | StateOperation
)


def is_refusable(operation: Operation) -> bool:
    """Return whether an operation begins something new: if it fails, the requester is told, and it
    is dropped.
    """
    if isinstance(operation, Delivery):
        return not operation.is_being_kept
    return isinstance(operation, Send | ClaimKey)


@frozen
class Totals:
    """How much is kept, of one component or of all."""

    pending: int = 0
    pending_bytes: int = 0  # of the stanzas' XML, in UTF-8
    replies: int = 0
    dead: int = 0
    oldest: float | None = None  # when the first pending entry was received, Unix time, s


class JournalStore(Protocol):
    """A store. All calls block, and are made one at a time.

    Each raises `JournalError` if the disk or the file is at fault, or another process holds it.
    """

    def commit(self, operations: Sequence[Operation]) -> None:
        """Execute all operations, or, if it raises, none. An empty list is a probe, which writes as
        much as a batch does.

        Raises:
            ImpossibleOperation: if one can never succeed, such as accepting a pending delivery.
            JournalError: if none can be executed.
        """

    def pending(self, component: str | None, *, after: int = 0, limit: int) -> list[Delivery]:
        """Return pending entries with numbers greater than `after`, in order."""

    def replies(
        self, component: str | None, *, after: int = 0, limit: int
    ) -> list[tuple[int, Outgoing]]:
        """Return unconfirmed replies, each with its number, in the order of their `Settle`."""

    def dead(self, component: str | None, *, after: int = 0, limit: int) -> list[DeadLetter]:
        """Return dead letters (numbered by `entry.number`), the oldest first."""

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        """Return the claims with these names that are kept, in any order."""

    def state(self, component: str) -> list[StateEntry]:
        """Return the small state of a component, sorted by kind and key."""

    def find(self, uid: str) -> list[Delivery | Outgoing | DeadLetter]:
        """Return everything kept under a uid, or under the only uid that begins with it."""

    def uids(self, prefix: str, *, limit: int) -> list[str]:
        """Return the uids that begin with `prefix`, sorted, each once."""

    def totals(self) -> dict[str, Totals]:
        """Return how much is kept, by component."""

    def close(self) -> None:
        """Close the store and leave its file in a clean state."""


@runtime_checkable
class Interruptible(Protocol):
    """A store whose calls wait for a server, which may be silent without an error."""

    def interrupt(self) -> None:
        """End the calls that the server has not answered for some seconds. Call it from any thread
        while another one waits; such a call then fails, or is made again.
        """


@runtime_checkable
class WriteCounter(Protocol):
    """A store that other processes read, which must know how often a reply was written (S11)."""

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        """Keep how often replies were written to streams and not confirmed, if that is more than
        is known.
        """
