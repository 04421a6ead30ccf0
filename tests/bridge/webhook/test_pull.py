"""Events that are pulled: offers, pollers, leases, and what an attempt comes to. The clock is
mocked and jumps.
"""

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.token import Token, digest_of
from bridge.webhook.observer import PostAnswer, PostFailure, PostReport
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.pull import (
    ENDED_LIMIT,
    LEASE_LIMIT_S,
    LEASE_S,
    PRESENT_S,
    NotLeased,
    Offer,
    PulledEvents,
    Reach,
)
from bridge.webhook.pulled_endpoint import NOBODY, PulledEndpoint

BOT: Final = "bot.example"
OTHER: Final = "other.example"
DONE: Final = NoReply()


def token(name: str = "notebook", *local_parts: str, domains: tuple[str, ...] = (BOT,)) -> Token:
    parts = frozenset(local_parts) or None
    scopes: Any = frozenset({"receive"})
    return Token(name, digest_of(name), frozenset(domains), scopes, parts)


def reach(one: Token | None = None) -> Reach:
    one = one or token()
    return Reach(one, one.components)


def body(id: str = "m1", local: str = "echo", kind: str = "message", domain: str = BOT) -> bytes:
    to = f"{local}@{domain}" if local else domain
    return json.dumps({"to": to, "from": "a@x/1", "kind": kind, "id": id}).encode()


@define(eq=False)
class World:
    """The events, an endpoint, and the outcomes of its attempts by uid."""

    nursery: trio.Nursery
    events: PulledEvents = field(factory=PulledEvents)
    outcomes: dict[str, Outcome] = field(factory=dict)
    at: dict[str, float] = field(factory=dict)
    returned: list[float] = field(factory=list)
    scopes: dict[str, trio.CancelScope] = field(factory=dict)
    reports: list[tuple[str, float, PostReport]] = field(factory=list)

    def endpoint(self, domain: str = BOT) -> PulledEndpoint:
        endpoint = PulledEndpoint(domain, "pull:", self.events, self)
        endpoint.when_polled_again(lambda: self.returned.append(trio.current_time()))
        return endpoint

    def now(self) -> float:
        return trio.current_time()

    def exchanged(
        self, uid: str, attempt: int, began: float, request: bytes, result: PostReport
    ) -> None:
        self.reports.append((uid, began, result))

    async def post(
        self,
        uid: str,
        local: str = "echo",
        *,
        deadline: float = math.inf,
        kind: str = "message",
        domain: str = BOT,
        attempt: int = 1,
    ) -> None:
        """Begin an attempt, and wait until nothing moves."""

        async def attempting() -> None:
            with trio.CancelScope() as self.scopes[uid]:
                self.outcomes[uid] = await self.endpoint(domain).post(
                    body(uid, local, kind, domain), uid, attempt, trio.current_time(), deadline
                )
                self.at[uid] = trio.current_time()

        self.nursery.start_soon(attempting)
        await wait_all_tasks_blocked()

    async def take(
        self, one: Token | None = None, limit: int = 10, wait_s: float = 0
    ) -> list[Offer]:
        """Poll as a request does whose answer arrives."""
        with self.events.polling(reach(one), limit) as poller:
            taken = await poller.take(wait_s)
            self.events.start(taken)
        return taken

    async def lease(self, uid: str, one: Token | None = None) -> Offer:
        await self.post(uid)
        [offer] = await self.take(one)
        return offer

    async def answer(self, uid: str, outcome: Outcome = DONE) -> None:
        self.events.answer(self.events.leased(token(), uid), outcome)
        await wait_all_tasks_blocked()

    def ending(self, uid: str, one: Token | None = None, attempt: int | None = None) -> str | None:
        with pytest.raises(NotLeased) as caught:
            self.events.leased(one or token(), uid, attempt)
        return caught.value.ending


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        world.events.domains = frozenset({BOT, OTHER})
        yield world
        nursery.cancel_scope.cancel()


def uids(offers: list[Offer]) -> list[str]:
    return [one.uid for one in offers]


# --- offers and pollers


async def test_a_poller_that_waits_gets_an_event_and_its_answer_is_the_outcome(
    world: World,
    autojump_clock: MockClock,
) -> None:
    found: list[Offer] = []

    async def poll() -> None:
        found.extend(await world.take(wait_s=25))

    world.nursery.start_soon(poll)
    await wait_all_tasks_blocked()
    await world.post("u1")
    [offer] = found
    assert (offer.uid, offer.attempt, offer.body) == ("u1", 1, body("u1"))
    reply = Replied("json", b'{"body": "hi"}')
    await world.answer("u1", reply)
    assert world.outcomes == {"u1": reply}


async def test_events_are_given_out_in_the_order_of_their_offers(
    world: World, autojump_clock: MockClock
) -> None:
    for n in range(5):
        await world.post(f"u{n}")
    assert uids(await world.take(limit=3)) == ["u0", "u1", "u2"]
    assert uids(await world.take(limit=3)) == ["u3", "u4"]
    assert await world.take() == []


async def test_a_poll_without_events_ends_after_its_wait(
    world: World, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    assert await world.take(wait_s=25) == []
    assert trio.current_time() - began == 25


async def test_events_that_come_at_once_are_shared_among_the_pollers_that_wait(
    world: World,
    autojump_clock: MockClock,
) -> None:
    found: list[list[str]] = []

    async def poll() -> None:
        found.append(uids(await world.take(wait_s=25)))

    for _ in range(3):
        world.nursery.start_soon(poll)
    await wait_all_tasks_blocked()
    for n in range(6):
        world.nursery.start_soon(world.post, f"u{n}")
    await wait_all_tasks_blocked()
    assert sorted(map(len, found)) == [2, 2, 2]
    assert sorted(uid for some in found for uid in some) == [f"u{n}" for n in range(6)]


async def test_a_poller_that_leaves_when_it_is_woken_leaves_the_event_to_the_next(
    world: World,
    autojump_clock: MockClock,
) -> None:
    found: list[str] = []
    leaving = trio.CancelScope()

    async def leave() -> None:
        with leaving:
            await world.take(wait_s=25)

    async def poll() -> None:
        found.extend(uids(await world.take(wait_s=25)))

    world.nursery.start_soon(leave)
    await wait_all_tasks_blocked()
    world.nursery.start_soon(poll)
    await wait_all_tasks_blocked()
    leaving.cancel()
    world.events.offer(Offer(BOT, "echo", "u1", 1, b""))  # it has not noticed yet, so it is woken
    await wait_all_tasks_blocked()
    assert found == ["u1"]


async def test_a_poller_holds_no_more_leases_than_its_limit(
    world: World, autojump_clock: MockClock
) -> None:
    for n in range(3):
        await world.post(f"u{n}")
    with world.events.polling(reach(), 2) as poller:
        taken = await poller.take(0)
        world.events.start(taken)
        assert uids(taken) == ["u0", "u1"]
        assert await poller.take(5) == []
        later: list[Offer] = []

        async def wait() -> None:
            later.extend(await poller.take(25))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await world.answer("u0")
        assert uids(later) == ["u2"]
        assert poller.held == 2


# --- leases


async def test_without_an_answer_an_attempt_times_out_when_its_lease_ends(
    world: World, autojump_clock: MockClock
) -> None:
    await world.lease("u1")
    began = trio.current_time()
    await trio.sleep(LEASE_S - 1)
    assert world.outcomes == {}
    await trio.sleep(2)
    assert world.outcomes["u1"] == TimedOut("the lease ended without an answer")
    assert world.at["u1"] - began == LEASE_S
    assert world.ending("u1") == "ended"


async def test_a_lease_that_ends_while_others_are_there_does_not_put_the_endpoint_down(
    world: World, autojump_clock: MockClock
) -> None:
    await world.lease("u1")
    with world.events.polling(reach(), 0):
        await trio.sleep(LEASE_S + 1)
    why = "the lease ended without an answer"
    assert world.outcomes["u1"] == TimedOut(why, is_down=False)
    await world.lease("u2")
    await trio.sleep(5)
    await world.lease("u3")
    await trio.sleep(LEASE_S + 1)
    assert world.outcomes["u2"] == TimedOut(why, is_down=False)  # u3 is in somebody's hands
    assert world.outcomes["u3"] == TimedOut(why)
    await world.post("u4")
    assert world.outcomes["u4"] == Unreachable(NOBODY)  # the end of a lease is no sign of life


async def test_time_spent_waiting_for_a_poller_is_not_lease_time(
    world: World, autojump_clock: MockClock
) -> None:
    with world.events.polling(reach(), 0):  # busy, but there
        await world.post("u1")
        await trio.sleep(200)
    await world.take()
    taken_at = trio.current_time()
    await trio.sleep(LEASE_S + 1)
    assert world.at["u1"] == taken_at + LEASE_S


async def test_a_lease_is_extended_to_its_whole_time_from_now_up_to_a_limit(
    world: World, autojump_clock: MockClock
) -> None:
    offer = await world.lease("u1")
    began = trio.current_time()
    for _ in range(int(LEASE_LIMIT_S / 50) - 1):
        await trio.sleep(50)
        assert world.events.extend(offer) == min(
            LEASE_S, began + LEASE_LIMIT_S - trio.current_time()
        )
    await trio.sleep(50)
    assert world.events.extend(offer) == 0
    await trio.sleep(1)
    assert world.at["u1"] - began == LEASE_LIMIT_S
    assert isinstance(world.outcomes["u1"], TimedOut)


async def test_an_iq_is_cut_at_its_budget_offered_or_leased(
    world: World, autojump_clock: MockClock
) -> None:
    deadline = trio.current_time() + 10
    await world.post("q1", kind="iq", deadline=deadline)
    [offer] = await world.take()
    assert offer.lease_s(trio.current_time()) == 10
    with world.events.polling(reach(), 0):
        await world.post("q2", kind="iq", deadline=deadline)
        await trio.sleep(10.5)
    assert world.events.extend(offer) == 0
    for uid in ("q1", "q2"):
        assert world.outcomes[uid] == TimedOut(was_cut=True)
        assert world.at[uid] == deadline
    assert world.ending("q1") == "ended"
    assert world.ending("q2") is None


async def test_the_budget_of_a_message_does_not_cut_its_lease(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1", deadline=trio.current_time() + 10)
    await world.take()
    await trio.sleep(50)
    await world.answer("u1")
    assert world.outcomes == {"u1": DONE}


async def test_what_could_not_be_written_is_offered_again_first_as_the_same_attempt(
    world: World,
    autojump_clock: MockClock,
) -> None:
    for n in range(4):
        await world.post(f"u{n}")
    with world.events.polling(reach(), 2) as poller:
        taken = await poller.take(0)
        world.events.put_back(taken)
        assert poller.held == 0
    assert world.ending("u0") is None  # nobody has seen it
    again = await world.take()
    assert uids(again) == ["u0", "u1", "u2", "u3"]
    assert {one.attempt for one in again} == {1}


async def test_what_ended_while_it_was_written_is_neither_leased_nor_offered_again(
    world: World,
    autojump_clock: MockClock,
) -> None:
    await world.post("u1")
    with world.events.polling(reach(), 2) as poller:
        taken = await poller.take(0)
        world.scopes["u1"].cancel()
        await wait_all_tasks_blocked()
        world.events.start(taken)
        world.events.put_back(taken)
    assert await world.take() == []
    assert world.ending("u1") == "ended"


async def test_a_lease_begins_when_it_is_written(world: World, autojump_clock: MockClock) -> None:
    await world.post("u1")
    with world.events.polling(reach(), 1) as poller:
        taken = await poller.take(0)
        await trio.sleep(15)
        world.events.start(taken)
        written_at = trio.current_time()
    await trio.sleep(LEASE_S + 1)
    assert world.at["u1"] == written_at + LEASE_S


async def test_an_attempt_that_is_cancelled_ends_its_lease(
    world: World, autojump_clock: MockClock
) -> None:
    await world.lease("u1")
    world.scopes["u1"].cancel()
    await wait_all_tasks_blocked()
    assert world.ending("u1") == "ended"
    assert world.reports[-1][2] == PostFailure("given_up")


# --- who may answer


async def test_an_event_is_answered_once(world: World, autojump_clock: MockClock) -> None:
    await world.lease("u1")
    await world.answer("u1")
    assert world.ending("u1") == "answered"


async def test_the_answer_to_an_earlier_attempt_is_late_if_it_says_so(
    world: World, autojump_clock: MockClock
) -> None:
    await world.lease("u1")
    with world.events.polling(reach(), 0):
        await trio.sleep(LEASE_S + 1)
        await world.post("u1", attempt=2)
    assert world.ending("u1") == "ended"  # offered again, but not leased
    await world.take()
    assert world.ending("u1", attempt=1) == "ended"
    assert world.events.leased(token(), "u1", 2).attempt == 2


async def test_another_tokens_event_does_not_exist(world: World, autojump_clock: MockClock) -> None:
    await world.lease("u1")
    strangers = (
        token("stranger"),  # for the same address
        token("elsewhere", domains=(OTHER,)),
        token("notebook", domains=(OTHER,)),  # of the same name, after a reload
        token("notebook", "alert"),
    )
    for one in strangers:
        assert world.ending("u1", one) is None
    await world.answer("u1")
    for one in strangers:
        assert world.ending("u1", one) is None


async def test_a_token_sees_only_events_of_its_components_and_local_parts(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1", "echo")
    await world.post("u2", "alert")
    await world.post("u3", "")
    await world.post("u4", "echo", domain=OTHER)
    assert uids(await world.take(token("a", "alert"))) == ["u2"]
    assert uids(await world.take(token("b", ""))) == ["u3"]
    assert uids(await world.take(token("c", domains=(OTHER,)))) == ["u4"]
    assert uids(await world.take(token("d", domains=(BOT, OTHER)))) == ["u1"]


async def test_the_memory_of_leases_that_ended_is_bounded(
    world: World, autojump_clock: MockClock
) -> None:
    for n in range(ENDED_LIMIT + 2):
        offer = Offer(BOT, "echo", f"u{n}", 1, b"")
        world.events.offer(offer)
        await world.take()
        world.events.answer(offer, DONE)
    assert world.ending("u1") is None
    assert world.ending("u2") == "answered"


# --- nobody polls


async def test_if_nobody_polls_the_endpoint_is_down(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("u1")
    began = trio.current_time()
    await trio.sleep(PRESENT_S + 1)
    assert world.outcomes["u1"] == Unreachable(NOBODY)
    assert world.at["u1"] - began == PRESENT_S
    await world.post("u2")
    assert world.outcomes["u2"] == Unreachable(NOBODY)  # at once


async def test_a_poller_counts_as_there_for_a_moment_after_its_poll(
    world: World, autojump_clock: MockClock
) -> None:
    await trio.sleep(100)
    await world.take()
    await trio.sleep(PRESENT_S - 1)
    await world.post("u1")
    assert world.outcomes == {}
    [offer] = await world.take()
    assert offer.uid == "u1"


async def test_a_service_with_a_lease_is_there_though_it_does_not_poll(
    world: World, autojump_clock: MockClock
) -> None:
    offer = await world.lease("u1")
    for _ in range(5):
        await trio.sleep(50)
        world.events.extend(offer)
    await world.post("u2")
    await trio.sleep(50)
    assert world.outcomes == {}
    await world.answer("u1")
    answered_at = trio.current_time()
    await trio.sleep(PRESENT_S + 1)
    assert world.outcomes["u2"] == Unreachable(NOBODY)
    assert world.at["u2"] == answered_at + PRESENT_S


async def test_the_first_poll_after_nobody_polled_is_told_once(
    world: World, autojump_clock: MockClock
) -> None:
    await world.take()
    assert world.returned == []  # nobody has missed it
    await trio.sleep(100)
    await world.post("u1")
    await trio.sleep(PRESENT_S)
    await wait_all_tasks_blocked()
    assert world.outcomes["u1"] == Unreachable(NOBODY)
    await world.take()
    await world.take()
    assert world.returned == [trio.current_time()]


async def test_a_poller_for_other_addresses_does_not_put_the_endpoint_down(
    world: World, autojump_clock: MockClock
) -> None:
    await world.post("first", "alert")
    await trio.sleep(PRESENT_S + 1)
    await world.take(token("a", "echo"))
    await world.post("u1", "alert")
    await world.post("u2", "")
    assert world.outcomes["u1"] == Unreachable(f"{NOBODY} for alert@{BOT}", is_down=False)
    assert world.outcomes["u2"] == Unreachable(f"{NOBODY} for {BOT}", is_down=False)


# --- the end, and other configurations


async def test_a_stop_lets_pollers_go_and_waits_for_the_answers_to_what_is_leased(
    world: World,
    autojump_clock: MockClock,
) -> None:
    await world.lease("u1")
    idle: list[str] = []
    polled: list[list[Offer]] = []

    async def poll() -> None:
        polled.append(await world.take(wait_s=25))

    world.nursery.start_soon(poll)
    await wait_all_tasks_blocked()
    world.events.stop(lambda: idle.append("idle"))
    await wait_all_tasks_blocked()
    assert polled == [[]]
    assert idle == []
    await world.post("u2")
    assert await world.take() == []
    await world.answer("u1")
    assert idle == ["idle"]


async def test_a_stop_without_leases_is_idle_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    idle: list[str] = []
    world.events.stop(lambda: idle.append("idle"))
    assert idle == ["idle"]


async def test_a_component_that_is_no_longer_pulled_returns_what_nobody_has_taken(
    world: World,
    autojump_clock: MockClock,
) -> None:
    await world.lease("u1")
    await world.post("u2")
    await world.post("o1", domain=OTHER)
    endpoint = world.endpoint()
    await endpoint.retire()
    await wait_all_tasks_blocked()
    assert world.outcomes == {}  # another endpoint that is pulled, too: they stay
    world.events.domains = frozenset({OTHER})
    await endpoint.retire()
    await wait_all_tasks_blocked()
    assert world.outcomes == {"u2": Unreachable('component_post_url is no longer "pull:"')}
    await world.answer("u1")  # whoever has it may still answer
    assert world.outcomes["u1"] == DONE


# --- captures

Report = Callable[[World], Awaitable[None]]


@pytest.mark.parametrize(
    ("outcome", "report"),
    [
        (
            Replied("xml", b"<message/>"),
            PostAnswer(200, {"content-type": "application/xmpp+xml"}, b"<message/>"),
        ),
        (NoReply(), PostAnswer(204)),
        (Rejected(404), PostAnswer(404)),
        (Rejected(429, 2.5), PostAnswer(429, {"retry-after": "3"})),
        (BadReply("why"), PostAnswer(200, {"content-type": "application/json"}, None)),
    ],
)
async def test_a_capture_sees_an_answer_as_if_the_event_had_been_posted(
    world: World, autojump_clock: MockClock, outcome: Outcome, report: PostReport
) -> None:
    await world.post("u1")
    await trio.sleep(3)
    await world.take()
    taken_at = trio.current_time()
    await trio.sleep(5)
    await world.answer("u1", outcome)
    assert world.reports == [("u1", taken_at, report)]


async def test_a_capture_sees_why_there_was_no_answer(
    world: World, autojump_clock: MockClock
) -> None:
    await world.lease("u1")
    await trio.sleep(LEASE_S + PRESENT_S + 1)
    await world.post("u2")
    assert [report for _, _, report in world.reports] == [
        PostFailure("timed_out"),
        PostFailure("unreachable", NOBODY),
    ]
