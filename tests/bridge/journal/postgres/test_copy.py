"""A journal that is copied from a file into a database, and from there into a file."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.journal import copy as copying
from bridge.journal.copy import copy
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import ImpossibleOperation
from tests.bridge.journal.postgres.database import Database
from tests.bridge.journal.sqlite.test_store import OPERATIONS
from tests.bridge.journal.test_copy import content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.journal.store import Operation
    from tests.servers.postgres import Postgres

pytestmark = pytest.mark.postgres
KEPT: Final = OPERATIONS.filter(lambda one: "\\x00" not in repr(one))
"""No XML has a NUL, and no text of PostgreSQL."""


@given(batches=st.lists(st.lists(KEPT, max_size=30), max_size=3), page=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_whatever_it_holds(
    server: Postgres, batches: Sequence[Sequence[Operation]], page: int
) -> None:
    with (
        TemporaryDirectory() as directory,
        closing(SqliteStore(Path(directory, "a.db"))) as source,
        closing(SqliteStore(Path(directory, "b.db"))) as back,
        closing(Database(server.url)) as database,
        closing(database.open()) as there,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(copying, "PAGE", page)
        for batch in batches:
            with suppress(ImpossibleOperation):
                source.commit(batch)
        before = content(source)
        copy(source, there)
        assert content(there) == before
        copy(there, back)
        assert content(back) == before
