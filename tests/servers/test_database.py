"""Commands on a journal in a real PostgreSQL: `check`, `journal copy` there and back, `queue`."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import trio
from click.testing import CliRunner, Result

from bridge.cli.check.database import check_database
from bridge.cli.check.report import Report
from bridge.cli.main import main
from bridge.cluster.partition import partition_of
from bridge.config.loader import from_table
from bridge.config.value import parse_database_url
from bridge.journal.copy import Copied, copy
from bridge.journal.directory import StateDirectory
from bridge.journal.postgres.inspection import Finding, inspect
from bridge.journal.postgres.store import PostgresStore
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import JournalError, Settle
from tests.bridge.journal.test_copy import ONE_OF_EACH, content, entry
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
    assert details["schema xmpp_bridge"] == "it is created at the first start"
    assert details["max_connections"].startswith("56 of 57 connections are free")
    await _use(postgres)
    assert Finding("schema xmpp_bridge", "ok", "exists") in await found(postgres.url)
    await postgres.psql("UPDATE xmpp_bridge.meta SET version = 99")
    assert problems(await found(postgres.url))[0].startswith("schema xmpp_bridge: its format is 99")


async def test_a_schema_of_something_else(postgres: Postgres) -> None:
    await postgres.psql("CREATE SCHEMA xmpp_bridge", "CREATE TABLE xmpp_bridge.other (a int)")
    with pytest.raises(JournalError, match="has tables, but is not a journal"):
        await found(postgres.url)


async def _use(postgres: Postgres) -> None:
    """Have a node create the schema, and end."""
    url = parse_database_url(postgres.url)
    store = await trio.to_thread.run_sync(PostgresStore, url, "xmpp_bridge", "before")
    await trio.to_thread.run_sync(store.close)


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


async def test_a_server_without_a_free_connection() -> None:
    settings = {
        "max_connections": "4",
        "superuser_reserved_connections": "0",
        "max_wal_senders": "0",
    }
    async with Postgres(settings) as full:
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(psycopg.connect(full.url))
            with pytest.raises(
                JournalError, match="too many clients already; raise max_connections"
            ):
                await found(full.url)
        (told,) = problems(await found(full.url))
        assert told.endswith(" connections are free; a node uses 3: raise max_connections")


WRONG = [
    ("bridge@", "nobody:hunter2@", 'role "nobody" does not exist'),
    ("/postgres", "/other", 'database "other" does not exist'),
    ("/postgres", "/postgres?sslmode=require", "server does not support SSL"),
    ("/postgres", "/postgres?nonsense=1", "is not a valid connection string"),
]


@pytest.mark.parametrize(("before", "after", "told"), WRONG)
async def test_a_url_that_does_not_lead_there(
    postgres: Postgres, capsys: pytest.CaptureFixture[str], before: str, after: str, told: str
) -> None:
    report = Report()
    await check_database(settings_of(postgres.url.replace(before, after)), report)
    assert report.verdict() == "1 problem."
    with pytest.raises(JournalError, match=told) as caught:
        await found(postgres.url.replace(before, after))
    assert "hunter2" not in str(caught.value)


# --- a journal that is moved there, and back


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A state directory whose journal holds one of everything."""
    directory = tmp_path / "full"
    with closing(SqliteStore(StateDirectory(directory).journal_file)) as store:
        store.commit(ONE_OF_EACH)
    return directory


async def run_copy(*arguments: object) -> Result:
    """Run `journal copy` as a command in a process of its own would."""
    command = ["journal", "copy", "--quiet", *map(str, arguments)]
    result = await trio.to_thread.run_sync(CliRunner().invoke, main, command)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


async def test_a_journal_is_moved_to_a_database_and_back(
    postgres: Postgres, tmp_path: Path, full: Path
) -> None:
    config = tmp_path / "bridge.toml"
    (tmp_path / "url").write_text(postgres.url)
    config.write_text('[journal]\nurl_file = "url"\n[node]\ncluster = "moved"\n')
    there = await run_copy(full, config)
    assert there.output.startswith("Copied 2 pending stanzas, 3 unconfirmed replies, ")
    back = await run_copy(postgres.url, "--cluster", "moved", tmp_path / "back")
    assert back.output.startswith("Copied 2 pending stanzas, 3 unconfirmed replies, ")
    with (
        closing(SqliteStore(full / "journal.db")) as before,
        closing(SqliteStore(tmp_path / "back" / "journal.db")) as after,
    ):
        assert content(after) == content(before)
    assert await postgres.psql("SELECT count(*) FROM moved.node") == "0\n"


async def test_a_journal_of_one_cluster_is_copied_to_another(
    postgres: Postgres, tmp_path: Path, full: Path
) -> None:
    assert (await run_copy(full, postgres.url)).exit_code == 0
    other = tmp_path / "other.toml"
    other.write_text(f'[journal]\nurl = "{postgres.url}"\n[node]\ncluster = "other"\n')
    assert (await run_copy(postgres.url, other)).exit_code == 0
    refused = await run_copy(postgres.url, other)
    assert f"{postgres.url}, cluster other is not empty: it holds 7 stanzas" in refused.output


async def test_a_journal_that_a_node_uses_is_not_copied(
    postgres: Postgres,
    tmp_path: Path,
    full: Path,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = parse_database_url(postgres.url)
    store = await trio.to_thread.run_sync(PostgresStore, url, "xmpp_bridge", "busy")
    monkeypatch.setattr("bridge.cli.journal.sleep", lambda _: store.beat())
    with closing(store):
        for places in ((full, postgres.url), (postgres.url, tmp_path / "new")):
            result = await run_copy(*places)
            assert (result.exit_code, result.output) == (
                1,
                f"Error: the node busy uses {postgres.url}, cluster xmpp_bridge; stop it, and copy"
                " again.\n",
            )
        monkeypatch.setattr("bridge.cli.journal.sleep", lambda _: None)
        assert (await run_copy(full, postgres.url)).exit_code == 0, "it is dead"


async def test_a_node_that_starts_meanwhile_spoils_the_copy(
    postgres: Postgres, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[PostgresStore] = []

    def copy_late(*arguments: Any) -> Copied:
        url = parse_database_url(postgres.url)
        opened.append(PostgresStore(url, "xmpp_bridge", "late"))
        return copy(*arguments)

    monkeypatch.setattr("bridge.cli.journal.copy", copy_late)
    result = await run_copy(full, postgres.url)
    opened[0].close()
    assert result.exit_code == 1
    assert "is incomplete: remove it before you copy again." in result.output
    assert "the node late uses" in result.output


async def test_a_copy_into_a_database_that_is_gone(full: Path, tmp_path: Path) -> None:
    result = await run_copy(full, "postgresql://bridge@127.0.0.1:1/bridge")
    assert result.exit_code == 1
    assert "postgresql://bridge@127.0.0.1:1/bridge" in result.output


# --- the queue of a cluster, without a daemon on this machine


@pytest.fixture
async def cluster(postgres: Postgres, tmp_path: Path) -> Path:
    """A configuration whose journal, in a database, has a dead letter."""
    config = tmp_path / "bridge.toml"
    (tmp_path / "url").write_text(postgres.url)
    config.write_text(
        '[component."bot"]\ncomponent_secret_file = "/run/nobody/may/read"\n'
        '[journal]\nurl_file = "url"\n[node]\ncluster = "one"\n'
    )
    store = await trio.to_thread.run_sync(
        PostgresStore, parse_database_url(postgres.url), "one", "before"
    )
    with closing(store):
        store.commit([entry("msg_dead"), Settle("msg_dead", (), 1e9, "status 500")])
    return config


async def run_queue(config: Path, *arguments: str) -> Result:
    state = ["--state-dir", str(config.parent / "none")]
    command = ["queue", str(config), *arguments, *state]
    result = await trio.to_thread.run_sync(CliRunner().invoke, main, command)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


async def test_dead_letters_of_a_cluster_without_a_daemon_here(
    cluster: Path, postgres: Postgres
) -> None:
    listed = await run_queue(cluster, "list", "--dead")
    assert "msg_dead" in listed.stdout
    assert "bot: 1 dead letter" in listed.stderr
    retried = await run_queue(cluster, "retry", "msg_dead")
    assert retried.exit_code == 0
    assert "bot: 1 pending" in (await run_queue(cluster, "list")).stderr
    assert await postgres.psql(
        "SELECT uid, part FROM one.pending", "SELECT label FROM one.node"
    ) == (f"msg_dead|{partition_of(('me@a', 'you@bot'))}\nbefore\n")
    assert not (cluster.parent / "none").exists()


async def test_a_queue_in_a_database_that_is_gone(cluster: Path) -> None:
    (cluster.parent / "url").write_text("postgresql://bridge:hunter2@127.0.0.1:1/bridge")
    result = await run_queue(cluster, "list")
    assert result.exit_code == 1
    assert "the database postgresql://bridge@127.0.0.1:1/bridge cannot be used" in result.output


async def test_a_queue_whose_url_cannot_be_read(cluster: Path) -> None:
    (cluster.parent / "url").unlink()
    result = await run_queue(cluster, "list")
    assert result.exit_code == 2
    assert "journal.url_file: " in result.output
