"""The services of one daemon, by domain, and the change to another configuration.

One task, `run`, owns all services: only it starts them, and it applies one configuration at a time.
A service that is not affected goes on undisturbed; one that can change while running does; any
other drains, as when the daemon stops, and starts again. In between, the journal keeps unfinished
stanzas, so nothing is lost and nothing is done twice.

Invariant: for each domain, only the service in `services` may run. One that has ended, refused or
about to be replaced, stays there until it is removed.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import trio
from attrs import field, frozen

from bridge.capture.recorder import Recorder, Recorders
from bridge.config.settings import Component, ConfigFault, Settings
from bridge.config.value import is_loopback
from bridge.daemon.component import (
    ClosableEndpoint,
    ComponentService,
    Handover,
    make_endpoint,
)
from bridge.journal.storage import Storage
from bridge.journal.store import JournalError
from bridge.telemetry.log import logger
from bridge.telemetry.tracing import Spans
from bridge.webhook.pull import PulledEvents

_NO_DOMAINS: Final[tuple[str, ...]] = ()


class CannotReload(Exception):
    """A configuration cannot be applied; nothing was changed."""

    def __init__(self, fault: ConfigFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@frozen
class Plan:
    """The effect of another configuration on each domain."""

    added: tuple[str, ...] = _NO_DOMAINS
    removed: tuple[str, ...] = _NO_DOMAINS
    changed: tuple[str, ...] = _NO_DOMAINS
    restarted: tuple[str, ...] = _NO_DOMAINS


@frozen
class _ReloadRequest:
    """A configuration to apply."""

    settings: Settings
    plan: Plan
    endpoints: Mapping[str, ClosableEndpoint]
    done: trio.Event = field(factory=trio.Event)


class Supervisor:
    """Runs all components of a daemon. To be created within trio."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage | None = None,
        spans: Spans | None = None,
        recording: Recorders | None = None,
    ) -> None:
        """Prepare a service for each component.

        Raises:
            OSError, ssl.SSLError: if the certificates of `[http]` cannot be used.
        """
        self._log = logger()
        self._settings = settings
        self._storage = storage
        self._spans = spans
        self._recording = recording
        self.events = PulledEvents()
        """The events of all pulled components."""
        self.events.domains = _pulled(settings)
        self._services = {
            one.domain: ComponentService(
                one,
                settings,
                storage,
                endpoint=self._endpoint_of(one, settings),
                spans=spans,
                recorder=self._recorder_of(one),
            )
            for one in settings.components
        }
        self._order: _ReloadRequest | None = None
        self._wake = trio.Event()
        self._stopping = False
        self._over = False

    @property
    def services(self) -> Mapping[str, ComponentService]:
        """The services by domain, a live view. Look a service up again after each wait: it may have
        been replaced. It `is_open` while it accepts stanzas to send.
        """
        return MappingProxyType(self._services)

    @property
    def settings(self) -> Settings:
        """The current settings."""
        return self._settings

    @property
    def all_refused(self) -> bool:
        """Whether a refusal has ended every component (`exit_on_refusal`)."""
        return all(one.refused for one in self._services.values())

    async def run(self) -> None:
        """Run all services until stopped, or until a refusal has ended all of them.

        Cancellation drops everything at once.
        """
        try:
            async with trio.open_nursery() as nursery:
                for component in self._settings.components:
                    self._announce(component)
                    nursery.start_soon(self._work, self._services[component.domain])
                await self._tell_orphaned()
                while not self._stopping:
                    if self._order is not None:
                        await self._follow(self._order, nursery)
                    elif self.all_refused:
                        break
                    elif self._stand_by_again(nursery):
                        continue
                    else:
                        self._wake = trio.Event()
                        await self._wake.wait()
        finally:
            self._over = True
            self._end_order()

    def stop(self) -> None:
        """Drain all services; `run` returns when the drain is complete."""
        self._stopping = True
        for service in self._services.values():
            service.stop()
        self._wake.set()

    async def reload(self, settings: Settings) -> Plan:
        """Apply another configuration, and return its effect when it is complete, which takes as
        long as the drains. Does nothing if `run` is stopping or has ended. Only one at a time.

        Raises:
            CannotReload: if it cannot be applied; nothing was changed.

        Cancellation only ends the wait.
        """
        assert self._order is None, "only one reload at a time"
        plan = self._plan(settings)
        order = _ReloadRequest(settings, plan, self._new_endpoints(settings, plan))
        if not self._stopping and not self._over:
            self._order = order
            self._wake.set()
            await order.done.wait()
        return plan

    # --- reload

    def _plan(self, settings: Settings) -> Plan:
        added, changed, restarted = [], [], []
        for component in settings.components:
            domain = component.domain
            service = self._services.get(domain)
            if service is None:
                added.append(domain)
            elif not service.can_change(component, settings):
                restarted.append(domain)
            elif service.differs(component, settings):
                changed.append(domain)
        known = {one.domain for one in settings.components}
        removed = tuple(domain for domain in self._services if domain not in known)
        return Plan(tuple(added), removed, tuple(changed), tuple(restarted))

    def _new_endpoints(self, settings: Settings, plan: Plan) -> dict[str, ClosableEndpoint]:
        """Return the new endpoints. This can fail, so it is done before anything is changed."""
        new = {*plan.added, *plan.changed, *plan.restarted}
        made = {}
        for one in settings.components:
            if one.domain not in new:
                continue
            try:
                made[one.domain] = self._endpoint_of(one, settings)
            except OSError as error:  # also ssl.SSLError; the loader has checked the files
                key = "http" if one.http is None else f'component."{one.domain}".http'
                problem = f"its certificates cannot be used ({error})"
                raise CannotReload(ConfigFault(key, problem, "Check the files")) from None
        return made

    async def _follow(self, order: _ReloadRequest, services: trio.Nursery) -> None:
        """Apply a configuration; the nursery `services` runs the services that it starts."""
        plan, settings = order.plan, order.settings
        self._settings = settings
        self.events.domains = _pulled(settings)
        async with trio.open_nursery() as draining:
            for component in settings.components:
                domain = component.domain
                if domain in plan.added:
                    self._start(component, order.endpoints[domain], None, services)
                elif domain in plan.changed:
                    left = self._services[domain].change(
                        component, settings, order.endpoints[domain]
                    )
                    services.start_soon(left.retire)
                elif domain in plan.restarted:
                    draining.start_soon(self._replace, component, order.endpoints[domain], services)
            for domain in plan.removed:
                draining.start_soon(self._remove, domain)
        self._end_order()

    async def _replace(
        self, component: Component, endpoint: ClosableEndpoint, services: trio.Nursery
    ) -> None:
        old = self._services[component.domain]
        old.stop(is_replaced=True)
        await old.ended.wait()
        if not self._stopping:
            self._start(component, endpoint, old.handover, services)

    def _stand_by_again(self, services: trio.Nursery) -> bool:
        """Replace the services that have ended because other nodes have their gateways."""
        released = [one for one in self._services.values() if one.released and one.ended.is_set()]
        for one in released:
            component = next(c for c in self._settings.components if c.domain == one.domain)
            try:
                endpoint = self._endpoint_of(component, self._settings)
            except OSError as error:  # also ssl.SSLError; the files have changed meanwhile
                self._log.error(
                    "this node no longer stands by: the certificates cannot be used",
                    component=one.domain,
                    why=str(error),
                    hint="mend them and restart the daemon",
                )
                one.released = False
                continue
            self._start(component, endpoint, one.handover, services)
        return bool(released)

    async def _remove(self, domain: str) -> None:
        old = self._services[domain]
        old.stop()
        await old.ended.wait()
        del self._services[domain]
        await self._tell_orphaned(domain)

    def _start(
        self,
        component: Component,
        endpoint: ClosableEndpoint,
        handover: Handover | None,
        services: trio.Nursery,
    ) -> None:
        self._announce(component)
        service = ComponentService(
            component,
            self._settings,
            self._storage,
            endpoint=endpoint,
            handover=handover,
            spans=self._spans,
            recorder=self._recorder_of(component),
        )
        self._services[component.domain] = service
        services.start_soon(self._work, service)

    def _endpoint_of(self, component: Component, settings: Settings) -> ClosableEndpoint:
        recorder = self._recorder_of(component)
        return make_endpoint(component, settings, self._spans, recorder, self.events)

    def _recorder_of(self, component: Component) -> Recorder | None:
        return None if self._recording is None else self._recording.of(component)

    async def _work(self, service: ComponentService) -> None:
        await service.run()
        self._wake.set()

    def _end_order(self) -> None:
        if self._order is not None:
            self._order.done.set()
            self._order = None

    # --- log messages

    def _announce(self, component: Component) -> None:
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

    async def _tell_orphaned(self, domain: str | None = None) -> None:
        """Log the journal's holdings of components that are not configured, or only of `domain`."""
        if self._storage is None:
            return
        try:
            orphaned = await self._storage.orphaned(self._services)
        except JournalError:  # the committer logs it
            return
        for name, totals in orphaned.items():
            if domain in (None, name):
                self._log.warning(
                    "the journal holds stanzas of a component that is not configured",
                    component=name,
                    pending=totals.pending,
                    replies=totals.replies,
                    dead=totals.dead,
                    hint="configure it again to have them delivered; see xmpp-bridge queue",
                )


def _pulled(settings: Settings) -> frozenset[str]:
    """Return the domains of the components that are pulled."""
    return frozenset(one.domain for one in settings.components if one.post_url.is_pulled)
