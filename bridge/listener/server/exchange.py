"""One request and its response, as an ASGI application receives and sends them.

A body is read when the application asks for it, and waits in the socket until then. While the
application waits, the client is read from only to notice that it leaves, and not further than
`AHEAD_BYTES`. So what is held of a client is bounded, whatever it sends.
"""

import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote_to_bytes

import h11
import trio
from starlette.types import ASGIApp, Message, Scope

from bridge.listener.server.stream import ClientStream

AHEAD_BYTES: Final = 16 * 1024
CHUNKS_AT_ONCE: Final = 100
"""How many chunks of a body are parsed before others have their turn: a chunk may be one byte."""
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NO_BODY: Final = (204, 304)
HAS_LEFT: Final = "xmpp_bridge.has_left"
"""The extension of a scope (ASGI) whose value is called to learn whether the client has left: then
nothing that is sent reaches it. ASGI itself does not tell an application that.
"""


class Exchange:
    """A request whose head has been read, or was malformed, and its response."""

    def __init__(
        self,
        protocol: h11.Connection,
        stream: ClientStream,
        is_last: Callable[[], bool],
        *,
        is_head: bool,
    ) -> None:
        """`is_last` tells at the response's start whether the connection ends after it; `is_head`
        that the request's method is HEAD.
        """
        self._protocol = protocol
        self._stream = stream
        self._is_last = is_last
        self._is_bodiless = is_head
        self._body = bytearray()  # parsed, and not yet taken by the application
        self._is_read = False  # the application has taken all of it
        self._start: Message | None = None  # goes out with the first piece of the response's body
        self._is_finished = False
        self._has_left = False
        self._error: h11.RemoteProtocolError | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run an application for it.

        Raises:
            h11.RemoteProtocolError: the body is malformed.
            Exception: what the application raises, also by a response that is malformed.
        """
        scope["extensions"] = {HAS_LEFT: self._left}
        await app(scope, self.receive, self.send)
        if self._error is not None:
            raise self._error
        if self._protocol.our_state is h11.SEND_RESPONSE and not self._has_left:
            raise RuntimeError("the application has sent no response")

    def _left(self) -> bool:
        """Return whether the client is gone. One that closes its connection when it has the whole
        response has read it.
        """
        return self._stream.is_closed or (self._has_left and not self._is_finished)

    async def receive(self) -> Message:
        """Return the next piece of the body; after the last one, wait until the client leaves.

        Cancellation loses nothing.
        """
        while not self._is_finished:
            is_whole = self._parse_body()
            if self._error is not None:
                self._is_finished = True
                break
            if self._body or (is_whole and not self._is_read):
                if not is_whole:
                    await trio.lowlevel.checkpoint()  # there may be more to parse at once
                body, self._is_read = bytes(self._body), is_whole
                self._body.clear()
                return {"type": "http.request", "body": body, "more_body": not is_whole}
            if self._is_read and len(self._protocol.trailing_data[0]) >= AHEAD_BYTES:
                await trio.sleep_forever()
            if self._protocol.they_are_waiting_for_100_continue:
                event = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send(self._protocol.send(event))
            data = await self._stream.receive()
            if not data:
                self._has_left = True
                break
            self._protocol.receive_data(data)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a piece of the response; nothing after the last one, or after a malformed body.

        Raises:
            h11.LocalProtocolError: a header is malformed, or the length is not as announced.
        """
        match message["type"]:
            case "http.response.start":
                self._start = message
            case "http.response.body":
                if not self._is_finished and (data := self._encode(message)):
                    await self._stream.send(data)
            case other:
                raise ValueError(f"{other} is not a message of a response in HTTP/1.1")

    def _parse_body(self) -> bool:
        """Parse what has come of the body, and return whether it is complete."""
        try:
            for _ in range(CHUNKS_AT_ONCE):
                if self._protocol.their_state is not h11.SEND_BODY:
                    break
                match self._protocol.next_event():
                    case h11.Data(data=data):
                        self._body += data
                    case h11.NEED_DATA:
                        break
        except h11.RemoteProtocolError as error:
            self._error = error
        return self._protocol.their_state not in (h11.SEND_BODY, h11.ERROR)

    def _encode(self, message: Message) -> bytes:
        parts = []
        if self._start is not None:
            headers = [*self._start.get("headers", ()), (b"date", formatdate(usegmt=True).encode())]
            if self._is_last() or not self._parse_body():
                headers.append((b"connection", b"close"))
            response = h11.Response(status_code=self._start["status"], headers=headers)
            parts.append(self._protocol.send(response))
            self._is_bodiless |= response.status_code in _NO_BODY
            self._start = None
        if not self._is_bodiless and (body := message.get("body", b"")):
            parts.append(self._protocol.send(h11.Data(data=body)))
        if not message.get("more_body", False):
            parts.append(self._protocol.send(h11.EndOfMessage()))
            self._is_finished = True
        return b"".join(parts)


def make_scope(request: h11.Request, client: tuple[str, int] | None) -> Scope:
    """Return what ASGI calls the scope of a request from `client`.

    Raises:
        h11.RemoteProtocolError: 505 for another version, 400 for a body whose length is in doubt
            (RFC 9112 §6.1) and for a path that is not UTF-8.
    """
    if request.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("another version", error_status_hint=505)
    headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version == b"1.0"
    ):
        raise h11.RemoteProtocolError("a body with two lengths")
    raw_path, _, query = request.target.partition(b"?")
    if _BAD_ESCAPE.search(raw_path):
        raise h11.RemoteProtocolError("a % without two hexadecimal digits")
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise h11.RemoteProtocolError("a path that is not UTF-8") from None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode(),
        "method": request.method.decode().upper(),
        "scheme": "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": client,
    }
