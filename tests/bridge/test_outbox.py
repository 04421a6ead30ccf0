"""The outbox: order, bounds, what is sent again, and what is suspect."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from bridge.outbox import LIMIT_BYTES, LIMIT_COUNT, Outbox

A, B, C, D = b"<a/>", b"<b/>", b"<c/>", b"<d/>"


def filled(*stanzas: bytes) -> Outbox:
    outbox = Outbox()
    assert outbox.put_nowait(list(stanzas))
    return outbox


def suspects(outbox: Outbox) -> list[bytes]:
    """Take all suspects."""
    seen = []
    while (suspect := outbox.suspect) is not None:
        seen.append(suspect)
        outbox.drop_suspect()
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
    assert outbox.put_nowait([C])
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
    outbox = Outbox(*limits)
    for stanza in held:
        assert not outbox.is_full
        assert outbox.put_nowait([stanza])
    assert outbox.is_full
    assert not outbox.put_nowait([C])
    assert len(outbox) == 2
    assert outbox.take() == held


def test_stanzas_that_belong_together_are_not_torn_apart() -> None:
    outbox = Outbox(limit_count=2)
    assert outbox.put_nowait([A])
    assert outbox.put_nowait([B, C, D])
    assert outbox.take() == [A, B, C, D]
    assert outbox.is_full


def test_what_was_written_counts_until_it_is_confirmed() -> None:
    outbox = Outbox(limit_count=2)
    outbox.put_nowait([A, B])
    outbox.take()
    assert not outbox.put_nowait([C])
    outbox.confirm(outbox.position)
    assert len(outbox) == 0
    assert outbox.put_nowait([C])


async def test_put_waits_for_room(nursery: trio.Nursery) -> None:
    outbox = Outbox(limit_count=1)
    await outbox.put([A])
    waiter = Waiter(nursery, lambda: outbox.put([B]))
    assert not await waiter.is_through()
    assert outbox.take() == [A]
    assert not await waiter.is_through()
    outbox.confirm(outbox.position)
    assert await waiter.is_through()
    assert outbox.take() == [B]


async def test_putting_nothing_never_waits() -> None:
    outbox = Outbox(limit_count=1)
    await outbox.put([A])
    with trio.fail_after(0):
        await outbox.put([])
    assert outbox.put_nowait([])


async def test_a_cancelled_put_adds_none() -> None:
    outbox = Outbox(limit_count=1)
    await outbox.put([A])
    with trio.move_on_after(0) as scope:
        await outbox.put([B, C])
    assert scope.cancelled_caught
    outbox.take()
    outbox.confirm(outbox.position)
    assert outbox.take() == []


# --- confirming


def test_confirms_what_was_taken_before_the_mark_and_no_more() -> None:
    outbox = filled(A, B)
    outbox.take()
    mark = outbox.position
    outbox.put_nowait([C])
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
    assert outbox.take() == [A, B]


def test_a_mark_confirms_once() -> None:
    outbox = filled(A, B)
    outbox.take()
    mark = outbox.position
    outbox.confirm(mark)
    outbox.put_nowait([C])
    outbox.take()
    outbox.confirm(mark)
    assert len(outbox) == 1


# --- a lost stream


def test_a_lost_stream_sends_again_before_what_is_newer() -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.put_nowait([C])
    outbox.stream_lost(blamed=False)
    assert outbox.suspect is None
    assert outbox.take() == [A, B, C]


def test_s11_what_is_unconfirmed_when_blamed_is_suspect() -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.put_nowait([C])
    outbox.stream_lost(blamed=True)
    assert outbox.take() == [C]
    assert suspects(outbox) == [A, B]


def test_older_suspects_stay_first_whatever_ends_the_next_stream() -> None:
    outbox = filled(A)
    outbox.take()
    outbox.stream_lost(blamed=True)
    outbox.put_nowait([B])
    outbox.take()
    outbox.stream_lost(blamed=True)
    outbox.stream_lost(blamed=False)
    assert suspects(outbox) == [A, B]


def test_suspects_count_against_the_bound() -> None:
    outbox = Outbox(limit_bytes=8)
    outbox.put_nowait([A, B])
    outbox.take()
    outbox.stream_lost(blamed=True)
    assert not outbox.put_nowait([C])
    outbox.drop_suspect()
    assert len(outbox) == 1
    assert outbox.put_nowait([C])


# --- what the link waits for


async def test_wait_pending(nursery: trio.Nursery) -> None:
    outbox = Outbox()
    waiter = Waiter(nursery, outbox.wait_pending)
    assert not await waiter.is_through()
    outbox.put_nowait([])
    assert not await waiter.is_through()
    outbox.put_nowait([A])
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
    outbox.put_nowait([B])
    assert not await waiter.is_through()
    outbox.take()
    assert await waiter.is_through()


async def test_wait_written(nursery: trio.Nursery) -> None:
    outbox = filled(A)
    waiter = Waiter(nursery, outbox.wait_written)
    assert not await waiter.is_through()
    outbox.take()
    assert await waiter.is_through()


async def test_wait_written_ends_with_the_last_suspect(nursery: trio.Nursery) -> None:
    outbox = filled(A, B)
    outbox.take()
    outbox.stream_lost(blamed=True)
    waiter = Waiter(nursery, outbox.wait_written)
    outbox.drop_suspect()
    assert not await waiter.is_through()
    outbox.drop_suspect()
    assert await waiter.is_through()


# --- all of it together

STEPS = st.lists(
    st.sampled_from(["put", "take", "mark", "confirm", "lost", "blamed", "suspect"]), max_size=60
)


@given(STEPS)
def test_whatever_happens_all_arrive_in_order(steps: list[str]) -> None:
    """A server that returns true barriers sees each stanza's first copy in the order of putting."""
    outbox, arrived, put = Outbox(), list[bytes](), list[bytes]()
    mark = outbox.position

    def step(name: str) -> None:
        nonlocal mark
        match name:
            case "put":
                put.append(f"<s{len(put)}/>".encode())
                outbox.put_nowait([put[-1]])
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
                outbox.drop_suspect()

    for name in steps:
        step(name)
        assert len(outbox) <= len(put)
    while outbox.suspect is not None:
        step("suspect")
    step("take")
    assert list(dict.fromkeys(arrived)) == put
    outbox.confirm(outbox.position)
    assert len(outbox) == 0
    assert outbox._held_bytes == 0
