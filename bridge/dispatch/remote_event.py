"""Pulled events for the pollers of other nodes.

An event waits on the node that POSTs for its conversation (the *owner*). A node that is polled
tells all others every `TELL_S` who polls it. There, each of its pollers counts as one of the
owner's own: it is present, and gets leases. The owner leaves a leased event for the polled node,
which offers it to its own pollers, and leaves the outcome for the owner. If nobody has taken it
there, it is given back and offered again, as the same attempt.

The owner extends its own lease as long as it hears of the polled node, which ends the lease of its
poller by the usual rules. If it hears nothing for `SILENCE_S`, it offers the event again.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

import msgspec
import trio
from attrs import define, field
from structlog.typing import FilteringBoundLogger

from bridge.config.token import Token
from bridge.journal.mailbox import Job, Mailbox
from bridge.webhook.outcome import (
    BadReply,
    NoReply,
    Outcome,
    Rejected,
    Replied,
    TimedOut,
    Unreachable,
)
from bridge.webhook.pull import Offer, Poller, PulledEvents, Reach
from bridge.webhook.pulled_endpoint import PulledEndpoint

TELL_S: Final = 4.0
SILENCE_S: Final = 15.0
EXTEND_S: Final = 15.0
ROOM: Final = 10
"""How many events a node may have of another one for the same token at a time."""
T = TypeVar("T")
_OUTCOMES: Final[dict[str, type[Outcome]]] = {
    one.name: one for one in (Replied, NoReply, Rejected, Unreachable, TimedOut, BadReply)
}


class Polled(msgspec.Struct, frozen=True):
    """Somebody polls the sender with a token. With `is_busy`, it takes no more events now."""

    token: str
    domains: list[str]
    is_busy: bool = False


class Event(msgspec.Struct, frozen=True):
    """An event that is leased to the receiver. An iq's budget ends in `cut_in_s`."""

    uid: str
    attempt: int
    domain: str
    body: bytes
    cut_in_s: float | None = None
    takes_text: bool = False


class Ended(msgspec.Struct, frozen=True):
    """The end of an event: its outcome; without a name, nobody has taken it."""

    uid: str
    attempt: int
    name: str = ""
    outcome: msgspec.Raw = msgspec.Raw(b"null")


@define(eq=False)
class _Proxy:
    """The pollers of another node that use one token."""

    node: int
    reach: Reach
    poller: Poller | None = None  # once it polls
    is_busy: bool = False
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    held: dict[str, Offer] = field(factory=dict)

    def set_busy(self, is_busy: bool) -> None:
        """Take no more events while those pollers only have leases."""
        self.is_busy = is_busy
        if self.poller is not None:
            self.poller.limit = 0 if is_busy else ROOM
            self.poller.woken.set()


class RemoteEvents:
    """Exchanges the pulled events of all components with the other nodes. `run` is its service."""

    def __init__(
        self,
        events: PulledEvents,
        mailbox: Mailbox,
        tokens: Callable[[], Iterable[Token]],
        log: FilteringBoundLogger,
    ) -> None:
        """`tokens` returns those of this node's listener."""
        self._events = events
        self._mailbox = mailbox
        self._tokens = tokens
        self._log = log
        self._proxies: dict[tuple[int, Reach], _Proxy] = {}
        self._wanted = trio.Event()
        self._told: dict[Reach, float] = {}

    async def run(self) -> None:
        """Exchange events until cancelled."""
        box = self._mailbox
        unsubscribe = [
            box.receive("polled", partial(self._received, type=Polled, take=self._polled)),
            box.receive("event", partial(self._received, type=Event, take=self._event)),
            box.receive("event end", partial(self._received, type=Ended, take=self._ended)),
        ]
        self._events.when_polled = self._wake
        try:
            while True:
                self._wanted = trio.Event()
                self._tell()
                with trio.move_on_after(TELL_S):
                    await self._wanted.wait()
        finally:
            self._events.when_polled = lambda reach: None
            for one in unsubscribe:
                one()

    # --- the polled node

    def _wake(self, reach: Reach) -> None:
        if self._told.get(reach, -math.inf) + TELL_S <= trio.current_time():
            self._wanted.set()

    def _tell(self) -> None:
        now = trio.current_time()
        self._told = {}
        for reach, is_busy in self._events.local_reaches():
            self._told[reach] = now
            one = Polled(reach.token.name, sorted(reach.domains), is_busy)
            self._mailbox.send_all("polled", msgspec.json.encode(one))

    def _event(self, event: Event, owner: int) -> Job:
        return partial(self._offer, event, owner)

    async def _offer(self, event: Event, owner: int) -> None:
        if self._events.is_stopping:
            self._mailbox.send(owner, "event end", _given_back(event))
            return
        now = trio.current_time()
        deadline = math.inf if event.cut_in_s is None else now + event.cut_in_s
        endpoint = PulledEndpoint(
            event.domain, "", self._events, text_replies=event.takes_text, is_relayed=True
        )
        outcome = await endpoint.post(event.body, event.uid, event.attempt, now, deadline)
        if isinstance(outcome, Unreachable):
            body = _given_back(event)
        else:
            raw = msgspec.Raw(msgspec.json.encode(outcome))
            body = msgspec.json.encode(Ended(event.uid, event.attempt, outcome.name, raw))
        self._mailbox.send(owner, "event end", body)

    # --- the owner

    def _polled(self, polled: Polled, node: int) -> Job | None:
        token = next((one for one in self._tokens() if one.name == polled.token), None)
        domains = self._events.domains.intersection(polled.domains)
        if token is None or not domains or self._events.is_stopping:
            return None
        reach = Reach(token, domains, node)
        now = trio.current_time()
        proxy = self._proxies.get((node, reach))
        if proxy is not None:
            proxy.scope.deadline = now + SILENCE_S
            proxy.set_busy(polled.is_busy)
            return None
        proxy = self._proxies[node, reach] = _Proxy(node, reach)
        proxy.scope.deadline = now + SILENCE_S
        proxy.set_busy(polled.is_busy)
        return partial(self._serve, proxy)

    async def _serve(self, proxy: _Proxy) -> None:
        """Poll here for the pollers of another node."""
        try:
            with proxy.scope, self._events.polling(proxy.reach, ROOM) as poller:
                proxy.poller = poller
                proxy.set_busy(proxy.is_busy)
                while not self._events.is_stopping or proxy.held:
                    for offer in await poller.take(EXTEND_S):
                        self._hand_over(offer, proxy)
                    for uid, offer in tuple(proxy.held.items()):
                        if self._events.is_leased(offer):
                            self._events.extend(offer)
                        else:  # withdrawn
                            del proxy.held[uid]
                    if self._events.is_stopping:
                        await trio.sleep(EXTEND_S)
        finally:
            del self._proxies[proxy.node, proxy.reach]
            self._events.put_back(list(proxy.held.values()))

    def _hand_over(self, offer: Offer, proxy: _Proxy) -> None:
        proxy.held[offer.uid] = offer
        self._events.start([offer])
        cut_in_s = offer.cut_at - trio.current_time()
        event = Event(
            offer.uid,
            offer.attempt,
            offer.domain,
            offer.body,
            None if cut_in_s == math.inf else cut_in_s,
            offer.takes_text,
        )

        def left(is_left: bool) -> None:
            if not is_left:
                self._take_back(proxy, offer)

        self._mailbox.send(proxy.node, "event", msgspec.json.encode(event), left)

    def _ended(self, ended: Ended, node: int) -> None:
        for proxy in self._proxies.values():
            offer = proxy.held.get(ended.uid)
            if proxy.node == node and offer is not None and offer.attempt == ended.attempt:
                if not ended.name:
                    self._take_back(proxy, offer)
                    return
                outcome = msgspec.json.decode(ended.outcome, type=_OUTCOMES[ended.name])
                del proxy.held[ended.uid]
                if self._events.is_leased(offer):
                    self._events.answer(offer, outcome)
                return

    def _take_back(self, proxy: _Proxy, offer: Offer) -> None:
        """Offer an event again, to that node only when it has told that it is polled again."""
        proxy.set_busy(True)
        proxy.held.pop(offer.uid, None)
        self._events.put_back([offer])

    # --- posts

    def _received(
        self,
        body: bytes,
        sender: int | None,
        *,
        type: type[T],
        take: Callable[[T, int], Job | None],
    ) -> Job | None:
        if sender is None:
            return None  # it has died
        try:
            return take(msgspec.json.decode(body, type=type), sender)
        except (msgspec.DecodeError, KeyError) as error:  # of another version
            self._log.warning("post dropped", kind="event", why=str(error))
            return None


def _given_back(event: Event) -> bytes:
    """Return the body of a post that says that nobody has taken an event."""
    return msgspec.json.encode(Ended(event.uid, event.attempt))
