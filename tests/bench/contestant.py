"""Who answers: each turns a message that Prosody has for DOMAIN into a reply.

Some are processes of their own, attached to Prosody as components; some are modules in Prosody.
"""

import os
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from tests.servers.daemon import settings_for, toml
from tests.servers.process import tail
from tests.servers.prosody import quoted

DOMAIN: Final = "bot.localhost"
SECRET: Final = "s3cret"
ATTACHED: Final = re.compile(rb"\battached\b")
START_S: Final = 20.0
STOP_S: Final = 10.0
POLL_S: Final = 0.005
SHOWN_LINES: Final = 8
MOST_IN_FLIGHT: Final = 1000  # the default, 256, would be the bound where the endpoint is slow
ROOT: Final = Path(__file__).parents[2]


class NotStarted(Exception):
    """The contestant did not come up; the message says why."""


@dataclass(frozen=True)
class Site:
    """Where a contestant runs: a directory of its own, Prosody's port, the endpoint, and a database
    for those that need one.
    """

    directory: Path
    port: int
    url: str
    database_url: str = ""


@dataclass(frozen=True)
class Contestant(ABC):
    """`about` is its line in the help."""

    name: str
    about: str


class Attached(Contestant):
    """A process of its own."""

    @property
    def needs_database(self) -> bool:
        return False

    @abstractmethod
    def command(self, site: Site) -> Sequence[str]:
        """Its command line; it says `attached` once it is."""


class Bridge(Attached):
    """This project's daemon; its journal's durability is what its name ends with, or it is on
    PostgreSQL, or it is off, and there is a capture, in the format of the name.
    """

    @property
    def needs_database(self) -> bool:
        return self.name == "bridge-postgres"

    def command(self, site: Site) -> Sequence[str]:
        what, _, format = self.name.removeprefix("bridge").removeprefix("-").partition("-")
        durability = what if what in ("process", "power") else "off"
        journal = {"durability": durability}
        if self.needs_database:
            durability = "power"
            journal = {"durability": durability, "url": site.database_url}
        component = {"component_secret": SECRET, "component_post_url": site.url}
        config = site.directory / "bridge.toml"
        http = {"max_in_flight": MOST_IN_FLIGHT}  # the others have no bound
        settings = settings_for(site.port, {DOMAIN: component}, journal=journal, http=http)
        config.write_text(toml(settings))
        config.chmod(0o600)
        command = [sys.executable, "-m", "bridge", "run", str(config)]
        if durability != "off":
            (site.directory / "state").mkdir(mode=0o700)
            command += ["--state-dir", str(site.directory / "state")]
        if what == "capture":
            command += ["--capture", str(site.directory / "capture")]
            command += ["--capture-format", format] if format else []
        return command


class Script(Attached):
    """A module of this directory, told port, domain, secret and URL."""

    def command(self, site: Site) -> Sequence[str]:
        module = {"slixmpp": "reference_bot", "bridge-pull": "pulled"}.get(self.name, self.name)
        command = [sys.executable, "-m", f"tests.bench.{module}", str(site.port), DOMAIN, SECRET]
        return command if self.name == "echo" else [*command, site.url]


class Hosted(Contestant):
    """A module of Prosody's, in a directory that the operator has."""

    @property
    def _module(self) -> str:
        return self.name.removeprefix("mod_")

    def missing(self, plugins: Path | None) -> str | None:
        """Why it cannot run, or None."""
        if plugins is None:
            return "needs --prosody-plugins DIR"
        paths = (plugins / f"{self.name}.lua", plugins / self.name / f"{self.name}.lua")
        return None if any(map(Path.exists, paths)) else f"{plugins} holds no {self.name}"

    def lua(self, plugins: Path, url: str) -> str:
        """What Prosody's configuration needs."""
        prefix = "rest_callback_" if self._module == "rest" else "component_post_"
        lines = [
            f"plugin_paths = {{ {quoted(str(plugins))} }}",
            "http_ports = {}",
            "https_ports = {}",
            f"Component {quoted(DOMAIN)} {quoted(self._module)}",
            f"{prefix}url = {quoted(url)}",
            f'{prefix}stanzas = {{ "message" }}',
        ]
        if self._module == "rest":
            lines.append('rest_callback_content_type = "application/json"')
        return "\n".join(lines)


ALL: Final[dict[str, Attached | Hosted]] = {
    contestant.name: contestant
    for contestant in (
        Bridge("bridge", "this bridge, its journal off"),
        Bridge("bridge-process", "this bridge, its journal survives the end of the process"),
        Bridge("bridge-power", "this bridge, its journal survives the loss of power"),
        Bridge("bridge-postgres", "this bridge, its journal on PostgreSQL, on the same machine"),
        Bridge("bridge-capture", "this bridge, its journal off, capturing"),
        Bridge("bridge-capture-gz", "the same, packed by gzip"),
        Bridge("bridge-capture-zst", "the same, packed by zstd"),
        Script(
            "bridge-pull", "this bridge, its journal off, with 8 pollers in place of the endpoint"
        ),
        Script("slixmpp", "slixmpp + aiohttp + uvloop, see tests/bench/reference_bot.py"),
        Hosted("mod_component_http", "Prosody's module; needs --prosody-plugins"),
        Hosted("mod_rest", "its successor; needs --prosody-plugins"),
        Script("echo", "a component that answers at once, without any HTTP: the upper bound"),
    )
}


@dataclass(frozen=True)
class Running:
    """A process that has attached, so many seconds after it was started."""

    pid: int
    start_s: float
    log: Path


@asynccontextmanager
async def run_attached(contestant: Attached, site: Site) -> AsyncIterator[Running]:
    """Start it, wait until it says that it is attached, and stop it at the end.

    Raises: NotStarted, with the end of its log.
    """
    log = site.directory / "log"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = await trio.lowlevel.open_process(
            contestant.command(site),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=site.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,  # Ctrl-C is for the benchmark alone
        )
    try:
        with trio.move_on_after(START_S):
            await _until_attached(process, log)
        start_s = time.perf_counter() - started
        if process.poll() is not None or not _is_attached(log):
            raise NotStarted(f"it has not attached; {last_words(log)}")
        yield Running(process.pid, start_s, log)
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process)


def last_words(log: Path) -> str:
    """The end of a log."""
    return "it said:\n" + "\n".join(tail(log).splitlines()[-SHOWN_LINES:])


def _is_attached(log: Path) -> bool:
    return ATTACHED.search(log.read_bytes()) is not None


async def _until_attached(process: trio.Process, log: Path) -> None:
    """Wait until the log says so, or the process has ended."""
    while True:
        if process.poll() is not None or _is_attached(log):
            return
        await trio.sleep(POLL_S)


async def _stop(process: trio.Process) -> None:
    with trio.move_on_after(STOP_S):
        if process.poll() is None:
            process.terminate()
        await process.wait()
        return
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
