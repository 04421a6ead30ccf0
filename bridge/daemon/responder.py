"""What a running daemon answers at its control socket: how it is, and what the desk says."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import trio

from bridge import __version__
from bridge.daemon.status import ComponentStatus, DaemonStatus, JournalStatus, total
from bridge.journal.admin import Desk, holdings
from bridge.journal.request import AnyRequest, AskStatus, Holding
from bridge.journal.storage import Storage
from bridge.journal.store import Journal, JournalError, Totals

_TOTALS_S: Final = 2.0
"""How long the status waits for the journal: a disk that hangs is part of the answer."""


class Responder:
    """Answers for one daemon. To be made within trio."""

    def __init__(
        self,
        storage: Storage,
        configured: Collection[str],
        components: Callable[[], Sequence[ComponentStatus]],
        stopping: Callable[[], bool],
    ) -> None:
        self._storage = storage
        self._configured = configured
        self._components = components
        self._stopping = stopping
        self._started = time.time()
        revived = partial(_tell_trio, trio.lowlevel.current_trio_token(), storage.revived)
        self._desk = Desk(storage.committer.ask, configured, revived)

    async def answer(self, request: AnyRequest) -> object:
        """Answer a command.

        Raises:
            CommandError: it cannot be done.
            JournalError: the journal fails.
        """
        if isinstance(request, AskStatus):
            return await self.status()
        return await self._desk.answer(request)

    async def status(self) -> DaemonStatus:
        """Say how the daemon is, also while the journal fails."""
        kept, failure = await self._kept()
        storage = self._storage
        return DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            started=self._started,
            stopping=self._stopping(),
            journal=JournalStatus(
                file=str(storage.directory.journal_file.absolute()),
                durability=storage.durability,
                failure=failure,
                totals=None if kept is None else total(kept),
            ),
            components=tuple(
                msgspec.structs.replace(one, kept=kept and kept.get(one.domain, Holding()))
                for one in self._components()
            ),
            orphaned={name: one for name, one in (kept or {}).items() if one.orphaned},
        )

    async def _kept(self) -> tuple[dict[str, Holding] | None, str | None]:
        """Give what the journal holds, or else why it cannot be asked."""
        try:
            with trio.move_on_after(_TOTALS_S):
                totals = await self._storage.committer.ask(_totals)
                return holdings(totals, self._configured), None
        except JournalError as error:
            return None, str(error)
        return None, "the journal does not answer; look at the disk"


def _totals(journal: Journal) -> dict[str, Totals]:
    return journal.totals()


def _tell_trio(
    token: trio.lowlevel.TrioToken,
    revived: Callable[[dict[str, Totals]], None],
    totals: dict[str, Totals],
) -> None:
    """Tell of what was revived, from the journal's thread; whoever asked may be gone by now."""
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(revived, totals)
