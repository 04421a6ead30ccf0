"""The status of a daemon: the answer to `status`, for commands and scripts. It holds no secrets.

Times are Unix times in s; a missing one (a link that makes no further attempt) is null.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal, TypeVar

import msgspec
import trio
from attrs import frozen
from msgspec import Struct

from bridge import __version__
from bridge.cluster.partition import PARTITIONS
from bridge.config.settings import Component
from bridge.daemon.control import AnyRequest, AskStatus
from bridge.dispatch.conversation import Conversations
from bridge.dispatch.dispatcher import Dispatcher
from bridge.journal.admin import QueueAdmin, holdings
from bridge.journal.nodes import nodes_of
from bridge.journal.request import PROTOCOL, Holding, Holdings, NodeStatus
from bridge.journal.storage import Storage
from bridge.journal.store import JournalError, JournalStore
from bridge.telemetry.meter import Counts, Meter
from bridge.webhook.retry import CircuitBreaker
from bridge.xmpp.link import Link
from bridge.xmpp.room.room import Phase, Room
from bridge.xmpp.room.rooms import Rooms

T = TypeVar("T")
RoomState = Literal["joined", "joining", "waiting", "out"]
LinkName = Literal["attached", "attaching", "waiting", "refused", "standby"]
_TOTALS_S: Final = 2.0
"""How long the status waits for the journal: a disk that hangs is reported, too."""


class LinkStatus(Struct, frozen=True, kw_only=True):
    """`why` explains `waiting` and `refused`. `since` is when the link was attached or lost. With
    `standby`, another node attaches as the component, and this one does not try.

    `shared` is when another instance of this component was last noticed; None if none was lately.
    """

    state: LinkName
    server: str
    since: float | None
    why: str
    next_attempt: float | None
    shared: float | None = None


class EndpointStatus(Struct, frozen=True, kw_only=True):
    """`down` while the circuit breaker is open; `probing` while a single POST probes it. `pollers`
    is how many wait for an event; None if the component is not pulled.
    """

    state: Literal["up", "down", "probing"]
    url: str
    next_probe: float | None
    pollers: int | None = None


class RoomStatus(Struct, frozen=True, kw_only=True):
    """A room that a component keeps. `why` explains a state other than `joined`."""

    jid: str
    local: str
    nick: str
    state: RoomState
    why: str
    since: float | None
    next_attempt: float | None
    occupants: int


class ComponentStatus(Struct, frozen=True, kw_only=True):
    """One component. `in_flight` and `waiting` count stanzas in memory; `kept` is the journal's."""

    domain: str
    link: LinkStatus
    endpoint: EndpointStatus
    in_flight: int
    waiting: int
    counts: Counts
    kept: Holding | None = None
    rooms: tuple[RoomStatus, ...] = ()


class JournalStatus(Struct, frozen=True, kw_only=True):
    """The journal: its file, or the URL of its database without the password. If it cannot be read,
    `totals` is None and `failure` says why.
    """

    file: str
    durability: str
    failure: str | None
    totals: Holding | None


class DaemonStatus(Struct, frozen=True, kw_only=True):
    """The status of the whole daemon."""

    pid: int
    version: str
    protocol: int = PROTOCOL
    started: float
    stopping: bool
    journal: JournalStatus
    components: tuple[ComponentStatus, ...]
    orphaned: Mapping[str, Holding]
    nodes: tuple[NodeStatus, ...] = ()
    """Those that share the journal, this one among them; none if it is this daemon's own."""


@frozen
class ComponentSnapshot:
    """One component as seen from within this process. `meter` and `conversations` are the
    component's own; read-only. The bytes are those of all its streams. `oldest` is when the oldest
    stanza in memory was received (Unix time, s).
    """

    status: ComponentStatus
    meter: Meter
    conversations: Conversations
    oldest: float | None
    read_bytes: int
    written_bytes: int
    subscribers: int = 0
    """The contacts that see the presence of the component's addresses."""
    streaming: int = 0
    """The streamed replies that are coming now."""
    partitions: int = PARTITIONS
    """How many partitions of its conversations this node has: all, unless it shares a journal."""


def snapshot_of(
    status: ComponentStatus,
    link: Link,
    dispatcher: Dispatcher,
    meter: Meter,
    subscribers: int,
    partitions: int = PARTITIONS,
) -> ComponentSnapshot:
    """Return a snapshot of one component; this node has as many `partitions` of it."""
    stream = link.stream
    return ComponentSnapshot(
        status,
        meter,
        dispatcher.conversations,
        dispatcher.oldest,
        meter.read_bytes + (stream.read_bytes if stream else 0),
        meter.written_bytes + (stream.written_bytes if stream else 0),
        subscribers,
        dispatcher.streaming,
        partitions,
    )


def component_status(
    component: Component,
    link: Link,
    dispatcher: Dispatcher,
    counts: Counts,
    rooms: Rooms,
    pollers: int | None = None,
    *,
    is_gateway: bool = True,
) -> ComponentStatus:
    """Return the status of one component, without the journal's part. `pollers` wait for events;
    None if it is not pulled. `is_gateway` says whether this node is to attach.
    """
    return ComponentStatus(
        domain=component.domain,
        link=link_status(link, str(component.server), is_gateway=is_gateway),
        endpoint=endpoint_status(dispatcher.breaker, str(component.post_url), pollers),
        in_flight=dispatcher.in_flight,
        waiting=dispatcher.waiting,
        counts=counts,
        rooms=tuple(room_status(one) for one, _ in rooms.all()),
    )


def room_status(room: Room) -> RoomStatus:
    """Return the status of a room."""
    return RoomStatus(
        jid=room.jid,
        local=room.settings.local,
        nick=room.nick,
        state=room.phase.value,
        why=room.why,
        since=_unix(room.since),
        next_attempt=_unix(room.due) if room.phase is Phase.WAITING else None,
        occupants=len(room.occupants),
    )


def link_status(link: Link, server: str, *, is_gateway: bool = True) -> LinkStatus:
    """Return the status of a link; it stays `refused` until an attempt ends otherwise."""
    if not is_gateway:
        return LinkStatus(state="standby", server=server, since=None, why="", next_attempt=None)
    state = link.state
    name: LinkName = "waiting"
    if state.refused:
        name = "refused"
    elif state.attached:
        name = "attached"
    elif state.next_attempt_at <= trio.current_time():
        name = "attaching"
    return LinkStatus(
        state=name,
        server=server,
        since=_unix(state.since),
        why=state.why,
        next_attempt=_unix(state.next_attempt_at) if name in ("waiting", "refused") else None,
        shared=None if link.shared_at is None else _unix(link.shared_at),
    )


def endpoint_status(
    breaker: CircuitBreaker, url: str, pollers: int | None = None
) -> EndpointStatus:
    """Return the status of an endpoint."""
    probe_at = breaker.next_probe_at
    probing = breaker.is_down and probe_at == math.inf
    return EndpointStatus(
        state="probing" if probing else "down" if breaker.is_down else "up",
        url=url,
        next_probe=_unix(probe_at),
        pollers=pollers,
    )


def total(kept: Mapping[str, Holding]) -> Holding:
    """Return the sum of the holdings of all components."""
    olds = [one.oldest for one in kept.values() if one.oldest is not None]
    return Holding(
        pending=sum(one.pending for one in kept.values()),
        pending_bytes=sum(one.pending_bytes for one in kept.values()),
        replies=sum(one.replies for one in kept.values()),
        dead=sum(one.dead for one in kept.values()),
        oldest=min(olds, default=None),
    )


def _unix(at: float) -> float | None:
    """Return a time of trio's clock as Unix time, in s; None for never."""
    return time.time() + (at - trio.current_time()) if math.isfinite(at) else None


class ControlHandler:
    """Answers the control requests of one daemon. To be created within trio."""

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
        tell_trio = partial(_tell_trio, trio.lowlevel.current_trio_token())
        self._admin = QueueAdmin(
            storage.committer.ask,
            configured,
            partial(tell_trio, storage.revived),
            partial(tell_trio, storage.dropped),
        )

    async def answer(self, request: AnyRequest) -> object:
        """Answer a request.

        Raises:
            CommandError: if it cannot be done.
            JournalError: if the journal fails.
        """
        if isinstance(request, AskStatus):
            return await self.status()
        return await self._admin.answer(request)

    async def status(self) -> DaemonStatus:
        """Return the daemon's status, even while the journal fails."""
        found, failure = await self._kept()
        kept = None if found is None else found.components
        storage = self._storage
        return DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            started=self._started,
            stopping=self._stopping(),
            journal=JournalStatus(
                file=storage.place,
                durability=storage.durability,
                failure=failure,
                totals=None if kept is None else total(kept),
            ),
            components=tuple(
                msgspec.structs.replace(one, kept=kept and kept.get(one.domain, Holding()))
                for one in self._components()
            ),
            orphaned={name: one for name, one in (kept or {}).items() if one.orphaned},
            nodes=() if found is None else found.nodes,
        )

    async def _kept(self) -> tuple[Holdings | None, str | None]:
        """Return the journal's holdings, or None and the reason why it cannot be read."""
        try:
            with trio.move_on_after(_TOTALS_S):
                return await self._storage.committer.ask(self._holdings), None
        except JournalError as error:
            return None, str(error)
        return None, "the journal does not answer; look at its disk or database"

    def _holdings(self, journal: JournalStore) -> Holdings:
        return Holdings(holdings(journal.totals(), self._configured), nodes_of(journal))


def _tell_trio(token: trio.lowlevel.TrioToken, changed: Callable[[T], None], what: T) -> None:
    """Report a change to trio, from the journal's thread; its run may have ended."""
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(changed, what)
