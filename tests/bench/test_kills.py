"""The trials by killing and by a full journal run, and keep their promises on a small scale."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import network
from tests.servers import postgres, prosody

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


def test_one_node_keeps_its_promises_through_a_few_outages() -> None:
    several = ["--nodes", "1", "--journal", "sqlite", "--kills", "3", "--window", "8"]
    table = run("kills", *several, "--seed", "1", "--freeze-s", "1", "2")
    assert figure(table, "violations:") == 0
    for kind in ("a node killed", "a node frozen", "Prosody killed"):
        assert figure(table, kind) == 1
    assert figure(table, "stanzas answered") > 0
    assert figure(table, "missing at the endpoint") == 0
    assert figure(table, "repeats") > 0


@pytest.mark.postgres
@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
def test_three_nodes_keep_their_promises_through_a_few_outages() -> None:
    several = ["--nodes", "3", "--kills", "2", "--window", "8"]
    table = run("kills", *several, "--outages", "kill,promotion", "--seed", "1")
    assert figure(table, "violations:") == 0
    for kind in ("a node killed", "a stand-by promoted"):
        assert figure(table, kind) == 1
    assert figure(table, "stanzas answered") > 0
    assert figure(table, "missing at the endpoint") == 0


@pytest.mark.skipif(network.missing() is not None, reason=str(network.missing()))
def test_a_node_that_was_cut_from_the_server_goes_on() -> None:
    several = ["--nodes", "1", "--journal", "sqlite", "--kills", "1", "--window", "4"]
    cut = ["--outages", "cut_server", "--freeze-s", "1", "2"]
    table = run("kills", *several, *cut, "--seed", "1")
    assert figure(table, "violations:") == 0
    assert figure(table, "a node cut from Prosody") == 1
    [posts] = [line for line in table.splitlines() if line.startswith("POSTs")]
    assert posts.split()[2] == "node1:", "the endpoint knows who has POSTed"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nodes", "2", "--journal", "sqlite"], "a journal of SQLite belongs to one node"),
        (["--journal", "sqlite", "--outages", "kill,crash"], "cut_server: crash"),
    ],
)
def test_what_a_journal_cannot_have_is_told(arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "tests.bench", "kills", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr


def test_a_journal_is_delivered_after_a_restart() -> None:
    table = run("restart", "--pending", "300", "--down-s", "0.5")
    assert figure(table, "violations:") == 0
