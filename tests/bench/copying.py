"""A journal of very many stanzas, moved from SQLite to PostgreSQL and back: time, memory, order.

Writes N pending messages of 1000 conversations into a new state directory, by the journal's own
calls, and moves them by `xmpp-bridge journal copy`, first to a new database, then to another new
state directory. All rows are compared with those of the start, in their order.

  peak  of the resident memory of the command

Where a row is missing, differs, or is out of order, the first is shown and the exit code is 1. It
needs Debian's package postgresql. TMPDIR says where the journals are.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import trio

from bridge.config.value import parse_database_url
from bridge.journal.directory import StateDirectory
from bridge.journal.postgres.store import PostgresStore
from bridge.journal.sqlite.store import SqliteStore
from bridge.journal.store import JournalStore
from tests.bench.contestant import DOMAIN, ROOT
from tests.bench.restart import fill
from tests.servers.postgres import Postgres

CLUSTER: Final = "copied"
PAGE: Final = 1000
Row = tuple[str, str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, metavar="N", help="default: 1000000")
    add("--seed", type=int, default=0, metavar="N", help="which conversations; default: 0")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Move them there and back, print what it took, and exit with 1 where a row differs."""
    faults = trio.run(measure, given.rows, given.seed)
    print(f"violations: {len(faults)}")
    for fault in faults:
        print(f"  {fault}")
    sys.exit(bool(faults))


async def measure(count: int, seed: int) -> list[str]:
    """Fill, move twice, and compare; return what differs."""
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="copying-") as place:
        first, last = (StateDirectory(Path(place) / name) for name in ("first", "last"))
        for directory in (first, last):
            directory.path.mkdir(mode=0o700)
        began = time.monotonic()
        fill(SqliteStore(first.journal_file), count, seed)
        print(f"{count:,} rows, written in {time.monotonic() - began:.1f} s", flush=True)
        async with Postgres() as database:
            for source, target in ((first.path, database.url), (database.url, last.path)):
                print(await trio.to_thread.run_sync(move, str(source), str(target)), flush=True)
            url = parse_database_url(database.url)
            kept = PostgresStore(url, CLUSTER, "bench")
            original = SqliteStore(first.journal_file)
            faults += differing("PostgreSQL", original, kept, count)
            kept.close()
        moved = SqliteStore(last.journal_file)
        faults += differing("SQLite", original, moved, count)
        for store in (original, moved):
            store.close()
    return faults


@dataclass(frozen=True)
class Moved:
    """What one run of the command took."""

    source: str
    target: str
    seconds: float
    peak_mb: float

    def __str__(self) -> str:
        names = ("PostgreSQL" if "://" in one else "SQLite" for one in (self.source, self.target))
        return f"{' to '.join(names)}: {self.seconds:.1f} s, peak {self.peak_mb:.0f} MB"


def move(source: str, target: str) -> Moved:
    """Run the command. Raises: subprocess.CalledProcessError, with what it has said above."""
    command = [sys.executable, "-m", "bridge", "journal", "copy", source, target]
    command += ["--cluster", CLUSTER, "--quiet"]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Moved(source, target, time.monotonic() - began, usage.ru_maxrss / 1024)


def rows(store: JournalStore) -> Iterator[Row]:
    """All that is pending, in its order."""
    after = 0
    while page := store.pending(DOMAIN, after=after, limit=PAGE):
        after = page[-1].number
        yield from ((one.uid, one.stanza.from_ or "", one.xml) for one in page)


def differing(name: str, ours: JournalStore, theirs: JournalStore, count: int) -> list[str]:
    """Whether both hold the same rows in the same order: nothing, or the first that differs."""
    place = 0
    for place, (one, other) in enumerate(zip_longest(rows(ours), rows(theirs)), start=1):
        if one != other:
            return [f"{name}: row {place} is {other}, and was {one}"]
    return [] if place == count else [f"{name}: {place} rows of {count}"]
