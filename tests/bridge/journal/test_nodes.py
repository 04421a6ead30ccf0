"""The nodes that share a journal, as they are shown."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from bridge.journal.nodes import nodes_of
from bridge.journal.request import NodeStatus
from bridge.journal.sqlite.store import SqliteStore
from tests.bridge.journal.shared_store import OURS, SharedStore

BOT: Final = "bot.example"
OTHER: Final = "other.example"
BOTH: Final = (BOT, OTHER)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SharedStore]:
    with closing(SharedStore(tmp_path / "journal.db")) as opened:
        yield opened


def test_a_journal_of_ones_own_has_no_nodes(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "journal.db")) as store:
        assert nodes_of(store) == ()


def test_nodes_with_what_they_hold(store: SharedStore) -> None:
    store.add(3, "c", gateways=(OTHER, BOT), parts=2, digest="another")
    store.add(OURS, "b", parts=3)
    store.add(1, "a")
    plain = NodeStatus(label="a", version="0.9", components=BOTH)
    assert nodes_of(store) == (
        plain,
        replace(plain, label="b", is_self=True, partitions=3),
        replace(plain, label="c", gateways=BOTH, partitions=2, differs=True),
    )


def test_a_node_that_is_gone_is_shown_while_it_holds_something(store: SharedStore) -> None:
    store.add(OURS, "b")
    store.add(3, "left", is_live=False)
    store.add(4, "dead", is_live=False, gateways=(BOT,))
    shown = {one.label: one.is_live for one in nodes_of(store)}
    assert shown == {"b": True, "dead": False}


def test_without_a_digest_nothing_differs(store: SharedStore) -> None:
    store.add(OURS, "b", digest="")
    store.add(3, "c", digest="another")
    assert not any(one.differs for one in nodes_of(store))
