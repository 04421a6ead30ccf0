"""All rooms of one component: those that it keeps, and those that its service joined by itself.

A room is kept if the configuration names it, or a client of the HTTP API or an accepted invitation
has added it; the latter two are in the component's small state. Kept rooms are joined at each
attach, one a second per server. The others are only tracked, so that the bridge does not hear
itself there.

Nothing here waits or sends. Stanzas to send are collected in `outbound`, and what is to be POSTed
later than it came, or was never received, in `inbound`; `wake` is called if there is something to
do. `RoomRunner` in `runner` does it.
"""

import math
import random
from collections.abc import Callable, Iterable
from secrets import token_hex
from typing import Final, Literal

import trio
from attrs import evolve, frozen
from structlog.typing import FilteringBoundLogger

from bridge.config.event import EventName
from bridge.config.settings import RoomSettings
from bridge.xmpp.muc import Change, MucOccupancy
from bridge.xmpp.room.history import Histories, Key, is_delayed, is_subject
from bridge.xmpp.room.kept import Added, KeptRooms
from bridge.xmpp.room.outcome import NO_ADDRESS, Ending
from bridge.xmpp.room.outgoing import as_it_leaves
from bridge.xmpp.room.reflection import Reflections
from bridge.xmpp.room.request import leave
from bridge.xmpp.room.room import KNOWN, RESOURCE, Phase, Room
from bridge.xmpp.room.tracked import TrackedRooms
from bridge.xmpp.state import MemoryState, StateStore
from xmppstream import Stanza
from xmppstream.jid import bare, domain_of, fold
from xmppstream.names import COMPONENT, expanded

SPACING_S: Final = (0.8, 1.2)
"""The least and the greatest time between two joins on one server."""
_SUBJECT: Final = expanded(COMPONENT, "subject")

Verdict = Literal["live", "own", "history", "unclear", "state", "joined", "left"]
"""What a stanza is with regard to rooms: to be handled as any other; our own message; history; one
whose place is not clear yet; only a change of what is known; the begin or end of our presence.
"""
Origin = Literal["configuration"] | Added


@frozen
class Inbound:
    """A stanza to be POSTed later than it came, or one that the bridge has made itself."""

    stanza: Stanza
    event: EventName
    weight_bytes: int = 0
    is_counted: bool = True
    """Whether it was counted as received when it came."""


class TooManyRooms(Exception):
    """The component has `max_rooms` rooms already."""


class Rooms:
    """The rooms of one component."""

    def __init__(
        self,
        domain: str,
        occupancy: MucOccupancy,
        log: FilteringBoundLogger,
        *,
        now: Callable[[], float] = trio.current_time,
        token: Callable[[], str] = lambda: token_hex(8),
        spacing_s: Callable[[], float] = lambda: random.uniform(*SPACING_S),
    ) -> None:
        self.domain = domain
        self.occupancy = occupancy
        self.outbound: list[Stanza] = []
        self.inbound: list[Inbound] = []
        self.wake: Callable[[], None] = lambda: None
        self._log = log
        self._now = now
        self._token = token
        self._spacing_s = spacing_s
        self._is_attached = False
        self._is_loaded = False
        self._kept = KeptRooms(MemoryState())
        self._rooms: dict[Key, Room] = {}
        self._origins: dict[Key, Origin] = {}
        self._histories: Histories[Inbound] = Histories()
        self._reflections = Reflections()
        self._free_at: dict[str, float] = {}  # by server: when the next join is allowed
        self._tracked = TrackedRooms(log)
        self._left: set[Key] = set()  # kept before, and left; the room has not said so yet
        self._fresh: Key | None = None  # an occupant that the present stanza has told us of
        self._max_rooms = 100
        self._exists: Callable[[str], bool] = lambda address: True

    # --- which rooms there are

    def load(self, state: StateStore) -> None:
        """Take over the rooms and occupants of an earlier process. Call it before `attached`. From
        here on a clock is needed.
        """
        self._kept, self._is_loaded = KeptRooms(state), True
        for room in self._rooms.values():
            room.detached(self._now())
        self.occupancy.load(state)
        for settings, origin in self._kept.all(self._log):
            if self._key_of(settings) in self._rooms:  # the configuration names it by now
                self._kept.forget(settings.jid, settings.local)
            else:
                self._add(settings, origin)

    async def kept(self) -> None:
        """Wait until all changes up to now are kept; see `StateStore.when_kept`."""
        await self._kept.committed()

    def configure(
        self,
        rooms: Iterable[RoomSettings],
        max_rooms: int,
        exists: Callable[[str], bool] = lambda address: True,
    ) -> None:
        """Keep the rooms of a configuration, and leave those that it does not name any more. Stay
        out of those whose own bare address does not exist, as long as it does not.
        """
        self._max_rooms, self._exists = max_rooms, exists
        wanted = {self._key_of(one): one for one in rooms}
        for key, origin in list(self._origins.items()):
            if origin == "configuration" and key not in wanted:
                self._remove(key)
        for key, one in wanted.items():
            room = self._rooms.get(key)
            if room is not None and self._origins[key] != "configuration":
                self._kept.forget(one.jid, one.local)
            if room is None or room.settings != one:
                self._replace(one, "configuration")
            self._origins[key] = "configuration"
        for room in self._rooms.values():
            self._check_address(room)
        self.wake()

    def put(self, settings: RoomSettings, origin: Added = "api") -> Room:
        """Keep a room, or change its settings; one that stays out is joined again.

        Raises:
            TooManyRooms: if it is a new one, and there are too many.
        """
        key = self._key_of(settings)
        room = self._rooms.get(key)
        if room is None and len(self._rooms) >= self._max_rooms:
            raise TooManyRooms(f"there are {self._max_rooms} rooms already (max_rooms)")
        if room is None or room.settings != settings:
            room = self._replace(settings, origin)
        else:
            room.retry(self._now())
        if self._origins[key] != "configuration":
            self._origins[key] = origin
            self._kept.keep(room.settings, origin)
        self.wake()
        return room

    def delete(self, jid: str, local: str) -> bool:
        """Leave a room for good; return whether it was kept."""
        key = (fold(jid), self._address(local))
        if key not in self._rooms:
            return False
        self._kept.forget(key[0], local)
        self._remove(key)
        self.wake()
        return True

    def all(self) -> list[tuple[Room, Origin]]:
        """Return the kept rooms, with where they come from."""
        return [(room, self._origins[key]) for key, room in self._rooms.items()]

    def get(self, jid: str, local: str) -> tuple[Room, Origin] | None:
        """Return a kept room."""
        key = (fold(jid), self._address(local))
        return (self._rooms[key], self._origins[key]) if key in self._rooms else None

    def tracked(self) -> list[Key]:
        """Return the rooms, with our address, that the service joined by itself."""
        there = self.occupancy.all()
        self._left.intersection_update(there)
        known = self._rooms.keys() | self._left
        return [key for key in there if key not in known]

    def _replace(self, settings: RoomSettings, origin: Origin) -> Room:
        key = self._key_of(settings)
        old = self._rooms.get(key)
        if old is not None and old.phase is Phase.JOINED and old.settings.nick == settings.nick:
            old.settings = evolve(
                settings, jid=key[0]
            )  # a password or `create` matters at the next join
            return old
        if old is not None:
            self._remove(key)
        return self._add(settings, origin)

    def _add(self, settings: RoomSettings, origin: Origin) -> Room:
        key = self._key_of(settings)
        settings = evolve(settings, jid=key[0])
        room = Room(settings, self.domain, self, self._log, token=self._token)
        self._rooms[key], self._origins[key] = room, origin
        self._left.discard(key)
        if self._is_attached:
            room.attached(self._now())
        elif self._is_loaded:
            room.detached(self._now())
        self._check_address(room)
        return room

    def _check_address(self, room: Room) -> None:
        """Stay out of a room under an address that a reload has removed, until another one has it
        again.
        """
        is_excluded = room.why == NO_ADDRESS
        if self._exists(bare(room.address)) is not is_excluded:
            return
        now = self._now()
        if not is_excluded:
            hint = "list the local part again, or delete the room"
            self._log.warning("room left for good", room=room.jid, why=NO_ADDRESS, hint=hint)
            room.leave(now, NO_ADDRESS)
            return
        room.retry(now)
        if not self._is_attached:
            room.detached(now)

    def _remove(self, key: Key) -> None:
        room = self._rooms.pop(key)
        del self._origins[key]
        self._histories.end(key)
        if self._is_attached:
            room.leave(self._now())
        if self.occupancy.occupant(*key) is not None:
            self._left.add(key)

    def _key_of(self, settings: RoomSettings) -> Key:
        return fold(settings.jid), self._address(settings.local)

    def _address(self, local: str) -> str:
        return f"{local}@{self.domain}/{RESOURCE}"

    # --- the stream and the clock

    def attached(self) -> None:
        """Join all rooms again: a stream has begun."""
        now, self._is_attached = self._now(), True
        self._free_at.clear()
        for room in self._rooms.values():
            room.attached(now)
        for key in self._left:  # deleted while there was no stream
            occupant = self.occupancy.occupant(*key)
            if occupant is not None:
                self.send(leave(occupant, key[1]))
        self._tracked.begin_stream(self.tracked())
        self.wake()

    def detached(self) -> None:
        """Wait for the next stream."""
        now, self._is_attached = self._now(), False
        for room in self._rooms.values():
            room.detached(now)
        self.outbound.clear()
        self.wake()

    def leave_all(self) -> None:
        """Leave all kept rooms, because the component stops; the next start joins them again."""
        now = self._now()
        for room in self._rooms.values():
            room.leave(now)

    def advance(self, now: float) -> None:
        """Take all steps that are due."""
        waiting = []
        for room in self._rooms.values():
            if room.phase is Phase.WAITING:
                waiting.append(room)
            elif room.phase is not Phase.OUT:
                room.advance(now)
        if self._is_attached:
            for room in sorted(waiting, key=lambda one: one.due):
                server = domain_of(room.jid)
                if room.due <= now and self._free_at.get(server, -math.inf) <= now:
                    self._free_at[server] = now + self._spacing_s()
                    room.join(now)
        self.inbound += self._histories.due(now)

    @property
    def next_due(self) -> float:
        """When the next step is due."""
        due = self._histories.next_due
        for room in self._rooms.values():
            at = room.due
            if room.phase is Phase.WAITING:
                at = max(at, self._free_at.get(domain_of(room.jid), at))
            due = min(due, at)
        return due

    # --- incoming stanzas

    def receive(self, stanza: Stanza) -> Verdict:
        """Learn from a message or presence that has both addresses, and judge it."""
        now, key = self._now(), (bare(stanza.from_ or ""), stanza.to or "")
        room = self._rooms.get(key)
        if stanza.kind == "presence":
            return self._receive_presence(stanza, key, room, now)
        if stanza.type == "error":
            if room is not None:
                room.errored(now)
                self.wake()
            return "live"
        if room is not None:
            room.heard(now)
        if stanza.type != "groupchat":
            return "live"
        return self._receive_groupchat(stanza, key, room, now)

    def keeps(self, stanza: Stanza) -> bool:
        """Return whether a stanza comes from a room that is kept."""
        return (bare(stanza.from_ or ""), stanza.to or "") in self._rooms

    def take_dropped(self) -> int:
        """Return how many held messages have turned out to be history since the last call."""
        count, self._histories.dropped = self._histories.dropped, 0
        return count

    def hold(self, stanza: Stanza, event: EventName, weight_bytes: int) -> None:
        """Hold a message that `receive` found to be unclear."""
        key = (bare(stanza.from_ or ""), stanza.to or "")
        self._histories.hold(key, Inbound(stanza, event, weight_bytes))
        self.wake()

    def take(self, stanza: Stanza) -> bool:
        """Return whether an iq result or error is the answer to a question of ours."""
        room = self._rooms.get((bare(stanza.from_ or ""), stanza.to or ""))
        if room is None or not room.take(stanza, self._now()):
            return False
        self.wake()
        return True

    def is_reflected(self, request: Stanza) -> bool:
        """Return whether an iq comes from our own occupant: a self-ping that the room passes on."""
        sender, to = request.from_ or "", request.to or ""
        return bool(sender) and self.occupancy.occupant(sender, to) == sender

    def sender_of(self, stanza: Stanza) -> str:
        """Return the sender that a stanza counts for: an occupant in a room, else a bare JID."""
        sender = stanza.from_ or ""
        room_jid, slash, _ = sender.partition("/")  # for each stanza, so without a call of `bare`
        if not slash or not self.occupancy.is_anywhere:
            return room_jid
        if not self.occupancy.has_occupant(sender):
            return room_jid
        room = self._rooms.get((room_jid, stanza.to or ""))
        id = None if room is None else room.sender_of(stanza)
        # No nick has a line end, so an id is never taken for one.
        return sender if id is None else f"{room_jid}/\n{id}"

    def lacks(self, stanza: Stanza) -> frozenset[str]:
        """Return the features of `KNOWN` that the room of a stanza is known not to have."""
        room = self._rooms.get((bare(stanza.from_ or ""), stanza.to or "")) if self._rooms else None
        if room is None or room.features is None:
            return frozenset()
        return KNOWN - room.features

    def _receive_presence(self, stanza: Stanza, key: Key, room: Room | None, now: float) -> Verdict:
        change = self.occupancy.observe(stanza)
        if room is None:
            return self._track(stanza, key, change, now)
        before = room.phase
        self._fresh = key if change == "joined" else None
        judged = room.presence(stanza, now)
        self._fresh = None
        if room.phase is not before or self.outbound:
            self.wake()
        if room.phase is Phase.JOINED and before is not Phase.JOINED:
            self._histories.begin(key, now, asked=True)
            return "state" if change is None else change
        if change == "left":
            self._histories.end(key)
            return "left"
        return "live" if judged == "event" else "state"

    def _track(self, stanza: Stanza, key: Key, change: Change | None, now: float) -> Verdict:
        """Handle a presence of a room that is not kept."""
        if change == "left":
            self._histories.end(key)
            self._tracked.left(key)
            self._left.discard(key)
            return "left"
        if self.occupancy.occupant(*key) != stanza.from_ or stanza.type is not None:
            return "live"
        if self._tracked.entered(key, change):
            self._histories.begin(key, now, asked=False)
            self.wake()
        return "live" if change is None else "joined"

    def _receive_groupchat(
        self, stanza: Stanza, key: Key, room: Room | None, now: float
    ) -> Verdict:
        self.occupancy.observe(stanza)
        place = self._histories.place(key, stanza, now)
        if room is not None and is_subject(stanza) and place != "history":
            subject = stanza.element.find(_SUBJECT)
            room.note_subject(stanza, "" if subject is None else subject.text)
        if self.occupancy.is_own(stanza):
            self._reflections.note(stanza)
            return "own"
        if place == "subject":
            # A service that has joined by itself may wait for it; Prosody's has a delay.
            return "live" if room is None and not is_delayed(stanza) else "state"
        is_inside = self.occupancy.occupant(*key) is not None
        if room is not None and room.phase is Phase.JOINING and not is_inside:
            return "history"  # an old server sends it before our own presence
        return place

    # --- outgoing stanzas

    def outgoing(self, stanza: Stanza) -> Stanza:
        """Return a stanza as it must leave if it is for a room: from the address that joined, with
        the room's ids, and marked as private (XEP-0045 §7.5) if it is for an occupant.
        """
        if not self.occupancy.is_anywhere:
            return stanza
        return as_it_leaves(stanza, self.occupancy, self._reflections)

    def observe_sent(self, stanza: Stanza) -> None:
        """Learn from an outgoing stanza."""
        self.occupancy.observe_sent(stanza)
        self._tracked.observe_sent(stanza)

    # --- for `Room`

    def send(self, stanza: Stanza) -> None:
        """Send a stanza, once, on the present stream."""
        self.outbound.append(stanza)

    def lost(self, room: Room, presence: Stanza, ending: Ending) -> None:
        """Note that we are out of a room, by a presence that does not say so itself."""
        key = (room.jid, room.address)
        self._histories.end(key)
        if self.occupancy.forget(*key) and self._fresh != key:
            self.inbound.append(Inbound(presence, "room_left", is_counted=False))

    def settled(self, room: Room) -> None:
        """Note that a room has sent everything that a join brings."""
        self.inbound += self._histories.answered((room.jid, room.address))
