"""Bytes to parse events: a restricted, limited, renewable XML parser around lxml's target parser.

The only module that imports lxml. Its state is the depth, the root's start tag, and some counts;
what a stream may hold at what moment is `component`'s business.

Invariants:
- Events do not depend on how the bytes were cut into chunks. (A gap: of long text between stanzas
  with `]]>` in it, either is reported. A fault in text may show as late as the next markup.)
- A fault latches: it is the last event, after the good elements before it.
- Bytes are counted before libxml2 sees them, so that no limit is found out by memory (S17).

How: every chunk is cut behind each `/>` and `</…>`, since only there can an element end. So each
piece ends at most one top-level element, at its very last byte, and sizes are exact. It is cut at
`<!X` and `]]>` too, so that a fault has the same name in one piece as byte by byte. libxml2 keeps
every distinct name for as long as the *thread* lives, so a parser that has read `life_bytes` is
`spent` at the next boundary, and its `successor()` is to go on, with `unparsed`, in a new thread.

Checked against lxml 6.1.3 with libxml2 2.14.6: no namespace-constraint error is fatal there, so
the parser's error log is looked at after each piece (S20).
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from attrs import frozen
from lxml import etree

from xmppstream.element import Element
from xmppstream.errors import RemoteError, StreamCondition
from xmppstream.names import LANG, MUC_USER, expanded

KIB: Final = 1024
_SPACE: Final = b" \t\r\n"
_SPACE_TEXT: Final = " \t\r\n"
_POSITION: Final = re.compile(r",? line \d+(?:, column \d+)?")  # the parser's, not the stream's
_DTD: Final = re.compile(rb"<![A-Za-z]")
_DTD_TEXT: Final = "a document type declaration"
_CUT: Final = re.compile(rb"/>|</[^<>]*>|<(?=![A-Za-z])|\]\]>")
_BOM: Final = b"\xef\xbb\xbf"
_DECLARATION_START: Final = re.compile(rb"<\?xml[ \t\r\n]")
_DECLARATION: Final = re.compile(
    rb"<\?xml\s+version\s*=\s*(?:'(?P<v1>[^']*)'|\"(?P<v2>[^\"]*)\")"
    rb"(?:\s+encoding\s*=\s*(?:'(?P<e1>[^']*)'|\"(?P<e2>[^\"]*)\"))?"
    rb"(?:\s+standalone\s*=\s*(?:'(?:yes|no)'|\"(?:yes|no)\"))?\s*\?>"
)
_STUB_ATTRIBUTES: Final = ("to", "from", "type", "id", LANG)
_STUB_VALUE_LIMIT: Final = 3071  # the longest address: three parts of 1023 bytes, `@` and `/`
_STUB_CHILD: Final = expanded(MUC_USER, "x")
_ELEMENT_WEIGHT_BYTES: Final = 400  # an Element with its tuples, measured on CPython 3.11


@frozen
class Limits:
    """What a peer may send. Over the first four, an element is consumed and refused; beyond
    `endless_factor` times `max_stanza_bytes`, or over `max_header_bytes`, the stream is at fault.
    """

    max_stanza_bytes: int = 512 * KIB
    max_depth: int = 128
    max_attributes: int = 256
    max_name_bytes: int = 1 * KIB
    endless_factor: int = 16
    max_header_bytes: int = 16 * KIB
    life_bytes: int = 8 * KIB * KIB


@frozen
class RootOpened:
    """The root's start tag is in; `namespaces` are its declarations, the default one under ""."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    namespaces: tuple[tuple[str, str], ...]


@frozen
class ElementParsed:
    """A whole child of the root is in."""

    element: Element
    weight_bytes: int


@frozen
class ElementRefused:
    """A child of the root went over a limit; `stub` has its addresses and nothing else."""

    stub: Element
    limit: str


@frozen
class RootClosed:
    """The root's end tag is in; whatever follows is not looked at."""


@frozen
class ParserFaulted:
    """The input is not a stream that may be read on; the last event."""

    condition: StreamCondition
    text: str


ParseEvent = RootOpened | ElementParsed | ElementRefused | RootClosed | ParserFaulted


class StreamParser:
    """Parse one stream, root and all, out of chunks of any size.

    After `feed`, look at `spent`: a spent parser must not be fed again; `successor()` takes over,
    is fed `unparsed` first, and belongs into another thread.
    """

    def __init__(self, limits: Limits | None = None, *, root: bytes | None = None) -> None:
        """Start before the root, or (with `root`, its start tag) right behind it."""
        self._limits = limits or Limits()
        self._target = _Target(self._limits)
        self._lxml: Any = None
        self._preamble: bytes | None = b"" if root is None else None
        self._root = root or b""
        self._primed = root is None
        self._count = 0  # bytes since the last boundary, without the white space before it
        self._fed = 0
        self._seen_log = 0  # entries; libxml2 stops at 100 warnings, but not at an error
        self._over = False
        self._last = b""
        self._in_dtd = False
        self.unparsed = b""
        self.spent = False

    def successor(self) -> "StreamParser":
        """Give a fresh parser that goes on inside the same root."""
        return StreamParser(self._limits, root=self._root)

    @property
    def at_boundary(self) -> bool:
        """Whether the root is open and nothing of a child element has come yet."""
        return not self._over and self._target.depth == 1 and self._count == 0

    def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse some bytes and give the events that they complete; after the last one, nothing."""
        if self._over:
            return []
        events = self._target.events = []
        try:
            self._feed(data)
        except _Fault as fault:
            self._over = True
            events.append(ParserFaulted(fault.condition, fault.text))
        return events

    def _feed(self, data: bytes) -> None:
        if self._preamble is not None:
            opened = self._open(self._preamble + data)
            if opened is None:
                return
            data = opened
        if self._lxml is None:
            self._lxml = _make_lxml(self._target)
        if not self._primed:
            self._primed = True
            self._parse(self._root)
            self._target.events.clear()
        offset = 0
        for end in _cuts(data):
            self._feed_piece(data[offset:end])
            offset = end
            if self._over:
                return
            if self._fed > self._limits.life_bytes and self.at_boundary:
                self.unparsed, self.spent = data[offset:], True
                return

    def _open(self, head: bytes) -> bytes | None:
        """Look at the first bytes ourselves; None while they may still turn out either way."""
        if head[:1] in (b"\xfe", b"\xff", b"\x00") or head[1:2] == b"\x00":
            raise _Fault(StreamCondition.UNSUPPORTED_ENCODING, "not UTF-8")
        if len(head) < 2 or (len(head) < len(_BOM) and _BOM.startswith(head)):
            self._preamble = head
            return None
        body = head.removeprefix(_BOM)
        if b"<?xml ".startswith(body) or _DECLARATION_START.match(body):
            within = head[: self._limits.max_header_bytes]
            if b"?>" not in within:
                if len(within) < len(head):
                    raise self._header_too_long()
                self._preamble = head
                return None
        self._preamble = None
        return body[_declaration_end(body) :]

    def _feed_piece(self, piece: bytes) -> None:
        target, limits = self._target, self._limits
        if target.depth == 0:
            self._feed_header(piece)
            return
        before = self._count
        if before == 0 and target.depth == 1:
            rest = piece.lstrip(_SPACE)
            before = len(rest) - len(piece)  # so that leading white space is not counted
        self._count = max(0, before + len(piece))
        target.size_bytes = self._count
        if self._count > limits.max_stanza_bytes:
            piece = self._over_limit(piece, before)
        self._parse(piece)
        if target.ended:
            target.ended = False
            self._count = 0
        self._over = target.depth == 0

    def _over_limit(self, piece: bytes, before: int) -> bytes:
        """Parse what is within the limits, so that a fault in it is found first; give the rest."""
        limits = self._limits
        room = limits.max_stanza_bytes - before
        if room >= 0:
            self._parse(piece[:room])
            self._target.refuse(f"{limits.max_stanza_bytes} bytes")
            piece, before = piece[room:], limits.max_stanza_bytes
        room = limits.max_stanza_bytes * limits.endless_factor - before
        if len(piece) > room:
            self._parse(piece[:room])
            raise _Fault(
                StreamCondition.POLICY_VIOLATION,
                f"a stanza beyond {limits.endless_factor} times {limits.max_stanza_bytes} bytes",
            )
        return piece

    def _feed_header(self, piece: bytes) -> None:
        # The root's start tag is no `ending`: go on by single `>` until it is in.
        offset = 0
        while offset < len(piece):
            end = piece.find(b">", offset) + 1 or len(piece)
            room = self._limits.max_header_bytes - len(self._root)
            part = piece[offset:end][:room]
            self._root += part
            self._parse(part)
            if self._target.events:
                self._root = self._root.lstrip(_SPACE)
                self._over = self._target.depth == 0
                break
            if end - offset > room:
                raise self._header_too_long()
            offset = end
        if end < len(piece) and not self._over:
            self._feed_piece(piece[end:])

    def _parse(self, piece: bytes) -> None:
        nul = piece.find(b"\0")
        if nul >= 0:  # in CDATA libxml2 would look no further than that, for good
            self._parse(piece[:nul])
            raise _Fault(StreamCondition.NOT_WELL_FORMED, "a NUL character")
        self._fed += len(piece)
        good = len(self._target.events)
        window = self._last + piece
        self._last = window[-2:]
        if b"<!" in window and _DTD.search(window):
            self._in_dtd = True
        fault: _Fault | None = None
        try:
            self._lxml.feed(piece)
        except _Fault as found:
            fault = found
        except etree.XMLSyntaxError as error:
            fault = _classify(error, self._lxml.feed_error_log, self._in_dtd)
        if self._in_dtd and b"]]>" in window:
            self._in_dtd = False  # it was CDATA
        log = self._lxml.feed_error_log
        if len(log) != self._seen_log:
            self._seen_log = len(log)
            for entry in log:
                if entry.type_name.startswith("NS_ERR_"):  # it came before any other fault
                    del self._target.events[good:]
                    raise _Fault(StreamCondition.NOT_WELL_FORMED, entry.message.strip())
        if fault is not None:
            raise fault

    def _header_too_long(self) -> "_Fault":
        limit = self._limits.max_header_bytes
        return _Fault(StreamCondition.POLICY_VIOLATION, f"no stream header within {limit} bytes")


def parse_element(data: bytes, limits: Limits | None = None) -> Element:
    """Parse one element that stands alone, under the same restrictions as a stream.

    Names that it brings stay with the calling thread (see above): for foreign input, call it in a
    thread of bounded life.

    Raises:
        RemoteError: `data` is not exactly one element, is over a limit, or is not allowed.
    """
    try:
        opener = StreamParser(limits)
        body = opener._open(data)
        if not body:
            raise _Fault(StreamCondition.NOT_WELL_FORMED, "it holds no element")
    except _Fault as fault:
        raise RemoteError(fault.condition, fault.text) from None
    parser = StreamParser(limits, root=b"<root>")
    match parser.feed(body):
        case [ElementParsed(element=element)] if parser.at_boundary and not parser.unparsed.strip(
            _SPACE
        ):
            return element
        case [*_, ParserFaulted(condition=condition, text=text)]:
            raise RemoteError(condition, text)
        case [ElementRefused(limit=limit)]:
            raise RemoteError(StreamCondition.POLICY_VIOLATION, f"it is over the limit of {limit}")
        case []:
            raise RemoteError(StreamCondition.NOT_WELL_FORMED, "it holds no whole element")
        case _:
            raise RemoteError(StreamCondition.BAD_FORMAT, "it is not exactly one element")


class _Fault(Exception):
    """Ends the parse; never leaves this module."""

    def __init__(self, condition: StreamCondition, text: str) -> None:
        super().__init__(text)
        self.condition = condition
        self.text = text


class _Target:
    """What lxml calls: builds elements at depth two and below, refuses what S19 forbids."""

    def __init__(self, limits: Limits) -> None:
        self.events: list[ParseEvent] = []
        self.depth = 0
        self.size_bytes = 0
        self.ended = False  # a top-level element ended in this piece
        self._limits = limits
        self._refused: str | None = None
        self._nodes = 0
        # One frame for each open element: name, attributes, children so far.
        self._frames: list[tuple[str, tuple[tuple[str, str], ...], list[Element | str]]] = []
        self._text: list[str] = []

    def refuse(self, limit: str) -> None:
        """From now on consume, without building, until the top-level element ends."""
        if self._refused is None:
            self._refused = limit
            self._text.clear()
            if self._frames:
                name, attributes, children = self._frames[0]
                marks = [c for c in children if isinstance(c, Element) and c.name == _STUB_CHILD]
                if len(self._frames) > 1 and self._frames[1][0] == _STUB_CHILD:
                    marks.append(Element(_STUB_CHILD))
                self._frames = [(name, _stub_attributes(attributes), [*marks[:1]])]

    def start(self, name: str, attributes: Any, namespaces: Any) -> None:
        depth = self.depth = self.depth + 1
        if depth == 1:
            pairs = tuple(attributes.items())
            self.events.append(RootOpened(name, pairs, tuple(namespaces.items())))
            return
        if self._refused is None:
            self._check(name, len(attributes) + len(namespaces), depth - 1)
        pairs = tuple(attributes.items()) if attributes else ()
        if self._refused is None:
            if self._text:
                self._flush()
            self._nodes += 1
            self._frames.append((name, pairs, []))
        elif depth == 2:
            kept = name if len(name) <= self._limits.max_name_bytes else "element"
            self._frames = [(kept, _stub_attributes(pairs), [])]
        elif depth == 3 and name == _STUB_CHILD and not self._frames[0][2]:
            self._frames[0][2].append(Element(_STUB_CHILD))

    def _check(self, name: str, attributes: int, depth: int) -> None:
        limits = self._limits
        if depth > limits.max_depth:
            self.refuse(f"{limits.max_depth} levels")
        elif attributes > limits.max_attributes:
            self.refuse(f"{limits.max_attributes} attributes")
        elif len(name) > limits.max_name_bytes:
            self.refuse(f"{limits.max_name_bytes} bytes of a name")

    def data(self, text: str) -> None:
        if self.depth == 1:
            if text.strip(_SPACE_TEXT):
                raise _Fault(StreamCondition.BAD_FORMAT, "text between stanzas")
        elif self._refused is None:
            self._text.append(text)

    def end(self, name: str) -> None:
        depth = self.depth = self.depth - 1
        if depth == 0:
            self.events.append(RootClosed())
            return
        if self._refused is None:
            if self._text:
                self._flush()
            element = _build(self._frames.pop())
            if depth > 1:
                self._frames[-1][2].append(element)
            else:
                weight = self.size_bytes + _ELEMENT_WEIGHT_BYTES * self._nodes
                self.events.append(ElementParsed(element, weight))
        elif depth == 1:
            self.events.append(ElementRefused(_build(self._frames.pop()), self._refused))
            self._refused = None
        if depth == 1:
            self.ended = True
            self._nodes = 0

    def _flush(self) -> None:
        self._frames[-1][2].append("".join(self._text))
        self._text.clear()

    def comment(self, text: str) -> None:
        raise _Fault(StreamCondition.RESTRICTED_XML, "a comment")

    def pi(self, target: str, data: str | None = None) -> None:
        raise _Fault(StreamCondition.RESTRICTED_XML, "a processing instruction")

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise _Fault(StreamCondition.RESTRICTED_XML, _DTD_TEXT)

    def close(self) -> None:
        """lxml asks for it at the end of a document, which a stream does not have."""


def _make_lxml(target: _Target) -> Any:
    # `huge_tree` lifts libxml2's own limits (10 MB of text, 50 kB of a name), which end the
    # stream; ours come first. `encoding` keeps it from obeying or guessing another one.
    parser = etree.XMLParser(
        target=cast("Any", target),  # the stubs would have `str | bytes` everywhere
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=True,
    )
    parser.feed(b"    ")  # the first four bytes are stored and not parsed, so that events would lag
    return parser


def _build(frame: tuple[str, tuple[tuple[str, str], ...], list[Element | str]]) -> Element:
    name, attributes, children = frame
    return Element(name, attributes, tuple(children))


def _stub_attributes(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, value in pairs
        if name in _STUB_ATTRIBUTES and len(value) <= _STUB_VALUE_LIMIT
    )


def _cuts(data: bytes) -> Iterator[int]:
    """Give the offsets to cut at (see above), and the end of the chunk.

    An end tag that began in an earlier chunk has its `>` as the first one of this chunk.
    """
    first, end = data.find(b">") + 1, 0
    for match in _CUT.finditer(data):
        if end < first < match.end():
            yield first
        end = match.end()
        yield end
    if end < first:
        end = first
        yield end
    if end < len(data):
        yield len(data)


def _declaration_end(body: bytes) -> int:
    """Check an XML declaration and give its length, 0 where there is none (S18)."""
    if _DECLARATION_START.match(body) is None:
        return 0
    found = _DECLARATION.match(body)
    if found is None:
        raise _Fault(StreamCondition.NOT_WELL_FORMED, "a malformed XML declaration")
    if (found["v1"] or found["v2"]) != b"1.0":
        raise _Fault(StreamCondition.NOT_WELL_FORMED, "an XML version other than 1.0")
    encoding = found["e1"] or found["e2"] or b"utf-8"
    if encoding.lower() != b"utf-8":
        raise _Fault(StreamCondition.UNSUPPORTED_ENCODING, "a declared encoding other than UTF-8")
    return found.end()


def _classify(error: etree.XMLSyntaxError, log: Any, in_dtd: bool) -> _Fault:
    kinds = {entry.type_name for entry in log}
    if in_dtd and "ERR_NAME_REQUIRED" in kinds:  # behind the root libxml2 takes it for a start tag
        return _Fault(StreamCondition.RESTRICTED_XML, _DTD_TEXT)
    if kinds & {"ERR_UNDECLARED_ENTITY", "WAR_UNDECLARED_ENTITY"}:
        return _Fault(StreamCondition.RESTRICTED_XML, "an entity beyond the five of XML")
    if kinds & {"ERR_INVALID_ENCODING", "ERR_UNKNOWN_ENCODING", "ERR_UNSUPPORTED_ENCODING"}:
        return _Fault(StreamCondition.UNSUPPORTED_ENCODING, "not UTF-8")
    return _Fault(StreamCondition.NOT_WELL_FORMED, _POSITION.sub("", error.msg or "").strip())
