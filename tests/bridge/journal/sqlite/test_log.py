"""The log in front of the tables: what it keeps, when it is folded, and what a crash leaves."""

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.journal.delivery import Attempt, Delivery, fresh_uid
from bridge.journal.sqlite import log as log_module
from bridge.journal.sqlite import recent as recent_module
from bridge.journal.sqlite.log import BEGIN, BatchLog, Position
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import (
    Attempted,
    Confirm,
    ImpossibleOperation,
    JournalError,
    Operation,
    PutState,
    Send,
    Sent,
    Settle,
)
from bridge.xmpp.outbox import Outgoing
from tests.bridge.journal.journal_model import Model

ID = bytes(16)


def entry(uid: str = "", *, xml: str = "<a/>") -> Delivery:
    uid = uid or fresh_uid()
    return Delivery.stored(uid, "bot", "message", "me@a/x", "you@bot", "i", "en", xml, 1.5)


def reply(uid: str, place: int = 1, data: bytes = b"<b/>") -> Outgoing:
    return Outgoing(data, 2.5, "bot", uid, place)


def settle(uid: str, *places: int, reason: str | None = None) -> Settle:
    return Settle(uid, tuple(reply(uid, one) for one in places or (1,)), 3.5, reason)


def send() -> Send:
    return Send((Sent(reply(fresh_uid(), 0), "message", "bot", "me@a", None),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(file: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(file)) as opened:
        yield opened


def log_of(file: Path) -> Path:
    return file.with_suffix(".log")


def rows(file: Path, table: str = "pending") -> int:
    """What the tables have, as another process sees them."""
    with closing(sqlite3.connect(file)) as database:
        count: int = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return count


def killed(file: Path) -> Path:
    """The files as a process leaves them that is killed now."""
    copy = Path(tempfile.mkdtemp(dir=file.parent)) / file.name
    for one in file.parent.glob(f"{file.stem}.*"):
        shutil.copy(one, copy.parent)
    return copy


# --- which way a batch goes


def test_the_operations_of_every_stanza_never_reach_the_tables(
    journal: SqliteStore, file: Path
) -> None:
    one, two = entry(), entry()
    journal.commit([one, two, send()])
    journal.commit([settle(one.uid), settle(two.uid, 1, 2)])
    journal.commit([Confirm(((one.uid, 1), (two.uid, 2)))])
    assert (rows(file), rows(file, "reply")) == (0, 0)
    assert [one.place for _, one in journal.replies(None, limit=9)] == [0, 1]
    assert rows(file, "reply") == 2, "a read folds the log into the tables"
    journal.commit([Confirm(((two.uid, 1),))])
    assert rows(file, "reply") == 1, "what the tables have is ended there"


@pytest.mark.parametrize(
    "operation",
    [
        entry("msg_of_another_process"),
        PutState("bot", "room", "a", b""),
        Settle("msg_unknown"),
        Confirm((("msg_unknown", 1),)),
        Attempted("msg_unknown", Attempt(1.0, "503")),
        Send((Sent(reply("theirs", 0), "message", "bot", "me@a", None),)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_any_other_operation_takes_the_rest_with_it(
    operation: Operation, journal: SqliteStore, file: Path
) -> None:
    one = entry()
    journal.commit([one])
    assert rows(file) == 0
    journal.commit([operation])
    assert rows(file) == 1 + isinstance(operation, Delivery)
    assert one.uid in [found.uid for found in journal.pending(None, limit=9)]


def test_a_dead_letter_of_what_is_only_in_the_log(journal: SqliteStore) -> None:
    one = entry()
    journal.commit([one])
    journal.commit([settle(one.uid, reason="status 404")])
    [dead] = journal.dead(None, limit=9)
    assert (dead.entry.uid, dead.reason, journal.pending(None, limit=9)) == (
        one.uid,
        "status 404",
        [],
    )


def test_to_accept_twice_is_impossible(journal: SqliteStore) -> None:
    one = entry()
    journal.commit([one])
    with pytest.raises(ImpossibleOperation):
        journal.commit([entry(one.uid)])
    assert [found.uid for found in journal.pending(None, limit=9)] == [one.uid]


def test_a_text_that_cannot_be_encoded_is_impossible(journal: SqliteStore) -> None:
    with pytest.raises(ImpossibleOperation):
        journal.commit([entry(xml="\ud800")])
    assert journal.pending(None, limit=9) == []


def test_attempts_during_the_commit_are_not_counted_twice(journal: SqliteStore) -> None:
    """A POST may have begun, and failed, before its acceptance is committed."""
    one, tried = entry(), Attempt(1.0, "503")
    one.is_tried = True
    one.attempts = (tried,)
    journal.commit([one])
    journal.commit([Attempted(one.uid, tried)])
    [found] = journal.pending(None, limit=9)
    assert found.attempts == (tried,)


@pytest.mark.parametrize("limit", ["_MOST_COUNT", "_MOST_BYTES"])
def test_what_waits_long_does_not_stay_in_memory(
    limit: str, journal: SqliteStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_module, limit, 8)
    journal.commit([entry() for _ in range(9)])
    journal.commit([entry()])
    assert rows(file) == 10


def test_the_file_is_used_again_from_its_beginning(
    journal: SqliteStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "LIMIT_BYTES", 2000)
    for _ in range(100):
        one = entry()
        journal.commit([one])
        journal.commit([settle(one.uid)])
        journal.commit([Confirm(((one.uid, 1),))])
    waiting = entry()
    journal.commit([waiting])
    assert log_of(file).stat().st_size < 3000
    with closing(SqliteStore(killed(file))) as again:
        assert [one.uid for one in again.pending(None, limit=9)] == [waiting.uid]
        assert again.replies(None, limit=9) == []


def test_a_copy_has_what_is_only_in_the_log(journal: SqliteStore) -> None:
    one = entry()
    journal.commit([one])
    journal.commit([settle(one.uid)])
    [(_, found)] = journal.sent(after=0, limit=9)
    assert found.reply == reply(one.uid)


# --- the end, and a crash


def test_an_end_in_order_leaves_the_tables_alone(file: Path) -> None:
    one = entry()
    with closing(SqliteStore(file)) as journal:
        journal.commit([one])
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with closing(SqliteStore(file)) as journal:
        assert journal.warning is None
        assert [found.uid for found in journal.pending(None, limit=9)] == [one.uid]


def test_a_killed_process_loses_nothing(journal: SqliteStore, file: Path) -> None:
    one, two = entry(xml="<a>ž</a>"), entry()
    journal.commit([one, two])
    journal.commit([settle(two.uid, 1, 2), send()])
    journal.commit([Confirm(((two.uid, 1),))])
    with closing(SqliteStore(killed(file))) as again:
        [found] = again.pending(None, limit=9)
        assert (found.uid, found.xml, found.stanza.lang, found.stanza.id) == (
            *(one.uid, one.xml, "en", "i"),
        )
        assert [one.place for _, one in again.replies(None, limit=9)] == [2, 0]


def test_a_batch_that_was_being_written_counts_as_not_written(
    journal: SqliteStore, file: Path
) -> None:
    first = entry()
    journal.commit([first])
    whole = log_of(file).stat().st_size
    journal.commit([entry(xml="<b/>" * 50)])
    size = log_of(file).stat().st_size
    for cut in (1, 5, size - whole - 1, size - whole - 8):
        copy = killed(file)
        os.truncate(log_of(copy), size - cut)
        with closing(SqliteStore(copy)) as again:
            assert [one.uid for one in again.pending(None, limit=9)] == [first.uid]
            second = entry()
            again.commit([second])  # it takes the place of the broken one
            with closing(SqliteStore(killed(copy))) as third:
                assert [one.uid for one in third.pending(None, limit=9)] == [first.uid, second.uid]


def test_what_the_tables_have_is_not_read_again(journal: SqliteStore, file: Path) -> None:
    one = entry()
    journal.commit([one])
    journal.pending(None, limit=9)  # folds
    journal.commit([settle(one.uid)])
    journal.commit([Confirm(((one.uid, 1),))])
    with closing(SqliteStore(killed(file))) as again:
        assert (again.pending(None, limit=9), again.replies(None, limit=9)) == ([], [])


def test_a_missing_log_is_told_of(journal: SqliteStore, file: Path) -> None:
    journal.commit([PutState("bot", "room", "a", b"")])
    journal.commit([entry()])
    copy = killed(file)
    log_of(copy).unlink()
    with closing(SqliteStore(copy)) as again:
        assert again.warning is not None
        assert f"{log_of(copy)} is missing" in again.warning
        assert again.pending(None, limit=9) == []


def test_the_log_of_another_journal_is_refused(journal: SqliteStore, tmp_path: Path) -> None:
    journal.commit([entry()])
    other = tmp_path / "other"
    other.mkdir()
    SqliteStore(other / "journal.db").close()
    shutil.copy(log_of(tmp_path / "journal.db"), other)
    with pytest.raises(JournalError, match="belongs to another journal"):
        SqliteStore(other / "journal.db")


def test_a_file_that_is_no_log_is_left_alone(file: Path) -> None:
    SqliteStore(file).close()
    log_of(file).write_text("a very precious text of somebody else")
    with pytest.raises(JournalError, match="is not a journal's log; move it away"):
        SqliteStore(file)
    assert log_of(file).read_text().startswith("a very precious")


def test_a_symbolic_link_is_refused(file: Path, tmp_path: Path) -> None:
    SqliteStore(file).close()
    log_of(file).symlink_to(tmp_path / "target")
    with pytest.raises(JournalError, match="is a symbolic link"):
        SqliteStore(file)


def test_damage_within_a_frame_is_told_of(journal: SqliteStore, file: Path) -> None:
    journal.commit([entry()])
    copy = killed(file)
    with closing(sqlite3.connect(copy)) as database:
        [[id, generation, begin]] = database.execute("SELECT id, generation, begin FROM log")
    log = BatchLog(log_of(copy), id, Position(generation, begin), is_synced=False)
    log.append(b"valid, but not of ours")
    log.close(remove=False)
    with pytest.raises(JournalError, match="is damaged"):
        SqliteStore(copy)


def test_the_log_is_private(journal: SqliteStore, file: Path) -> None:
    journal.commit([entry()])
    log_of(file).chmod(0o644)
    copy = killed(file)
    with closing(SqliteStore(copy)):
        assert stat.S_IMODE(log_of(copy).stat().st_mode) == 0o600


@pytest.mark.parametrize("durability", ["power", "process"])
def test_durability_says_when_the_disk_is_waited_for(
    durability: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with closing(SqliteStore(file, durability)) as journal:
        journal.commit([entry()])
        journal.commit([entry()])
    assert len(synced) == (2 if durability == "power" else 0)


@pytest.mark.parametrize("durability", ["power", "process"])
def test_what_is_written_over_is_on_the_disk_before(
    durability: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Connection(sqlite3.Connection):
        def __init__(self, *args: Any, **keys: Any) -> None:
            super().__init__(*args, **keys)
            self.set_trace_callback(
                lambda one: told.append(one) if "synchronous" in one or one == "COMMIT" else None
            )

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Connection))
    monkeypatch.setattr(log_module, "LIMIT_BYTES", 500)
    with closing(SqliteStore(file, durability)) as journal:
        while not journal._log.is_full:
            journal.commit([entry()])
        told.clear()
        journal.commit([entry()])
        usual = "FULL" if durability == "power" else "NORMAL"
        assert told == ["PRAGMA synchronous = FULL", "COMMIT", f"PRAGMA synchronous = {usual}"]


# --- a disk that fails


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "its disk is full; make room on"),
        (errno.EDQUOT, "its disk is full; make room on"),
        (errno.EIO, "check for a fault of the disk"),
        (errno.EFBIG, "a limit on file sizes"),
        (errno.EROFS, "cannot write"),
    ],
)
def test_a_batch_that_cannot_be_written_is_undone_and_the_fault_is_named(
    number: int, words: str, journal: SqliteStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = entry(), entry()
    journal.commit([first])
    real = os.pwrite

    def write_a_part(fd: int, data: bytes, at: int) -> int:
        if at > BEGIN and len(data) != 8 and written:
            raise OSError(number, os.strerror(number))
        written.append(at)
        return real(fd, data[:11], at)

    written: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write_a_part)
        with pytest.raises(JournalError) as caught:
            journal.commit([second])
    assert words in str(caught.value)
    assert str(log_of(file)) in str(caught.value)
    third = entry()
    journal.commit([third])
    with closing(SqliteStore(killed(file))) as again:
        assert [one.uid for one in again.pending(None, limit=9)] == [first.uid, third.uid]


def test_a_batch_that_was_written_but_not_synced_does_not_come_back(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteStore(file, "power")) as journal:

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(JournalError):
                journal.commit([entry()])
        with closing(SqliteStore(killed(file))) as again:
            assert again.pending(None, limit=9) == []


def test_frames_of_an_earlier_generation_are_not_valid(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    log = BatchLog(file, ID, Position(1, BEGIN), is_synced=False)
    log.append(b"x" * 6000)
    log.append(b"two")
    assert list(BatchLog(file, ID, Position(1, BEGIN), is_synced=False).read()) == [
        b"x" * 6000,
        b"two",
    ]
    for generation in (0, 2, 3):
        late = BatchLog(file, ID, Position(generation, BEGIN), is_synced=False)
        assert list(late.read()) == []
    log.close(remove=True)
    assert not file.exists()


# --- against a model, with crashes


class AgainstModel(RuleBasedStateMachine):
    """Batches of any operations, with few reads between them, and processes that are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.file = self.directory / "journal.db"
        self.journal = SqliteStore(self.file)
        self.model = Model(10**6, 10**9, 1e9, 10**6, 10**9)
        self.before: Model | None = None
        """As it was before the last batch, if that is in the log."""
        self.cut_bytes = 0

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.directory)

    @rule(data=st.data(), length=st.integers(1, 8))
    def commit(self, data: st.DataObject, length: int) -> None:
        operations: list[Operation] = []
        model = self.model
        for _ in range(length):
            operation = self.draw(data, model)
            operations.append(operation)
            model = model.after([operation])
        self.commit_all(operations)

    def draw(self, data: st.DataObject, model: Model) -> Operation:
        """One operation, mostly of those that every stanza needs."""
        pending = list(model.pending)
        replies = [(one.uid, one.place) for one, _ in model.replies]
        usual = ["accept", "accept", "send"]
        usual += ["settle"] * 3 if pending else []
        usual += ["confirm"] * 2 if replies else []
        what = data.draw(st.sampled_from([*usual, *usual, "state", "again", "bury", "attempt"]))
        match what:
            case "settle" | "bury" | "attempt" if pending:
                uid = data.draw(st.sampled_from(pending))
                if what == "attempt":
                    return Attempted(uid, Attempt(1.0, "503"))
                return settle(uid, 1, 2, reason="why" if what == "bury" else None)
            case "confirm":
                return Confirm((data.draw(st.sampled_from(replies)),))
            case "again":
                return settle("msg_gone")
            case "state":
                return PutState("bot", "room", "a", b"1")
            case "send":
                return send()
        return entry(xml="<a/>" * data.draw(st.integers(0, 3)))

    def commit_all(self, operations: Sequence[Operation]) -> None:
        size = self.journal._log.end
        self.journal.commit(operations)
        grown = self.journal._log.end - size
        self.before = self.model if grown > 0 else None
        self.cut_bytes = grown
        self.model = self.model.after(list(operations))

    @rule()
    def read(self) -> None:
        self.check(self.journal)
        self.before = None  # a read has folded it

    def check(self, journal: SqliteStore) -> None:
        pending = journal.pending(None, limit=999)
        assert [one.uid for one in pending] == list(self.model.pending)
        assert [one.attempts for one in pending] == [
            one.attempts for one in self.model.pending.values()
        ]
        assert [one for _, one in journal.replies(None, limit=999)] == [
            one for one, _ in self.model.replies
        ]
        assert [one.entry.uid for one in journal.dead(None, limit=999)] == [
            one.entry.uid for one in self.model.dead
        ]
        assert journal.totals() == self.model.totals()

    @rule(data=st.data(), is_torn=st.booleans())
    def kill(self, data: st.DataObject, is_torn: bool) -> None:
        file = killed(self.file)
        if is_torn and self.before is not None:
            cut = data.draw(st.integers(1, self.cut_bytes))
            os.truncate(log_of(file), self.journal._log.end - cut)
            self.model = self.before
        self.journal.close()
        self.before, self.file = None, file
        self.journal = SqliteStore(file)
        assert self.journal.warning is None

    @rule()
    def end_in_order(self) -> None:
        self.journal.close()
        self.before = None
        self.journal = SqliteStore(self.file)

    @invariant()
    def memory_has_what_the_log_has(self) -> None:
        with closing(SqliteStore(killed(self.file))) as copy:
            self.check(copy)


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
