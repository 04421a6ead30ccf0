"""Opens the journal of a cluster for a command (`queue`, `journal copy`), without a daemon."""

import math
import platform
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from secrets import token_hex

from bridge.config.settings import JournalSettings, NodeSettings
from bridge.journal.postgres.store import PostgresStore
from bridge.journal.store import JournalError


@contextmanager
def opened_for(
    command: str, journal: JournalSettings, node: NodeSettings
) -> Iterator[PostgresStore]:
    """Open the journal that `[journal] url` names, with full durability, and delete nothing that
    exceeds the limits. The command is a node, since only nodes can commit, but it is configured
    with no component, so it gets no lease; at the end its row is removed.

    Raises:
        JournalError: if the journal cannot be used.
    """
    assert journal.url is not None
    label = f"{command}-{platform.node() or 'localhost'}-{token_hex(3)}"
    store = PostgresStore(journal.url, node.cluster, label, "power", trim_s=math.inf)
    with closing(store):
        yield store
        with suppress(JournalError):  # then the row stays, as that of a node that is dead
            store.forget()
