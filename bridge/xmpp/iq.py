"""Who waits for the answers to iqs that were asked from outside.

An answer is known by its kind, its id, and both addresses, so that nobody else can answer. They are
compared as servers do: local part and domain whatever their letter case, resources exactly. A local
part is not mapped further than any server would: no other account's could become the same.

Invariant: a question is in `_questions`, under its name, until its end, and ends once.
"""

from collections.abc import Callable
from typing import Final
from unicodedata import normalize

import trio
from attrs import define, field

from xmppstream import Stanza

WAIT_LIMIT_S: Final = 300.0
"""How long an answer is waited for, at most."""


LIMIT: Final = 1000
_ANSWERS: Final = frozenset({"result", "error"})

Name = tuple[str, str, str]
Ended = Callable[[Stanza | None], None]


class DuplicateId(Exception):
    """The same peer is being asked under that id."""


class TooManyPending(Exception):
    """As many wait as may."""


@define(eq=False)
class PendingIq:
    """An iq that was asked. It waits until `deadline`, by trio's clock, which may be moved."""

    name: Name
    deadline: float
    _ended: Ended
    answer: Stanza | None = None
    why: str = "no answer came in time"
    """Why there is no answer, if there is none."""
    over: trio.Event = field(factory=trio.Event)

    def end(self, answer: Stanza | None) -> None:
        self.answer = answer
        self.over.set()
        self._ended(answer)


class PendingIqs:
    """The open questions of one component."""

    def __init__(
        self, limit: int = LIMIT, now: Callable[[], float] = lambda: trio.current_time()
    ) -> None:
        self._limit = limit
        self._now = now
        self._questions: dict[Name, PendingIq] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def open(self, request: Stanza, deadline: float, ended: Ended = lambda _: None) -> PendingIq:
        """Wait for the answer to an iq, from now on; before it is sent. `ended` is given it, or
        None where there can be none, unless `close` comes first.

        Raises:
            IdTaken, TooMany
        """
        name = (_plain(request.to), _plain(request.from_), request.id or "")
        if name in self._questions:
            raise DuplicateId
        if len(self._questions) >= self._limit:
            raise TooManyPending
        question = self._questions[name] = PendingIq(name, deadline, ended)
        return question

    def close(self, question: PendingIq) -> None:
        """Wait no more."""
        if self._questions.get(question.name) is question:
            del self._questions[question.name]

    def take(self, stanza: Stanza) -> bool:
        """Tell whether a stanza is an answer that is waited for; then it is taken."""
        question = self._asked(stanza)
        if question is not None:
            question.end(stanza)
        return question is not None

    def refuse(self, stanza: Stanza, why: str) -> bool:
        """As `take`, of an answer that cannot be given."""
        question = self._asked(stanza)
        if question is not None:
            question.why = why
            question.end(None)
        return question is not None

    def end(self, why: str) -> None:
        """End all questions: no answer can come any more."""
        questions, self._questions = self._questions, {}
        for one in questions.values():
            one.why = why
            one.end(None)

    def _asked(self, stanza: Stanza) -> PendingIq | None:
        if not self._questions or stanza.kind != "iq" or stanza.type not in _ANSWERS:
            return None
        name = (_plain(stanza.from_), _plain(stanza.to), stanza.id or "")
        question = self._questions.get(name)
        if question is None or question.deadline < self._now():
            return None  # nobody waits any more: it is for the endpoint
        del self._questions[name]
        return question


def _plain(address: str | None) -> str:
    """Give an address in one spelling."""
    bare, slash, resource = (address or "").partition("/")
    plain = f"{bare.lower()}{slash}{resource}"
    return plain if plain.isascii() else normalize("NFC", plain)
