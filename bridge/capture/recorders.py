"""The recording of a daemon: a recorder for each of its components, also for those that come later
(SIGHUP). A component that goes and comes again, or begins anew, goes on in the same recorder.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from secrets import token_bytes

import trio

from bridge.capture.file import CaptureFileError
from bridge.capture.recorder import Recorder
from bridge.capture.retention import CaptureOptions, Shelf
from bridge.capture.rotation import Series
from bridge.capture.writer import Naming, Redaction
from bridge.config.settings import Component
from bridge.telemetry.log import logger


class Recording:
    """The recorders by domain. `run` is their service."""

    def __init__(self, options: CaptureOptions, components: Iterable[Component]) -> None:
        """Open the first file of each component.

        Raises:
            CaptureFileError: one cannot be made.
        """
        components = list(components)
        self._options = options
        self._shelf = Shelf.of(options, len(components))
        self.recorders = {one.domain: self._opened(one) for one in components}
        self._new = list(self.recorders.values())
        self._wake = trio.Event()

    def of(self, component: Component) -> Recorder | None:
        """Give the recorder of a component, which is made if it has none yet; None, and a line in
        the log, where that cannot be done.
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
        """Run each recorder, until cancelled; to be started once, before and outside of all that
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
        naming = Naming(options.directory, domain, suffix, datetime.now(UTC), fields)
        series = Series(naming, self._shelf, _redaction() if options.redacted else None)
        return Recorder(series, logger(component=domain))


def _redaction() -> Redaction:
    from bridge.capture.redact import Redactor  # only where it is asked for

    return Redactor(token_bytes(32))
