"""The parts of the addresses of a stanza, as keys of the request: `from_local`, `to_domain`, …

Gateways put foreign addresses into local parts (XEP-0106), so a service that answers for them needs
these parts. They are in each request; what is made of an address is kept, encoded, since the same
addresses come again and again.
"""

from functools import lru_cache
from typing import Final

import msgspec

from xmppstream.jid import unescape_local

_ENCODER: Final = msgspec.json.Encoder()
_CACHE: Final = 1024
"""Addresses of at most 3 KiB each, twice: 6 MiB in the worst case."""
ENDS: Final = ("to", "from")
PARTS: Final = ("local", "local_unescaped", "domain", "resource")
ADDRESS_KEYS: Final = tuple(f"{end}_{part}" for end in ENDS for part in PARTS)


def parts_of(end: str, address: str | None) -> dict[str, str]:
    """Return the keys of the parts that an address has; `end` is `to` or `from`.

    It is not checked: the address is what the server says.
    """
    head, _, resource = (address or "").partition("/")
    local, _, domain = head.rpartition("@")
    plain = unescape_local(local)
    parts = (local, plain if plain != local else "", domain, resource)
    return {f"{end}_{name}": part for name, part in zip(PARTS, parts, strict=True) if part}


@lru_cache(maxsize=_CACHE)
def encoded_addresses(to: str | None, from_: str | None) -> bytes:
    """Return the members of both objects in JSON, with a comma before each and the last bracket of
    an object behind them. Called for each stanza: it must be cheap.
    """
    return _encoded_parts("to", to) + _encoded("from", from_) + b"}"


def _encoded(end: str, address: str | None) -> bytes:
    text = address or ""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        head, _, resource = text.partition("/")
        local, _, domain = head.rpartition("@")
        if local and resource and domain:  # nearly all senders
            return (
                f',"{end}_local":"{local}","{end}_domain":"{domain}","{end}_resource":"{resource}"'
            ).encode()
    parts = parts_of(end, address)
    return b"," + _ENCODER.encode(parts)[1:-1] if parts else b""


_encoded_parts: Final = lru_cache(maxsize=64)(_encoded)
"""Our own addresses are few."""
