"""The target of an XML parser: builds elements below the root, and refuses forbidden content.

It enforces the limits that start tags show (depth, elements, attributes, names), refuses content
that S19 forbids, and makes parse events. `parser` handles the bytes and their limits.
"""

from collections.abc import Iterable
from typing import Any, Final

from attrs import field, frozen
from msgspec import Struct

from xmppstream.dictionary import Dictionary
from xmppstream.element import Element
from xmppstream.errors import StreamCondition
from xmppstream.limit import Limits
from xmppstream.names import LANG, MUC_USER, expanded

DTD_TEXT: Final = "a document type declaration"
_SPACE: Final = " \t\r\n"
_STUB_ATTRIBUTES: Final = ("to", "from", "type", "id", LANG)
_STUB_VALUE_LIMIT: Final = 3071  # the longest address: three parts of 1023 bytes, `@` and `/`
_STUB_CHILD: Final = expanded(MUC_USER, "x")
_ELEMENT_WEIGHT_BYTES: Final = 400  # an Element with its tuples, measured on CPython 3.11


@frozen
class RootOpened:
    """The root's start tag is complete. `namespaces` has its declarations, the default under ""."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    namespaces: tuple[tuple[str, str], ...]


class ElementParsed(Struct, frozen=True, gc=False):
    """A child of the root is complete."""

    element: Element
    weight_bytes: int


@frozen
class ElementRefused:
    """A child of the root exceeded a limit; `stub` has only the parts that an answer needs."""

    stub: Element
    limit: str
    weight_bytes: int = field(default=0, eq=False)


@frozen
class RootClosed:
    """The root's end tag is complete; anything that follows is ignored."""


@frozen
class ParserFaulted:
    """The input is not a valid stream, and is not read any further; the last event."""

    condition: StreamCondition
    text: str


ParseEvent = RootOpened | ElementParsed | ElementRefused | RootClosed | ParserFaulted


class Fault(Exception):
    """Ends parsing; `parser` turns it into a `ParserFaulted` or a `RemoteError`."""

    def __init__(self, condition: StreamCondition, text: str) -> None:
        super().__init__(text)
        self.condition = condition
        self.text = text


class Restrictions:
    """Called by lxml: refuses content that S19 forbids."""

    def comment(self, text: str) -> None:
        raise Fault(StreamCondition.RESTRICTED_XML, "a comment")

    def pi(self, target: str, data: str | None = None) -> None:
        raise Fault(StreamCondition.RESTRICTED_XML, "a processing instruction")

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise Fault(StreamCondition.RESTRICTED_XML, DTD_TEXT)

    def close(self) -> None:
        """Called by lxml at the end of a document, which a stream does not have."""


class Builder(Restrictions):
    """Called by lxml: builds elements at depth two and below."""

    def __init__(self, limits: Limits, dictionary: Dictionary) -> None:
        self.events: list[ParseEvent] = []
        self.depth = 0
        self.size_bytes = 0
        self.ended = False  # a top-level element ended in this piece
        self.refused: str | None = None  # the limit that it is over; it is not reported yet
        self.namespaces: tuple[tuple[str, str], ...] = ()  # those that the root declares
        self._limits = limits
        self._dictionary = dictionary
        self._known = dictionary.known(limits.max_name_bytes)
        self._elements = 0  # of the open top-level element; so are the attributes
        self._attributes = 0
        self._max_all_attributes = limits.max_all_attributes
        # One frame for each open element: name, attributes, children so far.
        self._frames: list[tuple[str, tuple[tuple[str, str], ...], list[Element | str]]] = []
        self._text: list[str] = []

    @property
    def is_swamped(self) -> bool:
        """Whether the top-level element has so many tags that none should be reported any more."""
        too_many = self._elements > self._limits.max_elements
        return too_many or self._attributes > self._max_all_attributes

    @property
    def open_name(self) -> str:
        """The name of the open top-level element."""
        return self._frames[0][0]

    def refuse(self, limit: str) -> None:
        """Consume input without building anything, until the top-level element ends."""
        if self.refused is None:
            self.refused = limit
            self._text.clear()
            if self._frames:
                name, attributes, children = self._frames[0]
                marked = any(isinstance(c, Element) and c.name == _STUB_CHILD for c in children)
                if len(self._frames) > 1 and self._frames[1][0] == _STUB_CHILD:
                    marked = True
                self._frames = [(name, _stub_attributes(attributes), [])]
                if marked:
                    self.mark()

    def mark(self) -> None:
        """Add the muc#user child to the stub of the refused element."""
        self._frames[0] = (*self._frames[0][:2], [Element(_STUB_CHILD)])

    def start(self, name: str, attributes: Any, namespaces: Any) -> None:
        depth = self.depth = self.depth + 1
        limits, all_known, within = self._limits, self._known.issuperset, True
        # A known name was checked before, and takes no more room.
        if name not in self._known or (attributes and not all_known(attributes)):
            within = self._dictionary.add((name, *attributes), limits.max_name_bytes)
        if namespaces and not (all_known(namespaces) and all_known(namespaces.values())):
            self._dictionary.add((*namespaces, *namespaces.values()), limits.max_name_bytes)
        if depth == 1:
            self.namespaces = tuple(namespaces.items())
            self.events.append(RootOpened(name, tuple(attributes.items()), self.namespaces))
            return
        count = len(attributes) + len(namespaces)
        self._elements += 1
        self._attributes += count
        if self.refused is None:
            if depth > limits.max_depth + 1:
                self.refuse(f"{limits.max_depth} levels")
            elif count > limits.max_attributes:
                self.refuse(f"{limits.max_attributes} attributes")
            elif self._elements > limits.max_elements:
                self.refuse(f"{limits.max_elements} elements")
            elif self._attributes > self._max_all_attributes:
                self.refuse(f"{self._max_all_attributes} attributes in all")
            elif not within:
                self.refuse(f"{limits.max_name_bytes} bytes of a name")
            else:
                if self._text:
                    self._frames[-1][2].append("".join(self._text))
                    self._text.clear()
                pairs = tuple(attributes.items()) if attributes else ()
                self._frames.append((name, pairs, []))
                return
        if depth == 2:
            self._frames = [(name, _stub_attributes(attributes.items()), [])]
        elif depth == 3 and name == _STUB_CHILD:
            self.mark()

    def data(self, text: str) -> None:
        if self.depth == 1:
            if text.strip(_SPACE):
                raise Fault(StreamCondition.BAD_FORMAT, "text between stanzas")
        elif self.refused is None and text:  # an empty CDATA section is no text
            self._text.append(text)

    def end(self, name: str) -> None:
        depth = self.depth = self.depth - 1
        if depth == 0:
            self.events.append(RootClosed())
            return
        if self.refused is None:
            name, attributes, children = self._frames.pop()
            if self._text:
                children.append("".join(self._text))
                self._text.clear()
            element = Element(name, attributes, tuple(children))
            if depth > 1:
                self._frames[-1][2].append(element)
            else:
                weight = self.size_bytes + _ELEMENT_WEIGHT_BYTES * self._elements
                self.events.append(ElementParsed(element, weight))
                self._elements = self._attributes = 0
        if depth == 1:
            self.ended = True

    def finish(self, *, has_mark: bool) -> None:
        """Report the refused top-level element, which has ended."""
        assert self.refused is not None
        if has_mark:
            self.mark()
        name, attributes, children = self._frames.pop()
        kept = "element" if len(name.encode()) > self._limits.max_name_bytes else name
        stub = Element(kept, attributes, tuple(children))
        built = min(self._elements, self._limits.max_elements)
        weight = self.size_bytes + _ELEMENT_WEIGHT_BYTES * built
        self.events.append(ElementRefused(stub, self.refused, weight))
        self.refused = None
        self._elements = self._attributes = 0
        self.depth = 1


def _stub_attributes(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, value in pairs
        if name in _STUB_ATTRIBUTES and len(value) <= _STUB_VALUE_LIMIT
    )
