"""Iqs that clients send at a node that is not the gateway of their component."""

import math
from typing import Final

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from bridge.dispatch.remote_iq import MOVED, UNREADABLE, Answer, Question, kind_of
from bridge.listener.submission.sender import (
    IdInUse,
    JournalUnavailable,
    Key,
    NoAnswer,
    NotRunning,
    QueueFull,
)
from bridge.listener.submission.singleflight import SendRefused
from bridge.xmpp.iq import LIMIT
from tests.bridge.dispatch.life import BOT, DOMAIN, Life, pass_time
from tests.bridge.dispatch.test_cluster import SOON, Cluster
from tests.bridge.sample import stanza
from xmppstream import Stanza

PEER: Final = "peer.example"
HOPS: Final = 2 * SOON
"""To another node and back, in s."""
KEY: Final = Key("token", "key", b"digest")


def request(id: str = "q") -> Stanza:
    return stanza(f"<iq type='get' id='{id}' to='{PEER}' from='{BOT}'><ping/></iq>", "cs")


def answer(id: str = "q", payload: str = "<pong/>") -> Stanza:
    one = f"<iq type='result' id='{id}' to='{BOT}' from='{PEER}'>{payload}</iq>"
    return Stanza(stanza(one, "cs").element, "de")


@define(eq=False)
class Call:
    """A client that waits for an answer."""

    answer: Stanza | None = None
    refusal: SendRefused | None = None
    over: trio.Event = field(factory=trio.Event)
    scope: trio.CancelScope = field(factory=trio.CancelScope)


@define
class Scene:
    """The first node is the gateway; clients ask the third one."""

    cluster: Cluster
    nursery: trio.Nursery

    @property
    def asker(self) -> Life:
        return self.cluster.other.life

    @property
    def gateway(self) -> Life:
        return self.cluster.gateway.life

    async def ask(
        self, one: Stanza, wait_s: float = 60, key: Key | None = None, *, life: Life | None = None
    ) -> Call:
        """A client asks, and its question reaches the gateway."""
        call = Call()
        sender = (life or self.asker).sender

        async def run() -> None:
            with call.scope:
                try:
                    call.answer = await sender.ask(one, wait_s, key)
                except SendRefused as refusal:
                    call.refusal = refusal
            call.over.set()

        self.nursery.start_soon(run)
        await pass_time(HOPS)
        return call

    async def answer(self, one: Stanza) -> None:
        """The server answers, and the answer reaches the asker."""
        await self.gateway.give(one)
        await pass_time(HOPS)

    def move(self) -> None:
        """Make the second node the gateway."""
        first, second, third = self.cluster.nodes
        first.held.elsewhere = third.held.elsewhere = 2
        second.held.elsewhere = None
        first.held.hold(first.held.held, gateway=False)
        second.held.hold(second.held.held, gateway=True)


@pytest.fixture
async def scene(autojump_clock: MockClock, nursery: trio.Nursery) -> Scene:
    cluster = Cluster(nursery)
    cluster.worker.held.elsewhere = cluster.other.held.elsewhere = 1
    await cluster.start()
    await pass_time(HOPS)
    return Scene(cluster, nursery)


async def test_an_iq_is_written_by_the_gateway_and_answered_at_the_asker(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request())
    [sent] = scene.gateway.sent()
    assert (sent.id, sent.to, sent.from_) == ("q", PEER, BOT)
    assert len(scene.asker.outbox) == 0
    await scene.answer(answer())
    assert call.answer is not None
    assert call.answer.element == answer().element
    assert call.answer.lang == "de"
    assert len(scene.gateway.pending_iqs) == 0
    assert scene.gateway.endpoint.posts == []
    assert scene.cluster.journal.left == []


async def test_an_error_of_the_peer_is_an_answer(autojump_clock: MockClock, scene: Scene) -> None:
    call = await scene.ask(request())
    error = f"<iq type='error' id='q' to='{BOT}' from='{PEER}'><error type='cancel'/></iq>"
    await scene.answer(stanza(error, "cs"))
    assert call.answer is not None
    assert call.answer.type == "error"


async def test_a_client_that_leaves_has_the_iq_withdrawn(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request())
    call.scope.cancel()
    await pass_time(HOPS)
    assert scene.gateway.sent() == []
    assert len(scene.gateway.pending_iqs) == 0


async def test_an_answer_after_the_deadline_is_for_the_endpoint(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request(), 5)
    assert scene.gateway.sent()
    await pass_time(5)
    assert isinstance(call.refusal, NoAnswer)
    await scene.answer(answer())
    assert len(scene.gateway.pending_iqs) == 0
    assert scene.cluster.journal.left == []


async def test_a_question_of_a_node_that_has_died_is_not_sent(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.gateway.disk.hold()
    await scene.ask(request())
    scene.cluster.journal.ended.add(3)
    scene.gateway.disk.release()
    await pass_time(HOPS)
    assert scene.gateway.sent() == []
    assert scene.cluster.journal.left == []


async def test_an_answer_that_a_gateway_left_before_it_moved_arrives(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request())
    scene.gateway.sent()
    scene.asker.disk.hold()
    await scene.answer(answer())
    scene.cluster.journal.ended.add(1)
    scene.move()
    scene.asker.disk.release()
    await pass_time(HOPS)
    assert call.answer is not None


async def test_a_question_ends_if_its_gateway_has_died(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request())
    await scene.gateway.kill()
    await pass_time(HOPS)
    assert not call.over.is_set()
    scene.move()
    await pass_time(HOPS)
    assert isinstance(call.refusal, NoAnswer)
    assert call.refusal.why == MOVED


async def test_a_gateway_that_stops_ends_the_question(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request())
    scene.gateway.pending_iqs.end("the component has stopped")
    await pass_time(HOPS)
    assert isinstance(call.refusal, NoAnswer)
    assert call.refusal.why == "the component has stopped"


async def test_a_node_that_is_no_longer_the_gateway_refuses(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.cluster.gateway.held.gateway = False
    call = await scene.ask(request())
    assert isinstance(call.refusal, NotRunning)


async def test_without_a_gateway_an_iq_is_refused_at_once(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.cluster.other.held.elsewhere = None
    call = await scene.ask(request())
    assert isinstance(call.refusal, NotRunning)
    assert scene.cluster.journal.left == []


async def test_an_id_that_waits_at_the_gateway_is_refused(
    autojump_clock: MockClock, scene: Scene
) -> None:
    first = await scene.ask(request(), life=scene.gateway)
    second = await scene.ask(request())
    assert isinstance(second.refusal, IdInUse)
    assert not first.over.is_set()


async def test_too_many_at_the_gateway_are_refused(autojump_clock: MockClock, scene: Scene) -> None:
    submitter = scene.gateway.pipeline.submitter
    for number in range(LIMIT):
        submitter.open(request(f"o{number}"), math.inf, lambda _: None)
    call = await scene.ask(request())
    assert isinstance(call.refusal, QueueFull)


async def test_a_full_outbox_of_the_gateway_refuses(
    autojump_clock: MockClock, scene: Scene
) -> None:
    while scene.gateway.outbox.reserve(1):
        pass
    call = await scene.ask(request())
    assert isinstance(call.refusal, QueueFull)
    assert len(scene.gateway.pending_iqs) == 0


async def test_a_question_that_the_journal_does_not_take_is_refused(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.cluster.journal.mute.add(3)
    call = await scene.ask(request())
    assert isinstance(call.refusal, JournalUnavailable)
    assert scene.gateway.sent() == []


async def test_what_another_version_leaves_is_told_and_dropped(
    autojump_clock: MockClock, scene: Scene
) -> None:
    store = scene.cluster.journal.store(2)
    for kind in ("iq", "cancel"):
        store.post(1, kind_of(kind, DOMAIN), b"{}")
    store.post(3, kind_of("answer", DOMAIN), b"[")
    store.post(3, "gossip", b"")
    await pass_time(HOPS)
    kinds = [
        [line["kind"] for line in life.log.of("post dropped")]
        for life in (scene.gateway, scene.asker)
    ]
    assert kinds == [["iq", "iq"], ["answer", "gossip"]]
    assert scene.cluster.journal.left == []


async def test_an_answer_that_cannot_be_read_ends_the_question(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.gateway.disk.hold()
    call = await scene.ask(request())
    [(_, question)] = scene.cluster.journal.left
    id = msgspec.json.decode(question.body, type=Question).id
    body = msgspec.json.encode(Answer(id, "<iq"))
    scene.cluster.journal.store(1).post(3, kind_of("answer", DOMAIN), body)
    await pass_time(HOPS)
    assert isinstance(call.refusal, NoAnswer)
    assert call.refusal.why == UNREADABLE


async def test_a_page_of_an_archive_is_refused(autojump_clock: MockClock, scene: Scene) -> None:
    """Its messages arrive at the gateway."""
    with pytest.raises(NotRunning), scene.asker.sender.collecting(request(), "page", 10):
        pytest.fail("it was opened")
    with scene.gateway.sender.collecting(request(), "page", 10):
        pass


# --- with a key


async def test_the_same_key_gives_the_answer_again_at_any_node(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request(), key=KEY)
    await scene.answer(answer())
    for life in (scene.asker, scene.gateway):
        again = await scene.ask(request("other"), key=KEY, life=life)
        assert call.answer is not None
        assert again.answer is not None
        assert again.answer.element == call.answer.element
    assert [one.id for one in scene.gateway.sent()] == ["q"]


async def test_with_a_key_the_answer_is_stored_though_the_client_has_left(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request(), key=KEY)
    call.scope.cancel()
    await pass_time(HOPS)
    await scene.answer(answer())
    again = await scene.ask(request("other"), key=KEY)
    assert again.answer is not None
    assert len(scene.gateway.sent()) == 1


async def test_a_key_whose_iq_was_refused_may_be_used_again(
    autojump_clock: MockClock, scene: Scene
) -> None:
    scene.cluster.gateway.held.gateway = False
    refused = await scene.ask(request(), key=KEY)
    assert isinstance(refused.refusal, NotRunning)
    scene.cluster.gateway.held.gateway = True
    call = await scene.ask(request(), key=KEY)
    await scene.answer(answer())
    assert call.answer is not None


async def test_a_key_whose_iq_was_not_written_in_time_may_be_used_again(
    autojump_clock: MockClock, scene: Scene
) -> None:
    call = await scene.ask(request(), 5, KEY)
    await pass_time(5)
    assert isinstance(call.refusal, NoAnswer)
    assert scene.gateway.sent() == []
    again = await scene.ask(request(), 5, KEY)
    await scene.answer(answer())
    assert again.answer is not None
