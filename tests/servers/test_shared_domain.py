"""Two links on one domain: which servers attach both, and what the links make of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio

import bridge.xmpp.link
from bridge.config.settings import Component
from bridge.config.value import Secret, parse_post_url
from bridge.xmpp.link import SHARED_REMEDY, Link
from bridge.xmpp.outbox import Outbox, Outgoing
from tests.bridge.recorder import Recorder
from tests.servers.conftest import COMPONENTS
from xmppstream import Event, Server, StreamOptions

if TYPE_CHECKING:
    from tests.servers.ejabberd import Ejabberd
    from tests.servers.prosody import Prosody

BOT: Final = "bot.localhost"
EVENT: Final = "another instance is attached as this component"


async def ignore(_: Event) -> None:
    await trio.lowlevel.checkpoint()


def link_to(port: int) -> tuple[Link, Outbox, Recorder]:
    """Return a link that does not run yet, with its outbox and its log."""
    server = Server("127.0.0.1", port)
    component = Component(BOT, Secret(COMPONENTS[BOT]), parse_post_url("http://127.0.0.1/"), server)
    outbox, log = Outbox(BOT), Recorder()
    return Link(component, StreamOptions(), outbox, ignore, log.logger()), outbox, log


async def talk(outbox: Outbox) -> None:
    """Keep the link writing messages, each followed by a barrier."""
    data = f"<message to='{BOT}' from='echo@{BOT}'><body>hi</body></message>".encode()
    while True:
        outbox.put([Outgoing(data, 4e9)])
        await trio.sleep(0.01)


async def test_ejabberd_attaches_both_and_each_link_notices_the_other(
    ejabberd: Ejabberd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.xmpp.link, "LEFTOVER_S", 0.0)
    monkeypatch.setattr(bridge.xmpp.link, "CONFIRM_EVERY_S", 0.01)
    monkeypatch.setattr(bridge.xmpp.link, "UNCONFIRMED_WAIT_S", 0.05)  # a lost barrier is repeated
    async with trio.open_nursery() as nursery:
        logs = []
        for _ in range(2):
            link, outbox, log = link_to(ejabberd.component_port)
            nursery.start_soon(link.run)
            await log.wait("attached")
            nursery.start_soon(partial(talk, outbox))
            logs.append(log)
        with trio.fail_after(60):
            for log in logs:
                await log.wait(EVENT)
        for log in logs:
            [line] = log.of(EVENT)
            assert line["hint"].endswith(f"; {SHARED_REMEDY}")
        nursery.cancel_scope.cancel()


async def test_prosody_refuses_the_second(prosody: Prosody) -> None:
    async with trio.open_nursery() as nursery:
        first, _, first_log = link_to(prosody.component_port)
        nursery.start_soon(first.run)
        await first_log.wait("attached")
        second, _, second_log = link_to(prosody.component_port)
        nursery.start_soon(second.run)
        await second_log.wait("cannot attach")
        [line] = second_log.of("cannot attach")
        assert "conflict" in line["why"]
        assert first.state.attached
        assert (first.shared_at, second.shared_at) == (None, None)
        nursery.cancel_scope.cancel()
