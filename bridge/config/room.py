"""Turns `[[component."DOMAIN".room]]` into settings; collects faults."""

from collections.abc import Callable, Sequence
from typing import Final

from bridge.config.settings import ComponentTable, Invitations, RoomSettings, RoomTable
from bridge.config.value import BadValue, Secret, check_text
from xmppstream import InvalidJid, split
from xmppstream.jid import domain_of, fold, same_domain

_EXAMPLE: Final = 'Use an address such as "room@conference.example.com"'


def check_room(address: str) -> str:
    """Return the address of a room, as servers write it.

    Raises:
        BadValue: if it is not a bare JID with a local part.
    """
    try:
        jid = split(address)
    except InvalidJid as error:
        raise BadValue(f"{address!r} is not a valid address: {error}", _EXAMPLE) from None
    if not jid.local:
        raise BadValue(f"{address!r} is not the address of a room: it has no local part", _EXAMPLE)
    if jid.resource:
        problem = f"{address!r} is not the address of a room: it has a resource"
        raise BadValue(problem, "Remove the slash and what follows; set nick instead")
    return fold(address)


def check_local(local: str, domain: str) -> str:
    """Return the local part that a room is joined as.

    Raises:
        BadValue: if it is not valid.
    """
    try:
        if split(f"{local}@{domain}").local == local and local:
            return fold(f"{local}@{domain}").partition("@")[0]
    except InvalidJid:
        pass
    raise BadValue(f"{local!r} is not a valid local part", 'Use a name such as "bot"')


def check_nick(nick: str) -> str:
    """Return a nick for rooms.

    Raises:
        BadValue: if it cannot be a resource.
    """
    try:
        check_text(nick)
        if split(f"a@b/{nick}").resource == nick and nick == nick.strip():
            return nick
    except (InvalidJid, BadValue) as error:
        why = str(error) if isinstance(error, InvalidJid) else error.problem
        problem = f"{nick!r} is not a valid nick: {why}"
        raise BadValue(problem, "Use visible characters, at most 1023 bytes") from None
    raise BadValue(f"{nick!r} is not a valid nick: it begins or ends with a space", "Remove it")


class RoomValidation:
    """Validates the rooms of components."""

    def __init__(
        self,
        secret_file: Callable[[str, str], Secret | None],
        fault: Callable[[str, str, str], None],
        warn: Callable[[str], None],
    ) -> None:
        """`secret_file` reads the file that a key names; `fault` takes key, problem and remedy."""
        self._secret_file = secret_file
        self._fault = fault
        self._warn = warn

    def rooms(
        self,
        table: ComponentTable,
        domain: str,
        key: str,
        faulty: set[str],
        local_parts: frozenset[str] | None = None,
    ) -> tuple[RoomSettings, ...]:
        """Return the rooms of a component; `faulty` holds the keys with faults found before, and
        `local_parts` the local parts that exist, None if all do.
        """
        found: dict[tuple[str, str], RoomSettings] = {}
        for index, one in enumerate(table.room):
            place = f"{key}.room[{index}]"
            room = self._room(one, domain, place, faulty, _locals(table))
            if room is None:
                continue
            if local_parts is not None and room.local not in local_parts:
                problem = f"{room.local!r} is not among local_parts"
                self._fault(f"{place}.as", problem, "Add it there, or join as one of them")
            if (room.jid, room.local) in found:
                problem = f"{room.local} is in {room.jid} already"
                self._fault(f"{place}.jid", problem, "Keep one of the two")
            found[room.jid, room.local] = room
        if len(table.room) > table.max_rooms:
            problem = f"there are {len(table.room)} rooms"
            self._fault(f"{key}.max_rooms", problem, "Raise max_rooms, or remove some")
        self._check_allowed(table, [one.jid for one in found.values()], key)
        return tuple(found.values())

    def invitations(self, table: ComponentTable, key: str) -> Invitations | None:
        """Return what is done with invitations; None if only the events decide."""
        given = table.component_invitations
        if given == "accept" and not table.allow_from:
            problem = "anybody could take the bot into any room"
            remedy = "Set allow_from to the addresses and domains whose invitations are accepted"
            self._fault(f"{key}.component_invitations", problem, remedy)
        return given

    def _room(
        self, table: RoomTable, domain: str, key: str, faulty: set[str], locals: Sequence[str]
    ) -> RoomSettings | None:
        jid = self._value(f"{key}.jid", table.jid, check_room, "the address of the room", faulty)
        if jid is not None and same_domain(domain_of(jid), domain):
            problem = f"{domain} is the component itself, which has no rooms"
            self._fault(f"{key}.jid", problem, _EXAMPLE)
        given = table.as_
        if given is None and len(locals) == 1:
            given = locals[0]
        noun = "the local part to join as"
        local = self._value(
            f"{key}.as", given, lambda text: check_local(text, domain), noun, faulty
        )
        nick = table.nick if table.nick is not None else given
        nick = self._value(f"{key}.nick", nick, check_nick, "the nick", faulty)
        password = None if table.password is None else Secret(table.password)
        if table.password_file is not None:
            if password is not None:
                problem = "password and password_file are both set"
                self._fault(f"{key}.password", problem, "Keep one of the two")
            password = self._secret_file(f"{key}.password_file", table.password_file)
        if password is not None:
            self._value(f"{key}.password", password.value, _checked_text, "", faulty)
        if jid is None or local is None or nick is None:
            return None
        return RoomSettings(jid, local, nick, password, table.create)

    def _value(
        self,
        key: str,
        given: str | None,
        check: Callable[[str], str],
        noun: str,
        faulty: set[str],
    ) -> str | None:
        if given is None:
            if key not in faulty:
                self._fault(key, f"{noun} is missing", f"Set {key.rpartition('.')[2]}")
            return None
        try:
            return check(given)
        except BadValue as error:
            self._fault(key, error.problem, error.remedy)
            return None

    def _check_allowed(self, table: ComponentTable, rooms: Sequence[str], key: str) -> None:
        """Warn of rooms whose messages `allow_from` refuses."""
        if not table.allow_from:
            return
        allowed = {fold(one).lower() for one in table.allow_from}
        for jid in rooms:
            if not {jid, domain_of(jid)} & allowed:
                self._warn(
                    f"{key}.allow_from does not name {jid} or {domain_of(jid)}, so nothing that is"
                    " said in that room is POSTed: add one of them"
                )


def _locals(table: ComponentTable) -> list[str]:
    """Return the local parts that a component is known to have."""
    if table.local_parts is not None:
        return table.local_parts
    return sorted({one.as_ for one in table.room if one.as_ is not None})


def _checked_text(text: str) -> str:
    check_text(text)
    return text
