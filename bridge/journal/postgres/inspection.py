"""What `check` finds out about a database: whether it keeps the promise, and what it costs.

`inspect` reads the facts, by connections of its own and without changing anything; `judge` turns
them into findings, each with a remedy. So every warning is tested without a server.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from statistics import median
from typing import Any, Final, Literal

import psycopg
from attrs import frozen

from bridge.config.settings import JournalSettings, NodeSettings
from bridge.journal.postgres.connection import LEAST_VERSION
from bridge.journal.postgres.errors import explained
from bridge.journal.postgres.schema import VERSION, read_version

NODE_CONNECTIONS: Final = 3
"""Connections of a running node: for writing, for reading, and for wake-ups."""
_SPARE: Final = 3 * NODE_CONNECTIONS
_SKEW_S: Final = 5.0
_SLOW_COMMIT_S: Final = 0.05
_COMMITS: Final = 15
_CONNECT_S: Final = 3
_LIMIT_S: Final = 5  # for one statement, and for all commits together
_ENCODING: Final = "UTF8"
_ENDED: Final = ("statement_timeout", "idle_session_timeout", "transaction_timeout")
"""Limits that end a connection or a transaction of ours, if they are set."""
_SETTINGS: Final = (
    *("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names"),
    *("server_encoding", "max_connections", "superuser_reserved_connections"),
    *("default_transaction_read_only", "default_transaction_isolation", "autovacuum"),
    *_ENDED,
)

Result = Literal["ok", "warning", "failed"]
Pooling = Literal["none", "session", "transaction"]


@frozen
class Finding:
    """A check of the database: what was looked at, the result, and details with the remedy."""

    what: str
    result: Result
    details: str


@frozen
class Facts:
    """What was read from a database, and measured."""

    version: int
    version_text: str
    place: str
    user: str
    database: str
    is_local: bool
    is_encrypted: bool
    is_standby: bool
    settings: dict[str, str]
    standbys: tuple[str, ...]
    """The states of the stand-bys (`sync`, `quorum`, `potential` or `async`)."""
    connections: int
    commit_s: tuple[float, ...]
    skew_s: float
    """How far the clock of this machine is ahead of the database's."""
    pooling: Pooling
    schema_exists: bool
    may_use: bool
    """Whether the role may use the schema, or create it if it is missing."""
    format: int
    """The version of the schema; 0 if it has no tables, or may not be used."""


def inspect(journal: JournalSettings, node: NodeSettings) -> list[Finding]:
    """Connect, and report on the database. It blocks for some seconds at most.

    Raises:
        JournalError: if the database cannot be reached or asked.
    """
    assert journal.url is not None
    with explained(journal.url):
        facts = _read(journal.url.value, node)
    return list(judge(facts, journal, node))


# --- the facts


def _read(url: str, node: NodeSettings) -> Facts:
    with closing(_connect(url)) as connection:
        settings, standbys = _settings(connection), _standbys(connection)
        connection.execute(f"SET statement_timeout = '{_LIMIT_S}s'".encode())
        is_standby = bool(_value(connection, "SELECT pg_is_in_recovery()"))
        exists, may_use = _schema(connection, node.cluster)
        info = connection.info
        return Facts(
            version=info.server_version,
            version_text=str(_value(connection, "SHOW server_version")).partition(" ")[0],
            place=f"{info.host}:{info.port}" if not info.host.startswith("/") else info.host,
            user=info.user,
            database=info.dbname,
            is_local=info.host.startswith("/") or info.hostaddr in ("127.0.0.1", "::1"),
            is_encrypted=bool(connection.pgconn.ssl_in_use),
            is_standby=is_standby,
            settings=settings,
            standbys=standbys,
            connections=int(
                _value(
                    connection,
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
                )
            ),
            commit_s=() if is_standby or _waits(settings, standbys) else _commits(connection),
            skew_s=_skew(connection),
            pooling=_pooling(connection, url),
            schema_exists=exists,
            may_use=may_use,
            format=_format(connection, node.cluster) if exists and may_use else 0,
        )


Connection = psycopg.Connection[tuple[Any, ...]]


def _connect(url: str) -> Connection:
    return psycopg.connect(
        url, autocommit=True, connect_timeout=_CONNECT_S, application_name="xmpp-bridge check"
    )


def _value(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return None if row is None else row[0]


def _settings(connection: Connection) -> dict[str, str]:
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
    return dict(connection.execute(query, (list(_SETTINGS),)).fetchall())


def _schema(connection: Connection, cluster: str) -> tuple[bool, bool]:
    if _value(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %s", (cluster,)):
        query = "SELECT has_schema_privilege(%s, 'USAGE') AND has_schema_privilege(%s, 'CREATE')"
        return True, bool(_value(connection, query, (cluster, cluster)))
    query = "SELECT has_database_privilege(current_database(), 'CREATE')"
    return False, bool(_value(connection, query))


def _format(connection: Connection, cluster: str) -> int:
    with connection.cursor() as cursor:
        return read_version(cursor, cluster)


def _standbys(connection: Connection) -> tuple[str, ...]:
    # Without the role pg_monitor, others' states read as NULL.
    query = "SELECT coalesce(sync_state, 'unknown') FROM pg_stat_replication"
    return tuple(state for (state,) in connection.execute(query).fetchall())


def _waits(settings: dict[str, str], standbys: tuple[str, ...]) -> bool:
    """Return whether commits wait for a stand-by that is not there: each would hang."""
    named = bool(settings.get("synchronous_standby_names"))
    return named and not {"sync", "quorum", "unknown"}.intersection(standbys)


def _commits(connection: Connection) -> tuple[float, ...]:
    """Return how long commits take. Each writes a message that nobody reads into the log."""
    connection.execute("SET synchronous_commit = on")
    taken: list[float] = []
    while len(taken) < _COMMITS and sum(taken) < _LIMIT_S:
        began = time.monotonic()
        connection.execute("SELECT pg_logical_emit_message(true, 'xmpp-bridge', 'check')")
        taken.append(time.monotonic() - began)
    return tuple(taken)


def _skew(connection: Connection) -> float:
    began = time.time()
    theirs = float(_value(connection, "SELECT extract(epoch FROM clock_timestamp())"))
    return (began + time.time()) / 2 - theirs


def _pooling(connection: Connection, url: str) -> Pooling:
    """Find out whether a pooler is between us and the database, and what it shares.

    A pooler shows other process IDs than the database's. One that pools transactions gives the
    backend that we have just used to the next client, though we are still connected.
    """
    ours = _value(connection, "SELECT pg_backend_pid()")
    if ours == connection.info.backend_pid:
        return "none"
    with closing(_connect(url)) as second:
        for _ in range(4):
            if _value(second, "SELECT pg_backend_pid()") == ours:
                return "transaction"
            ours = _value(connection, "SELECT pg_backend_pid()")
    return "session"


# --- the findings


def judge(facts: Facts, journal: JournalSettings, node: NodeSettings) -> Iterator[Finding]:
    """Yield what the facts mean for a journal with these settings."""
    where = f"{facts.place}, database {facts.database}, as {facts.user}"
    what = f"PostgreSQL {facts.version_text}"
    if facts.version < LEAST_VERSION:
        details = f"version {LEAST_VERSION // 10_000} is the oldest that works: upgrade it"
        yield Finding(what, "failed", f"{where}; {details}")
    elif facts.is_standby:
        remedy = "name both hosts in the URL, and add ?target_session_attrs=read-write"
        yield Finding(what, "failed", f"{where}; it is a stand-by and takes no writes: {remedy}")
    else:
        yield Finding(what, "ok", where)
    if facts.settings.get("server_encoding") != _ENCODING:
        given = facts.settings.get("server_encoding")
        details = f"the database has the encoding {given}: create one with ENCODING 'UTF8'"
        yield Finding("encoding", "failed", details)
    if not (facts.is_local or facts.is_encrypted):
        details = "not encrypted: add ?sslmode=verify-full to the URL"
        yield Finding("connection", "warning", details)
    yield from _judge_pooling(facts)
    yield _judge_schema(facts, node)
    yield from _judge_durability(facts, journal)
    yield from _judge_time(facts)
    yield _judge_room(facts)


def _judge_pooling(facts: Facts) -> Iterator[Finding]:
    if facts.pooling == "transaction":
        details = (
            "a pooler shares backends between transactions, so the fence of a node and its"
            " wake-ups do not work: connect directly, or use session pooling"
        )
        yield Finding("pooler", "failed", details)
    elif facts.pooling == "session":
        details = "a pooler is in between; it pools sessions, as far as can be seen"
        yield Finding("pooler", "ok", details)


def _judge_schema(facts: Facts, node: NodeSettings) -> Finding:
    what = f"schema {node.cluster}"
    if facts.format > VERSION:
        details = f"its format is {facts.format}, this program's {VERSION}: run the newer version"
        return Finding(what, "failed", details)
    if facts.may_use:
        details = "exists" if facts.format else "it is created at the first start"
        return Finding(what, "ok", details)
    owner = f"CREATE SCHEMA {node.cluster} AUTHORIZATION {facts.user}"
    if facts.schema_exists:
        owner = f"ALTER SCHEMA {node.cluster} OWNER TO {facts.user}"
    return Finding(what, "failed", f"{facts.user} has no right to it: run as its owner: {owner};")


def _judge_durability(facts: Facts, journal: JournalSettings) -> Iterator[Finding]:
    settings, what = facts.settings, f"durability {journal.durability!r}"
    for name in ("fsync", "full_page_writes"):
        if settings.get(name) == "off":
            details = f"{name} = off: a crash of the database's machine may lose everything"
            yield Finding(what, "failed", f"{details}; set it to on")
    names = settings.get("synchronous_standby_names", "")
    copies = f"{len(facts.standbys)} stand-by{'s' * (len(facts.standbys) != 1)}"
    if journal.durability == "process":
        details = "a crash of the database may lose the last 0.6 s"
        yield Finding(what, "warning", f'{details}: remove durability, or set it to "power"')
    elif not names:
        details = "commits are on the database's disk"
        if facts.standbys:
            details += f", and not yet on its {copies}: see synchronous_standby_names"
        yield Finding(what, "ok", details)
    elif _waits(settings, facts.standbys):
        details = f"commits wait for a stand-by ({names}), and none is connected: start one"
        yield Finding(what, "failed", details)
    else:
        details = f"commits are on two machines: synchronous_standby_names = {names!r}, {copies}"
        yield Finding(what, "ok", details)


def _judge_time(facts: Facts) -> Iterator[Finding]:
    if facts.commit_s:
        typical, longest = median(facts.commit_s), max(facts.commit_s)
        details = (
            f"{typical * 1000:.1f} ms, at most {longest * 1000:.1f} ms of {len(facts.commit_s)}"
        )
        if typical > _SLOW_COMMIT_S:
            details += "; each stanza waits for two: use a faster disk, or a nearer machine"
        yield Finding("commit", "warning" if typical > _SLOW_COMMIT_S else "ok", details)
    if abs(facts.skew_s) > _SKEW_S:
        way = "ahead of" if facts.skew_s > 0 else "behind"
        details = (
            f"this machine is {abs(facts.skew_s):.0f} s {way} the database: nothing is lost by it,"
            " but times in lists and in <delay/> are wrong; run an NTP client"
        )
        yield Finding("clock", "warning", details)
    else:
        yield Finding("clock", "ok", f"{abs(facts.skew_s):.1f} s from the database's")
    yield from _judge_role(facts)


def _judge_role(facts: Facts) -> Iterator[Finding]:
    """Yield what is set for this role, database or server and must not be."""
    settings = facts.settings
    if settings.get("default_transaction_read_only") == "on" and not facts.is_standby:
        details = "on: nothing can be written; set it to off for this role"
        yield Finding("default_transaction_read_only", "failed", details)
    level = settings.get("default_transaction_isolation", "read committed")
    if level != "read committed":
        details = f"{level}: batches of two nodes would fail; set it to 'read committed'"
        yield Finding("default_transaction_isolation", "failed", details)
    if settings.get("autovacuum") == "off":
        details = "off: the tables grow with each stanza, though few wait; set it to on"
        yield Finding("autovacuum", "warning", details)
    set_ = [name for name in _ENDED if facts.settings.get(name, "0") != "0"]
    if set_:
        details = "ends connections that are in use: set it to 0 for this role"
        yield Finding(", ".join(set_), "warning", details)


def _judge_room(facts: Facts) -> Finding:
    most = int(facts.settings["max_connections"])
    most -= int(facts.settings.get("superuser_reserved_connections", 0))
    free = most - facts.connections
    details = f"{free} of {most} connections are free; a node uses {NODE_CONNECTIONS}"
    if free < _SPARE:
        return Finding("max_connections", "warning", f"{details}: raise max_connections")
    return Finding("max_connections", "ok", details)
