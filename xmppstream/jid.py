"""Splits and compares addresses (RFC 7622 §3.1). Nothing is normalised but letter case.

An address stays a string in stanzas; `split` it if its parts matter.
"""

import re
from typing import Final

from attrs import frozen

from xmppstream.errors import LocalError

_PART_LIMIT_BYTES: Final = 1023
_CONTROL = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_SPACE = r"\s\u200b\ufeff"
_LOCAL: Final = re.compile(rf"[^{_CONTROL}{_SPACE}\"&'/:<>@]+")
_DOMAIN: Final = re.compile(rf"\[[0-9A-Fa-f:.]+\]|[^{_CONTROL}{_SPACE}\"&'/:<>@\[\]\\]+")
_RESOURCE: Final = re.compile(rf"[^{_CONTROL}]+")


class InvalidJid(LocalError, ValueError):
    """A string is not an address; the message names the part at fault."""


@frozen
class Jid:
    """An address in its three parts; `local` and `resource` are `""` if absent."""

    local: str
    domain: str
    resource: str

    def __str__(self) -> str:
        head = f"{self.local}@{self.domain}" if self.local else self.domain
        return f"{head}/{self.resource}" if self.resource else head

    @property
    def bare(self) -> str:
        """The address without its resource."""
        return f"{self.local}@{self.domain}" if self.local else self.domain


def split(address: str) -> Jid:
    """Split an address: the resource begins at the first `/`, the local part ends at `@`.

    Raises:
        InvalidJid: if a part is empty, longer than 1023 bytes, or contains a forbidden character.
    """
    head, slash, resource = address.partition("/")
    local, at, domain = head.partition("@")
    if not at:
        local, domain = "", head
    if at or local:
        _check("local part", local, _LOCAL)
    _check("domain", domain, _DOMAIN)
    # RFC 7622 §3.2: a trailing dot is not part of the domain; labels are not empty.
    if domain.startswith(".") or domain.endswith(".") or ".." in domain:
        raise InvalidJid("its domain has an empty label")
    if slash:
        _check("resource", resource, _RESOURCE)
    return Jid(local, domain, resource)


def _check(part: str, value: str, allowed: re.Pattern[str]) -> None:
    if not value:
        raise InvalidJid(f"its {part} is empty")
    if allowed.fullmatch(value) is None:
        raise InvalidJid(f"its {part} contains a forbidden character")
    if len(value.encode()) > _PART_LIMIT_BYTES:
        raise InvalidJid(f"its {part} is longer than {_PART_LIMIT_BYTES} bytes")


def bare(address: str) -> str:
    """Return an address without its resource, unchecked: a server must vouch for the address."""
    return address.partition("/")[0]


def domain_of(address: str) -> str:
    """Return the domain of an address, unchecked: a server must vouch for the address."""
    return bare(address).rpartition("@")[2]


def same_domain(one: str, other: str) -> bool:
    """Whether two domains are equal, ignoring letter case."""
    return one == other or one.lower() == other.lower()
