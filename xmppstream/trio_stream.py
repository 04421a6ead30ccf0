"""A component's stream on trio: besides `dial`, the only module that touches the network.

`connect` returns an attached `ComponentStream`; its `serve` reads until the stream is over and
returns how it ended. One task reads, one writes: other tasks only append, and everything that is
ready leaves in one `send_all`. A cancelled or failed `send_all` may have sent half a stanza, so it
ends the stream. Reconnecting, logging and the meaning of stanzas are up to the caller.
"""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import token_hex
from typing import Final

import trio
from attrs import field, frozen

from xmppstream.component import ComponentConnection, Role, encode
from xmppstream.dial import TlsFailed, dial, why_failed
from xmppstream.element import Element
from xmppstream.errors import XmppError
from xmppstream.events import (
    Event,
    HandshakeAccepted,
    StanzaReceived,
    StreamClosed,
    StreamFaulted,
    StreamOpened,
)
from xmppstream.jid import same_domain
from xmppstream.limit import Limits
from xmppstream.names import PING, expanded
from xmppstream.parser_thread import StreamParserThread
from xmppstream.stanza import Stanza, make
from xmppstream.state import Side
from xmppstream.tap import NO_TAP, SHOWN_HANDSHAKE, Tap

_CHUNK_BYTES: Final = 8 * 1024  # some 40 stanzas: nothing else runs while a chunk is parsed
_PROBES: Final = 3
_BARRIER_PREFIX: Final = "barrier-"


@frozen
class Server:
    """The address of a server for components; `tls` is direct TLS with a verified certificate.

    The certificate names the server, not the component: it is checked for `tls_name`, by default
    the host.
    """

    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None
    tls_name: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@frozen
class StreamOptions:
    """Limits and time-outs; all times in seconds, above 0. `tap` observes the traffic.

    Streams with the same `instance` recognise each other's barriers: those of one link share it. To
    an empty one, no barrier is foreign.
    """

    limits: Limits = field(factory=Limits)
    handshake_timeout_s: float = 20
    keepalive_s: float = 60
    write_timeout_s: float = 60
    close_timeout_s: float = 2
    probe_timeout_s: float = 20
    tap: Tap = NO_TAP
    instance: str = field(factory=lambda: token_hex(3))


@frozen
class StreamLost:
    """The connection was lost or given up, without an error or an end tag in the stream."""

    text: str

    def __str__(self) -> str:
        return self.text


StreamEnd = StreamFaulted | StreamClosed | StreamLost
UNANSWERED: Final = StreamLost("the server no longer answers")
"""How a stream ends on which no barrier returns."""
Handler = Callable[[Event], Awaitable[None]]


class StreamFailed(XmppError):
    """A stream that was needed ended, or never began; `end` says how."""

    def __init__(self, end: StreamEnd) -> None:
        super().__init__(str(end))
        self.end = end


async def connect(
    server: Server, domain: str, secret: str, options: StreamOptions | None = None
) -> "ComponentStream":
    """Attach to a server as `domain`; `handshake_timeout_s` is the limit for all of it.

    Raises:
        StreamFailed: if there is no connection, a refusal, or no handshake in time.

    Cancellation closes the connection.
    """
    options = options or StreamOptions()
    stage = f"connecting to {server}"
    end: StreamEnd | None = StreamLost("given up")
    options.tap.opened(str(server))
    try:
        with trio.fail_after(options.handshake_timeout_s):
            transport = await open_transport(server)
            stage = f"waiting for the handshake of {server}"
            stream = await attach(transport, domain, secret, options)
            end = None
            return stream
    except trio.TooSlowError:
        end = StreamLost(f"gave up after {options.handshake_timeout_s:g} s of {stage}")
        raise StreamFailed(end) from None
    except StreamFailed as failure:
        end = failure.end
        raise
    finally:
        if end is not None:
            options.tap.closed(str(end))


async def attach(
    transport: trio.abc.Stream,
    domain: str,
    secret: str,
    options: StreamOptions,
    parser: StreamParserThread | None = None,
) -> "ComponentStream":
    """Attach over an open connection. Errors and cancellation as `connect`, but no time-out."""
    stream = ComponentStream(transport, domain, options, parser)
    await stream._attach(secret)
    return stream


async def open_transport(server: Server) -> trio.abc.Stream:
    """Connect to a server, over TLS if it says so, and open no stream yet.

    Raises:
        StreamFailed: if there is no connection, or TLS fails. There is no time-out.
    """
    context = None
    try:
        if server.tls:
            context = ssl.create_default_context(cafile=server.ca_file)
    except OSError as error:
        why = why_failed(error)
        raise StreamFailed(StreamLost(f"TLS with {server} failed: {why}")) from None
    try:
        return await dial(server.host, server.port, context, server.tls_name)
    except TlsFailed as error:
        raise StreamFailed(StreamLost(f"TLS with {server} failed: {error.why}")) from None
    except OSError as error:
        raise StreamFailed(StreamLost(f"cannot connect to {server}: {why_failed(error)}")) from None


class ComponentStream:
    """An attached stream. Call `serve` once; `send`, `flush`, `barrier`, `aclose` while it runs.

    Invariant: `_end` is set exactly once, and then nobody waits for this stream any more.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        domain: str,
        options: StreamOptions,
        parser: StreamParserThread | None = None,
    ) -> None:
        self.domain = domain
        self.barrier_seen = False
        self.read_bytes = 0  # since the connection began; so is the next
        self.written_bytes = 0
        self._transport = transport
        self._options = options
        self._tap = options.tap
        self._connection = ComponentConnection(Role.COMPONENT, domain=domain, limits=options.limits)
        self._parser = parser or StreamParserThread(options.limits)
        self._early: list[Event] = []
        self._buffer: list[bytes] = []
        self._unsent_bytes = 0
        self._appended = trio.Event()
        self._batch = trio.Event()  # set when the present buffer has been sent
        self._sending = trio.Event()  # set when the writer's last batch has been sent
        self._sending.set()
        self._last_words: StreamEnd | None = None  # how the peer's stream ended
        self._spoken = trio.Event()  # set with them
        self._end: StreamEnd | None = None
        self._ended = trio.Event()
        self._receiving = trio.CancelScope()
        self._barriers: dict[str, trio.Event] = {}
        self._instance_prefix = f"{_BARRIER_PREFIX}{options.instance}"
        self._barrier_prefix = f"{self._instance_prefix}{token_hex(3)}-"
        self._barrier_count = 0
        self._foreign = trio.Event()  # set when a barrier of another instance comes
        self._sent_at = self._received_at = trio.current_time()
        self._handling = False  # events are being handled, so nothing is read

    @property
    def heard_at(self) -> float:
        """When the peer last sent something, by trio's clock; now while that is being handled."""
        return trio.current_time() if self._handling else self._received_at

    @property
    def end(self) -> StreamEnd | None:
        """How the stream ended; None while it is alive."""
        return self._end

    @property
    def unsent_bytes(self) -> int:
        """The appended bytes that the writer has not taken yet: wait for `flush` to bound them."""
        return self._unsent_bytes

    def send(self, stanza: Stanza) -> None:
        """Append a stanza to the writer's next batch.

        Raises:
            LocalError: if the stanza cannot be written.
            StreamFailed: if the stream is over, or either side of it.
        """
        self.send_encoded(encode(stanza))

    def send_encoded(self, *stanzas: bytes) -> None:
        """Append stanzas that `encode` has written; raises as `send`."""
        self.raise_if_over()
        if stanzas:
            self._append(*stanzas)

    def raise_if_over(self) -> None:
        """Raise `StreamFailed` if the stream is over, or either side of it."""
        if self._end is not None:
            raise StreamFailed(self._end)
        if not self._connection.established:
            raise StreamFailed(StreamLost("the stream is ending"))

    async def flush(self) -> None:
        """Wait until everything appended so far has been handed to the operating system.

        Raises:
            StreamFailed: if the stream ended before. Cancellation takes nothing back.
        """
        await (self._batch if self._buffer else self._sending).wait()
        if self._end is not None:
            raise StreamFailed(self._end)

    async def barrier(self) -> None:
        """Wait until everything sent before has reached the server (rule S35).

        Raises:
            StreamFailed: if the stream ended before. Cancellation forgets this barrier only.
        """
        if self._end is not None:
            raise StreamFailed(self._end)
        self._barrier_count += 1
        id = f"{self._barrier_prefix}{self._barrier_count}"
        ping = Element(expanded(PING, "ping"))
        self.send(make("iq", self.domain, self.domain, type="get", id=id, children=(ping,)))
        returned = self._barriers[id] = trio.Event()
        try:
            await returned.wait()
        finally:
            lost = self._barriers.pop(id, None) is not None
        if lost and self._end is not None:
            raise StreamFailed(self._end)

    async def wait_foreign_barrier(self) -> None:
        """Wait until a barrier of another instance comes, which is attached to the same domain.

        The server may also have had it from an instance that has just gone. Only one task may wait.
        """
        await self._foreign.wait()
        self._foreign = trio.Event()

    async def probe(self) -> None:
        """End the stream if the peer sends nothing within `probe_timeout_s`, though it is asked to.

        Raises:
            StreamFailed: if the stream ended.
        """
        if not await self._answers(1):
            self._finish(UNANSWERED)
        if self._end is not None:
            raise StreamFailed(self._end)

    async def serve(self, handle: Handler) -> StreamEnd:
        """Read until the stream is over, pass every event to `handle`, and return how it ended.

        While `handle` waits, nothing is read (S16); events that were read are passed to it even if
        the stream ends meanwhile. Cancellation drops the connection as it is; `aclose` ends it in
        order.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
                nursery.start_soon(self._prove_alive)
                await self._read(handle)
                nursery.cancel_scope.cancel()
        finally:
            self._finish(StreamLost("given up"))
            self._tap.closed(str(self._end))
            self._parser.close()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.aclose_forcefully(self._transport)
        assert self._end is not None
        return self._end

    async def aclose(self) -> None:
        """End the stream in order (S12): send our end tag, then wait, bounded, for the peer's."""
        if self._end is None:
            self._append(self._connection.close())
            with trio.move_on_after(self._options.close_timeout_s):
                await self._ended.wait()
            self._finish(StreamClosed())
        await trio.lowlevel.checkpoint()

    # --- attaching

    async def _attach(self, secret: str) -> None:
        attached = False
        try:
            await self._tell(self._connection.open())
            while True:
                events = await self._receive()
                for number, event in enumerate(events):
                    match event:
                        case StreamOpened(id=id):
                            # Without an id, an error follows; it may be here already (S3).
                            if id and self._connection.remote is Side.OPEN:
                                handshake = self._connection.authenticate(secret)
                                await self._tell(handshake, shown=SHOWN_HANDSHAKE)
                        case HandshakeAccepted():
                            self._tap.attached()
                            self._early = events[number + 1 :]
                            attached = True
                            return
                        case StreamFaulted() | StreamClosed():
                            await self._say_goodbye(event)
                            raise StreamFailed(event)
        except (OSError, trio.BrokenResourceError) as error:
            raise StreamFailed(StreamLost(f"connection broke: {why_failed(error)}")) from None
        finally:
            if not attached:
                self._parser.close()
                await trio.aclose_forcefully(self._transport)

    async def _say_goodbye(self, end: StreamFaulted | StreamClosed) -> None:
        fault = end if isinstance(end, StreamFaulted) else None
        with trio.move_on_after(self._options.close_timeout_s):
            await self._tell(self._connection.close(fault))

    async def _tell(self, data: bytes, *, shown: bytes | None = None) -> None:
        self._tap.sent(data if shown is None else shown)
        # If the server has hung up on us, its reason may still be readable.
        with suppress(trio.BrokenResourceError):
            await self._transport.send_all(data)

    async def _receive(self) -> list[Event]:
        data = bytes(await self._transport.receive_some(_CHUNK_BYTES))  # a copy only of a bytearray
        if not data:
            raise StreamFailed(StreamLost("the server closed the connection without a word"))
        self._received_at = trio.current_time()
        self.read_bytes += len(data)
        parsed = await self._parser.feed(data)
        self._tap.received(data, self._parser.open_bytes)
        return self._connection.receive_events(parsed)

    # --- `serve`, and its tasks

    async def _read(self, handle: Handler) -> None:
        events, self._early = self._early, []
        try:
            while True:
                self._handling = True
                for event in events:
                    if isinstance(event, StanzaReceived):  # nearly always
                        if event.stanza.kind == "iq" and self._is_barrier(event.stanza):
                            continue
                    elif isinstance(event, StreamFaulted | StreamClosed):
                        await self._leave(event)
                        return
                    await handle(event)
                self._handling = False
                if self._end is not None:
                    return
                with trio.CancelScope() as self._receiving:
                    events = await self._receive()
                if self._receiving.cancelled_caught:
                    return
        except StreamFailed as failure:
            self._finish(failure.end)
        except (OSError, trio.BrokenResourceError) as error:
            self._finish(StreamLost(f"connection broke: {why_failed(error)}"))

    async def _leave(self, end: StreamFaulted | StreamClosed) -> None:
        fault = end if isinstance(end, StreamFaulted) else None
        self._last_words = end
        self._spoken.set()
        closing = self._connection.close(fault)
        if closing:
            self._append(closing)
            with trio.move_on_after(self._options.close_timeout_s):
                await self._batch.wait()
        self._finish(end)

    async def _write(self) -> None:
        try:
            while True:
                await self._appended.wait()
                data = b"".join(self._buffer)
                self._buffer.clear()
                self._unsent_bytes = 0
                self._appended = trio.Event()
                self._sending, self._batch = self._batch, trio.Event()
                self._tap.sent(data)
                with trio.fail_after(self._options.write_timeout_s):
                    await self._transport.send_all(data)
                self._sent_at = trio.current_time()
                self.written_bytes += len(data)
                self._sending.set()
        except trio.TooSlowError:
            seconds = f"{self._options.write_timeout_s:g} s"
            self._finish(StreamLost(f"the server has read nothing for {seconds}"))
        except (OSError, trio.BrokenResourceError) as error:
            # Writing fails first if the server reset us; its stream error may still be readable.
            with trio.move_on_after(self._options.close_timeout_s):
                await self._spoken.wait()
            self._finish(self._last_words or StreamLost(f"connection broke: {why_failed(error)}"))

    async def _keep_alive(self) -> None:
        while True:
            due = self._sent_at + self._options.keepalive_s
            if trio.current_time() >= due:
                if not self._buffer:
                    self._append(b" ")
                due = trio.current_time() + self._options.keepalive_s
            await trio.sleep_until(due)

    async def _prove_alive(self) -> None:
        """Wait for a barrier to return at once, and again after each long silence (S15).

        If the first one never returns, the server is not probed.
        """
        try:
            await self.barrier()
            while True:
                silent_since = self.heard_at
                await trio.sleep_until(silent_since + 2 * self._options.keepalive_s)
                if self.heard_at == silent_since and not await self._answers(_PROBES):
                    self._finish(UNANSWERED)
                    return
        except StreamFailed:
            return

    async def _answers(self, probes: int) -> bool:
        heard = self.heard_at
        for _ in range(probes):
            with trio.move_on_after(self._options.probe_timeout_s) as scope:
                await self.barrier()
            if not scope.cancelled_caught or self.heard_at != heard:
                return True
        return False

    # --- shared by them

    def _append(self, *parts: bytes) -> None:
        self._buffer += parts
        self._unsent_bytes += sum(map(len, parts))
        self._appended.set()

    def _is_barrier(self, iq: Stanza) -> bool:
        """Return whether this is a returning barrier, of any iq type, and wake its waiter."""
        addresses = (iq.from_ or "", iq.to or "")  # a server may change their case
        if not all(same_domain(one, self.domain) for one in addresses):
            return False
        id = iq.id or ""
        returned = self._barriers.pop(id, None)
        if returned is not None:
            self.barrier_seen = True
            returned.set()
        if not id.startswith(_BARRIER_PREFIX):
            return False
        if not id.startswith(self._instance_prefix):
            self._foreign.set()
        return True  # perhaps one that nobody waits for any more, or of an earlier stream

    def _finish(self, end: StreamEnd) -> None:
        if self._end is None:
            self._end = end
            self._ended.set()
            self._receiving.cancel()
            self._batch.set()
            self._sending.set()
            for returned in self._barriers.values():
                returned.set()
