"""A way in: stanzas that the endpoint sends by itself, each accepted once per idempotency key.

It is given what the components speak with, as of now: they may come and go. No HTTP here, and no
tasks: what was accepted goes its way whether or not he still waits who gave it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from bridge.daemon.listener import DaemonParts
from bridge.dispatch.submission import OutboxFull, Submitter
from bridge.journal.delivery import fresh_uid
from bridge.journal.idempotency import (
    IdempotencyStore,
    JournalIdempotencyStore,
    MemoryIdempotencyStore,
)
from bridge.journal.store import Claim
from bridge.listener.submission.iq import FULL, IqClient
from bridge.listener.submission.singleflight import (
    Flight,
    IdInUse,
    JournalUnavailable,
    Key,
    KeyReused,
    NoAnswer,
    NotConfigured,
    QueueFull,
    SendRefused,
    SingleFlight,
    unkept,
)
from bridge.payload.reply import Draft, ReplyBody, ReplyObject, UnusableReply, read_reply
from bridge.xmpp.iq import WAIT_LIMIT_S
from xmppstream import ElementParserThread, Stanza
from xmppstream.jid import domain_of, same_domain
from xmppstream.parser_thread import ParseElement

__all__ = [
    "WAIT_LIMIT_S",
    "IdInUse",
    "JournalUnavailable",
    "Key",
    "KeyReused",
    "NoAnswer",
    "NotConfigured",
    "QueueFull",
    "SendRefused",
    "Sender",
]

_BEFORE_JSON: Final = b"\xef\xbb\xbf \t\r\n"


Submitters = Callable[[], Mapping[str, Submitter]]
"""Returns, by domain, those of the components that can send now."""


def submitter_of(submitters: Submitters, address: str) -> Submitter | None:
    """Return the submitter of an address' domain."""
    domain = domain_of(address)
    for name, submitter in submitters().items():
        if same_domain(name, domain):
            return submitter
    return None


class Sender:
    """Sends for those who ask from outside. One per daemon."""

    def __init__(
        self,
        submitters: Submitters,
        claims: IdempotencyStore,
        parse: ParseElement,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`parse` parses answers that were kept, so its limits are wider than the stream's."""
        self._submitters = submitters
        self._claims = claims
        self._now = now
        self._flights = SingleFlight(claims, parse)
        self._iq_client = IqClient(self._speaking, claims, self._flights, now)

    @property
    def domains(self) -> frozenset[str]:
        """The components that can speak now."""
        return frozenset(self._submitters())

    async def compose(self, content: ReplyBody | Stanza, default_from: str | None) -> Stanza:
        """Make the stanza of a request, checked as one of a reply is (H2, S27 to S31).

        `content` is one JSON object, one element, or a stanza that was made of other forms. `to` is
        required; `from` is by default `default_from`; an iq without an id is given one.

        Raises:
            NotJson: the body should be JSON, and is not.
            UnusableReply: it may not be sent; the message says why.
        """
        if isinstance(content, Stanza):
            return self._checked(Draft(ReplyObject(), content), default_from)
        objects = read_reply(content)
        if content.media == "json" and content.content.lstrip(_BEFORE_JSON)[:1] == b"[":
            raise UnusableReply("the body is an array; send one object")
        submitters = self._submitters()
        if not submitters:
            raise UnusableReply("from: no component is at work")
        draft = await next(iter(submitters.values())).composer.draft(objects[0])
        return self._checked(draft, default_from)

    def _checked(self, draft: Draft, default_from: str | None) -> Stanza:
        sender = default_from if draft.from_ is None else draft.from_
        if sender is None:
            raise UnusableReply("from is missing")
        submitter = submitter_of(self._submitters, sender)
        if submitter is None:
            raise UnusableReply(f"from: {domain_of(sender)[:60]!r} is no component here")
        return submitter.composer.compose_unasked(draft, default_from, fresh_uid())

    async def send(self, stanza: Stanza, key: Key | None = None) -> str:
        """Accept a stanza that was composed, and give its uid; the same for the same key. One
        without an id has the uid as its id.

        It is kept when this returns, and goes out in order, at least once, every copy with the
        same bytes. Cancellation ends the waiting and takes nothing back.

        Raises:
            KeyReused, QueueFull, JournalUnavailable, NotConfigured
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
        """Send an iq get or set, and give its answer, a result or an error, as it came.

        Waits `wait_s`, at most `WAIT_LIMIT_S`. What was not written by then, or when this is
        cancelled, is not sent any more. With a key, an answer that comes after cancellation is
        kept for who comes again.

        Raises:
            NoAnswer, IdInUse, KeyReused, QueueFull, JournalUnavailable, NotConfigured
        """
        assert request.is_request, "only an iq get or set has an answer"
        deadline = trio.current_time() + min(wait_s, WAIT_LIMIT_S)
        if key is None:
            return await self._iq_client.ask(request, deadline)
        return await self._iq_client.ask_once(request, deadline, key)

    def _speaking(self, stanza: Stanza) -> Submitter:
        submitter = submitter_of(self._submitters, stanza.from_ or "")
        if submitter is None:
            raise NotConfigured(f"{domain_of(stanza.from_ or '')} is no component here any more")
        return submitter

    def _keep(self, stanza: Stanza, key: Key | None, flight: Flight) -> None:
        """Have a stanza kept; it then goes out, whoever waits for it.

        Given to the keeper while its component is at work: if that is to stop now, the next one
        finds it in the journal.
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


@contextmanager
def open_sender(parts: DaemonParts) -> Iterator[Sender]:
    """Make the sender of a daemon; at the end, its parser's thread ends."""

    def submitters() -> dict[str, Submitter]:
        return {domain: one.submitter for domain, one in parts.services.items() if one.is_open}

    storage = parts.storage
    claims = (
        MemoryIdempotencyStore() if storage is None else JournalIdempotencyStore(storage.committer)
    )
    answers = ElementParserThread(parts.written_limits)
    try:
        yield Sender(submitters, claims, answers.parse)
    finally:
        answers.close()
