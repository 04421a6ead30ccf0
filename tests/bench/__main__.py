"""Benchmarks: `python -m tests.bench NAME …`; figures are printed, nothing is asserted."""

import argparse

import trio

from tests.bench import (
    copying,
    core,
    deferred,
    fence,
    flood,
    kills,
    replay,
    restart,
    scale,
    sends,
    siege,
    speed,
    streams,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")

    one = commands.add_parser("core", help=core.__doc__)
    one.add_argument("--stanzas", type=int, default=1_000_000)
    one.set_defaults(run=lambda given: core.run(given.stanzas))

    one = commands.add_parser("flood", help=flood.__doc__)
    one.add_argument("--mib", type=int, default=1024)
    one.add_argument("--way", choices=["stream", "reply"], default="stream")
    one.set_defaults(run=lambda given: trio.run(flood.run, given.mib, given.way))

    one = commands.add_parser("speed", help="the bridge and its peers under the same load")
    speed.configure(one)

    one = commands.add_parser("kills", help="kill -9 under load, and whether a stanza is lost")
    kills.configure(one)

    one = commands.add_parser("restart", help="a start with very many stanzas in the journal")
    restart.configure(one)

    one = commands.add_parser("scale", help="one node and several, with an endpoint of 500 ms")
    scale.configure(one)

    one = commands.add_parser("copy", help="a journal of a million rows to PostgreSQL and back")
    copying.configure(one)

    one = commands.add_parser("fence", help="batches in PostgreSQL while nodes die and freeze")
    fence.configure(one)

    one = commands.add_parser("replay", help=replay.__doc__)
    replay.configure(one)

    one = commands.add_parser("sends", help="sends from outside while Prosody is restarted")
    sends.configure(one)

    one = commands.add_parser("deferred", help="deferred replies while all is restarted")
    deferred.configure(one)

    one = commands.add_parser("listener", help=siege.__doc__)
    siege.configure(one)

    one = commands.add_parser("streams", help="streamed replies beside ordinary traffic")
    streams.configure(one)

    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
