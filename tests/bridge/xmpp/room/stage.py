"""The rooms of a component on a clock that a test moves, and what a room says."""

from itertools import count
from typing import Any, Final

from bridge.config.settings import RoomSettings
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.room.room import Room
from bridge.xmpp.room.rooms import Rooms, Verdict
from bridge.xmpp.state import MemoryState, StateStore
from tests.bridge.recorder import Recorder
from tests.bridge.sample import stanza
from xmppstream import Stanza

DOMAIN: Final = "bot.example"
ROOM: Final = "hall@muc.example"
ME: Final = f"bot@{DOMAIN}/default"
HALL: Final = RoomSettings(ROOM, "bot", "robot")
MUC_USER: Final = "http://jabber.org/protocol/muc#user"
SUBJECT: Final = "<subject>Welcome</subject>"
DELAY: Final = (
    "<delay xmlns='urn:xmpp:delay' from='hall@muc.example' stamp='2024-05-06T07:08:09Z'/>"
)


class Stage:
    """Rooms without a server. The clock stands still until a test moves it."""

    def __init__(
        self, *rooms: RoomSettings, state: StateStore | None = None, max_rooms: int = 100
    ) -> None:
        self.now = 1000.0
        self.log = Recorder()
        self.state = MemoryState() if state is None else state
        self.occupancy = MucOccupancy()
        ids = count(1)
        self.rooms = Rooms(
            DOMAIN,
            self.occupancy,
            self.log.logger(),
            now=lambda: self.now,
            token=lambda: f"t{next(ids)}",
            spacing_s=lambda: 1.0,
        )
        self.rooms.configure(rooms, max_rooms)
        self.rooms.load(self.state)

    @property
    def room(self) -> Room:
        """The only room, or the first."""
        return self.rooms.all()[0][0]

    def sent(self) -> list[Stanza]:
        """Take what has been sent since the last call."""
        taken, self.rooms.outbound = self.rooms.outbound, []
        return taken

    def posted(self) -> list[tuple[str, Stanza]]:
        """Take the events, with their stanzas, that were made or released since the last call."""
        taken: list[tuple[str, Stanza]] = [(one.event, one.stanza) for one in self.rooms.inbound]
        self.rooms.inbound.clear()
        return taken

    def attach(self) -> list[Stanza]:
        """Begin a stream; give what is sent at once."""
        self.rooms.attached()
        return self.pass_s(0)

    def pass_s(self, seconds: float) -> list[Stanza]:
        """Let time pass, and take each step when it is due; give what was sent."""
        end = self.now + seconds
        sent: list[Stanza] = []
        while True:
            self.rooms.advance(self.now)
            sent += self.sent()
            due = self.rooms.next_due
            if due > end:
                self.now = end
                return sent
            assert due > self.now, "a step that is due is taken once"
            self.now = due

    def give(self, text: str) -> Verdict:
        """Have a message or presence come in."""
        return self.rooms.receive(stanza(text))

    def enter(self, *codes: int, subject: bool = True, **given: Any) -> list[Stanza]:
        """Attach, join, and have the room answer; give what was sent for it."""
        self.attach()
        self.give(presence("juliet", **given))
        self.give(presence("robot", 110, *codes, **given))
        if subject:
            self.give(message("juliet", SUBJECT))
        return self.sent()


def presence(
    nick: str,
    *codes: int,
    type: str = "",
    to: str = ME,
    room: str = ROOM,
    item: str = "affiliation='member' role='participant'",
    inner: str = "",
    more: str = "",
) -> str:
    """A room's presence; `inner` is inside its `<x/>`, `more` behind it."""
    kind = f" type='{type}'" if type else ""
    statuses = "".join(f"<status code='{code}'/>" for code in codes)
    return (
        f"<presence from='{room}/{nick}' to='{to}'{kind}><x xmlns='{MUC_USER}'>"
        f"<item {item}/>{inner}{statuses}</x>{more}</presence>"
    )


def refusal(condition: str, type: str = "cancel", text: str = "", room: str = ROOM) -> str:
    """The error of a presence."""
    space = "urn:ietf:params:xml:ns:xmpp-stanzas"
    said = f"<text xmlns='{space}'>{text}</text>" if text else ""
    return (
        f"<presence from='{room}/robot' to='{ME}' type='error'><error type='{type}'>"
        f"<{condition} xmlns='{space}'/>{said}</error></presence>"
    )


def message(
    nick: str = "juliet",
    inner: str = "<body>hi</body>",
    *,
    type: str = "groupchat",
    to: str = ME,
    id: str = "m1",
    room: str = ROOM,
) -> str:
    sender = f"{room}/{nick}" if nick else room
    return f"<message from='{sender}' to='{to}' type='{type}' id='{id}'>{inner}</message>"
