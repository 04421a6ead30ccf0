"""Claims of idempotency keys: in memory and in the journal, for a day, and only so many."""

from collections.abc import Collection
from typing import Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal import committer
from bridge.journal.committer import Committer
from bridge.journal.idempotency import (
    IdempotencyStore,
    JournalIdempotencyStore,
    MemoryIdempotencyStore,
    claim_name,
)
from bridge.journal.store import CLAIM_S, Claim, JournalError
from tests.bridge.dispatch.life import START, Disk
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.recorder import Recorder

K: Final = Claim(b"k", b"digest", "msg_1", START, "sent")
ASKED: Final = Claim(b"q", b"digest", "msg_2", START, "asked")
FAILURE: Final = JournalError("the disk is full", "make room")


class Told:
    """What `then` was told."""

    def __init__(self) -> None:
        self.by: list[bool] = []

    def __call__(self, done: bool) -> None:
        self.by.append(done)


class CountingJournal(MemoryJournal):
    """A journal that notes how many claims it is asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def claims(self, names: Collection[bytes]) -> list[Claim]:
        self.asked.append(len(names))
        return super().claims(names)


class Watch:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Stage:
    """Claims in a journal, and what is around them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = CountingJournal()
        self.disk = Disk()
        with monkeypatch.context() as patch:
            patch.setattr(committer, "Thread", lambda _: self.disk)
            self.committer = Committer(self.journal, Recorder().logger())
        self.claims = JournalIdempotencyStore(self.committer)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def stage(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(monkeypatch)
    await nursery.start(made.committer.run)
    return made


@pytest.fixture(params=["memory", "journal"])
def claims(request: pytest.FixtureRequest, stage: Stage, watch: Watch) -> IdempotencyStore:
    return MemoryIdempotencyStore(now=watch) if request.param == "memory" else stage.claims


def keep(claims: IdempotencyStore, claim: Claim) -> Told:
    told = Told()
    claims.begin(claim, told)
    return told


def test_a_name_is_that_of_one_key_in_one_realm() -> None:
    names = [claim_name(*pair) for pair in (("a", "bc"), ("ab", "c"), ("a", "b"), ("", "abc"))]
    assert len(set(names)) == 4
    assert claim_name("a", "bc") == names[0]
    assert len(claim_name("a", "x" * 10_000)) == 32
    assert len(claim_name("a", "\ud800")) == 32


async def test_what_is_kept_is_found(claims: IdempotencyStore) -> None:
    assert await claims.find(b"k") is None
    told = keep(claims, K)
    assert await claims.find(b"k") == K
    assert await claims.find(b"l") is None
    assert told.by == [True]


async def test_what_became_of_it(claims: IdempotencyStore) -> None:
    keep(claims, ASKED)
    told = Told()
    claims.answer(b"q", "answered", "<iq/>", "cs", told)
    claims.answer(b"x", "answered", "<iq/>", None, told)
    assert await claims.find(b"q") == evolve(ASKED, state="answered", answer="<iq/>", lang="cs")
    assert await claims.find(b"x") is None
    assert told.by == [True, True]


async def test_what_came_to_nothing_is_free(claims: IdempotencyStore) -> None:
    keep(claims, ASKED)
    claims.release(b"q")
    claims.release(b"x")
    assert await claims.find(b"q") is None


async def test_a_claim_lasts_a_day(watch: Watch) -> None:
    claims = MemoryIdempotencyStore(now=watch)
    keep(claims, K)
    watch.now += CLAIM_S
    assert await claims.find(b"k") == K
    watch.now += 0.5
    assert await claims.find(b"k") is None


@pytest.mark.parametrize("made", [START - 40 * 86_400, START + 40 * 86_400])
async def test_a_claim_lasts_a_day_whatever_the_wall_clock_says(made: float) -> None:
    claims = MemoryIdempotencyStore()
    keep(claims, evolve(K, made=made))
    claims.sent(evolve(K, name=b"l", made=START))
    assert await claims.find(b"k") == evolve(K, made=made)


async def test_memory_keeps_so_many(watch: Watch) -> None:
    claims = MemoryIdempotencyStore(2, now=watch)
    for name in (b"1", b"2", b"1", b"3"):  # the second time, 1 is newer than 2
        claims.sent(evolve(K, name=name))
    assert [await claims.find(name) is None for name in (b"1", b"2", b"3")] == [False, True, False]
    assert len(claims) == 2


async def test_memory_keeps_so_many_bytes_of_answers(watch: Watch) -> None:
    claims = MemoryIdempotencyStore(limit_bytes=10, now=watch)
    for name in (b"1", b"2", b"3"):
        keep(claims, evolve(ASKED, name=name))
        claims.answer(name, "answered", "x" * 5, None, Told())
    assert [await claims.find(name) is None for name in (b"1", b"2", b"3")] == [True, False, False]
    claims.release(b"2")
    claims.sent(evolve(K, name=b"4"))
    keep(claims, evolve(ASKED, name=b"5"))
    claims.answer(b"5", "answered", "x" * 5, None, Told())
    assert len(claims) == 3


async def test_memory_forgets_what_is_old(watch: Watch) -> None:
    claims = MemoryIdempotencyStore(now=watch)
    claims.sent(K)
    watch.now += CLAIM_S + 1
    claims.sent(evolve(K, name=b"l", made=START + CLAIM_S + 1))
    assert len(claims) == 1


async def test_many_questions_are_one_for_the_journal(stage: Stage, nursery: trio.Nursery) -> None:
    for number in range(100):
        keep(stage.claims, evolve(K, name=b"%d" % number))
    await wait_all_tasks_blocked()
    found: list[Claim | None] = []

    async def find(name: bytes) -> None:
        found.append(await stage.claims.find(name))

    stage.disk.hold()
    nursery.start_soon(find, b"0")
    await wait_all_tasks_blocked()
    for number in range(1, 101):
        nursery.start_soon(find, b"%d" % number)
    await wait_all_tasks_blocked()
    stage.disk.release()
    await wait_all_tasks_blocked()
    assert stage.journal.asked[-2:] == [1, 100]
    assert (len(found), found.count(None)) == (101, 1)


async def test_a_claim_is_not_found_while_the_journal_fails(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stage.journal.failure = FAILURE
    told = keep(stage.claims, K)
    await wait_all_tasks_blocked()
    assert told.by == [False]
    failed: list[str] = []

    async def find() -> None:
        with pytest.raises(JournalError) as caught:
            await stage.claims.find(b"k")
        failed.append(str(caught.value))

    for _ in range(2):
        nursery.start_soon(find)
    await wait_all_tasks_blocked()
    assert failed == [str(FAILURE)] * 2
    stage.journal.failure = None
    await trio.sleep(1.5)
    assert await stage.claims.find(b"k") is None  # it was refused, and is forgotten


async def test_an_answer_is_kept_when_the_journal_works_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    keep(stage.claims, ASKED)
    await wait_all_tasks_blocked()
    stage.journal.failure = FAILURE
    told = Told()
    stage.claims.answer(b"q", "answered", "<iq/>", None, told)
    await wait_all_tasks_blocked()
    assert told.by == [False]
    stage.journal.failure = None
    await trio.sleep(1.5)
    found = await stage.claims.find(b"q")
    assert found is not None
    assert found.answer == "<iq/>"
