"""Logs to stderr, as readable lines or JSON lines: one line per event, never a flood.

Strangers can cause some events again and again (bad replies, refused stanzas). So lines are limited
per event and component: suppressed lines are counted, and the next line of the event has the count.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog
from attrs import frozen
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from bridge.telemetry.text import printable

LIMIT: Final = 50
_LEVELS: Final = frozenset({"warning", "error", "critical"})
_PLAIN: Final = {
    "bad reply": "The endpoint's reply could not be used",
    "cannot attach": "Cannot attach to the server",
    "configuration": "The configuration could be improved",
    "detached": "The stream to the server ended",
    "endpoint fails": "The endpoint does not answer",
    "endpoint still fails": "The endpoint still does not answer",
    "endpoint is back": "The endpoint is back",
    "endpoint is down, asking it by one POST at a time": "The endpoint is down; it is probed with"
    " one POST at a time",
    "journal fails": "The journal cannot be written",
    "journal hangs": "The journal hangs",
    "queue full, refusing stanzas": "The queue is full: stanzas are refused",
    "reply ignored": "The endpoint's reply was ignored",
    "sender not told": "A sender may not have been told of a failure",
    "still not attached": "Still not attached to the server",
    "stanzas given up": "Stanzas were given up",
    "stanza failed in the bridge": "A stanza failed because of a bug in the bridge; see its log",
    "stanza refused": "A stanza exceeds a limit",
    "stanza without address dropped": "A stanza without addresses was dropped",
    "your endpoint refuses the bridge": "The endpoint refuses the bridge",
}
_REASONS: Final = (
    "why",
    "problem",
    "warning",
    "condition",
    "limit",
    "media_type",
    "key",
    "location",
)
_NUMBERS: Final = {
    "status": "status",
    "count": "count",
    "waiting": "waiting",
    "given_up": "given up",
    "pending": "pending",
    "dead": "dead letters",
    "suppressed": "suppressed lines",
}
_FIRST: Final = ("timestamp", "level", "event")
_PLAIN_TYPES: Final = (str, int, float, type(None), list, tuple, dict, set, frozenset)
_BURST: Final = 20
_WINDOW_S: Final = 10.0
_VALUE_LIMIT: Final = 300


@frozen
class RecentError:
    """A warning or error. `at` is Unix time in s; `component` is empty if it concerns none."""

    at: float
    level: str
    component: str
    sentence: str


class RecentErrors:
    """A structlog processor that keeps the last `LIMIT` warnings and errors; all lines pass."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._kept: deque[RecentError] = deque(maxlen=LIMIT)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        level = str(event["level"])
        if level in _LEVELS:
            component = str(event.get("component", ""))
            self._kept.append(RecentError(self._now(), level, component, sentence_of(event)))
        return event

    @property
    def latest(self) -> list[RecentError]:
        """All kept entries, the latest first."""
        return list(reversed(self._kept))


def sentence_of(event: EventDict) -> str:
    """Return a line of the log as an English sentence."""
    name = str(event["event"])
    text = _PLAIN.get(name) or name[:1].upper() + name[1:]
    reason = next((str(event[key]) for key in _REASONS if event.get(key)), "")
    if reason:
        text += f": {reason.rstrip('.')}"
    numbers = [f"{noun} {event[key]}" for key, noun in _NUMBERS.items() if key in event]
    if numbers:
        text += f" ({', '.join(numbers)})"
    hint = str(event.get("hint") or event.get("remedy") or "")
    return f"{text}. {hint[:1].upper()}{hint[1:].rstrip('.')}." if hint else f"{text}."


LEVELS: Final = ("debug", "info", "warning", "error")


class _Threshold:
    """The level from which lines are written; process-wide, as logging is."""

    number: int = logging.INFO


def _logs(name: str, number: int) -> Callable[..., Any]:
    def log(self: structlog.BoundLoggerBase, event: str, **values: Any) -> Any:
        # A line below the level costs this comparison.
        return self._proxy_to_logger(name, event, **values) if number >= _Threshold.number else None

    return log


class _Logger(structlog.BoundLoggerBase):
    """A bound logger that checks the level at each line, so that `set_level` also affects loggers
    that were bound before.
    """

    debug = _logs("debug", logging.DEBUG)
    info = _logs("info", logging.INFO)
    warning = _logs("warning", logging.WARNING)
    error = _logs("error", logging.ERROR)

    def exception(self, event: str, **values: Any) -> Any:
        """Log an error with the exception that is being handled."""
        return self.error(event, **{"exc_info": True, **values})


def set_level(level: str) -> None:
    """Write lines of this level and above from now on."""
    _Threshold.number = getattr(logging, level.upper())


def configure(format: str, level: str, recent: RecentErrors | None = None) -> None:
    """Set up logging for the process; `format` is `text` or `json`. Warnings and errors are kept in
    `recent`.
    """
    set_level(level)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        Throttle(),
        spell_out,
        shorten,
        *([] if recent is None else [recent]),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if format == "json":
        processors += [
            structlog.processors.format_exc_info,
            lead,
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
        logger_factory=structlog.PrintLoggerFactory(file=LossyFile(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


class LossyFile:
    """A file for lines that are lost if it cannot take them: a full disk under the log, or the end
    of its reader, must not end the bridge.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write to the file."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with suppress(OSError):
            self._file.flush()


def logger(**context: str) -> FilteringBoundLogger:
    """Return a logger that adds `context` to each of its lines."""
    bound: FilteringBoundLogger = structlog.get_logger().bind(**context)
    return bound


class Throttle:
    """Passes at most `_BURST` lines per event and component in `_WINDOW_S` seconds."""

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


def spell_out(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace values that are neither text, numbers nor collections by their text: a stanza is XML
    in the log. It is written only now, when the line passes.
    """
    for key, value in event.items():
        if key != "exc_info" and not isinstance(value, _PLAIN_TYPES):
            event[key] = str(value)
    return event


def lead(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the time, the level and the event first."""
    return {**{name: event.pop(name) for name in _FIRST}, **event}


def shorten(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cut values that strangers may have made long (ids, addresses, reasons)."""
    if event["level"] != "debug":
        for key, value in event.items():
            if isinstance(value, str) and len(value) > _VALUE_LIMIT and key != "exception":
                event[key] = value[:_VALUE_LIMIT] + "…"
    return event


def escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape terminal control characters: an id from XML may hold U+009B, the short CSI."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event
