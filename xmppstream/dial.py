"""Opens connections, over TCP or TLS: for the component's stream, and for packages above this one.

Errors are OSErrors with a message for people; cancellation leaves no socket behind.
"""

import os
import ssl
from typing import overload

import trio

from xmppstream.jid import InvalidJid, to_ascii


class TlsFailed(OSError):
    """The TLS handshake failed on an open connection; `why` is the reason given by TLS."""

    def __init__(self, why: str) -> None:
        super().__init__(f"TLS failed: {why}")
        self.why = why


@overload
async def dial(host: str, port: int, context: None = None) -> trio.SocketStream: ...


@overload
async def dial(
    host: str, port: int, context: ssl.SSLContext | None, server_name: str | None = None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]: ...


async def dial(
    host: str,
    port: int,
    context: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    """Connect to the first address of `host` that answers; if `context` is given, over TLS.

    The certificate must be for `server_name`, by default for `host`.

    Raises:
        TlsFailed: if the TLS handshake fails.
        OSError: if no address answers, or the name cannot be looked up.
    """
    try:
        host = to_ascii(host)
        name = to_ascii(server_name or host)  # ssl would take the codec "idna", of IDNA 2003
        stream = await trio.open_tcp_stream(host, port)
    except (InvalidJid, UnicodeError):
        raise OSError("the host name is not valid") from None
    if context is None:
        return stream
    secured = False
    try:
        secure = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
        await secure.do_handshake()
        secured = True
        return secure
    except (OSError, trio.BrokenResourceError) as error:
        raise TlsFailed(why_failed(error)) from None
    finally:
        if not secured:
            stream.socket.close()


def why_failed(error: BaseException) -> str:
    """Return why a connection failed, in the words of the system or TLS; unfold causes, groups."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(sorted({why_failed(one) for one in error.exceptions}))
    if error.__cause__ is not None:
        return why_failed(error.__cause__)
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None:
        # trio wraps the system's message; errors of getaddrinfo have negative numbers.
        known = os.strerror(error.errno) if error.errno > 0 else error.strerror
        return known or str(error)
    return str(error) or type(error).__name__
