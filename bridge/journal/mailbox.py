"""The small messages (posts) between the nodes that share a journal.

A node reads what the others have left for it every `POLL_S`, or when it is woken. A post is removed
in the batch before its receiver is called, so it is received at most once, and by no process that
has been declared dead. Posts of a kind that nobody receives here are dropped.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, cast

import outcome
import trio
from structlog.typing import FilteringBoundLogger

from bridge.journal.cluster import ClusterStore, Post
from bridge.journal.committer import Committer
from bridge.journal.shared import POLL_S
from bridge.journal.store import JournalError, JournalStore

PAGE: Final = 100

Job = Callable[[], Awaitable[None]]
"""What remains to be done about a post, in a task of the mailbox."""
Receive = Callable[[bytes, int | None], Job | None]
"""Takes the body of a post, and the node that has left it; None if that has died since, even if it
lives again. It neither waits nor raises.
"""
Watch = Callable[[], Callable[[], None]]
"""Called before posts are read; what it returns is called when all have been received that were
left before.
"""


class Mailbox:
    """Sends and receives the posts of one node. `run` is its service."""

    def __init__(self, committer: Committer, log: FilteringBoundLogger) -> None:
        """The store of the committer is a `ClusterStore`."""
        self.wake: Callable[[], None] = lambda: None
        """Called when something was left for another node."""
        self._committer = committer
        self._log = log
        self._receivers: dict[str, Receive] = {}
        self._watches: list[Watch] = []
        self._wanted = trio.Event()

    def receive(self, kind: str, receive: Receive) -> Callable[[], None]:
        """Receive posts of a kind, until the returned function is called."""
        self._receivers[kind] = receive

        def end() -> None:
            if self._receivers.get(kind) is receive:
                del self._receivers[kind]

        return end

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Call `watch` with each look, until the returned function is called."""
        self._watches.append(watch)
        return partial(self._watches.remove, watch)

    def send(
        self, node: int, kind: str, body: bytes, then: Callable[[bool], None] = lambda _: None
    ) -> None:
        """Leave a post for another node. `then` is called with whether it is committed."""

        def post(store: JournalStore) -> None:
            cast("ClusterStore", store).post(node, kind, body)

        def sent(result: outcome.Outcome[None]) -> None:
            is_sent = isinstance(result, outcome.Value)
            if is_sent:
                self.wake()
            then(is_sent)

        self._committer.inquire(post, sent)

    def send_all(self, kind: str, body: bytes) -> None:
        """Leave a post for each other live node. It does not matter if that fails."""

        def post(store: JournalStore) -> None:
            shared = cast("ClusterStore", store)
            for one in shared.nodes():
                if one.incarnation is not None and one.id != shared.node:
                    shared.post(one.id, kind, body)

        self._committer.inquire(post, lambda _: self.wake())

    def look(self) -> None:
        """Look for posts now: another node may have left some."""
        self._wanted.set()

    async def run(self) -> None:
        """Receive posts until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wanted = trio.Event()
                is_more = False
                with suppress(JournalError):  # the committer or the node logs it
                    is_more = await self._look(nursery)
                if not is_more:
                    with trio.move_on_after(POLL_S):
                        await self._wanted.wait()

    async def _look(self, jobs: trio.Nursery) -> bool:
        """Receive a page of posts. Return whether there may be more."""
        looked = [watch() for watch in self._watches]
        page, nodes = await self._committer.ask(_taken)
        for post in page:
            receive = self._receivers.get(post.kind)
            if receive is None:
                self._log.warning("post dropped", kind=post.kind, why="nobody receives it here")
                continue
            job = receive(post.body, nodes.get(post.writer))
            if job is not None:
                jobs.start_soon(job)
        if len(page) == PAGE:
            return True
        for one in looked:
            one()
        return False


def _taken(journal: JournalStore) -> tuple[list[Post], dict[int, int]]:
    """Remove and return posts for this node, and return the live nodes by their incarnations."""
    store = cast("ClusterStore", journal)
    page = store.posts({}, PAGE)
    if not page:
        return [], {}
    nodes = {one.incarnation: one.id for one in store.nodes() if one.incarnation is not None}
    store.drop_posts([one.number for one in page])
    return page, nodes
