"""The rooms that were added while the bridge runs, in the component's small state."""

from typing import Final, Literal

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.config.settings import RoomSettings
from bridge.config.value import Secret
from bridge.xmpp.state import StateStore, kept

_KIND: Final = "room"

Added = Literal["api", "invitation"]
"""Who has added a room: a client of the HTTP API, or somebody whose invitation was accepted."""


class _Entry(msgspec.Struct, omit_defaults=True):
    """The value of an entry; its key is the address of the room and our local part."""

    nick: str
    password: str | None = None
    create: bool = False
    origin: Added = "api"


class KeptRooms:
    """The entries of one component."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def all(self, log: FilteringBoundLogger) -> list[tuple[RoomSettings, Added]]:
        """Return the rooms. One that cannot be read, of another version say, is logged."""
        found: list[tuple[RoomSettings, Added]] = []
        for key, value in self._state.entries(_KIND).items():
            jid, _, local = key.partition(" ")
            try:
                one = msgspec.json.decode(value, type=_Entry)
            except msgspec.DecodeError as error:
                log.error("a kept room cannot be read", room=jid, why=str(error))
                continue
            password = None if one.password is None else Secret(one.password)
            found.append((RoomSettings(jid, local, one.nick, password, one.create), one.origin))
        return found

    def keep(self, room: RoomSettings, origin: Added) -> None:
        """Keep a room, in place of what was kept of it."""
        password = None if room.password is None else room.password.value
        entry = _Entry(room.nick, password, room.create, origin)
        self._state.put(_KIND, _key(room.jid, room.local), msgspec.json.encode(entry))

    def forget(self, jid: str, local: str) -> None:
        """Forget a room, if it is kept."""
        self._state.delete(_KIND, _key(jid, local))

    async def committed(self) -> None:
        """Wait until all changes up to now are kept."""
        await kept(self._state)


def _key(jid: str, local: str) -> str:
    return f"{jid} {local}"
