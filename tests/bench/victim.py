"""The daemon as a process that is killed and comes back: one configuration, one state directory."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from bridge.daemon import control
from bridge.daemon.control import AskStatus
from bridge.daemon.status import DaemonStatus
from bridge.journal.directory import StateDirectory
from tests.bench.contestant import DOMAIN, ROOT, SECRET
from tests.servers.daemon import Daemon, Line, Table, settings_for, toml
from tests.servers.process import LOOPBACK

BAD_LEVELS: Final = ("error", "critical")
LEASE_S: Final = 2.0
RUN: Final = f"""\
import bridge.cli.main
from bridge.webhook import pull
pull.LEASE_S = {LEASE_S}
bridge.cli.main.main(prog_name="xmpp-bridge")
"""
"""The command, but for the lease of an event that is pulled: a killed poller's ends soon."""


class Victim:
    """`start` and then `kill` or `stop`, again and again; each life has a log of its own."""

    def __init__(
        self,
        directory: Path,
        port: int,
        url: str,
        durability: str,
        *,
        host: str = LOOPBACK,
        prefix: Sequence[str] = (),
        component: Table | None = None,
        journal: Table | None = None,
        **tables: Table,
    ) -> None:
        """`host` is where the server is, and `prefix` stands before its command. `component` and
        `journal` are further keys of these tables of its configuration, and `tables` further
        tables.
        """
        self._directory = directory
        self._config = directory / "bridge.toml"
        bot = {"component_secret": SECRET, "component_post_url": url, **(component or {})}
        journal = {"durability": durability, **(journal or {})}
        settings = settings_for(port, {DOMAIN: bot}, journal=journal, **tables)
        settings["server"] = f"{host}:{port}"
        self._prefix = prefix
        self._config.write_text(toml(settings))
        self._config.chmod(0o600)
        self.state = directory / "state"
        self.journal = StateDirectory(self.state).journal_file
        self._lives: list[Daemon] = []

    @property
    def has_started(self) -> bool:
        """Whether it was ever started."""
        return bool(self._lives)

    @property
    def daemon(self) -> Daemon:
        """The one of this life."""
        return self._lives[-1]

    async def start(self) -> None:
        """Start it, and wait for nothing."""
        log = self._directory / f"log-{len(self._lives)}"
        command = [*self._prefix, sys.executable, "-c", RUN, "run", str(self._config)]
        command += ["--log-format", "json", "--state-dir", str(self.state)]
        with log.open("wb") as output:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,  # Ctrl-C is for the benchmark alone
            )
        self._lives.append(Daemon(process, log))

    async def kill(self) -> None:
        """Kill it and wait for its end."""
        if self._lives:
            process = self.daemon.process
            if process.poll() is None:
                process.kill()
            await process.wait()

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does; `release` lets it go on."""
        os.kill(self.daemon.process.pid, signal.SIGSTOP)

    def release(self) -> None:
        os.kill(self.daemon.process.pid, signal.SIGCONT)

    async def received(self) -> int:
        """Ask it how many stanzas this life has read from its server."""
        client = await control.connect(StateDirectory(self.state).control_socket)
        try:
            status = await client.ask(AskStatus(), DaemonStatus)
        finally:
            await client.aclose()
        return sum(one.counts.received for one in status.components)

    async def stop(self) -> int:
        """Send SIGTERM and give the exit code."""
        self.daemon.signal(signal.SIGTERM)
        return await self.daemon.wait_ended()

    def complaints(self) -> list[Line]:
        """All that any of its lives has logged as an error."""
        return [line for life in self._lives for line in life.lines if line["level"] in BAD_LEVELS]
