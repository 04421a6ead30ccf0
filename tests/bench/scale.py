"""Replies/s of one node and of several that share a journal, with an endpoint that takes 500 ms.

A node has at most 64 POSTs in flight, so that it answers at most 128 stanzas/s, whatever the
machine does; N nodes can answer N times as many, if the conversations are spread evenly and no node
waits for another one. W users at a component of the same Prosody write to the bot, each again as
soon as its answer came. The journal is on PostgreSQL, with `durability = "power"`. First
comes one node on SQLite; then one number of nodes after the other, each on a new database.

  of one node  the rate beside that of the first number of nodes on PostgreSQL
  its own      CPU ms per answered stanza, of all nodes, and of PostgreSQL

It needs Debian's packages prosody and postgresql.
"""

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from rich.console import Console
from rich.table import Table

from tests.bench.answerer import Request, answer_json, converse
from tests.bench.contestant import DOMAIN, SECRET
from tests.bench.load import DOMAIN as LOAD_DOMAIN
from tests.bench.load import Result
from tests.bench.node import Nodes
from tests.bench.store import Journal, PostgresStore, open_store
from tests.bench.trial import Load, Stage, generate
from tests.servers.process import LOOPBACK
from tests.servers.prosody import Prosody

ANSWER: Final = answer_json(b'{"body":"answer"}')
ANSWER_S: Final = 0.5
MAX_IN_FLIGHT: Final = 64
SPREAD_S: Final = 8.0  # until the partitions are spread, and the first answers have come
ATTACH_S: Final = 60.0
WIDTH: Final = 110  # that the table needs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--nodes", default="1,3", metavar="N,N", help="default: 1,3")
    add("--journal", choices=["sqlite", "postgres"], help="only this one; default: both")
    add("--window", type=int, default=600, metavar="W", help="users; default: 600")
    add("--seconds", type=float, default=20.0, metavar="S", help="measured; default: 20")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Trial:
    """What so many nodes did; CPU in ms per answered stanza."""

    journal: Journal
    nodes: int
    result: Result
    own_ms: float
    database_ms: float

    @property
    def rate(self) -> float:
        return self.result.replies / self.result.seconds

    @property
    def possible(self) -> float:
        """The replies per second that the endpoint and `max_in_flight` allow."""
        return self.nodes * MAX_IN_FLIGHT / ANSWER_S


def run(given: argparse.Namespace) -> None:
    """Run one number of nodes after the other, and print the table."""
    plan: list[tuple[Journal, int]] = [("sqlite", 1)] if given.journal != "postgres" else []
    if given.journal != "sqlite":
        plan += [("postgres", int(part)) for part in given.nodes.split(",")]
    trials = [trio.run(measure, *one, given.window, given.seconds) for one in plan]
    Console(width=max(WIDTH, Console().width), highlight=False).print(table(given.window, trials))
    sys.exit(any(one.result.errors or one.result.lost for one in trials))


def table(window: int, trials: list[Trial]) -> Table:
    """The result, a row for each number of nodes."""
    shown = Table(title=f"endpoint of {ANSWER_S * 1000:.0f} ms, W={window}")
    first = next((one for one in trials if one.journal == "postgres"), trials[0])
    shown.add_column("journal")
    for heading in ("nodes", "replies/s", "of possible", "of one node", "p50 ms", "p99 ms"):
        shown.add_column(heading, justify="right")
    for heading in ("its own", "PostgreSQL's", "errors", "lost"):
        shown.add_column(heading, justify="right")
    for one in trials:
        shown.add_row(
            one.journal,
            f"{one.nodes}",
            f"{one.rate:.0f}",
            f"{one.rate / one.possible:.0%}",
            f"{one.rate / first.rate:.2f}" if first.rate else "",
            f"{one.result.median_ms:.0f}",
            f"{one.result.p99_ms:.0f}",
            f"{one.own_ms:.2f}",
            f"{one.database_ms:.2f}",
            f"{one.result.errors}",
            f"{one.result.lost}",
        )
    return shown


async def measure(journal: Journal, count: int, window: int, seconds: float) -> Trial:
    """Start all, let the users write, and measure once all are spread."""
    with tempfile.TemporaryDirectory(prefix="scale-") as place:
        async with _stage(Path(place), journal, count) as stage:
            load = SpreadLoad("500 ms", window)
            result, cpu_s = await generate(load, stage, seconds)
    database_s = cpu_s.get("postgres", 0.0)
    own_s = sum(used for name, used in cpu_s.items() if name.startswith("node"))
    answered = max(result.replies, 1)
    return Trial(journal, count, result, own_s * 1000 / answered, database_s * 1000 / answered)


class SpreadLoad(Load, frozen=True):
    """A load that is measured when the nodes have found their shares."""

    @property
    def warm_s(self) -> float:
        return SPREAD_S


@asynccontextmanager
async def _stage(place: Path, journal: Journal, count: int) -> AsyncIterator[Stage]:
    components = {LOAD_DOMAIN: SECRET, DOMAIN: SECRET}
    nodes, started = Nodes(), trio.current_time()
    labels = [f"node{number}" for number in range(1, count + 1)]
    async with (
        open_store(journal, place, labels) as store,
        Prosody(place, components=components, log_level="error") as prosody,
        trio.open_nursery() as nursery,
    ):
        [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, _serve, [listener])
        port, url_port = prosody.component_port, listener.socket.getsockname()[1]
        http = {"max_in_flight": MAX_IN_FLIGHT}
        for label in labels:
            nodes.add(label, place, port, url_port, store, http=http)
        try:
            for victim in nodes.victims.values():
                await victim.start()
            with trio.fail_after(ATTACH_S):
                await nodes.wait_attached()
            pids = {label: one.daemon.process.pid for label, one in nodes.victims.items()}
            pids["prosody"] = prosody.pid
            if isinstance(store, PostgresStore):
                pids["postgres"] = store.database.primary.pid
            log = place / "node1" / "log-0"
            yield Stage(port, pids, trio.current_time() - started, log)
            for victim in nodes.victims.values():
                await victim.stop()
        finally:
            with trio.CancelScope(shield=True):
                for victim in nodes.victims.values():
                    await victim.kill()
        nursery.cancel_scope.cancel()


async def _serve(stream: trio.SocketStream) -> None:
    await converse(stream, _answer)


async def _answer(request: Request) -> bytes:
    await trio.sleep(ANSWER_S)
    return ANSWER
