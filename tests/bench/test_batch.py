"""The ledger of batches finds each promise broken that it is to find. Nothing is run."""

from collections.abc import Callable

import pytest

from tests.bench.batch import Batch, Ledger, Rows

ME = 7


class Record:
    """A writer whose batches accept one stanza, settle the one before and confirm that before."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.rows = Rows()
        self._uids: list[str] = []

    def send(self, *, size: int = 1, kept: bool = True, done: bool = True) -> None:
        """Send a batch, of which the rows tell if it is done."""
        place = len(self._uids)
        uids = [f"u{place}{letter}" for letter in "ab"[:size]]
        before, oldest = ([*self._uids[-size:], *self._uids[-2 * size : -size]], size)
        settle, confirm = before[:oldest], before[oldest:]
        self.ledger.send(ME, Batch(uids, settle, confirm))
        if kept:
            self.ledger.keep(ME)
        if done:
            for uid in uids:
                self.rows.pending[ME, uid] += 1
            for uid in settle:
                del self.rows.pending[ME, uid]
                self.rows.replies[ME, uid] += 1
            for uid in confirm:
                del self.rows.replies[ME, uid]
        self._uids += uids

    def violations(self) -> list[str]:
        return self.ledger.violations(self.rows)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_an_unknown_batch_is_done_or_not(before: int, done: bool) -> None:
    record = Record()
    for _ in range(before):
        record.send(size=2)
    record.send(size=2, kept=False, done=done)
    assert record.violations() == []


def test_a_writer_that_was_ended_and_wrote_no_more_is_right() -> None:
    record = Record()
    record.send()
    record.ledger.end(ME, record.rows)
    assert record.violations() == []


def kept_is_lost(record: Record) -> None:
    record.send()
    record.send(done=False)


def first_one_is_lost(record: Record) -> None:
    record.send(done=False)


def confirmed_comes_back(record: Record) -> None:
    for _ in range(3):
        record.send()
    record.rows.replies[ME, "u0a"] += 1


def half_is_done(record: Record) -> None:
    record.send(size=2)
    record.send(size=2, kept=False)
    del record.rows.pending[ME, "u2a"]


def reply_is_doubled(record: Record) -> None:
    record.send()
    record.send()
    record.rows.replies[ME, "u0a"] += 1


def settled_and_pending(record: Record) -> None:
    record.send()
    record.send()
    record.rows.pending[ME, "u0a"] += 1


def stranger_writes(record: Record) -> None:
    record.rows.pending[8, "x"] += 1


def written_after_its_end(record: Record) -> None:
    record.send()
    record.ledger.end(ME, record.rows)
    record.send()


def next_one_before_the_answer(record: Record) -> None:
    record.send(kept=False)
    record.send()


@pytest.mark.parametrize(
    ("break_promise", "told"),
    [
        (kept_is_lost, "batch 1 of 7 was kept, but not done for u0a, u1a"),
        (first_one_is_lost, "batch 0 of 7 was kept, but not done for u0a"),
        (confirmed_comes_back, "batch 2 of 7 was kept, but not done for u0a"),
        (half_is_done, "batch 1 of 7 was done for ['u0a', 'u0b', 'u2b'], but not for ['u2a']"),
        (reply_is_doubled, "u0a of 7: 2 rows in reply"),
        (settled_and_pending, "u0a: pending, though it is settled"),
        (stranger_writes, "x: a row in pending of 8, which has sent nothing"),
        (written_after_its_end, "7 has written after its end"),
        (next_one_before_the_answer, "batch 0 of 7 was followed by another one"),
    ],
)
def test_broken_promise_is_told(break_promise: Callable[[Record], None], told: str) -> None:
    record = Record()
    break_promise(record)
    assert told in "\n".join(record.violations())
