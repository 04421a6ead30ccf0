"""`demo`: runs to its end on its own, shows both sides, and with `--serve` goes on until Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from bridge.cli import demo
from bridge.cli.demo import SCRIPT, run_demo
from bridge.cli.help import pages
from bridge.daemon.daemon import ExitCode
from bridge.telemetry.log import configure

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "bridge", "demo"]
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def shown() -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        COMMAND, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
    )


def test_it_ends_with_0(shown: "subprocess.CompletedProcess[str]") -> None:
    assert shown.returncode == 0


def test_it_complains_of_nothing_but_the_failure_that_it_shows(
    shown: "subprocess.CompletedProcess[str]",
) -> None:
    assert shown.stderr == ""


def test_it_ends_with_what_to_do_next(shown: "subprocess.CompletedProcess[str]") -> None:
    told = shown.stdout.partition("What next:\n")[2]
    commands = re.findall(r"xmpp-bridge .+", told)
    assert commands[0] == "xmpp-bridge demo --chat --post-url http://127.0.0.1:8000/"
    topics = [one.removeprefix("xmpp-bridge help ") for one in commands[1:]]
    assert topics == ["tutorial", "contract", "migration"]
    assert set(topics) <= pages().keys()


@pytest.mark.parametrize("line", SCRIPT, ids=lambda line: line.stanza.id or line.stanza.type)
def test_it_tells_each_line_of_the_script(
    shown: "subprocess.CompletedProcess[str]", line: demo._Line
) -> None:
    assert line.about in shown.stdout


SIDES = [
    "XMPP → to the component",
    "<body>Good night, good night!</body>",
    "HTTP POST",
    '"kind": "message"',
    '"body": "Good night, good night!"',
    "HTTP 200",
    '{"body": "Did you say Good night, good night!?"}',
    "XMPP ← from the component",
    "<body>Did you say Good night, good night!?</body>",
    "<body>once</body>",
    "<body>twice</body>",
    "HTTP 204",
    "HTTP 404",
    "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>",
    "type='subscribed'",
    "<ping xmlns='urn:xmpp:ping'/>",
    "<identity category='client' type='bot'",
]


@pytest.mark.parametrize("text", SIDES)
def test_it_shows_both_sides(shown: "subprocess.CompletedProcess[str]", text: str) -> None:
    assert text in shown.stdout


def test_each_side_is_in_its_order(shown: "subprocess.CompletedProcess[str]") -> None:
    first = shown.stdout.partition(SCRIPT[1].about)[0]
    assert re.findall(r"^(?:XMPP [→←]|HTTP \S+)", first, re.MULTILINE) == [
        "XMPP →",
        "HTTP POST",
        "HTTP 200",
        "XMPP ←",
    ]


SUMMARY = [
    ("stanzas sent to the component", "10"),
    ("POSTed to the endpoint", "7"),
    ("replies from the endpoint", "6"),
    ("answered by the bridge itself", "4"),
    ("errors sent for failures", "1"),
    ("answers missing", "0"),
]


@pytest.mark.parametrize(("name", "count"), SUMMARY)
def test_it_ends_with_a_summary(
    shown: "subprocess.CompletedProcess[str]", name: str, count: str
) -> None:
    (line,) = [line for line in shown.stdout.splitlines() if name in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [name, count]


def test_the_secret_is_not_shown(shown: "subprocess.CompletedProcess[str]") -> None:
    assert "only for this demo" not in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_with_serve_it_goes_on_until_it_is_stopped(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--serve"], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Still running; press Ctrl-C to stop."):
                break
        running = process.poll() is None
        process.send_signal(number)
        rest = process.stdout.read()
    assert (running, process.returncode, "answers missing" in rest) == (True, 0, True)


@pytest.fixture
def default_sigint() -> Iterator[None]:
    """Have child processes end by Ctrl-C as at a terminal, also where it is ignored here.

    A shell has SIGINT ignored by what a script runs in the background, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def leave_early(process: "subprocess.Popen[str]", how: str) -> None:
    assert process.stdout is not None
    process.stdout.readline()
    if how == "Ctrl-C":
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    process.stdout.close()


@pytest.mark.parametrize("how", ["Ctrl-C", "closed pipe"])
@pytest.mark.usefixtures("default_sigint")
def test_to_be_left_early_is_no_bug(how: str) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True
    ) as process:
        leave_early(process, how)
        assert process.stderr is not None
        told = process.stderr.read()
    assert (process.returncode, told) == (1, "")


async def test_a_missing_answer_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SCRIPT", (demo._Line("One answer too few.", SCRIPT[0].stanza, 2),))
    monkeypatch.setattr(demo, "_ANSWER_TIMEOUT_S", 0.2)
    configure("text", "error")
    code = await run_demo(serve=False)
    structlog.reset_defaults()
    assert (code, "an answer is missing" in capsys.readouterr().out) == (ExitCode.OTHER, True)
