"""Events that services fetch: what is offered, who polls, and who has which lease.

A `PulledEndpoint` offers an event for each attempt. A poller takes it, and has a lease on it from
the moment at which it was written to the poller's connection. A lease ends by an answer, by being
given back, or by time; what was taken and could not be written is offered again, ahead of all
others, as the same attempt. All of this is in memory: a crash ends the leases, and the journal has
the stanzas.

A service counts as present while it polls or has a lease, and for `PRESENT_S` thereafter. Without
one, an offer is `Unreachable`: "nobody polls" is an endpoint that is down. The first poll then
tells the dispatcher, so that nothing waits for the next probe.

An event is invisible to tokens that are not for its address, and its lease belongs to the token
that took it: whoever else asks for it learns as much as of an event that does not exist.
"""

import hmac
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final, Literal, NamedTuple

import trio
from attrs import define, field, frozen

from bridge.config.token import Token
from bridge.webhook.outcome import Outcome, Unreachable

LEASE_S: Final = 60.0
LEASE_LIMIT_S: Final = 3600.0
"""How long a lease may be extended to in all. Meanwhile its conversation waits."""
PRESENT_S: Final = 10.0
ENDED_LIMIT: Final = 4096
"""How many leases that have ended are remembered, to tell a late answer from a wrong one."""

Ending = Literal["answered", "ended"]


class NotLeased(Exception):
    """An event has no lease that the token may answer. `ending` tells how it ended, if it did, and
    if that is for this token to know.
    """

    def __init__(self, ending: Ending | None = None) -> None:
        super().__init__(ending or "unknown")
        self.ending = ending


@frozen
class Reach:
    """The events that a poller may see: those of `domains`, as far as its token is for them. A
    poller at another `node` sees none that are relayed from there.
    """

    token: Token
    domains: frozenset[str]
    node: int | None = None

    def covers(self, offer: "Offer") -> bool:
        """Return whether an event is among them."""
        if offer.is_relayed and self.node is not None:
            return False
        return offer.domain in self.domains and self.token.hears(offer.domain, offer.local)


@define(eq=False)
class Offer:
    """One attempt: an event that waits for a poller, or is leased to one.

    `cut_at` is the end of its budget if a lease may not outlive that; times are trio's clock.
    """

    domain: str
    local: str
    uid: str
    attempt: int
    body: bytes
    cut_at: float = math.inf
    takes_text: bool = False
    """Whether a `text/plain` body is a reply."""
    is_relayed: bool = False
    """Whether it waits on another node, and is offered here for that."""
    ticket: int = 0
    """Its place among all offers."""
    outcome: Outcome | None = None
    taker: "Poller | None" = None
    taken_at: float = math.inf
    lease_ends: float = math.inf
    changed: trio.Event = field(factory=trio.Event)

    def lease_s(self, now: float) -> float:
        """Return how long the lease still lasts."""
        return max(min(self.lease_ends, self.cut_at) - now, 0.0)


class _Ended(NamedTuple):
    """A lease that has ended."""

    token: str
    domain: str
    local: str
    attempt: int
    ending: Ending


@define
class _Presence:
    """What is known of the pollers of one reach."""

    pollers: int = 0
    leases: int = 0
    last: float = -math.inf

    def until(self) -> float:
        return math.inf if self.pollers or self.leases else self.last + PRESENT_S


class PulledEvents:
    """The events of all pulled components of a daemon."""

    def __init__(self) -> None:
        self.domains: frozenset[str] = frozenset()
        """The components that are pulled now, as configured."""
        self.returned: dict[str, Callable[[], None]] = {}
        """By component, what to call if somebody polls again after `Unreachable` was told."""
        self.when_polled: Callable[[Reach], None] = lambda reach: None
        """Called when somebody polls this node."""
        self._offers: dict[str, Offer] = {}
        self._ticket = count()
        self._leases: dict[str, Offer] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._waiting: dict[Poller, None] = {}
        self._presence: dict[Reach, _Presence] = {}
        self._began: dict[str, float] = {}
        self._missed: set[str] = set()
        self._when_idle: Callable[[], None] | None = None

    # --- the side of the endpoint

    def offer(self, offer: Offer) -> None:
        """Offer an event. It stays until `withdraw`. A lease on it that another node has given out
        ends: that node has died.
        """
        before = self._leases.get(offer.uid)
        if before is not None:
            self._end(before, "ended")
            before.lease_ends = -math.inf
            before.changed.set()
        self._began.setdefault(offer.domain, trio.current_time())
        offer.ticket = next(self._ticket)
        self._offers[offer.uid] = offer
        self._wake_for(offer)

    def withdraw(self, offer: Offer) -> None:
        """Remove an event, however it ended; a lease on it ends."""
        if self._offers.get(offer.uid) is offer:
            del self._offers[offer.uid]
        self._end(offer, "ended")

    def absent_at(self, offer: Offer) -> float:
        """Return the time from which nobody counts as polling for an event; infinite while
        somebody is known to be there.
        """
        present = (one.until() for reach, one in self._presence.items() if reach.covers(offer))
        return max(self._began[offer.domain] + PRESENT_S, *present, -math.inf)

    def is_polled(self, offer: Offer) -> bool:
        """Return whether anybody is present for the component of an event, apart from whoever has
        that very event.
        """
        now = trio.current_time()
        own = None if offer.taker is None else offer.taker.reach
        return any(
            one.pollers or one.leases - (reach == own) or one.last + PRESENT_S > now
            for reach, one in self._known()
            if offer.domain in reach.domains
        )

    def note_missed(self, domain: str) -> None:
        """Record that an offer was not taken because nobody polls."""
        self._missed.add(domain)

    def forget(self, domain: str) -> None:
        """Forget a component that is no longer pulled."""
        self.returned.pop(domain, None)
        self._began.pop(domain, None)
        self._missed.discard(domain)

    def offered(self, domain: str) -> list[Offer]:
        """Return the events of a component that nobody has taken."""
        return [one for one in self._offers.values() if one.domain == domain]

    # --- the side of the pollers

    @contextmanager
    def polling(self, reach: Reach, limit: int) -> Iterator["Poller"]:
        """Be present as a poller that holds up to `limit` leases at once."""
        presence = self._seen(reach)
        presence.pollers += 1
        if reach.node is None:
            self.when_polled(reach)
        try:
            yield Poller(self, reach, limit)
        finally:
            presence.pollers -= 1
            self._seen(reach)
            self._note_left(reach, presence)

    def idle_pollers(self, domain: str) -> int:
        """Return how many pollers wait for an event of a component."""
        return sum(domain in one.reach.domains for one in self._waiting)

    def local_reaches(self) -> list[tuple[Reach, bool]]:
        """Return who is present at this node, and whether they take no more events."""
        now = trio.current_time()
        return [
            (reach, self.is_stopping or (not one.pollers and one.last + PRESENT_S <= now))
            for reach, one in self._known()
            if reach.node is None and one.until() > now
        ]

    def is_leased(self, offer: Offer) -> bool:
        """Return whether an event is leased to anybody."""
        return self._leases.get(offer.uid) is offer

    def start(self, offers: list[Offer]) -> None:
        """Start the leases of events that were written to their poller."""
        now = trio.current_time()
        for one in offers:
            if self.is_leased(one):
                one.taken_at, one.lease_ends = now, now + LEASE_S
                one.changed.set()

    def put_back(self, offers: list[Offer]) -> None:
        """Offer events again that were taken and could not be written."""
        for one in filter(self.is_leased, offers):
            self._release(one)
            one.taker, one.lease_ends, one.taken_at = None, math.inf, math.inf
            self._offers[one.uid] = one
            one.changed.set()
        if offers:
            self._offers = dict(sorted(self._offers.items(), key=lambda item: item[1].ticket))
        for one in offers:
            self._wake_for(one)

    def leased(self, token: Token, uid: str, attempt: int | None = None) -> Offer:
        """Return an event that `token` has a lease on.

        Raises:
            NotLeased: if there is none, or it is of another attempt. It takes as long, and says as
                much, if the event is another's as if it does not exist.
        """
        lease = self._leases.get(uid)
        known = _ended_as(lease) if lease is not None else self._ended.get(uid, _NOBODY)
        is_theirs = hmac.compare_digest(known.token.encode(), token.name.encode())
        is_theirs &= token.hears(known.domain, known.local)
        if not is_theirs:
            raise NotLeased
        if lease is None or trio.current_time() >= min(lease.lease_ends, lease.cut_at):
            raise NotLeased(known.ending)
        if attempt is not None and attempt != lease.attempt:
            raise NotLeased("ended")
        return lease

    def answer(self, offer: Offer, outcome: Outcome) -> None:
        """End the lease of an event by an outcome."""
        self._note_life(offer)
        offer.outcome = outcome
        self._end(offer, "answered")
        offer.changed.set()

    def extend(self, offer: Offer) -> float:
        """Let a lease last `LEASE_S` from now, within its limits; return how long it then lasts."""
        now = trio.current_time()
        self._note_life(offer)
        offer.lease_ends = min(now + LEASE_S, offer.taken_at + LEASE_LIMIT_S)
        offer.changed.set()
        return offer.lease_s(now)

    # --- the end

    def stop(self, when_idle: Callable[[], None]) -> None:
        """Stop giving out events, and return those of other nodes that nobody has taken.
        `when_idle` is called once there is no lease.
        """
        self._when_idle = when_idle
        for one in self._waiting:
            one.woken.set()
        for offer in self._offers.values():
            if offer.is_relayed:
                offer.outcome = Unreachable("the node stops")
                offer.changed.set()
        if not self._leases:
            when_idle()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is given out any more."""
        return self._when_idle is not None

    # --- within

    def _take(self, poller: "Poller") -> list[Offer]:
        """Lease events to a poller. Events that are there at once are shared among the pollers
        that wait.
        """
        if self.is_stopping or poller.room <= 0:
            return []
        reach = poller.reach
        found = [one for one in self._offers.values() if reach.covers(one)]
        if not found:
            return []
        sharers = sum(
            one.room > 0 and not one.reach.domains.isdisjoint(reach.domains)
            for one in self._waiting
        )
        share = math.ceil(len(found) / max(sharers, 1))
        taken = found[: min(share, poller.room)]
        now = trio.current_time()
        for one in taken:
            del self._offers[one.uid]
            self._leases[one.uid] = one
            one.taker, one.taken_at, one.lease_ends = poller, now, now + LEASE_S
            one.changed.set()
            self._presence[reach].leases += 1
            poller.held += 1
        return taken

    def _end(self, offer: Offer, ending: Ending) -> None:
        if not self.is_leased(offer):
            return
        self._ended.pop(offer.uid, None)
        self._ended[offer.uid] = _ended_as(offer)._replace(ending=ending)
        if len(self._ended) > ENDED_LIMIT:
            self._ended.popitem(last=False)
        self._release(offer)

    def _release(self, offer: Offer) -> None:
        del self._leases[offer.uid]
        poller = offer.taker
        assert poller is not None, "a lease has a taker"
        presence = self._presence[poller.reach]
        presence.leases -= 1
        self._note_left(poller.reach, presence)
        poller.held -= 1
        poller.woken.set()
        if self._when_idle is not None and not self._leases:
            self._when_idle()

    def _wake_for(self, offer: Offer) -> None:
        """Wake the poller that has waited longest for such an event."""
        for one in self._waiting:
            if one.room > 0 and not one.woken.is_set() and one.reach.covers(offer):
                one.woken.set()
                return

    def _wake_again(self) -> None:
        """Wake for all offers: a poller that was woken has left without taking any."""
        for one in self._offers.values():
            self._wake_for(one)

    def _seen(self, reach: Reach) -> _Presence:
        """Record that somebody polls, and tell those that have missed it."""
        now = trio.current_time()
        for old, one in self._known():
            if one.until() <= now:
                del self._presence[old]
        presence = self._presence.setdefault(reach, _Presence())
        presence.last = now
        for domain in self._missed & reach.domains:
            self._missed.discard(domain)
            if domain in self.returned:
                self.returned[domain]()
        return presence

    def _note_life(self, offer: Offer) -> None:
        """Record that whoever has an event is alive. The end of its lease would not say so."""
        assert offer.taker is not None, "a lease has a taker"
        self._presence[offer.taker.reach].last = trio.current_time()

    def _note_left(self, reach: Reach, presence: _Presence) -> None:
        """Wake the events that wait for these pollers: how long they may wait has changed."""
        if not presence.pollers and not presence.leases:
            for one in filter(reach.covers, self._offers.values()):
                one.changed.set()

    def _known(self) -> list[tuple[Reach, _Presence]]:
        return list(self._presence.items())


class Poller:
    """One request for events, made by `PulledEvents.polling`."""

    def __init__(self, events: PulledEvents, reach: Reach, limit: int) -> None:
        self.reach = reach
        self.held = 0
        """How many leases it has."""
        self.limit = limit
        self.woken = trio.Event()
        self._events = events

    @property
    def room(self) -> int:
        """How many more leases it may take."""
        return self.limit - self.held

    async def take(self, wait_s: float) -> list[Offer]:
        """Return events, leased to this poller; none after `wait_s`, or if the daemon stops.

        Whatever it returns has to go to `start` or to `put_back`. Cancellation takes nothing.
        """
        events = self._events
        events._waiting[self] = None
        try:
            with trio.move_on_after(wait_s):
                while not events.is_stopping:
                    self.woken = trio.Event()
                    found = events._take(self)
                    if found:
                        return found
                    await self.woken.wait()
        finally:
            del events._waiting[self]
            if self.woken.is_set():
                events._wake_again()
        return []


_NOBODY: Final = _Ended("", "", "", 0, "ended")


def _ended_as(offer: Offer) -> _Ended:
    assert offer.taker is not None, "a lease has a taker"
    token = offer.taker.reach.token
    return _Ended(token.name, offer.domain, offer.local, offer.attempt, "ended")
