"""`conformance server`: the reports on real servers, and what it says of servers that are wrong.

The expected reports are those of Debian's Prosody, ejabberd and jabberd2. To write them anew:

    XMPP_BRIDGE_REWRITE=1 python -m pytest tests/conformance/test_server.py -k test_report

The clock of the other tests runs fast: what a scripted server does not say is soon not said.
"""

from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from click.testing import CliRunner
from trio.testing import MockClock

from bridge.cli.main import main
from bridge.conformance.report import Finding, NothingTried, Report, Verdict
from bridge.conformance.rule import RULES
from bridge.conformance.server.probe import CHECKS, probe_server
from tests.servers import ejabberd, jabberd2, prosody
from tests.servers.ejabberd import Ejabberd
from tests.servers.jabberd2 import Jabberd2
from tests.servers.process import reserve_port
from tests.servers.prosody import Prosody

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "conformance"
HOST: Final = "127.0.0.1"
DOMAIN: Final = "bot.localhost"
SECRET: Final = "s3cret"
HEADER: Final = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept'"
    f" xmlns:stream='http://etherx.jabber.org/streams' from='{DOMAIN}' id='1'>"
).encode()
ERROR: Final = (
    "<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
)
END: Final = b"</stream:stream>"
OPENED: Final = re.compile(rb"<stream:stream[^>]*>")
WHOLE_START: Final = re.compile(rb"<(?:message|iq|presence)[ />]")
WHOLE_END: Final = re.compile(rb"</(?:message|iq|presence)>$")
SHAKEN: Final = re.compile(rb"</handshake>|<handshake/>")

needs_prosody = (
    pytest.mark.prosody,
    pytest.mark.skipif(bool(prosody.missing()), reason=str(prosody.missing())),
)
needs_ejabberd = (
    pytest.mark.ejabberd,
    pytest.mark.skipif(bool(ejabberd.missing()), reason=str(ejabberd.missing())),
)
needs_jabberd2 = (
    pytest.mark.jabberd2,
    pytest.mark.skipif(bool(jabberd2.missing()), reason=str(jabberd2.missing())),
)


async def probe(port: int, secret: str = SECRET) -> Report:
    return await probe_server(HOST, port, DOMAIN, secret, lambda name, total: None)


# Real servers.


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Prosody, marks=needs_prosody, id="prosody"),
        pytest.param(Ejabberd, marks=needs_ejabberd, id="ejabberd"),
        pytest.param(Jabberd2, marks=needs_jabberd2, id="jabberd2"),
    ],
)
async def test_report(kind: type[Prosody | Ejabberd | Jabberd2], tmp_path: Path) -> None:
    named: list[str] = []
    async with kind(tmp_path, components={DOMAIN: SECRET}) as server:
        port = server.component_port
        with trio.fail_after(60):
            report = await probe_server(HOST, port, DOMAIN, SECRET, lambda n, _: named.append(n))
    assert len(named) == len(set(named)) == len(CHECKS)
    assert report.subject == f"{HOST}:{port} as {DOMAIN}"
    found = report.to_json() | {"subject": kind.name}
    fixture = FIXTURES / f"{kind.name}.json"
    if os.environ.get("XMPP_BRIDGE_REWRITE"):
        fixture.parent.mkdir(exist_ok=True)
        fixture.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert rows(found) == rows(expected(kind.name))  # a difference is shown in one line
    assert found == expected(kind.name)


@pytest.mark.parametrize("name", ["prosody", "prosody-13", "ejabberd", "jabberd2"])
def test_the_expected_reports_have_all_rules_and_checks(name: str) -> None:
    rules = expected(name)["rules"]
    assert [rule["rule"] for rule in rules] == [rule.id for rule in RULES]
    assert all(rule["checks"] for rule in rules)
    checks = {(rule["rule"], one["check"]) for rule in rules for one in rule["checks"]}
    assert {(check.rule, check.name) for check in CHECKS} <= checks


def test_prosody_13_differs_in_one_line() -> None:
    """Its report was made by hand, from its source; its subject says how."""
    assert rows(expected("prosody-13")) ^ rows(expected("prosody")) == {
        "S28, no from: pass: stream error invalid-from",
        "S28, no from: differs: passed on",
    }


@pytest.mark.prosody
@pytest.mark.skipif(bool(prosody.missing()), reason=str(prosody.missing()))
async def test_command_prints_json(tmp_path: Path) -> None:
    async with Prosody(tmp_path, components={DOMAIN: SECRET}) as server:
        done = await run_command(server.component_port, tmp_path, "--json")
    assert done.returncode == 1  # Prosody loses an iq without child
    assert json.loads(done.stdout)["rules"] == expected("prosody")["rules"]
    assert "breaks streams on purpose" in done.stderr.decode()


# Scripted servers.


@pytest.fixture
def fast() -> MockClock:
    return MockClock(rate=20)


@pytest.fixture
async def start(nursery: trio.Nursery) -> Callable[[Any], Awaitable[int]]:
    """Give a function that serves each connection by a behaviour, and gives the port."""

    async def begin(behaviour: Callable[[trio.SocketStream], Awaitable[None]]) -> int:
        async def handle(stream: trio.SocketStream) -> None:
            try:
                await behaviour(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.lowlevel.checkpoint()

        serve = partial(trio.serve_tcp, handle, 0, host=HOST)
        [listener] = await nursery.start(serve)
        port: int = listener.socket.getsockname()[1]
        return port

    return begin


class Lenient:
    """A server that lets everything through: any digest, any XML, any sender, all sent back as it
    came. With `returns` off it takes stanzas and gives none. `says` is what it sends on its own,
    after the handshake and around whatever it sends back.
    """

    def __init__(self, *, returns: bool = True, says: str = "") -> None:
        self.gone: list[trio.Event] = []
        self._returns = returns
        self._says = says.encode()

    async def __call__(self, stream: trio.SocketStream) -> None:
        gone = trio.Event()
        self.gone.append(gone)
        try:
            rest = await self._take(stream, b"", OPENED)
            await stream.send_all(HEADER)
            rest = await self._take(stream, rest, SHAKEN)
            await stream.send_all(b"<handshake/>" + self._says)
            while rest is not None:
                if END in rest:
                    await stream.send_all(END)
                    return
                if self._returns:
                    before = self._says if WHOLE_START.match(rest) else b""
                    behind = self._says if WHOLE_END.search(rest) else b""
                    await stream.send_all(before + rest + behind)
                rest = await self._receive(stream) or None
        finally:
            gone.set()

    async def _receive(self, stream: trio.SocketStream) -> bytes:
        return bytes(await stream.receive_some())

    async def _take(self, stream: trio.SocketStream, data: bytes, what: re.Pattern[bytes]) -> Any:
        while (found := what.search(data)) is None:
            more = await self._receive(stream)
            if not more or END in data + more:
                raise trio.ClosedResourceError
            data += more
        return data[found.end() :]


def verdicts(report: Report) -> dict[tuple[str, str], Verdict]:
    return {(one.rule, one.check): one.verdict for one in report.findings}


LET_THROUGH: Final = [
    ("S2", "the ids of two streams"),
    ("S4", "a wrong digest"),
    ("S4", "an empty handshake"),
    ("S18", "a byte that is invalid in UTF-8"),
    ("S18", "UTF-16"),
    ("S19", "a comment between stanzas"),
    ("S19", "a comment in a stanza"),
    ("S19", "a processing instruction"),
    ("S19", "a DTD"),
    ("S19", "an undefined entity"),
    ("S20", "an unbound prefix of an element"),
    ("S20", "two attributes with one expanded name"),
    ("S20", "mismatched tags"),
    ("S27", "&#1;"),
    ("S27", "NUL"),
    ("S28", "a foreign from"),
    ("S28", "a from with an empty local part"),
]
TOLERATED: Final = [
    ("S1", "a header with an unknown domain"),
    ("S4", "the digest in upper case"),
    ("S6", "white space around the digest"),
    ("S8", "a second connection for the domain"),
    ("S18", "a byte order mark"),
    ("S24", "a top-level message in jabber:client"),
    ("S28", "no from"),
    ("S29", "an iq without id"),
]
UNKNOWN: Final = ("another namespace", "the stream's namespace")
RIGHT: Final = [
    ("S1", "a header with the component's own domain"),
    ("S4", "the right digest"),
    ("S17", "a message of 10,000 bytes"),
    ("S21", "byte by byte, splitting characters"),
    ("S32", "100 messages"),
    ("S35", "a ping to the component's domain"),
    ("S35", "a ping to the component's domain after messages"),
    *(("S33", f"an unknown element in {where}") for where in UNKNOWN),
    ("S23", "the namespace of stanzas that are passed on"),
    ("S10", "a message after a stream error"),
]


DISCO: Final = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
FOREIGN: Final = (  # none of it is a probe
    f"<iq xmlns='jabber:client' from='sm' to='{DOMAIN}' type='get' id='q1'>{DISCO}</iq>"  # jabberd2
    f"<iq from='localhost' to='{DOMAIN}' type='get' id='q2'>{DISCO}</iq>"
    f"<iq from='{DOMAIN}' to='{DOMAIN}' type='get' id='q3'>{DISCO}</iq>"
    f"<iq from='localhost' to='b@{DOMAIN}' type='get' id='q4'>{DISCO}</iq>"
    f"<message from='u@localhost/r' to='{DOMAIN}'><body>x</body></message>"
    f"<message from='localhost' to='b@{DOMAIN}' id='m1'><body>welcome</body></message>"
    f"<presence from='u@localhost' to='{DOMAIN}' type='probe'/>"
    f"<message from='localhost' to='{DOMAIN}' type='error'/>"
)


@pytest.mark.parametrize("says", ["", FOREIGN], ids=["quiet", "talkative"])
async def test_a_server_that_lets_everything_through_fails(
    fast: MockClock, start: Any, says: str
) -> None:
    lenient = Lenient(says=says)
    report = await probe(await start(lenient))
    found = verdicts(report)
    assert report.failed
    assert {check: found[check] for check in LET_THROUGH} == dict.fromkeys(
        LET_THROUGH, Verdict.FAIL
    )
    assert {check: found[check] for check in TOLERATED} == dict.fromkeys(TOLERATED, Verdict.DIFFERS)
    assert {check: found[check] for check in RIGHT} == dict.fromkeys(RIGHT, Verdict.PASS)
    assert len(lenient.gone) > len(CHECKS)


async def test_a_server_that_returns_nothing_is_reported_on(fast: MockClock, start: Any) -> None:
    found = verdicts(await probe(await start(Lenient(returns=False))))
    assert found["S35", "a ping to the component's domain"] is Verdict.DIFFERS
    assert found["S32", "100 messages"] is Verdict.FAIL
    assert found["S1", "a header with the component's own domain"] is Verdict.PASS


class Deferring(Lenient):
    """A server whose parser defers the end of what it has seen a part of, as expat does: the last
    `>` is held back until more bytes come.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[trio.SocketStream, bytes] = {}

    async def _receive(self, stream: trio.SocketStream) -> bytes:
        more = await super()._receive(stream)
        data = self._held.pop(stream, b"") + more
        if not more or not data.endswith(b">") or data.startswith(b"<"):
            return data
        self._held[stream] = data[-1:]
        return data[:-1] or await self._receive(stream)


async def test_a_parser_that_defers_the_last_byte_is_described(fast: MockClock, start: Any) -> None:
    report = await probe(await start(Deferring()))
    [found] = [one for one in report.findings if one.check.startswith("byte by byte")]
    assert (found.verdict, found.seen) == (
        Verdict.FAIL,
        "the last > is read when more bytes come (expat's reparse deferral does that)",
    )


async def test_a_server_that_lets_in_no_more_ends_the_run(fast: MockClock, start: Any) -> None:
    lenient = Lenient()

    async def conflict_later(stream: trio.SocketStream) -> None:
        if len(lenient.gone) < 3:
            await lenient(stream)
        else:
            await stream.send_all(HEADER + (ERROR % "conflict").encode())

    findings = tried(await probe(await start(conflict_later)))
    failed = [one for one in findings if one.verdict is Verdict.FAIL]
    assert failed[-1].seen == ("the server no longer lets the component in (stream error conflict)")
    assert findings[-1].verdict is Verdict.NOT_TESTABLE
    assert findings[-1].seen == f"not tried: {failed[-1].seen}"


async def test_a_server_that_is_lost_ends_the_run(fast: MockClock, nursery: trio.Nursery) -> None:
    lenient = Lenient()
    with trio.CancelScope() as scope:
        listener = (await trio.open_tcp_listeners(0, host=HOST))[0]

        async def serve_three() -> None:
            for _ in range(3):
                stream = await listener.accept()
                nursery.start_soon(quietly, lenient, stream)
            await listener.aclose()

        nursery.start_soon(serve_three)
        findings = tried(await probe(listener.socket.getsockname()[1]))
        scope.cancel()
    lost = next(one for one in findings if "no longer" in one.seen)
    assert lost.verdict is Verdict.FAIL
    assert lost.seen == "the server can no longer be reached (Connection refused)"
    assert findings[-1].seen == f"not tried: {lost.seen}"


async def quietly(behaviour: Callable[[Any], Awaitable[None]], stream: trio.SocketStream) -> None:
    async with stream:
        try:
            await behaviour(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.lowlevel.checkpoint()


def tried(report: Report) -> list[Finding]:
    """The findings of checks, in the order in which they were made."""
    found = {(one.rule, one.check): one for one in report.findings}
    return [found[check.rule, check.name] for check in CHECKS]


async def test_cancellation_closes_the_connection(fast: MockClock, start: Any) -> None:
    lenient = Lenient()
    port = await start(lenient)
    with trio.CancelScope() as scope:

        def cancel_at(name: str, total: int) -> None:
            if name.startswith("S9"):
                scope.cancel()

        await probe_server(HOST, port, DOMAIN, SECRET, cancel_at)
    assert scope.cancelled_caught
    with trio.fail_after(20):
        for gone in lenient.gone:
            await gone.wait()


# What is no server for components.


async def http(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>")


async def silence(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def clients_port(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(HEADER.replace(b"jabber:component:accept", b"jabber:client"))
    await silence(stream)


async def other_xml(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"<html>")
    await silence(stream)


async def binary(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"\x15\x03\x01\x00\x02\x02F")


async def refusal(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(HEADER)
    await stream.receive_some()
    await stream.send_all((ERROR % "not-authorized").encode())


async def unknown(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(HEADER + (ERROR % "host-unknown").encode())


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (
            http,
            'does not speak XMPP, but sends "HTTP/1.1 400 Bad Request": is it a component port?',
        ),
        (silence, "accepts the connection, but sends nothing for 5 s: is it a component port?"),
        (hang_up, "closes the connection without sending anything: is it a component port?"),
        (clients_port, "speaks jabber:client: is it a component port?"),
        (other_xml, "speaks XML, but not XMPP: is it a component port?"),
        (binary, 'does not speak XMPP, but sends "?????'),
        (
            refusal,
            "does not let bot.localhost in: stream error not-authorized; "
            "the secret is not the one that the server has for the component.",
        ),
        (
            unknown,
            "does not let bot.localhost in: stream error host-unknown; "
            "the server does not know this component.",
        ),
    ],
)
async def test_what_lets_no_one_in_is_said_in_words(
    fast: MockClock,
    start: Any,
    behaviour: Callable[[trio.SocketStream], Awaitable[None]],
    words: str,
) -> None:
    port = await start(behaviour)
    with pytest.raises(NothingTried) as raised:
        await probe(port)
    assert str(raised.value).startswith(f"{HOST}:{port} {words}")
    assert "\n" not in str(raised.value)


async def test_a_name_that_does_not_resolve_is_said_in_words() -> None:
    with pytest.raises(NothingTried, match=r"^no-such\.invalid:5347 cannot be reached: "):
        await probe_server("no-such.invalid", 5347, DOMAIN, SECRET, lambda name, total: None)


async def test_command_on_a_port_where_nothing_listens(tmp_path: Path) -> None:
    with reserve_port() as held:
        port = held.getsockname()[1]
        done = await run_command(port, tmp_path)
    assert done.returncode == 1
    assert done.stdout == b""
    said = done.stderr.decode().splitlines()
    assert said[-1] == f"Error: {HOST}:{port} cannot be reached: Connection refused."
    assert not any("Traceback" in line for line in said)


async def test_command_with_a_wrong_secret(tmp_path: Path, start: Any) -> None:
    done = await run_command(await start(refusal), tmp_path)
    assert done.returncode == 1
    assert b"not-authorized; the secret is not the one" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'HOST:PORT'"),
        (["localhost:5347"], "Missing option '--domain'"),
        (["localhost:5347", "--domain", DOMAIN], "Missing option '--secret-file'"),
        ([":5347", "--domain", DOMAIN, "--secret-file", "good"], "HOST:PORT"),
        (["localhost:99999", "--domain", DOMAIN, "--secret-file", "good"], "HOST:PORT"),
        (["localhost:5347", "--domain", "a b", "--secret-file", "good"], "is not a valid domain"),
        (["localhost:5347", "--domain", DOMAIN, "--secret-file", "none"], "cannot be read"),
        (["localhost:5347", "--domain", DOMAIN, "--secret-file", "empty"], "is empty"),
        (["localhost:5347", "--domain", DOMAIN, "--secret-file", "binary"], "is not UTF-8"),
    ],
)
def test_usage_errors_exit_with_2(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("good", b"x\n"), ("empty", b"\n"), ("binary", b"\xff")):
        (tmp_path / name).write_bytes(content)
    result = CliRunner().invoke(main, ["conformance", "server", *arguments])
    assert result.exit_code == 2
    assert words in result.output


def rows(report: dict[str, Any]) -> set[str]:
    return {
        f"{rule['rule']}, {one['check']}: {one['verdict']}: {one['seen']}"
        for rule in report["rules"]
        for one in rule["checks"]
    }


def expected(name: str) -> dict[str, Any]:
    fixture: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return fixture


async def run_command(port: int, directory: Path, *options: str) -> Any:
    """Run the command as a user does."""
    secret = directory / "secret"
    secret.write_text(f"{SECRET}\n", encoding="utf-8")
    given = ["--domain", DOMAIN, "--secret-file", str(secret), *options]
    return await trio.run_process(
        [sys.executable, "-m", "bridge", "conformance", "server", f"{HOST}:{port}", *given],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=FIXTURES.parents[1],
    )
