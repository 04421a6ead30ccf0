"""PostgreSQL on loopback, alone or with a synchronous stand-by that takes its place.

PostgreSQL refuses to run as root, so that its directory is not the test's, which root alone may
enter: it lies beside it, belongs to Debian's user `postgres`, and is removed at the end. Whoever
connects is believed; the role `bridge` owns everything.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import trio

from tests.servers.process import LOOPBACK, ServerFailed, reserve_port, tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEBIAN: Final = Path("/usr/lib/postgresql")
ROLE: Final = "bridge"
DATABASE: Final = "postgres"
USER: Final = "postgres"
START_S: Final = 60.0
STOP_S: Final = 15.0
POLL_S: Final = 0.05
SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "max_wal_senders": "4",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "250ms",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "log_line_prefix": "%m [%p] ",
}


def missing() -> str | None:
    """Why PostgreSQL cannot be started here, or None."""
    return None if _programs() is not None else "postgresql is not installed"


def _programs() -> Path | None:
    """The programs of the newest version, which Debian keeps out of the PATH."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """One server with an empty database, or a copy of `of`, which follows it as a stand-by.

    It keeps its port from its creation to the end of its context, so that it comes back where it
    was. `settings` are further lines of its configuration. Clients in `network` may connect, too.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        of: Postgres | None = None,
        network: str | None = None,
    ) -> None:
        programs = _programs()
        assert programs is not None, missing()
        self._programs = programs
        self._of = of
        self._settings = {**SETTINGS, **(settings or {})}
        self._network = network
        if network is not None:
            self._settings["listen_addresses"] = "*"
        self._reserved = reserve_port()
        self.port: int = self._reserved.getsockname()[1]
        self._place = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self._place / "data"
        self.log = self._place / "log"
        self._process: trio.Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._create()
            await self.start()
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._remove()

    async def _remove(self) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self.crash()
            finally:
                self._reserved.close()
                shutil.rmtree(self._place)

    @property
    def url(self) -> str:
        """As `[journal] url` takes it."""
        return f"postgresql://{ROLE}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def is_up(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process from which its sessions descend, which runs."""
        assert self._process is not None, "PostgreSQL does not run"
        return self._process.pid

    async def start(self) -> None:
        """Start it, and return when it answers.

        Raises: ServerFailed when it exits or does not answer within START_S.
        """
        assert self._process is None, "PostgreSQL runs already"
        command = ["postgres", "-D", str(self._data), "-k", str(self._place), "-p", str(self.port)]
        with self.log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                self._program(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest alone
                **self._identity(),
            )
        with trio.move_on_after(START_S):
            while True:
                if (code := self._process.poll()) is not None:
                    self._process = None
                    raise self._failed(f"exited with {code} while it started")
                if await self._is_ready():
                    return
                await trio.sleep(POLL_S)
        await self.crash()
        raise self._failed(f"does not answer after {START_S} s")

    async def stop(self) -> None:
        """Stop it as an operator does: sessions are ended, and all is written."""
        await self._end(signal.SIGINT)

    async def crash(self) -> None:
        """Stop it as `pg_ctl stop -m immediate` does: what was not committed is gone, and the next
        start recovers. Nothing when it is stopped.
        """
        await self._end(signal.SIGQUIT)

    async def promote(self) -> None:
        """Make a stand-by accept writes."""
        await self._run(["pg_ctl", "-D", str(self._data), "-w", "promote"])

    async def copy(self, origin: Postgres) -> None:
        """Replace all that it has by a copy of `origin`, and follow that as a stand-by."""
        await self.crash()
        shutil.rmtree(self._data)
        self._of = origin
        await self._create()
        await self.start()

    async def psql(self, *statements: str) -> str:
        """Run each statement in a transaction of its own; return the rows, unaligned."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url]
        for statement in statements:
            command += ["-c", statement]
        return await self._run(command)

    async def _create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._place, USER, USER)
        data = str(self._data)
        if self._of is None:
            await self._run(
                ["initdb", "-D", data, "-A", "trust", "-U", ROLE, "-E", "UTF8", "--no-locale", "-N"]
            )
            if self._network is not None:
                with (self._data / "pg_hba.conf").open("a") as file:
                    file.write(f"host all all {self._network} trust\n")
        else:
            await self._run(
                ["pg_basebackup", "-D", data, "-R", "-c", "fast", "-N", "-d", self._of.url]
            )
        with (self._data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())

    async def _is_ready(self) -> bool:
        command = ["pg_isready", "-q", "-h", LOOPBACK, "-p", str(self.port), "-d", DATABASE]
        done = await trio.run_process(self._program(command), check=False)
        return done.returncode == 0

    async def _run(self, command: Sequence[str]) -> str:
        """Run one of its programs as the user it runs as. Raises: ServerFailed."""
        done = await trio.run_process(
            self._program(command),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=self._place,
            **self._identity(),
        )
        if done.returncode:
            raise ServerFailed(f"{command[0]}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def _program(self, command: Sequence[str]) -> list[str]:
        return [str(self._programs / command[0]), *command[1:]]

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": USER, "group": USER, "extra_groups": []}

    async def _end(self, number: signal.Signals) -> None:
        if (process := self._process) is None:
            return
        process.send_signal(number)
        try:
            with trio.move_on_after(STOP_S):
                await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                if process.poll() is None:
                    process.kill()  # its sessions notice that, and end
                await process.wait()
            self._process = None

    def _failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"PostgreSQL {what}; {self.log} ends with:\n{tail(self.log)}")


class ReplicatedPostgres:
    """A primary, and a stand-by without which it confirms no commit, so that either may be lost.

    Each has a port of its own for good: the roles change, the URL names both.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, network: str | None = None
    ) -> None:
        self._settings, self._network = settings, network
        self.primary = Postgres(settings, network=network)
        self.standby: Postgres | None = None

    async def __aenter__(self) -> Self:
        await self.primary.__aenter__()
        try:
            await self.add_standby()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in (self.standby, self.primary):
            if server is not None:
                await server.__aexit__()

    @property
    def url(self) -> str:
        """Both servers, of which libpq takes the one that accepts writes."""
        return self.url_at(LOOPBACK)

    def url_at(self, host: str) -> str:
        """The same, seen from a network where this machine has another address."""
        ports = [server.port for server in (self.primary, self.standby) if server is not None]
        hosts = ",".join(f"{host}:{port}" for port in sorted(ports))
        return f"postgresql://{ROLE}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    async def add_standby(self) -> None:
        """Copy the primary, and return when its commits wait for the copy."""
        assert self.standby is None, "there is a stand-by already"
        self.standby = await Postgres(
            self._settings, of=self.primary, network=self._network
        ).__aenter__()
        await self._await_standby()

    async def fail_over(self) -> None:
        """Lose the primary for good, and promote the stand-by; `rebuild_standby` ends that."""
        assert self.standby is not None, "there is no stand-by to promote"
        await self.primary.crash()
        await self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    async def rebuild_standby(self) -> None:
        """Make the server that was lost a stand-by, from a copy of the new primary."""
        assert self.standby is not None
        await self.standby.copy(self.primary)
        await self._await_standby()

    async def _await_standby(self) -> None:
        """Ask the primary to wait for its copy; the copy was made before, so that it, promoted,
        waits for nobody.
        """
        await self.primary.psql(
            "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"
        )
        with trio.fail_after(START_S):
            while True:
                states = await self.primary.psql("SELECT sync_state FROM pg_stat_replication")
                if states.split() == ["sync"]:
                    return
                await trio.sleep(POLL_S)
