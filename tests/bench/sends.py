"""Sends from outside while Prosody is restarted: does each that was accepted arrive?

N messages, each with an idempotency key of its own, are given to the sender of a daemon (in this
process, without HTTP), spread over a few seconds. Prosody is restarted as they are accepted: twice
means after the first and the second third. Each message is sent once more with its key. They are
for users who are offline, for whom Prosody stores them; in the end these log in, and all that they
get is counted.

  accepted    those for which the sender gave a uid, after the journal had committed them
  tried again refusals for a full queue, after which it was tried again with the same key
  arrived     different ones among all that the users got
  copies      arrivals of one message beyond its first; each with the same id and body
  waited      from the call until it was accepted

What is asked for: each accepted one arrives, and nothing else does; copies differ in nothing; a
repeated key gives the same uid; the journal is empty in the end. Whatever is violated is listed;
then the exit code is 1. It needs Debian's package prosody.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

from bridge.config.settings import Component, JournalSettings, Settings
from bridge.config.value import Secret, parse_post_url
from bridge.daemon.daemon import Daemon
from bridge.journal.directory import StateDirectory
from bridge.journal.storage import Storage, open_storage
from bridge.listener.submission.sender import Key, QueueFull, Sender, open_sender
from bridge.payload.body import ReplyBody
from bridge.telemetry.log import configure as configure_log
from tests.bench.verdict import Row
from tests.bridge.leak import until
from tests.servers.peer import connect_client
from tests.servers.process import LOOPBACK
from tests.servers.prosody import Prosody
from xmppstream import Server

DOMAIN: Final = "bot.localhost"
SECRET: Final = "s3cret"
PASSWORD: Final = "pw"
MODULES: Final = 'modules_enabled = { "roster", "saslauth", "disco", "ping", "offline" }'
USERS: Final = 20  # Prosody keeps only so many messages for one
RETRY_S: Final = 0.2
POLL_S: Final = 0.02
QUIET_S: Final = 2.0
END_S: Final = 120.0
SHOWN: Final = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--stanzas", type=int, default=10_000, metavar="N", help="default: 10,000")
    add("--restarts", type=int, default=2, metavar="N", help="default: 2")
    add("--within-s", type=float, default=5.0, metavar="S", help="default: 5")
    add("--durability", choices=["process", "power"], default="process", help="default: process")
    add("--seed", type=int, metavar="N", help="of the moments; default: another one")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Do it, print the table, and exit with 1 where a promise was broken."""
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    print(
        f"{given.stanzas:,} sends, {given.restarts} restarts of Prosody; --seed {seed}", flush=True
    )
    configure_log("text", "error")
    with tempfile.TemporaryDirectory(prefix="sends-") as place:
        trial = Trial(Path(place), given.stanzas, given.restarts, given.within_s, seed)
        trio.run(trial.run, given.durability)
    rows, violations = trial.rows(), trial.violations()
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for label, figure, remark in rows:
        print(f"{label:<{first}}  {figure:>{second}}  {remark}".rstrip())
    print(f"violations: {len(violations)}")
    for violation in violations[:SHOWN]:
        print(f"  {violation}")
    sys.exit(bool(violations))


@define
class Trial:
    """One run, and what was seen of it."""

    directory: Path
    stanzas: int
    restarts: int
    within_s: float
    seed: int
    uids: dict[str, str] = field(factory=dict)
    """Of what was accepted, by id."""
    again: dict[str, str] = field(factory=dict)
    waits_s: list[float] = field(factory=list)
    full: int = 0
    arrived: Counter[str] = field(factory=Counter)
    bodies: dict[str, set[str | None]] = field(factory=dict)
    detached: int = 0
    left: int = 0
    took_s: float = 0

    async def run(self, durability: str) -> None:
        users = {f"u{number}": PASSWORD for number in range(USERS)}
        journal = JournalSettings(durability="power" if durability == "power" else "process")
        async with Prosody(
            self.directory,
            components={DOMAIN: SECRET},
            users=users,
            component_settings={"localhost": [MODULES]},
            log_level="error",
        ) as prosody:
            server = Server(LOOPBACK, prosody.component_port)
            url = parse_post_url("http://127.0.0.1:9/")
            component = Component(DOMAIN, Secret(SECRET), url, server)
            settings = Settings((component,), journal=journal)
            directory = StateDirectory(self.directory / "state")
            with open_storage(directory, journal) as storage:
                await self._live(Daemon(settings, storage), storage, prosody)
            for user in users:
                await self._collect(prosody, f"{user}@localhost")

    async def _live(self, daemon: Daemon, storage: Storage, prosody: Prosody) -> None:
        dice = random.Random(self.seed)
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.run)
            await _until(lambda: self._is_attached(daemon))
            with open_sender(daemon.parts) as sender:
                async with trio.open_nursery() as work:
                    work.start_soon(self._restart, prosody, daemon)
                    for number in range(self.stanzas):
                        start_s = dice.uniform(0, self.within_s)
                        work.start_soon(self._send, sender, number, start_s)
            with trio.fail_after(END_S):
                await _until(lambda: self._is_attached(daemon))
                while True:
                    if not await storage.totals():
                        break
                    await trio.sleep(0.05)
            self.took_s = time.monotonic() - began
            self.left = len(await storage.totals())
            self.detached = daemon.services[DOMAIN].handover.meter.streams - 1
            daemon.stop()

    def _is_attached(self, daemon: Daemon) -> bool:
        one = daemon.services.get(DOMAIN)
        return one is not None and one.status.link.state == "attached"

    async def _restart(self, prosody: Prosody, daemon: Daemon) -> None:
        for number in range(1, self.restarts + 1):
            while True:
                if len(self.uids) >= self.stanzas * number / (self.restarts + 1):
                    break
                await trio.sleep(POLL_S)
            await prosody.restart()
            await _until(lambda: self._is_attached(daemon))

    async def _send(self, sender: Sender, number: int, start_s: float) -> None:
        await trio.sleep(start_s)
        id = f"s{number}"
        content = f'{{"to": "u{number % USERS}@localhost", "id": "{id}", "body": "body of {id}"}}'
        key = Key("bench", id, sha256(content.encode()).digest())
        began = time.perf_counter()
        for uids in (self.uids, self.again):
            while id not in uids:
                stanza = await sender.compose(ReplyBody("json", content.encode()), f"bot@{DOMAIN}")
                try:
                    uids[id] = await sender.send(stanza, key)
                except QueueFull:
                    self.full += 1
                    await trio.sleep(RETRY_S)
            if uids is self.uids:
                self.waits_s.append(time.perf_counter() - began)

    async def _collect(self, prosody: Prosody, jid: str) -> None:
        """Log in, and take all that was stored."""
        async with connect_client(prosody.c2s_port, jid, PASSWORD) as client:
            seen = -1
            while seen != len(client.stanzas):
                seen = len(client.stanzas)
                await trio.sleep(QUIET_S / 10)
            for one in client.stanzas:
                if one.tag.endswith("}message"):
                    id = one.get("id", "")
                    self.arrived[id] += 1
                    body = one.findtext("{jabber:client}body")
                    self.bodies.setdefault(id, set()).add(body)

    def rows(self) -> list[Row]:
        waits = sorted(self.waits_s)
        share = [waits[int(len(waits) * part)] * 1000 for part in (0.5, 0.99)] if waits else [0, 0]
        rate = len(waits) / self.took_s if self.took_s else 0
        return [
            ("accepted", f"{len(self.uids):,}", f"in {self.took_s:.1f} s, all confirmed"),
            ("tried again", f"{self.full:,}", ""),
            ("detached", f"{self.detached}", "times"),
            ("arrived", f"{len(self.arrived):,}", f"{rate:,.0f}/s from first to confirmed"),
            ("copies", f"{self.arrived.total() - len(self.arrived):,}", ""),
            ("waited, p50", f"{share[0]:.1f}", "ms"),
            ("waited, p99", f"{share[1]:.1f}", "ms"),
        ]

    def violations(self) -> list[str]:
        found = [f"{id} was accepted and did not arrive" for id in self.uids.keys() - self.arrived]
        found += [f"{id} arrived and was not accepted" for id in self.arrived.keys() - self.uids]
        found += [f"{id} was not accepted" for id in _ids(self.stanzas) if id not in self.uids]
        found += [f"{id} has two uids" for id, uid in self.uids.items() if self.again[id] != uid]
        if len(set(self.uids.values())) != len(self.uids):
            found.append("two have one uid")
        for id, bodies in self.bodies.items():
            if bodies != {f"body of {id}"}:
                found.append(f"{id} arrived as {bodies}")
        if self.left:
            found.append("the journal is not empty")
        if self.detached != self.restarts:
            found.append(f"detached {self.detached} times")
        return found


def _ids(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(END_S):
        await until(condition)
