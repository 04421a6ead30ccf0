"""An HTTP endpoint for tests: it records what is POSTed and reacts as a test wants it to.

It runs in the test's own trio loop, reads HTTP with h11, which is strict, and writes each response
in one piece, so that it can also write what no HTTP server should. Its port belongs to it from
beginning to end: while it is stopped, connections are refused and nobody else can take the port.
"""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11
import trio

from tests.servers.process import LOOPBACK, reserve_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BACKLOG: Final = 1024
CHUNK_BYTES: Final = 65536
JSON: Final = "application/json"
XMPP_XML: Final = "application/xmpp+xml"

PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

Posted = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What came: `json` is the body, or empty where it is none; `at` is trio's time."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    json: Posted
    at: float


@dataclass(frozen=True)
class Answer:
    """A response, after `delay_s`; without `media`, it has no Content-Type."""

    status: int = 200
    body: bytes = b""
    media: str | None = JSON
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0

    def to_bytes(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {PHRASES.get(self.status, 'Whatever')}"]
        headers = [("Content-Length", str(len(self.body))), *self.headers]
        if self.media is not None:
            headers.append(("Content-Type", self.media))
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True)
class Raw:
    """These bytes and then the end of the connection; without bytes, no word at all."""

    data: bytes = b""


@dataclass(frozen=True)
class Never:
    """These bytes, and then neither the rest of a response nor the end of the connection."""

    data: bytes = b""


Reaction = Answer | Raw | Never

NOTHING: Final = Answer(204, media=None)


def reply(*objects: object, delay_s: float = 0) -> Answer:
    """Status 200 with JSON: one object, or an array of several."""
    value = objects[0] if len(objects) == 1 else list(objects)
    return Answer(body=json.dumps(value, ensure_ascii=False).encode(), delay_s=delay_s)


def xml(text: str, media: str = XMPP_XML) -> Answer:
    """Status 200 with one stanza."""
    return Answer(body=text.encode(), media=media)


def always(reaction: Reaction) -> Callable[[Posted], Reaction]:
    """React to everything alike."""
    return lambda _: reaction


def echo(posted: Posted) -> Reaction:
    """Say what was said; nothing to what has no body."""
    return reply({"body": posted["body"]}) if "body" in posted else NOTHING


@dataclass
class Endpoint:
    """A running endpoint. `react` may be changed at any time; it applies to requests to come.

    `requests` holds all that came whole, `in_flight` counts those without a response.
    """

    react: Callable[[Posted], Reaction]
    requests: list[Request] = field(default_factory=list)
    in_flight: int = 0
    connections: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reserved = reserve_port()
        self.port: int = self._reserved.getsockname()[1]
        self._released = trio.Event()
        self._released.set()
        self._holds: Callable[[Posted], bool] = lambda _: True
        self._changed = trio.Event()
        self._scope: trio.CancelScope | None = None
        self._wanted = trio.Event()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/"

    @property
    def posted(self) -> list[Posted]:
        """The JSON of all requests, in the order of their arrival."""
        return [request.json for request in self.requests]

    @property
    def bodies(self) -> list[str]:
        """The bodies of all messages, in the order of their arrival."""
        return [posted["body"] for posted in self.posted if "body" in posted]

    def hold(self, only: Callable[[Posted], bool] = lambda _: True) -> None:
        """Let the responses, or those that `only` picks, wait for `release`."""
        self._released, self._holds = trio.Event(), only

    def release(self) -> None:
        self._released.set()

    async def wait_until(
        self, predicate: Callable[[], bool], timeout_s: float = 30, what: str = "the endpoint"
    ) -> None:
        """Wait until `predicate` holds, which is asked after each request and response.

        Raises: trio.TooSlowError.
        """
        with trio.move_on_after(timeout_s):
            while not predicate():
                await self._changed.wait()
            return
        raise trio.TooSlowError(
            f"{what}: not in {timeout_s} s; {len(self.requests)} requests,"
            f" {self.in_flight} in flight, the last {self.posted[-1:]}"
        )

    async def wait_requests(self, count: int, timeout_s: float = 30) -> None:
        """Wait until `count` requests have come in all. Raises: trio.TooSlowError."""
        await self.wait_until(lambda: len(self.requests) >= count, timeout_s, f"{count} requests")

    async def stop(self) -> None:
        """Refuse connections from now on, and drop those that there are."""
        self._wanted = trio.Event()
        if self._scope is not None:
            self._scope.cancel()
        while self._scope is not None:
            await self._changed.wait()

    async def start(self) -> None:
        """Listen again, on the same port."""
        self._wanted.set()
        while self._scope is None:
            await self._changed.wait()

    def close(self) -> None:
        self._reserved.close()

    async def run(self) -> None:
        """Serve whenever it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            with trio.CancelScope() as self._scope:
                listener = self._listen()
                self._note()
                await trio.serve_listeners(self._serve, [listener])
            self._scope = None
            self._note()

    def _listen(self) -> trio.SocketListener:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind((LOOPBACK, self.port))
        plain.listen(BACKLOG)
        plain.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(plain))

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection, kept open as long as the client likes."""
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        try:
            async with stream:
                while (request := await _read(stream)) is not None:
                    if not await self._exchange(stream, request):
                        return
        except trio.BrokenResourceError:
            pass  # the client has gone; what that means is the test's business
        except h11.RemoteProtocolError as error:
            self.faults.append(str(error))
        finally:
            self.connections -= 1
            self._note()

    async def _exchange(self, stream: trio.SocketStream, request: Request) -> bool:
        """React to a request; whether the connection is good for another."""
        self.requests.append(request)
        self.in_flight += 1
        self._note()
        reaction = self.react(request.json)
        try:
            abandoned = await self._prepare(stream, request, reaction)
        finally:
            self.in_flight -= 1
            self._note()
        if abandoned:
            return False
        if isinstance(reaction, Answer):
            await stream.send_all(reaction.to_bytes())
            return True
        await stream.send_all(reaction.data)
        return False

    async def _prepare(
        self, stream: trio.SocketStream, request: Request, reaction: Reaction
    ) -> bool:
        """Wait until it is time to respond; whether the client has given up before."""
        is_held = self._holds(request.json) and not self._released.is_set()
        if not is_held and isinstance(reaction, Answer) and not reaction.delay_s:
            return False
        given_up = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_end, stream, given_up)
            with given_up:
                if is_held:
                    await self._released.wait()
                await _wait_turn(stream, reaction)
            nursery.cancel_scope.cancel()
        return given_up.cancelled_caught


@asynccontextmanager
async def open_endpoint(react: Callable[[Posted], Reaction] = echo) -> AsyncIterator[Endpoint]:
    """A started endpoint. Raises: AssertionError at the end, if what came was not HTTP."""
    endpoint = Endpoint(react)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.run)
            await endpoint.start()
            try:
                yield endpoint
            except Exception as error:  # leaves as itself, not in the nursery's group
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        endpoint.close()
    if failure is not None:
        raise failure
    assert not endpoint.faults, endpoint.faults


async def _read(stream: trio.SocketStream) -> Request | None:
    """The next request; None where the client has closed the connection before it."""
    connection = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    parts: list[bytes] = []
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(CHUNK_BYTES))
            case h11.Request() as head:
                pass
            case h11.Data(data=data):
                parts.append(bytes(data))
            case h11.EndOfMessage():
                break
            case _:
                return None
    assert head is not None
    body = b"".join(parts)
    return Request(
        head.method.decode(),
        head.target.decode(),
        {name.decode().lower(): value.decode() for name, value in head.headers},
        body,
        json.loads(body) if body else {},
        trio.current_time(),
    )


async def _wait_turn(stream: trio.SocketStream, reaction: Reaction) -> None:
    if isinstance(reaction, Never):
        await stream.send_all(reaction.data)
        await trio.sleep_forever()
    elif isinstance(reaction, Answer):
        await trio.sleep(reaction.delay_s)


async def _watch_end(stream: trio.SocketStream, response: trio.CancelScope) -> None:
    """Give the response up when the client does."""
    try:
        data = await stream.receive_some(1)
    except trio.BrokenResourceError:
        data = b""
    assert not data, "a request before the response to the last one"
    response.cancel()
