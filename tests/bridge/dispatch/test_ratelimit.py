"""What one sender may cost: buckets and counts by themselves, and at a whole daemon."""

import random
from collections import Counter
from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.event import ALL_EVENTS
from bridge.config.settings import Count, JournalSettings, Rate, SenderLimits
from bridge.dispatch.ratelimit import (
    BUCKET_LIMIT,
    CALM_S,
    TOKEN_BYTES,
    SenderLimiter,
    TokenBuckets,
)
from bridge.journal.delivery import Delivery
from tests.bridge.daemon.test_daemon import BOT, DOMAIN, OTHER, conditions, message
from tests.bridge.daemon.test_daemon import echo as echo_once
from tests.bridge.daemon.test_supervisor import Gate, Stage, log, stage
from tests.bridge.http_server import Exchange, response, saying
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import Session
from xmppstream import Stanza, make
from xmppstream.jid import domain_of

__all__ = ["log", "stage"]  # fixtures

OFF: Final = JournalSettings(durability="off")
LOOSE: Final = SenderLimits(Rate(0.0), Count(1), Count(1000), Count(1000))
JULIET: Final = "juliet@capulet.example"


def bounds(**values: Any) -> SenderLimits:
    return evolve(LOOSE, **values)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def iq(type: str, id: str = "q", from_: str = f"{JULIET}/x") -> Stanza:
    payload = "<query xmlns='a:b'/>" if type in ("get", "set") else ""
    return stanza(f"<iq type='{type}' id='{id}' from='{from_}' to='{BOT}'>{payload}</iq>")


# --- buckets


def test_a_burst_and_then_a_rate() -> None:
    buckets = TokenBuckets(2.0, 5)
    assert [buckets.take("a", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert buckets.take("b", 0.0)
    assert not buckets.take("a", 0.4)
    assert buckets.take("a", 0.6)
    assert not buckets.take("a", 0.6)
    assert [buckets.take("a", 100.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_large_one_takes_several_and_at_most_all() -> None:
    buckets = TokenBuckets(1.0, 10)
    assert buckets.take("a", 0.0, 7)
    assert not buckets.take("a", 0.0, 4)
    assert buckets.take("a", 0.0, 3)
    assert not buckets.take("a", 9.5, 32)
    assert buckets.take("a", 10.0, 32)
    assert not buckets.take("a", 19.5, 32)


def test_what_is_refused_costs_nothing() -> None:
    buckets = TokenBuckets(1.0, 1)
    assert buckets.take("a", 0.0)
    for _ in range(1000):
        assert not buckets.take("a", 0.5)
    assert buckets.take("a", 1.1)


def test_without_a_rate_nothing_is_known_of_anybody() -> None:
    buckets = TokenBuckets(0.0, 1)
    assert all(buckets.take("a", 0.0) for _ in range(1000))
    assert len(buckets) == 0


def test_full_buckets_are_forgotten() -> None:
    buckets = TokenBuckets(1.0, 10)
    for number in range(100_000):
        buckets.take(f"a{number}", number * 0.1)
    assert len(buckets) <= 1001


def test_of_buckets_that_are_not_full_so_many_are_known_and_no_more() -> None:
    buckets = TokenBuckets(0.001, 10)
    for _ in range(9):
        assert buckets.take("worst", 0.0)
    for number in range(BUCKET_LIMIT * 3):
        buckets.take(f"a{number}", 1.0)
        assert len(buckets) <= BUCKET_LIMIT + 1
    assert buckets.take("worst", 1.0)
    assert not buckets.take("worst", 1.0), "the emptiest one is not forgotten"


def test_over_a_long_time_no_more_than_the_rate() -> None:
    dice = random.Random(3)
    buckets, now, taken = TokenBuckets(3.0, 20), 0.0, 0
    for _ in range(20_000):
        now += dice.random() * 0.1
        taken += buckets.take("a", now)
    assert taken == pytest.approx(3.0 * now + 20, abs=2)


# --- the guard


def test_a_large_answer_counts_for_the_occupant_who_asked() -> None:
    limiter = SenderLimiter(bounds(stanzas_per_s=1.0, burst=3), Clock())
    limiter.sender_of = lambda stanza: stanza.from_ or ""
    asked = [iq("get", from_=f"room@muc.example/{n}") for n in range(10)]
    for _ in range(3):
        assert [limiter.over_answer(one, TOKEN_BYTES) for one in asked] == [None] * 10
    for one in asked:
        assert limiter.over_answer(one, TOKEN_BYTES) is not None
    late = iq("get", from_="room@muc.example/late")  # has asked nothing, but the room has
    assert limiter.over_answer(late, TOKEN_BYTES) is not None
    assert limiter.over_answer(iq("get"), TOKEN_BYTES) is None


def test_answers_to_iqs_have_no_rate() -> None:
    limiter = SenderLimiter(bounds(stanzas_per_s=1.0, burst=1), Clock())
    assert limiter.over_rate(iq("get")) is None
    for type in ("result", "error"):
        assert limiter.over_rate(iq(type)) is None
    over = limiter.over_rate(iq("set"))
    assert over is not None
    assert (over.limit, over.key) == ("rate", "stanzas_per_s")


@pytest.mark.parametrize(
    ("weight_bytes", "burst"),
    [(0, 1), (TOKEN_BYTES - 1, 1), (TOKEN_BYTES, 2), (10 * TOKEN_BYTES, 11)],
)
def test_each_started_16_kib_count(weight_bytes: int, burst: int) -> None:
    limiter = SenderLimiter(bounds(stanzas_per_s=1.0, burst=burst + 1), Clock())
    assert limiter.over_rate(message("1"), weight_bytes) is None
    assert limiter.over_rate(message("2")) is None
    assert limiter.over_rate(message("3")) is not None


def test_a_sender_is_a_bare_jid() -> None:
    limiter = SenderLimiter(bounds(stanzas_per_s=1.0, burst=1), Clock())
    assert limiter.over_rate(message("1", f"{JULIET}/a")) is None
    assert limiter.over_rate(message("2", f"{JULIET}/b")) is not None
    assert limiter.over_rate(message("3", "nurse@capulet.example/a")) is None


def in_room(limiter: SenderLimiter) -> SenderLimiter:
    """Treat every full address as an occupant, as in a room that the bridge is in."""
    limiter.sender_of = lambda one: one.from_ or ""
    return limiter


def test_in_a_room_each_occupant_has_a_rate_and_all_together_ten_times_that() -> None:
    limiter = in_room(SenderLimiter(bounds(stanzas_per_s=1.0, burst=2), Clock()))
    room = "hall@muc.example"
    taken = [
        limiter.over_rate(message(f"{n}-{round}", f"{room}/n{n}")) is None
        for round in range(3)
        for n in range(9)
    ]
    assert taken == [True] * 18 + [False] * 9, "two each"
    last = [limiter.over_rate(message(f"x{n}", f"{room}/x{n}")) is None for n in range(4)]
    assert last == [True, True, False, False], "twenty of the room"
    assert limiter.over_rate(message("y", "attic@muc.example/n0")) is None


def test_in_a_room_each_occupant_may_wait_and_all_together_ten_times_that() -> None:
    limiter = in_room(SenderLimiter(bounds(max_waiting=1), Clock()))
    room = "hall@muc.example"
    waiting = []
    for n in range(10):
        one = Delivery(message(str(n), f"{room}/n{n}"), 0.0, 1)
        one.parties = (f"{room}/n{n}", BOT)
        assert limiter.over_waiting(one.stanza) is None
        limiter.accepted(one)
        assert limiter.over_waiting(one.stanza) is not None
        waiting.append(one)
    assert limiter.over_waiting(message("x", f"{room}/x")) is not None
    limiter.ended(waiting.pop())
    assert limiter.over_waiting(message("x", f"{room}/x")) is None
    for one in waiting:
        limiter.ended(one)
    assert limiter._waiting == {}


def test_another_rate_holds_for_rooms_too() -> None:
    limiter = in_room(SenderLimiter(bounds(stanzas_per_s=1.0, burst=1), Clock()))
    for n in range(10):
        assert limiter.over_rate(message(str(n), f"hall@muc.example/n{n}")) is None
    assert limiter.over_rate(message("x", "hall@muc.example/x")) is not None
    limiter.change(bounds(stanzas_per_s=2.0, burst=2))
    assert limiter.over_rate(message("x", "hall@muc.example/x")) is None


def test_what_waits_is_counted_until_its_end() -> None:
    limiter = SenderLimiter(bounds(max_waiting=2), Clock())
    waiting = [Delivery(message(str(n), to=f"bot{n}@{DOMAIN}"), 0.0, 1) for n in range(2)]
    for one in waiting:
        assert limiter.over_waiting(one.stanza) is None
        limiter.accepted(one)
    over = limiter.over_waiting(message("3"))
    assert over is not None
    assert over.key == "max_waiting"
    assert limiter.over_waiting(message("4", "nurse@capulet.example")) is None
    assert limiter.over_waiting(iq("result")) is None
    limiter.ended(waiting[0])
    assert limiter.over_waiting(message("5")) is None


def test_what_an_earlier_process_has_accepted_is_not_counted() -> None:
    limiter = SenderLimiter(bounds(max_waiting=1), Clock())
    limiter.accepted(Delivery(message("1"), 0.0, 1))
    limiter.ended(Delivery(message("0"), 0.0, 1, uid="msg_of_another_process"))
    assert limiter.over_waiting(message("2")) is not None


def test_conversations_are_bounded_and_those_there_are_go_on() -> None:
    limiter = SenderLimiter(bounds(max_conversations=2), Clock())
    first = Delivery(message("1", "a@x"), 0.0, 1)
    limiter.accepted(first)
    limiter.accepted(Delivery(message("2", "b@x"), 0.0, 1))
    assert limiter.over_waiting(message("3", "a@x/other")) is None
    over = limiter.over_waiting(message("4", "c@x"))
    assert over is not None
    assert over.key == "max_conversations"
    limiter.ended(first)
    assert limiter.over_waiting(message("5", "c@x")) is None


def test_more_ends_than_beginnings_do_no_harm() -> None:
    limiter = SenderLimiter(bounds(max_waiting=1), Clock())
    revived = Delivery(message("1"), 0.0, 1)
    limiter.ended(revived)
    limiter.ended(revived)
    limiter.accepted(revived)
    assert limiter.over_waiting(message("2")) is not None


def test_nothing_is_left_of_what_has_ended() -> None:
    limiter = SenderLimiter(LOOSE, Clock())
    for number in range(1000):
        one = Delivery(message(str(number), f"u{number}@x"), 0.0, 1)
        limiter.accepted(one)
        limiter.ended(one)
    assert (len(limiter._waiting), len(limiter._conversations)) == (0, 0)


def test_one_line_when_it_begins_and_one_when_it_ends() -> None:
    clock, log = Clock(), Recorder()
    limiter = SenderLimiter(bounds(stanzas_per_s=1.0, burst=1), clock)
    logger = log.logger()
    for number in range(1000):
        one = message(str(number), f"u{number % 7}@x")
        over = limiter.over_rate(one)
        if over is not None:
            limiter.refused(one, over, logger)
        limiter.calm(logger)
    [line] = log.lines
    assert (line["limit"], line["sender"], line["level"]) == ("stanzas_per_s", "u0@x", "warning")
    clock.now += CALM_S - 0.1
    limiter.calm(logger)
    assert len(log.lines) == 1
    clock.now += 0.2
    limiter.calm(logger)
    limiter.calm(logger)
    assert [line.get("refused") for line in log.lines] == [None, 993]


def test_another_rate_begins_with_full_buckets_and_the_counts_stay() -> None:
    limiter = SenderLimiter(bounds(stanzas_per_s=1.0, burst=1, max_waiting=1), Clock())
    assert limiter.over_rate(message("1")) is None
    limiter.accepted(Delivery(message("1"), 0.0, 1))
    same = bounds(stanzas_per_s=1.0, burst=1, max_waiting=2)
    limiter.change(same)
    assert limiter.over_rate(message("2")) is not None
    assert limiter.over_waiting(message("2")) is None
    limiter.change(evolve(same, burst=Count(2), max_waiting=Count(1)))
    assert limiter.over_rate(message("3")) is None
    assert limiter.over_waiting(message("3")) is not None


# --- at a whole daemon


TOLD: Final = "resource-constraint"
HEAD: Final = f"id='s' from='{JULIET}' to='{BOT}'"
SILENT: Final[dict[str, str]] = {
    "groupchat": f"<message type='groupchat' {HEAD}><body>x</body></message>",
    "headline": f"<message type='headline' {HEAD}><body>x</body></message>",
    "error": f"<message type='error' {HEAD}><body>x</body></message>",
    "presence": f"<presence {HEAD}/>",
}
nothing: Final = saying(response("204 No Content", media=None))


async def test_a_flood_of_one_sender_leaves_room_for_others(
    stage: Stage, mock_clock: MockClock
) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    async with stage.running_with(
        stage.component(endpoint), limits=bounds(max_waiting=10), journal=OFF
    ) as daemon:
        session = await stage.server.attached(DOMAIN)
        await session.send(*(message(f"f{n}") for n in range(100)), message("other", "nurse@x"))
        told = conditions(await session.receive(90))
        assert told == {f"f{n}": TOLD for n in range(10, 100)}
        error = session.stanzas[0].child("error")
        assert error is not None
        assert error.get("type") == "wait"
        gate.opened.set()
        replies = [str(one.id) for one in (await session.receive(101))[90:]]
        assert sorted(replies) == sorted([*(f"re-f{n}" for n in range(10)), "re-other"])
        await session.send(message("again"))
        await session.receive(102)
        assert daemon.services[DOMAIN].handover.meter.refused == {"conversations": 90}
        assert len(stage.log.of("refusing stanzas over a limit of senders")) == 1
        assert not stage.log.of("no sender is over a limit any more")
        mock_clock.jump(CALM_S)
        await session.send(message("later"))
        await session.receive(103)
        assert stage.log.of("no sender is over a limit any more")
    assert stage.log.of("no sender is over a limit any more")[0]["refused"] == 90
    assert [line["event"] for line in stage.log.told if line["level"] != "info"] == [
        "refusing stanzas over a limit of senders",
        "no sender is over a limit any more",
    ]


@pytest.mark.parametrize("kind", SILENT)
async def test_s30_who_may_not_be_told_is_not(
    stage: Stage, mock_clock: MockClock, kind: str
) -> None:
    endpoint = await stage.endpoint(nothing)
    everything = frozenset({"message", "presence", "iq"})
    async with stage.running_with(
        stage.component(endpoint, post_stanzas=everything, post_events=ALL_EVENTS),
        limits=bounds(stanzas_per_s=0.001, burst=3),
        journal=OFF,
    ) as daemon:
        session = await stage.server.attached(DOMAIN)
        await session.send(*(stanza(SILENT[kind]) for _ in range(50)), message("last"))
        assert conditions(await session.receive(1)) == {"last": TOLD}
        await stage.pass_until(lambda: len(endpoint.requests) == 3)
        assert daemon.services[DOMAIN].handover.meter.refused == {"rate": 48}
        untold = 0 if kind == "error" else 47
        assert daemon.counts[DOMAIN].untold == untold
        assert [one["level"] for one in stage.log.of("sender not told")] == ["debug"] * untold


async def test_those_that_the_stream_refuses_count_too(stage: Stage, mock_clock: MockClock) -> None:
    """A stanza of 20,000 elements takes 249 tokens: two may come, and others are free."""
    endpoint = await stage.endpoint(nothing)
    async with stage.running_with(
        stage.component(endpoint), limits=bounds(stanzas_per_s=0.001, burst=600), journal=OFF
    ) as daemon:
        session = await stage.server.attached(DOMAIN)
        head = f"<message type='chat' from='{JULIET}/x' to='{BOT}'"
        for number in range(5):
            body = f"{head} id='{number}'>{'<a/>' * 20_000}</message>"
            await session.send_bytes(body.encode())
        await session.send(message("innocent", "nurse@x"), message("mine"))
        told = conditions(await session.receive(5))
        refused = dict.fromkeys("01", "policy-violation")
        assert told == {**refused, **dict.fromkeys("234", TOLD)}
        await stage.pass_until(lambda: len(endpoint.requests) == 2)
        assert daemon.services[DOMAIN].handover.meter.refused == {"size": 2, "rate": 3}


async def test_an_iq_is_answered_and_the_answer_to_ours_is_let_in(
    stage: Stage, mock_clock: MockClock
) -> None:
    endpoint = await stage.endpoint(nothing)
    async with stage.running_with(
        stage.component(endpoint, post_stanzas=frozenset({"iq"})),
        limits=bounds(stanzas_per_s=0.001, burst=1),
        journal=OFF,
    ):
        session = await stage.server.attached(DOMAIN)
        await session.send(iq("get", "1"), iq("get", "2"), iq("result", "3"), iq("error", "4"))
        assert conditions(await session.receive(2)).get("2") == TOLD
        await stage.pass_until(lambda: len(endpoint.requests) == 3)
        assert sorted(one.json["id"] for one in endpoint.requests) == ["1", "3", "4"]


@pytest.mark.parametrize("journal", [JournalSettings(), OFF])
async def test_what_waits_is_counted_on_by_the_next_service(
    stage: Stage, mock_clock: MockClock, journal: JournalSettings
) -> None:
    gate = Gate()
    endpoint = await stage.endpoint(gate)
    tables: dict[str, Any] = {"limits": bounds(max_waiting=5), "journal": journal}
    async with stage.running_with(stage.component(endpoint), **tables):
        session = await stage.server.attached(DOMAIN)
        await session.send(*(message(str(n)) for n in range(6)))
        await session.receive(1)
        await stage.reload(stage.component(endpoint, order="none"), **tables)
        again = await stage.server.attached(DOMAIN, 2)
        await again.send(message("more"))
        if journal is OFF:  # all were answered by errors
            await until_posted(stage, endpoint.requests, "more")
            gate.opened.set()
            await again.receive(1)
        else:
            assert conditions(await again.receive(1)) == {"more": TOLD}
            gate.opened.set()
            await again.receive(6)
            await again.send(message("last"))
            await again.receive(7)


async def until_posted(stage: Stage, requests: list[Any], id: str) -> None:
    await stage.pass_until(lambda: any(one.json["id"] == id for one in requests))


@pytest.mark.parametrize("durability", ["process", "off"])
async def test_two_bots_that_answer_each_other_come_to_an_end(
    stage: Stage, mock_clock: MockClock, durability: Any
) -> None:
    """Each reply to a bot is a message to the other one, and so on; until one is refused by an
    error, to which nobody answers.
    """
    burst = 40

    async def route(_: Session, one: Stanza) -> None:
        address = domain_of(one.to or "")
        if address in (DOMAIN, OTHER):
            await (await stage.server.attached(address)).send(one)

    stage.server.on_stanza = route
    posted: list[Any] = []

    async def echo(exchange: Exchange) -> None:
        posted.append(exchange.request.json)
        await echo_once(exchange)

    endpoint = await stage.endpoint(echo)
    both = stage.component(endpoint), stage.component(endpoint, OTHER)
    limits = bounds(stanzas_per_s=0.01, burst=burst)
    journal = JournalSettings(durability=durability)
    async with stage.running_with(*both, limits=limits, journal=journal) as daemon:
        session = await stage.server.attached(DOMAIN)
        await stage.server.attached(OTHER)
        await session.send(message("hi", f"b@{OTHER}", f"a@{DOMAIN}"))
        await stage.pass_until(lambda: bool(daemon.services[OTHER].handover.meter.refused))
        await wait_all_tasks_blocked(0.05)
        assert Counter(one["type"] for one in posted) == {"chat": 2 * burst}
        assert Counter(one["to"] for one in posted) == dict.fromkeys(
            (f"a@{DOMAIN}", f"b@{OTHER}"), burst
        )
        # The error, to which nobody answers, was over the other one's limit.
        assert [one.handover.meter.refused for one in daemon.services.values()] == [{"rate": 1}] * 2


async def test_by_default_a_loop_ends_too() -> None:
    limiter = SenderLimiter(now=(clock := Clock()))
    taken = 0
    while limiter.over_rate(make("message", BOT, JULIET)) is None:
        taken += 1
        clock.now += 1 / 700  # as fast as two bots on loopback
        assert taken < 200_000
        if not taken % 10_000:
            await trio.lowlevel.checkpoint()
    assert taken > 100_000
