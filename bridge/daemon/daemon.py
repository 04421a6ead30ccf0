"""The daemon: signals, and the parts that exist once per process (the journal's task, the control
socket, the service manager's notifications). The `supervisor` owns the components.
"""

import math
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from enum import IntEnum
from functools import partial
from typing import Final

import trio
from attrs import evolve

from bridge.capture.recorder import Recorders
from bridge.cluster.partition import PARTITIONS
from bridge.config.settings import ConfigError, ListenSettings, Settings, limits_written
from bridge.daemon import control
from bridge.daemon.component import ComponentService
from bridge.daemon.listener import DaemonParts, Listener, ListenError, OpenListener
from bridge.daemon.node import ClusterNode
from bridge.daemon.status import ControlHandler
from bridge.daemon.supervisor import CannotReload, Supervisor
from bridge.daemon.systemd import SystemdNotifier
from bridge.dispatch.remote_event import RemoteEvents
from bridge.journal.cluster import NODES
from bridge.journal.mailbox import Mailbox
from bridge.journal.nodes import about_of
from bridge.journal.storage import Storage
from bridge.telemetry.log import RecentErrors, logger, set_level
from bridge.telemetry.meter import Counts
from bridge.telemetry.tracing import Spans

_END_S: Final = 2.0
"""Seconds for the end after `grace_s`: of the streams, the spans and the journal."""
_EXPORT_S: Final = 1.0
_JOURNAL_S: Final = 0.5
_AT_START_ONLY: Final = ("journal", "node", "tracing")
"""Tables that are read only at the start."""


class ExitCode(IntEnum):
    """The exit code of the process."""

    OK = 0
    OTHER = 1
    USAGE = 2
    REFUSED = 3


class Daemon:
    """Runs all components of one configuration."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage | None = None,
        *,
        read: Callable[[], Settings] | None = None,
        notifier: SystemdNotifier | None = None,
        spans: Spans | None = None,
        recording: Recorders | None = None,
        open_listener: OpenListener | None = None,
        recent_errors: RecentErrors | None = None,
    ) -> None:
        """Without `storage`, accepted stanzas are kept in memory only. `read` reads the
        configuration again; it is None if the configuration came from flags. `recording` captures
        the traffic of the components. `open_listener` opens the listener of `[listen]`, whose page
        shows `recent_errors`.
        """
        self._log = logger()
        self._settings = settings
        self._storage = storage
        self._read = read
        self._notifier = notifier or SystemdNotifier({})
        self._recording = recording
        self._node: ClusterNode | None = None
        if storage is not None and storage.is_shared:
            label = settings.node.label or storage.directory.node_label()
            about = about_of(settings)
            storage.spreads = settings.node.spread
            partitions = PARTITIONS if storage.spreads else 0
            self._node = ClusterNode(
                storage.committer, label, about, self._log, partitions=partitions
            )
            storage.ownership = self._node
            if storage.wake_ups is not None:
                self._node.wake = partial(storage.wake_ups.wake, NODES)
                storage.wake_ups.subscribe(NODES, self._node.changed)
        self._supervisor = Supervisor(settings, storage, spans, recording)
        self._spans = spans
        self._open_listener = open_listener
        self._recent_errors = recent_errors or RecentErrors()
        self._listener: Listener | None = None
        self._tokens = () if settings.listen is None else settings.listen.tokens
        self._stopping = False
        self._end_by = math.inf
        self._reload_wanted = trio.Event()

    @property
    def services(self) -> Mapping[str, ComponentService]:
        """The running components, by domain; see `Supervisor.services`."""
        return self._supervisor.services

    @property
    def counts(self) -> dict[str, Counts]:
        """The counts so far, by component."""
        return {domain: service.counts for domain, service in self.services.items()}

    @property
    def parts(self) -> DaemonParts:
        """The parts that a listener serves. To be called within trio."""
        answer = None if self._storage is None else self._control_handler(self._storage).answer
        return DaemonParts(
            self.services,
            lambda: [one.domain for one in self._supervisor.settings.components],
            lambda: self._stopping,
            limits_written(self._settings),
            self._recent_errors,
            self._storage,
            self._supervisor.events,
            answer,
        )

    def stop(self) -> None:
        """Begin to drain; `run` returns when the drain is complete, within `grace_s` + 2 s."""
        self._stopping = True
        self._end_by = trio.current_time() + self._supervisor.settings.stream.grace_s + _END_S
        if self._storage is not None:
            self._storage.committer.end_by = self._end_by
        self._notifier.stopping()
        if self._listener is not None:
            self._listener.stop()
        if self._node is not None:
            self._node.leave()
        self._supervisor.stop()

    def reload(self) -> None:
        """Request that `run` reads the configuration again."""
        self._reload_wanted.set()

    async def run(self) -> ExitCode:
        """Run until stopped, or until a refusal has ended every component (`exit_on_refusal`).

        Cancellation stops at once: unfinished work is dropped.
        """
        self._tell_warnings(self._settings)
        with ExitStack() as resources:
            if self._settings.listen is not None and self._open_listener is not None:
                opened = self._open_listener(self._settings.listen, self.parts)
                try:
                    self._listener = resources.enter_context(opened)
                except ListenError as error:
                    self._log.error("cannot listen", why=str(error))
                    return ExitCode.OTHER
            return await self._run()

    async def _run(self) -> ExitCode:
        async with trio.open_nursery() as nursery:
            if self._recording is not None:
                await nursery.start(self._recording.run)
            if self._storage is not None:
                await nursery.start(self._storage.committer.run)
                await nursery.start(self._answer_commands, self._storage)
                if self._storage.wake_ups is not None:
                    nursery.start_soon(self._storage.wake_ups.run)
            if self._node is not None:
                await nursery.start(self._node.run)
            if self._storage is not None and self._storage.is_shared:
                nursery.start_soon(self._storage.mailbox.run)
                nursery.start_soon(self._remote_events(self._storage.mailbox).run)
                if self._storage.spreads:
                    nursery.start_soon(self._storage.follow)
            if self._listener is not None and not self._stopping:
                await nursery.start(self._listener.run)
            nursery.start_soon(self._reload_when_wanted)
            nursery.start_soon(partial(self._notifier.run, self._summary))
            if not self._stopping:
                self._notifier.ready()
            await self._supervisor.run()
            if self._node is not None:
                await self._node.retire()
            await self._export_last()
            nursery.cancel_scope.cancel()
        if self._supervisor.all_refused:
            return ExitCode.REFUSED
        self._log.info("stopped")
        return ExitCode.OK

    def _remote_events(self, mailbox: Mailbox) -> RemoteEvents:
        events = self._supervisor.events
        return RemoteEvents(events, mailbox, lambda: self._tokens, self._log)

    async def _export_last(self) -> None:
        if self._spans is not None:
            export_by = min(trio.current_time() + _EXPORT_S, self._end_by - _JOURNAL_S)
            with trio.move_on_at(export_by):  # after that, its thread is abandoned
                await trio.to_thread.run_sync(self._spans.close, abandon_on_cancel=True)

    def _control_handler(self, storage: Storage) -> ControlHandler:
        return ControlHandler(
            storage,
            self.services.keys(),
            lambda: [one.status for one in self.services.values()],
            lambda: self._stopping,
        )

    async def _answer_commands(
        self, storage: Storage, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await control.serve(
                storage.directory.control_socket,
                self._control_handler(storage).answer,
                task_status=task_status,
            )
        except control.ControlError as error:  # stanzas matter more than commands
            self._log.error("no command can reach this daemon", why=str(error))
            task_status.started()

    def _tell_warnings(self, settings: Settings) -> None:
        for warning in settings.warnings:
            self._log.warning("configuration", warning=warning)

    def _summary(self) -> str:
        """Return a status line for the service manager."""
        statuses = [one.status for one in self.services.values()]
        attached = sum(one.link.state == "attached" for one in statuses)
        standby = sum(one.link.state == "standby" for one in statuses)
        waiting = sum(one.waiting + one.in_flight for one in statuses)
        others = f" ({standby} by other nodes)" if standby else ""
        return f"{attached} of {len(statuses)} components attached{others}, {waiting} waiting"

    # --- reload

    async def _reload_when_wanted(self) -> None:
        """Reload on request. All requests made before a reload begins are served by it."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted = trio.Event()
            if self._read is None:
                hint = "the configuration came from flags; restart the daemon with other flags"
                self._log.warning("there is no configuration file to read again", hint=hint)
            elif not self._stopping:
                self._notifier.reloading()
                await self._reload(self._read)
                if not self._stopping:
                    self._notifier.ready()

    async def _reload(self, read: Callable[[], Settings]) -> None:
        try:
            settings = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            kept = evolve(settings, listen=self._settings.listen)  # it holds until the next start
            plan = await self._supervisor.reload(kept)
        except ConfigError as error:
            for fault in error.faults:
                self._log.error(
                    "fault in the configuration",
                    key=fault.key,
                    problem=fault.problem,
                    remedy=fault.remedy,
                )
            self._log.error("configuration not changed", source=error.source)
        except CannotReload as error:
            self._log.error("configuration not changed", why=str(error))
        else:
            self._adopt(settings)
            if self._node is not None:
                self._node.configure(about_of(settings))
            self._log.info(
                "configuration read again",
                added=list(plan.added),
                removed=list(plan.removed),
                changed=list(plan.changed),
                restarted=list(plan.restarted),
            )

    def _adopt(self, settings: Settings) -> None:
        """Apply the settings that belong to no component."""
        self._tell_warnings(settings)
        if settings.log.level is not None:
            set_level(settings.log.level)
        if self._listener is not None:
            self._listener.adopt(settings.listen)
            self._tokens = () if settings.listen is None else settings.listen.tokens
        before = self._settings  # the settings at the start
        changed = [one for one in _AT_START_ONLY if getattr(settings, one) != getattr(before, one)]
        if _but_tokens(settings.listen) != _but_tokens(before.listen):
            changed.append("listen")
        for table in changed:
            self._log.warning(
                "this change takes effect at the next start", table=table, hint="restart the daemon"
            )

    # --- signals

    async def run_with_signals(self, early: Iterable[int] = ()) -> ExitCode:
        """Run, and handle signals: SIGTERM and SIGINT drain, a second one stops at once (and
        returns `OTHER`); SIGHUP reloads the configuration. `early` are signals that came before.
        """
        code = ExitCode.OTHER
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals, nursery.cancel_scope, early)
            code = await self.run()
            nursery.cancel_scope.cancel()
        return code

    async def _watch_signals(
        self,
        scope: trio.CancelScope,
        early: Iterable[int],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        watched = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(*watched) as signals:
            task_status.started()
            for number in early:
                signal.raise_signal(number)
            async for number in signals:
                name = signal.Signals(number).name
                if number == signal.SIGHUP:
                    self._take_hangup()
                    continue
                if self._stopping:
                    self._log.warning("stopping at once", signal=name)
                    scope.cancel()
                    return
                self._log.info("stopping", signal=name)
                self.stop()

    def _take_hangup(self) -> None:
        if self._stopping:
            self._log.info("not reading the configuration again: the daemon stops")
        else:
            self.reload()


def _but_tokens(listen: ListenSettings | None) -> ListenSettings | None:
    """Return the settings that a listener does not change while it runs."""
    return None if listen is None else evolve(listen, tokens=())
