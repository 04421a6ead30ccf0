"""Which failures are tried again, when, and for how long."""

import random
from collections.abc import Callable
from typing import Final, Self

from attrs import field, frozen

from bridge.config.settings import RetrySettings
from bridge.webhook.outcome import Outcome, Rejected, TimedOut, Unreachable
from xmppstream import Stanza

RETRIED_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that say: not now. Every other one is final."""

_FIRST_S: Final = 0.5
_LAST_S: Final = 15.0


@frozen
class RetryPolicy:
    """The budgets, in seconds from a stanza's acceptance; 0 means one attempt, without end."""

    message_budget_s: float = 60
    iq_budget_s: float = 10
    jitter: Callable[[float], float] = field(default=lambda bound_s: random.uniform(0, bound_s))

    @classmethod
    def of(cls, retry: RetrySettings) -> Self:
        """Return the policy of a configuration."""
        return cls(retry.message_budget_s, retry.iq_budget_s)

    @property
    def is_patient(self) -> bool:
        """Whether every stanza has a budget. One without is owed its attempt at once: it cannot
        wait for a probe of an endpoint that is down.
        """
        return self.message_budget_s > 0 and self.iq_budget_s > 0

    def budget_s(self, stanza: Stanza) -> float:
        """Give the budget of a stanza: an iq's sender gives up soon."""
        return self.iq_budget_s if stanza.is_request else self.message_budget_s

    def wait_s(self, outcome: Outcome, attempts: int) -> float | None:
        """Give how long to wait after an attempt (the `attempts`-th); None where it is final.

        Exponential with full jitter; at least what the endpoint asks for by Retry-After.
        """
        if not is_passing(outcome):
            return None
        bound_s = min(_FIRST_S * 2 ** min(attempts - 1, 16), _LAST_S)
        asked_s = outcome.retry_after_s if isinstance(outcome, Rejected) else None
        return max(self.jitter(bound_s), asked_s or 0.0)


def is_passing(outcome: Outcome) -> bool:
    """Tell whether a failure may pass by itself."""
    if isinstance(outcome, Rejected):
        return outcome.status in RETRIED_STATUSES
    return isinstance(outcome, Unreachable | TimedOut)
