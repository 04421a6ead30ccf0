"""What an operator is told of a database that cannot be used."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from bridge.config.value import DatabaseUrl
from bridge.journal.postgres import connection as connection_module
from bridge.journal.postgres.errors import explain
from bridge.journal.postgres.schema import VERSION
from bridge.journal.postgres.store import PostgresStore
from bridge.journal.store import ImpossibleOperation, JournalError, PutState
from tests.bridge.journal.postgres.proxy import Proxy
from tests.bridge.journal.sqlite.test_store import entry, uids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bridge.journal.postgres.database import Database

pytestmark = pytest.mark.postgres
SECRET: Final = "not-to-be-shown"
SHOWN: Final = "postgresql://db/bridge"


def url(text: str) -> DatabaseUrl:
    return DatabaseUrl(text, SHOWN)


def refusal(way: DatabaseUrl, database: Database, *expected: str) -> JournalError:
    """Open a journal, which fails, and return the error; its text has all that is expected."""
    with pytest.raises(JournalError) as caught:
        PostgresStore(way, database.schema, "node")
    for one in expected:
        assert one in str(caught.value)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role without any right, which needs a password."""
    name = f"poor_{database.schema}"
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield name
    database.execute(f"DROP OWNED BY {name}")
    database.execute(f"DROP ROLE {name}")


def with_part(database: Database, old: str, new: str) -> DatabaseUrl:
    assert old in database.url.value
    return url(database.url.value.replace(old, new))


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}@host/db?no_such_option=1",
        f"password={SECRET} =",
        f"postgresql://u:%zz{SECRET}@host/db",
    ],
)
def test_a_bad_url_is_told_without_its_password(database: Database, text: str) -> None:
    told = refusal(url(text), database, "not a valid connection string", "write it like")
    assert "no_such_option" not in str(told)


def test_a_database_or_role_that_is_missing_is_named(database: Database) -> None:
    missing = with_part(database, "/postgres", f"/nowhere?password={SECRET}")
    refusal(missing, database, SHOWN, 'database "nowhere" does not exist', "createdb --owner")
    missing = with_part(database, "bridge@", f"nobody:{SECRET}@")
    refusal(missing, database, 'role "nobody" does not exist', "createuser --pwprompt")


def test_a_server_that_is_not_there_is_told(database: Database) -> None:
    proxy = Proxy(database.url.value)
    proxy.close()
    told = refusal(url(proxy.url), database, SHOWN, "Connection refused", "start PostgreSQL")
    assert "\n" not in str(told)
    refusal(url(f"postgresql://u:{SECRET}@no-host.invalid/db"), database, "check the name of the")
    socket = url(f"postgresql://u:{SECRET}@/db?host=/nowhere")
    refusal(socket, database, "the directory of its socket in [journal] url")


def test_a_role_without_rights_is_told_what_it_needs(database: Database, role: str) -> None:
    poor = with_part(database, "bridge@", f"{role}:{SECRET}@")
    refusal(poor, database, "permission denied for database", "GRANT CREATE ON DATABASE")
    database.open().close()
    refusal(poor, database, "permission denied for schema", "GRANT CREATE ON DATABASE")


def test_a_version_that_is_too_old_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LEAST_VERSION", 99_00_00)
    refusal(database.url, database, "which is too old; upgrade it to 99 or later")


def test_a_schema_of_a_newer_version_is_left_alone(database: Database) -> None:
    database.open().close()
    database.execute("UPDATE meta SET version = 99")
    told = f"from a newer version: its format is 99, this program's {VERSION}"
    refusal(database.url, database, told)
    assert database.execute("SELECT version FROM meta") == [(99,)]


def test_a_schema_of_an_older_version_is_upgraded_with_what_it_holds(database: Database) -> None:
    with closing(database.open()) as journal:
        journal.commit([entry("u")])
    database.execute("ALTER TABLE pending DROP COLUMN since")
    database.execute("UPDATE meta SET version = 1")
    with closing(database.open()) as journal:
        journal.commit([entry("v")])
        assert uids(journal.pending(None, limit=9)) == ["u", "v"]
    assert database.execute("SELECT since FROM pending WHERE uid = 'u'") == [(1.5,)]
    assert database.execute("SELECT version FROM meta") == [(VERSION,)]


def test_a_schema_of_somebody_else_is_left_alone(database: Database) -> None:
    database.execute(f"CREATE SCHEMA {database.schema}")
    database.execute("CREATE TABLE theirs (a int)")
    refusal(database.url, database, "has tables, but is not a journal", "[node] cluster")
    tables = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
    assert database.execute(tables % f"'{database.schema}'") == [("theirs",)]


def test_two_clusters_in_one_database_do_not_meet(database: Database) -> None:
    other = f"{database.schema}_b"
    with ExitStack() as stack:
        one = stack.enter_context(closing(database.open()))
        two = stack.enter_context(closing(PostgresStore(database.url, other, "node")))
        stack.callback(database.execute, f"DROP SCHEMA {other} CASCADE")
        one.commit([entry("u")])
        two.commit([entry("u"), entry("v")])
        assert uids(one.pending(None, limit=9)) == ["u"]
        assert uids(two.pending(None, limit=9)) == ["u", "v"]
        assert len(one.nodes()) == len(two.nodes()) == 1


def test_too_many_connections_are_told(database: Database) -> None:
    database.execute("ALTER DATABASE postgres CONNECTION LIMIT 0")
    database.execute(f"CREATE ROLE limited_{database.schema} LOGIN CONNECTION LIMIT 0")
    try:
        limited = with_part(database, "bridge@", f"limited_{database.schema}@")
        refusal(limited, database, "too many connections", "raise max_connections")
    finally:
        database.execute("ALTER DATABASE postgres CONNECTION LIMIT -1")
        database.execute(f"DROP ROLE limited_{database.schema}")


FAILURES: Final = [
    ("53100", "free some space on the disk of the database"),
    ("25006", "target_session_attrs=read-write"),
    ("58030", "look into the log of the database"),
    ("XX001", "restore a backup"),
]


@pytest.mark.parametrize(("code", "remedy"), FAILURES)
def test_a_failure_of_the_server_is_told_and_undoes_the_batch(
    database: Database, code: str, remedy: str
) -> None:
    with closing(database.open()) as journal:
        database.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{code}'; END $$"
        )
        database.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON state FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        with pytest.raises(JournalError, match=r"cannot be used: could not extend file") as told:
            journal.commit([entry("u"), PutState("bot", "room", "a", b"")])
        assert remedy in told.value.hint
        assert not isinstance(told.value, ImpossibleOperation)
        assert journal.totals() == {}
        database.execute("DROP TRIGGER fail ON state")
        journal.commit([entry("u"), PutState("bot", "room", "a", b"")])
        assert uids(journal.pending(None, limit=9)) == ["u"]


def test_a_table_that_was_removed_is_told(database: Database) -> None:
    with closing(database.open()) as journal:
        database.execute("DROP TABLE state")
        with pytest.raises(JournalError, match="do not change the schema while the bridge runs"):
            journal.commit([PutState("bot", "room", "a", b"")])
        with pytest.raises(JournalError, match="do not change the schema while the bridge runs"):
            journal.state("bot")


def test_a_pooler_that_shares_a_connection_is_recognised(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(database.open()) as journal:
        connection = journal._reader.get()
        [[pid]] = connection.execute("SELECT pg_backend_pid()").fetchall()
        monkeypatch.setattr(journal._fence, "pid", pid)  # the backend of both, in turn
        with pytest.raises(JournalError, match="a pooler that shares one connection") as told:
            journal._prepare_reader(connection)
        assert "pool_mode = session" in told.value.hint


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('FATAL: password authentication failed for user "u"', "check the user and the password"),
        ("fe_sendauth: no password supplied", "url_file"),
        ('FATAL: no pg_hba.conf entry for host "h"', "pg_hba.conf"),
        ("FATAL: sorry, too many clients already", "raise max_connections"),
        ("FATAL: remaining connection slots are reserved", "raise max_connections"),
        ("FATAL: the database system is starting up", "wait"),
        ("session is read-only", "name all servers in the URL"),
        ("connection timeout expired", "can be reached"),
        ("FATAL: Passwort-Authentifizierung fehlgeschlagen", "look into its log"),
    ],
)
def test_why_a_connection_cannot_be_opened_has_a_remedy(message: str, remedy: str) -> None:
    told = explain(
        psycopg.OperationalError(f'connection to server at "h" failed: {message}'), url("")
    )
    assert remedy in told.hint
    assert message.removeprefix("FATAL: ") in told.why


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("postgresql://a,b/db?target_session_attrs=read-write", "promote a stand-by, or wait"),
        ("host=a,b target_session_attrs=read-write", "promote a stand-by, or wait"),
        ("postgresql://a:1,a:2/db", "promote a stand-by, or wait"),
        ("postgresql://a/db?target_session_attrs=read-write", "name all servers in the URL"),
    ],
)
def test_a_stand_by_is_to_be_promoted_if_all_servers_are_named(text: str, remedy: str) -> None:
    error = psycopg.OperationalError('connection to server at "b" failed: session is read-only')
    assert remedy in explain(error, url(text)).hint
