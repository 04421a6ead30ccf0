"""A server under test as a subprocess on loopback: ports, readiness, signals, the tail of its log.

Invariants: both ports belong to the object from its creation to the end of its context, so that a
server comes back where it was; outside `start`, `_process` is a process that came up, or None.
What a given server is configured with, and how it is called, is its own module's matter.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOPBACK = "127.0.0.1"
START_S = 60.0
STOP_S = 15.0
POLL_S = 0.02
TAIL_BYTES = 4000


class ServerFailed(Exception):
    """The server did not come up; the message ends with the tail of its log."""


class Server(ABC):
    """One server process with a component port and a client port, in a directory of its own.

    `directory` is the parent of that directory. The settings are read at each start, so that a
    test may change `components` between `stop` and `start`. Leaving the context kills the process.
    """

    name: ClassVar[str]
    host: ClassVar[str] = "localhost"

    def __init__(
        self,
        directory: Path,
        components: Mapping[str, str] | None,
        users: Mapping[str, str] | None,
        muc: str | None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=directory))
        self.log = self.directory / f"{self.name}.log"
        self.components = dict(components or {})
        self.users = dict(users or {})
        self.muc = muc
        self._reserved = [reserve_port(), reserve_port()]
        self.component_port: int
        self.c2s_port: int
        self.component_port, self.c2s_port = (held.getsockname()[1] for held in self._reserved)
        self._process: trio.Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        finally:
            if self._process is None:
                self._release()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.kill()
        finally:
            self._release()

    def _release(self) -> None:
        for held in self._reserved:
            held.close()

    @abstractmethod
    def _configure(self) -> None:
        """Write the files that the server reads."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server's command line, in the foreground."""

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _ready_file(self) -> Path | None:
        """A file that the server makes when it is up, where its ports alone do not tell."""
        return None

    async def start(self) -> None:
        """Start the server and return when both ports accept.

        Raises: ServerFailed when it exits or is not up within START_S. No process is left behind
        by that, nor by a cancellation.
        """
        assert self._process is None, f"{self.name} runs already"
        self._configure()
        if (ready_file := self._ready_file()) is not None:
            ready_file.unlink(missing_ok=True)
        with _append(self.log) as log:
            process = await trio.lowlevel.open_process(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **self._environment()},
                start_new_session=True,  # Ctrl-C is for pytest alone
            )
        try:
            with trio.move_on_after(START_S) as scope:
                await self._up(process)
                self._process = process
        finally:
            if self._process is None:
                await _kill(process)
        if scope.cancelled_caught:
            raise self._failed(f"is not up after {START_S} s")

    async def stop(self) -> None:
        """Send SIGTERM and wait for the end; SIGKILL after STOP_S. Nothing when it is stopped."""
        if (process := self._process) is None:
            return
        try:
            process.terminate()
            with trio.move_on_after(STOP_S):
                await process.wait()
        finally:
            await _kill(process)
            self._process = None

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end. Nothing when it is stopped."""
        if (process := self._process) is not None:
            self._process = None
            await _kill(process)

    async def restart(self) -> None:
        """Stop and start: the same ports, the same stored data."""
        await self.stop()
        await self.start()

    async def _up(self, process: trio.Process) -> None:
        ready_file = self._ready_file()
        while True:
            if process.poll() is not None:
                raise self._failed(f"exited with {process.returncode} while it started")
            if (
                (ready_file is None or ready_file.exists())
                and await accepts(self.component_port)
                and await accepts(self.c2s_port)
            ):
                return
            await trio.sleep(POLL_S)

    def _failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self.name} {what}; {self.log} ends with:\n{tail(self.log)}")


def reserve_port() -> socket.socket:
    """Bind a free port of 127.0.0.1 and hold it without listening.

    While the socket is open, the kernel picks the port neither for an outgoing connection nor for
    a `bind` to port 0 without SO_REUSEADDR; a server that binds it with SO_REUSEADDR, as Prosody
    and ejabberd do, gets it.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.bind((LOOPBACK, 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


async def accepts(port: int) -> bool:
    """Whether something on 127.0.0.1 accepts a connection to `port`."""
    try:
        stream = await trio.open_tcp_stream(LOOPBACK, port)
    except OSError:
        return False
    await stream.aclose()
    return True


def tail(log: Path) -> str:
    """The last TAIL_BYTES of a log."""
    return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace") if log.exists() else "(no log)"


def write(path: Path, text: str) -> None:
    """Write `text`, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _append(log: Path) -> BinaryIO:
    return log.open("ab")


async def _kill(process: trio.Process) -> None:
    """Kill the process and what it started, which share a session."""
    with trio.move_on_after(STOP_S) as scope:
        scope.shield = True
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
