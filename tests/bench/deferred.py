"""Deferred replies while the daemon is killed and Prosody is restarted: does each arrive, in order?

N messages of 20 users come to an endpoint through a real Prosody; it answers each by the promise of
a later reply, and the users leave. Then, for each user, the replies are POSTed one after the other,
each to the `reply_url` of its message and with an idempotency key of its own, and again with the
same key until one is answered by 202. Meanwhile, at even shares of what was accepted, the daemon is
killed (kill -9) and started again, and Prosody is restarted, by turns. Prosody stores the replies;
in the end the users log in, and all that they get is counted.

  promised    messages that were answered by a promise
  accepted    replies that were answered by 202
  tried again requests that were refused, or got no answer: they were made again with their key
  arrived     different replies among all that the users got
  copies      arrivals of one reply beyond its first; each with the same id and body
  took        from the first reply to the last one accepted

What is asked for: each reply arrives, under one id, which is the one of its 202, and nothing else
does; per user, in the order in which they were accepted; the daemon tells of no error; the journal
is empty in the end. Whatever is violated is listed; then the exit code is 1. It needs Debian's
package prosody.
"""

import argparse
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from tests.bench.answerer import NOTHING, Request, converse
from tests.bench.contestant import DOMAIN, SECRET
from tests.bench.evidence import read_journal
from tests.bench.kills import show
from tests.bench.verdict import Row
from tests.bench.victim import Victim
from tests.servers.peer import connect_client
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody

PASSWORD: Final = "pw"
MODULES: Final = 'modules_enabled = { "roster", "saslauth", "disco", "ping", "offline" }'
USERS: Final = 20  # Prosody keeps only so many messages for one
AT_ONCE: Final = 50
RETRY_S: Final = 0.05
POLL_S: Final = 0.005
QUIET_S: Final = 0.3
END_S: Final = 120.0
SHOWN: Final = 20
PROMISE: Final = b'{"deferred": true}'
PROMISED: Final = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(PROMISE), PROMISE)
)
END_OF_HEAD: Final = b"\r\n\r\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    add = parser.add_argument
    add("--replies", type=int, default=10_000, metavar="N", help="default: 10,000")
    add("--kills", type=int, default=3, metavar="N", help="of the daemon; default: 3")
    add("--restarts", type=int, default=2, metavar="N", help="of Prosody; default: 2")
    add("--durability", choices=["process", "power"], default="process", help="default: process")
    add("--seed", type=int, metavar="N", help="of the moments; default: another one")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Do it, print the table, and exit with 1 where a promise was broken."""
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    what = f"{given.kills} kills of the daemon, {given.restarts} restarts of Prosody"
    print(f"{given.replies:,} deferred replies, {what}; --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="deferred-") as place:
        trial = Trial(Path(place), given.replies, given.kills, given.restarts, seed)
        trio.run(trial.run, given.durability)
    show(trial.rows())
    violations = trial.violations()
    print(f"violations: {len(violations)}")
    for violation in violations[:SHOWN]:
        print(f"  {violation}")
    sys.exit(bool(violations))


@dataclass
class Trial:
    """One run, and what was seen of it. Messages and their replies are named by their number."""

    directory: Path
    count: int
    kills: int
    restarts: int
    seed: int
    urls: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """Of the stanza of each accepted reply."""
    arrivals: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Body and id of what each user got, in order."""
    again: int = 0
    took_s: float = 0
    left: bool = False
    complaints: list[str] = field(default_factory=list)

    async def run(self, durability: str) -> None:
        users = {f"u{number}": PASSWORD for number in range(USERS)}
        async with (
            Prosody(
                self.directory,
                components={DOMAIN: SECRET},
                users=users,
                component_settings={"localhost": [MODULES]},
                log_level="error",
            ) as prosody,
            trio.open_nursery() as nursery,
        ):
            [endpoint] = await trio.open_tcp_listeners(0, host=LOOPBACK)
            nursery.start_soon(trio.serve_listeners, self._converse, [endpoint])
            url = f"http://{LOOPBACK}:{endpoint.socket.getsockname()[1]}/"
            with reserve_port() as held:
                port = held.getsockname()[1]
            place = f"{LOOPBACK}:{port}"
            listen = {"address": place, "public_url": f"http://{place}"}
            victim = Victim(self.directory, prosody.component_port, url, durability, listen=listen)
            try:
                await self._live(prosody, victim, port)
            finally:
                with trio.CancelScope(shield=True):
                    await victim.kill()
            self.complaints = [str(line) for line in victim.complaints()]
            for user in users:
                await self._collect(prosody, user)
            nursery.cancel_scope.cancel()

    async def _live(self, prosody: Prosody, victim: Victim, port: int) -> None:
        await victim.start()
        await victim.daemon.wait_logged("attached")
        for user in range(USERS):
            await self._write(prosody, user)
        await _until(lambda: len(self.urls) == self.count)
        began = time.monotonic()
        async with trio.open_nursery() as work:
            work.start_soon(self._disturb, prosody, victim)
            for user in range(USERS):
                work.start_soon(self._reply, user, port)
        self.took_s = time.monotonic() - began
        await victim.daemon.wait_logged("attached")
        with trio.move_on_after(END_S):
            await _until(lambda: self._is_empty(victim))
        self.left = not self._is_empty(victim)
        await victim.stop()

    def _numbers(self, user: int) -> range:
        """Those of the messages of a user."""
        return range(user, self.count, USERS)

    async def _write(self, prosody: Prosody, user: int) -> None:
        """Log in as a user, write all its messages, and leave."""
        async with connect_client(prosody.c2s_port, f"u{user}@localhost", PASSWORD) as client:
            numbers = self._numbers(user)
            for number in numbers:
                body = f"<body>message {number}</body>"
                head = f"<message to='bot@{DOMAIN}' type='chat' id='m{number}'>"
                await client.send(f"{head}{body}</message>")
                if number % (USERS * AT_ONCE) == user or number == numbers[-1]:
                    await _until(partial(self._is_promised, number))

    def _is_promised(self, number: int) -> bool:
        return f"m{number}" in self.urls

    def _is_empty(self, victim: Victim) -> bool:
        return read_journal(victim.journal, 0, 0, 0).is_empty

    async def _converse(self, stream: trio.SocketStream) -> None:
        await converse(stream, self._answer)

    async def _answer(self, request: Request) -> bytes:
        stanza: dict[str, Any] = msgspec.json.decode(request.body)
        if "reply_url" not in stanza:
            return NOTHING
        self.urls[stanza["id"]] = stanza["reply_url"]
        return PROMISED

    async def _disturb(self, prosody: Prosody, victim: Victim) -> None:
        """Kill and restart, by turns, at even shares of what was accepted."""
        dice = random.Random(self.seed)
        turns = [victim] * self.kills + [prosody] * self.restarts
        dice.shuffle(turns)
        for number, turn in enumerate(turns, 1):
            share = self.count * number / (len(turns) + 1)
            await _until(partial(self._has_accepted, share))
            if turn is prosody:
                await prosody.restart()
            else:
                await victim.kill()
                await victim.start()

    def _has_accepted(self, share: float) -> bool:
        return len(self.ids) >= share

    async def _reply(self, user: int, port: int) -> None:
        """POST the replies to a user's messages, one after the other."""
        client = Client(port)
        try:
            for number in self._numbers(user):
                path = self.urls[f"m{number}"].partition(f":{port}")[2]
                body = b'{"body": "reply %d", "done": true}' % number
                while (id := await client.post(path, body, f"k{number}")) is None:
                    self.again += 1
                    await trio.sleep(RETRY_S)
                self.ids[f"reply {number}"] = id
        finally:
            await client.aclose()

    async def _collect(self, prosody: Prosody, user: str) -> None:
        """Log in, and take all that was stored."""
        async with connect_client(prosody.c2s_port, f"{user}@localhost", PASSWORD) as client:
            seen = -1
            while seen != len(client.stanzas):
                seen = len(client.stanzas)
                await trio.sleep(QUIET_S)
            self.arrivals[user] = [
                (one.findtext("{jabber:client}body") or "", one.get("id", ""))
                for one in client.stanzas
                if one.tag.endswith("}message")
            ]

    def rows(self) -> list[Row]:
        every = [body for arrived in self.arrivals.values() for body, _ in arrived]
        rate = len(self.ids) / self.took_s if self.took_s else 0
        return [
            ("promised", f"{len(self.urls):,}", ""),
            ("accepted", f"{len(self.ids):,}", ""),
            ("tried again", f"{self.again:,}", ""),
            ("arrived", f"{len(set(every)):,}", ""),
            ("copies", f"{len(every) - len(set(every)):,}", ""),
            ("took", f"{self.took_s:.1f}", f"s, {rate:,.0f}/s, with all interruptions"),
        ]

    def violations(self) -> list[str]:
        found = [f"the daemon says: {one}" for one in self.complaints]
        for user in range(USERS):
            first = list(dict.fromkeys(body for body, _ in self.arrivals[f"u{user}"]))
            expected = [f"reply {number}" for number in self._numbers(user)]
            found += [f"u{user}: {one} did not arrive" for one in set(expected) - set(first)]
            found += [f"u{user}: {one!r} arrived" for one in set(first) - set(expected)]
            places = {one: place for place, one in enumerate(expected)}
            known = [one for one in first if one in places]
            found += [
                f"u{user}: {two} came before {one}"
                for two, one in pairwise(known)
                if places[two] > places[one]
            ]
            found += [
                f"u{user}: {body} has the id {id}, not {self.ids.get(body)}"
                for body, id in self.arrivals[f"u{user}"]
                if self.ids.get(body) != id
            ]
        if len(set(self.ids.values())) != self.count:
            found.append(f"{len(set(self.ids.values()))} different ids")
        if self.left:
            found.append("the journal is not empty")
        return found


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(END_S):
        while True:
            if condition():
                return
            await trio.sleep(POLL_S)


class Client:
    """One connection to the listener, opened again when it has ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: trio.SocketStream | None = None

    async def post(self, path: str, body: bytes, key: str) -> str | None:
        """POST a reply; give the id of its stanza, or None if it was not accepted."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: {key}\r\n\r\n"
        )
        try:
            if self._stream is None:
                self._stream = await trio.open_tcp_stream(LOOPBACK, self._port)
                self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._stream.send_all(head.encode() + body)
            status, content = await self._answer(self._stream)
        except (OSError, trio.BrokenResourceError):
            await self.aclose()
            return None
        if status == 202:
            return str(msgspec.json.decode(content)["id"])
        assert status == 503, (status, content)
        return None

    async def _answer(self, stream: trio.SocketStream) -> tuple[int, bytes]:
        data = b""
        while END_OF_HEAD not in data:
            data += await self._more(stream)
        head, _, content = data.partition(END_OF_HEAD)
        lines = head.decode().lower().split("\r\n")
        [length] = [int(one[16:]) for one in lines if one.startswith("content-length: ")]
        while len(content) < length:
            content += await self._more(stream)
        return int(lines[0].split()[1]), content

    async def _more(self, stream: trio.SocketStream) -> bytes:
        chunk = await stream.receive_some(1 << 16)
        if not chunk:
            raise trio.BrokenResourceError
        return bytes(chunk)

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await trio.aclose_forcefully(stream)
