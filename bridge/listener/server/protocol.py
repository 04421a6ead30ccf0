"""anycorn's HTTP/1.1, with what it lacks: every refusal is a problem, and nothing is upgraded.

Of anycorn this takes what stands between bytes and the ASGI application (its `H11Protocol` and
`HTTPStream`, not meant to be derived from: hence the bound on its version in pyproject.toml); the
connection itself, with its limits, is ours. anycorn's own sends under a shield without a deadline,
so that a client which does not read holds up the end of the daemon; it bounds neither connections
nor the time for a head; and it offers WebSockets and HTTP/2 where nobody asked for them.
"""

from typing import Final

import h11
from anycorn.config import Config
from anycorn.events import Closed
from anycorn.logging import Logger
from anycorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from anycorn.protocol.h11 import STREAM_ID, H11Protocol
from anycorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from bridge.listener.problem import Problem
from bridge.telemetry.log import logger

HEAD_LIMIT_BYTES: Final = 16 * 1024
_DETAILS: Final = {
    400: "This is no HTTP/1.1 request, or its path is no UTF-8.",
    431: f"The head of the request is longer than {HEAD_LIMIT_BYTES} bytes.",
    505: "HTTP/1.1 is spoken here.",
    500: "This is a fault of the bridge; its log has more.",
}


class Protocol(H11Protocol):
    """One connection's HTTP/1.1."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Go on in HTTP/1.1, whatever else was offered (RFC 9110 §7.8 allows that)."""

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in (b"1.0", b"1.1"):
            await self._send_error_response(505)
            await self.send(Closed())
            return
        self.stream = Stream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
            None,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def _send_error_response(self, status_code: int) -> None:
        headers, content = _refusal(status_code)
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(headers=headers, status_code=status_code))
        await self._send_h11_event(h11.Data(data=content))
        await self._send_h11_event(h11.EndOfMessage())


class Stream(HTTPStream):
    """One request."""

    async def _send_error_response(self, status_code: int) -> None:
        self.state = ASGIHTTPState.CLOSED
        headers, content = _refusal(status_code)
        await self.send(Response(stream_id=STREAM_ID, headers=headers, status_code=status_code))
        if not hasattr(self, "scope") or self.scope["method"] != "HEAD":
            await self.send(Body(stream_id=STREAM_ID, data=content))
        await self.send(EndBody(stream_id=STREAM_ID))
        await self.send(StreamClosed(stream_id=STREAM_ID))


def _refusal(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Give the headers and the body of a refusal after which the connection ends."""
    response = Problem(status, detail=_DETAILS.get(status, "")).response()
    return [*response.raw_headers, (b"connection", b"close")], bytes(response.body)


class _Log(Logger):
    """Brings anycorn's lines into our log; its access log is `Visit`'s business."""

    def __init__(self, _: Config) -> None:
        self._log = logger()

    async def access(self, *_: object) -> None:
        pass

    async def info(self, message: str, *args: object, **_: object) -> None:
        """It says what was malformed, with the client's bytes in it: tell the status alone."""
        status = args[-1] if args and isinstance(args[-1], int) else 0
        self._log.debug("http request refused", status=status)

    async def exception(self, message: str, *_: object, **__: object) -> None:
        self._log.error("the listener failed at a request", exc_info=True)


def make_config() -> Config:
    """Make the configuration of all connections."""
    config = Config()
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_LIMIT_BYTES
    config.keep_alive_max_requests = 2**31
    config.max_app_queue_size = 1  # the body waits in the socket, not here
    config.logger_class = _Log  # type: ignore[assignment]  # it is typed as the class itself
    return config
