"""Batches against other nodes, lost connections and frozen holders."""

from __future__ import annotations

import threading
from contextlib import closing
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg import errors

from bridge.cluster.partition import ALL_PARTS, partition_of
from bridge.journal.cluster import About, Lease, LeaseLost, Post
from bridge.journal.delivery import Delivery
from bridge.journal.postgres import fence as fence_module
from bridge.journal.postgres import store as store_module
from bridge.journal.postgres.connection import HANG_S
from bridge.journal.store import AnswerKey, Claim, ClaimKey, JournalError, KeyTaken, Settle
from tests.bridge.journal.postgres.proxy import Proxy
from tests.bridge.journal.sqlite.test_store import Clock, claim, entry, reply, send, uids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.journal.postgres.store import PostgresStore
    from bridge.journal.store import Operation
    from tests.bridge.journal.postgres.database import Database

pytestmark = pytest.mark.postgres
EVERYTHING: Final = 10_000


@pytest.fixture
def other(database: Database, journal: PostgresStore) -> Iterator[PostgresStore]:
    """A second node of the cluster of `journal`."""
    with closing(database.open("other")) as opened:
        yield opened


@pytest.fixture
def proxied(database: Database) -> Iterator[Proxy]:
    """What stands between a node and the database."""
    with closing(Proxy(database.url.value)) as proxy:
        yield proxy


def pass_by(clock: Clock, seconds: float) -> None:
    """Sleep."""
    clock.now += seconds


def batch_of(store: PostgresStore, node: int) -> int:
    return next(one.batch for one in store.nodes() if one.id == node)


def commit_in_thread(
    journal: PostgresStore, operations: list[Operation]
) -> tuple[threading.Thread, list[JournalError | None]]:
    result: list[JournalError | None] = []

    def commit() -> None:
        try:
            journal.commit(operations)
            result.append(None)
        except JournalError as error:
            result.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    return thread, result


# --- the fence


def test_a_node_that_has_been_ended_can_write_nothing(
    journal: PostgresStore, other: PostgresStore
) -> None:
    journal.commit([entry("u")])
    assert other.end_node(journal.node, batch_of(other, journal.node))
    for write in (
        lambda: journal.commit([Settle("u")]),
        lambda: journal.commit([]),
        journal.beat,
        lambda: journal.take("bot", [1]),
        lambda: journal.post(other.node, "question", b"x"),
    ):
        with pytest.raises(LeaseLost, match="lost its place in the cluster"):
            write()
    assert uids(other.pending(None, limit=9)) == ["u"]
    before = journal.incarnation
    assert journal.register("node", About()) > before
    journal.commit([Settle("u")])
    assert other.totals() == {}


def test_a_node_that_has_moved_is_not_ended(journal: PostgresStore, other: PostgresStore) -> None:
    seen = batch_of(other, journal.node)
    journal.beat()
    assert not other.end_node(journal.node, seen)
    journal.beat()
    assert other.end_node(journal.node, seen + 2)
    assert other.end_node(journal.node, seen + 2)  # it is


def test_a_take_over_that_waited_for_a_batch_sees_that_it_was_committed(
    database: Database, journal: PostgresStore, other: PostgresStore
) -> None:
    seen = batch_of(other, journal.node)
    with psycopg.connect(database.url.value) as frozen:
        # As a batch of `journal` that is being committed.
        frozen.execute(f"SET search_path = {database.schema}".encode())
        call = "SELECT fence(%s, %s, %s)"
        frozen.execute(call, (journal.node, journal.incarnation, seen + 1))
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(other.end_node(journal.node, seen)))
        thread.start()
        database.wait_for_lock()
        frozen.commit()
        thread.join(20)
    assert ended == [False]
    assert [one.incarnation for one in other.nodes()] == [journal.incarnation, other.incarnation]


def test_a_holder_that_is_frozen_in_a_batch_is_ended(
    database: Database, journal: PostgresStore, other: PostgresStore
) -> None:
    assert journal.take("bot", [1, 2]) == {1, 2}
    seen = batch_of(other, journal.node)
    held = journal._fence.connection.get()
    held.execute("BEGIN")
    call = "SELECT fence(%s, %s, %s)"
    held.execute(call, (journal.node, journal.incarnation, seen + 1))
    held.execute("INSERT INTO post (for_node, writer, kind, body) VALUES (1, 1, 'x', '')")
    assert other.end_node(journal.node, seen)
    assert other.leases() == []
    assert database.execute("SELECT * FROM post") == []
    with pytest.raises(LeaseLost):
        journal.commit([entry("u")])


def test_a_process_that_starts_again_ends_the_one_before(
    database: Database, journal: PostgresStore
) -> None:
    journal.take("bot", [-1])
    held = journal._fence.connection.get()
    held.execute("BEGIN")
    call = "SELECT fence(%s, %s, %s)"
    held.execute(call, (journal.node, journal.incarnation, journal._fence.batch + 1))
    with closing(database.open("node")) as again:
        assert again.node == journal.node
        assert again.incarnation > journal.incarnation
        assert again.leases() == []
        with pytest.raises(LeaseLost):
            journal.commit([entry("u")])
        again.commit([entry("v")])


def test_no_backend_of_somebody_else_is_ended(
    database: Database, journal: PostgresStore, other: PostgresStore
) -> None:
    """A number of a backend is used again by another one."""
    with psycopg.connect(database.url.value, application_name="theirs") as theirs:
        [[pid]] = theirs.execute("SELECT pg_backend_pid()").fetchall()
        database.execute(f"UPDATE node SET pids = ARRAY[{pid}] WHERE id = {journal.node}")
        other._fence.terminate(journal.node)
        assert theirs.execute("SELECT 1").fetchall() == [(1,)]


def test_a_counter_that_went_backwards_is_a_lost_lease(
    database: Database, journal: PostgresStore
) -> None:
    """As after a crash of a database that did not wait for its disk."""
    journal.commit([entry("u")])
    database.execute("UPDATE node SET batch = batch - 1")
    with pytest.raises(LeaseLost):
        journal.commit([entry("v")])


def test_whoever_is_not_registered_cannot_write(journal: PostgresStore) -> None:
    journal.retire()
    with pytest.raises(LeaseLost, match="not a node of the cluster"):
        journal.commit([entry("u")])


# --- unknown outcome


def test_a_batch_that_was_committed_before_the_connection_broke_is_not_sent_again(
    database: Database, proxied: Proxy
) -> None:
    with closing(database.open("node", url=proxied.url)) as journal:
        journal.commit([entry("u")])
        proxied.cut_after_request()
        journal.commit([Settle("u", (reply("u"),)), entry("v")])
        assert proxied.cuts == 1
        assert uids(journal.pending(None, limit=9)) == ["v"]
        assert [one.uid for _, one in journal.replies(None, limit=9)] == ["u"]
        assert batch_of(journal, journal.node) == 3  # with the empty one that confirms it
        journal.commit([entry("w")])


def test_a_batch_that_never_arrived_is_sent_again(database: Database, proxied: Proxy) -> None:
    with closing(database.open("node", url=proxied.url)) as journal:
        journal.commit([entry("u")])
        proxied.cut_before_request()
        journal.commit([entry("v")])
        assert proxied.cuts == 1
        assert uids(journal.pending(None, limit=9)) == ["u", "v"]
        assert batch_of(journal, journal.node) == 2


def test_a_batch_that_half_arrived_is_sent_again(database: Database, proxied: Proxy) -> None:
    """Its backend waits for the rest, and holds the node's lock."""
    with closing(database.open("node", url=proxied.url)) as journal:
        journal.commit([entry("u")])
        proxied.stall_after_bytes(600)
        xml = f"<a>{'x' * 100_000}</a>"
        thread = threading.Thread(target=lambda: journal.commit([entry("v", xml=xml)]))
        thread.start()
        proxied.wait_stalled()
        database.wait_for_held(journal.node)
        proxied.abandon()  # without a word to the server, as when a machine is gone
        thread.join(20)
        assert uids(journal.pending(None, limit=9)) == ["u", "v"]
        assert batch_of(journal, journal.node) == 2


def test_psycopg_says_nothing_of_its_own_when_a_connection_breaks(
    database: Database, proxied: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(database.open("node", url=proxied.url)) as journal:
        proxied.cut_before_request()
        journal.commit([entry("v", xml=f"<a>{'x' * 10_000_000}</a>")])  # breaks within the pipeline
        assert proxied.cuts == 1
    assert [one for one in caplog.records if one.name.startswith("psycopg")] == []


def test_a_node_that_was_ended_meanwhile_loses_its_batch(
    database: Database, proxied: Proxy, other: PostgresStore
) -> None:
    with closing(database.open("third", url=proxied.url)) as journal:
        seen = batch_of(other, journal.node)
        proxied.cut_before_request(then=lambda: other.end_node(journal.node, seen))
        with pytest.raises(LeaseLost):
            journal.commit([entry("v")])
    assert other.totals() == {}


def test_what_was_refused_is_withdrawn_if_it_was_committed(
    database: Database, proxied: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with closing(database.open("node", url=proxied.url, elapsed_s=clock)) as journal:
        journal.commit([entry("u")])
        monkeypatch.setattr(journal._fence, "_sleep", partial(pass_by, clock))
        proxied.cut_after_request(refuse=True)
        with pytest.raises(JournalError, match="cannot be used"):
            journal.commit([entry("v"), Settle("u", (reply("u"),))])
        assert clock.now >= 1e6 + fence_module.RESOLVE_S
        with pytest.raises(JournalError):
            journal.commit([entry("w")])
        proxied.accept()
        journal.commit([entry("x")])
        assert uids(journal.pending(None, limit=9)) == ["x"]
        assert [one.uid for _, one in journal.replies(None, limit=9)] == ["u"]
        journal.commit([entry("v")])
        assert uids(journal.pending(None, limit=9)) == ["x", "v"]


def test_nothing_is_withdrawn_if_it_was_not_committed(
    database: Database, proxied: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with closing(database.open("node", url=proxied.url, elapsed_s=clock)) as journal:
        monkeypatch.setattr(journal._fence, "_sleep", partial(pass_by, clock))
        proxied.cut_before_request(refuse=True)
        with pytest.raises(JournalError):
            journal.commit([entry("v")])
        proxied.accept()
        journal.commit([entry("v")])
        journal.commit([entry("x")])
        assert uids(journal.pending(None, limit=9)) == ["v", "x"]


def test_what_is_to_be_withdrawn_is_not_forgotten_by_another_failure(
    database: Database, proxied: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with closing(database.open("node", url=proxied.url, elapsed_s=clock)) as journal:
        monkeypatch.setattr(journal._fence, "_sleep", partial(pass_by, clock))
        proxied.cut_after_request(refuse=True)
        with pytest.raises(JournalError):
            journal.commit([entry("a")])
        proxied.accept()
        journal._fence.connection.get()
        proxied.cut_before_request(refuse=True)
        with pytest.raises(JournalError):
            journal.commit([entry("b")])
        proxied.accept()
        journal.commit([entry("c")])
        assert uids(journal.pending(None, limit=9)) == ["c"]


# --- a stand-by that does not confirm


@pytest.fixture
def standby(database: Database) -> Iterator[str]:
    """The query for the backends that wait for a stand-by: there is none."""
    require_standby(database)
    yield "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    end_standby(database)


def require_standby(database: Database) -> None:
    database.execute("ALTER SYSTEM SET synchronous_standby_names = 'none'")
    database.execute("SELECT pg_reload_conf()")
    database.wait_for("SELECT 1 WHERE current_setting('synchronous_standby_names') <> ''")


def end_standby(database: Database) -> None:
    database.execute("ALTER SYSTEM RESET synchronous_standby_names")
    database.execute("SELECT pg_reload_conf()")
    database.wait_for("SELECT 1 WHERE current_setting('synchronous_standby_names') = ''")


def test_a_commit_whose_wait_was_cancelled_waits_again(
    database: Database, journal: PostgresStore, standby: str
) -> None:
    thread, result = commit_in_thread(journal, [entry("u")])
    [[pid]] = database.wait_for(standby)
    batch = journal._fence.batch
    database.execute(f"SELECT pg_cancel_backend({pid})")
    database.wait_for(f"SELECT 1 FROM node WHERE batch > {batch} AND id = {journal.node}")
    database.wait_for(standby)
    assert result == []
    end_standby(database)
    thread.join(20)
    assert result == [None]
    assert uids(journal.pending(None, limit=9)) == ["u"]


def test_a_commit_that_no_standby_confirms_counts_as_failed_and_is_withdrawn(
    database: Database, journal: PostgresStore, standby: str
) -> None:
    thread, result = commit_in_thread(journal, [entry("u")])
    while thread.is_alive():
        for [pid] in database.execute(standby):
            database.execute(f"SELECT pg_cancel_backend({pid})")
    [told] = result
    assert told is not None
    assert told.why == "no stand-by of postgresql://db/bridge confirms what is committed"
    end_standby(database)
    journal.commit([entry("v")])
    assert uids(journal.pending(None, limit=9)) == ["v"]


def test_a_commit_that_is_interrupted_while_it_waits_for_a_standby_is_no_success(
    database: Database, standby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    # Its registration waits, too.
    database_thread: list[PostgresStore] = []
    opening = threading.Thread(
        target=lambda: database_thread.append(database.open("late", elapsed_s=clock))
    )
    opening.start()
    while opening.is_alive():
        for [pid] in database.execute(standby):
            database.execute(f"SELECT pg_cancel_backend({pid})")
    [journal] = database_thread
    monkeypatch.setattr(journal._fence, "_sleep", partial(pass_by, clock))
    with closing(journal):
        thread, result = commit_in_thread(journal, [entry("u")])
        while thread.is_alive():
            if database.execute(standby):
                clock.now += HANG_S
                journal.interrupt()
        [told] = result
        assert told is not None
        assert told.why == "the database postgresql://db/bridge does not answer"
        end_standby(database)
        journal.commit([entry("v")])
        assert uids(journal.pending(None, limit=9)) == ["v"]


WAITED_FOR: Final[list[tuple[bool, Callable[[PostgresStore], object]]]] = [
    (False, lambda journal: journal.commit([entry("u")])),
    (False, lambda journal: journal.commit([Settle("u", (reply("u"),))])),
    (False, lambda journal: journal.beat()),
    (True, lambda journal: journal.commit([entry("u"), ClaimKey(claim(b"k"))])),
    (True, lambda journal: journal.commit([send("u", claim=claim(b"k"))])),
    (True, lambda journal: journal.commit([AnswerKey(b"k", "unanswered")])),
    (True, lambda journal: journal.take("bot", [1])),
    (True, lambda journal: journal.give("bot", [1], None)),
    (True, lambda journal: journal.end_node(99, 0)),
]


@pytest.mark.parametrize(("waits", "call"), WAITED_FOR)
def test_keys_and_leases_are_always_waited_for(
    database: Database, waits: bool, call: Callable[[PostgresStore], object]
) -> None:
    with closing(database.open("node", "process")) as journal:
        require_standby(database)
        thread = threading.Thread(target=call, args=(journal,))
        thread.start()
        try:
            if waits:
                database.wait_for("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                assert thread.is_alive()
            else:
                thread.join(20)
                assert not thread.is_alive()
        finally:
            end_standby(database)
            thread.join(20)


def test_a_start_that_waits_for_a_standby_is_given_up(
    database: Database, standby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "WATCH_S", 0.01)
    clock = count(step=int(HANG_S))
    with pytest.raises(JournalError, match="does not answer; if it waits for a stand-by, start"):
        database.open("late", elapsed_s=lambda: next(clock))
    assert "journal-opening" not in {one.name for one in threading.enumerate()}


# --- a connection that hangs


def test_a_connection_that_hangs_is_interrupted_and_the_batch_is_sent_again(
    database: Database, proxied: Proxy
) -> None:
    clock = Clock()
    with closing(database.open("node", url=proxied.url, elapsed_s=clock)) as journal:
        proxied.stall_after_bytes(0)
        thread = threading.Thread(target=lambda: journal.commit([entry("u")]))
        thread.start()
        proxied.wait_stalled()
        journal.interrupt()
        assert thread.is_alive()  # it has not waited for long
        clock.now += HANG_S
        journal.interrupt()
        thread.join(20)
        assert not thread.is_alive()
        assert uids(journal.pending(None, limit=9)) == ["u"]


def test_a_read_that_hangs_is_interrupted_and_made_again(
    database: Database, proxied: Proxy
) -> None:
    clock = Clock()
    with closing(database.open("node", url=proxied.url, elapsed_s=clock)) as journal:
        journal.commit([entry("u")])
        proxied.stall_after_bytes(0)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(journal.pending(None, limit=9)))
        thread.start()
        proxied.wait_stalled()
        clock.now += HANG_S
        journal.interrupt()
        thread.join(20)
        assert uids(found) == ["u"]


def test_nothing_is_interrupted_while_nobody_waits(journal: PostgresStore) -> None:
    journal.interrupt()
    journal.commit([entry("u")])
    assert uids(journal.pending(None, limit=9)) == ["u"]


# --- idempotency keys of two nodes


def test_a_key_belongs_to_the_node_that_keeps_it_first(
    journal: PostgresStore, other: PostgresStore
) -> None:
    journal.commit([send("u", claim=claim(b"k"))])
    batches: list[list[Operation]] = [
        [entry("p"), send("v", claim=claim(b"k"))],
        [entry("p"), ClaimKey(claim(b"l")), ClaimKey(claim(b"k"))],
    ]
    for batch in batches:
        with pytest.raises(KeyTaken):
            other.commit(batch)
        assert other.pending(None, limit=9) == []
        assert [one.uid for _, one in other.replies(None, limit=9)] == ["u"]
        assert other.claims([b"k", b"l"]) == [claim(b"k")]
    journal.commit([send("w", claim=claim(b"k"))])  # its own: it knows that it may


def test_a_key_that_is_being_kept_is_waited_for(
    database: Database, journal: PostgresStore, other: PostgresStore
) -> None:
    with psycopg.connect(database.url.value) as first:
        first.execute(f"SET search_path = {database.schema}".encode())
        first.execute(
            "INSERT INTO claim (name, writer, node, made, since, weight, digest, uid, state)"
            " SELECT 'k', %s, %s, 1, extract(epoch FROM now()), 1, '', 'u', 'sent'",
            (journal.incarnation, journal.node),
        )
        told: list[JournalError] = []

        def keep() -> None:
            try:
                other.commit([send("v", claim=claim(b"k"))])
            except JournalError as error:
                told.append(error)

        thread = threading.Thread(target=keep)
        thread.start()
        database.wait_for_lock()
        first.commit()
        thread.join(20)
    assert [type(one) for one in told] == [KeyTaken]
    assert other.replies(None, limit=9) == []


def test_a_question_of_a_dead_node_is_unanswered(
    journal: PostgresStore, other: PostgresStore
) -> None:
    asked = Claim(b"k", b"digest", "u", 2.5, "asked")
    journal.commit([ClaimKey(asked)])
    assert other.claims([b"k"]) == [asked]
    assert other.end_node(journal.node, batch_of(other, journal.node))
    assert [one.state for one in other.claims([b"k"])] == ["unanswered"]


# --- what two nodes do at once


def test_an_entry_that_two_nodes_settle_has_one_reply(
    journal: PostgresStore, other: PostgresStore
) -> None:
    journal.commit([entry("u")])
    other.commit([Settle("u", (reply("u", data=b"<first/>"),))])
    journal.commit([Settle("u", (reply("u", data=b"<second/>"),), 3, "why")])
    assert [one.data for _, one in journal.replies(None, limit=9)] == [b"<first/>"]
    assert journal.dead(None, limit=9) == []


@pytest.mark.parametrize("lost", [1, 4])
def test_a_batch_that_loses_a_deadlock_is_made_again(
    journal: PostgresStore, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    execute, left = journal._fence._execute, list(range(lost))

    def lose(*args: Any) -> list[list[Any]]:
        if left:
            left.pop()
            raise errors.DeadlockDetected("deadlock detected")
        return execute(*args)

    monkeypatch.setattr(journal._fence, "_execute", lose)
    journal.commit([entry("a")])
    assert uids(journal.pending(None, limit=9)) == ["a"]


def test_a_batch_that_loses_again_and_again_fails(
    journal: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> list[list[Any]]:
        raise errors.DeadlockDetected("deadlock detected")

    monkeypatch.setattr(journal._fence, "_execute", lose)
    with pytest.raises(JournalError, match="deadlock detected"):
        journal.commit([entry("a")])
    monkeypatch.undo()
    journal.commit([entry("a")])


def test_nodes_that_create_the_schema_at_once_all_succeed(database: Database) -> None:
    opened: list[PostgresStore] = []
    failures: list[Exception] = []

    def start(label: str) -> None:
        try:
            opened.append(database.open(label))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(f"n{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(one.label for one in opened[0].nodes()) == ["n0", "n1", "n2", "n3"]
    for store in opened:
        store.close()


# --- leases, marks and posts


def test_a_part_has_one_holder_who_alone_gives_it_away(
    journal: PostgresStore, other: PostgresStore
) -> None:
    assert journal.take("bot", [-1, 0, 255]) == {-1, 0, 255}
    assert other.take("bot", [-1, 0, 1]) == {1}
    assert journal.take("bot", [0]) == {0}
    other.give("bot", [0], None)
    other.give("bot", [0], other.node)
    assert Lease("bot", 0, journal.node) in other.leases()
    journal.give("bot", [0], other.node)
    journal.give("bot", [255], None)
    assert other.leases() == [
        Lease("bot", -1, journal.node),
        Lease("bot", 0, other.node),
        Lease("bot", 1, other.node),
    ]
    other.retire()
    journal.give("bot", [-1], other.node)  # which is gone
    assert journal.leases() == [Lease("bot", -1, journal.node)]


def test_rows_are_read_behind_the_mark_of_each_writer(
    database: Database, journal: PostgresStore, other: PostgresStore
) -> None:
    """A row that is committed late has a lower number than those that were read before."""
    database.execute("SELECT setval('pending_number_seq', 100)")
    journal.commit([entry("a"), entry("b")])
    found = journal.pending_in("bot", range(256), {}, 9)
    marks = {writer: one.number for writer, one in found}
    assert marks == {journal.incarnation: 102}
    database.execute("SELECT setval('pending_number_seq', 50)")
    other.commit([entry("c"), entry("d")])
    found = journal.pending_in("bot", range(256), marks, 1)
    assert [(writer, one.uid) for writer, one in found] == [(other.incarnation, "c")]
    marks[other.incarnation] = found[0][1].number
    found = journal.pending_in("bot", range(256), marks, 9)
    assert [one.uid for _, one in found] == ["d"]
    assert journal.pending_in("echo", range(256), {}, 9) == []
    assert [one.number for _, one in journal.pending_in("bot", range(256), {}, 9)] == [
        51,
        52,
        101,
        102,
    ]


def test_entries_are_read_by_partition(journal: PostgresStore) -> None:
    entries = [
        Delivery.stored(f"u{number}", "bot", "message", f"{number}@a", "bot", None, None, "", 1.5)
        for number in range(40)
    ]
    journal.commit(entries)
    for part in {partition_of(one.parties) for one in entries}:
        assert [one.uid for _, one in journal.pending_in("bot", [part], {}, 99)] == [
            one.uid for one in entries if partition_of(one.parties) == part
        ]


def test_an_age_is_by_the_clock_of_the_database(
    database: Database, journal: PostgresStore, other: PostgresStore
) -> None:
    """The clock of the node that accepted it does not matter."""
    early, late, copied = (
        Delivery.stored(uid, "bot", "message", "a", "b", None, None, "", received, age_s=age_s)
        for uid, received, age_s in (("1", 5.0, None), ("2", 9e9, None), ("3", 5.0, 500.0))
    )
    journal.commit([early, late, copied])
    database.execute("UPDATE pending SET since = since - 100")
    found = [one for _, one in other.pending_in("bot", ALL_PARTS, {}, 9)]
    single = [other.find(uid)[0] for uid in "123"]
    for entries in (found, other.pending("bot", limit=9), single):
        ages = [one.age_s or 0 for one in entries if isinstance(one, Delivery)]
        assert all(100 <= age < 1_000_000 for age in ages[:2])
        assert 600 <= ages[2] < 1_000_000


def test_replies_are_read_behind_marks_and_count_their_writes(
    journal: PostgresStore, other: PostgresStore
) -> None:
    journal.commit([send("a", "b")])
    other.commit([send("c")])
    found = journal.replies_after("bot", {}, 9)
    assert [(writer, one.uid) for writer, _, one in found] == [
        (journal.incarnation, "a"),
        (journal.incarnation, "b"),
        (other.incarnation, "c"),
    ]
    numbers = [number for _, number, _ in found]
    assert [one.written for _, _, one in found] == [0, 0, 0]
    marks = {journal.incarnation: numbers[0], other.incarnation: numbers[2]}
    assert [one.uid for _, _, one in journal.replies_after("bot", marks, 9)] == ["b"]
    a, b, _ = ((one.uid, one.place) for _, _, one in found)
    journal.count_written({a: 1, b: 2})
    journal.count_written({a: 2, b: 1})  # late, of the stream before
    journal.count_written({b: 99_999})
    written = [one.written for _, _, one in other.replies_after("bot", {}, 9)]
    assert written == [2, 32_767, 0]
    assert [one.written for _, one in other.replies("bot", limit=9)] == written


def test_a_message_reaches_its_node_until_it_is_dropped(
    journal: PostgresStore, other: PostgresStore
) -> None:
    journal.post(other.node, "question", b"one")
    journal.post(other.node, "question", b"two")
    journal.post(journal.node, "question", b"mine")
    one, two = other.posts({}, 9)
    assert (one, two.body) == (Post(one.number, journal.incarnation, "question", b"one"), b"two")
    assert other.posts({journal.incarnation: one.number}, 9) == [two]
    other.drop_posts([one.number])
    assert other.posts({}, 9) == [two]


@pytest.mark.parametrize("end", ["end_node", "register", "retire", "forget"])
def test_the_messages_for_a_dead_node_are_dropped(
    database: Database, journal: PostgresStore, other: PostgresStore, end: str
) -> None:
    journal.post(other.node, "question", b"before")
    other.post(journal.node, "answer", b"before")
    node = other.node
    match end:
        case "end_node":
            assert journal.end_node(node, _batch_of(journal, node))
        case "register":
            other.register("other", About())
        case "retire":
            other.retire()
        case "forget":
            other.forget()
    assert database.execute("SELECT kind FROM post") == [("answer",)]
    if end != "register":
        journal.post(node, "question", b"after")
        assert database.execute("SELECT kind FROM post") == [("answer",)]


def _batch_of(store: PostgresStore, node: int) -> int:
    return next(one.batch for one in store.nodes() if one.id == node)


def test_nodes_show_what_they_are(database: Database, journal: PostgresStore) -> None:
    with closing(database.open("b", about=About("1.2", ("bot", "echo"), "d1"))) as other:
        other.set_status(b"{}")
        first, second = journal.nodes()
        assert (first.label, first.incarnation, first.about) == (
            "node",
            journal.incarnation,
            About(),
        )
        assert (second.id, second.about) == (other.node, About("1.2", ("bot", "echo"), "d1"))
        assert second.status == b"{}"
    assert [one.incarnation for one in journal.nodes()] == [journal.incarnation, None]
