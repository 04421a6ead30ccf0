"""One POST: an HTTP exchange in, an `Outcome` out. httpx's exceptions are mapped here only.

A request is handed to the transport directly: httpx's client would add cookies, redirects and auth
flows, none of which is wanted. The time-out is the caller's, as a cancel scope.
"""

import re
import ssl
from typing import Final

import httpx

from bridge import __version__
from bridge.address import PostUrl
from bridge.config import Http
from bridge.outcome import BadReply, NoReply, Outcome, Rejected, Replied, Unreachable

_DRAIN_LIMIT_BYTES: Final = 64 * 1024
_MEDIA: Final = {"application/json": "json", "application/xmpp+xml": "xml"}
_QUOTED: Final = re.compile(r":? (?:bytearray\(|b['\"]).*", re.DOTALL)  # h11 quotes what it got
USER_AGENT: Final = f"xmpp-bridge/{__version__}"


class Endpoint:
    """The HTTP service behind one component."""

    def __init__(self, url: PostUrl, http: Http, transport: httpx.AsyncBaseTransport) -> None:
        self.shown = str(url)
        self._transport = transport
        self._max_reply_bytes = http.max_reply_bytes
        self._url = httpx.URL(url.url)
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, application/xmpp+xml",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        if url.authorization is not None:
            headers["Authorization"] = url.authorization.value
        self._headers = httpx.Headers(headers)
        self._headers.update(http.headers)

    async def post(self, body: bytes) -> Outcome:
        """POST one stanza's JSON. Never raises for what the endpoint does.

        Cancellation closes the connection that was in use.
        """
        request = httpx.Request("POST", self._url, headers=self._headers, content=body)
        try:
            response = await self._transport.handle_async_request(request)
            try:
                return await self._read(response)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            return Unreachable(_why(error))

    async def options(self) -> int:
        """Ask what may be asked without effect, and give the status.

        Raises:
            httpx.TransportError: there is no HTTP at the other end.
        """
        headers = self._headers.copy()
        del headers["Content-Type"]
        request = httpx.Request("OPTIONS", self._url, headers=headers)
        response = await self._transport.handle_async_request(request)
        await response.aclose()
        return response.status_code

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._transport.aclose()

    async def _read(self, response: httpx.Response) -> Outcome:
        status = response.status_code
        if status != 200:
            await self._body(response, _DRAIN_LIMIT_BYTES)  # so that the connection can be kept
            return NoReply() if 200 <= status < 300 else Rejected(status)
        content = await self._body(response, self._max_reply_bytes)
        media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content is not None and not content.strip():
            return NoReply()
        if media not in _MEDIA:
            return NoReply(ignored=media or "none")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            return BadReply(f"Content-Encoding {encoding[:30]!r} was not asked for")
        if content is None:
            return BadReply(f"over max_reply_bytes ({self._max_reply_bytes})")
        return Replied("json" if media == "application/json" else "xml", content)

    @staticmethod
    async def _body(response: httpx.Response, limit: int) -> bytes | None:
        """Read the body as it came; None where it is longer than `limit` bytes."""
        parts, size = [], 0
        try:
            async for part in response.aiter_raw():
                size += len(part)
                parts.append(part)
                if size > limit:
                    # Not `break`: a failing read unwinds httpcore's generators, which otherwise
                    # are left to the garbage collector.
                    parts.clear()
                    await response.aclose()
        except httpx.TransportError:
            if size <= limit:
                raise
        return b"".join(parts) if size <= limit else None


def make_transport(http: Http) -> httpx.AsyncBaseTransport:
    """Make the transport for one component's endpoint.

    Raises:
        OSError, ssl.SSLError: `ca_file` holds no certificates.
    """
    context = ssl.create_default_context(cafile=http.ca_file)
    limits = httpx.Limits(
        max_connections=http.max_in_flight, max_keepalive_connections=http.max_in_flight
    )
    return httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)


def _why(error: httpx.TransportError) -> str:
    text = _QUOTED.sub("", str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
