"""Compares stanzas and POSTs by meaning.

The order of attributes, prefixes, and white space between JSON tokens are ignored. So are values
that are new each time: the bridge's own ids, and times. So is what an address says of itself in
presence and service discovery: that follows from the configuration, which a capture does not hold.
"""

import re
from typing import Any, Final

import msgspec
from attrs import frozen

from bridge.payload import namespace as ns
from xmppstream import Element, RemoteError, Stanza, parse_element, rehome
from xmppstream.jid import domain_of
from xmppstream.names import COMPONENT, DELAY, DISCO_INFO, expanded

_GENERATED: Final = re.compile(r"(msg_[0-9a-z]+)-[0-9]+")
_LEGACY_DELAY: Final = "{jabber:x:delay}x"
_DELAY: Final = expanded(DELAY, "delay")
_DELAYS: Final = (_DELAY, _LEGACY_DELAY)
_ANNOUNCED: Final = frozenset(
    (expanded(ns.CAPS, "c"), expanded(ns.NICK, "nick"), expanded(ns.VCARD_UPDATE, "x"))
)
_THREAD: Final = expanded(COMPONENT, "thread")
_NO_STORE: Final = expanded(ns.HINTS, "no-store")
_ACTIVE: Final = expanded(ns.CHAT_STATES, "active")
_NOTICES: Final = frozenset(expanded(ns.CHAT_STATES, one) for one in ("composing", "paused"))
_INFO: Final = expanded(DISCO_INFO, "query")
COMPARED: Final = frozenset({"to", "from", "kind", "id", "type", "body", "stanza"})
"""The other keys follow from the stanza, or differ in each replay."""
"""The members of a POSTed object that are times, and not compared."""


@frozen
class Posted:
    """The members of a POSTed JSON object by which it is found again."""

    kind: str | None = None
    sender: str | None = None
    receiver: str | None = None
    id: str | None = None
    type: str | None = None
    stanza: str = ""
    received: str = ""

    @property
    def key(self) -> tuple[str | None, ...]:
        """Equal for the same stanza, however it is written."""
        return (self.kind, self.sender, self.receiver, self.id, self.type)


class _Request(msgspec.Struct):
    kind: Any = None
    from_: Any = msgspec.field(default=None, name="from")
    to: Any = None
    id: Any = None
    type: Any = None
    stanza: Any = None
    received: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)


def read_posted(request: bytes) -> Posted:
    """Return the members of a POSTed object; the defaults if it is not a JSON object."""
    try:
        one = _REQUEST.decode(request)
    except msgspec.MsgspecError:
        return Posted()
    texts = (one.kind, one.from_, one.to, one.id, one.type)
    kind, sender, receiver, id, type = (x if isinstance(x, str) else None for x in texts)
    stanza = one.stanza if isinstance(one.stanza, str) else ""
    received = one.received if isinstance(one.received, str) else ""
    return Posted(kind, sender, receiver, id, type, stanza, received)


def meaning_of(stanza: Stanza, domain: str) -> Element:
    """Return a form of a stanza that is equal for stanzas with the same meaning. `domain` is the
    component's: a delay that it stamped itself shows only how late the stanza was.
    """
    element = stanza.element
    children = tuple(
        child
        for child in element.children
        if isinstance(child, str) or child.name != _DELAY or child.get("from") != domain
    )
    if domain_of(stanza.from_ or "") == domain:
        children = _without_identity(stanza, children)
    id = stanza.id
    if uid_of(id) is not None:
        element = element.with_attributes(id="(made by the bridge)")
    return _normal(Element(element.name, element.attributes, children))


def is_typing_notice(stanza: Stanza) -> bool:
    """Return whether the bridge itself says that a message is being worked on: that depends on how
    long the answer took. A notice of the service has an id.
    """
    if stanza.kind != "message" or stanza.id is not None:
        return False
    names = {one.name for one in stanza.element.elements} - {_THREAD}
    return _NO_STORE in names and len(names) == 2 and bool(names & _NOTICES)


def uid_of(id: str | None) -> str | None:
    """Return the uid of the stanza to which a stanza with this id is a reply: the bridge makes the
    ids of replies from it. None if the bridge did not make the id.
    """
    match = None if id is None else _GENERATED.fullmatch(id)
    return None if match is None else match[1]


def _without_identity(
    stanza: Stanza, children: tuple[Element | str, ...]
) -> tuple[Element | str, ...]:
    if stanza.kind == "message":  # it ends a typing notice; see `is_typing_notice`
        return tuple(one for one in children if isinstance(one, str) or one.name != _ACTIVE)
    if stanza.kind == "presence":
        return tuple(one for one in children if isinstance(one, str) or one.name not in _ANNOUNCED)
    if stanza.kind == "iq" and stanza.type == "result":
        return tuple(
            Element(one.name, one.attributes)
            if not isinstance(one, str) and one.name == _INFO
            else one
            for one in children
        )
    return children


def _normal(element: Element) -> Element:
    attributes = element.attributes
    if len(attributes) > 1:
        attributes = tuple(sorted(attributes))
    if element.name in _DELAYS:
        attributes = tuple((name, "" if name == "stamp" else value) for name, value in attributes)
    children = tuple(
        child if isinstance(child, str) else _normal(child) for child in element.children
    )
    return Element(element.name, attributes, children)


def same_request(one: bytes, other: bytes) -> bool:
    """Return whether two POSTed objects mean the same.

    The keys behind `received` follow from the stanza, and versions of the bridge differ in them.
    """
    head, found, _ = one.partition(b',"received":')
    if found and head == other.partition(b',"received":')[0]:
        return True
    return bool(request_meaning(one) == request_meaning(other))


def request_meaning(request: bytes) -> Any:
    """Return a form of a POSTed object that is equal for objects with the same meaning."""
    try:
        value = msgspec.json.decode(request)
    except msgspec.MsgspecError:
        return request
    if not isinstance(value, dict):
        return value
    kept = {name: one for name, one in value.items() if name in COMPARED}
    if isinstance(kept.get("stanza"), str):
        kept["stanza"] = xml_meaning(kept["stanza"])
    return kept


def xml_meaning(text: str) -> Element | str:
    """Return a standalone element in its normal form; other text is returned as it is."""
    try:
        element = parse_element(text.encode())
    except (RemoteError, UnicodeEncodeError):
        return text
    return _normal(rehome(element, COMPONENT) if not element.namespace else element)
