"""The token of a `reply_url`: everything that a deferred reply needs, signed, so nothing is stored.

It is `1`, which names its form and its key, then the promise in base64, a full stop, and an
HMAC-SHA256 of all before it. The texts are compared, not the bytes that they stand for, so each
promise has one token only. Whoever has the token may reply: it is as secret as a password.
"""

import base64
import hmac
from typing import Final

import msgspec

from bridge.payload.stub import Stub

KEY_BYTES: Final = 32
TOKEN_LIMIT: Final = 4096
"""The most characters of a token: proxies refuse URLs of more than 8 KiB."""
_FORM: Final = b"1"
_PURPOSE: Final = b"xmpp-bridge reply_url\0"


class Promise(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The promise that a reply is taken: for which stanza, and until when (Unix time, s)."""

    component: str
    uid: str
    until: int
    request: Stub


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Promise)


def make_token(key: bytes, promise: Promise) -> str | None:
    """Return the token of a promise; without the thread if that makes it too long, or None if it is
    too long nevertheless.
    """
    head = _head(promise)
    if len(head) > TOKEN_LIMIT - 44:
        stub = promise.request.without_thread
        head = _head(msgspec.structs.replace(promise, request=stub))
        if len(head) > TOKEN_LIMIT - 44:
            return None
    return f"{head.decode()}.{_signature(key, head).decode()}"


def is_signed(key: bytes, token: str) -> bool:
    """Return whether a token was signed with a key, in a time that says nothing about the key."""
    if len(token) > TOKEN_LIMIT:
        return False
    head, _, signature = token.encode("utf-8", "surrogatepass").rpartition(b".")
    return hmac.compare_digest(_signature(key, head), signature)


def promise_of(token: str) -> Promise | None:
    """Return the promise in a token that is signed; None if it has another form."""
    head = token.rpartition(".")[0].encode()
    if head[:1] != _FORM:
        return None
    try:
        return _DECODER.decode(base64.urlsafe_b64decode(head[1:] + b"==="))
    except (msgspec.DecodeError, ValueError):  # signed by another version of the bridge
        return None


def _head(promise: Promise) -> bytes:
    return _FORM + base64.urlsafe_b64encode(_ENCODER.encode(promise)).rstrip(b"=")


def _signature(key: bytes, head: bytes) -> bytes:
    digest = hmac.digest(key, _PURPOSE + head, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=")
