"""Unsolicited stanzas, and iqs, that the HTTP API sends through one component.

They may use only a part of the outbox's room, and reserve it first: a stanza that is still being
committed counts as well.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import trio
from attrs import field, frozen

from bridge.dispatch.remote_iq import RemoteIqs
from bridge.journal.queue import DeliveryQueue
from bridge.journal.store import Claim, JournalError
from bridge.payload.reply import ReplyComposer
from bridge.xmpp.archive import ArchiveQueries
from bridge.xmpp.contact import Contacts
from bridge.xmpp.iq import PendingIq, PendingIqs
from bridge.xmpp.offer import Offers
from bridge.xmpp.outbox import Outbox, Outgoing
from bridge.xmpp.room.rooms import Rooms
from xmppstream import Stanza, encode

Submission = Literal["draft", "send", "query"]
"""A stanza that is only parsed; a message or presence, which is kept; an iq, whose answer somebody
waits for.
"""


class OutboxFull(Exception):
    """The outbox has no room for an unsolicited stanza."""


class NotTaken(Exception):
    """The component does not run, so it takes nothing now."""


@frozen
class Submitter:
    """Sends for one component. `composer` makes and checks the stanzas, also while nothing is
    taken; `submitted` is called with each one that goes out, for a capture; `takes` returns whether
    the component takes a submission now.
    """

    composer: ReplyComposer
    _queue: DeliveryQueue
    _outbox: Outbox
    _pending_iqs: PendingIqs
    _rooms: Rooms
    submitted: Callable[[str, bytes], None] = lambda uid, data: None
    takes: Callable[[Submission], bool] = lambda submission: True
    _contacts: Contacts | None = None
    _offers: Offers | None = None
    archives: ArchiveQueries = field(factory=ArchiveQueries)
    _remote_iqs: RemoteIqs | None = None

    @property
    def failure(self) -> JournalError | None:
        """Why nothing can be kept now; None if it can."""
        return self._queue.failure

    def submit(
        self,
        stanzas: Mapping[str, Stanza],
        made: float,
        claim: Claim | None,
        done: Callable[[bool], None],
    ) -> None:
        """Keep the stanzas of one request, by uid, with its claim, and send them in order: all or
        none. `done` is called with whether they were kept, perhaps at once. `made` is Unix time in
        s.

        Raises:
            NotTaken: if the component takes no sends now.
            OutboxFull: if the outbox has no room for all of them.
        """
        if not self.takes("send"):
            raise NotTaken
        count, size = len(stanzas), sum(len(encode(one)) for one in stanzas.values())
        self.reserve(size, count)

        def kept(outgoing: list[Outgoing] | None) -> None:
            self.release(size, count)
            if outgoing is not None:
                self._put(stanzas, outgoing)
            done(outgoing is not None)

        self._queue.send(stanzas, made, claim, kept)

    # --- iqs

    def open(
        self, request: Stanza, deadline: float, ended: Callable[[Stanza | None], None]
    ) -> PendingIq:
        """Register an iq before it is sent, by this node or another one; see `PendingIqs.open`.

        Raises:
            NotTaken: if the component takes no iqs now.
            DuplicateId, TooManyPending: see `PendingIqs.open`.
        """
        remote = self._remote_iqs
        if remote is not None and remote.is_open and not self.takes("query"):
            return remote.open(request, deadline, ended)
        return self.open_here(request, deadline, ended)

    def open_here(
        self, request: Stanza, deadline: float, ended: Callable[[Stanza | None], None]
    ) -> PendingIq:
        """Like `open`, but for an iq that this node sends itself."""
        if not self.takes("query"):
            raise NotTaken
        return self._pending_iqs.open(request, deadline, ended)

    def close(self, pending: PendingIq) -> None:
        """Stop waiting for the reply to an iq."""
        self._pending_iqs.close(pending)
        if self._remote_iqs is not None:
            self._remote_iqs.forget(pending)

    def ask(self, request: Stanza, made: float) -> Outgoing:
        """Send an iq that was opened. It is not kept: if the process ends, nobody waits for the
        reply.
        """
        remote = self._remote_iqs
        pending = None if remote is None else remote.find(request)
        if remote is not None and pending is not None:
            return remote.ask(request, pending, made)
        outgoing = Outgoing(encode(request), made)
        self._put({request.id or "": request}, [outgoing])
        return outgoing

    async def wait_answer(
        self, pending: PendingIq, request: Stanza, deadline: float, made: float
    ) -> None:
        """Send an iq that was opened, wait until it ends, and close it. If it is not written by
        `deadline` (trio's clock), or when this is cancelled, it is withdrawn.

        Raises:
            OutboxFull: if the outbox has no room for it.
        """
        outgoing = None
        try:
            size = len(encode(request))
            self.reserve(size)
            self.release(size)
            outgoing = self.ask(request, made)
            with trio.move_on_at(deadline):
                await pending.over.wait()
        finally:
            self.close(pending)
            is_open = outgoing is not None and not pending.over.is_set()
            if is_open and outgoing is not None and self.withdraw(outgoing):
                pending.withdrawn()

    def withdraw(self, outgoing: Outgoing, *, also_again: bool = True) -> bool:
        """Take back an iq; return whether it was certainly never written. See `Outbox.withdraw`."""
        return self._outbox.withdraw(outgoing, also_again=also_again)

    def reserve(self, size_bytes: int, count: int = 1) -> None:
        """Reserve room in the outbox for `count` stanzas of `size_bytes` in all, until `release`.

        Raises:
            OutboxFull: if there is not enough.
        """
        if not self._outbox.reserve(size_bytes, count):
            raise OutboxFull

    def release(self, size_bytes: int, count: int = 1) -> None:
        """Release reserved room."""
        self._outbox.release(size_bytes, count)

    def _put(self, stanzas: Mapping[str, Stanza], outgoing: list[Outgoing]) -> None:
        self._outbox.put(outgoing)
        for (uid, stanza), one in zip(stanzas.items(), outgoing, strict=True):
            self.submitted(uid, one.data)
            self._rooms.observe_sent(stanza)
            if self._contacts is not None:
                self._contacts.observe_sent(stanza)
            if self._offers is not None:
                self._offers.observe_sent(stanza)
