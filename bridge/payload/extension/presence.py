"""What a presence says about somebody: RFC 6121 §4.7, and the client's caps and avatar."""

import re

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import (
    Asked,
    Elements,
    Written,
    check_time,
    child,
    element,
)
from bridge.payload.shape import Caps, Photo
from xmppstream import Element, Stanza
from xmppstream.names import COMPONENT, expanded


def read_show(elements: Elements, _: Stanza) -> str | None:
    text = elements[0].text.strip()
    return text if text in ("away", "chat", "dnd", "xa") else None


def read_priority(elements: Elements, _: Stanza) -> int | None:
    text = elements[0].text.strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,3}", text) else None


def write_priority(value: int, _: Asked) -> Written:
    if not -128 <= value <= 127:
        raise UnusableReply("priority is not from -128 to 127")
    return (Element(expanded(COMPONENT, "priority"), (), (str(value),)),)


def read_caps(elements: Elements, _: Stanza) -> Caps:
    one = elements[0]
    return Caps(one.get("node"), one.get("ver"), one.get("hash"), one.get("ext"))


def write_caps(value: Caps, _: Asked) -> Written:
    for name in ("node", "ver", "hash"):
        if not getattr(value, name):
            raise UnusableReply(f"caps has no {name}")
    pairs = {"node": value.node, "ver": value.ver, "hash": value.hash, "ext": value.ext}
    return (element(expanded(ns.CAPS, "c"), pairs),)


def read_photo(elements: Elements, _: Stanza) -> str | bool | None:
    """Return the avatar's hash, `false` without an avatar, or None while that is unknown."""
    photo = elements[0].find(expanded(ns.VCARD_UPDATE, "photo"))
    return None if photo is None else photo.text.strip() or False


def write_photo(value: str | bool | Photo, _: Asked) -> Written:
    """`false`: there is no avatar (XEP-0153 §4.2)."""
    if value is True:
        raise UnusableReply("vcard_update is the avatar's SHA-1 hash, or false")
    hash = value.photo if isinstance(value, Photo) else value or ""
    if hash and not re.fullmatch("[0-9a-fA-F]{40}", hash):
        raise UnusableReply("vcard_update is not a SHA-1 hash of 40 hexadecimal digits")
    photo = child(ns.VCARD_UPDATE, "photo", hash) or (Element(expanded(ns.VCARD_UPDATE, "photo")),)
    return (Element(expanded(ns.VCARD_UPDATE, "x"), (), photo),)


def write_idle_since(value: str, _: Asked) -> Written:
    check_time("idle_since", value)
    return (Element(expanded(ns.IDLE, "idle"), (("since", value),)),)
