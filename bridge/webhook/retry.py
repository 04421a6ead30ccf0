"""When the next POST may be made: the retries of a stanza, and the circuit breaker of an endpoint.

An endpoint is down once POSTs of three different senders have failed, with no answer in between, in
a way that says nothing about the stanza. So a stanza that the endpoint cannot handle does not block
the other senders. While it is down, one probe at a time is let through, until a POST is answered.
No tasks, no clock.
"""

import math
from collections.abc import Callable
from typing import Final, Self

from attrs import frozen

from bridge.config.settings import RetrySettings
from bridge.webhook.outcome import Outcome, Rejected, TimedOut, Unreachable
from bridge.xmpp.backoff import Backoff, full_jitter, half_jitter
from xmppstream import Stanza

RETRIED_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which a POST is repeated. Every other one is final."""
CRASH_ATTEMPTS: Final = 3
CRASH_S: Final = 5.0
"""A 500 is repeated up to `CRASH_ATTEMPTS` in this time: it may be a restart or a deadlock, but a
stanza that the endpoint cannot handle fails alike each time.
"""

_FIRST_S: Final = 0.5
_LAST_S: Final = 15.0
DOWN_AFTER_SENDERS: Final = 3
_DOWN_STATUSES: Final = frozenset({502, 503, 504})
_FIRST_PROBE_S: Final = 0.5
_LAST_PROBE_S: Final = 5.0


@frozen
class RetryPolicy:
    """The budgets, in seconds from a stanza's acceptance; 0 means one attempt and no deadline.
    Without `retry_timeouts`, a time-out is final, for endpoints that are not idempotent.
    """

    message_budget_s: float = 60
    iq_budget_s: float = 10
    jitter: Callable[[float], float] = full_jitter
    retry_timeouts: bool = True

    @classmethod
    def of(cls, retry: RetrySettings) -> Self:
        """Return the policy of the settings."""
        return cls(retry.message_budget_s, retry.iq_budget_s, retry_timeouts=retry.retry_timeouts)

    @property
    def is_patient(self) -> bool:
        """Whether every stanza has a budget. One without must be attempted at once: it cannot
        wait for a probe of an endpoint that is down.
        """
        return self.message_budget_s > 0 and self.iq_budget_s > 0

    def budget_s(self, stanza: Stanza) -> float:
        """Return the budget of a stanza. Iqs have their own, because their senders give up soon."""
        return self.iq_budget_s if stanza.is_request else self.message_budget_s

    def wait_s(self, outcome: Outcome, attempts: int, since_s: float = 0.0) -> float | None:
        """Return the seconds to wait after the `attempts`-th attempt; None if its outcome is final.
        After a crash, only attempts that ended in one count; the first began `since_s` ago.

        Exponential with full jitter, and at least as long as the endpoint's Retry-After.
        """
        if not is_passing(outcome):
            return None
        if isinstance(outcome, TimedOut) and not self.retry_timeouts:
            return None
        backoff_s = Backoff(_FIRST_S, _LAST_S, self.jitter).wait_s(attempts)
        asked_s = outcome.retry_after_s if isinstance(outcome, Rejected) else None
        wait_s = max(backoff_s, asked_s or 0.0)
        if is_crash(outcome) and (attempts >= CRASH_ATTEMPTS or since_s + wait_s >= CRASH_S):
            return None
        return wait_s


def is_passing(outcome: Outcome) -> bool:
    """Return whether an outcome is a failure that may pass by itself."""
    if isinstance(outcome, Rejected):
        return outcome.status in RETRIED_STATUSES
    return isinstance(outcome, Unreachable | TimedOut)


def is_crash(outcome: Outcome) -> bool:
    """Return whether an outcome says that the endpoint has a bug or was interrupted."""
    return isinstance(outcome, Rejected) and outcome.status == 500


class CircuitBreaker:
    """Decides whether a POST to one endpoint may begin, by the outcomes so far."""

    def __init__(
        self,
        jitter: Callable[[float], float] = half_jitter,
    ) -> None:
        self._backoff = Backoff(_FIRST_PROBE_S, _LAST_PROBE_S, jitter)
        self.is_down = False
        self.is_fine = True
        """Whether no POST has failed since the last one that was answered."""
        self._failed: set[str] = set()  # senders, while the endpoint is up
        self._probing = False
        self._probes = 0
        self._probe_at = -math.inf

    @property
    def next_probe_at(self) -> float:
        """The time at which the next probe may begin; infinite if one runs or none is needed."""
        return self._probe_at if self.is_down and not self._probing else math.inf

    def reset(self) -> None:
        """Forget all outcomes: the endpoint is now a different one."""
        self._recover()

    def allows(self, now: float) -> bool:
        """Return whether a POST may begin."""
        return not self.is_down or (not self._probing and now >= self._probe_at)

    def try_acquire(self) -> bool:
        """Record that a POST begins, and return whether it is the probe."""
        self._probing = self.is_down
        return self._probing

    def record(self, outcome: Outcome, sender: str, now: float, *, probe: bool) -> None:
        """Record the outcome of a POST."""
        if probe:
            self._probing = False
        if not says_down(outcome):
            self._recover()
        elif not self.is_down:
            self.is_fine = False
            self._failed.add(sender)
            if len(self._failed) >= DOWN_AFTER_SENDERS:
                self.is_down = True
                self._failed.clear()
                self._schedule(now)
        elif probe:
            self._schedule(now)

    def release(self, *, probe: bool) -> None:
        """Record that a POST was cancelled."""
        if probe:
            self._probing = False

    def _recover(self) -> None:
        self.is_down, self.is_fine, self._probing = False, True, False
        self._failed.clear()
        self._probes = 0

    def _schedule(self, now: float) -> None:
        self._probes += 1
        self._probe_at = now + self._backoff.wait_s(self._probes)


def says_down(outcome: Outcome) -> bool:
    """Return whether an outcome is a failure of the endpoint rather than of the stanza."""
    if isinstance(outcome, Rejected):
        return outcome.status in _DOWN_STATUSES
    return isinstance(outcome, Unreachable | TimedOut) and outcome.is_down
