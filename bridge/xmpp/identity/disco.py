"""The answer to disco#info, and the entity capabilities that are computed from it (XEP-0115 §5)."""

import base64
import hashlib
from typing import Final

from attrs import frozen

from bridge.config.settings import Component
from bridge.payload import namespace as ns
from bridge.xmpp.identity.vcard import VCARD_4
from xmppstream import Element
from xmppstream.names import DISCO_INFO, DISCO_ITEMS, PING, VERSION, expanded

CAPS_NODE: Final = "https://github.com/xmpp-bridge/xmpp-bridge"
BASE_FEATURES: Final = (DISCO_INFO, DISCO_ITEMS, PING, VERSION, ns.LAST, ns.TIME)
"""What is answered for every address, whoever it is."""
_OF_EVENT: Final = {
    "action": (ns.ACTION,),
    "displayed": (ns.MARKERS,),
    "edit": (ns.CORRECT,),
    "form": (ns.DATA,),
    "message": (ns.REPLY, ns.SFS),
    "reaction": (ns.REACTIONS,),
    "retraction": (ns.RETRACT,),
}
"""What clients offer to a person who talks to an address that says so."""


@frozen
class DiscoInfo:
    """What disco#info says of an address; `features` are sorted."""

    category: str
    type: str
    name: str
    features: tuple[str, ...]

    def element(self, node: str | None = None) -> Element:
        """Return the answer, which repeats the `node` of the question."""
        identity = (("category", self.category), ("type", self.type), ("name", self.name))
        return Element(
            expanded(DISCO_INFO, "query"),
            (("node", node),) if node else (),
            (
                Element(expanded(DISCO_INFO, "identity"), identity),
                *(
                    Element(expanded(DISCO_INFO, "feature"), (("var", var),))
                    for var in self.features
                ),
            ),
        )

    @property
    def hash(self) -> str:
        """The verification string."""
        parts = (f"{self.category}/{self.type}//{self.name}", *self.features)
        text = "".join(f"{part}<" for part in parts)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
        return base64.b64encode(digest).decode()

    @property
    def node(self) -> str:
        """The node that names exactly these capabilities."""
        return f"{CAPS_NODE}#{self.hash}"

    def caps(self) -> Element:
        """Return the element that announces them in a presence."""
        about = (("hash", "sha-1"), ("node", CAPS_NODE), ("ver", self.hash))
        return Element(expanded(ns.CAPS, "c"), about)


def features_of(component: Component, extra: tuple[str, ...], *, has_card: bool) -> tuple[str, ...]:
    """Return the features of an address, sorted: those of the bridge, those of the events that are
    POSTed, since clients offer reactions and the like by them, and `extra`.
    """
    found = {*BASE_FEATURES, *extra}
    if component.presence and not component.posts_presence:
        found.add(ns.CAPS)
    if has_card:
        found |= {ns.VCARD, VCARD_4}
    if "message" in component.post_stanzas:
        found |= {ns.CHAT_STATES, ns.OOB}
        if component.receipts != "off":
            found.add(ns.RECEIPTS)
        if component.markers:
            found.add(ns.MARKERS)
        for event in component.post_events:
            found.update(_OF_EVENT.get(event, ()))
    if component.takes_invitations:
        found |= {ns.MUC, ns.CONFERENCE}
    return tuple(sorted(found))  # by code points, which is the order of their bytes in UTF-8
