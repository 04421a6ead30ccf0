"""Slots: how many POSTs run at once, and whose turn it is to take one. No tasks, no clock.

While fewer than a quarter of the slots are taken, conversations take them in the order in which
they became ready. From then on the turn goes round senders (a bare JID; in a room, an occupant), so
a sender with thousands of conversations delays nobody. Three bounds apply:

- A sender holds no more than a quarter of the slots while others wait.
- A sender whose POSTs hang holds no more than a quarter at all, so that slots are left for others
  who come later; all senders of a domain together hold no more than three quarters. Where there are
  few slots anyway (below 8, below 16 for a domain), this would leave too many unused.
- Each POST that ends, other than by a time-out, raises the second bound of its sender and of its
  domain by one. So a single sender may use all slots of an endpoint that answers. A time-out resets
  both bounds.

Shares are counted only while a quarter of the slots is taken: before, no bound can be reached.
"""

from collections import deque
from typing import Final

import msgspec

from bridge.dispatch.conversation import Conversation, Conversations, Phase
from xmppstream.jid import domain_of

_FEW_OF_SENDER: Final = 8
_FEW_OF_DOMAIN: Final = 16


class _Share(msgspec.Struct, eq=False):
    """The slots that a sender or a domain holds, and those that it may hold at present."""

    base: int
    bound: int
    held: int = 0
    parked: deque[str] = msgspec.field(default_factory=deque)
    """The senders that would take a turn, but for this bound."""

    @property
    def room(self) -> int:
        return self.bound - self.held


class Slots:
    """The slots of one component.

    Invariant: while shares are counted, each sender in `_queues` is once in `turns`, or parked at
    its own share or its domain's. A share exists while it is held, something is parked at it,
    or its sender waits.
    """

    def __init__(
        self,
        conversations: Conversations,
        limit: int,
    ) -> None:
        self._conversations = conversations
        self.running: set[Conversation] = set()
        """The conversations that hold a slot; the dispatcher adds and removes them."""
        self.turns: deque[str] = deque()
        """The senders that take turns, while shares are counted. Read-only."""
        self.is_counting = False
        """Whether shares are counted. Read-only, as are `limit` and `open_below`."""
        self._holders: dict[Conversation, str] = {}
        self._senders: dict[str, _Share] = {}
        self._domains: dict[str, _Share] = {}
        self._queues: dict[str, deque[Conversation]] = {}
        self._full: set[_Share] = set()
        self.change(limit)

    def change(self, limit: int) -> None:
        """Change the number of slots to `limit`. Those that are taken stay taken."""
        self.limit = limit
        self._quarter = max(limit // 4, 1)
        self.open_below = 0 if self.is_counting else self._quarter
        """While fewer slots are taken, the next READY conversation may take one without `take`."""
        self._of_sender = limit if limit < _FEW_OF_SENDER else limit // 4
        self._of_domain = limit if limit < _FEW_OF_DOMAIN else limit - limit // 4
        for share in self._senders.values():
            share.base = share.bound = self._of_sender
        for share in self._domains.values():
            share.base = share.bound = self._of_domain
        self._unpark_all()

    @property
    def may_start(self) -> bool:
        """Return whether a slot is free and a conversation may take it."""
        if len(self.running) >= self.limit:
            return False
        return bool(self.turns) or self._conversations.any_ready

    def has_room_for(self, sender: str) -> bool:
        """Return whether a new conversation of a sender could take a slot now, before nobody."""
        taken = len(self.running)
        if taken >= self.limit or self.turns or self._conversations.any_ready:
            return False
        if taken < self.open_below:
            return True
        self._begin_counting()
        own, whole = self._shares(sender)
        has_room = own.room > 0 and whole.room > 0
        self._drop_unused(sender)
        return has_room

    def _begin_counting(self) -> None:
        if not self.is_counting:
            self.is_counting, self.open_below = True, 0
            for one in self.running:
                self.count(one)

    def take(self) -> Conversation | None:
        """Return the conversation whose turn it is, now AT_WORK; None if there is none.

        It takes a slot when it is added to `running` and, while `is_counting`, passed to `count`.
        """
        self._begin_counting()
        conversation = self._next()
        if conversation is not None:
            conversation.phase = Phase.AT_WORK
        return conversation

    def count(self, conversation: Conversation) -> None:
        """Count the slot of a conversation in the shares."""
        sender = self._holders[conversation] = conversation.head.parties[0]
        for share in self._shares(sender):
            share.held += 1

    def uncount(self, conversation: Conversation, *, timed_out: bool) -> None:
        """Subtract the slot of a conversation that left `running`. `timed_out`: its POST hung."""
        sender = self._holders.pop(conversation)
        for share in self._shares(sender):
            share.held -= 1
            share.bound = share.base if timed_out else min(share.bound + 1, self.limit)
            self._unpark(share)
        self._drop_unused(sender)
        if not self._queues and len(self.running) <= self._quarter // 2:
            self._end()

    # --- shares

    def _end(self) -> None:
        self.is_counting, self.open_below = False, self._quarter
        self._holders.clear()
        self._senders.clear()
        self._domains.clear()

    def _shares(self, sender: str) -> tuple[_Share, _Share]:
        """Return the shares of a sender and of its domain."""
        own = self._senders.get(sender)
        if own is None:
            own = self._senders[sender] = _Share(self._of_sender, self._of_sender)
        domain = domain_of(sender)
        whole = self._domains.get(domain)
        if whole is None:
            whole = self._domains[domain] = _Share(self._of_domain, self._of_domain)
        return own, whole

    def _drop_unused(self, sender: str) -> None:
        if sender in self._queues:
            return
        for shares, key in ((self._senders, sender), (self._domains, domain_of(sender))):
            share = shares[key]
            if not share.held and not share.parked:
                del shares[key]

    def _unpark(self, share: _Share) -> None:
        """Return as many parked senders to `turns` as there is room for."""
        for _ in range(min(share.room, len(share.parked))):
            self.turns.append(share.parked.popleft())
        if not share.parked:
            self._full.discard(share)

    def _unpark_all(self) -> None:
        for share in tuple(self._full):
            self._unpark(share)

    def _park(self, sender: str, share: _Share) -> None:
        share.parked.append(sender)
        self._full.add(share)

    # --- turns

    def _next(self) -> Conversation | None:
        """Return the READY conversation of the sender whose turn it is."""
        while (conversation := self._conversations.next_ready()) is not None:
            sender = conversation.head.parties[0]
            queue = self._queues.get(sender)
            if queue is None:
                queue = self._queues[sender] = deque()
                self.turns.append(sender)
            queue.append(conversation)
        passed: list[str] = []  # senders with a quarter of the slots: there are at most four
        found = None
        while found is None and self.turns:
            sender = self.turns.popleft()
            own, whole = self._shares(sender)
            if own.room <= 0:
                self._park(sender, own)
            elif whole.room <= 0:
                self._park(sender, whole)
            elif own.held >= self._quarter:
                passed.append(sender)
            else:
                found = self._pop(sender)
            self._drop_unused(sender)
            if found is None and not self.turns:  # what others had turns for may have expired
                self._unpark_all()
        for sender in passed:
            if found is None:
                found = self._pop(sender)
            else:
                self.turns.append(sender)
        return found

    def _pop(self, sender: str) -> Conversation | None:
        """Remove the first READY conversation of a sender, which then takes its next turn last."""
        queue = self._queues[sender]
        found = None
        while queue and found is None:
            first = queue.popleft()
            found = first if first.phase is Phase.READY else None
        if queue:
            self.turns.append(sender)
        else:
            del self._queues[sender]
        return found
