"""Bytes to parse events: a restricted, limited, renewable XML parser around lxml's target parser.

The only module that imports lxml. Its state is the depth, the root's start tag, and some counts;
`component` decides what a stream may contain at which moment.

Invariants:
- Events do not depend on how the bytes were cut into chunks. (Gaps: if long text between stanzas
  contains `]]>`, either fault is reported. A fault in text may be reported as late as the next
  markup, a bare `&` as late as the next `;`: libxml2 waits for it.)
- A fault latches: it is the last event, after the good elements before it.
- Bytes are counted before libxml2 sees them, so no limit depends on available memory (S17).

How it works: every chunk is cut behind each `/>` and `</…>` up to the end of a top-level element's
start tag, and from then on behind each end tag of its name, since it can end only there. So each
piece ends at most one top-level element, at its very last byte, and sizes are exact. (A piece costs
ten times as much as an element within it.) Chunks are also cut at `<!X` and `]]>`, so that a fault
has the same name in one piece as byte by byte. In a chunk without these, and without NUL, most
elements are one piece: from a boundary up to the first end tag of that name (half the pieces, two
thirds of the time).

libxml2 keeps every distinct name for as long as the *thread* lives. So a parser that has read
`life_bytes`, or whose `dictionary` is full, is `spent` at the next boundary. Its `successor()`
continues with `unparsed`: in a new thread, or with a dictionary that is not full.

Checked against lxml 6.1.3 with libxml2 2.14.6: no namespace-constraint error is fatal there, so
the parser's error log is checked after each piece (S20).
"""

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, cast

from lxml import etree

from xmppstream.builder import (
    DTD_TEXT,
    Builder,
    ElementParsed,
    ElementRefused,
    Fault,
    ParseEvent,
    ParserFaulted,
    Restrictions,
)
from xmppstream.declaration import header_too_long, without_declaration
from xmppstream.dictionary import Dictionary
from xmppstream.element import Element
from xmppstream.errors import RemoteError, StreamCondition
from xmppstream.limit import Limits
from xmppstream.skimmer import Skimmer, is_marked

_SPACE: Final = b" \t\r\n"
_POSITION: Final = re.compile(r",? line \d+(?:, column \d+)?")  # the parser's, not the stream's
_DTD: Final = re.compile(rb"<![A-Za-z]")
# A top-level element that contains an element. The part up to the first `>` is its start tag, or is
# at fault: `<` comes next, which a value cannot contain.
_ELEMENT: Final = re.compile(
    rb"[ \t\r\n]*+(<([^ \t\r\n<>/?]++)[^>]*+(?<!/)>(?:<(?!/\2)[^<]*+)*+</\2[^<>]*+>)"
)
_CUT: Final = re.compile(rb"/>|</[^<>]*>|<(?=![A-Za-z])|\]\]>")
_CUT_WITHIN: Final = rb"</[^<>]*%b[ \t\r\n]*>|<(?=![A-Za-z])|\]\]>"
_CUT_NAME_LENGTH: Final = 100  # its last characters: a long name must not make a long expression
_LONE_ROOT: Final = b"<root>"


class StreamParser:
    """Parses one stream, including its root, from chunks of any size.

    After `feed`, check `spent`: a spent parser must not be fed again; `successor()` takes over,
    and is fed `unparsed` first.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        root: bytes | None = None,
        dictionary: Dictionary | None = None,
    ) -> None:
        """Start before the root or, if `root` is its start tag, right behind it.

        `dictionary` is that of the thread, if the thread outlives the parser.
        """
        self._limits = limits or Limits()
        self._dictionary = dictionary or Dictionary()
        self._target = Builder(self._limits, self._dictionary)
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
        self._pieces: list[bytes] = []  # of the open element; if it is skimmed, those not noted
        self._skimmer: Skimmer | None = None
        self.unparsed = b""
        self.spent = False

    def successor(self, dictionary: Dictionary | None = None) -> "StreamParser":
        """Return a fresh parser that continues inside the same root."""
        return StreamParser(self._limits, root=self._root, dictionary=dictionary)

    def close(self) -> None:
        """Release the memory of libxml2; nothing can be fed any more.

        An lxml parser that is only dropped never frees its document, nor the names in it. Once
        closed, it is freed by the next full garbage collection (it and its context are a cycle).
        """
        if self._lxml is not None:
            if not self.at_boundary:  # names it has met, or will in `close`, unreported
                self._dictionary.charge(len(self._root) + self._count)
            self._close_lxml()
            self._target.events = []  # else they would live until that collection
        self._over = True

    def _close_lxml(self) -> None:
        with suppress(etree.XMLSyntaxError, Fault):
            self._lxml.close()
        self._lxml = None

    @property
    def at_boundary(self) -> bool:
        """Whether the root is open and nothing of a child element has arrived yet."""
        return not self._over and self._target.depth == 1 and self._count == 0

    @property
    def open_bytes(self) -> int:
        """The bytes of an incomplete child element so far; valid once the root is open."""
        return self._count

    def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse bytes and return the events that they complete; after the last event, none."""
        if self._over:
            return []
        events = self._target.events = []
        try:
            self._feed(data)
        except Fault as fault:
            self._over = True
            events.append(ParserFaulted(fault.condition, fault.text))
        return events

    def _feed(self, data: bytes) -> None:
        if self._preamble is not None:
            head = self._preamble + data
            body = without_declaration(head, self._limits)
            self._preamble = head if body is None else None
            if body is None:
                return
            data = body
        if not self._primed:
            self._primed = True
            self._prime()
        elif self._lxml is None:
            self._lxml = _make_lxml(self._target)
        self._feed_pieces(data)

    def _prime(self) -> None:
        """Make a parser that is inside the root."""
        target = self._target
        events, target.events, target.depth = target.events, [], 0
        self._lxml, self._seen_log = _make_lxml(target), 0
        self._parse(self._root)
        target.events = events

    def _feed_pieces(self, data: bytes) -> None:
        target, limits = self._target, self._limits
        # Any end tag is then markup or a fault; between elements, earlier chunks do not matter.
        plain = not (b"<!" in data or b"]]>" in data or b"\0" in data)
        offset, first_end = 0, data.find(b">") + 1
        while offset < len(data):
            between = plain and self._count == 0 and target.depth == 1
            element = _ELEMENT.match(data, offset) if between else None
            start, end = (0, 0) if element is None else element.span(1)
            if 0 < end - start <= limits.max_stanza_bytes:
                self._count = target.size_bytes = end - start
                self._parse(data[offset:end])
            else:
                within = target.open_name[-_CUT_NAME_LENGTH:] if target.depth > 1 else None
                end = _next_cut(data, offset, first_end, within)
                self._feed_piece(data[offset:end])
            if target.refused is not None or not target.ended:
                self._go_on(data[offset:end])
            offset = end
            if target.ended:
                target.ended = False
                self._count = 0
                if self._pieces:
                    self._pieces.clear()
            if self._over:
                return
            worn = self._fed > limits.life_bytes or self._dictionary.full
            if worn and self.at_boundary:
                self.unparsed, self.spent = data[offset:], True
                return
        if self._skimmer is not None:
            self._note_skimmed(self._skimmer)

    def _go_on(self, piece: bytes) -> None:
        """Keep a piece of an element that is not complete yet, or finish a refused one."""
        if self._count == 0:
            return  # white space between elements
        target, skimmer = self._target, self._skimmer
        self._pieces.append(piece)
        if skimmer is not None:
            if target.ended:
                self._note_skimmed(skimmer)
                target.finish(has_mark=skimmer.is_marked)
                self._skimmer = None
                self._close_lxml()
                self._prime()
        elif target.ended:
            target.finish(has_mark=target.is_swamped and is_marked(self._raw))
        elif target.is_swamped:
            self._skim()

    def _skim(self) -> None:
        """Replace the parser by one that reports nothing, until the element ends."""
        target, limits = self._target, self._limits
        self._skimmer = Skimmer(
            self._raw, target.namespaces, self._dictionary, limits.max_name_bytes
        )
        self._pieces.clear()
        self._close_lxml()
        self._lxml, self._seen_log = _make_lxml(Restrictions()), 0
        self._parse(self._skimmer.document)

    @property
    def _raw(self) -> bytes:
        """The bytes of the open element, without the white space before it."""
        return b"".join(self._pieces)[-self._count :]

    def _note_skimmed(self, skimmer: Skimmer) -> None:
        skimmer.note(b"".join(self._pieces))
        self._pieces.clear()

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
        self._parse_marked(piece)
        self._over = target.depth == 0

    def _over_limit(self, piece: bytes, before: int) -> bytes:
        """Parse the part within the limit first, so that its faults come first; return the rest."""
        limits = self._limits
        room = limits.max_stanza_bytes - before
        if room >= 0:
            self._parse_marked(piece[:room])
            self._target.refuse(f"{limits.max_stanza_bytes} bytes")
            piece, before = piece[room:], limits.max_stanza_bytes
        room = limits.max_stanza_bytes * limits.endless_factor - before
        if len(piece) > room:
            self._parse_marked(piece[:room])
            raise Fault(
                StreamCondition.POLICY_VIOLATION,
                f"a stanza beyond {limits.endless_factor} times {limits.max_stanza_bytes} bytes",
            )
        return piece

    def _feed_header(self, piece: bytes) -> None:
        # Chunks are not cut at the root's start tag: parse up to each `>` until it is complete.
        offset = 0
        while offset < len(piece):
            end = piece.find(b">", offset) + 1 or len(piece)
            room = self._limits.max_header_bytes - len(self._root)
            part = piece[offset:end][:room]
            self._root += part
            self._parse_marked(part)
            if self._target.events:
                self._root = self._root.lstrip(_SPACE)
                self._over = self._target.depth == 0
                break
            if end - offset > room:
                raise header_too_long(self._limits)
            offset = end
        if end < len(piece) and not self._over:
            self._feed_piece(piece[end:])

    def _parse_marked(self, piece: bytes) -> None:
        """Parse a piece that may contain `<!`, `]]>` or NUL."""
        nul = piece.find(b"\0")
        if nul >= 0:  # in CDATA, libxml2 would never look any further
            self._parse_marked(piece[:nul])
            raise Fault(StreamCondition.NOT_WELL_FORMED, "a NUL character")
        window = self._last + piece
        self._last = window[-2:]
        if b"<!" in window and _DTD.search(window):
            self._in_dtd = True
        was_cdata = self._in_dtd and b"]]>" in window
        self._parse(piece)
        if was_cdata:
            self._in_dtd = False

    def _parse(self, piece: bytes) -> None:
        self._fed += len(piece)
        good = len(self._target.events)
        fault: Fault | None = None
        try:
            self._lxml.feed(piece)
        except Fault as found:
            fault = found
        except etree.XMLSyntaxError as error:
            log, skimmer = self._lxml.feed_error_log, self._skimmer
            if skimmer is not None and skimmer.is_end(log):
                self._target.ended = True
            else:
                fault = _classify(error, log, self._in_dtd)
                fault.text = fault.text if skimmer is None else skimmer.original(fault.text)
        log = self._lxml.feed_error_log
        if len(log) != self._seen_log:
            self._seen_log = len(log)
            for entry in log:
                if entry.type_name.startswith("NS_ERR_"):  # it came before any other fault
                    del self._target.events[good:]
                    raise Fault(StreamCondition.NOT_WELL_FORMED, entry.message.strip())
        if fault is not None:
            raise fault


class ElementParser:
    """Parses elements that stand alone, one after the other, under the restrictions of a stream.

    One parser serves many elements, since making a parser costs more than parsing most elements.
    Check `spent` between them, as with `StreamParser`.
    """

    def __init__(
        self, limits: Limits | None = None, *, dictionary: Dictionary | None = None
    ) -> None:
        """`dictionary` is that of the thread, if the thread outlives the parser."""
        self._limits = limits or Limits()
        self._dictionary = dictionary
        self._parser = self._fresh()
        self._fed = 0

    @property
    def spent(self) -> bool:
        """Whether this parser has read its share, and the next one belongs in a new thread."""
        return self._fed > self._limits.life_bytes

    def parse(self, data: bytes) -> Element:
        """Parse exactly one element.

        Raises:
            RemoteError: if `data` is not exactly one element, is over a limit, or is not allowed.
        """
        self._fed += len(data)
        try:
            body = without_declaration(data, self._limits)
        except Fault as fault:
            raise RemoteError(fault.condition, fault.text) from None
        if not body:
            raise RemoteError(StreamCondition.NOT_WELL_FORMED, "it contains no element")
        events, parser = self._parser.feed(body), self._parser
        whole = parser.at_boundary and not parser.unparsed.strip(_SPACE)
        if not whole or parser.spent:
            self.close()
        match events:
            case [ElementParsed(element=element)] if whole:
                return element
            case [*_, ParserFaulted(condition=condition, text=text)]:
                raise RemoteError(condition, text)
            case [ElementRefused(limit=limit)]:
                text = f"it is over the limit of {limit}"
                raise RemoteError(StreamCondition.POLICY_VIOLATION, text)
            case []:
                raise RemoteError(
                    StreamCondition.NOT_WELL_FORMED, "it contains no complete element"
                )
            case _:
                raise RemoteError(StreamCondition.BAD_FORMAT, "it is not exactly one element")

    def close(self) -> None:
        """Release the memory of libxml2; the next element gets a fresh parser."""
        self._parser.close()
        self._parser = self._fresh()

    def _fresh(self) -> StreamParser:
        return StreamParser(self._limits, root=_LONE_ROOT, dictionary=self._dictionary)


def parse_element(data: bytes, limits: Limits | None = None) -> Element:
    """Parse one element that stands alone. Its names stay with the calling thread: for foreign
    input use `ElementParser` in a thread of bounded life (`parser_thread`).

    Raises:
        RemoteError: as in `ElementParser.parse`.
    """
    parser = ElementParser(limits)
    try:
        return parser.parse(data)
    finally:
        parser.close()


def _make_lxml(target: Restrictions) -> Any:
    # `huge_tree` lifts libxml2's own limits (10 MB of text, 50 kB of a name), which end the
    # stream; ours apply first. `encoding` keeps it from obeying or guessing another one.
    parser = etree.XMLParser(
        target=cast("Any", target),  # the stubs want `str | bytes` everywhere
        encoding="utf-8",
        # With False, `&amp;` in a value would arrive as `&#38;`; the stubs lag behind lxml 5.
        resolve_entities=cast("Any", "internal"),
        load_dtd=False,
        no_network=True,
        huge_tree=True,
    )
    parser.feed(b"    ")  # the first four bytes are stored, not parsed: events would be late
    return parser


def _next_cut(data: bytes, offset: int, first_end: int, within: str | None) -> int:
    """Return the next offset to cut at (see above), or the end of the chunk.

    `within` is the end of the name of the top-level element, once its start tag is complete. If an
    end tag began in an earlier chunk, its `>` is the first one of this chunk: it ends at
    `first_end`.
    """
    match = (_CUT if within is None else _cut_within(within)).search(data, offset)
    end = match.end() if match is not None else len(data)
    return first_end if offset < first_end < end else end


@lru_cache(maxsize=16)
def _cut_within(name: str) -> re.Pattern[bytes]:
    return re.compile(_CUT_WITHIN % re.escape(name.rpartition("}")[2].encode()))


def _classify(error: etree.XMLSyntaxError, log: Any, in_dtd: bool) -> Fault:
    kinds = {entry.type_name for entry in log}
    if in_dtd and "ERR_NAME_REQUIRED" in kinds:  # behind the root, libxml2 takes it for a start tag
        return Fault(StreamCondition.RESTRICTED_XML, DTD_TEXT)
    if kinds & {"ERR_UNDECLARED_ENTITY", "WAR_UNDECLARED_ENTITY"}:
        return Fault(StreamCondition.RESTRICTED_XML, "an entity beyond the five of XML")
    if kinds & {"ERR_INVALID_ENCODING", "ERR_UNKNOWN_ENCODING", "ERR_UNSUPPORTED_ENCODING"}:
        return Fault(StreamCondition.UNSUPPORTED_ENCODING, "not UTF-8")
    # lxml raises with the first entry, which may be a warning about an earlier stanza.
    errors = (entry.message for entry in log if entry.type_name.startswith("ERR_"))
    text = next(errors, error.msg or "")
    return Fault(StreamCondition.NOT_WELL_FORMED, _POSITION.sub("", text).strip())
