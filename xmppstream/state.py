"""The states of one side of a stream, as a table.

A stream has two sides, ours and the peer's. Both follow the same table, as component and as server:
a header, a handshake, stanzas, the end. Everything that the table does not list is forbidden. Only
one thing depends on the role, and `component` checks it: the component's handshake comes first.

    IDLE --header--> OPEN --handshake--> READY --stanza--> READY
                       |                   |
                       +-----error---------+--> FAULTED --close--> CLOSED
                       +-----close---------+---------------------> CLOSED
"""

from enum import Enum, auto
from typing import Final

from xmppstream.errors import LocalError


class Side(Enum):
    """The states of one side."""

    IDLE = auto()
    OPEN = auto()
    READY = auto()
    FAULTED = auto()
    CLOSED = auto()


class Sent(Enum):
    """The kinds of things that a side can send."""

    HEADER = auto()
    HANDSHAKE = auto()
    STANZA = auto()
    ERROR = auto()
    CLOSE = auto()


TRANSITIONS: Final[dict[Side, dict[Sent, Side]]] = {
    Side.IDLE: {Sent.HEADER: Side.OPEN},
    Side.OPEN: {Sent.HANDSHAKE: Side.READY, Sent.ERROR: Side.FAULTED, Sent.CLOSE: Side.CLOSED},
    Side.READY: {Sent.STANZA: Side.READY, Sent.ERROR: Side.FAULTED, Sent.CLOSE: Side.CLOSED},
    Side.FAULTED: {Sent.CLOSE: Side.CLOSED},
    Side.CLOSED: {},
}


def after(side: Side, sent: Sent) -> Side:
    """Return the state that follows.

    Raises:
        LocalError: if the table forbids it.
    """
    try:
        return TRANSITIONS[side][sent]
    except KeyError:
        what = sent.name.lower()
        raise LocalError(f"no {what} can be sent while this side is {side.name.lower()}") from None
