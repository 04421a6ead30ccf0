"""Deferred replies, as the HTTP API accepts them: checked, kept and sent like direct ones."""

from collections.abc import Callable
from typing import Final, Protocol

from attrs import frozen

from bridge.dispatch.dispatcher import Dispatcher
from bridge.dispatch.promise import Promises
from bridge.dispatch.submission import NotTaken, OutboxFull, Submitter
from bridge.dispatch.worker import FileUploads
from bridge.journal.delivery import Delivery
from bridge.journal.idempotency import IdempotencyStore
from bridge.journal.store import Claim
from bridge.payload.attachment import has_data
from bridge.payload.body import ReplyObject
from bridge.payload.check import is_answer_to
from bridge.telemetry.meter import Meter
from bridge.webhook.reply_url import Promise
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.typing import Typing
from xmppstream import Stanza

_ANSWERED: Final = "the iq has its answer already, or its sender does not wait any more"


class Then(Protocol):
    """Called with whether a reply was kept; if it came too late, `over` says why."""

    def __call__(self, kept: bool, over: str = "") -> None: ...


class PromiseOver(Exception):
    """No reply is taken (any more). `why` tells the endpoint the reason."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@frozen
class DeferredReplies:
    """Takes the deferred replies of one component."""

    promises: Promises
    submitter: Submitter
    _dispatcher: Dispatcher
    _typing: Typing
    _occupancy: MucOccupancy
    _meter: Meter
    _uploads: FileUploads

    async def compose(self, promise: Promise, objects: list[ReplyObject], uid: str) -> list[Stanza]:
        """Return the checked stanzas of a reply, its files uploaded; see `ReplyComposer.compose`.
        Those without an id get one made of `uid`.

        Raises:
            UnusableReply: if any of them may not be sent; then none may.
        """
        request = promise.request.stanza()
        if has_data(objects):
            objects = [*await self._uploads.with_urls(objects, request.to or "")]
        in_room = self._occupancy.has_occupant(request.from_ or "")
        return await self.submitter.composer.compose(objects, request, uid=uid, in_room=in_room)

    def check_open(self, promise: Promise) -> None:
        """Check that a promise still takes replies.

        Raises:
            PromiseOver: if it does not.
        """
        if self.promises.is_over(promise):
            raise PromiseOver("the time of this reply_url is up (reply_ttl_s)")
        if self.promises.is_done(promise):
            raise PromiseOver('an earlier reply has said "done": true')

    def send(
        self,
        promise: Promise,
        stanzas: dict[str, Stanza],
        made: float,
        claim: Claim | None,
        claims: IdempotencyStore,
        then: Then,
        *,
        is_done: bool,
    ) -> None:
        """Keep the stanzas of a reply, by uid, with its claim in `claims`, then send them: all or
        none. `made` is Unix time in s; `then` is called at the end, perhaps at once.

        Raises:
            PromiseOver: if no reply is taken any more.
            NotTaken: if the component takes no sends now.
            OutboxFull: if the outbox has no room for all of them.
        """
        self.check_open(promise)
        if not self.submitter.takes("send"):
            raise NotTaken
        if promise.request.kind == "iq":
            request = self._dispatcher.open_request(promise.uid)
            if request is None:
                raise PromiseOver(_ANSWERED)
            if is_done or is_answer_to([*stanzas.values()], request.stanza):
                self._answer(request, stanzas, claim, claims, then)
                return
        if is_done:
            self.promises.finish(promise)

        def kept(done: bool) -> None:
            if done and claim is not None:
                claims.sent(claim)
            if done:
                self._meter.deferred_replies += 1
            elif is_done:
                self.promises.reopen(promise)
            then(done)

        ended = self._typing.end(promise.uid, [*stanzas.values()])
        if not stanzas:
            self._end(claim, claims, kept)
            return
        try:
            self.submitter.submit(dict(zip(stanzas, ended, strict=True)), made, claim, kept)
        except (NotTaken, OutboxFull):
            if is_done:
                self.promises.reopen(promise)
            raise

    def _end(
        self, claim: Claim | None, claims: IdempotencyStore, kept: Callable[[bool], None]
    ) -> None:
        """Keep the end of a promise, with nothing to send."""
        if claim is None:
            self.promises.when_kept(lambda: kept(True))
        else:
            claims.begin(claim, kept)

    def _answer(
        self,
        request: Delivery,
        stanzas: dict[str, Stanza],
        claim: Claim | None,
        claims: IdempotencyStore,
        then: Then,
    ) -> None:
        encoded = {uid: one.encode() for uid, one in stanzas.items()}
        size, count = sum(map(len, encoded.values())), len(encoded)
        self.submitter.reserve(size, count)

        def begin() -> None:
            if claim is not None:  # in one commit with the answer
                claims.begin(claim, lambda _: None)

        def answered(is_first: bool) -> None:
            self.submitter.release(size, count)
            if is_first:
                self._meter.deferred_replies += 1
                for uid, data in encoded.items():
                    self.submitter.submitted(uid, data)
            then(is_first, "" if is_first else _ANSWERED)

        self._dispatcher.answer(request, [*stanzas.values()], begin, answered)
