"""The files that a daemon's components share: the locked state directory and the journal."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, Literal

import trio
from structlog.typing import FilteringBoundLogger

from bridge.cluster.ownership import Alone, Ownership
from bridge.config.settings import JournalSettings, NodeSettings
from bridge.journal.cluster import POSTS, About, WakeUps, replies_of
from bridge.journal.committer import Committer
from bridge.journal.directory import StateDirectory
from bridge.journal.durable import JournalQueue
from bridge.journal.mailbox import Mailbox
from bridge.journal.queue import Quota
from bridge.journal.shared import SharedQueue
from bridge.journal.state import JournalState
from bridge.journal.store import JournalError, JournalStore, Totals
from bridge.telemetry.log import logger
from bridge.xmpp.outbox import Outgoing
from xmppstream.parser_thread import ParseElement

COUNT_S: Final = 2.0
"""Seconds between two counts of a journal that several nodes share."""
_NONE: Final = Totals()
_ALONE: Final = NodeSettings()


class Storage:
    """An open journal. Run its committer before, and longer than, any task that uses a queue."""

    def __init__(
        self, directory: StateDirectory, journal: JournalStore, settings: JournalSettings
    ) -> None:
        self.directory = directory
        self.committer = Committer(journal, logger())
        self.durability = settings.durability
        self.place = str(settings.url or directory.journal_file.absolute())
        """Where the journal is, safe to show."""
        self.is_shared = settings.url is not None
        """Whether other nodes may use the journal, too."""
        self.mailbox = Mailbox(self.committer, logger())
        """The messages of other nodes, if `is_shared`."""
        self.spreads = False
        """Whether all nodes POST, each for its partitions."""
        self.ownership: Ownership = Alone()
        """What of it is this process's."""
        self.wake_ups: WakeUps | None = None
        """Run them beside the committer, if the journal has some."""
        self._settings = settings
        self._queues: dict[str, JournalQueue] = {}
        self._volume = Quota(settings.max_stanzas, settings.max_bytes)
        for totals in journal.totals().values():
            self._volume.count += totals.pending
            self._volume.bytes += totals.pending_bytes

    def queue(
        self,
        component: str,
        parse: ParseElement,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
    ) -> JournalQueue:
        """Return a new queue for a component. `recover` it first, and `release` it at the end."""
        about = (component, self.committer, self._volume, parse, log, now)
        overlaps = self.durability == "process" and not self.is_shared
        if self.spreads:
            shared = SharedQueue(*about, self.ownership)
            if self.wake_ups is not None:
                shared.wake = partial(self.wake_ups.wake, component)
                shared.wake_gateway = partial(self.wake_ups.wake, replies_of(component))
                self.wake_ups.subscribe(component, shared.look)
                self.wake_ups.subscribe(replies_of(component), shared.look_for_replies)
            queue: JournalQueue = shared
        else:
            queue = JournalQueue(*about, overlaps=overlaps)
        self._queues[component] = queue
        return queue

    def state(self, component: str) -> JournalState:
        """Return the small state of a component. `load` it first."""
        return JournalState(component, self.committer)

    async def recover(self, queue: JournalQueue) -> None:
        """Load the pending stanzas of a component into its queue.

        Raises:
            JournalError: if the journal cannot be read.
        """
        found = (await self._counted()).get(queue.component, _NONE)
        if found.pending or found.replies:
            queue.log.info("taking over from before", pending=found.pending, replies=found.replies)
        queue.recover(found)

    async def follow(self) -> None:
        """Count what other nodes accept and settle, every `COUNT_S`, until cancelled."""
        while True:
            await trio.sleep(COUNT_S)
            with suppress(JournalError):  # the committer logs it
                await self._counted()

    async def _counted(self) -> dict[str, Totals]:
        totals = await self.totals()
        if self.is_shared:  # by the work of other nodes, too
            self._volume.count = sum(one.pending for one in totals.values())
            self._volume.bytes = sum(one.pending_bytes for one in totals.values())
        return totals

    def release(self, queue: JournalQueue) -> None:
        """Forget a queue that is no longer used, so the component may get a new one."""
        if self._queues.get(queue.component) is queue:
            del self._queues[queue.component]
            if self.wake_ups is not None:
                self.wake_ups.unsubscribe(queue.component)
                self.wake_ups.unsubscribe(replies_of(queue.component))

    async def totals(self) -> dict[str, Totals]:
        """Return how much is kept, by component, including everything submitted before.

        Raises:
            JournalError: if the journal cannot be read.
        """
        return await self.committer.ask(_totals)

    def revived(self, totals: dict[str, Totals]) -> None:
        """Record entries that an operator has made pending again. They are delivered, or only
        counted if their component has no queue.
        """
        for component, one in totals.items():
            if component in self._queues:
                self._queues[component].revive(one)
            else:
                self._volume.count += one.pending
                self._volume.bytes += one.pending_bytes

    def dropped(self, replies: Iterable[Outgoing]) -> None:
        """Stop writing replies that an operator has dropped."""
        uids: dict[str, set[str]] = {}
        for one in replies:
            uids.setdefault(one.component, set()).add(one.uid)
        for component in uids.keys() & self._queues.keys():
            self._queues[component].dropped(uids[component])

    async def orphaned(self, configured: Iterable[str]) -> dict[str, Totals]:
        """Return how much is kept for components that are not configured (any more).

        Raises:
            JournalError: if the journal cannot be read.
        """
        known = set(configured)
        return {
            name: totals
            for name, totals in (await self.totals()).items()
            if name not in known and (totals.pending or totals.replies or totals.dead)
        }


@contextmanager
def open_storage(
    directory: StateDirectory,
    settings: JournalSettings,
    node: NodeSettings = _ALONE,
    about: About | None = None,
) -> Iterator[Storage]:
    """Lock the state directory and open the journal; the committer closes it. In a journal that
    several nodes share, this process registers as `node`, and tells the others `about` itself.

    Raises:
        StateDirectoryError: if the directory cannot be used, or another process has it.
        JournalError: if the journal cannot be used.
    """
    with directory.lock():
        warning = directory.warning()
        if warning is not None:
            logger().warning("state directory", warning=warning)
        storage = Storage(directory, open_journal(directory, settings, node, about), settings)
        if settings.url is not None:
            from bridge.journal.postgres.wake import PostgresWakeUps  # psycopg only if it is used

            storage.wake_ups = PostgresWakeUps(settings.url, node.cluster, logger())
            storage.mailbox.wake = partial(storage.wake_ups.wake, POSTS)
            storage.wake_ups.subscribe(POSTS, storage.mailbox.look)
        yield storage


def _totals(journal: JournalStore) -> dict[str, Totals]:
    return journal.totals()


def open_journal(
    directory: StateDirectory,
    settings: JournalSettings,
    node: NodeSettings = _ALONE,
    about: About | None = None,
) -> JournalStore:
    """Open the journal of a locked state directory, or the one that `[journal] url` names.

    Raises:
        StateDirectoryError: if the node's label cannot be kept there.
        JournalError: if it cannot be used.
    """
    durability: Literal["power", "process"] = (
        "power" if settings.durability == "power" else "process"
    )
    if settings.url is not None:
        from bridge.journal.postgres.store import PostgresStore  # psycopg only if it is used

        return PostgresStore(
            settings.url,
            node.cluster,
            node.label or directory.node_label(),
            durability,
            about=about,
            dead_limit_count=settings.dead_max_stanzas,
            dead_limit_bytes=settings.dead_max_bytes,
            dead_limit_age_s=settings.dead_max_age_s,
        )
    from bridge.journal.sqlite.store import SqliteStore  # sqlite3 only if a journal is used

    store = SqliteStore(
        directory.journal_file,
        durability=durability,
        dead_limit_count=settings.dead_max_stanzas,
        dead_limit_bytes=settings.dead_max_bytes,
        dead_limit_age_s=settings.dead_max_age_s,
        lock_file=directory.lock_file,
    )
    if store.warning is not None:
        logger().warning("journal", warning=store.warning)
    return store
