"""Slots: whose turn it is, and how many of them a sender or a domain may hold."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.conversation import Conversation, Conversations
from bridge.dispatch.slot import Slots
from bridge.journal.delivery import Delivery
from tests.bridge.sample import stanza

LIMIT = 16
QUARTER = LIMIT // 4


class Room:
    """Conversations and their slots; every conversation is of one stanza."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.conversations = Conversations("bare")
        self.slots = Slots(self.conversations, limit)
        self.number = 0

    def arrive(self, *senders: str) -> None:
        """Start one more conversation for each sender."""
        for sender in senders:
            self.number += 1
            xml = f"<message id='{self.number}' from='{sender}' to='n{self.number}@bot.example'/>"
            self.conversations.add(Delivery(stanza(xml), 0.0, 1))

    def start(self) -> list[str]:
        """Fill the free slots as the dispatcher does; return the senders that got one."""
        senders, slots = [], self.slots
        while len(slots.running) < slots.limit:
            is_open = len(slots.running) < slots.open_below
            conversation = self.conversations.take() if is_open else slots.take()
            if conversation is None:
                break
            slots.running.add(conversation)
            if slots.is_counting:
                slots.count(conversation)
            senders.append(sender_of(conversation))
        return senders

    def end(self, sender: str, *, timed_out: bool = False) -> None:
        """End one POST of a sender."""
        one = next(one for one in self.slots.running if sender_of(one) == sender)
        self.end_one(one, timed_out=timed_out)

    def end_one(self, conversation: Conversation, *, timed_out: bool = False) -> None:
        self.slots.running.remove(conversation)
        if self.slots.is_counting:
            self.slots.uncount(conversation, timed_out=timed_out)
        self.conversations.done(conversation)

    @property
    def held(self) -> Counter[str]:
        return Counter(map(sender_of, self.slots.running))


def sender_of(conversation: Conversation) -> str:
    return conversation.head.parties[0]


def test_a_sender_with_many_conversations_delays_nobody() -> None:
    room = Room()
    room.arrive(*["a@evil.example"] * QUARTER, "c@good.example")
    room.start()
    for _ in range(LIMIT):  # a fast endpoint: the stranger gets all of the slots
        room.arrive("a@evil.example")
        room.end("a@evil.example")
        room.start()
    room.arrive(*["a@evil.example"] * 5_000)
    room.start()
    assert room.held["a@evil.example"] == LIMIT - 1
    room.arrive("b@good.example")
    assert room.start() == []
    room.end("a@evil.example")
    assert room.start() == ["b@good.example"]


def test_senders_take_turns() -> None:
    room = Room()
    room.arrive(*["a@x"] * 3, *["b@x"] * 3)
    assert room.start() == ["a@x"] * 3 + ["b@x"] * 3  # there is room: the order is theirs
    room.arrive(*["c@x"] * 3, *["d@x"] * 3, "e@x")
    assert room.start()[:6] == ["c@x", "d@x", "e@x", "c@x", "d@x", "c@x"]


def test_a_sender_holds_no_more_than_a_quarter_while_others_wait() -> None:
    room = Room()
    room.arrive(*["a@x"] * 20, "b@x")
    assert Counter(room.start()) == {"a@x": QUARTER, "b@x": 1}
    for _ in range(3):
        room.end("a@x")
        room.start()
    assert room.held == {"a@x": QUARTER + 3, "b@x": 1}, "nobody else waits"
    room.arrive(*["c@y"] * 3, *["d@y"] * 3, *["e@y"] * 3, *["f@y"] * 3)
    room.start()
    room.end("a@x")
    room.end("a@x")
    room.start()
    assert room.held["a@x"] == QUARTER + 1


def test_a_sender_whose_posts_hang_holds_a_quarter() -> None:
    room = Room()
    room.arrive(*["a@x"] * 300)
    assert room.start() == ["a@x"] * QUARTER
    room.arrive("b@x")
    assert room.start() == ["b@x"]
    room.end("a@x", timed_out=True)
    room.end("a@x", timed_out=True)
    room.start()
    assert room.held["a@x"] == QUARTER


def test_a_domain_whose_posts_hang_holds_three_quarters() -> None:
    room = Room()
    room.arrive(*(f"u{number}@evil.example" for number in range(300)))
    assert len(room.start()) == LIMIT - QUARTER
    room.arrive("b@good.example")
    assert room.start() == ["b@good.example"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, LIMIT, 256])
def test_a_single_sender_may_use_all_slots_of_an_endpoint_that_answers(limit: int) -> None:
    room = Room(limit)
    room.arrive(*["a@x"] * 4 * limit)
    room.start()
    for _ in range(limit):
        room.end("a@x")
        room.start()
    assert len(room.slots.running) == limit
    room.end("a@x", timed_out=True)  # hangs: the bound is a quarter again
    room.start()
    assert len(room.slots.running) == (limit if limit < 8 else limit - 1)


def test_other_limits_count_at_once() -> None:
    room = Room(8)
    room.arrive(*["a@x"] * 40)
    assert len(room.start()) == 2
    room.slots.change(40)
    assert len(room.start()) == 8
    room.slots.change(8)
    assert not room.slots.may_start
    for _ in range(8):
        room.end("a@x", timed_out=True)
    assert room.start() == []
    room.end("a@x", timed_out=True)
    assert len(room.start()) == 1


def test_what_expired_while_it_was_parked_blocks_nobody() -> None:
    room = Room()
    room.arrive(*["a@x"] * 20)
    room.start()
    for one in list(room.conversations._keyed.values()):
        if room.conversations.take_idle(one.head) is not None:
            room.conversations.done(one)
    for _ in range(QUARTER):
        room.end("a@x")
    room.arrive(*["a@x"] * 2)
    assert room.start() == ["a@x"] * 2


def test_what_may_not_start_is_not_to_be_waited_for() -> None:
    """Else the dispatcher would try again and again while the endpoint is down."""
    room = Room()
    room.arrive(*["a@x"] * 20)
    room.start()
    assert not room.slots.may_start
    room.end("a@x")
    assert room.slots.may_start


SENDERS = st.sampled_from(["a@x", "b@x", "c@x", "a@y", "a@z"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), SENDERS, st.integers(1, 12)),
        st.tuples(st.just("end"), st.integers(0, 99), st.booleans()),
        st.tuples(st.just("expire"), st.integers(0, 99), st.none()),
        st.tuples(st.just("limit"), st.integers(1, 20), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
def test_each_conversation_gets_one_slot_and_bounds_hold(steps: list[tuple[str, int, int]]) -> None:
    room = Room()
    ended = 0
    for step, which, value in steps:
        match step:
            case "arrive":
                room.arrive(*[str(which)] * value)
            case "end" if room.slots.running:
                running = sorted(room.slots.running, key=lambda one: one.head.stanza.id or "")
                one = running[which % len(running)]
                room.end_one(one, timed_out=bool(value))
                ended += 1
            case "expire":
                waiting = [*room.conversations._keyed.values()]
                if waiting:
                    one = waiting[which % len(waiting)]
                    if room.conversations.take_idle(one.head) is not None:
                        room.conversations.done(one)
                        ended += 1
            case "limit":
                room.slots.change(which)
        before = room.held
        got = Counter(room.start())
        others_wait = set(room.slots.turns)  # not those that run, or whose bound is reached
        for sender in got:
            quarter = max(room.slots.limit // 4, 1)
            if before[sender] + got[sender] > quarter:
                assert all(room.held[other] >= quarter for other in others_wait - {sender}) or (
                    len(room.slots.running) < room.slots.limit
                )
    while room.slots.running:  # a stop of the endpoint's troubles: everything gets its slot
        for one in list(room.slots.running):
            room.end_one(one)
            ended += 1
        room.start()
    assert ended == room.number
    assert not len(room.conversations)
    assert (room.slots._senders, room.slots._domains, room.slots._queues) == ({}, {}, {})
