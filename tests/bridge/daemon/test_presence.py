"""Contacts of a whole daemon: told at the start and at the end, and not when a stream is lost."""

from typing import Any, Final

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.settings import Component, JournalSettings, RoomSettings
from tests.bridge.daemon.test_daemon import BOT, DOMAIN, OTHER, hang
from tests.bridge.daemon.test_supervisor import Stage, log, stage
from tests.bridge.http_server import response, saying
from tests.bridge.leak import nothing_left, until
from tests.bridge.sample import stanza
from tests.bridge.xmpp_server import Session
from xmppstream import Stanza, StreamCondition
from xmppstream.names import MUC_USER

__all__ = ["log", "stage"]  # fixtures
pytestmark = pytest.mark.usefixtures(nothing_left.__name__)

ALICE: Final = "alice@x.example"
NO_JOURNAL: Final = JournalSettings(durability="off")


def presence(type: str, from_: str = ALICE, to: str = BOT) -> Stanza:
    return stanza(f"<presence type='{type}' from='{from_}' to='{to}'/>")


def types(session: Session) -> list[str | None]:
    """The types of the presences that came, in order."""
    return [one.type for one in session.stanzas if one.kind == "presence"]


async def component(stage: Stage, domain: str = DOMAIN, **options: Any) -> Component:
    return stage.component(await stage.endpoint(), domain, **options)


async def subscribed(stage: Stage, count: int = 1) -> Session:
    """Subscribe Alice, or more people."""
    session = await stage.server.attached(DOMAIN)
    await session.send(*(presence("subscribe", f"{n}{ALICE}") for n in range(count)))
    await session.receive(2 * count)
    assert types(session) == ["subscribed", None] * count
    return session


async def test_a_contact_is_told_of_the_end_and_of_the_next_start(
    stage: Stage, mock_clock: MockClock
) -> None:
    bot = await component(stage)
    async with stage.running_with(bot) as daemon:
        session = await subscribed(stage)
        daemon.stop()
        await session.receive(3)
    assert types(session)[2:] == ["unavailable"]
    assert session.closed_in_order
    async with stage.running_with(bot):
        session = await stage.server.attached(DOMAIN, 2)
        [told] = await session.receive(1)
        assert (told.type, told.from_, told.to) == (None, f"{BOT}/default", f"0{ALICE}")
        await session.send(presence("unsubscribe", f"0{ALICE}"))
        await session.receive(2)
    assert types(session) == [None, "unavailable"]  # and it is a contact no more


async def test_at_the_end_rooms_and_contacts_are_told_once_each(
    stage: Stage, mock_clock: MockClock
) -> None:
    hall, me = "hall@muc.example", f"{BOT}/default"
    rooms = (RoomSettings(hall, BOT.partition("@")[0], "robot"),)
    async with stage.running_with(await component(stage, rooms=rooms)) as daemon:
        session = await stage.server.attached(DOMAIN)
        [join] = await session.receive(1)
        assert (join.type, join.from_, join.to) == (None, me, f"{hall}/robot")
        inner = f"<x xmlns='{MUC_USER}'><status code='110'/></x>"
        await session.send(stanza(f"<presence from='{hall}/robot' to='{me}'>{inner}</presence>"))
        await until(lambda: daemon.services[DOMAIN].status.rooms[0].state == "joined")
        await session.send(presence("probe", hall, me), presence("subscribe", ALICE))
        await until(lambda: any(one.to == ALICE and one.type is None for one in session.stanzas))
        count = len(session.stanzas)
        daemon.stop()
    told = [(one.type, one.from_, one.to) for one in session.stanzas[count:]]
    assert told == [("unavailable", me, ALICE), ("unavailable", me, f"{hall}/robot")]


async def test_all_are_told_of_the_end_before_anything_is_waited_for(
    stage: Stage, mock_clock: MockClock
) -> None:
    bot = stage.component(await stage.endpoint(hang), post_stanzas=frozenset({"message"}))
    async with stage.running_with(bot) as daemon:
        session = await subscribed(stage, 100)
        body = "<body>hi</body>"
        await session.send(stanza(f"<message from='{ALICE}' to='{BOT}' id='m'>{body}</message>"))
        await until(lambda: daemon.counts[DOMAIN].posted == 1)
        at = trio.current_time()
        daemon.stop()
        await session.receive(300)
        assert types(session)[200:] == ["unavailable"] * 100
        assert trio.current_time() == at  # no time has passed, and the POST still runs
        await session.send(presence("probe", f"7{ALICE}"))
        await wait_all_tasks_blocked(0.01)
        assert len(session.stanzas) == 300


@pytest.mark.parametrize("how", ["an error", "the end tag", "a reset"])
async def test_a_reconnect_does_not_make_contacts_blink(
    stage: Stage, mock_clock: MockClock, how: str
) -> None:
    async with stage.running_with(await component(stage)):
        first = await subscribed(stage)
        if how == "an error":
            await first.fail(StreamCondition.SYSTEM_SHUTDOWN)
        elif how == "a reset":
            await first.reset()
        else:
            await first.hang_up()
        await stage.pass_until(lambda: len(stage.server.sessions) > 1)
        second = await stage.server.attached(DOMAIN, 2)
        await second.receive(1)
        assert types(first) == ["subscribed", None]
        assert types(second) == [None]


@pytest.mark.parametrize("journal", [JournalSettings(), NO_JOURNAL], ids=["journal", "memory"])
async def test_a_reload_that_attaches_anew_does_not_either(
    stage: Stage, mock_clock: MockClock, journal: JournalSettings
) -> None:
    bot = await component(stage)
    async with stage.running_with(bot, journal=journal):
        first = await subscribed(stage)
        await stage.reload(evolve(bot, order="full"), journal=journal)
        second = await stage.server.attached(DOMAIN, 2)
        await second.receive(1)
        assert types(first) == ["subscribed", None]
        assert types(second) == [None]


async def test_a_component_that_is_removed_says_so(stage: Stage, mock_clock: MockClock) -> None:
    bot = await component(stage)
    async with stage.running_with(bot, await component(stage, OTHER)):
        session = await subscribed(stage)
        await stage.reload(await component(stage, OTHER))
        assert types(session) == ["subscribed", None, "unavailable"]


async def test_a_service_that_subscribes_is_known_to_have_asked(
    stage: Stage, mock_clock: MockClock
) -> None:
    say = b'{"kind": "presence", "type": "subscribe", "to": "alice@x.example"}'
    bot = stage.component(await stage.endpoint(saying(response(content=say))))
    async with stage.running_with(bot) as daemon:
        session = await stage.server.attached(DOMAIN)
        contacts = daemon.services[DOMAIN].announcer.contacts
        await session.send(presence("subscribed"))
        await session.send(stanza(f"<message from='{ALICE}' to='{BOT}'><body>x</body></message>"))
        await session.receive(1)
        assert [one.online for one in contacts.views()] == [None]  # the first came unasked
        await session.send(presence("subscribed"))
        await until(lambda: [one.online for one in contacts.views()] == [False])
