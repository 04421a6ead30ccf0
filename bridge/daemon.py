"""The daemon: one nursery of services, signals, and the drain.

A service is one component: its link, its dispatcher, its endpoint. Services share nothing, so that
the refusal or the slowness of one does not touch another.
"""

import ipaddress
import signal
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import trio
from attrs import evolve
from structlog.typing import FilteringBoundLogger

from bridge import control
from bridge.admission import Admission
from bridge.auto import Automaton
from bridge.config import Component, Settings
from bridge.conversation import Conversations
from bridge.courier import Courier
from bridge.dispatch import WRITTEN_FACTOR, Dispatcher
from bridge.endpoint import Endpoint
from bridge.envelope import Composer
from bridge.keeper import JournalKeeper, Keeper, MemoryKeeper
from bridge.link import HINTS, Link, Refused
from bridge.log import logger
from bridge.outbox import Outbox
from bridge.recorder import Recorder
from bridge.responder import Responder
from bridge.rooms import Rooms
from bridge.status import ComponentStatus, component_status
from bridge.storage import Storage
from bridge.teller import Counts, Teller
from bridge.webhook import Signer
from xmppstream import ElementParserThread, Limits, StreamFaulted, StreamOptions
from xmppstream.tap import NO_TAP

FLUSH_TIMEOUT_S: Final = 1.5


class ExitCode(IntEnum):
    """What the process ends with."""

    OK = 0
    OTHER = 1
    USAGE = 2
    REFUSED = 3


class Service:
    """One component at work."""

    def __init__(
        self,
        component: Component,
        settings: Settings,
        storage: Storage | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`storage` is the journal that is shared with the other components, if there is one;
        `recorder` is told all that this one does.
        """
        stream = settings.stream
        limits = Limits(
            max_stanza_bytes=stream.max_stanza_bytes,
            max_depth=stream.max_depth,
            max_attributes=stream.max_attributes,
            max_name_bytes=stream.max_name_bytes,
            max_header_bytes=stream.max_header_bytes,
        )
        self.domain = component.domain
        self._component = component
        self.refused = False
        self._dispatched = trio.Event()
        self._grace_s = stream.grace_s
        self._log: FilteringBoundLogger = logger(component=component.domain)
        self._elements = ElementParserThread(evolve(limits, max_stanza_bytes=stream.max_send_bytes))
        self._journal: JournalKeeper | None = None
        keeper: Keeper = MemoryKeeper()
        if storage is not None:
            self._entries = ElementParserThread(_limits_written(limits))
            keeper = self._journal = storage.keeper(
                component.domain, self._entries.parse, self._log
            )
        self._outbox = Outbox(component.domain, confirmed=keeper.confirm, abandoned=keeper.abandon)
        self._endpoint = Endpoint(
            component.post_url,
            settings.http,
            signer=Signer(component.webhook_secrets),
            witness=recorder,
        )
        self._dispatcher = self._make_dispatcher(component, settings, keeper)
        self._link = Link(
            component,
            StreamOptions(
                limits=limits,
                keepalive_s=stream.keepalive_s,
                handshake_timeout_s=stream.handshake_timeout_s,
                close_timeout_s=0.5,
                tap=recorder or NO_TAP,
            ),
            self._outbox,
            self._dispatcher.handle,
            self._log,
        )

    def _make_dispatcher(
        self, component: Component, settings: Settings, keeper: Keeper
    ) -> Dispatcher:
        http, log = settings.http, self._log
        rooms, automaton = Rooms(), Automaton(component.name)
        teller = self._teller = Teller(self._outbox, rooms, log)
        composer = Composer(component.domain, settings.stream.max_send_bytes, self._elements.parse)
        return Dispatcher(
            Admission(component, automaton, rooms, teller, log),
            Courier(self._endpoint, composer, automaton, rooms, log, http.timeout_s),
            keeper,
            self._outbox,
            teller,
            rooms,
            log,
            conversations=Conversations(component.order),
            policy=settings.retry,
            max_in_flight=http.max_in_flight,
            max_xml_length=WRITTEN_FACTOR * settings.stream.max_stanza_bytes,
        )

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return self._teller.counts

    @property
    def status(self) -> ComponentStatus:
        """How it is, but for what the journal has of it."""
        return component_status(
            self._component, self._link, self._dispatcher, self.counts, refused=self.refused
        )

    async def run(self, stopping: trio.Event) -> None:
        """Work until the server refuses for good, or until `stopping` is set and all is drained.

        Takes at most `grace_s` and 2 s to stop. Cancellation drops everything at once.

        Raises:
            JournalError: what is kept from before cannot be read.
        """
        try:
            async with trio.open_nursery() as nursery:
                if self._journal is not None:
                    self._outbox.put(await self._journal.recovered_replies())
                    nursery.start_soon(self._journal.run)
                nursery.start_soon(self._keep_attached, nursery.cancel_scope)
                dispatching = trio.CancelScope()
                nursery.start_soon(self._dispatch, dispatching)
                await stopping.wait()
                await self._drain(dispatching)
                nursery.cancel_scope.cancel()
        finally:
            self._elements.close()
            if self._journal is not None:
                self._entries.close()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.2):
                await self._endpoint.aclose()

    async def _keep_attached(self, service: trio.CancelScope) -> None:
        try:
            await self._link.run()
        except Refused as refusal:
            self.refused = True
            end = refusal.end
            hint = HINTS.get(end.condition, "") if isinstance(end, StreamFaulted) else ""
            self._log.error("the server refuses this component", why=str(end), hint=hint)
            service.cancel()

    async def _dispatch(self, scope: trio.CancelScope) -> None:
        with scope:
            await self._dispatcher.run()
        self._dispatched.set()

    async def _drain(self, dispatching: trio.CancelScope) -> None:
        self._log.info("draining", grace_s=self._grace_s)
        with trio.move_on_after(self._grace_s):
            await self._dispatcher.drain()
            if self._journal is None or self._link.stream is not None:  # else it keeps them
                await self._outbox.wait_written()
        dispatching.cancel()
        await self._dispatched.wait()
        given_up = 0
        with trio.move_on_after(FLUSH_TIMEOUT_S):  # a disk may hang
            given_up = await self._dispatcher.give_up()
        if given_up:
            self._log.warning("unfinished stanzas answered by errors", count=given_up)
        with trio.move_on_after(FLUSH_TIMEOUT_S):
            await self._link.close()
        if len(self._outbox):
            event = "replies could not be delivered"
            if self._journal is not None:
                event = "replies stay in the journal until they are confirmed"
            self._log.warning(event, count=len(self._outbox))


class Daemon:
    """All components of one configuration."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage | None = None,
        recorders: Mapping[str, Recorder] | None = None,
    ) -> None:
        """Without `storage`, what is accepted is kept in memory only. `recorders`, by domain, are
        told what the components do.
        """
        self._log = logger()
        self._settings = settings
        self._storage = storage
        self._recorders = recorders or {}
        self._services = [
            Service(component, settings, storage, self._recorders.get(component.domain))
            for component in settings.components
        ]
        self._stopping = trio.Event()

    @property
    def counts(self) -> dict[str, Counts]:
        """What was done so far, by component."""
        return {service.domain: service.counts for service in self._services}

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done."""
        self._stopping.set()

    async def run(self) -> ExitCode:
        """Run until stopped, or until the server has refused every component for good.

        Cancellation stops at once: what is not done is dropped.
        """
        for warning in self._settings.warnings:
            self._log.warning("configuration", warning=warning)
        for component in self._settings.components:
            self._log.info(
                "starting",
                component=component.domain,
                server=str(component.server),
                endpoint=str(component.post_url),
                post_stanzas=sorted(component.post_stanzas),
            )
            if not component.server.tls and not is_loopback(component.server.host):
                self._log.warning(
                    "the stream to the server is not encrypted, and not on loopback",
                    component=component.domain,
                    server=str(component.server),
                    hint="set tls = true, or use a tunnel",
                )
        async with trio.open_nursery() as nursery:
            for recorder in self._recorders.values():
                await nursery.start(recorder.run)
            if self._storage is not None:
                self._tell_orphaned(self._storage)
                await nursery.start(self._storage.committer.run)
                await nursery.start(self._answer_commands, self._storage)
            await self._run_services()
            nursery.cancel_scope.cancel()
        if all(service.refused for service in self._services):
            return ExitCode.REFUSED
        self._log.info("stopped")
        return ExitCode.OK

    async def _run_services(self) -> None:
        async with trio.open_nursery() as nursery:
            for service in self._services:
                nursery.start_soon(service.run, self._stopping)

    async def _answer_commands(
        self, storage: Storage, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        responder = Responder(
            storage,
            {one.domain for one in self._services},
            lambda: [one.status for one in self._services],
            self._stopping.is_set,
        )
        try:
            await control.serve(
                storage.directory.control_socket, responder.answer, task_status=task_status
            )
        except control.ControlError as error:  # stanzas matter more than commands
            self._log.error("no command can reach this daemon", why=str(error))
            task_status.started()

    def _tell_orphaned(self, storage: Storage) -> None:
        for domain, totals in storage.orphaned(one.domain for one in self._services).items():
            self._log.warning(
                "the journal holds stanzas of a component that is not configured",
                component=domain,
                pending=totals.pending,
                replies=totals.replies,
                dead=totals.dead,
                hint="configure it again to have them delivered; see xmpp-bridge queue",
            )

    async def run_with_signals(self) -> ExitCode:
        """As `run`: SIGTERM and SIGINT drain, a second one stops at once (then `OTHER`)."""
        code = ExitCode.OTHER
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals, nursery.cancel_scope)
            code = await self.run()
            nursery.cancel_scope.cancel()
        return code

    async def _watch_signals(
        self,
        scope: trio.CancelScope,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if self._stopping.is_set():
                    self._log.warning("stopping at once", signal=name)
                    scope.cancel()
                    return
                self._log.info("stopping", signal=name)
                self.stop()


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _limits_written(limits: Limits) -> Limits:
    """Give limits by which everything that was accepted by `limits` can be read back, as we have
    written it: with other escapes, and a namespace declared at each name.
    """
    return evolve(
        limits,
        max_stanza_bytes=2 * WRITTEN_FACTOR * limits.max_stanza_bytes,
        max_attributes=3 * limits.max_attributes + 1,
    )
