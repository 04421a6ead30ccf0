"""`check` and the rooms of the configuration: joined for a moment, or as a daemon has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
from attrs import evolve

from bridge.cli.check.command import check_settings
from bridge.cli.check.report import Report
from bridge.cli.check.room import report_rooms
from bridge.config.settings import RoomSettings, Settings
from bridge.daemon.daemon import ExitCode
from bridge.daemon.status import ComponentStatus, EndpointStatus, LinkStatus, RoomState, RoomStatus
from bridge.telemetry.meter import Counts
from tests.bridge.cli.check.test_command import DOMAIN, endpoint, rows, settings_of
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import Session, XmppServer
from xmppstream import Stanza

if TYPE_CHECKING:
    from trio.testing import MockClock

MUC: Final = "http://jabber.org/protocol/muc#user"
ANSWERS: Final = {
    "good": f"<x xmlns='{MUC}'><status code='110'/></x>",
    "new": f"<x xmlns='{MUC}'><status code='110'/><status code='201'/></x>",
    "locked": "<error type='auth'><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    "</error>",
    "taken": "<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
}
"""What each room answers to a join; `mute` nothing."""
TOLD: Final = {
    "good": ("ok", "joined as Echo, and left again"),
    "new": ("failed", "the room does not exist, and create = false"),
    "locked": ("failed", "the password is wrong or missing"),
    "taken": ("failed", "the nick is taken"),
    "mute": ("failed", "no answer came in time: the address may not be a room"),
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


async def answer(session: Session, got: Stanza) -> None:
    """Answer a join as the room in the address does."""
    room = (got.to or "").partition("@")[0]
    if got.kind == "presence" and got.type is None and room in ANSWERS:
        inner = ANSWERS[room]
        type = " type='error'" if "<error" in inner else ""
        xml = f"<presence from='{got.to}' to='{got.from_}'{type}>{inner}</presence>"
        await session.send(stanza(xml))


def with_rooms(settings: Settings, *names: str) -> Settings:
    [component] = settings.components
    rooms = tuple(RoomSettings(f"{name}@muc.localhost", "echo", "Echo") for name in names)
    return evolve(settings, components=(evolve(component, rooms=rooms),))


async def test_each_room_is_joined_and_left_again(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.on_stanza = answer
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    names = [*ANSWERS]
    assert await check_settings(with_rooms(settings, *names), attach=True) is ExitCode.OTHER
    out = capsys.readouterr().out
    for name in names:
        assert rows(out, f"room {name}@muc.localhost") == [TOLD[name]]
    session = await xmpp.attached(DOMAIN)
    await session.gone.wait()
    after = [(one.to, one.type) for one in session.stanzas if one.type in ("unavailable", "set")]
    assert sorted(map(str, after)) == [
        "('good@muc.localhost/Echo', 'unavailable')",
        "('new@muc.localhost', 'set')",  # it is destroyed: it would be ours for ever
    ]
    assert out.rstrip().endswith("3 problems.")


async def test_a_room_that_says_nothing_is_not_waited_for_for_long(
    autojump_clock: MockClock, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    autojump_clock.autojump_threshold = 0.05  # loopback needs time
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(with_rooms(settings, "mute"), attach=True) is ExitCode.OTHER
    assert rows(capsys.readouterr().out, "room mute@muc.localhost") == [TOLD["mute"]]


async def test_a_daemon_says_how_its_rooms_are(capsys: pytest.CaptureFixture[str]) -> None:
    def room(name: str, state: RoomState, why: str) -> RoomStatus:
        return RoomStatus(
            jid=name,
            local="echo",
            nick="Echo",
            state=state,
            why=why,
            since=None,
            next_attempt=None,
            occupants=3,
        )

    status = ComponentStatus(
        domain=DOMAIN,
        link=LinkStatus(state="attached", server="s", since=None, why="", next_attempt=None),
        endpoint=EndpointStatus(state="up", url="u", next_probe=None),
        in_flight=0,
        waiting=0,
        counts=Counts(),
        rooms=(
            room("a@muc", "joined", ""),
            room("b@muc", "waiting", "the nick is taken"),
            room("c@muc", "out", "we are banned from the room"),
        ),
    )
    report = Report()
    report_rooms(status, report)
    assert report.code is ExitCode.OTHER
    assert report.verdict() == "1 problem, 1 warning."
