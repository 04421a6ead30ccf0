"""The bridge and its peers under the same load: replies/s, latency, CPU and memory.

Each trial starts a fresh Prosody and a fresh contestant, and lets W users at a component of the
same Prosody write to it: each writes again as soon as the answer came (a closed loop). nginx is the
HTTP endpoint. Contestants take turns, round by round, so that what else the machine does hits all
alike: trust ratios more than figures.

  endpoints   fast: constant JSON at once; slow: after 100 ms; mixed: 1 % after 2 s, others at once
  warm, cold  measured after a second of the same load (mixed: three), or from the first stanza on
              (the first delay, without any reply, included)
  its own     CPU ms per answered stanza of the contestant's process; modules live in Prosody's
  p50, p99    latency; on the mixed endpoint, of the 99 %
  of possible replies/s of those that the endpoint's delay allows, or that echo reaches, if less
  errors      replies of type error: shown, never counted as replies
  lost        no reply within 15 s after the end; stray: a reply to who waits for none

It needs Debian's packages prosody, nginx and (for slow and mixed) libnginx-mod-http-echo, for
bridge-postgres also postgresql, and `pip install '.[bench]'`. TMPDIR says where the journals are
written.
"""

import argparse
import importlib.metadata
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio
from rich.console import Console

from tests.bench import contestant as contestants
from tests.bench import nginx
from tests.bench.plot import draw
from tests.bench.report import show
from tests.bench.summary import Summaries
from tests.bench.trial import Bench, Load, LoadFailed, Trial
from tests.servers import prosody
from tests.servers.process import ServerFailed

WINDOWS: Final = (1, 16, 64, 256, 1000)
DEFAULT_PLAN: Final = (
    *(Load("fast", window) for window in WINDOWS),
    Load("slow", 256, is_cold=True),
    Load("slow", 1000, is_cold=True),
    Load("mixed", 256),
)
DEFAULT_NAMES: Final = ("bridge", "bridge-process", "slixmpp", "echo")
DEFAULT_HOSTED: Final = ("mod_component_http", "mod_rest")
OVERHEAD_S: Final = 1.7  # of a trial: starting and stopping what is fresh
WIDTH: Final = 156  # that the tables need


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    names = "\n".join(f"  {one.name:<19} {one.about}" for one in contestants.ALL.values())
    plan = ", ".join(map(str, DEFAULT_PLAN))
    parser.epilog = (
        f"contestants:\n{names}\n\n"
        f"without --window, --endpoint and --cold:\n  {plan}\n\nexamples:\n"
        "  python -m tests.bench speed --svg speed.svg --json speed.json\n"
        "  python -m tests.bench speed --contestants bridge,slixmpp --window 64 --rounds 5\n"
        "  python -m tests.bench speed --cold --endpoint slow --window 256,1000\n"
    )
    add = parser.add_argument
    add(
        "--contestants",
        type=_names,
        metavar="A,B",
        help=f"default: {','.join(DEFAULT_NAMES)}, and with --prosody-plugins"
        f" {','.join(DEFAULT_HOSTED)}; those that do not start are left out, and named",
    )
    add("--window", type=_windows, metavar="W,W", help=f"default: {','.join(map(str, WINDOWS))}")
    add("--endpoint", type=_endpoints, metavar="E,E", help="fast, slow, mixed; default: fast")
    add("--cold", action="store_true", help="measure from the first stanza on")
    add("--rounds", type=int, default=3, metavar="N", help="default: 3")
    add("--seconds", type=float, default=4.0, metavar="S", help="measured per trial; default: 4")
    add(
        "--prosody-plugins", type=Path, metavar="DIR", help="where mod_component_http, mod_rest are"
    )
    add("--json", type=Path, metavar="FILE", help="write every trial and all medians")
    add("--svg", type=Path, metavar="FILE", help="write a figure")
    parser.set_defaults(run=run)


@dataclass
class Race:
    """What is to be run, and what came of it so far."""

    names: list[str]
    loads: list[Load]
    rounds: int
    seconds: float
    plugins: Path | None
    trials: list[Trial] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def estimate_s(self) -> float:
        per_round = sum(load.warm_s + self.seconds + OVERHEAD_S for load in self.loads)
        return per_round * self.rounds * len(self.names)

    async def run(self, console: Console) -> None:
        """Run all rounds; a contestant that cannot start has no further turn."""
        total = self.rounds * len(self.loads) * len(self.names)
        done = 0
        with tempfile.TemporaryDirectory(prefix="bench-") as place:
            async with nginx.run_nginx(Path(place)) as endpoint:
                bench = Bench(Path(place), endpoint, self.plugins, self.seconds)
                for round in range(1, self.rounds + 1):
                    for load in self.loads:
                        for name in self.names:
                            done += 1
                            if name not in self.failures:
                                said = await self._turn(bench, name, load, round)
                                console.print(f"{done:>4}/{total}  round {round}  {said}")

    async def _turn(self, bench: Bench, name: str, load: Load, round: int) -> str:
        title = f"{load!s:<17} {name:<19}"
        try:
            trial = await bench.run(contestants.ALL[name], load, round)
        except (contestants.NotStarted, ServerFailed) as error:
            self.failures[name] = str(error)
            return f"{title} does not start"
        except (LoadFailed, ProcessLookupError) as error:
            self.failures[f"{name}, {load}"] = str(error)
            return f"{title} the load broke off"
        self.trials.append(trial)
        result = trial.result
        troubles = {"errors": result.errors, "lost": result.lost, "stray": result.stray}
        told = "".join(f"  {count} {what}" for what, count in troubles.items() if count)
        return f"{title} {trial.rate:>7,.0f}/s  p50 {result.median_ms:8.2f} ms{told}"


def run(given: argparse.Namespace) -> None:
    """Run what was asked for, and report; on Ctrl-C, report what there is."""
    console = Console(width=max(WIDTH, Console().width), highlight=False)
    if reason := prosody.missing() or nginx.missing():
        sys.exit(f"{reason}: apt-get install prosody nginx libnginx-mod-http-echo")
    race = Race(
        names=given.contestants or default_names(given.prosody_plugins),
        loads=plan(given),
        rounds=given.rounds,
        seconds=given.seconds,
        plugins=given.prosody_plugins and given.prosody_plugins.resolve(),
    )
    for load in [load for load in race.loads if nginx.missing(load.endpoint)]:
        race.failures[str(load)] = str(nginx.missing(load.endpoint))
        race.loads.remove(load)
    allow_connections()
    console.print(f"about {race.estimate_s / 60:.0f} min: {', '.join(race.names)}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    code = 0
    try:
        trio.run(race.run, console)
    except KeyboardInterrupt:
        code = 130
    report(race, console, given.json, given.svg)
    if not race.trials or (given.contestants and race.failures):
        code = code or 1
    sys.exit(code)


def report(race: Race, console: Console, json: Path | None, svg: Path | None) -> None:
    """Print the tables, and write what is to be written."""
    if race.trials:
        summaries = Summaries(race.trials)
        show(summaries, console)
        if json is not None:
            data = {
                "machine": machine(),
                "trials": race.trials,
                "summaries": summaries.all(),
                "failures": race.failures,
            }
            json.write_bytes(msgspec.json.format(msgspec.json.encode(data)))
        if svg is not None:
            svg.write_text(draw(summaries), encoding="utf-8")
        for trial in race.trials:
            if trial.said:
                title = f"{trial.contestant}, {trial.load}, round {trial.round}"
                console.print(f"in trouble: {title}: {trial.said}", markup=False)
    for what, reason in race.failures.items():
        console.print(f"not measured: {what}: {reason}", markup=False)


def plan(given: argparse.Namespace) -> list[Load]:
    """The loads that the options ask for."""
    if not (given.window or given.endpoint or given.cold):
        return list(DEFAULT_PLAN)
    return [
        Load(endpoint, window, given.cold)
        for endpoint in given.endpoint or ("fast",)
        for window in given.window or WINDOWS
    ]


def default_names(plugins: Path | None) -> list[str]:
    """Who takes part unless told otherwise, peers first and the upper bound last."""
    *names, bound = DEFAULT_NAMES
    found = [
        one.name
        for one in contestants.ALL.values()
        if isinstance(one, contestants.Hosted) and one.missing(plugins) is None
    ]
    return [*names, *found, bound]


def allow_connections() -> None:
    """Let all that is started from here have as many connections as the system permits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def machine() -> dict[str, str]:
    """What the figures were made with."""
    found = {"cpus": str(os.cpu_count()), "kernel": platform.release()}
    found["python"] = platform.python_version()
    for package in ("xmpp-bridge", "slixmpp", "aiohttp", "uvloop"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    for package in ("prosody", "nginx"):
        query = ["dpkg-query", "--show", "--showformat=${Version}", package]
        try:
            told = subprocess.run(query, capture_output=True, text=True, check=False)
        except OSError:
            continue  # not Debian
        found[package] = told.stdout
    return found


def _names(text: str) -> list[str]:
    return _among(text.split(","), list(contestants.ALL))


def _endpoints(text: str) -> list[str]:
    return _among(text.split(","), nginx.ENDPOINTS)


def _windows(text: str) -> list[int]:
    windows = [int(part) for part in text.split(",")]
    if min(windows) < 1:
        raise argparse.ArgumentTypeError("a window is at least 1")
    return windows


def _among(given: list[str], known: Sequence[str]) -> list[str]:
    if unknown := [name for name in given if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return given
