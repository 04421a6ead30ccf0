"""What becomes of stanzas whose POSTs fail: retries, budgets, order, an endpoint that is down, the
end of a process and the beginning of the next. The clock is mocked and jumps.
"""

import time
from itertools import pairwise
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import HttpSettings
from bridge.config.value import parse_post_url
from bridge.httpclient.response import Response
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.queue import Quota
from bridge.journal.store import Attempted, JournalError, Requeue
from bridge.webhook.endpoint import Endpoint
from bridge.webhook.outcome import BadReply, Outcome, Rejected, TimedOut, Unreachable
from bridge.webhook.retry import RetryPolicy
from tests.bridge.dispatch.life import (
    BOT,
    DOMAIN,
    DONE,
    START,
    Life,
    Post,
    Postbox,
    Wall,
    at_once,
    pass_time,
    said,
    whole,
)
from tests.bridge.journal.memory_journal import MemoryJournal
from tests.bridge.sample import stanza
from xmppstream import Stanza, StanzaReceived
from xmppstream.names import DELAY, STANZA_ERRORS, expanded

GONE: Final = Unreachable("ConnectError")
TRIED_AGAIN: Final[list[Outcome]] = [
    GONE,
    TimedOut(),
    *(Rejected(status) for status in (408, 425, 429, 502, 503, 504)),
]
FINAL: Final[list[Outcome]] = [
    *(Rejected(status) for status in (300, 400, 401, 404, 409, 410, 413, 422, 501, 505, 507)),
    BadReply("no JSON"),
]


def message(id: str, from_: str = "a@x/1", type: str = "chat") -> Stanza:
    body = "<body>hi</body>"
    return stanza(f"<message id='{id}' from='{from_}' to='{BOT}' type='{type}'>{body}</message>")


def iq(id: str, from_: str = "a@x/1") -> Stanza:
    return stanza(f"<iq id='{id}' type='get' from='{from_}' to='{BOT}'><q xmlns='urn:q'/></iq>")


def received(one: Stanza) -> StanzaReceived:
    return StanzaReceived(one, 100)


def conditions(stanzas: list[Stanza]) -> list[str]:
    """Sum errors up: id, condition, error type."""
    found = []
    for one in stanzas:
        error = one.child("error")
        assert error is not None, one
        [condition] = [
            child.local
            for child in error.elements
            if child.namespace == STANZA_ERRORS and child.local != "text"
        ]
        found.append(f"{one.id} {condition} {error.get('type')}")
    return found


async def begin(nursery: trio.Nursery, life: Life) -> Life:
    await nursery.start(life.run)
    await wait_all_tasks_blocked()
    return life


async def failing(
    nursery: trio.Nursery, outcome: Outcome, policy: RetryPolicy | None = None
) -> Life:
    """Begin a life whose endpoint always says the same."""
    wall = Wall()
    postbox = Postbox(wall, lambda _: outcome)
    return await begin(nursery, Life(wall=wall, endpoint=postbox, policy=policy))


def times(life: Life, id: str) -> list[float]:
    """When the POSTs of a stanza began."""
    return [round(post.at, 3) for post in life.endpoint.of(id)]


# --- what is tried again, and when


@pytest.mark.parametrize("outcome", TRIED_AGAIN)
async def test_it_is_tried_again_until_it_is_accepted(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome
) -> None:
    life = await begin(nursery, Life())
    await life.give(message("m"))
    for wait_s in (0.5, 1, 2, 4):
        await life.answer("m", outcome)
        assert life.running == []
        await pass_time(wait_s - 0.01)
        assert life.running == []
        await pass_time(0.01)
        assert life.running == ["m"]
    await life.answer("m", said({"body": "there", "id": "r"}))
    await pass_time(100)
    assert len(life.endpoint.posts) == 5
    assert [one.id for one in life.sent()] == ["r"]
    assert life.queue.fullness == 0


async def test_a_time_out_is_final_if_the_policy_says_so(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await failing(nursery, TimedOut(), RetryPolicy(jitter=whole, retry_timeouts=False))
    await life.give(message("m"), iq("q"))
    assert sorted(conditions(life.sent())) == [
        "m remote-server-timeout wait",
        "q remote-server-timeout wait",
    ]
    assert life.queue.fullness == 0
    await pass_time(100)
    assert len(life.endpoint.posts) == 2


async def test_after_a_change_of_the_policy_the_next_time_out_is_final(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life())
    await life.give(message("m"))
    policy = RetryPolicy(jitter=whole, retry_timeouts=False)
    life.dispatcher.change(policy, 8, moved=False)
    await life.answer("m", TimedOut())
    await pass_time(100)
    assert len(life.endpoint.posts) == 1
    assert conditions(life.sent()) == ["m remote-server-timeout wait"]


@pytest.mark.parametrize("outcome", FINAL)
async def test_other_failures_are_final_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome
) -> None:
    life = await failing(nursery, outcome)
    await life.give(message("m"), iq("q"))
    assert len(conditions(life.sent())) == 2
    await pass_time(100)
    assert sorted(life.endpoint.ids) == ["m", "q"]
    assert life.sent() == []


CRASHES = [
    # Statuses in turn, the seconds until each comes, and when the POSTs begin.
    ("three", [500] * 9, 0, [0, 0.5, 1.5]),
    ("three slow ones", [500] * 9, 1.5, [0, 2, 4.5]),
    ("slower than 5 s", [500] * 9, 6, [0]),
    ("the second after 5 s", [500] * 9, 4.4, [0, 4.9]),
    ("an accident", [500, 200], 0, [0, 0.5]),
    ("after others", [503, 502, 500, 500, 500, 500], 0, [0, 0.5, 1.5, 2, 3]),
    ("among others", [500, 503, 500, 503, 500, 500], 0, [0, 0.5, 1.5, 2.5, 6.5]),
    ("a failure after it", [500, 404], 0, [0, 0.5]),
]


@pytest.mark.parametrize(
    ("statuses", "takes_s", "began"), [pytest.param(*row[1:], id=row[0]) for row in CRASHES]
)
async def test_a_500_is_tried_three_times_within_5_s(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    statuses: list[int],
    takes_s: float,
    began: list[float],
) -> None:
    async def answer(post: Post, status: int) -> None:
        await trio.sleep(takes_s)
        post.answer(DONE if status == 200 else Rejected(status))

    def rule(post: Post) -> None:
        nursery.start_soon(answer, post, statuses[post.attempt - 1])

    wall = Wall()
    life = await begin(nursery, Life(wall=wall, endpoint=Postbox(wall, rule)))
    await life.give(message("m"))
    await pass_time(100)
    assert times(life, "m") == began
    assert life.queue.fullness == 0


async def test_the_waits_are_spread_from_nothing_to_the_whole(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    bounds: list[float] = []

    def half(bound_s: float) -> float:
        bounds.append(bound_s)
        return bound_s / 2

    life = await failing(nursery, Rejected(429), RetryPolicy(jitter=half))
    await life.give(message("m"))
    await pass_time(100)
    assert bounds == [0.5, 1, 2, 4, 8] + [15] * (len(bounds) - 5)
    assert times(life, "m")[:6] == [0, 0.25, 0.75, 1.75, 3.75, 7.75]


async def test_a_stanza_that_is_tried_at_once_does_not_stop_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life(policy=RetryPolicy(jitter=at_once)))
    await life.give(message("m"))
    for _ in range(20):
        await life.answer("m", Rejected(429))
    assert len(life.endpoint.posts) == 21


async def retry_after_s(value: str) -> float | None:
    """Give what a real endpoint object reads of a Retry-After header."""

    class Exchange:
        async def request(
            self, method: str, lines: bytes, body: bytes, deadline: float, *_: object
        ) -> Response:
            return Response(503, ((b"retry-after", value.encode()),), b"")

        async def aclose(self) -> None:
            pass

    url = parse_post_url("http://endpoint.example/")
    endpoint = Endpoint(url, HttpSettings(), Exchange(), now=lambda: START)
    outcome = await endpoint.post(b"{}", "msg_1")
    assert isinstance(outcome, Rejected)
    return outcome.retry_after_s


@pytest.mark.parametrize(
    ("value", "waited_s"),
    [
        ("7", 7),
        ("0", 0.5),
        ("Tue, 14 Nov 2023 22:13:27 GMT", 7),  # 7 s after START
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.5),  # gone by
        ("soon", 0.5),
        ("-5", 0.5),
        ("1e3", 0.5),
    ],
)
async def test_retry_after_is_respected(
    nursery: trio.Nursery, autojump_clock: MockClock, value: str, waited_s: float
) -> None:
    life = await begin(nursery, Life())
    await life.give(message("m"))
    await life.answer("m", Rejected(503, await retry_after_s(value)))
    await pass_time(20)
    assert times(life, "m") == [0, waited_s]


async def test_a_date_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert await retry_after_s("Tue, 14 Nov 2023 22:13:27 -0000") == 7
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("value", ["86400", "9" * 30, "Tue, 14 Nov 2090 22:13:27 GMT", "61"])
async def test_a_retry_after_beyond_the_budget_leaves_one_last_attempt(
    nursery: trio.Nursery, autojump_clock: MockClock, value: str
) -> None:
    life = await failing(nursery, Rejected(503, await retry_after_s(value)))
    await life.give(message("m"), iq("q"))
    await pass_time(59)
    assert times(life, "m") == [0, 58]
    assert times(life, "q") == [0, 8]
    assert sorted(conditions(life.sent())) == [
        "m remote-server-timeout wait",
        "q remote-server-timeout wait",
    ]


async def test_what_an_endpoint_has_failed_goes_on_when_it_is_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Whatever Retry-After said. A stanza that was asked for time (429) takes it."""

    def rule(post: Post) -> Outcome:
        if post.id == "limited":
            return Rejected(429, 30) if post.attempt == 1 else DONE
        return Rejected(503, 600) if trio.current_time() < 8 else DONE

    wall = Wall()
    life = await begin(nursery, Life(wall=wall, endpoint=Postbox(wall, rule)))
    await life.give(message("limited", "z@x"), *(message(f"m{n}", f"{n}@x") for n in range(5)))
    await pass_time(9)
    await life.give(message("new", "new@x"))
    await pass_time(40)
    assert times(life, "limited") == [0, 30]
    assert times(life, "new") == [9]
    assert [times(life, f"m{n}")[-1] for n in range(5)] == [9] * 5
    assert life.sent() == []


async def test_retry_after_is_capped(autojump_clock: MockClock) -> None:
    assert await retry_after_s("9" * 30) == 86_400
    assert await retry_after_s("Tue, 14 Nov 2090 22:13:27 GMT") == 86_400


# --- budgets


@pytest.mark.parametrize(
    ("one", "budget_s"), [(message("m"), 60), (iq("m"), 10)], ids=["message", "iq"]
)
async def test_the_budget_ends_the_retries(
    nursery: trio.Nursery, autojump_clock: MockClock, one: Stanza, budget_s: float
) -> None:
    life = await failing(nursery, Rejected(429))
    await life.give(one)
    await pass_time(2 * budget_s)
    tried = times(life, "m")
    assert tried[-1] < budget_s
    assert len(tried) == {60: 9, 10: 6}[int(budget_s)]
    assert conditions(life.sent()) == ["m resource-constraint wait"]  # as of the last attempt
    assert life.queue.fullness == 0


@pytest.mark.parametrize(
    ("one", "cut_at_s"), [(message("m"), 60), (iq("m"), 10)], ids=["message", "iq"]
)
async def test_the_budget_cuts_the_running_attempt(
    nursery: trio.Nursery, autojump_clock: MockClock, one: Stanza, cut_at_s: float
) -> None:
    life = await begin(nursery, Life())
    await life.give(one)
    await life.answer("m", GONE)  # at 0.5 s it begins again, and hangs
    await pass_time(cut_at_s - 0.01)
    assert life.sent() == []
    assert life.running == ["m"]
    await pass_time(0.01)
    assert life.running == []
    assert conditions(life.sent()) == ["m remote-server-timeout wait"]


@pytest.mark.parametrize("one", [message("m"), iq("m")], ids=["message", "iq"])
async def test_a_budget_of_0_means_one_attempt(
    nursery: trio.Nursery, autojump_clock: MockClock, one: Stanza
) -> None:
    life = await begin(nursery, Life(policy=RetryPolicy(0, 0)))
    await life.give(one)
    await pass_time(29.9)  # the time-out for a POST is 30 s
    assert life.running == ["m"]
    await pass_time(100)
    assert times(life, "m") == [0]
    assert conditions(life.sent()) == ["m remote-server-timeout wait"]


async def test_budgets_may_differ(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    life = await failing(nursery, Rejected(429), RetryPolicy(0, 5, jitter=whole))
    await life.give(message("m"), iq("q"))
    await pass_time(100)
    assert (len(times(life, "m")), len(times(life, "q"))) == (1, 4)


async def test_the_budget_counts_from_acceptance_while_it_waits_for_a_slot(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    life = await begin(nursery, Life(max_in_flight=1))
    await life.give(message("m"), iq("q"))
    await pass_time(9.9)
    assert life.sent() == []
    await pass_time(0.2)
    assert conditions(life.sent()) == ["q remote-server-timeout wait"]
    assert life.running == ["m"]
    await life.answer("m")
    assert life.endpoint.ids == ["m"]  # the iq was never POSTed


async def test_a_message_that_was_tried_is_given_up_when_its_slot_comes_too_late(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    life = await begin(nursery, Life(max_in_flight=1, policy=RetryPolicy(5, 10, jitter=whole)))
    await life.give(message("m", "a@x"), message("hog", "b@x"), message("late", "c@x"))
    await life.answer("m", Rejected(503, 3))
    assert life.running == ["hog"]
    await pass_time(4.9)  # `hog` is cut at 5 s, as is `m`, whose turn it was at 3 s
    assert life.running == ["hog"]
    await pass_time(0.2)
    assert life.running == ["late"]  # late too, but owed one attempt
    assert conditions(life.sent()) == ["hog remote-server-timeout wait"]
    await pass_time(20)
    assert life.running == ["late"]  # and a whole one
    await life.answer("late")
    assert conditions(life.sent()) == ["m remote-server-timeout wait"]
    assert life.endpoint.ids == ["m", "hog", "late"]


# --- order


async def test_a_conversation_that_waits_holds_up_only_itself_and_no_slot(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    life = await begin(nursery, Life(max_in_flight=1))
    await life.give(message("a1", "a@x"), message("a2", "a@x/other"), message("b1", "b@x"))
    await life.answer("a1", Rejected(503, 5))
    assert life.running == ["b1"]
    await life.answer("b1")
    await life.give(message("b2", "b@x"), iq("q", "a@x"))
    await life.answer("b2")
    await life.answer("q")
    assert life.running == []
    await pass_time(5)
    assert life.running == ["a1"]
    await life.answer("a1")
    assert life.running == ["a2"]
    assert life.endpoint.ids == ["a1", "b1", "b2", "q", "a1", "a2"]


async def test_order_holds_across_retries(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fails = {"1": 3, "3": 1, "4": 5}

    def rule(post: Post) -> Outcome:
        fails[post.id] = fails.get(post.id, 0) - 1
        return Rejected(429) if fails[post.id] >= 0 else DONE

    wall = Wall()
    life = await begin(nursery, Life(wall=wall, endpoint=Postbox(wall, rule)))
    await life.give(*(message(str(number)) for number in range(6)))
    await pass_time(100)
    assert "".join(life.endpoint.ids) == "0" + "1111" + "2" + "33" + "444444" + "5"


@pytest.mark.parametrize("poison", ["500", "hangs", "503"])
async def test_a_poisoned_stanza_delays_only_its_own_conversation(
    nursery: trio.Nursery, autojump_clock: MockClock, poison: str
) -> None:
    def rule(post: Post) -> Outcome | None:
        if post.id != "poison":
            return DONE
        return None if poison == "hangs" else Rejected(int(poison))

    wall = Wall()
    life = await begin(nursery, Life(wall=wall, endpoint=Postbox(wall, rule), max_in_flight=2))
    await life.give(message("poison", "p@x"), message("after", "p@x"))
    for number in range(20):
        await life.give(*(message(f"{n}-{number}", f"{n}@x") for n in range(3)))
        assert times(life, f"2-{number}") == [round(trio.current_time(), 3)]
        await pass_time(1)
    await pass_time(100)
    assert len(life.endpoint.of("after")) == 1
    assert times(life, "after")[0] == pytest.approx(0 if poison == "500" else 60, abs=30)
    assert not life.log.of("endpoint is down, asking it by one POST at a time")


# --- an endpoint that is plainly down


async def test_when_it_is_down_one_post_at_a_time_asks(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life())
    senders = [f"{n:02}@x" for n in range(20)]
    await life.give(*(message(f"m{n}", sender) for n, sender in enumerate(senders)))
    for id in life.running:
        await life.answer(id, GONE)
    before = len(life.endpoint.posts)
    assert before == 20
    assert len(life.log.of("endpoint is down, asking it by one POST at a time")) == 1
    starts = []
    for _ in range(6):
        while not life.running:
            await pass_time(0.125)
        [id] = life.running
        starts.append(trio.current_time())
        await pass_time(0.25)
        assert life.running == [id]
        await life.answer(id, GONE)
        assert life.running == []
    waits = [later - sooner for sooner, later in pairwise(starts)]
    assert waits == pytest.approx([1.25, 2.25, 4.25, 5.25, 5.25], abs=0.25)
    assert len(life.endpoint.posts) == before + 6


async def test_when_it_is_back_all_go_on_in_order(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Item 3 of what is to be shown: down for 40 s, 20 conversations of three."""
    wall = Wall()
    postbox = Postbox(wall, lambda _: GONE if trio.current_time() < 40 else DONE)
    life = await begin(nursery, Life(wall=wall, endpoint=postbox))
    for n in range(3):
        await life.give(*(message(f"{who}-{n}", f"{who}@x") for who in range(20)))
    await pass_time(39)
    failed = len(postbox.posts)
    assert failed < 20 + 15  # each once, then the probes
    await pass_time(20)
    posted = [post.id for post in postbox.posts if post.at >= 40]
    assert sorted(posted) == sorted(f"{who}-{n}" for who in range(20) for n in range(3))
    for who in range(20):
        assert [id for id in posted if id.startswith(f"{who}-")] == [f"{who}-{n}" for n in range(3)]
    assert life.sent() == []
    assert life.queue.fullness == 0
    assert len(life.log.of("endpoint is back")) == 1


async def test_while_it_is_down_budgets_end_in_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wall = Wall()
    life = await begin(nursery, Life(wall=wall, endpoint=Postbox(wall, lambda _: GONE)))
    await life.give(*(message(f"m{who}", f"{who}@x") for who in range(8)))
    await life.give(*(message(f"n{who}", f"{who}@x") for who in range(8)))
    await pass_time(5)
    await life.give(*(iq(f"q{who}", f"{who}@x") for who in range(8)))
    await pass_time(9.9)
    told = conditions(life.sent())
    await pass_time(0.2)
    told += conditions(life.sent())
    assert sorted(told) == [f"q{who} remote-server-timeout wait" for who in range(8)]
    await pass_time(44.9 - 0.2)
    told = conditions(life.sent())
    assert len(told) <= 8
    await pass_time(0.4)
    told += conditions(life.sent())
    expected = [f"{m}{who} remote-server-timeout wait" for m in "mn" for who in range(8)]
    assert sorted(told) == expected
    assert life.queue.fullness == 0


async def test_what_could_not_expire_behind_another_does_so_after_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The end of the head is being committed when the time of its follower ends."""
    life = await begin(nursery, Life(MemoryJournal(), policy=RetryPolicy(20, 10, jitter=whole)))
    await life.give(message("head", "h@x"), *(message(who, f"{who}@x") for who in "abc"))
    for who in "abc":
        await life.answer(who, GONE)
    await pass_time(1)
    await life.give(message("follower", "h@x"))
    await pass_time(18)
    life.disk.hold()
    await pass_time(11)
    assert life.sent() == []
    life.disk.release()
    await wait_all_tasks_blocked()
    assert {one.partition(" ")[0] for one in conditions(life.sent())} == {
        *"abc",
        "head",
        "follower",
    }
    assert "follower" not in life.endpoint.ids
    await life.kill()


async def test_one_that_works_is_not_taken_to_be_down_for_a_slow_few(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    life = await begin(nursery, Life())
    await life.give(*(message(f"m{who}", f"{who}@x") for who in range(9)))
    for number in range(8):
        await life.answer(f"m{number}", GONE if number % 3 < 2 else DONE)
    assert not life.log.of("endpoint is down, asking it by one POST at a time")


async def test_the_probe_that_meets_a_bug_does_not_stop_the_probing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life())
    await life.give(*(message(f"m{who}", f"{who}@x") for who in range(5)))
    for who in range(3):
        await life.answer(f"m{who}", GONE)
    for who in (3, 4):
        await life.answer(f"m{who}", GONE)
    await pass_time(0.5)
    [probe] = life.running
    await life.answer(probe, RuntimeError("a bug"))
    await pass_time(5)
    [other] = life.running
    assert other != probe
    await life.answer(other)
    await pass_time(1)
    assert len(life.running) == 3


async def test_what_comes_while_it_is_down_may_be_the_probe(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """All others wait longer, as they were asked to; nothing was to happen before."""
    life = await begin(nursery, Life())
    await life.give(*(message(f"m{who}", f"{who}@x") for who in range(3)))
    for who in range(3):
        await life.answer(f"m{who}", Rejected(503, 30))
    await life.give(message("new", "d@x"))
    await pass_time(0.5)
    assert life.running == ["new"]


# --- another policy (SIGHUP)


async def down(nursery: trio.Nursery) -> Life:
    """Begin a life whose endpoint is known to be down since three POSTs; three more wait for it."""
    life = await begin(nursery, Life())
    await life.give(*(message(f"m{who}", f"{who}@x") for who in range(3)))
    for who in range(3):
        await life.answer(f"m{who}", GONE)
    await life.give(*(message(f"n{who}", f"{who}@y") for who in range(3)))
    assert life.running == []
    return life


@pytest.mark.parametrize("policy", [RetryPolicy(0, 10, whole), RetryPolicy(60, 0, whole)])
async def test_a_policy_that_is_not_patient_ends_the_probing(
    nursery: trio.Nursery, autojump_clock: MockClock, policy: RetryPolicy
) -> None:
    life = await down(nursery)
    life.dispatcher.change(policy, 256, moved=False)
    await wait_all_tasks_blocked()
    assert life.running == ["n0", "n1", "n2"]  # no URL has moved: what waits to try again waits on
    for _ in range(2):
        for id in life.running:
            await life.answer(id, GONE)
    await pass_time(0.5)
    assert len(life.running) == 6
    await life.give(message("new", "z@x"))
    assert "new" in life.running


@pytest.mark.parametrize("outcome", [GONE, DONE, RuntimeError("a bug")])
async def test_a_probe_that_ends_under_another_policy(
    nursery: trio.Nursery, autojump_clock: MockClock, outcome: Outcome | Exception
) -> None:
    life = await down(nursery)
    await pass_time(0.5)
    [probe] = life.running
    life.dispatcher.change(RetryPolicy(0, 0, whole), 256, moved=False)
    await wait_all_tasks_blocked()
    assert len(life.running) == 6
    await life.answer(probe, outcome)
    await pass_time(0)
    assert len(life.running) == 5
    life.dispatcher.change(RetryPolicy(jitter=whole), 256, moved=False)
    for id in life.running[:3]:
        await life.answer(id, GONE)
    await life.give(message("late", "late@x"))
    assert "late" not in life.running  # three have failed since: it is down anew
    for id in life.running:
        await life.answer(id, DONE)
    assert "late" in life.running


async def test_what_is_accepted_keeps_its_budget_under_another_policy(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life())
    await life.give(message("sixty"))
    life.dispatcher.change(RetryPolicy(0, 0, whole), 256, moved=False)
    await life.give(message("none", "b@x"))
    life.dispatcher.change(RetryPolicy(30, 10, whole), 256, moved=False)
    await life.give(message("thirty", "c@x"))
    life.dispatcher.change(RetryPolicy(0, 10, whole), 256, moved=False)
    life.endpoint.rule = lambda _: Rejected(429)
    for id in life.running:
        await life.answer(id, Rejected(429))
    await pass_time(200)
    assert times(life, "none") == [0]
    assert 15 < times(life, "thirty")[-1] < 30
    assert 45 < times(life, "sixty")[-1] < 60
    assert len(life.sent()) == 3


# --- identity


async def test_an_attempt_says_which_it_is(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    await life.give(message("m"), iq("q"))
    for _ in range(2):
        await life.answer("m", GONE)
        await pass_time(1)
    await life.kill()
    again = await begin(nursery, Life(journal, wall=life.wall))
    posts = [*life.endpoint.of("m"), *again.endpoint.of("m")]
    assert [post.attempt for post in posts] == [1, 2, 3, 3]  # the third came to no end
    assert len({post.uid for post in posts}) == 1
    [first], [second] = life.endpoint.of("q"), again.endpoint.of("q")
    assert first.uid == second.uid != posts[0].uid
    assert first.json == second.json
    await again.kill()


# --- dead letters


async def test_what_is_given_up_is_kept_with_the_reason_and_every_attempt(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    await life.give(message("m", "a@x"), message("n", "b@x"), iq("q"), message("b", "c@x"))
    await life.answer("m", GONE)
    await life.answer("n", Rejected(404))
    await life.answer("b", RuntimeError("a bug"))
    await pass_time(0.5)
    await life.answer("m", BadReply("no JSON"))
    await pass_time(10)
    dead = {letter.entry.stanza.id: letter for letter in journal.dead(DOMAIN, limit=9)}
    assert {id: letter.reason for id, letter in dead.items()} == {
        "m": "bad reply: no JSON",
        "n": "status 404",
        "q": "no answer in time",
        "b": "a bug",
    }
    assert dead["m"].entry.attempts == (
        Attempt(START, "unreachable: ConnectError"),
        Attempt(START + 0.5, "bad reply: no JSON"),
    )
    assert dead["n"].entry.attempts == (Attempt(START, "status 404"),)
    assert dead["q"].died == START + 10
    assert len(life.sent()) == 4
    await wait_all_tasks_blocked()
    assert journal.totals()[DOMAIN].replies == 0
    await life.kill()


async def test_a_dead_letter_that_is_tried_again_has_its_whole_budget(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    await life.give(message("m"))
    await life.answer("m", Rejected(404))
    await life.kill()
    [letter] = journal.dead(DOMAIN, limit=9)
    journal.commit([Requeue((letter.entry.uid,), START + 1000)])
    await pass_time(1000)
    again = await begin(nursery, Life(journal, wall=life.wall))
    [post] = again.endpoint.of("m")
    assert (post.uid, post.attempt) == (letter.entry.uid, 2)
    await again.answer("m", GONE)
    await pass_time(30)
    assert len(again.endpoint.of("m")) > 1
    await again.kill()


# --- after a restart


def journalled(*stanzas: Stanza, received: float = START) -> MemoryJournal:
    """Give a journal in which stanzas are pending."""
    journal = MemoryJournal()
    for number, one in enumerate(stanzas):
        delivery = Delivery(one, received, 1, uid=f"msg_{number}", component=DOMAIN)
        journal.commit([delivery])
    return journal


@pytest.mark.parametrize("age_s", [10.0, 11.0, 1e6])
async def test_an_iq_beyond_its_budget_is_answered_and_never_posted(
    nursery: trio.Nursery, autojump_clock: MockClock, age_s: float
) -> None:
    wall = Wall()
    wall.shift_s = age_s
    journal = journalled(iq("q1"), message("m"), iq("q2", "b@x"))
    life = await begin(nursery, Life(journal, wall=wall))
    assert life.endpoint.ids == ["m"]
    assert sorted(conditions(life.sent())) == [
        "q1 remote-server-timeout wait",
        "q2 remote-server-timeout wait",
    ]
    await life.kill()


async def test_an_iq_within_its_budget_has_the_rest_of_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wall = Wall()
    wall.shift_s = 7
    life = await begin(nursery, Life(journalled(iq("q")), wall=wall))
    assert life.running == ["q"]
    await pass_time(2.9)
    assert life.running == ["q"]
    await pass_time(0.2)
    assert conditions(life.sent()) == ["q remote-server-timeout wait"]
    await life.kill()


@pytest.mark.parametrize("tried", [False, True])
async def test_a_message_beyond_its_budget_gets_one_whole_attempt(
    nursery: trio.Nursery, autojump_clock: MockClock, tried: bool
) -> None:
    wall = Wall()
    wall.shift_s = 1000
    journal = journalled(message("m"), message("n"))
    if tried:
        journal.commit([Attempted("msg_0", Attempt(START, "status 503"))])
    life = await begin(nursery, Life(journal, wall=wall))
    await pass_time(29)
    assert life.running == ["m"]
    await life.answer("m", GONE)
    assert conditions(life.sent()) == ["m remote-server-timeout wait"]
    await life.answer("n")
    assert life.endpoint.ids == ["m", "n"]
    assert life.queue.fullness == 0
    await life.kill()


@pytest.mark.parametrize("shift_s", [-3600.0, -1.0])
async def test_a_clock_that_was_set_back_gives_a_new_budget_and_no_more(
    nursery: trio.Nursery, autojump_clock: MockClock, shift_s: float
) -> None:
    wall = Wall()
    wall.shift_s = shift_s
    wall_endpoint = Postbox(wall, lambda _: Rejected(429))
    life = await begin(
        nursery, Life(journalled(iq("q"), message("m")), wall=wall, endpoint=wall_endpoint)
    )
    await pass_time(100)
    assert times(life, "q")[-1] < 10
    assert times(life, "m")[-1] < 60
    assert len(life.sent()) == 2
    await life.kill()


async def test_a_clock_that_was_set_back_between_two_stanzas(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The later one's budget ends first; it is not waited for behind the other."""
    wall = Wall()
    journal = journalled(iq("q1"), received=START + 1000)
    second = journalled(message("x"), iq("q2"), received=START).accepted[1]
    journal.commit([second])
    wall.shift_s = 9
    life = await begin(nursery, Life(journal, wall=wall, max_in_flight=1))
    assert life.running == ["q1"]
    await pass_time(1.1)
    assert conditions(life.sent()) == ["q2 remote-server-timeout wait"]
    await life.kill()


async def test_what_was_pending_goes_on_first_and_in_order(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = journalled(*(message(str(number)) for number in range(9)))
    wall = Wall()
    life = Life(journal, wall=wall, endpoint=Postbox(wall, lambda _: DONE), memory=Quota(2))
    await nursery.start(life.run)
    await life.give(message("new"))
    assert life.endpoint.ids == [*map(str, range(9)), "new"]
    await life.kill()


async def test_replies_are_written_before_what_comes_of_what_was_pending(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    await life.give(iq("q"), message("m"))
    await life.answer("q", said({"stanza": "<iq type='result'/>"}))
    first = life.outbox.take()
    await life.kill()
    again = await begin(nursery, Life(journal, wall=life.wall))
    await again.answer("m", said({"body": "there"}))
    data = again.outbox.take()
    assert data[:1] == first
    assert len(data) == 2
    assert again.endpoint.ids == ["m"]
    await again.kill()


# --- SIGTERM


async def test_stopping_with_a_journal(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Messages stay in it, unanswered; iqs get their error and are closed."""
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal, max_in_flight=3))
    await life.give(
        message("a1", "a@x"), message("a2", "a@x"), message("b", "b@x"), iq("q"), iq("never")
    )
    await life.answer("b", Rejected(503, 30))
    stopping = trio.Event()

    async def stop() -> None:
        await life.stop(5)
        stopping.set()

    nursery.start_soon(stop)
    await wait_all_tasks_blocked()
    await life.give(message("new", "c@x"), iq("new-q"), message("n2", "c@x", "normal"))
    assert conditions(life.sent()) == ["new-q remote-server-timeout wait"]
    await life.answer("a1", said({"body": "in time"}))
    assert "a2" not in life.endpoint.ids  # begun no more
    [reply] = life.sent()
    assert reply.kind == "message"
    await stopping.wait()
    assert sorted(conditions(life.sent())) == [
        "never remote-server-timeout wait",
        "q remote-server-timeout wait",
    ]
    await life.end()
    pending = [entry.stanza.id for entry in journal.pending(DOMAIN, limit=9)]
    assert pending == ["a2", "b", "new", "n2"]
    assert {one.reason for one in journal.dead(DOMAIN, limit=9)} == {"the daemon stopped"}
    assert journal.totals()[DOMAIN].replies == 0
    again = await begin(nursery, Life(journal, wall=life.wall))
    assert again.running == ["a2", "b", "new"]
    await again.kill()


async def test_stopping_waits_for_what_is_being_committed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The last reply is on its way to the journal, and no POST runs any more."""
    life = await begin(nursery, Life(MemoryJournal()))
    await life.give(message("m"))
    life.disk.hold()
    await life.answer("m", said({"body": "there", "id": "r"}))
    drained = trio.Event()

    async def drain() -> None:
        await life.dispatcher.drain()
        drained.set()

    nursery.start_soon(drain)
    await wait_all_tasks_blocked()
    assert not drained.is_set()
    life.disk.release()
    await drained.wait()
    assert [one.id for one in life.sent()] == ["r"]
    await life.kill()


async def test_stopping_does_not_wait_for_what_is_tried_again_by_the_next_process(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    await life.give(message("m"))
    nursery.start_soon(life.answer, "m", Rejected(503, 30))
    await life.stop(5)
    assert trio.current_time() == 0
    await life.end()
    assert [entry.stanza.id for entry in journal.pending(DOMAIN, limit=9)] == ["m"]


@pytest.mark.parametrize("budget_s", [0, 10])
@pytest.mark.parametrize("slots", [1, 2])
async def test_an_iq_that_is_committed_while_it_stops_is_posted(
    nursery: trio.Nursery, autojump_clock: MockClock, budget_s: float, slots: int
) -> None:
    policy = RetryPolicy(60, budget_s, whole)
    life = await begin(nursery, Life(MemoryJournal(), policy=policy, max_in_flight=slots))
    await life.give(message("m"))
    life.disk.hold()
    await life.give(iq("q"), message("n", "n@x"))
    nursery.start_soon(life.stop, 5)
    await wait_all_tasks_blocked()
    life.disk.release()
    await wait_all_tasks_blocked()
    assert life.running == ["m", "q"][:slots]
    await life.answer("m")
    assert life.running == ["q"]
    await life.answer("q", said({"stanza": "<iq type='result'/>"}))
    assert [one.type for one in life.sent()] == ["result"]
    assert trio.current_time() == 0
    await life.end()


async def test_iqs_that_are_given_up_are_committed_together(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal, max_in_flight=1))
    await life.give(*(iq(f"q{n}", f"{n}@x") for n in range(500)))
    before = journal.commits
    await life.stop(0)
    assert len(life.sent()) == 500
    assert journal.commits - before < 10
    await life.end()


async def test_stopping_without_a_journal_tells_everybody(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life(max_in_flight=1))
    await life.give(message("a1"), message("a2"), iq("q"))
    await life.answer("a1", Rejected(503, 30))
    await life.stop(5)
    assert sorted(one.partition(" ")[0] for one in conditions(life.sent())) == ["a1", "a2", "q"]
    await life.end()


# --- a journal that fails


async def test_what_cannot_be_kept_is_refused(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    journal.failure = JournalError("the disk is full")
    await life.give(message("m"), iq("q"))
    assert conditions(life.sent()) == ["m resource-constraint wait", "q resource-constraint wait"]
    assert life.endpoint.posts == []
    await life.kill()


async def test_the_reader_hears_of_room_that_a_commit_makes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Nothing has ended, but what was not committed is; so the reader does not wait 10 s."""
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal, volume=Quota(100_000)))
    life.disk.hold()
    one = received(message("m"))
    for _ in range(10_000):
        await life.dispatcher.handle(one)
    arrived = trio.Event()

    async def give() -> None:
        await life.dispatcher.handle(received(message("more")))
        arrived.set()

    nursery.start_soon(give)
    await wait_all_tasks_blocked()
    assert not arrived.is_set()
    life.disk.release()
    before = trio.current_time()
    await arrived.wait()
    assert trio.current_time() == before
    await life.kill()


# --- what is written late


def delays(stanzas: list[Stanza]) -> list[int]:
    """How many `<delay/>` each has."""
    name = expanded(DELAY, "delay")
    return [len(list(one.element.find_all(name))) for one in stanzas]


async def test_what_is_written_late_says_so(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life())
    await life.give(message("m"), iq("q"))
    await life.answer("m", said({"body": "there"}))
    await life.answer("q", said({"stanza": "<iq type='result'/>"}))
    await pass_time(10)
    await life.give(message("n"))
    await life.answer("n", said({"body": "there"}))
    await pass_time(0.1)
    assert delays(life.sent()) == [1, 0, 0]


async def test_what_is_sent_again_is_byte_identical(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    life = await begin(nursery, Life())
    await life.give(message("m"))
    await life.answer("m", said({"body": "late"}))
    await pass_time(11)
    await life.give(message("n"))
    await life.answer("n", said({"body": "in time"}))
    first = life.outbox.take()
    life.outbox.stream_lost(blamed=False)
    await life.give(message("o"))
    await life.answer("o", said({"body": "new"}))
    await pass_time(100)
    second = life.outbox.take()
    assert second[:2] == first
    stanzas = [stanza(data.decode()) for data in second]
    assert delays(stanzas) == [1, 0, 1]


async def test_after_a_restart_it_says_how_late_it_is(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    journal = MemoryJournal()
    life = await begin(nursery, Life(journal))
    await life.give(message("m"), iq("q"))
    await life.answer("m", said({"body": "there"}))
    await life.answer("q", said({"stanza": "<iq type='result'/>"}))
    await life.kill()
    await pass_time(100)
    again = await begin(nursery, Life(journal, wall=life.wall))
    late = again.sent()
    assert delays(late) == [1, 0]
    [delay] = late[0].element.find_all(expanded(DELAY, "delay"))
    assert delay.get("stamp") == "2023-11-14T22:13:20Z"
    await again.kill()
