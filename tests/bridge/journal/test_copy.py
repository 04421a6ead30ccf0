"""A journal that is copied as a whole: all is there, in its order, and nothing is mixed."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.journal import copy as copying
from bridge.journal.copy import ArchiveStore, Copied, check_empty, copy
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import (
    Abandon,
    Claim,
    ClaimKey,
    ImpossibleOperation,
    JournalError,
    Operation,
    PutState,
    Send,
    Sent,
    Settle,
)
from bridge.xmpp.outbox import Outgoing
from tests.bridge.journal.sqlite.test_store import OPERATIONS

EVERYTHING: Final = 10_000
CLAIM: Final = Claim(b"name", b"digest", "msg_c", 3.5, "answered", "<iq/>", "en")
ATTEMPTS: Final = (Attempt(2.5, "status 500"), Attempt(3.5, "timed out"))


def entry(uid: str, component: str = "bot", kind: str = "message") -> Delivery:
    about = (uid, component, kind, "me@a/x", "you@bot", "1", "en")
    return Delivery.stored(*about, f"<a>{uid}</a>", 1.5, ATTEMPTS, 0, "room_joined")


def reply(uid: str, place: int = 1) -> Outgoing:
    return Outgoing(f"<b>{uid}</b>".encode(), 2.5, "bot", uid, place)


ONE_OF_EACH: Final[list[Operation]] = [
    entry("gone"),
    entry("dead"),
    Settle("dead", (reply("dead", 1), reply("dead", 2)), 4.5, "gave up"),
    entry("refused"),
    Settle("refused", (reply("refused"),)),
    Abandon("refused", 1, 5.5, "the server closed the stream"),
    entry("first"),
    entry("second", "echo", "iq"),
    Settle("gone"),
    Send((Sent(reply("sent", 0), "message", "bot", "you@a", None),), CLAIM),
    ClaimKey(evolve(CLAIM, name=b"asked", state="asked", answer=None)),
    PutState("bot", "room", "a@rooms", b"1"),
    PutState("echo", "room", "a@rooms", b"2"),
]


@contextmanager
def two_journals() -> Iterator[tuple[SqliteStore, SqliteStore]]:
    with (
        TemporaryDirectory() as directory,
        closing(opened(Path(directory, "a"))) as source,
        closing(opened(Path(directory, "b"))) as target,
    ):
        yield source, target


def opened(directory: Path) -> SqliteStore:
    return SqliteStore(directory / "journal.db")


@pytest.fixture
def journals() -> Iterator[tuple[SqliteStore, SqliteStore]]:
    with two_journals() as both:
        yield both


def content(store: ArchiveStore) -> dict[str, object]:
    """Return everything that a store holds, without the numbers."""
    limit = EVERYTHING
    dead = store.dead(None, limit=limit)
    return {
        "pending": [replace(one, number=0) for one in store.pending(None, limit=limit)],
        "dead": [evolve(one, entry=replace(one.entry, number=0)) for one in dead],
        "replies": [one for _, one in store.sent(after=0, limit=limit)],
        "keys": [one for _, one in store.all_claims(after=0, limit=limit)],
        "state": store.all_state(after=("", "", ""), limit=limit),
    }


def test_everything_is_copied(journals: tuple[SqliteStore, SqliteStore]) -> None:
    source, target = journals
    source.commit(ONE_OF_EACH)
    before = content(source)
    assert all(before.values())
    copied = copy(source, target)
    assert copied == Copied(pending=2, replies=3, dead=2, keys=2, state=2)
    assert content(target) == before
    assert content(source) == before


@given(batches=st.lists(st.lists(OPERATIONS, max_size=30), max_size=4), page=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_whatever_it_holds(batches: Sequence[Sequence[Operation]], page: int) -> None:
    with two_journals() as (source, target), pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "PAGE", page)
        for batch in batches:
            with suppress(ImpossibleOperation):
                source.commit(batch)
        before = content(source)
        copy(source, target)
        assert content(target) == before


def test_a_copy_works_like_its_source(journals: tuple[SqliteStore, SqliteStore]) -> None:
    source, target = journals
    source.commit(ONE_OF_EACH)
    copy(source, target)
    after: list[Operation] = [
        Settle("first", (reply("first"),)),
        Abandon("sent", 0, 6.5, "the server closed the stream"),
        Abandon("dead", 2, 7.5, "the server closed the stream"),
    ]
    for store in journals:
        store.commit(after)
    assert content(target) == content(source)


def test_progress_counts_stanzas(
    journals: tuple[SqliteStore, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PAGE", 2)
    source, target = journals
    source.commit(ONE_OF_EACH)
    source.commit([entry(f"more{n}") for n in range(3)])
    steps: list[int] = []
    copy(source, target, steps.append)
    assert steps == [2, 2, 2, 1, 2, 1]
    assert sum(steps) == copying.stanzas_in(source)


CONTENTS: Final[list[tuple[Operation, str]]] = [
    (entry("first"), "1 stanza"),
    (ClaimKey(CLAIM), "idempotency keys"),
    (PutState("bot", "room", "a", b""), "rooms, subscribers or profiles"),
]


@pytest.mark.parametrize(("operation", "held"), CONTENTS)
def test_only_an_empty_journal_takes_a_copy(
    journals: tuple[SqliteStore, SqliteStore], operation: Operation, held: str
) -> None:
    store, empty = journals
    store.commit([operation])
    with pytest.raises(JournalError, match=f"the target is not empty: it holds {held};"):
        check_empty(store, "the target")
    check_empty(empty, "the target")


def test_a_source_that_changes_meanwhile_is_noticed(
    journals: tuple[SqliteStore, SqliteStore],
) -> None:
    source, target = journals
    source.commit([entry("first"), entry("second", "echo")])

    def interfere(_: int) -> None:
        source.commit([Settle("second")])

    with pytest.raises(JournalError, match="differs from its source in what it holds of echo"):
        copy(source, target, interfere)
