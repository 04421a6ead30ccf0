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
from typing import Any, Final, get_args

import msgspec
from attrs import frozen

from bridge.config.event import EVENTS
from bridge.payload.address import ADDRESS_KEYS
from bridge.payload.body import KEYS
from bridge.payload.content import RETRACTED, WRITERS
from bridge.payload.extension.chat import STATES
from bridge.payload.extension.text import HINTS
from bridge.payload.field import FIELDS, READ_ONLY
from bridge.payload.mod_rest import MOD_REST_KEYS
from bridge.payload.shape import Shape
from xmppstream import StanzaCondition
from xmppstream.stanza import KINDS, TYPES

_DATE: Final = r"-?\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?)?"
_MOMENT: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
_OLD_DATE: Final = r"\d{8}T\d\d:\d\d:\d\d"  # XEP-0091
_HTTP_DATE: Final = (
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r" \d{4} \d\d:\d\d:\d\d GMT"
)
_NUMBER: Final = r"-?\d{1,4}"
_BOOLEAN: Final = "true|false|0|1"
_NAMESPACE: Final = (
    r"https?://(?:jabber|etherx\.jabber|www\.w3)\.org/[\w./#+-]*|urn:(?:xmpp|ietf):[\w.:#+-]*"
    r"|jabber:[\w:#-]*|vcard-temp|eu\.siacs\.conversations\.axolotl|muc#\w+|pubsub#\w+|msgoffline|roster:delimiter"
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
_UID: Final = r"msg_[0-9a-f]{20,60}(?:-d[0-9a-f]{10})?(?:-\d{1,6})?|barrier-[0-9a-f]{12}-\d{1,9}"
SECRETS: Final = frozenset({"password", "reply_url"})
"""Attributes, elements, form fields and keys of the JSON whose values are secrets: what is left is
`BLANK`, not even the length.
"""
BLANK: Final = "redacted"
_FILE_TYPES: Final = frozenset(
    {
        "text/plain",
        "text/html",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/svg+xml",
    }
    | {"audio/mpeg", "audio/ogg", "audio/mp4", "video/mp4", "video/webm", "application/pdf"}
    | {"application/octet-stream", "application/zip"}
)
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
    | {"info", "warn", "mention", "data", "stun", "stuns", "turn", "turns", "file"}
    | _FILE_TYPES
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
        "node feature for namespace": _NAMESPACE,
        "var": f"FORM_TYPE|with|start|end|before-id|after-id|ids|{_NAMESPACE}",
        "begin end start": r"\d{1,6}",
        "disposition": "inline|attachment",
        "execute": "prev|next|complete",
        "transport": "tcp|udp",
        "name": "Authorization|Cookie|Expires",  # the headers of an upload (XEP-0363 §4)
        "content-type": _any(*_FILE_TYPES),
        "xml:lang": _LANGUAGE,
        "uid id": _UID,
        "code": r"\d{3}",
        "affiliation": "owner|admin|member|outcast|none|publisher|publish-only",
        "role": "moderator|participant|visitor|none",
        "subscription": "both|from|to|none|remove|subscribed|unconfigured|pending",
        "ask": "subscribe|unsubscribe",
        "action": "execute|cancel|prev|next|complete|add|remove|modify",
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
        "stamp since until received timestamp expires": f"{_DATE}|{_OLD_DATE}",
        "seconds maxstanzas maxchars max count index priority attempt": r"\d{1,6}",
        "hash algo": r"md5|sha-?\d{1,3}(?:-\d{3})?|blake2b-?\d{3}",
        "password": BLANK,
        "sent delivered complete stable last persistent continue restricted": _BOOLEAN,
    }
)
_TEXTS: Final = _table(
    {
        "show": "away|chat|dnd|xa",
        "priority": _NUMBER,
        "handshake password": BLANK,
        "utc stamp": _DATE,
        "tzo": r"Z|[+-]\d\d:\d\d",
        "value": f"{_BOOLEAN}|{_MOMENT}",
        "media-type TYPE": _any(*_FILE_TYPES),
        "version": r"\d{1,4}(?:\.\d{1,4}){1,3}",
        "text": _SENTENCES,
        "name": r"(?!)",  # only the component's own domain, see `keeps_text`
        "body": re.escape(RETRACTED),
        "photo": r"(?!)",  # a hash, which is replaced as a whole
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
NAMES: Final = frozenset({"id", "sid", "sessionid", "queryid", "var"})
URLS: Final = frozenset({"href", "src"})
"""Attributes whose URL keeps its scheme: without it, the bridge would not send them."""
URL_SCHEME: Final = re.compile("(?:https?|mailto|xmpp|cid):", re.IGNORECASE)


def _keys_within(shape: Any) -> set[str]:
    """Return the keys of the objects that a shape may hold."""
    if isinstance(shape, type) and issubclass(shape, Shape):
        fields = msgspec.structs.fields(shape)
        return {one.encode_name for one in fields}.union(*(_keys_within(o.type) for o in fields))
    return set().union(*map(_keys_within, get_args(shape)))


JSON_KEYS: Final = frozenset(
    {"error", "message", "status", *KEYS, *READ_ONLY, *MOD_REST_KEYS}
    | {field.key for field in FIELDS}
    | {key for field in FIELDS for key in _keys_within(field.shape)}
    | {key for row in WRITERS.values() for key in _keys_within(row.shape)}
)
"""The keys of the JSON that stay, but not within `FREE_OBJECTS`."""
FREE_OBJECTS: Final = {"data": "var", "extensions": "var", "bodies": "xml:lang"}
"""Keys of objects whose own keys are somebody's, at any depth: they are replaced like the values of
an attribute.
"""


@frozen
class Place:
    """Where XML has a value of the JSON: in the attribute or in the element of that name."""

    attribute: str = ""
    element: str = ""
    kept: frozenset[str] = frozenset()
    """Values that are names in the XML, which always stay."""


_TEXT: Final = Place()
_SAME_ATTRIBUTE: Final = (
    *("to", "from", "kind", "type", "id", "received", "event", "timestamp", "jid", "by", "uri"),
    *("var", "node", "name", "queryid", "affiliation", "role", "category", "hash"),
    *("stamp", "since", "seconds", "maxstanzas", "maxchars", "begin", "end", "transport"),
    *("execute", "content-type", "expires", "index", "sessionid", "attempt"),
)
_PLACES: Final = {
    **{key: Place(key) for key in _SAME_ATTRIBUTE},
    **dict.fromkeys(("uid", "ref", "replace", "retract", "receipt", "displayed"), Place("id")),
    **dict.fromkeys(("origin_id", "occupant_id", "attach_to", "moderate", "action"), Place("id")),
    **dict.fromkeys(("command action", "services action"), Place("action")),
    **dict.fromkeys(("room", "actor"), Place("jid")),
    **dict.fromkeys(("disco", "items", "command"), Place("node")),
    **dict.fromkeys(("features", "fallback", "encryption"), Place("var")),
    "delay": Place("stamp"),
    "idle_since": Place("since"),
    "statuses": Place("code"),
    "lastactivity": Place("seconds"),
    "lang": Place("xml:lang"),
    **{key: Place(element=key) for key in ("body", "show", "priority", "utc", "tzo", "value")},
    **dict.fromkeys(SECRETS, Place(element="password")),
    **dict.fromkeys(("values", "data", "extensions"), Place(element="value")),
    "version": Place(element="version"),
    **{key: Place(key) for key in ADDRESS_KEYS},
    "answers value": Place("value"),
    "media_type": Place(element="media-type"),
    "photo type": Place(element="TYPE"),
    "error text": Place(element="text"),
    "command status": Place("status"),
    "archive start": Place(element="value"),
    "archive end": Place(element="value"),
    "state": Place(kept=frozenset(STATES)),
    "hints": Place(kept=frozenset(HINTS)),
    "condition": Place(kept=frozenset(one.value for one in StanzaCondition)),
    "register state": _TEXT,
    "thread id": _TEXT,
    "gateway jid": _TEXT,
    "stats value": _TEXT,
}
"""By key, or by the object's key and the key in it."""


def place_of(outer: str, key: str) -> Place:
    """Return where XML has the value of `key`, in the object or the list `outer`."""
    return _PLACES.get(f"{outer} {key}") or _PLACES.get(key, _TEXT)


def keeps_json(outer: str, key: str, value: str, domain: str = "") -> bool:
    """Return whether the value of a key in the bridge's JSON is kept."""
    place = place_of(outer, key)
    if place.attribute:
        return keeps_attribute(place.attribute, value, domain)
    if place.element:
        return len(value) <= TEXT_LIMIT and keeps_text(place.element, value, domain)
    return value in place.kept or (key == FORM_TYPE and keeps_form_type(value))


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
