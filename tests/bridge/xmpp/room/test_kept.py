"""Rooms in the small state of a component."""

from bridge.config.settings import RoomSettings
from bridge.config.value import Secret
from bridge.xmpp.room.kept import KeptRooms
from bridge.xmpp.state import MemoryState
from tests.bridge.recorder import Recorder

PLAIN = RoomSettings("a@muc.example", "bot", "robot")
SECRET = RoomSettings("b@muc.example", "bot", "robot ü", Secret("s3cret"), True)


def test_what_is_kept_is_read_again() -> None:
    state, log = MemoryState(), Recorder()
    rooms = KeptRooms(state)
    rooms.keep(PLAIN, "api")
    rooms.keep(SECRET, "invitation")
    assert KeptRooms(state).all(log.logger()) == [(PLAIN, "api"), (SECRET, "invitation")]
    rooms.forget(PLAIN.jid, PLAIN.local)
    rooms.forget("other@muc.example", "bot")
    assert KeptRooms(state).all(log.logger()) == [(SECRET, "invitation")]


def test_what_cannot_be_read_is_told_and_costs_no_other_room() -> None:
    state, log = MemoryState(), Recorder()
    KeptRooms(state).keep(PLAIN, "api")
    state.put("room", "x@muc.example bot", b'{"nick": 5}')
    assert KeptRooms(state).all(log.logger()) == [(PLAIN, "api")]
    [line] = log.of("a kept room cannot be read")
    assert line["room"] == "x@muc.example"
