"""Conversations: order within one, turns between them, and what is counted."""

from datetime import UTC, datetime

import pytest

from bridge.config import Order
from bridge.conversation import Admitted, Conversations
from tests.bridge.sample import stanza

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def admitted(id: str, from_: str = "a@x/1", kind: str = "message", weight: int = 1) -> Admitted:
    return Admitted(stanza(f"<{kind} id='{id}' from='{from_}' to='bot@y'/>"), NOW, weight)


def turns(queue: Conversations) -> list[str | None]:
    """Process one after the other, to the end."""
    ids = []
    while (conversation := queue.take()) is not None:
        ids.append(conversation.head.stanza.id)
        queue.done(conversation)
    return ids


def filled(order: Order, *items: Admitted) -> Conversations:
    queue = Conversations(order, 10, 100)
    for item in items:
        queue.add(item)
    return queue


@pytest.mark.parametrize(
    ("order", "at_once"),
    [("bare", ["1", "q"]), ("full", ["1", "2", "q"]), ("none", ["1", "2", "3", "q"])],
)
def test_what_may_be_at_work_at_once(order: Order, at_once: list[str]) -> None:
    queue = filled(
        order,
        admitted("1"),
        admitted("2", "a@x/2"),
        admitted("3", kind="presence"),
        admitted("q", kind="iq"),
    )
    taken = [queue.take() for _ in at_once]
    assert [one.head.stanza.id for one in taken if one is not None] == at_once
    assert queue.take() is None


def test_conversations_take_turns() -> None:
    queue = filled("bare", admitted("1"), admitted("2"), admitted("3", "b@x"), admitted("4", "b@x"))
    assert turns(queue) == ["1", "3", "2", "4"]


def test_a_conversation_at_work_waits_for_its_own_head_only() -> None:
    queue = filled("bare", admitted("1"), admitted("2"))
    first = queue.take()
    assert first is not None
    queue.add(admitted("3", "b@x"))
    assert turns(queue) == ["3"]
    queue.done(first)
    assert turns(queue) == ["2"]


@pytest.mark.parametrize(("count", "weight", "fullness"), [(1, 10, 0.1), (5, 1, 0.5), (2, 50, 1)])
def test_fullness_is_that_of_the_scarcer(count: int, weight: int, fullness: float) -> None:
    queue = filled("bare", *(admitted(str(n), weight=weight) for n in range(count)))
    assert queue.fullness == fullness
    turns(queue)
    assert (queue.fullness, queue.count, queue.weight_bytes) == (0, 0, 0)


def test_the_rest_is_what_is_at_work_and_what_waits() -> None:
    queue = filled("bare", admitted("1"), admitted("2"), admitted("q", kind="iq"))
    queue.take()
    assert [one.stanza.id for one in queue.rest()] == ["1", "2", "q"]
