"""A thread of bounded life for parsing, driven from trio.

libxml2 keeps every distinct name for as long as the thread lives that parsed it (lxml before 7), so
foreign XML is parsed in plain threads of our own that are replaced after a bounded number of bytes.
trio's worker threads are reused and would not do. A hop costs about 70 µs and serves a whole chunk.
"""

import gc
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import outcome
import trio

from xmppstream.builder import ParseEvent
from xmppstream.element import Element
from xmppstream.limit import Limits
from xmppstream.parser import ElementParser, StreamParser

T = TypeVar("T")


class StreamParserThread:
    """`StreamParser` with each parser in a thread of its own. Close it when the stream is over."""

    def __init__(self, limits: Limits) -> None:
        self._parser = StreamParser(limits)
        self._thread = _Thread()

    async def feed(self, data: bytes) -> list[ParseEvent]:
        """Parse a chunk. Not cancelled half-way: it takes milliseconds at the most."""
        events = await self._thread.run(self._parser.feed, data)
        while self._parser.spent:
            rest = self._parser.unparsed
            self.close()
            self._parser = self._parser.successor()
            self._thread = _Thread()
            events += await self._thread.run(self._parser.feed, rest)
        return events

    def close(self) -> None:
        """Let the thread end."""
        self._thread.close(self._parser)


class ElementParserThread:
    """`ElementParser` in a thread of its own, which begins with the first element."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser: ElementParser | None = None
        self._thread: _Thread | None = None

    async def parse(self, data: bytes) -> Element:
        """Parse one element.

        Raises:
            RemoteError: as `ElementParser.parse`.
        """
        if self._parser is None or self._thread is None or self._parser.spent:
            self.close()
            self._parser, self._thread = ElementParser(self._limits), _Thread()
        return await self._thread.run(self._parser.parse, data)

    def close(self) -> None:
        """Let the thread end, after what it has been given."""
        if self._parser is not None and self._thread is not None:
            self._thread.close(self._parser)
            self._parser = self._thread = None


class _Thread:
    """A daemon thread that runs one call after the other."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="xml-parser", daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        # What a closed parser held is freed by this, and its names with the thread.
        gc.collect()

    async def run(self, call: Callable[[bytes], T], data: bytes) -> T:
        token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()

        def job() -> None:
            result = outcome.capture(call, data)
            with suppress(trio.RunFinishedError):  # nobody waits any more
                token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        self._jobs.put(job)
        parsed: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return parsed

    def close(self, parser: StreamParser | ElementParser) -> None:
        self._jobs.put(parser.close)
        self._jobs.put(None)
