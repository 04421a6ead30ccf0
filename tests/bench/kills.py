"""kill -9 of the daemon or of Prosody at random moments under load: is a stanza ever lost?

W conversations write bursts of one to three messages through a real Prosody; an endpoint answers
each after 0 to 200 ms. The daemon is killed 0.5 to 2 s after it has attached, or (one kill in
eight) within a second of its start, and started again at once with the same state directory.
Prosody is killed as long after both ends have attached, every second time after it was stopped for
up to 0.3 s, and started again on the same port once the daemon has noticed. Both ends write down
all that they see, and the journal's file is read after each kill before the restart.

With --pull (always with --who poller) there are four pollers in place of the endpoint, and a lease
lasts 2 s: a poller is killed 0.5 to 2 s after the last one, by closing its sockets as the kernel
does, with up to 16 events in its hands; another one takes its place. A POST is then an event that
was given out.

  bounced     Prosody gave it back, since no daemon was attached: not the bridge's
  lost        neither bounced nor accepted: it was in a socket, in Prosody, or read and not yet
              committed at the kill. Each must be at the end of what was sent before one
  accepted    it came to the endpoint, or was seen in the journal
  repeats     POSTs of one stanza beyond its first; they carry one webhook-id
  copies      arrivals of one reply beyond its first; they carry one id, and one text, which names
              the POST that it answers

What is asked for: whatever the journal held at a kill is POSTed, or written, after it; what was
being POSTed is in it; nothing accepted lacks a POST or its reply; nothing is dropped that had
others behind it; in each conversation neither POSTs nor replies ever go back; no error, no dead
letter; the journal is empty in the end. With --who server, what the daemon says that it has read
must be what was accepted; a reply that Prosody may have confirmed (it was made while that still
ran) may die with it: these are counted. Whatever is violated is listed; then the exit code is 1.

With --nodes or --journal, several daemons share a journal on PostgreSQL (--nodes 1 --journal sqlite
puts the one through the same). One outage follows the other; half of the nodes that are hit are the
gateway: a node is killed, and started again at once or when the others do its work; a node is
frozen for 5 to 40 s; Prosody is killed; the database crashes for up to 12 s; the synchronous
stand-by is promoted. With cuts, which need root, each node is in a network namespace of its own,
and its links to the database, to Prosody or to both drop everything for 5 to 40 s. An eighth of the
users write iqs, which must have one answer each. Each POST that is repeated, each copy, loss,
bounce and refusal must be explained by the outage of what it depends on; the next reply must come
15 s after a gateway was lost at the latest, but for one that is only cut from Prosody.

It needs Debian's packages prosody and, for --journal postgres, postgresql. TMPDIR says where the
journal is written.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, cast

import trio

from tests.bench import network
from tests.bench.evidence import Kind
from tests.bench.failover import CUTS, KINDS, Failover
from tests.bench.ordeal import Ordeal
from tests.bench.store import Journal
from tests.bench.verdict import Row

SHOWN: Final = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--kills", type=int, default=200, metavar="N", help="default: 200")
    add("--window", type=int, default=64, metavar="W", help="conversations; default: 64")
    add("--who", choices=["daemon", "server", "poller"], default="daemon", help="default: daemon")
    add("--pull", action="store_true", help="pollers in place of an endpoint; with --who poller")
    add("--durability", choices=["process", "power"], default="process", help="default: process")
    add("--nodes", type=int, metavar="N", help="daemons that share a journal")
    add("--journal", choices=sorted(KINDS), help="default with --nodes: postgres")
    add("--no-spread", action="store_true", help="only the gateway POSTs; default: all nodes do")
    known = ",".join(KINDS["postgres"])
    more = ",".join(CUTS)
    add("--outages", metavar="KIND,…", help=f"of nodes; default: {known}; others: {more}")
    how_long = "how long a node is frozen or cut, and at most the database is away; default: 5 40"
    add("--freeze-s", type=float, nargs=2, default=[5, 40], metavar=("LOW", "HIGH"), help=how_long)
    add("--seed", type=int, metavar="N", help="of the moments and delays; default: another one")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Do it, print the table, and exit with 1 where a promise was broken."""
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    if given.nodes is not None or given.journal is not None:
        run_nodes(given, seed)
        return
    print(f"kill -9 of the {given.who}, {given.kills} times; --seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        ordeal = Ordeal(
            Path(place), given.who, given.window, given.durability, seed, pulled=given.pull
        )
        rows, violations = trio.run(ordeal.run, given.kills)
    about = f"W={given.window}, durability {given.durability}, {time.monotonic() - began:.0f} s"
    finish([("kills", f"{given.kills}", about), *rows], violations)


def run_nodes(given: argparse.Namespace, seed: int) -> None:
    """Do it with nodes that share a journal."""
    nodes = given.nodes or 1
    journal = cast("Journal", given.journal or "postgres")
    if journal == "sqlite" and nodes > 1:
        sys.exit("a journal of SQLite belongs to one node: use --journal postgres")
    kinds = outages(given.outages, journal)
    if CUTS.keys() & set(kinds) and not network.is_inside():
        if why := network.missing():
            sys.exit(f"--outages {given.outages}: {why}")
        sys.exit(network.enter("tests.bench", sys.argv[1:]))
    print(f"{given.kills} outages of {nodes} nodes on {journal}; --seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        failover = Failover(
            Path(place),
            journal,
            nodes,
            given.window,
            seed,
            kinds=kinds,
            spread=not given.no_spread,
            freeze_s=tuple(given.freeze_s),
        )
        rows, violations = trio.run(failover.run, given.kills)
    about = f"W={given.window}, {nodes} nodes, {time.monotonic() - began:.0f} s"
    finish([("outages", f"{given.kills}", about), *rows], violations)


def outages(text: str | None, journal: Journal) -> tuple[Kind, ...]:
    """The kinds of outages that were asked for; by default all but the cuts."""
    if text is None:
        return tuple(KINDS[journal])
    known = [*KINDS[journal], *(CUTS if journal == "postgres" else ["cut_server"])]
    names = text.split(",")
    chosen = tuple(kind for kind in known if kind in names)
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"--outages: not among {', '.join(known)}: {', '.join(unknown)}")
    return chosen


def finish(rows: list[Row], violations: list[str]) -> None:
    """Print all, and exit with 1 where a promise was broken."""
    show(rows)
    print(f"violations: {len(violations)}")
    for violation in violations[:SHOWN]:
        print(f"  {violation}")
    if len(violations) > SHOWN:
        print(f"  and {len(violations) - SHOWN} more")
    sys.exit(bool(violations))


def show(rows: list[Row]) -> None:
    """Print the table."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for label, figure, remark in rows:
        print(f"{label:<{first}}  {figure:>{second}}  {remark}".rstrip())
