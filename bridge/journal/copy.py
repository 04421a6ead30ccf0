"""Copies a whole journal into an empty one, whatever the two stores are.

A row is read page by page and written by the operation that had made it, so a store needs no code
of its own to take a copy, and memory stays bounded. What is copied:

- dead letters, pending stanzas and unconfirmed replies, each in their order, with their attempts;
- idempotency keys and small state.

Numbers are assigned anew. A pending stanza keeps its age. That of a dead letter and of a key begins
anew, because no clock is common to two stores: they are kept longer than otherwise, never shorter.

Dead letters come first: they are made from entries and replies of the same uid, of which none is
there yet.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from attrs import frozen

from bridge.journal.delivery import Delivery
from bridge.journal.store import (
    Abandon,
    Claim,
    ClaimKey,
    DeadLetter,
    JournalError,
    JournalStore,
    Operation,
    PutState,
    Send,
    Sent,
    Settle,
    Totals,
)
from bridge.xmpp.outbox import Outgoing

PAGE: Final = 256
"""Rows that are read and committed together. Each may have the length of the longest stanza."""
_PLACE: Final = 1  # of a dead letter's reply, while it is made
_FIRST: Final = ("", "", "")

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class ArchiveStore(JournalStore, Protocol):
    """A store that can be copied as a whole."""

    def sent(self, *, after: int, limit: int) -> list[tuple[int, Sent]]:
        """Return unconfirmed replies with the heads that belong to them, each with its number."""
        ...

    def all_claims(self, *, after: int, limit: int) -> list[tuple[int, Claim]]:
        """Return all claims that are kept, each with its number."""
        ...

    def all_state(self, *, after: tuple[str, str, str], limit: int) -> list[PutState]:
        """Return the small state of all components, sorted by component, kind and key."""
        ...


@frozen
class Copied:
    """How much was copied."""

    pending: int = 0
    replies: int = 0
    dead: int = 0
    keys: int = 0
    state: int = 0


def stanzas_in(store: JournalStore) -> int:
    """Return how many stanzas a store holds: pending, unconfirmed and dead."""
    return sum(one.pending + one.replies + one.dead for one in store.totals().values())


def check_empty(store: ArchiveStore, name: str) -> None:
    """Check that a store holds nothing, so a copy cannot be mixed with something else.

    Raises:
        JournalError: if it holds something.
    """
    count = stanzas_in(store)
    held = f"{count} stanza{'s' * (count != 1)}" if count else ""
    if not held and store.all_claims(after=0, limit=1):
        held = "idempotency keys"
    if not held and store.all_state(after=_FIRST, limit=1):
        held = "rooms, subscribers or profiles"
    if held:
        why = f"{name} is not empty: it holds {held}"
        raise JournalError(why, "copy into a new state directory, or into another cluster's schema")


def copy(
    source: ArchiveStore, target: ArchiveStore, progress: Callable[[int], None] = lambda _: None
) -> Copied:
    """Copy everything, and compare the totals. `progress` is called with the number of stanzas
    copied since its last call.

    Raises:
        JournalError: if either store fails, or they differ at the end. The target is incomplete
            then, and must not be used.
    """
    counts = dict[str, int]()
    for name, pages in (
        ("dead", _numbered(_dead(source), _revived)),
        ("pending", _numbered(_pending(source), lambda one: (one,))),
        ("replies", _numbered(source.sent, lambda one: (Send((one,)),))),
        ("keys", _numbered(source.all_claims, lambda one: (ClaimKey(one),))),
        ("state", _state(source)),
    ):
        counts[name] = 0
        for count, operations in pages:
            target.commit(operations)
            counts[name] += count
            if name not in ("keys", "state"):
                progress(count)
    _compare(source.totals(), target.totals())
    return Copied(**counts)


Page = tuple[int, Sequence[Operation]]


class _Read(Protocol[T_co]):
    def __call__(self, *, after: int, limit: int) -> Sequence[tuple[int, T_co]]: ...


def _numbered(read: _Read[T], written: Callable[[T], Collection[Operation]]) -> Iterator[Page]:
    """Yield how many rows a page has, and the operations that write them."""
    after = 0
    while found := read(after=after, limit=PAGE):
        after = found[-1][0]
        yield len(found), [operation for _, one in found for operation in written(one)]


def _state(source: ArchiveStore) -> Iterator[Page]:
    after = _FIRST
    while found := source.all_state(after=after, limit=PAGE):
        after = found[-1].name
        yield len(found), found


def _pending(source: JournalStore) -> _Read[Delivery]:
    def read(*, after: int, limit: int) -> Sequence[tuple[int, Delivery]]:
        return [(one.number, _aged(one)) for one in source.pending(None, after=after, limit=limit)]

    return read


def _aged(one: Delivery) -> Delivery:
    """Set the age that an entry has at its copying: it does not become younger by that."""
    if one.age_s is None:
        one.age_s = max(time.time() - one.received, 0.0)
    return one


def _dead(source: JournalStore) -> _Read[DeadLetter]:
    def read(*, after: int, limit: int) -> Sequence[tuple[int, DeadLetter]]:
        return [(one.entry.number, one) for one in source.dead(None, after=after, limit=limit)]

    return read


def _revived(letter: DeadLetter) -> tuple[Operation, Operation]:
    """Return what makes a dead letter: the end of an entry, or of a reply."""
    entry = letter.entry
    if letter.reply is None:
        return entry, Settle(entry.uid, (), letter.died, letter.reason)
    reply = Outgoing(letter.reply, entry.received, entry.component, entry.uid, _PLACE)
    head = entry.stanza
    sent = Sent(reply, head.kind, head.from_ or "", head.to or "", head.id)
    return Send((sent,)), Abandon(entry.uid, _PLACE, letter.died, letter.reason)


def _compare(ours: dict[str, Totals], theirs: dict[str, Totals]) -> None:
    if ours == theirs:
        return
    differing = ", ".join(_differing(ours, theirs))
    why = f"the copy differs from its source in what it holds of {differing}"
    raise JournalError(why, "do not use it; make sure that nothing else uses either journal")


def _differing(ours: dict[str, Totals], theirs: dict[str, Totals]) -> Iterable[str]:
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
