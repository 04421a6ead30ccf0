"""`check` against each port of a real Prosody, and with the wrong domain and secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bridge.cli.check.attach import check_attach
from bridge.cli.check.report import Report
from bridge.cli.check.server import probe
from bridge.config.loader import from_table
from xmppstream import Server, StreamCondition, StreamFaulted, StreamLost

if TYPE_CHECKING:
    from tests.servers.prosody import Prosody

LOOPBACK = "127.0.0.1"


async def test_the_port_for_components(prosody: Prosody) -> None:
    assert await probe(Server(LOOPBACK, prosody.component_port), "bot.localhost") is None


async def test_a_domain_that_it_does_not_know(prosody: Prosody) -> None:
    end = await probe(Server(LOOPBACK, prosody.component_port), "no.localhost")
    assert isinstance(end, StreamFaulted)
    assert (end.condition, end.by_peer) == (StreamCondition.HOST_UNKNOWN, True)


async def test_the_port_for_clients(prosody: Prosody) -> None:
    end = await probe(Server(LOOPBACK, prosody.c2s_port), "bot.localhost")
    assert isinstance(end, StreamLost)
    assert end.text.startswith("this port is for clients")


async def test_tls_where_it_has_none(prosody: Prosody) -> None:
    end = await probe(Server(LOOPBACK, prosody.component_port, tls=True), "bot.localhost")
    assert isinstance(end, StreamLost)
    assert end.text.endswith("failed: wrong version number")


@pytest.mark.parametrize(("secret", "verdict"), [("s3cret", "All is well."), ("no", "1 problem.")])
async def test_the_secret(prosody: Prosody, secret: str, verdict: str) -> None:
    component = {"component_secret": secret, "component_post_url": "http://127.0.0.1:1/"}
    server = f"{LOOPBACK}:{prosody.component_port}"
    table = {"server": server, "component": {"bot.localhost": component}}
    settings = from_table(table, "test", directory=Path("/nowhere"), environment={})
    report = Report()
    await check_attach(settings.components[0], settings, report)
    assert report.verdict() == verdict
