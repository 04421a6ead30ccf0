"""The journal that `[journal] url` names, as the daemon opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from bridge.config.settings import JournalSettings, NodeSettings
from bridge.journal.cluster import About
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import open_journal, open_storage
from bridge.journal.store import PutState, Totals
from tests.bridge.journal.sqlite.test_store import entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bridge.journal.postgres.database import Database

pytestmark = pytest.mark.postgres


async def test_a_url_opens_a_node_of_a_cluster(database: Database, tmp_path: Path) -> None:
    settings = JournalSettings("power", url=database.url)
    directory = StateDirectory(tmp_path)
    for label in (None, "second"):
        node = NodeSettings(database.schema, label)
        with open_storage(directory, settings, node, About("1.0", ("bot",))) as storage:
            async with trio.open_nursery() as nursery:
                await nursery.start(storage.committer.run)
                assert await storage.committer.commit(entry(label or "first"))
                totals = await storage.totals()
                nursery.cancel_scope.cancel()
    assert totals == {"bot": Totals(2, 8, 0, 0, 1.5)}
    assert not directory.journal_file.exists()
    rows = database.execute("SELECT label, incarnation, version, components FROM node ORDER BY id")
    assert rows == [
        (directory.node_label(), None, "1.0", ["bot"]),
        ("second", None, "1.0", ["bot"]),
    ]


@pytest.mark.parametrize(("durability", "level"), [("power", "on"), ("process", "off")])
def test_durability_says_whether_the_disk_is_waited_for(
    database: Database, tmp_path: Path, durability: str, level: str
) -> None:
    settings = JournalSettings("power" if durability == "power" else "process", url=database.url)
    journal = open_journal(StateDirectory(tmp_path), settings, NodeSettings(database.schema))
    journal.commit([PutState("bot", "room", "a", b"")])
    found = journal._fence.connection.get().execute("SHOW synchronous_commit")  # type: ignore[attr-defined]
    assert found.fetchall() == [(level,)]
    journal.close()
