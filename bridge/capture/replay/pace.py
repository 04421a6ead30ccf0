"""How a story's time passes: as it did, so many times faster, or as fast as it can be done."""

import re
from collections.abc import Callable
from typing import Final, Protocol

import trio

from bridge.config.value import BadValue

BACKLOG_LIMIT: Final = 1000
_POLL_S: Final = 0.002
_FACTOR: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)x?")


class Pace(Protocol):
    """Begins with its first moment."""

    async def wait(self, at: float) -> None:
        """Wait until the story has come to `at`, in s. A checkpoint, or not."""
        ...

    def now(self) -> float:
        """Give the story's time."""
        ...


class Timed:
    """`speed` times as fast, by trio's clock."""

    def __init__(self, speed: float, begins_at: float) -> None:
        self._speed = speed
        self._begins_at = begins_at
        self._origin = trio.current_time()

    async def wait(self, at: float) -> None:
        due = self._origin + (at - self._begins_at) / self._speed
        if due > trio.current_time():
            await trio.sleep_until(due)

    def now(self) -> float:
        return self._begins_at + (trio.current_time() - self._origin) * self._speed


class Unpaced:
    """At once, while not too much is under way: `backlog` tells how much."""

    def __init__(self, begins_at: float, backlog: Callable[[], int]) -> None:
        self._at = begins_at
        self._backlog = backlog

    async def wait(self, at: float) -> None:
        # Much is counted in it, by many: to be told of each would cost more than to look.
        while self._backlog() >= BACKLOG_LIMIT:  # noqa: ASYNC110
            await trio.sleep(_POLL_S)
        self._at = max(self._at, at)

    def now(self) -> float:
        return self._at


def parse_speed(text: str) -> float | None:
    """Read a speed: a factor; None is as fast as can be.

    Raises:
        BadValue: it is none.
    """
    if text == "max":
        return None
    match = _FACTOR.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise BadValue(f"{text!r} is no speed", "Give a factor such as 1x, 10x or 0.5x, or max")
    return float(match[1])
