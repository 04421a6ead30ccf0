"""Delayed delivery (XEP-0203): a stanza that is written late says when it was meant."""

from datetime import UTC, datetime
from typing import Final

from xmppstream.names import DELAY
from xmppstream.writer import escape_value

LATE_S: Final = 10.0


def delayed(data: bytes, made: float, domain: str) -> bytes:
    """Put a `<delay/>` of `domain` into a written message or presence, as its last child.

    `made` is Unix time in s. An iq is given back as it is: it has one child (RFC 6120 §8.2.3).
    """
    stamp = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    delay = f"<delay xmlns='{DELAY}' from='{escape_value(domain)}' stamp='{stamp}'/>".encode()
    for kind in (b"message", b"presence"):
        if not data.startswith(b"<" + kind):
            continue
        end = b"</" + kind + b">"
        if data.endswith(end):
            return data.removesuffix(end) + delay + end
        return data.removesuffix(b"/>") + b">" + delay + end
    return data
