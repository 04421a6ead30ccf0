"""Replaces decoded values: attributes, texts, addresses. Each keeps its form."""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Final

from bridge.capture.redact.keep import NO_WORDS, KeptWords
from bridge.capture.redact.pseudonym import WORD_LIMIT, Pseudonyms
from bridge.capture.redact.vocabulary import (
    ADDRESSES,
    BLANK,
    NAMES,
    RESOURCE,
    SECRETS,
    URL_SCHEME,
    URLS,
    keeps_attribute,
    local_name,
)
from bridge.payload.address import ADDRESS_KEYS
from xmppstream.jid import InvalidJid, escape_local, unescape_local

PIECE: Final = re.compile(
    rf"([^\W\d_]{{1,{WORD_LIMIT}}}|\d{{1,{WORD_LIMIT}}}|[\U0001f000-\U0001faff])"
)
_LISTED: Final = re.compile(r"(?<=\n)(?:[1-9]|[1-3][0-9]|40)(?=\. )")
"""The numbers in the list of what can be chosen (XEP-0439): a reply makes them again."""
_DOMAIN: Final = re.compile(
    r"\[[0-9A-Fa-f:.]{2,45}\]|(?:[^\W_](?:[\w-]{0,61}[^\W_])?)(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?)*\.?"
)
_WHOLE_ADDRESS: Final = re.compile(
    r"(?:xmpp:)?[^\s\"&'/:<>@]{1,1023}@[^\s/@]{1,255}(?:/.{1,1023})?"
)
_URI: Final = "xmpp:"
_SHA_1: Final = re.compile("[0-9a-f]{40}")
_LONGEST_ADDRESS: Final = 3100
_RECENT_LENGTH: Final = 2048  # an exchange contains the same text five times


class Values:
    """Replaces values by pseudonyms. They keep their number of characters, except addresses with a
    name that `Pseudonyms` must make longer.
    """

    keep: KeptWords = NO_WORDS
    """Words that stay in texts."""

    def __init__(self, pseudonyms: Pseudonyms, keep: KeptWords = NO_WORDS) -> None:
        self.keep = keep
        self._pseudonyms = pseudonyms
        self._words = pseudonyms.words
        self._recent = lru_cache(256)(self._text)
        self.domain = ""
        self.attribute: Callable[[str, str], str] = lru_cache(8192)(self._attribute)
        self.address: Callable[[str], str] = lru_cache(8192)(self._address)

    def use(self, domain: str) -> None:
        """Set the domain of the capture's component."""
        if domain != self.domain:
            self.domain = domain
            self.attribute = lru_cache(8192)(self._attribute)

    def text(self, text: str) -> str:
        """Replace all words, numbers and pictographs; everything between them stays."""
        return self._recent(text) if len(text) <= _RECENT_LENGTH else self._text(text)

    def whole_text(self, text: str) -> str:
        """Replace the words of a complete text, as `text` does, except those to be kept."""
        return self.keep.change(text, self.text) if self.keep else self.text(text)

    def _text(self, text: str) -> str:
        if "\n" in text and _LISTED.search(text) is not None:
            kept = _LISTED.findall(text)
            between = [self._pieces(one) for one in _LISTED.split(text)]
            return "".join(chain.from_iterable(zip_longest(between, kept, fillvalue="")))
        return self._pieces(text)

    def _pieces(self, text: str) -> str:
        parts = PIECE.split(text)
        parts[1::2] = map(self._words.__getitem__, parts[1::2])
        return "".join(parts)

    def digest(self, text: str) -> str:
        """Replace a hash by another one."""
        return self._pseudonyms.digest(text) if _SHA_1.fullmatch(text) else self.text(text)

    def secret(self, text: str) -> str:
        """Blank a password or the like."""
        return BLANK if text else text

    def name(self, name: str) -> str:
        """Replace an id."""
        return self._pseudonyms.opaque(name)

    def _attribute(self, name: str, value: str) -> str:
        """Replace the value of an attribute, or of a key of the bridge's JSON."""
        if keeps_attribute(name, value, self.domain):
            return value
        name = local_name(name)
        if name in SECRETS:
            return self.secret(value)
        if name in NAMES:
            return self.name(value)
        if name in ADDRESS_KEYS:
            return self._part(name.partition("_")[2], value)
        if name in ADDRESSES or is_address(value):
            return self.address(value)
        scheme = URL_SCHEME.match(value) if name in URLS else None
        if scheme is not None:
            return scheme[0] + self.text(value[scheme.end() :])
        return self.text(value)

    def _address(self, address: str) -> str:
        """Replace local part and resource. A domain stays if it looks like one: after an `@`, with
        a dot, or `localhost`.
        """
        if len(address) > _LONGEST_ADDRESS:
            return self.text(address)
        if address.startswith(_URI):
            return _URI + self._address(address.removeprefix(_URI))
        head, slash, resource = address.partition("/")
        local, at, domain = head.partition("@")
        if not at:
            local, domain = "", head
        domain = self._domain(domain, bool(at))
        return f"{self._local(local) if local else ''}{at}{domain}{slash}{self._resource(resource)}"

    def _part(self, part: str, value: str) -> str:
        """Replace a part of an address like the address itself. A domain that does not look like
        one is replaced, whatever comes before it.
        """
        match part:
            case "local":
                return self._local(value)
            case "local_unescaped":
                try:
                    return unescape_local(self._local(escape_local(value)))
                except InvalidJid:
                    return self.text(value)
            case "domain":
                return self._domain(value, follows_local=False)
            case _:
                return self._resource(value)

    def _local(self, local: str) -> str:
        return self._pseudonyms.name(local)

    def _resource(self, resource: str) -> str:
        return resource if resource == RESOURCE else self._pseudonyms.name(resource)

    def _domain(self, domain: str, follows_local: bool) -> str:
        looks = follows_local or "." in domain or ":" in domain or domain.lower() == "localhost"
        return domain if looks and _DOMAIN.fullmatch(domain) else self.text(domain)


def is_address(value: str) -> bool:
    """Return whether a value is an address with a local part, and nothing else."""
    return (
        "@" in value
        and len(value) <= _LONGEST_ADDRESS
        and _WHOLE_ADDRESS.fullmatch(value) is not None
    )
