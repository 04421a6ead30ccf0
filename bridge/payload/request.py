"""The JSON that is POSTed for a stanza (H1)."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from xmppstream import Stanza
from xmppstream.names import COMPONENT, expanded
from xmppstream.stanza import Kind, language_of

_BODY: Final = expanded(COMPONENT, "body")
_ENCODER: Final = msgspec.json.Encoder()


def request_body(stanza: Stanza, xml: str, received: float) -> bytes:
    """Return the JSON object that is POSTed for a stanza, in UTF-8 (H1).

    `xml` is the stanza as serialized for its component's stream; `received` is Unix time in s.
    """
    second = int(received)
    return _ENCODER.encode(
        _RequestObject(
            stanza.to,
            stanza.from_,
            stanza.kind,
            stanza.id,
            stanza.type,
            body_of(stanza) if stanza.kind == "message" else None,
            xml,
            f"{_date(second)}.{int((received - second) * 1000):03}Z",
        )
    )


class _RequestObject(
    msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename={"from_": "from"}
):
    """The object that is POSTed. None means absent; only the addresses are then null."""

    to: str | None
    from_: str | None
    kind: Kind
    id: str | None = None
    type: str | None = None
    body: str | None = None
    stanza: str = ""  # always present, like the next one
    received: str = ""


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    """Format Unix time as ISO 8601, in UTC."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def body_of(stanza: Stanza) -> str | None:
    """Return a message's body: the first without xml:lang, else the first, else None."""
    first = None
    for child in stanza.element.children:
        if not isinstance(child, str) and child.name == _BODY:
            if not child.attributes or language_of(child) is None:
                return child.text
            first = first or child
    return None if first is None else first.text
