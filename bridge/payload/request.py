"""The JSON that is POSTed for a stanza (H1)."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from bridge.config.event import EventName
from bridge.payload.address import encoded_addresses
from bridge.payload.derived import (
    OUTSIDE,
    Place,
    ref_of,
    room_keys,
    text_without_fallback,
    without_forgeable,
)
from bridge.payload.event import event_of, plain_body
from bridge.payload.extension.choice import Choice
from bridge.payload.extension.form import with_asked
from bridge.payload.field import of_stanza
from xmppstream import Stanza
from xmppstream.names import COMPONENT, LANG, expanded
from xmppstream.stanza import Kind, language_of

_BODY: Final = expanded(COMPONENT, "body")
_ENCODER: Final = msgspec.json.Encoder()


def request_body(
    stanza: Stanza,
    xml: str,
    received: float,
    uid: str = "",
    attempt: int = 1,
    place: Place = OUTSIDE,
    event: EventName | None = None,
    reply_url: str | None = None,
    choice: Choice | None = None,
) -> bytes:
    """Return the JSON object that is POSTed for a stanza, in UTF-8 (H1).

    `xml` is the stanza as serialized for its component's stream; `received` is Unix time in s.
    `place` is known for stanzas of a room that the bridge is in, `event` for those that do not say
    it themselves, `choice` for an answer to what was offered; `reply_url` takes later replies.
    """
    second = int(received)
    stamp = f"{_date(second)}.{int((received - second) * 1000):03}Z"
    kind, type, id = stanza.kind, stanza.type, stanza.id
    lang = None
    for name, value in stanza.element.attributes:
        if name == LANG:
            lang = value
    addresses = encoded_addresses(stanza.to, stanza.from_)
    body = plain_body(stanza) if place is OUTSIDE and type != "groupchat" else None
    if body is not None and choice is None:  # nearly all stanzas
        encoded = _ENCODER.encode(
            _RequestObject(
                stanza.to,
                stanza.from_,
                kind,
                id,
                type,
                body,
                xml,
                stamp,
                "message",
                uid,
                attempt,
                stamp,
                body,
                id,
                lang,
                reply_url,
            )
        )
        return encoded[:-1] + addresses
    fields = of_stanza(stanza)
    if place.lacks:
        fields = without_forgeable(stanza, fields, place.lacks)
    text = ref = None
    if kind == "message":
        body, ref = body_of(stanza), ref_of(stanza, fields)
        text = None if body is None else text_without_fallback(stanza, body, fields)
    if event in ("command", "register"):  # the bridge leads the dialog
        fields = with_asked(stanza, fields)
    delay = fields.get("delay")
    sent = (delay and delay.stamp) or stamp
    one = _RequestObject(
        *(stanza.to, stanza.from_, kind, id, type, body, xml, stamp),
        event or event_of(stanza, is_encrypted="encryption" in fields),
        *(uid, attempt, sent, text, ref, lang, reply_url),
    )
    if choice is not None:
        fields = {**fields, choice.key: choice.value}
    more = {**fields, **room_keys(stanza, text, fields, place)}
    return _joined(_ENCODER.encode(one)[:-1] + addresses, more)


def _joined(encoded: bytes, more: dict[str, Any]) -> bytes:
    """Return an encoded object with more keys."""
    return encoded[:-1] + b"," + _ENCODER.encode(more)[1:] if more else encoded


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
    stanza: str = ""  # always present, like the five after it
    received: str = ""
    event: EventName | None = None
    uid: str = ""
    attempt: int = 0
    timestamp: str = ""
    text: str | None = None
    ref: str | None = None
    lang: str | None = None
    reply_url: str | None = None


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
