"""The target of an XML parser: builds elements below the root, and refuses forbidden content.

It enforces the limits that start tags show (depth, attributes, names), refuses content that S19
forbids, and makes parse events. `parser` handles the bytes and their limits.
"""

from typing import Any, Final

from attrs import frozen
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


class Builder:
    """Called by lxml: builds elements at depth two and below, refuses content that S19 forbids."""

    def __init__(self, limits: Limits, dictionary: Dictionary) -> None:
        self.events: list[ParseEvent] = []
        self.depth = 0
        self.size_bytes = 0
        self.ended = False  # a top-level element ended in this piece
        self._limits = limits
        self._dictionary = dictionary
        self._known = dictionary.known(limits.max_name_bytes)
        self._refused: str | None = None
        self._nodes = 0
        # One frame for each open element: name, attributes, children so far.
        self._frames: list[tuple[str, tuple[tuple[str, str], ...], list[Element | str]]] = []
        self._text: list[str] = []

    def refuse(self, limit: str) -> None:
        """Consume input without building anything, until the top-level element ends."""
        if self._refused is None:
            self._refused = limit
            self._text.clear()
            if self._frames:
                name, attributes, children = self._frames[0]
                marked = any(isinstance(c, Element) and c.name == _STUB_CHILD for c in children)
                if len(self._frames) > 1 and self._frames[1][0] == _STUB_CHILD:
                    marked = True
                marks: list[Element | str] = [Element(_STUB_CHILD)] if marked else []
                self._frames = [(name, _stub_attributes(attributes), marks)]

    def start(self, name: str, attributes: Any, namespaces: Any) -> None:
        depth = self.depth = self.depth + 1
        limits, all_known, within = self._limits, self._known.issuperset, True
        # A known name was checked before, and takes no more room.
        if name not in self._known or (attributes and not all_known(attributes)):
            within = self._dictionary.add((name, *attributes), limits.max_name_bytes)
        if namespaces and not (all_known(namespaces) and all_known(namespaces.values())):
            self._dictionary.add((*namespaces, *namespaces.values()), limits.max_name_bytes)
        if depth == 1:
            pairs = tuple(attributes.items())
            self.events.append(RootOpened(name, pairs, tuple(namespaces.items())))
            return
        if depth > limits.max_depth + 1:
            self.refuse(f"{limits.max_depth} levels")
        elif len(attributes) + len(namespaces) > limits.max_attributes:
            self.refuse(f"{limits.max_attributes} attributes")
        elif not within:
            self.refuse(f"{limits.max_name_bytes} bytes of a name")
        pairs = tuple(attributes.items()) if attributes else ()
        if self._refused is None:
            if self._text:
                self._frames[-1][2].append("".join(self._text))
                self._text.clear()
            self._nodes += 1
            self._frames.append((name, pairs, []))
        elif depth == 2:
            kept = "element" if len(name.encode()) > limits.max_name_bytes else name
            self._frames = [(kept, _stub_attributes(pairs), [])]
        elif depth == 3 and name == _STUB_CHILD and not self._frames[0][2]:
            self._frames[0][2].append(Element(_STUB_CHILD))

    def data(self, text: str) -> None:
        if self.depth == 1:
            if text.strip(_SPACE):
                raise Fault(StreamCondition.BAD_FORMAT, "text between stanzas")
        elif self._refused is None and text:  # an empty CDATA section is no text
            self._text.append(text)

    def end(self, name: str) -> None:
        depth = self.depth = self.depth - 1
        if depth == 0:
            self.events.append(RootClosed())
            return
        if self._refused is None:
            name, attributes, children = self._frames.pop()
            if self._text:
                children.append("".join(self._text))
                self._text.clear()
            element = Element(name, attributes, tuple(children))
            if depth > 1:
                self._frames[-1][2].append(element)
            else:
                weight = self.size_bytes + _ELEMENT_WEIGHT_BYTES * self._nodes
                self.events.append(ElementParsed(element, weight))
        elif depth == 1:
            name, attributes, children = self._frames.pop()
            stub = Element(name, attributes, tuple(children))
            self.events.append(ElementRefused(stub, self._refused))
            self._refused = None
        if depth == 1:
            self.ended = True
            self._nodes = 0

    def comment(self, text: str) -> None:
        raise Fault(StreamCondition.RESTRICTED_XML, "a comment")

    def pi(self, target: str, data: str | None = None) -> None:
        raise Fault(StreamCondition.RESTRICTED_XML, "a processing instruction")

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise Fault(StreamCondition.RESTRICTED_XML, DTD_TEXT)

    def close(self) -> None:
        """Called by lxml at the end of a document, which a stream does not have."""


def _stub_attributes(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, value in pairs
        if name in _STUB_ATTRIBUTES and len(value) <= _STUB_VALUE_LIMIT
    )
