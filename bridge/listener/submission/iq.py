"""Iqs that are asked from outside, and their answers.

Without a key, a question lasts as long as the one who waits. With one, it is an errand: once it was
written it stays open until its time is up, though nobody waits, since he who lost his connection
comes again with the same key for the answer. What was not written when the last has left is taken
back, and its key forgotten.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from bridge.daemon.voice import Voice
from bridge.journal.delivery import fresh_uid
from bridge.journal.idempotency import IdempotencyStore
from bridge.journal.store import Claim
from bridge.listener.submission.singleflight import (
    Flight,
    IdInUse,
    Key,
    NoAnswer,
    QueueFull,
    SendRefused,
    SingleFlight,
    unkept,
)
from bridge.xmpp.iq import DuplicateId, PendingIq, TooManyPending
from bridge.xmpp.outbox import Outgoing
from xmppstream import Stanza, encode, write

FULL: Final = "too much waits to be written to the server"
_UNWRITTEN: Final = "it could not be written to the server in time, and is not sent"

Speaking = Callable[[Stanza], Voice]


class IqClient:
    """Asks in the name of all components."""

    def __init__(
        self,
        speaking: Speaking,
        claims: IdempotencyStore,
        errands: SingleFlight,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`speaking` gives the voice of a stanza's sender."""
        self._speaking = speaking
        self._claims = claims
        self._errands = errands
        self._now = now

    async def ask(self, request: Stanza, deadline: float) -> Stanza:
        """Send an iq get or set and give its answer; after `deadline`, by trio's clock, or
        cancellation, it is not sent any more.

        Raises:
            NoAnswer, IdInUse, QueueFull, NotConfigured
        """
        voice = self._speaking(request)
        question = self._open(voice, request, deadline)
        outgoing = None
        try:
            size = len(encode(request))
            reserve(voice, size)
            voice.outbox.release(size)
            outgoing = self._put(voice, request)
            with trio.move_on_at(deadline):
                await question.over.wait()
        finally:
            voice.waiters.close(question)
            is_open = outgoing is not None and not question.over.is_set()
            if is_open and outgoing is not None and voice.outbox.withdraw(outgoing):
                question.why = _UNWRITTEN
        if question.answer is None:
            raise NoAnswer(question.why)
        return question.answer

    async def ask_once(self, request: Stanza, deadline: float, key: Key) -> Stanza:
        """As `ask`, once for the key.

        Raises:
            NoAnswer, IdInUse, KeyReused, QueueFull, JournalUnavailable, NotConfigured
        """
        begin = partial(self._claim, request, deadline)
        answer = await self._errands.do(
            key, begin, deadline, is_question=True, look=self._look_after
        )
        assert isinstance(answer, Stanza)
        return answer

    def _open(
        self,
        voice: Voice,
        request: Stanza,
        deadline: float,
        ended: Callable[[Stanza | None], None] = lambda _: None,
    ) -> PendingIq:
        try:
            try:
                return voice.waiters.open(request, deadline, ended)
            except (DuplicateId, TooManyPending):
                for errand in self._errands.all:
                    self._expire(errand)
                return voice.waiters.open(request, deadline, ended)
        except DuplicateId:
            raise IdInUse(f"an iq with the id {request.id!r} waits for {request.to}") from None
        except TooManyPending:
            raise QueueFull("too many wait for answers") from None

    def _put(self, voice: Voice, request: Stanza) -> Outgoing:
        outgoing = Outgoing(encode(request), self._now())
        voice.outbox.put([outgoing])
        voice.submitted(request.id or "", outgoing.data)
        voice.rooms.observe_sent(request)
        return outgoing

    # --- with a key

    def _claim(self, request: Stanza, deadline: float, key: Key, errand: Flight) -> None:
        """Have the key kept; then ask, unless nobody waits any more."""
        voice = self._speaking(request)
        size = len(encode(request))
        question = self._open(voice, request, deadline, partial(self._ended, errand))
        try:
            reserve(voice, size)
        except QueueFull:
            voice.waiters.close(question)
            raise
        errand.voice, errand.question = voice, question

        def claimed(kept: bool) -> None:
            voice.outbox.release(size)
            if errand.over.is_set():  # its component has ended
                return
            if not kept:
                self._drop(errand, unkept(voice.keeper.failure))
            elif errand.waiting:
                errand.written = self._put(voice, request)
            else:
                self._release(errand, _UNWRITTEN)

        claim = Claim(errand.name, key.digest, fresh_uid(), self._now(), "asked")
        self._claims.begin(claim, claimed)

    def _ended(self, errand: Flight, answer: Stanza | None) -> None:
        """Take the end of a question: its answer is kept before it is given."""
        assert errand.voice is not None
        assert errand.question is not None
        if answer is not None:
            xml = write(answer.element, "")
            kept = partial(self._errands.end, errand, answer)
            self._claims.answer(errand.name, "answered", xml, answer.lang, lambda _: kept())
        elif errand.written is None or errand.voice.outbox.withdraw(errand.written):
            self._release(errand, errand.question.why)
        else:
            self._claims.answer(errand.name, "unanswered", None, None, lambda _: None)
            self._drop(errand, NoAnswer(errand.question.why))

    def _look_after(self, errand: Flight) -> None:
        """Look after an errand that nobody waits for."""
        if errand.voice is None or errand.written is None:
            return  # not begun yet: whoever begins it sees that nobody waits
        if errand.voice.outbox.withdraw(errand.written, also_again=False):
            self._release(errand, _UNWRITTEN)
        else:
            self._expire(errand)

    def _expire(self, errand: Flight) -> None:
        """End a question whose time is up, if nobody waits."""
        question = errand.question
        if question is None or errand.written is None or question.over.is_set() or errand.waiting:
            return
        if question.deadline <= trio.current_time():
            question.end(None)

    def _release(self, errand: Flight, why: str) -> None:
        """End a question that was not written, and forget its key: it may be asked again."""
        self._claims.release(errand.name)
        self._drop(errand, NoAnswer(why))

    def _drop(self, errand: Flight, refusal: SendRefused) -> None:
        assert errand.voice is not None
        assert errand.question is not None
        errand.voice.waiters.close(errand.question)
        self._errands.end(errand, refusal=refusal)


def reserve(voice: Voice, size_bytes: int) -> None:
    """Reserve room in the outbox.

    Raises:
        QueueFull: there is none.
    """
    if not voice.outbox.reserve(size_bytes):
        raise QueueFull(FULL)
