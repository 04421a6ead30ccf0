"""The benchmark of several nodes runs. What it measures is not looked at."""

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


def test_one_node_on_sqlite_is_measured() -> None:
    command = [sys.executable, "-m", "tests.bench", "scale", "--journal", "sqlite"]
    command += ["--window", "4", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = [line for line in done.stdout.splitlines() if "sqlite" in line]
    _, journal, nodes, rate, *_, errors, lost, _ = (cell.strip() for cell in row.split("│"))
    assert (journal, nodes, errors, lost) == ("sqlite", "1", "0", "0")
    assert int(rate) > 0
