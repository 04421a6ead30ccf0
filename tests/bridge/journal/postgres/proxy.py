"""What stands between a node and its database, and breaks connections at a chosen point."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_WAIT_S: Final = 20.0
_CHUNK: Final = 65536


class _Fault:
    """What happens to the next request, of whichever connection it is."""

    def __init__(
        self,
        pass_bytes: int | None,
        *,
        stalls: bool = False,
        then: Callable[[], object] = lambda: None,
        refuse: bool = False,
    ) -> None:
        self.pass_bytes = pass_bytes  # None: all of it, and the answer is lost
        self.stalls = stalls
        self.then = then
        self.refuse = refuse


class _Pair:
    """A connection of a node, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.stalled = False
        self.loses_answer: _Fault | None = None

    def shut(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Proxy:
    """Passes everything on until it is told otherwise. Faults are for the next request alone."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._target = (parts.hostname, parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        place = f"{parts.username}@127.0.0.1:{self._listener.getsockname()[1]}"
        self.url: str = urlunsplit(parts._replace(netloc=place))
        self.cuts = 0
        self.refusals = 0
        self._lock = threading.Lock()
        self._fault: _Fault | None = None
        self._refuses = False
        self._stalled = threading.Event()
        self._pairs: list[_Pair] = []
        self._start(self._accept)

    # --- faults

    def cut_after_request(self, *, refuse: bool = False) -> None:
        """Lose the answer of the next request, and then the connection. With `refuse`, no other
        one is let through until `accept`.
        """
        self._fault = _Fault(None, refuse=refuse)

    def cut_before_request(
        self, *, then: Callable[[], object] = lambda: None, refuse: bool = False
    ) -> None:
        """Lose the next request and its connection. `then` is called in between."""
        self._fault = _Fault(0, then=then, refuse=refuse)

    def stall_after_bytes(self, count: int) -> None:
        """Pass only the first bytes of the next request, and then no more in either direction."""
        self._fault = _Fault(count, stalls=True)

    def wait_stalled(self) -> None:
        """Wait until a request has stalled."""
        assert self._stalled.wait(_WAIT_S)

    def abandon(self) -> None:
        """End the stalled connections for the node; the server is not told."""
        for pair in self._pairs:
            if pair.stalled:
                pair.shut(pair.client)

    def accept(self) -> None:
        """Let connections through again."""
        self._refuses = False

    def close(self) -> None:
        """End all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            pair.shut(pair.client, pair.server)

    # --- connections

    @staticmethod
    def _start(target: Callable[..., None], *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    self.refusals += 1
                    client.close()
                    continue
                pair = _Pair(client, socket.create_connection(self._target))
                self._pairs.append(pair)
                self._start(self._requests, pair)
                self._start(self._answers, pair)

    def _requests(self, pair: _Pair) -> None:
        with suppress(OSError):
            while data := pair.client.recv(_CHUNK):
                with self._lock:
                    fault = self._fault
                    if fault is None:
                        pair.server.sendall(data)
                        continue
                    if fault.pass_bytes is None:
                        self._fault = None
                        pair.loses_answer = fault
                        pair.server.sendall(data)
                        continue
                    passed, rest = data[: fault.pass_bytes], data[fault.pass_bytes :]
                    pair.server.sendall(passed)
                    fault.pass_bytes -= len(passed)
                    if not rest:
                        continue
                    self._fault = None
                if fault.stalls:
                    pair.stalled = True
                    self._stalled.set()
                    return
                self._cut(pair, fault)
                return
        if not pair.stalled:
            pair.shut(pair.server)

    def _answers(self, pair: _Pair) -> None:
        with suppress(OSError):
            while data := pair.server.recv(_CHUNK):
                if pair.loses_answer is not None:
                    if not _is_ready(data):  # the last message of an answer
                        continue
                    self._cut(pair, pair.loses_answer)
                    return
                if not pair.stalled:
                    pair.client.sendall(data)
        if not pair.stalled:
            pair.shut(pair.client)

    def _cut(self, pair: _Pair, fault: _Fault) -> None:
        self._refuses = fault.refuse
        fault.then()
        self.cuts += 1
        pair.shut(pair.client, pair.server)


def _is_ready(data: bytes) -> bool:
    """Whether an answer ends with ReadyForQuery, outside of a transaction."""
    return data[-6:] == b"Z\0\0\0\5I"
