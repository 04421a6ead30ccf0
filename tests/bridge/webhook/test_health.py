"""When an endpoint is plainly down, and whose POST finds out that it is back."""

import math

import pytest

from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.retry import DOWN_AFTER_SENDERS, CircuitBreaker, says_down

GONE = Unreachable("ConnectError")
DOWN: list[Outcome] = [GONE, TimedOut(), Rejected(502), Rejected(503), Rejected(504)]
UP: list[Outcome] = [
    NoReply(),
    Replied("json", b"{}"),
    BadReply("no JSON"),
    *(Rejected(status) for status in (400, 404, 408, 425, 429, 500, 501)),
]


def healthy() -> CircuitBreaker:
    return CircuitBreaker(jitter=lambda bound_s: bound_s)


def failed(breaker: CircuitBreaker, outcome: Outcome = GONE, now: float = 0.0) -> CircuitBreaker:
    """Have the POSTs of three senders fail."""
    for sender in ("a", "b", "c"):
        probe = breaker.try_acquire()
        breaker.record(outcome, sender, now, probe=probe)
    return breaker


def test_it_is_up_at_first() -> None:
    breaker = healthy()
    assert not breaker.is_down
    assert breaker.allows(0)
    assert not breaker.try_acquire()
    assert breaker.allows(0)
    assert breaker.next_probe_at == math.inf


@pytest.mark.parametrize("outcome", DOWN)
def test_three_senders_make_it_down(outcome: Outcome) -> None:
    breaker = failed(healthy(), outcome)
    assert DOWN_AFTER_SENDERS == 3
    assert breaker.is_down
    assert not breaker.allows(0)


@pytest.mark.parametrize("outcome", UP)
def test_what_speaks_of_the_stanza_makes_it_down_for_nobody(outcome: Outcome) -> None:
    assert not says_down(outcome)
    assert not failed(healthy(), outcome).is_down


def test_one_sender_makes_it_down_for_nobody() -> None:
    breaker = healthy()
    for _ in range(100):
        breaker.record(GONE, "a", 0, probe=breaker.try_acquire())
    assert not breaker.is_down


@pytest.mark.parametrize("outcome", UP)
def test_the_last_posts_count(outcome: Outcome) -> None:
    breaker = healthy()
    for sender in ("a", "b"):
        breaker.record(GONE, sender, 0, probe=False)
    breaker.record(outcome, "a", 0, probe=False)
    breaker.record(GONE, "c", 0, probe=False)
    assert not breaker.is_down


def test_a_probe_that_another_answer_overtook_holds_up_no_later_one() -> None:
    breaker = failed(healthy())
    assert breaker.try_acquire()
    breaker.record(NoReply(), "d", 1, probe=False)
    for sender in ("a", "b", "c"):
        breaker.record(GONE, sender, 2, probe=False)
    assert breaker.next_probe_at == 2.5


def test_one_probe_at_a_time() -> None:
    breaker = failed(healthy(), now=10)
    assert breaker.next_probe_at == 10.5
    assert [breaker.allows(now) for now in (10.4, 10.5)] == [False, True]
    assert breaker.try_acquire()
    assert not breaker.allows(1000)
    assert breaker.next_probe_at == math.inf
    breaker.record(GONE, "d", 11, probe=True)
    assert breaker.is_down
    assert breaker.next_probe_at == 12  # later, each time


def test_probes_are_at_most_5_s_apart() -> None:
    breaker, now, waits = failed(healthy()), 0.0, []
    for _ in range(7):
        waits.append(breaker.next_probe_at - now)
        now = breaker.next_probe_at
        breaker.record(GONE, "a", now, probe=breaker.try_acquire())
    assert waits == [0.5, 1, 2, 4, 5, 5, 5]


@pytest.mark.parametrize("outcome", UP)
@pytest.mark.parametrize("probe", [True, False])
def test_any_answer_says_that_it_is_back(outcome: Outcome, probe: bool) -> None:
    breaker = failed(healthy())
    began = breaker.try_acquire()
    breaker.record(outcome, "z", 1, probe=probe and began)
    assert not breaker.is_down
    assert breaker.allows(1)
    assert failed(breaker, now=5).next_probe_at == 5.5  # it begins anew


def test_an_old_post_that_fails_while_it_is_down_changes_nothing() -> None:
    breaker = failed(healthy())
    breaker.record(TimedOut(), "old", 0.2, probe=False)
    assert breaker.next_probe_at == 0.5


def test_a_probe_that_is_dropped_gives_its_place_to_the_next() -> None:
    breaker = failed(healthy())
    assert breaker.try_acquire()
    breaker.release(probe=True)
    assert breaker.allows(0.5)


def test_another_post_that_is_dropped_is_no_probe() -> None:
    breaker = failed(healthy())
    assert breaker.try_acquire()
    breaker.release(probe=False)
    assert not breaker.allows(100)


def test_the_default_jitter_waits_at_least_half() -> None:
    for _ in range(50):
        assert 0.25 <= failed(CircuitBreaker()).next_probe_at <= 0.5
