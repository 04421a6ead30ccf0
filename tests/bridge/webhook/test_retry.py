"""Which failures are tried again, when, and for how long."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.settings import RetrySettings
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.retry import RETRIED_STATUSES, RetryPolicy, is_passing
from tests.bridge.sample import stanza

WHOLE = RetryPolicy(jitter=lambda bound_s: bound_s)
PASSING: list[Outcome] = [
    *(Rejected(status) for status in (408, 425, 429, 500, 502, 503, 504)),
    Unreachable("ConnectError"),
    TimedOut(),
]
FINAL: list[Outcome] = [
    *(Rejected(status) for status in range(300, 600) if status not in RETRIED_STATUSES),
    BadReply("no JSON"),
    NoReply(),
    Replied("json", b"{}"),
]


def test_what_is_tried_again_and_what_is_final() -> None:
    assert [is_passing(one) for one in PASSING] == [True] * len(PASSING)
    assert [WHOLE.wait_s(one, 1) for one in FINAL] == [None] * len(FINAL)
    assert all(WHOLE.wait_s(one, 1) is not None for one in PASSING)


def test_a_time_out_is_final_if_the_settings_say_so() -> None:
    policy = RetryPolicy.of(RetrySettings(retry_timeouts=False))
    assert [one for one in PASSING if policy.wait_s(one, 1) is None] == [TimedOut()]


def test_the_wait_doubles_up_to_15_s() -> None:
    waits = [WHOLE.wait_s(TimedOut(), attempt) for attempt in range(1, 9)]
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert WHOLE.wait_s(TimedOut(), 10_000) == 15


@given(st.integers(1, 100))
def test_the_jitter_is_full(attempt: int) -> None:
    bound = WHOLE.wait_s(TimedOut(), attempt)
    wait = RetryPolicy().wait_s(TimedOut(), attempt)
    assert bound is not None
    assert wait is not None
    assert 0 <= wait <= bound


def test_the_jitter_of_the_default_is_spread() -> None:
    waits = {RetryPolicy().wait_s(TimedOut(), 6) for _ in range(50)}
    assert len(waits) > 40


@pytest.mark.parametrize(("asked_s", "waited_s"), [(None, 0.5), (0, 0.5), (0.1, 0.5), (7, 7)])
def test_no_sooner_than_retry_after_says(asked_s: float | None, waited_s: float) -> None:
    assert WHOLE.wait_s(Rejected(503, asked_s), 1) == waited_s


@pytest.mark.parametrize(
    ("attempts", "since_s", "asked_s", "wait_s"),
    [
        (1, 0, None, 0.5),
        (2, 0, None, 1),
        (3, 0, None, None),
        (1, 4.4, None, 0.5),
        (1, 4.5, None, None),
        (1, 0, 4, 4),
        (1, 0, 5, None),
        (2, 3.9, None, 1),
        (2, 4, None, None),
    ],
)
def test_a_crash_is_tried_three_times_within_5_s(
    attempts: int, since_s: float, asked_s: float | None, wait_s: float | None
) -> None:
    assert WHOLE.wait_s(Rejected(500, asked_s), attempts, since_s) == wait_s


KINDS = ["<message", "<presence", "<iq type='get'", "<iq type='set'", "<iq type='result'"]


@pytest.mark.parametrize(
    ("start", "budget_s"), list(itertools.zip_longest(KINDS, [60, 60, 10, 10, 60]))
)
def test_the_budget_of_a_stanza(start: str, budget_s: float) -> None:
    assert RetryPolicy().budget_s(stanza(f"{start} id='1' from='a@x' to='b@y'/>")) == budget_s
