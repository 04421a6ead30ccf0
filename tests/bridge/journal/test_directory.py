"""Where the state is, and that one process has it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve
from tests.bridge.unprivileged import open_directory, unprivileged


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ("/given", {"STATE_DIRECTORY": "/systemd"}, "/given"),
        ("given", {}, "given"),
        (None, {"STATE_DIRECTORY": "/systemd", "XDG_STATE_HOME": "/xdg"}, "/systemd"),
        (None, {"STATE_DIRECTORY": "/first:/second"}, "/first"),
        (None, {"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/xdg"}, "/xdg/xmpp-bridge"),
        (None, {"XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/xmpp-bridge"),
        (None, {"XDG_STATE_HOME": "xdg", "HOME": "/me"}, "/me/.local/state/xmpp-bridge"),
        (None, {"XDG_STATE_HOME": "", "HOME": "/me"}, "/me/.local/state/xmpp-bridge"),
    ],
)
def test_the_directory_is_the_first_that_is_said(
    given: str | None, environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert resolve(Path(given) if given else None) == Path(expected)


def test_without_a_home_the_option_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no home in passwd either
    with pytest.raises(StateDirectoryError, match="use --state-dir"):
        resolve(None)


def test_the_lock_makes_the_directory_and_names_its_owner(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "a" / "state")
    with directory.lock():
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(directory.lock_file.stat().st_mode) == 0o600
        assert directory.lock_file.read_text() == f"{os.getpid()}\n"
    assert directory.lock_file.read_text() == ""
    assert directory.journal_file == tmp_path / "a" / "state" / "journal.db"
    assert directory.control_socket == tmp_path / "a" / "state" / "control.sock"
    with directory.lock():
        pass


HOLD: Final = """
import sys
from pathlib import Path
from bridge.journal.directory import StateDirectory
with StateDirectory(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_that_has_it_is_named(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StateDirectoryError) as caught, directory.lock():
            pass
        assert str(caught.value) == (
            f"cannot use the state directory {tmp_path}: process {other.pid} has it; "
            "stop that process, or use another directory with --state-dir"
        )
        other.kill()
    with directory.lock():  # whoever was killed has it no more
        assert directory.lock_file.read_text() == f"{os.getpid()}\n"


def test_an_owner_that_has_not_said_who_it_is_is_another_process(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    with directory.lock():
        directory.lock_file.write_text("")
        with pytest.raises(StateDirectoryError, match="another process has it"), directory.lock():
            pass


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    for path in (tmp_path / "state", tmp_path / "state" / "deeper"):
        with pytest.raises(StateDirectoryError, match=f"{path}.*director.*--state-dir"):
            StateDirectory(path).make()


def test_what_cannot_be_written_is_named() -> None:
    with open_directory() as path:
        path.chmod(0o555)
        with unprivileged():
            with pytest.raises(StateDirectoryError, match="cannot be made"):
                StateDirectory(path / "deeper").make()
            with (
                pytest.raises(StateDirectoryError, match="cannot be written"),
                StateDirectory(path).lock(),
            ):
                pass
