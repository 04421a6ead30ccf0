"""A siege of the listener, and what the bridge's own traffic and memory make of it."""

import argparse
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.servers.daemon import Daemon, run_daemon, settings_for
from tests.servers.endpoint import open_endpoint
from tests.servers.peer import Peer, connect_component
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody

BOT: Final = "bot.localhost"
PEER: Final = "peer.localhost"
TOKEN: Final = "a-token-of-the-siege-0123"
AUTH: Final = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"
POST: Final = f"POST /v1/stanzas HTTP/1.1\r\n{AUTH}Content-Type: application/json\r\n"
MB: Final = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.add_argument("--seconds", type=float, default=10, help="of each attack")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections")
    parser.set_defaults(run=lambda given: trio.run(run, given.seconds, given.idle))


# --- the attackers, each in a process of its own


async def idle(port: int, count: int) -> None:
    """Connect and say nothing; connect again where that is not wanted."""
    await _many(port, count, _hold)


async def slow_bodies(port: int, count: int) -> None:
    """Send a body byte by byte."""
    await _many(port, count, _drip)


async def long_bodies(port: int, count: int) -> None:
    """Send 100 MB, announced and not."""
    await _many(port, count, _pour)


async def endless_heads(port: int, count: int) -> None:
    """Send headers without end."""
    await _many(port, count, _headers)


async def deaf(port: int, count: int) -> None:
    """Ask for much, and read nothing."""
    await _many(port, count, _ask_and_not_read)


async def _many(
    port: int, count: int, attack: Callable[[trio.SocketStream], Awaitable[None]]
) -> None:
    async def again() -> None:
        while True:
            with suppress(OSError, trio.BrokenResourceError):
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    await attack(stream)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(again)
            if number % 100 == 99:
                await trio.sleep(0.02)


async def _hold(stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


async def _drip(stream: trio.SocketStream) -> None:
    await stream.send_all(f"{POST}Content-Length: 1000\r\n\r\n".encode())
    while True:
        await stream.send_all(b" ")
        await trio.sleep(0.5)


async def _pour(stream: trio.SocketStream) -> None:
    if stream.socket.getsockname()[1] % 2:
        await stream.send_all(f"{POST}Content-Length: {100 * MB}\r\n\r\n".encode())
        for _ in range(100):
            await stream.send_all(bytes(MB))
    else:
        await stream.send_all(f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(1000):
            await stream.send_all(b"186a0\r\n" + b" " * 100_000 + b"\r\n")


async def _headers(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n")
    while True:
        await stream.send_all(b"X-Header: and no end\r\n" * 1000)


async def _ask_and_not_read(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    while True:
        await stream.send_all(b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)


ATTACKS: Final = {
    one.__name__: one for one in (idle, slow_bodies, long_bodies, endless_heads, deaf)
}


# --- the bridge beside it


async def run(seconds: float, idle_count: int) -> None:
    """Run a real Prosody, a daemon, an echo, and each attack; print what that costs."""
    counts = {"idle": idle_count, "slow_bodies": 500, "long_bodies": 8}
    counts |= {"endless_heads": 50, "deaf": 50}
    with tempfile.TemporaryDirectory() as name, reserve_port() as held:
        directory, port = Path(name), held.getsockname()[1]
        token = {"name": "siege", "secret": TOKEN, "scopes": ["send", "query"]}
        listen: dict[str, Any] = {"address": f"{LOOPBACK}:{port}", "token": [token]}
        async with (
            Prosody(directory, components={BOT: "s", PEER: "p"}, log_level="warn") as server,
            open_endpoint() as endpoint,
            connect_component(server.component_port, PEER, "p") as peer,
        ):
            bot = {"component_secret": "s", "component_post_url": endpoint.url}
            settings = settings_for(server.component_port, {BOT: bot}, listen=listen)
            async with run_daemon(directory, settings) as daemon:
                print(
                    f"{'':16}{'round trips/s':>14}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}", end=""
                )
                print(f"{'CPU':>6}{'MB':>7}{'peak MB':>9}{'files':>7}")
                await _report("quiet", daemon, peer, seconds)
                for attack, count in counts.items():
                    with Attacker(attack, port, count):
                        await _report(f"{attack} ({count})", daemon, peer, seconds)
                await _report("quiet again", daemon, peer, seconds)
                attackers = [Attacker(attack, port, count) for attack, count in counts.items()]
                await _report("all at once", daemon, peer, seconds)
                code, took_s = await daemon.terminate()
                print(f"stopped under all of them: {took_s:.2f} s, exit code {code}")
                for attacker in attackers:
                    attacker.end()


class Attacker:
    """A process that attacks."""

    def __init__(self, attack: str, port: int, count: int) -> None:
        command = [sys.executable, "-m", "tests.bench.siege", attack, str(port), str(count)]
        self._process = subprocess.Popen(command)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


async def _report(title: str, daemon: Daemon, peer: Peer, seconds: float) -> None:
    await trio.sleep(1)
    times: list[float] = []
    before = _cpu_s(daemon)
    with trio.move_on_after(seconds):
        while True:
            start = trio.current_time()
            body = f"{title} {len(times)}"
            await peer.send(
                f"<message from='a@{PEER}' to='b@{BOT}' type='chat'><body>{body}</body></message>"
            )
            await peer.receive(partial(_says, body), timeout_s=60)
            times.append(trio.current_time() - start)
    share = (_cpu_s(daemon) - before) / seconds
    times.sort()
    p99 = times[math.ceil(0.99 * len(times)) - 1]
    milliseconds = [1000 * one for one in (statistics.median(times), p99, times[-1])]
    print(f"{title:16.16}{len(times) / seconds:14.0f}", end="")
    print("".join(f"{one:8.1f}" for one in milliseconds), end="")
    print(f"{share:6.0%}{daemon.rss_bytes / MB:7.0f}", end="")
    print(f"{daemon.peak_rss_bytes / MB:9.0f}{daemon.fd_count:7}")


def _says(body: str, stanza: ET.Element) -> bool:
    return body in "".join(stanza.itertext())


def _cpu_s(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    trio.run(ATTACKS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3]))
