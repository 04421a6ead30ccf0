"""A thread of bounded life for parsing, driven from trio.

libxml2 keeps every distinct name for as long as the thread lives that parsed it (lxml before 7), so
foreign XML is parsed in plain threads of our own that are replaced after a bounded number of bytes.
trio's worker threads are reused and would not do. A hop (`thread`) serves a whole chunk.
"""

import gc
from collections.abc import Callable
from functools import partial
from typing import Final

from xmppstream.builder import ParseEvent
from xmppstream.element import Element
from xmppstream.limit import Limits
from xmppstream.parser import ElementParser, StreamParser
from xmppstream.thread import Thread

_NAME: Final = "xml-parser"


class StreamParserThread:
    """`StreamParser` with each parser in a thread of its own. Close it when the stream is over."""

    def __init__(self, limits: Limits, thread: Callable[[str], Thread] = Thread) -> None:
        """`thread` makes a thread of that name."""
        self._make_thread = thread
        self._parser = StreamParser(limits)
        self._thread = thread(_NAME)

    @property
    def at_boundary(self) -> bool:
        """Whether what was fed ends between two elements inside of the root."""
        return self._parser.at_boundary

    async def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse a chunk. Not cancelled half-way: it takes milliseconds at the most."""
        events = await self._thread.run(partial(self._parser.feed, data))
        while self._parser.spent:
            rest = self._parser.unparsed
            self.close()
            self._parser = self._parser.successor()
            self._thread = self._make_thread(_NAME)
            events += await self._thread.run(partial(self._parser.feed, rest))
        return events

    @property
    def open_bytes(self) -> int:
        """How much of an element has come that is not whole: 0 between two."""
        return self._parser.open_bytes

    def close(self) -> None:
        """Let the thread end."""
        _end(self._thread, self._parser)


class ElementParserThread:
    """`ElementParser` in a thread of its own, which begins with the first element."""

    def __init__(self, limits: Limits, thread: Callable[[str], Thread] = Thread) -> None:
        """`thread` makes a thread of that name."""
        self._limits = limits
        self._make_thread = thread
        self._parser: ElementParser | None = None
        self._thread: Thread | None = None

    async def parse(self, data: bytes) -> Element:
        """Parse one element.

        Raises:
            RemoteError: as `ElementParser.parse`.
        """
        if self._parser is None or self._thread is None or self._parser.spent:
            self.close()
            self._parser, self._thread = ElementParser(self._limits), self._make_thread(_NAME)
        return await self._thread.run(partial(self._parser.parse, data))

    def close(self) -> None:
        """Let the thread end, after what it has been given."""
        if self._parser is not None and self._thread is not None:
            _end(self._thread, self._parser)
            self._parser = self._thread = None


def _end(thread: Thread, parser: StreamParser | ElementParser) -> None:
    # What a closed parser held is freed by the collection, and its names with the thread.
    thread.close(parser.close, gc.collect)
