"""The values that redaction keeps: the protocol's own words, each in its own place.

A value is kept only if the table of its place has it as a whole: `type='chat'` is kept,
`type='juliet'` is not. So a person's word is kept only if it is a word of the protocol in the
protocol's place. Namespaces (`xmlns`), and the names of elements and attributes, are always kept:
the stream is made of them.
"""

import errno
import os
import re
from functools import lru_cache
from typing import Final

from bridge.config.event import EVENTS
from bridge.payload.field import FIELDS, READ_ONLY
from bridge.payload.mod_rest import MOD_REST_KEYS
from xmppstream.stanza import KINDS, TYPES

_DATE: Final = r"-?\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?)?"
_OLD_DATE: Final = r"\d{8}T\d\d:\d\d:\d\d"  # XEP-0091
_HTTP_DATE: Final = (
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r" \d{4} \d\d:\d\d:\d\d GMT"
)
_NUMBER: Final = r"-?\d{1,4}"
_BOOLEAN: Final = "true|false|0|1"
_NAMESPACE: Final = (
    r"https?://(?:jabber|etherx\.jabber|www\.w3)\.org/[\w./#+-]*|urn:(?:xmpp|ietf):[\w.:#+-]*"
    r"|jabber:[\w:#-]*|vcard-temp|muc#\w+|pubsub#\w+|msgoffline|roster:delimiter"
)
_LANGUAGE: Final = r"[A-Za-z]{2,3}(?:-(?:Hans|Hant|Latn|Cyrl|Arab))?(?:-(?:[A-Za-z]{2}|\d{3}))?|"
_SENTENCES: Final = (  # the texts of errors that the bridge sends (`outcome`, `admission`)
    r"Too much is waiting here; try again later\.|This cannot be kept here now; try again later\."
    r"|You send more than is taken here; try again later\."
    r"|The service (?:is stopping; try again later|has failed|has refused this|cannot be reached"
    r"|has not answered in time)\."
    r"|This is over the limit of \d{1,9} (?:bytes(?: of a name)?|levels|attributes)\."
)
# The bridge's own ids, which are random: of replies, and of pings to itself (S35).
_UID: Final = r"msg_[0-9a-f]{20,60}(?:-\d{1,6})?|barrier-[0-9a-f]{12}-\d{1,9}"
_TYPES: Final = (
    {one for types in TYPES.values() for one in types}
    | {"auth", "cancel", "continue", "modify", "wait", "form", "submit", "both", "none", "to"}
    | {"cc", "bcc", "noreply", "replyto", "replyroom", "ofrom", "hidden", "text-single"}
    | {"text-multi", "text-private", "list-single", "list-multi", "boolean", "fixed"}
    | {
        "jid-single",
        "jid-multi",
        "bot",
        "pc",
        "web",
        "phone",
        "generic",
        "text",
        "im",
        "c2s",
        "s2s",
    }
    | {"user", "pep", "leaf", "collection", "service", "admin", "registered", "handheld", "console"}
    | {"text/plain", "text/html", "image/png", "image/jpeg", "image/gif", "image/webp"}
)
_MEDIA_TYPES: Final = frozenset(
    {"application/json", "application/xmpp+xml", "application/xml", "application/octet-stream"}
    | {"text/html", "text/plain", "text/xml", "application/problem+json"}
    | {"application/x-www-form-urlencoded", "text/javascript", "application/javascript"}
)


def _any(*words: str) -> str:
    return "|".join(map(re.escape, sorted(words)))


def _table(rows: dict[str, str]) -> dict[str, re.Pattern[str]]:
    return {
        name: re.compile(pattern, re.ASCII)
        for names, pattern in rows.items()
        for name in names.split()
    }


_ATTRIBUTES: Final = _table(
    {
        "type": _any(*_TYPES),
        "kind": _any(*KINDS),
        "event": _any(*EVENTS),
        "var node feature": f"FORM_TYPE|{_NAMESPACE}",
        "xml:lang": _LANGUAGE,
        "uid id": _UID,
        "code": r"\d{3}",
        "affiliation": "owner|admin|member|outcast|none|publisher|publish-only",
        "role": "moderator|participant|visitor|none",
        "subscription": "both|from|to|none|remove|subscribed|unconfigured|pending",
        "ask": "subscribe|unsubscribe",
        "action": "execute|cancel|prev|next|complete",
        "status": "executing|completed|canceled",
        "category": _any(
            *(
                "account",
                "auth",
                "automation",
                "client",
                "collaboration",
                "component",
                "conference",
            ),
            *(
                "directory",
                "gateway",
                "headline",
                "hierarchy",
                "proxy",
                "pubsub",
                "server",
                "store",
            ),
        ),
        "version": r"\d{1,3}(?:\.\d{1,3})?",
        "stamp since until received timestamp": f"{_DATE}|{_OLD_DATE}",
        "seconds maxstanzas maxchars max count index priority": r"\d{1,6}",
        "hash algo": r"md5|sha-?\d{1,3}(?:-\d{3})?|blake2b-?\d{3}",
        "sent delivered complete stable last persistent": _BOOLEAN,
    }
)
_TEXTS: Final = _table(
    {
        "show": "away|chat|dnd|xa",
        "priority": _NUMBER,
        "handshake": "redacted",
        "utc stamp": _DATE,
        "version": r"\d{1,4}(?:\.\d{1,4}){1,3}",
        "text": _SENTENCES,
        "name": r"(?!)",  # only the component's own domain, see `keeps_text`
    }
)
TEXT_LIMIT: Final = 96
"""Length limit of texts that are kept, in bytes."""
FORM_TYPE: Final = "FORM_TYPE"
"""The form field whose value is a namespace (XEP-0068 §3)."""
_NAMESPACES: Final = re.compile(_NAMESPACE, re.ASCII)
_RETRY_AFTER: Final = re.compile(rf"\d{{1,10}}|{_HTTP_DATE}", re.ASCII)
_PARAMETER: Final = re.compile(
    r"charset=\"?(?:utf-?8|us-ascii|iso-8859-\d{1,2}|windows-125\d)\"?", re.IGNORECASE
)
_CODINGS: Final = frozenset({"gzip", "deflate", "br", "zstd", "compress", "identity"})
_REASONS: Final = frozenset(
    {"given up", "the stream is ending", "the server no longer answers"}
    | {"the peer ended the stream"}
    | {"the server closed the connection without a word", "no answer in time"}
    | {os.strerror(code) for code in errno.errorcode}
)
_REASON: Final = re.compile(
    r"(?:connection broke: |cannot connect to [\w.:\[\]-]+(?: \(TLS\))?: )?([^:]+)"
    r"|the server has read nothing for [\d.]+ s"
    r"|gave up after [\d.]+ s of (?:connecting to|waiting for the handshake of) [\w.:\[\]-]+",
    re.ASCII,
)
RESOURCE: Final = "default"
"""The resource of the bridge itself (contract H6)."""
ADDRESSES: Final = frozenset({"to", "from", "jid", "by", "with", "initiator", "responder"})
NAMES: Final = frozenset({"id", "sid", "queryid"})
JSON_KEYS: Final = frozenset(
    {
        *("to", "from", "kind", "type", "id", "body", "stanza", "error", "message", "status"),
        *(field.key for field in FIELDS),
        *MOD_REST_KEYS,
        *READ_ONLY,
    }
)


@lru_cache(maxsize=1024)
def local_name(name: str) -> str:
    """Return the name that the tables use: without a prefix, except `xml:lang`."""
    return name if name == "xml:lang" else name.rpartition(":")[2]


def keeps_attribute(name: str, value: str, domain: str = "") -> bool:
    """Return whether the value of an attribute, by its qualified name, is kept. For `domain`, see
    `keeps_text`.
    """
    if name.startswith("xmlns") and name[5:6] in ("", ":"):
        return True
    if domain and value == domain and name == "name":
        return True
    pattern = _ATTRIBUTES.get(local_name(name))
    return pattern is not None and pattern.fullmatch(value) is not None


def may_keep_text(element: str) -> bool:
    """Return whether some texts are kept in an element, by its local name."""
    return element in _TEXTS


def elements_with_texts() -> tuple[str, ...]:
    """Return the local names of the elements in which some texts are kept."""
    return tuple(_TEXTS)


def keeps_text(element: str, text: str, domain: str = "") -> bool:
    """Return whether the whole text of an element, by its local name, is kept. `domain` is the
    component's own, which is its name if it has no other.
    """
    if element == "name":
        return bool(domain) and text == domain
    pattern = _TEXTS.get(element)
    return pattern is not None and pattern.fullmatch(text.strip()) is not None


def keeps_form_type(text: str) -> bool:
    """Return whether the value of a form's FORM_TYPE is kept."""
    return _NAMESPACES.fullmatch(text.strip()) is not None


def keeps_media_type(text: str) -> bool:
    """Return whether a part of `Content-Type`, between semicolons, is kept."""
    text = text.strip()
    return text.lower() in _MEDIA_TYPES or _PARAMETER.fullmatch(text) is not None


def keeps_header(name: str, value: str) -> bool:
    """Return whether the value of a response header, other than `content-type`, is kept."""
    if name == "retry-after":
        return _RETRY_AFTER.fullmatch(value) is not None
    return name == "content-encoding" and value.lower() in _CODINGS


def keeps_reason(why: str) -> bool:
    """Return whether the reason of an end is in the bridge's own words, or the system's."""
    match = _REASON.fullmatch(why)
    return match is not None and (match[1] is None or match[1] in _REASONS)
