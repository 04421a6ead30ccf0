"""Conversations: what waits for what, and whose turn is next. No tasks, no clock.

A conversation is a queue of stanzas that are processed one after the other; conversations that have
a head, and neither are at work nor wait to try again, take turns. Iqs are conversations of one
stanza, since they may overtake.

Invariant: no conversation is empty. One that is READY is in `_ready` once; one that is WAITING is
in `_waiting` with its `due`. Either may also be there as what it was before: such a place is
skipped.
"""

import heapq
import math
from collections import deque
from enum import Enum
from itertools import count

from attrs import define, field

from bridge.admitted import Admitted
from bridge.config import Order


class Phase(Enum):
    """What a conversation does."""

    READY = "ready"
    AT_WORK = "at work"
    WAITING = "waiting"


@define(eq=False)
class Conversation:
    """Stanzas between the same two; without a `key` (an iq) it ends with its one stanza."""

    key: tuple[str, str] | None
    waiting: deque[Admitted] = field(factory=deque)
    phase: Phase = Phase.READY
    due: float = math.inf

    @property
    def head(self) -> Admitted:
        """The stanza whose turn it is."""
        return self.waiting[0]


class Conversations:
    """All that is admitted, in memory and not done, of one component."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._keyed: dict[tuple[str, str], Conversation] = {}
        self._single: dict[str, Conversation] = {}
        self._ready: deque[Conversation] = deque()
        self._waiting: list[tuple[float, int, Conversation]] = []
        self._ticket = count()

    def __len__(self) -> int:
        """How many stanzas are in it. Takes a look at each conversation."""
        return len(self._single) + sum(len(one.waiting) for one in self._keyed.values())

    @property
    def any_ready(self) -> bool:
        while self._ready and self._ready[0].phase is not Phase.READY:
            self._ready.popleft()
        return bool(self._ready)

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
            if one.phase is not Phase.AT_WORK or len(one.waiting) > 1
        ]
        return len(found), heapq.nsmallest(limit, found, key=lambda one: one.head.received)

    def add(self, admitted: Admitted) -> None:
        """Put a stanza at the end of its conversation."""
        conversation = self._conversation_for(admitted)
        if not conversation.waiting:
            self._ready.append(conversation)
        conversation.waiting.append(admitted)

    def take(self) -> Conversation | None:
        """Give the conversation whose turn it is; it is at work until `done` or `wait`."""
        if not self.any_ready:
            return None
        conversation = self._ready.popleft()
        conversation.phase = Phase.AT_WORK
        return conversation

    def take_idle(self, admitted: Admitted) -> Conversation | None:
        """Give the conversation of a stanza that is its head, unless it is at work already."""
        conversation = self._single.get(admitted.uid) or self._keyed.get(self._key_of(admitted))
        if conversation is None or conversation.head is not admitted:
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

    def done(self, conversation: Conversation) -> None:
        """Forget the head of a conversation that was at work."""
        admitted = conversation.waiting.popleft()
        if conversation.waiting:
            self._make_ready(conversation)
        elif conversation.key is None:
            del self._single[admitted.uid]
        else:
            del self._keyed[conversation.key]

    def _make_ready(self, conversation: Conversation) -> None:
        conversation.phase = Phase.READY
        self._ready.append(conversation)

    def _conversation_for(self, admitted: Admitted) -> Conversation:
        if admitted.stanza.kind == "iq" or self._order == "none":
            single = self._single[admitted.uid] = Conversation(None)
            return single
        key = self._key_of(admitted)
        conversation = self._keyed.get(key)
        if conversation is None:
            conversation = self._keyed[key] = Conversation(key)
        return conversation

    def _key_of(self, admitted: Admitted) -> tuple[str, str]:
        if self._order == "full":
            return admitted.stanza.from_ or "", admitted.stanza.to or ""
        return admitted.parties


def _is_due_as(place: tuple[float, int, Conversation]) -> bool:
    due, _, conversation = place
    return conversation.phase is Phase.WAITING and conversation.due == due
