"""`check` in some forty faulty files and situations: what it says, with remedy and verdict.

Each row has the whole text that an operator reads.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from click.testing import CliRunner

from bridge.cli.check.command import check_settings
from bridge.cli.main import main
from bridge.config.loader import from_table
from bridge.daemon.daemon import ExitCode
from tests.bridge.cli.check.test_command import DOMAIN, rows, unused_port
from tests.bridge.http_server import HttpServer, response, saying
from tests.bridge.xmpp_server import SECRET, XmppServer
from xmppstream import StreamCondition


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "600")


# --- faulty files

GOOD = f"""\
server = "127.0.0.1:5347"
[component."{DOMAIN}"]
component_secret = "s3cret"
component_post_url = "http://127.0.0.1:8000/"
"""
LUA = f"""\
Component "{DOMAIN}" "component_http"
  component_post_url = "http://127.0.0.1:8000/"
"""
IS_PROSODYS = (
    "this is Prosody's configuration, or a piece of it, and not the bridge's. "
    "Write the bridge's own file: see xmpp-bridge help migration."
)
FILES = {
    "a section of Prosody's": (LUA, IS_PROSODYS),
    "a section of Prosody's after our own": (GOOD + LUA, IS_PROSODYS),
    "a comment of Prosody's": ("-- the bot\n" + GOOD, IS_PROSODYS),
    "an address as a URL": (
        GOOD.replace("127.0.0.1:5347", "xmpp://127.0.0.1:5347"),
        "server: 'xmpp://127.0.0.1:5347' is a URL, not an address. "
        "Leave out everything before the host and after the port: HOST:PORT.",
    ),
    "an address in Lua": (
        GOOD.replace("127.0.0.1:5347", "{ 5347 }"),
        "server: '{ 5347 }' is a piece of Prosody's configuration. "
        'Write only the address, such as "127.0.0.1:5347": the port of component_ports.',
    ),
    "no secret": (
        GOOD.replace('component_secret = "s3cret"\n', ""),
        f'component."{DOMAIN}".component_secret: the secret is missing. '
        "Set component_secret_file, component_secret, or XMPP_BRIDGE_SECRET.",
    ),
    "a URL without its scheme": (
        GOOD.replace("http://127", "127"),
        f'component."{DOMAIN}".component_post_url: the URL must begin with http:// or https://. '
        'Use a URL such as "https://example.com/your-api".',
    ),
    "no component": (
        'server = "127.0.0.1:5347"\n',
        'component: no component is configured. Add a table [component."bot.example.com"].',
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_faulty_file(name: str, tmp_path: Path) -> None:
    text, told = FILES[name]
    file = tmp_path / "bridge.toml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["check", str(file)], env={"XMPP_BRIDGE_SECRET": None})
    assert result.exit_code == 2
    assert result.stderr == f"{file}: {told}\n1 error in the configuration.\n"


# --- the server

Serve = Callable[[trio.abc.Stream], Awaitable[None]]
HEADER = "<?xml version='1.0'?><stream:stream xmlns='{}' id='1' {}>"
STREAMS = "xmlns:stream='http://etherx.jabber.org/streams'"
ERROR = "<stream:error><{} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
CLOSED = "</stream:stream>"


def header_of(namespace: str) -> str:
    return HEADER.format(namespace, STREAMS)


def greeting(data: bytes | str) -> Serve:
    """Answer the first bytes of a client with these, and close."""

    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(data.encode() if isinstance(data, str) else data)

    return serve


async def listening(nursery: trio.Nursery, serve: Serve) -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]
    assert isinstance(port, int)
    return port


async def report_of(
    capsys: pytest.CaptureFixture[str],
    server: str,
    url: str,
    *,
    attach: bool = False,
    secret: str = SECRET,
    **top: Any,
) -> tuple[ExitCode, str, str]:
    """Return the exit code, everything that was printed, and the verdict."""
    component = {"component_secret": secret, "component_post_url": url}
    table = {"server": server, "component": {DOMAIN: component}, **top}
    settings = from_table(table, "test", directory=Path("/nowhere"), environment={})
    code = await check_settings(settings, attach)
    out = capsys.readouterr().out
    return code, out, out.splitlines()[-1]


FOR_COMPONENTS = "correct the port: components use 5347 in most servers"
NO_WORD = (
    "the server closed the connection without a word: is this the port for components? "
    "Check `server` and tls, and see the server's log"
)
SERVERS: dict[str, tuple[bytes | str, ExitCode, str]] = {
    "the port for clients": (
        header_of("jabber:client") + ERROR.format("invalid-namespace") + CLOSED,
        ExitCode.OTHER,
        f"this port is for clients (as 5222 is); {FOR_COMPONENTS}",
    ),
    "the port for servers": (
        header_of("jabber:server"),
        ExitCode.OTHER,
        f"this port is for other servers (as 5269 is); {FOR_COMPONENTS}",
    ),
    "a port that refuses the namespace": (
        header_of("jabber:component:accept") + ERROR.format("invalid-namespace") + CLOSED,
        ExitCode.OTHER,
        "invalid-namespace: this port is not for components; correct the port: 5222 is for "
        "clients, 5269 for other servers; components use 5347",
    ),
    "a port for HTTP": (
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ExitCode.OTHER,
        f"this port speaks HTTP, not XMPP; {FOR_COMPONENTS}",
    ),
    "a port for SSH": (
        "SSH-2.0-OpenSSH_9.2\r\n",
        ExitCode.OTHER,
        f"this port speaks SSH, not XMPP; {FOR_COMPONENTS}",
    ),
    "a port with TLS, without tls": (
        b"\x15\x03\x01\x00\x02\x02\x46",
        ExitCode.OTHER,
        "this port speaks TLS; set tls = true, or use the port without TLS",
    ),
    "a port for something else": (
        "220 mail.example.com ESMTP\r\n",
        ExitCode.OTHER,
        r"this is not an XMPP server: it says '220 mail.example.com ESMTP\\r\\n'",
    ),
    "a server that closes the connection": ("", ExitCode.OTHER, NO_WORD),
    "a server that does not know the component": (
        header_of("jabber:component:accept") + ERROR.format("host-unknown") + CLOSED,
        ExitCode.REFUSED,
        "host-unknown: the server does not know this component; "
        "add it to the server's configuration, or correct the domain",
    ),
}


@pytest.mark.parametrize("name", SERVERS)
async def test_the_port_of_the_server(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    said, expected, told = SERVERS[name]
    port = await listening(nursery, greeting(said))
    http = await HttpServer.start(nursery, saying(response("200 OK")))
    code, out, verdict = await report_of(
        capsys, f"127.0.0.1:{port}", f"http://127.0.0.1:{http.port}/"
    )
    assert rows(out, "connect to") == [("failed", told)]
    assert code is expected
    assert verdict == "1 problem; the secret was not tried (--connect tries it)."


async def test_the_words_of_a_port_may_come_byte_by_byte(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def drip(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        async with stream:
            await stream.receive_some()
            for byte in header_of("jabber:client").encode():
                await stream.send_all(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()

    port = await listening(nursery, drip)
    _, out, _ = await report_of(capsys, f"127.0.0.1:{port}", "http://127.0.0.1:1/")
    told = f"this port is for clients (as 5222 is); {FOR_COMPONENTS}"
    assert rows(out, "connect to") == [("failed", told)]


async def test_nothing_listens_where_the_server_should_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = await unused_port()
    _, out, verdict = await report_of(capsys, f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/")
    refused = f"cannot connect to 127.0.0.1:{port}: Connection refused"
    remedy = (
        f"nothing listens on port {port}: start the XMPP server, with the lines below in its "
        "configuration, or correct `server`"
    )
    assert rows(out, "connect to") == [("failed", f"{refused}: {remedy}")]
    ((_, details),) = rows(out, "OPTIONS")
    remedy = f"nothing listens on port {port}; start your service, or correct component_post_url"
    assert details.endswith(f"Connection refused: {remedy}")
    assert verdict == "2 problems; the secret was not tried (--connect tries it)."


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def secured(authority: trustme.CA, name: str, serve: Serve) -> Serve:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)

    async def inner(stream: trio.abc.Stream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            await serve(secure)

    return inner


PLAIN = greeting(header_of("jabber:component:accept") + CLOSED)
TLS_FAULTS = {
    "the port has no TLS": (
        None,
        "the port has no TLS: set tls = false, or put TLS in front of it (Prosody has none for "
        "components)",
    ),
    "an authority that nobody knows": (
        "127.0.0.1",
        "set ca_file to the certificate of the authority that signed the server's",
    ),
    "a certificate for another name": (
        "other.example",
        "set tls_name to a name that the certificate has",
    ),
}


@pytest.mark.parametrize("name", TLS_FAULTS)
async def test_tls_fails(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    authority: trustme.CA,
    name: str,
) -> None:
    certified, remedy = TLS_FAULTS[name]
    ca_file = tmp_path / "ca.pem"
    known = trustme.CA() if certified == "127.0.0.1" else authority
    known.cert_pem.write_to_path(ca_file)
    serve = PLAIN if certified is None else secured(authority, certified, PLAIN)
    server = f"127.0.0.1:{await listening(nursery, serve)}"
    code, out, _ = await report_of(
        capsys, server, "http://127.0.0.1:1/", tls=True, ca_file=str(ca_file)
    )
    ((result, details),) = rows(out, "connect to")
    assert (result, code) == ("failed", ExitCode.OTHER)
    assert details.startswith(f"TLS with {server} failed: ")
    assert details.endswith(f": {remedy}")


async def test_tls_is_tried_and_good(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    authority: trustme.CA,
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    port = await listening(nursery, secured(authority, "127.0.0.1", PLAIN))
    _, out, _ = await report_of(
        capsys, f"127.0.0.1:{port}", "http://127.0.0.1:1/", tls=True, ca_file=str(ca_file)
    )
    assert rows(out, "connect to") == [("ok", "a server for components answers over TLS")]


async def test_a_server_for_http_that_waits_for_the_end_of_a_line(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        got = b""
        async with stream:
            while not got.endswith(b"\r\n\r\n"):
                got += await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    port = await listening(nursery, serve)
    _, out, _ = await report_of(capsys, f"127.0.0.1:{port}", "http://127.0.0.1:1/")
    told = f"this port speaks HTTP, not XMPP; {FOR_COMPONENTS}"
    assert rows(out, "connect to") == [("failed", told)]


async def test_a_server_for_http_that_hangs_up_on_anything_else(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            if (await stream.receive_some()).startswith(b"OPTIONS"):
                await stream.send_all(b"HTTP/1.1 404 Not Found\r\n\r\n")

    port = await listening(nursery, serve)
    _, out, _ = await report_of(capsys, f"127.0.0.1:{port}", "http://127.0.0.1:1/")
    told = f"this port speaks HTTP, not XMPP; {FOR_COMPONENTS}"
    assert rows(out, "connect to") == [("failed", told)]


async def test_a_server_that_never_ends_its_stream_is_good(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def stay(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(header_of("jabber:component:accept").encode())
        await trio.sleep_forever()

    port = await listening(nursery, stay)
    _, out, _ = await report_of(capsys, f"127.0.0.1:{port}", "http://127.0.0.1:1/")
    assert rows(out, "connect to") == [("ok", "a server for components answers")]


WRONG_SECRET = (
    "not-authorized: the secret is not the one that the server has for the component; "
    "make the secrets equal; ejabberd says the same of a domain that it does not know"
)


async def test_a_wrong_secret(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    xmpp = await XmppServer.start(nursery)
    xmpp.refusals[DOMAIN] = StreamCondition.NOT_AUTHORIZED
    http = await HttpServer.start(nursery, saying(response("200 OK")))
    where = str(xmpp.address), f"http://127.0.0.1:{http.port}/"
    code, out, verdict = await report_of(capsys, *where)
    assert (code, "failed" in out) == (ExitCode.OK, False)
    assert verdict == "All is well; but the secret was not tried (--connect tries it)."
    code, out, verdict = await report_of(capsys, *where, attach=True)
    assert rows(out, "attach") == [("failed", WRONG_SECRET)]
    assert (code, verdict) == (ExitCode.REFUSED, "1 problem.")


async def test_the_verdict_when_all_was_tried(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    xmpp = await XmppServer.start(nursery)
    http = await HttpServer.start(nursery, saying(response("200 OK")))
    code, _, verdict = await report_of(
        capsys, str(xmpp.address), f"http://127.0.0.1:{http.port}/", attach=True
    )
    assert (code, verdict) == (ExitCode.OK, "All is well.")


# --- the endpoint

DOUBTS = {
    "200 X": "",
    "204 X": "",
    "200 X\r\nAllow: OPTIONS, POST": "",
    "405 X\r\nAllow: post": "",
    "400 X": "",
    "501 X": "",
    "404 X": "there may be no such path; correct the path of component_post_url",
    "410 X": "there may be no such path; correct the path of component_post_url",
    "405 X": "it does not say that it takes POST; make sure that it does, on this path",
    "405 X\r\nAllow: GET, HEAD": (
        "it allows GET, HEAD, but no POST; correct component_post_url, or the service"
    ),
    "200 X\r\nAllow: HEAD, OPTIONS, GET": (  # Flask's own answer for a route without POST
        "it allows GET, HEAD, OPTIONS, but no POST; correct component_post_url, or the service"
    ),
    "301 X\r\nLocation: https://bot.example.com/api/": (
        "it redirects to https://bot.example.com/api/, which is never followed; "
        "set component_post_url to that URL"
    ),
    "302 X": (
        "it redirects elsewhere, which is never followed; set component_post_url to that URL"
    ),
    "401 X": "it refuses the bridge; check the credentials in component_post_url or the headers",
    "403 X": "it refuses the bridge; check the credentials in component_post_url or the headers",
    "500 X": "it fails; see your service's own log",
    "502 X": "a proxy does not reach the service; start it, or correct the proxy",
}


@pytest.mark.parametrize("head", DOUBTS)
async def test_the_endpoints_answer(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], head: str
) -> None:
    xmpp = await XmppServer.start(nursery)
    http = await HttpServer.start(nursery, saying(response(head)))
    code, out, verdict = await report_of(
        capsys, str(xmpp.address), f"http://127.0.0.1:{http.port}/", attach=True
    )
    answer = f"answers with status {head[:3]}"
    doubt = DOUBTS[head]
    expected = ("warning", f"{answer}: {doubt}") if doubt else ("ok", answer)
    assert rows(out, "OPTIONS") == [expected]
    assert (code, verdict) == (ExitCode.OK, "1 warning." if doubt else "All is well.")


async def test_https_where_the_endpoint_has_no_tls(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    port = await listening(nursery, greeting("HTTP/1.1 400 X\r\n\r\n"))
    _, out, _ = await report_of(capsys, "127.0.0.1:1", f"https://127.0.0.1:{port}/")
    ((result, details),) = rows(out, "OPTIONS")
    assert result == "failed"
    remedy = "the port has no TLS; write http:// in component_post_url, or correct its port"
    assert details.endswith(f": {remedy}")


# --- the output


async def test_the_lines_of_the_server_come_after_the_table(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, verdict = await report_of(capsys, "127.0.0.1:1", "http://127.0.0.1:1/")
    places = [out.index(text) for text in ("Checks", "OPTIONS", "For Prosody", verdict)]
    assert places == sorted(places)


KICK_OLD = 'component_conflict_resolve = "kick_old"'


async def test_nodes_that_share_a_journal_replace_each_other_on_the_server(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://bridge:hunter2@127.0.0.1:1/bridge"
    code, out, verdict = await report_of(
        capsys, "127.0.0.1:1", "http://127.0.0.1:1/", journal={"url": url}
    )
    assert (code, KICK_OLD in out, "hunter2" in out) == (ExitCode.OTHER, True, False)
    assert "journal postgresql://bridge@127.0.0.1:1/bridge" in out
    assert verdict.startswith("3 problems")


async def test_without_a_shared_journal_they_do_not(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = await report_of(capsys, "127.0.0.1:1", "http://127.0.0.1:1/")
    assert KICK_OLD not in out


@pytest.mark.parametrize("columns", ["20", "60"])
async def test_on_a_narrow_terminal_the_verdict_is_one_line(
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    _, _, verdict = await report_of(capsys, "127.0.0.1:1", "http://127.0.0.1:1/")
    assert verdict == "2 problems; the secret was not tried (--connect tries it)."
