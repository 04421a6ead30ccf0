"""Promises: the replies that endpoints give later, at the `reply_url` of a POST (H3).

A promise is in its URL, signed (`webhook.reply_url`), so it costs nothing to keep and survives a
restart. Kept are only the key, and which promises were ended by `"done": true`, until their time is
up: both in the small state of the component. In memory are the iqs whose answer is awaited, and
what has to be said before a deferred reply: the bridge has the direct replies of a conversation
already, and they are being kept.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import ListenSettings
from bridge.journal.delivery import Delivery
from bridge.payload.stub import Stub
from bridge.webhook.reply_url import KEY_BYTES, Promise, is_signed, make_token, promise_of
from bridge.xmpp.state import StateStore, kept
from xmppstream.jid import bare

DONE_LIMIT: Final = 50_000
"""The most promises that are known to be done; beyond it, the oldest are forgotten."""
PATH: Final = "/v1/replies/"
_KEY: Final = "reply_key"
_KEY_NAME: Final = "1"
_DONE: Final = "reply_done"

_Parties = tuple[str, str]


class Promises:
    """The promises of one component. Call `load` once its state is loaded."""

    def __init__(
        self,
        domain: str,
        state: StateStore,
        log: FilteringBoundLogger,
        listen: ListenSettings | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Without `listen`, or its `public_url`, no POST has a `reply_url`."""
        self.domain = domain
        self._state = state
        self._log = log
        self._now = now
        self._base = "" if listen is None or listen.public_url is None else listen.public_url + PATH
        self.ttl_s = 0.0 if listen is None else listen.reply_ttl_s
        self._key: bytes | None = None
        self.is_loaded = False
        self._done: OrderedDict[str, int] = OrderedDict()  # by uid: when the promise ends
        self._settling: dict[_Parties, dict[str, trio.Event]] = {}  # by parties, by uid
        self._awaited: dict[str, trio.Event] = {}  # by uid

    @property
    def is_on(self) -> bool:
        """Whether POSTs have a `reply_url`."""
        return bool(self._base)

    async def load(self) -> None:
        """Take the key from the state, or make one, which is kept when this returns."""
        for uid, until in self._state.entries(_DONE).items():
            self._done[uid] = int(until)
        self._done = OrderedDict(sorted(self._done.items(), key=lambda item: item[1]))
        self._sweep()
        key = self._state.get(_KEY, _KEY_NAME)
        if key is None and self.is_on:
            key = os.urandom(KEY_BYTES)
            self._state.put(_KEY, _KEY_NAME, key)
            await kept(self._state)
        self._key = key
        self.is_loaded = True

    # --- the URL

    def url_for(self, delivery: Delivery) -> str | None:
        """Return the URL that takes replies to a stanza, from now on; None if it would be too long,
        because the stanza's addresses or ids are.
        """
        if self._key is None:
            return None
        until = int(self._now() + self.ttl_s)
        promise = Promise(self.domain, delivery.uid, until, Stub.of(delivery.stanza))
        token = make_token(self._key, promise)
        if token is None:
            self._log.debug("no reply_url", uid=delivery.uid, why="it would be too long")
            return None
        return self._base + token

    def has_signed(self, token: str) -> bool:
        """Return whether a token is of this component, in a time that says nothing about the key.
        Altered ones are not.
        """
        return self._key is not None and is_signed(self._key, token)

    def of_token(self, token: str) -> Promise | None:
        """Return the promise of a token that is signed; None if it is not ours after all."""
        promise = promise_of(token)
        return promise if promise is not None and promise.component == self.domain else None

    # --- its end

    def is_over(self, promise: Promise) -> bool:
        """Return whether the time of a promise is up."""
        return promise.until <= self._now()

    def is_done(self, promise: Promise) -> bool:
        """Return whether a promise was ended by `finish`."""
        return promise.uid in self._done

    def finish(self, promise: Promise) -> None:
        """Take no more replies."""
        self._sweep()
        self._done[promise.uid] = promise.until
        self._state.put(_DONE, promise.uid, b"%d" % promise.until)

    def reopen(self, promise: Promise) -> None:
        """Take back `finish`: the reply that said so was not kept."""
        self._done.pop(promise.uid, None)
        self._state.delete(_DONE, promise.uid)

    def when_kept(self, then: Callable[[], None]) -> None:
        """Call `then` once `finish` is kept; see `StateStore.when_kept`."""
        self._state.when_kept(then)

    def _sweep(self) -> None:
        """Forget promises whose time is up, and the oldest over the limit. They are in the order of
        their ends, nearly: a repeated POST has a later one.
        """
        now = self._now()
        while self._done:
            uid, until = next(iter(self._done.items()))
            if until > now and len(self._done) < DONE_LIMIT:
                return
            del self._done[uid]
            self._state.delete(_DONE, uid)

    # --- order

    def answered(self, delivery: Delivery) -> None:
        """Note that the endpoint has answered a POST, whose replies come before deferred ones that
        come from now on.
        """
        if not delivery.stanza.is_request:
            parties = _parties(delivery.stanza.from_, delivery.stanza.to)
            self._settling.setdefault(parties, {})[delivery.uid] = trio.Event()

    def settled(self, delivery: Delivery) -> None:
        """Note that the replies of a POST are in the outbox, or that there are none."""
        parties = _parties(delivery.stanza.from_, delivery.stanza.to)
        settling = self._settling.get(parties)
        event = None if settling is None else settling.pop(delivery.uid, None)
        if settling is not None and not settling:
            del self._settling[parties]
        if event is not None:
            event.set()

    async def wait_turn(self, promise: Promise) -> None:
        """Wait until the direct replies of a conversation that have come before are sent."""
        parties = _parties(promise.request.from_, promise.request.to)
        for event in tuple(self._settling.get(parties, {}).values()):
            await event.wait()

    # --- iqs

    async def wait_answer(self, delivery: Delivery, until: float) -> None:
        """Wait until an iq is answered by a deferred reply, at most until its deadline, or `until`,
        when its URL expires (trio's clock).
        """
        event = self._awaited[delivery.uid] = trio.Event()
        try:
            with trio.move_on_at(min(delivery.deadline, until)):
                await event.wait()
        finally:
            del self._awaited[delivery.uid]

    def end_wait(self, uid: str) -> None:
        """End `wait_answer`: the iq has its answer."""
        if uid in self._awaited:
            self._awaited[uid].set()


def _parties(sender: str | None, recipient: str | None) -> _Parties:
    return bare(sender or ""), bare(recipient or "")
