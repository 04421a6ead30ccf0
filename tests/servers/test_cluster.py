"""Three daemons on one PostgreSQL and one Prosody: who attaches, and who takes over."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import TYPE_CHECKING, Final

import pytest
import trio
from attrs import define

from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import Endpoint, Posted, Reaction, echo, open_endpoint, reply
from tests.servers.peer import Peer, connect_component
from tests.servers.prosody import Prosody
from tests.servers.scene import BOT, PEER, body_of, bot_table, message

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.servers.postgres import Postgres

    Start = Callable[[int], Awaitable[Daemon]]

pytestmark = [pytest.mark.postgres, pytest.mark.prosody]
TAKE_OVER_S: Final = 15.0
HAND_OVER_S: Final = 5.0
SPREAD_S: Final = 6.0  # the nodes have been the same for 5 s
ATTACHES: Final = "this node attaches as the component"
ENDING: Final = "ending at once, because another node may have taken over"


@define
class Cluster:
    nodes: list[Daemon]
    peer: Peer
    endpoint: Endpoint
    start: Start
    """Starts the node of a number."""
    said: int = 0

    async def echo(self, timeout_s: float) -> float:
        """Say something until it is answered, and return the seconds that took."""
        begun = trio.current_time()
        with trio.fail_after(timeout_s):
            while True:
                self.said += 1
                text = f"word {self.said}"
                await self.peer.send(message(text, from_=f"a@{PEER}"))
                with trio.move_on_after(0.5):
                    await self.peer.receive(partial(_is_answer, text))
                    return trio.current_time() - begun

    def gateway(self) -> Daemon:
        """The running node that has attached last, as far as its log tells."""
        found = [
            (line["timestamp"], number)
            for number, node in enumerate(self.nodes)
            if node.process.poll() is None
            for line in node.logged("attached")
        ]
        return self.nodes[max(found)[1]]


def _is_answer(text: str, stanza: ET.Element) -> bool:
    return body_of(stanza) == text and stanza.get("type") != "error"


@asynccontextmanager
async def cluster(
    directory: Path, postgres: Postgres, count: int, *, spread: bool = False
) -> AsyncIterator[Cluster]:
    """Start nodes, the first of which has attached when the others start."""
    kick_old = ['component_conflict_resolve = "kick_old"']
    prosody = Prosody(directory, components=COMPONENTS, component_settings={BOT: kick_old})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(prosody)
        endpoint = await stack.enter_async_context(open_endpoint())
        settings = settings_for(
            prosody.component_port,
            {BOT: bot_table(endpoint)},
            journal={"url": postgres.url},
        )
        nodes: list[Daemon] = []

        async def start(number: int) -> Daemon:
            table = {**settings, "node": {"label": f"node-{number}", "spread": spread}}
            if spread:
                table["http"] = {"max_in_flight": 2}
            running = run_daemon(directory, table, wait_attached=not nodes)
            return await stack.enter_async_context(running)

        for number in range(count):
            nodes.append(await start(number))
        for node in nodes[1:]:
            await node.wait_logged("starting")
        peer = await stack.enter_async_context(
            connect_component(prosody.component_port, PEER, COMPONENTS[PEER])
        )
        made = Cluster(nodes, peer, endpoint, start)
        await made.echo(10)
        await trio.sleep(3)  # so that all nodes have seen each other
        yield made


async def test_a_killed_gateway_is_replaced_within_fifteen_seconds(
    tmp_path: Path, postgres: Postgres
) -> None:
    async with cluster(tmp_path, postgres, 3) as made:
        first = made.nodes[0]
        assert made.gateway() is first
        first.signal(SIGKILL)
        await first.process.wait()
        await made.echo(TAKE_OVER_S)
        assert made.gateway() is not first


async def test_a_frozen_gateway_does_nothing_when_it_goes_on(
    tmp_path: Path, postgres: Postgres
) -> None:
    """It hears that it is lost, stands by, and takes over again when its successor dies."""
    async with cluster(tmp_path, postgres, 2) as made:
        first, second = made.nodes
        first.signal(SIGSTOP)
        await trio.sleep(1)
        try:
            await made.echo(TAKE_OVER_S)
        finally:
            first.signal(SIGCONT)
        assert made.gateway() is second
        await first.wait_logged(ENDING)
        await first.wait_logged("this node takes part again")
        await made.echo(5)
        assert len(first.logged("attached")) == 1
        second.signal(SIGKILL)
        await second.process.wait()
        await made.echo(TAKE_OVER_S)
        assert len(first.logged("attached")) == 2


async def test_a_node_that_stops_hands_over_at_once(tmp_path: Path, postgres: Postgres) -> None:
    async with cluster(tmp_path, postgres, 2) as made:
        first, second = made.nodes
        code, _ = await first.terminate()
        await made.echo(HAND_OVER_S)
        assert code == 0
        await second.wait_logged("attached")


async def test_a_rolling_restart_loses_nothing(tmp_path: Path, postgres: Postgres) -> None:
    """Senders that write all the time: each message has its answer, or came back from Prosody
    while nobody was attached, and is written again.
    """
    async with cluster(tmp_path, postgres, 3) as made:
        open_ones: set[str] = set()

        async def write() -> None:
            for number in count():
                text = f"text {number}"
                open_ones.add(text)
                sender = f"s{number % 5}@{PEER}"
                await made.peer.send(message(text, from_=sender, id=text))
                await trio.sleep(0.05)

        async def hear() -> None:
            found = await made.peer.receive()
            if found.get("type") != "error":
                open_ones.discard(body_of(found) or "")
                return
            text, sender = str(found.get("id")), str(found.get("to"))
            with trio.CancelScope(shield=True):
                await trio.sleep(0.02)
                await made.peer.send(message(text, from_=sender, id=text))

        async def hear_all() -> None:
            while True:
                await hear()

        with trio.fail_after(6 * TAKE_OVER_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                nursery.start_soon(hear_all)
                for number in range(3):
                    await trio.sleep(1)
                    code, _ = await made.nodes[number].terminate()
                    assert code == 0
                    made.nodes[number] = await made.start(number)
                    await made.nodes[number].wait_logged("starting")
                nursery.cancel_scope.cancel()
            while open_ones:
                await hear()


async def test_all_go_on_when_the_database_is_back(tmp_path: Path, postgres: Postgres) -> None:
    async with cluster(tmp_path, postgres, 2) as made:
        await postgres.crash()
        await made.nodes[0].wait_logged(ENDING)
        await postgres.start()
        await made.echo(TAKE_OVER_S)
        assert not [
            node for node in made.nodes if node.logged("a node is silent and counts as dead")
        ]


async def test_all_nodes_post_and_a_killed_one_is_replaced(
    tmp_path: Path, postgres: Postgres
) -> None:
    """A node alone POSTs two stanzas at once. Neither the death of a worker nor that of the gateway
    loses a stanza, and each conversation keeps its order.
    """
    senders, rounds = 12, 4
    async with cluster(tmp_path, postgres, 3, spread=True) as made:
        most = 0

        def slow(posted: Posted) -> Reaction:
            nonlocal most
            most = max(most, made.endpoint.in_flight)
            return reply({"body": f"re {posted['body']}"}, delay_s=0.5)

        await trio.sleep(SPREAD_S)
        made.endpoint.react = slow
        answers: dict[str, list[str]] = {}

        async def say(first: int) -> None:
            for number in range(first, first + rounds):
                for sender in range(senders):
                    one = message(f"{sender} {number}", from_=f"s{sender}@{PEER}")
                    await made.peer.send(one)

        async def hear(last: int) -> None:
            with trio.fail_after(4 * TAKE_OVER_S):
                while len(answers) < senders or any(
                    f"re {sender} {last}" not in found for sender, found in answers.items()
                ):
                    text = body_of(await made.peer.receive(_is_reply)) or ""
                    found = answers.setdefault(text.split()[1], [])
                    if text not in found:  # a reply may be written twice
                        found.append(text)

        await say(0)
        await hear(rounds - 1)
        assert most > 2
        gateway = made.gateway()
        worker = next(node for node in made.nodes if node is not gateway)
        await say(rounds)
        worker.signal(SIGKILL)
        await worker.process.wait()
        await hear(2 * rounds - 1)
        for sender, found in answers.items():
            assert found == [f"re {sender} {number}" for number in range(2 * rounds)]
        gateway.signal(SIGKILL)
        await gateway.process.wait()
        made.endpoint.react = echo
        await made.echo(TAKE_OVER_S)


def _is_reply(stanza: ET.Element) -> bool:
    return (body_of(stanza) or "").startswith("re ") and stanza.get("type") != "error"
