"""The frozen stanza around one element, its answers, and stanza errors.

`reply` and `error_reply` refuse answers that RFC 6120 forbids, so none is sent by mistake.
"""

import math
from typing import Final, Literal, Self, cast

from attrs import frozen
from msgspec import Struct
from msgspec.structs import force_setattr

from xmppstream.element import Element, rehome
from xmppstream.errors import ErrorType, LocalError, StanzaCondition
from xmppstream.names import CLIENT, COMPONENT, LANG, STANZA_ERRORS, expanded
from xmppstream.writer import write

TYPES: Final = {
    "message": frozenset({"chat", "error", "groupchat", "headline", "normal"}),
    "presence": frozenset(
        {"error", "probe", "subscribe", "subscribed", "unavailable", "unsubscribe", "unsubscribed"}
    ),
    "iq": frozenset({"error", "get", "result", "set"}),
}
"""The `type` values of each kind (RFC 6121 §5.2.2, §4.7.1; RFC 6120 §8.2.3)."""

Kind = Literal["message", "presence", "iq"]
KINDS: Final[tuple[Kind, ...]] = ("message", "presence", "iq")
_NAME_OF_KIND: Final[dict[Kind, str]] = {kind: expanded(COMPONENT, kind) for kind in KINDS}
_KIND_OF_NAME: Final[dict[str, Kind]] = {
    expanded(namespace, kind): kind for namespace in (COMPONENT, CLIENT) for kind in KINDS
}
_UNREAD: Final = cast("Kind", "")
_READ: Final = ("kind", "type", "id", "from_", "to", "is_request")


@frozen
class StanzaError:
    """A stanza error: condition, possible reaction of its receiver, and text for a person."""

    condition: StanzaCondition
    type: ErrorType
    text: str = ""

    def to_element(self) -> Element:
        """Return the `<error/>` element (RFC 6120 §8.3.2)."""
        children = [Element(expanded(STANZA_ERRORS, self.condition))]
        if self.text:
            children.append(Element(expanded(STANZA_ERRORS, "text"), (), (self.text,)))
        return Element(expanded(COMPONENT, "error"), (("type", self.type),), tuple(children))


class Stanza(Struct, frozen=True, gc=False, eq=False):
    """A message, presence or iq; its fields are read from its element.

    `lang` is the language that it inherits from the stream's header (rule S26). The other fields
    are not for callers to set, and are not compared.
    """

    element: Element
    lang: str | None = None
    # Read once, or passed by `make`, since they are needed many times in a stanza's life.
    kind: Kind = _UNREAD
    type: str | None = None
    id: str | None = None
    from_: str | None = None
    to: str | None = None
    is_request: bool = False
    """Whether this is an iq get or set, which must get exactly one answer (rule S29)."""
    _encoded: bytes | None = None

    def __post_init__(self) -> None:
        if self.kind is _UNREAD:
            fields = _fields_of(self.element, _KIND_OF_NAME[self.element.name])
            for name, value in zip(_READ, fields, strict=True):
                force_setattr(self, name, value)  # the instance is frozen

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stanza):
            return NotImplemented
        return self.element == other.element and self.lang == other.lang

    def __hash__(self) -> int:
        return hash((self.element, self.lang))

    def __str__(self) -> str:
        """Its XML, in the component namespace."""
        return write(self.element, COMPONENT)

    def __repr__(self) -> str:
        return f"Stanza({self.element!r}, {self.lang!r})"

    @classmethod
    def of(cls, element: Element, lang: str | None = None) -> Self | None:
        """Return the stanza of an element, in the component namespace; None if it is not one."""
        kind = _KIND_OF_NAME.get(element.name)
        if kind is None:
            return None
        if element.name != _NAME_OF_KIND[kind]:
            element = rehome(element, COMPONENT)
        return cls(element, lang, *_fields_of(element, kind))

    def encode(self, max_length: float = math.inf) -> bytes:
        """Return its bytes, written in the default namespace of a stream (S24), and keep them.

        Raises:
            IllegalCharacter: if it contains a character that XML forbids (S27).
            TooLong: if it has more than `max_length` characters.
        """
        encoded = self._encoded
        if encoded is None:
            encoded = write(self.element, COMPONENT, max_length).encode()
            force_setattr(self, "_encoded", encoded)
        return encoded

    @property
    def payload(self) -> Element | None:
        """The first child element."""
        return next(iter(self.element.elements), None)

    def child(self, local: str) -> Element | None:
        """Return the first child with that local name in the stanza's own namespace."""
        return self.element.find(expanded(COMPONENT, local))

    def reply(self, *children: Element, type: str | None = None) -> "Stanza":
        """Return an answer: addresses swapped, and for an iq its id and (by default) `result`.

        Raises:
            LocalError: if this is an error, an iq result, or an iq without id, or has no sender.
        """
        self._refuse_unanswerable()
        if self.kind == "iq":
            type = type or "result"
        return self._answer(type, children, self.id if self.kind == "iq" else None)

    def error_reply(self, error: StanzaError) -> "Stanza":
        """Return the error for this stanza (rule S31, RFC 6120 §8.3.1).

        Raises:
            LocalError: if this is an error, an iq result, or an iq without id, or has no sender.
        """
        self._refuse_unanswerable()
        return self._answer("error", (error.to_element(),), self.id)

    def _refuse_unanswerable(self) -> None:
        if self.type == "error":
            raise LocalError("an error is never answered (RFC 6120 §8.3.1)")
        if self.kind == "iq" and self.type == "result":
            raise LocalError("an iq result is never answered (RFC 6120 §8.2.3)")
        if self.kind == "iq" and not self.id:
            raise LocalError("an iq without id cannot be answered")
        if not self.from_:
            raise LocalError("a stanza without sender cannot be answered")

    def _answer(self, type: str | None, children: tuple[Element, ...], id: str | None) -> "Stanza":
        return make(self.kind, self.from_, self.to, type=type, id=id, children=children)


def make(
    kind: Kind,
    to: str | None,
    from_: str | None,
    *,
    type: str | None = None,
    id: str | None = None,
    children: tuple[Element | str, ...] = (),
) -> Stanza:
    """Return a new stanza; None leaves an attribute out."""
    attributes = []
    if to is not None:
        attributes.append(("to", to))
    if from_ is not None:
        attributes.append(("from", from_))
    if type is not None:
        attributes.append(("type", type))
    if id is not None:
        attributes.append(("id", id))
    element = Element(_NAME_OF_KIND[kind], tuple(attributes), children)
    return Stanza(element, None, kind, type, id, from_, to, _is_request(kind, type))


def _fields_of(
    element: Element, kind: Kind
) -> tuple[Kind, str | None, str | None, str | None, str | None, bool]:
    """Return the fields of a stanza that are read from its element: those of `_READ`."""
    type = id = from_ = to = None
    for name, value in element.attributes:  # cheaper than a dictionary
        if name == "to":
            to = value
        elif name == "from":
            from_ = value
        elif name == "id":
            id = value
        elif name == "type":
            type = value
    return kind, type, id, from_, to, _is_request(kind, type)


def _is_request(kind: Kind, type: str | None) -> bool:
    return kind == "iq" and (type == "get" or type == "set")


def language_of(element: Element) -> str | None:
    """Return an element's own xml:lang."""
    return element.get(LANG)
