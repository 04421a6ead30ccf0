"""The port to the HTTP listener: its interface, and the parts of the daemon that it serves.

`bridge.listener`, a layer above, implements it. The command line passes `open_listener` to the
daemon, so no HTTP code is imported unless `[listen]` is configured.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import trio
from attrs import field, frozen

from bridge.config.settings import ListenSettings
from bridge.daemon.component import ComponentService
from bridge.daemon.control import AnyRequest
from bridge.journal.storage import Storage
from bridge.telemetry.log import RecentErrors
from bridge.webhook.pull import PulledEvents
from xmppstream import Limits


class ListenError(Exception):
    """The listener cannot be opened; the message says why."""


class Listener(Protocol):
    """An open listener."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; cancellation closes all connections at once."""
        ...

    def stop(self) -> None:
        """Stop accepting connections; running requests may still be answered."""
        ...

    def adopt(self, listen: ListenSettings | None) -> None:
        """Use the tokens of another configuration; with None there are none."""
        ...


@frozen
class DaemonParts:
    """The parts of a daemon that a listener serves. Without a journal, `storage` and `answer` are
    None.
    """

    services: Mapping[str, ComponentService]
    """The components, by domain; a live view. One that starts, restarts, was refused, or is being
    removed is there, too.
    """
    configured: Callable[[], Collection[str]]
    """Returns the domains of the configuration, which are all in `services`."""
    stopping: Callable[[], bool]
    written_limits: Limits
    """Limits for stanzas that the bridge itself wrote; see `limits_written`."""
    recent_errors: RecentErrors
    storage: Storage | None = None
    events: PulledEvents = field(factory=PulledEvents)
    answer: Callable[[AnyRequest], Awaitable[object]] | None = None
    """Answers the requests of `xmpp-bridge queue`.

    Raises:
        CommandError: if it cannot be done.
        JournalError: if the journal fails.
    """


OpenListener = Callable[[ListenSettings, DaemonParts], AbstractContextManager[Listener]]
"""Opens a listener, within trio; leaving the context closes the socket.

Raises:
    ListenError: if the socket cannot be bound.
"""
