"""A pool of connections to HTTP servers: HTTP/1.1 on trio.

Taking a connection costs the same with one as with a thousand: idle ones are a stack per origin,
the newest on top, so expired ones gather at the bottom.

Invariants: a connection is either idle (in `_idle`) or serves one `exchange`. It is closed if its
exchange did not end with a complete response, also on cancellation: no half-used connection is ever
idle. `_open` counts both kinds. Running exchanges and `_room` add up to `max_connections`. A
finished exchange hands its room to the longest waiter, so no waiter is overtaken.
"""

import math
import ssl
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

import httpx
import trio
from attrs import frozen

from bridge.httpclient.connection import Connection, open_connection
from bridge.httpclient.deadline import Deadlines
from bridge.httpclient.response import (
    BodyOpener,
    BodySink,
    Heads,
    Response,
    ResponseLimits,
    ResponseReader,
)
from xmppstream.dial import why_failed

STREAM_PAUSE_S: Final = 0.5
"""The pause between two reads of a stream that has begun, unless `STREAM_BYTES` came at once. A
language model sends a word at a time. To wake up for each word of 200 models was measured to double
the latency of all other exchanges, on two cores that were busy; with this pause it was unmoved.
"""
STREAM_BYTES: Final = 4096
T = TypeVar("T")
_BUFFERED_BYTES: Final = 16 * 1024  # the least that a system's idle send buffer takes at once
_LINGER_S: Final = 0.5  # for a server that reads the rest of a request after its response


class Origin(NamedTuple):
    """The server of a connection. A tuple, since it is looked up for each request."""

    scheme: str
    host: str
    port: int


@frozen
class PoolLimits:
    """The maximum number of connections, and how long an idle one is kept."""

    max_connections: int = 256
    keepalive_s: float = 30.0


@frozen
class Timeouts:
    """The time-out of each phase, in seconds. Infinite by default: the caller has a scope."""

    connect: float = math.inf
    write: float = math.inf
    read: float = math.inf
    pool: float = math.inf


class _PooledConnection:
    """One connection, and the reader of its responses."""

    def __init__(
        self, connection: Connection, reader: ResponseReader, deadlines: Deadlines
    ) -> None:
        self.socket = connection
        self.reader = reader
        self._deadlines = deadlines
        # trio.current_time() looks the clock up each time, at twice the cost of reading it.
        self.now = trio.lowlevel.current_clock().current_time
        self.kept_until = 0.0  # while idle; by that clock
        self.expired = False

    def expire(self) -> None:
        """End the running exchange: its time is up."""
        self.expired = True
        self.socket.close()

    async def exchange(
        self,
        method: str,
        data: bytes,
        timeouts: Timeouts,
        opener: BodyOpener | None = None,
        key: str = "",
    ) -> Response:
        """Send a request and return its response; see `Pool.exchange`.

        Raises:
            httpx.WriteError, httpx.WriteTimeout: if the request cannot be sent.
            httpx.ReadError, httpx.ReadTimeout: if the response cannot be read.
            httpx.RemoteProtocolError: if the response is not valid.
        """
        reader, connection = self.reader, self.socket
        reader.begin(method)
        unsent: OSError | None = None
        answer = None
        try:
            try:
                sent = connection.send(data)
                if sent < len(data):
                    answer = await self._send_rest(data, sent, timeouts)
            except OSError as error:
                unsent = error  # a response may be here all the same: "too large", then closed
            while answer is None:
                if timeouts.read == math.inf:
                    await connection.wait()
                else:
                    await _within(timeouts.read, httpx.ReadTimeout, connection.wait)
                answer = self._received(unsent)
                if reader.is_streamed and answer is None and opener is not None:
                    sink = opener.open(key, reader.take_head())
                    answer = None if sink is None else await self._stream(sink)
                    opener = None
        except (OSError, httpx.TransportError, trio.ClosedResourceError) as error:
            if self.expired:
                raise httpx.ReadTimeout("the time for this request is up") from None
            if not isinstance(error, OSError):
                raise
            if unsent is not None:
                raise httpx.WriteError(why_failed(unsent)) from None
            raise httpx.ReadError(why_failed(error)) from None
        if unsent is not None:
            reader.reusable = False
        return answer

    async def _stream(self, sink: BodySink) -> Response:
        """Read the body into a sink, and return the response without it."""
        answer: Response | None = None
        size = STREAM_BYTES
        has_begun = False
        while answer is None:
            piece = self.reader.take_body()
            if piece:
                has_begun = True
                sink.feed(piece)
            self._deadlines.add(self, sink.deadline)
            if has_begun and size < STREAM_BYTES:
                await trio.sleep(STREAM_PAUSE_S)
                if self.expired:
                    raise trio.ClosedResourceError
            await self.socket.wait()
            try:
                chunk = self.socket.receive()
            except BlockingIOError:
                continue
            size = len(chunk)
            answer = self.reader.feed(chunk) if chunk else self.reader.end()
        if answer.body:
            sink.feed(answer.body)
        return answer.without_body()

    def _received(self, unsent: OSError | None) -> Response | None:
        """Process what has arrived, and return the response once it is complete."""
        try:
            chunk = self.socket.receive()
        except BlockingIOError:
            return None
        if chunk:
            answer = self.reader.feed(chunk)
            if answer is None:
                self.socket.acknowledge()
            return answer
        if unsent is None or self.reader.begun:
            return self.reader.end()
        raise unsent

    async def _send_rest(self, data: bytes, sent: int, timeouts: Timeouts) -> Response | None:
        """Send what is left of a request. Return the response if it is complete before the request
        is: the server may never read the rest, and keep the connection open all the same.
        """
        rest = memoryview(data)[sent:]
        if len(data) <= _BUFFERED_BYTES:
            await _within(timeouts.write, httpx.WriteTimeout, self.socket.send_all, rest)
            return None
        answer: Response | None = None
        failure: OSError | httpx.TransportError | trio.ClosedResourceError | None = None
        complete = False

        async def read() -> None:
            nonlocal answer, failure
            try:
                while answer is None:
                    await self.socket.wait()
                    answer = self._received(None)
                nursery.cancel_scope.deadline = trio.current_time() + _LINGER_S
            except OSError:
                pass  # sending fails as well, and says why
            except (httpx.TransportError, trio.ClosedResourceError) as error:
                failure = error
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                await _within(timeouts.write, httpx.WriteTimeout, self.socket.send_all, rest)
                complete = True
            except (OSError, httpx.TransportError, trio.ClosedResourceError) as error:
                failure = failure or error  # raised below: here it would get into a group
            nursery.cancel_scope.cancel()
        if answer is None and failure is not None:
            raise failure
        if not complete:
            self.reader.reusable = False
        return answer


class Pool:
    """All connections of one transport."""

    def __init__(
        self, context: ssl.SSLContext, limits: PoolLimits, answer_limits: ResponseLimits
    ) -> None:
        self._context = context
        self._limits = limits
        self._answer_limits = answer_limits
        self._heads: Heads = {}
        self._idle: defaultdict[Origin, deque[_PooledConnection]] = defaultdict(deque)
        self._open = 0
        self._room = limits.max_connections
        self._waiting = trio.lowlevel.ParkingLot()
        self._closed = False
        self._deadlines = Deadlines()

    @property
    def open_count(self) -> int:
        """The number of connections, idle and in use."""
        return self._open

    @property
    def idle_count(self) -> int:
        return sum(map(len, self._idle.values()))

    async def exchange(
        self,
        origin: Origin,
        method: str,
        data: bytes,
        timeouts: Timeouts,
        deadline: float = math.inf,
        opener: BodyOpener | None = None,
        key: str = "",
    ) -> Response:
        """Send the request in `data` and return its response, until `deadline` by trio's clock (and
        `TICK_S` more). If the response is a streamed one, `opener` is asked what takes its body; if
        something does, the response has none, and the sink's deadline counts.

        A kept connection that the server has closed meanwhile is noticed. If only the failing
        request shows it, without a byte of a response, the request is sent once more on a new one.

        Raises:
            httpx.TransportError: if the exchange fails; the subclass says how.

        Cancellation closes the connection in use.
        """
        if self._room:
            self._room -= 1
        else:
            timeout_s = min(timeouts.pool, deadline - trio.current_time())
            await _within(timeout_s, httpx.PoolTimeout, self._waiting.park)
        try:
            connection = self._take(origin)
            while True:
                kept = connection is not None
                if connection is None:
                    connection = await self._connect(origin, timeouts, deadline)
                answer = None
                if deadline != math.inf:
                    self._deadlines.add(connection, deadline)
                try:
                    answer = await connection.exchange(method, data, timeouts, opener, key)
                    return answer
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    if not kept or connection.reader.begun:
                        raise
                finally:
                    self._deadlines.remove(connection)
                    self._put(connection, origin, answer)
                connection = None
        finally:
            # If there is room, nobody waits; checking it first saves a call.
            if not self._room and self._waiting:
                self._waiting.unpark()
            else:
                self._room += 1

    def close(self) -> None:
        """Close the idle connections now, and the others when they are done."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                self._discard(connection)
        self._idle.clear()

    def _take(self, origin: Origin) -> _PooledConnection | None:
        idle = self._idle[origin]
        if not idle:
            return None
        now = idle[0].now()
        while idle and idle[0].kept_until < now:
            self._discard(idle.popleft())
        while idle:
            connection = idle.pop()
            if connection.kept_until > now and not connection.socket.is_stale():
                return connection
            self._discard(connection)
        return None

    def _put(self, connection: _PooledConnection, origin: Origin, answer: Response | None) -> None:
        """Keep a connection after use, or close it."""
        if answer is None or connection.expired or self._closed or not connection.reader.reusable:
            self._discard(connection)
            return
        keepalive_s = self._limits.keepalive_s
        said = answer.fields.get(b"keep-alive")
        if said is not None:
            keepalive_s = min(keepalive_s, _seconds_of(said))
        connection.kept_until = connection.now() + keepalive_s
        self._idle[origin].append(connection)

    def _discard(self, connection: _PooledConnection) -> None:
        connection.socket.close()
        self._open -= 1
        if self._closed and not self._open:
            self._deadlines.close()

    async def _connect(
        self, origin: Origin, timeouts: Timeouts, deadline: float
    ) -> _PooledConnection:
        if self._open >= self._limits.max_connections:  # then some are idle: this exchange has room
            idle = next(idle for idle in self._idle.values() if idle)
            self._discard(idle.popleft())
        self._open += 1
        connected = False
        try:
            timeout_s = min(timeouts.connect, deadline - trio.current_time())
            connection = await _within(timeout_s, httpx.ConnectTimeout, self._dial, origin)
            connected = True
            reader = ResponseReader(self._answer_limits, self._heads)
            return _PooledConnection(connection, reader, self._deadlines)
        finally:
            if not connected:
                self._open -= 1

    async def _dial(self, origin: Origin) -> Connection:
        context = self._context if origin.scheme == "https" else None
        try:
            return await open_connection(origin.host, origin.port, context)
        except OSError as error:
            raise httpx.ConnectError(why_failed(error)) from None


async def _within(
    timeout_s: float,
    too_slow: type[httpx.TimeoutException],
    call: Callable[..., Awaitable[T]],
    *arguments: object,
) -> T:
    if timeout_s == math.inf:
        return await call(*arguments)
    try:
        with trio.fail_after(max(timeout_s, 0)):
            return await call(*arguments)
    except trio.TooSlowError:
        raise too_slow(f"not completed within {timeout_s:g} s") from None


def _seconds_of(keep_alive: bytes) -> float:
    """Return how long the server keeps an idle connection (RFC 2068 §19.7.1.1), less the time that
    a request takes to arrive, in seconds.
    """
    for part in keep_alive.split(b","):
        name, _, value = part.partition(b"=")
        if name.strip().lower() == b"timeout" and value.strip().isdigit():
            return max(float(value[:9]) - 1.0, 0.0)
    return math.inf
