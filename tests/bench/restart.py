"""A start with very many stanzas in the journal: first POST, memory, time to all, order.

Writes N pending messages of 1000 conversations (each of a random one) into a new journal, by the
journal's own calls, and starts the daemon against a real Prosody and an endpoint that counts and
says nothing (204). Then the same with an endpoint that at first refuses connections, for 5 s.

  first POST  from the start of the process, or from when the endpoint is up
  peak        of the daemon's resident memory; `idle` is that of one with an empty journal
  in order    each conversation's POSTs came with numbers 1, 2, 3, …: none missing, none twice

Where any is missing, repeated or out of order, or the journal is not empty in the end, it is listed
and the exit code is 1. It needs Debian's packages prosody and, for --journal postgres, postgresql.
TMPDIR says where the journal is.
"""

import argparse
import random
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import trio
from rich.console import Console
from rich.table import Table

from bridge.journal.delivery import Delivery
from bridge.journal.store import JournalStore
from tests.bench.answerer import NOTHING, Request, converse
from tests.bench.contestant import DOMAIN, SECRET
from tests.bench.load import BODY
from tests.bench.load import DOMAIN as SENDER_DOMAIN
from tests.bench.process import peak_mb, rss_mb
from tests.bench.store import Journal, Store, open_store
from tests.bench.victim import Victim
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody

CONVERSATIONS: Final = 1000
BATCH: Final = 1000
BACKLOG: Final = 1000
STALLED_S: Final = 30.0
EMPTY_S: Final = 20.0
POLL_S: Final = 0.05
SHOWN: Final = 20
LABEL: Final = "node1"
DURABILITY: Final[dict[Journal, str]] = {"sqlite": "process", "postgres": "power"}
ID: Final = re.compile(rb'"id":"p(\d+)-(\d+)"')


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--pending", type=int, default=100_000, metavar="N", help="default: 100000")
    add("--down-s", type=float, default=5.0, metavar="S", help="default: 5")
    add("--journal", choices=["sqlite", "postgres"], default="sqlite", help="default: sqlite")
    add("--seed", type=int, default=0, metavar="N", help="which conversations; default: 0")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Do both, print the table, and exit with 1 where a promise was broken."""
    trials = [
        trio.run(restart, given.journal, given.pending, given.seed, down_s)
        for down_s in (0.0, given.down_s)
    ]
    Console(highlight=False).print(table(given.journal, given.pending, trials))
    violations = [violation for trial in trials for violation in trial.violations]
    print(f"violations: {len(violations)}")
    for violation in violations[:SHOWN]:
        print(f"  {violation}")
    sys.exit(bool(violations))


@dataclass
class Trial:
    """What came of one start; times in s, from the start of the process."""

    down_s: float
    fill_s: float = 0.0
    attached_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    posts: int = 0
    idle_mb: float = 0.0
    peak_mb: float = 0.0
    violations: list[str] = field(default_factory=list)


def table(journal: Journal, pending: int, trials: list[Trial]) -> Table:
    """The result, a column for each."""
    title = f"start with {pending:,} pending of {CONVERSATIONS:,} conversations, {journal}"
    shown = Table(title=title)
    shown.add_column()
    for trial in trials:
        heading = f"endpoint down for {trial.down_s:g} s" if trial.down_s else "endpoint up"
        shown.add_column(heading, justify="right")
    rows = {
        "journal written in": [f"{one.fill_s:.1f} s" for one in trials],
        "attached after": [f"{one.attached_s:.2f} s" for one in trials],
        "first POST after": [f"{one.first_s:.2f} s" for one in trials],
        "  since the endpoint is up": [f"{one.first_s - one.down_s:.2f} s" for one in trials],
        "all POSTed after": [f"{one.last_s:.1f} s" for one in trials],
        "POSTs": [f"{one.posts:,}" for one in trials],
        "POSTs/s, from the first on": [
            f"{one.posts / max(one.last_s - one.first_s, 0.001):,.0f}" for one in trials
        ],
        "peak memory": [f"{one.peak_mb:.0f} MB" for one in trials],
        "  idle, empty journal": [f"{one.idle_mb:.0f} MB" for one in trials],
        "in order, none missing or twice": ["no" if one.violations else "yes" for one in trials],
    }
    for label, figures in rows.items():
        shown.add_row(label, *figures)
    return shown


class Counter:
    """The endpoint: counts, and sees that each conversation comes in order."""

    def __init__(self) -> None:
        self.posts = 0
        self.first_at = self.last_at = 0.0
        self.violations: list[str] = []
        self._latest = [0] * CONVERSATIONS

    async def converse(self, stream: trio.SocketStream) -> None:
        await converse(stream, self._answer)

    async def _answer(self, request: Request) -> bytes:
        self.last_at = trio.current_time()
        if not self.posts:
            self.first_at = self.last_at
        self.posts += 1
        found = ID.search(request.body)
        assert found is not None, request.body
        conversation, number = int(found[1]), int(found[2])
        latest = self._latest[conversation]
        if number != latest + 1:
            self.violations.append(f"p{conversation}-{number} was POSTed after number {latest}")
        self._latest[conversation] = number
        return NOTHING


def entries(count: int, seed: int) -> Iterator[Delivery]:
    """What was accepted before."""
    dice, numbers = random.Random(seed), [0] * CONVERSATIONS
    to = f"bot@{DOMAIN}"
    for place in range(count):
        user = dice.randrange(CONVERSATIONS)
        numbers[user] += 1
        id, sender = f"p{user}-{numbers[user]}", f"u{user}@{SENDER_DOMAIN}/x"
        xml = f"<message to='{to}' from='{sender}' type='chat' id='{id}'><body>{BODY.decode()}"
        xml += "</body></message>"
        uid, now = f"msg_{place:x}", time.time()
        yield Delivery.stored(uid, DOMAIN, "message", sender, to, id, None, xml, now)


def fill(journal: JournalStore, count: int, seed: int) -> None:
    """Write them into a new journal, and close it."""
    rest = entries(count, seed)
    while batch := list(islice(rest, BATCH)):
        journal.commit(batch)
    journal.close()


async def restart(journal: Journal, pending: int, seed: int, down_s: float) -> Trial:
    """One start."""
    trial, counter = Trial(down_s), Counter()
    components = {SENDER_DOMAIN: SECRET, DOMAIN: SECRET}
    with tempfile.TemporaryDirectory(prefix="restart-") as place, reserve_port() as held:
        url = f"http://{LOOPBACK}:{held.getsockname()[1]}/"
        async with (
            open_store(journal, Path(place), [LABEL]) as store,
            Prosody(Path(place), components=components, log_level="error") as prosody,
            trio.open_nursery() as nursery,
        ):
            own = Path(place) / LABEL
            own.mkdir()
            settings: dict[str, Any] = store.settings(LABEL, LOOPBACK)
            victim = Victim(own, prosody.component_port, url, DURABILITY[journal], **settings)
            try:
                await _measure_idle(victim, trial)
                began = time.monotonic()
                await trio.to_thread.run_sync(fill, store.open("fill"), pending, seed)
                trial.fill_s = time.monotonic() - began
                began = trio.current_time()
                await victim.start()
                nursery.start_soon(_serve_after, down_s, held, counter)
                await victim.daemon.wait_logged("attached")
                trial.attached_s = trio.current_time() - began
                await _all_posted(counter, pending)
                trial.peak_mb = peak_mb(victim.daemon.process.pid)
                await _check_empty(store, trial)
                if code := await victim.stop():
                    trial.violations.append(f"the daemon ended with {code}")
            finally:
                with trio.CancelScope(shield=True):
                    await victim.kill()
            nursery.cancel_scope.cancel()
    trial.posts = counter.posts
    trial.first_s, trial.last_s = counter.first_at - began, counter.last_at - began
    trial.violations += counter.violations
    if counter.posts != pending:
        trial.violations.append(f"{counter.posts} POSTs of {pending} stanzas")
    return trial


async def _measure_idle(victim: Victim, trial: Trial) -> None:
    """Start it once with an empty journal, which is then there to be filled."""
    await victim.start()
    await victim.daemon.wait_logged("attached")
    trial.idle_mb = rss_mb(victim.daemon.process.pid)
    await victim.stop()


async def _serve_after(down_s: float, held: socket.socket, counter: Counter) -> None:
    """Until then its port refuses connections."""
    await trio.sleep(down_s)
    held.listen(BACKLOG)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(held.dup()))
    await trio.serve_listeners(counter.converse, [listener])


async def _all_posted(counter: Counter, pending: int) -> None:
    """Wait for that, or until nothing happens any more."""
    began = trio.current_time()
    while counter.posts < pending:
        await trio.sleep(POLL_S)
        if trio.current_time() - max(counter.last_at, began) > STALLED_S:
            return


async def _check_empty(store: Store, trial: Trial) -> None:
    with trio.move_on_after(EMPTY_S):
        while True:
            left = await store.read(0)
            if left.is_empty:
                return
            await trio.sleep(POLL_S)
    counts = f"{len(left.pending)} pending, {len(left.replies)} replies, {len(left.dead)} dead"
    trial.violations.append(f"left in the journal: {counts}")
