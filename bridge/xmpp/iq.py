"""Pending iqs: requests that were sent through the HTTP API and wait for their replies.

A reply is matched by its kind, its id and both addresses, so nobody else can answer. Addresses are
compared as servers do: local part and domain without regard to case, resources exactly. A local
part is mapped no further than by every server, so it cannot match that of another account.

Invariant: a pending iq is in `_questions`, under its name, until it ends; it ends once.
"""

import math
from collections.abc import Callable
from typing import Final, Literal

import trio
from attrs import define, field

from xmppstream import Stanza, TooLong, write
from xmppstream.jid import fold
from xmppstream.names import COMPONENT

WAIT_LIMIT_S: Final = 300.0
"""The longest wait for a reply, in s."""


WRITTEN_LIMIT: Final = "max_stanza_bytes, written out"
"""The limit of stanzas that grow too much when they are written."""
UNWRITTEN: Final = "the iq could not be written to the server in time, and was not sent"
LIMIT: Final = 1000
_ANSWERS: Final = frozenset({"result", "error"})

Name = tuple[str, str, str]
Ended = Callable[[Stanza | None], None]
Refusal = Literal["id_in_use", "too_many", "outbox_full", "not_running", "not_kept"]
"""Why an iq was not sent: of another node, which was asked to send it (`not_kept`: it could not be
asked).
"""


class DuplicateId(Exception):
    """An iq with this id and these addresses is already pending."""


class TooManyPending(Exception):
    """The maximum number of iqs is pending."""


@define(eq=False)
class PendingIq:
    """An iq that waits for its reply until `deadline`, by trio's clock; it may be changed."""

    name: Name
    deadline: float
    _ended: Ended
    answer: Stanza | None = None
    why: str = "no answer came in time"
    """Why there is no reply, if there is none."""
    is_unsent: bool = False
    """Whether it was certainly never written."""
    refusal: Refusal | None = None
    over: trio.Event = field(factory=trio.Event)

    def end(self, answer: Stanza | None) -> None:
        self.answer = answer
        self.over.set()
        self._ended(answer)

    def fail(self, why: str) -> None:
        """End it without a reply."""
        self.why = why
        self.end(None)

    def withdrawn(self) -> None:
        """Note that it was taken back before it was written."""
        self.why, self.is_unsent = UNWRITTEN, True


class PendingIqs:
    """The pending iqs of one component."""

    def __init__(
        self,
        limit: int = LIMIT,
        now: Callable[[], float] = lambda: trio.current_time(),
        *,
        max_xml_length: float = math.inf,
    ) -> None:
        """A reply longer than `max_xml_length` when it is written ends its iq without a reply."""
        self._limit = limit
        self._max_xml_length = max_xml_length
        self._now = now
        self._questions: dict[Name, PendingIq] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def open(self, request: Stanza, deadline: float, ended: Ended = lambda _: None) -> PendingIq:
        """Register an iq before it is sent. `ended` is called with the reply, or with None if there
        can be none, unless `close` comes first.

        Raises:
            DuplicateId: if an iq with the same id and addresses is pending.
            TooManyPending: if `limit` iqs are pending.
        """
        name = _name_of(request)
        if name in self._questions:
            raise DuplicateId
        if len(self._questions) >= self._limit:
            raise TooManyPending
        question = self._questions[name] = PendingIq(name, deadline, ended)
        return question

    def close(self, question: PendingIq) -> None:
        """Stop waiting for the reply."""
        if self._questions.get(question.name) is question:
            del self._questions[question.name]

    def find(self, request: Stanza) -> PendingIq | None:
        """Return the pending iq that was opened for a request."""
        return self._questions.get(_name_of(request))

    def take(self, stanza: Stanza) -> bool:
        """Return whether a stanza is the reply to a pending iq, which then ends."""
        question = self._asked(stanza)
        if question is None:
            return False
        try:
            write(stanza.element, COMPONENT, self._max_xml_length)
        except TooLong:
            question.fail(f"the answer is over the limit of {WRITTEN_LIMIT}")
        else:
            question.end(stanza)
        return True

    def refuse(self, stanza: Stanza, why: str) -> bool:
        """Like `take`, for a reply that was refused: the iq ends without it."""
        question = self._asked(stanza)
        if question is not None:
            question.fail(why)
        return question is not None

    def end(self, why: str) -> None:
        """End all pending iqs: no reply can arrive any more."""
        questions, self._questions = self._questions, {}
        for one in questions.values():
            one.fail(why)

    def _asked(self, stanza: Stanza) -> PendingIq | None:
        if not self._questions or stanza.kind != "iq" or stanza.type not in _ANSWERS:
            return None
        name = (fold(stanza.from_ or ""), fold(stanza.to or ""), stanza.id or "")
        question = self._questions.get(name)
        if question is None or question.deadline < self._now():
            return None  # nobody waits any more: it is for the endpoint
        del self._questions[name]
        return question


def _name_of(request: Stanza) -> Name:
    return fold(request.to or ""), fold(request.from_ or ""), request.id or ""
