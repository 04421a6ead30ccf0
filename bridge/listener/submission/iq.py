"""Iqs that HTTP clients send, and their answers.

Without a key, a question lasts as long as its client waits. With a key, a question that was written
stays open until its deadline even if nobody waits, because a client that lost its connection comes
back with the same key for the answer. If a question is not written when the last client leaves, it
is withdrawn and its key is forgotten.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

import trio

from bridge.dispatch.submission import NotTaken, OutboxFull, Submitter
from bridge.journal.delivery import fresh_uid
from bridge.journal.idempotency import IdempotencyStore
from bridge.journal.store import Claim
from bridge.listener.submission.singleflight import (
    Flight,
    IdInUse,
    Key,
    NoAnswer,
    NotRunning,
    QueueFull,
    SendRefused,
    SingleFlight,
    unkept,
)
from bridge.xmpp.iq import UNWRITTEN, DuplicateId, PendingIq, TooManyPending
from xmppstream import Stanza, encode, write
from xmppstream.jid import domain_of

FULL: Final = "the queue of stanzas to the server is full; try again later"
NOT_RUNNING: Final = "does not run now: it starts, restarts, or was refused; try again later"
_TOO_MANY: Final = "too many iqs wait for answers; try again later"

Speaking = Callable[[Stanza], Submitter]


class IqClient:
    """Sends iqs for all components and waits for the answers."""

    def __init__(
        self,
        speaking: Speaking,
        claims: IdempotencyStore,
        flights: SingleFlight,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`speaking` returns the submitter of a stanza's sender."""
        self._speaking = speaking
        self._claims = claims
        self._flights = flights
        self._now = now

    async def ask(self, request: Stanza, deadline: float) -> Stanza:
        """Send an iq get or set and return its answer. If it is not written by `deadline` (trio's
        clock), or when this is cancelled, it is withdrawn.

        Raises:
            NoAnswer, IdInUse, QueueFull, NotConfigured, NotRunning
        """
        submitter = self._speaking(request)
        question = self._open(submitter, request, deadline)
        try:
            await submitter.wait_answer(question, request, deadline, self._now())
        except OutboxFull:
            raise QueueFull(FULL) from None
        if question.answer is None:
            raise _refusal(question, request, submitter)
        return question.answer

    async def ask_once(self, request: Stanza, deadline: float, key: Key) -> Stanza:
        """Like `ask`, but once per key.

        Raises:
            NoAnswer, IdInUse, KeyReused, QueueFull, JournalUnavailable, NotConfigured, NotRunning
        """
        begin = partial(self._claim, request, deadline)
        answer = await self._flights.do(
            key, begin, deadline, is_question=True, look=self._look_after
        )
        assert isinstance(answer, Stanza)
        return answer

    def _open(
        self,
        submitter: Submitter,
        request: Stanza,
        deadline: float,
        ended: Callable[[Stanza | None], None] = lambda _: None,
    ) -> PendingIq:
        try:
            try:
                return submitter.open(request, deadline, ended)
            except (DuplicateId, TooManyPending):
                for flight in self._flights.all:
                    self._expire(flight)
                return submitter.open(request, deadline, ended)
        except DuplicateId:
            raise _id_in_use(request) from None
        except TooManyPending:
            raise QueueFull(_TOO_MANY) from None
        except NotTaken:
            raise _not_running(request) from None

    # --- with a key

    def _claim(self, request: Stanza, deadline: float, key: Key, flight: Flight) -> None:
        """Store the key, then ask, unless nobody waits any more."""
        submitter = self._speaking(request)
        size = len(encode(request))
        question = self._open(submitter, request, deadline, partial(self._ended, request, flight))
        try:
            reserve(submitter, size)
        except QueueFull:
            submitter.close(question)
            raise
        flight.submitter, flight.question = submitter, question

        def claimed(kept: bool) -> None:
            submitter.release(size)
            if flight.over.is_set():  # its component has stopped
                return
            if not kept:
                self._drop(flight, unkept(submitter.failure))
            elif flight.waiting:
                flight.written = submitter.ask(request, self._now())
            else:
                self._release(flight, NoAnswer(UNWRITTEN))

        claim = Claim(flight.name, key.digest, fresh_uid(), self._now(), "asked")
        self._claims.begin(claim, claimed)

    def _ended(self, request: Stanza, flight: Flight, answer: Stanza | None) -> None:
        """Handle the end of a question. The answer is stored before it is returned."""
        assert flight.submitter is not None
        assert flight.question is not None
        if answer is not None:
            xml = write(answer.element, "")
            kept = partial(self._flights.end, flight, answer)
            self._claims.answer(flight.name, "answered", xml, answer.lang, lambda _: kept())
        elif (
            flight.question.is_unsent
            or flight.written is None
            or flight.submitter.withdraw(flight.written)
        ):
            self._release(flight, _refusal(flight.question, request, flight.submitter))
        else:
            self._claims.answer(flight.name, "unanswered", None, None, lambda _: None)
            self._drop(flight, NoAnswer(flight.question.why))

    def _look_after(self, flight: Flight) -> None:
        """Withdraw or expire a question that nobody waits for."""
        if flight.submitter is None or flight.written is None:
            return  # not begun yet: the code that begins it sees that nobody waits
        if flight.submitter.withdraw(flight.written, also_again=False):
            self._release(flight, NoAnswer(UNWRITTEN))
        else:
            self._expire(flight)

    def _expire(self, flight: Flight) -> None:
        """End a question if its deadline has passed and nobody waits."""
        question = flight.question
        if question is None or flight.written is None or question.over.is_set() or flight.waiting:
            return
        if question.deadline <= trio.current_time():
            question.end(None)

    def _release(self, flight: Flight, refusal: SendRefused) -> None:
        """End a question that was not written and forget its key, so that it may be asked again."""
        self._claims.release(flight.name)
        self._drop(flight, refusal)

    def _drop(self, flight: Flight, refusal: SendRefused) -> None:
        assert flight.submitter is not None
        assert flight.question is not None
        flight.submitter.close(flight.question)
        self._flights.end(flight, refusal=refusal)


def reserve(submitter: Submitter, size_bytes: int) -> None:
    """Reserve room in the outbox until it is released.

    Raises:
        QueueFull: if there is no room.
    """
    try:
        submitter.reserve(size_bytes)
    except OutboxFull:
        raise QueueFull(FULL) from None


def _refusal(question: PendingIq, request: Stanza, submitter: Submitter) -> SendRefused:
    """Return the reason why a question ended without an answer."""
    match question.refusal:
        case None:
            return NoAnswer(question.why)
        case "id_in_use":
            return _id_in_use(request)
        case "too_many":
            return QueueFull(_TOO_MANY)
        case "outbox_full":
            return QueueFull(FULL)
        case "not_running":
            return _not_running(request)
        case "not_kept":
            return unkept(submitter.failure)
        case _:
            assert_never(question.refusal)


def _id_in_use(request: Stanza) -> IdInUse:
    return IdInUse(f"an iq with id {request.id!r} already waits for {request.to}")


def _not_running(request: Stanza) -> NotRunning:
    return NotRunning(f"{domain_of(request.from_ or '')} {NOT_RUNNING}")
