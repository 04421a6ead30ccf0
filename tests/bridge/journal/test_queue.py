"""Who keeps what was accepted: what is delivered, refused and forgotten, in which order, and how
much of it is in memory. The journal is one in memory, its committer the real one.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.journal import committer
from bridge.journal.committer import Committer
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.durable import JournalQueue
from bridge.journal.queue import MEMORY_COUNT, MemoryQueue, Quota
from bridge.journal.store import Claim, DropDead, JournalError, Requeue, Settle, Totals
from bridge.xmpp.outbox import Outgoing
from tests.bridge.dispatch.life import BOT, DOMAIN, START, Disk
from tests.bridge.dispatch.life import parse as parse_soon
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from xmppstream import Element, RemoteError
from xmppstream.errors import StreamCondition

FAILURE: Final = JournalError("the disk is full")


def delivery(id: str, kind: str = "message", body: str = "hi", weight: int = 1000) -> Delivery:
    inner = "<q xmlns='urn:q'/>" if kind == "iq" else f"<body>{body}</body>"
    type = " type='get'" if kind == "iq" else ""
    one = stanza(f"<{kind} id='{id}' from='a@x/1' to='{BOT}'{type}>{inner}</{kind}>", "cs")
    return Delivery(one, START, weight, uid=f"msg_{id}", component=DOMAIN)


def entry(id: str, kind: str = "message") -> Delivery:
    return delivery(id, kind)


class Took:
    """A receiver."""

    def __init__(self) -> None:
        self.delivered: list[Delivery] = []
        self.refused: list[Delivery] = []

    def begin(self, delivery: Delivery) -> bool:
        return False

    def deliver(self, delivery: Delivery) -> None:
        self.delivered.append(delivery)

    def refuse(self, delivery: Delivery) -> None:
        self.refused.append(delivery)


async def settle(
    queue: MemoryQueue | JournalQueue,
    one: Delivery,
    replies: Sequence[bytes] = (),
    reason: str | None = None,
) -> list[Outgoing]:
    """End a stanza; give its replies once they may be sent."""
    sent: list[Outgoing] = []
    done = trio.Event()

    def then(replies: Sequence[Outgoing]) -> None:
        sent.extend(replies)
        done.set()

    queue.settle(one, list(replies), START, reason, then)
    await done.wait()
    return sent


class Keeping:
    """A keeper, and what it did with what it was given."""

    def __init__(
        self,
        journal: MemoryJournal,
        *,
        window: int = 1000,
        parse: Callable[[bytes], Awaitable[Element]] = parse_soon,
        volume: Quota | None = None,
        overlaps: bool = False,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.journal = journal
        self.can_begin = True
        self.disk = Disk()
        self.log = Recorder()
        self.delivered: list[Delivery] = []
        self.refused: list[Delivery] = []
        self.most = 0
        with monkeypatch.context() as patch:
            patch.setattr(committer, "Thread", lambda _: self.disk)
            self.committer = Committer(journal, self.log.logger())
        self.volume = volume or Quota()
        self.queue = JournalQueue(
            DOMAIN,
            self.committer,
            self.volume,
            parse,
            self.log.logger(),
            lambda: START,
            Quota(window),
            overlaps=overlaps,
        )
        found = journal.totals().get(DOMAIN, Totals())
        self.volume.count += found.pending
        self.volume.bytes += found.pending_bytes
        self.queue.recover(found)

    def begin(self, delivery: Delivery) -> bool:
        if self.can_begin:
            self.delivered.append(delivery)
        return self.can_begin

    def deliver(self, delivery: Delivery) -> None:
        self.delivered.append(delivery)

    def refuse(self, delivery: Delivery) -> None:
        self.refused.append(delivery)

    @property
    def ids(self) -> list[str | None]:
        return [one.stanza.id for one in self.delivered]

    async def accept(self, *items: Delivery) -> None:
        for one in items:
            self.queue.accept(one, self)
        await wait_all_tasks_blocked()

    async def settle(
        self, *ids: str, replies: tuple[bytes, ...] = (), reason: str | None = None
    ) -> list[Outgoing]:
        """End what was delivered."""
        sent: list[Outgoing] = []
        for id in ids:
            [one] = [one for one in self.delivered if one.stanza.id == id]
            sent += await settle(self.queue, one, replies, reason)
        await wait_all_tasks_blocked()
        return sent


Start = Callable[..., Awaitable[Keeping]]


@pytest.fixture
def start(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a keeper on a journal, as often as one likes."""

    async def begin(
        journal: MemoryJournal,
        *,
        window: int = 1000,
        parse: Callable[[bytes], Awaitable[Element]] = parse_soon,
        overlaps: bool = False,
    ) -> Keeping:
        keeping = Keeping(
            journal, window=window, parse=parse, overlaps=overlaps, monkeypatch=monkeypatch
        )
        await nursery.start(keeping.committer.run)
        nursery.start_soon(keeping.queue.run, keeping)
        await wait_all_tasks_blocked()
        return keeping

    return begin


# --- in memory only


async def test_memory_delivers_at_once_and_forgets() -> None:
    queue = MemoryQueue(Quota(2, 5000))
    took = Took()
    delivered = took.delivered
    one, two = delivery("1"), delivery("2", weight=4000)
    queue.accept(one, took)
    assert (delivered, queue.fullness, queue.durable) == ([one], 0.5, False)
    queue.accept(two, took)
    assert queue.fullness == 1
    queue.attempted(one)
    assert await settle(queue, one, [b"<a/>"], "a reason") == [Outgoing(b"<a/>", START)]
    assert queue.fullness == 0.8  # by bytes
    await settle(queue, two)
    assert queue.fullness == 0
    queue.confirm([Outgoing(b"", 0)])
    queue.abandon(Outgoing(b"", 0), "why")


# --- what came of no other stanza


def sending(queue: MemoryQueue | JournalQueue, id: str, claim: Claim | None = None) -> list[Any]:
    """Have a stanza kept, and give what is told of it."""
    told: list[Any] = []
    one = stanza(f"<message id='{id}' from='{BOT}' to='a@x/1'><body>hi</body></message>")
    queue.send({f"msg_{id}": one}, START, claim, told.append)
    return told


def test_memory_keeps_what_is_sent_as_long_as_the_outbox() -> None:
    queue = MemoryQueue()
    [[told]] = sending(queue, "1")
    assert (told.made, told.uid, queue.failure) == (START, "", None)
    assert b"<body>hi</body>" in told.data
    assert queue.fullness == 0


async def test_what_is_sent_is_kept_and_then_confirmed_or_abandoned(start: Start) -> None:
    keeping = await start(MemoryJournal())
    claim = Claim(b"k", b"digest", "msg_1", START, "sent")
    told = [sending(keeping.queue, "1", claim), sending(keeping.queue, "2")]
    assert told == [[], []], "not before it is committed"
    await wait_all_tasks_blocked()
    [[[one]], [[two]]] = told
    assert [(one.uid, one.place), (two.uid, two.place)] == [("msg_1", 0), ("msg_2", 0)]
    assert keeping.journal.claims([b"k"]) == [claim]
    assert await keeping.queue.recovered_replies() == [one, two]
    assert keeping.queue.fullness == 0
    keeping.queue.confirm([one])
    keeping.queue.abandon(two, "it broke the stream")
    await wait_all_tasks_blocked()
    assert await keeping.queue.recovered_replies() == []
    [letter] = keeping.journal.dead(DOMAIN, limit=9)
    assert (letter.entry.uid, letter.reply, letter.reason) == (
        "msg_2",
        two.data,
        "it broke the stream",
    )


async def test_what_cannot_be_kept_is_not_sent(start: Start) -> None:
    keeping = await start(MemoryJournal())
    keeping.journal.failure = FAILURE
    told = sending(keeping.queue, "1")
    await wait_all_tasks_blocked()
    assert told == [None]
    assert keeping.queue.failure is FAILURE


# --- accepted means committed


async def test_nothing_is_delivered_before_it_is_committed(start: Start) -> None:
    kept = await start(MemoryJournal())
    kept.disk.hold()
    await kept.accept(delivery("1"))
    assert (kept.ids, kept.journal.accepted) == ([], [])
    assert kept.queue.fullness > 0
    kept.disk.release()
    await wait_all_tasks_blocked()
    assert (kept.ids, kept.journal.accepted) == (["1"], [entry("1")])


async def test_what_cannot_be_committed_is_refused(start: Start, autojump_clock: MockClock) -> None:
    kept = await start(MemoryJournal())
    kept.journal.failure = FAILURE
    await kept.accept(delivery("1"), delivery("2"))
    assert [one.stanza.id for one in kept.refused] == ["1", "2"]
    assert (kept.ids, kept.queue.fullness) == ([], 0)
    kept.journal.failure = None
    await trio.sleep(committer.RETRY_S + 0.1)
    await kept.accept(delivery("3"))
    assert kept.ids == ["3"]


# --- the POST begins before the commit


async def test_a_stanza_begins_while_it_is_being_committed(start: Start) -> None:
    kept = await start(MemoryJournal(), overlaps=True)
    kept.disk.hold()
    told: list[str] = []
    one, two = delivery("1"), delivery("2")
    await kept.accept(one, two)
    assert (kept.ids, one.is_being_kept, kept.queue.fullness > 0) == (["1", "2"], True, True)
    kept.queue.when_kept(one, lambda: told.append("1"))
    kept.queue.when_kept(two, lambda: told.append("2"))
    assert told == []
    kept.disk.release()
    await wait_all_tasks_blocked()
    assert (told, one.is_being_kept) == (["1", "2"], False)
    kept.queue.when_kept(one, lambda: told.append("at once"))
    assert told == ["1", "2", "at once"]
    assert kept.ids == ["1", "2"], "not a second time"
    await kept.settle("1", "2")
    assert (kept.journal.pending(None, limit=9), kept.queue.fullness) == ([], 0)


async def test_an_end_during_the_commit_of_its_beginning_comes_behind_it(
    start: Start, nursery: trio.Nursery
) -> None:
    kept = await start(MemoryJournal(), overlaps=True)
    kept.disk.hold()
    await kept.accept(delivery("1"))
    nursery.start_soon(partial(kept.settle, "1", replies=(b"<a/>",)))
    await wait_all_tasks_blocked()
    assert kept.journal.settled == []
    kept.disk.release()
    await wait_all_tasks_blocked()
    assert [one.uid for one in kept.journal.settled] == ["msg_1"]
    assert [one.data for _, one in kept.journal.replies(DOMAIN, limit=9)] == [b"<a/>"]


async def test_none_begins_before_one_that_waits_for_its_commit(start: Start) -> None:
    kept = await start(MemoryJournal(), overlaps=True)
    kept.disk.hold()
    kept.can_begin = False
    await kept.accept(delivery("1"))
    kept.can_begin = True
    await kept.accept(delivery("2"))
    assert kept.ids == []
    kept.disk.release()
    await wait_all_tasks_blocked()
    await kept.accept(delivery("3"))
    assert kept.ids == ["1", "2", "3"]


async def test_an_iq_is_committed_first(start: Start) -> None:
    kept = await start(MemoryJournal(), overlaps=True)
    kept.disk.hold()
    await kept.accept(delivery("1", kind="iq"))
    assert kept.ids == []
    kept.disk.release()
    await wait_all_tasks_blocked()
    assert kept.ids == ["1"]


async def test_what_has_begun_goes_on_when_its_commit_fails_and_is_committed_later(
    start: Start, autojump_clock: MockClock
) -> None:
    kept = await start(MemoryJournal(), overlaps=True)
    kept.journal.failure = FAILURE
    told: list[str] = []
    one = delivery("1")
    kept.queue.accept(one, kept)
    kept.queue.when_kept(one, lambda: told.append("1"))
    await wait_all_tasks_blocked()
    assert (kept.ids, kept.refused, told) == (["1"], [], ["1"])
    await kept.accept(delivery("2"))  # nothing new begins now
    assert (kept.ids, [one.stanza.id for one in kept.refused]) == (["1"], ["2"])
    kept.journal.failure = None
    await trio.sleep(committer.RETRY_S + 0.1)
    assert [one.uid for one in kept.journal.pending(None, limit=9)] == ["msg_1"]
    await kept.settle("1")
    assert (kept.journal.pending(None, limit=9), kept.queue.fullness) == ([], 0)


async def test_an_end_while_the_journal_fails_comes_behind_its_beginning(
    start: Start, autojump_clock: MockClock
) -> None:
    kept = await start(MemoryJournal(), overlaps=True)
    kept.journal.failure = FAILURE
    await kept.accept(delivery("1"))
    await kept.settle("1", replies=(b"<a/>",))
    kept.journal.failure = None
    await trio.sleep(committer.RETRY_S + 0.1)
    assert [one.uid for one in kept.journal.settled] == ["msg_1"]
    assert [one.data for _, one in kept.journal.replies(DOMAIN, limit=9)] == [b"<a/>"]


async def test_a_reply_is_committed_before_it_goes_out(start: Start, nursery: trio.Nursery) -> None:
    kept = await start(MemoryJournal())
    await kept.accept(delivery("1"))
    kept.disk.hold()
    done = trio.Event()

    async def settle() -> None:
        sent = await kept.settle("1", replies=(b"<a/>", b"<b/>"))
        assert sent == [
            Outgoing(b"<a/>", START, DOMAIN, uid="msg_1", place=1),
            Outgoing(b"<b/>", START, DOMAIN, uid="msg_1", place=2),
        ]
        done.set()

    nursery.start_soon(settle)
    await wait_all_tasks_blocked()
    assert not done.is_set()
    kept.disk.release()
    await done.wait()
    replies = [one for _, one in kept.journal.replies(DOMAIN, limit=9)]
    assert replies == [
        Outgoing(b"<a/>", START, DOMAIN, "msg_1", 1),
        Outgoing(b"<b/>", START, DOMAIN, "msg_1", 2),
    ]
    kept.queue.confirm(
        [Outgoing(b"<a/>", START, DOMAIN, uid="msg_1", place=1), Outgoing(b"<x/>", START)]
    )
    await wait_all_tasks_blocked()
    kept.queue.abandon(
        Outgoing(b"<b/>", START, DOMAIN, uid="msg_1", place=2), "it broke the stream"
    )
    kept.queue.abandon(Outgoing(b"<x/>", START), "not of the journal")
    await wait_all_tasks_blocked()
    assert kept.journal.replies(DOMAIN, limit=9) == []
    [dead] = kept.journal.dead(DOMAIN, limit=9)
    assert (dead.reason, dead.reply) == ("it broke the stream", b"<b/>")


async def test_an_end_that_nobody_waits_for_is_committed_all_the_same(start: Start) -> None:
    kept = await start(MemoryJournal())
    await kept.accept(delivery("1"))
    kept.queue.settle(kept.delivered[0], [b"<a/>"], START, None, lambda _: None)
    await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert [one.uid for one in kept.journal.settled] == ["msg_1"]
    assert (kept.volume.count, kept.volume.bytes) == (0, 0)
    again = await start(kept.journal)
    assert [one.data for one in await again.queue.recovered_replies()] == [b"<a/>"]


async def test_attempts_and_dead_letters(start: Start) -> None:
    kept = await start(MemoryJournal())
    one = delivery("1")
    await kept.accept(one)
    for at in (START + 1, START + 2):
        one.attempts = (*one.attempts, Attempt(at, "status 503"))
        kept.queue.attempted(one)
    await kept.settle("1", reason="status 503")
    [dead] = kept.journal.dead(DOMAIN, limit=9)
    assert (dead.reason, dead.entry.attempts) == ("status 503", tuple(one.attempts))


# --- recovery


async def test_what_is_pending_is_delivered_after_a_restart(start: Start) -> None:
    journal = MemoryJournal()
    attempt = Attempt(START + 1, "status 503")
    journal.commit(
        [
            entry("1"),
            replace(entry("2", "iq"), attempts=(attempt,)),
            replace(entry("x"), component="another.example"),
            entry("3", "presence"),
        ]
    )
    kept = await start(journal)
    assert kept.ids == ["1", "2", "3"]
    for one, before in zip(
        kept.delivered, (delivery("1"), delivery("2", "iq"), delivery("3", "presence")), strict=True
    ):
        assert (one.stanza, one.uid, one.xml) == (before.stanza, before.uid, before.xml)
        assert (one.received, one.is_tried) == (START, False)
    assert [one.attempts for one in kept.delivered] == [(), (attempt,), ()]
    await kept.settle("1", "2", "3")
    assert kept.queue.fullness == 0


async def test_replies_are_recovered_in_order_over_many_pages(start: Start) -> None:
    journal = MemoryJournal()
    for number in range(700):
        reply = Outgoing(b"%d" % number, START, DOMAIN, f"msg_{number}", 1)
        journal.commit([entry(str(number)), Settle(f"msg_{number}", (reply,))])
    kept = await start(journal)
    found = await kept.queue.recovered_replies()
    assert [one.data for one in found] == [b"%d" % number for number in range(700)]
    assert found[3] == Outgoing(b"3", START, DOMAIN, uid="msg_3", place=1)


async def test_what_cannot_be_read_is_a_dead_letter_and_stops_nothing(start: Start) -> None:
    async def parse(data: bytes) -> Element:
        if b"id='2'" in data:
            raise RemoteError(StreamCondition.BAD_FORMAT, "no XML")
        return await parse_soon(data)

    journal = MemoryJournal()
    journal.commit([entry(id) for id in ("1", "2", "3")])
    kept = await start(journal, parse=parse)
    assert kept.ids == ["1", "3"]
    await kept.settle("1", "3")
    [dead] = journal.dead(DOMAIN, limit=9)
    assert (dead.entry.stanza.id, dead.reason.partition(":")[0]) == ("2", "cannot be read")
    assert kept.queue.fullness == 0
    assert len(kept.log.of("a journalled stanza cannot be read")) == 1


# --- between memory and disk


async def test_what_memory_does_not_hold_waits_on_disk_in_order(start: Start) -> None:
    kept = await start(MemoryJournal(), window=4)
    ids = [str(number) for number in range(12)]
    await kept.accept(*(delivery(id) for id in ids))
    assert kept.ids == ids[:4]
    for number, id in enumerate(ids):
        await kept.settle(id)
        assert len(kept.delivered) - number - 1 <= 4
    assert kept.ids == ids
    assert kept.queue.fullness == 0
    assert kept.journal.totals() == {}


async def test_what_comes_while_there_is_more_on_disk_joins_it(start: Start) -> None:
    kept = await start(MemoryJournal(), window=2)
    await kept.accept(*(delivery(id) for id in "abc"))
    await kept.settle("a")  # there would be room for one, but `c` is before it
    await kept.accept(delivery("d"))
    await kept.settle("b")
    assert kept.ids == ["a", "b", "c", "d"]
    await kept.settle("c", "d")
    await kept.accept(delivery("e"))
    assert kept.ids[-1] == "e"


async def test_what_comes_while_the_last_is_read_comes_behind_it(start: Start) -> None:
    """As a thread reads it, there is a moment in which all is loaded but not yet delivered."""
    gate = trio.Event()

    async def parse(data: bytes) -> Element:
        await gate.wait()
        return await parse_soon(data)

    journal = MemoryJournal()
    journal.commit([entry("1")])
    kept = await start(journal, parse=parse)
    await kept.accept(delivery("2"))
    gate.set()
    await wait_all_tasks_blocked()
    assert kept.ids == ["1", "2"]


async def test_an_iq_overtakes_what_is_on_disk(start: Start) -> None:
    kept = await start(MemoryJournal(), window=2)
    await kept.accept(*(delivery(id) for id in "abc"), delivery("q", "iq"))
    assert kept.ids == ["a", "b", "q"]
    await kept.settle("a", "b", "q")
    assert kept.ids == ["a", "b", "q", "c"]  # and is not delivered again


async def test_so_many_iqs_wait_on_disk_too(start: Start) -> None:
    kept = await start(MemoryJournal(), window=2)
    ids = [str(number) for number in range(8)]
    await kept.accept(*(delivery(id, "iq") for id in ids))
    assert kept.ids == ids[:4]
    await kept.settle(*ids[:4])
    await kept.settle(*ids[4:6])
    await kept.settle(*ids[6:])
    assert kept.ids == ids


async def test_what_ends_while_its_page_is_loaded_is_not_delivered_again(start: Start) -> None:
    """An iq was pending when the page was read, and is not held any more when its turn comes."""
    reading, gate = trio.Event(), trio.Event()

    async def parse(data: bytes) -> Element:
        reading.set()
        await gate.wait()
        return await parse_soon(data)

    kept = await start(MemoryJournal(), window=4, parse=parse)
    await kept.accept(*(delivery(id) for id in "abcde"), delivery("q", "iq"))
    await kept.settle("a", "b", "c")
    assert not reading.is_set()
    await kept.settle("d")
    assert reading.is_set()
    await kept.settle("q")
    gate.set()
    await wait_all_tasks_blocked()
    assert kept.ids == ["a", "b", "c", "d", "q", "e"]


async def test_when_settling_fails_it_is_not_delivered_again(
    start: Start, autojump_clock: MockClock
) -> None:
    kept = await start(MemoryJournal(), window=2)
    await kept.accept(*(delivery(id) for id in "abcd"))
    kept.journal.failure = FAILURE
    assert await kept.settle("a", replies=(b"<a/>",)) == [
        Outgoing(b"<a/>", START, DOMAIN, uid="msg_a", place=1)
    ]
    await kept.settle("b")
    assert kept.ids == ["a", "b"]  # the rest cannot be read
    kept.journal.failure = None
    await trio.sleep(2 * committer.RETRY_S + 0.1)
    await wait_all_tasks_blocked()
    assert kept.ids == ["a", "b", "c", "d"]
    await kept.settle("c", "d")
    assert [one.uid for one in kept.journal.settled] == ["msg_a", "msg_b", "msg_c", "msg_d"]
    assert kept.queue.fullness == 0


async def test_what_was_revived_is_delivered_though_its_end_was_late(
    start: Start, autojump_clock: MockClock
) -> None:
    kept = await start(MemoryJournal())
    await kept.accept(delivery("a"))
    kept.journal.failure = FAILURE
    await kept.settle("a", reason="status 500")
    kept.journal.failure = None
    await trio.sleep(committer.RETRY_S + 0.1)
    await kept.committer.commit(Requeue(("msg_a",), START + 100))
    kept.queue.revive(Totals(1, len(delivery("a").xml)))
    await wait_all_tasks_blocked()
    assert kept.ids == ["a", "a"]
    assert kept.delivered[-1].received == START + 100
    await settle(kept.queue, kept.delivered[-1])
    assert kept.queue.fullness == 0


async def test_what_the_operator_took_away_is_not_waited_for(start: Start) -> None:
    kept = await start(MemoryJournal(), window=2)
    await kept.accept(*(delivery(id) for id in "abc"))
    await kept.committer.commit(Settle("msg_c", (), START, "dropped"))
    await kept.committer.commit(DropDead())
    await kept.settle("a", "b")
    await kept.accept(delivery("d"))
    assert kept.ids == ["a", "b", "d"]


# --- how full it is


async def test_fullness_counts_what_is_not_committed_and_what_is_on_disk(start: Start) -> None:
    kept = await start(MemoryJournal(), window=2)
    kept.volume.limit_count = 4
    kept.disk.hold()
    await kept.accept(delivery("a"), delivery("b"))
    assert kept.queue.fullness == 0.5
    kept.disk.release()
    await kept.accept(delivery("c"), delivery("d"))
    assert kept.queue.fullness == 1
    await kept.settle("a")
    assert kept.queue.fullness == 0.75


@pytest.mark.parametrize("body", ["x" * 500, "ž" * 500, "<b xmlns='urn:b'/>" * 50])
async def test_the_bytes_of_what_was_on_disk_are_given_back(start: Start, body: str) -> None:
    """What it weighs in memory, and what in the journal, are two things."""
    kept = await start(MemoryJournal(), window=2)
    ids = [str(number) for number in range(9)]
    await kept.accept(*(delivery(id, body=body, weight=123_456) for id in ids[:5]))
    assert kept.volume.bytes == kept.journal.totals()[DOMAIN].pending_bytes
    again = await start(kept.journal, window=2)
    await again.accept(*(delivery(id, body=body, weight=123_456) for id in ids[5:]))
    for id in ids:
        await again.settle(id)
    assert again.ids == ids
    assert (again.volume.count, again.volume.bytes) == (0, 0)


async def test_room_that_another_component_makes_is_seen(
    start: Start, nursery: trio.Nursery
) -> None:
    """The volume is shared: a reader that waits for room must see whoever makes it."""
    kept = await start(MemoryJournal())
    kept.volume.limit_count = 1
    await kept.accept(delivery("a"))
    other = JournalQueue(
        "other.example",
        kept.committer,
        kept.volume,
        parse_soon,
        kept.log.logger(),
        lambda: START,
    )
    passed = trio.Event()

    async def wait() -> None:
        await other.wait_room()
        passed.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert other.is_full
    assert not passed.is_set()
    await kept.settle("a")
    await wait_all_tasks_blocked()
    assert passed.is_set()


async def test_there_is_no_wait_where_there_is_room() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await MemoryQueue(Quota(1)).wait_room()
    assert not scope.cancelled_caught


# --- very many


async def test_100_000_pending(start: Start) -> None:
    """The first is delivered soon, all in order, and memory holds a window of them."""
    count, page = 100_000, 250
    template, element = entry("0"), delivery("0").stanza.element
    journal = MemoryJournal()
    journal.commit([replace(template, uid=f"msg_{n}") for n in range(count)])
    parsed = 0

    async def parse(data: bytes) -> Element:
        nonlocal parsed
        parsed += 1
        assert parsed > 1 or journal.pages == 1
        return element

    kept = await start(journal, window=MEMORY_COUNT, parse=parse)
    assert len(kept.delivered) in range(MEMORY_COUNT // 2, MEMORY_COUNT // 2 + page)
    seen = 0
    while seen < 15_000:
        batch, kept.delivered = kept.delivered, []
        assert [one.uid for one in batch] == [f"msg_{seen + n}" for n in range(len(batch))]
        seen += len(batch)
        async with trio.open_nursery() as nursery:
            for one in batch:
                nursery.start_soon(settle, kept.queue, one)
        await wait_all_tasks_blocked()
        assert len(kept.delivered) in range(MEMORY_COUNT // 2, MEMORY_COUNT // 2 + page)
    assert kept.volume.count == count - seen
