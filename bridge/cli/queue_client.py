"""Who answers about a queue: the daemon that runs, or, where none does, its journal itself.

A stopped daemon's journal is opened under the lock of its state directory, so that no daemon
begins meanwhile. One that begins or stops at this moment has the lock and no socket: it is waited
for.
"""

import math
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Final, Protocol, TypeVar

import trio

from bridge.daemon.control import ControlError, NobodyListens, connect, run_as_owner
from bridge.journal.admin import QueueAdmin
from bridge.journal.directory import StateDirectory, StateDirectoryError, StateDirectoryTaken
from bridge.journal.request import QueueRequest
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import JournalStore

PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 0.1

T = TypeVar("T")


class QueueClient(Protocol):
    """Answers commands about a queue."""

    async def ask(self, request: QueueRequest, answer: type[T]) -> T:
        """Give the answer to a request.

        Raises:
            CommandError: it cannot be done.
            ControlError, JournalError: whoever should answer cannot.
        """
        ...


class LocalQueue:
    """Answers from a journal that is open here."""

    def __init__(self, journal: JournalStore, configured: Collection[str] | None) -> None:
        self._journal = journal
        self._admin = QueueAdmin(self._query, configured)

    async def ask(self, request: QueueRequest, answer: type[T]) -> T:
        """Give the answer to a request."""
        given = await self._admin.answer(request)
        assert isinstance(given, answer)
        return given

    async def _query(self, query: Callable[[JournalStore], T], /) -> T:
        await trio.lowlevel.checkpoint()
        return query(self._journal)


@asynccontextmanager
async def open_queue(
    directory: StateDirectory, configured: Collection[str] | None
) -> AsyncIterator[QueueClient]:
    """Give who answers. `configured` are the components that there are, where that is known; a
    daemon knows better.

    Raises:
        ControlError: a daemon runs, and cannot be asked.
        StateDirectoryError: there is no journal, or it is not ours to open.
        JournalError: the journal cannot be used.
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
            _check(directory)
            try:
                stack.enter_context(directory.lock())
                break
            except StateDirectoryTaken as error:
                if trio.current_time() >= patience_ends:
                    raise ControlError(
                        f"{error.owner} has the state directory {directory.path}, and does not"
                        f" answer at {directory.control_socket.name}: it starts or stops; try again"
                    ) from None
            await trio.sleep(_AGAIN_S)
        journal = stack.enter_context(closing(_open(directory)))
        yield LocalQueue(journal, configured)


def _check(directory: StateDirectory) -> None:
    """Check that there is a journal, and that it is ours to open.

    Raises:
        StateDirectoryError
    """
    try:
        os.stat(directory.journal_file)
    except (FileNotFoundError, NotADirectoryError):
        raise StateDirectoryError(
            f"there is no journal in {directory.path}: no daemon has kept anything there; "
            "name the daemon's state directory with --state-dir"
        ) from None
    except OSError as error:
        raise StateDirectoryError(
            f"cannot read {directory.path}: {error.strerror}; {run_as_owner(directory.path)}"
        ) from None
    for path in (directory.path, directory.journal_file, directory.lock_file):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise StateDirectoryError(
                f"{path} is not ours to read and write; {run_as_owner(directory.path)}"
            )


def _open(directory: StateDirectory) -> SqliteStore:
    """Open the journal, as durable as can be, and without forgetting anything beyond limits."""
    return SqliteStore(
        directory.journal_file,
        "power",
        dead_limit_count=sys.maxsize,
        dead_limit_bytes=sys.maxsize,
        dead_limit_age_s=math.inf,
    )
