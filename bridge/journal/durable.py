"""The durable queue of one component: accepted stanzas survive the process.

Invariants: while `_unloaded` is not 0, new deliveries join those on disk, to keep the order. Iqs do
not: they may overtake, since their senders would not wait so long. `_held` has the uids of
deliveries that the receiver has and whose end is not committed.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.journal.committer import Committer
from bridge.journal.delivery import Delivery
from bridge.journal.queue import Kept, Quota, Receiver, Settled
from bridge.journal.store import (
    SENT_PLACE,
    Abandon,
    Attempted,
    Claim,
    Confirm,
    JournalError,
    JournalStore,
    Send,
    Sent,
    Settle,
    Totals,
    WriteCounter,
)
from bridge.xmpp.outbox import Outgoing, ReplyKey
from xmppstream import RemoteError, Stanza, encode
from xmppstream.names import COMPONENT
from xmppstream.parser_thread import ParseElement

_PAGE: Final = 250
_RETRY_S: Final = 1.0
_TAG_BYTES: Final = 200  # half the memory of an element: it has two tags


class JournalQueue:
    """Keeps one component's stanzas in the journal. Call `recover` first, then `run`."""

    durable = True

    def __init__(
        self,
        component: str,
        committer: Committer,
        volume: Quota,
        parse: ParseElement,
        log: FilteringBoundLogger,
        now: Callable[[], float],
        memory: Quota | None = None,
        *,
        overlaps: bool = False,
    ) -> None:
        """`volume` is the journal's quota, shared by all components; `memory` is the quota of this
        component's deliveries in memory. `overlaps`: a POST may begin while its stanza is being
        committed, unless that is an iq.
        """
        self._overlaps = overlaps
        self.component = component
        self.log = log
        self.dropped: Callable[[Collection[str]], None] = lambda _: None
        """Called with the uids of replies that an operator has dropped."""
        self._committer = committer
        self._volume = volume
        self._memory = memory or Quota()
        self._uncommitted = Quota()
        self._parse = parse
        self._now = now
        self._held: set[str] = set()
        self._late: set[str] = set()  # of `_held`, those whose end waits for a failing journal
        self._unloaded = 0
        self._awaited = 0  # deliveries that wait for their commit, and have not begun
        self._when_kept: dict[str, list[Callable[[], None]]] = {}
        self._cursor = 0
        self._wanted = trio.Event()

    @property
    def fullness(self) -> float:
        return max(self._volume.fullness, self._uncommitted.fullness)

    @property
    def is_full(self) -> bool:
        return self._volume.is_full or self._uncommitted.is_full

    @property
    def failure(self) -> JournalError | None:
        return self._committer.failure

    async def wait_room(self) -> None:
        while self.is_full:
            await (self._volume if self._volume.is_full else self._uncommitted).wait_less()

    def recover(self, totals: Totals) -> None:
        """Take over the stanzas that the last process left pending; `run` delivers them."""
        self._unloaded = totals.pending

    def revive(self, totals: Totals) -> None:
        """Take over stanzas that an operator made pending again, after this was committed."""
        self._held -= self._late  # their ends were committed before this
        self._late.clear()
        self._unloaded += totals.pending
        self._volume.count += totals.pending
        self._volume.bytes += totals.pending_bytes
        self._want()

    async def recovered_replies(self) -> list[Outgoing]:
        """Return the replies that were not confirmed when the last process ended, in order.

        Raises:
            JournalError: if the journal cannot be read.
        """
        found: list[Outgoing] = []
        after = 0
        while True:
            query = partial(_replies, component=self.component, after=after)
            page = await self._committer.ask(query)
            if not page:
                return found
            after = page[-1][0]
            found += (one for _, one in page)

    async def still_pending(self, uids: Iterable[str]) -> set[str]:
        """Return those of the uids whose stanzas are pending.

        Raises:
            JournalError: if the journal cannot be read.
        """
        return {one for one in uids if await self._committer.ask(partial(_is_pending, uid=one))}

    async def run(self, receiver: Receiver) -> None:
        """Deliver from disk whenever memory has room. Ends only by cancellation."""
        while True:
            while self._unloaded and self._memory.fullness < 0.5:
                try:
                    await self._load(receiver)
                except JournalError:  # the committer logs it
                    await trio.sleep(_RETRY_S)
            self._wanted = trio.Event()
            await self._wanted.wait()

    # --- for dispatch

    def accept(self, delivery: Delivery, receiver: Receiver) -> None:
        self._volume.add(_size(delivery.xml))
        self._uncommitted.add(delivery.weight_bytes)
        if self._begins(delivery, receiver):
            self._held.add(delivery.uid)
            self._memory.add(delivery.weight_bytes)
            self._committer.submit(delivery, partial(self._kept, delivery))
        else:
            self._awaited += 1
            self._committer.submit(delivery, partial(self._accepted, delivery, receiver))

    def _begins(self, delivery: Delivery, receiver: Receiver) -> bool:
        """Begin the POST of a stanza before its commit, if that is in order."""
        if not self._overlaps or self._awaited or self._unloaded or self._memory.is_full:
            return False
        if delivery.stanza.kind == "iq" or self._committer.failing:
            return False
        delivery.is_being_kept = receiver.begin(delivery)
        return delivery.is_being_kept

    def when_kept(self, delivery: Delivery, call: Callable[[], None]) -> None:
        if delivery.is_being_kept:
            self._when_kept.setdefault(delivery.uid, []).append(call)
        else:
            call()

    def attempted(self, delivery: Delivery) -> None:
        self._committer.submit(Attempted(delivery.uid, delivery.attempts[-1]))

    def settle(
        self,
        delivery: Delivery,
        replies: list[bytes],
        made: float,
        reason: str | None,
        then: Settled,
    ) -> None:
        uid = delivery.uid
        places = enumerate(replies, 1)
        kept = tuple([Outgoing(data, made, self.component, uid, n) for n, data in places])
        settle = Settle(uid, kept, made, reason)
        self._committer.submit(settle, partial(self._settled, delivery, kept, then))

    def _settled(
        self, delivery: Delivery, replies: tuple[Outgoing, ...], then: Settled, committed: bool
    ) -> None:
        if committed:
            self._held.discard(delivery.uid)
        elif self._committer.failing:
            self._late.add(delivery.uid)
        # Otherwise it stays in `_held`: it is pending on disk, and must not be delivered again.
        self._memory.remove(delivery.weight_bytes)
        self._volume.remove(_size(delivery.xml))
        if self._unloaded:
            self._wanted.set()
        then(replies)

    def send(
        self, stanzas: Mapping[str, Stanza], made: float, claim: Claim | None, then: Kept
    ) -> None:
        sent: list[Sent] = []
        for uid, one in stanzas.items():
            outgoing = Outgoing(encode(one), made, self.component, uid, SENT_PLACE)
            sent.append(Sent(outgoing, one.kind, one.from_ or "", one.to or "", one.id))
        kept = [one.reply for one in sent]
        self._committer.submit(Send(tuple(sent), claim), lambda done: then(kept if done else None))

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        keys = tuple([(one.uid, one.place) for one in replies if one.uid])
        if keys:
            self._committer.submit(Confirm(keys))

    def abandon(self, reply: Outgoing, why: str) -> None:
        if reply.uid:
            self._committer.submit(Abandon(reply.uid, reply.place, self._now(), why))

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        query = partial(_count_written, written=dict(written))
        self._committer.inquire(query, lambda _: None)  # if it fails, there is one copy more

    def leave(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self._held.discard(one.uid)
            self._memory.remove(one.weight_bytes)
        self._want()

    # --- between memory and disk

    def _kept(self, delivery: Delivery, _: bool) -> None:
        """Record the commit of a stanza whose POST has begun. If it failed, the stanza goes on in
        memory like all that were accepted before, and the committer tries again.
        """
        self._uncommitted.remove(delivery.weight_bytes)
        delivery.is_being_kept = False
        if self._when_kept:
            for call in self._when_kept.pop(delivery.uid, ()):
                call()

    def _accepted(self, delivery: Delivery, receiver: Receiver, committed: bool) -> None:
        self._awaited -= 1
        self._uncommitted.remove(delivery.weight_bytes)
        if not committed:
            self._volume.remove(_size(delivery.xml))
            receiver.refuse(delivery)
        elif self._is_room_for(delivery):
            self._hold(delivery, receiver)
        else:
            self._unloaded += 1
            self._want()

    def _is_room_for(self, delivery: Delivery) -> bool:
        if delivery.stanza.kind == "iq":
            return self._memory.fullness < 2
        return not self._unloaded and not self._memory.is_full

    def _hold(self, delivery: Delivery, receiver: Receiver) -> None:
        self._held.add(delivery.uid)
        self._memory.add(delivery.weight_bytes)
        receiver.deliver(delivery)

    def _want(self) -> None:
        if self._unloaded:
            self._wanted.set()

    async def _load(self, receiver: Receiver) -> None:
        counted = self._unloaded
        page = await self._committer.ask(
            partial(_pending, component=self.component, after=self._cursor)
        )
        if not page:  # fewer than were counted: the operator has dropped some
            self._unloaded -= counted
            return
        # Computed now: a held delivery may be settled while the page is loaded.
        held = self._held.intersection(entry.uid for entry in page)
        for entry in page:
            if self._memory.fullness >= 1:
                return
            self._cursor = entry.number
            if entry.uid not in held:
                await self._load_one(entry, receiver)
                # Not earlier: deliveries accepted meanwhile must come behind it.
                self._unloaded = max(self._unloaded - 1, 0)

    async def _load_one(self, delivery: Delivery, receiver: Receiver) -> None:
        xml, uid = delivery.xml, delivery.uid
        try:
            element = await self._parse(_with_namespace(delivery).encode())
        except RemoteError as error:
            self.log.error("a journalled stanza cannot be read", uid=uid, why=str(error))
            self._committer.submit(Settle(uid, (), self._now(), f"cannot be read: {error}"))
            self._volume.remove(_size(xml))
            return
        weight = len(xml) + _TAG_BYTES * xml.count("<")
        delivery.load(Stanza(element, delivery.stanza.lang), weight)
        self._hold(delivery, receiver)


def _pending(journal: JournalStore, *, component: str, after: int) -> list[Delivery]:
    return journal.pending(component, after=after, limit=_PAGE)


def _replies(journal: JournalStore, *, component: str, after: int) -> list[tuple[int, Outgoing]]:
    return journal.replies(component, after=after, limit=_PAGE)


def _count_written(journal: JournalStore, *, written: Mapping[ReplyKey, int]) -> None:
    if isinstance(journal, WriteCounter):
        journal.count_written(written)


def _is_pending(journal: JournalStore, *, uid: str) -> bool:
    return any(isinstance(one, Delivery) and one.uid == uid for one in journal.find(uid))


def _with_namespace(delivery: Delivery) -> str:
    """Return the XML with its namespace, to be parsed alone: it was written for a stream."""
    tag = f"<{delivery.stanza.kind}"
    return f"{tag} xmlns='{COMPONENT}'{delivery.xml.removeprefix(tag)}"


def _size(xml: str) -> int:
    """Return the size in bytes of UTF-8, as the journal counts it."""
    return len(xml) if xml.isascii() else len(xml.encode())
