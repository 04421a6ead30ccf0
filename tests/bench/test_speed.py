"""The speed benchmark runs: table, JSON and figure come out. What it measures is not looked at."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import nginx
from tests.servers import prosody

MISSING = prosody.missing() or nginx.missing()
pytestmark = [
    pytest.mark.prosody,
    pytest.mark.nginx,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]
ROOT = Path(__file__).parents[2]


def test_table_json_and_figure(tmp_path: Path) -> None:
    written, figure = tmp_path / "speed.json", tmp_path / "speed.svg"
    command = [sys.executable, "-m", "tests.bench", "speed", "--contestants", "bridge,echo"]
    command += ["--window", "4", "--rounds", "1", "--seconds", "1"]
    command += ["--json", str(written), "--svg", str(figure)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fast W=4" in done.stdout

    data = json.loads(written.read_bytes())
    assert [trial["contestant"] for trial in data["trials"]] == ["bridge", "echo"]
    for trial in data["trials"]:
        result = trial["result"]
        assert result["replies"] > 0
        assert not result["errors"] + result["lost"] + result["stray"]
    assert ET.parse(figure).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_what_it_would_run_is_in_its_help() -> None:
    command = [sys.executable, "-m", "tests.bench", "speed", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "mod_component_http" in told
    assert "slow W=256 cold" in told
