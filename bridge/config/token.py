"""A token of the listener: who asks, as whom it may speak, and what it may do. Frozen values.

Its secret is nowhere in it: what is kept is the SHA-256 of the secret, which for a secret of 128
random bits is as hard to turn back as any slow hash, and takes the same time for each guess.
"""

import hashlib
from typing import Final, Literal, get_args

from attrs import field, frozen

from xmppstream import Jid
from xmppstream.jid import same_domain

Scope = Literal["send", "query", "watch", "manage"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@frozen
class Token:
    """One token. `local_parts` of None is any; `""` among them is the bare domain itself."""

    name: str
    digest: bytes = field(repr=False)
    components: frozenset[str]
    scopes: frozenset[Scope]
    local_parts: frozenset[str] | None = None

    def speaks_as(self, sender: Jid) -> bool:
        """Tell whether it may send in this name; the resource is free."""
        own = any(same_domain(sender.domain, domain) for domain in self.components)
        return own and (self.local_parts is None or sender.local in self.local_parts)

    @property
    def only_address(self) -> str | None:
        """The one bare address that it speaks as, or the domain of the one component where it
        may use any local part; None where there are several.
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
    """Give what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
