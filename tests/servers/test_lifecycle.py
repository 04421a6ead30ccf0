"""What must not happen to messages: servers, endpoints and daemons that go and come back.

No test asserts on a short time except where the time is what is promised.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.servers.conftest import COMPONENTS
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.endpoint import (
    NOTHING,
    Endpoint,
    Never,
    Posted,
    Reaction,
    always,
    echo,
    open_endpoint,
    reply,
)
from tests.servers.peer import Peer, PeerClosed, condition, connect_component
from tests.servers.process import LOOPBACK
from tests.servers.scene import (
    BOT,
    NO_JOURNAL,
    ONE_ATTEMPT,
    PEER,
    body_of,
    bot_table,
    message,
    open_scene,
    stanza,
)

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.daemon import Table
    from tests.servers.ejabberd import Ejabberd
    from tests.servers.prosody import Prosody

MIB: Final = 1024 * 1024
SENDERS: Final = [f"a{number}" for number in range(10)]
FLOOD: Final = 20_000
HEADLINES: Final = frozenset(range(0, FLOOD, 20))  # of which no sender may be told
BACK_S: Final = 15.0  # a few seconds: the longest wait between two attempts is 5 s


def _is_to(jid: str) -> Callable[[ET.Element], bool]:
    return lambda it: it.get("to") == jid


async def say(peer: Peer, text: str, sender: str = "a", id: str = "q") -> None:
    await peer.send(message(text, from_=f"{sender}@{PEER}", id=id))


async def hear(peer: Peer, text: str, timeout_s: float = 30) -> ET.Element:
    return await peer.receive(lambda it: body_of(it) == text, timeout_s=timeout_s)


async def check_alive(peer: Peer) -> None:
    """Expect an echo."""
    await say(peer, "are you there")
    await hear(peer, "are you there")


def error_of(element: ET.Element) -> tuple[str, str | None]:
    """Condition and type of a stanza error."""
    error = element.find("{*}error")
    assert error is not None
    return condition(error), error.get("type")


def to_sink(posted: Posted) -> Reaction:
    """Reply to an address of the bot's own: the server gives it back, and it is POSTed."""
    if _is_sink(posted):
        return NOTHING
    sender = posted["from"].partition("@")[0]
    return reply({"to": f"sink-{sender}@{BOT}", "body": posted["body"]})


def _is_sink(posted: Posted) -> bool:
    return str(posted["to"]).startswith("sink-")


def sunk(endpoint: Endpoint) -> list[str]:
    """The bodies that came back from the server, in order."""
    return [posted["body"] for posted in endpoint.posted if _is_sink(posted)]


# --- the endpoint


async def test_an_endpoint_that_never_answers(prosody: Prosody, tmp_path: Path) -> None:
    timeout_s, count = 1.5, 100
    async with open_scene(
        prosody, tmp_path, http={"timeout_s": timeout_s}, retry=ONE_ATTEMPT
    ) as scene:
        scene.endpoint.react = always(Never())

        async def all_are_told() -> None:
            started = trio.current_time()
            for number in range(count):
                await say(scene.peer, "hi", f"a{number}")
            errors = [await scene.peer.receive(timeout_s=60) for _ in range(count)]
            assert {error_of(it) for it in errors} == {("remote-server-timeout", "wait")}
            assert len({it.get("to") for it in errors}) == count
            assert trio.current_time() - started >= timeout_s * 0.9
            await scene.endpoint.wait_until(lambda: scene.endpoint.connections == 0)

        daemon = scene.daemon
        await all_are_told()
        memory, threads, fds = daemon.rss_bytes, daemon.thread_count, daemon.fd_count
        for _ in range(3):
            await all_are_told()
        await daemon.wait_until(lambda: daemon.fd_count <= fds, what="file descriptors")
        await daemon.wait_until(lambda: daemon.thread_count <= threads, what="threads")
        assert daemon.rss_bytes - memory < 8 * MIB
        assert len(daemon.logged("endpoint fails")) == 1
        scene.endpoint.react = echo
        await check_alive(scene.peer)
        await daemon.wait_logged("endpoint answers again")


async def test_a_slow_conversation_delays_only_itself(prosody: Prosody, tmp_path: Path) -> None:
    async with open_scene(prosody, tmp_path, http={"max_in_flight": 4}) as scene:
        scene.endpoint.hold(lambda posted: posted["from"].startswith("slow"))
        await say(scene.peer, "first", "slow")
        await say(scene.peer, "second", "slow")
        for number in range(20):
            await say(scene.peer, f"fast {number}", f"a{number}")
        for number in range(20):
            await hear(scene.peer, f"fast {number}")
        assert scene.endpoint.bodies.count("first") == 1
        assert "second" not in scene.endpoint.bodies
        # an iq of the same sender does not wait for its messages
        ping = stanza("iq", "<ping xmlns='urn:xmpp:ping'/>", type="get", from_=f"slow@{PEER}")
        await scene.peer.send(ping)
        await scene.peer.receive(lambda it: it.get("type") == "result")
        scene.endpoint.release()
        got = [await scene.peer.receive() for _ in "12"]
        assert [body_of(it) for it in got] == ["first", "second"]


async def test_conversations_keep_their_order(prosody: Prosody, tmp_path: Path) -> None:
    conversations, length, dice = 20, 50, random.Random(7)
    talks = {f"a{number}@{PEER}": list(map(str, range(length))) for number in range(conversations)}
    most = 0
    async with open_scene(prosody, tmp_path) as scene:

        def react(posted: Posted) -> Reaction:
            nonlocal most
            most = max(most, scene.endpoint.in_flight)
            return reply({"body": posted["body"]}, delay_s=dice.random() * 0.03)

        scene.endpoint.react = react
        for text in range(length):
            for sender in talks:
                await scene.peer.send(message(str(text), from_=sender))
        heard = defaultdict(list)
        for _ in range(conversations * length):
            got = await scene.peer.receive(timeout_s=60)
            heard[got.get("to")].append(body_of(got))
        asked = defaultdict(list)
        for posted in scene.endpoint.posted:
            asked[posted["from"]].append(posted["body"])
        assert asked == talks
        assert heard == talks
        assert most > conversations // 4


# --- stopping


async def test_sigterm_with_posts_in_flight(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """Without a journal, all senders are told."""
    grace_s, half = 3.0, 50
    async with open_scene(
        shared_server, tmp_path, stream={"grace_s": grace_s}, journal=NO_JOURNAL
    ) as scene:
        scene.endpoint.hold()
        scene.endpoint.react = lambda it: echo(it) if it["from"].startswith("good") else Never()
        for number in range(half):
            await say(scene.peer, "hi", f"good{number}")
            await say(scene.peer, "hi", f"bad{number}")
        await say(scene.peer, "behind another", "bad0", "behind")
        await scene.endpoint.wait_requests(2 * half)
        code, seconds = -1, 0.0

        async def terminate() -> None:
            nonlocal code, seconds
            code, seconds = await scene.daemon.terminate()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminate)
            await scene.daemon.wait_logged("draining")
            await say(scene.peer, "too late", "late")
            scene.endpoint.release()
        assert code == 0
        assert seconds < grace_s + 2
        got = [await scene.peer.receive() for _ in range(2 * half + 2)]
        replies = {it.get("to") for it in got if it.get("type") == "chat"}
        errors = [it for it in got if it.get("type") == "error"]
        assert replies == {f"good{number}@{PEER}" for number in range(half)}
        told = Counter(it.get("to") for it in errors)
        expected = dict.fromkeys((f"bad{number}@{PEER}" for number in range(half)), 1)
        assert told == expected | {f"bad0@{PEER}": 2, f"late@{PEER}": 1}
        assert {error_of(it) for it in errors} == {("remote-server-timeout", "wait")}
        assert scene.daemon.logged("stopped")
        assert not scene.daemon.logged("replies could not be delivered")


async def test_sigterm_leaves_messages_to_the_next_process(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    """With a journal, messages and presences are delivered later; iqs have their answer now."""
    grace_s, count, state = 1.0, 20, tmp_path / "state"
    kinds = {"component_post_stanzas": ["message", "iq"]}
    ids: list[str] = []
    async with open_scene(
        shared_server,
        tmp_path,
        component=kinds,
        stream={"grace_s": grace_s},
        state_dir=state,
    ) as scene:
        scene.endpoint.react = always(Never())
        for number in range(count):
            await say(scene.peer, f"first {number}", f"a{number}")
            await say(scene.peer, f"second {number}", f"a{number}")
        ping = stanza("iq", "<query xmlns='test:query'/>", type="get", from_=f"asker@{PEER}")
        await scene.peer.send(ping)
        await scene.endpoint.wait_requests(count + 1)
        code, seconds = await scene.daemon.terminate()
        assert code == 0
        assert seconds < grace_s + 2
        got = await scene.peer.receive()
        assert (got.get("to"), error_of(got)) == (
            f"asker@{PEER}",
            ("remote-server-timeout", "wait"),
        )
        assert len(scene.peer.stanzas) == 1
        requests = scene.endpoint.requests
        ids = [it.headers["webhook-id"] for it in requests if it.json["kind"] == "message"]
    async with open_scene(shared_server, tmp_path, component=kinds, state_dir=state) as scene:
        for number in range(count):
            for text in (f"first {number}", f"second {number}"):
                got = await scene.peer.receive(_is_to(f"a{number}@{PEER}"))
                assert body_of(got) == text
        requests = scene.endpoint.requests
        again = [it.headers["webhook-id"] for it in requests if it.json["body"][:5] == "first"]
        assert sorted(again) == sorted(ids)
        assert len(requests) == 2 * count


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_an_idle_daemon_stops_at_once(
    prosody: Prosody, tmp_path: Path, number: Signals
) -> None:
    async with open_scene(prosody, tmp_path, stream={"grace_s": 60.0}) as scene:
        await check_alive(scene.peer)
        scene.daemon.signal(number)
        assert await scene.daemon.wait_ended(30) == 0
        assert [line["signal"] for line in scene.daemon.logged("stopping")] == [number.name]


async def test_a_second_sigterm_stops_at_once(prosody: Prosody, tmp_path: Path) -> None:
    async with open_scene(prosody, tmp_path, stream={"grace_s": 60.0}) as scene:
        scene.endpoint.react = always(Never())
        for number in range(20):
            await say(scene.peer, "hi", f"a{number}")
        await scene.endpoint.wait_requests(20)
        scene.daemon.signal(SIGTERM)
        await scene.daemon.wait_logged("draining")
        code, seconds = await scene.daemon.terminate()
        assert code == 1
        assert seconds < 20
        assert scene.daemon.logged("stopping at once")


# --- the server


async def test_replies_that_are_ready_meanwhile_are_delivered(
    server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    count = 100
    async with open_endpoint(to_sink) as endpoint:
        settings = settings_for(server.component_port, {BOT: bot_table(endpoint)})
        async with run_daemon(tmp_path, settings) as daemon:
            async with connect_component(server.component_port, PEER, COMPONENTS[PEER]) as peer:
                endpoint.hold()
                for number in range(count):
                    await say(peer, str(number), f"a{number}")
                await endpoint.wait_requests(count)
                await server.stop()
                await daemon.wait_logged("detached")
                endpoint.release()
                await endpoint.wait_until(lambda: endpoint.in_flight == 0)
            await server.start()
            await daemon.wait_logged("attached", 2, BACK_S)
            await endpoint.wait_requests(2 * count)
            await say_again(server, endpoint)
            assert Counter(sunk(endpoint)) == dict.fromkeys([*map(str, range(count)), "again"], 1)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_under_load(server: Prosody | Ejabberd, tmp_path: Path, how: str) -> None:
    """Whatever was POSTed has its reply: at least once, and the first ones are in order."""
    async with open_endpoint(to_sink) as endpoint:
        settings = settings_for(server.component_port, {BOT: bot_table(endpoint)})
        async with run_daemon(tmp_path, settings) as daemon:
            async with connect_component(server.component_port, PEER, COMPONENTS[PEER]) as peer:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_talk, peer)
                    await endpoint.wait_until(lambda: len(sunk(endpoint)) >= 200, 60)
                    await (server.stop() if how == "stop" else server.kill())
                await daemon.wait_logged("detached")
            await server.start()
            await daemon.wait_logged("attached", 2, BACK_S)
            asked = [posted["body"] for posted in endpoint.posted if not _is_sink(posted)]
            await endpoint.wait_until(lambda: set(asked) <= set(sunk(endpoint)), 60)
            firsts = list(dict.fromkeys(sunk(endpoint)))
            for sender in SENDERS:
                numbers = [int(it.partition(":")[2]) for it in firsts if it.startswith(sender)]
                assert numbers == sorted(numbers)
            await say_again(server, endpoint)
            assert daemon.process.poll() is None


async def _talk(peer: Peer) -> None:
    """Talk for all SENDERS, each with a sequence of its own, until the server goes."""
    with suppress(PeerClosed):
        for number in range(100_000):
            for sender in SENDERS:
                await say(peer, f"{sender}:{number}", sender)
            await trio.sleep(0.05)


async def say_again(server: Prosody | Ejabberd, endpoint: Endpoint) -> None:
    """One more message, over a server that has come back."""
    async with connect_component(server.component_port, PEER, COMPONENTS[PEER]) as peer:
        await say(peer, "again", "again")
        await endpoint.wait_until(lambda: "again" in sunk(endpoint))


async def test_the_server_comes_later(prosody: Prosody, tmp_path: Path) -> None:
    await prosody.stop()
    async with open_endpoint(to_sink) as endpoint:
        settings = settings_for(prosody.component_port, {BOT: bot_table(endpoint)})
        async with run_daemon(tmp_path, settings, wait_attached=False) as daemon:
            await daemon.wait_logged("cannot attach")
            await prosody.start()
            await daemon.wait_logged("attached")
            await say_again(prosody, endpoint)


async def test_a_server_that_never_speaks(tmp_path: Path) -> None:
    """No exit, new attempts, and SIGTERM is obeyed at once."""
    attempts = 0

    async def listen_only(stream: trio.SocketStream) -> None:
        nonlocal attempts
        attempts += 1
        while await stream.receive_some():
            pass

    async with open_endpoint() as endpoint, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, listen_only, 0, host=LOOPBACK))
        port = listeners[0].socket.getsockname()[1]
        stream = {"handshake_timeout_s": 0.5, "grace_s": 60.0}
        settings = settings_for(port, {BOT: bot_table(endpoint)}, stream=stream)
        async with run_daemon(tmp_path, settings, wait_attached=False) as daemon:
            await daemon.wait_until(lambda: attempts >= 3)
            (line,) = daemon.logged("cannot attach")
            assert "handshake" in line["why"]
            code, seconds = await daemon.terminate()
            assert code == 0
            assert seconds < 20
        stream = {"handshake_timeout_s": 60.0, "grace_s": 60.0}
        settings = settings_for(port, {BOT: bot_table(endpoint)}, stream=stream)
        known = attempts
        async with run_daemon(tmp_path, settings, wait_attached=False) as daemon:
            await daemon.wait_until(lambda: attempts > known)
            code, seconds = await daemon.terminate()
            assert code == 0
            assert seconds < 20
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("durability", ["off", "process", "power"])
async def test_sigterm_while_the_server_is_away(
    prosody: Prosody, tmp_path: Path, durability: str
) -> None:
    """Replies that cannot be delivered any more are told of, and hold nothing up; where there is
    a journal, the next process delivers them.
    """
    count, grace_s, state = 10, 3.0, tmp_path / "state"
    async with open_endpoint(to_sink) as endpoint:
        settings = settings_for(
            prosody.component_port,
            {BOT: bot_table(endpoint)},
            stream={"grace_s": grace_s},
            journal={"durability": durability},
        )
        async with run_daemon(tmp_path, settings, state_dir=state) as daemon:
            async with connect_component(prosody.component_port, PEER, COMPONENTS[PEER]) as peer:
                endpoint.hold()
                for number in range(count):
                    await say(peer, str(number), f"a{number}")
                await endpoint.wait_requests(count)
                await prosody.stop()
            await daemon.wait_logged("detached")
            endpoint.release()
            code, seconds = await daemon.terminate()
            assert code == 0
            assert seconds < grace_s + 2
            kept = "replies stay in the journal until they are confirmed"
            lost = "replies could not be delivered"
            (line,) = daemon.logged(lost if durability == "off" else kept)
            assert line["count"] == count
        await prosody.start()
        async with run_daemon(tmp_path, settings, state_dir=state) as daemon:
            await say_again(prosody, endpoint)
            bodies = [] if durability == "off" else [*map(str, range(count))]
            assert Counter(sunk(endpoint)) == dict.fromkeys([*bodies, "again"], 1)


# --- who may attach


async def test_two_daemons_for_one_domain(prosody: Prosody, tmp_path: Path) -> None:
    """The second waits, and takes over when the first stops."""
    async with (
        open_scene(prosody, tmp_path) as scene,
        open_endpoint(always(reply({"body": "second"}))) as other,
    ):
        settings = settings_for(prosody.component_port, {BOT: bot_table(other)})
        async with run_daemon(tmp_path, settings, wait_attached=False) as second:
            await second.wait_logged("cannot attach")
            (line,) = second.logged("cannot attach")
            assert "conflict" in line["why"]
            await check_alive(scene.peer)
            assert not scene.daemon.logged("detached")
            assert not other.requests
            code, _ = await scene.daemon.terminate()
            assert code == 0
            await second.wait_logged("attached")
            await say(scene.peer, "hi")
            await hear(scene.peer, "second")


async def test_a_refusal_is_final_on_demand(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with open_endpoint() as endpoint:
        wrong = bot_table(endpoint, component_secret="wr0ng")
        for components in ({BOT: wrong}, {"unknown.localhost": bot_table(endpoint)}):
            settings = settings_for(
                shared_server.component_port, components, stream={"exit_on_refusal": True}
            )
            async with run_daemon(tmp_path, settings, wait_attached=False) as daemon:
                assert await daemon.wait_ended() == 3
                (line,) = daemon.logged("the server refuses this component")
                assert line["level"] == "error"
                assert line["hint"]
                assert [line["component"]] == list(components)
                assert "wr0ng" not in daemon.tail()


async def test_one_refusal_does_not_stop_the_others(
    shared_server: Prosody | Ejabberd, tmp_path: Path
) -> None:
    async with (
        open_endpoint() as endpoint,
        connect_component(shared_server.component_port, PEER, COMPONENTS[PEER]) as peer,
    ):
        components = {
            "second.localhost": bot_table(endpoint, component_secret="wr0ng"),
            BOT: bot_table(endpoint),
        }
        settings = settings_for(shared_server.component_port, components)
        async with run_daemon(tmp_path, settings, wait_attached=False) as daemon:
            await daemon.wait_logged("the server refuses this component")
            await daemon.wait_logged("attached")
            await check_alive(peer)
            code, _ = await daemon.terminate()
            assert code == 0


async def test_a_component_that_the_server_does_not_know_yet(
    prosody: Prosody, tmp_path: Path
) -> None:
    """A server that gets its configuration later (S11)."""
    secret = prosody.components.pop(BOT)
    await prosody.restart()
    async with open_endpoint() as endpoint:
        settings = settings_for(prosody.component_port, {BOT: bot_table(endpoint)})
        async with run_daemon(tmp_path, settings, wait_attached=False) as daemon:
            await daemon.wait_logged("the server refuses this component")
            prosody.components[BOT] = "another"
            await prosody.restart()
            refusals = ("host-unknown", "not-authorized")
            await daemon.wait_logged("the server refuses this component", len(refusals))
            found = daemon.logged("the server refuses this component")
            for line, refusal in zip(found, refusals, strict=True):
                assert (line["level"], line["why"][: len(refusal)]) == ("error", refusal)
                assert line["hint"]
            prosody.components[BOT] = secret
            await prosody.restart()
            await daemon.wait_logged("attached")
            code, _ = await daemon.terminate()
            assert code == 0


# --- the queue


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "journal", [NO_JOURNAL, {"max_stanzas": 10_000}], ids=["memory", "journal"]
)
async def test_a_full_queue(prosody: Prosody, tmp_path: Path, journal: Table) -> None:
    """The endpoint hangs while 20,000 stanzas come: twice what the queue holds."""
    http = {"timeout_s": 120.0, "max_in_flight": 8}
    async with open_scene(
        prosody, tmp_path, http=http, retry=ONE_ATTEMPT, journal=journal
    ) as scene:
        peer, daemon = scene.peer, scene.daemon
        await check_alive(peer)
        scene.endpoint.hold()
        base = daemon.rss_bytes
        told: Counter[int] = Counter()
        longest_s, last = 0.0, trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_flood, peer)
            while (got := await peer.receive(timeout_s=90)).get("id") != "end":
                longest_s, last = max(longest_s, trio.current_time() - last), trio.current_time()
                if got.get("type") == "error":
                    assert error_of(got) == ("resource-constraint", "wait")
                    told[int(got.attrib["id"])] += 1
        assert longest_s < 10 + 5  # 5 for a machine with other things to do
        assert len(told) > FLOOD // 4
        assert len(daemon.logged("queue full, refusing stanzas")) == 1
        # the endpoint is back
        scene.endpoint.release()
        while len(told) < FLOOD - len(HEADLINES):
            got = await peer.receive(timeout_s=90)
            if (number := int(body_of(got) or got.attrib["id"])) not in HEADLINES:
                told[number] += 1
        await check_alive(peer)
        assert set(told.values()) == {1}
        assert daemon.peak_rss_bytes - base < 128 * MIB
        assert daemon.logged("queue has room again")
        assert not daemon.logged("detached")


async def _flood(peer: Peer) -> None:
    """Say FLOOD numbers, 100 by each sender; a ping now and then shows whether all is read."""
    for number in range(FLOOD):
        type = "headline" if number in HEADLINES else "chat"
        sender = f"a{number // 100}@{PEER}"
        await peer.send(message(str(number), from_=sender, id=str(number), type=type))
        if number % 250 == 0:
            await _ping(peer, "ping")
    await _ping(peer, "end")


async def _ping(peer: Peer, id: str) -> None:
    ping = "<ping xmlns='urn:xmpp:ping'/>"
    await peer.send(stanza("iq", ping, type="get", from_=f"pinger@{PEER}", id=id))
