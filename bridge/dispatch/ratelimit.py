"""Limits per sender: how often it may send, and how many of its stanzas may wait.

A sender is a bare JID or, in a room that the bridge is in, an occupant (`sender_of`). All occupants
of a room together have `ROOM_FACTOR` times the limits of one. A sender's rate is a token bucket; a
stanza takes one token for each started `TOKEN_BYTES`, also if the stream refused it, and a large
answer of the bridge one for each full `TOKEN_BYTES`. Waiting stanzas are counted from acceptance to
settlement, in memory or in the journal, across changes of configuration; those that an earlier
process accepted are not counted. A stanza over a limit is refused before it is kept, and counted.
Two log lines report this: one at the first refusal, one after `CALM_S` without another.

Memory is bounded whatever strangers send: full buckets are dropped, and at most `BUCKET_LIMIT`
others are kept; the limits themselves bound the counts of waiting stanzas.
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
TOKEN_BYTES: Final = 16 * 1024
"""A stanza costs one token per started `TOKEN_BYTES` of its weight."""
CALM_S: Final = 10.0
ROOM_FACTOR: Final = 10
"""How many times a sender's limits hold for all occupants of a room together."""
_SWEEP_AT: Final = 1_000


class TokenBuckets:
    """A bucket of `burst` tokens for each sender, refilled at `rate_per_s`. No clock.

    A bucket is stored as the time at which it will be full (GCRA); a time in the past means full.
    If `BUCKET_LIMIT` buckets are not full, the fullest half of them is taken to be full.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._step_s = 1 / rate_per_s if rate_per_s else 0.0
        self._depth_s = burst * self._step_s
        self._slack_s = self._step_s / 100  # for what is lost in adding small times to a large one
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, sender: str, now: float, tokens: int = 1) -> bool:
        """Take tokens; return whether there were enough. A full bucket is enough for any number."""
        if not self._step_s:
            return True
        full_at = self._full_at.get(sender, now)
        full_at = (full_at if full_at > now else now) + min(tokens * self._step_s, self._depth_s)
        if full_at - now > self._depth_s + self._slack_s:
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
    """The limit that a stanza exceeds."""

    limit: Limit
    key: str
    """The name of the limit in `[limits]`."""


_RATE: Final = Excess("rate", "stanzas_per_s")
_WAITING: Final = Excess("conversations", "max_waiting")
_CONVERSATIONS: Final = Excess("conversations", "max_conversations")


UNBOUNDED: Final = SenderLimits(Rate(0.0), Count(1), Count(2**31), Count(2**31))


class SenderLimiter:
    """Limits the senders of one component. Outlives its service."""

    def __init__(
        self, bounds: SenderLimits | None = None, now: Callable[[], float] = trio.current_time
    ) -> None:
        self._bounds = bounds or SenderLimits()
        self._now = now
        self._make_buckets()
        self.sender_of: Callable[[Stanza], str] = lambda stanza: bare(stanza.from_ or "")
        """Returns the sender that a stanza counts for; an occupant is `room/something`."""
        self._waiting: dict[str, int] = {}  # by sender, and by room for all its occupants
        self._conversations: dict[tuple[str, str], int] = {}
        self.refused_count = 0
        """The number of stanzas refused since the last report of `calm`."""
        self._refused_at = 0.0

    def change(self, bounds: SenderLimits) -> None:
        """Use other limits from now on. If the rate changes, all buckets are full again."""
        old, self._bounds = self._bounds, bounds
        if (old.stanzas_per_s, old.burst) != (bounds.stanzas_per_s, bounds.burst):
            self._make_buckets()

    def _make_buckets(self) -> None:
        rate, burst = self._bounds.stanzas_per_s, self._bounds.burst
        self._buckets = TokenBuckets(rate, burst)
        self._room_buckets = TokenBuckets(ROOM_FACTOR * rate, ROOM_FACTOR * burst)

    def over_rate(
        self, stanza: Stanza, weight_bytes: int = 0, sender: str | None = None
    ) -> Excess | None:
        """Count an incoming stanza, a large one as several; return the excess if its sender sends
        too fast. Replies to iqs are not limited: they were requested. `sender` is its `sender_of`,
        if that is known already.
        """
        if not self._bounds.stanzas_per_s or (stanza.kind == "iq" and not stanza.is_request):
            return None
        tokens = 1 + weight_bytes // TOKEN_BYTES
        return self._take(self.sender_of(stanza) if sender is None else sender, tokens)

    def over_answer(self, stanza: Stanza, size_bytes: int) -> Excess | None:
        """Count a large answer of the bridge; return the excess if its asker asks too much."""
        tokens = size_bytes // TOKEN_BYTES
        if not tokens or not self._bounds.stanzas_per_s:
            return None
        return self._take(self.sender_of(stanza), tokens)

    def _take(self, sender: str, tokens: int) -> Excess | None:
        now = self._now()
        taken = self._buckets.take(sender, now, tokens)
        if taken and "/" in sender:
            taken = self._room_buckets.take(bare(sender), now, tokens)
        return None if taken else _RATE

    def over_waiting(self, stanza: Stanza, sender: str | None = None) -> Excess | None:
        """Return the excess if too many stanzas wait to accept another one; `sender` as above."""
        if stanza.kind == "iq" and not stanza.is_request:
            return None
        most = self._bounds.max_waiting
        if sender is None:
            sender = self.sender_of(stanza)
        if self._waiting.get(sender, 0) >= most:
            return _WAITING
        if "/" in sender and self._waiting.get(bare(sender), 0) >= ROOM_FACTOR * most:
            return _WAITING
        if len(self._conversations) < self._bounds.max_conversations:
            return None
        known = (sender, bare(stanza.to or "")) in self._conversations
        return None if known else _CONVERSATIONS

    def accepted(self, delivery: Delivery) -> None:
        """Count a stanza as waiting."""
        parties, waiting = delivery.parties, self._waiting
        sender = parties[0]
        waiting[sender] = waiting.get(sender, 0) + 1
        if "/" in sender:  # an occupant, whose room is counted too
            waiting[bare(sender)] = waiting.get(bare(sender), 0) + 1
        self._conversations[parties] = self._conversations.get(parties, 0) + 1

    def ended(self, delivery: Delivery) -> None:
        """Stop counting a stanza as waiting."""
        if not is_of_this_process(delivery.uid):
            return
        parties = delivery.parties
        # A stanza that an operator revived is not counted: then there is nothing to subtract from.
        self._uncount(parties[0])
        if "/" in parties[0]:
            self._uncount(bare(parties[0]))
        left = self._conversations.pop(parties, 0) - 1
        if left > 0:
            self._conversations[parties] = left

    def _uncount(self, sender: str) -> None:
        left = self._waiting.pop(sender, 0) - 1
        if left > 0:
            self._waiting[sender] = left

    # --- log messages

    def refused(self, stanza: Stanza, excess: Excess, log: FilteringBoundLogger) -> None:
        """Count a refused stanza; log the first of a series."""
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
        """Log the number of refusals, if the last one is `CALM_S` ago, or if `now`."""
        if self.refused_count and (now or self._now() - self._refused_at >= CALM_S):
            log.warning("no sender is over a limit any more", refused=self.refused_count)
            self.refused_count = 0
