"""`check` with a journal in a real PostgreSQL, and with URLs that lead nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from bridge.cli.check.database import check_database
from bridge.cli.check.report import Report
from bridge.config.loader import from_table
from bridge.journal.postgres.inspection import Finding, inspect
from tests.servers.postgres import Postgres, ReplicatedPostgres

if TYPE_CHECKING:
    from bridge.config.settings import Settings

pytestmark = pytest.mark.postgres


def settings_of(url: str) -> Settings:
    component = {"component_secret": "s", "component_post_url": "http://127.0.0.1:1/"}
    table = {"component": {"bot.localhost": component}, "journal": {"url": url}}
    return from_table(table, "test", directory=Path("/nowhere"), environment={})


async def found(url: str) -> list[Finding]:
    settings = settings_of(url)
    return await trio.to_thread.run_sync(inspect, settings.journal, settings.node)


def problems(findings: list[Finding]) -> list[str]:
    return [f"{one.what}: {one.details}" for one in findings if one.result != "ok"]


async def test_a_database_is_inspected(postgres: Postgres) -> None:
    findings = await found(postgres.url)
    (fsync,) = problems(findings)
    assert fsync.startswith("durability 'power': fsync = off")
    details = {one.what: one.details for one in findings}
    assert details["schema xmpp_bridge"] == "missing; it is created at the first start"
    assert details["max_connections"].startswith("56 of 57 connections are free")
    await postgres.psql("CREATE SCHEMA xmpp_bridge")
    assert Finding("schema xmpp_bridge", "ok", "exists") in await found(postgres.url)


async def test_a_role_without_rights(postgres: Postgres) -> None:
    url = postgres.url.replace("bridge@", "guest@")
    await postgres.psql("CREATE ROLE guest LOGIN")
    grant = "schema xmpp_bridge: guest has no right to it: run as its owner:"
    assert f"{grant} CREATE SCHEMA xmpp_bridge AUTHORIZATION guest;" in problems(await found(url))
    await postgres.psql("CREATE SCHEMA xmpp_bridge")
    assert f"{grant} ALTER SCHEMA xmpp_bridge OWNER TO guest;" in problems(await found(url))


async def test_two_servers_of_which_one_copies_the_other() -> None:
    async with ReplicatedPostgres() as servers:
        findings = await found(servers.url)
        assert problems(findings) == []
        assert findings[2].details.startswith("commits are on two machines")
        assert servers.standby is not None
        told = problems(await found(servers.standby.url))
        assert [one.partition(": name both hosts")[1] != "" for one in told] == [True]
        await servers.standby.stop()
        told = problems(await found(f"{servers.primary.url}?options=-cstatement_timeout%3D2000"))
        assert [one.partition(":")[0] for one in told] == [
            "durability 'power'",
            "statement_timeout",
        ]


WRONG = [
    ("bridge@", "nobody:hunter2@", 'role "nobody" does not exist'),
    ("/postgres", "/other", 'database "other" does not exist'),
    ("/postgres", "/postgres?sslmode=require", "server does not support SSL"),
    ("/postgres", "/postgres?nonsense=1", 'invalid URI query parameter: "nonsense"'),
]


@pytest.mark.parametrize(("before", "after", "told"), WRONG)
async def test_a_url_that_does_not_lead_there(
    postgres: Postgres, capsys: pytest.CaptureFixture[str], before: str, after: str, told: str
) -> None:
    report = Report()
    await check_database(settings_of(postgres.url.replace(before, after)), report)
    assert report.verdict() == "1 problem."
    with pytest.raises(Exception, match=told) as caught:
        await found(postgres.url.replace(before, after))
    assert "hunter2" not in str(caught.value)
