"""Log lines, kept instead of printed, so that tests can read them and wait for them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import trio
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger


class Recorder:
    """A structlog processor that keeps every line."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._added = trio.Event()

    def __call__(self, _: WrappedLogger, __: str, line: EventDict) -> EventDict:
        self.lines.append(dict(line))
        self._added.set()
        self._added = trio.Event()
        raise structlog.DropEvent

    @property
    def told(self) -> list[dict[str, Any]]:
        """What an operator sees by default: all lines above debug."""
        return [line for line in self.lines if line["level"] != "debug"]

    def of(self, event: str) -> list[dict[str, Any]]:
        """Give the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    async def wait(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`-th line of an event."""
        while len(self.of(event)) < count:
            await self._added.wait()
        return self.of(event)[count - 1]

    def logger(self) -> FilteringBoundLogger:
        """Give a logger that writes here."""
        bound: FilteringBoundLogger = structlog.wrap_logger(None, **self._settings()).bind()
        return bound

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the whole process log here."""
        before = structlog.get_config()
        structlog.configure(**self._settings())
        try:
            yield
        finally:
            structlog.configure(**before)

    def _settings(self) -> dict[str, Any]:
        return {
            "processors": [structlog.processors.add_log_level, self],
            "wrapper_class": structlog.make_filtering_bound_logger(logging.DEBUG),
        }
