"""Records the connections and POSTs of one component while it runs.

In trio's thread a report is appended to a batch, with its time, and nothing else is done. A
separate thread passes the batch to a `CaptureRotation`: it makes the lines, redacts, compresses and
writes them. It is asked seldom and for much at once, since whenever it runs, it takes the
interpreter's lock from trio. Reporting never waits, and a failing or slow disk does not harm the
bridge:

- If the disk fails, capturing ends, with one line in the log.
- If the disk or the redaction is too slow and `LIMIT_BYTES` wait, further reports are dropped and
  counted until half of that is written. Then a new file begins, since a file with a gap cannot be
  replayed.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from secrets import token_bytes
from typing import Any, Final

import trio
from structlog.typing import FilteringBoundLogger

from bridge.capture.file import CaptureFileError
from bridge.capture.retention import CaptureOptions, Retention
from bridge.capture.rotation import BLOCK_BYTES, CaptureRotation
from bridge.capture.writer import FileNaming, Redaction
from bridge.config.settings import Component
from bridge.telemetry.log import logger
from bridge.webhook.observer import PostAnswer, PostReport
from xmppstream.thread import Thread

LIMIT_BYTES: Final = 32 * 1024 * 1024
LAST_S: Final = 2.0
"""Time for the disk to write one block, once `run` is cancelled."""
MOST_S: Final = 10.0
"""Time for the disk to write all blocks, once `run` is cancelled. Redaction is slow."""
_BATCH_S: Final = 0.25
_REPORT_BYTES: Final = 200  # weight of a report, without its data

Job = Callable[[], None]
"""A call to be made in the recorder's thread."""
_Report = tuple[Callable[..., None], tuple[Any, ...]]
"""A method of the rotation, and its arguments."""


class Recorder:
    """Records what a stream reports to it as a `Tap`, and an endpoint as a `PostObserver`. `run` is
    its service.
    """

    def __init__(
        self,
        rotation: CaptureRotation,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """Open the first file.

        Raises:
            CaptureFileError: if it cannot be created.
        """
        self._rotation = rotation
        self._log = log
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._started = clock()
        self._reports: list[_Report] = []
        self._held_bytes = 0  # of these
        self._jobs: deque[tuple[Job, int]] = deque()
        self._handed_bytes = 0
        self._awake = False
        self._wake = trio.Event()  # something waits to be written
        self._due = trio.Event()  # enough waits to be worth a run of the thread
        self._stopping = False
        self._missing = 0
        self._ended = False
        self._between = True  # no connection, or between two of its stanzas
        self._attached = False
        rotation.begin(0.0)  # from here on, the rotation belongs to the thread

    # --- reports of the stream (`Tap`)

    def opened(self, server: str) -> None:
        """Record an attempt to connect. Like the rest of an opening, it is never dropped."""
        self._between = self._attached = False
        if self._takes():
            self._report(len(server), self._rotation.link_opened, self.now(), server)

    def received(self, data: bytes, open_bytes: int) -> None:
        """Record a chunk that was received."""
        if self._takes(len(data), dispensable=self._attached):
            self._report(len(data), self._rotation.received, self.now(), data, open_bytes)
        self._between = self._attached and open_bytes == 0

    def attached(self) -> None:
        """Record that the handshake is complete."""
        self._attached = True
        if self._takes():
            self._report(0, self._rotation.attached)

    def sent(self, data: bytes) -> None:
        """Record a batch that is sent."""
        if self._takes(len(data), dispensable=self._attached):
            self._report(len(data), self._rotation.sent, self.now(), data)

    def closed(self, why: str) -> None:
        """Record the end of the connection."""
        self._attached, self._between = False, True
        if self._takes():
            self._report(len(why), self._rotation.link_closed, self.now(), why)

    # --- reports about HTTP (`PostObserver`, and submissions)

    def now(self) -> float:
        """Return the time in seconds since the capture began."""
        return self._clock() - self._started

    def exchanged(
        self, uid: str, attempt: int, began: float, request: bytes, result: PostReport
    ) -> None:
        """Record a finished POST, which began at `began` (by `now`)."""
        size = len(request)
        if isinstance(result, PostAnswer) and result.body is not None:
            size += len(result.body)
        if self._takes(size, dispensable=True):
            at = self.now()
            self._report(size, self._rotation.exchanged, at, uid, attempt, began, request, result)

    def submitted(self, uid: str, stanza: bytes) -> None:
        """Record a stanza that was sent for an HTTP client."""
        if self._takes(len(stanza), dispensable=True):
            self._report(len(stanza), self._rotation.submitted, self.now(), uid, stanza)

    # --- the backlog

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that wait to be redacted or written, with a weight for each report."""
        return self._handed_bytes + self._held_bytes

    def _takes(self, size_bytes: int = 0, *, dispensable: bool = False) -> bool:
        """Return whether to record a report; if not, count it as missing."""
        if self._ended:
            return False
        waiting = self._handed_bytes + self._held_bytes
        is_tight = self._missing or waiting + size_bytes > self._limit_bytes
        if dispensable and is_tight and not self._goes_on(waiting):
            self._missing += 1
            return False
        if not self._awake:
            self._awake = True
            self._wake.set()
        return True

    def _goes_on(self, waiting: int) -> bool:
        """Pause; or resume, if paused, once there is room. Return whether recording has resumed."""
        if not self._missing:
            self._report(0, self._rotation.close)
            self._flush()
            slow = "the disk" if self._rotation.redaction is None else "redaction or the disk"
            why = f"{slow} is too slow: {waiting} bytes are waiting for it"
            self._log.warning("capture pauses", why=why)
        elif self._between and waiting <= self._limit_bytes // 2:
            self._report(0, self._rotation.resume, self.now(), self._missing)
            self._log.warning("capture goes on in a new file", missing=self._missing)
            self._missing = 0
            return True
        return False

    def _report(self, size_bytes: int, method: Callable[..., None], *arguments: object) -> None:
        self._reports.append((method, arguments))
        self._held_bytes += size_bytes + _REPORT_BYTES
        if self._held_bytes >= BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Hand over everything that is held."""
        if self._reports:
            reports, self._reports = self._reports, []
            weight, self._held_bytes = self._held_bytes, 0
            self._hand(partial(self._record, reports), weight)

    def _record(self, reports: list[_Report]) -> None:
        """Pass reports to the rotation, in the thread."""
        for method, arguments in reports:
            method(*arguments)
        self._rotation.flush()

    def _hand(self, job: Job, weight_bytes: int) -> None:
        self._handed_bytes += weight_bytes
        self._jobs.append((job, weight_bytes))
        self._due.set()

    # --- the service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, then write the rest for at most `MOST_S`. Start it once, before
        and outside of everything that reports to it.
        """
        thread = Thread("recorder")
        self._log.info("capturing", file=str(self._rotation.writer.path))
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True) as scope:
                    nursery.start_soon(self._stop_when_cancelled, scope)
                    task_status.started()
                    await self._serve(thread, scope)
                if scope.cancelled_caught:
                    self._log.error(
                        "capture not finished",
                        why="it took too long",
                        missing_bytes=self.waiting_bytes,
                    )
        finally:
            self._ended = True
            thread.close(self._rotation.writer.abandon)

    async def _stop_when_cancelled(self, scope: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._last_at = trio.current_time() + MOST_S
            scope.deadline = trio.current_time() + LAST_S
            self._stopping = True
            self._wake.set()
            self._due.set()

    async def _serve(self, thread: Thread, scope: trio.CancelScope) -> None:
        while not self._stopping:
            await self._wake.wait()
            with trio.move_on_after(_BATCH_S):
                await self._due.wait()
            self._awake, self._wake = False, trio.Event()
            if not self._ended:
                self._flush()
                await self._write(thread, scope)
            self._due = trio.Event()
        if not self._ended:
            self._report(0, self._rotation.close)
            self._flush()
            await self._write(thread, scope)

    async def _write(self, thread: Thread, scope: trio.CancelScope) -> None:
        while self._jobs:
            job, weight = self._jobs.popleft()
            try:
                await thread.run(job, abandon=True)
            except CaptureFileError as error:
                self._give_up(error)
                return
            self._handed_bytes -= weight
            if self._stopping:  # there is progress, so the deadline is extended
                scope.deadline = min(trio.current_time() + LAST_S, self._last_at)

    def _give_up(self, error: CaptureFileError) -> None:
        self._ended = True
        self._jobs.clear()
        hint = "the bridge keeps running; restart it to capture again"
        self._log.error("capturing stopped", file=str(error.path), why=error.why, hint=hint)


class Recorders:
    """The recorders, by domain. `run` is their service."""

    def __init__(self, options: CaptureOptions, components: Iterable[Component]) -> None:
        """Open the first file of each component.

        Raises:
            CaptureFileError: if one cannot be created.
        """
        components = list(components)
        self._options = options
        self._retention = Retention.of(options, len(components))
        self.recorders = {one.domain: self._opened(one) for one in components}
        self._new = list(self.recorders.values())
        self._wake = trio.Event()

    def of(self, component: Component) -> Recorder | None:
        """Return the recorder of a component, after creating it if necessary. If that fails, log
        the reason and return None.
        """
        domain = component.domain
        if domain not in self.recorders:
            try:
                self.recorders[domain] = self._opened(component)
            except CaptureFileError as error:
                logger(component=domain).error("cannot capture", why=str(error))
                return None
            self._new.append(self.recorders[domain])
            self._wake.set()
        return self.recorders[domain]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all recorders until cancelled. Start it once, before and outside of everything that
        reports to them.
        """
        async with trio.open_nursery() as nursery:
            while True:
                while self._new:
                    await nursery.start(self._new.pop().run)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                self._wake = trio.Event()
                await self._wake.wait()

    def _opened(self, component: Component) -> Recorder:
        options, domain = self._options, component.domain
        fields = (("server", str(component.server)), ("endpoint", str(component.post_url)))
        suffix = ".xcap" if options.packing == "none" else f".xcap.{options.packing}"
        naming = FileNaming(options.directory, domain, suffix, datetime.now(UTC), fields)
        rotation = CaptureRotation(
            naming, self._retention, _redaction() if options.redacted else None
        )
        return Recorder(rotation, logger(component=domain))


def _redaction() -> Redaction:
    from bridge.capture.redact import Redactor  # imported only if it is needed

    return Redactor(token_bytes(32))
