"""The outbox: order, bounds, what is sent again, what is suspect, and what is late."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from bridge.xmpp.outbox import (
    LATE_S,
    LIMIT_BYTES,
    LIMIT_COUNT,
    SUSPECT_FROM,
    Outbox,
    Outgoing,
    ReplyKey,
)
from tests.bridge.sample import MADE, outgoing

DOMAIN = "bot.example"
A, B, C, D = b"<a/>", b"<b/>", b"<c/>", b"<d/>"


def fresh(limit_count: int = LIMIT_COUNT, limit_bytes: int = LIMIT_BYTES) -> Outbox:
    """An outbox whose clock stands still."""
    return Outbox(DOMAIN, limit_count, limit_bytes, now=lambda: MADE)


def filled(*stanzas: bytes) -> Outbox:
    outbox = fresh()
    outbox.put(outgoing(*stanzas))
    return outbox


def suspects(outbox: Outbox) -> list[bytes]:
    """Take all suspects."""
    seen = []
    while (suspect := outbox.suspect) is not None:
        seen.append(suspect)
        outbox.confirm_suspect()
    return seen


class Waiter:
    """A task that waits, and whether it is through."""

    def __init__(self, nursery: trio.Nursery, wait: Callable[[], Awaitable[None]]) -> None:
        self.through = False
        self._wait = wait
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self._wait()
        self.through = True

    async def is_through(self) -> bool:
        await wait_all_tasks_blocked()
        return self.through


# --- order and bounds


def test_takes_in_the_order_of_putting() -> None:
    outbox = filled(A, B)
    outbox.put(outgoing(C))
    assert outbox.take() == [A, B, C]
    assert outbox.take() == []


def test_the_bounds_are_those_of_the_design() -> None:
    assert (LIMIT_COUNT, LIMIT_BYTES) == (20_000, 64 * 1024 * 1024)


@pytest.mark.parametrize(
    ("limits", "held"),
    [((2, 1000), [A, B]), ((1000, 8), [A, B]), ((1000, 7), [A, B])],
    ids=["count", "bytes", "bytes passed"],
)
def test_is_full_by_count_and_by_bytes(limits: tuple[int, int], held: list[bytes]) -> None:
    outbox = fresh(*limits)
    for stanza in held:
        assert not outbox.is_full
        outbox.put(outgoing(stanza))
    assert outbox.is_full
    assert len(outbox) == 2
    assert outbox.take() == held


def test_stanzas_that_belong_together_are_not_torn_apart() -> None:
    outbox = fresh(limit_count=2)
    outbox.put(outgoing(A))
    outbox.put(outgoing(B, C, D))
    assert outbox.take() == [A, B, C, D]
    assert outbox.is_full


def test_what_was_written_counts_until_it_is_confirmed() -> None:
    outbox = fresh(limit_count=2)
    outbox.put(outgoing(A, B))
    outbox.take()
    assert outbox.is_full
    outbox.confirm(outbox.position)
    assert len(outbox) == 0
    assert not outbox.is_full


def test_what_is_sent_unasked_leaves_a_quarter_of_the_places_for_replies() -> None:
    outbox = fresh(limit_count=8)
    outbox.put(outgoing(A, B))
    assert [outbox.reserve(1) for _ in range(5)] == [True] * 4 + [False]
    outbox.release(1)
    assert outbox.reserve(1)
    outbox.release(1)
    outbox.put(outgoing(C))  # in the place that was reserved
    assert not outbox.reserve(1)
    outbox.take()
    outbox.confirm(outbox.position)
    assert outbox.reserve(1)


def test_what_is_sent_unasked_leaves_a_quarter_of_the_bytes_for_replies() -> None:
    outbox = fresh(limit_bytes=20)
    outbox.put(outgoing(A))
    assert not outbox.reserve(12)
    assert outbox.reserve(6)
    assert not outbox.reserve(6)
    assert outbox.reserve(5)
    outbox.release(6)
    assert outbox.reserve(6)


def test_what_was_not_written_can_be_withdrawn() -> None:
    outbox = fresh()
    [a, b, again] = outgoing(A, B, B)
    outbox.put([a, b, again])
    assert outbox.withdraw(again)  # that one, though another is equal
    assert not outbox.withdraw(again)
    assert len(outbox) == 2
    assert outbox.take() == [A, B]
    assert not outbox.withdraw(b)
    assert len(outbox) == 2


def test_what_is_withdrawn_makes_room() -> None:
    outbox = fresh(limit_bytes=8)
    [a, b] = outgoing(A, B)
    outbox.put([a, b])
    assert outbox.is_full
    assert outbox.withdraw(a)
    assert not outbox.is_full


def test_what_waits_to_be_written_again_can_be_withdrawn_but_was_written() -> None:
    outbox = fresh()
    [a, b, c] = outgoing(A, B, C)
    outbox.put([a, b])
    outbox.take()
    outbox.stream_lost(blamed=False)
    outbox.put([c])
    assert not outbox.withdraw(a, also_again=False)
    assert len(outbox) == 3
    assert not outbox.withdraw(a)
    assert outbox.withdraw(c, also_again=False)
    assert outbox.take() == [B]


def test_what_is_withdrawn_does_not_make_another_seem_written() -> None:
    """What was written stays as it was, and what was not is marked as late, whoever has left."""
    message = b"<message>hi</message>"
    late = Outbox(DOMAIN, now=lambda: MADE + 100)
    [iq, one, two] = outgoing(b"<iq/>", message, message)
    late.put([iq])
    late.take()
    late.put([one])
    late.stream_lost(blamed=False)
    assert not late.withdraw(iq)
    late.put([two])
    assert [b"<delay" in data for data in late.take()] == [True, True]


def test_an_iq_that_is_late_can_still_be_withdrawn() -> None:
    late = Outbox(DOMAIN, now=lambda: MADE + 100)
    [iq] = outgoing(b"<iq><q/></iq>")
    late.put([iq])
    assert late.take() == [b"<iq><q/></iq>"]
    late.stream_lost(blamed=False)
    assert not late.withdraw(iq)
    assert late.take() == []


async def test_room_is_waited_for(nursery: trio.Nursery) -> None:
    outbox = fresh(limit_count=1)
    outbox.put(outgoing(A))
    waiter = Waiter(nursery, outbox.wait_room)
    assert not await waiter.is_through()
    assert outbox.take() == [A]
    assert not await waiter.is_through()
    outbox.confirm(outbox.position)
    assert await waiter.is_through()


async def test_where_there_is_room_nothing_waits() -> None:
    """Nor is it cancelled: what came of a POST is not lost between."""
    outbox = fresh(limit_count=1)
    with trio.move_on_after(0) as scope:
        await outbox.wait_room()
    assert not scope.cancelled_caught
    outbox.put([])
    assert not outbox.is_full


def test_what_must_be_put_is_put_where_there_is_no_room() -> None:
    outbox = fresh(limit_count=1)
    outbox.put(outgoing(A))
    outbox.put(outgoing(B, C))
    assert outbox.take() == [A, B, C]
    assert outbox.is_full


async def test_a_cancelled_wait_for_room_leaves_all_as_it_was() -> None:
    outbox = fresh(limit_count=1)
    outbox.put(outgoing(A))
    with trio.move_on_after(0) as scope:
        await outbox.wait_room()
    assert scope.cancelled_caught
    assert outbox.take() == [A]
    outbox.confirm(outbox.position)
    assert outbox.take() == []


# --- confirming


def test_confirms_what_was_taken_before_the_mark_and_no_more() -> None:
    outbox = filled(A, B)
    outbox.take()
    mark = outbox.position
    outbox.put(outgoing(C))
    outbox.take()
    outbox.confirm(mark)
    outbox.stream_lost(blamed=False)
    assert outbox.take() == [C]


def test_an_old_mark_confirms_nothing_of_a_new_stream() -> None:
    outbox = filled(A, B)
    outbox.take()
    mark = outbox.position
    outbox.stream_lost(blamed=False)
    outbox.confirm(mark)
    assert outbox.take() == [A, B]
    outbox.confirm(mark)
    outbox.stream_lost(blamed=False)
    assert suspects(outbox) == [A, B]


def test_a_mark_confirms_once() -> None:
    outbox = filled(A, B)
    outbox.take()
    mark = outbox.position
    outbox.confirm(mark)
    outbox.put(outgoing(C))
    outbox.take()
    outbox.confirm(mark)
    assert len(outbox) == 1


# --- a lost stream


def test_a_lost_stream_sends_again_before_what_is_newer() -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.put(outgoing(C))
    outbox.stream_lost(blamed=False)
    assert outbox.suspect is None
    assert outbox.take() == [A, B, C]


def test_s11_what_is_unconfirmed_when_blamed_is_suspect() -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.put(outgoing(C))
    outbox.stream_lost(blamed=True)
    assert outbox.take() == [C]
    assert suspects(outbox) == [A, B]


def test_older_suspects_stay_first_whatever_ends_the_next_stream() -> None:
    outbox = filled(A)
    outbox.take()
    outbox.stream_lost(blamed=True)
    outbox.put(outgoing(B))
    outbox.take()
    outbox.stream_lost(blamed=True)
    outbox.stream_lost(blamed=False)
    assert suspects(outbox) == [A, B]


def test_s11_the_same_one_unconfirmed_twice_is_to_blame() -> None:
    outbox = filled(A, B)
    outbox.take()
    assert not outbox.stream_lost(blamed=False)
    assert not outbox.stream_lost(blamed=False)  # nothing was written: no evidence
    outbox.take()
    assert outbox.stream_lost(blamed=False)
    assert outbox.suspect == A
    assert not outbox.stream_lost(blamed=False, tested=True)
    assert not outbox.stream_lost(blamed=False)
    assert outbox.stream_lost(blamed=False, tested=True)


def test_s11_another_one_unconfirmed_is_not() -> None:
    outbox = filled(A, B)
    for left in (B, C, D):
        outbox.take()
        outbox.confirm(outbox.position - 1)
        outbox.put(outgoing(left))
        assert not outbox.stream_lost(blamed=False)


def test_suspects_count_against_the_bound() -> None:
    outbox = fresh(limit_bytes=8)
    outbox.put(outgoing(A, B))
    outbox.take()
    outbox.stream_lost(blamed=True)
    assert outbox.is_full
    outbox.confirm_suspect()
    assert len(outbox) == 1
    assert not outbox.is_full


# --- answers of the bridge itself


def own(*stanzas: bytes) -> list[Outgoing]:
    return [one._replace(is_answer=True) for one in outgoing(*stanzas)]


def test_s29_answers_need_no_room_and_keep_their_order() -> None:
    outbox = fresh(limit_count=1)
    outbox.put(outgoing(A))
    outbox.put(own(B, C))
    outbox.put(outgoing(D))
    assert (len(outbox), outbox.unsent_answer_bytes) == (2, len(B + C))
    assert outbox.take() == [A, B, C, D]
    assert (len(outbox), outbox.unsent_answer_bytes) == (2, 0)


@pytest.mark.parametrize("blamed", [False, True])
def test_answers_are_written_once(blamed: bool) -> None:
    told = Told()
    outbox = told.outbox
    outbox.put(own(A))
    assert outbox.take() == [A]
    assert outbox.position == 0
    outbox.put(own(B))
    outbox.stream_lost(blamed=blamed)
    assert outbox.suspect is None
    assert outbox.take() == [B]
    outbox.confirm(outbox.position)
    assert told.confirmed == [[]]


def test_answers_can_be_taken_alone() -> None:
    outbox = filled(A)
    outbox.take()
    outbox.stream_lost(blamed=False)
    outbox.put(own(B))
    outbox.put(outgoing(C))
    assert outbox.take(answers_only=True) == [B]
    assert (len(outbox), outbox.position) == (2, 1)
    assert outbox.take() == [A, C]


def test_a_late_answer_says_so() -> None:
    outbox = Outbox(DOMAIN, now=lambda: MADE + LATE_S + 1)
    outbox.put([one._replace(is_answer=True) for one in outgoing(in_time("1"))])
    assert outbox.take() == [late("1")]
    assert outbox._held_bytes == 0


# --- who is told of what has left


class Told:
    """Who is told, and an outbox of replies that the journal knows."""

    def __init__(self, *stanzas: bytes) -> None:
        self.confirmed: list[list[Outgoing]] = []
        self.abandoned: list[tuple[Outgoing, str]] = []
        self.written: list[dict[int, int]] = []
        self.outbox = Outbox(
            DOMAIN,
            store=self,
            now=lambda: MADE,
        )
        self.stanzas = [
            Outgoing(data, MADE, uid="msg_1", place=place) for place, data in enumerate(stanzas, 1)
        ]
        self.outbox.put(self.stanzas)
        self.outbox.take()

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        self.confirmed.append(list(replies))

    def abandon(self, reply: Outgoing, why: str) -> None:
        self.abandoned.append((reply, why))

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        self.written.append({place: count for (_, place), count in written.items()})


def test_what_has_arrived_is_told_once() -> None:
    told = Told(A, B)
    mark = told.outbox.position
    told.outbox.put(outgoing(C))
    told.outbox.take()
    told.outbox.confirm(mark)
    told.outbox.confirm(mark)
    assert [one for told_now in told.confirmed for one in told_now] == told.stanzas
    assert told.abandoned == []


def test_what_is_sent_again_has_not_arrived() -> None:
    told = Told(A, B)
    told.outbox.stream_lost(blamed=False)
    told.outbox.take()
    assert told.confirmed == []
    told.outbox.confirm(told.outbox.position)
    assert told.confirmed == [told.stanzas]


def test_s11_a_suspect_has_arrived_or_is_abandoned() -> None:
    told = Told(A, B)
    told.outbox.stream_lost(blamed=True)
    told.outbox.confirm_suspect()
    told.outbox.abandon_suspect("it broke the stream")
    [good, bad] = told.stanzas
    assert told.confirmed == [[good]]
    assert told.abandoned == [(bad, "it broke the stream")]
    assert (len(told.outbox), told.outbox.suspect) == (0, None)


# --- how often something was written, for other processes


def ends(outbox: Outbox, *, blamed: bool = False, tested: bool = False) -> bool:
    outbox.count_written(tested=tested)
    return outbox.stream_lost(blamed=blamed, tested=tested)


def test_s11_each_stream_that_ends_counts_for_what_it_leaves_unconfirmed() -> None:
    told = Told(A, B)
    outbox = told.outbox
    outbox.put([Outgoing(C, MADE)])  # in memory only
    outbox.take()
    assert not ends(outbox)
    outbox.take()
    assert ends(outbox)
    assert told.written == [{1: 1, 2: 1}, {1: 2, 2: 2}]
    assert not ends(outbox, tested=True)
    outbox.confirm_suspect()
    ends(outbox)  # nothing was written
    ends(outbox, tested=True)
    assert told.written[2:] == [{1: 3}, {2: 3}]


def test_s11_what_is_blamed_counts_as_a_suspect_for_others_too() -> None:
    told = Told(A, B)
    assert ends(told.outbox, blamed=True)
    assert told.written == [{1: 1, 2: 1}, {1: SUSPECT_FROM, 2: SUSPECT_FROM}]


def recovered(*written: int) -> Outbox:
    """An outbox of replies that others have written so often."""
    outbox = fresh()
    outbox.put_missing(
        Outgoing(data, MADE - LATE_S - 1, DOMAIN, f"msg_{at}", 1, written=count)
        for at, (data, count) in enumerate(zip((A, B, C, D), written, strict=False))
    )
    return outbox


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ((0, 0), ([], [A, B])),
        ((1, 1), ([], [A, B])),
        ((2, 1, 0), ([A], [B, C])),
        ((3, 2, 1), ([A, B], [C])),
        ((0, 2, 0), ([A, B], [C])),
    ],
)
def test_s11_what_others_have_written_twice_is_a_suspect(
    written: tuple[int, ...], expected: tuple[list[bytes], list[bytes]]
) -> None:
    outbox = recovered(*written)
    assert len(outbox) == len(written)
    assert (suspects(outbox), outbox.take()) == expected
    outbox.confirm(outbox.position)
    assert len(outbox) == 0


@pytest.mark.parametrize(
    ("written", "streams"),
    [(0, 4), (1, 3), (2, 2), (3, 1), (4, 1)],
)
def test_s11_a_stanza_that_breaks_each_stream_is_written_so_often_again(
    written: int, streams: int
) -> None:
    outbox = recovered(written)
    for _ in range(streams):
        tested = outbox.suspect is not None
        assert tested or outbox.take()
        broken = ends(outbox, tested=tested)
        if broken and tested:
            outbox.abandon_suspect("it broke the stream")
    assert len(outbox) == 0


def test_suspects_that_are_read_later_keep_the_order() -> None:
    outbox = recovered(0, 0)
    outbox.put(own(D))
    more = [Outgoing(C, MADE, DOMAIN, "msg_9", 1, written=2)]
    outbox.put_missing(more)
    outbox.put_missing(more)
    assert suspects(outbox) == [A, B, C]
    assert outbox.take() == [D]


async def test_a_suspect_that_is_read_ends_the_wait(nursery: trio.Nursery) -> None:
    outbox = fresh()
    waiter = Waiter(nursery, outbox.wait_pending)
    assert not await waiter.is_through()
    outbox.put_missing([Outgoing(A, MADE, DOMAIN, "msg_1", 1, written=2)])
    assert await waiter.is_through()


# --- what is late (XEP-0203)


class Clock:
    """Unix time in s, as the test sets it."""

    def __init__(self) -> None:
        self.now = MADE

    def __call__(self) -> float:
        return self.now


def late(name: str) -> bytes:
    """A message as it is written when it is late."""
    return (
        f"<message id='{name}'><delay xmlns='urn:xmpp:delay' from='{DOMAIN}'"
        " stamp='2023-11-14T22:13:20Z'/></message>"
    ).encode()


def in_time(name: str) -> bytes:
    return f"<message id='{name}'/>".encode()


@pytest.mark.parametrize(
    ("waited_s", "written"), [(0, in_time), (LATE_S, in_time), (LATE_S + 1, late), (-9999, in_time)]
)
def test_what_is_late_when_it_is_taken_says_so(
    waited_s: float, written: Callable[[str], bytes]
) -> None:
    clock = Clock()
    outbox = Outbox(DOMAIN, now=clock)
    outbox.put(outgoing(in_time("1")))
    clock.now += waited_s
    assert outbox.take() == [written("1")]
    outbox.confirm(outbox.position)
    assert (len(outbox), outbox._held_bytes) == (0, 0)


def test_what_was_written_is_sent_again_as_it_was() -> None:
    """Byte-identical, however late by then; what was not written yet is marked."""
    clock = Clock()
    outbox = Outbox(DOMAIN, now=clock)
    outbox.put(outgoing(in_time("1")))
    outbox.take()
    clock.now += LATE_S + 1
    outbox.put(outgoing(in_time("2")))
    outbox.stream_lost(blamed=False)
    assert outbox.take() == [in_time("1"), late("2")]
    clock.now += LATE_S + 1
    assert outbox.stream_lost(blamed=False)
    assert suspects(outbox) == [in_time("1"), late("2")]
    assert outbox._held_bytes == 0


# --- what an operator drops


def named(*stanzas: bytes) -> list[Outgoing]:
    """Stanzas that the journal knows, each by what it is."""
    return [Outgoing(data, MADE, uid=data.decode(), place=1) for data in stanzas]


def test_what_is_dropped_is_not_written() -> None:
    outbox = fresh()
    outbox.put(named(A, B, C))
    outbox.drop(["<b/>", "unknown"])
    assert len(outbox) == 2
    assert outbox.take() == [A, C]


def test_what_is_dropped_is_not_written_again() -> None:
    outbox = fresh()
    outbox.put(named(A, B))
    outbox.take()
    outbox.stream_lost(blamed=False)
    outbox.put(named(C))
    outbox.drop(["<a/>"])
    assert not outbox.withdraw(outbox._pending[0], also_again=False)  # it was written
    assert outbox.take() == [B, C]


def test_a_suspect_that_is_dropped_is_none() -> None:
    outbox = fresh()
    outbox.put(named(A, B, C))
    outbox.take()
    outbox.stream_lost(blamed=True)
    outbox.drop(["<a/>", "<c/>"])
    assert suspects(outbox) == [B]


def test_a_mark_confirms_nothing_in_the_place_of_what_is_dropped() -> None:
    outbox = fresh()
    outbox.put(named(A, B))
    outbox.take()
    mark = outbox.position
    outbox.put(named(C))
    outbox.take()
    outbox.drop(["<a/>"])
    outbox.confirm(mark)
    outbox.stream_lost(blamed=False)
    assert outbox.take() == [C]
    assert outbox._held_bytes == len(C)


async def test_wait_written_and_room_end_with_what_is_dropped(nursery: trio.Nursery) -> None:
    outbox = fresh(limit_count=1)
    outbox.put(named(A))
    written, room = Waiter(nursery, outbox.wait_written), Waiter(nursery, outbox.wait_room)
    assert not await written.is_through()
    outbox.drop(["<a/>"])
    assert await written.is_through()
    assert await room.is_through()


# --- what the link waits for


async def test_wait_pending(nursery: trio.Nursery) -> None:
    outbox = fresh()
    waiter = Waiter(nursery, outbox.wait_pending)
    assert not await waiter.is_through()
    outbox.put(outgoing())
    assert not await waiter.is_through()
    outbox.put(outgoing(A))
    assert await waiter.is_through()


async def test_wait_pending_sees_what_is_sent_again() -> None:
    outbox = filled(A)
    outbox.take()
    outbox.stream_lost(blamed=False)
    with trio.fail_after(0):
        await outbox.wait_pending()


async def test_wait_unconfirmed(nursery: trio.Nursery) -> None:
    outbox = filled(A)
    waiter = Waiter(nursery, lambda: outbox.wait_unconfirmed(2))
    outbox.take()
    assert not await waiter.is_through()
    outbox.put(outgoing(B))
    assert not await waiter.is_through()
    outbox.take()
    assert await waiter.is_through()


async def test_wait_written(nursery: trio.Nursery) -> None:
    outbox = filled(A)
    waiter = Waiter(nursery, outbox.wait_written)
    assert not await waiter.is_through()
    outbox.take()
    assert await waiter.is_through()


async def test_wait_written_ends_with_what_is_withdrawn(nursery: trio.Nursery) -> None:
    outbox = fresh()
    [a] = outgoing(A)
    outbox.put([a])
    waiter = Waiter(nursery, outbox.wait_written)
    assert not await waiter.is_through()
    outbox.withdraw(a)
    assert await waiter.is_through()


async def test_wait_written_ends_with_the_last_suspect(nursery: trio.Nursery) -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.stream_lost(blamed=True)
    waiter = Waiter(nursery, outbox.wait_written)
    outbox.confirm_suspect()
    assert not await waiter.is_through()
    outbox.confirm_suspect()
    assert await waiter.is_through()


# --- all of it together

STEPS = st.lists(
    st.sampled_from(["put", "take", "mark", "confirm", "lost", "blamed", "suspect", "later"]),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_all_arrive_in_order(steps: list[str]) -> None:
    """A server that returns true barriers sees each stanza's first copy in the order of putting,
    and all its copies are alike.
    """
    arrived, put = list[bytes](), list[bytes]()
    told = Told()
    clock = Clock()
    outbox = Outbox(DOMAIN, store=told, now=clock)
    mark = outbox.position

    def step(name: str) -> None:
        nonlocal mark
        match name:
            case "put":
                put.append(in_time(str(len(put))))
                outbox.put(outgoing(put[-1], made=clock.now))
            case "take" if outbox.suspect is None:
                arrived.extend(outbox.take())
            case "mark":
                mark = outbox.position
            case "confirm":
                outbox.confirm(mark)
            case "lost" | "blamed":
                outbox.stream_lost(blamed=name == "blamed")
            case "suspect" if outbox.suspect is not None:
                arrived.append(outbox.suspect)
                outbox.confirm_suspect()
            case "later":
                clock.now += LATE_S * 0.6

    for name in steps:
        step(name)
        places = (outbox._suspects, outbox._unconfirmed, outbox._pending)
        assert len(outbox) == sum(map(len, places)) <= len(put)
    while outbox.suspect is not None:
        step("suspect")
    step("take")
    outbox.confirm(outbox.position)
    assert len(outbox) == 0
    assert outbox._held_bytes == 0
    copies = list(dict.fromkeys(arrived))
    assert [unmarked(data) for data in copies] == put
    assert [one.data for batch in told.confirmed for one in batch] == copies


def unmarked(data: bytes) -> bytes:
    """Give what it was before it was late."""
    return re.sub(rb"><delay .*</message>", b"/>", data)


def test_an_outbox_that_is_away_takes_nothing() -> None:
    outbox = fresh()
    outbox.go_away()
    outbox.put([*outgoing(A), *own(B)])
    assert (outbox.take(), len(outbox), outbox.unsent_answer_bytes) == ([], 0, 0)


def test_what_is_in_the_outbox_when_it_goes_away_may_be_written_and_answers_added() -> None:
    outbox = filled(A)
    outbox.go_away(takes_answers=True)
    outbox.put([*outgoing(B), *own(C)])
    assert outbox.take() == [A, C]


def test_an_outbox_that_comes_back_has_only_what_the_journal_has() -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.put([*outgoing(C), *own(D)])
    position = outbox.position
    outbox.come_back()
    assert (len(outbox), outbox.unsent_answer_bytes) == (0, 0)
    kept = [Outgoing(one, MADE, DOMAIN, f"msg_{place}", 1) for place, one in enumerate((A, B))]
    outbox.put(kept[:1])
    outbox.put_missing(kept)
    outbox.confirm(position)  # of the stream before
    assert outbox.take() == [A, B]
    assert len(outbox) == 2
