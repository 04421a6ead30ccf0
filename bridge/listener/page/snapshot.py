"""The data of one page view. Everything is queried once, before anything is written."""

import time
from collections.abc import Mapping
from typing import Final

import trio
from attrs import frozen
from msgspec.structs import replace

from bridge.config.token import Token
from bridge.daemon.status import ComponentSnapshot
from bridge.dispatch.conversation import Conversation
from bridge.journal.request import Holding, Holdings, Item, ListTotals, NodeStatus, Page
from bridge.journal.store import JournalError
from bridge.listener.monitor.history import Minute
from bridge.listener.monitor.view import Answer, DaemonView, ask
from bridge.listener.page.content import texts_of
from bridge.listener.page.selection import EVERYTHING, Selection
from bridge.telemetry.log import RecentError

PAGE: Final = 20
"""The number of dead letters on one page."""
LONGEST: Final = 10
_LOOKS: Final = 20  # pages of the journal read to find letters that a token may see, or looks for


@frozen
class Letters:
    """A page of dead letters. If `next` is not None, more may come after it. `texts` are those of
    `items`, by place, if the token may read them.
    """

    selection: Selection = EVERYTHING
    items: tuple[Item, ...] = ()
    texts: Mapping[int, str] = {}
    next: int | None = None


@frozen
class Waiting:
    """The number of waiting conversations, and the longest waits with their components."""

    count: int
    longest: tuple[tuple[str, Conversation], ...]


@frozen
class PageSnapshot:
    """The data of one page view. `now` is Unix time, `clock` is trio's. `kept` is None without a
    journal, and if the journal fails; `failure` is then the reason.
    """

    now: float
    clock: float
    started: float
    stopping: bool
    has_journal: bool
    snapshots: tuple[ComponentSnapshot, ...]
    minutes: Mapping[str, list[Minute]]
    waiting: Waiting
    incidents: tuple[RecentError, ...]
    kept: Mapping[str, Holding] | None = None
    failure: str | None = None
    letters: Letters = Letters()
    nodes: tuple[NodeStatus, ...] = ()

    @property
    def dead(self) -> int:
        """The number of dead letters that the token may see."""
        return sum(one.dead for one in (self.kept or {}).values())


async def look(
    view: DaemonView, token: Token, selection: Selection = EVERYTHING, *, letters: bool = True
) -> PageSnapshot:
    """Return the data that a token may see: that of its own components and, if these are all the
    components, also data of components that are no longer configured. Without `letters`, the
    selected dead letters are left out.
    """
    own = tuple(one for one in view.snapshots() if one.status.domain in token.components)
    kept, failure, found = None, None, Letters(selection)
    nodes: tuple[NodeStatus, ...] = ()
    if view.answer is not None:
        try:
            holdings = await ask(view.answer, ListTotals(), Holdings)
            kept = {n: one for n, one in holdings.components.items() if may_see(view, token, n)}
            nodes = tuple(_shown(view, token, one) for one in holdings.nodes)
            if letters:
                found = await _letters(view, view.answer, token, selection)
        except JournalError as error:
            failure = str(error)
    return PageSnapshot(
        time.time(),
        trio.current_time(),
        view.started,
        view.stopping(),
        view.answer is not None,
        own,
        {one.status.domain: view.history.minutes(one.status.domain, one.meter) for one in own},
        _waiting(own),
        tuple(one for one in view.incidents() if may_see(view, token, one.component)),
        kept,
        failure,
        found,
        nodes,
    )


def _shown(view: DaemonView, token: Token, node: NodeStatus) -> NodeStatus:
    """Return what a token may see of a node: nothing of others' components."""
    seen = [
        tuple(name for name in names if may_see(view, token, name))
        for names in (node.gateways, node.components)
    ]
    return replace(node, gateways=seen[0], components=seen[1])


def may_see(view: DaemonView, token: Token, domain: str) -> bool:
    """Return whether a token may see the data of a component."""
    if domain in token.components:
        return True
    return all(one.status.domain in token.components for one in view.snapshots())


async def _letters(
    view: DaemonView,
    answer: Answer,
    token: Token,
    selection: Selection,
) -> Letters:
    now, may_read = time.time(), "manage" in token.scopes
    items: list[Item] = []
    next: int | None = selection.after
    for _ in range(_LOOKS):
        if next is None or len(items) >= PAGE:
            break
        request = selection.request(now, next, PAGE - len(items), xml=may_read)
        page = await ask(answer, request, Page)
        items += (one for one in page.items if may_see(view, token, one.component))
        next = page.next
    return Letters(selection, tuple(items), await texts_of(items), next)


def _waiting(snapshots: tuple[ComponentSnapshot, ...]) -> Waiting:
    count, longest = 0, list[tuple[str, Conversation]]()
    for one in snapshots:
        waiting, oldest = one.conversations.longest_waiting(LONGEST)
        count += waiting
        longest += ((one.status.domain, conversation) for conversation in oldest)
    longest.sort(key=lambda pair: pair[1].head.received)
    return Waiting(count, tuple(longest[:LONGEST]))
