"""Signals that come before the daemon runs, while modules are imported or the journal is opened."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[3]
MODULES: Final = (
    "bridge.cli.main",
    "click",
    "bridge.cli.run",
    "trio",
    "bridge.daemon.daemon",
    "bridge.journal.sqlite.store",  # the journal is opened next
)
PROGRAM: Final = """
import os, sys

class Signaller:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            for number in NUMBERS:
                os.kill(os.getpid(), number)

sys.meta_path.insert(0, Signaller())
from bridge.cli import main
main()
"""
FLAGS: Final = (
    *("run", "--component", "bot.x", "--server", "127.0.0.1:1"),
    *("--post-url", "http://127.0.0.1:1/", "--log-format", "json"),
)


@contextmanager
def started(
    module: str, *numbers: signal.Signals, state: Path
) -> Iterator["subprocess.Popen[str]"]:
    """Start a daemon to which signals come when it imports `module`."""
    values = f"MODULE, NUMBERS = {module!r}, {[int(one) for one in numbers]}"
    with subprocess.Popen(
        [sys.executable, "-c", f"{values}\n{PROGRAM}", *FLAGS, "--state-dir", str(state)],
        cwd=ROOT,
        env={**os.environ, "XMPP_BRIDGE_SECRET": "s3cret"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def events(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Yield the events that it logs."""
    assert process.stderr is not None
    for line in process.stderr:
        entry: dict[str, Any] = json.loads(line)
        yield entry["event"]


@pytest.mark.parametrize("module", MODULES)
def test_a_sigterm_ends_it_in_order_once_it_runs(module: str, tmp_path: Path) -> None:
    with started(module, signal.SIGTERM, signal.SIGTERM, state=tmp_path) as process:
        found = list(events(process))
    assert process.returncode == 0
    assert (found.count("stopping"), found[-1]) == (1, "stopped")


@pytest.mark.parametrize("module", MODULES)
def test_a_sighup_reloads_once_it_runs(module: str, tmp_path: Path) -> None:
    with started(module, signal.SIGHUP, state=tmp_path) as process:
        told = events(process)
        wanted = {"cannot attach", "there is no configuration file to read again"}
        while wanted:
            wanted.discard(next(told))
        process.terminate()
        assert [*told][-1] == "stopped"
    assert process.returncode == 0


def test_only_run_keeps_signals() -> None:
    """Another command has nothing to end in order."""
    with subprocess.Popen(
        [sys.executable, "-c", f"MODULE, NUMBERS = 'click', [15]\n{PROGRAM}", "--version"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as process:
        pass
    assert process.returncode == -signal.SIGTERM
