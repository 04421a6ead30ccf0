"""Conversations: what waits for what, and whose turn is next. No tasks, no clock.

A conversation is a queue of stanzas that are processed one after the other; conversations that have
a head, and neither are at work nor wait to try again, take turns. Iqs are conversations of one
stanza, since they may overtake.

Invariant: one that is READY is in `ready` once; one that is WAITING is in `_waiting` with its
`due`. Either may also be there as what it was before: such a place is skipped.
"""

import heapq
import math
from collections import deque
from enum import Enum
from itertools import count
from typing import Final

import msgspec

from bridge.config.settings import Ordering
from bridge.journal.delivery import Delivery


class Phase(Enum):
    """What a conversation does."""

    READY = "ready"
    AT_WORK = "at work"
    WAITING = "waiting"


_READY: Final = Phase.READY  # read at each stanza: an enum's attribute takes three times as long
_AT_WORK: Final = Phase.AT_WORK


class Conversation(msgspec.Struct, eq=False):  # one for each stanza, mostly: cheaper than by attrs
    """Stanzas between the same two; without a `key` (an iq) it ends with its one stanza."""

    key: tuple[str, str] | None
    head: Delivery
    """The stanza whose turn it is."""
    phase: Phase = Phase.READY
    due: float = math.inf
    behind: deque[Delivery] | None = None
    """What waits for the head, once there was any: of most there is nothing, and a deque is big."""

    def __len__(self) -> int:
        return 1 if self.behind is None else 1 + len(self.behind)

    def put(self, delivery: Delivery) -> None:
        """Put a stanza at the end."""
        if self.behind is None:
            self.behind = deque()
        self.behind.append(delivery)


class Conversations:
    """All that is admitted, in memory and not done, of one component."""

    def __init__(self, order: Ordering) -> None:
        self._order = order
        self._keyed: dict[tuple[str, str], Conversation] = {}
        self._single: dict[str, Conversation] = {}
        self.ready: deque[Conversation] = deque()
        """Those whose turn comes, and some whose turn has gone by; to be read only."""
        self._waiting: list[tuple[float, int, Conversation]] = []
        self._ticket = count()

    def __len__(self) -> int:
        """How many stanzas are in it. Takes a look at each conversation."""
        return len(self._single) + sum(len(one) for one in self._keyed.values())

    @property
    def any_ready(self) -> bool:
        while self.ready and self.ready[0].phase is not Phase.READY:
            self.ready.popleft()
        return bool(self.ready)

    @property
    def next_due(self) -> float:
        """When the first of those that wait is due; infinite where none waits."""
        while self._waiting and not _is_due_as(self._waiting[0]):
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else math.inf

    def longest_waiting(self, limit: int) -> tuple[int, list[Conversation]]:
        """Give how many wait, and those of them that wait the longest. One that is at work waits
        where more is behind its head. Takes a look at each.
        """
        found = [
            one
            for some in (self._keyed, self._single)
            for one in some.values()
            if one.phase is not Phase.AT_WORK or len(one) > 1
        ]
        return len(found), heapq.nsmallest(limit, found, key=lambda one: one.head.received)

    def add(self, delivery: Delivery) -> None:
        """Put a stanza at the end of its conversation."""
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

    def take(self) -> Conversation | None:
        """Give the conversation whose turn it is; it is at work until `done` or `wait`."""
        while self.ready:
            conversation = self.ready.popleft()
            if conversation.phase is _READY:
                conversation.phase = _AT_WORK
                return conversation
        return None

    def take_idle(self, delivery: Delivery) -> Conversation | None:
        """Give the conversation of a stanza that is its head, unless it is at work already."""
        conversation = self._single.get(delivery.uid) or self._keyed.get(self._key_of(delivery))
        if conversation is None or conversation.head is not delivery:
            return None
        if conversation.phase is Phase.AT_WORK:
            return None
        conversation.phase = Phase.AT_WORK
        return conversation

    def wait(self, conversation: Conversation, due: float) -> None:
        """Let a conversation that was at work try its head again at `due`."""
        conversation.phase, conversation.due = Phase.WAITING, due
        heapq.heappush(self._waiting, (due, next(self._ticket), conversation))

    def release(self, now: float) -> None:
        """Give those whose time has come their turn."""
        while self.next_due <= now:
            self._make_ready(heapq.heappop(self._waiting)[2])

    def release_all(self) -> None:
        """Give all that wait to try again their turn."""
        while self._waiting:
            self.release(self.next_due)

    def done(self, conversation: Conversation) -> bool:
        """Forget the head of a conversation that was at work, and tell whether there is another."""
        if conversation.behind:
            conversation.head = conversation.behind.popleft()
            self._make_ready(conversation)
            return True
        if conversation.key is None:
            del self._single[conversation.head.uid]
        else:
            del self._keyed[conversation.key]
        return False

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
