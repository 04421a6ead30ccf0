"""One PostgreSQL for all tests here, each with a schema of its own."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from tests.bridge.journal.postgres.database import Database
from tests.servers.postgres import Postgres, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.journal.postgres.store import PostgresStore


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    if (reason := missing()) is not None:
        if os.environ.get("XMPP_BRIDGE_NO_SKIP") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    started = Postgres({"fsync": "off"})
    trio.run(started.__aenter__)
    yield started
    trio.run(started.__aexit__)


@pytest.fixture
def database(server: Postgres) -> Iterator[Database]:
    with closing(Database(server.url)) as made:
        yield made


@pytest.fixture
def journal(database: Database) -> Iterator[PostgresStore]:
    with closing(database.open()) as opened:
        yield opened
