"""PUTs a file to a URL, piece by piece: no more than one piece is in memory.

This is not on the path of a stanza, so it uses httpx's own transport: it streams, and supports
proxies. No redirect is followed, and nothing of the response but its status is read.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Final

import httpx

from bridge.httpclient.proxy import proxy_for
from xmppstream.dial import why_failed

PIECE_S: Final = 30.0
"""How long the server may take to receive a piece."""
STATUS_S: Final = 60.0
"""How long the server may take for the status, once it has the whole file."""


class PutError(Exception):
    """No status came; the message is a clause that says why."""


class _Stream(httpx.AsyncByteStream):
    """The pieces of a file. No async generator: it would be left behind on a failure."""

    def __init__(self, pieces: AsyncIterator[bytes], size: int) -> None:
        self._pieces = pieces
        self._rest = size

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            if self._rest:
                raise PutError(f"{self._rest} bytes of the file are missing") from None
            raise
        self._rest -= len(piece)
        if self._rest < 0:
            raise PutError("the file is longer than was said")
        return piece


async def put_file(
    url: str,
    headers: Iterable[tuple[str, str]],
    size: int,
    pieces: AsyncIterator[bytes],
    context: ssl.SSLContext,
    connect_timeout_s: float,
    *,
    uses_proxy: bool = False,
) -> int:
    """PUT a file of `size` bytes over a connection of its own, and return the response's status.

    The certificate is verified with `context`. With `uses_proxy`, the environment may name a proxy,
    but not for plain http, which is for this machine. What `pieces` raises is raised. Cancellation
    closes the connection.

    Raises:
        PutError: if the exchange fails, or `pieces` are not `size` bytes.
    """
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise PutError(str(error)) from None
    proxy = proxy_for(target) if uses_proxy and target.scheme == "https" else None
    transport = httpx.AsyncHTTPTransport(
        verify=context,
        trust_env=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
        proxy=proxy,
    )
    timeouts = {"connect": connect_timeout_s, "write": PIECE_S, "read": STATUS_S, "pool": None}
    try:
        own = {
            "Host": target.netloc.decode("ascii"),
            "Content-Length": str(size),
            "Accept-Encoding": "identity",
        }
        request = httpx.Request(
            "PUT",
            target,
            headers=[*own.items(), *headers],
            stream=_Stream(pieces, size),
            extensions={"timeout": timeouts},
        )
        response = await transport.handle_async_request(request)
        await response.aclose()
    except httpx.TransportError as error:
        raise PutError(_why(error)) from None
    finally:
        await transport.aclose()
    return response.status_code


def _why(error: Exception) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case httpx.WriteTimeout():
            return f"the server took nothing for {PIECE_S:g} s"
        case httpx.ReadTimeout():
            return f"no answer within {STATUS_S:g} s after the file"
        case httpx.ConnectError():
            return why_failed(_root_of(error))
        case httpx.WriteError() | httpx.ReadError():
            return f"the connection broke: {why_failed(_root_of(error))}"
        case _:
            return str(error) or type(error).__name__


def _root_of(error: BaseException) -> BaseException:
    """Return what httpx, httpcore and trio have wrapped; httpcore hides the cause."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
