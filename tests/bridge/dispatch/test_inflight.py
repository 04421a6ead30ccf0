"""The ledger: one end for each stanza, and whose budget ends next."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.inflight import InFlight
from bridge.journal.delivery import Delivery
from tests.bridge.sample import stanza


def delivery(id: str, deadline: float = math.inf, kind: str = "message") -> Delivery:
    kinds = {"get": "<iq type='get'", "set": "<iq type='set'", "result": "<iq type='result'"}
    start = kinds.get(kind, f"<{kind}")
    one = stanza(f"{start} id='{id}' from='a@x' to='bot@y'/>")
    return Delivery(one, 0.0, 1, deadline, uid=id)


def ids(found: list[Delivery]) -> list[str]:
    return [one.uid for one in found]


def filled(*items: Delivery) -> InFlight:
    in_flight = InFlight()
    for one in items:
        in_flight.open(one)
    return in_flight


def test_a_stanza_is_closed_once() -> None:
    one = delivery("1", kind="get")
    in_flight = filled(one)
    assert "1" in in_flight
    assert [in_flight.close(one), in_flight.close(one)] == [True, False]
    assert "1" not in in_flight
    assert len(in_flight) == 0


def test_what_was_never_opened_cannot_be_closed() -> None:
    assert not filled(delivery("1")).close(delivery("2"))


@pytest.mark.parametrize("kind", ["get", "message"])
def test_a_stanza_is_accepted_once(kind: str) -> None:
    with pytest.raises(AssertionError):
        filled(delivery("1", kind=kind), delivery("1", kind=kind))


def test_requests_are_iqs_that_ask() -> None:
    kinds = ("message", "get", "presence", "set", "result")
    in_flight = filled(*(delivery(kind, kind=kind) for kind in kinds))
    assert ids(in_flight.requests) == ["get", "set"]
    assert ids(in_flight.all) == ["get", "set", "message", "presence", "result"]
    assert len(in_flight) == 5


def test_what_is_expired() -> None:
    in_flight = filled(delivery("m1", 5), delivery("q1", 6, "get"), delivery("m2", 7))
    assert ids(in_flight.expired(5, requests_only=False)) == ["m1"]
    assert ids(in_flight.expired(6, requests_only=False)) == ["q1", "m1"]
    assert ids(in_flight.expired(9, requests_only=True)) == ["q1"]


def test_the_next_deadline_is_one_that_has_not_passed() -> None:
    in_flight = filled(delivery("m1", 5), delivery("q1", 6, "get"), delivery("m2", 7))
    seen = [in_flight.next_deadline(now, requests_only=False) for now in (4, 5, 6, 7)]
    assert seen == [5, 6, 7, math.inf]
    assert in_flight.next_deadline(4, requests_only=True) == 6
    assert InFlight().next_deadline(0, requests_only=False) == math.inf


DEADLINES = st.lists(st.one_of(st.integers(0, 20).map(float), st.just(math.inf)), max_size=30)


@given(DEADLINES, st.sets(st.integers(0, 29)), DEADLINES, st.integers(-1, 21))
def test_deadlines_that_come_out_of_order(
    first: list[float], closed: set[int], then: list[float], now: float
) -> None:
    """As after the clock was set: what is expired is found all the same."""
    items = [delivery(str(number), deadline) for number, deadline in enumerate(first)]
    in_flight = filled(*items)
    in_flight.expired(now, requests_only=False)
    for number in closed:
        if number < len(items):
            in_flight.close(items[number])
    later = [delivery(f"later-{number}", deadline) for number, deadline in enumerate(then)]
    for one in later:
        in_flight.open(one)
    rest = [one for number, one in enumerate(items) if number not in closed] + later
    expired = [one for one in rest if one.deadline <= now]
    assert sorted(ids(in_flight.expired(now, requests_only=False))) == sorted(ids(expired))
    left = [one.deadline for one in rest if one.deadline > now]
    assert in_flight.next_deadline(now, requests_only=False) == min(left, default=math.inf)
