"""Accepts stanzas from HTTP clients, each once per idempotency key.

The submitters are looked up on each call, because components come and go. There is no HTTP here
and no task: an accepted stanza is sent even if its client no longer waits.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import trio

from bridge.daemon.listener import DaemonParts
from bridge.dispatch.deferred import DeferredReplies
from bridge.dispatch.submission import NotTaken, OutboxFull, Submitter
from bridge.journal.delivery import fresh_uid
from bridge.journal.idempotency import (
    IdempotencyStore,
    JournalIdempotencyStore,
    MemoryIdempotencyStore,
)
from bridge.journal.store import Claim
from bridge.listener.submission.composition import (
    Batch,
    Content,
    NoSender,
    RequestComposer,
    Submitters,
    submitter_of,
)
from bridge.listener.submission.deferral import Deferrals, ReplyClient
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
from bridge.payload.body import ReplyBody
from bridge.payload.error import UnusableReply
from bridge.xmpp.archive import ArchivePage, DuplicateQuery, TooManyQueries
from bridge.xmpp.iq import WAIT_LIMIT_S
from xmppstream import ElementParserThread, Stanza
from xmppstream.jid import domain_of
from xmppstream.parser_thread import ParseElement

__all__ = [
    "WAIT_LIMIT_S",
    "Batch",
    "IdInUse",
    "JournalUnavailable",
    "Key",
    "KeyReused",
    "NoAnswer",
    "NoSender",
    "NotConfigured",
    "NotRunning",
    "QueueFull",
    "SendRefused",
    "Sender",
]


class Sender:
    """Sends stanzas for HTTP clients. There is one per daemon."""

    def __init__(
        self,
        submitters: Submitters,
        claims: IdempotencyStore,
        parse: ParseElement,
        now: Callable[[], float] = time.time,
        deferrals: Deferrals = dict,
    ) -> None:
        """`parse` parses stored answers, so its limits are wider than the stream's; `deferrals`
        returns what takes deferred replies.
        """
        self._submitters = submitters
        self._composer = RequestComposer(submitters)
        self._claims = claims
        self._now = now
        self._flights = SingleFlight(claims, parse)
        self._iq_client = IqClient(self._speaking, claims, self._flights, now)
        self.replies = ReplyClient(deferrals, claims, self._flights, now)

    @property
    def domains(self) -> frozenset[str]:
        """The domains of the components that take sends now."""
        return frozenset(name for name, one in self._submitters().items() if one.takes("send"))

    async def compose_all(self, content: Content, default_from: str | None) -> Batch:
        """Return the stanzas of a request, checked like those of a reply (H2, S27 to S31).

        `content` is one JSON object, an array of objects, one element, a stanza made from another
        form, or objects that are read already. `to` is required; `from` defaults to `default_from`;
        an iq without an ID gets one. The component need not run: whoever repeats a request by its
        key gets the stored result meanwhile.

        Raises:
            NotJson: if the body should be JSON, and is not.
            NoSender: if `from` is missing, and no default applies.
            UnusableReply: if a stanza may not be sent; the message says why.
            NotConfigured: if there is no such component.
            NotRunning: if a stanza is to be parsed, and all components have ended.
        """
        return await self._composer.compose(content, default_from)

    async def compose(self, content: ReplyBody | Stanza, default_from: str | None) -> Stanza:
        """Like `compose_all`, for a request that becomes one stanza."""
        batch = await self.compose_all(content, default_from)
        if len(batch.stanzas) != 1:
            raise UnusableReply(f"this becomes {len(batch.stanzas)} stanzas; send it as JSON")
        return batch.stanzas[0]

    async def send(self, stanza: Stanza, key: Key | None = None) -> str:
        """Accept a composed stanza and return its UID; see `send_all`."""
        [uid] = await self.send_all(Batch((stanza,)), key)
        return uid

    async def send_all(self, batch: Batch, key: Key | None = None) -> list[str]:
        """Accept the stanzas of a request, all or none, and return their UIDs, the same ones for
        the same key. A stanza without an ID gets its UID as its ID.

        When this returns, the stanzas are stored. They are sent in order, at least once, every copy
        with the same bytes. Cancellation ends the waiting, but does not withdraw them.

        Raises:
            KeyReused, QueueFull, JournalUnavailable, NotConfigured, NotRunning
        """
        if key is None:
            flight = Flight()
            self._keep(batch, None, flight)
            await flight.over.wait()
            uid = flight.give()
        else:
            begin = partial(self._keep, batch)
            uid = await self._flights.do(
                key, begin, math.inf, is_question=False, look=lambda _: None
            )
        assert isinstance(uid, str)
        return batch.uids(uid)

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

    @contextmanager
    def collecting(self, query: Stanza, queryid: str, max_count: int) -> Iterator[ArchivePage]:
        """Collect the messages that answer a query of an archive, until the end of the block. They
        arrive at the gateway, so another node cannot collect them.

        Raises:
            IdInUse, QueueFull, NotConfigured, NotRunning
        """
        with ExitStack() as stack:
            submitter = self._speaking(query)
            if not submitter.takes("query"):
                raise NotRunning(f"{domain_of(query.from_ or '')} {NOT_RUNNING}")
            try:
                page = stack.enter_context(submitter.archives.collecting(query, queryid, max_count))
            except DuplicateQuery:
                why = f"a query with queryid {queryid[:60]!r} already waits for {query.to}"
                raise IdInUse(why) from None
            except TooManyQueries:
                raise QueueFull("too many archives are being read; try again later") from None
            yield page

    def _speaking(self, stanza: Stanza) -> Submitter:
        submitter = submitter_of(self._submitters, stanza.from_ or "")
        if submitter is None:
            raise NotConfigured(f"{domain_of(stanza.from_ or '')} is no longer a component here")
        return submitter

    def _keep(self, batch: Batch, key: Key | None, flight: Flight) -> None:
        """Submit stanzas to be stored. They are then sent even if nobody waits for them.

        They are submitted while their component runs. If the component stops now, the next one
        finds them in the journal.
        """
        domain = domain_of(batch.stanzas[0].from_ or "")
        submitter = self._speaking(batch.stanzas[0])
        uid, made = fresh_uid(), self._now()
        stanzas = {
            name: one if one.id is not None else Stanza(one.element.with_attributes(id=name))
            for name, one in zip(batch.uids(uid), batch.stanzas, strict=True)
        }
        claim = None if key is None else Claim(flight.name, key.digest, uid, made, "sent")

        def done(kept: bool) -> None:
            if not kept:
                self._flights.end(flight, refusal=unkept(submitter.failure))
                return
            if claim is not None:
                self._claims.sent(claim)
            self._flights.end(flight, uid)

        try:
            submitter.submit(stanzas, made, claim, done)
        except OutboxFull:
            raise QueueFull(FULL) from None
        except NotTaken:
            raise NotRunning(f"{domain} {NOT_RUNNING}") from None


@contextmanager
def open_sender(parts: DaemonParts) -> Iterator[Sender]:
    """Open the sender of a daemon. On exit, the thread of its parser ends."""

    def submitters() -> dict[str, Submitter]:
        return {domain: parts.services[domain].submitter for domain in parts.configured()}

    def deferrals() -> dict[str, DeferredReplies]:
        return {domain: parts.services[domain].deferred for domain in parts.configured()}

    storage = parts.storage
    claims = (
        MemoryIdempotencyStore() if storage is None else JournalIdempotencyStore(storage.committer)
    )
    answers = ElementParserThread(parts.written_limits)
    try:
        yield Sender(submitters, claims, answers.parse, deferrals=deferrals)
    finally:
        answers.close()
