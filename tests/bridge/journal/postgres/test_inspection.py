"""What `check` says about a database, for facts as they may be."""

from typing import Final

import pytest
from attrs import evolve

from bridge.config.settings import JournalSettings, NodeSettings
from bridge.journal.postgres.inspection import Facts, Finding, judge
from bridge.journal.postgres.schema import VERSION

SETTINGS: Final = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "",
    "server_encoding": "UTF8",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "statement_timeout": "0",
}
FACTS: Final = Facts(
    version=150_018,
    version_text="15.18",
    place="db.example.com:5432",
    user="bridge",
    database="xmpp",
    is_local=False,
    is_encrypted=True,
    is_standby=False,
    settings=SETTINGS,
    standbys=(),
    connections=10,
    commit_s=(0.001, 0.002, 0.009),
    skew_s=0.04,
    pooling="none",
    schema_exists=True,
    may_use=True,
    format=VERSION,
)
NODE: Final = NodeSettings()
POWER: Final = JournalSettings(durability="power")


def findings(facts: Facts, journal: JournalSettings = POWER) -> list[Finding]:
    return list(judge(facts, journal, NODE))


def changed(**settings: str) -> Facts:
    return evolve(FACTS, settings=SETTINGS | settings)


def test_all_is_well() -> None:
    assert findings(FACTS) == [
        Finding("PostgreSQL 15.18", "ok", "db.example.com:5432, database xmpp, as bridge"),
        Finding("schema xmpp_bridge", "ok", "exists"),
        Finding("durability 'power'", "ok", "commits are on the database's disk"),
        Finding("commit", "ok", "2.0 ms, at most 9.0 ms of 3"),
        Finding("clock", "ok", "0.0 s from the database's"),
        Finding("max_connections", "ok", "87 of 97 connections are free; a node uses 3"),
    ]


def test_a_local_connection_needs_no_encryption() -> None:
    assert findings(evolve(FACTS, is_local=True, is_encrypted=False)) == findings(FACTS)


def test_the_schema_may_be_missing() -> None:
    found = findings(evolve(FACTS, schema_exists=False, format=0))
    assert found[1] == Finding("schema xmpp_bridge", "ok", "it is created at the first start")


def test_a_pooler_of_sessions_is_named() -> None:
    assert findings(evolve(FACTS, pooling="session"))[1] == Finding(
        "pooler", "ok", "a pooler is in between; it pools sessions, as far as can be seen"
    )


def test_stand_bys_that_commits_wait_for() -> None:
    facts = evolve(changed(synchronous_standby_names="ANY 1 (*)"), standbys=("quorum", "quorum"))
    assert findings(facts)[2] == Finding(
        "durability 'power'",
        "ok",
        "commits are on two machines: synchronous_standby_names = 'ANY 1 (*)', 2 stand-bys",
    )


def test_stand_bys_whose_state_the_role_may_not_see() -> None:
    facts = evolve(changed(synchronous_standby_names="*"), standbys=("unknown",))
    assert findings(facts)[2].result == "ok"


def test_stand_bys_that_commits_do_not_wait_for() -> None:
    assert findings(evolve(FACTS, standbys=("async",)))[2] == Finding(
        "durability 'power'",
        "ok",
        "commits are on the database's disk, and not yet on its 1 stand-by: see"
        " synchronous_standby_names",
    )


WRONG: Final[list[tuple[Facts, str, str, str]]] = [
    (evolve(FACTS, version=120_011), "PostgreSQL", "failed", "version 13 is the oldest"),
    (
        evolve(FACTS, is_standby=True, commit_s=()),
        "PostgreSQL",
        "failed",
        "name both hosts in the URL, and add ?target_session_attrs=read-write",
    ),
    (changed(server_encoding="SQL_ASCII"), "encoding", "failed", "ENCODING 'UTF8'"),
    (evolve(FACTS, is_encrypted=False), "connection", "warning", "add ?sslmode=verify-full"),
    (evolve(FACTS, pooling="transaction"), "pooler", "failed", "use session pooling"),
    (
        evolve(FACTS, may_use=False),
        "schema",
        "failed",
        "ALTER SCHEMA xmpp_bridge OWNER TO bridge",
    ),
    (
        evolve(FACTS, may_use=False, schema_exists=False),
        "schema",
        "failed",
        "CREATE SCHEMA xmpp_bridge AUTHORIZATION bridge",
    ),
    (
        evolve(FACTS, format=VERSION + 1),
        "schema",
        "failed",
        f"its format is {VERSION + 1}, this program's {VERSION}: run the newer version",
    ),
    (changed(fsync="off"), "durability", "failed", "fsync = off"),
    (changed(full_page_writes="off"), "durability", "failed", "full_page_writes = off"),
    (
        changed(synchronous_standby_names="other"),
        "durability",
        "failed",
        "commits wait for a stand-by (other), and none is connected",
    ),
    (
        evolve(changed(synchronous_standby_names="other"), standbys=("async",)),
        "durability",
        "failed",
        "none is connected",
    ),
    (evolve(FACTS, commit_s=(0.08,) * 3), "commit", "warning", "80.0 ms, at most 80.0 ms"),
    (evolve(FACTS, skew_s=123.4), "clock", "warning", "123 s ahead of the database"),
    (evolve(FACTS, skew_s=-123.4), "clock", "warning", "123 s behind the database"),
    (changed(statement_timeout="5000"), "statement_timeout", "warning", "set it to 0"),
    (
        changed(default_transaction_read_only="on"),
        "default_transaction_read_only",
        "failed",
        "nothing can be written",
    ),
    (
        changed(default_transaction_isolation="serializable"),
        "default_transaction_isolation",
        "failed",
        "set it to 'read committed'",
    ),
    (changed(autovacuum="off"), "autovacuum", "warning", "the tables grow with each stanza"),
    (changed(idle_session_timeout="1"), "idle_session_timeout", "warning", "set it to 0"),
    (evolve(FACTS, connections=90), "max_connections", "warning", "7 of 97 connections are free"),
]


@pytest.mark.parametrize(("facts", "what", "result", "details"), WRONG)
def test_a_fact_that_breaks_the_promise(facts: Facts, what: str, result: str, details: str) -> None:
    wrong = [one for one in findings(facts) if one.result != "ok"]
    assert [(one.what.startswith(what), one.result, details in one.details) for one in wrong] == [
        (True, result, True)
    ]


def test_less_durability_is_told() -> None:
    found = findings(FACTS, JournalSettings(durability="process"))
    assert found[2].result == "warning"
    assert found[2].details.startswith("a crash of the database may lose the last 0.6 s")
