"""vCards (XEP-0054): those parts that have one value, flat."""

import binascii
from base64 import b64decode
from typing import Any, Final

from bridge.payload import namespace as ns
from bridge.payload.error import UnusableReply
from bridge.payload.extension.common import Asked, Elements, Written, child, child_text
from bridge.payload.shape import VCard, VCardPhoto
from xmppstream import Element, Stanza
from xmppstream.names import expanded

_PLACES: Final[dict[str, tuple[str, ...]]] = {
    "fn": ("FN",),
    "family": ("N", "FAMILY"),
    "given": ("N", "GIVEN"),
    "nickname": ("NICKNAME",),
    "email": ("EMAIL", "USERID"),
    "tel": ("TEL", "NUMBER"),
    "url": ("URL",),
    "bday": ("BDAY",),
    "title": ("TITLE",),
    "role": ("ROLE",),
    "org": ("ORG", "ORGNAME"),
    "desc": ("DESC",),
}
"""Where the vCard has each key."""


def read_vcard(elements: Elements, _: Stanza) -> VCard | bool:
    one = elements[0]
    found: dict[str, Any] = {key: _at(one, path) for key, path in _PLACES.items()}
    photo = one.find(expanded(ns.VCARD, "PHOTO"))
    if photo is not None:
        media, data, url = (
            child_text(photo, ns.VCARD, name) for name in ("TYPE", "BINVAL", "EXTVAL")
        )
        if data or url:
            found["photo"] = VCardPhoto(media, None if data is None else "".join(data.split()), url)
    return VCard(**found) if any(found.values()) else True


def _at(element: Element, path: tuple[str, ...]) -> str | None:
    for name in path[:-1]:
        inner = element.find(expanded(ns.VCARD, name))
        if inner is None:
            return None
        element = inner
    return child_text(element, ns.VCARD, path[-1])


def write_vcard(value: VCard | bool, asked: Asked) -> Written:
    asked.refuse_a_question("vcard", value)
    name = expanded(ns.VCARD, "vCard")
    if isinstance(value, bool):
        return (Element(name),)
    parts: dict[str, list[Element]] = {}
    for key, path in _PLACES.items():
        parts.setdefault(path[0], []).extend(child(ns.VCARD, path[-1], getattr(value, key)))
    inner: list[Element] = []
    for outer, elements in parts.items():
        if elements and elements[0].local == outer:
            inner += elements
        elif elements:
            inner.append(Element(expanded(ns.VCARD, outer), (), tuple(elements)))
    if value.photo is not None:
        inner.append(_photo(value.photo))
    return (Element(name, (), tuple(inner)),)


def _photo(photo: VCardPhoto) -> Element:
    if (photo.binval is None) == (photo.extval is None):
        raise UnusableReply("vcard.photo has either binval or extval")
    if photo.binval is not None:
        if photo.type is None:
            raise UnusableReply('vcard.photo has no type, such as "image/png"')
        try:
            b64decode(photo.binval, validate=True)
        except (binascii.Error, ValueError):
            raise UnusableReply("vcard.photo.binval is not base64") from None
    inner = (
        *child(ns.VCARD, "TYPE", photo.type),
        *child(ns.VCARD, "BINVAL", photo.binval),
        *child(ns.VCARD, "EXTVAL", photo.extval),
    )
    return Element(expanded(ns.VCARD, "PHOTO"), (), inner)
