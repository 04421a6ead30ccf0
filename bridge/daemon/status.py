"""How a daemon is: the answer to `status`, for commands and for scripts. No secret is in it.

Times are Unix times, s; what has none (a link that the server has refused tries no more) is null.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal

import msgspec
import trio
from attrs import frozen
from msgspec import Struct

from bridge import __version__
from bridge.config.settings import Component
from bridge.daemon.control import AnyRequest, AskStatus
from bridge.dispatch.conversation import Conversations
from bridge.dispatch.dispatcher import Dispatcher
from bridge.journal.admin import QueueAdmin, holdings
from bridge.journal.request import PROTOCOL, Holding
from bridge.journal.storage import Storage
from bridge.journal.store import JournalError, JournalStore, Totals
from bridge.telemetry.meter import Counts, Meter
from bridge.webhook.retry import CircuitBreaker
from bridge.xmpp.link import Link

LinkName = Literal["attached", "attaching", "waiting", "refused"]
_TOTALS_S: Final = 2.0
"""How long the status waits for the journal: a disk that hangs is part of the answer."""


class LinkStatus(Struct, frozen=True, kw_only=True):
    """`waiting` and `refused`: why it is not attached; `since` is when it was last."""

    state: LinkName
    server: str
    since: float | None
    why: str
    next_attempt: float | None


class EndpointStatus(Struct, frozen=True, kw_only=True):
    """`up` until it is plainly down; then it is asked by one POST at a time."""

    state: Literal["up", "down", "probing"]
    url: str
    next_probe: float | None


class ComponentStatus(Struct, frozen=True, kw_only=True):
    """One component; `in_flight` and `waiting` are in memory, `kept` is in the journal."""

    domain: str
    link: LinkStatus
    endpoint: EndpointStatus
    in_flight: int
    waiting: int
    counts: Counts
    kept: Holding | None = None


class JournalStatus(Struct, frozen=True, kw_only=True):
    """Without totals where it cannot be asked: `failure` says why."""

    file: str
    durability: str
    failure: str | None
    totals: Holding | None


class DaemonStatus(Struct, frozen=True, kw_only=True):
    """All of it."""

    pid: int
    version: str
    protocol: int = PROTOCOL
    started: float
    stopping: bool
    journal: JournalStatus
    components: tuple[ComponentStatus, ...]
    orphaned: Mapping[str, Holding]


@frozen
class ComponentSnapshot:
    """One component as who watches from within this process sees it. `meter` and `conversations`
    are the component's own, to be read only. The bytes are those of all its streams, and `oldest`
    is when the first of what is in memory was received (Unix time, s).
    """

    status: ComponentStatus
    meter: Meter
    conversations: Conversations
    oldest: float | None
    read_bytes: int
    written_bytes: int


def snapshot_of(
    status: ComponentStatus, link: Link, dispatcher: Dispatcher, meter: Meter
) -> ComponentSnapshot:
    """Give all that is to be seen of one component."""
    stream = link.stream
    return ComponentSnapshot(
        status,
        meter,
        dispatcher.conversations,
        dispatcher.oldest,
        meter.read_bytes + (stream.read_bytes if stream else 0),
        meter.written_bytes + (stream.written_bytes if stream else 0),
    )


def component_status(
    component: Component, link: Link, dispatcher: Dispatcher, counts: Counts, *, refused: bool
) -> ComponentStatus:
    """Say how one component is, but for what the journal has of it."""
    return ComponentStatus(
        domain=component.domain,
        link=link_status(link, str(component.server), refused=refused),
        endpoint=endpoint_status(dispatcher.breaker, str(component.post_url)),
        in_flight=dispatcher.in_flight,
        waiting=dispatcher.waiting,
        counts=counts,
    )


def link_status(link: Link, server: str, *, refused: bool) -> LinkStatus:
    """Say how a link is; `refused` is that its service has ended for that."""
    state = link.state
    name: LinkName = "waiting"
    if refused:
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
        next_attempt=_unix(state.next_attempt_at) if name == "waiting" else None,
    )


def endpoint_status(breaker: CircuitBreaker, url: str) -> EndpointStatus:
    """Say how an endpoint is."""
    probe_at = breaker.next_probe_at
    probing = breaker.is_down and probe_at == math.inf
    return EndpointStatus(
        state="probing" if probing else "down" if breaker.is_down else "up",
        url=url,
        next_probe=_unix(probe_at),
    )


def total(kept: Mapping[str, Holding]) -> Holding:
    """Add up what is kept of all components."""
    olds = [one.oldest for one in kept.values() if one.oldest is not None]
    return Holding(
        pending=sum(one.pending for one in kept.values()),
        pending_bytes=sum(one.pending_bytes for one in kept.values()),
        replies=sum(one.replies for one in kept.values()),
        dead=sum(one.dead for one in kept.values()),
        oldest=min(olds, default=None),
    )


def _unix(at: float) -> float | None:
    """Give a time by trio's clock as Unix time; None for never."""
    return time.time() + (at - trio.current_time()) if math.isfinite(at) else None


class ControlHandler:
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
        self._admin = QueueAdmin(storage.committer.ask, configured, revived)

    async def answer(self, request: AnyRequest) -> object:
        """Answer a command.

        Raises:
            CommandError: it cannot be done.
            JournalError: the journal fails.
        """
        if isinstance(request, AskStatus):
            return await self.status()
        return await self._admin.answer(request)

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


def _totals(journal: JournalStore) -> dict[str, Totals]:
    return journal.totals()


def _tell_trio(
    token: trio.lowlevel.TrioToken,
    revived: Callable[[dict[str, Totals]], None],
    totals: dict[str, Totals],
) -> None:
    """Tell of what was revived, from the journal's thread; whoever asked may be gone by now."""
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(revived, totals)
