"""Wakes the other nodes of a cluster by NOTIFY, and is woken by LISTEN.

A wake-up says that there is something to read. It may be lost, because each node also looks by
itself from time to time: whatever fails here costs only speed.

A NOTIFY inside a batch would let the batches of all nodes commit one after the other. So it is a
transaction of its own, after the batch, on the connection that also listens; that one is the third
of a node. There is one channel per cluster, named like its schema. The payload is the target: a
component, its replies, or the nodes.

Connecting and NOTIFY block, so a thread of its own does that. Between two such calls, trio waits
until the socket is readable, and reads without blocking. The connection is used by one of the two
at a time: nothing is read elsewhere while the thread sends, and sending reads what has come, too.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from math import inf
from typing import Final, TypeVar

import outcome
import psycopg
import trio
from psycopg import sql
from structlog.typing import FilteringBoundLogger

from bridge.config.value import DatabaseUrl
from bridge.journal.age import elapsed_s
from bridge.journal.postgres.connection import Connection, Row
from bridge.journal.postgres.errors import explained, silent
from bridge.journal.store import JournalError
from xmppstream.thread import Thread

PACE_S: Final = 0.005
"""The least seconds between two wake-ups of the same target."""
RETRY_S: Final = 1.0
"""Seconds between two attempts to connect."""
WATCH_S: Final = 1.0
"""Seconds between two looks for a call that hangs."""
_NOTIFY: Final = "SELECT pg_notify(%s, target) FROM unnest(%s::text[]) AS target"

T = TypeVar("T")


class Pacing:
    """Decides when a target may be woken: at once, but only once per `PACE_S`. Times are seconds of
    any clock.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._sent: dict[str, float] = {}

    @property
    def next_due(self) -> float:
        """The time at which `take` will return something; infinite if nothing is wanted."""
        return min(self._due.values(), default=inf)

    def want(self, target: str, now: float) -> None:
        """Note that a target is to be woken, as soon as it may be."""
        self._due.setdefault(target, max(now, self._sent.get(target, -inf) + PACE_S))

    def take(self, now: float) -> list[str]:
        """Return the targets to be woken now, sorted, and count them as woken."""
        targets = sorted(target for target, due in self._due.items() if due <= now)
        for target in targets:
            del self._due[target]
            self._sent[target] = now
        return targets


class PostgresWakeUps:
    """The `WakeUps` of a cluster in PostgreSQL. Call it within trio."""

    def __init__(
        self,
        url: DatabaseUrl,
        cluster: str,
        log: FilteringBoundLogger,
        elapsed_s: Callable[[], float] = elapsed_s,
    ) -> None:
        self._url = url
        self._channel = cluster
        self._log = log
        name = f"xmpp-bridge {cluster}"
        self._connection = Connection(url, cluster, name, elapsed_s, self._prepare)
        self._pacing = Pacing()
        self._wanted = trio.Event()
        self._callbacks: dict[str, Callable[[], None]] = {}
        self._sent: trio.Event | None = None  # while the thread uses the connection
        self._pid = 0
        self._heard: set[str] = set()  # of whoever uses the connection
        self._is_failing = False

    def subscribe(self, target: str, callback: Callable[[], None]) -> None:
        """Call back whenever another node wakes this target, or may have done so."""
        self._callbacks[target] = callback

    def unsubscribe(self, target: str) -> None:
        """Forget the callback of a target, if it has one."""
        self._callbacks.pop(target, None)

    def wake(self, target: str) -> None:
        """Wake this target on the other nodes: now, or `PACE_S` after the last time."""
        self._pacing.want(target, trio.current_time())
        self._wanted.set()

    async def run(self) -> None:
        """Send and receive until cancelled, and connect again if the connection is lost."""
        thread = Thread("journal-wake")
        try:
            while True:
                failure = await self._serve(thread)
                if not self._is_failing:
                    self._is_failing = True
                    self._log.warning(
                        "no wake-ups between the nodes", why=failure.why, hint=failure.hint
                    )
                await thread.run(self._connection.close, abandon=True)
                await trio.sleep(RETRY_S)
        finally:
            last = self._pacing.take(inf)
            thread.close(partial(self._send_last, last), self._connection.close)

    async def _serve(self, thread: Thread) -> JournalError:
        """Connect, and serve until that fails. Return the error."""
        failures: list[JournalError] = []
        self._sent = None
        try:
            connection = await self._call(thread, self._connection.get)
        except JournalError as error:
            return error
        if self._is_failing:
            self._is_failing = False
            self._log.warning("wake-ups between the nodes work again")
        self._call_back(tuple(self._callbacks))  # a wake-up may have been missed
        async with trio.open_nursery() as nursery:

            async def keep(
                step: Callable[[Thread, psycopg.Connection[Row]], Awaitable[None]],
            ) -> None:
                try:
                    await step(thread, connection)
                except JournalError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(keep, self._receive)
            nursery.start_soon(keep, self._send_when_due)
        return failures[0]

    async def _receive(self, _: Thread, connection: psycopg.Connection[Row]) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._connection.handle)
            if self._sent is not None:
                await self._sent.wait()
            else:
                self._call_back(self._read(connection))

    async def _send_when_due(self, thread: Thread, connection: psycopg.Connection[Row]) -> None:
        while True:
            self._wanted = trio.Event()
            with trio.move_on_at(self._pacing.next_due):
                await self._wanted.wait()
            if targets := self._pacing.take(trio.current_time()):
                self._sent = trio.Event()
                heard = await self._call(thread, partial(self._send, connection, targets))
                self._sent.set()
                self._sent = None
                self._call_back(heard)

    def _call_back(self, targets: Collection[str]) -> None:
        for target in targets:
            if target in self._callbacks:
                self._callbacks[target]()

    async def _call(self, thread: Thread, call: Callable[[], T]) -> T:
        """Make a call in the thread, and interrupt it if the server does not answer.

        Cancellation ends the waiting, but not the call.

        Raises:
            JournalError: if the call fails.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._interrupt_hanging)
            result = await thread.run(partial(outcome.capture, call), abandon=True)
            nursery.cancel_scope.cancel()
        try:
            return result.unwrap()
        except JournalError as error:
            if self._connection.was_interrupted:
                raise silent(self._url) from error
            raise

    async def _interrupt_hanging(self) -> None:
        while True:
            await trio.sleep(WATCH_S)
            self._connection.interrupt()

    # --- with the connection

    def _prepare(self, connection: psycopg.Connection[Row]) -> None:
        # A wake-up need not wait for a stand-by.
        connection.execute("SET synchronous_commit = off")
        connection.add_notify_handler(self._hear)
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))

        self._pid = connection.pgconn.backend_pid

    def _hear(self, notification: psycopg.Notify) -> None:
        if notification.pid != self._pid:
            self._heard.add(notification.payload)

    def _send(self, connection: psycopg.Connection[Row], targets: list[str]) -> set[str]:
        with explained(self._url):
            with self._connection.waiting():
                connection.execute(_NOTIFY, (self._channel, targets))
            return self._read(connection)

    def _read(self, connection: psycopg.Connection[Row]) -> set[str]:
        """Return the targets that others have woken, without waiting for more."""
        with explained(self._url):
            connection.pgconn.consume_input()
            while (one := connection.pgconn.notifies()) is not None:
                payload = one.extra.decode(connection.info.encoding)
                self._hear(psycopg.Notify(self._channel, payload, one.be_pid))
        heard, self._heard = self._heard, set()
        return heard

    def _send_last(self, targets: list[str]) -> None:
        if targets and self._connection.is_open:
            with suppress(JournalError):
                self._send(self._connection.get(), targets)
