"""The journal on PostgreSQL while nodes die and freeze: is a batch lost, halved or written late?

N writers, each a process and a node, commit batches as fast as they can: accept stanzas, settle
those before with a reply, confirm the replies before those. One outage follows the other:

  kill       a writer is killed, and started again with the same label
  freeze     a writer is frozen at any moment, also in the middle of a batch; an observer ends it,
             as another node does after 10 s, and its rows are noted; then it goes on
  crash      the database stops at once, for up to 3 s
  promotion  its synchronous stand-by takes its place; the old server never comes back

What each writer has said is compared with the rows in the end, not read by the bridge's code: a
batch whose commit has returned is there as a whole, one that was cut short is there as a whole or
not at all, and a writer that was ended has changed nothing since. Whatever is violated is listed;
then the exit code is 1. It needs Debian's package postgresql.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import Final

import msgspec
import psycopg
import trio

from bridge.config.value import parse_database_url
from bridge.journal.postgres.store import PostgresStore
from tests.bench.batch import Batch, Ledger, Rows
from tests.bench.contestant import ROOT
from tests.bench.trial import lines
from tests.bench.writer import Said
from tests.servers.postgres import ReplicatedPostgres

CLUSTER: Final = "fence"
KINDS: Final = {"kill": 3, "freeze": 4, "crash": 2, "promotion": 1}
LIFE_S: Final = (0.2, 1.0)
CRASH_S: Final = (0.0, 3.0)
LATE_S: Final = (0.0, 1.0)
LIMIT_S: Final = 60.0
STEP_S: Final = 0.1
SHOWN: Final = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--outages", type=int, default=100, metavar="N", help="default: 100")
    add("--nodes", type=int, default=3, metavar="N", help="default: 3")
    add("--seed", type=int, metavar="N", help="of the moments; default: another one")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Do it, print the figures, and exit with 1 where a promise was broken."""
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    print(f"{given.outages} outages of {given.nodes} writers; --seed {seed}", flush=True)
    violations = trio.run(Trial(given.nodes, seed).run, given.outages)
    print(f"violations: {len(violations)}")
    for violation in violations[:SHOWN]:
        print(f"  {violation}")
    if len(violations) > SHOWN:
        print(f"  and {len(violations) - SHOWN} more")
    sys.exit(bool(violations))


class Trial:
    """One run, and what was seen of it."""

    def __init__(self, nodes: int, seed: int) -> None:
        self._labels = [f"writer{number}" for number in range(1, nodes + 1)]
        self._dice = random.Random(seed)
        self._ledger = Ledger()
        self._counts = Counter[str]()
        self._strange: list[str] = []
        self._processes: dict[str, trio.Process] = {}
        self._incarnations: dict[str, int] = {}
        self._nursery: trio.Nursery
        self._database: ReplicatedPostgres
        self._observer: PostgresStore

    async def run(self, outages: int) -> list[str]:
        """Cause so many outages, and judge: what was violated."""
        async with ReplicatedPostgres() as self._database, trio.open_nursery() as self._nursery:
            url = parse_database_url(self._database.url)
            self._observer = await trio.to_thread.run_sync(PostgresStore, url, CLUSTER, "observer")
            try:
                for label in self._labels:
                    await self._start(label)
                for number, kind in enumerate(self._plan(outages), start=1):
                    await self._wait_kept()
                    await trio.sleep(self._dice.uniform(*LIFE_S))
                    await self._cause(kind)
                    print(f"  {number}/{outages}: {kind}", file=sys.stderr, flush=True)
                await self._wait_kept()
            finally:
                with trio.CancelScope(shield=True):
                    for label in self._labels:
                        await self._kill(label)
            rows = await self._rows()
            self._nursery.cancel_scope.cancel()
        kept = sum(one.is_kept for batches in self._ledger.batches.values() for one in batches)
        print(f"batches kept: {kept:,} ; lives: {len(self._ledger.batches)}")
        print(", ".join(f"{name}: {count}" for name, count in sorted(self._counts.items())))
        return [*self._strange, *self._ledger.violations(rows)]

    def _plan(self, count: int) -> list[str]:
        kinds = list(KINDS)
        more = max(count - len(kinds), 0)
        return kinds[:count] + self._dice.choices(kinds, list(KINDS.values()), k=more)

    # --- the writers

    async def _start(self, label: str) -> None:
        command = [sys.executable, "-m", "tests.bench.writer", self._database.url, CLUSTER, label]
        process = await trio.lowlevel.open_process(
            [*command, str(self._dice.random())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the benchmark alone
        )
        self._processes[label] = process
        self._incarnations.pop(label, None)
        self._nursery.start_soon(self._listen, label, process)

    async def _listen(self, label: str, process: trio.Process) -> None:
        assert process.stdout is not None
        async for line in lines(process.stdout):
            said = msgspec.json.decode(line, type=Said)
            self._counts[said.what] += 1
            match said.what:
                case "send":
                    batch = Batch(said.accept, said.settle, said.confirm)
                    self._ledger.send(said.incarnation, batch)
                case "kept":
                    self._ledger.keep(said.incarnation)
                    self._incarnations[label] = said.incarnation
                case "bug":
                    self._strange.append(f"{label}: {said.why}")

    async def _kill(self, label: str) -> None:
        if process := self._processes.pop(label, None):
            process.kill()
            await process.wait()
            with trio.move_on_after(STEP_S):  # what it said last is still in the pipe
                await trio.sleep(STEP_S)

    async def _wait_kept(self) -> None:
        """Wait until each writer has kept a batch, from now on."""
        before = {label: self._kept(label) for label in self._labels}
        with trio.move_on_after(LIMIT_S):
            while True:
                late = [one for one in self._labels if self._kept(one) == before[one]]
                ended = [one for one in late if self._processes[one].poll() is not None]
                assert not ended, f"ended by themselves: {ended}; {self._strange}"
                if not late:
                    return
                await trio.sleep(STEP_S)
        self._strange.append(f"{', '.join(late)} kept nothing for {LIMIT_S} s")

    def _kept(self, label: str) -> tuple[int, int]:
        incarnation = self._incarnations.get(label, 0)
        batches = self._ledger.batches.get(incarnation, [])
        return incarnation, sum(one.is_kept for one in batches)

    # --- outages

    async def _cause(self, kind: str) -> None:
        label = self._dice.choice(self._labels)
        match kind:
            case "kill":
                await self._kill(label)
                await self._start(label)
            case "freeze":
                await self._freeze(label)
            case "crash":
                await self._database.primary.crash()
                await trio.sleep(self._dice.uniform(*CRASH_S))
                await self._database.primary.start()
            case "promotion":
                await self._database.fail_over()
                await self._wait_kept()
                await self._database.rebuild_standby()

    async def _freeze(self, label: str) -> None:
        pid = self._processes[label].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            began = trio.current_time()
            incarnation = await trio.to_thread.run_sync(self._end, label)
            self._counts["slow ends"] += trio.current_time() - began > 1
            self._ledger.end(incarnation, await self._rows())
            await trio.sleep(self._dice.uniform(*LATE_S))
        finally:
            os.kill(pid, signal.SIGCONT)

    def _end(self, label: str) -> int:
        """End a frozen node, as another node does; return the incarnation that it had."""
        while True:
            [row] = [one for one in self._observer.nodes() if one.label == label]
            assert row.incarnation is not None, f"{label} is ended already"
            if self._observer.end_node(row.id, row.batch):
                return row.incarnation

    async def _rows(self) -> Rows:
        return await trio.to_thread.run_sync(self._rows_now)

    def _rows_now(self) -> Rows:
        with psycopg.connect(self._database.primary.url) as connection:
            connection.execute(f'SET search_path TO "{CLUSTER}"'.encode())
            pending = connection.execute("SELECT writer, uid FROM pending").fetchall()
            replies = connection.execute("SELECT writer, uid FROM reply").fetchall()
        return Rows(Counter(pending), Counter(replies))
