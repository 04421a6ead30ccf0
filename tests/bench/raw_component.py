"""The least that a component can be: a handshake, and then bytes up to the end of a message.

For ends of the benchmark that must cost next to nothing: there is no XML parser, so it is good for
Prosody on loopback only, which writes attributes in any order but always in single quotes, escapes
`<` and `>` wherever they are data, and sends nothing here but messages.
"""

import asyncio
import hashlib
import re
import socket
import sys
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, Final, cast

HEADER: Final = (
    "<stream:stream xmlns='jabber:component:accept'"
    " xmlns:stream='http://etherx.jabber.org/streams' to='{}'>"
)
STREAM_ID: Final = re.compile(rb"<stream:stream(?=[^>]* id='([^']*)')[^>]*>")
ACCEPTED: Final = re.compile(rb"<handshake\s*(/>|>\s*</handshake>)")
STREAM_ERROR: Final = b"<stream:error"
END: Final = b"</message>"
CHUNK_BYTES: Final = 1 << 20


class RawComponent(asyncio.BufferedProtocol):
    """A component; `ended` is done when its stream is over, with an exception if it broke."""

    def __init__(self, domain: str, secret: str) -> None:
        self._domain, self._secret = domain, secret
        self._buffer = bytearray(CHUNK_BYTES)
        self._carried = b""
        self._attached = False
        self.transport: asyncio.Transport
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def attached(self) -> None:
        """The handshake was accepted."""

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Whole messages came, and white space."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport.write(HEADER.format(self._domain).encode())

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._carried + self._buffer[:nbytes]
        if not self._attached:
            data = self._attach(data)
        end = data.rfind(END) + len(END)
        if end < len(END):
            self._carried = data
            if STREAM_ERROR in data:
                self._fail(data)
            return
        self._carried = data[end:]
        self.received(data[:end])

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(self._carried)

    def _attach(self, data: bytes) -> bytes:
        """Go on with the handshake; give what is not read yet."""
        if header := STREAM_ID.search(data):
            digest = hashlib.sha1(header[1] + self._secret.encode()).hexdigest()
            self.transport.write(f"<handshake>{digest}</handshake>".encode())
            data = data[header.end() :]
        if accepted := ACCEPTED.search(data):
            self._attached = True
            self.attached()
            data = data[accepted.end() :]
        return data

    def _fail(self, last: bytes) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the server ended the stream: {last!r}"))


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed: it halves what these processes cost."""
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed: asyncio itself must do", file=sys.stderr)
        asyncio.run(main)
    else:
        uvloop.run(main)
