"""Many streamed replies at once, beside ordinary traffic through the same component.

N people get a streamed reply each, for S seconds, a piece every tenth of a second. Beside them, W
users write to the same component and get a reply at once, each again and again (`load`). Ordinary
traffic is measured before the streams, while all of them run, and after them; the streams are also
measured alone. Everything is on this machine: Prosody, the bridge with a journal, the endpoint and
both kinds of people.

  p50         latency of an ordinary reply; compare it with that of a run with --apart, in which
              the machine does the same, but another bridge has the streams
  CPU         of the bridge, in ms per ordinary reply; beside streams, less what these use alone.
              With --apart, it is that of the other bridge, and means nothing
  per stream  what the bridge uses more than without streams: CPU while they run alone, in ms per
              second; resident memory, as the difference between all of them running and none
  between     corrections on the way, in all

It needs Debian's package prosody. Exit code 1: somebody did not get the whole text, or an ordinary
reply was lost.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import msgspec
import trio

from tests.bench import load, narrator
from tests.bench.process import cpu_s, rss_mb
from tests.servers.daemon import run_daemon, settings_for
from tests.servers.process import LOOPBACK
from tests.servers.prosody import Prosody

DOMAIN: Final = "bot.localhost"
APART: Final = "slow.localhost"
SECRET: Final = "s3cret"
ROOT: Final = Path(__file__).parents[2]
ALONE_S: Final = 4.0
"""For how long the streams are measured alone."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--streams", type=int, default=200, metavar="N", help="default: 200")
    add("--seconds", type=float, default=30.0, metavar="S", help="of a stream; default: 30")
    add("--window", type=int, default=64, metavar="W", help="default: 64")
    add("--measure-s", type=float, default=10.0, metavar="S", help="of each phase; default: 10")
    add("--apart", action="store_true", help="streams through a bridge of their own: a control")
    add("--durability", choices=["off", "process", "power"], default="process")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Measure, print the table, and exit."""
    with tempfile.TemporaryDirectory(prefix="streams-") as place:
        is_fine = trio.run(_run, given, Path(place))
    sys.exit(not is_fine)


class Lines:
    """The JSON lines of a process."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._text = b""

    async def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\n" not in self._text:
            chunk = await self.process.stdout.receive_some()
            assert chunk, "the process has ended"
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def started(module: str, *words: object) -> AsyncIterator[Lines]:
    """Run a module of this directory."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, words)]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    try:
        yield Lines(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _run(given: argparse.Namespace, place: Path) -> bool:
    domain = APART if given.apart else DOMAIN
    components = dict.fromkeys((DOMAIN, APART, load.DOMAIN, narrator.DOMAIN), SECRET)
    async with Prosody(place, components=components, log_level="error") as prosody:
        words = (prosody.component_port, SECRET, f"slow@{domain}", "--streams", given.streams)
        async with started("narrator", *words, "--seconds", given.seconds) as people:
            url = f"http://{LOOPBACK}:{(await people.next())['port']}/"
            bot = {"component_secret": SECRET, "component_post_url": url}
            journal = {"durability": given.durability}
            port = prosody.component_port
            settings = settings_for(port, {DOMAIN: bot}, journal=journal)
            apart = settings_for(port, {APART: bot}, journal=journal)
            async with run_daemon(place, settings) as daemon, run_daemon(place, apart) as other:
                pid = (other if given.apart else daemon).process.pid

                async def ordinary() -> load.Result:
                    return await _ordinary(prosody.component_port, given)

                return await _measure(given, pid, people, ordinary)


async def _measure(
    given: argparse.Namespace,
    pid: int,
    people: Lines,
    ordinary: Callable[[], Awaitable[load.Result]],
) -> bool:
    before, before_s = await _with_cpu(pid, ordinary)
    idle_mb = rss_mb(pid)
    assert people.process.stdin is not None
    await people.process.stdin.send_all(b"\n")
    await people.next()
    alone_s = min(ALONE_S, given.seconds / 4)
    began_s = cpu_s(pid)
    await trio.sleep(alone_s)
    used_s = cpu_s(pid) - began_s
    full_mb = rss_mb(pid)
    during, during_s = await _with_cpu(pid, ordinary)
    during_s -= used_s / alone_s * during.seconds
    told = msgspec.convert(await people.next(), narrator.Told)
    after, after_s = await _with_cpu(pid, ordinary)
    rows = [
        ("ordinary", "replies/s", "p50 ms", "p99 ms", "CPU", "lost"),
        *(
            (
                name,
                f"{one.replies / one.seconds:,.0f}",
                f"{one.median_ms:.2f}",
                f"{one.p99_ms:.2f}",
                f"{seconds / max(one.replies, 1) * 1000:.2f}",
                str(one.lost + one.errors),
            )
            for name, one, seconds in (
                ("before", before, before_s),
                ("beside", during, during_s),
                ("after", after, after_s),
            )
        ),
    ]
    for row in rows:
        print("{:<10}{:>12}{:>10}{:>10}{:>8}{:>8}".format(*row))
    cpu_ms = used_s / alone_s / given.streams * 1000
    memory_kb = (full_mb - idle_mb) * 1024 / given.streams
    print(f"{given.streams} streams of {given.seconds:g} s")
    print(f"per stream: {cpu_ms:.2f} ms of CPU per s, {memory_kb:.0f} KiB")
    print(f"messages: {told.first} first, {told.between} between, {told.whole} whole")
    return told.whole == told.first == given.streams and not any(
        one.lost or one.errors for one in (before, during, after)
    )


async def _with_cpu(
    pid: int, ordinary: Callable[[], Awaitable[load.Result]]
) -> tuple[load.Result, float]:
    """Return a result, and the seconds of CPU that a process used in its time."""
    began_s, began = cpu_s(pid), trio.current_time()
    result = await ordinary()
    took = trio.current_time() - began
    return result, (cpu_s(pid) - began_s) * result.seconds / took


async def _ordinary(port: int, given: argparse.Namespace) -> load.Result:
    words = (port, SECRET, f"fast@{DOMAIN}", "--window", given.window)
    async with started("load", *words, "--seconds", given.measure_s) as lines:
        for _ in range(2):
            await lines.next()
        return msgspec.convert(await lines.next(), load.Result)
