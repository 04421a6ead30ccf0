"""Namespaces and expanded names (`{namespace}local`, Clark's notation).

Splits and joins such names; no other logic is here.
"""

from typing import Final

COMPONENT: Final = "jabber:component:accept"
CLIENT: Final = "jabber:client"
STREAMS: Final = "http://etherx.jabber.org/streams"
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"
STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
XML: Final = "http://www.w3.org/XML/1998/namespace"
XMLNS: Final = "http://www.w3.org/2000/xmlns/"

PING: Final = "urn:xmpp:ping"
DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"
VERSION: Final = "jabber:iq:version"
MUC_USER: Final = "http://jabber.org/protocol/muc#user"
DELAY: Final = "urn:xmpp:delay"

LANG: Final = f"{{{XML}}}lang"


def expanded(namespace: str, local: str) -> str:
    """Return an expanded name; without a namespace, it is the local name."""
    return f"{{{namespace}}}{local}" if namespace else local


def namespace_of(name: str) -> str:
    """Return the namespace of an expanded name, `""` if it has none.

    A namespace may contain a `}`; a local name cannot.
    """
    return name[1 : name.rindex("}")] if name.startswith("{") else ""


def local_of(name: str) -> str:
    """Return the local part of an expanded name."""
    return name[name.rindex("}") + 1 :] if name.startswith("{") else name
