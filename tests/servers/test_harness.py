"""The harness itself: both servers come up, come back and speak with the independent peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.servers.ejabberd import Ejabberd
from tests.servers.peer import (
    CLIENT,
    COMPONENT,
    Peer,
    PeerClosed,
    PeerRefused,
    condition,
    connect_client,
    connect_component,
    name,
)
from tests.servers.process import ServerFailed
from tests.servers.prosody import Prosody

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from pathlib import Path

MUC_USER = "{http://jabber.org/protocol/muc#user}"
# quotes of YAML and Lua, escapes, control characters, DEL, two planes; no NUL
AWKWARD = "a\r\n'\"\\n]] #{}\t\x01\x7f\x85\xe9\u2028\U0001f511"


def body(stanza: ET.Element) -> str | None:
    return stanza.findtext(f"{{{COMPONENT}}}body") or stanza.findtext(f"{{{CLIENT}}}body")


def statuses(stanza: ET.Element) -> list[str | None]:
    return [status.get("code") for status in stanza.iter(f"{MUC_USER}status")]


async def test_components_exchange_a_message(server: Prosody | Ejabberd) -> None:
    async with (
        connect_component(server.component_port, "bot.localhost", "s3cret") as bot,
        connect_component(server.component_port, "peer.localhost", "s1") as peer,
    ):
        assert peer.jid == "peer.localhost"
        await peer.send(
            "<message id='m1' from='a@peer.localhost' to='echo@bot.localhost'>"
            "<body>h\xe9llo &amp; \U0001f600</body></message>"
        )
        stanza = await bot.receive()
        assert stanza.tag == f"{{{COMPONENT}}}message"
        assert (stanza.get("id"), stanza.get("from")) == ("m1", "a@peer.localhost")
        assert body(stanza) == "h\xe9llo & \U0001f600"
        assert bot.stanzas == [stanza]


async def test_client_and_component_exchange_messages(server: Prosody | Ejabberd) -> None:
    async with (
        connect_component(server.component_port, "bot.localhost", "s3cret") as bot,
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        assert alice.jid == "alice@localhost/test"
        await alice.send("<message to='echo@bot.localhost'><body>ping</body></message>")
        stanza = await bot.receive()
        assert (stanza.get("from"), body(stanza)) == ("alice@localhost/test", "ping")
        await bot.send(
            "<message from='echo@bot.localhost' to='alice@localhost' type='chat'>"
            "<body>pong</body></message>"
        )
        stanza = await alice.receive(lambda it: name(it) == "message")
        assert (stanza.get("from"), body(stanza)) == ("echo@bot.localhost", "pong")


async def test_receive_keeps_what_does_not_match(server: Prosody | Ejabberd) -> None:
    async with connect_component(server.component_port, "bot.localhost", "s3cret") as bot:
        for number in "123":
            await bot.send(f"<message id='{number}' from='bot.localhost' to='bot.localhost'/>")
        assert (await bot.receive(lambda it: it.get("id") == "3")).get("id") == "3"
        assert [(await bot.receive()).get("id") for _ in "12"] == ["1", "2"]
        with pytest.raises(trio.TooSlowError):
            await bot.receive(timeout_s=0.01)
        await bot.nothing_within(0.01)
        assert [it.get("id") for it in bot.stanzas] == ["1", "2", "3"]
        assert bot._wire._root is not None
        assert len(bot._wire._root) == 0


async def test_silence_ends_with_a_stanza(server: Prosody | Ejabberd) -> None:
    async with connect_component(server.component_port, "bot.localhost", "s3cret") as bot:
        await bot.send("<message id='m1' from='bot.localhost' to='bot.localhost'/>")
        with pytest.raises(AssertionError, match="m1"):
            await bot.nothing_within(10)


async def test_peer_answers_a_ping(server: Prosody | Ejabberd) -> None:
    async with (
        connect_component(server.component_port, "bot.localhost", "s3cret") as bot,
        connect_client(server.c2s_port, "alice@localhost", "pw") as alice,
    ):
        await bot.send(
            "<iq type='get' id='p1' from='bot.localhost' to='alice@localhost/test'>"
            "<ping xmlns='urn:xmpp:ping'/></iq>"
        )
        pong = await bot.receive()
        assert (pong.get("type"), pong.get("id")) == ("result", "p1")
        assert pong.get("from") == alice.jid


async def test_room_shows_self_presence(server: Prosody | Ejabberd) -> None:
    async with connect_component(server.component_port, "bot.localhost", "s3cret") as bot:
        await bot.send(
            "<presence from='echo@bot.localhost' to='lobby@rooms.localhost/echo'>"
            "<x xmlns='http://jabber.org/protocol/muc'/></presence>"
        )
        presence = await bot.receive(lambda it: "110" in statuses(it))
        assert name(presence) == "presence"
        assert presence.get("from") == "lobby@rooms.localhost/echo"


async def test_restart_closes_the_stream_and_keeps_the_port(server: Prosody | Ejabberd) -> None:
    port = server.component_port
    async with connect_component(port, "bot.localhost", "s3cret") as bot:
        await server.restart()
        await bot.wait_closed()
        if bot.stream_error is not None:
            assert condition(bot.stream_error) == "system-shutdown"
        with pytest.raises(PeerClosed):
            await bot.receive()
    assert server.component_port == port
    async with connect_component(port, "bot.localhost", "s3cret"):
        pass
    async with connect_client(server.c2s_port, "alice@localhost", "pw"):
        pass


async def test_kill_closes_the_stream(server: Prosody | Ejabberd) -> None:
    async with connect_component(server.component_port, "bot.localhost", "s3cret") as bot:
        await server.kill()
        await bot.wait_closed()
        assert bot.stream_error is None
    with pytest.raises(OSError, match="connect"):
        async with connect_component(server.component_port, "bot.localhost", "s3cret"):
            pass
    await server.start()
    async with connect_component(server.component_port, "bot.localhost", "s3cret"):
        pass


async def test_wrong_secret_is_refused(server: Prosody | Ejabberd) -> None:
    with pytest.raises(PeerRefused) as refused:
        async with connect_component(server.component_port, "bot.localhost", "wrong"):
            pass
    assert refused.value.condition == "not-authorized"


async def test_unknown_domain_is_refused(server: Prosody | Ejabberd) -> None:
    with pytest.raises(PeerRefused) as refused:
        async with connect_component(server.component_port, "no.localhost", "s3cret"):
            pass
    expected = "host-unknown" if isinstance(server, Prosody) else "not-authorized"
    assert refused.value.condition == expected


async def test_wrong_password_is_refused(server: Prosody | Ejabberd) -> None:
    with pytest.raises(PeerRefused) as refused:
        async with connect_client(server.c2s_port, "alice@localhost", "wrong"):
            pass
    assert refused.value.condition == "not-authorized"


async def test_same_domain_reconnects_at_once(server: Prosody | Ejabberd) -> None:
    for number in range(20):
        async with connect_component(server.component_port, "bot.localhost", "s3cret") as bot:
            await bot.send(f"<message id='{number}' from='bot.localhost' to='bot.localhost'/>")
            assert (await bot.receive()).get("id") == str(number)


async def test_exception_of_the_body_is_not_wrapped(server: Prosody | Ejabberd) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect_component(server.component_port, "bot.localhost", "s3cret"):
            raise ZeroDivisionError


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Prosody, marks=pytest.mark.prosody),
        pytest.param(Ejabberd, marks=pytest.mark.ejabberd),
    ],
)
async def test_awkward_secret_reaches_the_server(
    kind: type[Prosody | Ejabberd], tmp_path: Path
) -> None:
    password = "\xe9'\"\\ \u20ac"  # SASLprep of ejabberd refuses an emoji
    async with kind(
        tmp_path, components={"bot.localhost": AWKWARD}, users={"o.x": password}
    ) as server:
        async with connect_component(server.component_port, "bot.localhost", AWKWARD):
            pass
        async with connect_client(server.c2s_port, "o.x@localhost", password):
            pass


@pytest.mark.prosody
async def test_second_component_kicks_the_first(tmp_path: Path) -> None:
    async with (
        Prosody(
            tmp_path,
            components={"bot.localhost": "s1"},
            component_settings={"bot.localhost": ['component_conflict_resolve = "kick_old"']},
        ) as server,
        connect_component(server.component_port, "bot.localhost", "s1") as first,
        connect_component(server.component_port, "bot.localhost", "s1") as second,
    ):
        await first.wait_closed()
        assert first.stream_error is not None
        assert condition(first.stream_error) == "conflict"
        assert not second.closed.is_set()


@pytest.mark.prosody
async def test_second_component_is_refused(prosody: Prosody) -> None:
    port = prosody.component_port
    async with connect_component(port, "bot.localhost", "s3cret") as first:
        with pytest.raises(PeerRefused) as refused:
            async with connect_component(port, "bot.localhost", "s3cret"):
                pass
        assert refused.value.condition == "conflict"
        assert not first.closed.is_set()


@pytest.mark.ejabberd
async def test_balancing_is_configured(tmp_path: Path) -> None:
    async with (
        Ejabberd(
            tmp_path,
            components={"bot.localhost": "s1", "peer.localhost": "s2"},
            domain_balancing={"bot.localhost": {"type": "bare_destination", "component_number": 2}},
        ) as server,
        connect_component(server.component_port, "bot.localhost", "s1") as first,
        connect_component(server.component_port, "bot.localhost", "s1") as second,
        connect_component(server.component_port, "peer.localhost", "s2") as peer,
    ):
        for number in range(10):
            await peer.send(
                f"<message id='{number}' from='peer.localhost' to='one@bot.localhost'/>"
            )
        arrived, reached = trio.open_memory_channel[Peer](10)

        async def forward(link: Peer) -> None:
            while True:
                await link.receive(timeout_s=60)
                await arrived.send(link)

        async with arrived, reached, trio.open_nursery() as nursery:
            nursery.start_soon(forward, first)
            nursery.start_soon(forward, second)
            assert len({await reached.receive() for _ in range(10)}) == 1
            nursery.cancel_scope.cancel()


async def test_two_servers_have_ports_of_their_own(prosody: Prosody, ejabberd: Ejabberd) -> None:
    async with (
        connect_component(prosody.component_port, "bot.localhost", "s3cret"),
        connect_component(ejabberd.component_port, "bot.localhost", "s3cret"),
        connect_client(prosody.c2s_port, "bob@localhost", "pw", "one", presence=False) as one,
        connect_client(ejabberd.c2s_port, "bob@localhost", "pw", "two", presence=False) as two,
    ):
        assert (one.jid, two.jid) == ("bob@localhost/one", "bob@localhost/two")


@pytest.mark.prosody
async def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="reading the config file"):
        async with Prosody(tmp_path, extra="this is not Lua"):
            pass


@pytest.mark.ejabberd
async def test_failed_start_shows_the_log_of_ejabberd(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no_such_option"):
        async with Ejabberd(tmp_path, extra={"no_such_option": 1}):
            pass
