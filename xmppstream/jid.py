"""Splits and compares addresses (RFC 7622 §3.1).

An address stays a string in stanzas, as it came; `split` it if its parts matter. Domains are equal
by IDNA 2008 (RFC 5891) with the mapping of UTS 46, non-transitional: `faß.de` is not `fass.de`, as
IDNA 2003 and Python's codec "idna" have it.
"""

import re
from functools import lru_cache
from typing import Final
from unicodedata import normalize

import idna
from attrs import frozen

from xmppstream.errors import LocalError

_PART_LIMIT_BYTES: Final = 1023
_CONTROL = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_SPACE = r"\s\u200b\ufeff"
_LOCAL: Final = re.compile(rf"[^{_CONTROL}{_SPACE}\"&'/:<>@]+")
_DOMAIN: Final = re.compile(rf"\[[0-9A-Fa-f:.]+\]|[^{_CONTROL}{_SPACE}\"&'/:<>@\[\]\\]+")
_RESOURCE: Final = re.compile(rf"[^{_CONTROL}]+")
_ESCAPES: Final = {f"\\{ord(one):02x}": one for one in " \"&'/:<>@\\"}
_ESCAPED: Final = re.compile("|".join(map(re.escape, _ESCAPES)))
_TO_ESCAPE: Final = re.compile(r"[ \"&'/:<>@]|\\(?=2[0267f]|3[ace]|40|5c)")


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


def escape_local(text: str) -> str:
    """Return a text as a local part: characters that none may contain are escaped (XEP-0106 §4).

    Raises:
        InvalidJid: if it begins or ends with a space, which has no escape there (§4.2).
    """
    if text != text.strip(" "):
        raise InvalidJid("its local part begins or ends with a space")
    return _TO_ESCAPE.sub(lambda found: f"\\{ord(found[0]):02x}", text)


def unescape_local(local: str) -> str:
    """Return what an escaped local part stands for; one without escapes stays as it is."""
    if "\\" not in local:
        return local
    head = "\\20" if local.startswith("\\20") else ""  # no escape: see `escape_local`
    rest = local[len(head) :]
    tail = "\\20" if rest.endswith("\\20") else ""
    rest = rest.removesuffix(tail)
    return head + _ESCAPED.sub(lambda found: _ESCAPES[found[0]], rest) + tail


def bare(address: str) -> str:
    """Return an address without its resource, unchecked: a server must vouch for the address."""
    return address.partition("/")[0]


def domain_of(address: str) -> str:
    """Return the domain of an address, unchecked: a server must vouch for the address."""
    return address.partition("/")[0].rpartition("@")[2]


def to_ascii(domain: str) -> str:
    """Return a domain as DNS, TLS and HTTP have it. A label in ASCII stays as it is.

    Raises:
        InvalidJid: if it is not valid by IDNA 2008.
    """
    if domain.isascii():
        return domain
    if len(domain) > _PART_LIMIT_BYTES:
        raise InvalidJid("its domain is too long")
    try:
        labels = idna.uts46_remap(domain, std3_rules=False, transitional=False).split(".")
        return ".".join(one if one.isascii() else idna.alabel(one).decode() for one in labels)
    except idna.IDNAError as error:
        raise InvalidJid(f"its domain is not valid: {error}") from None


def fold_domain(domain: str) -> str:
    """Return the spelling that all equal domains have in common."""
    return domain.lower() if domain.isascii() else _fold_domain(domain)


@lru_cache(maxsize=1024)
def _fold_domain(domain: str) -> str:
    try:
        return to_ascii(domain).lower()
    except InvalidJid:  # equal to itself only
        return domain.lower()


def fold(address: str) -> str:
    """Return the spelling that all equal addresses have in common, unchecked. Letter case matters
    in the resource only, and is not folded further: `straße@` is not `strasse@` (RFC 8265 §3.3).
    """
    head, slash, resource = address.partition("/")
    if address.isascii():
        return f"{head.lower()}{slash}{resource}"
    local, at, domain = head.rpartition("@")
    local, resource = fold_local(local), normalize("NFC", resource)
    return f"{local}{at}{fold_domain(domain)}{slash}{resource}"


def fold_local(local: str) -> str:
    """Return the spelling that all equal local parts have in common; see `fold`."""
    return local.lower() if local.isascii() else normalize("NFC", local.lower())


def same_domain(one: str, other: str) -> bool:
    """Whether two domains are equal, in whatever spelling."""
    return one == other or fold_domain(one) == fold_domain(other)
