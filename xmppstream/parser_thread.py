"""Parses foreign XML: in the calling thread while its names are few, else in threads of its own.

libxml2 keeps every distinct name for as long as the thread lives that parsed it (lxml before 7).
Traffic to a component has a few hundred names in all, and is parsed in the calling thread: a hop
into another thread costs more than most chunks. Once the process has met more names than its
`dictionary` may take, all parsing is done in plain threads of our own that are replaced after a
bounded number of bytes (trio's worker threads are reused and would not do). There is no way back:
the dictionary of the calling thread never shrinks. A hop (`thread`) serves a whole chunk.

The memory that stays taken is bounded by the dictionary's budget and, for each stream, the one
element within which it filled up.
"""

import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from xmppstream.builder import ParseEvent
from xmppstream.dictionary import PROCESS, Dictionary
from xmppstream.element import Element
from xmppstream.limit import KIB, Limits
from xmppstream.parser import ElementParser, StreamParser
from xmppstream.thread import Thread

_NAME: Final = "xml-parser"
_INLINE_BYTES: Final = 64 * KIB  # for an element; parsing it takes milliseconds


class StreamParserThread:
    """A `StreamParser` and its successors, in threads if needed. Close it when the stream is
    over.
    """

    def __init__(
        self,
        limits: Limits,
        thread: Callable[[str], Thread] = Thread,
        dictionary: Dictionary = PROCESS,
    ) -> None:
        """`thread` makes a thread by name; `dictionary` is that of the calling thread."""
        self._make_thread = thread
        self._dictionary = dictionary
        self._thread: Thread | None = None
        self._parser = StreamParser(limits, dictionary=self._place())

    @property
    def at_boundary(self) -> bool:
        """Whether the input so far ends between two elements inside the root."""
        return self._parser.at_boundary

    async def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse a chunk. This cannot be cancelled half-way; it takes milliseconds at most."""
        events = await self._feed(data)
        while self._parser.spent:
            rest = self._parser.unparsed
            self.close()
            self._parser = self._parser.successor(self._place())
            events += await self._feed(rest)
        return events

    async def _feed(self, data: bytes) -> list[ParseEvent]:
        if self._thread is None:
            return self._parser.feed(data)
        return await self._thread.run(partial(self._parser.feed, data))

    def _place(self) -> Dictionary | None:
        """Return the next parser's dictionary; if it is full, make a thread, which has its own."""
        if not self._dictionary.full:
            return self._dictionary
        self._thread = self._make_thread(_NAME)
        return None

    @property
    def open_bytes(self) -> int:
        """The bytes of an incomplete element so far: 0 between two elements."""
        return self._parser.open_bytes

    def close(self) -> None:
        """Release the parser's memory, and end its thread."""
        if self._thread is None:
            self._parser.close()  # the next regular collection frees it, which is soon enough
        else:
            _end(self._thread, self._parser)


class ElementParserThread:
    """An `ElementParser`; for large elements, or if needed, in a thread of its own, which starts
    with the first of those.
    """

    def __init__(
        self,
        limits: Limits,
        thread: Callable[[str], Thread] = Thread,
        dictionary: Dictionary = PROCESS,
    ) -> None:
        """`thread` makes a thread by name; `dictionary` is that of the calling thread."""
        self._limits = limits
        self._make_thread = thread
        self._dictionary = dictionary
        self._inline = ElementParser(limits, dictionary=dictionary)
        self._parser: ElementParser | None = None
        self._thread: Thread | None = None

    async def parse(self, data: bytes) -> Element:
        """Parse one element.

        Raises:
            RemoteError: as in `ElementParser.parse`.
        """
        if len(data) <= _INLINE_BYTES and not self._dictionary.full:
            return self._inline.parse(data)
        if self._parser is None or self._thread is None or self._parser.spent:
            self._end_thread()
            self._parser, self._thread = ElementParser(self._limits), self._make_thread(_NAME)
        return await self._thread.run(partial(self._parser.parse, data))

    def close(self) -> None:
        """Release the parser's memory, and end its thread after the pending calls."""
        self._inline.close()
        self._end_thread()

    def _end_thread(self) -> None:
        if self._parser is not None and self._thread is not None:
            _end(self._thread, self._parser)
            self._parser = self._thread = None


def _end(thread: Thread, parser: StreamParser | ElementParser) -> None:
    # The collection frees the memory of a closed parser; the end of the thread frees its names.
    thread.close(parser.close, gc.collect)


ParseElement = Callable[[bytes], Awaitable[Element]]
