"""Conversations: order within one, turns between them, waiting, and what is counted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.settings import Ordering
from bridge.dispatch.conversation import Conversation, Conversations
from bridge.journal.delivery import Delivery
from tests.bridge.sample import stanza

NOW = 1795305600.0
FAR = 1e9


def delivery(id: str, from_: str = "a@x/1", kind: str = "message") -> Delivery:
    return Delivery(stanza(f"<{kind} id='{id}' from='{from_}' to='bot@y'/>"), NOW, 1)


def turns(queue: Conversations) -> list[str | None]:
    """Process one after the other, to the end."""
    ids = []
    while (conversation := queue.take()) is not None:
        ids.append(conversation.head.stanza.id)
        queue.done(conversation)
    return ids


def filled(order: Ordering, *items: Delivery) -> Conversations:
    queue = Conversations(order)
    for item in items:
        queue.add(item)
    return queue


@pytest.mark.parametrize(
    ("order", "at_once"),
    [("bare", ["1", "q"]), ("full", ["1", "2", "q"]), ("none", ["1", "2", "3", "q"])],
)
def test_what_may_be_at_work_at_once(order: Ordering, at_once: list[str]) -> None:
    queue = filled(
        order,
        delivery("1"),
        delivery("2", "a@x/2"),
        delivery("3", kind="presence"),
        delivery("q", kind="iq"),
    )
    taken = [queue.take() for _ in at_once]
    assert [one.head.stanza.id for one in taken if one is not None] == at_once
    assert queue.take() is None


def test_conversations_take_turns() -> None:
    queue = filled("bare", delivery("1"), delivery("2"), delivery("3", "b@x"), delivery("4", "b@x"))
    assert turns(queue) == ["1", "3", "2", "4"]


def test_a_conversation_at_work_waits_for_its_own_head_only() -> None:
    queue = filled("bare", delivery("1"), delivery("2"))
    first = queue.take()
    assert first is not None
    queue.add(delivery("3", "b@x"))
    assert turns(queue) == ["3"]
    queue.done(first)
    assert turns(queue) == ["2"]


def test_a_conversation_counts_what_is_in_it_and_says_whether_there_is_more() -> None:
    queue = filled("bare", delivery("1"), delivery("2"))
    conversation = taken(queue, "1")
    assert len(conversation) == 2
    assert queue.done(conversation)
    assert (len(conversation), conversation.head.stanza.id) == (1, "2")
    assert not queue.done(taken(queue, "2"))


def test_counts_what_is_not_done() -> None:
    queue = filled("bare", delivery("1"), delivery("2"), delivery("3", "b@x"))
    assert len(queue) == 3
    first = taken(queue, "1")
    assert len(queue) == 3
    queue.wait(first, 5)
    assert len(queue) == 3
    assert turns(queue) == ["3"]
    assert len(queue) == 2
    queue.release(5)
    assert turns(queue) == ["1", "2"]
    assert (len(queue), queue.any_ready) == (0, False)


# --- waiting to try again


def taken(queue: Conversations, id: str) -> Conversation:
    """Take the conversation whose turn it is, which is to have that head."""
    conversation = queue.take()
    assert conversation is not None
    assert conversation.head.stanza.id == id
    return conversation


def test_a_conversation_that_waits_keeps_its_head_and_holds_up_only_itself() -> None:
    queue = filled("bare", delivery("1"), delivery("2"), delivery("3", "b@x"))
    queue.wait(taken(queue, "1"), 5)
    assert turns(queue) == ["3"]
    queue.add(delivery("4"))
    assert not queue.any_ready
    queue.release(4.9)
    assert queue.take() is None
    queue.release(5)
    assert turns(queue) == ["1", "2", "4"]


def test_those_that_wait_are_released_as_they_are_due() -> None:
    queue = filled("bare", *(delivery(str(n), f"u{n}@x") for n in range(3)))
    assert queue.next_due == math.inf
    for id, due in (("0", 7), ("1", 3), ("2", 5)):
        queue.wait(taken(queue, id), due)
    assert queue.next_due == 3
    queue.release(5)
    assert queue.next_due == 7
    assert turns(queue) == ["1", "2"]
    queue.release(FAR)
    assert turns(queue) == ["0"]
    assert queue.next_due == math.inf


def test_iqs_wait_each_by_itself() -> None:
    queue = filled("bare", delivery("q1", kind="iq"), delivery("q2", kind="iq"))
    queue.wait(taken(queue, "q1"), 5)
    assert turns(queue) == ["q2"]
    queue.release(5)
    assert turns(queue) == ["q1"]


# --- taken out of turn


@pytest.mark.parametrize("kind", ["message", "iq"])
def test_an_idle_one_is_taken_by_its_head(kind: str) -> None:
    ready, waiting = delivery("1", kind=kind), delivery("2", "b@x", kind=kind)
    queue = filled("bare", ready, waiting, delivery("3", "c@x"))
    other = taken(queue, "1")
    queue.wait(taken(queue, "2"), 5)
    queue.wait(other, 9)
    for one in (waiting, ready):
        conversation = queue.take_idle(one)
        assert conversation is not None
        assert conversation.head is one
        assert queue.take_idle(one) is None  # it is at work now
        queue.done(conversation)
    assert queue.next_due == math.inf  # their places are left, and skipped
    queue.release(FAR)
    assert turns(queue) == ["3"]


def test_one_that_is_ready_and_taken_out_of_turn_has_no_turn_any_more() -> None:
    first, second = delivery("1"), delivery("2")
    queue = filled("bare", first, second)
    conversation = queue.take_idle(first)
    assert conversation is not None
    assert not queue.any_ready
    queue.done(conversation)
    assert turns(queue) == ["2"]


def test_what_is_at_work_or_no_head_or_done_is_not_idle() -> None:
    first, second = delivery("1"), delivery("2")
    queue = filled("bare", first, second)
    assert queue.take_idle(second) is None
    conversation = taken(queue, "1")
    assert queue.take_idle(first) is None
    queue.done(conversation)
    assert queue.take_idle(first) is None
    assert turns(queue) == ["2"]
    assert queue.take_idle(second) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "take", "done", "wait", "release", "idle"]), st.integers(0, 3)
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from(["bare", "full", "none"]))
def test_whatever_happens_each_is_at_work_once_and_in_order(
    steps: list[tuple[str, int]], order: Ordering
) -> None:
    """A conversation has its head at work at most once, and none is forgotten."""
    queue, at_work = Conversations(order), list[Conversation]()
    added, done = list[Delivery](), list[Delivery]()
    now = 0.0

    def begin(conversation: Conversation | None) -> None:
        if conversation is not None:
            assert conversation not in at_work
            at_work.append(conversation)

    for step, which in steps:
        match step:
            case "add":
                added.append(
                    delivery(str(len(added)), f"u{which}@x", "iq" if which == 3 else "message")
                )
                queue.add(added[-1])
            case "take":
                begin(queue.take())
            case "idle" if which < len(added):
                begin(queue.take_idle(added[-1 - which]))
            case "release":
                now += which
                queue.release(now)
            case "wait" if at_work:
                queue.wait(at_work.pop(which % len(at_work)), now + which)
            case "done" if at_work:
                conversation = at_work.pop(which % len(at_work))
                done.append(conversation.head)
                queue.done(conversation)
        assert len(queue) == len(added) - len(done)
    for conversation in at_work:
        done.append(conversation.head)
        queue.done(conversation)
    queue.release(FAR)
    while (last := queue.take()) is not None:
        done.append(last.head)
        queue.done(last)
    assert len(queue) == 0
    assert sorted(id(one) for one in done) == sorted(id(one) for one in added)
    if order != "none":
        for sender in {one.stanza.from_ for one in added if one.stanza.kind != "iq"}:
            assert [one for one in done if one.stanza.from_ == sender] == [
                one for one in added if one.stanza.from_ == sender
            ]


def test_what_is_left_to_others_takes_no_turn() -> None:
    """A head at work stays until it is done; what is behind it goes, too."""
    queue = filled("bare", *(delivery(id, f"{id[0]}@x") for id in ("a1", "a2", "b1", "b2", "c1")))
    at_work = taken(queue, "a1")
    waiting = taken(queue, "b1")
    queue.wait(waiting, 1.0)
    assert queue.at_work() == [at_work]
    left = queue.leave(lambda one: one.stanza.id != "c1")
    assert [one.stanza.id for one in left] == ["a2", "b1", "b2"]
    queue.release_all()
    assert turns(queue) == ["c1"]
    assert not queue.done(at_work)
    assert len(queue) == 0


def test_all_are_released_although_one_has_stopped_waiting() -> None:
    """It has expired, or a deferred reply has answered it; then the endpoint moves."""
    queue = filled("bare", delivery("1"))
    conversation = taken(queue, "1")
    queue.wait(conversation, 1.0)
    assert queue.take_idle(conversation.head) is conversation
    queue.release_all()
    assert queue.take() is None
