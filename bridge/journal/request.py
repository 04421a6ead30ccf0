"""The requests of commands to a daemon, or to a journal without a daemon, and the answers.

There is one class for each command and for each answer. `control` carries them as lines of JSON.
`admin` answers those about the queue, `status` the one about the daemon. No socket and no journal
here.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.journal.delivery import Attempt

PROTOCOL: Final = 2
"""The version of these classes. A request without a version is taken to have this one."""
UIDS_LIMIT: Final = 500
PAGE_LIMIT: Final = 500
REASON_LIMIT: Final = 200
_MAX_NUMBER: Final = 2**63 - 1

Uid = Annotated[str, Meta(min_length=1, max_length=100)]
"""A uid, or the beginning of one."""
Uids = Annotated[tuple[Uid, ...], Meta(min_length=1, max_length=UIDS_LIMIT)]
Kept = Literal["pending", "dead", "reply"]


class CommandError(Exception):
    """A command cannot be executed. The message tells the operator why."""


# --- requests


class Request(Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """The base of all requests."""

    protocol: int = PROTOCOL


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dead letters whose reason contains a text, in any case, and that died from `since` to
    `until` (Unix time, s; both included).
    """

    reason: Annotated[str, Meta(max_length=REASON_LIMIT)] = ""
    since: float | None = None
    until: float | None = None


class ListTotals(Request, frozen=True, tag="queue.totals"):
    """Ask how much is kept, by component."""


class ListQueue(Request, frozen=True, tag="queue.list"):
    """Ask for a page of what is kept: numbers greater than `after`, in order. With `match`, ask for
    the dead letters that it describes; unset, it is not sent, so that a daemon of an earlier
    version answers.
    """

    state: Kept
    component: str | None = None
    after: Annotated[int, Meta(ge=0, le=_MAX_NUMBER)] = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT)] = PAGE_LIMIT
    xml: bool = False
    match: Match | UnsetType = UNSET


class Show(Request, frozen=True, tag="queue.show"):
    """Ask for everything that is kept under a uid."""

    uid: Uid


class Retry(Request, frozen=True, tag="queue.retry"):
    """Make dead letters pending again."""

    uids: Uids


class Forget(Request, frozen=True, tag="queue.drop"):
    """Forget dead letters; of a uid without one, the unconfirmed replies."""

    uids: Uids


class Purge(Request, frozen=True, tag="queue.purge"):
    """Forget all dead letters."""


QueueRequest = ListTotals | ListQueue | Show | Retry | Forget | Purge


# --- answers


class Item(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A kept stanza. A reply that is not confirmed has its own addresses, a dead letter those of
    the stanza that came in. Times are Unix time, s; `orphaned` is None if it is not known."""

    uid: str
    prefix: str | None = None
    """In a list, the shortest beginning of the uid that no other uid has."""
    state: Kept
    component: str
    kind: str = ""
    from_: str = ""
    to: str = ""
    stanza_id: str | None = None
    received: float
    attempts: tuple[Attempt, ...] = ()
    died: float | None = None
    reason: str | None = None
    orphaned: bool | None = None
    is_reply: bool = False
    """Whether it is an outgoing stanza (`reply`) and not an incoming one (`xml`)."""
    xml: str | None = None
    reply: str | None = None


class Page(Struct, frozen=True):
    """A part of a list. If there is more, `next` is the `after` of the next page."""

    items: tuple[Item, ...]
    next: int | None = None


class Found(Struct, frozen=True):
    """Everything that is kept under one uid."""

    items: tuple[Item, ...]


class Holding(Struct, frozen=True, kw_only=True):
    """How much is kept for one component."""

    pending: int = 0
    pending_bytes: int = 0
    replies: int = 0
    dead: int = 0
    oldest: float | None = None
    orphaned: bool | None = None


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A node that shares the journal: what it attaches as, and how many partitions of conversations
    it has. `components` are those of its configuration, which `differs` from that of the node that
    answers.
    """

    label: str
    is_self: bool = False
    is_live: bool = True
    version: str = ""
    gateways: tuple[str, ...] = ()
    partitions: int = 0
    components: tuple[str, ...] = ()
    differs: bool = False


class Holdings(Struct, frozen=True):
    """How much is kept, by component, and the nodes that share the journal."""

    components: Mapping[str, Holding]
    nodes: tuple[NodeStatus, ...] = ()


class Changed(Struct, frozen=True):
    """The uids that were changed; and those that were not, as given, with the reason."""

    done: tuple[str, ...] = ()
    failed: Mapping[str, str] = {}


class Purged(Struct, frozen=True):
    """How many dead letters were forgotten."""

    count: int
