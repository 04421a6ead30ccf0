"""One trial: a fresh Prosody and a fresh contestant under one load, measured from outside."""

import math
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from tests.bench.contestant import (
    DOMAIN,
    ROOT,
    SECRET,
    Attached,
    Hosted,
    NotStarted,
    Site,
    last_words,
    run_attached,
)
from tests.bench.load import BEGIN, DRAIN_S, END, Result
from tests.bench.load import DOMAIN as LOAD_DOMAIN
from tests.bench.nginx import LATE_S, SLOW_S, Nginx
from tests.bench.process import cpu_s, family, peak_mb, rss_mb
from tests.servers import postgres
from tests.servers.prosody import Prosody

WARM_S: Final = 1.0
SETTLE_S: Final = 0.3
SPARE_S: Final = 20.0
BOT: Final = f"bot@{DOMAIN}"


class Load(msgspec.Struct, frozen=True):
    """What is asked of a contestant; `is_cold`: measured from its first stanza on."""

    endpoint: str
    window: int
    is_cold: bool = False

    @property
    def warm_s(self) -> float:
        """How long it runs before it is measured: until the first late answers have come, too."""
        if self.is_cold:
            return 0.0
        return WARM_S + (LATE_S if self.endpoint == "mixed" else 0.0)

    @property
    def possible(self) -> float:
        """The replies per second that the endpoint's delay allows."""
        return self.window / SLOW_S if self.endpoint == "slow" else math.inf

    def __str__(self) -> str:
        return f"{self.endpoint} W={self.window}{' cold' if self.is_cold else ''}"


class Trial(msgspec.Struct):
    """What one contestant did under one load in one round.

    `cpu_ms` is per stanza answered, by process: `prosody`, `nginx`, `load`, perhaps `postgres`, and
    `contestant` unless it lives in Prosody. Memory is the contestant's, Prosody's where it lives in
    it. `start_s` runs from the start of the process until it has attached. `said` is the end of its
    log, where there were errors or replies were lost.
    """

    contestant: str
    load: Load
    round: int
    result: Result
    cpu_ms: dict[str, float]
    idle_mb: float
    peak_mb: float
    start_s: float
    said: str

    @property
    def rate(self) -> float:
        """Replies per second; errors are none."""
        return self.result.replies / self.result.seconds


class LoadFailed(Exception):
    """The generator broke off; its own words are on stderr."""


@dataclass(frozen=True)
class Stage:
    """What runs, by the names of `Trial.cpu_ms`; and how long the contestant took to be there."""

    port: int
    pids: dict[str, int]
    start_s: float
    log: Path

    @property
    def contestant(self) -> list[int]:
        """The processes of the contestant, or Prosody's where it lives in it."""
        return family(self.pids.get("contestant", self.pids["prosody"]))


class Bench:
    """What all trials share."""

    def __init__(self, directory: Path, nginx: Nginx, plugins: Path | None, seconds: float) -> None:
        self._directory, self._nginx = directory, nginx
        self._plugins, self._seconds = plugins, seconds

    async def run(self, contestant: Attached | Hosted, load: Load, round: int) -> Trial:
        """Do one trial.

        Raises: NotStarted, ServerFailed; LoadFailed when the load's stream broke, and
        ProcessLookupError when the contestant has ended.
        """
        with tempfile.TemporaryDirectory(dir=self._directory) as place:
            async with self._stage(contestant, load, Path(place)) as stage:
                await trio.sleep(SETTLE_S)
                idle_mb = sum(map(rss_mb, stage.contestant))
                result, cpu_s = await generate(load, stage, self._seconds)
                return Trial(
                    contestant=contestant.name,
                    load=load,
                    round=round,
                    result=result,
                    cpu_ms={name: s * 1000 / max(result.replies, 1) for name, s in cpu_s.items()},
                    idle_mb=idle_mb,
                    peak_mb=sum(map(peak_mb, stage.contestant)),
                    start_s=stage.start_s,
                    said=last_words(stage.log) if result.errors or result.lost else "",
                )

    @asynccontextmanager
    async def _stage(
        self, contestant: Attached | Hosted, load: Load, place: Path
    ) -> AsyncIterator[Stage]:
        url = self._nginx.url(load.endpoint)
        components, extra = {LOAD_DOMAIN: SECRET, DOMAIN: SECRET}, ""
        if isinstance(contestant, Hosted):
            if (reason := contestant.missing(self._plugins)) is not None:
                raise NotStarted(reason)
            assert self._plugins is not None
            extra = contestant.lua(self._plugins, url)
            del components[DOMAIN]
        started = trio.current_time()
        async with Prosody(place, components=components, extra=extra, log_level="error") as prosody:
            pids, port = {"prosody": prosody.pid, "nginx": self._nginx.pid}, prosody.component_port
            if isinstance(contestant, Hosted):
                yield Stage(port, pids, trio.current_time() - started, prosody.log)
                return
            own = place / "contestant"
            own.mkdir()
            async with AsyncExitStack() as stack:
                database_url = ""
                if contestant.needs_database:
                    if (why := postgres.missing()) is not None:
                        raise NotStarted(why)
                    database = await stack.enter_async_context(postgres.Postgres())
                    pids["postgres"], database_url = database.pid, database.url
                site = Site(own, port, url, database_url)
                running = await stack.enter_async_context(run_attached(contestant, site))
                pids["contestant"] = running.pid
                yield Stage(port, pids, running.start_s, running.log)


async def generate(load: Load, stage: Stage, seconds: float) -> tuple[Result, dict[str, float]]:
    """Run the generator; give its result, and the CPU that each process used meanwhile."""
    command = [sys.executable, "-m", "tests.bench.load", str(stage.port), SECRET, BOT]
    command += ["--window", str(load.window), "--seconds", str(seconds)]
    command += ["--warm-s", str(load.warm_s)]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is for the benchmark alone
    )
    assert process.stdout is not None
    pids = {**stage.pids, "load": process.pid}
    begin: dict[str, float] = {}
    used: dict[str, float] = {}
    try:
        with trio.move_on_after(load.warm_s + seconds + DRAIN_S + SPARE_S):
            async for line in lines(process.stdout):
                if line == BEGIN:
                    begin = usage(pids)
                elif line == END:
                    used = {name: s - begin[name] for name, s in usage(pids).items()}
                else:
                    return msgspec.json.decode(line, type=Result), used
        raise LoadFailed(f"the load generator came to no result under {load}")
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()
            await process.stdout.aclose()


def usage(pids: dict[str, int]) -> dict[str, float]:
    """The seconds of CPU used so far, by name, children included."""
    return {name: sum(map(cpu_s, family(pid))) for name, pid in pids.items()}


async def lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
    """The lines of a process's output."""
    carried = b""
    async for chunk in stream:
        *whole, carried = (carried + chunk).split(b"\n")
        for line in whole:
            yield line.decode()
