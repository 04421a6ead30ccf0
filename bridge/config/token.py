"""A token of the HTTP API: its name, the addresses that it is for, and its scopes. Frozen values.

It holds the SHA-256 of its secret, not the secret. For a secret of 128 random bits, this is as hard
to reverse as any slow hash, and each guess takes the same time.
"""

import hashlib
from typing import Final, Literal, get_args

from attrs import field, frozen

from xmppstream import Jid
from xmppstream.jid import same_domain

Scope = Literal["send", "query", "receive", "watch", "manage", "rooms"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@frozen
class Token:
    """One token. `local_parts` None allows any local part; `""` among them is the domain itself."""

    name: str
    digest: bytes = field(repr=False)
    components: frozenset[str]
    scopes: frozenset[Scope]
    local_parts: frozenset[str] | None = None

    def speaks_as(self, sender: Jid) -> bool:
        """Whether the token may send as `sender`; its resource does not matter."""
        own = any(same_domain(sender.domain, domain) for domain in self.components)
        return own and (self.local_parts is None or sender.local in self.local_parts)

    def hears(self, domain: str, local: str) -> bool:
        """Whether the token may receive what is sent to an address of a component."""
        return domain in self.components and (self.local_parts is None or local in self.local_parts)

    @property
    def only_address(self) -> str | None:
        """The bare address of a request that names no sender; None if it is ambiguous.

        It is the domain of the only component, if that is allowed, or else the only local part
        there.
        """
        if len(self.components) != 1:
            return None
        (domain,) = self.components
        if self.local_parts is None or "" in self.local_parts:
            return domain
        if len(self.local_parts) != 1:
            return None
        (local,) = self.local_parts
        return f"{local}@{domain}"


def digest_of(secret: str) -> bytes:
    """Return the digest that is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
