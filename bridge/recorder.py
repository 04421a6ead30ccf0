"""Records what one component does, while it works: its connections and its POSTs.

What happens is only appended here, in trio's thread; a thread of its own turns it into a `Series`
of files. Whoever reports never waits, and a disk that fails or is slow does no harm to the bridge:

- where it fails, capturing ends, with one line in the log;
- where it cannot keep up, so that `LIMIT_BYTES` wait for it, what comes is left out, and counted,
  until it has written half of that; then a new file begins, since one with a hole is no story.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from bridge.capture_file import CaptureFileError
from bridge.exchange import API, Answered, Result
from bridge.series import Series
from xmppstream.thread import Thread

LIMIT_BYTES: Final = 32 * 1024 * 1024
LAST_S: Final = 2.0
"""How long, once `run` is cancelled, the disk may take for `_SLICE` reports."""
MOST_S: Final = 10.0
"""How long it may take for all; redacting is slow."""
_BATCH_S: Final = 0.05
_SLICE: Final = 500
_WEIGHT_BYTES: Final = 200  # what a report weighs without its data

Report = Callable[[], None]
Waiting = tuple[Report, int]
"""A report and its weight in bytes."""


class Recorder:
    """Is a `Tap` and a `Witness`; `run` is its service."""

    def __init__(
        self,
        series: Series,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """Open the first file.

        Raises:
            CaptureFileError: it cannot be made.
        """
        self._series = series
        self._log = log
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._started = clock()
        self._reports: list[Waiting] = []
        self._waiting_bytes = 0
        self._wake = trio.Event()
        self._stopping = trio.Event()
        self._missing = 0
        self._ended = False
        self._between = True  # no connection, or between two stanzas of one
        self._attached = False
        series.begin(0.0)

    # --- what is reported: the tap of the stream

    def opened(self, server: str) -> None:
        """A connection is tried; with all else of its beginning it is recorded in any case."""
        self._between = self._attached = False
        self._report(partial(self._series.link_opened, self.now(), server))

    def received(self, data: bytes, open_bytes: int) -> None:
        """A chunk has come."""
        call = partial(self._series.received, self.now(), data, open_bytes)
        self._report(call, len(data), dispensable=self._attached)
        self._between = self._attached and open_bytes == 0

    def attached(self) -> None:
        """The connection has begun."""
        self._attached = True
        self._report(self._series.attached)

    def sent(self, data: bytes) -> None:
        """A batch is sent."""
        call = partial(self._series.sent, self.now(), data)
        self._report(call, len(data), dispensable=self._attached)

    def closed(self, why: str) -> None:
        """The connection is over."""
        self._attached, self._between = False, True
        self._report(partial(self._series.link_closed, self.now(), why))

    # --- and what HTTP has to do with it

    def now(self) -> float:
        """Give the time, in seconds since the capture began."""
        return self._clock() - self._started

    def exchanged(
        self, uid: str, attempt: int, began: float, request: bytes, result: Result
    ) -> None:
        """A POST is over that had begun at `began`, by `now`."""
        call = partial(self._series.exchanged, self.now(), uid, attempt, began, request, result)
        body = result.body if isinstance(result, Answered) else None
        self._report(call, len(request) + len(body or b""), dispensable=True)

    def submitted(self, uid: str, stanza: bytes) -> None:
        """An HTTP client has had us send a stanza."""
        data = msgspec.json.encode({"id": uid, "stanza": stanza.decode()})
        call = partial(self._series.put, self.now(), API, data)
        self._report(call, len(data), dispensable=True)

    def _report(self, call: Report, size_bytes: int = 0, *, dispensable: bool = False) -> None:
        if self._ended:
            return
        weight = size_bytes + _WEIGHT_BYTES
        if dispensable and not self._has_room(weight):
            self._missing += 1
            return
        self._append(call, weight)

    def _append(self, call: Report, weight: int = 0) -> None:
        if not self._reports:
            self._wake.set()
        self._waiting_bytes += weight
        self._reports.append((call, weight))

    def _has_room(self, weight: int) -> bool:
        waiting = self._waiting_bytes
        if not self._missing:
            if waiting + weight <= self._limit_bytes:
                return True
            self._append(self._series.pause)
            why = f"the disk is too slow: {waiting} bytes wait for it"
            self._log.warning("capture pauses", why=why)
        elif self._between and waiting <= self._limit_bytes // 2:
            self._append(partial(self._series.resume, self.now(), self._missing))
            self._log.warning("capture goes on in a new file", missing=self._missing)
            self._missing = 0
            return True
        return False

    # --- the service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write, until cancelled; then write what is left, for at most `MOST_S`. To be started
        once, before and outside of all that reports.
        """
        thread = Thread("recorder")
        self._log.info("capturing", file=str(self._series.path))
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True) as scope:
                    nursery.start_soon(self._stop_when_cancelled, scope)
                    task_status.started()
                    await self._serve(thread, scope)
                if scope.cancelled_caught:
                    missing = len(self._reports)
                    self._log.error(
                        "capture not finished", why="it takes too long", missing=missing
                    )
        finally:
            self._ended = True
            thread.close(self._series.abandon)

    async def _stop_when_cancelled(self, scope: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._last_at = trio.current_time() + MOST_S
            scope.deadline = trio.current_time() + LAST_S
            self._stopping.set()
            self._wake.set()

    async def _serve(self, thread: Thread, scope: trio.CancelScope) -> None:
        while self._reports or not self._stopping.is_set():
            await self._wake.wait()
            self._wake = trio.Event()
            with trio.move_on_after(_BATCH_S):
                await self._stopping.wait()
            await self._write(thread, scope)
        await self._try(thread, self._series.close)

    async def _write(self, thread: Thread, scope: trio.CancelScope) -> None:
        while self._reports and not self._ended:
            reports, self._reports = self._reports[:_SLICE], self._reports[_SLICE:]
            await self._try(thread, partial(self._take, reports))
            self._waiting_bytes -= sum(weight for _, weight in reports)
            if self._stopping.is_set():  # it goes on, so it may
                scope.deadline = min(trio.current_time() + LAST_S, self._last_at)

    def _take(self, reports: list[Waiting]) -> None:
        for report, _ in reports:
            report()
        self._series.flush()

    async def _try(self, thread: Thread, call: Report) -> None:
        if self._ended:
            return
        try:
            await thread.run(call, abandon=True)
        except CaptureFileError as error:
            self._ended = True
            self._reports.clear()
            hint = "the bridge goes on; to capture again, start it again"
            self._log.error("capturing stopped", file=str(error.path), why=error.why, hint=hint)
