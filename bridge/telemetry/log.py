"""Logs to stderr: readable lines, or JSON lines; one line per event, never a flood.

What strangers can cause again and again (bad replies, refused stanzas) is limited per event: the
lines left out are counted, and the count is told by the next line of that event.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from bridge.telemetry.recent import INCIDENTS

LEVELS: Final = ("debug", "info", "warning", "error")
_BURST: Final = 20
_WINDOW_S: Final = 10.0
_VALUE_LIMIT: Final = 300


class _Logger(structlog.make_filtering_bound_logger(logging.INFO)):  # type: ignore[misc]
    """What all loggers are. Its base says which levels are told: so `set_level` also reaches those
    that were bound before, and a level that is not told costs a call that does nothing.
    """


def set_level(level: str) -> None:
    """Tell, from now on, what is of this level or above."""
    base = structlog.make_filtering_bound_logger(getattr(logging, level.upper()))
    _Logger.__bases__ = (base,)


def configure(format: str, level: str) -> None:
    """Set up logging for the process; `format` is `text` or `json`."""
    set_level(level)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        Throttle(),
        shorten,
        INCIDENTS,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if format == "json":
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        processors += [
            escape,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=32,
                sort_keys=False,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=_Logger,
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(**context: str) -> FilteringBoundLogger:
    """Give a logger that adds `context` to each of its lines."""
    bound: FilteringBoundLogger = structlog.get_logger().bind(**context)
    return bound


class Throttle:
    """Lets `_BURST` lines of one event pass in `_WINDOW_S` seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        key = (str(event["event"]), str(event.get("component", "")))
        now = self._now()
        start, count = self._windows.get(key, (now, 0))
        if now - start >= _WINDOW_S:
            if count > _BURST:
                event["suppressed"] = count - _BURST
            start, count = now, 0
        self._windows[key] = (start, count + 1)
        if count >= _BURST and event["level"] != "debug":
            raise structlog.DropEvent
        return event


def shorten(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cut what strangers may have made long (ids, addresses, reasons)."""
    if event["level"] != "debug":
        for key, value in event.items():
            if isinstance(value, str) and len(value) > _VALUE_LIMIT and key != "exception":
                event[key] = value[:_VALUE_LIMIT] + "…"
    return event


def escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what would command a terminal: an id from XML may hold U+009B, the short CSI."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event


def printable(text: str) -> str:
    """Escape what is no visible character or space, line ends among it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
