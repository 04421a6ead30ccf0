"""A profile as a vCard: vcard-temp (XEP-0054), and vCard4 (XEP-0292)."""

from typing import Final

from bridge.config.profile import Profile
from bridge.payload import namespace as ns
from xmppstream import Element
from xmppstream.names import expanded

VCARD_4: Final = "urn:ietf:params:xml:ns:vcard-4.0"
VCARD_NAME: Final = expanded(ns.VCARD, "vCard")
VCARD_4_NAME: Final = expanded(VCARD_4, "vcard")


def vcard_temp(profile: Profile, name: str) -> Element:
    """Return the vCard as most clients ask for it; `name` is shown if the profile has none."""
    children = [_temp("FN", profile.name or name)]
    if profile.name:
        children.append(_temp("NICKNAME", profile.name))
    if profile.url:
        children.append(_temp("URL", profile.url))
    if profile.description:
        children.append(_temp("DESC", profile.description))
    if profile.avatar is not None:
        photo = (_temp("TYPE", profile.avatar.media_type), _temp("BINVAL", profile.avatar.base64))
        children.append(Element(expanded(ns.VCARD, "PHOTO"), (), photo))
    return Element(VCARD_NAME, (), tuple(children))


def vcard_4(profile: Profile, name: str) -> Element:
    """Return the vCard in its later form."""
    children = [_four("fn", "text", profile.name or name)]
    if profile.name:
        children.append(_four("nickname", "text", profile.name))
    if profile.avatar is not None:
        avatar = profile.avatar
        uri = f"data:{avatar.media_type};base64,{avatar.base64}"
        children.append(_four("photo", "uri", uri))
    if profile.url:
        children.append(_four("url", "uri", profile.url))
    if profile.description:
        children.append(_four("note", "text", profile.description))
    return Element(VCARD_4_NAME, (), tuple(children))


def photo_update(profile: Profile) -> Element:
    """Return what announces the picture in a presence, or that there is none (XEP-0153 §4)."""
    hash = () if profile.avatar is None else (profile.avatar.hash,)
    photo = Element(expanded(ns.VCARD_UPDATE, "photo"), (), hash)
    return Element(expanded(ns.VCARD_UPDATE, "x"), (), (photo,))


def nick(name: str) -> Element:
    """Return the name as a nickname (XEP-0172)."""
    return Element(expanded(ns.NICK, "nick"), (), (name,))


def _temp(local: str, text: str) -> Element:
    return Element(expanded(ns.VCARD, local), (), (text,))


def _four(local: str, kind: str, text: str) -> Element:
    return Element(expanded(VCARD_4, local), (), (Element(expanded(VCARD_4, kind), (), (text,)),))
