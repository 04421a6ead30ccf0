"""When to ask whether we are still in a room (XEP-0410), and what an answer means. No clock."""

import math
from enum import Enum, auto
from typing import Final

from bridge.xmpp.backoff import Backoff
from bridge.xmpp.room.outcome import error_of
from xmppstream import Stanza, StanzaCondition

SILENCE_S: Final = 15 * 60.0
"""After this silence of a room, the bridge asks whether it is still there."""
TIMEOUT_S: Final = 60.0
SPACING_S: Final = 30.0
_AGAIN: Final = Backoff(30.0, 600.0)
_THERE: Final = frozenset(
    {
        StanzaCondition.SERVICE_UNAVAILABLE,
        StanzaCondition.FEATURE_NOT_IMPLEMENTED,
        StanzaCondition.ITEM_NOT_FOUND,
    }
)
"""Errors that only an occupant gets (§3.2)."""
_UNDECIDED: Final = frozenset(
    {StanzaCondition.REMOTE_SERVER_NOT_FOUND, StanzaCondition.REMOTE_SERVER_TIMEOUT}
)


class Answer(Enum):
    """What the answer to a self-ping says."""

    THERE = auto()
    OUTSIDE = auto()
    UNDECIDED = auto()


def read_answer(stanza: Stanza) -> Answer:
    """Return what the answer to a self-ping says (§3.2)."""
    condition, _, _ = error_of(stanza)
    if stanza.type == "result" or condition in _THERE:
        return Answer.THERE
    return Answer.UNDECIDED if condition in _UNDECIDED else Answer.OUTSIDE


class SelfPing:
    """The schedule of the self-pings of one stay in a room. Times are in s."""

    def __init__(self) -> None:
        self.id: str | None = None
        """The id of the ping that waits for its answer."""
        self._heard_at = -math.inf
        self._wanted_at = math.inf  # by an error, or by a ping without an answer
        self._sent_at = -math.inf
        self._unanswered = 0

    def begin(self) -> None:
        """Begin a stay."""
        self.id, self._wanted_at, self._unanswered = None, math.inf, 0

    def heard(self, now: float) -> None:
        """Note that the room has said something."""
        self._heard_at = now
        if self._unanswered:
            self._unanswered, self._wanted_at = 0, math.inf

    def suspect(self, now: float) -> None:
        """Ask soon: the room has returned a stanza of ours."""
        if self.id is None:
            self._wanted_at = max(now, self._sent_at + SPACING_S)

    @property
    def due(self) -> float:
        """When to ask, or to give up the wait for an answer."""
        if self.id is not None:
            return self._sent_at + TIMEOUT_S
        if self._unanswered:
            return self._wanted_at
        return min(self._wanted_at, self._heard_at + SILENCE_S)

    def sent(self, id: str, now: float) -> None:
        """Note that a ping was sent."""
        self.id, self._sent_at, self._wanted_at = id, now, math.inf

    def answered(self, now: float) -> None:
        """Note that we are there."""
        self.id = None
        self.heard(now)

    def unanswered(self, now: float) -> None:
        """Ask again later: nobody can tell whether we are there."""
        self.id = None
        self._unanswered += 1
        self._wanted_at = now + _AGAIN.wait_s(self._unanswered)
