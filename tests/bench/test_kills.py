"""The trials by killing and by a full journal run, and keep their promises on a small scale."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import prosody

MISSING = prosody.missing()
pytestmark = [
    pytest.mark.prosody,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]
ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figure(table: str, label: str) -> int:
    [line] = [line for line in table.splitlines() if line.strip().startswith(label)]
    return int(line.strip().removeprefix(label).split()[0].replace(",", ""))


@pytest.mark.parametrize("who", ["daemon", "server"])
def test_nothing_is_lost_by_a_few_kills(who: str) -> None:
    table = run("kills", "--kills", "2", "--window", "16", "--seed", "1", "--who", who)
    assert figure(table, "violations:") == 0
    assert figure(table, "accepted") > 0
    assert figure(table, "missing at the endpoint") == 0
    assert figure(table, "unconfirmed replies in it") > 0
    assert (figure(table, "repeats") > 0) == (who == "daemon")


@pytest.mark.parametrize("who", ["poller", "daemon"])
def test_nothing_is_lost_by_a_few_kills_while_events_are_pulled(who: str) -> None:
    table = run("kills", "--kills", "3", "--window", "16", "--seed", "1", "--who", who, "--pull")
    assert figure(table, "violations:") == 0
    assert figure(table, "accepted") > 0
    assert figure(table, "missing at the endpoint") == 0
    assert figure(table, "repeats") > 0
    if who == "poller":
        assert figure(table, "with events in hand") > 0


def test_a_journal_is_delivered_after_a_restart() -> None:
    table = run("restart", "--pending", "300", "--down-s", "0.5")
    assert figure(table, "violations:") == 0
