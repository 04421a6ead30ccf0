"""Accepts stanzas from HTTP clients, each once per idempotency key.

The submitters are looked up on each call, because components come and go. There is no HTTP here
and no task: an accepted stanza is sent even if its client no longer waits.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import trio

from bridge.daemon.listener import DaemonParts
from bridge.dispatch.submission import NotTaken, OutboxFull, Submitter
from bridge.journal.delivery import fresh_uid
from bridge.journal.idempotency import (
    IdempotencyStore,
    JournalIdempotencyStore,
    MemoryIdempotencyStore,
)
from bridge.journal.store import Claim
from bridge.listener.submission.iq import FULL, NOT_RUNNING, IqClient
from bridge.listener.submission.singleflight import (
    Flight,
    IdInUse,
    JournalUnavailable,
    Key,
    KeyReused,
    NoAnswer,
    NotConfigured,
    NotRunning,
    QueueFull,
    SendRefused,
    SingleFlight,
    unkept,
)
from bridge.payload.body import BLANK, ReplyBody, ReplyObject, read_reply, refuse_key
from bridge.payload.error import UnusableReply
from bridge.payload.reply import Draft, ReplyComposer
from bridge.xmpp.iq import WAIT_LIMIT_S
from xmppstream import ElementParserThread, Stanza
from xmppstream.jid import InvalidJid, domain_of, same_domain, split
from xmppstream.parser_thread import ParseElement

__all__ = [
    "WAIT_LIMIT_S",
    "IdInUse",
    "JournalUnavailable",
    "Key",
    "KeyReused",
    "NoAnswer",
    "NotConfigured",
    "NotRunning",
    "QueueFull",
    "SendRefused",
    "Sender",
]


Submitters = Callable[[], Mapping[str, Submitter]]
"""Returns the submitters of all configured components, by domain, whether they run or not."""


def submitter_of(submitters: Submitters, address: str) -> Submitter | None:
    """Return the submitter for the domain of an address, or None."""
    domain = domain_of(address)
    for name, submitter in submitters().items():
        if same_domain(name, domain):
            return submitter
    return None


class Sender:
    """Sends stanzas for HTTP clients. There is one per daemon."""

    def __init__(
        self,
        submitters: Submitters,
        claims: IdempotencyStore,
        parse: ParseElement,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`parse` parses stored answers, so its limits are wider than the stream's."""
        self._submitters = submitters
        self._claims = claims
        self._now = now
        self._flights = SingleFlight(claims, parse)
        self._iq_client = IqClient(self._speaking, claims, self._flights, now)

    @property
    def domains(self) -> frozenset[str]:
        """The domains of the components that take sends now."""
        return frozenset(name for name, one in self._submitters().items() if one.takes("send"))

    async def compose(self, content: ReplyBody | Stanza, default_from: str | None) -> Stanza:
        """Return the stanza of a request, checked like that of a reply (H2, S27 to S31).

        `content` is one JSON object, one element, or a stanza made from another form. `to` is
        required; `from` defaults to `default_from`; an iq without an ID gets one. The component
        need not run: whoever repeats a request by its key gets the stored result meanwhile.

        Raises:
            NotJson: if the body should be JSON, and is not.
            UnusableReply: if the stanza may not be sent; the message says why.
            NotConfigured: if there is no such component.
            NotRunning: if the stanza is to be parsed, and all components have ended.
        """
        if isinstance(content, Stanza):
            return self._checked(Draft(ReplyObject(), content), default_from)
        reading = read_reply(content)
        if content.media == "json" and content.content.lstrip(BLANK)[:1] == b"[":
            raise UnusableReply("the body is an array; send one object")
        if not reading.objects:
            raise UnusableReply("the body is not a JSON object")
        [one] = reading.objects
        if reading.unknown:
            raise refuse_key(reading.unknown[0])
        if one.says_nothing:
            why = "".join(reading.nothing) or "no body, stanza, type or kind"
            raise UnusableReply(f"there is nothing to send: {why}")
        return self._checked(await self._composer_for(one).draft(one), default_from)

    def _composer_for(self, one: ReplyObject) -> ReplyComposer:
        """Return a composer for the draft of an object; they differ only after that."""
        submitters = self._submitters()
        if not submitters:
            raise NotConfigured("from: there is no component here")
        for submitter in submitters.values():
            if not one.stanza or submitter.takes("draft"):  # one that has ended has no parser
                return submitter.composer
        raise NotRunning(f"{next(iter(submitters))} {NOT_RUNNING}")

    def _checked(self, draft: Draft, default_from: str | None) -> Stanza:
        sender = default_from if draft.from_ is None else draft.from_
        if sender is None:
            raise UnusableReply("from is missing")
        submitter = submitter_of(self._submitters, sender)
        if submitter is None:
            try:
                split(sender)
            except InvalidJid as error:
                raise UnusableReply(f"from: not a valid address: {error}") from None
            raise NotConfigured(f"from: {domain_of(sender)[:60]!r} is not a component here")
        return submitter.composer.compose_unasked(draft, default_from, fresh_uid())

    async def send(self, stanza: Stanza, key: Key | None = None) -> str:
        """Accept a composed stanza and return its UID, the same one for the same key. A stanza
        without an ID gets the UID as its ID.

        When this returns, the stanza is stored. It is sent in order, at least once, every copy with
        the same bytes. Cancellation ends the waiting, but does not withdraw the stanza.

        Raises:
            KeyReused, QueueFull, JournalUnavailable, NotConfigured, NotRunning
        """
        if key is None:
            flight = Flight()
            self._keep(stanza, None, flight)
            await flight.over.wait()
            uid = flight.give()
        else:
            begin = partial(self._keep, stanza)
            uid = await self._flights.do(
                key, begin, math.inf, is_question=False, look=lambda _: None
            )
        assert isinstance(uid, str)
        return uid

    async def ask(self, request: Stanza, wait_s: float, key: Key | None = None) -> Stanza:
        """Send an iq get or set and return its answer, a result or an error, as it came.

        Wait `wait_s`, at most `WAIT_LIMIT_S`. If the iq is not written by then, or when this is
        cancelled, it is withdrawn. With a key, an answer that comes after cancellation is
        stored for the next call.

        Raises:
            NoAnswer, IdInUse, KeyReused, QueueFull, JournalUnavailable, NotConfigured, NotRunning
        """
        assert request.is_request, "only an iq get or set has an answer"
        deadline = trio.current_time() + min(wait_s, WAIT_LIMIT_S)
        if key is None:
            return await self._iq_client.ask(request, deadline)
        return await self._iq_client.ask_once(request, deadline, key)

    def _speaking(self, stanza: Stanza) -> Submitter:
        submitter = submitter_of(self._submitters, stanza.from_ or "")
        if submitter is None:
            raise NotConfigured(f"{domain_of(stanza.from_ or '')} is no longer a component here")
        return submitter

    def _keep(self, stanza: Stanza, key: Key | None, flight: Flight) -> None:
        """Submit a stanza to be stored. It is then sent even if nobody waits for it.

        It is submitted while its component runs. If the component stops now, the next one finds the
        stanza in the journal.
        """
        submitter = self._speaking(stanza)
        uid, made = fresh_uid(), self._now()
        if stanza.id is None:
            stanza = Stanza(stanza.element.with_attributes(id=uid))
        claim = None if key is None else Claim(flight.name, key.digest, uid, made, "sent")

        def done(kept: bool) -> None:
            if not kept:
                self._flights.end(flight, refusal=unkept(submitter.failure))
                return
            if claim is not None:
                self._claims.sent(claim)
            self._flights.end(flight, uid)

        try:
            submitter.submit(stanza, uid, made, claim, done)
        except OutboxFull:
            raise QueueFull(FULL) from None
        except NotTaken:
            raise NotRunning(f"{domain_of(stanza.from_ or '')} {NOT_RUNNING}") from None


@contextmanager
def open_sender(parts: DaemonParts) -> Iterator[Sender]:
    """Open the sender of a daemon. On exit, the thread of its parser ends."""

    def submitters() -> dict[str, Submitter]:
        return {domain: parts.services[domain].submitter for domain in parts.configured()}

    storage = parts.storage
    claims = (
        MemoryIdempotencyStore() if storage is None else JournalIdempotencyStore(storage.committer)
    )
    answers = ElementParserThread(parts.written_limits)
    try:
        yield Sender(submitters, claims, answers.parse)
    finally:
        answers.close()
