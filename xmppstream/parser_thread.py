"""Where foreign XML is parsed: by whoever asks, for as long as its names are few; else in threads.

libxml2 keeps every distinct name for as long as the thread lives that parsed it (lxml before 7).
What is said to a component has a few hundred names in all, and is parsed where it is asked for: a
hop into a thread costs more than most chunks. Once the process has met more names than its
`dictionary` may take, all parsing is done in plain threads of our own that are replaced after a
bounded number of bytes (trio's worker threads are reused and would not do): the dictionary of the
asking thread never shrinks again, so that is for good. A hop (`thread`) serves a whole chunk.

What the process keeps is bounded by the dictionary's budget and, for each stream, the one element
within which it filled up.
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
_INLINE_BYTES: Final = 64 * KIB  # of an element, as of a stream's chunk: milliseconds


class StreamParserThread:
    """`StreamParser` with its successors, in threads where need be. Close it when the stream is
    over.
    """

    def __init__(
        self,
        limits: Limits,
        thread: Callable[[str], Thread] = Thread,
        dictionary: Dictionary = PROCESS,
    ) -> None:
        """`thread` makes a thread of that name; `dictionary` is that of the asking thread."""
        self._make_thread = thread
        self._dictionary = dictionary
        self._thread: Thread | None = None
        self._parser = StreamParser(limits, dictionary=self._place())

    @property
    def at_boundary(self) -> bool:
        """Whether what was fed ends between two elements inside of the root."""
        return self._parser.at_boundary

    async def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse a chunk. Not cancelled half-way: it takes milliseconds at the most."""
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
        """Tell the next parser's dictionary; once it is full, make a thread, which has its own."""
        if not self._dictionary.full:
            return self._dictionary
        self._thread = self._make_thread(_NAME)
        return None

    @property
    def open_bytes(self) -> int:
        """How much of an element has come that is not whole: 0 between two."""
        return self._parser.open_bytes

    def close(self) -> None:
        """Let go of what the parser holds, and its thread end."""
        if self._thread is None:
            self._parser.close()  # the next collection that is due frees it, which is soon enough
        else:
            _end(self._thread, self._parser)


class ElementParserThread:
    """`ElementParser`; for large elements, or where need be, in a thread of its own, which begins
    with the first of those.
    """

    def __init__(
        self,
        limits: Limits,
        thread: Callable[[str], Thread] = Thread,
        dictionary: Dictionary = PROCESS,
    ) -> None:
        """`thread` makes a thread of that name; `dictionary` is that of the asking thread."""
        self._limits = limits
        self._make_thread = thread
        self._dictionary = dictionary
        self._inline = ElementParser(limits, dictionary=dictionary)
        self._parser: ElementParser | None = None
        self._thread: Thread | None = None

    async def parse(self, data: bytes) -> Element:
        """Parse one element.

        Raises:
            RemoteError: as `ElementParser.parse`.
        """
        if len(data) <= _INLINE_BYTES and not self._dictionary.full:
            return self._inline.parse(data)
        if self._parser is None or self._thread is None or self._parser.spent:
            self._end_thread()
            self._parser, self._thread = ElementParser(self._limits), self._make_thread(_NAME)
        return await self._thread.run(partial(self._parser.parse, data))

    def close(self) -> None:
        """Let go of what the parser holds, and its thread end after what it has been given."""
        self._inline.close()
        self._end_thread()

    def _end_thread(self) -> None:
        if self._parser is not None and self._thread is not None:
            _end(self._thread, self._parser)
            self._parser = self._thread = None


def _end(thread: Thread, parser: StreamParser | ElementParser) -> None:
    # What a closed parser held is freed by the collection, and its names with the thread.
    thread.close(parser.close, gc.collect)


ParseElement = Callable[[bytes], Awaitable[Element]]
