"""Who a POST is, and that it is ours: the headers of Standard Webhooks (standardwebhooks.com).

`webhook-id` is the same at every attempt, so that an endpoint can drop repetitions; the time stamp
and the signature are made anew for each. The signature covers id, time and body.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from bridge.config.value import BadValue, Secret

PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)  # as the specification asks


def parse_key(text: str) -> Secret:
    """Check a signing secret: `whsec_` and then base64 of 24 to 64 bytes.

    Raises:
        BadValue: it is none; the message does not show it.
    """
    remedy = 'Make one like this: echo "whsec_$(openssl rand -base64 32)"'
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or len(key) not in _KEY_BYTES:
        raise BadValue("must be whsec_ and 24 to 64 bytes in base64", remedy)
    return Secret(text)


class Signer:
    """Writes the webhook headers of one component's POSTs. With several secrets (while one is
    being replaced) it signs with each of them.
    """

    def __init__(self, secrets: tuple[Secret, ...] = ()) -> None:
        self._keys = [base64.b64decode(one.value.removeprefix(PREFIX)) for one in secrets]

    def headers(self, uid: str, attempt: int, now: float, body: bytes) -> str:
        """Give the header lines of an attempt (from 1) at `now`, Unix time in s."""
        timestamp = int(now)
        lines = (
            f"webhook-id: {uid}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-attempt: {attempt}\r\n"
        )
        if self._keys:
            signed = f"{uid}.{timestamp}.".encode() + body
            signatures = (hmac.digest(key, signed, hashlib.sha256) for key in self._keys)
            words = (f"v1,{base64.b64encode(one).decode()}" for one in signatures)
            lines += f"webhook-signature: {' '.join(words)}\r\n"
        return lines
