"""One client's connection: requests one after the other, in HTTP/1.1 by h11.

One task reads, runs the application and writes. A client may take so long for the head of a
request, and be idle for so long between two; the time for a body is the application's business,
the time for a response the stream's. Nothing is upgraded: HTTP/1.1 goes on, whatever else was
offered (RFC 9110 §7.8 allows that).
"""

from collections.abc import Callable
from typing import Final

import h11
import trio
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from bridge.listener.problem import Problem
from bridge.listener.server.exchange import Exchange, make_scope
from bridge.listener.server.stream import ClientStream

HEAD_LIMIT_BYTES: Final = 16 * 1024
HEAD_S: Final = 10.0
IDLE_S: Final = 60.0
_DETAILS: Final = {
    400: "This is not a valid HTTP/1.1 request, or its path is not UTF-8.",
    431: f"The head of the request is longer than {HEAD_LIMIT_BYTES} bytes.",
    500: "This is a bug in the bridge; its log has more.",
    501: "The only Transfer-Encoding supported here is chunked.",
    505: "Only HTTP/1.1 is supported here.",
}


class Connection:
    """A connection at work; `run` is its whole life."""

    def __init__(
        self,
        app: ASGIApp,
        stream: trio.SocketStream,
        on_idle: Callable[["Connection", bool], None],
        log: FilteringBoundLogger,
    ) -> None:
        """`on_idle` is told when it begins, or ceases, to wait for a request."""
        self._app = app
        self._stream = ClientStream(stream)
        self._client = self._stream.client
        self._on_idle = on_idle
        self._log = log
        self._protocol = h11.Connection(h11.SERVER, HEAD_LIMIT_BYTES)
        self._waiting = trio.CancelScope()
        self._is_ending = False

    async def run(self) -> None:
        """Serve the client until it leaves, or until it takes too long."""
        pause_s = HEAD_S
        try:
            while await self._serve(pause_s):
                self._protocol.start_next_cycle()
                self._on_idle(self, True)
                pause_s = IDLE_S
        finally:
            self._stream.close()

    def end(self) -> None:
        """Serve no further request: an idle client is let go, another one gets its response."""
        self._is_ending = True
        self._waiting.cancel()

    async def _serve(self, pause_s: float) -> bool:
        """Serve one request, and return whether there may be another one.

        What the application raises, or h11 by a fault of its own, costs this connection only: the
        stream to the XMPP server is worth more.
        """
        request, refused = None, 0
        try:
            request = await self._read_head(pause_s)
            if request is None:
                return False
            await self._exchange(request).run(self._app, make_scope(request, self._client))
        except h11.RemoteProtocolError as error:
            refused = error.error_status_hint
        except Exception:
            self._log.error("a connection of the listener failed", exc_info=True)
            refused = 500
        if refused and self._protocol.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._log.debug("http request refused", status=refused)
            response = Problem(refused, detail=_DETAILS.get(refused, "")).response()
            await self._exchange(request, is_last=True).run(response, {"type": "http"})
        if self._stream.is_closed:  # requests may be left that nobody waits for
            return False
        ours, theirs = self._protocol.our_state, self._protocol.their_state
        if ours is h11.DONE and theirs is h11.DONE and not self._is_ending:
            return True
        if ours in (h11.DONE, h11.MUST_CLOSE):  # else half of a response is out
            await self._stream.linger()
        return False

    def _exchange(self, request: h11.Request | None, *, is_last: bool = False) -> Exchange:
        is_head = request is not None and request.method == b"HEAD"
        return Exchange(
            self._protocol, self._stream, lambda: is_last or self._is_ending, is_head=is_head
        )

    async def _read_head(self, pause_s: float) -> h11.Request | None:
        """Wait `pause_s` for the first byte of a request and `HEAD_S` for the others; return None
        if it does not come.

        Raises:
            h11.RemoteProtocolError: it is malformed, or too long.
        """
        has_begun = bool(self._protocol.trailing_data[0])  # the request before was not waited for
        limit_s = HEAD_S if has_begun else pause_s
        self._waiting = trio.CancelScope(deadline=trio.current_time() + limit_s)
        try:
            with self._waiting:
                while (event := self._protocol.next_event()) is h11.NEED_DATA:
                    if self._is_ending or not (data := await self._stream.receive()):
                        return None
                    if not has_begun:
                        has_begun = True
                        self._waiting.deadline = trio.current_time() + HEAD_S
                    self._protocol.receive_data(data)
        finally:
            self._on_idle(self, False)
        return event if isinstance(event, h11.Request) else None
