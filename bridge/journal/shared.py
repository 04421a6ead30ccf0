"""The durable queue of one component in a journal that several nodes share.

A stanza is accepted by the node that is attached to the server (the gateway), and POSTed by the
node that has its partition (the worker). If this is one node, a stanza passes through its memory as
in a journal of one process. Otherwise the worker reads it from the journal, and the gateway reads
its replies there. Both look every `POLL_S`, or when they are woken.

Readers keep a mark for each writer (`bridge.journal.cluster`). Rows that this node has written
itself are skipped, because they are in memory; except while it is *behind* (`_unloaded` is not 0),
which means that the journal may hold pending rows that memory has never seen: after it has got
partitions or the gateway, and when memory was full.

Invariants: while it is behind, an accepted stanza waits for its turn in the journal. It is no
longer behind after a page that reached the end, if nothing was left to the journal meanwhile.
Before a node loads what it is behind with, it reads all replies: those of the worker before it were
made earlier than its own (rule 6 of a cluster: the order across a hand-over).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Final, cast

import trio
from structlog.typing import FilteringBoundLogger

from bridge.cluster.ownership import Ownership
from bridge.journal.cluster import ClusterStore
from bridge.journal.committer import Committer
from bridge.journal.delivery import Delivery
from bridge.journal.durable import JournalQueue
from bridge.journal.queue import Kept, Quota, Receiver, Settled
from bridge.journal.store import Claim, JournalError, JournalStore, Totals
from bridge.xmpp.outbox import Outbox, Outgoing
from xmppstream import Stanza
from xmppstream.parser_thread import ParseElement

POLL_S: Final = 0.25
PAGE: Final = 250
_RETRY_S: Final = 1.0
_ALL: Final = 2**62
"""A mark behind everything that a writer will ever write."""

_Marks = dict[int, int]


class SharedQueue(JournalQueue):
    """Keeps one component's stanzas in a journal of several nodes. Call `serve`, then `run`."""

    def __init__(
        self,
        component: str,
        committer: Committer,
        volume: Quota,
        parse: ParseElement,
        log: FilteringBoundLogger,
        now: Callable[[], float],
        ownership: Ownership,
        memory: Quota | None = None,
    ) -> None:
        """The store of the committer is a `ClusterStore`."""
        super().__init__(component, committer, volume, parse, log, now, memory)
        self.wake: Callable[[], None] = lambda: None
        """Called when a stanza was kept that another node may have to POST."""
        self.wake_gateway: Callable[[], None] = lambda: None
        """Called when a reply was kept that another node has to write."""
        self._ownership = ownership
        self._outbox: Outbox | None = None
        self._left: Callable[[], None] = lambda: None
        self._parts: frozenset[int] = frozenset()
        self._is_gateway = False
        self._is_called = False
        self._is_replied = False  # called for replies alone
        self._only_replies = False  # what is looked for now
        self._looked_at = -inf  # for everything
        self._term = 0  # changes with what this node holds
        self._marks: _Marks = {}
        self._reply_marks: _Marks = {}
        self._is_missed = False  # whether something was left to the journal since the last page
        self._is_recovering = False  # whether the outbox may have some of the replies to be read
        self._arrived: set[tuple[str, int]] = set()  # while it is recovering

    def serve(self, outbox: Outbox, left: Callable[[], None]) -> None:
        """Put into `outbox` what other nodes reply, while this node is the gateway. `left` is
        called when it has partitions no more.
        """
        self._outbox, self._left = outbox, left
        outbox.go_away()

    def look(self) -> None:
        """Look into the journal now: another node may have kept something."""
        self._is_called = True
        self._wanted.set()

    def look_for_replies(self) -> None:
        """Look for replies of other nodes now, if this node writes them."""
        if self._is_gateway:
            self._is_replied = True
            self._wanted.set()

    def recover(self, totals: Totals) -> None:
        """Do nothing: `run` reads what this node has to do."""

    def revive(self, totals: Totals) -> None:
        self._is_missed = True
        super().revive(totals)
        self.wake()

    async def recovered_replies(self) -> list[Outgoing]:
        return []  # `run` reads them

    async def run(self, receiver: Receiver) -> None:
        unsubscribe = self._ownership.on_change(self._changed)
        try:
            self._changed()
            while True:
                self._wanted = trio.Event()
                try:
                    is_more = await self._look(receiver)
                except JournalError:  # the committer logs it
                    await trio.sleep(_RETRY_S)
                    continue
                if not is_more:
                    await self._wait()
        finally:
            unsubscribe()

    async def _wait(self) -> None:
        """Wait until there may be something to read; for everything, at most `POLL_S`."""
        self._only_replies = False
        with trio.move_on_at(self._looked_at + POLL_S):
            while True:
                await self._wanted.wait()
                if self._is_called or (self._unloaded and self._memory.fullness < 0.5):
                    self._is_called = False
                    return
                if self._is_replied:
                    self._only_replies = True
                    return
                self._wanted = trio.Event()  # a stanza was settled, but memory is still full

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        arrived = list(replies)
        if self._is_recovering:
            self._arrived.update((one.uid, one.place) for one in arrived)
        super().confirm(arrived)

    def settle(
        self,
        delivery: Delivery,
        replies: list[bytes],
        made: float,
        reason: str | None,
        then: Settled,
    ) -> None:
        def kept(outgoing: Sequence[Outgoing]) -> None:
            if outgoing and not self._is_gateway:
                self.wake_gateway()
            then(outgoing)

        super().settle(delivery, replies, made, reason, kept)

    def send(
        self, stanzas: Mapping[str, Stanza], made: float, claim: Claim | None, then: Kept
    ) -> None:
        def kept(outgoing: list[Outgoing] | None) -> None:
            if outgoing and not self._is_gateway:
                self.wake_gateway()
            then(outgoing)

        super().send(stanzas, made, claim, kept)

    # --- between memory and the journal

    def _changed(self) -> None:
        """Follow what this node holds."""
        parts = self._ownership.parts(self.component)
        is_gateway = self._ownership.is_gateway(self.component)
        has_lost = not self._parts <= parts
        has_attached = is_gateway and not self._is_gateway
        has_detached = self._is_gateway and not is_gateway
        has_gained = has_attached or not parts <= self._parts
        self._parts, self._is_gateway = parts, is_gateway
        self._term += 1
        if has_gained:
            self._marks = {}
            self._unloaded, self._is_missed = 1, True
        if self._outbox is not None and has_attached:
            self._reply_marks, self._is_recovering = {}, True
            self._outbox.come_back()
        elif self._outbox is not None and has_detached:
            self._is_recovering = False
            self._outbox.go_away(takes_answers=True)
        if has_lost:
            self._left()
        self.look()

    def _accepted(self, delivery: Delivery, receiver: Receiver, committed: bool) -> None:
        if not committed or self._ownership.owns(self.component, delivery.part):
            self._is_missed = True  # if it is left to the journal; otherwise one more look is cheap
            super()._accepted(delivery, receiver, committed)
        else:
            self._awaited -= 1
            self._uncommitted.remove(delivery.weight_bytes)
            self.wake()

    async def _look(self, receiver: Receiver) -> bool:
        """Read a page of replies, and of pending stanzas. Return whether there may be more."""
        term = self._term
        self._is_replied = False
        if not self._only_replies:
            self._looked_at = trio.current_time()
        if self._is_gateway and self._outbox is not None:
            is_more = await self._read_replies(self._outbox)
            if is_more or (self._unloaded and self._outbox.is_full):
                return is_more
        if self._only_replies or not self._parts or self._memory.fullness >= 0.5:
            return False
        return term != self._term or await self._load_parts(receiver)

    async def _read_replies(self, outbox: Outbox) -> bool:
        if outbox.is_full:
            return False
        marks = self._reply_marks
        query = partial(
            _replies_behind, component=self.component, marks=marks, own=self._is_recovering
        )
        page = await self._committer.ask(query)
        if marks is not self._reply_marks or not self._is_gateway:
            return True
        replies = [one for _, _, one in page if (one.uid, one.place) not in self._arrived]
        if self._is_recovering:
            outbox.put_missing(replies)
        else:
            outbox.put(replies)
        marks.update((writer, number) for writer, number, _ in page)
        if len(page) < PAGE:
            self._is_recovering = False
            self._arrived.clear()
        return len(page) == PAGE

    async def _load_parts(self, receiver: Receiver) -> bool:
        marks, term, is_behind = self._marks, self._term, bool(self._unloaded)
        self._is_missed = False
        query = partial(
            _pending_behind,
            component=self.component,
            parts=self._parts,
            marks=marks,
            own=is_behind,
        )
        page = await self._committer.ask(query)
        # Computed now: a held delivery may be settled while the page is loaded.
        held = self._held.intersection(entry.uid for _, entry in page)
        for writer, entry in page:
            if term != self._term:
                return True
            if self._memory.fullness >= 1:
                self._unloaded = 1
                return False
            if entry.uid not in held:
                await self._load_one(entry, receiver)
            marks[writer] = entry.number
        if term != self._term or len(page) == PAGE:
            return True
        if is_behind and not self._is_missed:
            self._unloaded = 0
        return is_behind and self._is_missed


def _replies_behind(
    store: JournalStore, *, component: str, marks: Mapping[int, int], own: bool
) -> list[tuple[int, int, Outgoing]]:
    shared = cast("ClusterStore", store)
    return shared.replies_after(component, _with_own(shared, marks, own), PAGE)


def _pending_behind(
    store: JournalStore,
    *,
    component: str,
    parts: frozenset[int],
    marks: Mapping[int, int],
    own: bool,
) -> list[tuple[int, Delivery]]:
    shared = cast("ClusterStore", store)
    return shared.pending_in(component, parts, _with_own(shared, marks, own), PAGE)


def _with_own(store: ClusterStore, marks: Mapping[int, int], own: bool) -> Mapping[int, int]:
    return dict(marks) if own else {**marks, store.incarnation: _ALL}
