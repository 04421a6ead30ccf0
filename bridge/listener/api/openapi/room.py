"""The operations for the rooms that the bridge keeps joined."""

from typing import Final

import msgspec

from bridge.listener.api.openapi.operation import (
    FROM,
    ID,
    OF_BODY,
    content,
    operation,
    parameter,
    ref,
)
from bridge.listener.api.openapi.schema import JID, MAYBE, TEXTS, Table, object_schema
from bridge.listener.api.stanza import JSON
from bridge.xmpp.room.occupant import Occupant
from bridge.xmpp.room.room import Phase

_OCCUPANT: Final = tuple(one.name for one in msgspec.structs.fields(Occupant))
_ROOM: Final[Table] = {
    **dict.fromkeys(("jid", "component", "as_", "nick", "reason"), TEXTS),
    "since": {"type": "string", "format": "date-time"},
    "next_attempt": {"type": "string", "format": "date-time"},
    "state": {"enum": [phase.value for phase in Phase]},
    "origin": {"enum": ["configuration", "api", "invitation", "service"]},
    "create": {"type": "boolean"},
    "occupant_count": {"type": "integer", "minimum": 0},
}
SCHEMAS: Final[Table] = {
    "Room": object_schema(["jid", "component", "as", "nick", "state", "origin"], **_ROOM),
    "RoomDetail": object_schema(
        ["jid", "component", "as", "nick", "state", "origin", "occupants"],
        **_ROOM,
        subject=TEXTS,
        subject_by=TEXTS,
        occupants={
            "type": "array",
            "items": object_schema(["nick"], **dict.fromkeys(_OCCUPANT, TEXTS)),
        },
    ),
    "RoomSettings": object_schema(
        [], as_=MAYBE, nick=MAYBE, password=MAYBE, create={"type": ["boolean", "null"]}
    ),
}


def paths() -> Table:
    """Return the paths with their operations."""
    jid = parameter("path", "jid", JID)
    one = {JSON: ref("Room")}
    whole = {JSON: ref("RoomDetail")}
    found = {JSON: object_schema(["rooms"], rooms={"type": "array", "items": ref("Room")})}
    there = content("The room", one)
    return {
        "/v1/rooms": {
            "get": operation(
                "listRooms",
                "rooms",
                "List the rooms",
                [FROM],
                {},
                {"200": content("The rooms", found)},
                (),
            )
        },
        "/v1/rooms/{jid}": {
            "get": operation(
                "getRoom",
                "rooms",
                "Show a room with its occupants",
                [jid, FROM],
                {},
                {"200": content("The room", whole)},
                (409,),
            ),
            "put": operation(
                "putRoom",
                "rooms",
                "Join a room and stay in it, or change how",
                [jid, FROM],
                {JSON: ref("RoomSettings")},
                {"200": there, "201": there},
                (*OF_BODY, 409),
            ),
            "delete": operation(
                "deleteRoom",
                "rooms",
                "Leave a room for good",
                [jid, FROM],
                {},
                {"204": {"description": "It is left", "headers": ID}},
                (409,),
            ),
        },
    }
