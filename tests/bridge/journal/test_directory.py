"""Where the state is, and that one process has it."""

from __future__ import annotations

import errno
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bridge.config.journal import LABEL
from bridge.config.settings import JournalSettings
from bridge.journal.directory import StateDirectory, StateDirectoryError, resolve
from bridge.journal.storage import open_storage
from tests.bridge.recorder import Recorder
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


@pytest.mark.parametrize("call", ["write", "ftruncate"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_lock_that_cannot_be_written_is_no_traceback(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    directory = StateDirectory(tmp_path / "state")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StateDirectoryError, match=os.strerror(code)), directory.lock():
            pass
    with directory.lock():  # it was not left locked
        pass


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


# --- files that are not ours


@pytest.mark.parametrize("content", [None, b"", b"4711\n", b"precious"], ids=str)
def test_a_lock_that_is_a_symbolic_link_is_refused(tmp_path: Path, content: bytes | None) -> None:
    target = tmp_path / "target"
    if content is not None:
        target.write_bytes(content)
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    directory.lock_file.symlink_to(target)
    expected = f"{directory.lock_file} is a symbolic link; remove it, or use another directory"
    with pytest.raises(StateDirectoryError, match=expected), directory.lock():
        pass
    assert (target.read_bytes() if target.exists() else None) == content


@pytest.mark.parametrize("content", [b"precious", b"4711 ", b"4711\n4712\n", b"\0" * 200])
def test_a_lock_with_another_content_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "target"
    target.write_bytes(content)
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    directory.lock_file.hardlink_to(target)
    with pytest.raises(StateDirectoryError, match="is not a lock file"), directory.lock():
        pass
    assert target.read_bytes() == content


def test_a_lock_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    os.mkfifo(directory.lock_file)
    with pytest.raises(StateDirectoryError, match="is not a regular file"), directory.lock():
        pass


@pytest.mark.parametrize("content", ["", "4711\n", "4711"])
def test_a_lock_of_a_killed_process_becomes_private(tmp_path: Path, content: str) -> None:
    directory = StateDirectory(tmp_path)
    directory.lock_file.write_text(content)
    directory.lock_file.chmod(0o644)
    with directory.lock():
        assert stat.S_IMODE(directory.lock_file.stat().st_mode) == 0o600
        assert directory.lock_file.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    ("mode", "who"),
    [
        (0o700, None),
        (0o755, None),
        (0o500, None),
        (0o770, "its group"),
        (0o720, "its group"),
        (0o777, "everyone"),
        (0o702, "everyone"),
        (0o1777, "everyone"),
    ],
)
def test_a_directory_that_others_can_write_to_is_warned_about(
    tmp_path: Path, mode: int, who: str | None
) -> None:
    tmp_path.chmod(mode)
    warning = StateDirectory(tmp_path).warning()
    told = f"{tmp_path}: {who} can replace the journal in it; run: chmod go-w {tmp_path}"
    assert warning == (None if who is None else told)
    tmp_path.chmod(0o700)


def test_the_warning_is_logged(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    recorder = Recorder()
    with recorder.installed(), open_storage(StateDirectory(tmp_path), JournalSettings()):
        pass
    assert [line["event"] for line in recorder.lines] == ["state directory"]
    assert StateDirectory(tmp_path / "none").warning() is None


# --- a node's label


@pytest.mark.parametrize(
    ("host", "begin"),
    [
        ("Mail-1.example.org", "mail-1-"),
        ("", "node-"),
        ("_x_", "x-"),
        ("b\u00fccher", "b-cher-"),
        ("a" * 70, "a" * 50 + "-"),
    ],
)
def test_a_label_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, begin: str
) -> None:
    monkeypatch.setattr(platform, "node", lambda: host)
    label = StateDirectory(tmp_path).node_label()
    assert label.startswith(begin)
    assert len(label) == len(begin) + 6
    assert LABEL.fullmatch(label)
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert StateDirectory(tmp_path).node_label() == label


@pytest.mark.parametrize("content", ["", "two words", "a/b", "\u00e4", "x" * 64])
def test_a_label_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "node").write_text(content)
    with pytest.raises(StateDirectoryError, match="node has no valid label; remove that file"):
        StateDirectory(tmp_path).node_label()


def test_a_label_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with pytest.raises(StateDirectoryError, match="its file node cannot be used"):
        StateDirectory(tmp_path).node_label()
