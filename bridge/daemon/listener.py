"""The port to the HTTP listener: what the daemon needs of one, and what it offers to it.

`bridge.listener`, a layer above, implements it; the command line hands `open_listener` to the
daemon, so that nothing of HTTP is imported where no `[listen]` is configured.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import trio
from attrs import frozen

from bridge.config.settings import ListenSettings
from bridge.daemon.component import ComponentService
from bridge.daemon.control import AnyRequest
from bridge.journal.storage import Storage
from bridge.telemetry.log import RecentErrors
from xmppstream import Limits


class ListenError(Exception):
    """The listener cannot be opened; the message says why."""


class Listener(Protocol):
    """An open listener."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; this closes all connections at once."""
        ...

    def stop(self) -> None:
        """Accept no more connections; requests under way may still be answered."""
        ...

    def adopt(self, listen: ListenSettings | None) -> None:
        """Use the tokens of another configuration; None has none."""
        ...


@frozen
class DaemonParts:
    """The parts of a daemon that a listener serves. Without a journal, `storage` and `answer` are
    None.
    """

    services: Mapping[str, ComponentService]
    """The components at work, by domain; always as of now."""
    stopping: Callable[[], bool]
    written_limits: Limits
    """Limits for stanzas that were written by us, see `limits_written`."""
    recent_errors: RecentErrors
    storage: Storage | None = None
    answer: Callable[[AnyRequest], Awaitable[object]] | None = None
    """Answers the requests of `xmpp-bridge queue`.

    Raises:
        CommandError: it cannot be done.
        JournalError: the journal fails.
    """


OpenListener = Callable[[ListenSettings, DaemonParts], AbstractContextManager[Listener]]
"""Opens a listener, within trio; leaving it closes the socket.

Raises:
    ListenError: the socket cannot be bound.
"""
