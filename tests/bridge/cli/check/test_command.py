"""`check`: what is tried, told and returned; a scripted server and a scripted endpoint."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from bridge.cli.check.command import check_settings
from bridge.config.loader import from_table
from bridge.config.settings import Settings
from bridge.daemon.daemon import Daemon, ExitCode
from bridge.journal.delivery import Delivery
from bridge.journal.directory import StateDirectory
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.storage import open_storage
from bridge.journal.store import Settle
from bridge.xmpp.link import SHARED, SHARED_REMEDY
from tests.bridge.http_server import Exchange, HttpServer, response, saying
from tests.bridge.leak import until
from tests.bridge.recorder import Recorder
from tests.bridge.xmpp_server import SECRET, Session, XmppServer
from xmppstream import Server, StreamCondition

DOMAIN = "bot.example.com"
NOT_FOUND = "[Errno -2] Name or service not known"


def settings_of(
    url: str = "http://127.0.0.1:1/",
    server: str = "127.0.0.1:1",
    domains: Sequence[str] = (DOMAIN,),
    secret: str = SECRET,
    **more: Any,
) -> Settings:
    table = {"component_secret": secret, "component_post_url": url}
    components = dict.fromkeys(domains, table)
    top = {"server": server, "component": components, **more}
    return from_table(top, "test", directory=Path("/nowhere"), environment={})


class Names(trio.abc.HostnameResolver):
    """Knows what is in the table, and nothing else."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        self._addresses = addresses

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in self._addresses[name]]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


def rows(out: str, what: str) -> list[tuple[str, str]]:
    """Results and details of the table's rows about something."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    return [(row[2], row[3]) for row in cells if len(row) == 4 and row[1].startswith(what)]


async def endpoint(nursery: trio.Nursery, status: str = "200 OK") -> HttpServer:
    return await HttpServer.start(nursery, saying(response(status)))


# --- all is well


async def test_all_is_well(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=False) is ExitCode.OK
    assert "failed" not in capsys.readouterr().out


@pytest.mark.parametrize("public_url", [None, "https://example.com/bridge/"])
async def test_where_replies_are_taken_is_shown(
    capsys: pytest.CaptureFixture[str], public_url: str | None
) -> None:
    given = {} if public_url is None else {"public_url": public_url}
    await check_settings(settings_of(listen={"address": "127.0.0.1:5280", **given}), attach=False)
    shown = [("ok", "https://example.com/bridge/v1/replies/…")]
    assert rows(capsys.readouterr().out, "reply_url") == (shown if public_url else [])


async def test_a_pulled_component_is_not_connected_to_but_shows_who_may_poll(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    xmpp = await XmppServer.start(nursery)
    tokens = [
        {"name": name, "secret": f"{name}-0123456789abcdef", "scopes": ["receive"]}
        for name in ("laptop", "notebook")
    ]
    listen = {"address": "127.0.0.1:5280", "token": tokens}
    settings = settings_of("pull:", str(xmpp.address), listen=listen)
    assert await check_settings(settings, attach=False) is ExitCode.OK
    out = capsys.readouterr().out
    told = "may be polled at 127.0.0.1:5280 by the tokens laptop, notebook"
    assert rows(out, "events") == [("ok", told)]
    assert "OPTIONS" not in out


async def test_with_connect_all_is_well(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=True) is ExitCode.OK
    assert rows(capsys.readouterr().out, "attach") == [("ok", "handshake accepted")]


async def test_without_connect_nothing_is_attached(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    await check_settings(settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address)), False)
    capsys.readouterr()
    assert [session.closed_in_order for session in xmpp.sessions] == [True]
    assert xmpp.authenticated == []


async def test_after_connect_the_stream_is_closed_in_order(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    await check_settings(settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address)), True)
    capsys.readouterr()
    assert [session.closed_in_order for session in xmpp.authenticated] == [True]


async def test_connect_is_announced_before_anything_else(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    await check_settings(settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address)), True)
    assert "evicted or disturbed" in capsys.readouterr().out.splitlines()[0]


async def test_without_connect_nothing_is_announced(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http = await endpoint(nursery)
    await check_settings(settings_of(f"http://127.0.0.1:{http.port}/"), attach=False)
    assert "evicted" not in capsys.readouterr().out


# --- the endpoint


@pytest.mark.parametrize("attach", [False, True])
async def test_the_endpoint_is_asked_by_options_and_never_by_post(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], attach: bool
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    url = f"http://127.0.0.1:{http.port}/your-api?a=b"
    await check_settings(settings_of(url, str(xmpp.address)), attach)
    capsys.readouterr()
    assert [request.line for request in http.requests] == ["OPTIONS /your-api?a=b HTTP/1.1"]


async def test_options_has_the_headers_of_the_configuration(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http = await endpoint(nursery)
    url = f"http://juliet:hunter2@127.0.0.1:{http.port}/"
    await check_settings(settings_of(url, http={"headers": {"X-Key": "k3y"}}), attach=False)
    capsys.readouterr()
    (request,) = http.requests
    found = (request.get("authorization"), request.get("x-key"))
    assert found == ("Basic anVsaWV0Omh1bnRlcjI=", "k3y")


async def unused_port() -> int:
    """A port on which nobody listens (any more)."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    assert isinstance(port, int)
    return port


async def test_the_endpoint_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(f"http://127.0.0.1:{await unused_port()}/")
    assert await check_settings(settings, attach=False) is ExitCode.OTHER
    assert [result for result, _ in rows(capsys.readouterr().out, "OPTIONS")] == ["failed"]


async def test_the_endpoint_does_not_speak_http(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http = await HttpServer.start(nursery, saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
    settings = settings_of(f"http://127.0.0.1:{http.port}/")
    assert await check_settings(settings, attach=False) is ExitCode.OTHER
    assert [result for result, _ in rows(capsys.readouterr().out, "OPTIONS")] == ["failed"]


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Skips the long waits, but leaves loopback the time that it needs."""
    return trio.testing.MockClock(autojump_threshold=0.05)


async def test_the_endpoint_is_silent(
    patient_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def say_nothing(_: Exchange) -> None:
        await trio.sleep_forever()

    http = await HttpServer.start(nursery, say_nothing)
    settings = settings_of(f"http://127.0.0.1:{http.port}/")
    assert await check_settings(settings, attach=False) is ExitCode.OTHER
    ((result, details),) = rows(capsys.readouterr().out, "OPTIONS")
    assert (result, details.startswith("no answer in time")) == ("failed", True)


# --- the server's name


async def test_the_server_is_resolved(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    trio.socket.set_custom_hostname_resolver(Names({"xmpp.example": ["127.0.0.1", "127.0.0.2"]}))
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", f"xmpp.example:{xmpp.port}")
    assert await check_settings(settings, attach=False) is ExitCode.OK
    found = rows(capsys.readouterr().out, "resolve xmpp.example")
    assert found == [("ok", "127.0.0.1, 127.0.0.2")]


async def test_the_server_is_not_resolved(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    trio.socket.set_custom_hostname_resolver(Names({}))
    http = await endpoint(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", "no.example:5347")
    assert await check_settings(settings, attach=False) is ExitCode.OTHER
    told = f"{NOT_FOUND}: correct `server`"
    assert rows(capsys.readouterr().out, "resolve no.example") == [("failed", told)]


async def test_a_plain_stream_to_another_machine_is_warned_about(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    trio.socket.set_custom_hostname_resolver(Names({"xmpp.example": ["127.0.0.1"]}))
    http = await endpoint(nursery)
    server = f"xmpp.example:{await unused_port()}"
    settings = settings_of(f"http://127.0.0.1:{http.port}/", server)
    await check_settings(settings, attach=False)
    ((result, details),) = rows(capsys.readouterr().out, f"stream to {server}")
    assert (result, details[:13]) == ("warning", "not encrypted")


# --- attaching


REFUSALS = [
    (StreamCondition.NOT_AUTHORIZED, ExitCode.REFUSED, "the secret is not the one"),
    (StreamCondition.HOST_UNKNOWN, ExitCode.REFUSED, "the server does not know this component"),
    (StreamCondition.CONFLICT, ExitCode.OTHER, "another connection is attached"),
    (StreamCondition.SYSTEM_SHUTDOWN, ExitCode.OTHER, "system-shutdown"),
]


@pytest.mark.parametrize(("condition", "code", "hint"), REFUSALS)
async def test_the_server_refuses(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    condition: StreamCondition,
    code: ExitCode,
    hint: str,
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.refusals[DOMAIN] = condition
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=True) is code
    ((result, details),) = rows(capsys.readouterr().out, "attach")
    assert (result, hint in details) == ("failed", True)


async def test_the_server_is_down(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http = await endpoint(nursery)
    server = f"127.0.0.1:{await unused_port()}"
    settings = settings_of(f"http://127.0.0.1:{http.port}/", server)
    assert await check_settings(settings, attach=True) is ExitCode.OTHER
    ((result, details),) = rows(capsys.readouterr().out, f"connect to {server}")
    assert (result, "Connection refused: nothing listens on port" in details) == ("failed", True)


class Ending(XmppServer):
    """Accepts the handshake, and then ends the stream at once."""

    condition: StreamCondition | None = None

    async def admit(self, session: Session, core: Any) -> None:
        await session.send_bytes(core.accept())
        if self.condition is None:
            await session.hang_up()
        else:
            await session.fail(self.condition)


@pytest.mark.parametrize("condition", [None, StreamCondition.CONFLICT])
async def test_the_server_ends_the_stream_after_the_handshake(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    condition: StreamCondition | None,
) -> None:
    http, xmpp = await endpoint(nursery), await Ending.start(nursery)
    xmpp.condition = condition
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=True) is ExitCode.OTHER
    assert [result for result, _ in rows(capsys.readouterr().out, "attach")] == ["failed"]


async def test_the_server_accepts_tcp_and_never_speaks(
    patient_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def say_nothing(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, say_nothing, [listener])
    http = await endpoint(nursery)
    server = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    settings = settings_of(f"http://127.0.0.1:{http.port}/", server)
    assert await check_settings(settings, attach=True) is ExitCode.OTHER
    out = capsys.readouterr().out
    ((result, details),) = rows(out, "connect")
    assert (result, details[:18]) == ("failed", "gave up after 10 s")
    assert rows(out, "attach") == []


async def test_the_server_returns_no_barrier(
    patient_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.returns_barriers = False
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=True) is ExitCode.OK
    assert rows(capsys.readouterr().out, "attach") == [("ok", "handshake accepted")]


async def deal(xmpp: XmppServer, ours: Sequence[bool], foreign: int) -> None:
    """Deal what a component sends to itself: each is `ours`, or another instance gets it; before
    them come `foreign` barriers of the other instance.
    """
    session = await xmpp.attached(DOMAIN)
    ping = "<iq xmlns='jabber:component:accept' type='get' id='barrier-0123456789ab-{}' {}/>"
    to = f"to='{DOMAIN}' from='{DOMAIN}'"
    await session.send_bytes("".join(ping.format(n, to) for n in range(foreign)).encode())
    await session.wait_barriers(len(ours))
    await wait_all_tasks_blocked()
    session._held = [one for one, mine in zip(session._held, ours, strict=True) if mine]
    await session.return_barriers()


# The first is the stream's own, or the last: so nothing is concluded from one that is lost.
DEALT = [
    ((True,) * 9, 0, False),
    ((True,) * 9, 1, True),
    ((False,) * 9, 1, True),
    ((True, *(False, True) * 4), 0, True),
    ((*(True,) * 8, False), 0, True),
    ((False, *(True,) * 8), 0, False),
]


@pytest.mark.parametrize(("ours", "foreign", "is_shared"), DEALT)
async def test_another_instance_is_attached_as_well(
    patient_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    ours: Sequence[bool],
    foreign: int,
    is_shared: bool,
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.returns_barriers = False
    nursery.start_soon(deal, xmpp, ours, foreign)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=True) is ExitCode.OK
    ((result, details),) = rows(capsys.readouterr().out, "attach")
    assert result == ("warning" if is_shared else "ok")
    assert (f"{SHARED}: {SHARED_REMEDY}" in details) is is_shared


async def test_every_component_is_tried(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.refusals["a.example"] = StreamCondition.HOST_UNKNOWN
    settings = settings_of(
        f"http://127.0.0.1:{http.port}/", str(xmpp.address), ["a.example", "b.example"]
    )
    assert await check_settings(settings, attach=True) is ExitCode.REFUSED
    results = [result for result, _ in rows(capsys.readouterr().out, "attach")]
    assert results == ["failed", "ok"]


# --- what is printed


async def printed(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], **more: Any) -> str:
    http = await endpoint(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", **more)
    await check_settings(settings, attach=False)
    return capsys.readouterr().out


PROSODY = """
    component_ports = { 5999 }
    component_interfaces = { "127.0.0.1" }
    Component "bot.example.com"
        component_secret = "THE SECRET"
"""
EJABBERD = """
    listen:
      - port: 5999
        ip: "127.0.0.1"
        module: ejabberd_service
        access: all
        global_routes: false
        hosts:
          bot.example.com:
            password: "THE SECRET"
"""


@pytest.mark.parametrize("lines", [PROSODY, EJABBERD], ids=["prosody", "ejabberd"])
async def test_the_servers_lines(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], lines: str
) -> None:
    assert lines in await printed(nursery, capsys, server="127.0.0.1:5999")


@pytest.mark.parametrize("columns", ["20", "80"])
async def test_the_servers_lines_are_not_wrapped(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    domain = ".".join(["a" * 60, "b" * 60, "example"])
    out = await printed(nursery, capsys, domains=[domain])
    assert f'    Component "{domain}"\n' in out


async def test_there_are_lines_for_each_component(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    out = await printed(nursery, capsys, domains=["a.example", "b.example"])
    assert [f'Component "{name}.example"' in out for name in "ab"] == [True, True]


HIDDEN = ["s3cret-of-mine", "hunter2", "t0ken", "qu3ry", "anVsaWV0Omh1bnRlcjI="]


@pytest.mark.parametrize("attach", [False, True])
@pytest.mark.parametrize("path", ["", "silent"])
async def test_no_secret_is_printed(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], attach: bool, path: str
) -> None:
    port = (await endpoint(nursery)).port if not path else await unused_port()
    settings = settings_of(
        f"http://juliet:hunter2@127.0.0.1:{port}/{path}?key=qu3ry",
        f"127.0.0.1:{await unused_port()}",
        secret="s3cret-of-mine",
        http={"headers": {"X-Key": "t0ken"}},
    )
    await check_settings(settings, attach)
    told = "".join(capsys.readouterr())
    assert [hidden for hidden in HIDDEN if hidden in told] == []


async def test_warnings_of_the_configuration_are_shown(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    http = await endpoint(nursery)
    component = {
        "component_secret_file": str(secret),
        "component_post_url": f"http://127.0.0.1:{http.port}/",
    }
    settings = from_table({"component": {DOMAIN: component}}, "test", directory=tmp_path)
    await check_settings(settings, attach=False)
    results = [result for result, _ in rows(capsys.readouterr().out, "configuration")]
    assert results == ["ok", "warning"]


@pytest.mark.parametrize("path", ["[/]", "[/bold]x", "[red]x", "a[b]"])
async def test_brackets_in_an_address_are_shown_as_they_are(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    http = await endpoint(nursery)
    await check_settings(settings_of(f"http://127.0.0.1:{http.port}/{path}"), attach=False)
    assert f"OPTIONS http://127.0.0.1:{http.port}/{path}" in capsys.readouterr().out


async def test_brackets_in_what_the_server_says_are_shown_as_they_are(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    class Talking(XmppServer):
        async def admit(self, session: Session, core: Any) -> None:
            text = "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[/] [red]no</text>"
            name = "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            await session.send_bytes(f"<stream:error>{name}{text}</stream:error>".encode())

    http, xmpp = await endpoint(nursery), await Talking.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, attach=True) is ExitCode.OTHER
    assert "conflict: [/] [red]no" in capsys.readouterr().out


# --- a daemon that runs


@pytest.fixture
def log() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.installed():
        yield recorder


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


async def daemon_of(
    nursery: trio.Nursery, settings: Settings, directory: StateDirectory, stack: ExitStack
) -> None:
    """Have a daemon run until the stack is closed."""
    storage = stack.enter_context(open_storage(directory, settings.journal))
    nursery.start_soon(Daemon(settings, storage).run)
    await until(directory.control_socket.exists)
    stack.callback(nursery.cancel_scope.cancel)


@pytest.mark.parametrize("attach", [False, True])
async def test_a_daemon_that_runs_says_how_it_is_and_is_not_disturbed(
    nursery: trio.Nursery,
    log: Recorder,
    directory: StateDirectory,
    capsys: pytest.CaptureFixture[str],
    attach: bool,
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    with ExitStack() as stack:
        await daemon_of(nursery, settings, directory, stack)
        await xmpp.attached(DOMAIN)
        await log.wait("attached")
        assert await check_settings(settings, attach, directory) is ExitCode.OK
        out = capsys.readouterr().out
        ((result, details),) = rows(out, "daemon: attached to")
        assert (result, details.startswith("since ")) == ("ok", True)
        assert [result for result, _ in rows(out, "daemon: endpoint")] == ["ok"]
        told = "0 being POSTed, 0 waiting in memory; nothing stored"
        assert rows(out, "daemon: queue") == [("ok", told)]
        ((result, details),) = rows(out, "journal")
        assert (result, details) == ("ok", "durability 'process'; nothing stored")
        assert rows(out, "attach to") == []
        assert ("--connect does not attach in its place" in out) is attach
        assert "evicted" not in out
        assert len(xmpp.authenticated) == 1


async def test_a_daemon_that_shares_its_domain_says_so(
    nursery: trio.Nursery,
    log: Recorder,
    directory: StateDirectory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.xmpp.link.LEFTOVER_S", 0.0)
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    with ExitStack() as stack:
        await daemon_of(nursery, settings, directory, stack)
        session = await xmpp.attached(DOMAIN)
        await log.wait("attached")
        id, both = "barrier-0123456789ab-1", f"to='{DOMAIN}' from='{DOMAIN}'"
        await session.send_bytes(
            f"<iq xmlns='jabber:component:accept' type='get' id='{id}' {both}/>".encode()
        )
        await log.wait("another instance is attached as this component")
        assert await check_settings(settings, False, directory) is ExitCode.OK
        ((result, details),) = rows(capsys.readouterr().out, "daemon: attached to")
        assert (result, details.startswith("since ")) == ("warning", True)
        assert f"{SHARED}: {SHARED_REMEDY}" in details


async def test_a_state_directory_that_others_can_write_to(
    nursery: trio.Nursery, directory: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.make()
    directory.path.chmod(0o777)
    http = await endpoint(nursery)
    url = f"http://127.0.0.1:{http.port}/"
    await check_settings(settings_of(url), attach=False, directory=directory)
    assert "state directory" in capsys.readouterr().out


async def test_a_daemon_in_trouble(
    nursery: trio.Nursery,
    log: Recorder,
    directory: StateDirectory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    xmpp.refusals["refused.example"] = StreamCondition.HOST_UNKNOWN
    url = f"http://127.0.0.1:{http.port}/"
    settings = settings_of(url, str(xmpp.address), [DOMAIN, "refused.example", "new.example"])
    gone = evolve(settings.components[0], domain="gone.example")
    elsewhere = evolve(settings.components[0], server=Server("127.0.0.1", await unused_port()))
    running = evolve(settings, components=(elsewhere, settings.components[1], gone))
    entry = Delivery.stored(
        "u", "old.example", "message", "a", "b", None, None, "<message/>", time.time()
    )
    ours = replace(entry, uid="v", component=DOMAIN)
    directory.make()
    with closing(SqliteStore(directory.journal_file)) as journal:
        journal.commit([entry, ours, Settle("v", (), time.time(), "status 500")])
    with ExitStack() as stack:
        await daemon_of(nursery, running, directory, stack)
        await log.wait("the server refuses this component")
        await log.wait("cannot attach")
        assert await check_settings(settings, False, directory) is ExitCode.REFUSED
        out = capsys.readouterr().out
        results = [result for result, _ in rows(out, "daemon: attached to")]
        assert results == ["failed", "failed"]
        assert "no, refused: host-unknown" in out
        assert "next attempt in" in out
        assert "1 dead letter: see xmpp-bridge queue" in out
        orphaned = rows(out, "orphaned")
        assert [result for result, _ in orphaned] == ["warning"]
        assert f"the daemon uses {elsewhere.server}, the file says {xmpp.address}" in out
        assert "the daemon has not loaded it yet: send SIGHUP" in out
        assert "the daemon has this component, but the file does not" in out


async def test_with_connect_only_what_the_daemon_has_not_is_attached(
    nursery: trio.Nursery,
    log: Recorder,
    directory: StateDirectory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    url = f"http://127.0.0.1:{http.port}/"
    settings = settings_of(url, str(xmpp.address), [DOMAIN, "new.example"])
    with ExitStack() as stack:
        running = evolve(settings, components=settings.components[:1])
        await daemon_of(nursery, running, directory, stack)
        await xmpp.attached(DOMAIN)
        await log.wait("attached")
        assert await check_settings(settings, True, directory) is ExitCode.OK
        out = capsys.readouterr().out
        assert rows(out, "attach to") == [("ok", "handshake accepted")]
        assert [session.domain for session in xmpp.authenticated] == [DOMAIN, "new.example"]


async def test_a_daemon_that_may_not_be_asked_is_not_disturbed_either(
    nursery: trio.Nursery, directory: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    async def garble(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"nonsense\n")

    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    directory.make()
    listening = trio.socket.socket(socket.AF_UNIX)
    await listening.bind(str(directory.control_socket))
    listening.listen()
    nursery.start_soon(trio.serve_listeners, garble, [trio.SocketListener(listening)])
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, True, directory) is ExitCode.OTHER
    ((result, details),) = rows(capsys.readouterr().out, "daemon")
    assert (result, "words of another version" in details) == ("failed", True)
    assert xmpp.authenticated == []


async def test_where_no_daemon_runs_all_is_as_without_a_state_directory(
    nursery: trio.Nursery, directory: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    http, xmpp = await endpoint(nursery), await XmppServer.start(nursery)
    settings = settings_of(f"http://127.0.0.1:{http.port}/", str(xmpp.address))
    assert await check_settings(settings, True, directory) is ExitCode.OK
    out = capsys.readouterr().out
    assert rows(out, "attach to") == [("ok", "handshake accepted")]
    assert rows(out, "daemon") == []
