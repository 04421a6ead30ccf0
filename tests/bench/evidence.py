"""What both ends and the journal's file have seen of each stanza, while processes were killed.

Written down as it happens, and judged afterwards (`verdict`). Times are trio's, in s. An *epoch*
lasts from one kill to the next; the snapshot of epoch N is what the journal held after its kill,
before the restart.
"""

import math
import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from msgspec import msgpack

Kind = Literal[
    "kill", "freeze", "server", "crash", "promotion", "cut_database", "cut_server", "cut_both"
]
"""Of a node, of Prosody (`server`), of the database, or of the links from a node to the others."""


@dataclass(slots=True)
class Post:
    """One POST that came whole; `answered_at` is when its answer was given to the socket, and
    `node` the label of the process at its other end, where there are several and it is known.
    """

    at: float
    epoch: int
    webhook_id: str
    attempt: str
    serial: int
    node: str | None = None
    answered_at: float | None = None


@dataclass(slots=True)
class Arrival:
    """A reply at the sender."""

    at: float
    id: str
    body: str


@dataclass(slots=True)
class Story:
    """All that is known of one stanza: the `number`-th (from 1) of its conversation.

    `bounced` says that Prosody gave it back since nobody was attached; `errors` are others.
    Iqs have no order.
    """

    id: str
    conversation: int
    number: int
    sent_at: float
    is_iq: bool = False
    bounced: bool = False
    errors: list[str] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)

    @property
    def is_ended(self) -> bool:
        """Whether its sender has heard anything."""
        return self.bounced or bool(self.arrivals or self.errors)


@dataclass(slots=True)
class Outage:
    """Something that was down or frozen from `began_at` until all was attached again.

    `node` is the label of the node that it hit, and `is_gateway` whether the component was attached
    through that one.
    """

    kind: Kind
    began_at: float
    node: str | None = None
    is_gateway: bool = False
    ended_at: float = math.inf

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether any of it lies between two times."""
        return self.began_at <= end and begin <= self.ended_at


@dataclass(slots=True)
class Snapshot:
    """What the journal held: ids of pending stanzas and of unconfirmed replies, and why stanzas
    died. What was killed did nothing any more from `began_at` on, and was dead by `ended_at`.
    """

    epoch: int
    began_at: float
    ended_at: float
    pending: set[str]
    replies: set[str]
    dead: list[str]

    @property
    def is_empty(self) -> bool:
        return not (self.pending or self.replies or self.dead)


class Evidence:
    """All of it. The stories are in the order in which they were handed to the server."""

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}
        self.snapshots: list[Snapshot] = []
        self.outages: list[Outage] = []  # where there are several nodes
        self.posted: list[tuple[Story, Post]] = []
        self.returned = Counter[str]()  # replies that Prosody gave back: their sender was away
        self.read: int | None = None  # how many stanzas the daemon says it has read, if it lived on
        self.strange: list[str] = []  # what fits nothing
        self.epoch = 0
        self.answered_up_to: dict[int, float] = {}
        """When the last stanza of each conversation was sent that has its reply."""
        self.last_at = 0.0

    def sent(self, conversation: int, number: int, at: float, *, is_iq: bool = False) -> Story:
        """Note a stanza that is handed to the server now, and give it its id."""
        story = Story(f"k{conversation}-{number}", conversation, number, at, is_iq)
        self.stories[story.id] = story
        return story

    def post(
        self, id: str, webhook_id: str, attempt: str, at: float, node: str | None = None
    ) -> Post | None:
        """Note a POST; None for one that nobody has sent."""
        self.last_at = at
        story = self.stories.get(id)
        if story is None:
            self.strange.append(f"a POST of {id!r} ({webhook_id}), which nobody has sent")
            return None
        post = Post(at, self.epoch, webhook_id, attempt, len(self.posted), node)
        story.posts.append(post)
        self.posted.append((story, post))
        return post

    def arrival(self, body: str, id: str, at: float) -> Story | None:
        """Note a reply at its sender; its body begins with the id of what it answers."""
        self.last_at = at
        story = self.stories.get(body.partition(" ")[0])
        if story is None:
            self.strange.append(f"a reply {body!r} ({id}) to nothing that was sent")
            return None
        before = self.answered_up_to.get(story.conversation, -math.inf)
        self.answered_up_to[story.conversation] = max(before, story.sent_at)
        story.arrivals.append(Arrival(at, id, body))
        return story


def read_journal(file: Path, epoch: int, began_at: float, ended_at: float) -> Snapshot:
    """Read a journal's files as any other process may, without writing: not by the bridge's code,
    which is what is judged.
    """
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        database.execute("BEGIN")  # one state for all
        pending: dict[str, str] = dict(_rows(database, "SELECT uid, id FROM pending"))
        replies = Counter(_rows(database, "SELECT uid, place FROM reply"))
        dead = [f"{id}: {why}" for id, why in _rows(database, "SELECT id, reason FROM dead")]
        [(generation, begin)] = _rows(database, "SELECT generation, begin FROM log")
    for accepted, ended, replied, confirmed in _batches(file, generation, begin):
        pending |= {one[0]: one[5] for one in accepted}
        for uid in ended:
            del pending[uid]
        replies.update((one[0], one[1]) for one in replied)
        replies.subtract((uid, place) for uid, place in confirmed)
    unconfirmed = {f"{uid}-{place}" for (uid, place), count in replies.items() if count}
    return Snapshot(epoch, began_at, ended_at, set(pending.values()), unconfirmed, dead)


def _rows(database: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    yield from database.execute(query)


def _batches(file: Path, generation: int, begin: int) -> Iterator[list[Any]]:
    """Read what the tables do not have yet: frames of a length, a checksum and a content."""
    try:
        log = file.with_suffix(".log").read_bytes()
    except FileNotFoundError:
        return
    while begin + 8 <= len(log):
        length, checksum = struct.unpack_from("<II", log, begin)
        content = log[begin + 8 : begin + 8 + length]
        found = zlib.crc32(struct.pack("<Q", generation) + content)
        if not length or len(content) < length or found != checksum:
            return  # it was being written
        yield msgpack.decode(content)
        begin += 8 + length
