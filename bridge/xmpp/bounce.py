"""Errors and other answers of the bridge itself to senders. All of its errors are made here, so
the senders that must not get one are counted here, too.
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
    """Makes and sends errors and answers on behalf of one component."""

    def __init__(
        self,
        outbox: Outbox,
        rooms: MucOccupancy,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
        *,
        meter: Meter | None = None,
    ) -> None:
        """`meter` continues from its present values."""
        self.meter = meter or Meter()
        self.counts = self.meter.counts
        self._outbox = outbox
        self._rooms = rooms
        self._log = log
        self._now = now

    def error(
        self, stanza: Stanza, error: StanzaError, uid: str = "", *, quiet: bool = False
    ) -> list[Stanza]:
        """Return the error for the sender, or an empty list if it must not get one. That is counted
        and logged: as a warning, or, if `quiet`, for debugging. `uid` is an accepted stanza's.
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
        """Send the bridge's own answers. They need no room in the outbox."""
        self.counts.answered_by_bridge += len(stanzas)
        made = self._now()
        self._outbox.put([Outgoing(encode(one), made, is_answer=True) for one in stanzas])


def is_final(stanza: Stanza) -> bool:
    """Return whether a stanza never gets an answer: an error, or the answer to an iq (H5)."""
    return stanza.type == "error" or (stanza.kind == "iq" and not stanza.is_request)
