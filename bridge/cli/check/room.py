"""Joining the rooms of the configuration, for `--connect`, and leaving them again; and what a
running daemon says of its rooms.
"""

from typing import Final

import trio

from bridge.cli.check.report import Report
from bridge.config.settings import Component
from bridge.daemon.status import ComponentStatus
from bridge.telemetry.log import logger
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.room.outcome import NO_ANSWER
from bridge.xmpp.room.room import Phase, Room
from bridge.xmpp.room.rooms import Rooms
from xmppstream import ComponentStream, Event, StanzaReceived

JOIN_S: Final = 10.0
"""How long a room has to answer."""
_SPACING_S: Final = 0.1
_TICK_S: Final = 0.05


class RoomTrial:
    """Joins all rooms of one component, once each."""

    def __init__(self, component: Component) -> None:
        occupancy = MucOccupancy()
        self._rooms = Rooms(component.domain, occupancy, logger(), spacing_s=lambda: _SPACING_S)
        self._rooms.configure(component.rooms, max(len(component.rooms), 1))
        self._told: dict[Room, tuple[Phase, str]] = {}

    def receive(self, event: Event) -> None:
        """Learn from what the server sends."""
        if not isinstance(event, StanzaReceived):
            return
        stanza = event.stanza
        if stanza.kind == "iq":
            self._rooms.take(stanza)
        elif stanza.from_ and stanza.to:
            self._rooms.receive(stanza)

    async def run(self, stream: ComponentStream) -> None:
        """Join, wait for the rooms to answer, and leave them.

        Raises:
            StreamFailed: if the stream ends.
        """
        rooms = self._rooms
        kept = [room for room, _ in rooms.all()]
        rooms.attached()
        with trio.move_on_after(JOIN_S + len(kept) * _SPACING_S):
            while len(self._told) < len(kept):
                rooms.advance(trio.current_time())
                self._send(stream)
                await trio.sleep(_TICK_S)
                for room in kept:
                    self._note(room)
        rooms.leave_all()
        self._send(stream)
        await stream.flush()

    def report(self, domain: str, report: Report) -> None:
        """Report each room in the words that the log, the page and the API have."""
        for room, _ in self._rooms.all():
            phase, why = self._told.get(room, (Phase.WAITING, NO_ANSWER))
            what = f"room {room.jid}"
            if phase is Phase.JOINED:
                report.good(domain, what, f"joined as {room.settings.nick}, and left again")
            else:
                report.bad(domain, what, why)

    def _note(self, room: Room) -> None:
        """Note how the first attempt to join has ended."""
        if (
            room not in self._told
            and room.phase is not Phase.JOINING
            and (room.why or room.occupant)
        ):
            self._told[room] = room.phase, room.why

    def _send(self, stream: ComponentStream) -> None:
        stanzas, self._rooms.outbound = self._rooms.outbound, []
        for one in stanzas:
            stream.send(one)


def report_rooms(status: ComponentStatus, report: Report) -> None:
    """Report the rooms of a running daemon's component."""
    for room in status.rooms:
        what = f"daemon: room {room.jid}"
        if room.state == "joined":
            report.good(status.domain, what, f"joined as {room.nick}; {room.occupants} occupants")
        elif room.state == "out":
            report.bad(status.domain, what, room.why)
        else:
            report.warn(status.domain, what, f"{room.state}: {room.why}".rstrip(": "))
