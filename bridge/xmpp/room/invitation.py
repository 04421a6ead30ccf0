"""Invitations to rooms that the bridge accepts by itself: XEP-0249, and XEP-0045 §7.8.

Who may invite is decided before: a stanza from outside `allow_from` comes no further. Of a mediated
invitation the sender is the room, since the inviter that it names is only the room's claim.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.config.room import check_local, check_nick, check_room
from bridge.config.settings import RoomSettings
from bridge.config.value import BadValue, Secret
from bridge.payload import namespace as ns
from bridge.payload.extension.room import read_invite
from bridge.xmpp.room.rooms import Rooms, TooManyRooms
from xmppstream import Stanza
from xmppstream.jid import bare, domain_of
from xmppstream.names import MUC_USER, expanded

INTERVAL_S: Final = 60.0
_LIMIT: Final = 10_000
_NAMES: Final = (expanded(MUC_USER, "x"), expanded(ns.CONFERENCE, "x"))


class Invitations:
    """Accepts invitations for one component: of an inviter, at most one in `INTERVAL_S`."""

    def __init__(
        self,
        rooms: Rooms,
        log: FilteringBoundLogger,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._rooms = rooms
        self._log = log
        self._now = now
        self._accepted: OrderedDict[str, float] = OrderedDict()

    def accept(self, message: Stanza) -> None:
        """Join the room that an invitation names, unless it is too early or there are too many."""
        room, inviter = self._room_of(message)
        if room is None or self._rooms.get(room.jid, room.local) is not None:
            return
        now = self._now()
        if now - self._accepted.get(inviter, -INTERVAL_S) < INTERVAL_S:
            self._log.info("invitation not accepted", room=room.jid, why="too many of one inviter")
            return
        try:
            self._rooms.put(room, "invitation")
        except TooManyRooms as error:
            self._log.warning("invitation not accepted", room=room.jid, why=str(error))
            return
        self._accepted[inviter] = now
        self._accepted.move_to_end(inviter)
        if len(self._accepted) > _LIMIT:
            self._accepted.popitem(last=False)
        self._log.info("invitation accepted", room=room.jid, inviter=inviter)

    def _room_of(self, message: Stanza) -> tuple[RoomSettings | None, str]:
        """Return the room of an invitation, and who has sent it."""
        elements = [one for one in message.element.elements if one.name in _NAMES]
        found = read_invite(elements, message) if elements else None
        sender = bare(message.from_ or "")
        if found is None or message.type in ("groupchat", "error", "headline"):
            return None, sender
        local, at, domain = bare(message.to or "").rpartition("@")
        try:
            jid, local = (
                check_room(bare(found.jid or "")),
                check_local(local, domain if at else "x"),
            )
            nick = check_nick(local)
        except BadValue as error:
            self._log.info("invitation not accepted", why=error.problem)
            return None, sender
        password = Secret(found.password) if found.password else None
        inviter = sender if found.direct else domain_of(jid)
        return RoomSettings(jid, local, nick, password), inviter
