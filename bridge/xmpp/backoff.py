"""The reaction to the end of a stream (the classes of rule S11, as one table), and the delays."""

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from attrs import frozen

from xmppstream import StreamClosed, StreamCondition, StreamEnd, StreamFaulted, StreamLost


class Reaction(Enum):
    """How to react to the end of a stream."""

    RETRY = auto()  # a fault of the server or the network: back off with jitter
    REFUSED = auto()  # the server does not know us, or our secret, (yet)
    TAKEN = auto()  # another connection is attached as our domain
    BLAMED = auto()  # a stanza of ours broke the stream


REACTION_TO_CONDITION: Final = {
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
"""Stream errors sent by the server. Any other one, and any other end, is `RETRY`."""


def no_jitter(bound_s: float) -> float:
    return bound_s


def half_jitter(bound_s: float) -> float:
    return random.uniform(bound_s / 2, bound_s)


def full_jitter(bound_s: float) -> float:
    return random.uniform(0, bound_s)


@frozen
class Backoff:
    """Exponential delays: `first_s`, doubled at each attempt, at most `last_s`."""

    first_s: float
    last_s: float
    jitter: Callable[[float], float] = half_jitter

    def wait_s(self, attempts: int) -> float:
        """Return the seconds to wait after the `attempts`-th attempt (from 1)."""
        return self.jitter(min(self.first_s * 2 ** min(attempts - 1, 16), self.last_s))


_BACKOFFS: Final = {
    Reaction.RETRY: Backoff(0.5, 5.0),
    Reaction.BLAMED: Backoff(0.5, 5.0),
    Reaction.TAKEN: Backoff(5.0, 120.0, no_jitter),
    Reaction.REFUSED: Backoff(4.0, 60.0, no_jitter),  # an operator may be about to mend it
}


_LEASED: Final = Backoff(2.0, 2.0, no_jitter)
"""For `TAKEN`, if nodes agree who attaches."""


def reaction_to(end: StreamEnd, *, attached: bool) -> Reaction:
    """Classify the end of a stream. `attached`: whether its handshake had been accepted."""
    match end:
        case StreamFaulted(condition=condition, by_peer=True):
            reaction = REACTION_TO_CONDITION.get(condition, Reaction.RETRY)
            # A stream that never attached has carried only our header and digest, no stanza.
            if reaction is Reaction.BLAMED and not attached:
                return Reaction.RETRY
            # After the handshake, ejabberd returns this for a stanza without an address.
            if condition is StreamCondition.IMPROPER_ADDRESSING and attached:
                return Reaction.BLAMED
            return reaction
        case StreamFaulted() | StreamClosed() | StreamLost():
            return Reaction.RETRY


class ReconnectDelay:
    """Delays before the next attempt to attach. They double while the reaction is the same."""

    def __init__(self, *, holds_lease: bool = False) -> None:
        """`holds_lease`: whether nodes agree who attaches. Then nobody disconnects us for long: the
        server may not have noticed yet that the one before has ended.
        """
        self._taken = _LEASED if holds_lease else _BACKOFFS[Reaction.TAKEN]
        self._reaction = Reaction.RETRY
        self._attempts = 0

    def reset(self) -> None:
        """Start again from the shortest delay, because a stream has proved good."""
        self._attempts = 0

    def wait_s(self, reaction: Reaction, *, was_settled: bool = False) -> float:
        """Return the seconds to wait. `was_settled`: whether the stream had proved good.

        If so, a conflict means that another instance took our place. The delay is 120 s at once,
        or the two would disconnect each other forever.
        """
        backoff = self._taken if reaction is Reaction.TAKEN else _BACKOFFS[reaction]
        if reaction is Reaction.TAKEN and was_settled:
            return backoff.last_s
        if reaction is not self._reaction:
            self._reaction, self._attempts = reaction, 0
        self._attempts += 1
        return backoff.wait_s(self._attempts)
