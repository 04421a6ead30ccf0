"""Whether an endpoint is plainly down, and whose POST may find out that it is back.

It is down when the last POSTs of three different senders all failed in a way that says nothing of
the stanza; one stanza that it cannot digest makes it down for nobody else. Then one probe at a time
is let through, until any POST is answered. No tasks, no clock.
"""

import math
import random
from collections.abc import Callable
from typing import Final

from bridge.webhook.outcome import Outcome, Rejected, TimedOut, Unreachable

DOWN_AFTER_SENDERS: Final = 3
_DOWN_STATUSES: Final = frozenset({502, 503, 504})
_FIRST_S: Final = 0.5
_LAST_S: Final = 5.0


class Health:
    """What is known of one endpoint."""

    def __init__(
        self,
        jitter: Callable[[float], float] = lambda bound_s: random.uniform(bound_s / 2, bound_s),
    ) -> None:
        self._jitter = jitter
        self.is_down = False
        self.is_fine = True
        """Whether no POST has failed since the last one that was answered."""
        self._failed: set[str] = set()  # senders, while it is up
        self._probing = False
        self._probes = 0
        self._probe_at = -math.inf

    @property
    def next_probe_at(self) -> float:
        """When the next probe may begin; infinite while one runs, and while none is needed."""
        return self._probe_at if self.is_down and not self._probing else math.inf

    def reset(self) -> None:
        """Forget what is known: the endpoint is another one."""
        self._recover()

    def allows(self, now: float) -> bool:
        """Tell whether a POST may begin."""
        return not self.is_down or (not self._probing and now >= self._probe_at)

    def began(self) -> bool:
        """Take note of a POST that begins, and tell whether it is the probe."""
        self._probing = self.is_down
        return self._probing

    def ended(self, outcome: Outcome, sender: str, now: float, *, probe: bool) -> None:
        """Take note of what came of a POST."""
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

    def dropped(self, *, probe: bool) -> None:
        """Take note of a POST that was cancelled."""
        if probe:
            self._probing = False

    def _recover(self) -> None:
        self.is_down, self.is_fine, self._probing = False, True, False
        self._failed.clear()
        self._probes = 0

    def _schedule(self, now: float) -> None:
        self._probe_at = now + self._jitter(min(_FIRST_S * 2 ** min(self._probes, 16), _LAST_S))
        self._probes += 1


def says_down(outcome: Outcome) -> bool:
    """Tell whether an outcome speaks of the endpoint rather than of the stanza."""
    if isinstance(outcome, Rejected):
        return outcome.status in _DOWN_STATUSES
    return isinstance(outcome, Unreachable | TimedOut)
