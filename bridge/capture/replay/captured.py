"""`--answers captured`: an endpoint that answers as, and when, the captured one did.

It is called like any other, but has no socket. An attempt takes place at its captured time, or
later if it is made later. So retries need no waits of their own, and an endpoint that was down is
down again, for each stanza separately.
"""

from collections.abc import Callable
from itertools import count
from typing import Final, Self

import httpx
import trio
from attrs import field, frozen

from bridge.capture.exchange import HttpExchange
from bridge.capture.replay.clock import sleep_until
from bridge.capture.replay.expectation import Expectation
from bridge.capture.replay.recorded import Recorded
from bridge.capture.replay.tally import Tally, kind_of
from bridge.httpclient.response import BodyOpener, Response
from bridge.journal.delivery import Delivery
from bridge.journal.queue import MemoryQueue, Quota, Receiver, Settled
from bridge.payload.request import request_body
from bridge.webhook.observer import PostAnswer, PostFailure
from bridge.webhook.outcome import Outcome
from bridge.webhook.retry import CircuitBreaker, RetryPolicy
from xmppstream.jid import bare

_MARGIN_S: Final = 1.0
_UID: Final = b"webhook-id: "
_ATTEMPT: Final = b"webhook-attempt: "


class CapturedEndpoint:
    """An `HttpClient` that returns the responses of a capture."""

    def __init__(self, recorded: Recorded, now: Callable[[], float]) -> None:
        """`now` returns the story's time, in s."""
        self._recorded = recorded
        self._now = now
        self.duration_s = 0.0
        """Duration of the attempt that ended last, in s."""
        self.latest = 0.0
        """Time at which the latest response is due, in s of the story."""
        self.is_tried_again = False
        """Whether the attempt that failed last was followed by another one."""

    async def request(
        self,
        method: str,
        lines: bytes,
        body: bytes,
        deadline: float,
        opener: BodyOpener | None = None,
        key: str = "",
    ) -> Response:
        """Return the captured response when it is due, also that of a stream as a whole. If no
        attempt was captured, wait until `deadline`.

        Raises:
            httpx.TransportError: if the captured attempt failed, or there is none.
        """
        uid, attempt = _value_of(lines, _UID).decode("latin-1"), int(_value_of(lines, _ATTEMPT))
        found = self._recorded.find(uid, attempt, self._now())
        if found is None:
            began = self._now()
            await sleep_until(deadline)
            self.duration_s = self._now() - began
            self.is_tried_again = False
            raise httpx.ReadTimeout("no answer was captured")
        now = self._now()
        due = max(now, found.start) + found.duration_s
        self.latest = max(self.latest, due)
        await sleep_until(trio.current_time() + (due - now))
        return await self._result(found, deadline)

    async def _result(self, found: HttpExchange, deadline: float) -> Response:
        result = found.result
        if isinstance(result, PostFailure):
            if result.kind != "unreachable":
                # The bridge itself ended this attempt then, so it does now.
                await sleep_until(deadline)
            self._note(found)
            if result.kind == "unreachable":
                raise httpx.ConnectError(result.why)
            raise httpx.ReadTimeout(result.why)
        self._note(found)
        return _answer_of(result)

    def _note(self, found: HttpExchange) -> None:
        # No checkpoint follows until these are read, so they still belong to this attempt.
        self.duration_s = found.duration_s
        result = found.result
        if isinstance(result, PostFailure) or not 200 <= result.status < 300:
            following = self._recorded.find(found.uid, found.attempt + 1, self._now())
            self.is_tried_again = following is not None

    def ends_within(self, seconds: float) -> bool:
        """Return whether the capture ends within `seconds`, as far as it has been read."""
        return self._recorded.known_until < self._now() + seconds

    async def aclose(self) -> None:
        """Do nothing: a recorded exchange has no connection."""
        await trio.lowlevel.checkpoint()


def _value_of(lines: bytes, name: bytes) -> bytes:
    return lines.partition(name)[2].partition(b"\r\n")[0]


def _answer_of(result: PostAnswer) -> Response:
    headers = tuple((name.encode(), value.encode()) for name, value in result.headers.items())
    return Response(result.status, headers, result.body)


@frozen
class CapturedPolicy(RetryPolicy):
    """Retries at once if there was a retry: the endpoint then waits until its captured time.

    If the capture ends before another attempt was due, one is made anyway, and gets no response.
    """

    endpoint: CapturedEndpoint = field(kw_only=True)

    @classmethod
    def replaying(cls, policy: RetryPolicy, endpoint: CapturedEndpoint) -> Self:
        """Return a policy with the budgets of `policy`, and its rule for time-outs."""
        return cls(
            policy.message_budget_s,
            policy.iq_budget_s,
            jitter=lambda bound_s: bound_s,
            retry_timeouts=policy.retry_timeouts,
            endpoint=endpoint,
        )

    def wait_s(self, outcome: Outcome, attempts: int, since_s: float = 0.0) -> float | None:
        # No checkpoint since the endpoint failed, so its attributes belong to this attempt.
        longest_s = super().wait_s(outcome, attempts, since_s)
        if longest_s is None:
            return None
        endpoint = self.endpoint
        if endpoint.is_tried_again or endpoint.ends_within(longest_s + _MARGIN_S):
            return 0.0
        return None


class CapturedBreaker(CircuitBreaker):
    """Never opens: the capture says when attempts took place."""

    def record(self, outcome: Outcome, sender: str, now: float, *, probe: bool) -> None:
        """Ignore the outcome."""


class ReplayQueue(MemoryQueue):
    """Holds accepted stanzas until they are settled, and reports both events."""

    def __init__(
        self,
        volume: Quota,
        recorded: Recorded,
        expectation: Expectation | None,
        tally: Tally,
        now: Callable[[], float],
    ) -> None:
        """`now` returns the story's time, in s."""
        super().__init__(volume)
        self._recorded = recorded
        self._expectation = expectation
        self._tally = tally
        self._now = now
        self._number = count(1)

    def accept(self, delivery: Delivery, receiver: Receiver) -> None:
        self._tally.posted[delivery.stanza.kind] += 1
        told = self._recorded.claim(delivery, self._now())
        # Without captured attempts, the id is still the same in each replay.
        delivery.uid = f"msg_replay{next(self._number)}" if told is None else told.uid
        if self._expectation is not None:
            then = None if told is None else told.attempts[min(told.attempts)].request
            body = request_body(delivery.stanza, delivery.xml, delivery.received, delivery.uid)
            self._expectation.posted(body, then, delivery.stanza, self._now(), delivery.uid)
        super().accept(delivery, receiver)

    def settle(
        self,
        delivery: Delivery,
        replies: list[bytes],
        made: float,
        reason: str | None,
        then: Settled,
    ) -> None:
        self._recorded.forget(delivery.uid)
        if reason is None:
            self._tally.replies += len(replies)
        elif reason == STOPPED:
            self._tally.unfinished += 1
        else:
            self._tally.errors[kind_of(reason)] += 1
        if self._expectation is not None and reason is None:
            stanza = delivery.stanza
            conversation = (bare(stanza.from_ or ""), bare(stanza.to or ""))
            for data in replies:
                self._expectation.replied(data, conversation)
        super().settle(delivery, replies, made, reason, then)


STOPPED = "the daemon stopped"
"""The reason with which `dispatch` settles stanzas that it gives up when it stops."""
