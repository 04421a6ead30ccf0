"""The life of one side of a stream, as a table.

A stream has two sides, what we send and what the peer sends, and both go through the same table,
whoever is the component and whoever the server: a header, a handshake, stanzas, the end. What the
table does not list is forbidden. That the component's handshake comes first is the only thing that
depends on the role, and `component` sees to it.

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
    """What a side can send."""

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
    """Give the state that follows.

    Raises:
        LocalError: the table forbids it.
    """
    try:
        return TRANSITIONS[side][sent]
    except KeyError:
        what = sent.name.lower()
        raise LocalError(f"no {what} can be sent while this side is {side.name.lower()}") from None
