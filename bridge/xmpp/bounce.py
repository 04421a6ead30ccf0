"""What the bridge itself says to senders: errors, and its own answers. It alone decides whether one
may be told, and counts those who may not be.
"""

import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from bridge.payload.error import error_for
from bridge.telemetry.meter import Meter
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.outbox import Outbox, Outgoing
from xmppstream import Stanza, StanzaError, encode


class Bouncer:
    """Speaks for one component."""

    def __init__(
        self,
        outbox: Outbox,
        rooms: MucOccupancy,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
        *,
        meter: Meter | None = None,
    ) -> None:
        """`meter` goes on from where it is."""
        self.meter = meter or Meter()
        self.counts = self.meter.counts
        self._outbox = outbox
        self._rooms = rooms
        self._log = log
        self._now = now

    def error(
        self, stanza: Stanza, error: StanzaError, uid: str = "", *, quiet: bool = False
    ) -> list[Stanza]:
        """Make the error for the sender; where none may be sent, count that, and, unless `quiet`,
        log it. `uid` is that of a stanza that was accepted.
        """
        in_room = self._rooms.has_occupant(stanza.from_ or "")
        told = error_for(stanza, error, in_room=in_room)
        if told is None:
            if not is_final(stanza):
                self.counts.untold += 1
                (self._log.debug if quiet else self._log.warning)(
                    "sender not told",
                    condition=str(error.condition),
                    kind=stanza.kind,
                    id=stanza.id,
                    **({"uid": uid} if uid else {}),
                )
            return []
        self.counts.errors_sent += 1
        return [told]

    def tell(self, stanza: Stanza, error: StanzaError, *, quiet: bool = False) -> None:
        """Send the error for a stanza that was not accepted."""
        self.send(self.error(stanza, error, quiet=quiet))

    def send(self, stanzas: list[Stanza]) -> None:
        """Send what the bridge itself says; it is not worth waiting for."""
        self.counts.answered_by_bridge += len(stanzas)
        made = self._now()
        if not self._outbox.put_if_room([Outgoing(encode(one), made) for one in stanzas]):
            self.counts.untold += len(stanzas)
            self._log.error("answers dropped, the server does not read", count=len(stanzas))


def is_final(stanza: Stanza) -> bool:
    """Whether nothing may be said to this: an error, or the answer to an iq (H5)."""
    return stanza.type == "error" or (stanza.kind == "iq" and not stanza.is_request)
