"""Stanzas to be written to the stream, and written ones that are not known to have arrived.

The outbox outlives the stream. Stanzas that become ready while there is no stream wait here. Those
that no barrier (S35) has confirmed are sent again, byte-identical, on the next stream. If one of
them breaks the stream, they become suspects, which go first, one at a time (S11). One does if the
server says so, or if two streams in a row ended, in any way, with the same oldest stanza
unconfirmed. So a stanza is written at most twice with others, and at most twice alone.

At the end of a stream the store is told how often each unconfirmed stanza was written, so that this
also holds if another process, which reads it from the store, has the next stream.

Answers of the bridge itself are written in order with the others, but once: they are not kept for
confirmation, and no limit counts them, since every request is answered (S29). The link bounds them:
it does not read while too many are unsent.

Invariant: every stanza is in exactly one of `_suspects`, `_unconfirmed`, `_pending`, from the
oldest to the newest. `_held_count` and `_held_bytes` are the number and size of all but answers;
`unsent_answer_bytes` is the size of these.

If other processes share the journal, only one of them has the link. In the others the outbox is
*away*: it takes nothing, because the one with the link reads from the journal what is kept.

Replies are always accepted, since their tasks wait for room first. Unsolicited stanzas may not use
the last quarter of the room. They reserve their place first, so those that are still being
committed to the journal count as well.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple, Protocol

import trio

from xmppstream.names import DELAY
from xmppstream.writer import escape_value

LATE_S: Final = 10.0
LIMIT_COUNT: Final = 20_000  # twice the queue: all of its senders can be told at once
LIMIT_BYTES: Final = 64 * 1024 * 1024
UNASKED_SHARE: Final = 0.75
SUSPECT_FROM: Final = 2  # times that a stanza was written with others (S11)

ReplyKey = tuple[str, int]
"""The uid and place of an outgoing stanza."""


def delayed(data: bytes, made: float, domain: str) -> bytes:
    """Return an encoded message or presence with a `<delay/>` from `domain` as its last child.

    `made` is Unix time in s. An iq is returned unchanged: it has one child (RFC 6120 §8.2.3).
    """
    stamp = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    delay = f"<delay xmlns='{DELAY}' from='{escape_value(domain)}' stamp='{stamp}'/>".encode()
    for kind in (b"message", b"presence"):
        if not data.startswith(b"<" + kind):
            continue
        end = b"</" + kind + b">"
        if data.endswith(end):
            return data.removesuffix(end) + delay + end
        return data.removesuffix(b"/>") + b">" + delay + end
    return data


class Outgoing(NamedTuple):  # one per reply: a third of the cost of a frozen class
    """An encoded stanza on its way to the server; `made` is Unix time in s.

    The journal identifies it by `uid` and `place`: it is the `place`-th stanza (from 1) that
    answers the delivery `uid`. Place 0 means that it answers no delivery. Without a uid it is in
    memory only. `is_answer`: the bridge itself answers; it is not kept for confirmation. `written`:
    how often it was written, unconfirmed, before this process read it from the journal; at least
    `SUSPECT_FROM` if it was a suspect.
    """

    data: bytes
    made: float
    component: str = ""
    uid: str = ""
    place: int = 0
    is_answer: bool = False
    written: int = 0


class OutgoingStore(Protocol):
    """Keeps outgoing stanzas until they are confirmed or abandoned. No call waits."""

    def confirm(self, replies: Iterable[Outgoing]) -> None:
        """Forget stanzas that have arrived."""
        ...

    def abandon(self, reply: Outgoing, why: str) -> None:
        """Abandon a stanza that the server does not accept."""
        ...

    def count_written(self, written: Mapping[ReplyKey, int]) -> None:
        """Keep how often stanzas were written. It may be lost; the next count includes it."""
        ...


class Outbox:
    """A bounded queue of encoded stanzas between the tasks of stanzas and one link."""

    def __init__(
        self,
        domain: str,
        limit_count: int = LIMIT_COUNT,
        limit_bytes: int = LIMIT_BYTES,
        *,
        store: OutgoingStore | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`store` is told of each stanza that is confirmed or abandoned."""
        self._is_away = False
        self._takes_answers = True
        self._domain = domain
        self._store = store
        self._now = now
        self._limit_count = limit_count
        self._limit_bytes = limit_bytes
        self._suspects: deque[Outgoing] = deque()
        self._unconfirmed: deque[Outgoing] = deque()
        self._pending: deque[Outgoing] = deque()
        self.unsent_answer_bytes = 0
        self._held_count = 0
        self._held_bytes = 0
        self._reserved = 0
        self._reserved_bytes = 0
        self._confirmed = 0  # the number that have ever left `_unconfirmed`
        self._resent = 0  # the number, at the front of `_pending`, that were written before
        self._head: Outgoing | None = None  # the oldest unconfirmed at the end of the last stream
        self._written: dict[ReplyKey, int] = {}  # of those unconfirmed at the end of a stream
        self._filled = trio.Event()
        self._taken = trio.Event()
        self._reached = trio.Event()
        self._awaited = 0
        self._freed = trio.Event()

    def __len__(self) -> int:
        """The number of stanzas that count: all but answers of the bridge itself."""
        return self._held_count

    @property
    def is_full(self) -> bool:
        return self._held_count >= self._limit_count or self._held_bytes >= self._limit_bytes

    async def wait_room(self) -> None:
        """Wait until there is room. If there already is, this is not a checkpoint."""
        while self.is_full:
            await self._freed.wait()

    def put(self, stanzas: Iterable[Outgoing]) -> None:
        """Add stanzas that belong together, even if there is no room: see `wait_room`."""
        if self._is_away:
            stanzas = [one for one in stanzas if one.is_answer and self._takes_answers]
        for one in stanzas:
            self._pending.append(one)
            if one.is_answer:
                self.unsent_answer_bytes += len(one.data)
            else:
                self._held_count += 1
                self._held_bytes += len(one.data)
        self._filled.set()

    # --- if processes share the journal

    def go_away(self, *, takes_answers: bool = False) -> None:
        """Take nothing from now on. `takes_answers`: the link is still there for a moment, so what
        is in the outbox may be written, and answers of the bridge itself may be added.
        """
        self._is_away, self._takes_answers = True, takes_answers

    def come_back(self) -> None:
        """Be empty, and take everything from now on. The kept stanzas are read from the journal."""
        self._is_away, self._takes_answers = False, True
        self._confirmed += len(self._unconfirmed)
        self._resent = self._answers = self.unsent_answer_bytes = 0
        left = [*self._suspects, *self._unconfirmed, *self._pending]
        for stanzas in (self._suspects, self._unconfirmed, self._pending):
            stanzas.clear()
        self._free([one for one in left if not one.is_answer])
        self._head = None

    def put_missing(self, stanzas: Iterable[Outgoing]) -> None:
        """Add stanzas from the journal, without those that are here already.

        One that was written `SUSPECT_FROM` times by other processes is a suspect, and so are those
        before it, so the order stays. A stream that ended with the oldest unconfirmed counts as
        one here.
        """
        here = {
            (one.uid, one.place)
            for some in (self._suspects, self._unconfirmed, self._pending)
            for one in some
        }
        missing = [one for one in stanzas if (one.uid, one.place) not in here]
        is_first = not self._held_count
        self.put(missing)
        if not any(one.written for one in missing):
            return
        if any(one.written >= SUSPECT_FROM for one in missing):
            self._suspect_pending()
        held, least = (self._suspects, SUSPECT_FROM) if self._suspects else (self._pending, 0)
        oldest = next(one for one in held if not one.is_answer)
        if is_first and oldest.written > least:
            self._head = oldest

    def _suspect_pending(self) -> None:
        """Make suspects of the pending stanzas, up to the last that was written too often."""
        pending, self._pending = list(self._pending), deque()
        last = max(at for at, one in enumerate(pending) if one.written >= SUSPECT_FROM)
        for at, one in enumerate(pending):
            (self._pending if at > last or one.is_answer else self._suspects).append(one)
        self._resent = 0

    # --- for unsolicited stanzas

    def reserve(self, size_bytes: int, count: int = 1) -> bool:
        """Reserve room for `count` stanzas of `size_bytes` in all until `release`; return whether
        there was enough.
        """
        number = self._held_count + self._reserved + count
        size = self._held_bytes + self._reserved_bytes + size_bytes
        if number > UNASKED_SHARE * self._limit_count or size > UNASKED_SHARE * self._limit_bytes:
            return False
        self._reserved += count
        self._reserved_bytes += size_bytes
        return True

    def release(self, size_bytes: int, count: int = 1) -> None:
        """Release the room reserved for stanzas: they were put, or will not be."""
        self._reserved -= count
        self._reserved_bytes -= size_bytes

    def withdraw(self, stanza: Outgoing, *, also_again: bool = True) -> bool:
        """Take back a stanza that waits to be written; return whether it was never written.

        With `also_again`, a stanza that waits to be written again is taken back as well.
        """
        for place, one in enumerate(self._pending):
            if one is stanza:
                never = place >= self._resent
                if never or also_again:
                    del self._pending[place]
                    self._resent -= not never
                    self._free([one])
                    self._taken.set()
                    self._taken = trio.Event()
                return never
        return False

    # --- for the link

    async def wait_pending(self) -> None:
        """Wait until there is something to take, or a suspect."""
        while not self._pending and not self._suspects:
            self._filled = trio.Event()
            await self._filled.wait()

    def take(self, *, answers_only: bool = False) -> list[bytes]:
        """Return all pending stanzas, which count as unconfirmed from now on, but for answers.

        Late ones are marked so (XEP-0203); those that were written before stay unchanged.
        """
        late = self._now() - LATE_S
        taken = []
        pending, self._pending = self._pending, deque()
        for one in pending:
            if one.is_answer:
                data = one.data
                taken.append(delayed(data, one.made, self._domain) if one.made < late else data)
                continue
            if answers_only:
                self._pending.append(one)
                continue
            if one.made < late and not self._resent:
                one = self._marked(one)
            else:
                self._resent = max(self._resent - 1, 0)
            self._unconfirmed.append(one)
            taken.append(one.data)
        self.unsent_answer_bytes = 0
        if len(self._unconfirmed) >= self._awaited:
            self._reached.set()
        self._taken.set()
        self._taken = trio.Event()
        return taken

    def _marked(self, one: Outgoing) -> Outgoing:
        data = delayed(one.data, one.made, self._domain)
        if data is one.data:  # an iq: the same object, so it can be withdrawn
            return one
        self._held_bytes += len(data) - len(one.data)
        marked = one._replace(data=data)
        if one is self._head:
            self._head = marked
        return marked

    async def wait_unconfirmed(self, count: int) -> None:
        """Wait until at least `count` stanzas are unconfirmed. Only one task may wait."""
        self._awaited = count
        while len(self._unconfirmed) < count:
            self._reached = trio.Event()
            await self._reached.wait()

    async def wait_written(self) -> None:
        """Wait until the link has taken every stanza."""
        while self._pending or self._suspects:
            await self._taken.wait()

    @property
    def position(self) -> int:
        """The position behind everything taken so far, for `confirm`."""
        return self._confirmed + len(self._unconfirmed)

    def confirm(self, position: int) -> None:
        """Forget the stanzas taken before `position`: they have arrived."""
        arrived = []
        while self._confirmed < position and self._unconfirmed:
            self._confirmed += 1
            arrived.append(self._unconfirmed.popleft())
        self._free(arrived)
        if self._store is not None:
            self._store.confirm(arrived)

    @property
    def is_confirmed(self) -> bool:
        """Whether everything that was ever written is confirmed."""
        return not self._unconfirmed and not self._suspects

    def count_written(self, *, tested: bool = False) -> None:
        """Count the stream that ends as one on which the unconfirmed stanzas were written, or, if
        it was `tested`, the oldest suspect.
        """
        written = {_key(one): self._written_of(one) + 1 for one in self._unconfirmed if one.uid}
        if tested and (suspect := self._suspects[0]).uid:
            written[_key(suspect)] = max(self._written_of(suspect), SUSPECT_FROM) + 1
        self._keep_written(written)

    def _written_of(self, one: Outgoing) -> int:
        return self._written.get(_key(one), one.written)

    def _keep_written(self, written: dict[ReplyKey, int]) -> None:
        if written and self._store is not None:
            self._written.update(written)
            self._store.count_written(written)

    def stream_lost(self, *, blamed: bool, tested: bool = False) -> bool:
        """Requeue the unconfirmed stanzas: in bulk, or as suspects if one of them is to blame.
        Return whether one is.

        `blamed`: the server says so. `tested`: the oldest suspect was written on this stream.
        """
        written = self._suspects if tested else self._unconfirmed
        if written:
            blamed = blamed or written[0] is self._head
            self._head = None if blamed else written[0]  # the suspects get two streams each
        if blamed:
            self._suspects += self._unconfirmed
            unseen = [one for one in self._unconfirmed if self._written_of(one) < SUSPECT_FROM]
            self._keep_written({_key(one): SUSPECT_FROM for one in unseen if one.uid})
        else:
            self._pending.extendleft(reversed(self._unconfirmed))
            self._resent += len(self._unconfirmed)
        self._confirmed += len(self._unconfirmed)
        self._unconfirmed.clear()
        return blamed

    @property
    def suspect(self) -> bytes | None:
        """The oldest stanza that must be sent alone; None if there is none."""
        return self._suspects[0].data if self._suspects else None

    @property
    def suspect_uid(self) -> str | None:
        """The uid of the suspect in the journal; None if it is in memory only."""
        return self._suspects[0].uid or None if self._suspects else None

    def confirm_suspect(self) -> None:
        """Forget the oldest suspect: it has arrived."""
        suspect = self._drop_suspect()
        if self._store is not None:
            self._store.confirm([suspect])

    def abandon_suspect(self, why: str) -> None:
        """Abandon the oldest suspect; `why` is the reason."""
        suspect = self._drop_suspect()
        if self._store is not None:
            self._store.abandon(suspect, why)

    def _drop_suspect(self) -> Outgoing:
        suspect = self._suspects.popleft()
        self._free([suspect])
        self._taken.set()
        self._taken = trio.Event()
        return suspect

    # --- for the operator

    def drop(self, uids: Collection[str]) -> None:
        """Forget the stanzas with these uids, which the journal has forgotten, wherever they are.

        A stanza that is written already may still arrive.
        """
        self._resent -= sum(one.uid in uids for one in islice(self._pending, self._resent))
        self._confirmed += sum(one.uid in uids for one in self._unconfirmed)
        dropped: list[Outgoing] = []
        for stanzas in (self._suspects, self._unconfirmed, self._pending):
            held = list(stanzas)
            stanzas.clear()
            for one in held:
                (dropped if one.uid in uids else stanzas).append(one)
        self._free(dropped)
        self._taken.set()
        self._taken = trio.Event()

    def _free(self, stanzas: list[Outgoing]) -> None:
        if stanzas:
            self._held_count -= len(stanzas)
            self._held_bytes -= sum([len(one.data) for one in stanzas])
            if self._written:
                for one in stanzas:
                    self._written.pop(_key(one), None)
            self._freed.set()
            self._freed = trio.Event()


def _key(one: Outgoing) -> ReplyKey:
    return one.uid, one.place
