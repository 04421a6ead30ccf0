"""Unsolicited stanzas, and iqs, that the HTTP API sends through one component.

They may use only a part of the outbox's room, and reserve it first: a stanza that is still being
committed counts as well.
"""

from collections.abc import Callable
from typing import Literal

from attrs import frozen

from bridge.journal.queue import DeliveryQueue
from bridge.journal.store import Claim, JournalError
from bridge.payload.reply import ReplyComposer
from bridge.xmpp.contact import Contacts
from bridge.xmpp.iq import PendingIq, PendingIqs
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.outbox import Outbox, Outgoing
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
    _rooms: MucOccupancy
    _submitted: Callable[[str, bytes], None] = lambda uid, data: None
    takes: Callable[[Submission], bool] = lambda submission: True
    _contacts: Contacts | None = None

    @property
    def failure(self) -> JournalError | None:
        """Why nothing can be kept now; None if it can."""
        return self._queue.failure

    def submit(
        self,
        stanza: Stanza,
        uid: str,
        made: float,
        claim: Claim | None,
        done: Callable[[bool], None],
    ) -> None:
        """Keep a stanza, with its claim, and send it. `done` is called with whether it was kept,
        perhaps at once. `made` is Unix time in s.

        Raises:
            NotTaken: if the component takes no sends now.
            OutboxFull: if the outbox has no room.
        """
        if not self.takes("send"):
            raise NotTaken
        size = len(encode(stanza))
        self.reserve(size)

        def kept(outgoing: Outgoing | None) -> None:
            self.release(size)
            if outgoing is not None:
                self._put(stanza, uid, outgoing)
            done(outgoing is not None)

        self._queue.send(stanza, uid, made, claim, kept)

    # --- iqs

    def open(
        self, request: Stanza, deadline: float, ended: Callable[[Stanza | None], None]
    ) -> PendingIq:
        """Register an iq before it is sent; see `PendingIqs.open`.

        Raises:
            NotTaken: if the component takes no iqs now.
            DuplicateId, TooManyPending: see `PendingIqs.open`.
        """
        if not self.takes("query"):
            raise NotTaken
        return self._pending_iqs.open(request, deadline, ended)

    def close(self, pending: PendingIq) -> None:
        """Stop waiting for the reply to an iq."""
        self._pending_iqs.close(pending)

    def ask(self, request: Stanza, made: float) -> Outgoing:
        """Send an iq. It is not kept: if the process ends, nobody waits for the reply."""
        outgoing = Outgoing(encode(request), made)
        self._put(request, request.id or "", outgoing)
        return outgoing

    def withdraw(self, outgoing: Outgoing, *, also_again: bool = True) -> bool:
        """Take back an iq; return whether it was never written. See `Outbox.withdraw`."""
        return self._outbox.withdraw(outgoing, also_again=also_again)

    def reserve(self, size_bytes: int) -> None:
        """Reserve room in the outbox, until `release`.

        Raises:
            OutboxFull: if there is not enough.
        """
        if not self._outbox.reserve(size_bytes):
            raise OutboxFull

    def release(self, size_bytes: int) -> None:
        """Release reserved room."""
        self._outbox.release(size_bytes)

    def _put(self, stanza: Stanza, uid: str, outgoing: Outgoing) -> None:
        self._outbox.put([outgoing])
        self._submitted(uid, outgoing.data)
        self._rooms.observe_sent(stanza)
        if self._contacts is not None:
            self._contacts.observe_sent(stanza)
