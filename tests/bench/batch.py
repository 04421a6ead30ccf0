"""What became of each batch that a writer sent to a journal in a database, and what that proves.

A writer accepts stanzas, settles those of its batch before with a reply each, and confirms the
replies of that one; it touches nothing of others. It says what it is going to commit, and says so
again when `commit` has returned. So at the end, by its rows alone,

- all of a batch that was kept is there, once, unless later batches have moved it on,
- a batch of which nothing more was heard is there as a whole, or not at all,
- nothing has changed for a writer after another node has ended it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

State = Literal["pending", "reply", "gone"]


@dataclass(slots=True)
class Batch:
    """Uids that are accepted, settled and confirmed together."""

    accept: list[str]
    settle: list[str]
    confirm: list[str]
    is_kept: bool = False


@dataclass
class Rows:
    """What the journal holds: uids, each by the incarnation that wrote it."""

    pending: Counter[tuple[int, str]] = field(default_factory=Counter)
    replies: Counter[tuple[int, str]] = field(default_factory=Counter)

    def of(self, incarnation: int) -> tuple[set[str], set[str]]:
        """The uids of one writer: pending, and unconfirmed."""
        return (
            {uid for writer, uid in self.pending if writer == incarnation},
            {uid for writer, uid in self.replies if writer == incarnation},
        )


class Ledger:
    """All batches, by the incarnation that sent them."""

    def __init__(self) -> None:
        self.batches: dict[int, list[Batch]] = {}
        self._ends: dict[int, tuple[set[str], set[str]]] = {}

    def send(self, incarnation: int, batch: Batch) -> None:
        """Note a batch that is going to be committed."""
        self.batches.setdefault(incarnation, []).append(batch)

    def keep(self, incarnation: int) -> None:
        """Note that the last batch of a writer is committed."""
        self.batches[incarnation][-1].is_kept = True

    def end(self, incarnation: int, rows: Rows) -> None:
        """Note what a writer had, when another node had just ended it."""
        self._ends[incarnation] = rows.of(incarnation)

    def violations(self, rows: Rows) -> list[str]:
        """Every promise that `rows`, at the end of all, show to be broken."""
        return list(self._find(rows))

    def _find(self, rows: Rows) -> Iterator[str]:
        for name, counts in (("pending", rows.pending), ("reply", rows.replies)):
            for (incarnation, uid), count in counts.items():
                if count > 1:
                    yield f"{uid} of {incarnation}: {count} rows in {name}"
                if incarnation not in self.batches:
                    yield f"{uid}: a row in {name} of {incarnation}, which has sent nothing"
        for incarnation, before in self._ends.items():
            if rows.of(incarnation) != before:
                yield f"{incarnation} has written after its end"
        for incarnation, batches in self.batches.items():
            pending, replies = rows.of(incarnation)
            for uid in sorted(pending & replies):
                yield f"{uid}: pending, though it is settled"
            yield from _judge(incarnation, batches, pending, replies)


def _judge(
    writer: int, batches: list[Batch], pending: set[str], replies: set[str]
) -> Iterator[str]:
    """Judge the batches of one writer: each is done, or none of it is."""
    found: list[dict[bool, list[str]]] = [{True: [], False: []} for _ in batches]
    for steps, uid in _chains(batches):
        done = 1 if uid in pending else 2 if uid in replies else 3 if len(steps) == 3 else 0
        for count, place in enumerate(steps, start=1):
            found[place][count <= done].append(uid)
    for place, (batch, votes) in enumerate(zip(batches, found, strict=True)):
        name = f"batch {place} of {writer}"
        if batch.is_kept and votes[False]:
            yield f"{name} was kept, but not done for {', '.join(sorted(votes[False]))}"
        elif votes[True] and votes[False]:
            yield f"{name} was done for {sorted(votes[True])}, but not for {sorted(votes[False])}"
        if not batch.is_kept and place < len(batches) - 1:
            yield f"{name} was followed by another one before it was kept"


def _chains(batches: list[Batch]) -> Iterator[tuple[list[int], str]]:
    """Each uid, with the batches that accept, settle and confirm it, as far as they were sent."""
    steps: dict[str, list[int]] = {}
    for place, batch in enumerate(batches):
        for uid in (*batch.accept, *batch.settle, *batch.confirm):
            steps.setdefault(uid, []).append(place)
    for uid, places in steps.items():
        yield places, uid
