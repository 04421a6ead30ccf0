"""Group commit: batches, order, what a failing disk does, and the end. No time passes here but by
`jump`: the thread is a real one.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal.committer import INTERRUPT_S, LAST_S, RETRY_S, Committer
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import (
    Attempted,
    Claim,
    ClaimKey,
    Confirm,
    DropDead,
    JournalError,
    JournalStore,
    Operation,
    Send,
    Sent,
    Settle,
)
from bridge.xmpp.outbox import Outgoing
from tests.bridge.journal.fake_journal import FakeJournal
from tests.bridge.leak import until
from tests.bridge.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL: Final = JournalError("disk full", "make room")


def accept(uid: str) -> Delivery:
    return Delivery.stored(uid, "bot", "message", "me@a/x", "you@bot", None, None, "<a/>", 1.5)


class Bench:
    """A committer that runs on a fake journal, and what came of each operation."""

    def __init__(self, nursery: trio.Nursery, journal: FakeJournal | None = None) -> None:
        self.journal = journal or FakeJournal()
        self.log = Recorder()
        self.committer = Committer(self.journal, self.log.logger())
        self.told: list[tuple[str, bool]] = []
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self._nursery = nursery

    async def start(self) -> None:
        await self._nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            await self.committer.run(task_status=task_status)
        self.ended.set()

    def submit(self, operation: Operation, name: str = "") -> None:
        self.committer.submit(operation, lambda done: self.told.append((name, done)))

    async def fail(self) -> None:
        """Have the journal fail, and known to."""
        self.journal.failure = FULL
        assert await self.committer.commit(DropDead(("first",))) is False

    async def have_failed(self, count: int) -> None:
        """Wait until as many commits have failed."""
        await until(lambda: self.journal.failed == count)

    async def stop(self) -> None:
        self.scope.cancel()
        await self.ended.wait()


@pytest.fixture
async def bench(nursery: trio.Nursery, mock_clock: MockClock) -> Bench:
    made = Bench(nursery)
    await made.start()
    return made


@pytest.fixture(autouse=True)
def no_stray_threads() -> Iterator[None]:
    """Fail the test that leaves a journal's thread behind."""

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "journal"}

    before = threads()
    yield
    for thread in threads() - before:
        thread.join(5)
        assert not thread.is_alive()


# --- group commit


async def test_the_time_of_each_commit_is_counted(bench: Bench, mock_clock: MockClock) -> None:
    release = bench.journal.hold()
    bench.submit(accept("a"))
    await wait_all_tasks_blocked()
    mock_clock.jump(2)
    release()
    assert await bench.committer.commit(accept("b")) is True
    assert (sum(bench.committer.commits.counts), bench.committer.commits.total_s) == (2, 2)
    await bench.fail()
    assert sum(bench.committer.commits.counts) == 2, "a commit that failed took no time"


async def test_what_is_ready_is_one_batch(bench: Bench) -> None:
    release = bench.journal.hold()
    bench.submit(accept("a"), "a")
    await wait_all_tasks_blocked()
    for name in "bcd":
        bench.submit(accept(name), name)
    assert bench.told == []
    release()
    assert await bench.committer.commit(accept("e")) is True
    assert bench.journal.batches[0] == [accept("a")]
    assert bench.journal.batches[1][:3] == [accept("b"), accept("c"), accept("d")]
    assert bench.told == [(name, True) for name in "abcd"]
    assert bench.journal.committed == [accept(name) for name in "abcde"]


async def test_all_is_done_in_one_thread_of_its_own(bench: Bench) -> None:
    for name in "abc":
        await bench.committer.commit(accept(name))
    [thread] = bench.journal.threads
    assert thread is not threading.main_thread()


async def test_what_is_submitted_before_the_start_waits_for_it(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    bench = Bench(nursery)
    bench.submit(accept("a"), "a")
    await bench.start()
    assert await bench.committer.commit(accept("b")) is True
    assert bench.told == [("a", True)]


async def test_a_cancelled_waiter_takes_nothing_back(bench: Bench) -> None:
    release = bench.journal.hold()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bench.committer.commit(accept("a"))
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.committer.commit, accept("b"))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    release()
    assert await bench.committer.commit(accept("c")) is True
    assert bench.journal.committed == [accept("a"), accept("b"), accept("c")]


async def test_a_query_sees_what_was_submitted_before(bench: Bench) -> None:
    def accepted(journal: JournalStore) -> list[str]:
        return [one.uid for one in journal.pending(None, limit=99)]

    answers: list[list[str]] = []

    async def ask() -> None:
        answers.append(await bench.committer.ask(accepted))

    release = bench.journal.hold()
    bench.submit(accept("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        bench.submit(accept("b"))
        release()
    assert answers == [["a"]]
    assert await bench.committer.ask(accepted) == ["a", "b"]


async def test_a_query_raises_to_who_asked(bench: Bench) -> None:
    def fail(journal: JournalStore) -> None:
        raise FULL

    with pytest.raises(JournalError, match="disk full"):
        await bench.committer.ask(fail)
    assert not bench.committer.failing


async def test_a_query_that_nobody_waits_for_is_not_made(bench: Bench) -> None:
    asked: list[JournalStore] = []
    release = bench.journal.hold()
    bench.submit(accept("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.committer.ask, asked.append)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    release()
    await bench.committer.commit(accept("b"))
    assert asked == []


# --- failure


async def test_a_failing_journal_is_told_once_each_way(bench: Bench, mock_clock: MockClock) -> None:
    bench.journal.failure = FULL
    bench.submit(accept("a"), "a")
    bench.submit(Settle("x"), "x")
    assert await bench.committer.commit(accept("b")) is False
    assert bench.told == [("a", False), ("x", False)]
    assert bench.committer.failing
    assert bench.log.told == [
        {"level": "error", "event": "journal fails", "why": "disk full", "hint": "make room"}
    ]
    mock_clock.jump(RETRY_S)
    await bench.have_failed(2)
    assert await bench.committer.commit(accept("c")) is False
    bench.journal.failure = None
    mock_clock.jump(RETRY_S)
    back = await bench.log.wait("journal works again")
    assert (back["level"], back["refused"], len(bench.log.told)) == ("warning", 3, 2)
    assert not bench.committer.failing


CLAIM: Final = Claim(b"k", b"digest", "u", 2.5, "asked")


@pytest.mark.parametrize(
    "operation",
    [
        ClaimKey(CLAIM),
        Send((Sent(Outgoing(b"<b/>", 2.5, "bot", "u", 0), "message", "me@bot", "you@a", None),)),
    ],
    ids=["claim", "send"],
)
async def test_while_it_fails_nothing_new_is_begun(
    bench: Bench, mock_clock: MockClock, operation: Operation
) -> None:
    await bench.fail()
    bench.submit(operation, "new")
    await wait_all_tasks_blocked()
    assert bench.told == [("new", False)]
    bench.journal.failure = None
    mock_clock.jump(RETRY_S)
    await until(lambda: not bench.committer.failing)
    assert bench.journal.committed == [DropDead(("first",))]


async def test_an_inquiry_is_answered_in_its_turn(bench: Bench) -> None:
    told: list[list[Claim]] = []
    bench.submit(ClaimKey(CLAIM))
    bench.committer.inquire(
        lambda journal: journal.claims([b"k"]), lambda a: told.append(a.unwrap())
    )
    await bench.committer.commit(accept("a"))
    assert told == [[CLAIM]]


async def test_an_inquiry_is_told_why_not(bench: Bench) -> None:
    told: list[str] = []

    def note(answer: outcome.Outcome[object]) -> None:
        with pytest.raises(JournalError) as caught:
            answer.unwrap()
        told.append(caught.value.why)

    await bench.fail()
    bench.committer.inquire(lambda journal: journal.totals(), note)
    await wait_all_tasks_blocked()
    bench.journal.failure = None
    await bench.stop()
    bench.committer.inquire(lambda journal: journal.totals(), note)
    assert told == ["disk full", "the journal is closed"]


async def test_while_it_fails_nothing_is_accepted_and_the_disk_left_alone(bench: Bench) -> None:
    await bench.fail()
    tried = len(bench.journal.tried)
    bench.journal.failure = None
    assert await bench.committer.commit(accept("a")) is False
    assert await bench.committer.commit(Settle("b")) is False
    with pytest.raises(JournalError, match="disk full; make room"):
        await bench.committer.ask(lambda journal: journal.totals())
    assert len(bench.journal.tried) == tried


async def test_what_is_kept_comes_first_and_in_order(bench: Bench, mock_clock: MockClock) -> None:
    await bench.fail()
    for operation in (Settle("a"), accept("b"), Confirm((("a", 1),)), Settle("c")):
        bench.submit(operation)
    await wait_all_tasks_blocked()
    bench.journal.failure = None
    release = bench.journal.hold()
    mock_clock.jump(RETRY_S)
    await wait_all_tasks_blocked()
    bench.submit(accept("d"), "d")
    bench.submit(Settle("e"), "e")
    release()
    assert await bench.committer.commit(DropDead()) is True
    assert bench.journal.committed == [
        DropDead(("first",)),
        Settle("a"),
        Confirm((("a", 1),)),
        Settle("c"),
        accept("d"),
        Settle("e"),
        DropDead(),
    ]
    assert bench.told[4:] == [("d", True), ("e", True)]


async def test_with_nothing_kept_a_probe_is_written_each_second(
    bench: Bench, mock_clock: MockClock
) -> None:
    bench.journal.failure = FULL
    await bench.committer.commit(accept("a"))
    for count in (1, 2, 3):
        mock_clock.jump(RETRY_S)
        await bench.have_failed(1 + count)
        assert await bench.committer.commit(accept("b")) is False
    assert bench.journal.tried == [[accept("a")], [], [], []]


async def test_much_that_is_kept_is_written_in_parts(bench: Bench, mock_clock: MockClock) -> None:
    await bench.fail()
    operations = [Settle(str(number)) for number in range(2500)]
    for operation in operations:
        bench.submit(operation)
    await wait_all_tasks_blocked()
    bench.journal.failure = None
    mock_clock.jump(RETRY_S)
    await bench.log.wait("journal works again")
    assert bench.journal.committed == [DropDead(("first",)), *operations]
    assert [len(batch) for batch in bench.journal.batches] == [1000, 1000, 501]


async def test_what_is_impossible_is_dropped_alone(bench: Bench) -> None:
    bench.journal.impossible = {"b"}
    release = bench.journal.hold()
    bench.submit(accept("0"), "0")
    await wait_all_tasks_blocked()
    for name in "abc":
        bench.submit(accept(name), name)
    release()
    assert await bench.committer.commit(accept("d")) is True
    assert bench.told == [("0", True), ("a", True), ("b", False), ("c", True)]
    [line] = bench.log.told
    assert (line["event"], line["why"]) == ("journal operation dropped", "b is impossible")
    assert "'b'" in line["operation"]
    assert not bench.committer.failing


async def test_a_disk_that_fails_while_it_goes_singly_keeps_the_rest(
    bench: Bench, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = bench.journal.commit

    def commit_twice(operations: list[Operation]) -> None:
        if operations == [Settle("c")]:
            bench.journal.failure = FULL
        commit(operations)

    monkeypatch.setattr(bench.journal, "commit", commit_twice)
    bench.journal.impossible = {"b"}
    for operation, name in ((Settle("a"), "a"), (accept("b"), "b"), (Settle("c"), "c")):
        bench.submit(operation, name)
    assert await bench.committer.commit(accept("d")) is False
    assert bench.told == [("a", True), ("b", False), ("c", False)]
    monkeypatch.undo()
    bench.journal.failure = None
    mock_clock.jump(RETRY_S)
    await bench.log.wait("journal works again")
    assert bench.journal.committed == [Settle("a"), Settle("c")]


# --- the end


async def test_what_was_submitted_is_committed_at_the_end(bench: Bench) -> None:
    release = bench.journal.hold()
    bench.submit(accept("a"), "a")
    await wait_all_tasks_blocked()
    bench.submit(accept("b"), "b")
    bench.scope.cancel()
    await wait_all_tasks_blocked()
    bench.submit(accept("c"), "c")
    release()
    await bench.ended.wait()
    assert bench.told == [(name, True) for name in "abc"]
    assert bench.journal.closed


async def test_after_the_end_nothing_is_committed(bench: Bench) -> None:
    await bench.stop()
    bench.submit(accept("a"), "a")
    assert bench.told == [("a", False)]
    assert await bench.committer.commit(accept("b")) is False
    with pytest.raises(JournalError, match="closed"):
        await bench.committer.ask(lambda journal: journal.totals())


async def test_at_the_end_a_failing_journal_is_tried_once_more(bench: Bench) -> None:
    await bench.fail()
    bench.submit(Settle("a"))
    await wait_all_tasks_blocked()
    bench.journal.failure = None
    await bench.stop()
    assert bench.journal.committed == [DropDead(("first",)), Settle("a")]
    assert not bench.log.of("journal operations lost")


async def test_what_cannot_be_written_at_the_end_is_counted(bench: Bench) -> None:
    await bench.fail()
    bench.submit(Attempted("a", Attempt(1, "500")))
    await bench.stop()
    assert bench.log.told[-1]["event"] == "journal operations lost"
    assert bench.log.told[-1]["count"] == 2
    assert bench.journal.closed


async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    bench: Bench, mock_clock: MockClock
) -> None:
    release = bench.journal.hold()
    bench.submit(Settle("a"), "a")
    await wait_all_tasks_blocked()
    bench.submit(accept("b"), "b")
    bench.scope.cancel()
    await wait_all_tasks_blocked()
    mock_clock.jump(LAST_S)
    await bench.ended.wait()
    assert bench.told == [("a", False), ("b", False)]
    events = [line["event"] for line in bench.log.told]
    assert events == ["journal hangs", "journal operations lost"]
    release()


@pytest.mark.parametrize(
    ("end_by", "takes_s"), [(math.inf, LAST_S), (2.0, 2.0), (99.0, LAST_S), (-1.0, 0.3)]
)
async def test_a_disk_that_hangs_has_until_the_end_of_the_process(
    bench: Bench, mock_clock: MockClock, end_by: float, takes_s: float
) -> None:
    release = bench.journal.hold()
    bench.submit(Settle("a"), "a")
    await wait_all_tasks_blocked()
    bench.committer.end_by = trio.current_time() + end_by
    bench.scope.cancel()
    await wait_all_tasks_blocked()
    mock_clock.jump(takes_s - 0.01)
    await wait_all_tasks_blocked()
    assert not bench.ended.is_set()
    mock_clock.jump(0.02)
    await bench.ended.wait()
    release()


async def test_a_journal_that_does_not_close_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close() -> None:
        raise FULL

    monkeypatch.setattr(bench.journal, "close", close)
    await bench.stop()
    assert [line["event"] for line in bench.log.told] == ["journal not closed well"]


# --- on a disk

CHILD: Final = """
import sys
from pathlib import Path
import trio
from bridge.journal.committer import Committer
from bridge.journal.delivery import Delivery
from bridge.journal.store import Confirm, Send, Sent, Settle
from bridge.xmpp.outbox import Outgoing
from bridge.telemetry.log import logger
from bridge.journal.sqlite.store import SqliteStore

async def work(committer, name):
    for number in range(10**9):
        uid = f"{name}-{number}"
        head = ("bot", "message", "a@a", "b@b", None, None)
        assert await committer.commit(Delivery.stored(uid, *head, "<a/>" * 200, 1.5))
        print("accepted", uid, flush=True)
        if number % 2:
            assert await committer.commit(Settle(uid, (Outgoing(b"<b/>", 2.5, "bot", uid, 1),)))
            print("settled", uid, flush=True)

async def send(committer):
    for number in range(10**9):
        uids = [f"request-{number}-{place}" for place in range(5)]
        stanzas = [Outgoing(b"<c/>" * 200, 2.5, "bot", uid, 0) for uid in uids]
        sent = tuple([Sent(one, "message", "b@b", "a@a", None) for one in stanzas])
        assert await committer.commit(Send(sent))
        print("sent", f"request-{number}", flush=True)

async def main():
    committer = Committer(SqliteStore(Path(sys.argv[1])), logger())
    async with trio.open_nursery() as nursery:
        await nursery.start(committer.run)
        for name in "abcdefgh":
            nursery.start_soon(work, committer, name)
        nursery.start_soon(send, committer)

trio.run(main)
"""


def test_what_commit_returned_for_survives_kill(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(2000)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    told: dict[str, set[str]] = {"accepted": set(), "settled": set(), "sent": set()}
    for line in lines:
        with suppress(ValueError):  # the last line may be cut
            what, uid = line.removesuffix("\n").split(" ")
            if line.endswith("\n"):
                told[what].add(uid)
    with closing(SqliteStore(file)) as journal:
        pending = {one.uid for one in journal.pending(None, limit=10**6)}
        replied = {one.uid for _, one in journal.replies("bot", limit=10**6)}
    assert len(told["accepted"]) > 1000
    assert told["accepted"] <= pending | replied
    assert told["settled"] <= replied
    assert not pending & replied
    requests = Counter(uid.rpartition("-")[0] for uid in replied if uid.startswith("request-"))
    assert len(told["sent"]) > 50
    assert told["sent"] <= requests.keys()
    assert set(requests.values()) == {5}, "the stanzas of one request are kept all or none"


async def test_queries_and_commits_on_a_file(tmp_path: Path, nursery: trio.Nursery) -> None:
    committer = Committer(SqliteStore(tmp_path / "journal.db"), Recorder().logger())
    await nursery.start(committer.run)
    assert await committer.commit(accept("a")) is True
    assert await committer.commit(accept("a")) is False
    found = await committer.ask(lambda journal: journal.find("a"))
    assert [one.uid for one in found if isinstance(one, Delivery)] == ["a"]
    nursery.cancel_scope.cancel()


# --- a journal behind a server


class HangingJournal(FakeJournal):
    """Waits until it is interrupted; then the commit fails."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = 0

    def interrupt(self) -> None:
        self.interrupted += 1
        if self.interrupted == 3:
            self.failure = FULL
            self.release()

    def hang(self) -> None:
        self.release = self.hold()


async def test_a_journal_that_hangs_is_interrupted_until_it_answers(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    journal = HangingJournal()
    made = Bench(nursery, journal)
    await made.start()
    journal.hang()
    made.submit(accept("a"), "a")
    for _ in range(3):
        await wait_all_tasks_blocked()
        assert made.told == []
        mock_clock.jump(INTERRUPT_S)
    await until(lambda: made.told == [("a", False)])
    journal.failure = None
    await made.stop()


async def test_a_key_that_another_process_has_is_refused_and_no_bug(bench: Bench) -> None:
    bench.journal.taken = {b"k"}
    bench.submit(accept("a"), "a")
    bench.submit(ClaimKey(Claim(b"k", b"", "u", 1.0, "sent")), "k")
    bench.submit(accept("b"), "b")
    assert await bench.committer.commit(accept("c")) is True
    assert bench.told == [("a", True), ("k", False), ("b", True)]
    assert bench.log.lines == []
