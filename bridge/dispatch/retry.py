"""Which attempts are made again, and when: the policy, the circuit breaker, the queue's record."""

import math
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from bridge.dispatch.worker import AttemptResult
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.queue import DeliveryQueue
from bridge.webhook.outcome import NoReply, Outcome, reason_of
from bridge.webhook.retry import CircuitBreaker, RetryPolicy, is_crash, says_down
from xmppstream.jid import bare

LAST_CHANCE_S: Final = 2.0
"""A stanza that would have to wait beyond its budget is tried once more this long before its end,
whatever `Retry-After` says: the endpoint may be back sooner than it thought.
"""


class Retrier:
    """Records failed attempts, and decides on the next one; for one component's endpoint."""

    def __init__(
        self,
        policy: RetryPolicy,
        breaker: CircuitBreaker,
        queue: DeliveryQueue,
        log: FilteringBoundLogger,
        trio_now: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.breaker = breaker
        self._queue = queue
        self._log = log
        self._trio_now = trio_now
        self._now = now

    def change(self, policy: RetryPolicy, *, moved: bool) -> None:
        """Use another policy. An endpoint that has `moved` is not known to be down. By a policy
        that is not patient no endpoint is, because nothing would end that.
        """
        self.policy = policy
        if moved or not policy.is_patient:
            self.breaker.reset()

    def due_again(
        self, delivery: Delivery, result: AttemptResult, began: float, waiting: int, *, probe: bool
    ) -> float | None:
        """Record an attempt; return when to try the stanza again, by trio's clock, or None for
        never. `began` is Unix time in s; `waiting` is how many stanzas wait, for the log.
        """
        if probe or not result.was_cut:
            self._note_health(result.outcome, delivery, waiting, probe)
        if result.is_success:
            return None
        delivery.is_tried = True  # before the attempts: see `accepted_attempts`
        delivery.attempts = (*delivery.attempts, Attempt(began, reason_of(result.outcome)))
        self._queue.attempted(delivery)
        if delivery.deadline == math.inf:  # accepted without a budget
            return None
        attempts, since_s = len(delivery.attempts), 0.0
        if is_crash(result.outcome):
            crashes = self._crashes(delivery)
            attempts, since_s = len(crashes), self._now() - crashes[0]
        wait_s = self.policy.wait_s(result.outcome, attempts, since_s)
        if wait_s is None:
            return None
        now, last_chance = self._trio_now(), delivery.deadline - LAST_CHANCE_S
        if now + wait_s < delivery.deadline:
            return now + wait_s
        return last_chance if now < last_chance else None

    def note_answer(self, delivery: Delivery, waiting: int) -> None:
        """Record that the endpoint answers, by an answer that has only begun to come."""
        self._note_health(NoReply(), delivery, waiting, probe=False)

    def _crashes(self, delivery: Delivery) -> list[float]:
        """Return when the attempts began that ended as the last one, since the stanza was accepted
        or taken from the dead letters (Unix time, s).
        """
        *before, last = delivery.attempts
        same = (one.at for one in before if one.result == last.result)
        return [*(at for at in same if at >= delivery.received), last.at]

    def _note_health(self, outcome: Outcome, delivery: Delivery, waiting: int, probe: bool) -> None:
        breaker = self.breaker
        if not self.policy.is_patient or (breaker.is_fine and not says_down(outcome)):
            return
        was_down = breaker.is_down
        sender = bare(delivery.stanza.from_ or "")
        breaker.record(outcome, sender, self._trio_now(), probe=probe)
        if breaker.is_down and not was_down:
            self._log.error("endpoint is down, asking it by one POST at a time")
        elif was_down and not breaker.is_down:
            self._log.warning("endpoint is back", waiting=waiting)
