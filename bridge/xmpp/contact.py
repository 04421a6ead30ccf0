"""The contacts of a component's addresses: who is subscribed to whom (RFC 6121 §3).

A contact is a pair: a local part of the component, and somebody's bare JID. It is remembered in the
small state, since a component has no server that keeps its contact list. Whoever probes is
subscribed, so contacts that an earlier version did not remember are learnt again. Who is online is
known only of those that we are subscribed to, and not kept: they are asked at each attach.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec
from attrs import frozen
from structlog.typing import FilteringBoundLogger

from bridge.xmpp.identity.book import IdentityBook, local_of
from bridge.xmpp.state import StateStore
from xmppstream import Stanza, make
from xmppstream.jid import bare, fold

KIND: Final = "contact"
CONTACT_LIMIT: Final = 100_000
"""The most contacts that are remembered, because strangers make them."""
_RESOURCE_LIMIT: Final = 32

Subscription = Literal["none", "asked", "to"]
"""Whether we see somebody's presence: no, asked for, yes."""
Pair = tuple[str, str]
"""A folded local part of the component, and somebody's folded bare JID."""


class Contact(msgspec.Struct, frozen=True):
    """What is remembered of a contact: its bare JID as it came, whether it sees our presence, and
    whether we see its.
    """

    jid: str
    subscribed: bool = False
    subscription: Subscription = "none"

    @property
    def is_any(self) -> bool:
        """Whether there is anything to remember."""
        return self.subscribed or self.subscription != "none"


@frozen
class ContactView:
    """A contact, for the HTTP API. `online` is None if we may not know."""

    address: str
    jid: str
    subscribed: bool
    subscription: Subscription
    online: bool | None


class Contacts:
    """The contacts of one component. Nothing is remembered before `load`."""

    def __init__(
        self,
        book: IdentityBook,
        state: StateStore,
        log: FilteringBoundLogger,
        limit: int = CONTACT_LIMIT,
        is_room: Callable[[str], bool] = lambda sender: False,
    ) -> None:
        """`is_room` says of an address whether it is a room that we are in, or an occupant's; no
        room is a contact, since a join tells it that we are there.
        """
        self.book = book
        self.is_leaving = False
        """Whether contacts have been told that all addresses are unavailable."""
        self._state = state
        self._log = log
        self._limit = limit
        self._is_room = is_room
        self._warned = False
        self._is_loaded = False
        self._contacts: dict[Pair, Contact] = {}
        self._online: dict[Pair, set[str]] = {}

    def load(self) -> None:
        """Read what was remembered, also of profiles. The state must be loaded."""
        self._is_loaded = True
        self.book.load(self._log)
        for key, value in self._state.entries(KIND).items():
            local, _, theirs = key.partition(" ")
            self._contacts[local, theirs] = msgspec.json.decode(value, type=Contact)

    @property
    def is_kept(self) -> bool:
        """Whether the bridge provides the presence of its addresses."""
        component = self.book.component
        return component.presence and not component.posts_presence

    def __iter__(self) -> Iterator[tuple[Pair, Contact]]:
        """Yield all contacts of addresses that exist."""
        for pair, contact in list(self._contacts.items()):
            if self.book.exists(self.book.address_of(pair[0])):
                yield pair, contact

    def find(self, pair: Pair) -> Contact | None:
        """Return a contact, or None."""
        return self._contacts.get(pair)

    @property
    def subscriber_count(self) -> int:
        """The number of contacts that see our presence."""
        return sum(one.subscribed for one in self._contacts.values())

    def views(self) -> list[ContactView]:
        """Return all contacts, sorted by both addresses."""
        return [
            ContactView(
                self.book.address_of(pair[0]),
                one.jid,
                one.subscribed,
                one.subscription,
                bool(self._online.get(pair)) if one.subscription == "to" else None,
            )
            for pair, one in sorted(self, key=lambda item: item[0])
        ]

    def when_kept(self, then: Callable[[], None]) -> None:
        """Call `then` once all that was learnt is kept; see `StateStore.when_kept`."""
        self._state.when_kept(then)

    def forget_online(self) -> None:
        """Take everybody to be offline, because nobody would have told us."""
        self._online.clear()

    # --- presence that comes and goes

    def receive(self, stanza: Stanza) -> list[Stanza]:
        """Learn from a presence for one of our addresses; return what it makes us ask for."""
        if self._is_room(stanza.from_ or ""):
            return []
        pair, one = self._look_up(stanza.to, stanza.from_)
        match stanza.type:
            case "subscribe" | "probe":
                back = stanza.type == "subscribe" and self.book.component.subscribe == "back"
                asks = back and one.subscription == "none" and self._is_loaded
                self._keep(pair, Contact(one.jid, True, "asked" if asks else one.subscription))
                if asks:
                    return [make("presence", one.jid, bare(stanza.to or ""), type="subscribe")]
            case "unsubscribe":
                self._keep(pair, Contact(one.jid, False, one.subscription))
            case "subscribed" if one.subscription == "asked":
                self._keep(pair, Contact(one.jid, one.subscribed, "to"))
            case "unsubscribed":
                self._keep(pair, Contact(one.jid, one.subscribed, "none"))
            case None | "unavailable" if one.subscription == "to":
                self._note_online(pair, stanza)
        return []

    def observe_sent(self, stanza: Stanza) -> None:
        """Learn from a presence that the service sends."""
        if stanza.kind != "presence" or not self.is_kept or self._is_room(stanza.to or ""):
            return
        pair, one = self._look_up(stanza.from_, stanza.to)
        match stanza.type:
            case "subscribe" if one.subscription == "none":
                self._keep(pair, Contact(one.jid, one.subscribed, "asked"))
            case "unsubscribe":
                self._keep(pair, Contact(one.jid, one.subscribed, "none"))
            case "subscribed":
                self._keep(pair, Contact(one.jid, True, one.subscription))
            case "unsubscribed":
                self._keep(pair, Contact(one.jid, False, one.subscription))

    def _look_up(self, ours: str | None, theirs: str | None) -> tuple[Pair, Contact]:
        jid = bare(theirs or "")
        pair = local_of(ours or ""), fold(jid)
        return pair, self._contacts.get(pair) or Contact(jid)

    def _note_online(self, pair: Pair, stanza: Stanza) -> None:
        resources = self._online.setdefault(pair, set())
        resource = (stanza.from_ or "").partition("/")[2]
        if stanza.type is None and len(resources) < _RESOURCE_LIMIT:
            resources.add(resource)
        elif stanza.type is not None:
            resources.discard(resource)
            if not resource or not resources:
                del self._online[pair]

    def _keep(self, pair: Pair, contact: Contact) -> None:
        if contact.subscription != "to":
            self._online.pop(pair, None)
        known = self._contacts.get(pair)
        if not self._is_loaded or contact == known:
            return
        key = " ".join(pair)
        if not contact.is_any:
            if known is not None:
                del self._contacts[pair]
                self._state.delete(KIND, key)
        elif known is not None or len(self._contacts) < self._limit:
            self._contacts[pair] = contact
            self._state.put(KIND, key, msgspec.json.encode(contact))
        elif not self._warned:
            self._warned = True
            self._log.warning("too many contacts", limit=self._limit)
