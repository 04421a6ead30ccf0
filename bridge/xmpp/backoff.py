"""What follows the end of a stream: the classes of rule S11, as one table, and waiting times."""

import random
from enum import Enum, auto
from typing import Final

from xmppstream import StreamClosed, StreamCondition, StreamEnd, StreamFaulted, StreamLost


class Reaction(Enum):
    """What to do when a stream has ended."""

    RETRY = auto()  # the server or the network: back off with jitter
    REFUSED = auto()  # the server will not have us: final, unless it had us before
    TAKEN = auto()  # somebody else is attached as our domain
    BLAMED = auto()  # a stanza of ours broke the stream


COURSE_OF_CONDITION: Final = {
    StreamCondition.NOT_AUTHORIZED: Reaction.REFUSED,
    StreamCondition.HOST_UNKNOWN: Reaction.REFUSED,
    StreamCondition.IMPROPER_ADDRESSING: Reaction.REFUSED,
    StreamCondition.CONFLICT: Reaction.TAKEN,
    StreamCondition.INVALID_FROM: Reaction.BLAMED,
    StreamCondition.NOT_WELL_FORMED: Reaction.BLAMED,
    StreamCondition.POLICY_VIOLATION: Reaction.BLAMED,
    StreamCondition.INVALID_XML: Reaction.BLAMED,
    StreamCondition.UNSUPPORTED_STANZA_TYPE: Reaction.BLAMED,
}
"""Stream errors that the server sends; any other one, and any other end, is `RETRY`."""

_FIRST_S: Final = {
    Reaction.RETRY: 0.5,
    Reaction.BLAMED: 0.5,
    Reaction.TAKEN: 5.0,
    Reaction.REFUSED: 30.0,
}
_LAST_S: Final = {
    Reaction.RETRY: 5.0,
    Reaction.BLAMED: 5.0,
    Reaction.TAKEN: 120.0,
    Reaction.REFUSED: 300.0,
}
_JITTERED: Final = frozenset({Reaction.RETRY, Reaction.BLAMED, Reaction.REFUSED})


def reaction_to(end: StreamEnd, *, attached: bool) -> Reaction:
    """Classify the end of a stream; `attached` tells whether its handshake had been accepted."""
    match end:
        case StreamFaulted(condition=condition, by_peer=True):
            reaction = COURSE_OF_CONDITION.get(condition, Reaction.RETRY)
            # Nothing of ours was in a stream that was never attached (but for header and digest).
            if reaction is Reaction.BLAMED and not attached:
                return Reaction.RETRY
            # After the handshake, ejabberd says improper-addressing of a stanza without address.
            if condition is StreamCondition.IMPROPER_ADDRESSING and attached:
                return Reaction.BLAMED
            return reaction
        case StreamFaulted() | StreamClosed() | StreamLost():
            return Reaction.RETRY


class Backoff:
    """Waiting times between attempts: doubling within a course, from its first to its last."""

    def __init__(self) -> None:
        self._reaction = Reaction.RETRY
        self._next_s = _FIRST_S[Reaction.RETRY]

    def reset(self) -> None:
        """Begin anew: a stream has proved good."""
        self._next_s = _FIRST_S[self._reaction]

    def wait_s(self, reaction: Reaction, *, was_settled: bool = False) -> float:
        """Give the seconds to wait; `was_settled`: the stream had proved good before it ended.

        A conflict then means that another instance took our place: 120 s at once, or the two would
        kick each other for ever.
        """
        if reaction is Reaction.TAKEN and was_settled:
            return _LAST_S[reaction]
        if reaction is not self._reaction:
            self._reaction, self._next_s = reaction, _FIRST_S[reaction]
        wait_s = self._next_s
        self._next_s = min(wait_s * 2, _LAST_S[reaction])
        if reaction in _JITTERED:
            wait_s *= random.uniform(0.5, 1.0)
        return wait_s
