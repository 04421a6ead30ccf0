"""Limits of the stream at a whole daemon (S17): over them one stanza is refused, and the stream
lives; beyond all measure the stream is closed, and the daemon attaches again.
"""

from collections.abc import Iterator
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from bridge.config.settings import Component, Count, Depth, Settings, StreamSettings
from bridge.config.value import Secret
from bridge.daemon.daemon import Daemon
from tests.bridge.daemon.test_daemon import DOMAIN, Running, conditions, echo, message
from tests.bridge.http_server import HttpServer
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import StreamCondition

LIMIT: Final = 4096
STREAM: Final = StreamSettings(
    max_stanza_bytes=Count(LIMIT),
    max_depth=Depth(8),
    max_elements=Count(20),
    max_attributes=Count(8),
    max_name_bytes=Count(100),
)
HEAD: Final = f"<message id='big' type='chat' from='juliet@capulet.example/x' to='echo@{DOMAIN}'"


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


async def attached(nursery: trio.Nursery) -> tuple[XmppServer, Session, Running]:
    """Start a daemon with small limits."""
    server = await XmppServer.start(nursery)
    endpoint = await HttpServer.start(nursery, echo)
    component = Component(DOMAIN, Secret(SECRET), endpoint.url(), server.address)
    running = Running(Daemon(Settings((component,), stream=STREAM)))
    nursery.start_soon(running.run, running.daemon.run)
    return server, await server.attached(DOMAIN), running


EIGHT: Final = "<a " + " ".join(f"a{number}='1'" for number in range(8)) + "/>"
NINE: Final = " ".join(f"a{number}='1'" for number in range(9))
OVER: Final = {
    "bytes": f"{HEAD}><body>{'x' * LIMIT * 2}</body></message>",
    "bytes of a start tag": f"{HEAD} long='{'x' * LIMIT * 2}'/>",
    "depth": f"{HEAD}>{'<a>' * 9}{'</a>' * 9}</message>",
    "elements": f"{HEAD}>{'<a/>' * 20}</message>",
    "attributes": f"{HEAD}><a {NINE}/></message>",
    "attributes in all": f"{HEAD}>{EIGHT * 5}</message>",
    "an element's name": f"{HEAD}><{'a' * 101}/></message>",
    "an attribute's name": f"{HEAD}><a {'a' * 101}=''/></message>",
}


@pytest.mark.parametrize("over", OVER)
async def test_over_a_limit_is_a_stanza_error_and_the_next_is_served(
    nursery: trio.Nursery, log: Recorder, over: str
) -> None:
    _, session, _ = await attached(nursery)
    await session.send_bytes(OVER[over].encode())
    await session.send(message("m1"))
    await session.receive(2)
    assert session.ids == ["big", "re-m1"]
    assert conditions(session.stanzas) == {"big": "policy-violation"}
    assert [line["event"] for line in log.told].count("detached") == 0
    nursery.cancel_scope.cancel()


ENDLESS: Final = {
    "text": f"{HEAD}><body>",
    "start tag": f"{HEAD} ",
    "attribute": f"{HEAD} long='",
    "name": "<",
    "comment": "<!--",
    "CDATA": f"{HEAD}><body><![CDATA[",
}


@pytest.mark.parametrize("endless", ENDLESS)
async def test_an_endless_one_closes_the_stream_and_the_daemon_comes_back(
    nursery: trio.Nursery, mock_clock: MockClock, log: Recorder, endless: str
) -> None:
    mock_clock.rate = 10  # the back-off, and no more, is waited for
    server, session, _ = await attached(nursery)
    await session.send(message("m1"))
    await session.receive(1)
    await session.wait_barriers(2)  # so that the reply is confirmed, and not sent again
    await session.send_bytes(ENDLESS[endless].encode() + b"x" * LIMIT * 16)
    fault = await session.wait_fault()
    assert fault.condition is StreamCondition.POLICY_VIOLATION
    again = await server.attached(DOMAIN, 2)
    await again.send(message("m2"))
    await again.receive(1)
    assert again.ids == ["re-m2"]
    nursery.cancel_scope.cancel()
