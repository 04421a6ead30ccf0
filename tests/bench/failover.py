"""What several nodes go through in `kills`, under load, one outage after the other: nodes die and
freeze, Prosody dies, the database crashes, and a stand-by takes its place.

Both ends are tasks of this process, so that they share one clock. An outage ends when each
conversation has the reply to something that was sent after the repair.
"""

import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from tests.bench.answerer import NOTHING, Request, answer_json, converse
from tests.bench.cluster_verdict import RELEASED_S, ClusterVerdict, Row
from tests.bench.contestant import DOMAIN, SECRET
from tests.bench.evidence import Evidence, Kind, Outage, Snapshot
from tests.bench.load import DOMAIN as SENDER_DOMAIN
from tests.bench.network import NETWORK, Network, Service
from tests.bench.node import Nodes
from tests.bench.sender import IQ_NAMESPACE, Sender
from tests.bench.store import Journal, PostgresStore, Store, open_store
from tests.bench.victim import Victim
from tests.servers.daemon import Line
from tests.servers.postgres import ReplicatedPostgres
from tests.servers.process import LOOPBACK
from tests.servers.prosody import Prosody

KINDS: Final[dict[Journal, dict[Kind, int]]] = {
    "sqlite": {"kill": 5, "freeze": 3, "server": 2},
    "postgres": {"kill": 5, "freeze": 3, "server": 2, "crash": 2, "promotion": 1},
}
"""What can be down, and how often each is, beside the others."""
CUTS: Final[dict[Kind, tuple[Service, ...]]] = {
    "cut_database": ("database",),
    "cut_server": ("server",),
    "cut_both": ("database", "server"),
}
"""The links that are cut; this needs a network for each node."""
ANSWER_S: Final = (0.0, 0.2)
SLOW_SHARE: Final = 0.02
SLOW_S: Final = (1.0, 3.0)  # longer than a commit, so that the journal is seen to hold it
LIFE_S: Final = (0.5, 2.0)
GATEWAY_SHARE: Final = 1 / 2
AWAY_SHARE: Final = 1 / 2  # of the nodes that were killed: back only when the others do their work
CRASH_S: Final = 12.0
SETTLE_S: Final = 0.05
LAST_LIFE_S: Final = 2.0
QUIET_S: Final = 4.0  # longer than any answer
LIMIT_S: Final = 60.0
POLL_S: Final = 0.1
COMPLAINTS: Final = (
    "journal fails",
    "cannot reach the other nodes",
    "cannot read what is kept from before",
    "endpoint fails",
    "endpoint is down, asking it by one POST at a time",
    "no heartbeat reaches the database; this node stops its work",
    "this node has lost its leases",
)
AWAY: Final = frozenset[Kind]({"freeze", "crash", "promotion", "cut_database", "cut_both"})
IQ_EVERY: Final = 8
TAKE_OVER_S: Final = 15.0
EVERYWHERE: Final = 'component_interfaces = { "*" }'
KICK_OLD: Final = 'component_conflict_resolve = "kick_old"'


class Failover:
    """One run, and what was seen of it."""

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        nodes: int,
        window: int,
        seed: int,
        *,
        kinds: tuple[Kind, ...] = (),
        spread: bool = True,
        freeze_s: tuple[float, float],
    ) -> None:
        """`kinds` are the outages, all that the journal permits if there are none. Without
        `spread`, only the gateway POSTs.
        """
        self._spread = spread
        self._directory, self._journal, self._window = directory, journal, window
        weights = KINDS[journal]
        self._kinds = {kind: weights.get(kind, 1) for kind in kinds or weights}
        self._freeze_s = freeze_s
        self._labels = [f"node{number}" for number in range(1, nodes + 1)]
        self._dice = random.Random(seed)  # of the outages
        self._load_dice = random.Random(seed)
        self._evidence = Evidence()
        has_cuts = bool(CUTS.keys() & self._kinds.keys())
        self._nodes = Nodes(Network() if has_cuts else None)
        self._prosody: Prosody
        self._sender: Sender
        self._store: Store

    async def run(self, count: int) -> tuple[list[Row], list[str]]:
        """Cause so many outages, wait until all is quiet, and judge: the table, and what was
        violated.
        """
        self._clock_offset_s = time.time() - trio.current_time()
        codes: dict[str, int] = {}
        async with self._stage():
            for number, kind in enumerate(self._plan(count), start=1):
                await trio.sleep(self._dice.uniform(*LIFE_S))
                await self._cause(kind)
                self._tell(f"{number}/{count} outages")
            await trio.sleep(LAST_LIFE_S)
            self._sender.stop()
            final = await self._quiet()
            for label, victim in self._nodes.victims.items():
                codes[label] = await victim.stop()
        limit_s = TAKE_OVER_S if len(self._labels) > 1 else LIMIT_S
        verdict = ClusterVerdict(self._evidence, final, limit_s)
        violations = [*verdict.violations, *self._nodes.complaints(self._is_known)]
        violations += [f"{label} ended with {code}" for label, code in codes.items() if code]
        return verdict.rows(), violations

    def _is_known(self, label: str, line: Line) -> bool:
        """Whether a node had to complain: of a database that was away for it, or of an answer that
        came while it was frozen.
        """
        at = datetime.fromisoformat(line["timestamp"]).timestamp() - self._clock_offset_s
        return line["event"] in COMPLAINTS and any(
            one.kind in AWAY and one.node in (None, label) and one.overlaps(at - RELEASED_S, at)
            for one in self._evidence.outages
        )

    def _tell(self, what: str) -> None:
        sent, posts = len(self._evidence.stories), len(self._evidence.posted)
        last = self._evidence.outages[-1]
        about = f"{last.kind} {last.node or ''}{' (gateway)' if last.is_gateway else ''}"
        about += f", {last.ended_at - last.began_at:.1f} s"
        print(f"  {what}: {about}; {sent} sent, {posts} POSTs", file=sys.stderr, flush=True)

    # --- the stage

    @asynccontextmanager
    async def _stage(self) -> AsyncIterator[None]:
        components = {SENDER_DOMAIN: SECRET, DOMAIN: SECRET}
        async with AsyncExitStack() as stack:
            prosody = Prosody(
                self._directory,
                components=components,
                component_settings={DOMAIN: [KICK_OLD]},
                extra=EVERYWHERE if self._nodes.network else "",
                log_level="error",
            )
            self._prosody = await stack.enter_async_context(prosody)
            network = NETWORK if self._nodes.network else None
            about = (self._journal, self._directory, self._labels, network)
            store = open_store(*about, spread=self._spread)
            self._store = await stack.enter_async_context(store)
            nursery = await stack.enter_async_context(trio.open_nursery())
            [listener] = await trio.open_tcp_listeners(
                0, host="0.0.0.0" if self._nodes.network else LOOPBACK
            )
            nursery.start_soon(trio.serve_listeners, self._converse, [listener])
            url_port = listener.socket.getsockname()[1]
            for label in self._labels:
                port = prosody.component_port
                self._nodes.add(label, self._directory, port, url_port, self._store)
            try:
                for victim in self._nodes.victims.values():
                    await victim.start()
                await self._start_conversations(nursery)
                yield
            finally:
                with trio.CancelScope(shield=True):
                    for victim in self._nodes.victims.values():
                        await victim.kill()
            nursery.cancel_scope.cancel()

    async def _start_conversations(self, nursery: trio.Nursery) -> None:
        self._sender = Sender(
            SENDER_DOMAIN,
            SECRET,
            self._prosody.component_port,
            f"bot@{DOMAIN}",
            self._evidence,
            self._load_dice,
            IQ_EVERY,
        )
        nursery.start_soon(self._sender.run)
        await self._sender.wait_attached()
        with trio.fail_after(LIMIT_S):
            await self._nodes.wait_attached()
        for user in range(self._window):
            nursery.start_soon(self._sender.talk, user)
        await self._wait_answered()

    async def _converse(self, stream: trio.SocketStream) -> None:
        """The endpoint: one connection of a node's."""
        server, client = stream.socket.getsockname()[1], stream.socket.getpeername()[1]
        node = self._nodes.owner(server, client)
        await converse(stream, partial(self._answer, node))

    async def _answer(self, node: str | None, request: Request) -> bytes:
        stanza: dict[str, Any] = msgspec.json.decode(request.body)
        id = stanza.get("id", "")
        if stanza.get("type") == "error":  # a reply of ours that came back
            self._evidence.returned[id] += 1
            return NOTHING
        uid, attempt = request.headers["webhook-id"], request.headers["webhook-attempt"]
        post = self._evidence.post(id, uid, attempt, trio.current_time(), node)
        if post is None:
            return NOTHING
        dice = self._load_dice
        is_slow = dice.random() < SLOW_SHARE
        await trio.sleep(dice.uniform(*(SLOW_S if is_slow else ANSWER_S)))
        post.answered_at = trio.current_time()
        text = f"{id} POST {post.serial}"
        if self._evidence.stories[id].is_iq:
            answer = f"<answer xmlns='{IQ_NAMESPACE}'>{text}</answer>"
            return answer_json(msgspec.json.encode({"stanza": f"<iq type='result'>{answer}</iq>"}))
        return answer_json(msgspec.json.encode({"body": text}))

    # --- outages

    def _plan(self, count: int) -> list[Kind]:
        """Each kind once, where there is room for all, and then as often as it is to be."""
        kinds = list(self._kinds)
        self._dice.shuffle(kinds)
        more = max(count - len(kinds), 0)
        return kinds[:count] + self._dice.choices(
            kinds, [self._kinds[one] for one in kinds], k=more
        )

    async def _cause(self, kind: Kind) -> None:
        causes: dict[Kind, Callable[[], Awaitable[None]]] = {
            "kill": self._kill_node,
            "freeze": self._freeze_node,
            "server": self._kill_server,
            "crash": self._crash_database,
            "promotion": self._promote_standby,
            **{cut: partial(self._cut_node, cut) for cut in CUTS},
        }
        await causes[kind]()

    async def _kill_node(self) -> None:
        victim, outage = await self._hit("kill")
        if (code := victim.daemon.process.poll()) is not None:
            self._evidence.strange.append(f"{outage.node} ended by itself, with {code}")
        await victim.kill()
        await self._note_journal()
        is_away = len(self._labels) > 1 and self._dice.random() < AWAY_SHARE
        if is_away:
            await self._end(outage)
        await victim.start()
        if not is_away:
            await self._end(outage)

    async def _freeze_node(self) -> None:
        victim, outage = await self._hit("freeze")
        victim.freeze()
        await trio.sleep(self._dice.uniform(*self._freeze_s))
        await self._note_journal()
        victim.release()
        await self._end(outage)

    async def _cut_node(self, kind: Kind) -> None:
        _, outage = await self._hit(kind)
        network, label = self._nodes.network, outage.node
        assert network is not None
        assert label is not None
        for service in CUTS[kind]:
            network.cut(label, service)
        await trio.sleep(self._dice.uniform(*self._freeze_s))
        await self._note_journal()
        for service in CUTS[kind]:
            network.mend(label, service)
        await self._end(outage)

    async def _kill_server(self) -> None:
        label = await self._gateway()
        gateway = self._nodes.victims[label].daemon if label else None
        detached = len(gateway.logged("detached")) if gateway else 0
        outage = self._begin("server")
        await self._prosody.kill()
        if gateway is not None:
            # It still reads what is in the socket, and confirms what Prosody has confirmed.
            await gateway.wait_logged("detached", detached + 1)
        await trio.sleep(SETTLE_S)
        await self._note_journal()
        await self._prosody.start()
        await self._end(outage)

    async def _crash_database(self) -> None:
        outage = self._begin("crash")
        await self._database.primary.crash()
        await trio.sleep(self._dice.uniform(0, min(CRASH_S, self._freeze_s[1])))
        await self._database.primary.start()
        await self._note_journal()
        await self._end(outage)

    @property
    def _database(self) -> ReplicatedPostgres:
        assert isinstance(self._store, PostgresStore)
        return self._store.database

    async def _promote_standby(self) -> None:
        outage = self._begin("promotion")
        await self._database.fail_over()
        await self._note_journal()
        await self._end(outage)
        await self._database.rebuild_standby()

    async def _hit(self, kind: Kind) -> tuple[Victim, Outage]:
        """Choose a node, often the gateway, and begin its outage."""
        gateway = await self._gateway()
        label = self._dice.choice(self._labels)
        if gateway is not None and self._dice.random() < GATEWAY_SHARE:
            label = gateway
        return self._nodes.victims[label], self._begin(kind, label, is_gateway=label == gateway)

    async def _gateway(self) -> str | None:
        """The label of the node that is to be attached; None if there is none just now."""
        return self._labels[0] if len(self._labels) == 1 else await self._store.gateway()

    def _begin(self, kind: Kind, node: str | None = None, *, is_gateway: bool = False) -> Outage:
        outage = Outage(kind, trio.current_time(), node, is_gateway)
        self._evidence.outages.append(outage)
        return outage

    async def _end(self, outage: Outage) -> None:
        await self._sender.wait_attached()
        if not await self._wait_answered():
            about = f"{LIMIT_S} s after the {outage.kind} of {outage.node or 'it'} was over"
            self._evidence.strange.append(f"{about}, not all conversations had gone on")
        outage.ended_at = trio.current_time()

    async def _wait_answered(self) -> bool:
        """Wait until each conversation has the reply to something that is sent from now on."""
        since = trio.current_time()
        with trio.move_on_after(LIMIT_S):
            while True:
                up_to = self._evidence.answered_up_to
                if all(up_to.get(user, 0) > since for user in range(self._window)):
                    return True
                await trio.sleep(POLL_S)
        return False

    async def _note_journal(self) -> None:
        self._evidence.snapshots.append(await self._store.read(trio.current_time()))

    async def _quiet(self) -> Snapshot:
        """Wait until nothing happens any more; give the journal as it is then."""
        with trio.move_on_after(LIMIT_S):
            while True:
                quiet_s = trio.current_time() - self._evidence.last_at
                left = await self._store.read(0)
                if quiet_s > QUIET_S and not (left.pending or left.replies):
                    break
                await trio.sleep(POLL_S)
        return await self._store.read(0)
