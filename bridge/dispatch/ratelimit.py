"""What one sender may cost: how often it may send, and how much of it may wait.

A sender is a bare JID. Its rate is a token bucket; what waits is counted from acceptance to the
end, in memory or in the journal, also over a change of configuration; but not what an earlier
process has accepted. What is over a limit is refused before it is kept, counted, and told of in two
lines: one when that begins, and one when there was no more of it for `CALM_S`.

Nothing here grows with what strangers send: buckets that are full again are forgotten, and of the
others at most `BUCKET_LIMIT` are known; what waits is bounded by the limits themselves.
"""

from collections.abc import Callable
from typing import Final

import trio
from attrs import frozen
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import Count, Rate, SenderLimits
from bridge.journal.delivery import Delivery, is_of_this_process
from bridge.telemetry.meter import Limit
from xmppstream import Stanza
from xmppstream.jid import bare

BUCKET_LIMIT: Final = 20_000
CALM_S: Final = 10.0
_SWEEP_AT: Final = 1_000


class TokenBuckets:
    """A bucket of `burst` tokens for each sender, to which `rate_per_s` are added. No clock.

    A bucket is the time at which it will be full (GCRA): what is in the past is full already. Of
    more than `BUCKET_LIMIT` that are not, the fullest half is taken to be full.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._step_s = 1 / rate_per_s if rate_per_s else 0.0
        self._depth_s = burst * self._step_s
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, sender: str, now: float) -> bool:
        """Take a token, if there is one, and tell whether there was."""
        if not self._step_s:
            return True
        full_at = self._full_at.get(sender, now)
        full_at = (full_at if full_at > now else now) + self._step_s
        if full_at - now > self._depth_s:
            return False
        self._full_at[sender] = full_at
        if len(self._full_at) > self._sweep_at:
            self._sweep(now)
        return True

    def _sweep(self, now: float) -> None:
        kept = [item for item in self._full_at.items() if item[1] > now]
        if len(kept) >= BUCKET_LIMIT:
            kept.sort(key=lambda item: item[1], reverse=True)
            del kept[BUCKET_LIMIT // 2 :]
        self._full_at = dict(kept)
        self._sweep_at = min(max(2 * len(kept), _SWEEP_AT), BUCKET_LIMIT)


@frozen
class Excess:
    """What a stanza is over."""

    limit: Limit
    key: str
    """Its name in `[limits]`."""


_RATE: Final = Excess("rate", "stanzas_per_s")
_WAITING: Final = Excess("conversations", "max_waiting")
_CONVERSATIONS: Final = Excess("conversations", "max_conversations")


UNBOUNDED: Final = SenderLimits(Rate(0.0), Count(1), Count(2**31), Count(2**31))


class SenderLimiter:
    """The limits of one component's senders. Outlives a service."""

    def __init__(
        self, bounds: SenderLimits | None = None, now: Callable[[], float] = trio.current_time
    ) -> None:
        self._bounds = bounds or SenderLimits()
        self._now = now
        self._buckets = TokenBuckets(self._bounds.stanzas_per_s, self._bounds.burst)
        self._waiting: dict[str, int] = {}
        self._conversations: dict[tuple[str, str], int] = {}
        self.refused_count = 0
        """How many it has refused since it was calm."""
        self._refused_at = 0.0

    def change(self, bounds: SenderLimits) -> None:
        """Go by other limits from now on. With another rate, all buckets are full."""
        old, self._bounds = self._bounds, bounds
        if (old.stanzas_per_s, old.burst) != (bounds.stanzas_per_s, bounds.burst):
            self._buckets = TokenBuckets(bounds.stanzas_per_s, bounds.burst)

    def over_rate(self, stanza: Stanza) -> Excess | None:
        """Count a stanza that came in, and tell whether its sender sends too many. An answer to
        an iq is none: it was asked for.
        """
        if not self._bounds.stanzas_per_s or (stanza.kind == "iq" and not stanza.is_request):
            return None
        taken = self._buckets.take(bare(stanza.from_ or ""), self._now())
        return None if taken else _RATE

    def over_waiting(self, stanza: Stanza) -> Excess | None:
        """Tell whether too much waits for a stanza to be accepted."""
        if stanza.kind == "iq" and not stanza.is_request:
            return None
        sender = bare(stanza.from_ or "")
        if self._waiting.get(sender, 0) >= self._bounds.max_waiting:
            return _WAITING
        if len(self._conversations) < self._bounds.max_conversations:
            return None
        known = (sender, bare(stanza.to or "")) in self._conversations
        return None if known else _CONVERSATIONS

    def accepted(self, delivery: Delivery) -> None:
        """Count a stanza that waits from now on."""
        parties = delivery.parties
        self._waiting[parties[0]] = self._waiting.get(parties[0], 0) + 1
        self._conversations[parties] = self._conversations.get(parties, 0) + 1

    def ended(self, delivery: Delivery) -> None:
        """Count a stanza no more."""
        if not is_of_this_process(delivery.uid):
            return
        parties = delivery.parties
        # What an operator has revived was counted no more: then there is nothing to take from.
        left = self._waiting.pop(parties[0], 0) - 1
        if left > 0:
            self._waiting[parties[0]] = left
        left = self._conversations.pop(parties, 0) - 1
        if left > 0:
            self._conversations[parties] = left

    # --- what an operator is told

    def refused(self, stanza: Stanza, excess: Excess, log: FilteringBoundLogger) -> None:
        """Take note of a stanza that was refused."""
        if not self.refused_count:
            log.warning(
                "refusing stanzas over a limit of senders",
                limit=excess.key,
                sender=bare(stanza.from_ or ""),
                hint="see [limits]",
            )
        self.refused_count += 1
        self._refused_at = self._now()

    def calm(self, log: FilteringBoundLogger, *, now: bool = False) -> None:
        """Tell how many were refused, once there were no more for a while, or `now`."""
        if self.refused_count and (now or self._now() - self._refused_at >= CALM_S):
            log.warning("no sender is over a limit any more", refused=self.refused_count)
            self.refused_count = 0
