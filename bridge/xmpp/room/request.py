"""The stanzas by which the bridge joins a room, keeps it, and leaves it."""

from typing import Final

from bridge.payload.namespace import DATA, MUC
from xmppstream import Element, Stanza, make
from xmppstream.names import DISCO_INFO, PING, expanded

MUC_OWNER: Final = "http://jabber.org/protocol/muc#owner"
_QUERY: Final = expanded(MUC_OWNER, "query")


def join(occupant: str, address: str, id: str, password: str | None) -> Stanza:
    """Return the presence that joins a room, without its history (XEP-0045 §7.2)."""
    children = [Element(expanded(MUC, "history"), (("maxstanzas", "0"),))]
    if password is not None:
        children.append(Element(expanded(MUC, "password"), (), (password,)))
    x = Element(expanded(MUC, "x"), (), tuple(children))
    return make("presence", occupant, address, id=id, children=(x,))


def leave(occupant: str, address: str) -> Stanza:
    """Return the presence that leaves a room (XEP-0045 §7.14)."""
    return make("presence", occupant, address, type="unavailable")


def ping(occupant: str, address: str, id: str) -> Stanza:
    """Return a ping to ourselves through the room (XEP-0410 §3.2)."""
    children = (Element(expanded(PING, "ping")),)
    return make("iq", occupant, address, type="get", id=id, children=children)


def ask_features(room: str, address: str, id: str) -> Stanza:
    """Return the question for a room's features."""
    children = (Element(expanded(DISCO_INFO, "query")),)
    return make("iq", room, address, type="get", id=id, children=children)


def unlock(room: str, address: str, id: str) -> Stanza:
    """Return the acceptance of a new room's defaults (XEP-0045 §10.1.2)."""
    form = Element(expanded(DATA, "x"), (("type", "submit"),))
    query = Element(_QUERY, (), (form,))
    return make("iq", room, address, type="set", id=id, children=(query,))


def destroy(room: str, address: str, id: str) -> Stanza:
    """Return the request to destroy a room (XEP-0045 §10.9)."""
    query = Element(_QUERY, (), (Element(expanded(MUC_OWNER, "destroy")),))
    return make("iq", room, address, type="set", id=id, children=(query,))
