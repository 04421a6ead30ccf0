"""The small state of a component: in memory, through group commits, and while the disk fails."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal.committer import RETRY_S, Committer
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.state import JournalState
from bridge.journal.store import DeleteState, JournalError, PutState
from bridge.xmpp.state import kept
from tests.bridge.journal.fake_journal import FakeJournal
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.leak import until
from tests.bridge.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.journal.store import JournalStore

FULL: Final = JournalError("disk full", "make room")


async def committer_of(journal: JournalStore, nursery: trio.Nursery) -> Committer:
    committer = Committer(journal, Recorder().logger())
    await nursery.start(committer.run)
    return committer


async def test_what_was_put_is_loaded_by_the_next_and_by_no_other_component(
    nursery: trio.Nursery,
) -> None:
    committer = await committer_of(MemoryJournal(), nursery)
    first, other = JournalState("bot", committer), JournalState("echo", committer)
    first.put("room", "b@muc", b"1")
    first.put("room", "a@muc", b"2")
    first.put("room", "gone@muc", b"3")
    first.delete("room", "gone@muc")
    first.put("contact", "a@muc", b"4")
    next_ = JournalState("bot", committer)
    await next_.load()
    assert list(next_.entries("room").items()) == [("a@muc", b"2"), ("b@muc", b"1")]
    assert next_.get("contact", "a@muc") == b"4"
    await other.load()
    assert other.entries("room") == {}


async def test_what_does_not_change_is_not_written(nursery: trio.Nursery) -> None:
    journal = FakeJournal()
    committer = await committer_of(journal, nursery)
    state = JournalState("bot", committer)
    for _ in range(3):
        state.put("room", "a@muc", b"1")
    for _ in range(3):
        state.delete("room", "a@muc")
    await wait_all_tasks_blocked()
    await committer.ask(lambda _: None)
    assert journal.committed == [
        PutState("bot", "room", "a@muc", b"1"),
        DeleteState("bot", "room", "a@muc"),
    ]


async def test_all_puts_of_one_moment_are_one_batch(nursery: trio.Nursery) -> None:
    journal = FakeJournal()
    state = JournalState("bot", await committer_of(journal, nursery))
    for number in range(100):
        state.put("room", f"r{number}@muc", b"{}")
    await until(lambda: len(journal.batches) == 1)
    assert len(journal.batches[0]) == 100


async def test_the_last_change_of_each_entry_is_written_when_the_disk_works_again(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    journal = FakeJournal()
    committer = await committer_of(journal, nursery)
    state = JournalState("bot", committer)
    journal.failure = FULL
    for number in range(1000):
        state.put("room", "a@muc", b"%d" % number)
    await until(lambda: journal.failed == 1)
    state.put("room", "b@muc", b"1")
    state.delete("room", "b@muc")
    await wait_all_tasks_blocked()
    mock_clock.jump(RETRY_S)
    await until(lambda: journal.failed == 2)
    state.put("room", "a@muc", b"last")
    await wait_all_tasks_blocked()
    journal.failure = None
    mock_clock.jump(RETRY_S)
    await until(lambda: not committer.failing)
    assert journal.committed == [
        PutState("bot", "room", "a@muc", b"last"),
        DeleteState("bot", "room", "b@muc"),
    ]


async def test_state_survives_its_process(nursery: trio.Nursery, tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    scope, ended = trio.CancelScope(), trio.Event()

    async def run(committer: Committer, *, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await committer.run(task_status=task_status)
        ended.set()

    committer = Committer(SqliteStore(file), Recorder().logger())
    await nursery.start(run, committer)
    state = JournalState("bot", committer)
    state.put("room", "ä@muc", "{}ü".encode())
    state.put("room", "b@muc", b"1")
    await committer.ask(lambda _: None)
    state.delete("room", "b@muc")
    scope.cancel()
    await ended.wait()
    with closing(SqliteStore(file)) as journal:
        [entry] = journal.state("bot")
        assert (entry.kind, entry.key, entry.value) == ("room", "ä@muc", "{}ü".encode())


async def test_state_that_cannot_be_read_says_so(nursery: trio.Nursery) -> None:
    journal = FakeJournal()
    committer = await committer_of(journal, nursery)
    journal.failure = FULL
    JournalState("bot", committer).put("room", "a@muc", b"1")
    with pytest.raises(JournalError, match="disk full"):
        await JournalState("bot", committer).load()


async def test_who_waits_for_a_change_is_told_after_its_commit(nursery: trio.Nursery) -> None:
    journal = FakeJournal()
    committer = await committer_of(journal, nursery)
    state = JournalState("bot", committer)
    told: list[str] = []
    state.when_kept(lambda: told.append("nothing to wait for"))
    assert told == ["nothing to wait for"]
    state.put("contact", "alice", b"1")
    state.when_kept(lambda: told.append("alice"))
    state.put("contact", "bob", b"1")
    state.when_kept(lambda: told.append(f"bob, {len(journal.committed)} committed"))
    assert told == ["nothing to wait for"], "a crash would lose what somebody was told"
    await kept(state)
    assert told[1:] == ["alice", "bob, 2 committed"]


async def test_a_failing_journal_is_not_waited_for(nursery: trio.Nursery) -> None:
    journal = FakeJournal()
    committer = await committer_of(journal, nursery)
    state = JournalState("bot", committer)
    journal.failure = FULL
    state.put("contact", "alice", b"1")
    await kept(state)
    assert committer.failing
