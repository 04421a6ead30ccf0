"""What follows the end of a stream: the classes of rule S11, as one table, and waiting times."""

import random
from enum import Enum, auto
from typing import Final

from xmppstream import StreamClosed, StreamCondition, StreamEnd, StreamFaulted, StreamLost


class Course(Enum):
    """What to do when a stream has ended."""

    RETRY = auto()  # the server or the network: back off with jitter
    REFUSED = auto()  # the server will not have us: final, unless it had us before
    TAKEN = auto()  # somebody else is attached as our domain
    BLAMED = auto()  # a stanza of ours broke the stream


COURSE_OF_CONDITION: Final = {
    StreamCondition.NOT_AUTHORIZED: Course.REFUSED,
    StreamCondition.HOST_UNKNOWN: Course.REFUSED,
    StreamCondition.IMPROPER_ADDRESSING: Course.REFUSED,
    StreamCondition.CONFLICT: Course.TAKEN,
    StreamCondition.INVALID_FROM: Course.BLAMED,
    StreamCondition.NOT_WELL_FORMED: Course.BLAMED,
    StreamCondition.POLICY_VIOLATION: Course.BLAMED,
    StreamCondition.INVALID_XML: Course.BLAMED,
    StreamCondition.UNSUPPORTED_STANZA_TYPE: Course.BLAMED,
}
"""Stream errors that the server sends; any other one, and any other end, is `RETRY`."""

_FIRST_S: Final = {Course.RETRY: 0.5, Course.BLAMED: 0.5, Course.TAKEN: 5.0, Course.REFUSED: 30.0}
_LAST_S: Final = {Course.RETRY: 5.0, Course.BLAMED: 5.0, Course.TAKEN: 120.0, Course.REFUSED: 300.0}
_JITTERED: Final = frozenset({Course.RETRY, Course.BLAMED, Course.REFUSED})


def course_of(end: StreamEnd, *, attached: bool) -> Course:
    """Classify the end of a stream; `attached` tells whether its handshake had been accepted."""
    match end:
        case StreamFaulted(condition=condition, by_peer=True):
            course = COURSE_OF_CONDITION.get(condition, Course.RETRY)
            # Nothing of ours was in a stream that was never attached (but for header and digest).
            if course is Course.BLAMED and not attached:
                return Course.RETRY
            # After the handshake, ejabberd says improper-addressing of a stanza without address.
            if condition is StreamCondition.IMPROPER_ADDRESSING and attached:
                return Course.BLAMED
            return course
        case StreamFaulted() | StreamClosed() | StreamLost():
            return Course.RETRY


class Backoff:
    """Waiting times between attempts: doubling within a course, from its first to its last."""

    def __init__(self) -> None:
        self._course = Course.RETRY
        self._next_s = _FIRST_S[Course.RETRY]

    def reset(self) -> None:
        """Begin anew: a stream has proved good."""
        self._next_s = _FIRST_S[self._course]

    def wait_s(self, course: Course, *, was_settled: bool = False) -> float:
        """Give the seconds to wait; `was_settled`: the stream had proved good before it ended.

        A conflict then means that another instance took our place: 120 s at once, or the two would
        kick each other for ever.
        """
        if course is Course.TAKEN and was_settled:
            return _LAST_S[course]
        if course is not self._course:
            self._course, self._next_s = course, _FIRST_S[course]
        wait_s = self._next_s
        self._next_s = min(wait_s * 2, _LAST_S[course])
        if course in _JITTERED:
            wait_s *= random.uniform(0.5, 1.0)
        return wait_s
