"""Accepts deferred replies from endpoints: at a `reply_url`, whose token is all the permission.

A reply is composed like a direct one, with the defaults that its token carries. Its uid, and so the
ids of its stanzas, are made of its idempotency key: a reply that is repeated, even after the key
was forgotten, has the same ids, and clients show it once.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from secrets import token_hex
from typing import Final

import trio
from attrs import frozen

from bridge.dispatch.deferred import DeferredReplies, PromiseOver
from bridge.dispatch.submission import NotTaken, OutboxFull
from bridge.journal.idempotency import IdempotencyStore
from bridge.journal.store import Claim
from bridge.listener.submission.composition import Batch, is_list, parts_of
from bridge.listener.submission.iq import FULL, NOT_RUNNING
from bridge.listener.submission.singleflight import (
    Flight,
    Key,
    NotConfigured,
    NotRunning,
    QueueFull,
    SendRefused,
    SingleFlight,
    unkept,
)
from bridge.payload.body import Reading, ReplyBody, ReplyObject, decode_json, read_reply
from bridge.payload.error import UnusableReply
from bridge.webhook.reply_url import Promise

DONE: Final = "done"
"""The key of an object that ends the promise."""
TURN_S: Final = 10.0
"""How long a reply waits for the direct ones before it; they wait for room, or for the disk."""
_TAG_LENGTH: Final = 10
_BEHIND: Final = "the replies before this one cannot be sent yet; try again later"

Deferrals = Callable[[], Mapping[str, DeferredReplies]]
"""Returns what takes the deferred replies of all configured components, by domain."""


class NoLongerTaken(SendRefused):
    """The promise is over: its time is up, it is done, or the iq was answered."""


@frozen
class ReplyClient:
    """Takes deferred replies for all components."""

    _deferrals: Deferrals
    _claims: IdempotencyStore
    _flights: SingleFlight
    _now: Callable[[], float] = time.time

    def promise_of(self, token: str) -> Promise | None:
        """Return the promise of a token; None if it was not made by a component here, or altered.

        Raises:
            NotRunning: if that is not known, because a component is starting.
        """
        signed = [one for one in self._deferrals().values() if one.promises.has_signed(token)]
        if signed:
            return signed[0].promises.of_token(token)
        if not all(one.promises.is_loaded for one in self._deferrals().values()):
            raise NotRunning(f"a component {NOT_RUNNING}")
        return None

    async def reply(
        self, promise: Promise, content: ReplyBody, key: Key | None
    ) -> tuple[Batch, list[str]]:
        """Accept a reply; return its stanzas and their UIDs, the same ones for the same key. When
        this returns, the stanzas are stored; they are sent in order. Cancellation ends the waiting,
        but does not withdraw them.

        Raises:
            NotJson: if the body should be JSON, and is not.
            UnusableReply: if a stanza may not be sent; the message says why.
            NoLongerTaken: if the promise is over.
            KeyReused, QueueFull, JournalUnavailable, NotConfigured, NotRunning
        """
        deferred = self._deferred(promise)
        objects, is_done = _read(content, promise)
        if not deferred.submitter.takes("draft"):
            raise self._not_running(promise)
        uid = f"{promise.uid}-d{_tag(key)}"
        stanzas = await deferred.compose(promise, objects, uid)
        batch = Batch(tuple(stanzas), is_list=is_list(content) or len(stanzas) != 1)
        with trio.move_on_after(TURN_S) as scope:
            await deferred.promises.wait_turn(promise)
        if scope.cancelled_caught:
            raise QueueFull(_BEHIND)
        begin = partial(self._keep, promise, batch, uid, is_done)
        if key is None:
            flight = Flight()
            begin(None, flight)
            await flight.over.wait()
            flight.give()
        else:
            await self._flights.do(key, begin, math.inf, is_question=False, look=lambda _: None)
        return batch, batch.uids(uid)

    def _deferred(self, promise: Promise) -> DeferredReplies:
        deferred = self._deferrals().get(promise.component)
        if deferred is None:
            raise NotConfigured(f"{promise.component} is no longer a component here")
        return deferred

    def _not_running(self, promise: Promise) -> NotRunning:
        return NotRunning(f"{promise.component} {NOT_RUNNING}")

    def _keep(
        self,
        promise: Promise,
        batch: Batch,
        uid: str,
        is_done: bool,
        key: Key | None,
        flight: Flight,
    ) -> None:
        deferred = self._deferred(promise)
        made = self._now()
        stanzas = dict(zip(batch.uids(uid), batch.stanzas, strict=True))
        claim = None if key is None else Claim(flight.name, key.digest, uid, made, "sent")

        def then(kept: bool, over: str = "") -> None:
            if kept:
                self._flights.end(flight, uid)
            elif over:
                self._flights.end(flight, refusal=NoLongerTaken(over))
            else:
                self._flights.end(flight, refusal=unkept(deferred.submitter.failure))

        try:
            deferred.send(promise, stanzas, made, claim, self._claims, then, is_done=is_done)
        except PromiseOver as over:
            raise NoLongerTaken(over.why) from None
        except OutboxFull:
            raise QueueFull(FULL) from None
        except NotTaken:
            raise self._not_running(promise) from None


def _tag(key: Key | None) -> str:
    """Return what tells the replies to one stanza apart."""
    if key is None:
        return token_hex(_TAG_LENGTH // 2)
    return sha256(key.key.encode()).hexdigest()[:_TAG_LENGTH]


def _read(content: ReplyBody, promise: Promise) -> tuple[list[ReplyObject], bool]:
    """Return the objects of a body, and whether they end the promise.

    Raises:
        UnusableReply: if there is none to send, too many, or one after the end; see `parts_of`.
    """
    reading = read_reply(content, "iq" if promise.request.kind == "iq" else "message")
    is_done = False
    if DONE in reading.unknown:
        is_done = _ends(decode_json(content.content))
        reading = _without_done(reading, is_done=is_done)
        if is_done and not reading.objects:
            return [], True
    return [part for _, part in parts_of(reading, is_array=is_list(content))], is_done


def _ends(value: object) -> bool:
    """Return whether the last object of a body says that it is the last one."""
    is_done = False
    given = value if isinstance(value, list) else [value]
    for number, one in enumerate(given, 1):
        place = f"object {number}: " if len(given) > 1 else ""
        if is_done:
            raise UnusableReply(f"{place}it comes after an object with done")
        said = one.get(DONE, False) if isinstance(one, dict) else False
        if not isinstance(said, bool):
            raise UnusableReply(f"{place}done is not true or false")
        is_done = said
    return is_done


def _without_done(reading: Reading, *, is_done: bool) -> Reading:
    """Return a reading without the key `done`, and without an object that has only that."""
    unknown = dict(zip(reading.unknown, reading.unknown_in, strict=True))
    del unknown[DONE]
    objects, whys = reading.objects, reading.whys
    is_mark = not unknown and not (whys and whys[-1])
    if is_done and is_mark and objects[-1].says_nothing:
        objects, whys = objects[:-1], whys[:-1]
    return Reading(objects, tuple(unknown), tuple(unknown.values()), whys)
