"""The dialogs that are under way, kept in the small state, so that they outlive the process.

A session belongs to the full JID that began it and to the address that was asked. It ends ten
minutes after its last step. There are at most `SENDER_LIMIT` of a sender (bare JID): a further one
ends the oldest, which clients often leave without a word. There are at most `LIMIT` in all, of at
most `LIMIT_BYTES`: a further one is refused, so that nobody can end the dialogs of others.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.config.form import CommandField, read_fields
from bridge.config.value import BadValue
from bridge.payload.error import UnusableReply
from bridge.xmpp.command.value import Values
from bridge.xmpp.state import StateStore
from xmppstream.jid import bare

KIND: Final = "command_session"
LIFE_S: Final = 600.0
BUSY_S: Final = 60.0
"""How long a session waits for the service. After that, a step may be submitted again: its POST may
have been refused on its way.
"""
SENDER_LIMIT: Final = 5
LIMIT: Final = 10_000
LIMIT_BYTES: Final = 32 * 1024 * 1024
SESSION_LIMIT_BYTES: Final = 64 * 1024
STAGES_LIMIT: Final = 20
_SPARE_BYTES: Final = 1024
_OURS: Final = re.compile(r"c[0-9a-f]{24}")


class TooManySessions(Exception):
    """There are `LIMIT` sessions of all senders, or `LIMIT_BYTES`."""


class SessionTooLarge(Exception):
    """A session has too many steps, or too much was filled in."""


class Stage(msgspec.Struct):
    """One step: its form, what was filled in, and the actions that submit it."""

    fields: list[dict[str, Any]] = []
    title: str = ""
    instructions: str = ""
    allowed: list[str] = msgspec.field(default_factory=lambda: ["complete"])
    default: str = "complete"
    values: Values = {}

    @property
    def form(self) -> tuple[CommandField, ...]:
        """The fields of the form."""
        return read_fields(self.fields, _ignore)


class Session(msgspec.Struct):
    """A dialog about one command. `asked` is the field that a text asks for."""

    id: str
    node: str
    sender: str
    to: str
    at: float = 0.0
    stages: list[Stage] = []
    place: int = 0
    is_text: bool = False
    asked: str = ""
    is_posted: bool = False
    """Whether the service knows of it."""
    busy_until: float = 0.0
    size: int = 0

    @property
    def stage(self) -> Stage:
        """The present step."""
        return self.stages[self.place]

    @property
    def values(self) -> Values:
        """What was filled in up to the present step; a later step wins."""
        found: Values = {}
        for stage in self.stages[: self.place + 1]:
            found.update(stage.values)
        return found

    @property
    def fields(self) -> list[CommandField]:
        """The fields of all steps up to the present one."""
        return [field for stage in self.stages[: self.place + 1] for field in stage.form]


class Sessions:
    """The sessions of one component, the one that rests longest first. `now` is Unix time in s."""

    def __init__(
        self, state: StateStore, now: Callable[[], float], token: Callable[[], str]
    ) -> None:
        self._state = state
        self._now = now
        self._token = token
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._of_sender: dict[str, dict[str, None]] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def are_texts(self) -> bool:
        """Whether a text is asked for anywhere."""
        return bool(self._texts)

    def load(self, log: FilteringBoundLogger) -> None:
        """Take over the sessions of an earlier process. The state must be loaded."""
        found = []
        for key, value in self._state.entries(KIND).items():
            try:
                session = msgspec.json.decode(value, type=Session)
                if not 0 <= session.place < len(session.stages):
                    raise ValueError("it has no such step")
            except ValueError as error:  # another version has written it
                log.warning("a session of a command cannot be read", id=key, why=str(error))
                self._state.delete(KIND, key)
            else:
                session.size = len(value)
                found.append(session)
        for session in sorted(found, key=lambda one: one.at):
            self._add(session)
        self._sweep()

    def begin(self, node: str, sender: str, to: str, stage: Stage, *, is_text: bool) -> Session:
        """Begin a session; end the oldest of the sender if it has too many.

        Raises:
            TooManySessions: if there are too many of all senders.
        """
        self._sweep()
        session = Session(f"c{self._token()}", node, sender, to, stages=[stage], is_text=is_text)
        if is_text:
            self.end(self.asked(sender, to))
        of_sender = self._of_sender.get(bare(sender), {})
        while len(of_sender) >= SENDER_LIMIT:
            self.end(self._sessions[next(iter(of_sender))])
        if len(self._sessions) >= LIMIT or self._size >= LIMIT_BYTES:
            raise TooManySessions
        self._add(session)
        return session

    def get(self, id: str | None, sender: str, to: str) -> Session | None:
        """Return a session of a full JID with an address."""
        self._sweep()
        session = self._sessions.get(id or "")
        is_own = session is not None and (session.sender, session.to) == (sender, to)
        return session if is_own else None

    def asked(self, sender: str, to: str) -> Session | None:
        """Return the session in which a text is asked for, of a full JID with an address."""
        if not self._texts:
            return None
        self._sweep()
        id = self._texts.get((sender, to))
        return None if id is None else self._sessions[id]

    def was_ours(self, id: str) -> bool:
        """Return whether an id has the form of a session's of ours; if there is none, it ended."""
        return _OURS.fullmatch(id) is not None

    def check(self, session: Session) -> None:
        """Raise `UnusableReply` if a session would grow too large by a reply."""
        if len(session.stages) > STAGES_LIMIT:
            raise UnusableReply(f"the command has more than {STAGES_LIMIT} steps")
        if len(msgspec.json.encode(session)) > SESSION_LIMIT_BYTES - _SPARE_BYTES:
            raise UnusableReply("the fields of the command are too large to be kept")

    def keep(self, session: Session) -> None:
        """Keep a session after a step, from now on for `LIFE_S`.

        Raises:
            SessionTooLarge: if it has grown too much; it is ended.
        """
        session.at = self._now()
        value = msgspec.json.encode(session)
        if len(value) > SESSION_LIMIT_BYTES or len(session.stages) > STAGES_LIMIT:
            self.end(session)
            raise SessionTooLarge
        if session.id not in self._sessions:  # ended while the service was asked
            return
        self._size += len(value) - session.size
        session.size = len(value)
        self._sessions.move_to_end(session.id)
        place = session.sender, session.to
        if session.is_text and session.asked:
            self._texts[place] = session.id
        elif self._texts.get(place) == session.id:
            del self._texts[place]
        self._state.put(KIND, session.id, value)

    def end(self, session: Session | None) -> None:
        """End a session, if it has not ended."""
        if session is None or self._sessions.pop(session.id, None) is None:
            return
        self._size -= session.size
        of_sender = self._of_sender[bare(session.sender)]
        del of_sender[session.id]
        if not of_sender:
            del self._of_sender[bare(session.sender)]
        if self._texts.get((session.sender, session.to)) == session.id:
            del self._texts[session.sender, session.to]
        self._state.delete(KIND, session.id)

    def _add(self, session: Session) -> None:
        self._sessions[session.id] = session
        self._of_sender.setdefault(bare(session.sender), {})[session.id] = None
        self._size += session.size
        if session.is_text and session.asked:
            self._texts[session.sender, session.to] = session.id
        if not session.at:
            session.at = self._now()

    def _sweep(self) -> None:
        """End what has expired."""
        oldest = self._now() - LIFE_S
        while self._sessions:
            session = next(iter(self._sessions.values()))
            if session.at > oldest:
                return
            self.end(session)


def _ignore(_: str, __: BadValue) -> None:
    """The fields were checked when the stage was made."""
