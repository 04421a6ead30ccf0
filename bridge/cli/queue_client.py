"""Access to a queue: through the running daemon or, if none runs, to its journal directly.

A journal on PostgreSQL is opened as other nodes do it, whether they run or not. Any other journal
of a stopped daemon is opened under the lock of its state directory, so that no daemon starts
meanwhile. A daemon that is starting or stopping holds the lock but has no socket: wait for it.
"""

import math
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Final, Protocol, TypeVar

import trio

from bridge.config.settings import JournalSettings, NodeSettings
from bridge.daemon.control import ControlError, NobodyListens, connect, run_as_owner
from bridge.journal.admin import QueueAdmin
from bridge.journal.directory import StateDirectory, StateDirectoryError, StateDirectoryTaken
from bridge.journal.request import QueueRequest
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import JournalStore

PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 0.1

ReadJournal = Callable[[], tuple[JournalSettings, NodeSettings]]
T = TypeVar("T")


class QueueClient(Protocol):
    """Answers requests about a queue."""

    async def ask(self, request: QueueRequest, answer: type[T]) -> T:
        """Return the answer to a request.

        Raises:
            CommandError: if the request cannot be fulfilled.
            ControlError, JournalError: if the daemon or the journal cannot answer.
        """
        ...


class LocalQueue:
    """Answers from a journal that this process has opened."""

    def __init__(self, journal: JournalStore, configured: Collection[str] | None) -> None:
        self._journal = journal
        self._admin = QueueAdmin(self._query, configured)

    async def ask(self, request: QueueRequest, answer: type[T]) -> T:
        """Return the answer to a request."""
        given = await self._admin.answer(request)
        assert isinstance(given, answer)
        return given

    async def _query(self, query: Callable[[JournalStore], T], /) -> T:
        await trio.lowlevel.checkpoint()
        return query(self._journal)


@asynccontextmanager
async def open_queue(
    directory: StateDirectory,
    configured: Collection[str] | None,
    read_journal: ReadJournal = lambda: (JournalSettings(), NodeSettings()),
) -> AsyncIterator[QueueClient]:
    """Open a client of the running daemon, or of the journal if none runs.

    `configured` are the names of the configured components, None if unknown. A running daemon uses
    its own. `read_journal` returns `[journal]` and `[node]`; it is called if no daemon runs.

    Raises:
        ConfigError: if `read_journal` does.
        ControlError: if a daemon runs and cannot be asked.
        StateDirectoryError: if the directory has no journal, or its mode forbids opening it.
        JournalError: if the journal cannot be used.
    """
    patience_ends = trio.current_time() + PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                client = await connect(directory.control_socket)
            except NobodyListens:
                pass
            else:
                try:
                    yield client
                finally:
                    await client.aclose()
                return
            journal, node = read_journal()
            if journal.url is not None:
                from bridge.journal.postgres.command import opened_for

                store = stack.enter_context(opened_for("queue", journal, node))
                yield LocalQueue(store, configured)
                return
            _check(directory)
            try:
                stack.enter_context(directory.lock())
                break
            except StateDirectoryTaken as error:
                if trio.current_time() >= patience_ends:
                    raise ControlError(
                        f"{error.owner} has the state directory {directory.path}, but does not"
                        f" answer at {directory.control_socket.name}: it is starting or stopping;"
                        " try again"
                    ) from None
            await trio.sleep(_AGAIN_S)
        yield LocalQueue(stack.enter_context(closing(open_whole(directory))), configured)


def _check(directory: StateDirectory) -> None:
    """Check that there is a journal and that we may open it.

    Raises:
        StateDirectoryError: if not.
    """
    try:
        os.stat(directory.journal_file)
    except (FileNotFoundError, NotADirectoryError):
        raise StateDirectoryError(
            f"there is no journal in {directory.path}: no daemon has used this directory; "
            "name the daemon's state directory with --state-dir, or, for a journal on PostgreSQL,"
            " its configuration"
        ) from None
    except OSError as error:
        raise StateDirectoryError(
            f"cannot read {directory.path}: {error.strerror}; {run_as_owner(directory.path)}"
        ) from None
    for path in (directory.path, directory.journal_file, directory.lock_file):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise StateDirectoryError(
                f"no permission to read and write {path}; {run_as_owner(directory.path)}"
            )


def open_whole(directory: StateDirectory) -> SqliteStore:
    """Open the journal with full durability, and delete nothing that exceeds the limits."""
    return SqliteStore(
        directory.journal_file,
        "power",
        dead_limit_count=sys.maxsize,
        dead_limit_bytes=sys.maxsize,
        dead_limit_age_s=math.inf,
    )
