"""The embedded journal: against a model, in a file that is opened again, and on bad disks."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.directory import StateDirectory
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import (
    CLAIM_S,
    Abandon,
    AnswerKey,
    Attempted,
    Claim,
    ClaimKey,
    Confirm,
    DeadLetter,
    DeleteState,
    DropDead,
    ImpossibleOperation,
    JournalError,
    Operation,
    PutState,
    ReleaseKey,
    Requeue,
    Send,
    Sent,
    Settle,
    StateEntry,
    Totals,
)
from bridge.xmpp.outbox import Outgoing
from tests.bridge.journal.journal_model import Model, Refused
from tests.bridge.unprivileged import open_directory, unprivileged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERYTHING: Final = 10_000
FILES: Final = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.log")


def entry(
    uid: str, *, component: str = "bot", kind: str = "message", xml: str = "<a/>"
) -> Delivery:
    return Delivery.stored(uid, component, kind, "me@a/x", "you@bot", None, "en", xml, 1.5)


def reply(uid: str, place: int = 1, *, data: bytes = b"<b/>") -> Outgoing:
    return Outgoing(data, 2.5, "bot", uid, place)


def unnumbered(found: Delivery | Outgoing | DeadLetter) -> Delivery | Outgoing | DeadLetter:
    if isinstance(found, Delivery):
        return replace(found, number=0)
    if isinstance(found, DeadLetter):
        return evolve(found, entry=replace(found.entry, number=0))
    return found


def uids(entries: list[Delivery]) -> list[str]:
    return [one.uid for one in entries]


def dead_uids(journal: SqliteStore) -> list[str]:
    return [one.entry.uid for one in journal.dead(None, limit=EVERYTHING)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(file: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(file, busy_timeout_s=0)) as opened:
        yield opened


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of pending entries that are to be settled; ask for it before the journal."""
    found: list[str] = []

    def note(statement: str) -> None:
        if statement.startswith("SELECT number, uid, component"):
            found.append(statement)

    class Connection(sqlite3.Connection):
        def __init__(self, *args: Any, **keys: Any) -> None:
            super().__init__(*args, **keys)
            self.set_trace_callback(note)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Connection))
    return found


# --- against a model

UIDS: Final = st.sampled_from(["a", "ab", "abc", "b", "c", "d"])
COMPONENTS: Final = st.sampled_from(["bot", "echo"])
TIMES: Final = st.floats(0, 1e10)
PLACES: Final = st.integers(0, 2)
CHARACTERS: Final = st.characters(codec="utf-8", exclude_characters="\0")  # which XML cannot hold
TEXTS: Final = st.text(CHARACTERS, max_size=20)
OPTIONAL: Final = st.none() | TEXTS
ATTEMPTS: Final = st.builds(Attempt, TIMES, TEXTS)
KINDS: Final = st.sampled_from(["message", "presence", "iq"])
ENTRIES: Final = st.builds(
    Delivery.stored,
    UIDS,
    COMPONENTS,
    KINDS,
    TEXTS,
    TEXTS,
    OPTIONAL,
    OPTIONAL,
    st.text(CHARACTERS, max_size=60),
    TIMES,
    st.lists(ATTEMPTS, max_size=2).map(tuple),
    st.just(0),
    st.sampled_from([None, "room_joined", "room_left"]),
)


@st.composite
def settlements(draw: st.DrawFn) -> Settle:
    uid = draw(UIDS)
    places = draw(st.lists(PLACES, max_size=3))
    replies = [
        Outgoing(draw(st.binary(max_size=60)), draw(TIMES), draw(COMPONENTS), uid, place)
        for place in places
    ]
    return Settle(uid, tuple(replies), draw(TIMES), draw(st.none() | TEXTS))


NAMES: Final = st.sampled_from([b"k1", b"k2", b"k3", b"k4", b"k5"])
STATES: Final = st.sampled_from(["sent", "asked", "answered", "unanswered"])
CLAIMS: Final = st.builds(
    Claim,
    NAMES,
    st.binary(max_size=8),
    UIDS,
    TIMES | st.floats(0, 3 * CLAIM_S),
    STATES,
    OPTIONAL,
    OPTIONAL,
)


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    place = draw(st.integers(0, 2))
    reply = Outgoing(draw(st.binary(max_size=60)), draw(TIMES), draw(COMPONENTS), draw(UIDS), place)
    return Sent(reply, draw(KINDS), draw(TEXTS), draw(TEXTS), draw(OPTIONAL))


@st.composite
def sends(draw: st.DrawFn) -> Send:
    stanzas = draw(st.lists(sent(), min_size=1, max_size=3))
    return Send(tuple(stanzas), draw(st.none() | CLAIMS))


STATE_KINDS: Final = st.sampled_from(["room", "contact"])
STATE_NAMES: Final = (COMPONENTS, STATE_KINDS, st.sampled_from(["", "a", "b"]))
OPERATIONS: Final = st.one_of(
    sends(),
    st.builds(ClaimKey, CLAIMS),
    st.builds(AnswerKey, NAMES, STATES, OPTIONAL, OPTIONAL),
    st.builds(ReleaseKey, NAMES),
    ENTRIES,
    settlements(),
    st.builds(Confirm, st.lists(st.tuples(UIDS, PLACES), max_size=3).map(tuple)),
    st.builds(Attempted, UIDS, ATTEMPTS),
    st.builds(Abandon, UIDS, PLACES, TIMES, TEXTS),
    st.builds(Requeue, st.lists(UIDS, max_size=3).map(tuple), TIMES),
    st.builds(DropDead, st.none() | st.lists(UIDS, max_size=2).map(tuple)),
    st.builds(PutState, *STATE_NAMES, st.binary(max_size=8)),
    st.builds(DeleteState, *STATE_NAMES),
)


class Clock:
    """What only goes on: the store's clock."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


class AgainstModel(RuleBasedStateMachine):
    """Whatever is committed, in whatever batches, and however often the file is opened again.

    The times in operations are any: they do not make anything old.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model = Model(5, 150, 2 * CLAIM_S, 3, 80)
        self.journal = self.open()

    def open(self) -> SqliteStore:
        return SqliteStore(
            self.directory / "journal.db",
            dead_limit_count=5,
            dead_limit_bytes=150,
            dead_limit_age_s=2 * CLAIM_S,
            claim_limit_count=3,
            claim_limit_bytes=80,
            elapsed_s=self.clock,
        )

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.directory)

    @rule(operations=st.lists(OPERATIONS, max_size=30))
    def commit(self, operations: list[Operation]) -> None:
        self.commit_or_be_refused(operations)

    @rule(operations=st.lists(OPERATIONS, min_size=1, max_size=30))
    def commit_singly(self, operations: list[Operation]) -> None:
        for operation in operations:
            self.commit_or_be_refused([operation])

    def commit_or_be_refused(self, operations: list[Operation]) -> None:
        try:
            after = self.model.after(operations)
        except Refused:
            with pytest.raises(ImpossibleOperation):
                self.journal.commit(operations)
        else:
            self.journal.commit(operations)
            self.model = after

    @rule(by_s=st.sampled_from([1, 100, CLAIM_S / 2, CLAIM_S, 2 * CLAIM_S]))
    def let_time_pass(self, by_s: float) -> None:
        self.clock.now += by_s
        self.model.now += by_s

    @rule(down_s=st.sampled_from([0.0, CLAIM_S, 40 * CLAIM_S, -1e6]))
    def open_again(self, down_s: float) -> None:
        self.journal.close()
        self.clock.now += down_s  # as after a restart of the machine, too
        self.journal = self.open()

    @rule(uid=st.sampled_from(["", "a", "ab", "abc", "abcd", "b", "x"]))
    def find(self, uid: str) -> None:
        assert list(map(unnumbered, self.journal.find(uid))) == self.model.find(uid)

    @rule(limit=st.integers(1, 3), component=st.none() | COMPONENTS)
    def page(self, limit: int, component: str | None) -> None:
        found: list[Delivery] = []
        while page := self.journal.pending(
            component, after=found[-1].number if found else 0, limit=limit
        ):
            assert len(page) <= limit
            found += page
        assert found == self.journal.pending(component, limit=EVERYTHING)

    @invariant()
    def all_is_there(self) -> None:
        journal, model = self.journal, self.model
        pending, dead = journal.pending(None, limit=99), journal.dead(None, limit=99)
        assert list(map(unnumbered, pending)) == list(model.pending.values())
        assert list(map(unnumbered, dead)) == model.dead
        for component in ("bot", "echo"):
            assert journal.pending(component, limit=99) == [
                one for one in pending if one.component == component
            ]
            assert journal.dead(component, limit=99) == [
                one for one in dead if one.entry.component == component
            ]
            replies = journal.replies(component, limit=99)
            assert [one for _, one in replies] == [
                one for one, _ in model.replies if one.component == component
            ]
            for numbers in (
                [one.number for one in pending],
                [number for number, _ in replies],
                [one.entry.number for one in dead],
            ):
                assert numbers == sorted(set(numbers))
        assert journal.totals() == model.totals()
        claims = journal.claims([b"k1", b"k2", b"k3", b"k4", b"k5", b"other"])
        assert {one.name: one for one in claims} == model.current_claims
        for component in ("bot", "echo"):
            assert journal.state(component) == [
                StateEntry(kind, key, value)
                for (owner, kind, key), value in sorted(model.state.items())
                if owner == component
            ]


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


# --- the walk of a stanza that came of no entry


def send(*uids: str, claim: Claim | None = None, made: float = 2.5) -> Send:
    stanzas = (
        Sent(Outgoing(b"<b/>", made, "bot", uid, 0), "message", "me@bot", "you@a", "1")
        for uid in uids
    )
    return Send(tuple(stanzas), claim)


def claim(name: bytes, *, made: float = 2.5, answer: str | None = None) -> Claim:
    return Claim(name, b"digest", "u", made, "sent" if answer is None else "answered", answer)


def test_what_is_sent_is_a_reply_then_gone(journal: SqliteStore) -> None:
    journal.commit([send("u"), send("v")])
    assert [one.uid for _, one in journal.replies("bot", limit=9)] == ["u", "v"]
    assert journal.find("u") == [Outgoing(b"<b/>", 2.5, "bot", "u", 0)]
    assert journal.totals() == {"bot": Totals(replies=2)}
    journal.commit([Confirm((("u", 0), ("v", 0)))])
    assert journal.totals() == {}


def test_what_was_sent_and_abandoned_is_a_dead_letter_of_its_own(journal: SqliteStore) -> None:
    journal.commit([send("u"), Abandon("u", 0, 4, "it broke the stream")])
    [letter] = journal.dead("bot", limit=9)
    assert (letter.entry.stanza.kind, letter.entry.stanza.from_, letter.entry.stanza.to) == (
        "message",
        "me@bot",
        "you@a",
    )
    assert (letter.entry.stanza.id, letter.reply, letter.reason) == (
        "1",
        b"<b/>",
        "it broke the stream",
    )
    journal.commit([Requeue(("u",), 9)])
    assert dead_uids(journal) == ["u"]


def test_a_claim_is_kept_with_its_stanza_or_not_at_all(journal: SqliteStore) -> None:
    journal.commit([entry("p")])
    with pytest.raises(ImpossibleOperation):
        journal.commit([send("u", claim=claim(b"k")), entry("p")])
    assert journal.claims([b"k"]) == []
    assert journal.replies("bot", limit=9) == []
    journal.commit([send("u", claim=claim(b"k"))])
    assert journal.claims([b"k", b"l"]) == [claim(b"k")]


def test_claims_are_bounded_by_count_and_the_oldest_go_first(file: Path) -> None:
    with closing(SqliteStore(file, claim_limit_count=250)) as journal:
        names = [f"{number:03}".encode() for number in range(700)]
        journal.commit([send(f"u{name!r}", claim=claim(name)) for name in names])
        assert sorted(one.name for one in journal.claims(names)) == names[450:]


def test_a_claim_that_is_made_again_is_the_newest(file: Path) -> None:
    with closing(SqliteStore(file, claim_limit_count=1)) as journal:
        journal.commit(
            [
                send(uid, claim=claim(name))
                for uid, name in zip("abc", (b"k", b"l", b"k"), strict=True)
            ]
        )
        assert [one.name for one in journal.claims([b"k", b"l"])] == [b"k"]


def test_claims_are_bounded_by_bytes_with_their_answers(file: Path) -> None:
    with closing(SqliteStore(file, claim_limit_bytes=1000)) as journal:
        journal.commit([ClaimKey(claim(name)) for name in (b"k", b"l", b"m")])
        journal.commit([AnswerKey(b"l", "answered", "x" * 980, "en")])
        assert {one.name for one in journal.claims([b"k", b"l", b"m"])} == {b"l", b"m"}
        journal.commit([AnswerKey(b"m", "answered", "x" * 980, "en")])
        [left] = journal.claims([b"k", b"l", b"m"])
        assert (left.name, left.state, left.answer, left.lang) == (
            b"m",
            "answered",
            "x" * 980,
            "en",
        )


def test_a_claim_is_forgotten_after_a_day(file: Path) -> None:
    clock = Clock()
    with closing(SqliteStore(file, elapsed_s=clock)) as journal:
        journal.commit([send("u", claim=claim(b"k")), send("v", claim=claim(b"l"))])
        clock.now += CLAIM_S
        journal.commit([entry("p")])
        assert journal.claims([b"k", b"l"]) == [claim(b"k"), claim(b"l")]
        clock.now += 0.5
        assert journal.claims([b"k"]) == []  # also without another commit
        journal.commit([entry("q")])
        assert journal.claims([b"l"]) == []


DAY_S: Final = 86_400.0


@pytest.mark.parametrize("jump_s", [40 * DAY_S, -40 * DAY_S, 10_000 * DAY_S])
@pytest.mark.parametrize("again", [False, True])
def test_a_wall_clock_that_jumps_makes_nothing_old(file: Path, jump_s: float, again: bool) -> None:
    now = 1.8e9
    journal = SqliteStore(file)
    journal.commit([entry(uid) for uid in "abc"])
    journal.commit([Settle("a", (), now, "why"), send("s", claim=claim(b"k", made=now))])
    now += jump_s
    if again:
        journal.close()
        journal = SqliteStore(file)
    with closing(journal):
        journal.commit([Settle("b", (), now, "why"), replace(entry("d"), received=now)])
        journal.commit([send("t", claim=claim(b"l", made=now)), ClaimKey(claim(b"m", made=now))])
        journal.commit([Settle("c", (), now - jump_s, "why")])
        assert dead_uids(journal) == ["a", "b", "c"]
        assert len(journal.claims([b"k", b"l", b"m"])) == 3


def test_a_crash_makes_letters_younger_by_a_minute_at_most(file: Path) -> None:
    clock = Clock()
    journal = SqliteStore(file, dead_limit_age_s=1000, elapsed_s=clock)
    journal.commit([entry("a"), Settle("a", (), 3, "why")])
    for number in range(100):
        clock.now += 10
        journal.commit([entry(f"p{number}")])
    killed = file.with_name("killed")  # a copy is what a process that is killed leaves
    killed.mkdir()
    for path in file.parent.glob("journal.db*"):
        shutil.copy(path, killed)
    journal.close()
    with closing(SqliteStore(killed / file.name, dead_limit_age_s=1000, elapsed_s=clock)) as again:
        again.commit([entry("x")])
        assert dead_uids(again) == ["a"]
        clock.now += 61
        again.commit([entry("y")])
        assert dead_uids(again) == []


# --- the walk of an entry, told


def test_an_entry_is_pending_then_a_reply_then_gone(journal: SqliteStore) -> None:
    journal.commit([entry("u")])
    assert uids(journal.pending("bot", limit=9)) == ["u"]
    journal.commit([Settle("u", (reply("u", 1), reply("u", 2)))])
    assert journal.pending("bot", limit=9) == []
    assert [one for _, one in journal.replies("bot", limit=9)] == [reply("u", 1), reply("u", 2)]
    journal.commit([Confirm((("u", 1), ("u", 2)))])
    assert journal.totals() == {}


def test_to_settle_what_is_not_pending_does_nothing(journal: SqliteStore) -> None:
    journal.commit([Settle("u", (reply("u"),), 5, "late")])
    assert journal.totals() == {}
    journal.commit([entry("u"), Settle("u"), Settle("u", (reply("u"),), 5, "twice")])
    assert journal.totals() == {}


def test_a_revived_letter_keeps_its_attempts_and_goes_behind_all(journal: SqliteStore) -> None:
    tried = Attempt(1.25, "HTTP 500")
    journal.commit([entry("u"), Attempted("u", tried), Settle("u", (), 3, "why")])
    journal.commit([entry("v")])
    journal.commit([Requeue(("u",), 9)])
    first, second = journal.pending("bot", limit=9)
    assert (first.uid, second.uid, second.attempts, second.received) == ("v", "u", (tried,), 9)
    assert dead_uids(journal) == []


def test_requests_and_abandoned_replies_stay_dead(journal: SqliteStore) -> None:
    journal.commit([entry("q", kind="iq"), Settle("q", (), 3, "why")])
    journal.commit([entry("u"), Settle("u", (reply("u"),)), Abandon("u", 1, 4, "bad")])
    journal.commit([Requeue(("q", "u"), 9)])
    assert dead_uids(journal) == ["q", "u"]
    assert journal.totals() == {"bot": Totals(dead=2)}
    [_, letter] = journal.dead("bot", limit=9)
    assert (letter.reply, letter.reason, letter.entry.stanza.to) == (b"<b/>", "bad", "you@bot")


def test_what_a_revived_letter_says_again_is_confirmed_last(journal: SqliteStore) -> None:
    told, answered = reply("u", data=b"<error/>"), reply("u", data=b"<answer/>")
    journal.commit([entry("u"), Settle("u", (told,), 3, "gone")])
    journal.commit([Requeue(("u",), 9), Settle("u", (answered,))])
    journal.commit([Confirm((("u", 1),))])
    assert [one for _, one in journal.replies("bot", limit=9)] == [answered]


def test_one_that_is_impossible_undoes_its_batch(journal: SqliteStore) -> None:
    journal.commit([entry("u")])
    before = journal.totals()
    for operation in (
        entry("u"),
        replace(entry("x"), xml="\ud800"),
        replace(entry("x"), received=float("nan")),
        Confirm((("u", 2**70),)),
    ):
        with pytest.raises(ImpossibleOperation):
            journal.commit([entry("v"), DropDead(), operation])
        assert journal.totals() == before
    journal.commit([entry("v")])


# --- dead letters are bounded


def test_to_accept_what_is_pending_is_impossible_though_it_is_settled_next(file: Path) -> None:
    batch: list[Operation] = [entry("u"), Settle("u", (reply("u"),))]
    with closing(SqliteStore(file)) as journal:
        journal.commit([entry("u")])
        with pytest.raises(ImpossibleOperation):
            journal.commit(batch)
    with closing(SqliteStore(file)) as journal:  # which does not know it from before
        with pytest.raises(ImpossibleOperation):
            journal.commit(batch)
        assert uids(journal.pending("bot", limit=9)) == ["u"]
        assert journal.replies("bot", limit=9) == []


def test_what_was_undone_is_not_taken_for_pending(journal: SqliteStore) -> None:
    journal.commit([entry("u")])
    undone: list[Operation] = [Settle("u"), entry("v"), Attempted("v", Attempt(1, "x"))]
    with pytest.raises(ImpossibleOperation):
        journal.commit([*undone, Confirm((("u", 2**70),))])
    journal.commit([Settle("u", (reply("u"),)), Settle("v", (reply("v"),))])
    assert [one.uid for _, one in journal.replies("bot", limit=9)] == ["u"]
    assert journal.totals() == {"bot": Totals(replies=1)}


def test_what_becomes_pending_within_a_batch_is_settled_within_it(journal: SqliteStore) -> None:
    journal.commit([entry("d"), Settle("d", (), 3, "why")])
    journal.commit([Settle("x"), entry("u"), Settle("u", (reply("u"),))])
    journal.commit([Settle("x"), Requeue(("d",), 9), Settle("d", (reply("d"),))])
    assert [one.uid for _, one in journal.replies("bot", limit=9)] == ["u", "d"]
    assert journal.totals() == {"bot": Totals(replies=2)}


def test_what_is_not_pending_is_looked_for_once(reads: list[str], journal: SqliteStore) -> None:
    journal.commit([Settle(f"u{number}") for number in range(100)])
    assert len(reads) == 1


def test_a_claim_that_is_released_within_its_batch_is_gone(journal: SqliteStore) -> None:
    journal.commit([send("u", claim=claim(b"k")), ReleaseKey(b"k")])
    assert journal.claims([b"k"]) == []


SIZES: Final = (1, 15, 16, 17, 47, 63, 64, 65, 79, 80, 131)


@pytest.mark.parametrize("count", SIZES)
def test_a_batch_of_any_size_is_done_whole(journal: SqliteStore, count: int) -> None:
    names = [f"u{number:03}" for number in range(count)]
    journal.commit([entry(uid) for uid in names])
    assert uids(journal.pending("bot", limit=EVERYTHING)) == names
    journal.commit([Settle(uid, (reply(uid),)) for uid in names])
    assert journal.pending("bot", limit=EVERYTHING) == []
    assert [one.uid for _, one in journal.replies("bot", limit=EVERYTHING)] == names
    journal.commit([Confirm(tuple((uid, 1) for uid in names))])
    assert journal.totals() == {}


@pytest.mark.parametrize("xml", ["<a/>", "<a>%s</a>" % ("x" * 4096)])
def test_what_is_settled_is_read_only_where_it_is_not_known(
    reads: list[str], journal: SqliteStore, xml: str
) -> None:
    journal.commit([entry(uid, xml=xml) for uid in ("u", "v")])
    journal.commit([Settle("u", (reply("u"),)), Settle("v", (reply("v"),))])
    assert len(reads) == (len(xml) > 4096)
    assert [one.uid for _, one in journal.replies("bot", limit=9)] == ["u", "v"]


def test_what_is_read_and_known_is_bounded(reads: list[str], journal: SqliteStore) -> None:
    names = [f"u{number}" for number in range(6000)]
    for begin in range(0, 6000, 1000):
        journal.commit([entry(uid) for uid in names[begin : begin + 1000]])
    journal.commit([Settle(uid, (), 3, "why") for uid in names])
    assert journal.totals() == {"bot": Totals(dead=6000)}
    assert len(reads) == 5  # a thousand each: the first five thousand were forgotten


def test_the_oldest_letters_go_first(file: Path) -> None:
    with closing(SqliteStore(file, dead_limit_count=2)) as journal:
        for uid in "abc":
            journal.commit([entry(uid), Settle(uid, (), 3, "why")])
        assert dead_uids(journal) == ["b", "c"]


def test_letters_are_bounded_by_bytes(file: Path) -> None:
    with closing(SqliteStore(file, dead_limit_bytes=100)) as journal:
        for uid in "abc":
            journal.commit([entry(uid, xml="ä" * 25), Settle(uid, (), 3, "why")])
        assert dead_uids(journal) == ["b", "c"]


def test_letters_are_bounded_by_age(file: Path) -> None:
    clock = Clock()
    with closing(SqliteStore(file, dead_limit_age_s=10, elapsed_s=clock)) as journal:
        for uid in "ab":
            journal.commit([entry(uid), Settle(uid, (), 100, "why")])
            clock.now += 5
        journal.commit([entry("c")])
        assert dead_uids(journal) == ["a", "b"]
        clock.now += 1
        journal.commit([entry("d")])
        assert dead_uids(journal) == ["b"]
    clock.now += 1e6  # nobody had it open
    with closing(SqliteStore(file, dead_limit_age_s=10, elapsed_s=clock)) as journal:
        clock.now += 4
        journal.commit([entry("e")])
        assert dead_uids(journal) == ["b"]
        clock.now += 1
        journal.commit([entry("f")])
        assert dead_uids(journal) == []


# --- the file


def test_the_file_and_its_directory_are_private(journal: SqliteStore, file: Path) -> None:
    journal.commit([entry("u")])
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in file.parent.iterdir()}
    assert modes == dict.fromkeys(FILES, 0o600)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o640, 0o604, 0o600])
def test_an_existing_file_becomes_private(file: Path, mode: int) -> None:
    journal = SqliteStore(file)
    journal.commit([entry("u")])
    for path in file.parent.iterdir():  # as a process that is killed leaves them
        path.chmod(mode)
    with closing(SqliteStore(file)) as again:
        again.commit([entry("v")])
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in file.parent.iterdir()}
        assert modes == dict.fromkeys(FILES, 0o600)
    journal.close()


@pytest.mark.parametrize("content", [None, b"", b"precious"], ids=str)
def test_a_symbolic_link_is_refused(file: Path, tmp_path: Path, content: bytes | None) -> None:
    target = tmp_path / "target"
    if content is not None:
        target.write_bytes(content)
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(target)
    with pytest.raises(JournalError, match="is a symbolic link; name the directory"):
        SqliteStore(file)
    assert (target.read_bytes() if target.exists() else None) == content


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_durability_says_when_the_disk_is_waited_for(
    file: Path, durability: str, synchronous: int
) -> None:
    with closing(SqliteStore(file, "power" if durability == "power" else "process")) as journal:
        assert journal._database.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert journal._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_close_leaves_one_file(file: Path) -> None:
    with closing(SqliteStore(file)) as journal:
        journal.commit([entry("u")])
    assert [one.name for one in file.parent.iterdir()] == ["journal.db"]


def test_the_file_does_not_grow_with_what_passes(journal: SqliteStore, file: Path) -> None:
    batch, waiting = 500, 1000
    for start in range(0, 200_000, batch):
        accepted = range(start, start + batch)
        settled = range(start - waiting, start - waiting + batch) if start >= waiting else ()
        journal.commit(
            [
                *(entry(f"u{number}", xml="<a/>" * 50) for number in accepted),
                *(Settle(f"u{number}", (reply(f"u{number}"),)) for number in settled),
                *(Confirm(((f"u{number}", 1),)) for number in settled),
            ]
        )
    assert journal.totals()["bot"].pending == waiting
    assert sum(one.stat().st_size for one in file.parent.iterdir()) < 12_000_000


# --- faults


def refusal(file: Path, *expected: str) -> JournalError:
    """Open a journal, which fails, and return the error; its text has all that is expected."""
    with pytest.raises(JournalError) as caught:
        SqliteStore(file, busy_timeout_s=0)
    for one in (*expected, str(file)):
        assert one in str(caught.value)
    return caught.value


def test_a_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(JournalError, match=r"state is not a directory; use another"):
        SqliteStore(tmp_path / "state" / "journal.db")


def test_a_directory_that_cannot_be_written_is_named() -> None:
    with open_directory() as path:
        path.chmod(0o555)
        with unprivileged():
            refusal(path / "deeper" / "journal.db", "Permission denied", "writable for user")
            refusal(path / "journal.db", "Permission denied", "writable for user")


def test_a_read_only_file_is_named() -> None:
    with open_directory() as path:
        file = path / "journal.db"
        SqliteStore(file).close()
        file.chmod(0o444)
        path.chmod(0o555)
        with unprivileged():
            refusal(file, "writable for user")


def test_what_is_no_database_is_said_to_be_none(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"not at all a database " * 1000)
    refusal(file, "damaged, or not a database", "move", "a new one is created", ".recover")


def test_somebody_elses_database_is_left_alone(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE theirs (a)")
    before = file.read_bytes()
    refusal(file, "is a database, but not a journal")
    assert file.read_bytes() == before


def test_a_newer_journal_is_left_alone(file: Path) -> None:
    SqliteStore(file).close()
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 7")
    refusal(file, "from a newer version: its format is 7, this program's 6")


def fill(file: Path) -> None:
    with closing(SqliteStore(file)) as journal:
        journal.commit([entry(f"u{number}", xml="<a/>" * 100) for number in range(1000)])


def overwrite(file: Path) -> None:
    """Write over most of its pages, and leave the first ones."""
    with file.open("r+b") as opened:
        opened.seek(200_000)
        opened.write(b"\x5a" * (file.stat().st_size - 250_000))


VERSION_1: Final = """
CREATE TABLE pending (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, component TEXT NOT NULL,
  kind TEXT NOT NULL, from_ TEXT NOT NULL, to_ TEXT NOT NULL, id TEXT, lang TEXT,
  received REAL NOT NULL, attempts TEXT NOT NULL, weight INTEGER NOT NULL, xml TEXT NOT NULL);
CREATE TABLE reply (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL, place INTEGER NOT NULL, component TEXT NOT NULL,
  made REAL NOT NULL, kind TEXT NOT NULL, from_ TEXT NOT NULL, to_ TEXT NOT NULL, id TEXT,
  data BLOB NOT NULL);
CREATE INDEX reply_uid ON reply (uid, place);
CREATE TABLE dead (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL, component TEXT NOT NULL,
  kind TEXT NOT NULL, from_ TEXT NOT NULL, to_ TEXT NOT NULL, id TEXT, lang TEXT,
  received REAL NOT NULL, attempts TEXT NOT NULL, weight INTEGER NOT NULL, died REAL NOT NULL,
  reason TEXT NOT NULL, reply BLOB, xml TEXT NOT NULL);
CREATE INDEX dead_uid ON dead (uid);
CREATE TABLE probe (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
INSERT INTO probe VALUES (1, zeroblob(65536));
INSERT INTO pending VALUES
  (1, 'p', 'bot', 'message', 'me@a/x', 'you@bot', NULL, 'en', 1.5, '[1.25,"HTTP 500"]', 4, '<a/>');
INSERT INTO reply VALUES (2, 'r', 1, 'bot', 2.5, 'message', 'me@a/x', 'you@bot', NULL, x'3c622f3e');
INSERT INTO dead VALUES
  (3, 'd', 'bot', 'iq', 'me@a/x', 'you@bot', '1', NULL, 1.5, '', 4, 3, 'why', NULL, '<a/>');
PRAGMA application_id = 0x584D5042;
PRAGMA user_version = 1;
"""
"""A journal as its first version wrote it."""


def write_version_1(file: Path) -> None:
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(VERSION_1)


def test_a_journal_of_the_first_version_is_taken_over(file: Path) -> None:
    write_version_1(file)
    for _ in range(2):  # as it was made into the present one, and then found
        with closing(SqliteStore(file)) as journal:
            tried = Attempt(1.25, "HTTP 500")
            [pending] = journal.pending("bot", limit=9)
            assert pending == replace(entry("p"), attempts=(tried,), number=1)
            assert journal.replies("bot", limit=9) == [(2, reply("r"))]
            [dead] = journal.dead("bot", limit=9)
            assert (dead.entry.uid, dead.entry.number, dead.reason) == ("d", 3, "why")
            assert journal.claims([b"k"]) == []
    with closing(SqliteStore(file)) as journal:
        journal.commit([send("s", claim=claim(b"k"))])
        assert journal.replies("bot", limit=9)[-1] == (4, Outgoing(b"<b/>", 2.5, "bot", "s", 0))
        assert journal.claims([b"k"]) == [claim(b"k")]
        journal.commit([PutState("bot", "room", "a@muc", b"{}")])
    with closing(SqliteStore(file)) as journal:
        assert journal.state("bot") == [StateEntry("room", "a@muc", b"{}")]
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(6,)]


def test_a_journal_that_cannot_be_taken_over_stays_as_it_was(file: Path) -> None:
    write_version_1(file)
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE claim (something TEXT)")
    with pytest.raises(JournalError):
        SqliteStore(file)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(1,)]
        assert database.execute("SELECT uid FROM pending").fetchall() == [("p",)]


def test_damage_is_found_at_the_start(file: Path) -> None:
    fill(file)
    overwrite(file)
    refusal(file, "is damaged", "move", "a new one is created", "sqlite3 journal.db .recover")


def test_damage_is_found_while_running(journal: SqliteStore, file: Path) -> None:
    fill(file)
    overwrite(file)
    with pytest.raises(JournalError, match=r"is damaged .*\.recover") as caught:
        journal.pending(None, limit=EVERYTHING)
    assert not isinstance(caught.value, ImpossibleOperation)
    with pytest.raises(JournalError, match=r"is damaged"):
        journal.commit([Settle(f"u{number}") for number in range(1000)])


def test_a_lock_within_this_process_is_somebody_elses(journal: SqliteStore, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="is locked by another process"):
            journal.commit([entry("u")])
        refusal(file, "is locked by another process")
        other.execute("ROLLBACK")
    journal.commit([entry("u")])
    assert uids(journal.pending(None, limit=9)) == ["u"]


HOLD: Final = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_who_holds_a_lock_is_named(journal: SqliteStore, file: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(JournalError, match=rf"is locked by process {other.pid} \(.+\); stop"):
            journal.commit([entry("u")])
        other.communicate()
    journal.commit([entry("u")])


def test_a_full_disk_is_said_to_be_full(journal: SqliteStore, file: Path) -> None:
    journal.commit([entry("before")])
    journal._database.execute("PRAGMA max_page_count = 1")  # as many as it has
    with pytest.raises(JournalError, match=r"no room for .*journal.db: its disk is full; make roo"):
        journal.commit([entry(f"u{n}", xml="<a/>" * 1000) for n in range(100)])
    assert journal.totals()["bot"].pending == 1
    journal._database.execute("PRAGMA max_page_count = 1000000")
    journal.commit([entry("after")])
    assert uids(journal.pending(None, limit=9)) == ["before", "after"]


def test_the_stanzas_of_one_request_are_kept_all_or_none(journal: SqliteStore) -> None:
    many = [f"u{n}" for n in range(5000)]  # more than one statement takes
    journal._database.execute("PRAGMA max_page_count = 40")
    with pytest.raises(JournalError, match="its disk is full"):
        journal.commit([send(*many, claim=claim(b"k"))])
    assert journal.replies("bot", limit=9999) == []
    assert journal.claims([b"k"]) == []
    journal._database.execute("PRAGMA max_page_count = 1000000")
    journal.commit([send(*many, claim=claim(b"k"))])
    assert [one.uid for _, one in journal.replies("bot", limit=9999)] == many
    assert journal.claims([b"k"]) == [claim(b"k")]


def test_a_write_that_fails_undoes_its_batch(journal: SqliteStore, file: Path) -> None:
    journal.commit([entry("before")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (file.parent / "journal.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        batches: list[list[Operation]] = [[entry("u"), Settle("before")], []]
        for operations in batches:
            with pytest.raises(JournalError, match=r"cannot write or read .*IOERR.*ulimit -f"):
                journal.commit(operations)
        assert uids(journal.pending(None, limit=9)) == ["before"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.commit([])
    journal.commit([entry("after")])
    assert uids(journal.pending(None, limit=9)) == ["before", "after"]


def test_a_probe_writes(journal: SqliteStore, file: Path) -> None:
    journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.commit([])
    assert os.path.getsize(f"{file}-wal") > 64 * 1024
    assert journal.totals() == {}


# --- files that are not the opened ones any more


def delete(file: Path) -> None:
    file.unlink()


def replace_by_a_copy(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copy2(file, copy)
    copy.replace(file)


def move_the_directory(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))


def recreate_the_directory(file: Path) -> None:
    shutil.rmtree(file.parent)
    with StateDirectory(file.parent).lock(), closing(SqliteStore(file.parent / "journal.db")):
        pass


DEEDS: Final = (delete, replace_by_a_copy, move_the_directory, recreate_the_directory)


@pytest.mark.parametrize("operations", [[], [entry("b")]], ids=["probe", "batch"])
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "journal.db-shm", "lock"])
def test_a_file_that_is_not_the_opened_one_is_noticed(
    tmp_path: Path, name: str, deed: Callable[[Path], None], operations: list[Operation]
) -> None:
    directory, clock = StateDirectory(tmp_path / "state"), Clock()
    with directory.lock():
        opened = partial(SqliteStore, lock_file=directory.lock_file, elapsed_s=clock)
        with closing(opened(directory.journal_file)) as journal:
            journal.commit([entry("a")])
            deed(directory.path / name)
            clock.now += 1
            for _ in range(2):  # it stays so
                with pytest.raises(JournalError, match="is not the file that was opened") as told:
                    journal.commit(operations)
            assert "restart the bridge" in told.value.hint
            assert uids(journal.pending(None, limit=EVERYTHING)) == ["a"]


def test_a_file_that_is_put_back_is_used_again(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "state")
    elsewhere = tmp_path / "elsewhere"
    with closing(SqliteStore(directory.journal_file)) as journal:
        directory.path.rename(elsewhere)
        with pytest.raises(JournalError):
            journal.commit([])
        elsewhere.rename(directory.path)
        journal.commit([])


def test_another_link_to_a_file_does_not_matter(journal: SqliteStore, file: Path) -> None:
    """A backup by hard links."""
    os.link(file, file.with_name("backup"))
    journal.commit([])


def test_files_are_looked_for_once_a_second_and_at_each_probe(file: Path) -> None:
    clock = Clock()
    with closing(SqliteStore(file, elapsed_s=clock)) as journal:
        shutil.rmtree(file.parent)
        clock.now += 0.9
        journal.commit([entry("a")])
        with pytest.raises(JournalError):
            journal.commit([])
        with pytest.raises(JournalError):  # and then at once
            journal.commit([entry("b")])


# --- a log that is being read

LOG_LIMIT: Final = 2**20
BATCH: Final = 50


def pass_through(journal: SqliteStore, clock: Clock, batches: int) -> None:
    """Accept and settle entries: all of it passes through the log."""
    for number in range(batches):
        clock.now += 0.1
        entries = [entry(f"{clock.now}-{number}-{one}", xml="x" * 500) for one in range(BATCH)]
        journal.commit(entries)
        journal.commit([Settle(one.uid) for one in entries])


def test_a_log_that_is_being_read_is_bounded_and_told_of(file: Path) -> None:
    clock, log = Clock(), file.with_name("journal.db-wal")
    with closing(SqliteStore(file, log_limit_bytes=LOG_LIMIT, elapsed_s=clock)) as journal:
        with closing(sqlite3.connect(file, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM pending").fetchall() == [(0,)]
            with pytest.raises(JournalError, match=r"the log of .* has grown to 1 MiB, because it"):
                pass_through(journal, clock, 1000)
            assert log.stat().st_size < 1.5 * LOG_LIMIT
            for operations in ([], [entry("a")]):  # and no more is written while it lasts
                with pytest.raises(JournalError) as told:
                    journal.commit(operations)
            assert told.value.hint == "end that read: the log cannot be emptied meanwhile"
            assert log.stat().st_size < 1.5 * LOG_LIMIT
        journal.commit([entry("a")])
        assert log.stat().st_size < LOG_LIMIT
        pass_through(journal, clock, 100)
    assert not log.exists()


def test_a_log_is_not_waited_for_at_the_end(file: Path) -> None:
    journal = SqliteStore(file, busy_timeout_s=1000)
    journal.commit([entry("a")])
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT uid FROM pending").fetchall() == [("a",)]
        journal.commit([entry("b")])
        journal.close()
    with closing(SqliteStore(file)) as journal:
        assert uids(journal.pending(None, limit=EVERYTHING)) == ["a", "b"]
