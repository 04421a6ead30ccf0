"""A flood of names never seen before, through one daemon on one stream: what memory it costs.

By `stream`, stanzas of a kind that is not POSTed carry the names; by `reply`, the endpoint's
`stanza` does. The same amount with one name is sent as well, for comparison.
"""

import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import trio

from tests.bench.process import rss_mb
from xmppstream.names import COMPONENT, STREAMS

DOMAIN = "bot.localhost"
STANZA_BYTES = 100_000
NAME_BYTES = 500
MIB = 1024 * 1024
SEEN = re.compile(rb"</message>|id='last'|<iq to='%s' from='%s'.*?</iq>" % ((DOMAIN.encode(),) * 2))
PING = f"<iq type='get' id='last' to='{DOMAIN}' from='a@b/c'><ping xmlns='urn:xmpp:ping'/></iq>"


async def run(mib: int, way: str) -> None:
    """Run both floods and print memory and throughput of each."""
    rates = []
    for title, names in (("one name", itertools.repeat(0)), ("new names", itertools.count())):
        async with attached(names if way == "reply" else None) as (pid, peer):
            flood = peer.flood_stream if way == "stream" else peer.flood_requests
            rates.append(await flood(title, names, mib, partial(rss_mb, pid)))
    print(f"throughput with new names: {rates[1] / rates[0]:.2f} of that with one name")


def payload(names: "itertools.count[int] | itertools.repeat[int]") -> str:
    """About `STANZA_BYTES` of elements."""
    numbers = itertools.islice(names, STANZA_BYTES // (NAME_BYTES + 5))
    return "".join(f"<n{number:0{NAME_BYTES}}/>" for number in numbers)


class Peer:
    """The server's end of the daemon's stream. It looks for bytes and does not parse: a parser
    here would keep all the names that the daemon's must not keep.
    """

    def __init__(self, transport: trio.SocketStream) -> None:
        self._transport = transport
        self._sending = trio.Lock()
        self._received = 0
        self._progress = trio.Event()
        self._last = trio.Event()

    async def attach(self) -> None:
        """Let the daemon in, whatever its handshake."""
        await self._read_until(b"to=")
        header = f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}' id='1'>"
        await self._send(header.encode())
        await self._read_until(b"</handshake>")
        await self._send(b"<handshake/>")

    async def serve(self) -> None:
        """Count messages and return barriers, for ever."""
        carried = b""
        while data := await self._transport.receive_some(MIB):
            data = carried + bytes(data)
            end = 0
            for found in SEEN.finditer(data):
                if found[0] == b"</message>":
                    self._received += 1
                    self._progress.set()
                elif found[0] == b"id='last'":
                    self._last.set()
                else:
                    await self._send(found[0])
                end = found.end()
            carried = data[max(end, len(data) - 300) :]

    async def _read_until(self, mark: bytes) -> None:
        data = b""
        while mark not in data:
            data += await self._transport.receive_some(MIB)

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._transport.send_all(data)

    async def flood_stream(
        self,
        title: str,
        names: "itertools.count[int] | itertools.repeat[int]",
        mib: int,
        memory: Callable[[], float],
    ) -> float:
        """Send stanzas that are read and dropped, then a ping; give MiB per second."""
        sent, started, mark = 0, time.perf_counter(), 50 * MIB
        while sent < mib * MIB:
            inner = payload(names)
            stanza = f"<message type='headline' to='{DOMAIN}' from='a@b/c'>{inner}</message>"
            data = stanza.encode()
            await self._send(data)
            sent += len(data)
            if sent >= mark:
                print(f"{title}: {sent // MIB:5} MiB  {memory():6.1f} MB", flush=True)
                mark = max(mark * 2, mark + 50 * MIB)
        await self._send(PING.encode())
        await self._last.wait()
        return self._report(title, sent, started, memory)

    async def flood_requests(
        self,
        title: str,
        names: "itertools.count[int] | itertools.repeat[int]",
        mib: int,
        memory: Callable[[], float],
    ) -> float:
        """Ask again and again for a reply with such a stanza; give MiB per second."""
        request = f"<message type='chat' to='{DOMAIN}' from='a@b/c'><body>x</body></message>"
        sent, started, mark = 0, time.perf_counter(), 50 * MIB
        in_flight = 8
        await self._send(request.encode() * in_flight)
        answered = 0
        while sent < mib * MIB:
            while self._received == answered:
                self._progress = trio.Event()
                await self._progress.wait()
            fresh, answered = self._received - answered, self._received
            sent += fresh * STANZA_BYTES
            await self._send(request.encode() * fresh)
            if sent >= mark:
                print(f"{title}: {sent // MIB:5} MiB  {memory():6.1f} MB", flush=True)
                mark = max(mark * 2, mark + 50 * MIB)
        await self._send(PING.encode())
        await self._last.wait()
        return self._report(title, sent, started, memory)

    def _report(self, title: str, sent: int, started: float, memory: Callable[[], float]) -> float:
        rate = sent / MIB / (time.perf_counter() - started)
        print(f"{title}: {sent // MIB:5} MiB  {memory():6.1f} MB  {rate:.1f} MiB/s, last answered")
        return rate


@asynccontextmanager
async def attached(
    names: "itertools.count[int] | itertools.repeat[int] | None",
) -> AsyncIterator[tuple[int, Peer]]:
    """Start a daemon against a server and an endpoint of ours."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    endpoints = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port, http = (one[0].socket.getsockname()[1] for one in (listeners, endpoints))
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "bridge.toml"
        kinds = '["message"]' if names is not None else "[]"
        config.write_text(
            f'server = "127.0.0.1:{port}"\n[component."{DOMAIN}"]\ncomponent_secret = "s"\n'
            f'component_post_url = "http://127.0.0.1:{http}/"\ncomponent_post_stanzas = {kinds}\n'
        )
        config.chmod(0o600)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, partial(answer, names), endpoints)
            command = [sys.executable, "-m", "bridge", "run", str(config), "--log-level", "warning"]
            command += ["--state-dir", str(Path(directory) / "state")]
            process = await trio.lowlevel.open_process(command, env=dict(os.environ))
            try:
                transport = await listeners[0].accept()
                peer = Peer(transport)
                await peer.attach()
                nursery.start_soon(peer.serve)
                yield process.pid, peer
            finally:
                process.kill()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await process.wait()


async def answer(
    names: "itertools.count[int] | itertools.repeat[int] | None", transport: trio.SocketStream
) -> None:
    """An endpoint for small requests that come in one piece: a reply with the flood's names."""
    with suppress(trio.BrokenResourceError):  # the daemon is killed in the end
        while await transport.receive_some(65536):
            assert names is not None
            stanza = f"<message><body>x</body>{payload(names)}</message>"
            body = msgspec.json.encode({"stanza": stanza})
            head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            await transport.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
