"""A connection without a peer: the server's side comes from a capture, and ours is parsed.

Our own pings to our own domain (S35) are answered here, between two elements from the server, since
the captured answers have other ids. Any handshake is accepted, since the answer is captured.
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
    """The transport of one stream. `parser` is the stream's own, which knows where elements end."""

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
        """Number of chunks that the stream may still read."""
        return 0 if self._closed else len(self._chunks)

    def give(self, data: bytes) -> None:
        """Add bytes for the stream to read."""
        self._chunks.append(data)
        self._given.set()

    def end(self) -> None:
        """End the stream after all bytes that were given."""
        self._ended = True
        self._given.set()

    async def wait_read(self, below: int = 1) -> None:
        """Wait until fewer than `below` chunks are unread, or the stream is closed."""
        while len(self._chunks) >= below and not self._closed:
            self._taken = trio.Event()
            await self._taken.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        # Rarely a checkpoint: the data is bounded, and needless checkpoints are expensive.
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
    """Return whether a stanza is a ping that a stream sends to learn which stanzas arrived."""
    return (
        stanza.kind == "iq"
        and (stanza.id or "").startswith(BARRIER_PREFIX)
        and same_domain(stanza.to or "", domain)
    )
