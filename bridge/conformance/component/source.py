"""Where a component's connections come from: a command that is run, or a start by hand.

Invariants: at most one process of the component runs at a time. Each start has its own port, so a
late connection of an earlier process is never taken for one of the current process.
"""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

import trio
from attrs import frozen

from bridge.conformance.report import NothingTried

HOST: Final = "127.0.0.1"
SECRET: Final = "Schlüssel-Ключ-鍵-🔑"
"""Not Latin-1: some components hash the secret as Latin-1 (S5)."""
_OURS: Final = (signal.SIGTERM, signal.SIGKILL)
_SHELL: Final = 128
"""A shell exits with this and the number of the signal that killed its command."""
_CRASHES: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
_POLL_S: Final = 0.03
_TAIL_BYTES: Final = 2000


@frozen
class Patience:
    """Waiting times, all in seconds."""

    come_s: float = 10
    """For a component that was just started to connect."""
    first_s: float = 600
    """For a component that is started by hand to connect the first time."""
    again_s: float = 150
    """For it to reconnect: after a conflict, it may stay away for two minutes."""
    return_s: float = 1.2
    """For a started component to reconnect by itself, before it is restarted."""
    answer_s: float = 5
    settle_s: float = 0.25
    """For stanzas that must not come, after an answer which shows that everything was read; and for
    a process to end after its connection."""
    hold_s: float = 1
    count_s: float = 3.5
    """For counting reconnects, of which there should be few."""
    at_once_s: float = 0.5
    """Less than this between the end of a stream and a reconnect is at once."""
    flood_s: float = 8
    restart_s: float = 15
    quiet_s: float = 5
    """For pending stanzas to arrive, before the silence is measured."""
    silence_s: float = 125
    stop_s: float = 2
    """After SIGTERM, before SIGKILL."""


class Absent(NothingTried):
    """The component did not connect."""


class Source(Protocol):
    """A source of connections from the component."""

    can_restart: bool

    @property
    def exit_code(self) -> int | None: ...

    @property
    def crash(self) -> str:
        """How the process was killed by a signal that is not ours; "" if it was not."""

    async def ends(self, within_s: float) -> None:
        """Wait for the end of the process."""

    async def start(self, secret: str) -> None:
        """Start or restart the component, or start to wait for it.

        Raises:
            Absent: if it cannot be started.
        """

    async def accept(self, within_s: float) -> trio.SocketStream | None:
        """Return the next connection; None if none comes in time or the process has ended."""

    async def terminate(self) -> None: ...

    async def stop(self) -> None: ...

    def absence(self, within_s: float) -> str:
        """Return a sentence for a person: the component did not connect."""


class Launched:
    """A component that is started with a command, each time on a new port."""

    can_restart = True

    def __init__(
        self, command: tuple[str, ...], directory: Path, domain: str, patience: Patience
    ) -> None:
        self._command = command
        self._directory = directory
        self._domain = domain
        self._patience = patience
        self._log = directory / "output"
        self._process: trio.Process | None = None
        self._terminated = False
        self._listener: trio.SocketListener | None = None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    @property
    def crash(self) -> str:
        number = _signal_in(self.exit_code)
        if not number or (self._terminated and number in _OURS):
            return ""
        return f"killed by {_name_of(number)}"

    async def ends(self, within_s: float) -> None:
        with trio.move_on_after(within_s):
            if self._process is not None:
                await self._process.wait()

    async def start(self, secret: str) -> None:
        """Stop the running process, if any, and start a new one. Raises: Absent."""
        await self.stop()
        [self._listener] = await trio.open_tcp_listeners(0, host=HOST)
        port = self._listener.socket.getsockname()[1]
        file = self._directory / "secret"
        file.touch(mode=0o600)
        file.write_text(secret, encoding="utf-8")
        words = {
            "{host}": HOST,
            "{port}": str(port),
            "{domain}": self._domain,
            "{secret_file}": str(file),
        }
        names = {"XMPP_HOST": HOST, "XMPP_PORT": str(port), "XMPP_DOMAIN": self._domain}
        self._terminated = False
        try:
            with self._log.open("wb") as log:
                self._process = await trio.lowlevel.open_process(
                    [_filled(word, words) for word in self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **names, "XMPP_SECRET": secret},
                    start_new_session=True,  # so that its child processes can be stopped, too
                )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise Absent(f"{self._command[0]} cannot be started: {why}.") from None

    async def accept(self, within_s: float) -> trio.SocketStream | None:
        if self._listener is None:
            return None
        with trio.move_on_after(within_s):
            while True:
                ended = self.exit_code is not None
                with trio.move_on_after(_POLL_S):
                    return await self._listener.accept()
                if ended:  # and no connection was left in the backlog
                    return None
        return None

    async def terminate(self) -> None:
        """Send SIGTERM to the process and its children."""
        self._signal(signal.SIGTERM)
        await trio.lowlevel.checkpoint()

    async def stop(self) -> None:
        """End the process, with SIGKILL if SIGTERM does not, and close its port."""
        with trio.CancelScope(shield=True):
            if self._process is not None:
                await self.terminate()
                with trio.move_on_after(self._patience.stop_s):
                    await self._process.wait()
                self._signal(signal.SIGKILL)
                with trio.move_on_after(self._patience.stop_s):
                    await self._process.wait()
                self._process = None
            if self._listener is not None:
                await self._listener.aclose()
                self._listener = None

    def absence(self, within_s: float) -> str:
        command, code = shlex.join(self._command), self.exit_code
        if code is None:
            what = f"{command} did not connect to {HOST} within {within_s:g} s"
        elif self.crash:
            what = f"{command} was {self.crash} before it connected"
        else:
            what = f"{command} exited with code {code} before it connected"
        return f"{what}. {self._tail()}"

    def _tail(self) -> str:
        output = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return f"Its output ends with:\n{output}" if output else "It printed nothing."

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._terminated = True
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                return


class Awaited:
    """A component that is started by hand and reconnects by itself. Nothing here stops it."""

    can_restart = False
    exit_code = None
    crash = ""

    def __init__(self, port: int, directory: Path, domain: str) -> None:
        self._port = port
        self._directory = directory
        self._domain = domain
        self._listener: trio.SocketListener | None = None

    async def start(self, secret: str) -> None:
        """Listen, and print the address. Raises: Absent, if the port is in use."""
        if self._listener is not None:
            return
        file = self._directory / "secret"
        file.touch(mode=0o600)
        file.write_text(secret, encoding="utf-8")
        try:
            [self._listener] = await trio.open_tcp_listeners(self._port, host=HOST)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise Absent(f"Cannot listen on {HOST}:{self._port}: {why}.") from None
        print(
            f"Waiting on {HOST}:{self._port} for the component {self._domain};"
            f" its secret is in {file}",
            file=sys.stderr,
        )

    async def accept(self, within_s: float) -> trio.SocketStream | None:
        if self._listener is not None:
            with trio.move_on_after(within_s):
                return await self._listener.accept()
        return None

    async def ends(self, within_s: float) -> None:
        await trio.lowlevel.checkpoint()

    async def terminate(self) -> None:
        await trio.lowlevel.checkpoint()

    async def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            await self._listener.aclose()
            self._listener = None

    def absence(self, within_s: float) -> str:
        return f"The component did not connect to {HOST}:{self._port} within {within_s:g} s."


def _signal_in(code: int | None) -> int:
    """Return the number of the signal that an exit code tells of, also through a shell; else 0."""
    if code is None:
        return 0
    return -code if code < 0 else code - _SHELL if code - _SHELL in _CRASHES else 0


def _name_of(number: int) -> str:
    known = number in {*signal.Signals}
    return signal.Signals(number).name if known else f"signal {number}"


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word
