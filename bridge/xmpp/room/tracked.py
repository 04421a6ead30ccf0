"""Rooms that a service has joined by its own presence: known, but not joined again.

They have history like all rooms. A phase of it begins with a presence of our own that answers a
join: the first one of a stream, and any that the service has asked for.
"""

from typing import Final

from structlog.typing import FilteringBoundLogger

from bridge.payload.namespace import MUC
from bridge.xmpp.muc import Change
from bridge.xmpp.room.history import Key
from xmppstream import Stanza
from xmppstream.jid import bare, fold
from xmppstream.names import expanded

_EXPECTED: Final = 1000
_CERTAIN: Final = 20_000
_MUC: Final = expanded(MUC, "x")


class TrackedRooms:
    """What is known of these rooms, besides our occupants. The memories are bounded, because
    strangers can claim anything.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._expected: dict[Key, bool] = {}  # joins that the service has sent: always True
        self._certain: set[Key] = set()  # occupants that this stream has told us of

    def observe_sent(self, stanza: Stanza) -> None:
        """Learn from an outgoing stanza."""
        if stanza.kind == "presence" and stanza.element.find(_MUC) is not None:
            self._expected[fold(bare(stanza.to or "")), stanza.from_ or ""] = True
            if len(self._expected) > _EXPECTED:
                del self._expected[next(iter(self._expected))]

    def begin_stream(self, rooms: list[Key]) -> None:
        """Note that a stream has begun, and tell of the rooms that are not joined again."""
        self._certain.clear()
        if rooms:
            self._log.info(
                "rooms that the service joined by itself are not joined again",
                rooms=sorted({room for room, _ in rooms})[:10],
                hint="use PUT /v1/rooms, or configure them",
            )

    def left(self, key: Key) -> None:
        """Note that our occupant has left."""
        self._certain.discard(key)

    def entered(self, key: Key, change: Change | None) -> bool:
        """Note a presence of our own; return whether it answers a join."""
        is_expected = self._expected.pop(key, False)
        answers = key not in self._certain or is_expected
        if len(self._certain) >= _CERTAIN:  # to be told again costs no more than history does
            self._certain.clear()
        self._certain.add(key)
        if change == "joined" and is_expected:  # not for whatever a stranger claims
            self._log.info(
                "the service has joined a room by itself",
                room=key[0],
                hint="it is not joined again after a restart; PUT /v1/rooms keeps it",
            )
        return answers
