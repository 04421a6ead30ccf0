"""One running component: its link, its dispatcher, its endpoint, its part of the journal.

Services share only the journal, so a refused or slow one does not affect another. At most one
service per domain runs. State that its successor needs and does not find in the journal is passed
on as a `Handover`.

If other nodes share the journal, a service first stands by, until its node has the component's
gateway. When the node gives the gateway away, the service drains as if the daemon stopped; when the
node is no longer alive, it is cancelled, because another node may already have taken over. Then
another service stands by. So what a service has in memory is never older than its lease.

If the nodes spread the POSTs, a service that stands by already POSTs the stanzas of its node's
partitions. What only a gateway needs (rooms, contacts, commands) is loaded when it becomes one.
"""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, assert_never

import trio
from attrs import define, evolve, field
from structlog.typing import FilteringBoundLogger

from bridge.capture.recorder import Recorder
from bridge.cluster.ownership import Alone, Ownership
from bridge.cluster.partition import GATEWAY
from bridge.config.settings import (
    Component,
    Settings,
    http_of,
    limits_of,
    limits_written,
    retry_of,
)
from bridge.daemon.status import ComponentSnapshot, ComponentStatus, component_status, snapshot_of
from bridge.dispatch.deferred import DeferredReplies
from bridge.dispatch.iq_relay import IqRelay
from bridge.dispatch.pipeline import Pipeline, Surroundings
from bridge.dispatch.ratelimit import SenderLimiter
from bridge.dispatch.remote_iq import RemoteIqs
from bridge.dispatch.submission import Submission, Submitter
from bridge.dispatch.upload import Uploader
from bridge.dispatch.worker import Poster
from bridge.journal.durable import JournalQueue
from bridge.journal.queue import DeliveryQueue, MemoryQueue
from bridge.journal.shared import SharedQueue
from bridge.journal.state import JournalState
from bridge.journal.storage import Storage
from bridge.journal.store import JournalError
from bridge.telemetry.log import logger
from bridge.telemetry.meter import Counts, Meter
from bridge.telemetry.tracing import Spans
from bridge.webhook.endpoint import Endpoint
from bridge.webhook.observer import PostObserver
from bridge.webhook.pull import PulledEvents
from bridge.webhook.pulled_endpoint import PulledEndpoint
from bridge.webhook.signature import Signer
from bridge.xmpp.announcer import Announcer
from bridge.xmpp.backoff import ReconnectDelay
from bridge.xmpp.command.commands import Commands
from bridge.xmpp.link import Link, Refused
from bridge.xmpp.muc import MucOccupancy
from bridge.xmpp.outbox import Outgoing
from bridge.xmpp.room.rooms import Rooms
from bridge.xmpp.state import MemoryState
from xmppstream import ElementParserThread, StreamOptions
from xmppstream.tap import NO_TAP

_SETTLE_S: Final = 1.0
_CLOSE_S: Final = 1.5
_RETRY_S: Final = 1.0


@define
class Handover:
    """State that passes from a service to the next one of its domain."""

    limiter: SenderLimiter
    rooms: MucOccupancy = field(factory=MucOccupancy)
    meter: Meter = field(factory=Meter)
    state: MemoryState = field(factory=MemoryState)
    """The state of the component while no journal is kept."""


class ClosableEndpoint(Poster, Protocol):
    """An endpoint as its component owns it."""

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    async def retire(self) -> None:
        """Close all connections once no attempt needs them. Do not call `post` again."""
        ...


class ComponentService:
    """Runs one component. Call `run` once; `change` may be called while it runs."""

    def __init__(
        self,
        component: Component,
        settings: Settings,
        storage: Storage | None = None,
        *,
        endpoint: ClosableEndpoint | None = None,
        handover: Handover | None = None,
        spans: Spans | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`storage` is the journal, if there is one, shared with the other components; `recorder`
        captures the traffic of this one.

        Raises:
            OSError, ssl.SSLError: if there is no `endpoint`, and `make_endpoint` raises it.
        """
        stream = settings.stream
        limits = limits_of(settings)
        self.domain = component.domain
        self.handover = handover or Handover(SenderLimiter(settings.limits))
        self.handover.limiter.change(settings.limits)
        self.refused = False  # whether a refusal has ended it
        self.released = False  # whether it ends because another node has the gateway
        self.ended = trio.Event()
        self._component = component
        self._settings = settings
        self._stamps = _stamps(component, settings)
        self._stopping = trio.Event()
        self._ownership: Ownership = Alone() if storage is None else storage.ownership
        self._is_leased = storage is not None and storage.is_shared
        self._begins = trio.Event()  # set when it need no longer stand by
        self._scope: trio.CancelScope | None = None  # while it runs, and does not only stand by
        self._is_attaching = False  # whether it has the gateway, or had it and drains
        self._spreads = storage is not None and storage.spreads
        self._has_link = False
        self._gateway_lost = trio.Event()
        self._ready = False
        self._dispatched = trio.Event()
        self._log: FilteringBoundLogger = logger(component=component.domain)
        self._elements = ElementParserThread(evolve(limits, max_stanza_bytes=stream.max_send_bytes))
        self._storage = storage
        self._journal: JournalQueue | None = None
        queue: DeliveryQueue = MemoryQueue()
        self._kept_state: JournalState | None = None
        if storage is not None:
            self._kept_state = storage.state(component.domain)
            self._entries = ElementParserThread(limits_written(settings))
            queue = self._journal = storage.queue(component.domain, self._entries.parse, self._log)
        self._remote_iqs: RemoteIqs | None = None
        if storage is not None and storage.is_shared:
            about = component.domain, storage.mailbox, self._ownership
            self._remote_iqs = RemoteIqs(*about, self._entries.parse, self._log)
        self._recorder = recorder
        self._endpoint = endpoint or make_endpoint(component, settings, spans, recorder)
        self._pipeline = Pipeline.build(
            component,
            settings,
            queue,
            self._endpoint,
            self._elements.parse,
            self._log,
            Surroundings(
                self.handover.limiter,
                self.handover.rooms,
                self.handover.meter,
                self._kept_state or self.handover.state,
                spans,
                self._submitted,
                self._takes,
                ownership=self._ownership if self._spreads else None,
                remote_iqs=self._remote_iqs,
            ),
        )
        self._relay: IqRelay | None = None
        if storage is not None and storage.is_shared:
            posts = component.domain, storage.mailbox, self._pipeline.submitter
            self._relay = IqRelay(*posts, self._entries.parse, self._log)
        self._dispatcher, self._outbox = self._pipeline.dispatcher, self._pipeline.outbox
        self._watch_pollers(self._endpoint)
        if self._journal is not None:
            self._journal.dropped = self._outbox.drop
        if isinstance(self._journal, SharedQueue):
            self._journal.serve(self._outbox, self._dispatcher.leave_parts)
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
            self.handover.meter,
            exit_on_refusal=stream.exit_on_refusal,
            backoff=ReconnectDelay(holds_lease=self._is_leased),
            changed=self._link_changed,
            may_write=self._is_alive,
        )

    def _is_alive(self) -> bool:
        return self._ownership.is_alive

    def _watch_pollers(self, endpoint: ClosableEndpoint) -> None:
        if isinstance(endpoint, PulledEndpoint):
            endpoint.when_polled_again(self._dispatcher.endpoint_returned)

    def _link_changed(self, attached: bool) -> None:
        self._ownership.attached(self.domain, attached)
        rooms, announcer = self._pipeline.rooms, self._pipeline.announcer
        if attached:
            rooms.attached()
            announcer.attached()
        else:
            rooms.detached()
            announcer.detached()

    def _submitted(self, uid: str, data: bytes) -> None:
        if self._recorder is not None:
            self._recorder.submitted(uid, data)

    def _takes(self, submission: Submission) -> bool:
        """Return whether a submission is accepted now: a draft until this has ended, because it is
        only parsed; a send that the journal keeps likewise, but only once the kept stanzas are
        recovered (the successor reads the journal after this has ended); all others while it is
        open.
        """
        match submission:
            case "draft":
                return not self.ended.is_set()
            case "send" if self._journal is not None:
                return self._ready and not self.ended.is_set()
            case "send" | "query":
                return self.is_open and (self._is_attaching or not self._spreads)
            case _:
                assert_never(submission)

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        return self.handover.meter.counts

    @property
    def rooms(self) -> Rooms:
        """Its rooms."""
        return self._pipeline.rooms

    def exists(self, address: str) -> bool:
        """Return whether it has an address."""
        return self._pipeline.contacts.book.exists(address)

    @property
    def submitter(self) -> Submitter:
        """Sends stanzas that the HTTP API accepts."""
        return self._pipeline.submitter

    @property
    def deferred(self) -> DeferredReplies:
        """Takes the replies that endpoints give later."""
        return self._pipeline.deferred

    @property
    def uploader(self) -> Uploader:
        """Uploads files."""
        return self._pipeline.uploader

    @property
    def announcer(self) -> Announcer:
        """Announces its addresses; it has their contacts and profiles."""
        return self._pipeline.announcer

    @property
    def commands(self) -> Commands:
        """The commands that people can run."""
        return self._pipeline.commands

    @property
    def is_open(self) -> bool:
        """Whether stanzas put into its outbox are sent, by it or by the next one of its domain: it
        runs, has recovered the kept stanzas, and is not stopping.
        """
        return self._ready and not self._stopping.is_set() and not self.ended.is_set()

    @property
    def status(self) -> ComponentStatus:
        """The status, without the journal's part."""
        endpoint = self._endpoint
        pollers = endpoint.idle_pollers if isinstance(endpoint, PulledEndpoint) else None
        return component_status(
            self._component,
            self._link,
            self._dispatcher,
            self.counts,
            self.rooms,
            pollers,
            is_gateway=self._is_attaching or self._ownership.is_gateway(self.domain),
        )

    @property
    def snapshot(self) -> ComponentSnapshot:
        """A snapshot for monitoring."""
        return snapshot_of(
            self.status,
            self._link,
            self._dispatcher,
            self.handover.meter,
            self._pipeline.contacts.subscriber_count,
            len(self._ownership.parts(self.domain)),
        )

    # --- running

    async def run(self) -> None:
        """Run until `stop` and the drain after it, or, with `exit_on_refusal`, until a refusal.

        Draining takes at most `grace_s` and 2 s. Cancellation drops everything at once.
        """
        unsubscribe = self._ownership.on_change(self._ownership_changed)
        self._ownership.watch(self.domain, self._busy)
        try:
            if not self._spreads:
                await self._wait_gateway()
            if not self._stopping.is_set():
                await self._run()
        finally:
            unsubscribe()
            await self._end()

    async def _wait_gateway(self) -> None:
        """Stand by. Returns as well if the service is to stop."""
        while not self._ownership.is_gateway(self.domain) and not self._stopping.is_set():
            self._begins = trio.Event()
            await self._begins.wait()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._scope, self._is_attaching = nursery.cancel_scope, not self._spreads
            nursery.start_soon(self._stop, nursery.cancel_scope)
            if self._journal is not None:
                self._outbox.put_missing(await self._recovered(self._journal))
            await self._pipeline.promises.load()  # before the first POST, which has a URL
            if self._journal is not None:
                nursery.start_soon(self._journal.run, self._dispatcher)
            else:
                self._pipeline.streams.load(())
            if self._spreads:
                self._ready = True
                await self._follow_gateway()
                if self._stopping.is_set():
                    return
            self._is_attaching = self._has_link = True
            self._pipeline.rooms.load(self._kept_state or self.handover.state)
            nursery.start_soon(self._pipeline.room_runner.run)
            self._pipeline.contacts.load()
            self._pipeline.offers.load()
            self._pipeline.commands.load(self._log)
            nursery.start_soon(self._pipeline.announcer.run)
            nursery.start_soon(self._keep_attached, nursery.cancel_scope)
            self._ready = True

    async def _end(self) -> None:
        self._pipeline.pending_iqs.end("the component has stopped")
        if self._remote_iqs is not None and self._relay is not None:
            self._remote_iqs.close()
            self._relay.close()
        if self._journal is not None and self._storage is not None:
            self._entries.close()
            self._storage.release(self._journal)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.2):
            await self._endpoint.aclose()
        self._elements.close()
        self._scope, self._is_attaching, self._has_link = None, False, False
        self.ended.set()
        self._ownership.changed()

    def _busy(self) -> Collection[int]:
        is_worker = self._spreads and not self.ended.is_set()
        parts = self._dispatcher.busy_parts if is_worker else frozenset()
        is_gateway = self._has_link if self._spreads else self._is_attaching
        return {*parts, GATEWAY} if is_gateway else parts

    def _ownership_changed(self) -> None:
        if self._ownership.is_gateway(self.domain):
            self._begins.set()
        elif self._scope is not None and not self._ownership.is_alive:
            self._log.warning("ending at once, because another node may have taken over")
            self.released, self._ready = True, False
            self._scope.cancel()
        elif self._is_attaching:
            self.released, self._ready = True, False
            self._gateway_lost.set()
            self._stopping.set()

    def stop(self, *, is_replaced: bool = False) -> None:
        """Begin to drain; `run` returns when the drain is complete. Unless the component is
        replaced at once, by another service or on another node, its contacts are told first that it
        leaves.
        """
        if not is_replaced and not self._ownership.has_successor(self.domain):
            self._pipeline.announcer.leave()
        self._stopping.set()
        self._begins.set()

    async def _stop(self, service: trio.CancelScope) -> None:
        """Own the dispatcher's task; after `stop`, drain it and then cancel all other tasks."""
        dispatching = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dispatch, dispatching)
            await self._stopping.wait()
            await self._drain(dispatching)
        service.cancel()

    async def _recovered(self, journal: JournalQueue) -> list[Outgoing]:
        """Load the small state, recover the pending stanzas, and return the replies. Retry while it
        fails.
        """
        assert self._storage is not None
        assert self._kept_state is not None
        told = False
        while True:
            try:
                await self._kept_state.load()
                streams = self._pipeline.streams
                streams.load(await journal.still_pending(streams.kept))
                await self._storage.recover(journal)
                return await journal.recovered_replies()
            except JournalError as error:
                if not told:
                    self._log.error("cannot read what is kept from before", why=str(error))
                told = True
                await trio.sleep(_RETRY_S)

    async def _follow_gateway(self) -> None:
        """Stand by, and read what the gateway before has written meanwhile. Returns as well if the
        service is to stop.
        """
        assert self._kept_state is not None
        while not self._stopping.is_set():
            await self._wait_gateway()
            try:
                await self._kept_state.load()
            except JournalError:  # the committer logs it
                await trio.sleep(_RETRY_S)
                continue
            await self._pipeline.promises.load()
            if self._ownership.is_gateway(self.domain):  # not lost again meanwhile
                return

    async def _keep_attached(self, service: trio.CancelScope) -> None:
        try:
            async with trio.open_nursery() as nursery:
                if self._spreads:
                    nursery.start_soon(self._detach_when_lost, nursery.cancel_scope)
                try:
                    await self._link.run()
                except Refused:
                    self.refused = True
                    service.cancel()
        finally:
            self._has_link = False
            self._ownership.changed()

    async def _detach_when_lost(self, link: trio.CancelScope) -> None:
        """Close the link before the POSTs have ended: another node waits for it."""
        await self._gateway_lost.wait()
        with trio.move_on_after(_CLOSE_S):
            await self._link.close()
        link.cancel()

    async def _dispatch(self, scope: trio.CancelScope) -> None:
        with scope:
            await self._dispatcher.run()
        self._dispatched.set()

    async def _drain(self, dispatching: trio.CancelScope) -> None:
        grace_s = self._settings.stream.grace_s
        self._log.info("draining", grace_s=grace_s)
        with trio.move_on_after(grace_s):
            await self._dispatcher.drain()
            if self._journal is None or self._link.stream is not None:  # otherwise it keeps them
                await self._outbox.wait_written()
        dispatching.cancel()
        await self._dispatched.wait()
        given_up = 0
        close_by = trio.current_time() + _CLOSE_S
        with trio.move_on_after(_SETTLE_S):  # a disk may hang
            given_up = await self._dispatcher.give_up()
        self.handover.limiter.calm(self._log, now=True)
        if given_up:
            self._log.warning("unfinished stanzas answered by errors", count=given_up)
        self._pipeline.rooms.leave_all()
        self._pipeline.room_runner.flush()
        with trio.move_on_at(close_by):
            await self._link.close()
        if len(self._outbox):
            event = "replies could not be delivered"
            if self._journal is not None:
                event = "replies stay in the journal until they are confirmed"
            self._log.warning(event, count=len(self._outbox))

    # --- reload

    def differs(self, component: Component, settings: Settings) -> bool:
        """Return whether a configuration differs from the current one for this component."""
        ours = _all_of(self._component, self._settings)
        return _all_of(component, settings) != ours or _stamps(component, settings) != self._stamps

    def can_change(self, component: Component, settings: Settings) -> bool:
        """Return whether `change` suffices: the stream and the order of waiting stanzas stay.

        A refused component starts again, so a reload tries it at once.
        """
        if self.ended.is_set() or self._link.state.refused:
            return False
        return _rooted(component, settings) == _rooted(self._component, self._settings)

    def change(
        self, component: Component, settings: Settings, endpoint: ClosableEndpoint
    ) -> ClosableEndpoint:
        """Use another configuration from now on, and return the previous endpoint, which running
        POSTs still use. Waiting stanzas keep their budget.
        """
        moved = component.post_url != self._component.post_url
        self._component, self._settings = component, settings
        self._stamps = _stamps(component, settings)
        self._pipeline.change(component, settings, endpoint, moved=moved)
        self._watch_pollers(endpoint)
        left, self._endpoint = self._endpoint, endpoint
        return left


def make_endpoint(
    component: Component,
    settings: Settings,
    spans: Spans | None = None,
    observer: PostObserver | None = None,
    events: PulledEvents | None = None,
) -> ClosableEndpoint:
    """Return a new endpoint for a component; no connection is opened yet. A pulled one offers its
    stanzas in `events`.

    Raises:
        OSError, ssl.SSLError: if the component's certificates cannot be used.
    """
    if component.post_url.is_pulled:
        return PulledEndpoint(
            component.domain,
            component.post_url.shown,
            events or PulledEvents(),
            observer,
            spans,
            text_replies=component.text_replies,
        )
    http, signer = http_of(component, settings), Signer(component.webhook_secrets)
    return Endpoint(
        component.post_url,
        http,
        signer=signer,
        observer=observer,
        spans=spans,
        text_replies=component.text_replies,
    )


def _all_of(component: Component, settings: Settings) -> tuple[object, ...]:
    """Return all settings that a component goes by."""
    http, retry = http_of(component, settings), retry_of(component, settings)
    own = evolve(component, http=None, retry=None)
    return own, http, retry, settings.stream, settings.limits


def _stamps(component: Component, settings: Settings) -> list[tuple[int, int, int] | None]:
    """Return a stamp per certificate file: a replaced one has another. They are read only once."""
    http = http_of(component, settings)
    stamps: list[tuple[int, int, int] | None] = []
    for name in (http.ca_file, http.client_cert_file, http.client_key_file):
        stamp = None
        if name is not None:
            with suppress(OSError):
                found = Path(name).stat()
                stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        stamps.append(stamp)
    return stamps


def _rooted(component: Component, settings: Settings) -> tuple[object, ...]:
    """Return the settings that cannot change while a stream lasts."""
    stream = evolve(settings.stream, grace_s=type(settings.stream)().grace_s)
    return component.domain, component.secret, component.server, component.order, stream
