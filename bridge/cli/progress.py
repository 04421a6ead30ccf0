"""Progress of a replay or a copy: a bar at a terminal, with the rate and the remaining time."""

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_EVERY_S: Final = 0.2
_LOOK_EVERY: Final = 20
_LINE_EVERY_S: Final = 5.0


class Bar:
    """Shows progress on stderr, if `shown`: a bar that is redrawn a few times a second.

    If stderr is not a terminal, a line is printed every few seconds instead.
    """

    def __init__(
        self, total_bytes: int | None, *, shown: bool, console: Console, doing: str = "replaying"
    ) -> None:
        self.stanzas = 0
        self._began = self._due = time.monotonic()
        self._calls = 0
        self._console = console
        self._bar: Progress | None = None
        self._lines = shown and not console.is_terminal
        self._total = total_bytes
        if shown and console.is_terminal:
            columns = (
                TextColumn(doing),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True, auto_refresh=False)
            self._task = self._bar.add_task("", total=total_bytes, rate="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._lines:
            self._console.print(f"{self.stanzas} stanzas, {self.rate}", soft_wrap=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def rate(self) -> str:
        """Average number of stanzas per second, as text."""
        return f"{self.stanzas / max(self.seconds, 1e-3):.0f} stanzas/s"

    def advance(self, position_bytes: int) -> None:
        """Count a stanza, up to which `position_bytes` have been read."""
        self.stanzas += 1
        self._calls += 1
        if self._calls % _LOOK_EVERY == 0:
            self.look(position_bytes)

    def look(self, position_bytes: int) -> None:
        """Redraw the progress if it is due."""
        if (self._bar is None and not self._lines) or time.monotonic() < self._due:
            return
        if self._bar is not None:
            self._due = time.monotonic() + _EVERY_S
            self._bar.update(self._task, completed=position_bytes, rate=self.rate)
            self._bar.refresh()
            return
        self._due = time.monotonic() + _LINE_EVERY_S
        done = f"{100 * position_bytes / self._total:.0f} %" if self._total else "…"
        self._console.print(f"{done}, {self.stanzas} stanzas, {self.rate}", soft_wrap=True)
