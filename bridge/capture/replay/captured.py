"""`--answers captured`: an endpoint that answers as the captured one did, when it did.

It is asked as any other is, and has no socket. An attempt takes place when it took place then, or
as long later as the stanza came later; so retries need no waiting of their own, and an endpoint
that was down is down again for each stanza by itself.
"""

import re
from collections.abc import Callable
from itertools import count
from typing import Final, Self

import httpx
import trio
from attrs import field, frozen

from bridge.capture.exchange import HttpExchange
from bridge.capture.replay.expectation import Expectation
from bridge.capture.replay.recorded import Recorded
from bridge.capture.replay.tally import Tally, kind_of
from bridge.httpclient.response import Response
from bridge.journal.delivery import Delivery
from bridge.journal.queue import MemoryQueue, Quota
from bridge.payload.request import request_body
from bridge.webhook.observer import PostAnswer, PostFailure
from bridge.webhook.outcome import Outcome
from bridge.webhook.retry import CircuitBreaker, RetryPolicy
from bridge.xmpp.outbox import Outgoing
from xmppstream.jid import bare

_UID: Final = re.compile(rb"^webhook-id: (\S+)\r\n", re.MULTILINE)
_MARGIN_S: Final = 1.0
_ATTEMPT: Final = re.compile(rb"^webhook-attempt: ([0-9]+)\r\n", re.MULTILINE)


class CapturedEndpoint:
    """An `Exchange` that has the answers of a capture."""

    def __init__(self, recorded: Recorded, now: Callable[[], float]) -> None:
        """`now` gives the story's time, in s."""
        self._recorded = recorded
        self._now = now
        self.duration_s = 0.0
        """How long the attempt took that has just ended."""
        self.latest = 0.0
        """When the latest answer is due, in the story's time."""
        self.is_tried_again = False
        """Whether the attempt that failed last was followed by another one."""

    async def request(self, method: str, lines: bytes, body: bytes, deadline: float) -> Response:
        """Answer as it was answered; where nothing was captured, not at all.

        Raises:
            httpx.TransportError: by what failed.
        """
        uid, attempt = _told_by(lines)
        found = self._recorded.find(uid, attempt, self._now())
        if found is None:
            began = self._now()
            await trio.sleep_until(deadline)
            self.duration_s = self._now() - began
            self.is_tried_again = False
            raise httpx.ReadTimeout("no answer was captured")
        due = max(self._now(), found.start) + found.duration_s
        self.latest = max(self.latest, due)
        await trio.sleep(due - self._now())
        return await self._result(found, deadline)

    async def _result(self, found: HttpExchange, deadline: float) -> Response:
        result = found.result
        if isinstance(result, PostFailure):
            if result.kind != "unreachable":
                # Ours to give up: at the time-out, or as late as it was then.
                await trio.sleep_until(deadline)
            self._note(found)
            if result.kind == "unreachable":
                raise httpx.ConnectError(result.why)
            raise httpx.ReadTimeout(result.why)
        self._note(found)
        return _answer_of(result)

    def _note(self, found: HttpExchange) -> None:
        # Nobody else gets a turn until these are read: what follows is one step.
        self.duration_s = found.duration_s
        result = found.result
        if isinstance(result, PostFailure) or not 200 <= result.status < 300:
            following = self._recorded.find(found.uid, found.attempt + 1, self._now())
            self.is_tried_again = following is not None

    def ends_within(self, seconds: float) -> bool:
        """Tell whether the capture ends that soon, as far as is known."""
        return self._recorded.known_until < self._now() + seconds

    async def aclose(self) -> None:
        """Nothing is open."""
        await trio.lowlevel.checkpoint()


def _told_by(lines: bytes) -> tuple[str, int]:
    uid, attempt = _UID.search(lines), _ATTEMPT.search(lines)
    assert uid is not None
    assert attempt is not None
    return uid[1].decode("latin-1"), int(attempt[1])


def _answer_of(result: PostAnswer) -> Response:
    headers = tuple((name.encode(), value.encode()) for name, value in result.headers.items())
    return Response(result.status, headers, result.body)


@frozen
class CapturedPolicy(RetryPolicy):
    """Tries again what was tried again, at once: the endpoint waits as long as it took.

    Where the capture ends before another attempt was due, one is made all the same, and gets no
    answer.
    """

    endpoint: CapturedEndpoint = field(kw_only=True)

    @classmethod
    def replaying(cls, policy: RetryPolicy, endpoint: CapturedEndpoint) -> Self:
        """Make it with the budgets of another one."""
        budgets = policy.message_budget_s, policy.iq_budget_s
        return cls(*budgets, jitter=lambda bound_s: bound_s, endpoint=endpoint)

    def wait_s(self, outcome: Outcome, attempts: int) -> float | None:
        # It is asked in the same step in which the endpoint has failed.
        longest_s = super().wait_s(outcome, attempts)
        if longest_s is None:
            return None
        endpoint = self.endpoint
        if endpoint.is_tried_again or endpoint.ends_within(longest_s + _MARGIN_S):
            return 0.0
        return None


class CapturedBreaker(CircuitBreaker):
    """Holds nothing back: when attempts took place is known."""

    def record(self, outcome: Outcome, sender: str, now: float, *, probe: bool) -> None:
        """Take no note."""


class ReplayQueue(MemoryQueue):
    """Keeps what is accepted until it is settled, and tells of both."""

    def __init__(
        self,
        volume: Quota,
        recorded: Recorded,
        expectation: Expectation | None,
        tally: Tally,
        now: Callable[[], float],
    ) -> None:
        """`now` gives the story's time, in s."""
        super().__init__(volume)
        self._recorded = recorded
        self._expectation = expectation
        self._tally = tally
        self._now = now
        self._number = count(1)

    def accept(self, delivery: Delivery) -> None:
        self._tally.posted[delivery.stanza.kind] += 1
        told = self._recorded.claim(delivery, self._now())
        # Without a story the id is the same in each replay all the same.
        delivery.uid = f"msg_replay{next(self._number)}" if told is None else told.uid
        if self._expectation is not None:
            then = None if told is None else told.attempts[min(told.attempts)].request
            body = request_body(delivery.stanza, delivery.xml, delivery.received)
            self._expectation.posted(body, then, delivery.stanza, self._now())
        super().accept(delivery)

    async def settle(
        self, delivery: Delivery, replies: list[bytes], made: float, reason: str | None
    ) -> list[Outgoing]:
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
        return await super().settle(delivery, replies, made, reason)


STOPPED = "the daemon stopped"
"""Dispatch's words for what it gives up at its end."""
