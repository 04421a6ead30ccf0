"""Both ends of many streamed replies: the endpoint that says them, and the people who read them.

A process of its own, so that what it costs is told apart. The endpoint streams to those who write
to `slow@`, a piece every so often; it answers everybody else at once. The people are a component,
whose users ask once each. It prints JSON lines: `port`, of the endpoint; `running`, once all
streams have begun and a second has passed; and then a `Told`.
`python -m tests.bench.narrator PORT SECRET TO --streams N --seconds S --pieces-per-s P`; it asks
when a line comes on its standard input.
"""

import argparse
import asyncio
import json
import re
import sys
from functools import partial
from typing import Final

import msgspec

from tests.bench.raw_component import RawComponent, run

DOMAIN: Final = "people.localhost"
WORDS: Final = b"streaming "
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PLAIN: Final = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"body":"hi"}'
)
MESSAGE: Final = re.compile(rb"<message[ >].*?</message>", re.DOTALL)
USER: Final = re.compile(rb" to='u(\d+)@")
TEXT: Final = re.compile(rb"<body>([^<]*)</body>")
LATE_S: Final = 60.0


class Told(msgspec.Struct):
    """What the people got: first texts, corrections on the way, and whole texts at the end."""

    first: int
    between: int
    whole: int


class People(RawComponent):
    """Users who ask once each, and read."""

    def __init__(self, secret: str, streams: int, whole: bytes) -> None:
        super().__init__(DOMAIN, secret)
        self.ready, self.done = asyncio.Event(), asyncio.Event()
        self.told = Told(0, 0, 0)
        self._streams = streams
        self._whole = whole
        self._finished: set[bytes] = set()

    def attached(self) -> None:
        self.ready.set()

    def ask(self, to: str) -> None:
        """Let everybody write."""
        for user in range(self._streams):
            address = f"from='u{user}@{DOMAIN}/x' to='{to}' type='chat' id='q{user}'"
            self.transport.write(f"<message {address}><body>tell me</body></message>".encode())

    def received(self, data: bytes) -> None:
        for message in MESSAGE.findall(data):
            if b"no-store" in message:
                self.told.between += 1
            elif b"<replace" not in message:
                self.told.first += 1
            text, user = TEXT.search(message), USER.search(message)
            if text and user and text[1] == self._whole and b"no-store" not in message:
                self.told.whole += 1
                self._finished.add(user[1])
                if len(self._finished) == self._streams:
                    self.done.set()


class Endpoint:
    """Says the same to everybody who asks `slow@`, piece by piece."""

    def __init__(self, streams: int, pieces: int, every_s: float) -> None:
        self.all_begun = asyncio.Event()
        self._begun = 0
        self._streams = streams
        self._pieces = pieces
        self._every_s = every_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if b'"slow@' in body:
                    await self._stream(writer)
                else:
                    writer.write(PLAIN)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        line = json.dumps({"append": WORDS.decode()}).encode() + b"\n"
        piece = b"%x\r\n%b\r\n" % (len(line), line)
        writer.write(HEAD)
        self._begun += 1
        if self._begun == self._streams:
            self.all_begun.set()
        for _ in range(self._pieces):
            writer.write(piece)
            await asyncio.sleep(self._every_s)
        writer.write(b"0\r\n\r\n")


async def main(arguments: list[str]) -> None:
    """Attach, serve and read."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.narrator", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("secret")
    parser.add_argument("to")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pieces-per-s", type=float, default=10.0)
    given = parser.parse_args(arguments)
    pieces = round(given.seconds * given.pieces_per_s)
    endpoint = Endpoint(given.streams, pieces, 1 / given.pieces_per_s)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    loop = asyncio.get_running_loop()
    make = partial(People, given.secret, given.streams, WORDS * pieces)
    _, people = await loop.create_connection(make, "127.0.0.1", given.port)
    await people.ready.wait()
    await asyncio.to_thread(sys.stdin.readline)
    people.ask(given.to)
    await endpoint.all_begun.wait()
    await asyncio.sleep(1)
    print(json.dumps({"running": True}), flush=True)
    try:
        await asyncio.wait_for(people.done.wait(), given.seconds + LATE_S)
    except TimeoutError:
        print("not everybody got a whole text", file=sys.stderr)
    print(msgspec.json.encode(people.told).decode(), flush=True)
    await server.serve_forever()  # for the others, until it is killed


if __name__ == "__main__":
    run(main(sys.argv[1:]))
