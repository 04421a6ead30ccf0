"""The state directory: its location, and the lock that reserves it for one daemon.

It holds the journal and the control socket. The lock is a separate file, never the journal itself,
so an operator may open the journal with `sqlite3` at any time.
"""

import fcntl
import os
import platform
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from attrs import frozen

from bridge.config.journal import LABEL

_NAME: Final = "xmpp-bridge"
_NOT_IN_LABEL: Final = re.compile(r"[^a-z0-9]+")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LOCK_CONTENT: Final = re.compile(rb"[0-9]{0,10}\n?")


class StateDirectoryError(Exception):
    """The state directory cannot be used. The message names it, the cause and a remedy."""


def resolve(given: Path | None) -> Path:
    """Return the path of the state directory: `given`, else `$STATE_DIRECTORY` (systemd's; the
    first of several), else the user's state directory (XDG Base Directory Specification).

    Raises:
        StateDirectoryError: if the user has no home directory.
    """
    if given is not None:
        return given
    first, _, _ = os.environ.get("STATE_DIRECTORY", "").partition(":")
    if first:
        return Path(first)
    from platformdirs import user_state_path  # a quarter of a MB, only if it is asked

    try:
        return user_state_path(_NAME)
    except RuntimeError:
        message = "no home directory for the bridge's state; use --state-dir"
        raise StateDirectoryError(message) from None


class StateDirectoryTaken(StateDirectoryError):
    """Another process has the state directory; `owner` names it."""

    def __init__(self, message: str, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


@frozen
class StateDirectory:
    """A state directory, which `lock` creates, and the paths of the files in it."""

    path: Path

    @property
    def journal_file(self) -> Path:
        """The embedded journal."""
        return self.path / "journal.db"

    @property
    def control_socket(self) -> Path:
        """The socket through which commands talk to the daemon."""
        return self.path / "control.sock"

    @property
    def lock_file(self) -> Path:
        """The file that the daemon locks. It contains the daemon's process ID."""
        return self.path / "lock"

    def node_label(self) -> str:
        """Return the name under which this directory's process is a node of a cluster: that of the
        machine and six characters, which the file `node` keeps. It is created when it is missing.

        Raises:
            StateDirectoryError: if the file cannot be read or created, or holds something else.
        """
        file = self.path / "node"
        try:
            with suppress(FileNotFoundError):
                label = file.read_text(encoding="ascii", errors="replace").strip()
                if LABEL.fullmatch(label) is None:
                    raise self._error("its file node has no valid label", "remove that file")
                return label
            host = _NOT_IN_LABEL.sub("-", platform.node().partition(".")[0].lower()).strip("-")
            label = f"{host[:50].rstrip('-') or 'node'}-{token_hex(3)}"
            file.write_text(f"{label}\n", encoding="ascii")
        except OSError as error:
            raise self._error(f"its file node cannot be used ({error.strerror})") from error
        return label

    def make(self) -> None:
        """Create the directory with mode 0700 if it is missing.

        Raises:
            StateDirectoryError: if it cannot be created, or is not a directory.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise self._error("it is not a directory") from None
        except OSError as error:
            raise self._error(f"it cannot be made ({error.strerror})") from error

    def warning(self) -> str | None:
        """Return a warning for the operator if other users can write to the directory."""
        try:
            mode = self.path.stat().st_mode
        except OSError:
            return None
        if not mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        who = "everyone" if mode & stat.S_IWOTH else "its group"
        return f"{self.path}: {who} can replace the journal in it; run: chmod go-w {self.path}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Reserve the directory for this process. Create it if it is missing.

        Only a lock file of our own is written: not what a symbolic link leads to, and no file with
        another content (a hard link).

        Raises:
            StateDirectoryError: if another process has it, or it cannot be used.
        """
        self.make()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self.lock_file, flags, 0o600)
        except OSError as error:
            if self.lock_file.is_symlink():
                raise self._not_a_lock("a symbolic link") from None
            raise self._error(f"it cannot be written ({error.strerror})") from error
        try:
            self._lock(lock)
            yield
            with suppress(OSError):  # its disk may be gone by now
                os.ftruncate(lock, 0)
        finally:
            os.close(lock)

    def _lock(self, lock: int) -> None:
        mode = os.fstat(lock).st_mode
        if not stat.S_ISREG(mode):
            raise self._not_a_lock("not a regular file")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 20).decode(errors="replace").strip()
            process = f"process {owner}" if owner.isdecimal() else "another process"
            hint = "stop that process, or use another directory with --state-dir"
            message = str(self._error(f"{process} has it", hint))
            raise StateDirectoryTaken(message, process) from None
        except OSError as error:
            raise self._error(f"it cannot be locked ({error.strerror})") from error
        if _LOCK_CONTENT.fullmatch(os.pread(lock, 100, 0)) is None:
            raise self._not_a_lock("not a lock file: it has a content")
        if mode & _OTHERS:
            with suppress(PermissionError):  # another user's, and shared with us
                os.fchmod(lock, 0o600)
        try:
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
        except OSError as error:  # such as a full disk
            hint = "make room for it and its journal, or use another directory with --state-dir"
            raise self._error(f"it cannot be written ({error.strerror})", hint) from error

    def _not_a_lock(self, what: str) -> StateDirectoryError:
        hint = "remove it, or use another directory with --state-dir"
        return self._error(f"{self.lock_file} is {what}", hint)

    def _error(
        self, why: str, hint: str = "use one that you own with --state-dir"
    ) -> StateDirectoryError:
        return StateDirectoryError(f"cannot use the state directory {self.path}: {why}; {hint}")
