"""A daemon to be looked at, without one: each of its components is as a test says."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import trio
from attrs import define, field
from msgspec.structs import replace

from bridge.config.settings import JournalSettings
from bridge.daemon.control import AnyRequest, AskStatus
from bridge.daemon.status import (
    ComponentSnapshot,
    ComponentStatus,
    EndpointStatus,
    LinkStatus,
    RoomState,
    RoomStatus,
)
from bridge.dispatch.conversation import Conversations
from bridge.journal.admin import QueueAdmin
from bridge.journal.delivery import Attempt, Delivery
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import open_journal
from bridge.journal.store import Abandon, Attempted, JournalError, JournalStore, Requeue, Settle
from bridge.listener.monitor.history import History
from bridge.listener.monitor.view import DaemonView
from bridge.telemetry.log import RecentErrors
from bridge.telemetry.meter import COMMIT_BOUNDS_S, Histogram, Meter
from bridge.xmpp.outbox import Outgoing
from tests.bridge.sample import stanza

T = TypeVar("T")

NOW: Final = 1_700_000_000.0


@define(eq=False)
class Actor:
    """One component."""

    domain: str
    meter: Meter = field(factory=Meter)
    link: LinkStatus = field(
        factory=lambda: LinkStatus(
            state="attached", server="127.0.0.1:5347", since=NOW, why="", next_attempt=None
        )
    )
    endpoint: EndpointStatus = field(
        factory=lambda: EndpointStatus(state="up", url="http://127.0.0.1:8000/", next_probe=None)
    )
    in_flight: int = 0
    conversations: Conversations = field(factory=lambda: Conversations("bare"))
    oldest: float | None = None
    read_bytes: int = 0
    written_bytes: int = 0
    rooms: list[RoomStatus] = field(factory=list)
    subscribers: int = 0
    streaming: int = 0
    partitions: int = 256

    @property
    def snapshot(self) -> ComponentSnapshot:
        status = ComponentStatus(
            domain=self.domain,
            link=self.link,
            endpoint=self.endpoint,
            in_flight=self.in_flight,
            waiting=len(self.conversations),
            counts=self.meter.counts,
            rooms=tuple(self.rooms),
        )
        return ComponentSnapshot(
            status,
            self.meter,
            self.conversations,
            self.oldest,
            self.read_bytes,
            self.written_bytes,
            self.subscribers,
            self.streaming,
            self.partitions,
        )

    def detach(self, why: str = "connection refused") -> None:
        """Lose the stream."""
        self.link = replace(self.link, state="waiting", why=why, next_attempt=NOW)

    def stand_by(self) -> None:
        """Leave the stream to another node of a cluster."""
        self.link = replace(self.link, state="standby", since=None)
        self.partitions = 64

    def fail(self) -> None:
        """Have the endpoint down."""
        self.endpoint = replace(self.endpoint, state="down", next_probe=NOW)

    def keep_room(self, jid: str, state: RoomState = "joined", why: str = "") -> None:
        """Add a room."""
        due = NOW + 60 if state == "waiting" else None
        self.rooms.append(
            RoomStatus(
                jid=jid,
                local="echo",
                nick="Echo",
                state=state,
                why=why,
                since=NOW,
                next_attempt=due,
                occupants=7,
            )
        )

    def wait(self, from_: str, id: str = "q", received: float = NOW) -> Delivery:
        """Have a message wait."""
        xml = f"<message from={from_!r} to='echo@{self.domain}' id='{id}'><body>x</body></message>"
        delivery = Delivery(stanza(xml), received, 100)
        self.conversations.add(delivery)
        return delivery


@define(eq=False)
class Stage:
    """All of it. `journal` may be taken away, and may fail (once it `survives` so many queries) or
    hang.
    """

    actors: list[Actor]
    journal: JournalStore | None = None
    failure: JournalError | None = None
    survives: int = 0
    hangs: bool = False
    stopping: bool = False
    incidents: RecentErrors = field(factory=RecentErrors)
    asked: list[AnyRequest] = field(factory=list)
    queries: int = 0
    requests: Counter[tuple[str, int]] = field(factory=Counter)
    commits: Histogram = field(factory=lambda: Histogram(COMMIT_BOUNDS_S))
    _number: int = 0

    @property
    def view(self) -> DaemonView:
        admin = QueueAdmin(self.query, [one.domain for one in self.actors], now=lambda: NOW)

        async def answer(request: AnyRequest) -> object:
            self.asked.append(request)
            assert not isinstance(request, AskStatus)
            return await admin.answer(request)

        return DaemonView(
            lambda: [one.snapshot for one in self.actors],
            lambda: self.stopping,
            None if self.journal is None else answer,
            None if self.journal is None else self.query,
            lambda: self.incidents.latest,
            History(),
            NOW,
            self.requests,
            None if self.journal is None else self.commits,
        )

    async def query(self, query: Callable[[JournalStore], T], /) -> T:
        """Call the journal."""
        await trio.lowlevel.checkpoint()
        self.queries += 1
        if self.hangs:
            await trio.sleep_forever()
        if self.failure is not None:
            self.survives -= 1
            if self.survives < 0:
                raise self.failure
        assert self.journal is not None
        return query(self.journal)

    def die(self, **keys: Any) -> str:
        """Have a dead letter, and give its uid; `keys` are of its entry, `result` and `died`."""
        assert self.journal is not None
        self._number += 1
        result, died = keys.pop("result", "status 500"), keys.pop("died", NOW)
        head: dict[str, Any] = {
            "uid": f"msg_{self._number:04}",
            "component": self.actors[0].domain,
            "kind": "message",
            "from_": "bob@example.org/phone",
            "to": f"echo@{self.actors[0].domain}",
            "id": "q",
            "lang": None,
            "xml": "<message><body>hello</body></message>",
            "received": NOW,
        }
        entry = Delivery.stored(**(head | keys))
        attempted = Attempted(entry.uid, Attempt(NOW, result))
        self.journal.commit([entry, attempted, Settle(entry.uid, (), died, result)])
        return entry.uid

    def revive(self, uid: str) -> None:
        """Make a dead letter pending again."""
        assert self.journal is not None
        self.journal.commit([Requeue((uid,), NOW)])

    def abandon(self, text: str = "sorry") -> str:
        """Have a dead letter that is a reply, and give its uid."""
        assert self.journal is not None
        self._number += 1
        uid, domain = f"msg_{self._number:04}", self.actors[0].domain
        entry = Delivery.stored(
            uid, domain, "message", "bob@example.org", domain, "q", None, "<message/>", NOW
        )
        data = f"<message><body>{text}</body></message>".encode()
        reply = Outgoing(data, NOW, domain, uid, 1)
        self.journal.commit([entry, Settle(uid, (reply,))])
        self.journal.commit([Abandon(uid, 1, NOW, "it broke the stream")])
        return uid


def journal_at(path: Path) -> JournalStore:
    """Open a real journal in a directory that is a test's own."""
    directory = StateDirectory(path / "state")
    directory.path.mkdir(mode=0o700)
    return open_journal(directory, JournalSettings())
