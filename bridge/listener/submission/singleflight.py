"""What is done once per idempotency key: the first who comes with it begins, all who come meanwhile
wait for the same end, and who comes later is told what became of it.

Invariant: an errand is in `_flights` from its first mention until it is over. Only the task that
put it there looks for its key, and only then is it begun.
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

_OTHER: Final = "the idempotency key was used for another request"
_LOST: Final = "the first request with this idempotency key was cut off; its outcome is not known"
_LATE: Final = "no answer came in time"


class SendRefused(Exception):
    """A stanza was not accepted: `why`, in a sentence for who sent it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class KeyReused(SendRefused):
    """The idempotency key was used for another request, or what came of its request is lost."""


class IdInUse(SendRefused):
    """An iq with this id waits for the same peer's answer already: give another id, or none."""


class QueueFull(SendRefused):
    """Too much waits to be written, or too many wait for answers: try again later."""


class JournalUnavailable(SendRefused):
    """The journal cannot be written now: try again later."""


class NotConfigured(SendRefused):
    """There is no such component (any more)."""


class NoAnswer(SendRefused):
    """No answer to an iq came in time. It may have been sent."""


@frozen
class Key:
    """An idempotency key: `key` as the client gave it, in the realm of the token of that name;
    `digest` is the SHA-256 of the request.
    """

    token: str
    key: str
    digest: bytes


Result = str | Stanza


@define(eq=False)
class Flight:
    """One request that is being done, and how many wait for what comes of it: a uid, or an answer.

    When it is `over`, it has a result, or it was refused; or neither: it was never begun, and who
    waits may begin it.
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
    """What was put into the outbox for the question."""

    def give(self) -> Result | None:
        """Give what came of it.

        Raises:
            SendRefused: that is what came of it.
        """
        if self.refusal is not None:
            raise type(self.refusal)(self.refusal.why)  # anew: each has its own traceback
        return self.result


Begin = Callable[[Key, Flight], None]
Look = Callable[[Flight], None]


class SingleFlight:
    """All that is being done for a key."""

    def __init__(self, claims: IdempotencyStore, parse: ParseElement) -> None:
        """`parse` parses answers that were kept."""
        self._claims = claims
        self._parse = parse
        self._flights: dict[bytes, Flight] = {}

    @property
    def all(self) -> list[Flight]:
        return list(self._flights.values())

    async def do(
        self, key: Key, begin: Begin, deadline: float, *, is_question: bool, look: Look
    ) -> Result:
        """Do what `begin` begins, or what it once did, and give what came of it.

        `begin` is called where the key is new; it or what it sets going calls `end`. `look` is
        called to look after an errand that nobody waits for (any more).

        Raises:
            KeyReused, NoAnswer, JournalUnavailable; and what `end` or `begin` gave.
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
        """Tell all who wait what came of an errand."""
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
        """Find what the key was used for, or else begin."""
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
            if not begun and not flight.over.is_set():  # cancelled: another may begin
                self.end(flight)

    async def _known(self, claim: Claim, flight: Flight) -> Result:
        """Give what came of a key's first request.

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
                except RemoteError:  # the limits were wider then
                    raise KeyReused(_LOST) from None
                return Stanza(element, claim.lang)


def unkept(failure: JournalError | None) -> JournalUnavailable:
    """Give the refusal for what the journal did not keep."""
    why = "the journal cannot keep this" if failure is None else f"no journal: {failure.why}"
    return JournalUnavailable(why)
