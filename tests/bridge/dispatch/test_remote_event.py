"""Pulled events that wait on one node, and a service that polls another one."""

import json

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.config.token import Token
from bridge.dispatch.remote_event import SILENCE_S, TELL_S, RemoteEvents
from bridge.webhook.outcome import NoReply, Outcome, Rejected, Replied, TimedOut, Unreachable
from bridge.webhook.pull import LEASE_S, NotLeased, Offer, Poller, PulledEvents, Reach
from bridge.webhook.pulled_endpoint import PulledEndpoint
from tests.bridge.journal.memory_cluster import MemoryCluster
from tests.bridge.journal.test_mailbox import Node

DOMAIN = "bot.example"
TOKEN = Token("shop", b"digest", frozenset({DOMAIN}), frozenset({"receive"}))
REACH = Reach(TOKEN, frozenset({DOMAIN}))
WAIT_S = 2 * TELL_S


class Pulled(Node):
    """A node with pulled events."""

    def __init__(self, cluster: MemoryCluster, number: int) -> None:
        super().__init__(cluster, number)
        self.events = PulledEvents()
        self.events.domains = frozenset({DOMAIN})
        self.tokens = [TOKEN]
        self.remote = RemoteEvents(
            self.events, self.mailbox, lambda: self.tokens, self.log.logger()
        )
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.mailbox.run)
                nursery.start_soon(self.remote.run)


@define
class Scene:
    """Events wait on the first node, the owner; services poll the second one."""

    nursery: trio.Nursery
    cluster: MemoryCluster
    owner: Pulled
    polled: Pulled
    outcomes: dict[str, Outcome] = field(factory=dict)

    def post(self, uid: str, *, kind: str = "message", budget_s: float = 900) -> None:
        """Offer an event, and keep its outcome."""

        async def run() -> None:
            endpoint = PulledEndpoint(DOMAIN, "", self.owner.events)
            now = trio.current_time()
            body = json.dumps({"kind": kind, "to": DOMAIN, "id": uid}).encode()
            self.outcomes[uid] = await endpoint.post(body, uid, 1, now, now + budget_s)

        self.nursery.start_soon(run)

    async def take(self, poller: Poller) -> list[str]:
        """Lease events, and return their uids."""
        found: list[Offer] = await poller.take(WAIT_S)
        self.polled.events.start(found)
        return [one.uid for one in found]

    def answer(self, uid: str, outcome: Outcome) -> None:
        events = self.polled.events
        events.answer(events.leased(TOKEN, uid), outcome)


@pytest.fixture
async def scene(autojump_clock: MockClock, nursery: trio.Nursery) -> Scene:
    cluster = MemoryCluster()
    cluster.ended.add(3)
    nodes = Pulled(cluster, 1), Pulled(cluster, 2)
    for one in nodes:
        await nursery.start(one.committer.run)
        nursery.start_soon(one.run)
    return Scene(nursery, cluster, *nodes)


async def pass_by(seconds: float = 1.0) -> None:
    await trio.sleep(seconds)
    await wait_all_tasks_blocked()


@pytest.mark.parametrize(
    "outcome", [Replied("json", b'{"body": "hi"}'), NoReply(), Rejected(503, 2.5)], ids=str
)
async def test_an_event_is_given_out_and_answered_at_another_node(
    autojump_clock: MockClock, scene: Scene, outcome: Outcome
) -> None:
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a")
        assert await scene.take(poller) == ["a"]
        scene.answer("a", outcome)
        await pass_by()
    assert scene.outcomes == {"a": outcome}
    assert scene.cluster.left == []


async def test_an_event_is_leased_to_one_poller_of_all_nodes(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with (
        scene.polled.events.polling(REACH, 10) as there,
        scene.owner.events.polling(REACH, 10) as here,
    ):
        taken: list[str] = []
        nodes: set[PulledEvents] = set()

        async def poll(poller: Poller, events: PulledEvents) -> None:
            while found := await poller.take(WAIT_S):
                events.start(found)
                nodes.add(events)
                taken.extend(one.uid for one in found)

        await pass_by()
        for number in range(20):
            scene.post(str(number))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll, there, scene.polled.events)
            nursery.start_soon(poll, here, scene.owner.events)
        assert len(taken) == len(set(taken)) == 20
        assert len(nodes) == 2


async def test_a_lease_may_be_extended_at_another_node(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a")
        await scene.take(poller)
        for _ in range(5):
            await pass_by(LEASE_S - 5)
            scene.polled.events.extend(scene.polled.events.leased(TOKEN, "a"))
        assert scene.outcomes == {}
        scene.answer("a", NoReply())
        await pass_by()
    assert scene.outcomes == {"a": NoReply()}


async def test_a_lease_that_ends_at_another_node_is_a_time_out(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a")
        await scene.take(poller)
        await pass_by(LEASE_S + 1)
    assert isinstance(scene.outcomes["a"], TimedOut)


async def test_an_iq_is_cut_at_another_node(autojump_clock: MockClock, scene: Scene) -> None:
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a", kind="iq", budget_s=20)
        await scene.take(poller)
        await pass_by(22)
        assert scene.outcomes == {"a": TimedOut(was_cut=True)}
        with pytest.raises(NotLeased):
            scene.answer("a", NoReply())


async def test_events_of_a_node_that_has_died_are_given_out_again(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a")
        await scene.take(poller)
        scene.polled.scope.cancel()
        await pass_by(SILENCE_S)
        with scene.owner.events.polling(REACH, 10) as here:
            [again] = await here.take(WAIT_S)
            assert (again.uid, again.attempt) == ("a", 1)
            scene.owner.events.start([again])
            scene.owner.events.answer(again, NoReply())
            await wait_all_tasks_blocked()
    assert scene.outcomes == {"a": NoReply()}


async def test_a_service_that_leaves_before_it_takes_an_event_gives_it_back(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with scene.polled.events.polling(REACH, 10):
        await pass_by()
    scene.post("a")
    await pass_by(SILENCE_S)
    assert scene.outcomes == {}
    await pass_by(2 * SILENCE_S)
    assert isinstance(scene.outcomes["a"], Unreachable)
    assert scene.cluster.kinds.count("event") == 1, "given to a node that nobody polls"
    assert scene.polled.events.offered(DOMAIN) == []


async def test_an_event_of_another_node_is_not_passed_on(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with scene.polled.events.polling(REACH, 10), scene.owner.events.polling(REACH, 10):
        await pass_by()
        scene.post("a")
        await pass_by()
        assert [one.uid for one in scene.polled.events.offered(DOMAIN)] == ["a"]
        assert scene.cluster.kinds.count("event") == 1


async def test_a_node_that_stops_gives_back_what_nobody_has_taken(
    autojump_clock: MockClock, scene: Scene
) -> None:
    with scene.polled.events.polling(REACH, 10) as poller:
        await pass_by()
        scene.post("a")
        await pass_by()
        assert [one.uid for one in scene.polled.events.offered(DOMAIN)] == ["a"]
        scene.polled.events.stop(lambda: None)
        assert await poller.take(WAIT_S) == []
        scene.post("b")
        await pass_by(WAIT_S)
        assert scene.polled.events.offered(DOMAIN) == []
        with scene.owner.events.polling(REACH, 10) as here:
            assert {one.uid for one in await here.take(WAIT_S)} == {"a", "b"}


async def test_a_node_that_becomes_the_owner_ends_the_lease_of_the_one_before(
    autojump_clock: MockClock, scene: Scene
) -> None:
    """It has got the partition, because the owner has died."""
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a")
        await scene.take(poller)
        scene.owner.scope.cancel()
        own = Offer(DOMAIN, "", "a", 2, b"{}")
        scene.polled.events.offer(own)
        assert await scene.take(poller) == ["a"]
        assert scene.polled.events.leased(TOKEN, "a") is own
        scene.answer("a", NoReply())
        scene.polled.events.withdraw(own)
        await pass_by()
        assert poller.held == 0


async def test_a_token_that_only_one_node_has_gets_nothing_from_others(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.owner.tokens = []
    with scene.polled.events.polling(REACH, 10) as poller:
        scene.post("a")
        assert await scene.take(poller) == []


async def test_what_another_version_leaves_is_told(autojump_clock: MockClock, scene: Scene) -> None:
    store = scene.cluster.store(2)
    for kind in ("polled", "event", "event end"):
        store.post(1, kind, b"{}")
    await pass_by()
    assert len(scene.owner.log.of("post dropped")) == 3
