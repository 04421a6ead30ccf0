"""The presence of a component's addresses."""

from typing import Final

from bridge.xmpp.identity.book import IdentityBook
from xmppstream import Stanza, make

_DEFAULT_RESOURCE: Final = "default"


def available(book: IdentityBook, to: str | None, address: str) -> Stanza:
    """Return the available presence of an address; it says who that is, unless the endpoint
    provides presences itself.
    """
    children = () if book.component.posts_presence else book.announced(address)
    return make("presence", to, resource_of(address), children=children)


def unavailable(to: str | None, address: str) -> Stanza:
    """Return the unavailable presence of an address."""
    return make("presence", to, resource_of(address), type="unavailable")


def resource_of(address: str) -> str:
    """Return the full address that an address of the component is present with."""
    is_bare_account = "@" in address and "/" not in address
    return f"{address}/{_DEFAULT_RESOURCE}" if is_bare_account else address
