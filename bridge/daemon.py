"""The daemon: one nursery of services, signals, and the drain.

A service is one component: its link, its dispatcher, its endpoint. Services share nothing, so that
the refusal or the slowness of one does not touch another.
"""

import ipaddress
import signal
from enum import IntEnum
from typing import Final

import trio
from attrs import evolve
from structlog.typing import FilteringBoundLogger

from bridge.config import Component, Settings
from bridge.dispatch import Counts, Dispatcher
from bridge.endpoint import Endpoint, make_transport
from bridge.envelope import Composer
from bridge.link import HINTS, Link, Refused
from bridge.log import logger
from bridge.outbox import Outbox
from xmppstream import ElementParserThread, Limits, StreamFaulted, StreamOptions

FLUSH_TIMEOUT_S: Final = 1.5


class ExitCode(IntEnum):
    """What the process ends with."""

    OK = 0
    OTHER = 1
    USAGE = 2
    REFUSED = 3


class Service:
    """One component at work."""

    def __init__(self, component: Component, settings: Settings) -> None:
        http, stream = settings.http, settings.stream
        limits = Limits(
            max_stanza_bytes=stream.max_stanza_bytes,
            max_depth=stream.max_depth,
            max_attributes=stream.max_attributes,
            max_name_bytes=stream.max_name_bytes,
            max_header_bytes=stream.max_header_bytes,
        )
        self.domain = component.domain
        self.refused = False
        self._dispatched = trio.Event()
        self._grace_s = stream.grace_s
        self._log: FilteringBoundLogger = logger(component=component.domain)
        self._outbox = Outbox()
        self._endpoint = Endpoint(component.post_url, http, make_transport(http))
        self._elements = ElementParserThread(evolve(limits, max_stanza_bytes=stream.max_send_bytes))
        self._dispatcher = Dispatcher(
            component,
            self._endpoint,
            self._outbox,
            Composer(component.domain, stream.max_send_bytes, self._elements.parse),
            self._log,
            max_in_flight=http.max_in_flight,
            timeout_s=http.timeout_s,
        )
        self._link = Link(
            component,
            StreamOptions(
                limits=limits,
                keepalive_s=stream.keepalive_s,
                handshake_timeout_s=stream.handshake_timeout_s,
                close_timeout_s=0.5,
            ),
            self._outbox,
            self._dispatcher.handle,
            self._log,
        )

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return self._dispatcher.counts

    async def run(self, stopping: trio.Event) -> None:
        """Work until the server refuses for good, or until `stopping` is set and all is drained.

        Takes at most `grace_s` and 2 s to stop. Cancellation drops everything at once.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_attached, nursery.cancel_scope)
                dispatching = trio.CancelScope()
                nursery.start_soon(self._dispatch, dispatching)
                await stopping.wait()
                await self._drain(dispatching)
                nursery.cancel_scope.cancel()
        finally:
            self._elements.close()
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
            await self._outbox.wait_written()
        dispatching.cancel()
        await self._dispatched.wait()
        given_up = self._dispatcher.give_up()
        if given_up:
            self._log.warning("unfinished stanzas answered by errors", count=given_up)
        with trio.move_on_after(FLUSH_TIMEOUT_S):
            await self._link.close()
        if len(self._outbox):
            self._log.warning("replies could not be delivered", count=len(self._outbox))


class Daemon:
    """All components of one configuration."""

    def __init__(self, settings: Settings) -> None:
        self._log = logger()
        self._settings = settings
        self._services = [Service(component, settings) for component in settings.components]
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
            for service in self._services:
                nursery.start_soon(service.run, self._stopping)
        if all(service.refused for service in self._services):
            return ExitCode.REFUSED
        self._log.info("stopped")
        return ExitCode.OK

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
