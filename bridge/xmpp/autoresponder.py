"""The bridge's own answers for an address: to kinds that are not POSTed, and to requests that the
endpoint leaves unanswered (contract H3, H6).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from attrs import field, frozen

from bridge import __version__
from bridge.payload import namespace as ns
from bridge.xmpp.contact import Contacts
from bridge.xmpp.identity.book import IdentityBook, local_of
from bridge.xmpp.identity.presence import available, unavailable
from bridge.xmpp.identity.pubsub import PUBSUB_NAME, items
from bridge.xmpp.identity.vcard import VCARD_4_NAME, VCARD_NAME, vcard_4, vcard_temp
from xmppstream import Element, ErrorType, Stanza, StanzaCondition, StanzaError, make
from xmppstream.jid import bare
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, PING, VERSION, expanded

UNAVAILABLE: Final = StanzaError(StanzaCondition.SERVICE_UNAVAILABLE, ErrorType.CANCEL)
"""The error that Prosody returns for an address that does not accept the stanza, or does not exist
(RFC 6121 §8.5.1).
"""
_NOT_FOUND: Final = StanzaError(StanzaCondition.ITEM_NOT_FOUND, ErrorType.CANCEL)


@frozen
class Autoresponder:
    """Answers on behalf of one component. `now` is Unix time in s. Without `contacts`, subscribers
    are not remembered.
    """

    book: IdentityBook
    now: Callable[[], float] = time.time
    contacts: Contacts | None = None
    _began: float = field(init=False)

    @_began.default
    def _begin(self) -> float:
        return self.now()

    def answer(self, stanza: Stanza) -> list[Stanza]:
        """Return the answers to a presence or iq that is not POSTed (H6) and has both addresses."""
        if stanza.kind == "presence":
            return self._answer_presence(stanza)
        return [self.answer_request(stanza)] if stanza.is_request else []

    def answer_nobody(self, stanza: Stanza) -> list[Stanza]:
        """Return the answers to a presence or iq for an address that does not exist (RFC 6121
        §8.5.1, §4.3.2).
        """
        if stanza.is_request:
            return [stanza.error_reply(UNAVAILABLE)]
        if stanza.kind == "presence" and stanza.type == "probe":
            return [make("presence", stanza.from_, bare(stanza.to or ""), type="unsubscribed")]
        return []

    def answer_request(self, stanza: Stanza) -> Stanza:
        """Return the answer to an iq get or set."""
        payload = stanza.payload
        if payload is None or stanza.type != "get":
            return stanza.error_reply(UNAVAILABLE)
        address, node = stanza.to or "", payload.get("node")
        match payload.name:
            case _Names.PING:
                return stanza.reply()
            case _Names.DISCO_INFO:
                return self._answer_info(stanza, address, node)
            case _Names.DISCO_ITEMS if node and not (self.book.answers_iqs and node == ns.COMMANDS):
                return stanza.error_reply(_NOT_FOUND)
            case _Names.DISCO_ITEMS:
                return stanza.reply(Element(_Names.DISCO_ITEMS, (("node", node),) if node else ()))
            case _Names.VERSION:
                children = (
                    Element(expanded(VERSION, "name"), (), (self.book.component.name,)),
                    Element(expanded(VERSION, "version"), (), (__version__,)),
                )
                return stanza.reply(Element(_Names.VERSION, (), children))
            case _Names.TIME:
                return stanza.reply(self._time())
            case _Names.LAST:
                return stanza.reply(self._last(address))
            case _ if self.book.answers_iqs:
                return self._answer_profile(stanza, payload, address)
            case _:
                return stanza.error_reply(UNAVAILABLE)

    def _answer_info(self, stanza: Stanza, address: str, node: str | None) -> Stanza:
        info = self.book.info(address)
        known = (info.node, ns.COMMANDS) if self.book.answers_iqs else ()
        if node and node not in known:
            return stanza.error_reply(_NOT_FOUND)
        return stanza.reply(info.element(node))

    def _answer_profile(self, stanza: Stanza, payload: Element, address: str) -> Stanza:
        """Answer a question for a vCard, or for an item of an account."""
        profile, name = self.book.profile(address), self.book.name(address)
        if payload.name == PUBSUB_NAME:
            answer = items(payload, profile, name)
            return stanza.error_reply(_NOT_FOUND) if answer is None else stanza.reply(answer)
        if profile is not None and payload.name == VCARD_NAME:
            return stanza.reply(vcard_temp(profile, name))
        if profile is not None and payload.name == VCARD_4_NAME:
            return stanza.reply(vcard_4(profile, name))
        return stanza.error_reply(UNAVAILABLE)

    def _time(self) -> Element:
        """Return the time, in UTC (XEP-0202)."""
        utc = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        children = (
            Element(expanded(ns.TIME, "tzo"), (), ("+00:00",)),
            Element(expanded(ns.TIME, "utc"), (), (utc,)),
        )
        return Element(_Names.TIME, (), children)

    def _last(self, address: str) -> Element:
        """Return how long an address was idle: never; for the domain, how long it is up (XEP-0012
        §5).
        """
        seconds = 0 if local_of(address) else max(int(self.now() - self._began), 0)
        return Element(_Names.LAST, (("seconds", str(seconds)),))

    def _answer_presence(self, stanza: Stanza) -> list[Stanza]:
        """Return the answers of a contact that is always online and accepts all subscriptions; none
        if `component_presence` is off.
        """
        component, contacts = self.book.component, self.contacts
        if not component.presence:
            return []
        asked = []
        if contacts is not None and not component.posts_presence:
            asked = contacts.receive(stanza)
        is_leaving = contacts is not None and contacts.is_leaving
        sender, address = stanza.from_, stanza.to or ""
        match stanza.type:
            case "subscribe":
                accepted = make("presence", sender, bare(address), type="subscribed")
                shown = [] if is_leaving else [available(self.book, sender, address)]
                return [accepted, *shown, *asked]
            case "probe" if not is_leaving:
                return [available(self.book, sender, address)]
            case "unsubscribe":
                return [unavailable(sender, address)]
            case _:
                return []


class _Names:
    PING: Final = expanded(PING, "ping")
    DISCO_INFO: Final = expanded(DISCO_INFO, "query")
    DISCO_ITEMS: Final = expanded(DISCO_ITEMS, "query")
    VERSION: Final = expanded(VERSION, "query")
    TIME: Final = expanded(ns.TIME, "time")
    LAST: Final = expanded(ns.LAST, "query")
