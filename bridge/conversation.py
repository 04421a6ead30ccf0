"""Conversations: what waits for what, and whose turn is next. No tasks, no clock.

A conversation is a queue of stanzas that are processed one after the other; conversations that have
a head, and none at work, take turns. Iqs are conversations of one stanza, since they may overtake.

Invariant: `count` stanzas of `weight_bytes` are in all conversations; `_ready` holds each
conversation that has a head and is not at work, once.
"""

from collections import deque
from datetime import datetime
from secrets import token_hex

from attrs import define, field, frozen

from bridge.config import Order
from xmppstream import Stanza
from xmppstream.jid import bare


@frozen
class Admitted:
    """A stanza that is to be POSTed."""

    stanza: Stanza
    received: datetime
    weight_bytes: int
    uid: str = field(factory=lambda: token_hex(12))


@define(eq=False)
class Conversation:
    """Stanzas between the same two; without a `key` (an iq) it ends with its one stanza."""

    key: tuple[str, str] | None
    waiting: deque[Admitted] = field(factory=deque)

    @property
    def head(self) -> Admitted:
        """The stanza whose turn it is."""
        return self.waiting[0]


class Conversations:
    """All that is admitted and not done, of one component."""

    def __init__(self, order: Order, limit_count: int, limit_bytes: int) -> None:
        self.count = 0
        self.weight_bytes = 0
        self._order = order
        self._limit_count = limit_count
        self._limit_bytes = limit_bytes
        self._keyed: dict[tuple[str, str], Conversation] = {}
        self._single: set[Conversation] = set()
        self._ready: deque[Conversation] = deque()

    @property
    def fullness(self) -> float:
        """How full it is, by count or by bytes, whichever is more; 1 is full."""
        return max(self.count / self._limit_count, self.weight_bytes / self._limit_bytes)

    def add(self, admitted: Admitted) -> None:
        """Put a stanza at the end of its conversation."""
        conversation = self._conversation_of(admitted.stanza)
        if not conversation.waiting:
            self._ready.append(conversation)
        conversation.waiting.append(admitted)
        self.count += 1
        self.weight_bytes += admitted.weight_bytes

    def take(self) -> Conversation | None:
        """Give the conversation whose turn it is; it is at work until `done`."""
        return self._ready.popleft() if self._ready else None

    def done(self, conversation: Conversation) -> None:
        """Forget the head of a conversation that was at work."""
        admitted = conversation.waiting.popleft()
        self.count -= 1
        self.weight_bytes -= admitted.weight_bytes
        if conversation.waiting:
            self._ready.append(conversation)
        elif conversation.key is None:
            self._single.discard(conversation)
        else:
            del self._keyed[conversation.key]

    def rest(self) -> list[Admitted]:
        """Give all that is not done, each conversation in order."""
        conversations = [*self._keyed.values(), *self._single]
        return [admitted for one in conversations for admitted in one.waiting]

    def _conversation_of(self, stanza: Stanza) -> Conversation:
        if stanza.kind == "iq" or self._order == "none":
            conversation = Conversation(None)
            self._single.add(conversation)
            return conversation
        key = (stanza.from_ or "", stanza.to or "")
        if self._order == "bare":
            key = (bare(key[0]), bare(key[1]))
        if key not in self._keyed:
            self._keyed[key] = Conversation(key)
        return self._keyed[key]
