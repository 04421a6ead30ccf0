"""An httpx transport on trio and httptools, for the bridge's most frequent operation.

httpx's own transport scans its whole pool at each request (measured: 8 ms of CPU at 64
connections); this one does not. It supports neither proxies nor HTTP/2: for those, `endpoint` uses
httpx's own.

`exchange` is the short way for a caller whose requests differ only in the body;
`handle_async_request` is httpx's extension point, and builds on it.
"""

import math
import re
import ssl
from typing import Final

import httpx

from bridge.httpclient.pool import Origin, Pool, PoolLimits, Timeouts
from bridge.httpclient.response import Response, ResponseLimits, decoded

_PORTS: Final = {"http": 80, "https": 443}
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN: Final = re.compile(rb"[\0\r\n]")


class BodyTooLarge(httpx.RemoteProtocolError):
    """The body is over the limit, as received or decompressed."""


class Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 with keep-alive. Each response is read completely before it is returned."""

    def __init__(
        self,
        context: ssl.SSLContext,
        limits: PoolLimits | None = None,
        answer_limits: ResponseLimits | None = None,
    ) -> None:
        self._answer_limits = answer_limits or ResponseLimits()
        self.pool = Pool(context, limits or PoolLimits(), self._answer_limits)

    async def exchange(
        self, origin: Origin, method: str, data: bytes, timeouts: Timeouts
    ) -> Response:
        """Send the bytes of a request; see `Pool.exchange`."""
        return await self.pool.exchange(origin, method, data, timeouts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with its body read.

        Time-outs come from `request.extensions["timeout"]`, as in httpx's own transport.

        Raises:
            httpx.TransportError: if httpx's own transport would raise it; `BodyTooLarge` if the
                body is over the limit.
            httpx.DecodingError: if the body is not compressed as its header says.
        """
        origin = origin_of(request.url)
        data = head_of(request) + _framed(request, await request.aread())
        timeouts = _timeouts_of(request)
        answer = await self.exchange(origin, request.method, data, timeouts)
        limit = self._answer_limits.max_body_bytes
        if answer.body is None or decoded(answer, limit) is None:
            raise BodyTooLarge(f"the body is over {limit} bytes")
        return httpx.Response(
            answer.status,
            headers=list(answer.headers),
            stream=httpx.ByteStream(answer.body),
            extensions={
                "http_version": f"HTTP/{answer.version}".encode(),
                "reason_phrase": answer.reason,
            },
        )

    async def aclose(self) -> None:
        """Close the idle connections now, and the others when they are done."""
        self.pool.close()


def origin_of(url: httpx.URL) -> Origin:
    """Return the origin to connect to.

    Raises:
        httpx.UnsupportedProtocol: if the scheme is neither http nor https.
    """
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"the scheme {url.scheme!r} is not http or https")
    port = _PORTS[url.scheme] if url.port is None else url.port
    return Origin(url.scheme, url.raw_host.decode("ascii"), port)


def head_of(request: httpx.Request) -> bytes:
    """Return a request's line and headers, up to the empty line.

    Raises:
        httpx.LocalProtocolError: if the method or a header contains a forbidden character.
    """
    method = request.method.encode("utf-8")
    if not _TOKEN.fullmatch(method):
        raise httpx.LocalProtocolError("the method contains a forbidden character")
    parts = [method, b" ", request.url.raw_path, b" HTTP/1.1\r\n"]
    for name, value in request.headers.raw:
        if not _TOKEN.fullmatch(name) or _FORBIDDEN.search(value):
            raise httpx.LocalProtocolError(f"the header {name!r} contains a forbidden character")
        parts += [name, b": ", value, b"\r\n"]
    return b"".join(parts)


def _framed(request: httpx.Request, body: bytes) -> bytes:
    if "transfer-encoding" not in request.headers:
        if request.headers.get("content-length", "0") != str(len(body)):
            raise httpx.LocalProtocolError("Content-Length does not match the body")
        return b"\r\n" + body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return b"\r\n" + chunk + b"0\r\n\r\n"


def _timeouts_of(request: httpx.Request) -> Timeouts:
    given = request.extensions.get("timeout", {})
    phases = ("connect", "write", "read", "pool")
    values = {name: given.get(name) for name in phases}
    return Timeouts(**{name: math.inf if s is None else s for name, s in values.items()})
