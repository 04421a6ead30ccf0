"""Runs a request once per idempotency key. Concurrent callers share the first call's result; later
callers get the stored result.

Invariant: a flight is in `_flights` from its first mention until it is over. Only the task that put
it there looks up its key, and only then does the flight begin.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio
from attrs import define, field, frozen

from bridge.dispatch.submission import Submitter
from bridge.journal.idempotency import IdempotencyStore, claim_name
from bridge.journal.store import Claim, JournalError
from bridge.xmpp.iq import PendingIq
from bridge.xmpp.outbox import Outgoing
from xmppstream import RemoteError, Stanza
from xmppstream.parser_thread import ParseElement

_OTHER: Final = "the idempotency key was used for another request; use a new one"
_LOST: Final = "the first request with this idempotency key was cut off; its outcome is unknown"
_LATE: Final = "no answer came in time"


class SendRefused(Exception):
    """A stanza was not accepted. `why` tells the client the reason."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class KeyReused(SendRefused):
    """The idempotency key was used for another request, or the outcome of its request is lost."""


class IdInUse(SendRefused):
    """An iq with this ID already waits for the same peer's answer: use another ID, or none."""


class QueueFull(SendRefused):
    """Too many stanzas wait to be written, or too many iqs for answers: try again later."""


class JournalUnavailable(SendRefused):
    """The journal cannot be written now: try again later."""


class NotConfigured(SendRefused):
    """There is no such component (any more)."""


class NotRunning(SendRefused):
    """The component is configured and does not run now: try again later."""


class NoAnswer(SendRefused):
    """No answer to an iq came in time. The iq may have been sent."""


@frozen
class Key:
    """An idempotency key. `token` is the name of the token, `key` the client's value, and `digest`
    the SHA-256 of the request.
    """

    token: str
    key: str
    digest: bytes


Result = str | Stanza


@define(eq=False)
class Flight:
    """A running request, and the number of callers waiting for its result: a UID, or an answer.

    When it is `over`, it has a result or a refusal. If it has neither, it never began, and a caller
    that waits may begin it.
    """

    name: bytes = b""
    digest: bytes = b""
    is_question: bool = False
    waiting: int = 0
    over: trio.Event = field(factory=trio.Event)
    result: Result | None = None
    refusal: SendRefused | None = None
    submitter: Submitter | None = None
    question: PendingIq | None = None
    written: Outgoing | None = None
    """The entry in the outbox for the question."""

    def give(self) -> Result | None:
        """Return the result.

        Raises:
            SendRefused: if the request was refused.
        """
        if self.refusal is not None:
            raise type(self.refusal)(self.refusal.why)  # a new one, with a traceback per caller
        return self.result


Begin = Callable[[Key, Flight], None]
Look = Callable[[Flight], None]


class SingleFlight:
    """All running requests that have a key."""

    def __init__(self, claims: IdempotencyStore, parse: ParseElement) -> None:
        """`parse` parses stored answers."""
        self._claims = claims
        self._parse = parse
        self._flights: dict[bytes, Flight] = {}

    @property
    def all(self) -> list[Flight]:
        return list(self._flights.values())

    async def do(
        self, key: Key, begin: Begin, deadline: float, *, is_question: bool, look: Look
    ) -> Result:
        """Return the result of the request with this key.

        If the key is new, `begin` is called; it, or something it starts, calls `end`. `look` is
        called for a flight that nobody waits for (any more).

        Raises:
            KeyReused, NoAnswer, JournalUnavailable; and any refusal by `begin` or given to `end`.
        """
        name = claim_name(key.token, key.key)
        while True:
            flight = self._flights.get(name)
            if flight is not None and not flight.waiting:
                look(flight)
                flight = self._flights.get(name)
            start = None
            if flight is None:
                flight = self._flights[name] = Flight(name, key.digest, is_question)
                start = partial(self._start, flight, partial(begin, key, flight))
            elif (flight.digest, flight.is_question) != (key.digest, is_question):
                raise KeyReused(_OTHER)
            result = await self._wait(flight, deadline, start, look)
            if result is not None:
                return result
            if trio.current_time() >= deadline:
                raise NoAnswer(_LATE)

    def end(
        self, flight: Flight, result: Result | None = None, *, refusal: SendRefused | None = None
    ) -> None:
        """End a flight, and pass its result or refusal to all waiting callers."""
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]
        flight.result, flight.refusal = result, refusal
        flight.over.set()

    async def _wait(
        self,
        flight: Flight,
        deadline: float,
        start: Callable[[], Awaitable[None]] | None,
        look: Look,
    ) -> Result | None:
        if flight.question is not None:
            flight.question.deadline = max(flight.question.deadline, deadline)
        flight.waiting += 1
        try:
            with trio.move_on_at(deadline):
                if start is not None:
                    await start()
                await flight.over.wait()
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.over.is_set():
                look(flight)
        return flight.give()

    async def _start(self, flight: Flight, begin: Callable[[], None]) -> None:
        """Look up the first request with the key. If there is none, begin."""
        begun = False
        try:
            claim = await self._claims.find(flight.name)
            if claim is None:
                begin()
                begun = True
            else:
                self.end(flight, await self._known(claim, flight))
        except JournalError as error:
            self.end(flight, refusal=unkept(error))
        except SendRefused as refusal:
            self.end(flight, refusal=refusal)
        finally:
            if not begun and not flight.over.is_set():  # cancelled: another caller may begin
                self.end(flight)

    async def _known(self, claim: Claim, flight: Flight) -> Result:
        """Return the result of the first request with a key.

        Raises:
            KeyReused, NoAnswer
        """
        if claim.digest != flight.digest or flight.is_question == (claim.state == "sent"):
            raise KeyReused(_OTHER)
        match claim.state:
            case "sent":
                return claim.uid
            case "asked":
                raise KeyReused(_LOST)
            case "unanswered":
                raise NoAnswer("no answer came in time to the first request with this key")
            case "answered":
                try:
                    element = await self._parse((claim.answer or "").encode())
                except RemoteError:  # the limits were wider when it was stored
                    raise KeyReused(_LOST) from None
                return Stanza(element, claim.lang)


def unkept(failure: JournalError | None) -> JournalUnavailable:
    """Return the refusal for a stanza that the journal did not store."""
    why = "the journal cannot store this" if failure is None else f"journal failure: {failure.why}"
    return JournalUnavailable(why)
