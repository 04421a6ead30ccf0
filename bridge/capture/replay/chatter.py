"""What the bridge logs during a replay: counted for the summary; printed where that is wanted, with
the story's time, since the hour at which it is replayed means nothing.
"""

import logging
from collections.abc import Callable
from typing import Final

import structlog
from rich.console import Console
from rich.text import Text
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from bridge.capture.replay.tally import Tally
from bridge.telemetry.log import printable

_COUNTED: Final = ("warning", "error")
_EXPECTED: Final = ("detached", "cannot attach")  # the capture says when connections end
_STYLES: Final = {"warning": "yellow", "error": "red"}


class Chatter:
    """The end of a logger. With `prints_all` everything above debug is printed; else, with
    `prints_errors`, the first error of each kind.
    """

    def __init__(
        self, tally: Tally, console: Console, *, prints_all: bool, prints_errors: bool
    ) -> None:
        self.now: Callable[[], float] = lambda: 0.0
        self._tally = tally
        self._console = console
        self._prints_all = prints_all
        self._prints_errors = prints_errors

    def logger(self) -> FilteringBoundLogger:
        """Give the logger that ends here."""
        bound: FilteringBoundLogger = structlog.wrap_logger(
            None,
            processors=[structlog.processors.add_log_level, self],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        ).bind()
        return bound

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        level, what = str(event.pop("level")), str(event.pop("event"))
        is_first = what not in self._tally.said
        if level in _COUNTED and what not in _EXPECTED:
            self._tally.said[what] += 1
        if self._prints_all or (self._prints_errors and level == "error" and is_first):
            self._print(level, what, event)
        raise structlog.DropEvent

    def _print(self, level: str, what: str, event: EventDict) -> None:
        event.pop("exc_info", None)
        event.pop("server", None)
        values = "  ".join(f"{name}={value}" for name, value in event.items() if value != "")
        line = Text(f"{self.now():.3f} s  ")
        line.append(f"{level}: {what}", style=_STYLES.get(level, ""))
        line.append(f"  {printable(values)}")
        self._console.print(line, soft_wrap=True)
