"""The scripted server: what it says of a right component, of wrong ones, and of real ones."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from click.testing import CliRunner, Result

import bridge
from bridge.cli.main import main
from bridge.conformance.component import probe as component
from bridge.conformance.component.observation import Check
from bridge.conformance.component.probe import CHECKS, examine
from bridge.conformance.component.profile import PROFILES
from bridge.conformance.component.source import HOST, SECRET, Awaited, Launched, Patience
from bridge.conformance.report import Finding, Verdict
from tests.conformance.fake_component import Fake, FakeSource
from tests.servers.process import reserve_port

DOMAIN = "conformance.localhost"
ROOT = Path(bridge.__file__).parents[1]
FIXTURES = ROOT / "fixtures" / "conformance"
OURS = [sys.executable, "-m", "bridge", "run", "--component", "{domain}"]
OURS += ["--secret-file", "{secret_file}", "--server", "{host}:{port}"]
OURS += ["--post-url", "http://127.0.0.1:9/"]
SLIXMPP = [sys.executable, str(Path(__file__).with_name("slixmpp_component.py"))]
QUICK = Patience(
    come_s=5,
    first_s=5,
    again_s=5,
    return_s=1,
    answer_s=2,
    settle_s=0.05,
    hold_s=0.1,
    count_s=0.3,
    restart_s=0.5,
    quiet_s=0.05,
    silence_s=0.6,
    flood_s=1,
)
PATIENT = evolve(QUICK, answer_s=10, first_s=10, again_s=10, flood_s=10)
"""For a machine that is busy: where all is well, only what must not come is waited for."""
PING = "one answer to a get"
PASS, FAIL, DIFFERS = Verdict.PASS, Verdict.FAIL, Verdict.DIFFERS
NOT_APPLICABLE, NOT_TESTABLE = Verdict.NOT_APPLICABLE, Verdict.NOT_TESTABLE


def named(*names: str) -> list[Check]:
    """The rows whose names begin so, in their order."""
    found = [check for check in CHECKS if check.name.startswith(names)]
    assert len(found) >= len(names)
    return found


async def examine_fake(
    checks: Sequence[Check],
    *faults: str,
    profile: str = "prosody",
    slow: bool = False,
    patience: Patience = QUICK,
) -> list[Finding]:
    async with trio.open_nursery() as nursery:
        source = FakeSource(nursery, DOMAIN, *faults)
        findings = await examine(
            source, DOMAIN, PROFILES[profile], checks, no_progress, patience=patience, slow=slow
        )
        nursery.cancel_scope.cancel()
    return findings


def no_progress(_: str, __: int) -> None:
    pass


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_component_without_fault_passes_everything(profile: str) -> None:
    findings = await examine_fake(CHECKS, profile=profile, slow=True, patience=PATIENT)
    assert [one for one in findings if one.verdict not in (PASS, NOT_APPLICABLE)] == []


FAULTS = [
    ("client header", "the header's namespaces", FAIL, "the default namespace is jabber:client"),
    ("no to", "the header's to", FAIL, "no to"),
    ("loud to", "the header's to", DIFFERS, "the domain in another spelling"),
    ("version", "no version in the header", DIFFERS, "version 1.0"),
    ("headlong", "an early error with an empty id", FAIL, "sends a handshake"),
    ("headlong", "an early error without id", FAIL, "sends a handshake"),
    ("leaves open", "an early error without", DIFFERS, "leaves the connection open"),
    ("wrong digest", "the digest of", FAIL, "an unknown digest"),
    ("escaped id", "an id with XML escapes", FAIL, "the id was hashed with its XML escapes"),
    ("latin", "the secret", FAIL, "hashed as Latin-1, with ? for other"),
    ("early", "nothing is sent until", FAIL, "presence is sent too early"),
    ("hammers", "a conflict instead of", FAIL, "reconnects at once, repeatedly"),
    ("hammers", "a conflict after", FAIL, "reconnects at once, repeatedly"),
    ("leaves open", "a conflict after", FAIL, "leaves the stream open"),
    ("hammers", "not-authorized", FAIL, "reconnects at once, repeatedly"),
    ("leaves open", "not-authorized", FAIL, "leaves the stream open"),
    ("deaf", "disco#info and version", FAIL, "disco#info: no answer"),
    ("stutters", "disco#info and version", FAIL, "disco#info: 2 answers"),
    ("leaves open", "a stream error", FAIL, "leaves the stream open"),
    ("stays away", "system-shutdown", FAIL, "stays away for 0.5 s"),
    ("leaves open", "end tag in reply to ours", FAIL, "leaves the stream open"),
    ("no end tag", "end tag in reply to ours", FAIL, "closes the connection without"),
    ("no end tag", "end tag on SIGTERM", DIFFERS, "closes the connection without"),
    ("hard of hearing", "end tag on SIGTERM", FAIL, "keeps running"),
    ("no space", "white space between", FAIL, "closed without an error"),
    ("stalls", "2 MB of stanzas", FAIL, "stops reading"),
    ("little room", "an iq of 10,000 bytes", FAIL, "closed with policy-violation"),
    ("no patience", "an iq of 2 MB", DIFFERS, "closed with policy-violation"),
    ("no mark", "a byte order mark", DIFFERS, "closed without an error"),
    ("no standalone", "standalone in", DIFFERS, "closed without an error"),
    ("swallows", "a header in UTF-16", FAIL, "continues to the handshake"),
    ("swallows", "a header that declares Latin-1", FAIL, "continues to the handshake"),
    ("swallows", "Latin-1 bytes", FAIL, "keeps reading"),
    ("swallows", "a comment between stanzas", FAIL, "keeps reading"),
    ("swallows", "a comment inside a stanza", FAIL, "keeps reading"),
    ("swallows", "a processing instruction", FAIL, "keeps reading"),
    ("swallows", "a document type", FAIL, "continues to the handshake"),
    ("swallows", "billion laughs", FAIL, "continues to the handshake"),
    ("swallows", "an external entity", FAIL, "continues to the handshake"),
    ("fetches", "an external entity", FAIL, "fetches the entity"),
    ("swallows", "an undefined entity", FAIL, "keeps reading"),
    ("shuts up", "a comment inside a stanza", DIFFERS, "closed without an error"),
    ("shuts up", "a document type", DIFFERS, "closed without an error"),
    ("swallows", "an unbound prefix", FAIL, "keeps reading"),
    ("swallows", "an attribute twice", FAIL, "keeps reading"),
    ("swallows", "a prefix bound to nothing", FAIL, "keeps reading"),
    ("swallows", "a name with two colons", FAIL, "keeps reading"),
    ("whole characters", "characters split", FAIL, "closed without an error"),
    ("no prefix", "an iq with a prefix", FAIL, "not answered, but the next iq is"),
    ("no client", "an iq in jabber:client", DIFFERS, "not answered, but the next iq is"),
    ("no root prefix", "a prefix declared on the root", FAIL, "answered differently"),
    ("stutters", "one answer to a get", FAIL, "2 answers"),
    ("agrees", "an unknown payload", FAIL, "answered with a result"),
    ("agrees", "a get without a child", FAIL, "answered with a result"),
    ("agrees", "a get with two children", FAIL, "answered with a result"),
    ("vague", "a get without a child", DIFFERS, "service-unavailable"),
    ("ignores types", "an iq of unknown type", DIFFERS, "no answer"),
    ("answers results", "no answer to a result", FAIL, "answered with iq of type result"),
    ("answers anything", "no answer to an iq without", DIFFERS, "answered with iq of type result"),
    (
        "answers results",
        "no answer to an iq of type error",
        FAIL,
        "answered with iq of type result",
    ),
    ("answers errors", "no answer to a message", FAIL, "answered with message of type chat"),
    ("answers errors", "no answer to a presence", FAIL, "answered with presence of type chat"),
    ("bounces", "no error to presence", FAIL, "answered with presence of type error"),
    ("no unknown", "an unknown top-level", DIFFERS, "closed without an error"),
    ("speaks for others", "an iq for another domain", FAIL, "answered from that domain"),
    ("answers anything", "an iq without from", DIFFERS, "answered despite the missing from"),
]


@pytest.mark.parametrize(("fault", "name", "verdict", "seen"), FAULTS)
async def test_a_fault_is_found(fault: str, name: str, verdict: Verdict, seen: str) -> None:
    [finding] = await examine_fake(named(name), fault)
    assert (finding.verdict, finding.seen.startswith(seen)) == (verdict, True), finding


SEEN_IN_THE_END = [
    ("upper case", "lower case", DIFFERS, "upper case, which prosody accepts"),
    ("spaced", "no white space in any", FAIL, "white space"),
    ("client stanzas", "no sent stanza is in", FAIL, "iq in jabber:client"),
    ("control characters", "all sent bytes can", FAIL, "not-well-formed"),
    ("no from", "every sent stanza has", FAIL, "iq of type result has no from"),
    ("foreign from", "every sent stanza is", FAIL, "iq of type result is from another domain"),
    ("odd errors", "the structure of sent", FAIL, "the invalid error type fatal"),
    ("sends unknown", "no unknown top-level", FAIL, "sends {urn:xmpp:sm:3}r"),
]


@pytest.mark.parametrize(("fault", "name", "verdict", "seen"), SEEN_IN_THE_END)
async def test_a_fault_is_found_in_all_that_was_sent(
    fault: str, name: str, verdict: Verdict, seen: str
) -> None:
    findings = await examine_fake(named(PING, "an unknown payload", name), fault)
    assert (findings[-1].verdict, findings[-1].seen[: len(seen)]) == (verdict, seen)


async def test_an_answer_longer_than_the_server_takes_is_found() -> None:
    findings = await examine_fake(named("an iq of 2 MB", "no sent stanza is over"), "echoes")
    assert findings[-1].verdict is FAIL
    findings = await examine_fake(
        named("an iq of 2 MB", "no sent stanza is over"), "echoes", profile="openfire"
    )
    assert findings[-1].verdict is PASS  # its limit is twice as high


PROFILED = [
    ("ejabberd", "upper case", "lower case", FAIL),
    ("openfire", "foreign from", "every sent stanza is", DIFFERS),
    ("openfire", "speaks for others", "an iq for another domain", DIFFERS),
    ("ejabberd", "hammers", "a conflict instead of", NOT_APPLICABLE),
    ("openfire", "hammers", "a conflict with the header", FAIL),
    ("prosody", "silent", "a space in two minutes", DIFFERS),
    ("openfire", "silent", "a space in two minutes", FAIL),
]


@pytest.mark.parametrize(("profile", "fault", "name", "verdict"), PROFILED)
async def test_some_verdicts_depend_on_the_server(
    profile: str, fault: str, name: str, verdict: Verdict
) -> None:
    findings = await examine_fake(named(PING, name), fault, profile=profile, slow=True)
    assert findings[-1].verdict is verdict


UNANSWERED = {
    "mute": {
        "disco#info and version right after the handshake",
        "one answer to a get",
        "one answer to a set",
    },
    "no pings": {"one answer to a get"},
    "only pings": {
        "disco#info and version right after the handshake",
        "one answer to a set",
        "an unknown payload is refused",
        "a get without a child is refused",
        "a get with two children is refused",
        "an iq of unknown type is refused",
    },
}


@pytest.mark.parametrize(("fault", "missing"), UNANSWERED.items(), ids=UNANSWERED)
async def test_an_iq_that_is_not_answered_breaks_only_the_rules_about_answers(
    fault: str, missing: set[str]
) -> None:
    findings = await examine_fake(CHECKS, fault)
    assert {one.check for one in findings if one.verdict in (FAIL, DIFFERS)} == missing
    untested = [one for one in findings if one.verdict is NOT_TESTABLE]
    assert {one.seen for one in untested} <= {"the component answers no ping", "only with --slow"}
    rules = {"S2", "S7", "S13", "S16", "S17", "S21", "S22", "S25", "S30", "S34"}
    assert {one.rule for one in untested} & rules == (set() if fault == "only pings" else rules)


TRANSCRIPT = ("every sent stanza", "the structure of sent")
ONE_FAULT = [
    (("refuses without id",), "no answer to an iq without id", DIFFERS),
    (("refuses without id", "empty id"), "no answer to an iq without id", DIFFERS),
    (("speaks for others",), "an iq for another domain", FAIL),
    (("answers anything",), "an iq without from", DIFFERS),
]


@pytest.mark.parametrize(("faults", "name", "verdict"), ONE_FAULT)
async def test_one_fault_breaks_one_rule(
    faults: tuple[str, ...], name: str, verdict: Verdict
) -> None:
    checks = named(PING, "an unknown payload", name, *TRANSCRIPT)
    findings = await examine_fake(checks, *faults)
    assert {one.check: one.verdict for one in findings if one.verdict is not PASS} == {
        name: verdict
    }


async def test_illegal_xml_that_is_sent_back_breaks_only_the_rule_about_it() -> None:
    """A stream that lives on has let it through; a broken stream error is a fault of its own."""
    checks = named(PING, "an unbound prefix", "all sent bytes can")
    findings = await examine_fake(checks, "echoes blindly")
    assert {one.rule: (one.verdict, one.seen) for one in findings} == {
        "S29": (PASS, ""),
        "S20": (FAIL, "answers with unreadable data, and the stream stays open"),
        "S27": (PASS, ""),
    }


@pytest.mark.parametrize("name", ["a conflict instead of", "a conflict after", "not-authorized"])
async def test_to_wait_before_each_reconnect_is_not_at_once(name: str) -> None:
    patience = evolve(QUICK, count_s=1, at_once_s=0.05)
    [finding] = await examine_fake(named(name), "hesitates", patience=patience)
    assert (finding.verdict, finding.seen) == (DIFFERS, "reconnects within 3 s")


CRASHING = """
import os, signal, socket
stream = socket.create_connection((os.environ["XMPP_HOST"], int(os.environ["XMPP_PORT"])))
stream.sendall(b"<stream:stream xmlns='jabber:component:accept'"
    b" xmlns:stream='http://etherx.jabber.org/streams' to='x'>")
error, data = b"urn:ietf:params:xml:ns:xmpp-streams", stream.recv(65536)
if error not in data:
    stream.sendall(b"<handshake>0</handshake>")
while data and error not in data:
    data = stream.recv(65536)
if data:
    os.kill(os.getpid(), signal.{})
"""


@pytest.mark.parametrize(("number", "shell"), [("SIGSEGV", False), ("SIGABRT", True)])
async def test_a_crash_is_named_whatever_is_checked(
    number: str, shell: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", CRASHING.format(number)]
    if shell:
        command = ["sh", "-c", f"{shlex.join(command)}; exit $?"]
    names = ("an early error without", "a stream error", "a conflict instead", "not-authorized")
    patience = evolve(QUICK, come_s=20, answer_s=4)
    findings = await examine(
        Launched(tuple(command), tmp_path, DOMAIN, patience),
        DOMAIN,
        PROFILES["prosody"],
        named(*names),
        no_progress,
        patience=patience,
    )
    assert {(one.verdict, one.seen) for one in findings} == {(FAIL, f"killed by {number}")}


async def test_silence_is_waited_for_only_when_asked() -> None:
    [finding] = await examine_fake(named("a space in two minutes"), "silent")
    assert finding.verdict is NOT_TESTABLE


# --- where it comes from


async def test_one_started_by_hand_is_waited_for_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reserve_port() as held:
        port = held.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_by_hand, port)
        findings = await examine(
            Awaited(port, tmp_path, DOMAIN),
            DOMAIN,
            PROFILES["prosody"],
            [check for check in CHECKS if check.rule not in ("S3", "S8", "S11")],
            no_progress,
            patience=PATIENT,
        )
        nursery.cancel_scope.cancel()
    assert {one.check for one in findings if one.verdict is not PASS} == {
        "end tag on SIGTERM",
        "a space in two minutes of silence",
    }
    told = capsys.readouterr().err
    assert f"Waiting on {HOST}:{port} for the component {DOMAIN}; its secret is in " in told
    assert (tmp_path / "secret").read_text(encoding="utf-8") == SECRET


async def _by_hand(port: int) -> None:
    await trio.sleep(0.1)
    await Fake(frozenset(), DOMAIN, SECRET).run(port)


async def test_what_does_not_come_again_is_not_testable(tmp_path: Path) -> None:
    with reserve_port() as held:
        port = held.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_by_hand, port)
        findings = await examine(
            Awaited(port, tmp_path, DOMAIN),
            DOMAIN,
            PROFILES["prosody"],
            named("an early error", "end tag in reply"),
            no_progress,
            patience=QUICK,
        )
        nursery.cancel_scope.cancel()
    assert [one.verdict for one in findings] == [PASS, NOT_TESTABLE, NOT_TESTABLE]
    assert findings[-1].seen == "The component did not reconnect."


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["conformance", "component", *arguments])


def test_a_command_that_does_not_exist() -> None:
    result = run("--", "no-such-component", "{port}")
    assert result.exit_code == 1
    assert "no-such-component cannot be started: No such file or directory." in result.stderr


def test_a_command_that_exits_at_once() -> None:
    result = run("--", sys.executable, "-c", "import sys; print('no luck'); sys.exit(3)")
    assert result.exit_code == 1
    assert "exited with code 3 before it connected. Its output ends with:\nno luck" in result.stderr


def test_a_command_that_is_killed() -> None:
    result = run("--", "sh", "-c", "kill -KILL $$")
    assert result.exit_code == 1
    assert "was killed by SIGKILL before it connected. It printed nothing." in result.stderr


def test_a_command_that_never_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "Patience", lambda: Patience(come_s=0.3))
    result = run("--", "sleep", "60")
    assert result.exit_code == 1
    assert f"sleep 60 did not connect to {HOST} within 0.3 s." in result.stderr


def test_a_command_that_connects_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "Patience", lambda: Patience(come_s=1))
    code = "import os, socket, time; s = socket.create_connection((os.environ['XMPP_HOST'],"
    code += " int(os.environ['XMPP_PORT']))); time.sleep(60)"
    result = run("--", sys.executable, "-c", code)
    assert result.exit_code == 1
    assert "The component connected, but sent no stream header." in result.stderr


def test_a_port_that_is_taken() -> None:
    with reserve_port() as held:
        held.listen()
        port = held.getsockname()[1]
        result = run("--listen", str(port))
    assert result.exit_code == 1
    assert f"Cannot listen on {HOST}:{port}: Address already in use." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--listen", "5347", "--", "true"],
        ["--listen", "70000"],
        ["--profile", "xmpp4r", "--", "true"],
        ["--domain", "not a domain", "--", "true"],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_report_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "CHECKS", named("the header's", "a comment between"))
    result = run("--", *SLIXMPP)
    assert result.exit_code == 1
    assert "the component conformance.localhost, facing a server like prosody" in result.stdout
    assert "a comment between stanzas" in result.stdout


# --- real ones


def report_of(command: list[str], profile: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "bridge", "conformance", "component", "--json"]
    return subprocess.Popen(
        [*words, "--profile", profile, "--", *command],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def expect(name: str, report: dict[str, Any]) -> None:
    """Compare with the fixture; XMPP_BRIDGE_REWRITE=1 writes it instead."""
    path = FIXTURES / f"{name}.json"
    if os.environ.get("XMPP_BRIDGE_REWRITE"):
        text = json.dumps(report, indent=2, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")
    assert report == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.timeout(400)
def test_our_own_daemon_passes_everything(tmp_path: Path) -> None:
    running = {
        profile: report_of([*OURS, "--state-dir", str(tmp_path / profile)], profile)
        for profile in PROFILES
    }
    reports = {}
    for profile, process in running.items():
        output, _ = process.communicate(timeout=300)
        reports[profile] = json.loads(output)
        bad = [
            (check["check"], check["verdict"], check["seen"])
            for rule in reports[profile]["rules"]
            for check in rule["checks"]
            if check["verdict"] in (FAIL, DIFFERS)
        ]
        assert bad == []
        assert process.returncode == 0
    expect("xmpp-bridge", reports["prosody"])


@pytest.mark.timeout(200)
def test_the_report_on_slixmpp_is_the_one_we_know() -> None:
    process = report_of(SLIXMPP, "prosody")
    output, _ = process.communicate(timeout=180)
    expect("slixmpp", json.loads(output))
    assert process.returncode == 1
