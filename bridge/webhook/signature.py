"""The identity and origin of a POST: the headers of Standard Webhooks (standardwebhooks.com).

`webhook-id` is the same at every attempt, so an endpoint can drop repetitions. The timestamp and
the signature are new at each attempt. The signature covers id, timestamp and body.
"""

import base64
import hashlib
import hmac

from bridge.config.value import PREFIX, Secret


class Signer:
    """Makes the webhook headers of one component's POSTs. With several secrets (while one is
    being replaced), it signs with each of them.
    """

    def __init__(self, secrets: tuple[Secret, ...] = ()) -> None:
        self._keys = [base64.b64decode(one.value.removeprefix(PREFIX)) for one in secrets]

    def headers(self, uid: str, attempt: int, now: float, body: bytes) -> str:
        """Return the header lines of the `attempt`-th attempt (from 1) at `now`, Unix time in s."""
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
