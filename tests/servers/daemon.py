"""The daemon under test as a process, by its command, in a directory of its own.

Its log is read from a file of JSON lines. Leaving the context stops it with SIGTERM, unless it has
ended before, and fails where the log holds anything that a daemon must never say.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

import bridge
from tests.servers.process import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

POLL_S: Final = 0.02
LOG_S: Final = 60.0
END_S: Final = 60.0
SHOWN_LINES: Final = 30

Line = dict[str, Any]
Table = dict[str, Any]


class Daemon:
    """A started daemon; see `run_daemon` for its life."""

    def __init__(self, process: trio.Process, log: Path, file: Path | None = None) -> None:
        """`file` is its configuration."""
        self.process = process
        self._log = log
        self._file = file

    @property
    def lines(self) -> list[Line]:
        """The log so far. Raises: ValueError for a line that is no JSON, such as a traceback."""
        text = self._log.read_text(encoding="utf-8")
        whole, _, _ = text.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def logged(self, event: str) -> list[Line]:
        """The lines of that event."""
        return [line for line in self.lines if line["event"] == event]

    async def wait_logged(self, event: str, count: int = 1, timeout_s: float = LOG_S) -> None:
        """Wait until the log has `count` lines of that event.

        Raises: trio.TooSlowError; AssertionError when the daemon ends before.
        """
        await self.wait_until(
            lambda: len(self.logged(event)) >= count, timeout_s, f"{count} of {event!r}"
        )

    async def wait_until(
        self, predicate: Callable[[], bool], timeout_s: float = LOG_S, what: str = "the daemon"
    ) -> None:
        """Wait until `predicate`, which is asked again and again, holds; errors as above."""
        with trio.move_on_after(timeout_s):
            while True:
                ended = self.process.poll() is not None
                if predicate():
                    return
                assert not ended, f"{what}: exited with {self.process.returncode}\n{self.tail()}"
                await trio.sleep(POLL_S)
        raise trio.TooSlowError(f"{what}: not in {timeout_s} s\n{self.tail()}")

    async def wait_ended(self, timeout_s: float = END_S) -> int:
        """Wait for the end of the process and give its exit code. Raises: trio.TooSlowError."""
        with trio.move_on_after(timeout_s):
            return await self.process.wait()
        raise trio.TooSlowError(f"still runs after {timeout_s} s\n{self.tail()}")

    async def terminate(self) -> tuple[int, float]:
        """Send SIGTERM and give the exit code and the seconds it took."""
        started = trio.current_time()
        self.signal(signal.SIGTERM)
        code = await self.wait_ended()
        return code, trio.current_time() - started

    async def reload(self, settings: Table | str) -> Line:
        """Have it read other settings, or a file's text, and give what it says in the end."""
        assert self._file is not None
        text = settings if isinstance(settings, str) else toml(settings)
        self._file.write_text(text, encoding="utf-8")
        before = len(self.lines)

        def ends() -> list[Line]:
            events = ("configuration read again", "configuration not changed")
            return [line for line in self.lines[before:] if line["event"] in events]

        self.signal(signal.SIGHUP)
        await self.wait_until(lambda: bool(ends()), what="the end of a reload")
        return ends()[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def rss_bytes(self) -> int:
        """Resident memory."""
        return self._status("VmRSS") * 1024

    @property
    def peak_rss_bytes(self) -> int:
        """The most resident memory that there ever was."""
        return self._status("VmHWM") * 1024

    @property
    def thread_count(self) -> int:
        return self._status("Threads")

    @property
    def fd_count(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _status(self, key: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0])
        raise AssertionError(f"no {key} in /proc")

    def tail(self) -> str:
        """The end of the log, for a person."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return f"{self._log} ends with:\n" + "\n".join(text.splitlines()[-SHOWN_LINES:])

    def check_log(self) -> None:
        """Fail where the log tells of a fault in the bridge itself."""
        for line in self.lines:
            assert "exception" not in line, line["exception"]


@asynccontextmanager
async def run_daemon(
    directory: Path,
    settings: Table,
    *,
    wait_attached: bool = True,
    log_level: str = "info",
    state_dir: Path | None = None,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Daemon]:
    """Start the daemon with `settings` as its file, and wait until each component is attached.

    Its state directory is its own, unless `state_dir` is one that others have had before it;
    `arguments` are further ones of `run`.
    At the end it is stopped with SIGTERM, and killed where that does not help.
    Raises: trio.TooSlowError; AssertionError when it ends before that, or by `Daemon.check_log`.
    """
    place = Path(tempfile.mkdtemp(prefix="daemon-", dir=directory))
    file, log = place / "bridge.toml", place / "log"
    file.write_text(toml(settings), encoding="utf-8")
    file.chmod(0o600)
    command = [sys.executable, "-m", "bridge", "run", str(file)]
    command += ["--state-dir", str(state_dir or place / "state")]
    command += ["--log-format", "json", "--log-level", log_level, *arguments]
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(Path(bridge.__file__).parents[1])},
            start_new_session=True,  # Ctrl-C is for pytest alone
        )
    daemon = Daemon(process, log, file)
    try:
        if wait_attached:
            await daemon.wait_logged("attached", len(settings["component"]))
        yield daemon
        if process.poll() is None:
            await daemon.terminate()
    except Exception as error:
        error.add_note(daemon.tail())
        raise
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            if process.poll() is None:
                process.kill()
            await process.wait()
    daemon.check_log()


def settings_for(
    component_port: int, components: Mapping[str, Table], **tables: Table
) -> dict[str, Any]:
    """A configuration: its components by domain, and further tables such as `http`."""
    return {"server": f"{LOOPBACK}:{component_port}", "component": dict(components), **tables}


def toml(table: Table, path: str = "", heading: str = "[{}]") -> str:
    """`table` as TOML: what JSON and TOML write alike, and tables."""
    inner = {name: value for name, value in table.items() if isinstance(value, dict)}
    arrays = {name: value for name, value in table.items() if _is_array_of_tables(value)}
    lines = [heading.format(path)] if path else []
    for name, value in table.items():
        if name not in inner and name not in arrays:
            lines.append(f"{json.dumps(name)} = {json.dumps(value, ensure_ascii=False)}")
    for name, value in inner.items():
        lines.append(toml(value, f"{path}.{json.dumps(name)}".lstrip(".")))
    for name, values in arrays.items():
        key = f"{path}.{json.dumps(name)}".lstrip(".")
        lines += [toml(value, key, "[[{}]]") for value in values]
    return "\n".join(lines) + "\n"


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
