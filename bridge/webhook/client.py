"""HTTP clients for one endpoint: over our own transport, or over httpx's."""

import ssl
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import httpx
import trio
from msgspec.structs import replace

from bridge import __version__
from bridge.config.settings import HttpSettings
from bridge.config.value import PostUrl
from bridge.httpclient.pool import PoolLimits, Timeouts
from bridge.httpclient.proxy import proxy_for
from bridge.httpclient.response import BodyOpener, BodySink, Response, ResponseLimits, is_streamed
from bridge.httpclient.transport import Transport, head_of, origin_of
from bridge.payload.error import UnusableReply

USER_AGENT: Final = f"xmpp-bridge/{__version__}"


class HttpClient(Protocol):
    """Makes requests to one endpoint."""

    async def request(
        self,
        method: str,
        lines: bytes,
        body: bytes,
        deadline: float,
        opener: BodyOpener | None = None,
        key: str = "",
    ) -> Response:
        """Send a request with additional header lines, and return the response. `opener`, with
        `key`, decides on the body of a streamed one: see `Pool.exchange`.

        Raises:
            httpx.TransportError: if the exchange fails; the subclass says how.
        """
        ...

    async def aclose(self) -> None: ...


class DirectClient:
    """Uses our own transport. The head that all requests share is encoded once."""

    def __init__(self, request: httpx.Request, transport: Transport, timeouts: Timeouts) -> None:
        self._origin = origin_of(request.url)
        self._pool = transport.pool
        self._transport = transport
        self._timeouts = timeouts
        self._post = head_of(request)

    def request(
        self,
        method: str,
        lines: bytes,
        body: bytes,
        deadline: float,
        opener: BodyOpener | None = None,
        key: str = "",
    ) -> Coroutine[Any, Any, Response]:
        head = self._post if method == "POST" else self._post.replace(b"POST", method.encode(), 1)
        data = b"".join((head, lines, b"Content-Length: %d\r\n\r\n" % len(body), body))
        return self._pool.exchange(
            self._origin, method, data, self._timeouts, deadline, opener, key
        )

    async def aclose(self) -> None:
        await self._transport.aclose()


class HttpxClient:
    """Uses httpx's transport, which supports proxies and HTTP/2."""

    def __init__(
        self,
        request: httpx.Request,
        transport: httpx.AsyncBaseTransport,
        timeouts: Timeouts,
        max_body_bytes: int,
    ) -> None:
        self._template = request
        self._transport = transport
        self._extensions = {"timeout": {"connect": timeouts.connect}}
        self._max_body_bytes = max_body_bytes

    async def request(
        self,
        method: str,
        lines: bytes,
        body: bytes,
        deadline: float,
        opener: BodyOpener | None = None,
        key: str = "",
    ) -> Response:
        try:
            with trio.fail_at(deadline) as scope:
                return await self._request(method, lines, body, scope, opener, key)
        except trio.TooSlowError:
            raise httpx.ReadTimeout("the time for this request is up") from None

    async def _request(
        self,
        method: str,
        lines: bytes,
        body: bytes,
        scope: trio.CancelScope,
        opener: BodyOpener | None,
        key: str,
    ) -> Response:
        more = [line.split(b": ", 1) for line in lines.splitlines()]
        headers = [*self._template.headers.raw, *((name, value) for name, value in more)]
        request = httpx.Request(
            method, self._template.url, headers=headers, content=body, extensions=self._extensions
        )
        response = await self._transport.handle_async_request(request)
        try:
            head = Response(response.status_code, tuple(response.headers.raw), b"")
            sink = opener.open(key, head) if opener is not None and is_streamed(head) else None
            if sink is None:
                return replace(head, body=await self._body(response))
            await self._stream(response, sink, scope)
            return head
        finally:
            await response.aclose()

    async def _stream(
        self, response: httpx.Response, sink: BodySink, scope: trio.CancelScope
    ) -> None:
        """Read the body into a sink."""
        fault: UnusableReply | httpx.DecodingError | None = None
        scope.deadline = sink.deadline
        try:
            async for piece in response.aiter_raw():
                try:
                    sink.feed(piece)
                except (UnusableReply, httpx.DecodingError) as error:
                    fault = error
                    await response.aclose()  # not `break`: see `_body`
                scope.deadline = sink.deadline
        except (httpx.TransportError, httpx.StreamError):
            if fault is None:
                raise
        if fault is not None:
            raise fault

    async def _body(self, response: httpx.Response) -> bytes | None:
        """Return the body as received, without decoding; None if it is over the limit."""
        parts, size = [], 0
        try:
            async for part in response.aiter_raw():
                size += len(part)
                parts.append(part)
                if size > self._max_body_bytes:
                    # Not `break`: a read that fails unwinds httpcore's generators, which would
                    # otherwise be left to the garbage collector.
                    parts.clear()
                    await response.aclose()
        except httpx.TransportError:
            if size <= self._max_body_bytes:
                raise
        return b"".join(parts) if size <= self._max_body_bytes else None

    async def aclose(self) -> None:
        await self._transport.aclose()


def make_client(url: PostUrl, http: HttpSettings) -> HttpClient:
    """Return a client for one component's endpoint. It opens no connection yet.

    Raises:
        OSError, ssl.SSLError: if the certificates cannot be used.
    """
    headers = httpx.Headers(
        {
            "Accept": "application/json, application/xmpp+xml, application/x-ndjson,"
            " text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
    )
    headers.update(http.headers)
    if url.authorization is not None:  # it is for this URL alone; headers may be for all of them
        headers["Authorization"] = url.authorization.value
    request = httpx.Request("POST", url.url, headers=headers)
    del request.headers["Content-Length"]  # each request has its own
    context = make_ssl_context(http)
    timeouts = Timeouts(connect=http.connect_timeout_s)
    proxy = proxy_for(request.url) if http.proxy_from_env else None
    connections = http.max_in_flight + http.max_streams
    if _is_direct(proxy, http):
        limits = PoolLimits(max_connections=connections)
        answer_limits = ResponseLimits(max_body_bytes=http.max_reply_bytes)
        return DirectClient(request, Transport(context, limits, answer_limits), timeouts)
    stock_limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    stock = httpx.AsyncHTTPTransport(
        verify=context, limits=stock_limits, trust_env=False, http2=http.http2, proxy=proxy
    )
    return HttpxClient(request, stock, timeouts, http.max_reply_bytes)


def make_ssl_context(http: HttpSettings) -> ssl.SSLContext:
    """Return a verifying TLS context with the configured CA and client certificate.

    Raises:
        OSError, ssl.SSLError: if a file cannot be read, or does not hold a certificate or key.
    """
    context = ssl.create_default_context(cafile=http.ca_file)
    if http.client_cert_file is not None:
        context.load_cert_chain(http.client_cert_file, http.client_key_file)
    return context


def _is_direct(proxy: str | None, http: HttpSettings) -> bool:
    """Return whether our own client is enough."""
    return proxy is None and not http.http2
