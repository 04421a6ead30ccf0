"""Conversations: the order of stanzas, and whose turn is next. No tasks, no clock.

A conversation is a queue of stanzas that are processed one after the other. Conversations take
turns (see `slot`); one whose head is being POSTed or waits for a retry has no turn. Each iq is a
conversation of its own, since iqs may overtake.

A conversation whose partition this node gives to another one is LEFT: its stanzas stay pending in
the journal, where the other node reads them.

Invariant: a READY conversation is in `ready`, or in a queue of `slot`; a WAITING one is in
`_waiting` with its `due`. All may also contain entries from an earlier phase of a conversation,
which are skipped.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import count
from typing import Final

import msgspec

from bridge.config.settings import Ordering
from bridge.journal.delivery import Delivery


class Phase(Enum):
    """Whether a conversation may take a turn, has one, waits for a retry, or was left to others."""

    READY = "ready"
    AT_WORK = "at work"
    WAITING = "waiting"
    LEFT = "left"


_READY: Final = Phase.READY  # read for each stanza: the enum's attribute takes three times as long
_AT_WORK: Final = Phase.AT_WORK


class Conversation(msgspec.Struct, eq=False):  # mostly one per stanza: cheaper than with attrs
    """Stanzas between the same two addresses. Without a `key` (an iq) there is only one stanza."""

    key: tuple[str, str] | None
    head: Delivery
    """The stanza whose turn it is."""
    phase: Phase = Phase.READY
    due: float = math.inf
    stalled: bool = False
    """Whether it waits because the endpoint fails, rather than because it asked for time."""
    behind: deque[Delivery] | None = None
    """The stanzas behind the head. Made when first needed: most have none, and a deque is big."""

    def __len__(self) -> int:
        return 1 if self.behind is None else 1 + len(self.behind)

    def put(self, delivery: Delivery) -> None:
        """Append a stanza."""
        if self.behind is None:
            self.behind = deque()
        self.behind.append(delivery)


class Conversations:
    """The conversations of one component: all stanzas in memory that are not done."""

    def __init__(self, order: Ordering) -> None:
        self._order = order
        self._keyed: dict[tuple[str, str], Conversation] = {}
        self._single: dict[str, Conversation] = {}
        self.ready: deque[Conversation] = deque()
        """Conversations whose turn comes, and entries to be skipped. Read-only."""
        self._waiting: list[tuple[float, int, Conversation]] = []
        self._ticket = count()

    def __len__(self) -> int:
        """Return the number of stanzas. Looks at every conversation."""
        return len(self._single) + sum(len(one) for one in self._keyed.values())

    @property
    def any_ready(self) -> bool:
        while self.ready and self.ready[0].phase is not Phase.READY:
            self.ready.popleft()
        return bool(self.ready)

    @property
    def next_due(self) -> float:
        """When the first WAITING conversation is due; infinite if there is none."""
        while self._waiting and not _is_due_as(self._waiting[0]):
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else math.inf

    def longest_waiting(self, limit: int) -> tuple[int, list[Conversation]]:
        """Return the number of conversations that wait, and the `limit` that wait longest. One that
        is AT_WORK waits if more stanzas are behind its head. Looks at every conversation.
        """
        found = [one for one in self._all() if one.phase is not Phase.AT_WORK or len(one) > 1]
        return len(found), heapq.nsmallest(limit, found, key=lambda one: one.head.received)

    def add(self, delivery: Delivery) -> None:
        """Append a stanza to its conversation."""
        if delivery.stanza.kind == "iq" or self._order == "none":
            conversation = self._single[delivery.uid] = Conversation(None, delivery)
        else:
            key = delivery.parties if self._order == "bare" else self._key_of(delivery)
            known = self._keyed.get(key)
            if known is not None:
                known.put(delivery)
                return
            conversation = self._keyed[key] = Conversation(key, delivery)
        self.ready.append(conversation)

    def is_first(self, delivery: Delivery) -> bool:
        """Return whether no stanza of a conversation is here that a new one would be behind."""
        if delivery.stanza.kind == "iq" or self._order == "none":
            return True
        key = delivery.parties if self._order == "bare" else self._key_of(delivery)
        return key not in self._keyed

    def take(self) -> Conversation | None:
        """Return the first READY conversation, if any: AT_WORK from now until `done` or `wait`."""
        while self.ready:
            conversation = self.ready.popleft()
            if conversation.phase is _READY:
                conversation.phase = _AT_WORK
                return conversation
        return None

    def next_ready(self) -> Conversation | None:
        """Remove the first READY conversation from `ready`, and return it, still READY."""
        return self.ready.popleft() if self.any_ready else None

    def take_idle(self, delivery: Delivery) -> Conversation | None:
        """Return the conversation whose head is `delivery`, now AT_WORK.

        Return None if there is none, or if it is AT_WORK already.
        """
        conversation = self._single.get(delivery.uid) or self._keyed.get(self._key_of(delivery))
        if conversation is None or conversation.head is not delivery:
            return None
        if conversation.phase is Phase.AT_WORK:
            return None
        conversation.phase = Phase.AT_WORK
        return conversation

    def wait(self, conversation: Conversation, due: float, *, stalled: bool = False) -> None:
        """Make an AT_WORK conversation try its head again at `due`."""
        conversation.phase, conversation.due = Phase.WAITING, due
        conversation.stalled = stalled
        heapq.heappush(self._waiting, (due, next(self._ticket), conversation))

    def release(self, now: float) -> None:
        """Make the WAITING conversations that are due READY."""
        while self.next_due <= now:
            self._make_ready(heapq.heappop(self._waiting)[2])

    def release_all(self) -> None:
        """Make all WAITING conversations READY."""
        while (due := self.next_due) < math.inf:  # entries to be skipped may be left
            self.release(due)

    def release_stalled(self) -> None:
        """Make the WAITING conversations READY that are stalled: their endpoint is back."""
        for place in sorted(self._waiting):
            if _is_due_as(place) and place[2].stalled:
                self._make_ready(place[2])  # its place is skipped from now on

    def done(self, conversation: Conversation) -> bool:
        """Remove the head of an AT_WORK conversation; return whether another stanza follows."""
        if conversation.behind:
            conversation.head = conversation.behind.popleft()
            self._make_ready(conversation)
            return True
        if conversation.key is None:
            del self._single[conversation.head.uid]
        else:
            del self._keyed[conversation.key]
        return False

    def at_work(self) -> list[Conversation]:
        """Return the conversations that are AT_WORK. Looks at every conversation."""
        return [one for one in self._all() if one.phase is Phase.AT_WORK]

    def leave(self, is_left: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove the conversations whose head `is_left`, and return their stanzas, in order. Of one
        that is AT_WORK, its head stays until `done` or `wait`. Looks at every conversation.
        """
        left: list[Delivery] = []
        for one in [one for one in self._all() if is_left(one.head)]:
            if one.phase is not Phase.AT_WORK:
                left.append(one.head)
            left += one.behind or ()
            one.behind = None
            if one.phase is not Phase.AT_WORK:
                one.phase = Phase.LEFT
                self.done(one)
        return left

    def _all(self) -> Iterator[Conversation]:
        yield from self._keyed.values()
        yield from self._single.values()

    def _make_ready(self, conversation: Conversation) -> None:
        conversation.phase = Phase.READY
        self.ready.append(conversation)

    def _key_of(self, delivery: Delivery) -> tuple[str, str]:
        if self._order == "full":
            return delivery.stanza.from_ or "", delivery.stanza.to or ""
        return delivery.parties


def _is_due_as(place: tuple[float, int, Conversation]) -> bool:
    due, _, conversation = place
    return conversation.phase is Phase.WAITING and conversation.due == due
