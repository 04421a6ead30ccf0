"""Sends the presence of a component's addresses to their contacts.

At each attach every subscriber gets the presence of its contact, 50 in a second, so that thousands
are no flood; those that we are subscribed to are asked for theirs. The end of a stream says nothing
about the addresses, so a reconnect does not make contacts blink. Only if the component leaves, all
of them are told at once that it is unavailable, before anything else is waited for.

None of these stanzas is kept for confirmation: at the next attach, all are sent again.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

import trio

from bridge.config.profile import Profile
from bridge.config.settings import Component
from bridge.xmpp.contact import Contact, Contacts, Pair
from bridge.xmpp.identity.presence import available, unavailable
from bridge.xmpp.outbox import Outbox, Outgoing
from xmppstream import Stanza, make

STEP_S: Final = 0.1
STEP_COUNT: Final = 5
"""Contacts in each step: 50 in a second."""


class Announcer:
    """Announces the addresses of one component. `run` is its task."""

    def __init__(
        self, contacts: Contacts, outbox: Outbox, now: Callable[[], float] = time.time
    ) -> None:
        """`now` is Unix time in s."""
        self.contacts = contacts
        self._outbox = outbox
        self._now = now
        self._due: dict[Pair, None] = {}
        self._is_attached = False
        self._wake = trio.Event()

    def attached(self) -> None:
        """Announce every address: a stream has begun."""
        self._is_attached = True
        self.contacts.forget_online()
        self._want(pair for pair, _ in self.contacts)

    def detached(self) -> None:
        """Announce nothing until the next stream begins."""
        self._is_attached = False
        self._due.clear()

    def change(self, component: Component) -> None:
        """Use another configuration. Announce the addresses of which it says something else, and
        say that those are unavailable that it does not have any more.
        """
        contacts, book = self.contacts, self.contacts.book
        was_kept = contacts.is_kept
        known = dict(contacts) if was_kept else {}
        before = {
            local: book.announced(book.address_of(local)) for local in {pair[0] for pair in known}
        }
        book.change(component)
        if was_kept and not component.posts_presence:
            left = dict(contacts) if component.presence else {}
            self._say_unavailable(one for one in known.items() if one[0] not in left)
        same = {
            local
            for local, said in before.items()
            if book.announced(book.address_of(local)) == said
        }
        self._want(pair for pair, _ in contacts if pair[0] not in same)

    def set_profile(self, local: str, profile: Profile | None) -> None:
        """Set the profile of a folded local part, and announce its address; see
        `IdentityBook.set_profile`.
        """
        self.contacts.book.set_profile(local, profile)
        self._want(pair for pair, _ in self.contacts if pair[0] == local)

    def offer(self, features: tuple[str, ...]) -> None:
        """Announce features that every address has, if they are others than before."""
        if self.contacts.book.offer(features):
            self._want(pair for pair, _ in self.contacts)

    def leave(self) -> None:
        """Announce at once that every address is unavailable, and announce nothing more."""
        if self.contacts.is_leaving:
            return
        self.contacts.is_leaving = True
        if self.contacts.is_kept:
            self._due.clear()
            self._say_unavailable(self.contacts)

    async def run(self) -> None:
        """Send what is due, step by step. Ends only by cancellation."""
        while True:
            while self._due:
                some = list(self._due)[:STEP_COUNT]
                for pair in some:
                    del self._due[pair]
                self._send(one for pair in some for one in self._stanzas_for(pair))
                await trio.sleep(STEP_S)
            self._wake = trio.Event()
            await self._wake.wait()

    def _stanzas_for(self, pair: Pair) -> Iterable[Stanza]:
        contact, book = self.contacts.find(pair), self.contacts.book
        address = book.address_of(pair[0])
        if contact is None or not self.contacts.is_kept or not book.exists(address):
            return
        if contact.subscribed:
            yield available(book, contact.jid, address)
        if contact.subscription == "to":
            yield make("presence", contact.jid, address, type="probe")

    def _say_unavailable(self, contacts: Iterable[tuple[Pair, Contact]]) -> None:
        if self._is_attached:
            self._send(
                unavailable(contact.jid, self.contacts.book.address_of(local))
                for (local, _), contact in contacts
                if contact.subscribed
            )

    def _send(self, stanzas: Iterable[Stanza]) -> None:
        made = self._now()
        self._outbox.put([Outgoing(one.encode(), made, is_answer=True) for one in stanzas])

    def _want(self, pairs: Iterable[Pair]) -> None:
        if self._is_attached and self.contacts.is_kept and not self.contacts.is_leaving:
            self._due.update(dict.fromkeys(pairs))
            self._wake.set()
