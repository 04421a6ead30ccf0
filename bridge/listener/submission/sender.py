"""A way in: stanzas that the endpoint sends by itself, each accepted once per idempotency key.

It is given what the components speak with, as of now: they may come and go. No HTTP here, and no
tasks: what was accepted goes its way whether or not he still waits who gave it.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from bridge.daemon.listener import DaemonParts
from bridge.daemon.voice import Voice, Voices, voice_of
from bridge.journal.delivery import fresh_uid
from bridge.journal.idempotency import (
    IdempotencyStore,
    JournalIdempotencyStore,
    MemoryIdempotencyStore,
)
from bridge.journal.store import Claim
from bridge.listener.submission.iq import IqClient, reserve
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
from bridge.payload.reply import ReplyBody, UnusableReply, read_reply
from bridge.xmpp.iq import WAIT_LIMIT_S
from bridge.xmpp.outbox import Outgoing
from xmppstream import ElementParserThread, Stanza, encode
from xmppstream.jid import domain_of
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
    "Voice",
]

_BEFORE_JSON: Final = b"\xef\xbb\xbf \t\r\n"


class Sender:
    """Sends for those who ask from outside. One per daemon."""

    def __init__(
        self,
        voices: Voices,
        claims: IdempotencyStore,
        parse: ParseElement,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`parse` parses answers that were kept, so its limits are wider than the stream's."""
        self._voices = voices
        self._claims = claims
        self._now = now
        self._flights = SingleFlight(claims, parse)
        self._iq_client = IqClient(self._speaking, claims, self._flights, now)

    @property
    def domains(self) -> frozenset[str]:
        """The components that can speak now."""
        return frozenset(self._voices())

    async def compose(self, content: ReplyBody, default_from: str | None) -> Stanza:
        """Make the stanza of a request, checked as one of a reply is (H2, S27 to S31).

        One JSON object, or one element. `to` is required; `from` is by default `default_from`; an
        iq without an id is given one.

        Raises:
            UnusableReply: it may not be sent; the message says why.
        """
        objects = read_reply(content)
        if content.media == "json" and content.content.lstrip(_BEFORE_JSON)[:1] == b"[":
            raise UnusableReply("the body is an array; send one object")
        voices = self._voices()
        if not voices:
            raise UnusableReply("from: no component is at work")
        draft = await next(iter(voices.values())).composer.draft(objects[0])
        sender = default_from if draft.from_ is None else draft.from_
        if sender is None:
            raise UnusableReply("from is missing")
        voice = voice_of(self._voices, sender)
        if voice is None:
            raise UnusableReply(f"from: {domain_of(sender)[:60]!r} is no component here")
        return voice.composer.compose_unasked(draft, default_from, fresh_uid())

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

    def _speaking(self, stanza: Stanza) -> Voice:
        voice = voice_of(self._voices, stanza.from_ or "")
        if voice is None:
            raise NotConfigured(f"{domain_of(stanza.from_ or '')} is no component here any more")
        return voice

    def _keep(self, stanza: Stanza, key: Key | None, flight: Flight) -> None:
        """Have a stanza kept; it then goes out, whoever waits for it.

        Given to the keeper while its component is at work: if that is to stop now, the next one
        finds it in the journal.
        """
        voice = self._speaking(stanza)
        uid, made = fresh_uid(), self._now()
        if stanza.id is None:
            stanza = Stanza(stanza.element.with_attributes(id=uid))
        size = len(encode(stanza))
        claim = None if key is None else Claim(flight.name, key.digest, uid, made, "sent")
        reserve(voice, size)

        def kept(outgoing: Outgoing | None) -> None:
            voice.outbox.release(size)
            if outgoing is None:
                self._flights.end(flight, refusal=unkept(voice.queue.failure))
                return
            voice.outbox.put([outgoing])
            voice.submitted(uid, outgoing.data)
            voice.rooms.observe_sent(stanza)
            if claim is not None:
                self._claims.sent(claim)
            self._flights.end(flight, uid)

        voice.queue.send(stanza, uid, made, claim, kept)


@contextmanager
def open_sender(parts: DaemonParts) -> Iterator[Sender]:
    """Make the sender of a daemon; at the end, its parser's thread ends."""

    def voices() -> dict[str, Voice]:
        return {domain: one.voice for domain, one in parts.services.items() if one.is_open}

    storage = parts.storage
    claims = (
        MemoryIdempotencyStore() if storage is None else JournalIdempotencyStore(storage.committer)
    )
    answers = ElementParserThread(parts.written_limits)
    try:
        yield Sender(voices, claims, answers.parse)
    finally:
        answers.close()
