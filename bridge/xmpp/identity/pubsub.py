"""The items that clients look for at a person's account (XEP-0060 §6.5, XEP-0163): the vCard4
(XEP-0292 §4), the nickname (XEP-0172 §4.4) and the picture (XEP-0084).

An address has no other nodes. It says so by `item-not-found`, as accounts do: by that, clients
learn that there are no keys to encrypt with, no posts and no bookmarks.
"""

from typing import Final

from bridge.config.profile import Profile
from bridge.payload import namespace as ns
from bridge.xmpp.identity.vcard import nick, vcard_4
from xmppstream import Element
from xmppstream.names import expanded

PUBSUB: Final = "http://jabber.org/protocol/pubsub"
PUBSUB_NAME: Final = expanded(PUBSUB, "pubsub")
VCARD_NODE: Final = "urn:xmpp:vcard4"
METADATA: Final = "urn:xmpp:avatar:metadata"
DATA: Final = "urn:xmpp:avatar:data"
_ITEMS: Final = expanded(PUBSUB, "items")
_ITEM: Final = expanded(PUBSUB, "item")
_CURRENT: Final = "current"


def items(question: Element, profile: Profile | None, name: str) -> Element | None:
    """Return the answer to a question for the items of a node; None if there is no such node."""
    asked = question.find(_ITEMS)
    if asked is None or profile is None:
        return None
    node = asked.get("node") or ""
    found = _item_of(node, profile, name)
    if found is None:
        return None
    id, payload = found
    ids = [one.get("id") for one in asked.find_all(_ITEM)]
    item = Element(_ITEM, (("id", id),), (payload,))
    chosen = (item,) if not ids or id in ids else ()
    return Element(PUBSUB_NAME, (), (Element(_ITEMS, (("node", node),), chosen),))


def _item_of(node: str, profile: Profile, name: str) -> tuple[str, Element] | None:
    avatar = profile.avatar
    if node == VCARD_NODE:
        return _CURRENT, vcard_4(profile, name)
    if node == ns.NICK and profile.name:
        return _CURRENT, nick(profile.name)
    if avatar is None:
        return None
    if node == METADATA:
        about = (
            ("bytes", str(len(avatar.data))),
            ("id", avatar.hash),
            ("type", avatar.media_type),
        )
        info = Element(expanded(METADATA, "info"), about)
        return avatar.hash, Element(expanded(METADATA, "metadata"), (), (info,))
    if node == DATA:
        return avatar.hash, Element(expanded(DATA, "data"), (), (avatar.base64,))
    return None
