"""The endpoint of a pulled component: an attempt offers an event, and its outcome is the answer.

What a POST is to `Endpoint`, an offer is here, so order, retries, dead letters, captures and
metrics are the same. Two things differ. The time in which an event waits for a poller does not
count as time for the answer: only a lease times out. And a message's budget does not cut a lease,
since the service may extend it; the budget decides whether there is another attempt. An iq's
budget cuts it, because its sender has given up by then.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from bridge.telemetry.tracing import Spans, fresh_span
from bridge.webhook.observer import PostAnswer, PostFailure, PostObserver, PostReport
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.pull import Offer, PulledEvents
from xmppstream import InvalidJid, split

NOBODY: Final = "nobody polls /v1/events"
_NO_LONGER: Final = 'component_post_url is no longer "pull:"'
_MEDIA: Final = {"json": "application/json", "xml": "application/xmpp+xml", "text": "text/plain"}


class PulledEndpoint:
    """Offers the events of one component to those who poll."""

    def __init__(
        self,
        domain: str,
        shown: str,
        events: PulledEvents,
        observer: PostObserver | None = None,
        spans: Spans | None = None,
        *,
        text_replies: bool = False,
        is_relayed: bool = False,
    ) -> None:
        """With `text_replies`, a `text/plain` body is a reply. `is_relayed`: the events are those
        of another node, offered to the pollers of this one.
        """
        self.shown = shown
        self._domain = domain
        self._events = events
        self._observer = observer
        self._spans = spans
        self._text_replies = text_replies
        self._is_relayed = is_relayed

    def when_polled_again(self, returned: Callable[[], None]) -> None:
        """Call `returned` whenever somebody polls after a time in which nobody did."""
        self._events.returned[self._domain] = returned

    @property
    def idle_pollers(self) -> int:
        """How many pollers wait for an event."""
        return self._events.idle_pollers(self._domain)

    async def post(
        self, body: bytes, uid: str, attempt: int, began: float, deadline: float
    ) -> Outcome:
        """Offer one stanza's JSON and return the outcome: the answer; `TimedOut` if the lease ends
        without one, or at `deadline` for an iq; `Unreachable` if nobody polls.

        Cancellation ends the lease: an answer is refused from then on.
        """
        head = _HEAD.decode(body)
        offer = Offer(
            self._domain,
            _local_of(head.to),
            uid,
            attempt,
            body,
            deadline if head.kind == "iq" else math.inf,
            self._text_replies,
            self._is_relayed,
        )
        began_ns = time.time_ns()
        outcome: Outcome | None = None
        self._events.offer(offer)
        try:
            outcome = await self._outcome_of(offer)
        finally:
            self._events.withdraw(offer)
            self._report(offer, began, began_ns, outcome)
        return outcome

    async def _outcome_of(self, offer: Offer) -> Outcome:
        while offer.outcome is None:
            now, due = trio.current_time(), min(self._due(offer), offer.cut_at)
            if now >= due:
                failure = self._failure(offer, now)
                self._events.withdraw(offer)  # or it could be taken in this checkpoint
                await trio.lowlevel.checkpoint()
                return failure
            offer.changed = trio.Event()
            with trio.move_on_at(due):
                await offer.changed.wait()
        return offer.outcome

    def _due(self, offer: Offer) -> float:
        """Return when an event fails for want of a poller or of an answer."""
        return self._events.absent_at(offer) if offer.taker is None else offer.lease_ends

    def _failure(self, offer: Offer, now: float) -> Outcome:
        if now >= offer.cut_at:
            return TimedOut(was_cut=True)
        if offer.taker is not None:
            is_down = not self._events.is_polled(offer)
            return TimedOut("the lease ended without an answer", is_down=is_down)
        if self._domain not in self._events.domains:
            return Unreachable(_NO_LONGER)
        self._events.note_missed(self._domain)
        if self._events.is_polled(offer):
            address = f"{offer.local}@{self._domain}" if offer.local else self._domain
            return Unreachable(f"{NOBODY} for {address}", is_down=False)
        return Unreachable(NOBODY)

    def _report(self, offer: Offer, began: float, began_ns: int, outcome: Outcome | None) -> None:
        if self._observer is not None:
            taken_at = offer.taken_at if offer.taker is not None else began
            seen_at = self._observer.now() - (trio.current_time() - taken_at)
            report = _report_of(outcome)
            self._observer.exchanged(offer.uid, offer.attempt, seen_at, offer.body, report)
        if self._spans is not None and self._spans.samples(offer.uid):
            ended = "cancelled" if outcome is None else outcome.name
            self._spans.post_ended(
                offer.uid, fresh_span(), offer.attempt, began_ns, self.shown, ended
            )

    async def aclose(self) -> None:
        """Do nothing: the attempts that are cancelled withdraw their events."""
        await trio.lowlevel.checkpoint()

    async def retire(self) -> None:
        """Return the events that nobody has taken if the component is no longer pulled. Those that
        are leased can still be answered.
        """
        await trio.lowlevel.checkpoint()
        if self._domain not in self._events.domains:
            self._events.forget(self._domain)
            for offer in self._events.offered(self._domain):
                offer.outcome = Unreachable(_NO_LONGER)
                offer.changed.set()


class _Head(msgspec.Struct):
    """The keys of a request that decide who sees it."""

    to: str | None = None
    kind: str = ""


_HEAD: Final = msgspec.json.Decoder(_Head)


def _local_of(address: str | None) -> str:
    try:
        return split(address or "").local or ""
    except InvalidJid:
        return ""


def _report_of(outcome: Outcome | None) -> PostReport:
    """Return what a capture records, as if the event had been POSTed."""
    match outcome:
        case None:
            return PostFailure("given_up")
        case Replied(media=media, content=content):
            return PostAnswer(200, {"content-type": _MEDIA[media]}, content)
        case NoReply():
            return PostAnswer(204)
        case Rejected(status=status, retry_after_s=None):
            return PostAnswer(status)
        case Rejected(status=status, retry_after_s=wait_s):
            return PostAnswer(status, {"retry-after": f"{math.ceil(wait_s or 0)}"})
        case BadReply():
            return PostAnswer(200, {"content-type": _MEDIA["json"]}, None)
        case Unreachable(why=why):
            return PostFailure("unreachable", why)
        case TimedOut():
            return PostFailure("timed_out")
