"""What follows the end of a stream (rule S11), and how long is waited."""

import random
from collections.abc import Callable
from typing import Final

import pytest

from bridge.xmpp.backoff import Reaction, ReconnectDelay, reaction_to
from xmppstream import StreamClosed, StreamCondition, StreamEnd, StreamFaulted, StreamLost

RETRY, REFUSED, TAKEN, BLAMED = Reaction.RETRY, Reaction.REFUSED, Reaction.TAKEN, Reaction.BLAMED

# The condition that the server sends: before the handshake is accepted, and after.
TABLE: Final = {
    "bad-format": (RETRY, RETRY),
    "bad-namespace-prefix": (RETRY, RETRY),
    "conflict": (TAKEN, TAKEN),
    "connection-timeout": (RETRY, RETRY),
    "host-gone": (RETRY, RETRY),
    "host-unknown": (REFUSED, REFUSED),
    "improper-addressing": (REFUSED, BLAMED),  # ejabberd, of a stanza without address
    "internal-server-error": (RETRY, RETRY),
    "invalid-from": (RETRY, BLAMED),
    "invalid-namespace": (RETRY, RETRY),  # Prosody, while it starts
    "invalid-xml": (RETRY, BLAMED),
    "not-authorized": (REFUSED, REFUSED),
    "not-well-formed": (RETRY, BLAMED),
    "policy-violation": (RETRY, BLAMED),
    "remote-connection-failed": (RETRY, RETRY),
    "reset": (RETRY, RETRY),
    "resource-constraint": (RETRY, RETRY),
    "restricted-xml": (RETRY, RETRY),
    "see-other-host": (RETRY, RETRY),  # never followed
    "system-shutdown": (RETRY, RETRY),
    "undefined-condition": (RETRY, RETRY),  # unknown ones too
    "unsupported-encoding": (RETRY, RETRY),
    "unsupported-feature": (RETRY, RETRY),
    "unsupported-stanza-type": (RETRY, BLAMED),
    "unsupported-version": (RETRY, RETRY),
}


@pytest.mark.parametrize("condition", list(StreamCondition))
def test_s11_errors_that_the_server_sends(condition: StreamCondition) -> None:
    fault = StreamFaulted(condition, "why", by_peer=True)
    before, after = TABLE[condition]
    assert reaction_to(fault, attached=False) is before
    assert reaction_to(fault, attached=True) is after


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        StreamClosed(),
        StreamLost("the server closed the connection without a word"),
        *(StreamFaulted(condition) for condition in StreamCondition),
    ],
    ids=repr,
)
def test_s11_other_ends_are_tried_again(end: StreamEnd, attached: bool) -> None:
    assert reaction_to(end, attached=attached) is RETRY


# --- waiting times, in seconds, without jitter

WAITS: Final[dict[Reaction, list[float]]] = {
    RETRY: [0.5, 1, 2, 4, 5, 5],
    BLAMED: [0.5, 1, 2, 4, 5, 5],
    TAKEN: [5, 10, 20, 40, 80, 120, 120],
    REFUSED: [4, 8, 16, 32, 60, 60],
}
JITTERED: Final = (RETRY, BLAMED)


@pytest.fixture(params=["least", "most"])
def jitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Have the random factor be at one of its bounds."""
    bound: Callable[[float, float], float] = {"least": min, "most": max}[request.param]
    monkeypatch.setattr(random, "uniform", bound)
    return {"least": 0.5, "most": 1.0}[request.param]


@pytest.mark.parametrize("reaction", list(Reaction))
def test_waits_double_up_to_a_bound(reaction: Reaction, jitter: float) -> None:
    backoff = ReconnectDelay()
    factor = jitter if reaction in JITTERED else 1
    assert [backoff.wait_s(reaction) for _ in WAITS[reaction]] == [
        w * factor for w in WAITS[reaction]
    ]


@pytest.mark.parametrize("reaction", JITTERED)
def test_jitter_keeps_to_its_bounds(reaction: Reaction) -> None:
    waits = {ReconnectDelay().wait_s(reaction) for _ in range(200)}
    most = WAITS[reaction][0]
    assert len(waits) > 1
    assert all(most / 2 <= wait <= most for wait in waits)


def test_a_restarted_server_is_found_again_within_a_few_seconds() -> None:
    backoff = ReconnectDelay()
    assert max(backoff.wait_s(RETRY) for _ in range(100)) <= 5


@pytest.mark.parametrize("reaction", list(Reaction))
def test_a_reset_begins_anew(reaction: Reaction, jitter: float) -> None:
    backoff = ReconnectDelay()
    first = backoff.wait_s(reaction)
    backoff.wait_s(reaction)
    backoff.reset()
    assert backoff.wait_s(reaction) == first


@pytest.mark.parametrize("reaction", list(Reaction))
@pytest.mark.parametrize("other", list(Reaction))
def test_another_course_begins_anew(reaction: Reaction, other: Reaction, jitter: float) -> None:
    backoff = ReconnectDelay()
    first = backoff.wait_s(reaction)
    if other is not reaction:
        backoff.wait_s(other)
        assert backoff.wait_s(reaction) == first


def test_s11_a_conflict_after_the_stream_proved_good_waits_long_at_once() -> None:
    backoff = ReconnectDelay()
    assert backoff.wait_s(TAKEN, was_settled=True) == 120
    assert backoff.wait_s(TAKEN, was_settled=True) == 120


def test_s11_a_conflict_while_opening_after_one_that_evicted_us_begins_short() -> None:
    backoff = ReconnectDelay()
    backoff.wait_s(TAKEN, was_settled=True)
    assert [backoff.wait_s(TAKEN) for _ in range(2)] == [5, 10]


def test_a_conflict_is_tried_again_soon_if_nodes_agree_who_attaches() -> None:
    """Another node had the lease before, and the server has not noticed its end yet."""
    backoff = ReconnectDelay(holds_lease=True)
    assert [backoff.wait_s(TAKEN) for _ in range(3)] == [2, 2, 2]
    assert backoff.wait_s(TAKEN, was_settled=True) == 2


@pytest.mark.parametrize("reaction", JITTERED)
def test_other_ends_of_a_good_stream_wait_short(reaction: Reaction, jitter: float) -> None:
    assert ReconnectDelay().wait_s(reaction, was_settled=True) == WAITS[reaction][0] * jitter
