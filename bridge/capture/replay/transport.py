"""A connection with nobody behind it: the server's side comes from a capture, ours is listened to.

Pings of our own to our own domain (S35) are answered here, between two of the server's elements:
the captured answers have other ids. Whatever handshake we send is taken; the answer is captured.
"""

from collections import deque
from collections.abc import Callable

import trio

from bridge.capture.replay.side import Side, stanza_of
from xmppstream import Stanza, encode
from xmppstream.jid import same_domain
from xmppstream.parser_thread import StreamParserThread

BARRIER_PREFIX = "barrier-"
Sent = Callable[[Stanza], None]


class ReplayStream(trio.abc.Stream):
    """The transport of one stream, which parses by `parser`: it knows where an element ends."""

    def __init__(self, domain: str, parser: StreamParserThread, sent: Sent) -> None:
        self.parser = parser
        self._domain = domain
        self._sent = sent
        self._ours = Side()
        self._chunks: deque[bytes] = deque()
        self._answers: list[bytes] = []
        self._ended = False
        self._closed = False
        self._given = trio.Event()
        self._taken = trio.Event()

    @property
    def waiting(self) -> int:
        """How many chunks have not been read, and may be."""
        return 0 if self._closed else len(self._chunks)

    def give(self, data: bytes) -> None:
        """Have the stream read these bytes next."""
        self._chunks.append(data)
        self._given.set()

    def end(self) -> None:
        """Let the stream come to its end, after all that was given."""
        self._ended = True
        self._given.set()

    async def wait_read(self, below: int = 1) -> None:
        """Wait until fewer chunks than that have not been read, or the stream reads no more."""
        while len(self._chunks) >= below and not self._closed:
            self._taken = trio.Event()
            await self._taken.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        # Rarely a checkpoint: what is here is bounded, and a turn for nothing costs much.
        while True:
            if self._answers and self.parser.at_boundary:
                data = b"".join(self._answers)
                self._answers.clear()
                return data
            if self._chunks:
                return self._next(max_bytes)
            if self._ended or self._closed:
                return b""
            self._given = trio.Event()
            await self._given.wait()

    def _next(self, max_bytes: int | None) -> bytes:
        data = self._chunks.popleft()
        if max_bytes is not None and len(data) > max_bytes:
            self._chunks.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self._taken.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for event in self._ours.feed(bytes(data)):
            stanza = stanza_of(event)
            if stanza is None:
                continue
            if is_barrier(stanza, self._domain):
                self._answers.append(encode(stanza.reply()))
                self._given.set()
            else:
                self._sent(stanza)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        self._ours.close()
        self._given.set()
        self._taken.set()
        await trio.lowlevel.checkpoint()


def is_barrier(stanza: Stanza, domain: str) -> bool:
    """Tell whether a stanza is a ping by which a stream of ours finds out what has arrived."""
    return (
        stanza.kind == "iq"
        and (stanza.id or "").startswith(BARRIER_PREFIX)
        and same_domain(stanza.to or "", domain)
    )
