"""The journal in PostgreSQL: against the model, and in the tests that SQLite's passes, too."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from bridge.journal.delivery import Attempt
from bridge.journal.postgres.statement import compile_operations
from bridge.journal.postgres.store import PostgresStore
from bridge.journal.store import (
    CLAIM_S,
    Abandon,
    AnswerKey,
    Attempted,
    ClaimKey,
    Confirm,
    ImpossibleOperation,
    Requeue,
    Send,
    Settle,
    Totals,
)
from tests.bridge.journal.sqlite import test_store as sqlite
from tests.bridge.journal.sqlite.test_store import Clock, claim, entry, reply, send, uids

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.journal.store import Operation
    from tests.bridge.journal.postgres.database import Database

pytestmark = pytest.mark.postgres
EVERYTHING: Final = 10_000

# The same tests, with the fixture `journal` of this package.
test_what_is_sent = sqlite.test_what_is_sent_is_a_reply_then_gone
test_abandoned_send = sqlite.test_what_was_sent_and_abandoned_is_a_dead_letter_of_its_own
test_claim_with_its_stanza = sqlite.test_a_claim_is_kept_with_its_stanza_or_not_at_all
test_walk_of_an_entry = sqlite.test_an_entry_is_pending_then_a_reply_then_gone
test_settling_nothing = sqlite.test_to_settle_what_is_not_pending_does_nothing
test_revived_letter = sqlite.test_a_revived_letter_keeps_its_attempts_and_goes_behind_all
test_what_stays_dead = sqlite.test_requests_and_abandoned_replies_stay_dead
test_confirmed_last = sqlite.test_what_a_revived_letter_says_again_is_confirmed_last
test_impossible = sqlite.test_one_that_is_impossible_undoes_its_batch
test_undone = sqlite.test_what_was_undone_is_not_taken_for_pending
test_within_a_batch = sqlite.test_what_becomes_pending_within_a_batch_is_settled_within_it
test_released_claim = sqlite.test_a_claim_that_is_released_within_its_batch_is_gone
test_batch_of_any_size = sqlite.test_a_batch_of_any_size_is_done_whole


def dead_uids(journal: PostgresStore) -> list[str]:
    return [one.entry.uid for one in journal.dead(None, limit=EVERYTHING)]


# --- against the model


class AgainstModel(sqlite.AgainstModel):
    """As for SQLite, but the clock is the database's: it goes on while no store is open."""

    database: Database

    def open(self) -> PostgresStore:  # type: ignore[override]  # another store, the same protocol
        return self.database.open(
            dead_limit_count=5,
            dead_limit_bytes=150,
            dead_limit_age_s=2 * CLAIM_S,
            claim_limit_count=3,
            claim_limit_bytes=80,
            trim_s=0,
            now=self.clock,
        )

    def teardown(self) -> None:
        super().teardown()
        self.database.close()

    @rule(down_s=st.sampled_from([0.0, CLAIM_S, 40 * CLAIM_S]))
    def open_again(self, down_s: float) -> None:
        self.journal.close()
        self.clock.now += down_s
        self.model.now += down_s
        self.journal = self.open()  # type: ignore[assignment]
        for name, one in self.model.claims.items():
            if one.state == "asked":  # by a process that is gone
                self.model.claims[name] = evolve(one, state="unanswered")


def test_against_model(database: Database) -> None:
    machine = type("Machine", (AgainstModel,), {"database": database})
    limits = settings(max_examples=25, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(machine, settings=limits)


# --- limits


def test_claims_are_bounded_by_count_and_the_oldest_go_first(database: Database) -> None:
    with closing(database.open(claim_limit_count=250, trim_s=0)) as journal:
        names = [f"{number:03}".encode() for number in range(700)]
        journal.commit([send(f"u{name!r}", claim=claim(name)) for name in reversed(names)])
        assert sorted(one.name for one in journal.claims(names)) == names[:250]


def test_claims_are_bounded_by_bytes_with_their_answers(database: Database) -> None:
    with closing(database.open(claim_limit_bytes=1000, trim_s=0)) as journal:
        journal.commit([ClaimKey(claim(name)) for name in (b"k", b"l", b"m")])
        journal.commit([AnswerKey(b"m", "answered", "x" * 980, "en")])
        first, second = sorted(journal.claims([b"k", b"l", b"m"]), key=lambda one: one.name)
        assert (first.name, second.name) == (b"l", b"m")
        assert (second.state, second.answer, second.lang) == ("answered", "x" * 980, "en")


def test_a_claim_is_forgotten_after_a_day(database: Database) -> None:
    clock = Clock()
    with closing(database.open(trim_s=0, now=clock)) as journal:
        journal.commit([send("u", claim=claim(b"k"))])
        clock.now += CLAIM_S
        assert journal.claims([b"k"]) == [claim(b"k")]
        clock.now += 0.5
        assert journal.claims([b"k"]) == []  # also without another commit
        journal.commit([entry("q")])
        assert database.execute("SELECT name FROM claim") == []


def test_letters_are_bounded_by_count_bytes_and_age(database: Database) -> None:
    clock = Clock()
    limits: dict[str, Any] = {
        "dead_limit_count": 3,
        "dead_limit_bytes": 100,
        "dead_limit_age_s": 10,
    }
    with closing(database.open(trim_s=0, now=clock, **limits)) as journal:
        for uid in "abcd":
            journal.commit([entry(uid), Settle(uid, (), 3, "why")])
        assert dead_uids(journal) == ["b", "c", "d"]
        journal.commit([entry("e", xml="ä" * 48), Settle("e", (), 3, "why")])
        assert dead_uids(journal) == ["d", "e"]
        clock.now += 10.5
        journal.commit([entry("f"), Settle("f", (), 3, "why")])
        assert dead_uids(journal) == ["f"]


def test_limits_are_looked_at_from_time_to_time(database: Database) -> None:
    clock = Clock()
    keys: dict[str, Any] = {"dead_limit_count": 1, "trim_s": 60, "elapsed_s": clock}
    with closing(database.open(**keys)) as journal:
        journal.commit([entry("a"), entry("b"), Settle("a", (), 3, "w"), Settle("b", (), 3, "w")])
        clock.now += 59
        journal.commit([entry("c")])
        assert dead_uids(journal) == ["a", "b"]
        clock.now += 1
        journal.commit([entry("d")])
        assert dead_uids(journal) == ["b"]


def test_the_database_clock_makes_nothing_old_at_once(journal: PostgresStore) -> None:
    journal.commit([entry("u"), Settle("u", (), 5e12, "why"), ClaimKey(claim(b"k", made=-1.0))])
    journal.commit([entry("v")])
    assert dead_uids(journal) == ["u"]
    assert journal.claims([b"k"]) == [claim(b"k", made=-1.0)]


# --- batches

CONFLICTING: Final[list[list[Operation]]] = [
    [Settle("u"), entry("u")],
    [Confirm((("r", 1),)), Settle("u", (reply("r"),)), entry("v")],
    [Confirm((("r", 1),)), Send(send("r").stanzas), Confirm((("r", 0), ("r", 1)))],
    [Confirm((("r", 1), ("r", 1)))],
    [Settle("u", (), 3, "why"), Requeue(("u",), 4), Settle("u", (reply("u"),))],
]


@pytest.mark.parametrize("batch", CONFLICTING)
def test_a_batch_is_as_its_operations_one_by_one(
    database: Database, batch: list[Operation]
) -> None:
    found = []
    for batches in ([batch], [[one] for one in batch]):
        with closing(database.open()) as journal:
            journal.commit([entry("u"), entry("w"), Settle("w", (reply("r"), reply("r")))])
            for one in batches:
                journal.commit(one)
            found.append(
                (
                    uids(journal.pending(None, limit=EVERYTHING)),
                    [one for _, one in journal.replies(None, limit=EVERYTHING)],
                    dead_uids(journal),
                )
            )
        database.close()
    assert found[0] == found[1]


def test_accepted_and_settled_in_turn_are_two_statements(database: Database) -> None:
    batch: list[Operation] = []
    for number in range(64):
        batch += [entry(f"u{number}"), Settle(f"u{number}", (reply(f"u{number}"),))]
    assert len(compile_operations(batch)) == 2
    with closing(database.open()) as journal:
        journal.commit(batch)
        assert journal.totals() == {"bot": Totals(replies=64)}


def test_a_reason_with_a_character_that_text_cannot_hold_is_kept(journal: PostgresStore) -> None:
    attempt = Attempt(1, "status 500: \0")
    journal.commit([entry("u")])
    journal.commit([Attempted("u", attempt), Settle("u", (), 3, "it said \0")])
    [letter] = journal.dead(None, limit=9)
    assert (letter.reason, letter.entry.attempts) == ("it said \ufffd", (attempt,))


@pytest.mark.parametrize("operation", [entry("u", xml="<a>\0</a>"), entry("\0")])
def test_what_text_cannot_hold_is_impossible(journal: PostgresStore, operation: Operation) -> None:
    with pytest.raises(ImpossibleOperation):
        journal.commit([entry("v"), operation])
    assert journal.totals() == {}


def test_a_probe_writes_and_leaves_nothing(database: Database, journal: PostgresStore) -> None:
    [[before]] = database.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    journal.commit([])
    [[after]] = database.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    assert after - before > 64 * 1024
    assert database.execute("SELECT count(*) FROM post") == [(0,)]
    assert journal.totals() == {}


def test_no_statement_of_a_batch_reads_a_whole_table(
    database: Database, journal: PostgresStore
) -> None:
    """Not even while that would be the best plan: it is kept when the table has grown."""
    journal.commit([entry("u"), entry("v"), Settle("v", (reply("v"),)), ClaimKey(claim(b"k"))])
    database.execute("ANALYZE")
    batch: list[Operation] = [
        Settle("u", (reply("u"),)),
        Confirm((("v", 1),)),
        Attempted("u", Attempt(1, "x")),
        Settle("u", (reply("u"),), 3, "why"),
        Abandon("v", 1, 3, "why"),
        Requeue(("u",), 4),
        AnswerKey(b"k", "answered", "x"),
    ]
    statements = compile_operations(batch)
    assert len(statements) == 7
    shared = {"node": journal.node, "writer": journal.incarnation, "now": None, "claim_s": 1}
    connection = journal._fence.connection.get()
    for text, values in statements:
        rows = connection.execute(f"EXPLAIN {text}".encode(), {**shared, **values}).fetchall()
        plan = "\n".join(line for (line,) in rows)
        assert "Seq Scan" not in plan


def test_a_batch_is_prepared_and_a_read_is_not(journal: PostgresStore) -> None:
    """What is read is planned anew, because the tables may have grown."""
    for number in range(9):
        journal.commit([entry(f"u{number}")])
        journal.pending("bot", limit=9)
    query = "SELECT statement FROM pg_prepared_statements"
    prepared = [text for (text,) in journal._fence.connection.get().execute(query)]
    assert sum("INSERT INTO pending" in text for text in prepared) == 1
    assert journal._reader.get().execute(query).fetchall() == []


PAGES: Final[list[Callable[[PostgresStore], object]]] = [
    lambda journal: journal.pending("bot", limit=9),
    lambda journal: journal.pending(None, limit=9),
    lambda journal: journal.pending_in("bot", range(256), {}, 9),
    lambda journal: journal.pending_in("bot", range(256), {1: 10_000}, 9),
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_reads_no_more_than_it_has(
    database: Database, journal: PostgresStore, page: Callable[[PostgresStore], object]
) -> None:
    database.execute(
        "INSERT INTO pending (received, writer, weight, part, uid, component, kind, from_, to_,"
        " attempts, xml) SELECT 1, 1, 3, g % 256, 'u' || g, 'bot', 'message', 'a', 'b', '', 'xml'"
        " FROM generate_series(1, 10000) AS g"
    )
    executed: list[tuple[str, Any]] = []
    rows = journal._rows

    def note(query: str, values: Any = None) -> list[Any]:
        executed.append((query, values))
        return rows(query, values)

    journal._query._rows = note
    page(journal)
    [(query, values)] = executed
    plan = rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", values)[0][0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
